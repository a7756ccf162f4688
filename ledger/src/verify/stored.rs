//! One stored command with its receipt, and what its signed bytes say. Shared by verification and replay.

use std::collections::HashMap;

use proto::ids::{KeyId, ReceiptId};
use proto::keys::PublicKey;
use proto::prost::Message as _;
use proto::{command, v1};
use tokio_postgres::{Client, Row};

use crate::args;
use crate::error::Error;
use crate::pipeline::entry::{Entry, us_of_time};

/// Turns the signed JSON of a GraphQL request into the ledger and exact command bytes it stands for.
pub type Rederive = dyn Fn(&[u8]) -> Result<(u32, Vec<u8>), String> + Send + Sync;

/// Public keys by id, each checked against its id.
pub(crate) type Keys = HashMap<KeyId, PublicKey>;

/// A row of the command log beside its receipt.
pub(crate) struct Stored {
    pub(crate) seq: i64,
    pub(crate) entry: Entry,
    pub(crate) code: String,
    pub(crate) subject_kind: String,
    pub(crate) subject_id: uuid::Uuid,
    pub(crate) facts: String,
    pub(crate) at_us: i64,
    pub(crate) rules_version: i32,
    pub(crate) receipt: Option<StoredReceipt>,
}

/// The receipt as it is stored.
pub(crate) struct StoredReceipt {
    pub(crate) receipt_id: Vec<u8>,
    pub(crate) subject_id: uuid::Uuid,
    pub(crate) prev: Option<Vec<u8>>,
    pub(crate) envelope: Vec<u8>,
}

/// Reads the log from `after` on, at most `limit` commands.
pub(crate) async fn read(
    client: &Client,
    ledger_id: i32,
    after: i64,
    limit: i64,
) -> Result<Vec<Stored>, tokio_postgres::Error> {
    let rows = client
        .query(
            "select c.seq, c.command_id, c.actor_id, c.key_id, c.idempotency_key, c.nonce, c.kind, c.request_digest, c.body, \
             c.signature_base, c.signature, c.content_type, c.signed_body, c.accepted_at, c.simulated, c.recorded::text, \
             c.forced_code, c.code, c.subject_kind, c.subject_id, c.facts, c.at, c.rules_version, \
             r.receipt_id, r.subject_id, r.prev, r.envelope \
             from base.commands c left join receipts.receipts r on r.ledger_id = c.ledger_id and r.seq = c.seq \
             where c.ledger_id = $1 and c.seq > $2 order by c.seq limit $3",
            &[&ledger_id, &after, &limit],
        )
        .await?;
    rows.iter().map(of_row).collect()
}

fn of_row(row: &Row) -> Result<Stored, tokio_postgres::Error> {
    let receipt_id: Option<Vec<u8>> = row.try_get(23)?;
    let receipt = match receipt_id {
        Some(receipt_id) => Some(StoredReceipt {
            receipt_id,
            subject_id: row.try_get(24)?,
            prev: row.try_get(25)?,
            envelope: row.try_get(26)?,
        }),
        None => None,
    };
    Ok(Stored {
        seq: row.try_get(0)?,
        entry: Entry {
            command_id: row.try_get(1)?,
            actor_id: row.try_get(2)?,
            key_id: row.try_get(3)?,
            idempotency_key: row.try_get(4)?,
            nonce: row.try_get(5)?,
            kind: row.try_get(6)?,
            args: String::new(),
            request_digest: row.try_get(7)?,
            body: row.try_get(8)?,
            signature_base: row.try_get(9)?,
            signature: row.try_get(10)?,
            content_type: row.try_get(11)?,
            signed_body: row.try_get(12)?,
            accepted_at_us: us_of_time(row.try_get(13)?),
            simulated: row.try_get(14)?,
            recorded: row.try_get(15)?,
            forced_code: row.try_get(16)?,
        },
        code: row.try_get(17)?,
        subject_kind: row.try_get(18)?,
        subject_id: row.try_get(19)?,
        facts: row.try_get(20)?,
        at_us: us_of_time(row.try_get(21)?),
        rules_version: row.try_get(22)?,
        receipt,
    })
}

/// The command as a log file holds it. `None`: it has no receipt.
pub(crate) fn to_log_entry(stored: &Stored) -> Option<v1::LogEntry> {
    let entry = &stored.entry;
    Some(v1::LogEntry {
        envelope: stored.receipt.as_ref()?.envelope.clone(),
        body: entry.body.clone(),
        signature_base: entry.signature_base.clone(),
        signature: entry.signature.clone(),
        content_type: entry.content_type.clone(),
        signed_body: entry.signed_body.clone(),
        recorded: entry.recorded.clone(),
        forced_code: entry.forced_code.clone(),
    })
}

