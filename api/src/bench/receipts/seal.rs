//! `receipts.seal`: from facts to durable receipts, beside a bare insert of the same bytes.

use std::time::{Duration, Instant};

use ledger::pipeline::rig::{Batch, Press, Scribe};
use proto::keys::KeyPair;
use proto::merkle::{Frontier, leaf_hash};
use tokio_postgres::Config;

use super::{ReceiptsArgs, median, per_second};
use crate::bench::figures::Figures;
use crate::cli::failure::{Failure, Outcome};

/// Receipts to a commit, and commits to a turn: what a market of 32 buyers makes, and what a busy one would.
const BATCHES: [(usize, usize); 3] = [(16, 250), (256, 60), (1_000, 20)];

pub(super) async fn measure(args: &ReceiptsArgs, config: &Config, figures: &mut Figures) -> Outcome {
    for (ledger_id, (size, count)) in (1..).zip(BATCHES) {
        let press = Press::open(config, ledger_id).await?;
        let mut scribe = Scribe::new(ledger_id, KeyPair::generate()?);
        let mut tree = Frontier::new();
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        // The first turn warms plans and caches, and does not count.
        for turn in 0..=args.turns {
            let (took, batches);
            (scribe, took, batches) = seal_all(&press, scribe, size, count).await?;
            let bare = insert_all(&press, &batches).await?;
            batches.iter().flat_map(Batch::envelopes).for_each(|bytes| tree.append(leaf_hash(bytes)));
            if turn > 0 {
                ours.push(per_second(size * count, took));
                theirs.push(per_second(size * count, bare));
            }
        }
        if press.log().await? != (tree.size(), tree.root()) {
            return Err(Failure::outside("the log that was measured has another root than its receipts"));
        }
        let name = format!("receipts.seal.{size}");
        figures.note(&name, median(ours), "receipts/s", Some(("bare_insert_pk", median(theirs))));
    }
    Ok(())
}

/// Signs and seals: while one batch is stored the next one is signed.
async fn seal_all(
    press: &Press,
    mut scribe: Scribe,
    size: usize,
    count: usize,
) -> Outcome<(Scribe, Duration, Vec<Batch>)> {
    let began = Instant::now();
    let mut sealed: Vec<Batch> = Vec::with_capacity(count);
    let mut next = scribe.write(size);
    for left in (0..count).rev() {
        let writing = tokio::task::spawn_blocking(move || {
            let batch = (left > 0).then(|| scribe.write(size));
            (scribe, batch)
        });
        let (stored, written) = tokio::join!(press.seal(&next), writing);
        stored?;
        let batch;
        (scribe, batch) = written.map_err(Failure::outside)?;
        sealed.push(next);
        match batch {
            Some(batch) => next = batch,
            None => break,
        }
    }
    Ok((scribe, began.elapsed(), sealed))
}

async fn insert_all(press: &Press, batches: &[Batch]) -> Outcome<Duration> {
    let began = Instant::now();
    for batch in batches {
        press.insert_bare(batch).await?;
    }
    Ok(began.elapsed())
}
