//! Who may send what: every purpose of key against every kind of command, asked of the pipeline itself.

use std::collections::BTreeSet;

use ledger::house::Hand;
use proto::ids::Hash32;
use proto::v1::{self, KeyPurpose, command_body::Kind};
use uuid::Uuid;

use crate::support::checks::{changed, domain_digest, rows, verified};
use crate::support::kinds::{self, OUTPUT, bytes};
use crate::support::market::{Market, id_of};
use crate::support::party::Party;

/// One well-formed command of every kind. `ids` are what it is about: nothing anybody has, or an order that is there.
fn one_of_each(
    market: &Market,
    order: &crate::support::market::Order,
    signer: &Party,
) -> Vec<(&'static str, Kind)> {
    let nobody = Uuid::from_bytes([3; 16]);
    let key = v1::Key { public_key: vec![0; 32], purpose: KeyPurpose::Buyer.into() };
    let signers_key = v1::Key { public_key: signer.key.public().as_bytes().to_vec(), ..key };
    let ad = v1::CapabilityAd { device_count: 0, ..kinds::ad() };
    let item = v1::TransferItem {
        transfer_id: bytes(market.id()),
        kind: v1::TransferKind::Plain.into(),
        debit_account_id: bytes(nobody),
        credit_account_id: bytes(nobody),
        asset_id: 1,
        amount: "1".into(),
        ..Default::default()
    };
    let genesis = ledger::args::genesis_body("econ.test/other", "other", market.pipeline.house());
    vec![
        ("genesis", genesis.kind.unwrap()),
        (
            "register_agent",
            Kind::RegisterAgent(v1::RegisterAgent { key: Some(signers_key), ..Default::default() }),
        ),
        (
            "revoke_key",
            Kind::RevokeKey(v1::RevokeKey { key_id: Hash32::of(b"no key").into(), reason: "lost".into() }),
        ),
        ("deposit", Kind::Deposit(kinds::deposit(nobody, "1", "nobodys"))),
        ("publish_capability", kinds::publish(ad)),
        ("record_presence", kinds::presence(nobody, true, nobody)),
        ("open_rfq", Kind::OpenRfq(v1::OpenRfq { work_units: 0, ..kinds::rfq(market.id()) })),
        ("cancel_rfq", kinds::cancel_rfq(nobody)),
        ("submit_offer", Kind::SubmitOffer(kinds::offer(market.id(), nobody))),
        ("accept_offer", kinds::accept_offer(nobody, "1")),
        ("start_attempt", kinds::start(nobody, market.id())),
        ("record_metering", kinds::metering(nobody, nobody, &signer.key, &[1])),
        ("report_output", kinds::report(nobody, nobody, OUTPUT)),
        ("fail_attempt", kinds::fail(nobody, nobody, "crash")),
        ("accept_output", kinds::accept_output(nobody, OUTPUT)),
        ("reject_output", kinds::reject_output(nobody, OUTPUT, "wrong_output")),
        ("resolve_dispute", kinds::judge(nobody, "valid")),
        ("settle_order", kinds::settle(order.order)),
        ("expire_rfq", kinds::expire_rfq(nobody)),
        ("expire_order", kinds::expire_order(nobody)),
        ("reserve_payout", kinds::reserve(nobody, "")),
        ("confirm_payout", kinds::confirm(nobody, "reference")),
        ("fail_payout", kinds::fail_payout(nobody, "refused")),
        ("post_transfers", Kind::PostTransfers(v1::PostTransfers { items: vec![item] })),
        ("exchange", Kind::Exchange(kinds::exchange(market.id(), nobody, nobody, "1"))),
        ("close_period", kinds::close_period(0)),
        ("send_across", kinds::send_across(market.id(), 2, nobody, "1")),
        ("receive_across", kinds::receive_across(market.id(), 2, nobody, "1")),
        ("erase_subject", kinds::erase(v1::ErasureSubject::Agent, Some(nobody), &[(OUTPUT, Some(nobody))])),
    ]
}

