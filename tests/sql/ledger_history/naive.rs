//! What the reads must say, from every transfer and nothing else.

use std::collections::HashMap;

use tokio_postgres::Client;
use uuid::Uuid;

use super::{ACCOUNTS, Dice};

/// Where an entry is: by record the first number does not count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    pub event_us: i64,
    pub seq: i64,
    pub item: i32,
}

/// A line of a statement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    pub place: Place,
    pub id: Uuid,
    pub debit: bool,
    pub amount: i128,
    pub balance: i128,
    pub pending_out: i128,
    pub pending_in: i128,
}

/// A row of `ledger.transfers`.
#[derive(Debug)]
pub struct Transfer {
    pub place: Place,
    pub at_us: i64,
    pub effective_us: Option<i64>,
    pub id: Uuid,
    pub kind: String,
    pub debit: Uuid,
    pub credit: Uuid,
    pub amount: i128,
    pub pending: Option<Uuid>,
    pub journal: Uuid,
}

/// All transfers of a ledger, in the order of the log.
pub struct Books {
    pub ledger_id: i32,
    pub last_seq: i64,
    pub transfers: Vec<Transfer>,
    accounts: Vec<Uuid>,
    holds: HashMap<Uuid, i128>,
}

/// What a transfer did to debits pending and posted, credits pending and posted.
type Four = [i128; 4];

impl Books {
    pub async fn read(db: &Client, ledger_id: i32) -> Books {
        let sql = "select seq, item, base.us(at), base.us(effective_at), transfer_id, kind, debit_account_id, credit_account_id, \
                   amount::text, pending_id, journal_id from ledger.transfers where ledger_id = $1 order by seq, item";
        let rows = db.query(sql, &[&ledger_id]).await.unwrap();
        let transfers: Vec<Transfer> = rows
            .iter()
            .map(|row| {
                let (at_us, effective_us): (i64, Option<i64>) = (row.get(2), row.get(3));
                Transfer {
                    place: Place {
                        event_us: effective_us.unwrap_or(at_us),
                        seq: row.get(0),
                        item: row.get(1),
                    },
                    at_us,
                    effective_us,
                    id: row.get(4),
                    kind: row.get(5),
                    debit: row.get(6),
                    credit: row.get(7),
                    amount: super::number(row, 8),
                    pending: row.get(9),
                    journal: row.get(10),
                }
            })
            .collect();
        let holds = transfers.iter().filter(|t| t.kind == "pending").map(|t| (t.id, t.amount)).collect();
        let sql = "select t.account(n) from generate_series(0, 7) n order by n";
        let accounts: Vec<Uuid> = db.query(sql, &[]).await.unwrap().iter().map(|row| row.get(0)).collect();
        assert_eq!(accounts.len(), ACCOUNTS);
        let last =
            db.query_one("select last_seq from base.ledgers where ledger_id = $1", &[&ledger_id]).await;
        Books { ledger_id, last_seq: last.unwrap().get(0), transfers, accounts, holds }
    }

    fn moved(&self, t: &Transfer, account: Uuid) -> Four {
        let (pending, posted) = match t.kind.as_str() {
            "plain" => (0, t.amount),
            "pending" => (t.amount, 0),
            "post_pending" => (-self.holds[&t.pending.unwrap()], t.amount),
            _ => (-self.holds[&t.pending.unwrap()], 0),
        };
        match (t.debit == account, t.credit == account) {
            (true, false) => [pending, posted, 0, 0],
            (false, true) => [0, 0, pending, posted],
            _ => [0; 4],
        }
    }

    fn sum(&self, n: usize, counts: impl Fn(&Transfer) -> bool) -> Four {
        let mut sums = [0; 4];
        for t in self.transfers.iter().filter(|t| counts(t)) {
            for (sum, more) in sums.iter_mut().zip(self.moved(t, self.accounts[n])) {
                *sum += more;
            }
        }
        sums
    }

