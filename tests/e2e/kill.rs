//! `kill -9` of any part at any moment, then the same command again on the same data dir: it finishes, nothing is lost,
//! nothing is charged twice.
//!
//! The moment is a number of commands in the log, drawn from a seed that a failure names.

use nix::unistd::Pid;

use crate::support::checks::{healthy, rows};
use crate::support::program::{Folder, ended, kill_9, summary, until};

const ORDERS: u32 = 40;
/// Between these numbers of commands trade is in full swing: the whole run has some 440.
const MOMENTS: std::ops::Range<u64> = 60..380;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Victim {
    Server,
    Agent,
    Postgres,
}

/// The `n`-th number that a seed gives; other ones with ECON_TEST_SEED, for whoever wants to try other moments.
fn drawn(seed: &str, n: usize) -> u64 {
    let more = std::env::var("ECON_TEST_SEED").unwrap_or_default();
    let hash = blake3::hash(format!("{seed}/{n}/{more}").as_bytes());
    u64::from_le_bytes(hash.as_bytes()[..8].try_into().unwrap())
}

fn moment(seed: &str, n: usize) -> i64 {
    let width = MOMENTS.end - MOMENTS.start;
    i64::try_from(MOMENTS.start + drawn(seed, n) % width).unwrap()
}

fn pid_of(folder: &Folder, victim: Victim, seed: &str) -> Option<Pid> {
    match victim {
        Victim::Server => folder.server(),
        Victim::Postgres => folder.postmaster(),
        Victim::Agent => {
            let agents = folder.processes("agent");
            let one = usize::try_from(drawn(seed, 99)).unwrap().checked_rem(agents.len())?;
            agents.get(one).copied()
        }
    }
}

/// Everybody has what he deposited less what he paid, every planned order exists once, and the audit finds nothing.
async fn books_are_right(folder: &Folder) {
    let books = folder.books().await;
    let db = &books.db;
    healthy(db).await;
    let wrong = rows(
        db,
        "with d as (select agent_id, sum(amount) as deposited, count(*) as n from ledger.deposits group by 1),
              w as (select owner_id, sum(credits_posted - debits_posted) as wallet from ledger.accounts
                     where purpose = 'wallet' group by 1),
              o as (select buyer_id, sum(paid) as paid from market.orders group by 1)
         select format('buyer %s deposited %s in %s, paid %s and has %s', agent_id, deposited, n, paid, wallet)
           from d join w on w.owner_id = d.agent_id left join o on o.buyer_id = d.agent_id
          where n <> 1 or wallet <> deposited - coalesce(paid, 0)",
    )
    .await;
    assert!(wrong.is_empty(), "{wrong:#?}");
    let counts = rows(
        db,
        "select format('%s orders of %s requests, %s open, %s settlements of %s, %s buyers',
           (select count(*) from market.orders), (select count(distinct rfq_id) from market.orders),
           (select count(*) from market.orders where state not in ('settled', 'refunded')),
           (select count(*) from splits.settlements), (select count(*) from market.orders where state = 'settled'),
           (select count(distinct agent_id) from ledger.deposits))",
    )
    .await;
    let settled =
        rows(db, "select count(*)::text from market.orders where state = 'settled'").await.remove(0);
    let expected =
        format!("{ORDERS} orders of {ORDERS} requests, 0 open, {settled} settlements of {settled}, 8 buyers");
    assert_eq!(counts, [expected]);
    // What was earned is what was paid out: nothing waits, nothing went twice.
    let unpaid = rows(
        db,
        "select v::text from payouts.payout_reconciliation v where payable_minor <> 0 or reserved_minor <> 0",
    )
    .await;
    assert!(unpaid.is_empty(), "{unpaid:#?}");
    books.close().await;
}

async fn survives(victim: Victim, seed: &str) {
    let folder = Folder::new();
    let at = moment(seed, 0);
    let mut demo = folder.demo(ORDERS).spawn().unwrap();
    folder.until_commands(at, &mut demo).await;
    let pid = until("the victim", async || pid_of(&folder, victim, seed)).await;
    kill_9(pid);
    // The demo watches over its parts: it ends well by itself.
    let said = ended(demo).await;
    println!("{victim:?} {pid} was killed after {at} commands, seed {seed:?}");
    let first = summary(&said, ORDERS);
    let again = folder.played(ORDERS).await;
    assert_eq!((&first["orders"], &first["value_minor"]), (&again["orders"], &again["value_minor"]));
    books_are_right(&folder).await;
    assert!(folder.all_processes().is_empty(), "left running: {:?}", folder.all_processes());
}

#[tokio::test]
async fn a_killed_server_loses_nothing_and_charges_nothing_twice() {
    survives(Victim::Server, "a server").await;
}

#[tokio::test]
async fn a_killed_agent_loses_nothing_and_charges_nothing_twice() {
    survives(Victim::Agent, "an agent").await;
}

#[tokio::test]
async fn a_killed_postgres_loses_nothing_and_charges_nothing_twice() {
    survives(Victim::Postgres, "a postmaster").await;
}

#[tokio::test]
async fn a_demo_killed_three_times_goes_on_and_leaves_nobody_behind() {
    let folder = Folder::new();
    let seed = "a demo";
    let mut moments = [moment(seed, 0), moment(seed, 1), moment(seed, 2)];
    moments.sort_unstable();
    for at in moments {
        let mut demo = folder.demo(ORDERS).spawn().unwrap();
        folder.until_commands(at, &mut demo).await;
        // No farewell: its server, its agents and their Postgres are orphans now.
        kill_9(Pid::from_raw(i32::try_from(demo.id().unwrap()).unwrap()));
        assert!(!ended(demo).await.status.success());
        println!("killed after {at} commands, seed {seed:?}");
    }
    folder.played(ORDERS).await;
    books_are_right(&folder).await;
    until("the orphans' end", async || folder.all_processes().is_empty().then_some(())).await;
}
