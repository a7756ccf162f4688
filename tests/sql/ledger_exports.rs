//! Exports of the books: whatever the period, format and kind of time, whoever reads them comes to the ledger's own balances.
//! hledger and Beancount say so themselves where they are installed.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Output};

use analytics::export::{By, Format, Period, Written, export};
use ledger::testing::TestDb;
use parquet::file::reader::{FileReader as _, SerializedFileReader};
use parquet::record::Field;
use tokio_postgres::Client;

/// Two days of a small ledger: three assets (one without decimal places, one amount of 28 digits), holds that are posted in
/// part, voided and left open, one transfer told a day late, one taken back.
const BOOKS: &str = "
  create schema t;
  create function t.id(p_label text) returns uuid language sql as
    $$ select base.derive_id('019b76da-a800-7000-8000-000000000000', p_label, 0) $$;
  create function t.ctx(p_seq bigint, p_at timestamptz) returns base.command_context language sql as
    $$ select row(1, p_seq, t.id('command ' || p_seq), t.id('operator'), '', p_at, 1, '{}')::base.command_context $$;
  create function t.account(p_asset integer, p_name text) returns uuid language sql as $$ select ledger.open_account(
    t.ctx(2, '2025-12-31T12:00Z'), p_asset, split_part(p_name, ' ', 1), case when p_name like '% %' then t.id(split_part(p_name, ' ', 2)) end,
    case when p_name like 'escrow%' then t.id('order') end) $$;
  create function t.post(p_seq bigint, p_at timestamptz, p_id text, p_kind text, p_asset integer, p_debit text, p_credit text,
    p_amount numeric, p_pending text default null, p_reverses text default null, p_effective timestamptz default null) returns void
  language plpgsql as $$
  declare v text[];
  begin
    v := ledger.post_transfers(t.ctx(p_seq, p_at), t.id('journal ' || p_seq), array[row(t.id(p_id), p_kind,
      case when p_debit <> '' then t.account(p_asset, p_debit) end, case when p_credit <> '' then t.account(p_asset, p_credit) end, p_asset, p_amount,
      t.id(p_pending), null, false, 'test', 0, t.id(p_reverses), p_effective)::ledger.transfer_input]);
    if v <> '{ok}' then
      raise exception '%: %', p_id, v;
    end if;
  end $$;
  insert into base.ledgers (ledger_id, name, origin, last_time) values (1, 'test', 'test', '2025-12-31');
  insert into ledger.assets values (1, 'USD', 6), (2, 'BTC', 11), (3, 'H100S', 0);
  grant usage, create on schema t to econ_engine;
  set role econ_engine;
  select t.post(2, '2025-12-31T12:00Z', 'a', 'plain', 1, 'external', 'wallet buyer', 1000123456);
  select t.post(3, '2025-12-31T18:00Z', 'b', 'plain', 2, 'external', 'wallet buyer', 9999999999999999999999999999);
  select t.post(3, '2025-12-31T18:00Z', 'c', 'plain', 3, 'equity', 'wallet buyer', 7);
  select t.post(4, '2026-01-01T06:00Z', 'd', 'pending', 1, 'wallet buyer', 'escrow buyer', 100000000);
  select t.post(4, '2026-01-01T06:00Z', 'e', 'pending', 1, 'wallet buyer', 'external', 5);
  select t.post(5, '2026-01-01T09:00Z', 'f', 'post_pending', 1, '', '', 60000001, 'd');
  select t.post(5, '2026-01-01T09:00Z', 'g', 'void_pending', 1, '', '', null, 'e');
  select t.post(6, '2026-01-01T12:00Z', 'h', 'plain', 1, 'escrow buyer', 'payable seller', 59000000);
  select t.post(6, '2026-01-01T12:00Z', 'i', 'plain', 1, 'wallet buyer', 'external', 1, null, null, '2025-12-31T13:00Z');
  select t.post(7, '2026-01-01T15:00Z', 'j', 'plain', 3, 'wallet buyer', 'equity', 7, null, 'c');
  select t.post(7, '2026-01-01T15:00Z', 'k', 'pending', 1, 'payable seller', 'external', 9000000);
  reset role;