    /// After a command.
    pub fn at_seq(&self, n: usize, seq: i64) -> Four {
        self.sum(n, |t| t.place.seq <= seq)
    }

    /// As the books stood at a moment.
    pub fn at_time(&self, n: usize, at_us: i64) -> Four {
        self.sum(n, |t| t.at_us <= at_us)
    }

    /// Posted: what had happened by a moment. Pending: as recorded then.
    pub fn at_event(&self, n: usize, at_us: i64) -> Four {
        let [_, debits, _, credits] = self.sum(n, |t| t.place.event_us <= at_us);
        let [out, _, inward, _] = self.at_time(n, at_us);
        [out, debits, inward, credits]
    }

    pub fn count_by_seq(&self, seq: i64) -> usize {
        self.transfers.iter().filter(|t| t.place.seq <= seq).count()
    }

    pub fn count_at(&self, at_us: i64) -> usize {
        self.transfers.iter().filter(|t| t.at_us <= at_us).count()
    }

    /// A moment of these books, or near one, or before and after all.
    pub fn moment(&self, dice: &mut Dice) -> i64 {
        let of = usize::try_from(dice.roll(self.transfers.len() as u64)).unwrap();
        let t = &self.transfers[of];
        let near = dice.pick(&[t.at_us, t.at_us - 1, t.at_us + 1, t.place.event_us, t.place.event_us - 1]);
        dice.pick(&[
            near,
            near,
            near,
            near,
            near,
            near,
            near,
            super::START_US - 1,
            super::START_US + 3_600_000_000,
        ])
    }

    /// An account's entries, newest first, with what was in it after each.
    pub fn statement(&self, n: usize, by_event: bool) -> Vec<Entry> {
        let account = self.accounts[n];
        let posted = |t: &&Transfer| !by_event || matches!(t.kind.as_str(), "plain" | "post_pending");
        let mut own: Vec<&Transfer> = self
            .transfers
            .iter()
            .filter(|t| t.debit == account || t.credit == account)
            .filter(posted)
            .collect();
        if by_event {
            own.sort_by_key(|t| t.place);
        }
        let mut sums = [0; 4];
        let mut entries: Vec<Entry> = own
            .iter()
            .map(|t| {
                for (sum, more) in sums.iter_mut().zip(self.moved(t, account)) {
                    *sum += more;
                }
                let [out, debits, inward, credits] = sums;
                Entry {
                    place: t.place,
                    id: t.id,
                    debit: t.debit == account,
                    amount: t.amount,
                    balance: credits - debits,
                    pending_out: if by_event { 0 } else { out },
                    pending_in: if by_event { 0 } else { inward },
                }
            })
            .collect();
        entries.reverse();
        entries
    }

    /// Entries of several accounts, newest first; of a transfer between two of them, debit first or credit first as SQL orders.
    pub fn entries_of(&self, accounts: &[usize]) -> Vec<(i64, i32, String, Uuid, i128)> {
        let own: Vec<Uuid> = accounts.iter().map(|n| self.accounts[*n]).collect();
        let mut entries = Vec::new();
        for t in self.transfers.iter().rev() {
            for (side, account) in [("debit", t.debit), ("credit", t.credit)] {
                if own.contains(&account) {
                    entries.push((t.place.seq, t.place.item, side.to_owned(), account, t.amount));
                }
            }
        }
        entries
    }

    pub fn pick_journal(&self, dice: &mut Dice) -> Uuid {
        self.transfers[usize::try_from(dice.roll(self.transfers.len() as u64)).unwrap()].journal
    }

    /// Every transfer, or a journal's.
    pub fn newest_first(&self, journal: Option<Uuid>) -> Vec<(i64, i32, Uuid)> {
        let meant = |t: &&Transfer| journal.is_none_or(|journal| t.journal == journal);
        self.transfers.iter().rev().filter(meant).map(|t| (t.place.seq, t.place.item, t.id)).collect()
    }
}
