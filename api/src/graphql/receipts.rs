//! Receipts and the log they are in.

use async_graphql::{Context, Object, Result, SimpleObject};
use ledger::receipts;

use super::scalars::{Count, Hex32, Id};
use super::{actor, failed, state};

/// A receipt as it is stored.
#[derive(Debug, SimpleObject)]
pub struct Receipt {
    /// Its command's seq; its leaf in the log is one less.
    seq: Count,
    /// BLAKE3 of the payload's bytes.
    receipt_id: Hex32,
    /// What it is about.
    subject_id: Id,
    /// The previous receipt of the same subject.
    prev: Option<Hex32>,
    /// Exact bytes of the DSSE envelope, hex; they are also the log's leaf.
    envelope: String,
}

/// The newest signed checkpoint of a ledger's log.
#[derive(Debug, SimpleObject)]
pub struct Checkpoint {
    /// Leaves.
    size: Count,
    /// RFC 6962 root over them.
    root: Hex32,
    /// The C2SP signed note.
    note: String,
}

/// Reads about receipts.
#[derive(Debug, Default)]
pub struct ReceiptQuery;

#[Object]
impl ReceiptQuery {
    /// The receipt of a seq, for the command's sender, whoever was told of it, the operator and the verifier.
    async fn receipt(
        &self,
        ctx: &Context<'_>,
        #[graphql(default = 1)] ledger_id: u32,
        seq: Count,
    ) -> Result<Option<Receipt>> {
        let found = receipts::read_receipt(&state(ctx)?.reader, Some(actor(ctx)?), ledger_id, seq.0).await;
        Ok(found.map_err(failed)?.map(|receipt| Receipt {
            seq: Count(receipt.seq),
            receipt_id: Hex32(*receipt.receipt_id.as_bytes()),
            subject_id: receipt.subject_id.into(),
            prev: receipt.prev.map(|prev| Hex32(*prev.as_bytes())),
            envelope: hex::encode(receipt.envelope),
        }))
    }

    /// The newest signed checkpoint; null: none yet.
    async fn checkpoint(
        &self,
        ctx: &Context<'_>,
        #[graphql(default = 1)] ledger_id: u32,
    ) -> Result<Option<Checkpoint>> {
        let found = receipts::read_checkpoint(&state(ctx)?.reader, ledger_id).await;
        Ok(found.map_err(failed)?.map(|checkpoint| Checkpoint {
            size: Count(checkpoint.head.size),
            root: Hex32(checkpoint.head.root),
            note: checkpoint.note,
        }))
    }
}
