//! Somebody with the superuser's rights, who switches the guards off and changes what was written: `verify` fails and names
//! the place.

use ledger::pipeline::{Pipeline, PipelineOptions, checkpoint_path};
use ledger::verify::Report;
use proto::ids::Hash32;
use proto::keys::KeyPair;
use proto::merkle::{Frontier, leaf_hash};
use proto::note::{Checkpoint, NoteName, sign_checkpoint};
use proto::prost::Message as _;
use proto::v1::{self, command_body::Kind};

use crate::support::checks::{rows, superuser, verified, verify, verify_database, verify_with};
use crate::support::kinds;
use crate::support::market::{Market, id_of};
use crate::support::party::LEDGER;

/// A log with two cycles, a refusal and a payout, closed under its checkpoint, with all guards switched off.
/// `None`, and the test names itself as skipped, where the tests' Postgres gives no superuser: nobody else can do this.
async fn tampering() -> Option<Market> {
    let market = Market::start().await;
    if !superuser(&market.admin).await {
        return None;
    }
    market.settled().await;
    market.settled().await;
    assert_eq!(market.send(&market.buyer, kinds::cancel_rfq(market.id())).await.code, "UM401");
    market.reserved(id_of(&market.provider)).await;
    market.pipeline.shutdown().await;
    verified(&market).await;
    market.admin.batch_execute("set session_replication_role = replica").await.unwrap();
    Some(market)
}

/// Changes something, which must have been there to change.
async fn change(market: &Market, sql: &str) {
    let changed = market.admin.execute(sql, &[]).await.unwrap_or_else(|error| panic!("{sql}: {error:?}"));
    assert!(changed > 0, "nothing was changed: {sql}");
}

/// `verify` must fail, at this check first, and name this place.
async fn found(market: &Market, check: &str, place: &str) -> Report {
    let report = verify(market).await;
    expect(&report, check, place);
    report
}

fn expect(report: &Report, check: &str, place: &str) {
    let Some((name, problem)) = report.first_problem() else { panic!("nothing was found:\n{report}") };
    assert_eq!(name, check, "{report}");
    assert!(problem.place.starts_with(place), "expected {place}:\n{report}");
    assert!(!report.passed());
}

/// The check of this name failed too.
fn also(report: &Report, check: &str) {
    let found = report.checks.iter().find(|found| found.name == check);
    assert!(
        found.unwrap_or_else(|| panic!("no check {check}")).problem.is_some(),
        "{check} passed:\n{report}"
    );
}

/// seq of the newest command of a kind.
async fn seq(market: &Market, kind: &str) -> i64 {
    market.count(&format!("select max(seq) from base.commands where kind = '{kind}'")).await
}

async fn envelope(market: &Market, seq: i64) -> v1::Envelope {
    let row = market
        .admin
        .query_one("select envelope from receipts.receipts where seq = $1", &[&seq])
        .await
        .unwrap();
    v1::Envelope::decode(row.get::<_, Vec<u8>>(0).as_slice()).unwrap()
}

async fn store_envelope(market: &Market, seq: i64, envelope: &v1::Envelope) {
    let stored = "update receipts.receipts set envelope = $2 where seq = $1";
    assert_eq!(market.admin.execute(stored, &[&seq, &envelope.encode_to_vec()]).await.unwrap(), 1);
}

#[tokio::test]
async fn a_changed_amount_of_a_transfer_is_found() {
    let Some(market) = tampering().await else { return };
    change(&market, "update ledger.transfers set amount = amount + 1 where seq = (select max(seq) from ledger.transfers where reason = 'escrow')").await;
    let report = found(&market, "audit.views", "ledger.audit_accounts").await;
    also(&report, "replay.tables");
}

#[tokio::test]
async fn an_amount_changed_with_everything_that_sums_it_is_found_by_replay() {
    let Some(market) = tampering().await else { return };
    // A forger who keeps the books balanced: the provider earned 1,000 more, and the buyer spent 1,000 less.
    change(
        &market,
        "update ledger.accounts set credits_posted = credits_posted + 1000 where purpose = 'wallet'",
    )
    .await;
    change(
        &market,
        "update ledger.accounts set debits_posted = debits_posted + 1000 where purpose = 'external'",
    )
    .await;
    change(&market, "update ledger.transfers set amount = amount + 1000 where reason = 'deposit'").await;
    change(&market, "update ledger.deposits set amount = amount + 1000").await;
    let report = found(&market, "replay.tables", "ledger.accounts").await;
    let message = &report.first_problem().unwrap().1.message;
    assert!(message.contains("1000000000") && message.contains("1000001000"), "{message}");
}

