//! The one way in: stored answers, reused keys and nonces, batches, and a log without gaps.

use std::collections::BTreeSet;
use std::time::Duration;

use futures_util::future::{join, join_all};
use ledger::house::Hand;
use ledger::pipeline::{Answer, Submission};
use proto::v1::{self, KeyPurpose, command_body::Kind};

use crate::support::checks::{changed, domain_digest, healthy, rows, verified};
use crate::support::kinds;
use crate::support::market::{Market, id_of};
use crate::support::party::{LEDGER, Party};

/// Number of commands in the log.
async fn logged(market: &Market) -> i64 {
    market.count("select count(*) from base.commands").await
}

fn same_answer(first: &Answer, again: &Answer) {
    assert!(again.replayed && !first.replayed);
    assert_eq!(
        (first.seq, first.command_id, first.receipt_id, &first.code, &first.facts, first.at_us),
        (again.seq, again.command_id, again.receipt_id, &again.code, &again.facts, again.at_us)
    );
}

#[tokio::test]
async fn an_honest_retry_gets_the_stored_answer_byte_identical_or_signed_anew() {
    let market = Market::start().await;
    let offered = market.offered().await;
    let accept = kinds::accept_offer(offered.offer, "10000");
    let request = market.buyer.submission("accept", accept.clone(), None);
    let first = market.pipeline.submit(request.clone()).await.unwrap();
    assert_eq!(first.code, "ok", "{}", first.facts);
    let (before, count) = (domain_digest(&market.admin).await, logged(&market).await);

    let identical = market.pipeline.submit(request.clone()).await.unwrap();
    same_answer(&first, &identical);
    let anew = market.buyer.submission("accept", accept, Some("a-nonce-of-its-own"));
    assert_ne!(anew.signature, request.signature);
    same_answer(&first, &market.pipeline.submit(anew).await.unwrap());

    assert_eq!(changed(&before, &domain_digest(&market.admin).await), Vec::<String>::new());
    assert_eq!(logged(&market).await, count, "an honest retry is not a command of its own");
    // A refusal is an answer too: it is not judged anew when things have changed.
    let rfq = market.id();
    let refused = market.buyer.send(&market.pipeline, "early", kinds::cancel_rfq(rfq)).await;
    assert_eq!(refused.code, "UM401");
    market.must(&market.buyer, Kind::OpenRfq(kinds::rfq(rfq))).await;
    same_answer(&refused, &market.buyer.send(&market.pipeline, "early", kinds::cancel_rfq(rfq)).await);
    market.pipeline.shutdown().await;
    verified(&market).await;
}

#[tokio::test]
async fn an_idempotency_key_used_for_another_request_is_refused_and_changes_nothing() {
    let market = Market::start().await;
    let first = market.id();
    let answer = market.buyer.must(&market.pipeline, "mine", Kind::OpenRfq(kinds::rfq(first))).await;
    let before = domain_digest(&market.admin).await;
    let other = Kind::OpenRfq(kinds::rfq(market.id()));
    for expected_seq in 1..=2 {
        let refused = market.buyer.send(&market.pipeline, "mine", other.clone()).await;
        assert_eq!(refused.code, "UB601", "{}", refused.facts);
        assert!(!refused.replayed, "a refusal of the key is not stored under the key");
        assert_eq!(refused.seq, answer.seq + expected_seq);
        assert_receipt(&market, &refused).await;
    }
    assert_eq!(changed(&before, &domain_digest(&market.admin).await), Vec::<String>::new());
    // The key still answers for what it was first used for, and another actor's key of the same text is another key.
    same_answer(
        &answer,
        &market.buyer.send(&market.pipeline, "mine", Kind::OpenRfq(kinds::rfq(first))).await,
    );
    let ad = kinds::publish(v1::CapabilityAd { price_per_unit: "99".into(), ..kinds::ad() });
    market.provider.must(&market.pipeline, "mine", ad).await;
    market.pipeline.shutdown().await;
    verified(&market).await;
}

