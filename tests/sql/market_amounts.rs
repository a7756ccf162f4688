//! Amounts that are none, in every place where somebody may write one: refused with a code, and nothing has changed.

use ledger::house::Hand;
use proto::v1::{self, command_body::Kind};
use uuid::Uuid;

use crate::support::checks::{changed, domain_digest, healthy, verified};
use crate::support::kinds::{self, bytes};
use crate::support::market::{Market, Order, id_of};

/// Not a whole number of minor units of at most 28 digits above zero. The last is a full-width digit, which many parsers take.
const NOT_AMOUNTS: [&str; 25] = [
    "-1",
    "-0",
    "+1",
    "NaN",
    "nan",
    "Infinity",
    "-Infinity",
    "inf",
    "0.5",
    "1.0",
    "1.",
    ".5",
    "1e3",
    "1E3",
    "1_000",
    "1,000",
    "0x10",
    " 1",
    "1 ",
    "1\n",
    "--1",
    "1; select",
    "10000000000000000000000000000",
    "99999999999999999999999999999999999999999999999999",
    "\u{ff11}",
];
const ZEROS: [&str; 3] = ["0", "00", "0000000000000000000000000000"];
/// 28 nines: the largest amount there is.
const LARGEST: &str = "9999999999999999999999999999";

async fn sent(market: &Market, hand: Option<Hand>, kind: Kind) -> String {
    let answer = match hand {
        Some(hand) => market.hand(hand, kind).await,
        None if matches!(kind, Kind::OpenRfq(_) | Kind::AcceptOffer(_)) => {
            market.send(&market.buyer, kind).await
        }
        None => market.send(&market.provider, kind).await,
    };
    assert!(answer.is_ok() != answer.facts.contains("error"), "{}", answer.facts);
    answer.code
}

/// Every command that carries an amount, with this text in its place, and what a wrong one must answer.
fn everywhere(
    market: &Market,
    offered: &Order,
    asked: &Order,
    text: &str,
) -> Vec<(&'static str, Option<Hand>, Kind, &'static str)> {
    let buyer = id_of(&market.buyer);
    let amount = text.to_owned();
    vec![
        (
            "deposit.amount",
            Some(Hand::Operator),
            Kind::Deposit(kinds::deposit(buyer, text, "a-new-one")),
            "UL101",
        ),
        (
            "open_rfq.max_price",
            None,
            Kind::OpenRfq(v1::OpenRfq { max_price: amount.clone(), ..kinds::rfq(market.id()) }),
            "UM101",
        ),
        ("accept_offer.spend_cap", None, kinds::accept_offer(offered.offer, text), "UM101"),
        (
            "submit_offer.price_per_unit",
            None,
            Kind::SubmitOffer(v1::SubmitOffer {
                price_per_unit: amount.clone(),
                ..kinds::offer(market.id(), asked.rfq)
            }),
            "UM101",
        ),
        (
            "publish_capability.price_per_unit",
            None,
            kinds::publish(v1::CapabilityAd { price_per_unit: amount.clone(), ..kinds::ad() }),
            "UM101",
        ),
        (
            "reserve_payout.min_amount",
            Some(Hand::Service),
            kinds::reserve(id_of(&market.payee), text),
            "UP101",
        ),
    ]
}

#[tokio::test]
async fn an_amount_that_is_none_is_refused_everywhere_and_changes_nothing() {
    let market = Market::start().await;
    market.settled().await;
    let (offered, asked) = (market.offered().await, market.asked().await);
    let before = domain_digest(&market.admin).await;
    for text in NOT_AMOUNTS {
        for (place, hand, kind, code) in everywhere(&market, &offered, &asked, text) {
            assert_eq!(sent(&market, hand, kind).await, code, "{place} = {text:?}");
        }
    }
    for text in ZEROS.into_iter().chain([""]) {
        for (place, hand, kind, code) in everywhere(&market, &offered, &asked, text) {
            // The least amount of a payout may be nothing; everything else is a price or a sum.
            if place != "reserve_payout.min_amount" {
                assert_eq!(sent(&market, hand, kind).await, code, "{place} = {text:?}");
            }
        }
    }
    assert_eq!(changed(&before, &domain_digest(&market.admin).await), Vec::<String>::new());
    market.pipeline.shutdown().await;
    verified(&market).await;
}

