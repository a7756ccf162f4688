//! The attempt's metering rows: chained by hash, each run under the provider's signature.

use std::collections::HashMap;

use prost::Message as _;

use super::order::Order;
use super::{Item, Judgement};
use crate::dsse;
use crate::ids::{AttemptId, Hash32, KeyId, RunTicketId};
use crate::keys::PublicKey;
use crate::v1::command_body::Kind;
use crate::v1::{Envelope, EvidenceBundle, MeteringHead, MeteringRow, MeteringRun};

/// What the rows that are proven say.
#[derive(Debug, Clone, Default)]
pub(super) struct Units {
    /// `work_units` of each proven row; the counters are cumulative.
    pub(super) counters: Vec<u64>,
}

/// Checks every run of the bundle and of its commands against the order.
pub(super) fn check(
    bundle: &EvidenceBundle,
    order: &Order<'_>,
    items: &[Item<'_>],
    keys: &HashMap<KeyId, PublicKey>,
    judgement: &mut Judgement,
) -> Units {
    let mut rows: HashMap<Hash32, MeteringRow> = HashMap::new();
    let mut in_order: Vec<(Hash32, u32)> = Vec::new();
    for bytes in bundle.metering.iter().flat_map(|run| &run.rows) {
        match MeteringRow::decode(bytes.as_slice()) {
            Ok(row) => {
                judgement.count("bundle.metering");
                if let Some(message) = foreign(&row, order) {
                    judgement.note("bundle.metering", format!("row {}", row.seq), message);
                }
                in_order.push((Hash32::of(bytes), row.seq));
                rows.insert(Hash32::of(bytes), row);
            }
            Err(error) => judgement.note("bundle.metering", "a row", format!("it is damaged: {error}")),
        }
    }
    let mut proven: HashMap<Hash32, u64> = HashMap::new();
    for run in &bundle.metering {
        head(run, order, keys, &rows, &mut proven, judgement);
    }
    for (hash, seq) in in_order {
        if !proven.contains_key(&hash) {
            let message =
                "no signature of the provider covers it: it was changed, or its run's head is missing";
            judgement.note("bundle.metering", format!("row {seq}"), message);
        }
    }
    let in_commands =
        items.iter().filter(|item| item.is_ok() && item.sealed).filter_map(|item| match &item.body.kind {
            Some(Kind::RecordMetering(metering)) => Some(metering),
            _ => None,
        });
    for bytes in in_commands.flat_map(|metering| &metering.runs).flat_map(|run| &run.rows) {
        if !rows.contains_key(&Hash32::of(bytes)) {
            judgement.note(
                "bundle.metering",
                "the bundle",
                "a row that the provider sent is missing from it",
            );
        }
    }
    Units { counters: proven.into_values().collect() }
}

/// Why a row is not one of this order.
fn foreign(row: &MeteringRow, order: &Order<'_>) -> Option<&'static str> {
    let ticket = RunTicketId::from_slice(&row.run_ticket_id).map(|id| id.to_string());
    let attempt = AttemptId::from_slice(&row.attempt_id).map(|id| id.to_string());
    if ticket.ok().as_deref() != Some(order.run_ticket_id.as_str()) {
        Some("it is of another run ticket")
    } else if attempt.ok().as_ref() != order.attempt_id.as_ref() {
        Some("it is of another attempt")
    } else {
        None
    }
}

/// Verifies a run's head and marks the rows that it covers, from its last one backwards along the chain.
fn head(
    run: &MeteringRun,
    order: &Order<'_>,
    keys: &HashMap<KeyId, PublicKey>,
    rows: &HashMap<Hash32, MeteringRow>,
    proven: &mut HashMap<Hash32, u64>,
    judgement: &mut Judgement,
) {
    if run.head_envelope.is_empty() {
        return;
    }
    let provider = |id: &KeyId| {
        let is_providers = order.provider_key.is_some_and(|key| key.as_ref() == id.as_ref());
        is_providers.then(|| keys.get(id).copied())?
    };
    let head = Envelope::decode(run.head_envelope.as_slice()).map_err(|error| error.to_string()).and_then(
        |envelope| dsse::verify_message::<MeteringHead>(&envelope, provider).map_err(|e| e.to_string()),
    );
    let head = match head {
        Ok((head, _)) => head,
        Err(message) => return judgement.note("bundle.metering", "a run's head", message),
    };
    let mut at = Hash32::from_slice(&head.last_row_hash).ok();
    let mut expected = head.last_seq;
    while let Some(hash) = at
        && let Some(row) = rows.get(&hash)
        && row.seq == expected
        && (row.run_ticket_id.as_slice(), row.attempt_id.as_slice())
            == (head.run_ticket_id.as_slice(), head.attempt_id.as_slice())
        && proven.insert(hash, row.work_units).is_none()
    {
        let Some(before) = expected.checked_sub(1) else { return };
        expected = before;
        at = Hash32::from_slice(&row.prev_hash).ok();
    }
}
