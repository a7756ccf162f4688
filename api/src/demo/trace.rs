//! The demo's demand from a file: `TIMESTAMP,ContextTokens,GeneratedTokens`, the columns of the Azure LLM inference trace.

use std::io::BufRead;
use std::path::{Path, PathBuf};

use crate::cli::failure::Failure;

/// One request for inference.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Request {
    /// Microseconds after the first request.
    pub(crate) at_us: i64,
    /// Tokens read.
    pub(crate) context_tokens: u32,
    /// Tokens written.
    pub(crate) generated_tokens: u32,
}

/// The columns, in any order in the file.
const COLUMNS: [&str; 3] = ["TIMESTAMP", "ContextTokens", "GeneratedTokens"];
/// More requests than anybody replays, so that a wrong file does not fill the memory.
const REQUESTS_MAX: usize = 5_000_000;

/// Why a trace cannot be used. Lines count from 1, the header being the first.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TraceError {
    #[error("{}: {source}: name a file that can be read, or leave --trace out to use generated demand", path.display())]
    Open { path: PathBuf, source: std::io::Error },
    #[error("{}, line {line}: {why}", path.display())]
    Line { path: PathBuf, line: usize, why: String },
    #[error("{}: there are no requests in it", path.display())]
    Empty { path: PathBuf },
}

impl From<TraceError> for Failure {
    fn from(error: TraceError) -> Self {
        Self::new("UB121", error)
    }
}

/// Reads a whole trace, and refuses it for its first broken line: half a trace would be another demand than was asked for.
pub(crate) fn read(path: &Path) -> Result<Vec<Request>, TraceError> {
    let file =
        std::fs::File::open(path).map_err(|source| TraceError::Open { path: path.to_owned(), source })?;
    read_from(std::io::BufReader::new(file), path)
}

fn read_from(input: impl BufRead, path: &Path) -> Result<Vec<Request>, TraceError> {
    let broken = |line: usize, why: String| TraceError::Line { path: path.to_owned(), line, why };
    let mut places = None;
    let mut requests: Vec<Request> = Vec::new();
    let mut first_us = None;
    for (line, text) in (1..).zip(input.lines()) {
        let text = text.map_err(|error| broken(line, error.to_string()))?;
        if text.trim().is_empty() {
            continue;
        }
        let fields: Vec<&str> = text.split(',').map(|field| field.trim().trim_matches('"')).collect();
        let Some(places) = &places else {
            places = Some(columns(&fields).map_err(|why| broken(line, why))?);
            continue;
        };
        let request = request(&fields, places, &mut first_us).map_err(|why| broken(line, why))?;
        if requests.last().is_some_and(|last| last.at_us > request.at_us) {
            return Err(broken(
                line,
                "TIMESTAMP is earlier than the line before: sort the trace by time".into(),
            ));
        }
        if requests.len() == REQUESTS_MAX {
            return Err(broken(line, format!("a trace has at most {REQUESTS_MAX} requests")));
        }
        requests.push(request);
    }
    if requests.is_empty() {
        return Err(TraceError::Empty { path: path.to_owned() });
    }
    Ok(requests)
}

/// How many columns the file has, and where each of ours is.
type Places = (usize, [usize; COLUMNS.len()]);

fn columns(header: &[&str]) -> Result<Places, String> {
    let mut places = [0; COLUMNS.len()];
    for (place, name) in places.iter_mut().zip(COLUMNS) {
        // Windows tools put a byte order mark before the first name.
        *place = header
            .iter()
            .position(|found| found.trim_start_matches('\u{feff}') == name)
            .ok_or_else(|| format!("no column {name}: the header must name {}", COLUMNS.join(",")))?;
    }
    Ok((header.len(), places))
}

