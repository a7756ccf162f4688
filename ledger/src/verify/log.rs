//! The command log and the receipts: gapless, signed by who they say, linked, and in the tree under its checkpoints.

use std::collections::{BTreeMap, HashMap};

use proto::ids::{KeyId, ReceiptId};
use proto::keys::PublicKey;
use proto::merkle::{Frontier, TreeHash, leaf_hash};
use proto::note::{Checkpoint, NoteName, parse_and_verify, parse_timed};
use proto::prost::Message as _;
use proto::{dsse, v1};
use tokio_postgres::Client;
use uuid::Uuid;

use super::forest;
use super::losses::Losses;
use super::report::{First, Report};
use super::stored::{self, Keys, Rederive, Stored};
use crate::error::Error;
use crate::pipeline::entry::{Decided, receipt_payload};

const CHUNK: i64 = 2_000;

/// Everything the checks of one ledger's log gather on the way.
struct LogChecks<'a> {
    ledger_id: u32,
    keys: &'a Keys,
    receipt_key: PublicKey,
    rederive: &'a Rederive,
    commands: u64,
    receipts: u64,
    gapless: First,
    sender: First,
    signature: First,
    content: First,
    links: First,
    heads: HashMap<Uuid, Vec<u8>>,
    frontier: Frontier,
    /// Root at each size that some checkpoint names.
    wanted: BTreeMap<u64, Option<TreeHash>>,
    leaves: Vec<TreeHash>,
    /// By when each leaf was promised, Unix microseconds; the largest number: never.
    due_us: Vec<i64>,
}

/// A checkpoint that the log has to agree with.
struct Promised {
    place: String,
    checkpoint: Checkpoint,
    time_s: Option<u64>,
}

/// Checks one ledger's log and adds the findings to `report`. `outside`: checkpoints of it that were kept or handed in from
/// outside, by place.
pub(super) async fn check(
    client: &Client,
    ledger_id: u32,
    origin: &str,
    trusted_receipt_key: Option<PublicKey>,
    outside: Vec<(String, String)>,
    rederive: &Rederive,
    report: &mut Report,
) -> Result<(), Error> {
    let id = i32::try_from(ledger_id).map_err(|_| Error::new("UB401", "there is no such ledger"))?;
    let keys = stored::read_keys(client).await?;
    let receipt_key = receipt_key(client, ledger_id, trusted_receipt_key).await?;
    let checkpoints: Vec<(i64, Vec<u8>, String)> = client
        .query("select size, root, note from receipts.checkpoints where ledger_id = $1 order by size", &[&id])
        .await?
        .iter()
        .map(|row| Ok((row.try_get(0)?, row.try_get(1)?, row.try_get(2)?)))
        .collect::<Result<_, tokio_postgres::Error>>()?;
    let name: NoteName = origin
        .parse()
        .map_err(|e| Error::new("UR904", format!("the ledger's origin is not a log name: {e}")))?;

    let mut notes = First::default();
    let mut losses = Losses::default();
    let mut wanted = BTreeMap::new();
    let mut promised: Vec<Promised> = Vec::new();
    let inside =
        checkpoints.iter().map(|(size, _, note)| (format!("receipts.checkpoints size {size}"), note.clone()));
    for (place, note) in inside.chain(outside) {
        match parse_and_verify(&note, &name, &receipt_key) {
            Ok(checkpoint) => {
                losses.see(&place, checkpoint.size, &note);
                wanted.insert(checkpoint.size, None);
                // Checkpoints of earlier releases state no time, and so promise nothing about one.
                let time_s = parse_timed(&note, &name, &receipt_key).ok().map(|timed| timed.time_s);
                promised.push(Promised { place, checkpoint, time_s });
            }
            Err(error) => notes.note(place, error.to_string()),
        }
    }
    for ((size, root, _), Promised { checkpoint: note, .. }) in checkpoints.iter().zip(&promised) {
        if u64::try_from(*size).ok() != Some(note.size) || root.as_slice() != note.root.0 {
            notes.note(format!("receipts.checkpoints size {size}"), "its columns are not what its note says");
            break;
        }
    }

    for (place, checkpoint) in forest::leaves_of(client, id, &name).await? {
        wanted.insert(checkpoint.size, None);
        promised.push(Promised { place, checkpoint, time_s: None });
    }
    let (stated, left_out) = losses.judge();
    report.add(
        "checkpoints.losses",
        "what a restore gave up is stated in every checkpoint since",
        stated,
        left_out,
    );

    let mut checks = LogChecks {
        ledger_id,
        keys: &keys,
        receipt_key,
        rederive,
        commands: 0,
        receipts: 0,
        gapless: First::default(),
        sender: First::default(),
        signature: First::default(),
        content: First::default(),
        links: First::default(),
        heads: HashMap::new(),
        frontier: Frontier::new(),
        wanted,
        leaves: Vec::new(),
        due_us: Vec::new(),
    };
    let mut after = 0;
    loop {
        let chunk = stored::read(client, id, after, CHUNK).await?;
        let Some(last) = chunk.last() else { break };
        after = last.seq;
        for command in &chunk {
            checks.one(command);
        }
    }
    let orphans: Option<i64> = client
        .query_one(
            "select min(r.seq) from receipts.receipts r where r.ledger_id = $1 and not exists \
             (select from base.commands c where c.ledger_id = r.ledger_id and c.seq = r.seq)",
            &[&id],
        )
        .await?
        .try_get(0)?;
    if let Some(seq) = orphans {
        checks.gapless.note(format!("receipts.receipts seq {seq}"), "its command is missing");
    }
    let (last_seq, size, root): (i64, i64, Vec<u8>) = {
        let row = client
            .query_one(
                "select b.last_seq, l.size, l.root from base.ledgers b join receipts.logs l using (ledger_id) \
                 where b.ledger_id = $1",
                &[&id],
            )
            .await?;
        (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?)
    };
    if i64::try_from(checks.commands).ok() != Some(last_seq) {
        checks.gapless.note(
            format!("base.ledgers ledger {ledger_id}"),
            format!("last_seq is {last_seq}, but the log holds {} commands", checks.commands),
        );
    }
    let tiles = check_tiles(client, id, &checks.leaves).await?;
    checks.finish(report, notes, promised, size, &root, tiles);
    Ok(())
}