#[tokio::test]
async fn the_largest_amount_is_an_amount_and_one_more_overflows_without_a_trace() {
    let market = Market::start().await;
    let rich = &market.payee;
    let largest =
        Kind::Deposit(v1::Deposit { asset_id: 2, ..kinds::deposit(id_of(rich), LARGEST, "all there is") });
    assert_eq!(market.hand(Hand::Operator, largest).await.code, "UL102", "a reference has no blanks");
    let deposit = |amount: &str, reference: &str| {
        Kind::Deposit(v1::Deposit { asset_id: 2, ..kinds::deposit(id_of(rich), amount, reference) })
    };
    market.hand_must(Hand::Operator, deposit(LARGEST, "all-there-is")).await;
    let before = domain_digest(&market.admin).await;
    for amount in ["1", LARGEST] {
        assert_eq!(market.hand(Hand::Operator, deposit(amount, "and-more")).await.code, "UL701");
    }
    // Into another wallet the same asset overflows outside.
    let other =
        Kind::Deposit(v1::Deposit { asset_id: 2, ..kinds::deposit(id_of(&market.buyer), "1", "and-more") });
    assert_eq!(market.hand(Hand::Operator, other).await.code, "UL701");
    // A product of two lawful numbers that no amount can hold.
    let asked = market.asked().await;
    let dear = Kind::SubmitOffer(v1::SubmitOffer {
        price_per_unit: LARGEST.into(),
        ..kinds::offer(market.id(), asked.rfq)
    });
    let after_asked = domain_digest(&market.admin).await;
    assert_eq!(market.send(&market.provider, dear).await.code, "UM703");
    assert_eq!(changed(&after_asked, &domain_digest(&market.admin).await), Vec::<String>::new());
    let grown = changed(&before, &after_asked);
    assert!(grown.iter().all(|table| !table.starts_with("ledger.")), "{grown:?}");
    // Huge prices are lawful; nobody who asks for them is invited to a cheap RFQ, and a huge RFQ is only a wish.
    market
        .must(
            &market.provider,
            kinds::publish(v1::CapabilityAd { price_per_unit: LARGEST.into(), ..kinds::ad() }),
        )
        .await;
    let wish = v1::OpenRfq { max_price: LARGEST.into(), work_units: 999_999, ..kinds::rfq(market.id()) };
    let answer = market.must(&market.buyer, Kind::OpenRfq(wish)).await;
    assert_eq!(answer.facts_json()["invited"], serde_json::json!([]));
    healthy(&market.admin).await;
    market.pipeline.shutdown().await;
    verified(&market).await;
}

#[tokio::test]
async fn counts_and_durations_out_of_bounds_are_refused_and_change_nothing() {
    let market = Market::start().await;
    let offered = market.offered().await;
    let before = domain_digest(&market.admin).await;
    let rfq = || kinds::rfq(market.id());
    let buyers: Vec<v1::OpenRfq> = vec![
        v1::OpenRfq { work_units: 0, ..rfq() },
        v1::OpenRfq { work_units: u64::MAX, ..rfq() },
        v1::OpenRfq { valid_for_ms: 0, ..rfq() },
        v1::OpenRfq { valid_for_ms: u32::MAX, ..rfq() },
        v1::OpenRfq { max_duration_ms: 0, ..rfq() },
        v1::OpenRfq { max_duration_ms: 86_400_001, ..rfq() },
        v1::OpenRfq { asset_id: 0, ..rfq() },
        v1::OpenRfq { asset_id: u32::MAX, ..rfq() },
        v1::OpenRfq { max_providers: u32::MAX, ..rfq() },
        v1::OpenRfq { work_class: "UPPER".into(), ..rfq() },
        v1::OpenRfq { work_class: String::new(), ..rfq() },
        v1::OpenRfq { region: "not a region".into(), ..rfq() },
    ];
    for wish in buyers {
        assert_eq!(market.send(&market.buyer, Kind::OpenRfq(wish.clone())).await.code, "UM101", "{wish:?}");
    }
    assert_eq!(
        market.send(&market.buyer, Kind::OpenRfq(v1::OpenRfq { asset_id: 77, ..rfq() })).await.code,
        "UM406"
    );
    let ads = [
        v1::CapabilityAd { device_count: 0, ..kinds::ad() },
        v1::CapabilityAd { device_count: u32::MAX, ..kinds::ad() },
        v1::CapabilityAd { max_concurrency: 0, ..kinds::ad() },
        v1::CapabilityAd { max_concurrency: u32::MAX, ..kinds::ad() },
        v1::CapabilityAd { max_work_units: 0, ..kinds::ad() },
        v1::CapabilityAd { max_work_units: u64::MAX, ..kinds::ad() },
        v1::CapabilityAd { beneficial_owner_id: bytes(id_of(&market.buyer)), ..kinds::ad() },
    ];
    for ad in ads {
        assert_eq!(market.send(&market.provider, kinds::publish(ad.clone())).await.code, "UM101", "{ad:?}");
    }
    for valid_for_ms in [0, u32::MAX] {
        let offer = v1::SubmitOffer { valid_for_ms, ..kinds::offer(market.id(), offered.rfq) };
        assert_eq!(market.send(&market.provider, Kind::SubmitOffer(offer)).await.code, "UM101");
    }
    // Counters of metering that 18 digits do not hold.
    let running = market.running().await;
    let before_metering = domain_digest(&market.admin).await;
    let huge =
        kinds::metering_at(running.ticket, running.attempt, &market.provider.key, 0, 1_000_000_000_000_000);
    assert_eq!(market.send(&market.provider, huge).await.code, "UE101", "kernel_ns is a thousand times that");
    assert_eq!(changed(&before_metering, &domain_digest(&market.admin).await), Vec::<String>::new());
    // Ids that are not new: not version 7, or made long ago.
    for (id, why) in [(Uuid::from_bytes([0x44; 16]), "version 4"), (old_id(), "a week old")] {
        assert_eq!(market.send(&market.buyer, Kind::OpenRfq(kinds::rfq(id))).await.code, "UB105", "{why}");
    }
    let untouched = ["identity", "ledger.deposits", "market.capability_ads", "splits", "payouts"];
    let grown = changed(&before, &domain_digest(&market.admin).await);
    assert!(grown.iter().all(|table| untouched.iter().all(|name| !table.starts_with(name))), "{grown:?}");
    market.pipeline.shutdown().await;
    verified(&market).await;
}

