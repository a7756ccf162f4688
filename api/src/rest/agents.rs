//! GET /v1/agents/{agent_id}: an agent's public face.

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::Response;
use ledger::identity;
use proto::ids::AgentId;
use serde::Serialize;
use utoipa::ToSchema;

use crate::server::ServerState;
use crate::server::problem::{Problem, ProblemJson, json};

/// An agent. Names are not stored.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct AgentJson {
    /// Derived from its first key.
    agent_id: String,
    /// The ledger whose command registered it.
    ledger_id: u32,
    /// Ledger time, Unix microseconds.
    registered_at_us: i64,
    /// The agent that in the end earns.
    beneficial_owner_id: String,
    /// From the oldest to the newest.
    keys: Vec<KeyJson>,
}

/// One of its keys.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct KeyJson {
    /// BLAKE3 of the public key, hex.
    key_id: String,
    /// Ed25519, hex.
    public_key: String,
    /// buyer, provider, payee, operator, service, verifier or receipt.
    purpose: String,
    /// Ledger time, Unix microseconds.
    valid_from_us: i64,
    /// Ledger time, Unix microseconds; null: valid.
    revoked_at_us: Option<i64>,
}

/// An agent with its public keys.
#[utoipa::path(
    get, path = "/v1/agents/{agent_id}",
    params(("agent_id" = String, Path, description = "UUID", pattern = "^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$")),
    responses(
        (status = 200, body = AgentJson),
        (status = 400, body = ProblemJson, content_type = "application/problem+json"),
        (status = 404, body = ProblemJson, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn agent(
    State(state): State<Arc<ServerState>>,
    Path(agent_id): Path<String>,
) -> Result<Response, Problem> {
    let agent_id: AgentId =
        agent_id.parse().map_err(|error: proto::ids::IdError| Problem::new("UB103", error.to_string()))?;
    let agent = identity::read_agent(&state.reader, agent_id).await?;
    let agent = agent.ok_or_else(|| Problem::new("UI403", "nobody has registered under this id"))?;
    let keys = agent.keys.into_iter().map(|key| KeyJson {
        key_id: key.key_id.to_string(),
        public_key: hex::encode(key.public_key),
        purpose: key.purpose,
        valid_from_us: key.valid_from_us,
        revoked_at_us: key.revoked_at_us,
    });
    let body = AgentJson {
        agent_id: agent.agent_id.to_string(),
        ledger_id: agent.ledger_id,
        registered_at_us: agent.registered_at_us,
        beneficial_owner_id: agent.beneficial_owner_id.to_string(),
        keys: keys.collect(),
    };
    Ok(json(StatusCode::OK, "application/json", &body))
}
