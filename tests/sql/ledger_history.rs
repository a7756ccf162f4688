//! Reads of the books at any moment, against plain sums over `ledger.transfers`: random postings of every kind in several
//! ledgers, told late or not, with the pager running behind the log in chunks of random size. `ECON_TEST_SEED` (a number)
//! searches further.

mod audits;
mod naive;
mod plans;

use ledger::testing::TestDb;
use serde_json::{Value, json};
use tokio_postgres::{Client, Row, Statement};
use uuid::Uuid;

use naive::{Books, Entry, Place};

const LEDGERS: [i32; 3] = [1, 2, 3];
const ACCOUNTS: usize = 8;
/// Ledger time at the start, 2026-01-01, Unix microseconds.
const START_US: i64 = 1_767_225_600_000_000;

/// Books of three ledgers without a market, and `t.post(ledger, at, items)`. The operator may read everything; `own` has
/// accounts 0, 1 and 2 of each ledger, `other` 3, nobody the others; 1 to 3 may not go below zero.
const SETUP: &str = "
  create schema t;
  create function t.id(p_label text) returns uuid language sql immutable security definer as
    $$ select base.derive_id('019b76da-a800-7000-8000-000000000000', p_label, 0) $$;
  create function t.account(p_n integer) returns uuid language sql immutable as $$ select t.id('account ' || p_n) $$;
  create function t.at(p_us bigint) returns timestamptz language sql immutable as
    $$ select 'epoch'::timestamptz + p_us * interval '1 microsecond' $$;
  create function t.post(p_ledger integer, p_at timestamptz, p_items jsonb) returns text[] language sql as $$
    select ledger.post_direct(p_ledger, p_at, array_agg(t.id(i.journal) order by n), array_agg(t.id(i.id) order by n),
             array_agg(i.kind order by n), array_agg(t.account(i.debit) order by n), array_agg(t.account(i.credit) order by n),
             array_agg(case when i.pending is null then 1 end order by n), array_agg(i.amount order by n),
             array_agg(case when i.pending is null then 'test' end order by n), array_agg(t.id(i.pending) order by n),
             array_agg(i.timeout_ms order by n), array_agg(false order by n), array_agg(coalesce(i.flags, 0::smallint) order by n),
             array_agg(null::uuid order by n), array_agg(t.at(i.effective_us) order by n))
      from rows from (jsonb_to_recordset(p_items) as (id text, journal text, kind text, debit integer, credit integer, amount numeric,
             pending text, timeout_ms bigint, flags smallint, effective_us bigint)) with ordinality
        as i (id, journal, kind, debit, credit, amount, pending, timeout_ms, flags, effective_us, n) $$;
  insert into ledger.assets values (1, 'USD', 6);
  insert into identity.agents values (t.id('operator'), 1, 1, '2026-01-01', null, t.id('operator'));
  insert into identity.keys values (sha256('k'), t.id('operator'), sha256('p'), 'operator', 1, 1, '2026-01-01');
  insert into base.ledgers (ledger_id, name, origin, last_time) select l, 'test', 'test', '2026-01-01' from generate_series(1, 3) l;
  insert into ledger.accounts (ledger_id, account_id, asset_id, purpose, owner_id, ref_id, debits_must_not_exceed_credits,
    credits_must_not_exceed_debits, seq, opened_at)
  select l, t.account(n), 1, 'equity', case when n < 3 then t.id('own') when n = 3 then t.id('other') end, t.id('ref ' || n),
    n between 1 and 3, false, 1, '2026-01-01' from generate_series(1, 3) l, generate_series(0, 7) n;
  grant usage on schema t to econ_engine, econ_api;
  set role econ_engine;";

/// A small generator of its own: the same seed gives the same books wherever it runs.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % sides
    }

    fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[usize::try_from(self.roll(of.len() as u64)).unwrap()]
    }
}

async fn books() -> (TestDb, Client) {
    let test_db = TestDb::new().await;
    let db = test_db.admin().await;
    db.batch_execute(SETUP).await.unwrap_or_else(|error| panic!("{:?}", error.as_db_error()));
    (test_db, db)
}

async fn post(db: &Client, ledger_id: i32, at_us: i64, items: &[Value]) -> Vec<String> {
    let sql = "select t.post($1, t.at($2), $3::text::jsonb)";
    let row = db.query_one(sql, &[&ledger_id, &at_us, &Value::from(items).to_string()]).await;
    row.unwrap_or_else(|error| panic!("{:?}", error.as_db_error())).get(0)
}