fn old_id() -> Uuid {
    let week_ago = ledger::clock::system_now_us() / 1_000 - 7 * 86_400_000;
    uuid::Builder::from_unix_timestamp_millis(u64::try_from(week_ago).unwrap(), &[1; 10]).into_uuid()
}

#[tokio::test]
async fn an_offer_beyond_cap_or_wallet_is_refused_and_no_money_moves() {
    let market = Market::start().await;
    let offered = market.offered().await;
    let poor = crate::support::party::Party::new("poor", proto::v1::KeyPurpose::Buyer);
    poor.register(&market.pipeline).await;
    market
        .hand_must(Hand::Operator, Kind::Deposit(kinds::deposit(id_of(&poor), "3699", "pocket-money")))
        .await;
    let (rfq, offer) = (market.id(), market.id());
    market.must(&poor, Kind::OpenRfq(kinds::rfq(rfq))).await;
    market.must(&market.provider, Kind::SubmitOffer(kinds::offer(offer, rfq))).await;
    let before = domain_digest(&market.admin).await;
    let over_cap = market.send(&market.buyer, kinds::accept_offer(offered.offer, "3699")).await;
    assert_eq!(over_cap.code, "UM701");
    assert!(over_cap.message().contains("3700") && over_cap.message().contains("3699"), "{}", over_cap.facts);
    let unaffordable = market.send(&poor, kinds::accept_offer(offer, LARGEST)).await;
    assert_eq!(unaffordable.code, "UM702", "{}", unaffordable.facts);
    assert_eq!(changed(&before, &domain_digest(&market.admin).await), Vec::<String>::new());
    // Exactly enough is enough, and then nothing is left.
    market.hand_must(Hand::Operator, Kind::Deposit(kinds::deposit(id_of(&poor), "1", "one-more"))).await;
    market.must(&poor, kinds::accept_offer(offer, "3700")).await;
    assert_eq!(market.wallet(&poor).await, 0);
    healthy(&market.admin).await;
}

#[tokio::test]
async fn text_that_no_amount_can_be_writes_nothing_at_all() {
    let market = Market::start().await;
    let last = market.count("select last_seq from base.ledgers").await;
    for text in ["9".repeat(257), "1\0".to_owned()] {
        let kind = Kind::Deposit(kinds::deposit(id_of(&market.buyer), &text, "a"));
        let body = v1::CommandBody { kind: Some(kind) };
        let refused = market.pipeline.submit_service(1, Hand::Operator, "k", body).await.unwrap_err();
        assert_eq!(refused.code, "UB103");
    }
    assert_eq!(
        market.count("select last_seq from base.ledgers").await,
        last,
        "what cannot be read has no receipt"
    );
}

#[tokio::test]
async fn a_transfer_of_an_amount_that_is_none_fails_alone_and_moves_nothing() {
    let market = Market::start().await;
    let wallet = market
        .text("select account_id::text from ledger.accounts where purpose = 'wallet'")
        .await
        .parse::<Uuid>()
        .unwrap();
    let external = market
        .text("select account_id::text from ledger.accounts where purpose = 'external'")
        .await
        .parse()
        .unwrap();
    let item = |text: &str| v1::TransferItem {
        transfer_id: bytes(market.id()),
        kind: v1::TransferKind::Plain.into(),
        debit_account_id: bytes(wallet),
        credit_account_id: bytes(external),
        asset_id: 1,
        amount: text.into(),
        ..Default::default()
    };
    let before = domain_digest(&market.admin).await;
    let items: Vec<v1::TransferItem> = NOT_AMOUNTS.into_iter().chain(ZEROS).map(item).collect();
    let count = items.len();
    let answer = market.hand_must(Hand::Operator, Kind::PostTransfers(v1::PostTransfers { items })).await;
    let facts = answer.facts_json();
    let results = facts["results"].as_array().unwrap();
    assert_eq!(results.len(), count);
    for (result, text) in results.iter().zip(NOT_AMOUNTS.into_iter().chain(ZEROS)) {
        let expected = if ZEROS.contains(&text) { "amount_must_not_be_zero" } else { "amount_must_be_whole" };
        assert_eq!(result, expected, "{text:?}");
    }
    assert_eq!(facts["posted"], 0);
    assert_eq!(changed(&before, &domain_digest(&market.admin).await), Vec::<String>::new());
}