#[tokio::test]
async fn a_changed_balance_is_found() {
    let Some(market) = tampering().await else { return };
    change(
        &market,
        "update ledger.accounts set credits_posted = credits_posted + 1 where purpose = 'wallet'",
    )
    .await;
    let report = found(&market, "conservation.asset", "1 asset 1").await;
    also(&report, "audit.views");
    also(&report, "replay.tables");
}

#[tokio::test]
async fn a_lifted_limit_and_an_account_under_another_id_are_found() {
    let Some(market) = tampering().await else { return };
    for (wrong, right) in [
        (
            "update ledger.accounts set debits_must_not_exceed_credits = false where purpose = 'wallet'",
            "update ledger.accounts set debits_must_not_exceed_credits = true where purpose = 'wallet'",
        ),
        (
            "update ledger.accounts set ref_id = owner_id where purpose = 'wallet'",
            "update ledger.accounts set ref_id = null where purpose = 'wallet'",
        ),
    ] {
        change(&market, wrong).await;
        let report = found(&market, "audit.views", "ledger.audit_flags").await;
        also(&report, "replay.tables");
        change(&market, right).await;
    }
    verified(&market).await;
}

#[tokio::test]
async fn a_deleted_receipt_is_found() {
    let Some(market) = tampering().await else { return };
    let seq = seq(&market, "settle_order").await;
    change(&market, &format!("delete from receipts.receipts where seq = {seq}")).await;
    let report = found(&market, "log.gapless", &format!("receipts.receipts seq {seq}")).await;
    also(&report, "checkpoints");
    also(&report, "replay.receipts");
}

#[tokio::test]
async fn a_receipt_deleted_with_its_command_is_found() {
    let Some(market) = tampering().await else { return };
    let seq = seq(&market, "cancel_rfq").await;
    change(&market, &format!("delete from receipts.receipts where seq = {seq}")).await;
    change(&market, &format!("delete from base.commands where seq = {seq}")).await;
    let report = found(&market, "log.gapless", &format!("base.commands seq {seq}")).await;
    also(&report, "log.inclusion");
    also(&report, "checkpoints");
}

#[tokio::test]
async fn a_deleted_command_leaves_an_orphan_that_is_found() {
    let Some(market) = tampering().await else { return };
    let last = market.count("select last_seq from base.ledgers").await;
    change(&market, &format!("delete from base.commands where seq = {last}")).await;
    change(&market, "update base.ledgers set last_seq = last_seq - 1").await;
    found(&market, "log.gapless", &format!("receipts.receipts seq {last}")).await;
}

#[tokio::test]
async fn swapped_and_bent_signatures_of_receipts_are_found() {
    let Some(market) = tampering().await else { return };
    let (one, two) = (seq(&market, "accept_output").await, seq(&market, "settle_order").await);
    let (first, second) = (envelope(&market, one).await, envelope(&market, two).await);
    // The signature of another receipt.
    let swapped = v1::Envelope { signatures: second.signatures.clone(), ..first.clone() };
    store_envelope(&market, one, &swapped).await;
    let report = found(&market, "receipts.signature", &format!("receipts.receipts seq {one}")).await;
    also(&report, "log.inclusion");
    also(&report, "checkpoints");
    // One bit.
    let mut bent = first.clone();
    bent.signatures[0].sig[17] ^= 1;
    store_envelope(&market, one, &bent).await;
    found(&market, "receipts.signature", &format!("receipts.receipts seq {one}")).await;
    // Another receipt's whole envelope: well signed, and not this command's.
    store_envelope(&market, one, &second).await;
    let report = found(&market, "receipts.content", &format!("receipts.receipts seq {one}")).await;
    also(&report, "log.inclusion");
    // Put back, all is well: it was only that.
    store_envelope(&market, one, &first).await;
    verified(&market).await;
}

