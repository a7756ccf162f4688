//! Metering: the hash-chained, signed account that an attempt keeps of itself.
//!
//! A row holds cumulative counters at one moment, names its predecessor by hash, and is kept as the exact
//! bytes it was hashed as. One signature, over the hash of the last row, covers the whole run of rows that
//! is posted at once. So a lost row heals (counters are cumulative), a changed or reordered row is seen, and
//! a long attempt costs one signature per post rather than one per row.

use std::sync::OnceLock;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use proto::dsse;
use proto::ids::{AttemptId, RunTicketId};
use proto::keys::KeyPair;
use proto::prost::Message;
use proto::v1::{MeteringHead, MeteringRow, MeteringRun};

use crate::executor::Progress;

/// A moment on both of the agent's clocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment {
    /// Monotonic nanoseconds since this process first asked; comparable only under one boot id.
    pub mono_ns: u64,
    /// Unix microseconds by the host's clock, for people; neither order nor billing rests on it.
    pub wall_us: i64,
}

impl Moment {
    /// Now.
    pub fn now() -> Self {
        static START: OnceLock<Instant> = OnceLock::new();
        let mono = START.get_or_init(Instant::now).elapsed().as_nanos();
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_micros();
        Self {
            mono_ns: u64::try_from(mono).unwrap_or(u64::MAX),
            wall_us: i64::try_from(wall).unwrap_or(i64::MAX),
        }
    }
}

/// What stays the same over all rows of an attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attempt {
    /// The ticket it runs under.
    pub run_ticket_id: RunTicketId,
    /// Its own id.
    pub attempt_id: AttemptId,
    /// BLAKE3 of the input artifact.
    pub job_hash: [u8; 32],
    /// `cpu`, or the GPU's product name.
    pub device_kind: String,
    /// The run of the process whose monotonic clock the rows use.
    pub boot_id: [u8; 16],
}

/// The chain of one attempt: rows go in with [`Chain::add`], signed runs of them come out.
#[derive(Debug)]
pub struct Chain {
    attempt: Attempt,
    /// Where the next row's interval begins.
    since: Moment,
    next_seq: u32,
    last_hash: [u8; 32],
    /// Rows not yet taken.
    rows: Vec<Vec<u8>>,
}

impl Chain {
    /// An empty chain whose first interval begins at `start`.
    pub const fn new(attempt: Attempt, start: Moment) -> Self {
        Self { attempt, since: start, next_seq: 0, last_hash: [0; 32], rows: Vec::new() }
    }

    /// Goes on with the chain of an earlier life of this process, after its row `next_seq - 1`, whose hash is
    /// `last_hash`.
    pub const fn resume(attempt: Attempt, start: Moment, next_seq: u32, last_hash: [u8; 32]) -> Self {
        Self { attempt, since: start, next_seq, last_hash, rows: Vec::new() }
    }

    /// The number of the next row and the hash of the last: what [`Chain::resume`] needs.
    pub const fn position(&self) -> (u32, [u8; 32]) {
        (self.next_seq, self.last_hash)
    }

    /// Adds a row: the counters `usage` as they stood at `now`, and on the last row the hash of the output.
    pub fn add(&mut self, usage: &Progress, now: Moment, output_hash: Option<[u8; 32]>) {
        let row = MeteringRow {
            run_ticket_id: self.attempt.run_ticket_id.to_bytes().to_vec(),
            attempt_id: self.attempt.attempt_id.to_bytes().to_vec(),
            seq: self.next_seq,
            prev_hash: self.last_hash.to_vec(),
            boot_id: self.attempt.boot_id.to_vec(),
            mono_start_ns: self.since.mono_ns,
            mono_end_ns: now.mono_ns,
            wall_time_us: now.wall_us,
            device_kind: self.attempt.device_kind.clone(),
            gpu_uuid: String::new(),
            kernel_ns: usage.kernel_ns,
            wall_ns: usage.wall_ns,
            bytes_in: usage.bytes_in,
            bytes_out: usage.bytes_out,
            peak_vram_bytes: usage.peak_vram_bytes,
            // A CPU's share of the package's energy is not knowable from here: 0 says "cannot say".
            energy_mj: 0,
            work_units: usage.work_units_done,
            job_hash: self.attempt.job_hash.to_vec(),
            output_hash: output_hash.map(|hash| hash.to_vec()).unwrap_or_default(),
            // C0, self-reported: nothing outside this process has measured these numbers.
            attestation_level: 0,
        };
        let bytes = row.encode_to_vec();
        self.last_hash = *blake3::hash(&bytes).as_bytes();
        self.rows.push(bytes);
        self.next_seq += 1;
        self.since = now;
    }

