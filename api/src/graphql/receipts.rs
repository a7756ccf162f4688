//! Receipts and the log they are in.

use async_graphql::{Context, Object, Result, SimpleObject};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use ledger::{evidence, receipts};
use proto::ids::OrderId;

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

/// Everything needed to judge one order offline.
#[derive(Debug, SimpleObject)]
pub struct EvidenceBundle {
    /// The bundle's file in base64: `econ verify bundle` judges it with neither network nor database.
    file: String,
    /// Commands with their receipts in it.
    items: Count,
    /// Leaves of the log that its proofs lead to.
    checkpoint_size: Count,
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

    /// An order's evidence, for its buyer, its provider, the operator and verifiers; null for anybody else. `GET
    /// /v1/orders/{order_id}/evidence` gives the file itself.
    #[graphql(complexity = "50 + child_complexity")]
    async fn evidence_bundle(
        &self,
        ctx: &Context<'_>,
        #[graphql(default = 1)] ledger_id: u32,
        order_id: Id,
    ) -> Result<Option<EvidenceBundle>> {
        let order_id = OrderId::from_uuid(order_id.0);
        let found = evidence::read_bundle(&state(ctx)?.reader, Some(actor(ctx)?), ledger_id, order_id).await;
        Ok(found.map_err(failed)?.map(|bundle| EvidenceBundle {
            items: Count(bundle.items.len() as u64),
            checkpoint_size: Count(
                bundle
                    .items
                    .first()
                    .and_then(|item| item.inclusion.as_ref())
                    .map_or(0, |proof| proof.tree_size),
            ),
            file: BASE64.encode(proto::evidence::to_bytes(&bundle)),
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
