//! What a measurement of receipts needs around it: receipts in any number, a log to seal them in, the bare table to compare
//! with, a log of millions of leaves. Connects as a superuser; for throwaway databases only.

use futures_util::future::try_join3;
use proto::ids::ReceiptId;
use proto::keys::KeyPair;
use proto::merkle::{Frontier, TreeHash, leaf_hash};
use tokio_postgres::binary_copy::BinaryCopyInWriter;
use tokio_postgres::types::Type;
use tokio_postgres::{Client, Config, NoTls, Statement};
use uuid::Uuid;

use super::entry::{Decided, Entry, RULES_VERSION, Sealed, Statements, receipt_payload, sign_receipt};
use super::worker::SESSION;
use crate::error::Error;

/// Receipts that a subject gets: as many as an order does.
const RECEIPTS_PER_SUBJECT: i64 = 6;
/// Hashes of a tile.
const TILE: usize = 256;

/// Signed receipts in log order, on their way into the log.
pub struct Batch(Vec<Sealed>);

impl Batch {
    /// Exact bytes of each envelope.
    pub fn envelopes(&self) -> impl Iterator<Item = &[u8]> {
        self.0.iter().map(|sealed| sealed.envelope.as_slice())
    }
}

/// Writes receipts as the pipeline does, of commands that never were.
pub struct Scribe {
    ledger_id: u32,
    key: KeyPair,
    seq: i64,
    head: (Uuid, Option<ReceiptId>),
}

impl Scribe {
    /// Starts a log of its own at seq 1.
    pub fn new(ledger_id: u32, key: KeyPair) -> Self {
        Self { ledger_id, key, seq: 0, head: (Uuid::nil(), None) }
    }

    /// Encodes and signs the next `count` receipts.
    pub fn write(&mut self, count: usize) -> Batch {
        Batch((0..count).map(|_| self.one()).collect())
    }

    fn one(&mut self) -> Sealed {
        if self.seq % RECEIPTS_PER_SUBJECT == 0 {
            self.head = (Uuid::now_v7(), None);
        }
        self.seq += 1;
        let (entry, decided) = command(self.seq, self.head.0, &self.key);
        let prev = self.head.1.map(|id| id.as_ref().to_vec());
        let payload = receipt_payload(self.ledger_id, &entry, &decided, prev.as_deref());
        let (receipt_id, envelope) = sign_receipt(payload, &self.key);
        self.head.1 = Some(receipt_id);
        Sealed { seq: self.seq, receipt_id, subject_id: decided.subject_id, prev, envelope }
    }
}

/// An offer, of about the size that offers have.
fn command(seq: i64, subject_id: Uuid, key: &KeyPair) -> (Entry, Decided) {
    let at_us = 1_795_000_000_000_000 + seq * 1_000;
    let ms = u64::try_from(at_us / 1_000).unwrap_or_default();
    let mut chance = [0; 10];
    chance[2..].copy_from_slice(&seq.to_be_bytes());
    let command_id = uuid::Builder::from_unix_timestamp_millis(ms, &chance).into_uuid();
    let entry = Entry {
        command_id,
        actor_id: Uuid::from_u128(7),
        key_id: key.id().into(),
        idempotency_key: Some(command_id.to_string()),
        nonce: Some(command_id.simple().to_string()),
        kind: "submit_offer".to_owned(),
        args: String::new(),
        request_digest: vec![1; 32],
        body: vec![2; 90],
        signature_base: vec![b'x'; 520],
        signature: vec![3; 64],
        content_type: "application/json".to_owned(),
        signed_body: Some(vec![b'y'; 420]),
        accepted_at_us: at_us,
        simulated: false,
        recorded: "{}".to_owned(),
        forced_code: None,
    };
    let facts = format!(
        "{{\"offer_id\": \"{command_id}\", \"rfq_id\": \"{subject_id}\", \"price\": \"3700\", \"price_per_unit\": \"100\", \
         \"expires_at\": \"2026-11-26T12:00:00.000000Z\", \"transitions\": [{{\"machine\": \"offer\", \"subject_id\": \
         \"{command_id}\", \"from\": \"\", \"event\": \"submit_offer\", \"to\": \"open\"}}]}}"
    );
    let decided = Decided {
        replayed: false,
        seq,
        command_id,
        code: "ok".to_owned(),
        subject_kind: "rfq".to_owned(),
        subject_id,
        facts,
        prev: None,
        receipt_id: None,
        at_us,
        rules_version: RULES_VERSION,
        wake: None,
    };
    (entry, decided)
}