/// And back: whatever the receipt states is taken from there. Says what cannot be read.
pub(crate) fn of_log_entry(entry: v1::LogEntry) -> Result<(u32, Stored), String> {
    let envelope = v1::Envelope::decode(entry.envelope.as_slice()).map_err(|e| e.to_string())?;
    let receipt = v1::Receipt::decode(envelope.payload.as_slice()).map_err(|e| e.to_string())?;
    let id = |name: &str, bytes: &[u8]| {
        uuid::Uuid::from_slice(bytes).map_err(|_| format!("its receipt's {name} is no id"))
    };
    let subject_id = id("subject_id", &receipt.subject_id)?;
    let ledger_id = receipt.ledger_id;
    let stored = Stored {
        seq: i64::try_from(receipt.seq).map_err(|e| e.to_string())?,
        entry: Entry {
            command_id: id("command_id", &receipt.command_id)?,
            actor_id: id("actor_id", &receipt.actor_id)?,
            key_id: receipt.key_id,
            idempotency_key: None,
            nonce: None,
            kind: receipt.kind,
            args: String::new(),
            request_digest: receipt.request_digest,
            body: entry.body,
            signature_base: entry.signature_base,
            signature: entry.signature,
            content_type: entry.content_type,
            signed_body: entry.signed_body,
            accepted_at_us: receipt.accepted_at_us,
            simulated: receipt.simulated,
            recorded: entry.recorded,
            forced_code: entry.forced_code,
        },
        code: receipt.code,
        subject_kind: receipt.subject_kind,
        subject_id,
        facts: receipt.facts_json,
        at_us: receipt.ledger_time_us,
        rules_version: i32::try_from(receipt.rules_version).map_err(|e| e.to_string())?,
        receipt: Some(StoredReceipt {
            receipt_id: ReceiptId::of(&envelope.payload).into(),
            subject_id,
            prev: (!receipt.prev.is_empty()).then_some(receipt.prev),
            envelope: entry.envelope,
        }),
    };
    Ok((ledger_id, stored))
}

/// The first column in which a command of the database is not what its receipt states; its signed bytes hold the rest.
pub(crate) fn disagreement(here: &Stored, stated: &Stored) -> Option<&'static str> {
    macro_rules! compare {
        ($($($field:ident).+),*) => {$(
            if here.$($field).+ != stated.$($field).+ {
                return Some(concat!($(stringify!($field), " "),+).trim_start_matches("entry ").trim_end());
            }
        )*};
    }
    compare!(
        seq,
        entry.command_id,
        entry.actor_id,
        entry.key_id,
        entry.kind,
        entry.request_digest,
        entry.accepted_at_us,
        entry.simulated,
        code,
        subject_kind,
        subject_id,
        facts,
        at_us,
        rules_version
    );
    let (one, other) = (here.receipt.as_ref()?, stated.receipt.as_ref()?);
    if one.receipt_id != other.receipt_id {
        return Some("receipt_id");
    }
    if one.subject_id != other.subject_id || one.prev != other.prev {
        return Some("prev");
    }
    None
}

/// Every public key that was ever registered. A key whose id is not its hash is left out, and so verifies nothing.
pub(crate) async fn read_keys(client: &Client) -> Result<Keys, tokio_postgres::Error> {
    let rows = client.query("select key_id, public_key from identity.keys", &[]).await?;
    let mut keys = Keys::new();
    for row in &rows {
        let (key_id, public): (Vec<u8>, Vec<u8>) = (row.try_get(0)?, row.try_get(1)?);
        if let (Ok(key_id), Ok(public)) = (KeyId::from_slice(&key_id), PublicKey::from_slice(&public))
            && public.id() == key_id
        {
            keys.insert(key_id, public);
        }
    }
    Ok(keys)
}

/// What the signed bytes of a command say, once they are proven: what replay feeds to `base.decide` instead of the columns.
pub(crate) struct Signed {
    pub(crate) idempotency_key: String,
    pub(crate) nonce: Option<String>,
    pub(crate) signer: PublicKey,
}

/// Checks the sender's signature and that the signed bytes name exactly this command; says what is wrong otherwise.
pub(crate) fn check_signed(
    stored: &Stored,
    ledger_id: u32,
    keys: &Keys,
    rederive: &Rederive,
) -> Result<Signed, String> {
    let entry = &stored.entry;
    let key_id = KeyId::from_slice(&entry.key_id).map_err(|e| e.to_string())?;
    let signer =
        *keys.get(&key_id).or(registered_key(entry, &key_id).as_ref()).ok_or("its key is not registered")?;
    let signed = command::check_signed(&signed_command(entry), ledger_id, &signer, Some(rederive))?;
    if signed.actor_id.is_some_and(|actor_id| actor_id != entry.actor_id.as_bytes()) {
        return Err("the command that was executed is not the one that was signed".into());
    }
    if signed.request_digest.as_ref() != entry.request_digest.as_slice() {
        return Err("its request digest is not that of its signed bytes".into());
    }
    Ok(Signed { idempotency_key: signed.idempotency_key, nonce: signed.nonce, signer })
}

/// What of a command its sender signed.
pub(crate) fn signed_command(entry: &Entry) -> v1::SignedCommand {
    v1::SignedCommand {
        command_id: entry.command_id.as_bytes().to_vec(),
        signature_base: entry.signature_base.clone(),
        signature: entry.signature.clone(),
        key_id: entry.key_id.clone(),
        body: entry.signed_body.clone().unwrap_or_default(),
        content_type: entry.content_type.clone(),
        command_body: entry.body.clone(),
        recorded_json: String::new(),
    }
}

/// A refused registration names a key that no table holds; the body brings it along.
fn registered_key(entry: &Entry, key_id: &KeyId) -> Option<PublicKey> {
    let body = v1::CommandBody::decode(entry.body.as_slice()).ok()?;
    command::registered_key(&body, key_id)
}

/// The entry as it first went into `base.decide`: columns that a refusal blanked come from the signed bytes again.
pub(crate) fn replayable(stored: &Stored, signed: &Signed) -> Result<Entry, Error> {
    let body = v1::CommandBody::decode(stored.entry.body.as_slice())
        .map_err(|_| Error::new("UB103", "the stored body is not a CommandBody"))?;
    let (kind, args) = args::of_body(&body, &signed.signer)?;
    let mut entry = stored.entry.clone();
    entry.kind = kind.to_owned();
    entry.args = args.to_string();
    entry.idempotency_key = Some(signed.idempotency_key.clone());
    entry.nonce = signed.nonce.clone();
    Ok(entry)
}
