//! The past: a log replayed up to a moment or a command, and what can still be compared then.

use std::time::Duration;

use ledger::replay::{ReplayOptions, Source, Until};
use ledger::verify::{Comparison, Extent};
use proto::keys::KeyPair;
use proto::note::{Checkpoint, NoteName, sign_checkpoint};

use crate::support::checks::{rows, superuser};
use crate::support::market::{Market, id_of};
use crate::support::replays::{BATCHES, again, options, replayed, tried};

/// Domain tables of a database, as text, for comparing two of them.
async fn state(db: &tokio_postgres::Client) -> Vec<String> {
    let mut all = Vec::new();
    for table in [
        "ledger.accounts",
        "market.orders",
        "market.rfqs",
        "ledger.holds",
        "payouts.payouts",
        "market.offers",
    ] {
        all.extend(
            rows(db, &format!("select '{table} ' || t::text from {table} t order by t::text collate \"C\""))
                .await,
        );
    }
    all
}

#[tokio::test]
async fn the_market_of_a_past_moment_is_what_it_was() {
    let market = Market::start().await;
    market.freeze();
    market.settled().await;
    let running = market.running().await;
    let then = state(&market.admin).await;
    let at_us =
        market.count("select (extract(epoch from last_time) * 1000000)::bigint from base.ledgers").await;
    let seq = market.count("select last_seq from base.ledgers").await;
    market.advance(Duration::from_secs(5));
    market.meter(&running, &[7, 37]).await;
    market.settled().await;
    market.refunded().await;
    market.reserved(id_of(&market.provider)).await;
    market.pipeline.shutdown().await;
    assert_ne!(state(&market.admin).await, then);
    for batch in BATCHES {
        for until in [
            Until::Time(at_us),
            Until::Time(at_us + 4_000_000),
            Until::Seq { ledger_id: Some(1), seq },
            Until::Seq { ledger_id: None, seq },
        ] {
            let again = again(&market, batch, until).await;
            assert!(again.proof.passed(), "{until:?}: {:#?}", again.proof.problems());
            let end = &again.proof.replayed.ledgers[0];
            assert_eq!(
                (end.seq, again.proof.replayed.commands),
                (seq, u64::try_from(seq).unwrap()),
                "{until:?}"
            );
            assert_eq!(state(&again.db).await, then, "{until:?}");
            // The promise that was made afterwards begins with what was replayed.
            assert!(end.checkpoint_after.is_some_and(|size| size >= seq), "{end:?}");
            again.drop().await;
        }
    }
    let before = Until::Time(
        market.count("select min(extract(epoch from at) * 1000000)::bigint from base.commands").await - 1,
    );
    for (until, code) in [
        (before, "UB432"),
        (Until::Seq { ledger_id: None, seq: 0 }, "UB432"),
        (Until::Seq { ledger_id: None, seq: 10_000 }, "UB432"),
        (Until::Seq { ledger_id: Some(7), seq: 1 }, "UB401"),
    ] {
        let replay = ReplayOptions { until, ..options(7) };
        let source = Source::Database(market.db.config("econ_auditor"));
        let refused = tried(&source, replay, None).await.err().unwrap();
        assert_eq!(refused.code, code, "{until:?}: {refused}");
    }
}

#[tokio::test]
async fn the_part_of_todays_tables_that_was_there_then_is_compared() {
    let market = Market::start().await;
    if !superuser(&market.admin).await {
        return;
    }
    market.settled().await;
    let seq = market.count("select last_seq from base.ledgers").await;
    let until = Until::Seq { ledger_id: None, seq };
    market.disputed().await;
    market.pipeline.shutdown().await;
    let first = again(&market, 500, until).await;
    assert!(first.proof.passed(), "{:#?}", first.proof.problems());
    let of = |tables: &[Comparison], name: &str| tables.iter().find(|one| one.table == name).unwrap().clone();
    let transfers = of(&first.proof.tables, "ledger.transfers");
    assert_eq!(transfers.extent, Extent::UpTo(Vec::new()), "nothing of a transfer changes");
    assert!(transfers.replayed.rows > 3 && transfers.stored == Some(transfers.replayed));
    let Extent::UpTo(changing) = of(&first.proof.tables, "ledger.accounts").extent else {
        panic!("accounts have a seq")
    };
    assert!(
        changing.contains(&"credits_posted".to_owned()) && !changing.contains(&"asset_id".to_owned()),
        "{changing:?}"
    );
    // Their seq is that of the newest command, so only what cannot change tells them apart.
    assert!(matches!(of(&first.proof.tables, "receipts.subject_heads").extent, Extent::StillThere(_)));
    assert!(matches!(of(&first.proof.tables, "market.rfq_invitations").extent, Extent::StillThere(_)));
    first.drop().await;

    market.admin.batch_execute("set session_replication_role = replica").await.unwrap();
    let settled = market
        .text("select 'seq ' || max(seq) || ' settle_order' from base.commands where kind = 'settle_order'")
        .await;
    for (table, change, back, place) in [
        (
            "ledger.transfers",
            format!("update ledger.transfers set amount = amount + 1 where seq = (select max(seq) from base.commands where kind = 'settle_order') and reason = 'refund' or transfer_id = (select max(transfer_id::text)::uuid from ledger.transfers where seq <= {seq})"),
            format!("update ledger.transfers set amount = amount - 1 where seq = (select max(seq) from base.commands where kind = 'settle_order') and reason = 'refund' or transfer_id = (select max(transfer_id::text)::uuid from ledger.transfers where seq <= {seq})"),
            "ledger.transfers (ledger_id 1, ",
        ),
        (
            "market.rfq_invitations",
            "update market.rfq_invitations set rank = rank + 7 where rfq_id = (select rfq_id from market.orders where state = 'settled')".to_owned(),
            "update market.rfq_invitations set rank = rank - 7 where rfq_id = (select rfq_id from market.orders where state = 'settled')".to_owned(),
            "market.rfq_invitations (ledger_id 1, ",
        ),
    ] {
        assert!(market.admin.execute(&change, &[]).await.unwrap() > 0, "{change}");
        let again = again(&market, 500, until).await;
        let problems = again.proof.problems();
        assert_eq!(problems.len(), 1, "{table}: {problems:#?}");
        assert!(problems[0].place.starts_with(place), "{problems:#?}");
        again.drop().await;
        market.admin.execute(&back, &[]).await.unwrap();
    }
    assert!(settled.starts_with("seq "));
    // What later commands made, or change, is not compared: that is said, and is no difference.
    market.admin.batch_execute(&format!("update ledger.transfers set amount = amount + 1 where seq > {seq}; update ledger.accounts set credits_posted = credits_posted + 1")).await.unwrap();
    let later = again(&market, 500, until).await;
    assert!(later.proof.passed(), "{:#?}", later.proof.problems());
    later.drop().await;
    // A row that was there is there no more.
    market.admin.batch_execute("delete from market.rfq_invitations where rfq_id = (select rfq_id from market.orders where state = 'settled')").await.unwrap();
    let gone = again(&market, 500, until).await;
    assert!(
        gone.proof.problems()[0].message.starts_with("the table lacks this row: "),
        "{:#?}",
        gone.proof.problems()
    );
    gone.drop().await;
}

