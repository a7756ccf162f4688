//! Why a load failed, with the place to look at.

use super::place;
use super::tree::{SqlFile, SqlTree};
use crate::cluster::describe;

/// Why a load failed.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// A file that no rule covers. refinery would only warn about a misnamed migration and go on without it.
    #[error(
        "sql/{path} is misnamed: migrations are schema/V<4 digits>__<lower_case>.sql, the rest is \
         functions/<schema>/<name>.sql or views/<schema>/<name>.sql with one of our schemas"
    )]
    Misnamed {
        /// Path beneath `sql/`.
        path: String,
    },
    /// Two migrations have the same number.
    #[error("sql/{first} and sql/{second} have the same version: give the newer one the next number")]
    RepeatedVersion {
        /// Path beneath `sql/`.
        first: String,
        /// Path beneath `sql/`.
        second: String,
    },
    /// A file that must be there is not.
    #[error("sql/{0} is missing")]
    Missing(String),
    /// A file is not UTF-8.
    #[error("sql/{0} is not UTF-8 text")]
    NotText(String),
    /// Reading a tree failed.
    #[error("cannot read {path}: {source}")]
    Io {
        /// Which file or folder.
        path: String,
        /// The operating system's answer.
        source: std::io::Error,
    },
    /// Postgres refused a file.
    #[error("sql/{file}{}: {message} ({code}){}", line_suffix(*.line), hint_suffix(.hint.as_ref()))]
    Sql {
        /// Path beneath `sql/`.
        file: String,
        /// Line, from 1, where it could be told.
        line: Option<u32>,
        /// Postgres' message.
        message: String,
        /// SQLSTATE.
        code: String,
        /// Postgres' hint.
        hint: Option<String>,
    },
    /// Postgres refused a step of the loader itself.
    #[error("{step}: {message}")]
    Step {
        /// What was being done.
        step: &'static str,
        /// Postgres' message with its code.
        message: String,
    },
    /// An applied migration was edited or is missing from this binary.
    #[error(
        "the database's migrations do not match this binary's ({0}): an applied migration must never change. Use the binary \
         that belongs to this database or a newer one; on a development database, start with an empty data dir"
    )]
    History(String),
    /// The database was loaded by a newer binary.
    #[error(
        "the database holds SQL release {database}, and this binary is release {binary}: use the newer binary"
    )]
    DatabaseIsNewer {
        /// Release in the database.
        database: i32,
        /// Release of this binary.
        binary: i32,
    },
}

impl LoadError {
    pub(super) fn plain(step: &'static str, error: &tokio_postgres::Error) -> LoadError {
        LoadError::Step { step, message: describe(error) }
    }

    /// An error that came while `file` was running, at the place that Postgres names, if it names one.
    pub(super) fn sql(error: &tokio_postgres::Error, file: &SqlFile, tree: &SqlTree) -> LoadError {
        LoadError::sql_at(error, file, None, tree)
    }

    /// The same, with the line to name when Postgres names none.
    pub(super) fn sql_at(
        error: &tokio_postgres::Error,
        file: &SqlFile,
        line: Option<u32>,
        tree: &SqlTree,
    ) -> LoadError {
        let Some(db) = error.as_db_error() else {
            return LoadError::Sql {
                file: file.path.clone(),
                line,
                message: describe(error),
                code: "no answer".into(),
                hint: None,
            };
        };
        let place = place::of(db, Some(file), tree).unwrap_or(place::Place { file: file.path.clone(), line });
        LoadError::Sql {
            file: place.file,
            line: place.line,
            message: db.message().to_owned(),
            code: db.code().code().to_owned(),
            hint: db.hint().map(str::to_owned),
        }
    }
}

fn line_suffix(line: Option<u32>) -> String {
    line.map(|line| format!(":{line}")).unwrap_or_default()
}

fn hint_suffix(hint: Option<&String>) -> String {
    hint.map(|hint| format!("; hint: {hint}")).unwrap_or_default()
}
