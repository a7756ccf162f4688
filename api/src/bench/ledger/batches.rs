//! The transfers that are posted.

use ledger::posting::{Kind, NewTransfer};
use proto::ids::{AccountId, TransferId};
use proto::money::Amount;
use rand::RngExt as _;

use super::BATCH;

/// More than any account has.
const TOO_MUCH: u64 = 9_000_000_000_000_000_000;

/// What a batch consists of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mix {
    /// Uniform pairs of accounts, all limited on one side, nothing fails.
    Cold,
    /// One account on one side of everything.
    Hot,
    /// One in twenty asks for more than its account has.
    Failing,
    /// One in ten reserves, one in ten posts what a batch before it reserved.
    Pending,
    /// One in ten is linked with the next.
    Chained,
}

impl Mix {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Cold => "ledger.batch.cold",
            Self::Hot => "ledger.batch.hot",
            Self::Failing => "ledger.batch.failing5",
            Self::Pending => "ledger.batch.pending20",
            Self::Chained => "ledger.batch.chained10",
        }
    }

    /// So many batches; their ids rise, as those of one program do.
    pub(super) fn batches(self, accounts: &[AccountId], count: usize) -> Vec<Vec<NewTransfer>> {
        let mut reserved = Vec::new();
        (0..count).map(|_| self.batch(accounts, &mut reserved)).collect()
    }

    fn batch(self, accounts: &[AccountId], reserved: &mut Vec<TransferId>) -> Vec<NewTransfer> {
        let mut rng = rand::rng();
        let open = std::mem::take(reserved);
        let mut ends = open.into_iter();
        (0..BATCH)
            .map(|n| {
                let from = rng.random_range(0..accounts.len());
                let to = (from + rng.random_range(1..accounts.len())) % accounts.len();
                let amount = Amount::from_u64(rng.random_range(1..1_000));
                let id = TransferId::now_v7();
                let mut transfer = NewTransfer::plain(id, accounts[from], accounts[to], 1, amount, "trade");
                match self {
                    Self::Cold => {}
                    // Account 0 may not spend more than it has; it only receives.
                    Self::Hot => {
                        transfer.debit_account_id = Some(accounts[if from == 0 { to } else { from }]);
                        transfer.credit_account_id = Some(accounts[0]);
                    }
                    Self::Failing if n % 20 == 0 => {
                        // Even accounts have limited debits.
                        transfer.debit_account_id = Some(accounts[from & !1]);
                        transfer.credit_account_id = Some(accounts[from | 1]);
                        transfer.amount = Some(Amount::from_u64(TOO_MUCH));
                    }
                    Self::Pending if n % 10 == 0 => {
                        transfer.kind = Kind::Pending;
                        reserved.push(id);
                    }
                    Self::Pending if n % 10 == 5 => {
                        if let Some(pending) = ends.next() {
                            transfer.kind = Kind::PostPending;
                            transfer.pending_id = Some(pending);
                            (transfer.debit_account_id, transfer.credit_account_id, transfer.amount) =
                                (None, None, None);
                        }
                    }
                    Self::Chained if n % 10 == 0 => transfer.linked = true,
                    Self::Failing | Self::Pending | Self::Chained => {}
                }
                transfer
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accounts() -> Vec<AccountId> {
        (0..100).map(|_| AccountId::now_v7()).collect()
    }

    #[test]
    fn ids_rise_and_accounts_differ() {
        for mix in [Mix::Cold, Mix::Hot, Mix::Failing, Mix::Pending, Mix::Chained] {
            let batches = mix.batches(&accounts(), 2);
            let all: Vec<&NewTransfer> = batches.iter().flatten().collect();
            assert_eq!(all.len(), 2 * BATCH);
            assert!(all.windows(2).all(|pair| pair[0].transfer_id < pair[1].transfer_id), "{mix:?}");
            assert!(
                all.iter().all(|t| t.kind == Kind::PostPending || t.debit_account_id != t.credit_account_id)
            );
        }
    }

    #[test]
    fn hot_means_one_account_on_one_side_of_everything() {
        let accounts = accounts();
        let batches = Mix::Hot.batches(&accounts, 1);
        assert!(batches[0].iter().all(|t| t.credit_account_id == Some(accounts[0])));
    }

    #[test]
    fn what_is_posted_was_reserved_by_the_batch_before() {
        let batches = Mix::Pending.batches(&accounts(), 2);
        let reserved: Vec<TransferId> =
            batches[0].iter().filter(|t| t.kind == Kind::Pending).map(|t| t.transfer_id).collect();
        let posted: Vec<TransferId> = batches[1].iter().filter_map(|t| t.pending_id).collect();
        assert_eq!((reserved.len(), &reserved), (BATCH / 10, &posted));
    }
}