";

async fn books() -> (TestDb, Client) {
    let test_db = TestDb::new().await;
    let db = test_db.admin().await;
    db.batch_execute(BOOKS).await.unwrap_or_else(|error| panic!("{:?}", error.as_db_error()));
    (test_db, db)
}

/// Every period that is asked for: none, cut between two days, within a day, and on both sides.
fn periods() -> Vec<Period> {
    let at = |text: &str| Some(text.parse().unwrap());
    let (midnight, morning, noon) =
        (at("2026-01-01T00:00:00Z"), at("2026-01-01T08:00:00Z"), at("2026-01-01T12:00:00Z"));
    let late = at("2026-02-01T00:00:00Z");
    let mut all = Vec::new();
    for (from, to) in [
        (None, None),
        (midnight, None),
        (morning, None),
        (None, midnight),
        (None, noon),
        (morning, noon),
        (late, None),
    ] {
        for by in [By::Record, By::Event] {
            all.push(Period { ledger_id: 1, from, to, by });
        }
    }
    all
}

async fn exported(db: &TestDb, format: Format, period: &Period) -> (Written, Vec<u8>) {
    let mut client = db.client("econ_auditor").await;
    let mut out = Vec::new();
    let written = export(&mut client, format, period, &mut out).await.unwrap();
    (written, out)
}

/// Account and asset: minor units, credits less debits.
type Balances = BTreeMap<(String, String), i128>;

/// The balances at a period's end, from the tables and not from the view that exports read.
async fn expected(db: &Client, period: &Period) -> Balances {
    let time = if period.by == By::Event { "coalesce(t.effective_at, t.at)" } else { "t.at" };
    let sql = format!(
        "select concat_ws(':', a.purpose, a.owner_id, 'ref-' || a.ref_id), s.code, \
                (case when $1::timestamptz is null then a.credits_posted - a.debits_posted else \
                  (select coalesce(sum(case when t.credit_account_id = a.account_id then t.amount else -t.amount end), 0) from ledger.transfers t \
                    where a.account_id in (t.credit_account_id, t.debit_account_id) and t.kind in ('plain', 'post_pending') and {time} < $1) end)::text \
           from ledger.accounts a join ledger.assets s on s.asset_id = a.asset_id"
    );
    let rows = db.query(&sql, &[&period.to]).await.unwrap();
    let found = rows.iter().map(|row| ((row.get(0), row.get(1)), row.get::<_, String>(2).parse().unwrap()));
    without_zeros(found.collect())
}

fn without_zeros(balances: Balances) -> Balances {
    balances.into_iter().filter(|(_, minor)| *minor != 0).collect()
}

/// A decimal with all its places, in minor units.
fn minor(text: &str) -> i128 {
    text.replace('.', "").parse().unwrap_or_else(|_| panic!("{text}"))
}

/// Whether a program is there; says so when it is not.
fn ran(program: &str, output: std::io::Result<Output>) -> Option<Output> {
    let said = output.ok().filter(|said| !String::from_utf8_lossy(&said.stderr).contains("No module named"));
    if said.is_none() {
        let test = std::thread::current().name().unwrap_or("a test").to_owned();
        eprintln!("SKIPPED {test}: {program} is not installed");
    }
    said
}

fn hledger(file: &Path, args: &[&str]) -> Option<Output> {
    ran("hledger", Command::new("hledger").arg("-f").arg(file).args(args).output())
}

/// ECON_TEST_BEANCOUNT names a folder with Beancount's package; without it Python looks where it always does.
fn bean_check(file: &Path) -> Option<Output> {
    let mut python = Command::new("python3");
    if let Some(folder) = std::env::var_os("ECON_TEST_BEANCOUNT") {
        python.env("PYTHONPATH", folder);
    }
    ran("beancount", python.args(["-m", "beancount.scripts.check", "--no-cache"]).arg(file).output())
}