#[tokio::test]
async fn a_checkpoint_that_does_not_continue_the_log_is_named() {
    let market = Market::start().await;
    if !superuser(&market.admin).await {
        return;
    }
    market.settled().await;
    market.pipeline.shutdown().await;
    let last = market.count("select max(size) from receipts.checkpoints where ledger_id = 1").await;
    let origin: NoteName = market.text("select origin from base.ledgers").await.parse().unwrap();
    market
        .admin
        .batch_execute("set session_replication_role = replica; delete from receipts.checkpoints")
        .await
        .unwrap();
    let none = again(&market, 500, Until::Seq { ledger_id: None, seq: 5 }).await;
    assert!(none.proof.passed());
    assert_eq!(
        (none.proof.replayed.ledgers[0].checkpoint_before, none.proof.replayed.ledgers[0].checkpoint_after),
        (None, None)
    );
    none.drop().await;
    let house = market.pipeline.house().receipt_key().clone();
    let forger = KeyPair::from_seed(&[66; 32]);
    let other = proto::merkle::TreeHash([7; 32]);
    let right = proto::merkle::TreeHash::from_slice(
        &hex::decode(market.text("select encode(root, 'hex') from receipts.logs where ledger_id = 1").await)
            .unwrap(),
    )
    .unwrap();
    for (key, root, good) in
        [(house.as_ref(), right, true), (house.as_ref(), other, false), (&forger, right, false)]
    {
        let size = u64::try_from(last).unwrap();
        let note = sign_checkpoint(&Checkpoint { origin: origin.clone(), size, root }, key);
        let store = "insert into receipts.checkpoints values (1, $1, $2, $3)";
        market.admin.execute(store, &[&last, &root.0.to_vec(), &note]).await.unwrap();
        for until in [Until::End, Until::Seq { ledger_id: None, seq: 5 }] {
            let again = again(&market, 3, until).await;
            assert_eq!(again.proof.passed(), good, "{until:?}: {:?}", again.proof.problems());
            if !good {
                let problem = again.proof.replayed.checkpoint_problem.clone().unwrap();
                assert_eq!(problem.place, format!("receipts.checkpoints size {last}"));
            }
            again.drop().await;
        }
        market.admin.batch_execute("delete from receipts.checkpoints").await.unwrap();
    }
}

/// A log that lost its tail together with its checkpoints is whole in itself; the promise that was kept outside is not.
#[tokio::test]
async fn a_promise_kept_outside_is_held_against_the_log() {
    let market = Market::start().await;
    market.settled().await;
    market.pipeline.shutdown().await;
    let promised = ledger::verify::read_outside(&market.dir().join("checkpoints")).unwrap();
    let origin: NoteName = market.text("select origin from base.ledgers").await.parse().unwrap();
    let size =
        u64::try_from(market.count("select size from receipts.logs where ledger_id = 1").await).unwrap();
    let house = market.pipeline.house().receipt_key();
    let more = Checkpoint { origin: origin.clone(), size: size + 1, root: proto::merkle::TreeHash([7; 32]) };
    let other = Checkpoint { origin, size: size - 2, root: proto::merkle::TreeHash([7; 32]) };
    for (note, found) in [
        (promised[&1].clone(), None),
        (sign_checkpoint(&more, house), Some("the tail was cut off")),
        (sign_checkpoint(&other, house), Some("is not the log's root")),
        ("nonsense".to_owned(), Some("")),
    ] {
        let replay = ReplayOptions { outside: [(1, note)].into(), ..options(50) };
        let source = Source::Database(market.db.config("econ_auditor"));
        let again = replayed(&source, replay, None).await;
        let problem = again.proof.replayed.checkpoint_problem.clone();
        assert_eq!(again.proof.passed(), found.is_none(), "{problem:?}");
        if let Some(found) = found {
            assert!(problem.unwrap().message.contains(found));
        }
        again.drop().await;
    }
}