#[tokio::test]
async fn a_nonce_replayed_under_a_new_idempotency_key_is_refused_and_changes_nothing() {
    let market = Market::start().await;
    let kind = |market: &Market| Kind::OpenRfq(kinds::rfq(market.id()));
    let first = market.buyer.submission("one", kind(&market), Some("a-nonce-used-once-only"));
    assert!(market.pipeline.submit(first).await.unwrap().is_ok());
    let before = domain_digest(&market.admin).await;
    let replayed = market.buyer.submission("two", kind(&market), Some("a-nonce-used-once-only"));
    let refused = market.pipeline.submit(replayed).await.unwrap();
    assert_eq!(refused.code, "UI205", "{}", refused.facts);
    assert_receipt(&market, &refused).await;
    assert_eq!(changed(&before, &domain_digest(&market.admin).await), Vec::<String>::new());
    // Nonces are scoped to the key that signs: another agent may use the same text.
    let other =
        market.provider.submission("one", kinds::publish(kinds::ad()), Some("a-nonce-used-once-only"));
    assert_eq!(market.pipeline.submit(other).await.unwrap().code, "ok");
    market.pipeline.shutdown().await;
    verified(&market).await;
}

/// The log holds the command with its receipt, and the receipt states the refusal.
async fn assert_receipt(market: &Market, answer: &Answer) {
    let found = market
        .text(&format!(
            "select concat_ws(' ', c.code, encode(r.receipt_id, 'hex')) from base.commands c \
             join receipts.receipts r using (ledger_id, seq) where c.seq = {}",
            answer.seq
        ))
        .await;
    assert_eq!(found, format!("{} {}", answer.code, answer.receipt_id));
}

#[tokio::test]
async fn two_identical_requests_at_the_same_time_have_one_effect() {
    let market = Market::start().await;
    let second = market.second_pipeline();
    for (round, other) in [&market.pipeline, &second].into_iter().enumerate() {
        let offered = market.offered().await;
        let wallet = market.wallet(&market.buyer).await;
        let key = format!("accept-{round}");
        let request = market.buyer.submission(&key, kinds::accept_offer(offered.offer, "10000"), None);
        let (one, two) = join(market.pipeline.submit(request.clone()), other.submit(request)).await;
        let (one, two) = (one.unwrap(), two.unwrap());
        if one.replayed {
            same_answer(&two, &one)
        } else {
            same_answer(&one, &two)
        }
        assert_eq!(one.code, "ok");
        assert_eq!(market.wallet(&market.buyer).await, wallet - 3_700, "the escrow was filled once");
    }
    healthy(&market.admin).await;
    second.shutdown().await;
    market.pipeline.shutdown().await;
    verified(&market).await;
}

#[tokio::test]
async fn three_hundred_mixed_commands_of_many_actors_make_a_log_without_gaps() {
    let market = Market::start().await;
    let buyers: Vec<Party> = (0..6).map(|n| Party::new(&format!("buyer {n}"), KeyPurpose::Buyer)).collect();
    for buyer in &buyers {
        buyer.register(&market.pipeline).await;
    }
    let first = logged(&market).await;
    // Each buyer opens and cancels, out of turn too; some requests come twice, some under a used key, some are malformed.
    let mut sent = Vec::new();
    for n in 0..50 {
        for buyer in &buyers {
            let rfq = market.id();
            let kind = match n % 5 {
                0 | 1 => Kind::OpenRfq(kinds::rfq(rfq)),
                2 => kinds::cancel_rfq(rfq),
                3 => Kind::OpenRfq(v1::OpenRfq { max_price: "-1".into(), ..kinds::rfq(rfq) }),
                _ => kinds::accept_offer(rfq, "1"),
            };
            // Every tenth request takes the key of the one before.
            let key = format!("key-{}", if n % 10 == 9 { n - 1 } else { n });
            sent.push(market.pipeline.submit(buyer.submission(&key, kind, None)));
        }
    }
    let answers: Vec<Answer> = join_all(sent).await.into_iter().map(Result::unwrap).collect();
    assert_eq!(answers.len(), 300);
    let codes: BTreeSet<&str> = answers.iter().map(|answer| answer.code.as_str()).collect();
    assert_eq!(codes, BTreeSet::from(["ok", "UB601", "UM101", "UM401", "UM402"]));

    let seqs: BTreeSet<u64> = answers.iter().map(|answer| answer.seq).collect();
    let first = u64::try_from(first).unwrap();
    assert_eq!(
        seqs,
        (first + 1..=first + 300).collect(),
        "each command has a seq of its own, none is left out"
    );
    let each_in_order = |n: usize| {
        let own: Vec<u64> = answers.iter().skip(n).step_by(buyers.len()).map(|answer| answer.seq).collect();
        own.is_sorted()
    };
    assert!((0..buyers.len()).all(each_in_order), "an actor's commands keep their order");
    let broken = rows(
        &market.admin,
        "select 'time falls at ' || seq from (select seq, at < lag(at) over (order by seq) as falls from base.commands) c where falls
         union all
         select 'prev is wrong at ' || seq from (select seq, prev, lag(receipt_id) over (partition by subject_id order by seq) as before
           from receipts.receipts) r where prev is distinct from before
         union all
         select 'no receipt at ' || seq from base.commands c where not exists (select from receipts.receipts r where r.seq = c.seq)",
    )
    .await;
    assert!(broken.is_empty(), "{broken:#?}");
    assert!(
        market
            .count(&format!("select count(distinct xmin::text) from base.commands where seq > {first}"))
            .await
            < 60,
        "commands that wait together commit together"
    );
    market.pipeline.shutdown().await;
    verified(&market).await;
}