impl LogChecks<'_> {
    fn one(&mut self, stored: &Stored) {
        self.commands += 1;
        let place = format!("base.commands seq {}", stored.seq);
        if i64::try_from(self.commands).ok() != Some(stored.seq) && self.gapless.0.is_none() {
            self.gapless.note(format!("base.commands seq {}", self.commands), "this command is missing");
            // Count on from here, so that one gap is reported once.
            self.commands = u64::try_from(stored.seq).unwrap_or_default();
        }
        if let Err(why) = stored::check_signed(stored, self.ledger_id, self.keys, self.rederive) {
            self.sender.note(place.clone(), why);
        }
        let Some(receipt) = &stored.receipt else {
            self.gapless.note(format!("receipts.receipts seq {}", stored.seq), "this receipt is missing");
            return;
        };
        self.receipts += 1;
        let place = format!("receipts.receipts seq {}", stored.seq);
        let leaf = leaf_hash(&receipt.envelope);
        self.leaves.push(leaf);
        self.frontier.append(leaf);
        let size = self.frontier.size();
        if let Some(root) = self.wanted.get_mut(&size) {
            *root = Some(self.frontier.root());
        }
        self.due_us.push(i64::MAX);
        let envelope = match v1::Envelope::decode(receipt.envelope.as_slice()) {
            Ok(envelope) => envelope,
            Err(error) => {
                return self.signature.note(place, format!("its envelope does not decode: {error}"));
            }
        };
        let trusted = |key_id: &KeyId| (*key_id == self.receipt_key.id()).then_some(self.receipt_key);
        if let Err(error) = dsse::verify(&envelope, &dsse::payload_type::<v1::Receipt>(), trusted) {
            self.signature.note(place.clone(), error.to_string());
        }
        if let (Ok(said), Some(due_us)) =
            (v1::Receipt::decode(envelope.payload.as_slice()), self.due_us.last_mut())
            && said.include_by_us != 0
        {
            *due_us = said.include_by_us;
        }
        if ReceiptId::of(&envelope.payload).as_ref() != receipt.receipt_id.as_slice() {
            self.content.note(place.clone(), "its id is not the hash of its payload");
        }
        let prev = self.heads.insert(receipt.subject_id, receipt.receipt_id.clone());
        if prev != receipt.prev {
            self.links.note(place.clone(), "prev does not name the subject's previous receipt");
        }
        let expected = receipt_payload(self.ledger_id, &stored.entry, &stored.decided(), prev.as_deref());
        if expected != envelope.payload {
            self.content.note(place, difference(&expected, &envelope.payload));
        }
        if receipt.subject_id != stored.subject_id {
            self.content
                .note(format!("receipts.receipts seq {}", stored.seq), "its subject is not the command's");
        }
    }

    fn finish(
        self,
        report: &mut Report,
        mut notes: First,
        promised: Vec<Promised>,
        size: i64,
        root: &[u8],
        tiles: (u64, First),
    ) {
        let deadlines = self.broken_deadline(&promised);
        report.add(
            "log.gapless",
            "one command and one receipt for every seq, none missing",
            self.commands,
            self.gapless.0,
        );
        report.add(
            "commands.signature",
            "each sender's signature covers exactly what was executed",
            self.commands,
            self.sender.0,
        );
        report.add(
            "receipts.signature",
            "each receipt is signed by the receipt key",
            self.receipts,
            self.signature.0,
        );
        report.add("receipts.content", "each receipt says what the log says", self.receipts, self.content.0);
        report.add(
            "receipts.links",
            "prev links each subject's receipts without a gap",
            self.receipts,
            self.links.0,
        );
        let mut tree = First::default();
        if u64::try_from(size).ok() != Some(self.frontier.size()) || root != self.frontier.root().0 {
            tree.note(
                "receipts.logs",
                format!(
                    "the stored root (size {size}) is not the root of the {} stored receipts",
                    self.frontier.size()
                ),
            );
        }
        report.add(
            "log.inclusion",
            "every receipt is in the tree under the log's root",
            self.receipts,
            tree.0,
        );
        report.add("log.tiles", "every tile holds the hashes of the tree", tiles.0, tiles.1.0);
        let count = promised.len() as u64;
        for Promised { place, checkpoint, .. } in promised {
            let found = self.wanted.get(&checkpoint.size).copied().flatten();
            if checkpoint.size > self.frontier.size() {
                notes.note(
                    place,
                    format!(
                        "it promises {} receipts, the log holds {}: the tail was cut off",
                        checkpoint.size,
                        self.frontier.size()
                    ),
                );
            } else if found != Some(checkpoint.root) && checkpoint.size > 0 {
                notes.note(place, format!("its root is not the log's root at size {}", checkpoint.size));
            }
        }
        report.add(
            "checkpoints",
            "every checkpoint, the one kept outside too, is signed and agrees with the log",
            count,
            notes.0,
        );
        report.add(
            "checkpoints.deadlines",
            "no checkpoint of a time lacks a receipt that was promised by then",
            deadlines.0,
            deadlines.1.0,
        );
    }

    /// How many checkpoints state a time, and the first that breaks the promise of a receipt that it does not cover.
    fn broken_deadline(&self, promised: &[Promised]) -> (u64, First) {
        // The earliest deadline from each leaf on.
        let mut earliest = self.due_us.clone();
        for n in (1..earliest.len()).rev() {
            earliest[n - 1] = earliest[n - 1].min(earliest[n]);
        }
        let mut first = First::default();
        let mut count = 0;
        for Promised { place, checkpoint, time_s } in promised {
            let Some(time_s) = time_s else { continue };
            count += 1;
            let due = usize::try_from(checkpoint.size).ok().and_then(|size| earliest.get(size));
            if due.is_some_and(|due_us| i128::from(*time_s) * 1_000_000 >= i128::from(*due_us)) {
                first.note(
                    place.clone(),
                    format!(
                        "it states {} receipts at time {time_s}, and a later one was promised by {}",
                        checkpoint.size,
                        due.copied().unwrap_or_default() / 1_000_000
                    ),
                );
            }
        }
        (count, first)
    }
}

