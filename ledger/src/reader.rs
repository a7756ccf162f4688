//! Reads: a pool of connections as `econ_api`, and the few helpers that the mirror modules share.
//!
//! Every mirror calls one SQL function or view and holds no rule of its own. What an actor may see is decided in SQL: a
//! mirror passes the actor on, and without one private rows do not come.

use deadpool_postgres::{Manager, ManagerConfig, Pool, RecyclingMethod};
use proto::money::Amount;
use tokio_postgres::types::{FromSql, ToSql};
use tokio_postgres::{NoTls, Row};

use crate::error::{Error, connection_lost};

/// Longest that one read may take, milliseconds; Postgres itself cancels it then.
const STATEMENT_TIMEOUT_MS: u32 = 10_000;

/// A pool of read connections. Cheap to clone.
#[derive(Clone)]
pub struct Reader {
    pool: Pool,
}

impl std::fmt::Debug for Reader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reader").field("status", &self.pool.status()).finish()
    }
}

impl Reader {
    /// At most `connections_max` connections, opened when they are needed. `config` names the role: `econ_api` for the
    /// server. `UB801`: the pool cannot be made.
    pub fn new(mut config: tokio_postgres::Config, connections_max: usize) -> Result<Self, Error> {
        // Reads look rows up by key; one plan per function and connection is enough, and compiling never pays off.
        let own = format!(
            "-c statement_timeout={STATEMENT_TIMEOUT_MS} -c plan_cache_mode=force_generic_plan -c jit=off"
        );
        let options = match config.get_options() {
            Some(given) => format!("{given} {own}"),
            None => own,
        };
        config.options(options).application_name("econ reader");
        let manager = ManagerConfig { recycling_method: RecyclingMethod::Fast };
        let pool = Pool::builder(Manager::from_config(config, NoTls, manager))
            .max_size(connections_max.max(1))
            .build()
            .map_err(|error| Error::new("UB801", format!("the pool of read connections: {error}")))?;
        Ok(Self { pool })
    }

    /// All rows of a statement. A lost connection is replaced and the statement sent once more: reads change nothing.
    pub(crate) async fn rows(&self, sql: &str, params: &[&(dyn ToSql + Sync)]) -> Result<Vec<Row>, Error> {
        match self.rows_once(sql, params).await {
            Err(Failure::Lost) => self.rows_once(sql, params).await,
            found => found,
        }
        .map_err(|failure| match failure {
            Failure::Lost => Error::new(
                "UB801",
                "the database cannot be reached at this moment: send the same request again",
            ),
            Failure::Other(error) => error,
        })
    }

    async fn rows_once(&self, sql: &str, params: &[&(dyn ToSql + Sync)]) -> Result<Vec<Row>, Failure> {
        let client = self.pool.get().await.map_err(|error| Failure::Other(error.into()))?;
        let answered = match client.prepare_cached(sql).await {
            Ok(statement) => client.query(&statement, params).await,
            Err(error) => Err(error),
        };
        answered.map_err(
            |error| if connection_lost(&error) { Failure::Lost } else { Failure::Other(error.into()) },
        )
    }

    /// The one row of a statement that has at most one.
    pub(crate) async fn row(&self, sql: &str, params: &[&(dyn ToSql + Sync)]) -> Result<Option<Row>, Error> {
        Ok(self.rows(sql, params).await?.pop())
    }

    /// Whether the database answers and holds the schema. `UB801`: it does not.
    pub async fn ping(&self) -> Result<(), Error> {
        self.rows("select 1 from base.read_ledgers()", &[]).await.map(drop)
    }
}

enum Failure {
    Lost,
    Other(Error),
}

/// A column of a row. `UB900` when the database holds another type: the SQL and the binary differ.
pub(crate) fn get<'r, T: FromSql<'r>>(row: &'r Row, column: &'static str) -> Result<T, Error> {
    row.try_get(column).map_err(|error| unexpected(column, &error))
}

/// An amount, selected as text: whole minor units.
pub(crate) fn amount(row: &Row, column: &'static str) -> Result<Amount, Error> {
    let text: &str = get(row, column)?;
    Amount::parse_minor(text).map_err(|error| unexpected(column, &error))
}