#[tokio::test]
async fn a_command_that_raises_is_refused_by_force_and_its_neighbours_go_through() {
    let market = Market::start().await;
    // A bug of ours that only some commands meet: one kind raises a code of ours, the other a plain database error.
    market
        .admin
        .batch_execute(
            "create function market.our_bug() returns trigger language plpgsql as $$ begin
               if new.work_class = 'bug.ours' then raise exception using errcode = 'UM901', message = 'a bug'; end if;
               if new.work_class = 'bug.plain' then perform 1 / (new.work_units - new.work_units); end if;
               return new; end $$;
             grant execute on function market.our_bug() to econ_engine;
             create trigger our_bug before insert on market.rfqs for each row execute function market.our_bug();",
        )
        .await
        .unwrap();
    let open =
        |class: &str| Kind::OpenRfq(v1::OpenRfq { work_class: class.into(), ..kinds::rfq(market.id()) });
    let classes = ["gemm.int8", "bug.ours", "gemm.int8", "bug.plain", "gemm.int8", "gemm.int8"];
    let requests: Vec<_> = classes
        .iter()
        .enumerate()
        .map(|(n, class)| market.buyer.submission(&format!("k{n}"), open(class), None))
        .collect();
    let answers: Vec<Answer> =
        join_all(requests.iter().map(|request| market.pipeline.submit(request.clone())))
            .await
            .into_iter()
            .map(Result::unwrap)
            .collect();
    let codes: Vec<&str> = answers.iter().map(|answer| answer.code.as_str()).collect();
    assert_eq!(codes, ["ok", "UM901", "ok", "UB900", "ok", "ok"]);
    assert!(
        answers.windows(2).all(|pair| pair[0].seq + 1 == pair[1].seq),
        "in the order they came, without a gap"
    );
    assert_eq!(market.count("select count(*) from market.rfqs").await, 4);
    assert_eq!(
        rows(
            &market.admin,
            "select forced_code from base.commands where forced_code is not null order by seq"
        )
        .await,
        ["UM901", "UB900"]
    );
    for refused in [&answers[1], &answers[3]] {
        assert_receipt(&market, refused).await;
        assert!(!refused.facts.contains("a bug"), "the message of a raise stays inside");
    }
    same_answer(&answers[1], &market.pipeline.submit(requests[1].clone()).await.unwrap());
    market.pipeline.shutdown().await;
    // Replay has no such bug, and refuses them the same way.
    verified(&market).await;
}

