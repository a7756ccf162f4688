//! Where things are: the data dir, and the database that belongs to it.

use std::path::{Path, PathBuf};

use ledger::cluster::{Cluster, ClusterOptions, DataDirLock, ExternalDatabase};
use ledger::loader;
use tokio_postgres::{Client, Config, NoTls};

use super::failure::{Failure, Outcome};

/// The name of the database inside the embedded cluster.
pub(crate) const DATABASE: &str = "econ";

/// Where the data is.
#[derive(Debug, Clone, Default, clap::Args)]
pub(crate) struct PlaceArgs {
    /// Folder with keys, artifacts and the embedded Postgres [default: /var/lib/econ for root, else ~/.local/share/econ]
    #[arg(long, env = "ECON_DATA_DIR", value_name = "DIR")]
    pub(crate) data_dir: Option<PathBuf>,
    /// Use this Postgres (15 to 18) instead of an embedded one
    #[arg(long, env = "ECON_DATABASE_URL", value_name = "URL", hide_env_values = true)]
    pub(crate) database_url: Option<String>,
    /// Folder of Postgres' programs for the embedded one [default: the first that runs here]
    #[arg(long, env = "ECON_PG_BIN", value_name = "DIR")]
    pub(crate) pg_bin: Option<PathBuf>,
}

/// `name` in the place where this user's programs keep data.
pub(crate) fn default_data_dir(name: &str) -> Outcome<PathBuf> {
    if nix::unistd::Uid::effective().is_root() {
        return Ok(Path::new("/var/lib").join(name));
    }
    let absolute =
        |variable: &str| std::env::var_os(variable).map(PathBuf::from).filter(|dir| dir.is_absolute());
    absolute("XDG_DATA_HOME")
        .or_else(|| absolute("HOME").map(|home| home.join(".local/share")))
        .map(|dir| dir.join(name))
        .ok_or_else(|| Failure::usage("there is no home folder to keep data in: name one with --data-dir"))
}

impl PlaceArgs {
    /// The data dir that was asked for, or the default one.
    pub(crate) fn data_dir(&self) -> Outcome<PathBuf> {
        self.data_dir.clone().map_or_else(|| default_data_dir("econ"), Ok)
    }

    /// Whether there is a database, here or behind a URL.
    pub(crate) fn has_database(&self) -> Outcome<bool> {
        Ok(self.database_url.is_some() || self.data_dir()?.join("pg").join("PG_VERSION").exists())
    }

    fn cluster_options(&self, data_dir: &Path) -> ClusterOptions {
        let options = ClusterOptions::new(data_dir);
        ClusterOptions { pg_bin: self.pg_bin.clone().or(options.pg_bin.clone()), ..options }
    }

    /// The external database, checked, if there is one.
    pub(crate) async fn external_database(&self) -> Outcome<Option<ExternalDatabase>> {
        match self.external()? {
            Some(config) => Ok(Some(ExternalDatabase::check(config, false).await?)),
            None => Ok(None),
        }
    }

    /// What the URL says, if there is one.
    fn external(&self) -> Outcome<Option<Config>> {
        let parse = |url: &String| {
            // The URL may hold a password, so it is not repeated.
            url.parse::<Config>()
                .map_err(|error| Failure::usage(format!("--database-url is no Postgres URL: {error}")))
        };
        self.database_url.as_ref().map(parse).transpose()
    }
}

/// The database of a data dir, running.
#[derive(Debug)]
pub(crate) enum Database {
    /// In the data dir; ours to stop if we started it.
    Embedded(Box<Cluster>),
    /// Somebody else's.
    External(Box<ExternalDatabase>),
}

impl Database {
    /// For the server: takes the data dir's lock and starts Postgres there, or checks the external one. The lock lives as
    /// long as the result's second part or the cluster that holds it.
    pub(crate) async fn serve(place: &PlaceArgs) -> Outcome<(Self, Option<DataDirLock>)> {
        let data_dir = place.data_dir()?;
        ledger::backup::refuse_unfinished(&data_dir)?;
        match place.external()? {
            Some(config) => {
                let lock = DataDirLock::acquire(&data_dir)?;
                let external = ExternalDatabase::check(config, false).await?;
                Ok((Self::External(Box::new(external)), Some(lock)))
            }
            None => {
                let cluster = Cluster::start(place.cluster_options(&data_dir)).await?;
                Ok((Self::Embedded(Box::new(cluster)), None))
            }
        }
    }

    /// For everything else: attaches to the Postgres of a running econ, or starts it for as long as the result lives.
    pub(crate) async fn open(place: &PlaceArgs) -> Outcome<Self> {
        if let Some(external) = place.external_database().await? {
            return Ok(Self::External(Box::new(external)));
        }
        let data_dir = place.data_dir()?;
        if !place.has_database()? {
            return Err(Failure::new(
                "UB411",
                format!("there is no ledger in {}: `econ up` or `econ demo` makes one", data_dir.display()),
            ));
        }
        let cluster = match DataDirLock::holder(&data_dir)? {
            Some(_) => Cluster::attach(&data_dir).await?,
            None => Cluster::start(place.cluster_options(&data_dir)).await?,
        };
        Ok(Self::Embedded(Box::new(cluster)))
    }

    /// How to connect as `role`.
    pub(crate) fn config(&self, role: &str) -> Config {
        match self {
            Self::Embedded(cluster) => cluster.config(DATABASE, role),
            Self::External(external) => external.config(role),
        }
    }

    /// How to connect as who may create roles, schemas and (unless an external login lacks the right) databases.
    pub(crate) fn admin(&self) -> Config {
        match self {
            Self::Embedded(cluster) => cluster.config(DATABASE, cluster.superuser()),
            Self::External(external) => external.login_config(),
        }
    }

    /// Loads roles, migrations, functions and views; milliseconds when they are there already.
    pub(crate) async fn load(&self) -> Outcome<loader::LoadReport> {
        if let Self::Embedded(cluster) = self {
            let made =
                ledger::database::ensure(&cluster.config("postgres", cluster.superuser()), DATABASE).await;
            made.map_err(Failure::outside)?;
        }
        let options = loader::LoadOptions::embedded().map_err(Failure::outside)?;
        let mut client = connect(&self.admin()).await?;
        loader::load(&mut client, &options).await.map_err(Failure::outside)
    }

    /// Stops Postgres if it was started here.
    pub(crate) async fn close(self) -> Outcome {
        match self {
            Self::Embedded(cluster) => Ok(cluster.stop().await?),
            Self::External(_) => Ok(()),
        }
    }
}

/// A connection whose driver runs by itself.
pub(crate) async fn connect(config: &Config) -> Outcome<Client> {
    let (client, driver) = config.connect(NoTls).await.map_err(ledger::Error::from)?;
    tokio::spawn(async move {
        if let Err(error) = driver.await {
            tracing::debug!(%error, "a connection ended");
        }
    });
    Ok(client)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unreadable_url_is_refused_without_repeating_its_password() {
        let place = PlaceArgs {
            database_url: Some("postgres://me:secret@host:port/x".into()),
            ..PlaceArgs::default()
        };
        let failure = place.external().unwrap_err().to_string();
        assert!(!failure.contains("secret"), "{failure}");
    }

    #[test]
    fn the_data_dir_that_was_asked_for_wins() {
        let place = PlaceArgs { data_dir: Some("/x".into()), ..PlaceArgs::default() };
        assert_eq!(place.data_dir().unwrap(), Path::new("/x"));
        assert!(PlaceArgs::default().data_dir().unwrap().ends_with("econ"));
    }
}