/// One batch: everything that can be posted, now and then told late, and ends of holds that were made before.
fn batch(dice: &mut Dice, at_us: i64, next: &mut u32, holds: &mut Vec<String>) -> Vec<Value> {
    let size = dice.pick(&[1, 1, 2, 3, 5, 8, 13, 13, 20, 40]);
    let mut items = Vec::new();
    for _ in 0..size {
        *next += 1;
        let id = format!("t{next}");
        let journal = if dice.roll(2) == 0 { id.clone() } else { format!("j{}", dice.roll(12)) };
        let debit = dice.roll(ACCOUNTS as u64);
        let credit = (debit + 1 + dice.roll(ACCOUNTS as u64 - 1)) % ACCOUNTS as u64;
        // Late by up to ten steps of time, now and then by exactly as much as an earlier batch.
        let late = [None, None, None, Some(at_us - 1 - i64::try_from(dice.roll(5_000_000)).unwrap())];
        let effective = dice.pick(&late).or_else(|| (dice.roll(8) == 0).then_some(at_us - 500_000));
        let amount = 1 + dice.roll(60);
        let flags = dice.pick(&[0, 0, 0, 0, 0, 1, 2, 3]);
        items.push(match dice.roll(10) {
            0..5 => json!({ "id": id, "journal": journal, "kind": "plain", "debit": debit, "credit": credit, "amount": amount,
                "flags": flags, "effective_us": effective }),
            5..8 => {
                holds.push(id.clone());
                let timeout = dice.pick(&[None, Some(600), Some(1_500), Some(0)]);
                json!({ "id": id, "journal": journal, "kind": "pending", "debit": debit, "credit": credit, "amount": amount,
                    "flags": flags, "timeout_ms": timeout })
            }
            turn if !holds.is_empty() => {
                let of = usize::try_from(dice.roll(holds.len() as u64)).unwrap();
                let of = holds.swap_remove(of);
                if turn == 8 {
                    json!({ "id": id, "journal": journal, "kind": "post_pending", "pending": of,
                        "amount": (dice.roll(2) == 0).then_some(1), "effective_us": effective })
                } else {
                    json!({ "id": id, "journal": journal, "kind": "void_pending", "pending": of })
                }
            }
            _ => json!({ "id": id, "journal": journal, "kind": "plain", "debit": 0, "credit": 1, "amount": 500 }),
        });
    }
    items
}

/// Files the next few transfers of a ledger, in a chunk of random size.
async fn page(db: &Client, dice: &mut Dice, ledger_id: i32) {
    let chunk = dice.pick(&[1, 5, 30, 200]);
    let filed: i32 =
        db.query_one("select ledger.page_entries($1, $2)", &[&ledger_id, &chunk]).await.unwrap().get(0);
    assert!(filed == 0 || filed >= chunk, "filed {filed} of {chunk}");
}

#[tokio::test]
async fn every_read_of_the_past_is_the_sum_of_its_transfers() {
    let (_test_db, db) = books().await;
    let seed = std::env::var("ECON_TEST_SEED").map_or(1, |seed| seed.parse().unwrap());
    let mut dice = Dice(seed);
    let reads = Reads::prepare(&db).await;
    let (mut at_us, mut next) = (START_US, 0);
    let mut holds = [const { Vec::new() }; 3];
    for step in 0..150 {
        at_us += dice.pick(&[0_i64, 1, 250_000, 500_000]);
        let n = usize::try_from(dice.roll(3)).unwrap();
        let items = match step {
            // More of one account's entries in one command than a page holds.
            70..73 => (0..250)
                .map(|k| {
                    let id = format!("m{step}/{k}");
                    json!({ "id": id, "journal": "many", "kind": "plain", "debit": 0, "credit": 1 + k % 2, "amount": k + 1 })
                })
                .collect(),
            _ => batch(&mut dice, at_us, &mut next, &mut holds[n]),
        };
        post(&db, LEDGERS[n], at_us, &items).await;
        if dice.roll(3) == 0 {
            let ledger_id = dice.pick(&LEDGERS);
            page(&db, &mut dice, ledger_id).await;
        }
        if step % 25 == 24 {
            let ledger_id = dice.pick(&LEDGERS);
            reads.check(&db, &mut dice, ledger_id, 1).await;
        }
    }
    for ledger_id in LEDGERS {
        let books = Books::read(&db, ledger_id).await;
        for kind in ["plain", "pending", "post_pending", "void_pending", "expire_pending"] {
            assert!(books.transfers.iter().any(|t| t.kind == kind), "ledger {ledger_id} has no {kind}");
        }
        assert!(books.transfers.iter().any(|t| t.effective_us.is_some()), "nothing was told late");
        reads.check(&db, &mut dice, ledger_id, 2).await;
        // Whatever the pager does, the answers stay.
        page(&db, &mut dice, ledger_id).await;
        reads.check(&db, &mut dice, ledger_id, 1).await;
        reads.paged_by_one(&db, &mut dice, ledger_id).await;
    }
    db.batch_execute("reset role").await.unwrap();
    assert_eq!(audits::wrong(&db).await, Vec::<String>::new());
    for ledger_id in LEDGERS {
        let (through, problems, _) = audits::advance(&db, ledger_id).await;
        let last = "select last_seq from base.ledgers where ledger_id = $1";
        assert_eq!((through, problems), (db.query_one(last, &[&ledger_id]).await.unwrap().get(0), 0));
    }
}