impl Stored {
    fn decided(&self) -> Decided {
        Decided {
            replayed: false,
            seq: self.seq,
            command_id: self.entry.command_id,
            code: self.code.clone(),
            subject_kind: self.subject_kind.clone(),
            subject_id: self.subject_id,
            facts: self.facts.clone(),
            prev: None,
            receipt_id: None,
            at_us: self.at_us,
            rules_version: self.rules_version,
            wake: None,
        }
    }
}

/// Names the first field in which two receipt payloads differ.
pub(crate) fn difference(expected: &[u8], found: &[u8]) -> String {
    let (Ok(expected), Ok(found)) = (v1::Receipt::decode(expected), v1::Receipt::decode(found)) else {
        return "its payload is not a Receipt".into();
    };
    macro_rules! compare {
        ($($field:ident),*) => {$(
            if expected.$field != found.$field {
                return format!("{} differs: expected {:?}, the receipt says {:?}", stringify!($field), expected.$field, found.$field);
            }
        )*};
    }
    compare!(
        ledger_id,
        seq,
        command_id,
        actor_id,
        key_id,
        kind,
        request_digest,
        body_hash,
        code,
        subject_kind,
        subject_id,
        prev,
        ledger_time_us,
        simulated,
        rules_version,
        facts_json,
        accepted_at_us,
        log_hash,
        include_by_us
    );
    "its bytes are not the canonical encoding".into()
}