fn all_of(said: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&said.stdout), String::from_utf8_lossy(&said.stderr))
}

#[tokio::test]
async fn hledger_reaches_our_balances_for_every_period() {
    let (test_db, db) = books().await;
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("books.journal");
    for period in periods() {
        let (written, bytes) = exported(&test_db, Format::Hledger, &period).await;
        std::fs::write(&file, &bytes).unwrap();
        let text = String::from_utf8(bytes).unwrap();
        assert_eq!(text.matches(" = ").count() as u64, written.balances, "{text}");
        let Some(said) = hledger(&file, &["bal", "--flat", "-N", "-O", "csv", "--layout=bare"]) else {
            return;
        };
        assert!(said.status.success(), "{period:?}: {}\n{text}", all_of(&said));
        let mut csv = csv::Reader::from_reader(said.stdout.as_slice());
        let found = csv
            .records()
            .map(Result::unwrap)
            .map(|row| ((row[0].to_owned(), row[1].to_owned()), -minor(&row[2])));
        assert_eq!(without_zeros(found.collect()), expected(&db, &period).await, "{period:?}\n{text}");
    }
    // Its assertions prove something: one minor unit more somewhere, and it complains.
    let (_, bytes) = exported(&test_db, Format::Hledger, &periods()[0]).await;
    let wrong = String::from_utf8(bytes).unwrap().replace("= -59.000000 USD", "= -59.000001 USD");
    std::fs::write(&file, wrong).unwrap();
    let said = hledger(&file, &["bal"]).unwrap();
    assert!(!said.status.success() && all_of(&said).contains("assertion"), "{}", all_of(&said));
    // It knows what is owed.
    let (_, bytes) = exported(&test_db, Format::Hledger, &periods()[0]).await;
    std::fs::write(&file, bytes).unwrap();
    let said = hledger(&file, &["balancesheet"]).unwrap();
    assert!(said.status.success() && all_of(&said).contains("wallet:"), "{}", all_of(&said));
}

#[tokio::test]
async fn bean_check_proves_our_balances_for_every_period() {
    let (test_db, db) = books().await;
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("books.beancount");
    for period in periods() {
        let (_, bytes) = exported(&test_db, Format::Beancount, &period).await;
        std::fs::write(&file, &bytes).unwrap();
        let text = String::from_utf8(bytes).unwrap();
        assert_eq!(without_zeros(asserted(&text)), expected(&db, &period).await, "{period:?}\n{text}");
        let Some(said) = bean_check(&file) else { return };
        assert!(said.status.success() && said.stdout.is_empty(), "{period:?}: {}\n{text}", all_of(&said));
    }
    // Beancount would let a last digit pass; what we assert is exact.
    let (_, bytes) = exported(&test_db, Format::Beancount, &periods()[0]).await;
    let wrong = String::from_utf8(bytes).unwrap().replace("-59.000000 ~ 0 USD", "-59.000001 ~ 0 USD");
    std::fs::write(&file, wrong).unwrap();
    let said = bean_check(&file).unwrap();
    assert!(!said.status.success() && all_of(&said).contains("Balance failed"), "{}", all_of(&said));
}

/// What the `balance` directives say, under the ledger's own names.
fn asserted(text: &str) -> Balances {
    let mut found = Balances::new();
    for line in text.lines().filter(|line| line.split(' ').nth(1) == Some("balance")) {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [_, purpose, leaf] = words[2].split(':').collect::<Vec<_>>()[..] else { panic!("{line}") };
        let leaf = leaf.replace("House", "").replace("Agent-", ":").replace("-Ref-", ":ref-");
        let name = format!("{}{leaf}", purpose.to_lowercase());
        assert_eq!(words[4..6], ["~", "0"], "{line}");
        found.insert((name, words[6].to_owned()), -minor(words[3]));
    }
    found
}