/// One party of every purpose; the house's own are those of genesis.
fn one_of_each_purpose(market: &Market) -> Vec<(&'static str, Party)> {
    vec![
        ("buyer", Party::new("buyer", KeyPurpose::Buyer)),
        ("provider", Party::new("provider", KeyPurpose::Provider)),
        ("payee", Party::new("payee", KeyPurpose::Payee)),
        ("operator", market.house_party("operator.pem", KeyPurpose::Operator)),
        ("service", market.house_party("service.pem", KeyPurpose::Service)),
        ("verifier", market.house_party("verifier.pem", KeyPurpose::Verifier)),
        ("receipt", market.house_party("receipt.pem", KeyPurpose::Receipt)),
    ]
}

#[tokio::test]
async fn each_purpose_may_send_exactly_what_the_table_permits_and_a_refusal_changes_nothing() {
    let market = Market::start().await;
    let order = market.ordered().await;
    let before = domain_digest(&market.admin).await;
    let table: BTreeSet<String> =
        rows(&market.admin, "select purpose || ' ' || kind from identity.purpose_permits")
            .await
            .into_iter()
            .collect();
    let mut permitted = BTreeSet::new();
    let mut tried = BTreeSet::new();
    for (purpose, party) in one_of_each_purpose(&market) {
        for (kind, command) in one_of_each(&market, &order, &party) {
            tried.insert(kind.to_owned());
            let answer = market.send(&party, command).await;
            if answer.code == "UI301" {
                assert!(answer.message().contains(purpose), "{}", answer.facts);
            } else {
                permitted.insert(format!("{purpose} {kind}"));
            }
        }
    }
    let kinds: BTreeSet<String> =
        rows(&market.admin, "select kind from base.command_kinds").await.into_iter().collect();
    assert_eq!(tried, kinds, "every kind of command is tried");
    let purposes = market.count("select count(*) from identity.purposes").await;
    assert_eq!(purposes, 7, "every purpose is tried");
    assert_eq!(permitted, table);
    // The samples are about nothing that exists, or come too early: even what is permitted changed nothing.
    assert_eq!(changed(&before, &domain_digest(&market.admin).await), Vec::<String>::new());
    market.pipeline.shutdown().await;
    verified(&market).await;
}

/// The rules that must outlive any edit of the table.
#[tokio::test]
async fn agents_spend_nothing_buyers_meter_nothing_and_the_receipt_key_commands_nothing() {
    let market = Market::start().await;
    let permits: BTreeSet<String> =
        rows(&market.admin, "select purpose || ' ' || kind from identity.purpose_permits")
            .await
            .into_iter()
            .collect();
    let money_and_orders = [
        "open_rfq",
        "cancel_rfq",
        "accept_offer",
        "accept_output",
        "reject_output",
        "settle_order",
        "deposit",
        "post_transfers",
        "exchange",
        "close_period",
        "send_across",
        "receive_across",
        "reserve_payout",
        "confirm_payout",
        "fail_payout",
        "resolve_dispute",
        "genesis",
    ];
    let work = [
        "publish_capability",
        "submit_offer",
        "start_attempt",
        "record_metering",
        "report_output",
        "fail_attempt",
    ];
    let everything = rows(&market.admin, "select kind from base.command_kinds").await;
    let forbidden: Vec<String> = money_and_orders
        .iter()
        .flat_map(|kind| ["provider", "payee"].map(|purpose| format!("{purpose} {kind}")))
        .chain(work.iter().flat_map(|kind| {
            ["buyer", "payee", "operator", "service", "verifier"].map(|purpose| format!("{purpose} {kind}"))
        }))
        .chain(everything.iter().map(|kind| format!("receipt {kind}")))
        .chain(
            [
                "buyer deposit",
                "buyer resolve_dispute",
                "provider resolve_dispute",
                "service deposit",
                "verifier settle_order",
            ]
            .map(str::to_owned),
        )
        .collect();
    let found: Vec<&String> = forbidden.iter().filter(|pair| permits.contains(*pair)).collect();
    assert!(found.is_empty(), "{found:?}");
}

