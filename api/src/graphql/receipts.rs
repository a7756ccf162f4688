//! Receipts and the log they are in.

use async_graphql::connection::{Connection, Edge};
use async_graphql::{Context, Enum, InputObject, Object, Result, SimpleObject};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use ledger::{evidence, receipts};
use proto::ids::{AgentId, CommandId, JournalId, OrderId};

use super::command::coded;
use super::scalars::{Count, Hex32, Id, Micros};
use super::{PAGE_DEFAULT, actor, failed, page_size, state};
use crate::server::problem::Problem;

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

impl From<receipts::StoredReceipt> for Receipt {
    fn from(receipt: receipts::StoredReceipt) -> Self {
        Self {
            seq: Count(receipt.seq),
            receipt_id: Hex32(*receipt.receipt_id.as_bytes()),
            subject_id: receipt.subject_id.into(),
            prev: receipt.prev.map(|prev| Hex32(*prev.as_bytes())),
            envelope: hex::encode(receipt.envelope),
        }
    }
}

/// Which receipts; what is left out does not matter.
#[derive(Debug, Default, InputObject)]
pub struct ReceiptFilter {
    /// About this: an agent, RFQ, order, payout …
    subject_id: Option<Id>,
    /// Of this agent's commands.
    actor_id: Option<Id>,
    /// Of commands of this kind, such as accept_offer.
    kind: Option<String>,
    /// "ok", or the code of a refusal.
    code: Option<String>,
    /// Not earlier than this.
    since: Option<Micros>,
    /// Earlier than this.
    until: Option<Micros>,
    /// Of commands that posted transfers of this business event.
    journal_id: Option<Id>,
    /// Of this command.
    command_id: Option<Id>,
}

impl From<ReceiptFilter> for receipts::ReceiptFilter {
    fn from(filter: ReceiptFilter) -> Self {
        Self {
            subject_id: filter.subject_id.map(|id| id.0),
            sender_id: filter.actor_id.map(|id| AgentId::from_uuid(id.0)),
            kind: filter.kind,
            code: filter.code,
            since_us: filter.since.map(|at| at.0),
            until_us: filter.until.map(|at| at.0),
            journal_id: filter.journal_id.map(|id| JournalId::from_uuid(id.0)),
            command_id: filter.command_id.map(|id| CommandId::from_uuid(id.0)),
        }
    }
}

/// In which order of the log.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Enum)]
pub enum ReceiptOrder {
    /// By falling seq.
    #[default]
    NewestFirst,
    /// By rising seq.
    OldestFirst,
}

/// Where the list goes on.
#[derive(Debug, SimpleObject)]
pub struct ReceiptsGoOn {
    /// Goes into after; null: that was all. Unlike endCursor it is there for an empty page too: a page looks at a bounded part of
    /// the log, so it may be short, even empty, while there is a next one.
    next: Option<String>,
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
        Ok(found.map_err(failed)?.map(Receipt::from))
    }

    /// The receipts that the signed agent may see: of its own commands, and those it was told of; operators and verifiers see
    /// all. A page may be short, even empty, while hasNextPage is true: go on with next.
    #[graphql(complexity = "first.unwrap_or(PAGE_DEFAULT) as usize * child_complexity + 1")]
    async fn receipts(
        &self,
        ctx: &Context<'_>,
        #[graphql(default = 1)] ledger_id: u32,
        #[graphql(default)] filter: ReceiptFilter,
        #[graphql(default)] order: ReceiptOrder,
        first: Option<u32>,
        after: Option<String>,
    ) -> Result<Connection<String, Receipt, ReceiptsGoOn>> {
        let rows = page_size(first)?;
        let after: Option<u64> = after
            .map(|after| after.parse())
            .transpose()
            .map_err(|_| coded(&Problem::new("UB103", "after is the next of an earlier page, unchanged")))?;
        let order = match order {
            ReceiptOrder::NewestFirst => receipts::ReceiptOrder::NewestFirst,
            ReceiptOrder::OldestFirst => receipts::ReceiptOrder::OldestFirst,
        };
        let reader = &state(ctx)?.reader;
        let found =
            receipts::read_receipts(reader, Some(actor(ctx)?), ledger_id, &filter.into(), order, after, rows)
                .await
                .map_err(failed)?;
        let go_on = ReceiptsGoOn { next: found.next.map(|seq| seq.to_string()) };
        let mut page = Connection::with_additional_fields(after.is_some(), found.next.is_some(), go_on);
        page.edges.extend(found.receipts.into_iter().map(|one| Edge::new(one.seq.to_string(), one.into())));
        Ok(page)
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
