//! `receipts.proof`: inclusion proofs from a log of millions of leaves, beside reading one receipt by its key.

use std::time::{Duration, Instant};

use ledger::pipeline::rig::{Planted, Press, Scribe};
use proto::keys::KeyPair;
use proto::merkle::verify_inclusion;
use rand::RngExt as _;
use tokio_postgres::Config;

use super::ReceiptsArgs;
use crate::bench::figures::Figures;
use crate::bench::stats::{milliseconds, percentiles};
use crate::cli::failure::{Failure, Outcome};

/// The log that is planted, and the one whose receipts are read.
const PLANTED: u32 = 101;
const READ: u32 = 102;
/// Receipts of the latter.
const ROWS: u64 = 20_000;
const SAMPLES: usize = 4_000;
/// The first few warm plans and caches, and do not count.
const WARM: usize = 100;

pub(super) async fn measure(args: &ReceiptsArgs, config: &Config, figures: &mut Figures) -> Outcome {
    let press = Press::open(config, READ).await?;
    let mut scribe = Scribe::new(READ, KeyPair::generate()?);
    for _ in 0..ROWS / 1_000 {
        press.seal(&scribe.write(1_000)).await?;
    }
    let log = Planted::open(config, PLANTED, args.leaves).await?;
    let (mut proofs, mut rows): (Vec<Duration>, Vec<Duration>) = (Vec::new(), Vec::new());
    for n in 0..WARM + SAMPLES {
        let (index, seq) = {
            let mut random = rand::rng();
            (random.random_range(0..log.size), random.random_range(1..=ROWS))
        };
        let asked = Instant::now();
        let proof = log.proof(index).await?;
        let took = asked.elapsed();
        verify_inclusion(&Planted::leaf(index), index, log.size, &proof, &log.root)
            .map_err(|error| Failure::outside(format!("the proof of leaf {index} does not hold: {error}")))?;
        let asked = Instant::now();
        log.read_row(READ, seq).await?;
        if n >= WARM {
            proofs.push(took);
            rows.push(asked.elapsed());
        }
    }
    let (Some(proofs), Some(rows)) = (percentiles(&mut proofs), percentiles(&mut rows)) else {
        return Ok(());
    };
    for (rank, ours, theirs) in [("p50", proofs.p50, rows.p50), ("p99", proofs.p99, rows.p99)] {
        let baseline = Some(("read_one_receipt", milliseconds(theirs)));
        figures.note(&format!("receipts.proof.{rank}"), milliseconds(ours), "ms", baseline);
    }
    Ok(())
}