#[tokio::test]
async fn a_journal_is_read_whole_and_once() {
    let (_test_db, db) = books().await;
    let plain = |id: &str, journal: &str| json!({ "id": id, "journal": journal, "kind": "plain", "debit": 0, "credit": 4, "amount": 1 });
    // A transfer whose id is its journal's, alone and with others in that journal, in one command and in the next.
    post(&db, 1, START_US, &[plain("a", "a"), plain("b", "a"), plain("c", "c"), plain("d", "j")]).await;
    post(&db, 1, START_US, &[plain("e", "a"), plain("f", "j")]).await;
    for (actor, journal, expected) in [
        ("operator", "a", "2.1 1.2 1.1"),
        ("operator", "c", "1.3"),
        ("operator", "j", "2.2 1.4"),
        ("own", "a", "2.1 1.2 1.1"),
        ("other", "a", ""),
    ] {
        let sql = "select coalesce(string_agg(seq || '.' || item, ' '), '') from ledger.read_transfers(t.id($1), 1, t.id($2), null, null, 10)";
        let found: String = db.query_one(sql, &[&actor, &journal]).await.unwrap().get(0);
        assert_eq!(found, expected, "{actor} {journal}");
    }
}

#[tokio::test]
async fn nobody_reads_what_is_not_theirs() {
    let (test_db, db) = books().await;
    let items: Vec<Value> = (0..30)
        .map(|n| json!({ "id": format!("t{n}"), "journal": "j", "kind": "plain", "debit": 0, "credit": 3 + n % 2, "amount": 1 }))
        .collect();
    post(&db, 1, START_US, &items).await;
    let api = test_db.client("econ_api").await;
    for (paged, now) in [(0, "before paging"), (30, "after")] {
        if paged > 0 {
            let filed: i32 = api.query_one("select ledger.page_entries(1, 30)", &[]).await.unwrap().get(0);
            assert_eq!(filed, paged);
        }
        for (actor, accounts, statement, balance, transfers, journal, entries, trial) in [
            ("null::uuid", 0, 0, 0, 0, 0, 0, 0),
            ("t.id('nobody')", 0, 0, 0, 0, 0, 0, 0),
            ("t.id('other')", 1, 0, 0, 0, 15, 15, 0),
            ("t.id('own')", 3, 30, 1, 0, 30, 30, 0),
            ("t.id('operator')", 8, 30, 1, 30, 30, 0, 1),
        ] {
            let count = async |from: &str| -> i64 {
                let sql = format!("select count(*) from ledger.{from}");
                let row = api.query_one(&sql, &[]).await;
                row.unwrap_or_else(|error| panic!("{sql}: {:?}", error.as_db_error())).get(0)
            };
            let found = [
                count(&format!("read_accounts({actor}, 1, null, null, null, null, 100)")).await,
                count(&format!("read_statement({actor}, 1, t.account(0), 'record', null, null, null, 100)"))
                    .await,
                count(&format!("read_statement({actor}, 1, t.account(0), 'event', null, null, null, 100)"))
                    .await,
                count(&format!("read_balance_at({actor}, 1, t.account(0), '2026-01-02', 'record')")).await,
                count(&format!("read_balance_at({actor}, 1, t.account(0), '2026-01-02', 'event')")).await,
                count(&format!("read_transfers({actor}, 1, null, null, null, 100)")).await,
                count(&format!("read_transfers({actor}, 1, t.id('j'), null, null, 100)")).await,
                count(&format!("read_entries({actor}, 1, null, null, null, 100)")).await,
                count(&format!("read_trial_balance({actor}, 1, null, 'record')")).await,
                count(&format!("read_trial_balance({actor}, 1, '2026-01-02', 'event')")).await,
            ];
            let expected =
                [accounts, statement, statement, balance, balance, transfers, journal, entries, trial, trial];
            assert_eq!(found, expected, "{actor} {now}");
            // Whoever asks for another's account by id or owner gets what they would get anyway.
            let foreign = i64::from(actor.contains("operator"));
            for (id, owner, own) in [
                ("t.account(3)", "null", "other"),
                ("null", "t.id('other')", "other"),
                ("t.account(4)", "null", "-"),
            ] {
                let sql = format!("read_accounts({actor}, 1, {id}, null, {owner}, null, 100)");
                assert_eq!(count(&sql).await, foreign.max(i64::from(actor.contains(own))), "{actor}: {sql}");
            }
        }
    }
}

