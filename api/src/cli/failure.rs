//! How a command of the command line fails: one line with a code and what to do, and an exit status.

use std::fmt;
use std::path::Path;
use std::process::ExitCode;

use ledger::backup::BackupError;
use ledger::cluster::ClusterError;
use proto::keys::KeyFileError;
use provider_agent::client::ClientError;

/// One line for a tired person. Exit status 1: it was tried and did not work; 2: it was not understood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Failure {
    code: Option<String>,
    message: String,
    /// A line each, for what is wrong in several places at once.
    details: Vec<String>,
    status: u8,
}

/// What a command of the command line comes to.
pub(crate) type Outcome<T = ()> = Result<T, Failure>;

impl Failure {
    /// A code of docs/ERRORS.md and what to do about it. Kind 1 of the codes means bad input, so exit status 2.
    pub(crate) fn new(code: impl Into<String>, message: impl fmt::Display) -> Self {
        let code = code.into();
        let status = if code.as_bytes().get(2) == Some(&b'1') { 2 } else { 1 };
        Self { code: Some(code), message: one_line(&message.to_string()), details: Vec::new(), status }
    }

    /// The same with what is wrong in detail, a line each.
    pub(crate) fn with_details(self, details: impl IntoIterator<Item = String>) -> Self {
        Self { details: details.into_iter().map(|line| one_line(&line)).collect(), ..self }
    }

    /// What the command line itself got wrong: an argument, a combination of arguments.
    pub(crate) fn usage(message: impl fmt::Display) -> Self {
        Self { code: None, message: message.to_string(), details: Vec::new(), status: 2 }
    }

    /// Something outside the house: a file, a process.
    pub(crate) fn outside(message: impl fmt::Display) -> Self {
        Self { code: None, message: message.to_string(), details: Vec::new(), status: 1 }
    }

    /// An error of the file system, with the place.
    pub(crate) fn io(what: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_owned();
        move |error| Self::outside(format!("{what} {}: {error}", path.display()))
    }

    /// The code, if there is one.
    pub(crate) fn code(&self) -> Option<&str> {
        self.code.as_deref()
    }

    /// The exit status of the process.
    pub(crate) fn exit_code(&self) -> ExitCode {
        ExitCode::from(self.status)
    }

    /// For `--json`: the same as one object.
    pub(crate) fn to_json(&self) -> serde_json::Value {
        let mut error = serde_json::json!({ "code": self.code, "message": self.message });
        if !self.details.is_empty() {
            error["details"] = self.details.clone().into();
        }
        serde_json::json!({ "error": error })
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.code {
            Some(code) => write!(f, "{code}: {}", self.message)?,
            None => f.write_str(&self.message)?,
        }
        self.details.iter().try_for_each(|line| write!(f, "\n  {line}"))
    }
}

/// Line breaks would look like several messages.
fn one_line(text: &str) -> String {
    text.lines().map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join(" ")
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        match error {
            ClientError::Refused(refusal) => Self::new(refusal.code, refusal.detail),
            ClientError::Unreachable(why) => {
                Self::new("UB811", format!("the API cannot be reached ({why}): is `econ up` running there?"))
            }
            ClientError::BadUrl { .. } => Self::usage(error),
            other => Self::outside(other),
        }
    }
}

impl From<ledger::Error> for Failure {
    fn from(error: ledger::Error) -> Self {
        Self::new(error.code, error.message)
    }
}

impl From<ClusterError> for Failure {
    fn from(error: ClusterError) -> Self {
        match error {
            ClusterError::Locked { .. } => Self::new("UB503", error),
            ClusterError::NotRunning(_) => Self::new("UB411", error),
            // Several lines on purpose: what was tried, or the end of Postgres' log.
            other => Self::outside(other),
        }
    }
}

impl From<BackupError> for Failure {
    fn from(error: BackupError) -> Self {
        match error {
            BackupError::Refused(error) => error.into(),
            BackupError::Cluster(error) => error.into(),
        }
    }
}

impl From<KeyFileError> for Failure {
    fn from(error: KeyFileError) -> Self {
        Self::new("UI111", error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bad_input_exits_with_two_and_a_refusal_with_one() {
        for (code, status) in [("UB121", 2), ("UM702", 1), ("UB811", 1)] {
            assert_eq!(Failure::new(code, "x").status, status, "{code}");
        }
        assert_eq!(Failure::usage("x").status, 2);
        assert_eq!(Failure::outside("x").status, 1);
    }

    #[test]
    fn a_failure_with_a_code_is_one_line() {
        let failure = Failure::new("UB121", "first\n  second\n");
        assert_eq!(failure.to_string(), "UB121: first second");
        assert_eq!(failure.to_json()["error"]["code"], "UB121");
    }
}