/// A session that seals, and one statement each to compare with.
pub struct Press {
    client: Client,
    statements: Statements,
    bare: Statement,
    ledger_id: i32,
}

impl Press {
    /// Makes ledger `ledger_id` with an empty log, and `bench.bare_receipts`: like `receipts.receipts` with its primary key
    /// and nothing else.
    pub async fn open(config: &Config, ledger_id: u32) -> Result<Self, Error> {
        let client = connect(config).await?;
        let ledger_id = new_log(&client, ledger_id).await?;
        client
            .batch_execute(
                "create schema if not exists bench; create table if not exists bench.bare_receipts \
                 (like receipts.receipts including defaults, constraint bare_receipts_pk primary key (ledger_id, seq))",
            )
            .await?;
        client.batch_execute(SESSION).await?;
        let bare = client
            .prepare(
                "insert into bench.bare_receipts (ledger_id, seq, receipt_id, subject_id, prev, envelope) \
                 select $1::integer, u.seq, u.receipt_id, u.subject_id, u.prev, u.envelope \
                 from unnest($2::bigint[], $3::bytea[], $4::uuid[], $5::bytea[], $6::bytea[]) \
                   as u (seq, receipt_id, subject_id, prev, envelope)",
            )
            .await?;
        let statements = Statements::prepare(&client).await?;
        Ok(Self { client, statements, bare, ledger_id })
    }

    /// Seals a batch and commits: one round trip, as in the pipeline.
    pub async fn seal(&self, batch: &Batch) -> Result<(), Error> {
        let seal = self.statements.seal(&self.client, self.ledger_id, &batch.0);
        try_join3(self.client.batch_execute("begin"), seal, self.client.batch_execute("commit")).await?;
        Ok(())
    }

    /// Inserts the same bytes into the bare table and commits.
    pub async fn insert_bare(&self, batch: &Batch) -> Result<(), Error> {
        macro_rules! column {
            ($field:ident) => {
                batch.0.iter().map(|s| &s.$field).collect::<Vec<_>>()
            };
        }
        let ids: Vec<&[u8]> = batch.0.iter().map(|s| s.receipt_id.as_ref()).collect();
        self.client
            .execute(
                &self.bare,
                &[
                    &self.ledger_id,
                    &column!(seq),
                    &ids,
                    &column!(subject_id),
                    &column!(prev),
                    &column!(envelope),
                ],
            )
            .await?;
        Ok(())
    }

    /// Size and root that the database has computed.
    pub async fn log(&self) -> Result<(u64, TreeHash), Error> {
        let sql = "select size, root from receipts.read_log($1)";
        let row = self.client.query_one(sql, &[&self.ledger_id]).await?;
        let (size, root): (i64, Vec<u8>) = (row.try_get(0)?, row.try_get(1)?);
        Ok((u64::try_from(size).unwrap_or_default(), hash_of(&root)?))
    }
}

/// A log of leaves that are hashes and nothing else: [`Planted::leaf`] says which.
pub struct Planted {
    client: Client,
    proof: Statement,
    row: Statement,
    ledger_id: i32,
    /// Leaves.
    pub size: u64,
    /// RFC 6962 root over them.
    pub root: TreeHash,
}