fn request(fields: &[&str], (width, places): &Places, first_us: &mut Option<i64>) -> Result<Request, String> {
    if fields.len() != *width {
        return Err(format!("{} fields instead of {width}", fields.len()));
    }
    let field = |i: usize| fields.get(places[i]).copied().unwrap_or_default();
    let us =
        timestamp_us(field(0)).ok_or_else(|| format!("TIMESTAMP {:?} is not a date and time", field(0)))?;
    let tokens = |i: usize| {
        let parsed = field(i).parse::<u32>();
        parsed.map_err(|_| format!("{} {:?} is not a whole number of tokens", COLUMNS[i], field(i)))
    };
    let at_us = us - *first_us.get_or_insert(us);
    Ok(Request { at_us, context_tokens: tokens(1)?, generated_tokens: tokens(2)? })
}

/// `2023-11-16 18:17:03.9799600`, taken as UTC, or the same with an offset. Only differences matter.
fn timestamp_us(text: &str) -> Option<i64> {
    if let Ok(instant) = text.parse::<jiff::Timestamp>() {
        return Some(instant.as_microsecond());
    }
    let civil: jiff::civil::DateTime = text.parse().ok()?;
    civil.to_zoned(jiff::tz::TimeZone::UTC).ok().map(|zoned| zoned.timestamp().as_microsecond())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_text(text: &str) -> Result<Vec<Request>, String> {
        read_from(text.as_bytes(), Path::new("trace.csv")).map_err(|error| error.to_string())
    }

    #[test]
    fn the_azure_trace_reads_as_offsets_from_its_first_request() {
        let text = "TIMESTAMP,ContextTokens,GeneratedTokens\n\
                    2023-11-16 18:17:03.9799600,4808,10\n2023-11-16 18:17:04.0319600,3180,8\n";
        let expected = [
            Request { at_us: 0, context_tokens: 4808, generated_tokens: 10 },
            Request { at_us: 52_000, context_tokens: 3180, generated_tokens: 8 },
        ];
        assert_eq!(read_text(text).unwrap(), expected);
        // The newer traces of the same origin carry an offset and another order of columns.
        let text = "ContextTokens,TIMESTAMP,GeneratedTokens\n\
                    4808,2024-05-10 00:00:00.009930+00:00,10\n3180,2024-05-10 00:00:00.061930+00:00,8\n";
        assert_eq!(read_text(text).unwrap(), expected);
    }

    #[test]
    fn a_broken_line_is_named_with_what_is_wrong_in_it() {
        const HEAD: &str = "TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:17:03,1,2\n";
        for (rest, line, why) in [
            ("2023-11-16 18:17:04,1\n", 3, "2 fields instead of 3"),
            ("2023-11-16 18:17:04,1,2\n\n2023-11-16 18:17:05,x,2\n", 5, "ContextTokens \"x\""),
            ("2023-11-16 18:17:04,1,-2\n", 3, "GeneratedTokens \"-2\""),
            ("2023-11-16 18:17:04,1.5,2\n", 3, "ContextTokens \"1.5\""),
            ("2023-11-16 18:17:04,99999999999,2\n", 3, "ContextTokens"),
            ("yesterday,1,2\n", 3, "TIMESTAMP \"yesterday\""),
            ("2023-11-16 18:17:02,1,2\n", 3, "earlier than the line before"),
        ] {
            let said = read_text(&format!("{HEAD}{rest}")).unwrap_err();
            assert!(said.contains(&format!("line {line}: ")) && said.contains(why), "{rest:?}: {said}");
        }
    }

    #[test]
    fn a_file_that_is_no_trace_is_refused() {
        let said = read_text("a,b\n1,2\n").unwrap_err();
        assert!(said.contains("line 1: no column TIMESTAMP"), "{said}");
        assert!(read_text("TIMESTAMP,ContextTokens,GeneratedTokens\n").unwrap_err().contains("no requests"));
        let failure = Failure::from(read(Path::new("/nonexistent/trace.csv")).unwrap_err());
        assert_eq!(failure.code(), Some("UB121"));
    }
}