#[tokio::test]
async fn swapped_signatures_and_changed_bodies_of_commands_are_found() {
    let Some(market) = tampering().await else { return };
    let (one, two) = (seq(&market, "accept_output").await, seq(&market, "settle_order").await);
    let backup = "create temp table kept as select * from base.commands";
    market.admin.batch_execute(backup).await.unwrap();
    let restore = "delete from base.commands; insert into base.commands select * from kept";
    for sql in [
        // One bit of a signature; another request's signed bytes; another body; another key.
        format!(
            "update base.commands set signature = set_byte(signature, 5, get_byte(signature, 5) # 1) where seq = {one}"
        ),
        format!(
            "update base.commands c set signature_base = o.signature_base, signature = o.signature from base.commands o where c.seq = {one} and o.seq = {two}"
        ),
        format!(
            "update base.commands c set body = o.body from base.commands o where c.seq = {one} and o.seq = {two}"
        ),
        format!("update base.commands set key_id = sha256('x') where seq = {one}"),
    ] {
        change(&market, &sql).await;
        found(&market, "commands.signature", &format!("base.commands seq {one}")).await;
        market.admin.batch_execute(restore).await.unwrap();
    }
    for (column, value, check, place) in [
        (
            "facts",
            "replace(facts, 'accepted', 'settled')",
            "receipts.content",
            format!("receipts.receipts seq {one}"),
        ),
        ("code", "'UM604'", "receipts.content", format!("receipts.receipts seq {one}")),
        ("at", "at + interval '1 microsecond'", "receipts.content", format!("receipts.receipts seq {one}")),
        ("idempotency_key", "'another'", "replay.tables", "base.commands".to_owned()),
        ("nonce", "null", "replay.tables", "base.commands".to_owned()),
    ] {
        change(&market, &format!("update base.commands set {column} = {value} where seq = {one}")).await;
        found(&market, check, &place).await;
        market.admin.batch_execute(restore).await.unwrap();
    }
    verified(&market).await;
}

/// Not every column decides something when the log is replayed; each is under the receipt's signature all the same.
#[tokio::test]
async fn what_decides_nothing_cannot_be_changed_either() {
    let market = Market::start().await;
    // An accepting clock that went back: ledger time is later than the moment of acceptance.
    market.advance(std::time::Duration::from_secs(3_600));
    market.asked().await;
    market.pipeline.clock().simulate(0);
    let late = market.must(&market.buyer, Kind::OpenRfq(kinds::rfq(market.id()))).await;
    market.pipeline.shutdown().await;
    verified(&market).await;
    if !superuser(&market.admin).await {
        return;
    }
    let one = late.seq;
    assert_eq!(
        market
            .count(&format!("select count(*) from base.commands where seq = {one} and accepted_at < at"))
            .await,
        1
    );
    market
        .admin
        .batch_execute(
            "set session_replication_role = replica; create temp table kept as select * from base.commands",
        )
        .await
        .unwrap();
    for (column, value) in [
        ("accepted_at", "accepted_at - interval '1 second'"),
        ("recorded", "'{\"a\": \"story\"}'"),
        ("simulated", "false"),
        ("rules_version", "1"),
    ] {
        change(&market, &format!("update base.commands set {column} = {value} where seq = {one}")).await;
        found(&market, "receipts.content", &format!("receipts.receipts seq {one}")).await;
        market
            .admin
            .batch_execute("delete from base.commands; insert into base.commands select * from kept")
            .await
            .unwrap();
    }
    verified(&market).await;
}

#[tokio::test]
async fn a_reordered_log_is_found() {
    let Some(market) = tampering().await else { return };
    let last = market.count("select last_seq from base.ledgers").await;
    let (one, two) = (last - 3, last - 2);
    let swap = |table: &str| {
        format!(
            "update {table} set seq = -seq where seq in ({one}, {two});
             update {table} set seq = {one} where seq = -{two}; update {table} set seq = {two} where seq = -{one};"
        )
    };
    // Both sides of each command change places: nothing is missing, and yet the order is another.
    market
        .admin
        .batch_execute("alter table base.commands drop constraint commands_seq_positive_ck")
        .await
        .unwrap();
    market.admin.batch_execute(&swap("receipts.receipts")).await.unwrap();
    let report = found(&market, "receipts.content", &format!("receipts.receipts seq {one}")).await;
    also(&report, "log.inclusion");
    market.admin.batch_execute(&swap("base.commands")).await.unwrap();
    let report = found(&market, "receipts.content", &format!("receipts.receipts seq {one}")).await;
    assert!(report.first_problem().unwrap().1.message.contains("seq"), "{report}");
    also(&report, "log.inclusion");
    also(&report, "checkpoints");
    also(&report, "replay.receipts");
}

