//! The whole way: 64 callers, each transfer a signed request over HTTP with a receipt.

use std::sync::Arc;
use std::time::{Duration, Instant};

use ledger::posting::rig::Probe;
use proto::ids::{AccountId, AgentId, TransferId};
use proto::keys::KeyPair;
use proto::money::Amount;
use proto::v1::KeyPurpose;
use provider_agent::client::Client;
use serde_json::json;
use tokio::task::JoinSet;

use super::super::stats::{milliseconds, percentiles};
use super::Bench;
use crate::cli::client::operator_key;
use crate::cli::failure::{Failure, Outcome};
use crate::cli::market::Market;

const CALLERS: usize = 64;

impl Bench<'_> {
    pub(super) async fn signed(&mut self, server: &super::super::Server) -> Outcome {
        let client = |key: KeyPair| Client::new(server.url(), Arc::new(key));
        let operator = Market::open(client(KeyPair::load(&operator_key(server.data_dir()))?)?, None).await?;
        let asset_id = operator.info.assets.first().map_or(1, |asset| asset.asset_id);
        let market = self.cluster.config(crate::cli::place::DATABASE, self.cluster.superuser());
        let probe = Probe::connect(&market).await?;
        let mut wallets: Vec<AccountId> = Vec::new();
        for n in 0..CALLERS {
            let buyer = operator.with_client(client(KeyPair::generate()?)?);
            buyer.register(KeyPurpose::Buyer, None).await?;
            let me: AgentId = buyer.me()?;
            operator
                .deposit(me, asset_id, Amount::from_u64(1_000_000_000_000), &format!("bench-signed-{n}"))
                .await?;
            wallets.push(probe.wallet(1, i32::try_from(asset_id).unwrap_or(1), me).await?);
        }
        run_for(&operator, asset_id, &wallets, Duration::from_secs(1)).await?;
        let (mut waits, elapsed) =
            run_for(&operator, asset_id, &wallets, Duration::from_secs(self.args.seconds)).await?;
        let tps = super::baseline::simple_update(self.cluster, 64, self.args.seconds).await?;
        #[expect(clippy::cast_precision_loss, reason = "counts of transfers")]
        let rate = waits.len() as f64 / elapsed.as_secs_f64();
        self.note("ledger.signed.64", rate, "transfers/s", Some(("pgbench_simple_update.64", tps)));
        if let Some(found) = percentiles(&mut waits) {
            self.note("ledger.signed.64.p50", milliseconds(found.p50), "ms", None);
            self.note("ledger.signed.64.p99", milliseconds(found.p99), "ms", None);
        }
        Ok(())
    }
}

async fn run_for(
    operator: &Market,
    asset_id: u32,
    wallets: &[AccountId],
    time: Duration,
) -> Outcome<(Vec<Duration>, Duration)> {
    let began = Instant::now();
    let mut running = JoinSet::new();
    for n in 0..CALLERS {
        let operator = operator.clone();
        let (from, to) = (wallets[n], wallets[(n + 1) % CALLERS]);
        running.spawn(async move {
            let mut waits = Vec::new();
            while began.elapsed() < time {
                let asked = Instant::now();
                let id = TransferId::now_v7().to_string();
                let item = json!({ "transferId": id, "kind": "PLAIN", "debitAccountId": from.to_string(),
                    "creditAccountId": to.to_string(), "assetId": asset_id, "amount": "7" });
                let receipt = operator
                    .mutate(
                        "postTransfers",
                        "PostTransfersInput",
                        json!({ "items": [item] }),
                        &format!("post:{id}"),
                    )
                    .await?;
                if receipt.facts["results"] != json!(["ok"]) {
                    return Err(Failure::outside(format!("a transfer was refused: {}", receipt.facts)));
                }
                waits.push(asked.elapsed());
            }
            Ok::<_, Failure>(waits)
        });
    }
    let mut waits = Vec::new();
    while let Some(ended) = running.join_next().await {
        waits.extend(ended.map_err(|error| Failure::outside(format!("a caller ended early: {error}")))??);
    }
    Ok((waits, began.elapsed()))
}
