//! How deep a document nests, found out before the parser does: it calls itself for each level, and would run out of stack long
//! before the schema's own limits are asked.

/// Deepest nesting of braces, brackets and parentheses outside of strings and comments. Never less than what the parser meets.
pub(super) fn deepest(document: &str) -> usize {
    let (mut rest, mut depth, mut most) = (document, 0_usize, 0);
    while let Some(first) = rest.bytes().next() {
        let skip = match first {
            b'"' => string(rest),
            b'#' => rest.find(['\n', '\r']).unwrap_or(rest.len()),
            b'{' | b'[' | b'(' => {
                depth += 1;
                most = most.max(depth);
                1
            }
            b'}' | b']' | b')' => {
                depth = depth.saturating_sub(1);
                1
            }
            _ => rest.find(['"', '#', '{', '[', '(', '}', ']', ')']).unwrap_or(rest.len()),
        };
        rest = &rest[skip..];
    }
    most
}

/// Length of the string that `text` begins with. One that does not end is no string: then only its quote is passed over, so
/// that nothing hides behind it.
fn string(text: &str) -> usize {
    let (quote, block) = if text.starts_with("\"\"\"") { ("\"\"\"", true) } else { ("\"", false) };
    let mut at = quote.len();
    while let Some(rest) = text.get(at..) {
        if rest.starts_with(quote) {
            return at + quote.len();
        }
        match rest.bytes().next() {
            None => break,
            Some(b'\n' | b'\r') if !block => break,
            Some(b'\\') if block && rest.starts_with("\\\"\"\"") => at += 4,
            Some(b'\\') if !block => at += 1 + rest[1..].chars().next().map_or(0, char::len_utf8),
            Some(_) => at += rest.chars().next().map_or(1, char::len_utf8),
        }
    }
    quote.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_nests_counts() {
        for (document, depth) in [
            ("", 0),
            ("{ me { agentId } }", 2),
            ("query($a: [[Int!]!]) { a(b: { c: [1] }) { d } }", 4),
            ("{ a(b: \"{{{{\") }", 2),
            ("{ a(b: \"\\\"{{{{\") }", 2),
            ("{ a(b: \"\"\"{{ \\\"\"\" {{\"\"\") }", 2),
            ("{ a } # {{{{\n{ b }", 1),
            // What does not end hides nothing.
            ("{ a(b: \"\n[[[[", 6),
            ("\"\"\" {{{{", 4),
            ("ü \" ü {{", 2),
        ] {
            assert_eq!(deepest(document), depth, "{document}");
        }
    }
}