#[tokio::test]
async fn a_broken_link_a_foreign_id_and_a_bent_tree_are_found() {
    let Some(market) = tampering().await else { return };
    let one = seq(&market, "settle_order").await;
    let old =
        |column: &str| format!("select encode({column}, 'hex') from receipts.receipts where seq = {one}");
    for (column, check) in [("prev", "receipts.links"), ("receipt_id", "receipts.content")] {
        let kept = market.text(&old(column)).await;
        change(&market, &format!("update receipts.receipts set {column} = sha256('x') where seq = {one}"))
            .await;
        found(&market, check, &format!("receipts.receipts seq {one}")).await;
        change(
            &market,
            &format!("update receipts.receipts set {column} = decode('{kept}', 'hex') where seq = {one}"),
        )
        .await;
    }
    change(&market, "update receipts.tiles set hashes = set_byte(hashes, 40, get_byte(hashes, 40) # 1) where ledger_id > 0")
        .await;
    found(&market, "log.tiles", "receipts.tiles level 0 tile 0").await;
    change(&market, "update receipts.tiles set hashes = set_byte(hashes, 40, get_byte(hashes, 40) # 1) where ledger_id > 0")
        .await;
    change(&market, "update receipts.logs set root = sha256('x') where ledger_id > 0").await;
    found(&market, "log.inclusion", "receipts.logs").await;
}

/// Cuts the newest commands off as somebody would who knows the tree: what is left is whole in itself.
async fn cut_off(market: &Market, count: i64) {
    let last = market.count("select last_seq from base.ledgers").await - count;
    let envelopes = market
        .admin
        .query("select envelope from receipts.receipts where seq <= $1 order by seq", &[&last])
        .await
        .unwrap();
    let mut frontier = Frontier::new();
    for row in &envelopes {
        frontier.append(leaf_hash(&row.get::<_, Vec<u8>>(0)));
    }
    for table in ["receipts.receipts", "base.commands", "base.transitions", "market.feed_events"] {
        change(market, &format!("delete from {table} where seq > {last}")).await;
    }
    change(market, &format!("delete from receipts.checkpoints where ledger_id > 0 and size > {last}")).await;
    change(
        market,
        &format!("update receipts.tiles set hashes = substring(hashes for {last} * 32) where ledger_id > 0"),
    )
    .await;
    change(market, &format!("update base.ledgers set last_seq = {last}")).await;
    let peaks: Vec<Vec<u8>> = frontier.peaks().iter().map(|peak| peak.0.to_vec()).collect();
    let log = "update receipts.logs set size = $1, root = $2, peaks = $3 where ledger_id > 0";
    market.admin.execute(log, &[&last, &frontier.root().0.to_vec(), &peaks]).await.unwrap();
}

#[tokio::test]
async fn a_tail_cut_off_together_with_its_checkpoint_is_found_and_the_server_refuses_to_serve() {
    let Some(mut market) = tampering().await else { return };
    cut_off(&market, 1).await;
    let report = found(&market, "checkpoints", "the checkpoint kept outside the database").await;
    let message = &report.first_problem().unwrap().1.message;
    assert!(message.contains("cut off"), "{message}");
    market.restart();
    let refused = market.pipeline.check_checkpoints().await.unwrap_err();
    assert_eq!(refused.code, "UR903", "{refused}");
    // Nor does a server that runs all the same paper over it: the promise outside stays the old one.
    let outside = checkpoint_path(&market.dir().join("checkpoints"), LEDGER);
    let promised = std::fs::read_to_string(&outside).unwrap();
    market.must(&market.buyer, Kind::OpenRfq(kinds::rfq(market.id()))).await;
    market.pipeline.shutdown().await;
    assert_eq!(std::fs::read_to_string(&outside).unwrap(), promised);
    found(&market, "checkpoints", "the checkpoint kept outside the database").await;
}

