//! Which ids a run has given out, written down before they are used.
//!
//! An RFQ's id is a UUIDv7 near ledger time, so it cannot be known before its time has come; and after a crash the same
//! order must be found again under the same id, or it might be bought twice. So the journal holds, fsynced, the time that
//! the ids of a range of orders were made at; everything else in them is derived from the run.

use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::ops::RangeInclusive;
use std::path::Path;

use proto::ids::RfqId;
use serde::{Deserialize, Serialize};

use crate::cli::failure::{Failure, Outcome};
use crate::cli::files;

/// The house takes ids within 24 h of ledger time. Half of it is left for what goes slowly.
const FRESH_MS: u64 = 12 * 3_600_000;

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Issue {
    first: usize,
    last: usize,
    /// Unix milliseconds of ledger time.
    at_ms: u64,
}

/// The journal of one run. Appended to by one process at a time (the demo's own lock sees to that).
#[derive(Debug)]
pub(crate) struct Journal {
    file: File,
    issues: Vec<Issue>,
    run_id: String,
}

impl Journal {
    /// Opens or begins the journal of `run_id` in a data dir.
    pub(crate) fn open(data_dir: &Path, run_id: &str) -> Outcome<Self> {
        let path = data_dir.join("demo").join("ids.jsonl");
        let mut issues = Vec::new();
        let mut whole = 0;
        for line in files::read_if_there(&path)?.unwrap_or_default().split_inclusive(|byte| *byte == b'\n') {
            // A line without its end was being written when the process died: nothing was sent under it.
            if !line.ends_with(b"\n") {
                break;
            }
            issues.push(serde_json::from_slice(line).map_err(|error| {
                Failure::outside(format!("{}, line {}: {error}", path.display(), issues.len() + 1))
            })?);
            whole += line.len() as u64;
        }
        let open = || {
            let file = OpenOptions::new().create(true).truncate(false).read(true).write(true).open(&path)?;
            file.set_len(whole)?;
            Ok(file)
        };
        let mut file = open().map_err(Failure::io("cannot open", &path))?;
        std::io::Seek::seek(&mut file, std::io::SeekFrom::End(0))
            .map_err(Failure::io("cannot read", &path))?;
        files::sync_parent(&path)?;
        Ok(Self { file, issues, run_id: run_id.to_owned() })
    }

    /// Makes sure that `orders` have ids that the house would still take at `now_ms`: those without any, or with none
    /// that is fresh, get new ones.
    pub(crate) fn issue(&mut self, orders: RangeInclusive<usize>, now_ms: u64) -> Outcome {
        let mut stale = orders.filter(|order| self.fresh(*order, now_ms).is_none()).peekable();
        let mut lines = Vec::new();
        while let Some(first) = stale.next() {
            let mut last = first;
            while stale.next_if(|next| *next == last + 1).is_some() {
                last += 1;
            }
            lines.push(Issue { first, last, at_ms: now_ms });
        }
        if lines.is_empty() {
            return Ok(());
        }
        let mut text = String::new();
        for line in &lines {
            text.push_str(&serde_json::to_string(line).map_err(Failure::outside)?);
            text.push('\n');
        }
        let write = |file: &mut File| {
            file.write_all(text.as_bytes())?;
            file.sync_data()
        };
        write(&mut self.file)
            .map_err(|error| Failure::outside(format!("cannot write the demo's journal: {error}")))?;
        self.issues.extend(lines);
        Ok(())
    }

    /// The time of the newest issue of `order` that the house still takes ids of.
    pub(crate) fn fresh(&self, order: usize, now_ms: u64) -> Option<u64> {
        self.times(order).next().filter(|at_ms| at_ms.abs_diff(now_ms) < FRESH_MS)
    }

    /// Every time that ids of `order` were made at, the newest first.
    pub(crate) fn times(&self, order: usize) -> impl Iterator<Item = u64> {
        self.issues
            .iter()
            .rev()
            .filter(move |issue| (issue.first..=issue.last).contains(&order))
            .map(|issue| issue.at_ms)
    }

    /// The id of try number `attempt` for `order`, from an issue at `at_ms`.
    pub(crate) fn rfq_id(&self, order: usize, attempt: u32, at_ms: u64) -> RfqId {
        let mut hasher = blake3::Hasher::new_derive_key("openagents econ demo v1 rfq id");
        hasher.update(self.run_id.as_bytes());
        hasher.update(&(order as u64).to_le_bytes());
        hasher.update(&attempt.to_le_bytes());
        let mut random = [0; 10];
        hasher.finalize_xof().fill(&mut random);
        RfqId::v7_at(at_ms, random)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_795_000_000_000;

    fn open(dir: &Path) -> Journal {
        std::fs::create_dir_all(dir.join("demo")).unwrap();
        Journal::open(dir, "00").unwrap()
    }

    #[test]
    fn ids_survive_a_restart_and_differ_between_orders_and_tries() {
        let dir = tempfile::tempdir().unwrap();
        let mut journal = open(dir.path());
        journal.issue(0..=9, NOW).unwrap();
        let at = journal.fresh(3, NOW).unwrap();
        let id = journal.rfq_id(3, 0, at);
        assert_eq!(id.unix_ms(), Some(NOW));
        drop(journal);
        let mut journal = open(dir.path());
        // Asking again later issues nothing new.
        journal.issue(0..=9, NOW + 60_000).unwrap();
        assert_eq!(journal.times(3).collect::<Vec<_>>(), [NOW]);
        assert_eq!(journal.rfq_id(3, 0, NOW), id);
        assert_ne!(journal.rfq_id(4, 0, NOW), id);
        assert_ne!(journal.rfq_id(3, 1, NOW), id);
    }

    #[test]
    fn an_id_that_grew_old_is_replaced_and_still_known() {
        let dir = tempfile::tempdir().unwrap();
        let mut journal = open(dir.path());
        journal.issue(0..=4, NOW).unwrap();
        let later = NOW + 2 * FRESH_MS;
        journal.issue(3..=7, later).unwrap();
        assert_eq!(journal.times(3).collect::<Vec<_>>(), [later, NOW]);
        assert_eq!(journal.times(7).collect::<Vec<_>>(), [later]);
        assert_eq!(journal.times(0).collect::<Vec<_>>(), [NOW]);
    }

    #[test]
    fn a_line_torn_by_a_crash_is_cut_off() {
        let dir = tempfile::tempdir().unwrap();
        let mut journal = open(dir.path());
        journal.issue(0..=1, NOW).unwrap();
        drop(journal);
        let path = dir.path().join("demo/ids.jsonl");
        let mut torn = std::fs::read(&path).unwrap();
        torn.extend_from_slice(b"{\"first\":2,\"la");
        std::fs::write(&path, torn).unwrap();
        let mut journal = open(dir.path());
        assert_eq!(journal.times(2).count(), 0);
        journal.issue(2..=2, NOW).unwrap();
        drop(journal);
        let journal = open(dir.path());
        assert_eq!((journal.times(0).count(), journal.times(2).count()), (1, 1));
    }
}
