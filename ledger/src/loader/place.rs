//! Finds the file and line that an error of Postgres is about.

use tokio_postgres::error::{DbError, ErrorPosition};

use super::tree::{SqlFile, SqlTree};

/// A place in `sql/`; the line is 1 for the first one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) file: String,
    pub(crate) line: Option<u32>,
}

/// Where `error` points: into `file` when Postgres gives a position in the text that was sent, or into whichever file holds
/// the function whose body is at fault. `None` when it gives no position at all.
pub(crate) fn of(error: &DbError, file: Option<&SqlFile>, tree: &SqlTree) -> Option<Place> {
    match error.position()? {
        ErrorPosition::Original(position) => {
            let file = file?;
            Some(Place { file: file.path.clone(), line: Some(line_at(&file.text, chars(*position))) })
        }
        ErrorPosition::Internal { position, query } => {
            let (file, start) = std::iter::once(file)
                .flatten()
                .chain(tree.loaded())
                .chain(&tree.migrations)
                .find_map(|file| file.text.find(query.as_str()).map(|start| (file, start)))?;
            let before = line_at(&file.text[..start], usize::MAX);
            Some(Place { file: file.path.clone(), line: Some(before + line_at(query, chars(*position)) - 1) })
        }
    }
}

/// Postgres counts characters from 1.
fn chars(position: u32) -> usize {
    usize::try_from(position).unwrap_or(usize::MAX).saturating_sub(1)
}

/// The line on which character number `chars` (from 0) of `text` stands.
fn line_at(text: &str, chars: usize) -> u32 {
    let breaks = text.chars().take(chars).filter(|c| *c == '\n').count();
    u32::try_from(breaks).unwrap_or(u32::MAX).saturating_add(1)
}

/// Splits a script into its statements, each with the line on which it starts. Only used to find out which statement of a
/// refused file is at fault, when Postgres gives no position. `begin atomic` bodies come out in pieces.
pub(crate) fn statements(text: &str) -> Vec<(u32, &str)> {
    let bytes = text.as_bytes();
    let mut found = Vec::new();
    let mut start = None;
    let mut i = 0;
    while i < bytes.len() {
        let rest = &text[i..];
        let skip = if rest.starts_with("--") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            block_comment(rest)
        } else if bytes[i].is_ascii_whitespace() {
            1
        } else {
            start.get_or_insert(i);
            match bytes[i] {
                b'\'' => {
                    let escapes = i > 0
                        && matches!(bytes[i - 1], b'e' | b'E')
                        && !(i > 1 && bytes[i - 2].is_ascii_alphanumeric());
                    quoted(rest, b'\'', escapes)
                }
                b'"' => quoted(rest, b'"', false),
                b'$' => dollar_quoted(rest),
                b';' => {
                    if let Some(begin) = start.take() {
                        found.push((line_at(&text[..begin], usize::MAX), &text[begin..=i]));
                    }
                    1
                }
                // The rest of a name, so that the `$` in `a$b` opens nothing.
                _ => rest
                    .bytes()
                    .position(|b| !(b.is_ascii_alphanumeric() || b == b'_' || b == b'$' || b >= 0x80))
                    .unwrap_or(rest.len())
                    .max(1),
            }
        };
        i += skip;
    }
    if let Some(begin) = start {
        found.push((line_at(&text[..begin], usize::MAX), &text[begin..]));
    }
    found
}

fn block_comment(rest: &str) -> usize {
    let bytes = rest.as_bytes();
    let (mut depth, mut i) = (0_u32, 0);
    while i < bytes.len() {
        match &bytes[i..bytes.len().min(i + 2)] {
            b"/*" => (depth, i) = (depth + 1, i + 2),
            b"*/" => (depth, i) = (depth - 1, i + 2),
            _ => i += 1,
        }
        if depth == 0 {
            break;
        }
    }
    i
}

fn quoted(rest: &str, quote: u8, escapes: bool) -> usize {
    let bytes = rest.as_bytes();
    let mut i = 1;
    while i < bytes.len() {
        if escapes && bytes[i] == b'\\' {
            i += 2;
        } else if bytes[i] == quote {
            // A doubled quote ends here and begins again at once, which comes to the same.
            return i + 1;
        } else {
            i += 1;
        }
    }
    bytes.len()
}

fn dollar_quoted(rest: &str) -> usize {
    let tag_end = rest[1..].bytes().position(|b| !(b.is_ascii_alphanumeric() || b == b'_')).map(|n| n + 1);
    match tag_end {
        Some(end) if rest.as_bytes()[end] == b'$' && !rest.as_bytes()[1].is_ascii_digit() => {
            let tag = &rest[..=end];
            rest[end + 1..].find(tag).map_or(rest.len(), |at| end + 1 + at + tag.len())
        }
        _ => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statements_are_told_apart_and_keep_their_lines() {
        let text = "-- a; b\nselect 1;\n\n/* c; /* d; */ */ select 'x;''y', E'\\';', \"q;\";\n\
                    create function f() as $b$ a; $$ b; $$ $b$;\nselect a$b from t; select $1;\nselect 2";
        let lines: Vec<(u32, &str)> = statements(text);
        assert_eq!(
            lines,
            [
                (2, "select 1;"),
                (4, "select 'x;''y', E'\\';', \"q;\";"),
                (5, "create function f() as $b$ a; $$ b; $$ $b$;"),
                (6, "select a$b from t;"),
                (6, "select $1;"),
                (7, "select 2"),
            ]
        );
    }

    #[test]
    fn every_embedded_file_splits_into_statements_that_end_properly() {
        let tree = SqlTree::embedded().unwrap();
        for file in tree.loaded().chain(&tree.migrations) {
            for (line, statement) in statements(&file.text) {
                assert!(statement.ends_with(';'), "{}:{line}: {statement}", file.path);
            }
        }
    }
}
