//! The command line as a client: which house, which key.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use ledger::cluster::EconState;
use proto::keys::KeyPair;
use provider_agent::client::Client;

use super::failure::{Failure, Outcome};
use super::market::Market;
use super::place::{PlaceArgs, default_data_dir};
use super::{keys, say};

/// Where a client command goes and as whom.
#[derive(Debug, Clone, Default, clap::Args)]
pub(crate) struct ClientArgs {
    /// The API [default: the econ that runs on the data dir]
    #[arg(long, env = "ECON_API", value_name = "URL")]
    pub(crate) api: Option<String>,
    /// The key to sign with [default: econ/key.pem in your configuration folder]
    #[arg(long, env = "ECON_KEY", value_name = "FILE")]
    pub(crate) key: Option<PathBuf>,
    /// The ledger [default: the house's first]
    #[arg(long, value_name = "ID")]
    pub(crate) ledger: Option<u32>,
    /// Folder of the running econ, to find its API and the operator's key
    #[arg(long, env = "ECON_DATA_DIR", value_name = "DIR")]
    pub(crate) data_dir: Option<PathBuf>,
    /// Print one JSON object instead of text
    #[arg(long)]
    pub(crate) json: bool,
}

impl ClientArgs {
    /// The data dir that was asked for, or the default one.
    pub(crate) fn data_dir(&self) -> Outcome<PathBuf> {
        PlaceArgs { data_dir: self.data_dir.clone(), ..PlaceArgs::default() }.data_dir()
    }

    /// The market, speaking with the caller's key.
    pub(crate) async fn market(&self) -> Outcome<Market> {
        let path = self.key.clone().map_or_else(keys::default_path, Ok)?;
        self.market_as(Arc::new(keys::load(&path)?)).await
    }

    /// The market, speaking with the operator's key of the data dir (or the key that was named).
    pub(crate) async fn market_as_operator(&self) -> Outcome<Market> {
        let path = match &self.key {
            Some(path) => path.clone(),
            None => operator_key(&self.data_dir()?),
        };
        if self.key.is_none() && !path.exists() {
            return Err(Failure::new(
                "UI112",
                format!(
                    "this needs the operator's key, and there is none at {}: name the market's --data-dir",
                    path.display()
                ),
            ));
        }
        self.market_as(Arc::new(KeyPair::load(&path)?)).await
    }

    async fn market_as(&self, key: Arc<KeyPair>) -> Outcome<Market> {
        let client = Client::new(&self.api_url()?, key)?;
        Ok(Market::open(client, self.ledger).await?.for_a_person())
    }

    fn api_url(&self) -> Outcome<String> {
        if let Some(url) = &self.api {
            return Ok(url.clone());
        }
        let data_dir = self.data_dir()?;
        running_api(&data_dir).or_else(|| running_api(&default_data_dir("econ-demo").ok()?)).ok_or_else(
            || {
                Failure::new(
                    "UB412",
                    format!(
                        "no econ runs on {}: start one with `econ up`, or name one with --api URL",
                        data_dir.display()
                    ),
                )
            },
        )
    }

    /// Prints an answer: as JSON when that was asked for, else as `text` says.
    pub(crate) fn print(&self, json: &serde_json::Value, text: impl FnOnce()) {
        if self.json { say(json) } else { text() }
    }
}

/// The operator's key of a data dir.
pub(crate) fn operator_key(data_dir: &Path) -> PathBuf {
    data_dir.join("keys").join("operator.pem")
}

/// Where the API of the econ that runs on `data_dir` is.
pub(crate) fn running_api(data_dir: &Path) -> Option<String> {
    let state = EconState::read(data_dir)?;
    // After a crash the file may name things that are gone: the lock tells.
    ledger::cluster::DataDirLock::holder(data_dir).ok().flatten()?;
    state.api_url
}
