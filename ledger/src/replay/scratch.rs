//! Databases to replay into: one that lives as long as the replay, and one that is kept under a name to be asked questions.

use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, Config, NoTls};

use crate::error::Error;
use crate::loader;

/// How the names of kept databases begin.
const KEPT: &str = "econ_kept_";
/// Longest name of a kept database: Postgres' names have 63 bytes.
const NAME_BYTES_MAX: usize = 40;

/// A database that is replayed into.
pub struct Scratch {
    admin: Config,
    name: String,
}

impl Scratch {
    /// Creates an empty database with a name of its own, to be dropped afterwards.
    pub async fn create(admin: &Config) -> Result<Self, Error> {
        let name = format!("econ_replay_{}", uuid::Uuid::now_v7().simple());
        let client = connect(admin).await?;
        Self::sweep(&client).await?;
        create(&client, &name).await?;
        Ok(Self { admin: admin.clone(), name })
    }

    /// Creates an empty database that can be kept. `UB531`: there is one of this name.
    pub async fn create_kept(admin: &Config, name: &str) -> Result<Self, Error> {
        let name = kept_name(name)?;
        create(&connect(admin).await?, &name).await?;
        Ok(Self { admin: admin.clone(), name })
    }

    /// Removes scratch databases that a killed verification left behind an hour ago or more.
    async fn sweep(client: &Client) -> Result<(), Error> {
        let hour_ago = uuid::Uuid::now_v7().as_u128() - (3_600_000_u128 << 80);
        let rows = client
            .query(
                "select datname::text from pg_catalog.pg_database where datname like 'econ\\_replay\\_%'",
                &[],
            )
            .await?;
        for row in &rows {
            let name: String = row.try_get(0)?;
            let made = name.strip_prefix("econ_replay_").and_then(|id| uuid::Uuid::try_parse(id).ok());
            if made.is_some_and(|made| made.as_u128() < hour_ago) {
                // Somebody else's verification may be that slow, or that database another user's: then it stays.
                let _ = client.batch_execute(&format!("drop database if exists {name}")).await;
            }
        }
        Ok(())
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// A connection to it.
    pub async fn connect(&self) -> Result<Client, Error> {
        connect(&self.config()).await
    }

    fn config(&self) -> Config {
        let mut config = self.admin.clone();
        config.dbname(&self.name);
        config
    }

    /// Loads the schema and returns a connection to replay over.
    pub async fn load(&self) -> Result<Client, Error> {
        prepare(self.connect().await?).await
    }

    /// Keeps it: notes what is in it, and lets nobody change it by accident.
    pub async fn keep(self, about: &str) -> Result<(), Error> {
        let client = connect(&self.admin).await?;
        let comment: String =
            client.query_one("select pg_catalog.quote_literal($1)", &[&about]).await?.try_get(0)?;
        client
            .batch_execute(&format!(
                "alter database {0} set default_transaction_read_only = on; comment on database {0} is {comment}",
                self.name
            ))
            .await?;
        Ok(())
    }

    /// Removes it.
    pub async fn drop(&self) -> Result<(), Error> {
        remove(&connect(&self.admin).await?, &self.name).await
    }
}

/// Loads the schema into an empty database, and makes the session one to replay over. Only speed differs from a real one:
/// nothing here must survive a crash. `UB532`: it is not empty.
pub async fn prepare(mut client: Client) -> Result<Client, Error> {
    let used: bool =
        client.query_one("select pg_catalog.to_regnamespace('base') is not null", &[]).await?.try_get(0)?;
    if used {
        return Err(Error::new(
            "UB532",
            "the database to replay into holds a ledger: name an empty one, as `create database` makes it",
        ));
    }
    let failed = |error| Error::new("UB904", format!("the scratch database could not be loaded: {error}"));
    let options = loader::LoadOptions::embedded().map_err(failed)?;
    loader::load(&mut client, &options).await.map_err(failed)?;
    session(&client).await?;
    Ok(client)
}

/// Makes a session on a database that holds the schema and nothing else one to replay over.
pub async fn session(client: &Client) -> Result<(), Error> {
    // With the server's own rights: what it could not do, replay must not do.
    client.batch_execute("set synchronous_commit = off; set role econ_api").await?;
    client.batch_execute(crate::pipeline::worker::SESSION).await?;
    Ok(())
}

/// A database that a replay left for questions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    /// The name it was given.
    pub name: String,
    /// The database.
    pub database: String,
    /// What was noted when it was done; `None`: that replay did not end.
    pub about: Option<String>,
    /// Bytes on disk.
    pub size_bytes: i64,
}

