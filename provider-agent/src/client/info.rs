//! `GET /v1/info`: what a house says about itself to anybody.

use proto::ids::AgentId;
use serde::Deserialize;

/// What a house is.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Info {
    /// The program's name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// Its ledgers.
    pub ledgers: Vec<LedgerInfo>,
    /// Its units of account.
    pub assets: Vec<AssetInfo>,
    /// Ledger time at the moment of the answer, in Unix microseconds.
    pub ledger_time_us: i64,
    /// Whether ledger time is simulated and may run unlike the clock on the wall.
    #[serde(default)]
    pub simulated: bool,
    /// Signs receipts and checkpoints: 64 hex digits.
    pub receipt_key: String,
    /// Signs run tickets: 64 hex digits.
    pub service_key: String,
    /// The agent that operates the market.
    pub operator_id: Option<AgentId>,
    /// What is allowed here.
    #[serde(default)]
    pub limits: Limits,
}

/// One ledger of the house.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct LedgerInfo {
    /// Its number in every path.
    pub ledger_id: u32,
    /// Its name.
    pub name: String,
    /// The origin line of its receipt log's checkpoints: no two ledgers in the world share one.
    pub origin: String,
}

/// One unit of account.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct AssetInfo {
    /// Its number in every message.
    pub asset_id: u32,
    /// Its name for people.
    pub code: String,
    /// Decimal places: 10^scale minor units make one.
    pub scale: u8,
}

/// What is allowed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Limits {
    /// Largest artifact, in bytes; 0 when unsaid.
    pub artifact_bytes_max: u64,
}

impl Info {
    /// The ledger `id`, or the first when no id is given.
    pub fn ledger(&self, id: Option<u32>) -> Option<&LedgerInfo> {
        match id {
            Some(id) => self.ledgers.iter().find(|ledger| ledger.ledger_id == id),
            None => self.ledgers.first(),
        }
    }

    /// The asset `id`.
    pub fn asset(&self, id: u32) -> Option<&AssetInfo> {
        self.assets.iter().find(|asset| asset.asset_id == id)
    }
}