impl Planted {
    /// Makes ledger `ledger_id` with a log of `size` leaves.
    pub async fn open(config: &Config, ledger_id: u32, size: u64) -> Result<Self, Error> {
        let client = connect(config).await?;
        let ledger_id = new_log(&client, ledger_id).await?;
        let sink = client
            .copy_in("copy receipts.tiles (ledger_id, level, tile_index, hashes) from stdin (format binary)")
            .await?;
        let writer = BinaryCopyInWriter::new(sink, &[Type::INT4, Type::INT2, Type::INT8, Type::BYTEA]);
        futures_util::pin_mut!(writer);
        let mut roots = Vec::new();
        let mut edge = Vec::new();
        for first in (0..size).step_by(TILE) {
            let tile: Vec<TreeHash> = (first..size.min(first + TILE as u64)).map(Self::leaf).collect();
            let index = i64::try_from(first / TILE as u64).unwrap_or(i64::MAX);
            writer.as_mut().write(&[&ledger_id, &0_i16, &index, &bytes(&tile)]).await?;
            let frontier = frontier(&tile);
            if tile.len() == TILE { roots.push(frontier.root()) } else { edge = frontier.peaks().to_vec() }
        }
        let mut peaks = frontier(&roots).peaks().to_vec();
        peaks.append(&mut edge);
        for level in 1_i16.. {
            for (index, tile) in (0_i64..).zip(roots.chunks(TILE)) {
                writer.as_mut().write(&[&ledger_id, &level, &index, &bytes(tile)]).await?;
            }
            roots = roots.chunks_exact(TILE).map(|tile| frontier(tile).root()).collect();
            if roots.is_empty() {
                break;
            }
        }
        writer.as_mut().finish().await?;
        let stored: Vec<Vec<u8>> = peaks.iter().map(|hash| hash.0.to_vec()).collect();
        let wrong = |error: proto::merkle::MerkleError| Error::new("UB900", error.to_string());
        let root = Frontier::from_parts(size, peaks).map_err(wrong)?.root();
        let count = i64::try_from(size).unwrap_or(i64::MAX);
        client
            .execute(
                "update receipts.logs set size = $2, root = $3, peaks = $4 where ledger_id = $1",
                &[&ledger_id, &count, &root.0.as_slice(), &stored],
            )
            .await?;
        client.batch_execute("analyze receipts.tiles, receipts.receipts").await?;
        client.batch_execute(SESSION).await?;
        let proof = client.prepare("select receipts.inclusion_proof($1, $2, $3)").await?;
        let row = client
            .prepare("select envelope from receipts.receipts where ledger_id = $1 and seq = $2")
            .await?;
        Ok(Self { client, proof, row, ledger_id, size, root })
    }

    /// The hash of a leaf.
    pub fn leaf(index: u64) -> TreeHash {
        leaf_hash(&index.to_be_bytes())
    }

    /// The audit path of a leaf, from the database.
    pub async fn proof(&self, index: u64) -> Result<Vec<TreeHash>, Error> {
        let (index, size) =
            (i64::try_from(index).unwrap_or(i64::MAX), i64::try_from(self.size).unwrap_or(i64::MAX));
        let row = self.client.query_one(&self.proof, &[&self.ledger_id, &index, &size]).await?;
        let hashes: Vec<Vec<u8>> = row.try_get(0)?;
        hashes.iter().map(|hash| hash_of(hash)).collect()
    }

    /// One stored receipt of any ledger, by its key; its size.
    pub async fn read_row(&self, ledger_id: u32, seq: u64) -> Result<usize, Error> {
        let (ledger_id, seq) =
            (i32::try_from(ledger_id).unwrap_or(i32::MAX), i64::try_from(seq).unwrap_or(i64::MAX));
        let row = self.client.query_one(&self.row, &[&ledger_id, &seq]).await?;
        Ok(row.try_get::<_, Vec<u8>>(0)?.len())
    }
}

fn frontier(hashes: &[TreeHash]) -> Frontier {
    let mut frontier = Frontier::new();
    for hash in hashes {
        frontier.append(*hash);
    }
    frontier
}

fn bytes(hashes: &[TreeHash]) -> Vec<u8> {
    hashes.iter().flat_map(|hash| hash.0).collect()
}

fn hash_of(bytes: &[u8]) -> Result<TreeHash, Error> {
    TreeHash::from_slice(bytes).map_err(|error| Error::new("UB900", error.to_string()))
}

async fn connect(config: &Config) -> Result<Client, Error> {
    let (client, driver) = config.connect(NoTls).await?;
    tokio::spawn(driver);
    Ok(client)
}

async fn new_log(client: &Client, ledger_id: u32) -> Result<i32, Error> {
    let id = i32::try_from(ledger_id).map_err(|_| Error::new("UB401", "there is no such ledger"))?;
    client
        .execute("insert into base.ledgers (ledger_id, name, origin) values ($1::integer, 'bench', 'bench/' || $1::integer)", &[&id])
        .await?;
    client.execute("insert into receipts.logs (ledger_id, root) values ($1, sha256(''))", &[&id]).await?;
    Ok(id)
}