    /// Rows added and not yet taken.
    pub const fn pending(&self) -> usize {
        self.rows.len()
    }

    /// Takes the rows added since the last call as one run, signed by `key`; None when there are none.
    pub fn take_run(&mut self, key: &KeyPair) -> Option<MeteringRun> {
        let last_seq = self.next_seq.checked_sub(1)?;
        if self.rows.is_empty() {
            return None;
        }
        let head = MeteringHead {
            run_ticket_id: self.attempt.run_ticket_id.to_bytes().to_vec(),
            attempt_id: self.attempt.attempt_id.to_bytes().to_vec(),
            last_seq,
            last_row_hash: self.last_hash.to_vec(),
        };
        let head_envelope = dsse::sign_message(&head, key).encode_to_vec();
        Some(MeteringRun { rows: std::mem::take(&mut self.rows), head_envelope })
    }
}

#[cfg(test)]
mod tests {
    use proto::v1::Envelope;

    use super::*;

    fn attempt() -> Attempt {
        Attempt {
            run_ticket_id: RunTicketId::v7_at(1, [1; 10]),
            attempt_id: AttemptId::v7_at(2, [2; 10]),
            job_hash: [3; 32],
            device_kind: "cpu".to_owned(),
            boot_id: [4; 16],
        }
    }

    const fn at(n: u64) -> Moment {
        Moment { mono_ns: n * 1000, wall_us: 1_700_000_000_000_000 }
    }

    fn usage(n: u64) -> Progress {
        Progress { work_units_done: n, kernel_ns: n * 900, wall_ns: n * 1000, ..Progress::default() }
    }

    #[test]
    fn rows_link_each_to_the_one_before_across_runs() {
        let key = KeyPair::from_seed(&[5; 32]);
        let mut chain = Chain::new(attempt(), at(0));
        assert!(chain.take_run(&key).is_none());
        chain.add(&usage(1), at(1), None);
        chain.add(&usage(2), at(2), None);
        assert_eq!(chain.pending(), 2);
        let first = chain.take_run(&key).unwrap();
        assert!(chain.take_run(&key).is_none());
        chain.add(&usage(3), at(3), Some([6; 32]));
        let second = chain.take_run(&key).unwrap();

        let mut previous = [0; 32];
        for (seq, bytes) in first.rows.iter().chain(&second.rows).enumerate() {
            let row = MeteringRow::decode(bytes.as_slice()).unwrap();
            assert_eq!(row.seq as usize, seq);
            assert_eq!(row.prev_hash, previous);
            assert_eq!(row.work_units, seq as u64 + 1);
            assert_eq!((row.mono_start_ns, row.mono_end_ns), (seq as u64 * 1000, seq as u64 * 1000 + 1000));
            assert_eq!(row.output_hash.len(), if seq == 2 { 32 } else { 0 });
            previous = *blake3::hash(bytes).as_bytes();
        }
        assert_eq!((first.rows.len(), second.rows.len()), (2, 1));

        for (run, last_seq) in [(&first, 1), (&second, 2)] {
            let envelope = Envelope::decode(run.head_envelope.as_slice()).unwrap();
            let (head, signer): (MeteringHead, _) =
                dsse::verify_message(&envelope, |id| (*id == key.id()).then(|| *key.public())).unwrap();
            assert_eq!(signer, key.id());
            assert_eq!(head.last_seq, last_seq);
            assert_eq!(head.last_row_hash, blake3::hash(run.rows.last().unwrap()).as_bytes());
        }
    }

    #[test]
    fn the_monotonic_clock_never_falls() {
        let moments: Vec<_> = (0..100).map(|_| Moment::now().mono_ns).collect();
        assert!(moments.is_sorted());
    }
}