/// An amount that may be absent.
pub(crate) fn amount_or_none(row: &Row, column: &'static str) -> Result<Option<Amount>, Error> {
    let text: Option<&str> = get(row, column)?;
    text.map(|text| Amount::parse_minor(text).map_err(|error| unexpected(column, &error))).transpose()
}

/// 32 bytes.
pub(crate) fn bytes32(row: &Row, column: &'static str) -> Result<[u8; 32], Error> {
    let bytes: &[u8] = get(row, column)?;
    bytes.try_into().map_err(|_| unexpected(column, &"not 32 bytes"))
}

/// 32 bytes, or nothing.
pub(crate) fn bytes32_or_none(row: &Row, column: &'static str) -> Result<Option<[u8; 32]>, Error> {
    let bytes: Option<&[u8]> = get(row, column)?;
    bytes.map(|bytes| bytes.try_into().map_err(|_| unexpected(column, &"not 32 bytes"))).transpose()
}

/// A count or sequence number: never negative in the database.
pub(crate) fn count(row: &Row, column: &'static str) -> Result<u64, Error> {
    let value: i64 = get(row, column)?;
    u64::try_from(value).map_err(|error| unexpected(column, &error))
}

/// A ledger's or asset's number.
pub(crate) fn small(row: &Row, column: &'static str) -> Result<u32, Error> {
    let value: i32 = get(row, column)?;
    u32::try_from(value).map_err(|error| unexpected(column, &error))
}

/// A number as a statement's parameter. `UB103`: beyond what the database can hold, so there is no such thing.
pub(crate) fn int(value: u32) -> Result<i32, Error> {
    i32::try_from(value)
        .map_err(|_| Error::new("UB103", format!("{value} is beyond the largest number there can be")))
}

/// A sequence number as a statement's parameter: what is beyond the largest one lies behind every row.
pub(crate) fn bigint(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

fn unexpected(column: &'static str, error: &dyn std::fmt::Display) -> Error {
    tracing::error!(column, %error, "a column is not what this binary expects");
    Error::new("UB900", "an internal error; nothing was changed and the operator has been alarmed")
}

/// An id.
pub(crate) fn id<T>(row: &Row, column: &'static str, wrap: fn(uuid::Uuid) -> T) -> Result<T, Error> {
    get(row, column).map(wrap)
}

/// An id that may be absent.
pub(crate) fn id_or_none<T>(
    row: &Row,
    column: &'static str,
    wrap: fn(uuid::Uuid) -> T,
) -> Result<Option<T>, Error> {
    get::<Option<uuid::Uuid>>(row, column).map(|id| id.map(wrap))
}

/// A count that may be absent.
pub(crate) fn count_or_none(row: &Row, column: &'static str) -> Result<Option<u64>, Error> {
    let value: Option<i64> = get(row, column)?;
    value.map(|value| u64::try_from(value).map_err(|error| unexpected(column, &error))).transpose()
}

/// A ledger's or asset's number that may be absent.
pub(crate) fn small_or_none(row: &Row, column: &'static str) -> Result<Option<u32>, Error> {
    let value: Option<i32> = get(row, column)?;
    value.map(|value| u32::try_from(value).map_err(|error| unexpected(column, &error))).transpose()
}

/// Unix microseconds as a statement's parameter of type timestamptz.
pub(crate) fn time(at_us: i64) -> std::time::SystemTime {
    let distance = std::time::Duration::from_micros(at_us.unsigned_abs());
    let epoch = std::time::SystemTime::UNIX_EPOCH;
    if at_us < 0 { epoch - distance } else { epoch + distance }
}

/// The same for a moment that somebody asks about. `UB103`: no moment of any business here (beyond 2^53 us, the year 2255).
pub(crate) fn moment(at_us: i64) -> Result<std::time::SystemTime, Error> {
    const LAST_US: u64 = 1 << 53;
    if at_us.unsigned_abs() > LAST_US {
        return Err(Error::new("UB103", format!("{at_us} us is no moment of any business here")));
    }
    Ok(time(at_us))
}
