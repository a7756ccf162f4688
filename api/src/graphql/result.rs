//! What a mutation answers.

use async_graphql::{Json, SimpleObject};
use ledger::pipeline::Answer;

use super::scalars::{Count, Hex32, Id, Micros};

/// The outcome of a command, as its receipt states it. A refusal is a GraphQL error with the same facts in `extensions`.
#[derive(Debug, SimpleObject)]
pub struct CommandResult {
    /// The ledger that decided.
    ledger_id: u32,
    /// Gapless per ledger; the receipt's leaf index plus one.
    seq: Count,
    /// The command's id.
    command_id: Id,
    /// "ok".
    code: String,
    /// BLAKE3 of the receipt's payload.
    receipt_id: Hex32,
    /// true: the stored answer of an earlier, identical request.
    replayed: bool,
    /// What it was about: agent, rfq, offer, order, payout or ledger.
    subject_kind: String,
    /// And its id.
    subject_id: Id,
    /// Ledger time, Unix microseconds.
    at_us: Micros,
    /// The facts, as the receipt states them.
    facts: Json<serde_json::Value>,
}

impl CommandResult {
    pub(crate) fn of(answer: &Answer) -> Self {
        Self {
            ledger_id: answer.ledger_id,
            seq: Count(answer.seq),
            command_id: answer.command_id.into(),
            code: answer.code.clone(),
            receipt_id: Hex32(*answer.receipt_id.as_bytes()),
            replayed: answer.replayed,
            subject_kind: answer.subject_kind.clone(),
            subject_id: answer.subject_id.into(),
            at_us: Micros(answer.at_us),
            facts: Json(answer.facts_json()),
        }
    }
}
