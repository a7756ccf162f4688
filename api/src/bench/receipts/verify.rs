//! `receipts.verify`: everything that can be checked about a receipt, beside its signature alone.

use std::time::{Duration, Instant};

use ledger::pipeline::rig::Scribe;
use proto::keys::{KeyPair, PublicKey};
use proto::merkle::{Tree, TreeHash, leaf_hash};
use proto::prost::Message as _;
use proto::{dsse, receipt, v1};
use rayon::prelude::*;

use super::{ReceiptsArgs, median, per_second};
use crate::bench::figures::Figures;
use crate::cli::failure::{Failure, Outcome};

/// A receipt with its proof, as an auditor is handed it; and its signature taken out, for the baseline.
struct Handed {
    envelope: Vec<u8>,
    proof: Vec<TreeHash>,
    signed: Vec<u8>,
    signature: Vec<u8>,
}

pub(super) fn measure(args: &ReceiptsArgs, figures: &mut Figures) -> Outcome {
    let key = KeyPair::generate()?;
    let public = *key.public();
    let count = usize::try_from(args.receipts).unwrap_or(usize::MAX);
    let (handed, root) = hand_out(&mut Scribe::new(1, key), count)?;
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for _ in 0..args.turns {
        ours.push(per_second(
            count,
            timed(|| handed.par_iter().try_for_each(|one| check(one, &public, args.receipts, &root)))?,
        ));
        theirs.push(per_second(
            count,
            timed(|| {
                handed
                    .par_iter()
                    .try_for_each(|one| public.verify(&one.signed, &one.signature))
                    .map_err(Failure::outside)
            })?,
        ));
    }
    figures.note("receipts.verify", median(ours), "receipts/s", Some(("verify_strict", median(theirs))));
    Ok(())
}

fn check(one: &Handed, key: &PublicKey, size: u64, root: &TreeHash) -> Outcome {
    let checked = receipt::check(&one.envelope, key).map_err(Failure::outside)?;
    checked.check_inclusion(size, &one.proof, root).map_err(Failure::outside)
}

fn hand_out(scribe: &mut Scribe, count: usize) -> Outcome<(Vec<Handed>, TreeHash)> {
    let batch = scribe.write(count);
    let mut tree = Tree::new();
    batch.envelopes().for_each(|bytes| tree.append(leaf_hash(bytes)));
    let handed = (0..).zip(batch.envelopes()).map(|(index, bytes)| {
        let envelope = v1::Envelope::decode(bytes).map_err(Failure::outside)?;
        let signature =
            envelope.signatures.first().map(|signature| signature.sig.clone()).unwrap_or_default();
        Ok(Handed {
            proof: tree.inclusion_proof(index, tree.size()).map_err(Failure::outside)?,
            signed: dsse::pae(&envelope.payload_type, &envelope.payload),
            signature,
            envelope: bytes.to_vec(),
        })
    });
    Ok((handed.collect::<Outcome<_>>()?, tree.root()))
}

fn timed(work: impl FnOnce() -> Outcome) -> Outcome<Duration> {
    let began = Instant::now();
    work()?;
    Ok(began.elapsed())
}