#[tokio::test]
async fn a_key_revoked_in_the_log_speaks_no_more_and_its_old_answers_stand() {
    let market = Market::start().await;
    let open = Kind::OpenRfq(kinds::rfq(market.id()));
    let first = market.buyer.must(&market.pipeline, "before", open.clone()).await;
    // One batch: in log order the revocation is before the second wish and after the first.
    let revoke = Kind::RevokeKey(v1::RevokeKey {
        key_id: market.buyer.key.public().id().as_ref().to_vec(),
        reason: "compromised".into(),
    });
    let late = |key: &str| market.buyer.submission(key, Kind::OpenRfq(kinds::rfq(market.id())), None);
    let answers = join_all([
        market.pipeline.submit(late("just-in-time")),
        market.pipeline.submit(market.buyer.submission("revoke", revoke, None)),
        market.pipeline.submit(late("too-late")),
    ])
    .await;
    let codes: Vec<String> = answers.into_iter().map(|answer| answer.unwrap().code).collect();
    assert_eq!(codes, ["ok", "ok", "UI203"]);
    let before = domain_digest(&market.admin).await;
    let offer = market.id();
    for kind in [
        Kind::OpenRfq(kinds::rfq(market.id())),
        kinds::accept_offer(offer, "1"),
        kinds::settle(offer),
        kinds::cancel_rfq(offer),
    ] {
        assert_eq!(market.send(&market.buyer, kind).await.code, "UI203");
    }
    same_answer(&first, &market.buyer.send(&market.pipeline, "before", open).await);
    // Nor can a revoked key be registered into life again.
    let key = v1::Key {
        public_key: market.buyer.key.public().as_bytes().to_vec(),
        purpose: market.buyer.purpose.into(),
    };
    let again = Kind::RegisterAgent(v1::RegisterAgent { key: Some(key), ..Default::default() });
    assert_eq!(market.send(&market.buyer, again).await.code, "UI203");
    assert_eq!(changed(&before, &domain_digest(&market.admin).await), Vec::<String>::new());
    market.pipeline.shutdown().await;
    verified(&market).await;
}

#[tokio::test]
async fn a_revoked_providers_key_gets_no_work_and_its_running_order_is_refunded() {
    let market = Market::start().await;
    let (offered, running) = (market.offered().await, market.running().await);
    let revoke = Kind::RevokeKey(v1::RevokeKey {
        key_id: market.provider.key.public().id().as_ref().to_vec(),
        reason: "lost".into(),
    });
    market.hand_must(Hand::Operator, revoke).await;
    let refused = market.send(&market.buyer, kinds::accept_offer(offered.offer, "10000")).await;
    assert_eq!(refused.code, "UM606", "{}", refused.facts);
    assert_eq!(
        market.send(&market.provider, kinds::report(running.ticket, running.attempt, [1; 32])).await.code,
        "UI203"
    );
    let asked = market.must(&market.buyer, Kind::OpenRfq(kinds::rfq(market.id()))).await;
    assert_eq!(asked.facts_json()["invited"], serde_json::json!([]), "nobody is asked whose key is gone");
    market.advance(std::time::Duration::from_secs(120));
    market.hand_must(Hand::Service, kinds::expire_order(running.order)).await;
    assert_eq!(market.state(&running).await, "refunded vanished");
    assert_eq!(market.wallet(&market.buyer).await, 1_000_000_000);
    healthy(&market.admin).await;
    market.pipeline.shutdown().await;
    verified(&market).await;
}

#[tokio::test]
async fn an_unknown_key_and_a_key_of_somebody_else_are_refused_and_change_nothing() {
    let market = Market::start().await;
    let stranger = Party::new("stranger", KeyPurpose::Buyer);
    let order = market.accepted().await;
    let before = domain_digest(&market.admin).await;
    for kind in
        [Kind::OpenRfq(kinds::rfq(market.id())), kinds::settle(order.order), kinds::cancel_rfq(order.rfq)]
    {
        let refused = market.send(&stranger, kind).await;
        assert_eq!(refused.code, "UI202", "{}", refused.facts);
        assert_receipt(&market, &refused).await;
    }
    // A valid key that names another agent as the actor.
    let mut borrowed = market.provider.submission("borrowed", kinds::settle(order.order), None);
    borrowed.actor = market.buyer.id();
    let refused = market.pipeline.submit(borrowed).await.unwrap();
    assert_eq!(refused.code, "UI202", "{}", refused.facts);
    // A registration of somebody else's key.
    let key =
        v1::Key { public_key: stranger.key.public().as_bytes().to_vec(), purpose: KeyPurpose::Buyer.into() };
    let register = Kind::RegisterAgent(v1::RegisterAgent { key: Some(key), ..Default::default() });
    assert_eq!(market.send(&market.buyer, register).await.code, "UI204");
    // And a key that asks for a purpose only genesis gives.
    for purpose in [KeyPurpose::Operator, KeyPurpose::Service, KeyPurpose::Verifier, KeyPurpose::Receipt] {
        let key = v1::Key { public_key: stranger.key.public().as_bytes().to_vec(), purpose: purpose.into() };
        let register = Kind::RegisterAgent(v1::RegisterAgent { key: Some(key), ..Default::default() });
        assert_eq!(market.send(&stranger, register).await.code, "UI101", "{purpose:?}");
    }
    assert_eq!(changed(&before, &domain_digest(&market.admin).await), Vec::<String>::new());
    assert_eq!(
        market
            .count(&format!("select count(*) from identity.agents where agent_id = '{}'", id_of(&stranger)))
            .await,
        0
    );
    market.pipeline.shutdown().await;
}

