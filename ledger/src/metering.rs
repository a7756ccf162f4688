//! Mirror of the SQL domain `metering`: accepted rows.

use proto::ids::{AgentId, AttemptId, Hash32, OrderId, RunTicketId};
use uuid::Uuid;

use crate::error::Error;
use crate::reader::{Reader, bytes32, count, get, id, int};

/// An accepted metering row. Counters are cumulative per attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MeteringRow {
    /// The execution.
    pub attempt_id: AttemptId,
    /// Its ticket.
    pub run_ticket_id: RunTicketId,
    /// Place in the chain, from 0.
    pub row_seq: i32,
    /// Hash of the row before; zeros for the first.
    pub prev_hash: Hash32,
    /// BLAKE3 of `payload`.
    pub row_hash: Hash32,
    /// Device work, nanoseconds.
    pub kernel_ns: u64,
    /// By the agent's monotonic clock, nanoseconds.
    pub wall_ns: u64,
    /// Read.
    pub bytes_in: u64,
    /// Written.
    pub bytes_out: u64,
    /// Largest device memory in use, bytes.
    pub peak_vram_bytes: u64,
    /// Millijoules; 0 where the device cannot say.
    pub energy_mj: u64,
    /// Done so far.
    pub work_units: u64,
    /// 0 self-reported, 1 metered, 2 hardware, 3 proven.
    pub attestation_level: i16,
    /// The exact signed MeteringRow.
    pub payload: Vec<u8>,
    /// The signature over the run that this row ended.
    pub head_envelope: Option<Vec<u8>>,
    /// Ledger time, Unix microseconds.
    pub received_at_us: i64,
}

/// Accepted rows of an order after a row's number (`None`: from the first), in order; only for its buyer, its provider
/// and verifiers. Calls `metering.read_rows`.
pub async fn read_rows(
    reader: &Reader,
    actor: Option<AgentId>,
    ledger_id: u32,
    order_id: OrderId,
    after: Option<i32>,
    limit: u32,
) -> Result<Vec<MeteringRow>, Error> {
    let sql = "select attempt_id, run_ticket_id, row_seq, prev_hash, row_hash, kernel_ns, wall_ns, bytes_in, bytes_out, \
               peak_vram_bytes, energy_mj, work_units, attestation_level, payload, head_envelope, \
               (extract(epoch from received_at) * 1000000)::bigint as received_at_us \
               from metering.read_rows($1, $2, $3, $4, $5)";
    let actor = actor.map(Uuid::from);
    let rows =
        reader.rows(sql, &[&actor, &int(ledger_id)?, &order_id.as_uuid(), &after, &int(limit)?]).await?;
    rows.iter()
        .map(|row| {
            Ok(MeteringRow {
                attempt_id: id(row, "attempt_id", AttemptId::from_uuid)?,
                run_ticket_id: id(row, "run_ticket_id", RunTicketId::from_uuid)?,
                row_seq: get(row, "row_seq")?,
                prev_hash: Hash32::from_bytes(bytes32(row, "prev_hash")?),
                row_hash: Hash32::from_bytes(bytes32(row, "row_hash")?),
                kernel_ns: count(row, "kernel_ns")?,
                wall_ns: count(row, "wall_ns")?,
                bytes_in: count(row, "bytes_in")?,
                bytes_out: count(row, "bytes_out")?,
                peak_vram_bytes: count(row, "peak_vram_bytes")?,
                energy_mj: count(row, "energy_mj")?,
                work_units: count(row, "work_units")?,
                attestation_level: get(row, "attestation_level")?,
                payload: get(row, "payload")?,
                head_envelope: get(row, "head_envelope")?,
                received_at_us: get(row, "received_at_us")?,
            })
        })
        .collect()
}
