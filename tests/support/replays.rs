//! Replays of what a test's market did.

use std::sync::Arc;

use ledger::Error;
use ledger::replay::{Proof, ProofOptions, ReplayOptions, Source, Until, prove, session};
use ledger::testing::TestDb;
use ledger::verify::{Comparison, Expected};
use tokio_postgres::Client;

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
    made: TestDb,
}

impl Again {
    pub async fn drop(self) {
        drop(self.db);
        self.made.close().await;
    }
}

/// Replays a source into a database of its own, cloned like every test's.
pub async fn tried(
    source: &Source,
    replay: ReplayOptions,
    expected: Option<Expected>,
) -> Result<Again, Error> {
    let made = TestDb::new().await;
    let db = made.admin().await;
    session(&db).await?;
    let proof = prove(source, &db, &ProofOptions { replay, expected }).await?;
    Ok(Again { proof, db, made })
}

/// The same, which must come to an end.
pub async fn replayed(source: &Source, replay: ReplayOptions, expected: Option<Expected>) -> Again {
    tried(source, replay, expected).await.unwrap()
}

/// Replays a market's log, up to some end.
pub async fn again(market: &Market, batch: usize, until: Until) -> Again {
    let source = Source::Database(market.db.config("econ_auditor"));
    let replay = ReplayOptions { until, ..options(batch) };
    replayed(&source, replay, None).await
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