/// The functions under test, prepared once.
struct Reads {
    balance: Statement,
    effective: Statement,
    all: Statement,
    seq_at: Statement,
    statement: Statement,
    entries: Statement,
    transfers: Statement,
}

impl Reads {
    async fn prepare(db: &Client) -> Reads {
        let four =
            "b.debits_pending::text, b.debits_posted::text, b.credits_pending::text, b.credits_posted::text";
        let prepare = async |sql: &str| {
            db.prepare(sql).await.unwrap_or_else(|error| panic!("{sql}: {:?}", error.as_db_error()))
        };
        Reads {
            balance: prepare(&format!("select {four} from ledger.balance_at($1, t.account($2), $3) as b")).await,
            effective: prepare("select debits_posted::text, credits_posted::text from ledger.balance_effective_at($1, t.account($2), t.at($3))").await,
            all: prepare(&format!(
                "select n, {four} from generate_series(0, 7) n join ledger.balances_at($1, t.at($2), $3) as b on b.account_id = t.account(n) order by n"
            ))
            .await,
            seq_at: prepare("select ledger.seq_at($1, t.at($2))").await,
            statement: prepare(
                "select seq, item, base.us(event_at), transfer_id, side, amount::text, balance::text, coalesce(pending_out, 0)::text, \
                   coalesce(pending_in, 0)::text from ledger.read_statement(t.id('operator'), $1, t.account($2), $3, t.at($4), $5, $6, $7)",
            )
            .await,
            entries: prepare("select seq, item, side, account_id, amount::text from ledger.read_entries(t.id('own'), $1, null, $2, $3, $4)").await,
            transfers: prepare("select seq, item, transfer_id from ledger.read_transfers(t.id('operator'), $1, $2, $3, $4, $5)").await,
        }
    }

    /// Everything that can be asked, at `moments` random moments and of as many random accounts.
    async fn check(&self, db: &Client, dice: &mut Dice, ledger_id: i32, moments: usize) {
        let books = Books::read(db, ledger_id).await;
        for _ in 0..moments * 3 {
            let n = usize::try_from(dice.roll(ACCOUNTS as u64)).unwrap();
            self.check_balances(db, dice, &books, n).await;
        }
        for _ in 0..moments {
            let n = usize::try_from(dice.roll(ACCOUNTS as u64)).unwrap();
            for (by, event) in [("record", false), ("event", true)] {
                let expected = books.statement(n, event);
                for limit in [3, 7, 100] {
                    let found = self.pages(db, ledger_id, n, by, limit).await;
                    same(
                        &found,
                        &expected,
                        &format!("ledger {ledger_id}, account {n} by {by}, pages of {limit}"),
                    );
                }
            }
        }
        self.check_lists(db, dice, &books).await;
    }

    async fn check_balances(&self, db: &Client, dice: &mut Dice, books: &Books, n: usize) {
        let (ledger_id, account) = (books.ledger_id, i32::try_from(n).unwrap());
        let four = |row: &Row, from: usize| -> [i128; 4] { std::array::from_fn(|i| number(row, from + i)) };
        let seq = i64::try_from(dice.roll(books.last_seq.unsigned_abs() + 2)).unwrap();
        let row = db.query_one(&self.balance, &[&ledger_id, &account, &seq]).await.unwrap();
        assert_eq!(four(&row, 0), books.at_seq(n, seq), "ledger {ledger_id}, account {n} at {seq}");

        let at = books.moment(dice);
        let found: i64 = db.query_one(&self.seq_at, &[&ledger_id, &at]).await.unwrap().get(0);
        assert_eq!(
            books.count_by_seq(found),
            books.count_at(at),
            "ledger {ledger_id}: {found} is not the place of {at}"
        );
        let row = db.query_one(&self.effective, &[&ledger_id, &account, &at]).await.unwrap();
        let [_, debits, _, credits] = books.at_event(n, at);
        assert_eq!(
            (number(&row, 0), number(&row, 1)),
            (debits, credits),
            "ledger {ledger_id}, account {n}, event {at}"
        );
        for (by, event) in [("record", false), ("event", true)] {
            let rows = db.query(&self.all, &[&ledger_id, &at, &by]).await.unwrap();
            assert_eq!(rows.len(), ACCOUNTS);
            for (n, row) in rows.iter().enumerate() {
                let expected = if event { books.at_event(n, at) } else { books.at_time(n, at) };
                assert_eq!(four(row, 1), expected, "ledger {ledger_id}, account {n}, all by {by} at {at}");
            }
        }
    }

