//! Metering rows of an order.

use async_graphql::{Context, Object, Result, SimpleObject};
use ledger::metering;
use proto::ids::OrderId;

use super::scalars::{Count, Hex32, Id, Micros};
use super::{PAGE_DEFAULT, actor, failed, page_size, state};

/// An accepted metering row. Counters are cumulative per attempt.
#[derive(Debug, SimpleObject)]
pub struct MeteringRow {
    /// The execution.
    attempt_id: Id,
    /// Its ticket.
    run_ticket_id: Id,
    /// Place in the chain, from 0.
    row_seq: i32,
    /// Hash of the row before; zeros for the first.
    prev_hash: Hex32,
    /// BLAKE3 of payload.
    row_hash: Hex32,
    /// Device work, nanoseconds.
    kernel_ns: Count,
    /// By the agent's monotonic clock, nanoseconds.
    wall_ns: Count,
    /// Read.
    bytes_in: Count,
    /// Written.
    bytes_out: Count,
    /// Largest device memory in use, bytes.
    peak_vram_bytes: Count,
    /// Millijoules; 0 where the device cannot say.
    energy_mj: Count,
    /// Done so far.
    work_units: Count,
    /// 0 self-reported, 1 metered, 2 hardware, 3 proven.
    attestation_level: i32,
    /// The exact signed MeteringRow, hex.
    payload: String,
    /// The DSSE envelope over the run that this row ended, hex.
    head_envelope: Option<String>,
    /// Ledger time, Unix microseconds.
    received_at_us: Micros,
}

/// Reads about metering.
#[derive(Debug, Default)]
pub struct MeteringQuery;

#[Object]
impl MeteringQuery {
    /// Accepted rows of an order after a row's number, in order; for its buyer, its provider and verifiers.
    #[graphql(complexity = "first.unwrap_or(PAGE_DEFAULT) as usize * child_complexity + 1")]
    async fn metering_rows(
        &self,
        ctx: &Context<'_>,
        #[graphql(default = 1)] ledger_id: u32,
        order_id: Id,
        first: Option<u32>,
        after_row_seq: Option<i32>,
    ) -> Result<Vec<MeteringRow>> {
        let rows = page_size(first)?;
        let order_id = OrderId::from_uuid(order_id.0);
        let actor = Some(actor(ctx)?);
        let found =
            metering::read_rows(&state(ctx)?.reader, actor, ledger_id, order_id, after_row_seq, rows).await;
        Ok(found.map_err(failed)?.into_iter().map(MeteringRow::from).collect())
    }
}

impl From<metering::MeteringRow> for MeteringRow {
    fn from(row: metering::MeteringRow) -> Self {
        Self {
            attempt_id: row.attempt_id.into(),
            run_ticket_id: row.run_ticket_id.into(),
            row_seq: row.row_seq,
            prev_hash: Hex32(*row.prev_hash.as_bytes()),
            row_hash: Hex32(*row.row_hash.as_bytes()),
            kernel_ns: Count(row.kernel_ns),
            wall_ns: Count(row.wall_ns),
            bytes_in: Count(row.bytes_in),
            bytes_out: Count(row.bytes_out),
            peak_vram_bytes: Count(row.peak_vram_bytes),
            energy_mj: Count(row.energy_mj),
            work_units: Count(row.work_units),
            attestation_level: row.attestation_level.into(),
            payload: hex::encode(row.payload),
            head_envelope: row.head_envelope.map(hex::encode),
            received_at_us: Micros(row.received_at_us),
        }
    }
}
