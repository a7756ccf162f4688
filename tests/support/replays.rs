//! Replays of what a test's market did.

use std::sync::Arc;

use ledger::replay::{Proof, ProofOptions, ReplayOptions, Scratch, Source, Until, prove};
use ledger::verify::{Comparison, Expected};
use tokio_postgres::{Client, Config};

use super::market::Market;

/// The sizes of batches that must give the same.
pub const BATCHES: [usize; 3] = [1, 7, 8_000];

/// How to replay what was never GraphQL.
pub fn options(batch: usize) -> ReplayOptions {
    ReplayOptions::new(batch, Arc::new(|_| Err("no command of these tests came as GraphQL".into())))
}

/// From a signed GraphQL request to its command, as the program does it.
pub fn rederive(body: &[u8]) -> Result<(u32, Vec<u8>), String> {
    use proto::prost::Message as _;
    let (ledger_id, command) = api::graphql::command_of(body).map_err(|error| error.to_string())?;
    Ok((ledger_id, command.encode_to_vec()))
}

/// A replay and the database that it made.
pub struct Again {
    pub proof: Proof,
    /// A session on that database, as an auditor.
    pub db: Client,
    scratch: Scratch,
}

impl Again {
    pub async fn drop(self) {
        drop(self.db);
        self.scratch.drop().await.unwrap();
    }
}

/// Replays a source on the server of `admin`.
pub async fn replayed(
    admin: &Config,
    source: &Source,
    replay: ReplayOptions,
    expected: Option<Expected>,
) -> Again {
    let scratch = Scratch::create(admin).await.unwrap();
    let db = scratch.load().await.unwrap();
    let proof = prove(source, &db, &ProofOptions { replay, expected }).await.unwrap();
    Again { proof, db, scratch }
}

/// Replays a market's log, up to some end.
pub async fn again(market: &Market, batch: usize, until: Until) -> Again {
    let source = Source::Database(market.db.config("econ_auditor"));
    let replay = ReplayOptions { until, ..options(batch) };
    replayed(&market.db.cluster().config("postgres", None), &source, replay, None).await
}

/// Insists that a market's log gives every table again, in batches of any size.
pub async fn gives_every_table_again(market: &Market) -> Vec<Comparison> {
    let mut tables: Option<Vec<Comparison>> = None;
    for batch in BATCHES {
        let again = again(market, batch, Until::End).await;
        let problems = again.proof.problems();
        assert!(again.proof.passed(), "batches of {batch}: {problems:#?}");
        let last = market.count("select sum(last_seq)::bigint from base.ledgers").await;
        assert_eq!(i64::try_from(again.proof.replayed.commands).unwrap(), last, "batches of {batch}");
        let found = again.proof.tables.clone();
        assert_eq!(*tables.get_or_insert_with(|| found.clone()), found, "batches of {batch}");
        again.drop().await;
    }
    tables.unwrap()
}
