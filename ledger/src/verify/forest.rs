//! The forest: every leaf is a checkpoint of its ledger (that the ledger's log agrees with it is asked with that log), the
//! tree over them is right, and what was signed about it still holds.

use proto::keys::PublicKey;
use proto::merkle::{Frontier, TreeHash, leaf_hash};
use proto::note::{Checkpoint, NoteName, parse_and_verify, read_unverified};
use tokio_postgres::Client;

use super::log::check_tiles;
use super::losses::Losses;
use super::report::{First, Report};
use crate::error::Error;

/// The checkpoints of one ledger that are leaves of the forest, each with its place.
pub(super) async fn leaves_of(
    client: &Client,
    ledger_id: i32,
    origin: &NoteName,
) -> Result<Vec<(String, Checkpoint)>, Error> {
    let sql = "select entry_index, size, root from receipts.forest_entries where logged_ledger_id = $1 order by entry_index";
    let rows = client.query(sql, &[&ledger_id]).await?;
    rows.iter()
        .map(|row| {
            let (index, size, root): (i64, i64, Vec<u8>) =
                (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
            let place = format!("receipts.forest_entries index {index}");
            let root = TreeHash::from_slice(&root).map_err(|e| Error::new("UR904", e.to_string()))?;
            let size = u64::try_from(size).unwrap_or_default();
            Ok((place, Checkpoint { origin: origin.clone(), size, root }))
        })
        .collect()
}

/// Checks the forest and adds the finding to `report`. `outside`: what was kept or handed in from outside, by place.
pub(super) async fn check(
    client: &Client,
    receipt_key: PublicKey,
    outside: Vec<(String, String)>,
    report: &mut Report,
) -> Result<(), Error> {
    let name = client.query_opt("select origin from receipts.forests", &[]).await?;
    let name: Option<String> = name.map(|row| row.try_get(0)).transpose()?;
    let Some(name) = name else {
        // One of an empty forest is what a restore leaves where it has to be made anew.
        let of_something = |note: &str| read_unverified(note).is_ok_and(|checkpoint| checkpoint.size > 0);
        if let Some((place, _)) = outside.into_iter().find(|(_, note)| of_something(note)) {
            let mut lost = First::default();
            lost.note(place, "it is the forest's, and the database has no forest");
            report.add("forest", WHAT, 0, lost.0);
        }
        return Ok(());
    };
    let origin: NoteName =
        name.parse().map_err(|e| Error::new("UR904", format!("the forest's name is not a log name: {e}")))?;
    let mut first = First::default();
    let mut frontier = Frontier::new();
    let mut leaves = Vec::new();
    let mut roots = vec![frontier.root()];
    let rows = client
        .query(
            "select e.entry_index, e.size, e.root, b.origin, e.size > coalesce(lag(e.size) over \
               (partition by e.logged_ledger_id order by e.entry_index), 0), e.logged_ledger_id \
             from receipts.forest_entries e join base.ledgers b on b.ledger_id = e.logged_ledger_id order by e.entry_index",
            &[],
        )
        .await?;
    for (expected, row) in (0_i64..).zip(&rows) {
        let (index, size, root): (i64, i64, Vec<u8>) = (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
        let (origin, grows, ledger_id): (String, bool, i32) =
            (row.try_get(3)?, row.try_get(4)?, row.try_get(5)?);
        let place = format!("receipts.forest_entries index {index}");
        if index != expected && first.0.is_none() {
            first.note(format!("receipts.forest_entries index {expected}"), "this entry is missing");
        }
        if !grows {
            first.note(place.clone(), format!("ledger {ledger_id} had a larger checkpoint before"));
        }
        let leaf = origin
            .parse()
            .map_err(|e: proto::note::NoteError| e.to_string())
            .and_then(|origin| {
                let root = TreeHash::from_slice(&root).map_err(|e| e.to_string())?;
                Ok(Checkpoint { origin, size: u64::try_from(size).unwrap_or_default(), root }.text())
            })
            .unwrap_or_else(|why| {
                first.note(place, why);
                String::new()
            });
        let leaf = leaf_hash(leaf.as_bytes());
        leaves.push(leaf);
        frontier.append(leaf);
        roots.push(frontier.root());
    }
    let row = client.query_one("select size, root from receipts.logs where ledger_id = 0", &[]).await?;
    let (size, root): (i64, Vec<u8>) = (row.try_get(0)?, row.try_get(1)?);
    if u64::try_from(size).ok() != Some(frontier.size()) || root != frontier.root().0 {
        let why = format!("the stored root (size {size}) is not the root of the {} entries", frontier.size());
        first.note("receipts.logs ledger 0", why);
    }
    let (_, tiles) = check_tiles(client, 0, &leaves).await?;
    if let Some(problem) = tiles.0 {
        first.note(format!("{} of the forest", problem.place), problem.message);
    }
    let notes = "select size, root, note from receipts.checkpoints where ledger_id = 0 order by size";
    let (mut promised, mut losses) = (Vec::new(), Losses::default());
    for row in &client.query(notes, &[]).await? {
        let (size, root, note): (i64, Vec<u8>, String) = (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
        let place = format!("receipts.checkpoints of the forest size {size}");
        match parse_and_verify(&note, &origin, &receipt_key) {
            Ok(found) if u64::try_from(size).ok() != Some(found.size) || root != found.root.0 => {
                first.note(place, "its columns are not what its note says");
            }
            Ok(found) => {
                losses.see(&place, found.size, &note);
                promised.push((place, found));
            }
            Err(error) => first.note(place, error.to_string()),
        }
    }
    for (place, note) in outside {
        match parse_and_verify(&note, &origin, &receipt_key) {
            Ok(found) => {
                losses.see(&place, found.size, &note);
                promised.push((place, found));
            }
            Err(error) => first.note(place, error.to_string()),
        }
    }
    if let (_, Some(problem)) = losses.judge() {
        first.note(problem.place, problem.message);
    }
    for (place, checkpoint) in promised {
        match usize::try_from(checkpoint.size).ok().and_then(|size| roots.get(size)) {
            None => first.note(
                place,
                format!(
                    "it promises {} entries, the forest holds {}: the tail was cut off",
                    checkpoint.size,
                    frontier.size()
                ),
            ),
            Some(root) if *root != checkpoint.root => {
                first.note(place, format!("its root is not the forest's root at size {}", checkpoint.size));
            }
            Some(_) => {}
        }
    }
    report.add("forest", WHAT, frontier.size(), first.0);
    Ok(())
}

const WHAT: &str = "the log over the ledgers' checkpoints is whole, and every checkpoint of it agrees";