#[tokio::test]
async fn a_provider_cannot_order_settle_or_spend_and_a_buyer_cannot_meter_a_real_order() {
    let market = Market::start().await;
    let (running, accepted) = (market.running().await, market.accepted().await);
    let offered = market.offered().await;
    let before = domain_digest(&market.admin).await;
    for command in [
        Kind::OpenRfq(kinds::rfq(market.id())),
        kinds::accept_offer(offered.offer, "10000"),
        kinds::accept_output(running.order, OUTPUT),
        kinds::settle(accepted.order),
        kinds::reserve(id_of(&market.provider), ""),
        Kind::Deposit(kinds::deposit(id_of(&market.provider), "1", "mine")),
    ] {
        assert_eq!(market.send(&market.provider, command).await.code, "UI301");
    }
    let buyer = &market.buyer;
    for command in [
        kinds::metering(running.ticket, running.attempt, &buyer.key, &[37]),
        kinds::report(running.ticket, running.attempt, OUTPUT),
        kinds::fail(running.ticket, running.attempt, "crash"),
        kinds::start(running.ticket, market.id()),
    ] {
        assert_eq!(market.send(buyer, command).await.code, "UI301");
    }
    assert_eq!(changed(&before, &domain_digest(&market.admin).await), Vec::<String>::new());
}

#[tokio::test]
async fn what_belongs_to_others_is_refused_even_to_the_right_purpose() {
    let market = Market::start().await;
    let other_buyer = Party::new("other buyer", KeyPurpose::Buyer);
    other_buyer.register(&market.pipeline).await;
    let dear = v1::CapabilityAd { price_per_unit: "101".into(), ..kinds::ad() };
    let other_provider = market.another_provider("other provider", dear).await;
    let (running, reported, accepted) =
        (market.running().await, market.reported().await, market.accepted().await);
    let (asked, offered, ordered) = (market.asked().await, market.offered().await, market.ordered().await);
    let before = domain_digest(&market.admin).await;
    for (command, code) in [
        (kinds::cancel_rfq(asked.rfq), "UM301"),
        (kinds::accept_offer(offered.offer, "10000"), "UM301"),
        (kinds::accept_output(reported.order, OUTPUT), "UM301"),
        (kinds::reject_output(reported.order, OUTPUT, "wrong_output"), "UM301"),
        (kinds::settle(accepted.order), "UM301"),
        (Kind::OpenRfq(kinds::rfq(asked.rfq)), "UM501"),
    ] {
        assert_eq!(market.send(&other_buyer, command.clone()).await.code, code, "{command:?}");
    }
    for (command, code) in [
        (kinds::start(ordered.ticket, market.id()), "UM301"),
        (kinds::metering(running.ticket, running.attempt, &other_provider.key, &[1]), "UE301"),
        (kinds::report(running.ticket, running.attempt, OUTPUT), "UM301"),
        (kinds::fail(running.ticket, running.attempt, "crash"), "UM301"),
        (Kind::SubmitOffer(kinds::offer(offered.offer, offered.rfq)), "UM501"),
    ] {
        assert_eq!(market.send(&other_provider, command.clone()).await.code, code, "{command:?}");
    }
    // The right provider, but the rows are signed by another key; a head that signs another row; rows of another attempt.
    let forged = kinds::metering(running.ticket, running.attempt, &other_provider.key, &[37]);
    assert_eq!(market.send(&market.provider, forged).await.code, "UE201");
    let Kind::RecordMetering(mut swapped) =
        kinds::metering(running.ticket, running.attempt, &market.provider.key, &[1, 2])
    else {
        unreachable!()
    };
    swapped.runs[0].rows.pop();
    assert_eq!(market.send(&market.provider, Kind::RecordMetering(swapped)).await.code, "UE201");
    let elsewhere = kinds::metering(running.ticket, market.id(), &market.provider.key, &[1]);
    assert_eq!(market.send(&market.provider, elsewhere).await.code, "UE401");
    // Nobody but the verifier judges, and it judges no output that the buyer may still judge.
    assert_eq!(market.hand(Hand::Verifier, kinds::judge(reported.order, "valid")).await.code, "UM605");
    assert_eq!(market.hand(Hand::Service, kinds::judge(reported.order, "valid")).await.code, "UI301");
    assert_eq!(changed(&before, &domain_digest(&market.admin).await), Vec::<String>::new());
    market.pipeline.shutdown().await;
    verified(&market).await;
}
