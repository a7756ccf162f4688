//! The one database inside the embedded cluster.

use tokio_postgres::error::SqlState;
use tokio_postgres::{Config, NoTls};

use crate::cluster::ClusterError;

/// Makes sure that database `name` exists on the server of `admin`, a role that may create databases; returns whether it was
/// created now. Safe when two do it at once.
///
/// # Errors
/// [`ClusterError::Postgres`].
pub async fn ensure(admin: &Config, name: &str) -> Result<bool, ClusterError> {
    let (client, driver) = admin.connect(NoTls).await?;
    let driver = tokio::spawn(driver);
    let there =
        client.query_opt("select from pg_catalog.pg_database where datname = $1", &[&name]).await?.is_some();
    let created = if there { Ok(false) } else { create(&client, name).await };
    drop(client);
    // Ends by itself once the client is dropped.
    let _ = driver.await;
    created
}

async fn create(client: &tokio_postgres::Client, name: &str) -> Result<bool, ClusterError> {
    let quoted: String = client.query_one("select pg_catalog.quote_ident($1)", &[&name]).await?.try_get(0)?;
    match client.batch_execute(&format!("create database {quoted} template template0 encoding 'UTF8'")).await
    {
        Ok(()) => Ok(true),
        // Two that create the same name at once: one gets either of these, and the database is there.
        Err(error)
            if matches!(error.code(), Some(&SqlState::DUPLICATE_DATABASE | &SqlState::UNIQUE_VIOLATION)) =>
        {
            Ok(false)
        }
        Err(error) => Err(error.into()),
    }
}
