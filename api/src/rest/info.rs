//! GET /v1/info: what a client must know before it can ask anything.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use ledger::house::Hand;
use ledger::{base, books};
use serde::Serialize;
use utoipa::ToSchema;

use crate::server::ServerState;
use crate::server::problem::{Problem, ProblemJson, json};

/// The server and its ledgers.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Info {
    /// "econ".
    name: &'static str,
    /// The server's version.
    version: &'static str,
    /// Every ledger.
    ledgers: Vec<LedgerInfo>,
    /// Every unit of account.
    assets: Vec<AssetInfo>,
    /// The accepting clock now, Unix microseconds: new ids are made near it.
    ledger_time_us: i64,
    /// The accepting clock is a simulated one.
    simulated: bool,
    /// Signs receipts and checkpoints: Ed25519, hex.
    receipt_key: String,
    /// Signs run tickets: Ed25519, hex.
    service_key: String,
    /// The market's operator.
    operator_id: String,
    /// What is taken.
    limits: Limits,
}

/// One ledger.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct LedgerInfo {
    /// Its number.
    ledger_id: u32,
    /// What people call it.
    name: String,
    /// Names it in checkpoints.
    origin: String,
}

/// One unit of account.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct AssetInfo {
    /// Its number.
    asset_id: u32,
    /// Its short code.
    code: String,
    /// Its decimal places.
    scale: i16,
}

/// What is taken.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Limits {
    /// Largest artifact.
    artifact_bytes_max: u64,
    /// Largest body of a command.
    command_bytes_max: usize,
    /// Oldest signature that is accepted.
    signature_age_s_max: i64,
}

/// What a client must know before it can ask anything.
#[utoipa::path(get, path = "/v1/info", responses((status = 200, body = Info), (status = 503, body = ProblemJson)))]
pub(crate) async fn info(State(state): State<Arc<ServerState>>) -> Result<Response, Problem> {
    Ok(json(StatusCode::OK, "application/json", &read(&state).await?))
}

pub(crate) async fn read(state: &ServerState) -> Result<Info, Problem> {
    let (ledgers, assets) =
        tokio::try_join!(base::read_ledgers(&state.reader), books::read_assets(&state.reader))?;
    let house = state.pipeline.house();
    let ledger = |ledger: base::Ledger| LedgerInfo {
        ledger_id: ledger.ledger_id,
        name: ledger.name,
        origin: ledger.origin,
    };
    let asset =
        |asset: books::Asset| AssetInfo { asset_id: asset.asset_id, code: asset.code, scale: asset.scale };
    Ok(Info {
        name: "econ",
        version: env!("CARGO_PKG_VERSION"),
        ledgers: ledgers.into_iter().map(ledger).collect(),
        assets: assets.into_iter().map(asset).collect(),
        ledger_time_us: state.pipeline.now_us(),
        simulated: state.pipeline.clock().is_simulated(),
        receipt_key: hex::encode(house.receipt_key().public().as_bytes()),
        service_key: hex::encode(house.key(Hand::Service).public().as_bytes()),
        operator_id: house.agent(Hand::Operator).to_string(),
        limits: Limits {
            artifact_bytes_max: state.store.bytes_max(),
            command_bytes_max: super::commands::BODY_BYTES_MAX,
            signature_age_s_max: crate::auth::AGE_S_MAX,
        },
    })
}