#[tokio::test]
async fn what_its_sender_did_not_sign_is_never_logged_even_if_the_door_let_it_in() {
    let market = Market::start().await;
    let rfq = market.id();
    let signed =
        || market.buyer.submission("forged", Kind::OpenRfq(kinds::rfq(rfq)), Some("a-nonce-of-its-own"));
    let other = market.buyer.submission("other", Kind::OpenRfq(kinds::rfq(market.id())), None);
    let mut flipped = signed().signature;
    flipped[7] ^= 1;
    let forgeries = [
        ("signature", Submission { signature: flipped, ..signed() }),
        ("key", Submission { key: *market.provider.key.public(), ..signed() }),
        ("base", Submission { signature_base: other.signature_base.clone(), ..signed() }),
        (
            "base and signature",
            Submission { signature_base: other.signature_base, signature: other.signature, ..signed() },
        ),
        ("body", Submission { body: other.body, body_bytes: other.body_bytes, ..signed() }),
        ("idempotency key", Submission { idempotency_key: "another".into(), ..signed() }),
        ("nonce", Submission { nonce: Some("another-nonce".into()), ..signed() }),
        (
            "target",
            Submission { method_target: ("POST".into(), "/v1/ledgers/2/commands".into()), ..signed() },
        ),
        ("digest", Submission { content_digest: [0; 32], ..signed() }),
    ];
    let before = logged(&market).await;
    for (what, forgery) in forgeries {
        let error = market.pipeline.submit(forgery).await.unwrap_err();
        assert_eq!(error.code, "UI210", "{what}: {error}");
    }
    assert_eq!(logged(&market).await, before);
    assert!(market.pipeline.submit(signed()).await.unwrap().is_ok(), "what was signed goes through");
}

/// The house's commands are keyed by their subject: a refusal by force that stayed would leave an order stuck for ever.
#[tokio::test]
async fn a_command_of_the_house_that_was_refused_by_force_is_tried_anew_and_not_at_once() {
    let mut market = Market::start().await;
    market.freeze();
    let order = market.accepted().await;
    let settle = async |market: &Market| {
        let body = v1::CommandBody { kind: Some(kinds::settle(order.order)) };
        let key = format!("settle:{}", order.order);
        market.pipeline.submit_service(LEDGER, Hand::Service, &key, body).await.unwrap()
    };
    market
        .admin
        .batch_execute(
            "create function market.our_bug() returns trigger language plpgsql as $$ begin raise 'a bug'; end $$;
             grant execute on function market.our_bug() to econ_engine;
             create trigger our_bug before insert on splits.settlements for each row execute function market.our_bug();",
        )
        .await
        .unwrap();
    let first = settle(&market).await;
    assert_eq!((first.code.as_str(), first.replayed), ("UB900", false));
    let before = logged(&market).await;
    same_answer(&first, &settle(&market).await);
    assert_eq!(logged(&market).await, before, "what was just refused is not logged again and again");
    // After a while once more, and then after a longer while.
    market.advance(Duration::from_secs(31));
    let second = settle(&market).await;
    assert_eq!((second.code.as_str(), second.seq), ("UB900", first.seq + 1));
    market.advance(Duration::from_secs(31));
    same_answer(&second, &settle(&market).await);
    // A server that starts may be the repaired one: it tries at once, and not under a key that is used up.
    market.pipeline.shutdown().await;
    market.restart();
    let third = settle(&market).await;
    assert_eq!((third.code.as_str(), third.seq), ("UB900", second.seq + 1));
    market.admin.batch_execute("drop trigger our_bug on splits.settlements").await.unwrap();
    market.pipeline.shutdown().await;
    market.restart();
    let last = settle(&market).await;
    assert_eq!((last.code.as_str(), last.seq), ("ok", third.seq + 1));
    same_answer(&last, &settle(&market).await);
    assert_eq!(market.state(&order).await, "settled");
    market.pipeline.shutdown().await;
    verified(&market).await;
}
