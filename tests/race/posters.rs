//! Programs that post to the books directly, at the same time: one ledger takes them one after the other, two ledgers do not
//! know of each other.

use ledger::testing::TestDb;
use tokio_postgres::Client;

use super::blocked;
use crate::support::direct::{Item, START_US, audit, id, open_ledger, post};

struct Posters {
    watcher: Client,
    one: Client,
    two: Client,
    _db: TestDb,
}

impl Posters {
    /// Two sessions with the engine's rights on two ledgers; account 100 of each has 10 to spend, and half of a hold of 4.
    async fn start() -> Posters {
        let db = TestDb::new().await;
        let watcher = db.admin().await;
        let (one, two) = (db.admin().await, db.admin().await);
        for ledger_id in [1, 2] {
            open_ledger(&watcher, ledger_id, 3).await;
            let funds = [Item::plain(id(1), 0, 100, 14), Item::pending(id(2), 100, 1, 4)];
            assert_eq!(post(&watcher, ledger_id, START_US, &funds).await.unwrap(), ["ok", "ok"]);
        }
        for session in [&one, &two] {
            session.batch_execute("set role econ_engine").await.unwrap();
        }
        Posters { watcher, one, two, _db: db }
    }

    /// The first posts and does not commit yet; the second is seen to wait for it, and for nobody else; then the first ends
    /// with `end`. Both answers.
    async fn raced(&self, first: &[Item], second: &[Item], end: &str) -> (Vec<String>, Vec<String>) {
        self.one.batch_execute("begin").await.unwrap();
        let answer = post(&self.one, 1, START_US, first).await.unwrap();
        let seen = async {
            let waits = blocked(&self.watcher, 1).await[0];
            let holder: i32 = self.one.query_one("select pg_backend_pid()", &[]).await.unwrap().get(0);
            let by = self.watcher.query_one("select pg_blocking_pids($1)", &[&waits]).await.unwrap();
            assert_eq!(by.get::<_, Vec<i32>>(0), [holder]);
            self.one.batch_execute(end).await.unwrap();
        };
        let (waited, ()) = futures_util::future::join(post(&self.two, 1, START_US, second), seen).await;
        (answer, waited.unwrap())
    }

    async fn end(self) {
        assert_eq!(audit(&self.watcher).await, Vec::<String>::new());
    }
}

/// A dozen and more that have nothing to do with the rest, so that a set settles what it can.
fn crowd(from: u128) -> Vec<Item> {
    (from..from + 20).map(|n| Item::plain(id(n), 1, 2, 1)).collect()
}

#[tokio::test]
async fn two_posters_on_one_ledger_take_turns_and_the_second_sees_what_the_first_did() {
    let posters = Posters::start().await;
    // Account 101 has nothing until the first one's money is there.
    let (first, second) =
        posters.raced(&[Item::plain(id(10), 0, 101, 5)], &[Item::plain(id(11), 101, 0, 5)], "commit").await;
    assert_eq!((first, second), (vec!["ok".into()], vec!["ok".into()]));
    let (first, second) =
        posters.raced(&[Item::plain(id(12), 0, 101, 5)], &[Item::plain(id(13), 101, 0, 5)], "rollback").await;
    assert_eq!((first, second), (vec!["ok".into()], vec!["exceeds_credits".into()]));
    // Large batches likewise.
    let mut fund = crowd(100);
    fund.push(Item::plain(id(14), 0, 101, 5));
    let mut spend = crowd(200);
    spend.push(Item::plain(id(15), 101, 0, 5));
    let (first, second) = posters.raced(&fund, &spend, "commit").await;
    assert!(first.iter().chain(&second).all(|result| result == "ok"), "{first:?} {second:?}");
    posters.end().await;
}

#[tokio::test]
async fn the_same_id_posted_twice_at_once_is_posted_once() {
    let posters = Posters::start().await;
    let item = [Item::plain(id(20), 0, 1, 3)];
    let (first, second) = posters.raced(&item, &item, "commit").await;
    assert_eq!((first, second), (vec!["ok".into()], vec!["exists".into()]));
    let (crowd_one, mut crowd_two) = (crowd(300), crowd(300));
    crowd_two.reverse();
    let (first, second) = posters.raced(&crowd_one, &crowd_two, "commit").await;
    assert!(first.iter().all(|result| result == "ok"), "{first:?}");
    assert!(second.iter().all(|result| result == "exists"), "{second:?}");
    posters.end().await;
}

#[tokio::test]
async fn the_last_unit_is_spent_once() {
    let posters = Posters::start().await;
    let (first, second) =
        posters.raced(&[Item::plain(id(30), 100, 0, 9)], &[Item::plain(id(31), 100, 1, 2)], "commit").await;
    assert_eq!((first, second), (vec!["ok".into()], vec!["exceeds_credits".into()]));
    let last = |n: u128, to| {
        let mut items = crowd(400 + n * 100);
        items.push(Item::plain(id(32 + n), 100, to, 1));
        items
    };
    let (first, second) = posters.raced(&last(0, 0), &last(1, 1), "commit").await;
    assert_eq!((first[20].as_str(), second[20].as_str()), ("ok", "exceeds_credits"));
    assert!(second[..20].iter().all(|result| result == "ok"), "{second:?}");
    posters.end().await;
}

#[tokio::test]
async fn of_a_post_and_a_void_of_one_hold_the_first_to_come_wins() {
    for (kind, other, refusal) in [
        ("post_pending", "void_pending", "pending_transfer_already_posted"),
        ("void_pending", "post_pending", "pending_transfer_already_voided"),
    ] {
        let posters = Posters::start().await;
        let (one, two) = (Item::end(id(40), kind, id(2)), Item::end(id(41), other, id(2)));
        let (first, second) = posters.raced(&[one], &[two], "commit").await;
        assert_eq!((first, second), (vec!["ok".into()], vec![refusal.into()]));
        posters.end().await;
    }
}

#[tokio::test]
async fn two_ledgers_do_not_wait_for_each_other() {
    let posters = Posters::start().await;
    posters.one.batch_execute("begin").await.unwrap();
    let items = crowd(500);
    assert!(post(&posters.one, 1, START_US, &items).await.unwrap().iter().all(|result| result == "ok"));
    // The same ids, the same accounts' ids, and the answer comes although the other has not committed.
    assert!(post(&posters.two, 2, START_US, &items).await.unwrap().iter().all(|result| result == "ok"));
    posters.one.batch_execute("commit").await.unwrap();
    posters.end().await;
}
