//! The queue that turns what many callers ask for into few, large commits: what one asks never becomes part of what another asks.

use ledger::posting::{NewTransfer, Poster, TransferResult};
use ledger::testing::TestDb;
use proto::ids::{AccountId, TransferId};
use proto::money::Amount;

use crate::support::direct::{account, audit, open_ledger};

/// A runtime of one thread: what is asked in one breath is queued before the session that posts it has run.
#[tokio::test(flavor = "current_thread")]
async fn a_chain_that_one_caller_leaves_open_does_not_run_on_into_the_next_callers_transfers() {
    let db = TestDb::new().await;
    let watcher = db.admin().await;
    open_ledger(&watcher, 1, 3).await;
    let poster = Poster::start(db.admin_config(), 1);
    let transfer = |from: u32, to: u32| {
        let [from, to] = [from, to].map(|n| AccountId::from_uuid(account(n)));
        NewTransfer::plain(TransferId::now_v7(), from, to, 1, Amount::from_u64(5), "trade")
    };
    let named = |result: Result<Vec<TransferResult>, ledger::Error>| -> Vec<String> {
        result.unwrap().into_iter().map(|result| result.0).collect()
    };
    let open = |from, to| NewTransfer { linked: true, ..transfer(from, to) };
    // Y would make X possible, or fail with it: account 100 has nothing to give.
    for (x, y, expected) in
        [(open(0, 1), transfer(1, 2), "ok"), (open(0, 1), transfer(100, 2), "exceeds_credits")]
    {
        let (first, second) = tokio::join!(poster.post(vec![x]), poster.post(vec![y]));
        assert_eq!(
            (named(first), named(second)),
            (vec!["linked_event_chain_open".into()], vec![expected.into()])
        );
    }
    // What came before the open chain is judged by itself too.
    let (first, second, third) = tokio::join!(
        poster.post(vec![transfer(0, 1)]),
        poster.post(vec![transfer(0, 1), open(0, 1)]),
        poster.post(vec![transfer(1, 0)])
    );
    assert_eq!(named(first), ["ok"]);
    assert_eq!(named(second), ["ok", "linked_event_chain_open"]);
    assert_eq!(named(third), ["ok"]);
    assert_eq!(audit(&watcher).await, Vec::<String>::new());
}
