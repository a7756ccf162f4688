//! GET /v1/info: what a client must know before it can ask anything.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use ledger::house::Hand;
use ledger::receipts::log;
use ledger::{base, books};
use proto::note::{KeyUse, VerifierKey};
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
    /// The key of the forest, the log over all ledgers' checkpoints, in the same form; null: there is none yet.
    forest_key: Option<String>,
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
    /// Its log's key as witnesses and other tools of C2SP signed notes take it: name, key hash and key.
    log_key: String,
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
    let (ledgers, assets, forest) = tokio::try_join!(
        base::read_ledgers(&state.reader),
        books::read_assets(&state.reader),
        log::read_forest(&state.reader)
    )?;
    let house = state.pipeline.house();
    let log_key = |origin: &str| {
        let key = *house.receipt_key().public();
        let name = origin.parse().map_err(|_| Problem::new("UR904", "a log's name cannot be read"))?;
        Ok::<_, Problem>(VerifierKey { name, key, usage: KeyUse::Note }.to_string())
    };
    let ledger = |ledger: base::Ledger| {
        Ok::<_, Problem>(LedgerInfo {
            log_key: log_key(&ledger.origin)?,
            ledger_id: ledger.ledger_id,
            name: ledger.name,
            origin: ledger.origin,
        })
    };
    let asset =
        |asset: books::Asset| AssetInfo { asset_id: asset.asset_id, code: asset.code, scale: asset.scale };
    Ok(Info {
        name: "econ",
        version: env!("CARGO_PKG_VERSION"),
        ledgers: ledgers.into_iter().map(ledger).collect::<Result<_, _>>()?,
        assets: assets.into_iter().map(asset).collect(),
        ledger_time_us: state.pipeline.now_us(),
        simulated: state.pipeline.clock().is_simulated(),
        receipt_key: hex::encode(house.receipt_key().public().as_bytes()),
        service_key: hex::encode(house.key(Hand::Service).public().as_bytes()),
        operator_id: house.agent(Hand::Operator).to_string(),
        forest_key: forest.map(|forest| log_key(&forest.origin)).transpose()?,
        limits: Limits {
            artifact_bytes_max: state.store.bytes_max(),
            command_bytes_max: super::commands::BODY_BYTES_MAX,
            signature_age_s_max: crate::auth::AGE_S_MAX,
        },
    })
}