    /// Lists that are paged by (seq, item): an owner's entries, all transfers, a journal.
    async fn check_lists(&self, db: &Client, dice: &mut Dice, books: &Books) {
        let limit = dice.pick(&[1, 3, 7, 100, 1_000]);
        let ledger_id = books.ledger_id;
        let mut found = Vec::new();
        let mut after = (None::<i64>, None::<i32>);
        loop {
            let rows = db.query(&self.entries, &[&ledger_id, &after.0, &after.1, &limit]).await.unwrap();
            let Some(last) = rows.last() else { break };
            after = (last.get(0), last.get(1));
            found.extend(rows.iter().map(|row| {
                let side: String = row.get(2);
                (row.get::<_, i64>(0), row.get::<_, i32>(1), side, row.get::<_, Uuid>(3), number(row, 4))
            }));
        }
        assert_eq!(found, books.entries_of(&[0, 1, 2]), "ledger {ledger_id}: entries, pages of {limit}");
        for journal in [None, Some(books.pick_journal(dice))] {
            let mut found = Vec::new();
            let mut after = (None::<i64>, None::<i32>);
            loop {
                let rows = db
                    .query(&self.transfers, &[&ledger_id, &journal, &after.0, &after.1, &limit])
                    .await
                    .unwrap();
                let Some(last) = rows.last() else { break };
                after = (last.get(0), last.get(1));
                found.extend(
                    rows.iter()
                        .map(|row| (row.get::<_, i64>(0), row.get::<_, i32>(1), row.get::<_, Uuid>(2))),
                );
            }
            assert_eq!(found, books.newest_first(journal), "ledger {ledger_id}: transfers of {journal:?}");
        }
    }

    /// One entry to a page, on both axes.
    async fn paged_by_one(&self, db: &Client, dice: &mut Dice, ledger_id: i32) {
        let books = Books::read(db, ledger_id).await;
        let n = 3 + usize::try_from(dice.roll(5)).unwrap();
        for (by, event) in [("record", false), ("event", true)] {
            let found = self.pages(db, ledger_id, n, by, 1).await;
            same(
                &found,
                &books.statement(n, event),
                &format!("ledger {ledger_id}, account {n} by {by}, one by one"),
            );
        }
    }

    /// A whole statement, page by page.
    async fn pages(&self, db: &Client, ledger_id: i32, n: usize, by: &str, limit: i32) -> Vec<Entry> {
        let account = i32::try_from(n).unwrap();
        let mut found: Vec<Entry> = Vec::new();
        let mut before = (None::<i64>, None::<i64>, None::<i32>);
        loop {
            let rows = db
                .query(&self.statement, &[&ledger_id, &account, &by, &before.0, &before.1, &before.2, &limit])
                .await
                .unwrap_or_else(|error| panic!("{:?}", error.as_db_error()));
            let Some(last) = rows.last() else { return found };
            assert!(rows.len() <= usize::try_from(limit).unwrap());
            before = (Some(last.get(2)), Some(last.get(0)), Some(last.get(1)));
            found.extend(rows.iter().map(|row| Entry {
                place: Place { event_us: row.get(2), seq: row.get(0), item: row.get(1) },
                id: row.get(3),
                debit: row.get::<_, &str>(4) == "debit",
                amount: number(row, 5),
                balance: number(row, 6),
                pending_out: number(row, 7),
                pending_in: number(row, 8),
            }));
        }
    }
}

/// Says where two statements begin to differ, and not all of both.
fn same(found: &[Entry], expected: &[Entry], what: &str) {
    let differs = found.iter().zip(expected).position(|(found, expected)| found != expected);
    if let Some(at) = differs {
        panic!(
            "{what}: entry {at} of {}: found {:?}, expected {:?}",
            expected.len(),
            found[at],
            expected[at]
        );
    }
    assert_eq!(found.len(), expected.len(), "{what}");
}

fn number(row: &Row, column: usize) -> i128 {
    row.get::<_, &str>(column).parse().unwrap()
}