#[tokio::test]
async fn a_database_restored_to_an_earlier_point_is_found_and_not_served() {
    let mut market = Market::start().await;
    market.settled().await;
    market.pipeline.shutdown().await;
    let earlier = format!("{}_earlier", market.db.name());
    let (server, _) = connect(&market.db.cluster().config("postgres", None)).await;
    // A copy needs the original to itself.
    let copy = format!("create database {earlier} template {} strategy file_copy", market.db.name());
    let end = "select pg_terminate_backend(pid) from pg_stat_activity where datname = $1";
    server.query(end, &[&market.db.name()]).await.unwrap();
    while server
        .query_one("select count(*) from pg_stat_activity where datname = $1", &[&market.db.name()])
        .await
        .unwrap()
        .get::<_, i64>(0)
        > 0
    {}
    server.batch_execute(&copy).await.unwrap();
    market.admin = market.db.admin().await;
    market.restart();
    market.settled().await;
    market.pipeline.shutdown().await;
    verified(&market).await;

    // The copy is a perfect log, only shorter than what was promised.
    let config = market.db.cluster().config(&earlier, Some("econ_auditor"));
    let report = verify_database(&market, config, None).await;
    expect(&report, "checkpoints", "the checkpoint kept outside the database");
    let failed: Vec<&str> =
        report.checks.iter().filter(|check| check.problem.is_some()).map(|check| check.name).collect();
    assert_eq!(failed, ["checkpoints", "forest"], "{report}");
    let served = Pipeline::start(PipelineOptions {
        database: market.db.cluster().config(&earlier, Some("econ_api")),
        house: market.pipeline.house().clone(),
        clock: market.pipeline.clock().clone(),
        ledger_ids: vec![LEDGER],
        checkpoint_dir: market.dir().join("checkpoints"),
        batch_max: 1,
    });
    assert_eq!(served.check_checkpoints().await.unwrap_err().code, "UR903");
    served.shutdown().await;
    server.batch_execute(&format!("drop database {earlier} with (force)")).await.unwrap();
}

async fn connect(config: &tokio_postgres::Config) -> (tokio_postgres::Client, tokio::task::JoinHandle<()>) {
    let (client, driver) = config.connect(tokio_postgres::NoTls).await.unwrap();
    // Ends with the client.
    (client, tokio::spawn(async move { drop(driver.await) }))
}

#[tokio::test]
async fn a_forged_checkpoint_is_found_inside_and_outside() {
    let Some(market) = tampering().await else { return };
    let row = market
        .admin
        .query_one("select size, root, note from receipts.checkpoints where ledger_id > 0 order by size desc limit 1", &[])
        .await
        .unwrap();
    let (size, root, note): (i64, Vec<u8>, String) = (row.get(0), row.get(1), row.get(2));
    let forger = KeyPair::from_seed(&[66; 32]);
    let origin: NoteName = market.text("select origin from base.ledgers").await.parse().unwrap();
    let signed = |key: &KeyPair, root: &[u8]| {
        let root = proto::merkle::TreeHash::from_slice(root).unwrap();
        sign_checkpoint(&Checkpoint { origin: origin.clone(), size: u64::try_from(size).unwrap(), root }, key)
    };
    let store = "update receipts.checkpoints set note = $1 where ledger_id > 0 and size = $2";
    let place = format!("receipts.checkpoints size {size}");
    // The right tree, signed by somebody else; another tree, signed by nobody; another tree, signed by the house itself.
    let other_root = Hash32::of(b"another tree");
    let house = market.pipeline.house().receipt_key().clone();
    for forged in [
        signed(&forger, &root),
        note.replace(note.lines().nth(2).unwrap(), "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="),
        signed(&house, other_root.as_ref()),
    ] {
        market.admin.execute(store, &[&forged, &size]).await.unwrap();
        found(&market, "checkpoints", &place).await;
    }
    market.admin.execute(store, &[&note, &size]).await.unwrap();
    verified(&market).await;
    let outside = checkpoint_path(&market.dir().join("checkpoints"), LEDGER);
    for forged in [signed(&forger, &root), signed(&house, other_root.as_ref())] {
        std::fs::write(&outside, forged).unwrap();
        found(&market, "checkpoints", "the checkpoint kept outside the database").await;
    }
}

#[tokio::test]
async fn a_log_signed_by_another_receipt_key_is_not_believed() {
    let Some(market) = tampering().await else { return };
    let forger = *KeyPair::from_seed(&[66; 32]).public();
    let report = verify_database(&market, market.db.config("econ_auditor"), Some(forger)).await;
    expect(&report, "receipts.signature", "receipts.receipts seq 1");
    also(&report, "checkpoints");
    // A sender's key that is replaced in the table verifies nothing any more.
    change(&market, "update identity.keys set public_key = sha256('x') where purpose = 'buyer'").await;
    found(&market, "commands.signature", "base.commands seq").await;
}

