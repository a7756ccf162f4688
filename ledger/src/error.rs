//! One error for the whole house: a code of docs/ERRORS.md and a message a person can act on.
//!
//! [`Error::from`] a database error is the one classifier: it turns SQLSTATEs into codes, decides what is worth a retry,
//! and never forwards a DETAIL, where Postgres prints whole rows.

use std::borrow::Cow;

use tokio_postgres::error::SqlState;

/// A refusal or failure that is not the outcome of a logged command.
#[derive(Debug, Clone, thiserror::Error, PartialEq, Eq)]
#[error("{code}: {message}")]
pub struct Error {
    /// SQLSTATE-like: `U`, domain letter, kind digit, two digits.
    pub code: Cow<'static, str>,
    /// What happened and what to do.
    pub message: String,
    /// The same request may be sent again, with the same idempotency key.
    pub retry: bool,
}

impl Error {
    /// An error of a known code; kind 8 may be retried.
    pub fn new(code: &'static str, message: impl Into<String>) -> Self {
        let retry = code.as_bytes().get(2) == Some(&b'8');
        Self { code: Cow::Borrowed(code), message: message.into(), retry }
    }

    /// The HTTP status of this error.
    pub fn http_status(&self) -> u16 {
        http_status(&self.code)
    }
}

/// The HTTP status of a code, by its kind digit; 500 for what is not one of ours.
pub fn http_status(code: &str) -> u16 {
    match (code.as_bytes().first(), code.as_bytes().get(2)) {
        _ if code == "ok" => 200,
        (Some(b'U'), Some(kind)) if code.len() == 5 => match kind {
            b'1' => 400,
            b'2' => 401,
            b'3' => 403,
            b'4' => 404,
            b'5' => 409,
            b'6' => 422,
            b'7' => 429,
            b'8' => 503,
            _ => 500,
        },
        _ => 500,
    }
}

impl From<tokio_postgres::Error> for Error {
    fn from(error: tokio_postgres::Error) -> Self {
        let Some(state) = error.code() else {
            // No SQLSTATE: the connection broke, or could not be made.
            return Self::new(
                "UB801",
                "the database cannot be reached at this moment: send the same request again",
            );
        };
        if is_transient(state) {
            return Self::new("UB802", "the database was busy with itself: send the same request again");
        }
        let said =
            error.as_db_error().map(|db| (db.message().to_owned(), db.constraint().map(str::to_owned)));
        let (message, constraint) = said.unwrap_or_default();
        if state.code().starts_with('U') && state.code().len() == 5 {
            let retry = state.code().as_bytes()[2] == b'8';
            return Self { code: Cow::Owned(state.code().to_owned()), message, retry };
        }
        match constraint {
            Some(constraint) => tracing::error!(state = state.code(), constraint, "unlisted database error"),
            None => tracing::error!(state = state.code(), message, "unlisted database error"),
        }
        Self::new("UB900", "an internal error; nothing was changed and the operator has been alarmed")
    }
}

impl From<deadpool_postgres::PoolError> for Error {
    fn from(error: deadpool_postgres::PoolError) -> Self {
        // No connection could be had, for whatever reason (refused, full, closed for maintenance): nothing was sent yet.
        tracing::warn!(%error, "no connection to the database");
        Self::new("UB801", "the database cannot be reached at this moment: send the same request again")
    }
}

/// Serialization failure, deadlock, shutdown, and a distributed Postgres's commit-time XX000: worth the same request again.
pub(crate) fn is_transient(state: &SqlState) -> bool {
    matches!(
        *state,
        SqlState::T_R_SERIALIZATION_FAILURE
            | SqlState::T_R_DEADLOCK_DETECTED
            | SqlState::ADMIN_SHUTDOWN
            | SqlState::CRASH_SHUTDOWN
            | SqlState::CANNOT_CONNECT_NOW
            | SqlState::TOO_MANY_CONNECTIONS
            | SqlState::LOCK_NOT_AVAILABLE
            | SqlState::IO_ERROR
            | SqlState::DISK_FULL
            | SqlState::OUT_OF_MEMORY
    ) || state.code().starts_with("08")
}

/// Is the connection that gave this error still good for another statement?
pub(crate) fn connection_lost(error: &tokio_postgres::Error) -> bool {
    error.is_closed()
        || error.code().is_none_or(|state| {
            state.code().starts_with("08")
                || matches!(
                    *state,
                    SqlState::ADMIN_SHUTDOWN | SqlState::CRASH_SHUTDOWN | SqlState::CANNOT_CONNECT_NOW
                )
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_its_status_and_the_unknown_is_ours() {
        let expected = [400, 401, 403, 404, 409, 422, 429, 503, 500];
        for (kind, status) in (1..=9).zip(expected) {
            assert_eq!(http_status(&format!("UM{kind}01")), status);
        }
        assert_eq!(http_status("ok"), 200);
        assert_eq!(http_status("23505"), 500);
        assert_eq!(http_status(""), 500);
    }

    #[test]
    fn only_kind_eight_asks_for_a_retry() {
        assert!(Error::new("UB801", "").retry);
        assert!(!Error::new("UB900", "").retry);
    }
}
