//! How Postgres' own programs are told where to connect: by libpq's variables. Unlike arguments, other users cannot see a
//! password in them.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt as _;

use tokio_postgres::Config;
use tokio_postgres::config::Host;

/// The variables that say what `config` says.
#[must_use]
pub fn environment(config: &Config) -> Vec<(&'static str, OsString)> {
    let mut set: Vec<(&'static str, OsString)> = Vec::new();
    match config.get_hosts().first() {
        Some(Host::Tcp(name)) => set.push(("PGHOST", name.into())),
        Some(Host::Unix(dir)) => set.push(("PGHOST", dir.into())),
        None => {}
    }
    if let Some(port) = config.get_ports().first() {
        set.push(("PGPORT", port.to_string().into()));
    }
    if let Some(user) = config.get_user() {
        set.push(("PGUSER", user.into()));
    }
    if let Some(name) = config.get_dbname() {
        set.push(("PGDATABASE", name.into()));
    }
    if let Some(password) = config.get_password() {
        set.push(("PGPASSWORD", OsString::from_vec(password.to_vec())));
    }
    if let Some(options) = config.get_options() {
        set.push(("PGOPTIONS", options.into()));
    }
    set
}