#[tokio::test]
async fn csv_and_parquet_hold_every_transfer_and_add_up_to_our_balances() {
    let (test_db, db) = books().await;
    let before_all = "1970-01-01T00:00:00Z".parse().unwrap();
    for period in periods() {
        let mut opening = expected(&db, &Period { to: period.from.or(Some(before_all)), ..period }).await;
        let end = expected(&db, &period).await;
        let (written, bytes) = exported(&test_db, Format::Csv, &period).await;
        let mut csv = csv::Reader::from_reader(bytes.as_slice());
        let place = |name: &str, csv: &mut csv::Reader<&[u8]>| {
            csv.headers().unwrap().iter().position(|column| column == name).unwrap()
        };
        let [kind, debit, credit, asset, scale, amount, minor_units] =
            ["kind", "debit_account", "credit_account", "asset", "scale", "amount", "amount_minor"]
                .map(|name| place(name, &mut csv));
        let rows: Vec<csv::StringRecord> = csv.records().map(Result::unwrap).collect();
        assert_eq!(rows.len() as u64, written.transfers);
        let mut lines = Vec::new();
        for row in &rows {
            assert_eq!(minor(&row[amount]), minor(&row[minor_units]), "{row:?}");
            let places = row[amount].split_once('.').map_or(0, |(_, fraction)| fraction.len());
            assert_eq!(places.to_string(), row[scale], "{row:?}");
            let line = [kind, debit, credit, asset].map(|column| row[column].to_owned());
            lines.push((line, minor(&row[minor_units])));
        }
        for (line, minor) in &lines {
            add(&mut opening, line, *minor);
        }
        assert_eq!(without_zeros(opening), end, "{period:?}");

        let (also, bytes) = exported(&test_db, Format::Parquet, &period).await;
        assert_eq!(also, written);
        let file = SerializedFileReader::new(bytes::Bytes::from(bytes)).unwrap();
        let typed: Vec<([String; 4], i128)> = file
            .get_row_iter(None)
            .unwrap()
            .map(|row| {
                let row = row.unwrap();
                let field =
                    |name: &str| row.get_column_iter().find(|(column, _)| *column == name).unwrap().1.clone();
                let text = |name: &str| match field(name) {
                    Field::Str(text) => text,
                    other => panic!("{name} is {other:?}"),
                };
                let Field::Decimal(amount) = field("amount_minor") else { panic!("no decimal") };
                assert_eq!((amount.precision(), amount.scale()), (28, 0));
                let minor = amount.data().iter().fold(0_i128, |sum, byte| sum << 8 | i128::from(*byte));
                assert!(matches!(field("at"), Field::TimestampMicros(_)), "{:?}", field("at"));
                (["kind", "debit_account", "credit_account", "asset"].map(text), minor)
            })
            .collect();
        assert_eq!(typed, lines, "{period:?}");
    }
    let whole = Period { ledger_id: 1, from: None, to: None, by: By::Record };
    let count: i64 = db.query_one("select count(*) from ledger.transfers", &[]).await.unwrap().get(0);
    assert_eq!(exported(&test_db, Format::Csv, &whole).await.0.transfers, u64::try_from(count).unwrap());
}

/// What a line of kind, debit, credit, asset does to balances.
fn add(balances: &mut Balances, [kind, debit, credit, asset]: &[String; 4], minor: i128) {
    if ["plain", "post_pending"].contains(&kind.as_str()) {
        *balances.entry((debit.clone(), asset.clone())).or_default() -= minor;
        *balances.entry((credit.clone(), asset.clone())).or_default() += minor;
    }
}

#[tokio::test]
async fn a_ledger_of_nothing_is_exported_as_nothing() {
    let test_db = TestDb::new().await;
    let whole = Period { ledger_id: 1, from: None, to: None, by: By::Event };
    for format in [Format::Hledger, Format::Beancount, Format::Csv, Format::Parquet] {
        assert_eq!(exported(&test_db, format, &whole).await.0, Written::default());
    }
}
