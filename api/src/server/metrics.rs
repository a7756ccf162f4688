//! Prometheus metrics at `/metrics`.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse as _, Response};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};

use super::ServerState;

/// Upper bounds of the latency histograms, seconds.
const LATENCY_S: &[f64] = &[
    0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
    30.0,
];
/// Upper bounds of batch sizes.
const BATCH: &[f64] = &[1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0];

/// Installs the process's recorder, once: metrics are one per process, however many servers it runs (tests do).
pub(crate) fn install() -> Option<&'static PrometheusHandle> {
    static HANDLE: OnceLock<Option<PrometheusHandle>> = OnceLock::new();
    HANDLE
        .get_or_init(|| {
            let built = PrometheusBuilder::new()
                .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), LATENCY_S)
                .and_then(|builder| {
                    builder.set_buckets_for_metric(Matcher::Suffix("_batch_commands".to_owned()), BATCH)
                });
            match built.map(PrometheusBuilder::build_recorder) {
                Ok(recorder) => {
                    let handle = recorder.handle();
                    // Somebody else's recorder stays; then this page has nothing to show, and says so.
                    metrics::set_global_recorder(recorder).ok().map(|()| handle)
                }
                Err(error) => {
                    tracing::error!(%error, "metrics are off");
                    None
                }
            }
            .inspect(|_| describe())
        })
        .as_ref()
}

fn describe() {
    use metrics::{describe_counter, describe_gauge, describe_histogram};
    describe_counter!("econ_commands_total", "Commands decided and repeats answered, by kind and code");
    describe_histogram!(
        "econ_command_seconds",
        "From an authenticated command to its durable answer, by kind"
    );
    describe_counter!("econ_http_requests_total", "HTTP requests, by route, method and status");
    describe_histogram!(
        "econ_http_request_seconds",
        "From a request's head to its response's head, by route"
    );
    describe_counter!("econ_problems_total", "Errors sent, by code");
    describe_counter!(
        "econ_unauthenticated_total",
        "Requests refused before authentication, by reason; they leave no row"
    );
    describe_gauge!("econ_wal_archive_behind_bytes", "WAL that is committed and not archived yet");
    describe_counter!(
        "econ_wal_archive_failures_total",
        "Looks at the WAL archive that failed; each is tried again"
    );
    describe_gauge!("econ_websocket_connections", "Live connections, by lane");
    describe_counter!("econ_artifact_bytes_total", "Artifact bytes, by direction");
    describe_histogram!("econ_batch_commands", "Commands decided in one transaction");
    describe_histogram!("econ_decide_seconds", "Deciding a batch, the round trip to the database included");
    describe_histogram!("econ_sign_seconds", "Encoding and signing a batch's receipts");
    describe_histogram!(
        "econ_seal_seconds",
        "From sending a batch's receipts to the answer that they are stored"
    );
    describe_histogram!("econ_commit_seconds", "From that answer to the one that the batch is durable");
    describe_counter!("econ_batches_split_total", "Batches that raised and were decided again one by one");
    describe_counter!(
        "econ_forced_refusals_total",
        "Commands that raised and were refused by force: our bugs"
    );
    describe_counter!(
        "econ_audit_problems_total",
        "Accounts and transfers that the minute's audit found wrong, each time it looked"
    );
    describe_counter!(
        "econ_upkeep_failures_total",
        "Times that the books' keeper failed and tried again; it holds nobody up"
    );
    describe_gauge!(
        "econ_witness_contradicts",
        "1 while a witness has seen another log than ours: an alarm, by witness and ledger (0: the forest)"
    );
    describe_counter!(
        "econ_witness_failures_total",
        "Checkpoints that a witness did not cosign, by witness; tried again every second"
    );
    describe_counter!("econ_house_commands_total", "Commands of the house's timers, by action and code");
}

/// How long a command took, from its authentication to its answer. The pipeline itself counts what it decides.
pub(crate) fn record_answer(kind: &'static str, took: Duration) {
    metrics::histogram!("econ_command_seconds", "kind" => kind).record(took.as_secs_f64());
}

/// GET /metrics.
pub(crate) async fn page(State(state): State<Arc<ServerState>>) -> Response {
    let text = state.metrics.map_or_else(
        || "# another recorder is installed in this process\n".to_owned(),
        PrometheusHandle::render,
    );
    ([(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text).into_response()
}
