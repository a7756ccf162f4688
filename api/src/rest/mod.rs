//! The REST API, one module per resource, described at `/openapi.json`.

pub(crate) mod agents;
pub(crate) mod artifacts;
pub mod commands;
pub(crate) mod erasure;
pub(crate) mod info;
pub(crate) mod ledgers;
pub(crate) mod log;
pub(crate) mod orders;
pub(crate) mod receipts;

use std::sync::Arc;

use axum::Router;
use axum::http::StatusCode;
use axum::routing::{get, post, put};
use utoipa::OpenApi;
use utoipa::openapi::RefOr;

use crate::server::ServerState;

/// The description of the REST API.
#[derive(Debug, OpenApi)]
#[openapi(
    info(
        title = "Open Agent Economy ledger",
        description = "Commands in, receipts out. Every request that changes state is signed (RFC 9421, Ed25519, tag \
                       \"econ\"), carries Content-Digest (RFC 9530) and an Idempotency-Key, and gets a receipt. Errors are \
                       problem details (RFC 9457) with a code. Buyers may use GraphQL at /graphql instead; live data \
                       travels over WebSocket (/v1/agent/ws, /graphql/ws)."
    ),
    paths(
        info::info,
        commands::command,
        artifacts::upload,
        artifacts::download,
        artifacts::erase,
        erasure::erasure,
        agents::agent,
        receipts::receipt,
        orders::evidence,
        receipts::receipts,
        ledgers::checkpoint,
        ledgers::proof,
        log::consistency,
        log::tile,
        log::forest_checkpoint,
        log::forest_consistency,
        log::forest_proof,
        log::forest_tile,
    )
)]
struct Api;

/// The OpenAPI 3.1 document.
pub fn openapi() -> utoipa::openapi::OpenApi {
    let mut document = Api::openapi();
    let command =
        document.paths.paths.get("/v1/ledgers/{ledger_id}/commands").and_then(|item| item.post.as_ref());
    let problem = command.and_then(|command| command.responses.responses.get("400")).cloned();
    for item in document.paths.paths.values_mut() {
        for operation in
            [&mut item.get, &mut item.put, &mut item.post, &mut item.delete].into_iter().flatten()
        {
            // What any path may answer.
            for status in ["400", "429", "500", "503"] {
                let answers = &mut operation.responses.responses;
                if let (Some(problem), false) = (&problem, answers.contains_key(status)) {
                    answers.insert(status.to_owned(), problem.clone());
                }
            }
            for (status, response) in &mut operation.responses.responses {
                // A description is required, and the status in words says as much as anybody could.
                if let RefOr::T(response) = response
                    && response.description.is_empty()
                {
                    let reason =
                        status.parse::<StatusCode>().ok().and_then(|status| status.canonical_reason());
                    response.description = reason.unwrap_or("Answer").to_owned();
                }
            }
        }
    }
    document
}

/// The routes under `/v1`, live lanes not included.
pub(crate) fn router() -> Router<Arc<ServerState>> {
    Router::new()
        .route("/v1/info", get(info::info))
        .route("/v1/ledgers/{ledger_id}/commands", post(commands::command))
        .route("/v1/ledgers/{ledger_id}/checkpoint", get(ledgers::checkpoint))
        .route("/v1/ledgers/{ledger_id}/proof", get(ledgers::proof))
        .route("/v1/ledgers/{ledger_id}/consistency", get(log::consistency))
        .route("/v1/ledgers/{ledger_id}/log/checkpoint", get(ledgers::checkpoint))
        .route("/v1/ledgers/{ledger_id}/log/tile/{*tile}", get(log::tile))
        .route("/v1/forest/checkpoint", get(log::forest_checkpoint))
        .route("/v1/forest/consistency", get(log::forest_consistency))
        .route("/v1/forest/proof", get(log::forest_proof))
        .route("/v1/forest/log/checkpoint", get(log::forest_checkpoint))
        .route("/v1/forest/log/tile/{*tile}", get(log::forest_tile))
        .route("/v1/ledgers/{ledger_id}/receipts", get(receipts::receipts))
        .route("/v1/erasure", get(erasure::erasure))
        .route("/v1/agents/{agent_id}", get(agents::agent))
        .route("/v1/receipts/{receipt}", get(receipts::receipt))
        .route("/v1/orders/{order_id}/evidence", get(orders::evidence))
        .route(
            "/v1/artifacts/{hash}",
            put(artifacts::upload).get(artifacts::download).delete(artifacts::erase),
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_description_covers_every_route_and_is_openapi_3_1() {
        let document = serde_json::to_value(openapi()).unwrap();
        assert!(document["openapi"].as_str().unwrap().starts_with("3.1"));
        for (path, methods) in [
            ("/v1/info", &["get"][..]),
            ("/v1/ledgers/{ledger_id}/commands", &["post"]),
            ("/v1/ledgers/{ledger_id}/checkpoint", &["get"]),
            ("/v1/ledgers/{ledger_id}/proof", &["get"]),
            ("/v1/ledgers/{ledger_id}/receipts", &["get"]),
            ("/v1/agents/{agent_id}", &["get"]),
            ("/v1/receipts/{receipt}", &["get"]),
            ("/v1/orders/{order_id}/evidence", &["get"]),
            ("/v1/ledgers/{ledger_id}/consistency", &["get"]),
            ("/v1/ledgers/{ledger_id}/log/tile/{tile}", &["get"]),
            ("/v1/forest/checkpoint", &["get"]),
            ("/v1/forest/consistency", &["get"]),
            ("/v1/forest/proof", &["get"]),
            ("/v1/forest/log/tile/{tile}", &["get"]),
            ("/v1/erasure", &["get"]),
            ("/v1/artifacts/{hash}", &["put", "get", "delete"]),
        ] {
            for method in methods {
                assert!(document["paths"][path][method].is_object(), "{method} {path}");
            }
        }
        assert_eq!(document["paths"].as_object().unwrap().len(), 16);
        let responses = document["paths"]
            .as_object()
            .unwrap()
            .values()
            .flat_map(|item| item.as_object().unwrap().values());
        for response in responses.flat_map(|operation| operation["responses"].as_object().unwrap().values()) {
            assert!(response["description"].as_str().is_some_and(|text| !text.is_empty()), "{response}");
        }
    }
}