/// The key that receipts and checkpoints must be signed by: the trusted one, or else that of the ledger's genesis.
pub(super) async fn receipt_key(
    client: &Client,
    ledger_id: u32,
    trusted: Option<PublicKey>,
) -> Result<PublicKey, Error> {
    match trusted {
        Some(key) => Ok(key),
        None => genesis_receipt_key(client, i32::try_from(ledger_id).unwrap_or_default()).await,
    }
}

async fn genesis_receipt_key(client: &Client, ledger_id: i32) -> Result<PublicKey, Error> {
    let row = client
        .query_opt(
            "select public_key from identity.keys where ledger_id = $1 and seq = 1 and purpose = 'receipt'",
            &[&ledger_id],
        )
        .await?;
    let bytes: Vec<u8> =
        row.ok_or_else(|| Error::new("UR401", "no receipt key was registered at genesis"))?.try_get(0)?;
    PublicKey::from_slice(&bytes)
        .map_err(|e| Error::new("UR904", format!("the receipt key of the genesis is broken: {e}")))
}

/// Compares every tile with the hashes of the recomputed tree.
pub(super) async fn check_tiles(
    client: &Client,
    ledger_id: i32,
    leaves: &[TreeHash],
) -> Result<(u64, First), Error> {
    let mut first = First::default();
    let mut expected: BTreeMap<(i16, i64), Vec<u8>> = BTreeMap::new();
    let mut level = leaves.to_vec();
    let mut tile_level: i16 = 0;
    while !level.is_empty() {
        for (index, tile) in level.chunks(256).enumerate() {
            expected.insert(
                (tile_level, i64::try_from(index).unwrap_or(i64::MAX)),
                tile.iter().flat_map(|hash| hash.0).collect(),
            );
        }
        let full = level.len() / 256;
        level = level.chunks(256).take(full).map(tile_root).collect();
        tile_level += 1;
    }
    let rows = client
        .query("select level, tile_index, hashes from receipts.tiles where ledger_id = $1 order by level, tile_index", &[&ledger_id])
        .await?;
    let count = expected.len() as u64;
    for row in &rows {
        let key: (i16, i64) = (row.try_get(0)?, row.try_get(1)?);
        let hashes: Vec<u8> = row.try_get(2)?;
        if expected.remove(&key).as_deref() != Some(hashes.as_slice()) {
            first.note(
                format!("receipts.tiles level {} tile {}", key.0, key.1),
                "its hashes are not those of the tree",
            );
        }
    }
    if let Some(key) = expected.keys().next() {
        first.note(format!("receipts.tiles level {} tile {}", key.0, key.1), "this tile is missing");
    }
    Ok((count, first))
}

fn tile_root(tile: &[TreeHash]) -> TreeHash {
    let mut frontier = Frontier::new();
    for hash in tile {
        frontier.append(*hash);
    }
    frontier.root()
}