/// The databases that replays left on a server, by name.
pub async fn kept(admin: &Config) -> Result<Vec<Kept>, Error> {
    let rows = connect(admin)
        .await?
        .query(
            "select substr(d.datname, $2), d.datname::text, shobj_description(d.oid, 'pg_database'), pg_database_size(d.oid) \
             from pg_catalog.pg_database d where starts_with(d.datname, $1) order by 1",
            &[&KEPT, &i32::try_from(KEPT.len() + 1).unwrap_or_default()],
        )
        .await?;
    let one = |row: &tokio_postgres::Row| {
        Ok(Kept {
            name: row.try_get(0)?,
            database: row.try_get(1)?,
            about: row.try_get(2)?,
            size_bytes: row.try_get(3)?,
        })
    };
    rows.iter().map(one).collect()
}

/// Removes a kept database. `UB431`: there is none of this name.
pub async fn drop_kept(admin: &Config, name: &str) -> Result<(), Error> {
    let database = kept_database(admin, name).await?;
    remove(&connect(admin).await?, &database).await
}

/// The database that is kept under a name. `UB431`: there is none.
pub async fn kept_database(admin: &Config, name: &str) -> Result<String, Error> {
    let found = kept(admin).await?.into_iter().find(|kept| kept.name == name);
    found.map(|kept| kept.database).ok_or_else(|| {
        Error::new("UB431", format!("no replay is kept as {name}: `econ kept` lists those that are"))
    })
}

/// `UB131`: a name that Postgres would have to quote.
fn kept_name(name: &str) -> Result<String, Error> {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    if name.is_empty() || name.len() > NAME_BYTES_MAX || !name.chars().all(plain) {
        return Err(Error::new(
            "UB131",
            format!("{name:?} cannot name a kept replay: use up to {NAME_BYTES_MAX} of a-z, 0-9 and _"),
        ));
    }
    Ok(format!("{KEPT}{name}"))
}

async fn create(client: &Client, name: &str) -> Result<(), Error> {
    let create = format!("create database {name} template template0 encoding 'UTF8'");
    client.batch_execute(&create).await.map_err(|error| match error.code() {
        Some(&SqlState::INSUFFICIENT_PRIVILEGE) => Error::new(
            "UB301",
            "this database user may not create the database that replay needs: grant it CREATEDB",
        ),
        Some(&SqlState::DUPLICATE_DATABASE) => {
            let name = name.strip_prefix(KEPT).unwrap_or(name);
            Error::new(
                "UB531",
                format!("a replay is kept as {name} already: `econ kept drop {name}`, or name another"),
            )
        }
        _ => error.into(),
    })
}

async fn remove(client: &Client, name: &str) -> Result<(), Error> {
    client.batch_execute(&format!("drop database if exists {name} with (force)")).await?;
    Ok(())
}

/// A connection whose driver runs by itself.
pub(crate) async fn connect(config: &Config) -> Result<Client, Error> {
    let (client, driver) = config.connect(NoTls).await?;
    tokio::spawn(async move {
        if let Err(error) = driver.await {
            tracing::debug!(%error, "a connection of a proof ended");
        }
    });
    Ok(client)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kept_replay_has_a_plain_name() {
        assert_eq!(kept_name("day_26").unwrap(), "econ_kept_day_26");
        for bad in ["", "Day", "a-b", "a b", "a;b", "\u{e9}", &"x".repeat(41)] {
            assert_eq!(kept_name(bad).unwrap_err().code, "UB131", "{bad}");
        }
    }
}