#[tokio::test]
async fn rows_that_the_log_never_made_and_rows_that_it_lacks_are_found() {
    let Some(market) = tampering().await else { return };
    let one = seq(&market, "settle_order").await;
    market.admin.batch_execute("create schema kept").await.unwrap();
    for (table, sql, check, place) in [
        // A transition that disappears: the order's state no longer follows from its moves.
        ("base.transitions", format!("delete from base.transitions where seq = {one}"), "audit.views", "market.audit_transitions"),
        // Money that nobody earned.
        (
            "payouts.payables",
            "insert into payouts.payables select ledger_id, gen_random_uuid(), payee_id, asset_id, 1000000, order_id, 9, seq, at \
             from payouts.payables limit 1"
                .to_owned(),
            "audit.views",
            "payouts.audit_payouts",
        ),
        ("splits.legs", "delete from splits.legs where n = 1".to_owned(), "conservation.split", "splits.settlements"),
        ("market.orders", "update market.orders set paid = paid - 1, refunded = refunded + 1".to_owned(), "audit.views", "market.audit_orders"),
        // What no sum and no audit can see is still not what the log gives.
        ("market.capability_ads", "update market.capability_ads set device_kind = 'gpu'".to_owned(), "replay.tables", "market.capability_ads"),
        ("identity.agents", "update identity.agents set registered_at = registered_at - interval '1 day'".to_owned(), "replay.tables", "identity.agents"),
        ("market.feed_events", "delete from market.feed_events where seq = (select max(seq) from market.feed_events)".to_owned(), "replay.tables", "market.feed_events"),
        ("metering.rows", "update metering.rows set energy_mj = 7 where row_seq = (select max(row_seq) from metering.rows)".to_owned(), "replay.tables", "metering.rows"),
        ("identity.purpose_permits", "insert into identity.purpose_permits values ('provider', 'settle_order')".to_owned(), "replay.tables", "identity.purpose_permits"),
        ("receipts.subject_heads", "delete from receipts.subject_heads where seq = 1".to_owned(), "replay.tables", "receipts.subject_heads"),
    ] {
        market.admin.batch_execute(&format!("create table kept.rows as select * from {table}")).await.unwrap();
        change(&market, &sql).await;
        found(&market, check, place).await;
        let restore = format!("delete from {table}; insert into {table} select * from kept.rows; drop table kept.rows");
        market.admin.batch_execute(&restore).await.unwrap();
    }
    market.admin.batch_execute("drop schema kept").await.unwrap();
    verified(&market).await;
    assert!(rows(&market.admin, "select 1::text from pg_namespace where nspname = 'kept'").await.is_empty());
}

/// Somebody who owns the database and the disk takes the newest receipts back, with every checkpoint that he can reach.
#[tokio::test]
async fn a_tail_cut_off_with_every_checkpoint_of_the_house_is_found_by_a_witnessed_one() {
    let Some(market) = tampering().await else { return };
    let outside = checkpoint_path(&market.dir().join("checkpoints"), LEDGER);
    let note = std::fs::read_to_string(&outside).unwrap();
    let witness = KeyPair::from_seed(&[77; 32]);
    let (text, _) = proto::note::split(&note).unwrap();
    let line = proto::note::cosign(text, &"witness.example".parse().unwrap(), &witness, 1_795_000_000);
    let witnessed = format!("{note}{line}");
    assert!(verify_with(&market, vec![("witnessed".into(), witnessed.clone())]).await.passed());
    cut_off(&market, 1).await;
    for table in ["receipts.forest_entries", "receipts.forests"] {
        change(&market, &format!("delete from {table}")).await;
    }
    for table in ["receipts.checkpoints", "receipts.logs", "receipts.tiles"] {
        change(&market, &format!("delete from {table} where ledger_id = 0")).await;
    }
    std::fs::remove_dir_all(market.dir().join("checkpoints")).unwrap();
    let report = verify_with(&market, vec![("the witness' checkpoint".into(), witnessed)]).await;
    expect(&report, "checkpoints", "the witness' checkpoint");
    let message = &report.first_problem().unwrap().1.message;
    assert!(message.contains("cut off"), "{message}");
}
