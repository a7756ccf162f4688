//! Evidence of orders: who gets it, that it holds, and that no tampering passes, neither of somebody who has only a copy nor of
//! the market with its own receipt key. A reader written in another language from docs/RECEIPTS.md comes to the same answers.

use std::collections::BTreeSet;
use std::time::Duration;

use ledger::house::Hand;
use proto::evidence::to_bytes;
use proto::httpsig::{self, BodyDigest, RequestToSign, Validity};
use proto::ids::{AgentId, Hash32};
use proto::keys::KeyPair;
use proto::merkle::TreeHash;
use proto::note::{Checkpoint, NoteName, parse_and_verify, sign_checkpoint};
use proto::prost::Message as _;
use proto::v1::{self, KeyPurpose, command_body::Kind};
use serde_json::json;
use uuid::Uuid;

use crate::support::evidence::{
    Found, as_logged, at, judged, receipt, receipt_key, request_digest, resealed, with_envelope, with_facts,
};
use crate::support::evidence_cases::{Case, bundle_for, bundle_of, cases, eventful};
use crate::support::kinds::{self, OUTPUT, UNITS};
use crate::support::market::{Market, Order};
use crate::support::party::{LEDGER, Party};

#[tokio::test]
async fn only_an_orders_parties_the_operator_and_verifiers_get_its_evidence() {
    let market = Market::start().await;
    let order = eventful(&market).await;
    let stranger = Party::new("stranger", KeyPurpose::Buyer);
    stranger.register(&market.pipeline).await;
    let house = market.pipeline.house();
    let key = receipt_key(house);
    let of_buyer = to_bytes(&bundle_of(&market, &order).await);
    assert_eq!(judged(&of_buyer, Some(key)), Found::Holds);
    for actor in [market.provider.id(), house.agent(Hand::Operator), house.agent(Hand::Verifier)] {
        let bundle = bundle_for(&market, Some(actor), order.order).await.unwrap();
        assert_eq!(judged(&to_bytes(&bundle), Some(key)), Found::Holds, "{actor}");
        assert_eq!(bundle.items.len(), 14);
    }
    for actor in [Some(stranger.id()), Some(market.payee.id()), Some(house.agent(Hand::Service)), None] {
        assert!(bundle_for(&market, actor, order.order).await.is_none(), "{actor:?}");
    }
    assert!(bundle_for(&market, Some(market.buyer.id()), Uuid::nil()).await.is_none());
    market.pipeline.shutdown().await;
}

#[tokio::test]
async fn evidence_of_every_way_an_order_can_go_holds() {
    let market = Market::start().await;
    let mut cases = cases(&market);
    let judge = async |order: &Order, finding| {
        market.hand_must(Hand::Verifier, kinds::judge(order.order, finding)).await;
    };
    cases.good("ordered", &bundle_of(&market, &market.ordered().await).await);
    cases.good("running", &bundle_of(&market, &market.running().await).await);
    cases.good("disputed", &bundle_of(&market, &market.disputed().await).await);
    cases.good("settled by the buyer", &bundle_of(&market, &market.settled().await).await);
    cases.good("settled with a refusal and a repeat", &bundle_of(&market, &eventful(&market).await).await);
    cases.good("given up", &bundle_of(&market, &market.refunded().await).await);
    let unstarted = market.ordered().await;
    market.must(&market.provider, kinds::fail(unstarted.ticket, Uuid::nil(), "unsupported")).await;
    cases.good("given up before its start", &bundle_of(&market, &unstarted).await);
    let valid = market.disputed().await;
    judge(&valid, "valid").await;
    market.hand_must(Hand::Service, kinds::settle(valid.order)).await;
    cases.good("judged valid and settled", &bundle_of(&market, &valid).await);
    let invalid = market.disputed().await;
    judge(&invalid, "wrong_output").await;
    cases.good("judged invalid", &bundle_of(&market, &invalid).await);
    // In part, not at all, and beyond the ticket.
    for units in [&[UNITS / 2][..], &[], &[UNITS, 2 * UNITS]] {
        let order = market.running().await;
        if !units.is_empty() {
            market.meter(&order, units).await;
        }
        market.must(&market.provider, kinds::report(order.ticket, order.attempt, OUTPUT)).await;
        market.must(&market.buyer, kinds::accept_output(order.order, OUTPUT)).await;
        market.must(&market.buyer, kinds::settle(order.order)).await;
        cases.good("metered otherwise than ordered", &bundle_of(&market, &order).await);
    }
    // Two orders' rows in one command: neither bundle may show the other's.
    let (one, two) = (market.running().await, market.running().await);
    let runs = [&one, &two].map(|order| {
        match kinds::metering(order.ticket, order.attempt, &market.provider.key, &[UNITS]) {
            Kind::RecordMetering(mut metering) => metering.runs.remove(0),
            _ => unreachable!("it is metering"),
        }
    });
    market.must(&market.provider, Kind::RecordMetering(v1::RecordMetering { runs: runs.to_vec() })).await;
    for order in [&one, &two] {
        market.must(&market.provider, kinds::report(order.ticket, order.attempt, OUTPUT)).await;
        market.must(&market.buyer, kinds::accept_output(order.order, OUTPUT)).await;
        market.must(&market.buyer, kinds::settle(order.order)).await;
        let bundle = bundle_of(&market, order).await;
        assert!(bundle.items.iter().all(|item| receipt(item).kind != "record_metering"));
        cases.good("metered together with another", &bundle);
    }
    let expired = market.ordered().await;
    market.advance(Duration::from_secs(3_600));
    market.hand_must(Hand::Service, kinds::expire_order(expired.order)).await;
    cases.good("expired", &bundle_of(&market, &expired).await);
    cases.check();
    market.pipeline.shutdown().await;
}

/// Ed25519's group order: S + L is as good as S to whoever does not look.
const L: [u8; 32] = [
    0xed, 0xd3, 0xf5, 0x5c, 0x1a, 0x63, 0x12, 0x58, 0xd6, 0x9c, 0xf7, 0xa2, 0xde, 0xf9, 0xde, 0x14, 0, 0, 0,
    0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10,
];

fn plus_l(signature: &mut [u8]) {
    let mut carry = 0_u16;
    for (byte, l) in signature[32..].iter_mut().zip(L) {
        let sum = u16::from(*byte) + u16::from(l) + carry;
        *byte = u8::try_from(sum & 255).unwrap();
        carry = sum >> 8;
    }
}

#[tokio::test]
async fn no_copy_that_somebody_changed_passes() {
    let market = Market::start().await;
    let other = eventful(&market).await;
    let order = eventful(&market).await;
    let (mut bundle, other) = (bundle_of(&market, &order).await, bundle_of(&market, &other).await);
    let mut cases = cases(&market);
    let key = KeyPair::from_pem(&cases.key.to_pem()).unwrap();
    cases.good("as it is", &bundle);
    // Whether the checkpoint has come to the forest yet is a matter of a second.
    bundle.forest = None;
    let with = |change: &dyn Fn(&mut v1::EvidenceBundle)| {
        let mut bent = bundle.clone();
        change(&mut bent);
        assert_ne!(bent, bundle);
        bent
    };
    let (accept, settle, meter) =
        (at(&bundle, "accept_output"), at(&bundle, "settle_order"), at(&bundle, "record_metering"));

    let bent = with(&|b| with_envelope(&mut b.items[settle], |e| *e.payload.last_mut().unwrap() ^= 1));
    cases.bad("a byte of a receipt", &bent, "bundle.receipts", "does not verify over this payload and type");
    let bent = with(&|b| with_envelope(&mut b.items[settle], |e| plus_l(&mut e.signatures[0].sig)));
    cases.bad("a malleated signature", &bent, "bundle.receipts", "does not verify");
    let bent = with(&|b| {
        with_envelope(&mut b.items[settle], |e| {
            e.payload_type = proto::dsse::payload_type::<v1::CommandBody>()
        });
    });
    cases.bad("another payload type", &bent, "bundle.receipts", "is expected here");
    let bent = with(&|b| with_envelope(&mut b.items[settle], |e| e.signatures.clear()));
    cases.bad("no signature", &bent, "bundle.receipts", "not signed");
    let bent = with(&|b| b.items[settle].receipt.as_mut().unwrap().receipt_id = vec![1; 32]);
    cases.bad("another receipt id", &bent, "bundle.receipts", "not the hash of its bytes");
    let bent = with(&|b| b.items[settle].receipt = None);
    cases.bad("no receipt", &bent, "bundle.receipts", "has no receipt");

    let origin: NoteName = bundle.origin.parse().unwrap();
    let tree = parse_and_verify(&bundle.checkpoint, &origin, key.public()).unwrap();
    let forger = KeyPair::from_seed(&[66; 32]);
    let bent = with(&|b| b.checkpoint = sign_checkpoint(&tree, &forger));
    cases.bad("a checkpoint of another key", &bent, "bundle.checkpoint", "no signature of");
    let bent = with(&|b| b.checkpoint = b.checkpoint.replacen(&tree.size.to_string(), "9", 1));
    cases.bad("another size", &bent, "bundle.checkpoint", "does not verify");
    let bent = with(&|b| b.origin = "econ.test/ledger/2".into());
    cases.bad("another log's name", &bent, "bundle.checkpoint", "names the log");
    let stale = Checkpoint { size: receipt(&bundle.items[settle]).seq - 1, ..tree.clone() };
    let bent = with(&|b| {
        b.checkpoint = sign_checkpoint(&stale, &key);
        for item in &mut b.items {
            item.inclusion.as_mut().unwrap().tree_size = stale.size;
        }
    });
    cases.bad("a stale checkpoint", &bent, "bundle.log", "these sizes need another number");
    let bent = with(&|b| b.checkpoint = sign_checkpoint(&Checkpoint { size: 1, ..tree.clone() }, &key));
    cases.bad("a checkpoint of the beginning", &bent, "bundle.log", "its proof is for a tree of");
    let root = TreeHash(*blake3::hash(b"another tree").as_bytes());
    let bent = with(&|b| b.checkpoint = sign_checkpoint(&Checkpoint { root, ..tree.clone() }, &key));
    cases.bad("another root", &bent, "bundle.log", "does not lead to the tree root");
    let bent = with(&|b| b.items[accept].inclusion.as_mut().unwrap().hashes.swap(0, 1));
    cases.bad("a swapped path", &bent, "bundle.log", "accept_output: the proof does not lead");
    let bent = with(&|b| b.items[accept].inclusion.as_mut().unwrap().hashes.truncate(1));
    cases.bad("a short path", &bent, "bundle.log", "the proof has 1 hashes");
    let bent = with(&|b| b.items[accept].inclusion = None);
    cases.bad("no path", &bent, "bundle.log", "inclusion proof is missing");

    let bent = with(&|b| {
        let (one, two) = (b.items[accept].receipt.take(), b.items[settle].receipt.take());
        (b.items[accept].receipt, b.items[settle].receipt) = (two, one);
    });
    cases.bad("two receipts in each other's place", &bent, "bundle.ledger", "out of the log's order");
    let bent = with(&|b| b.items.swap(accept, settle));
    cases.bad("two items swapped", &bent, "bundle.ledger", "out of the log's order");
    let bent = with(&|b| {
        let item = b.items[accept].clone();
        b.items.insert(accept, item);
    });
    cases.bad("an item twice", &bent, "bundle.ledger", "out of the log's order");
    let bent = with(&|b| drop(b.items.remove(settle - 3)));
    assert_eq!(receipt(&bundle.items[settle - 3]).code, "UM604");
    cases.bad("the refusal left out", &bent, "bundle.links", "is missing");
    let bent = with(&|b| drop(b.items.remove(at(b, "report_output"))));
    cases.bad("a step left out", &bent, "bundle.links", "is missing");
    let bent = with(&|b| drop(b.items.remove(0)));
    cases.bad("the genesis left out", &bent, "bundle.ledger", "does not begin with the ledger's genesis");
    let bare = to_bytes(&bent);
    let trust = Found::Broken("bundle.trust".into(), "no genesis".into());
    cases.cases.push(Case { name: "the genesis left out, no key", bytes: bare, key: None, found: trust });
    let bent = with(&|b| drop(b.items.remove(at(b, "open_rfq"))));
    cases.bad("the request left out", &bent, "bundle.terms", "the request (RFQ)");
    let bent = with(&|b| drop(b.items.remove(at(b, "submit_offer"))));
    cases.bad("the offer left out", &bent, "bundle.terms", "the offer");
    let bent = with(&|b| drop(b.items.remove(at(b, "accept_offer"))));
    cases.bad("the order's making left out", &bent, "bundle.links", "is missing");
    let slipped_in = |n: usize| {
        with(&|b| {
            b.items.truncate(settle);
            b.items.insert(at(b, "open_rfq"), other.items[n].clone());
        })
    };
    let (end, asked) = (at(&other, "settle_order"), at(&other, "open_rfq"));
    assert_eq!(receipt(&other.items[end - 3]).code, "UM604");
    cases.bad("another order's end slipped in", &slipped_in(end), "bundle.moves", "but it was");
    for n in [end - 3, asked] {
        let bent = slipped_in(n);
        cases.bad(
            "another order's receipt slipped in",
            &bent,
            "bundle.steps",
            "no part of this order's story",
        );
    }
    let bent = with(&|b| b.order_id = vec![9; 16]);
    cases.bad("another order's id", &bent, "bundle.order", "is missing");

    let command = |b: &mut v1::EvidenceBundle, n: usize, change: &dyn Fn(&mut v1::SignedCommand)| {
        change(b.items[n].command.as_mut().unwrap());
    };
    let body = other.items[at(&other, "accept_output")].command.as_ref().unwrap().command_body.clone();
    let bent = with(&|b| command(b, accept, &|c| c.command_body = body.clone()));
    cases.bad("another command's body", &bent, "bundle.commands", "accept_output");
    let bent = with(&|b| command(b, accept, &|c| c.signature[3] ^= 1));
    cases.bad("a changed command signature", &bent, "bundle.commands", "does not verify");
    let bent = with(&|b| command(b, settle, &|c| plus_l(&mut c.signature)));
    cases.bad("a malleated command signature", &bent, "bundle.commands", "settle_order");
    let bent = with(&|b| b.items[accept].command = None);
    cases.bad("no command", &bent, "bundle.commands", "its command is missing");
    let bent = with(&|b| b.items[accept].command = other.items[at(&other, "accept_output")].command.clone());
    cases.bad("another order's command", &bent, "bundle.content", "the receipt names another command");
    let bent = with(&|b| command(b, settle, &|c| c.recorded_json = r#"{"x":"1"}"#.into()));
    cases.bad("another recorded value", &bent, "bundle.content", "what was recorded");
    let bent = with(&|b| b.keys.retain(|key| key.purpose != i32::from(KeyPurpose::Service)));
    cases.bad("a key left out", &bent, "bundle.commands", "lacks the public key");

    let row = |n: usize| v1::MeteringRow::decode(bundle.metering[0].rows[n].as_slice()).unwrap();
    let more = v1::MeteringRow { work_units: 99, ..row(1) }.encode_to_vec();
    let bent = with(&|b| b.metering[0].rows[1] = more.clone());
    cases.bad("a raised counter", &bent, "bundle.metering", "no signature of the provider covers it");
    let bent = with(&|b| drop(b.metering[0].rows.remove(0)));
    cases.bad("a row left out", &bent, "bundle.metering", "missing from it");
    let foreign = v1::MeteringRow { attempt_id: vec![1; 16], ..row(1) }.encode_to_vec();
    let bent = with(&|b| b.metering[0].rows.push(foreign.clone()));
    cases.bad("a row of another attempt", &bent, "bundle.metering", "another attempt");
    let head = v1::MeteringHead {
        run_ticket_id: row(1).run_ticket_id,
        attempt_id: row(1).attempt_id,
        last_seq: 1,
        last_row_hash: Hash32::of(&bundle.metering[0].rows[1]).into(),
    };
    let bent =
        with(&|b| b.metering[0].head_envelope = proto::dsse::sign_message(&head, &forger).encode_to_vec());
    cases.bad("a stranger's head", &bent, "bundle.metering", "is not known here");
    let bent = with(&|b| b.metering[0].head_envelope.clear());
    cases.bad("no head", &bent, "bundle.metering", "no signature of the provider covers it");
    assert!(meter < settle);

    let bytes = to_bytes(&bundle);
    cases.no_bundle("cut short", bytes[..bytes.len() - 1].to_vec(), "damaged or cut short");
    cases.no_bundle("cut at its line", bytes[..15].to_vec(), "does not begin");
    cases.no_bundle("empty", Vec::new(), "does not begin");
    cases.no_bundle("garbage behind it", [&bytes[..], b"garbage"].concat(), "damaged");
    // Field 15, which no reader knows: a message to whoever looks, in a bundle that passes.
    cases.no_bundle("an unknown field", [&bytes[..], b"\x78\x01"].concat(), "no part of it");
    cases.no_bundle("a field twice", [&bytes[..], b"\x10\x01"].concat(), "no part of it");
    cases.no_bundle("a field without end", [&bytes[..16], &[0x1a], &[0xff; 9][..], &[1]].concat(), "damaged");
    cases.no_bundle("a number without end", [&bytes[..16], &[0xff; 12][..]].concat(), "damaged");

    let distinct: BTreeSet<String> =
        cases.cases.iter().map(|case| format!("{:?}", judged(&case.bytes, case.key))).collect();
    assert!(distinct.len() > 35, "{distinct:#?}");
    cases.check();
    market.pipeline.shutdown().await;
}

/// Shares of 3,700 by the default policy, as facts state them.
fn leg(facts: &mut serde_json::Value, role: &str, amount: &str) {
    for leg in facts["legs"].as_array_mut().unwrap() {
        if leg["role"] == role {
            leg["amount"] = json!(amount);
        }
    }
}

#[tokio::test]
async fn a_market_that_lies_under_its_own_receipt_key_is_caught() {
    let market = Market::start().await;
    let (other, order, refunded) =
        (eventful(&market).await, eventful(&market).await, market.refunded().await);
    let invalid = market.disputed().await;
    market.hand_must(Hand::Verifier, kinds::judge(invalid.order, "wrong_output")).await;
    let (bundle, other) = (bundle_of(&market, &order).await, bundle_of(&market, &other).await);
    let (refunded, invalid) = (bundle_of(&market, &refunded).await, bundle_of(&market, &invalid).await);
    let mut cases = cases(&market);
    let key = KeyPair::from_pem(&cases.key.to_pem()).unwrap();
    let lies =
        |kind, change: &dyn Fn(&mut serde_json::Value)| resealed(&bundle, &key, with_facts(kind, change));
    for (name, bundle) in [("settled", &bundle), ("refunded", &refunded), ("invalid", &invalid)] {
        cases.good(name, &resealed(bundle, &key, |_, _| {}));
    }

    // Money.
    let bent = lies("settle_order", &|f| (f["paid"], f["refunded"]) = (json!("3699"), json!("1")));
    cases.bad("paid is not units by price", &bent, "bundle.money", "do not cost the 3699 paid");
    let bent = lies("settle_order", &|f| f["refunded"] = json!("1"));
    cases.bad("more came out than went in", &bent, "bundle.money", "are not the 3700 held");
    let bent = lies("settle_order", &|f| {
        leg(f, "provider", "2959");
        leg(f, "operator", "186");
    });
    cases.bad("a unit from the provider to the operator", &bent, "bundle.money", "split policy gives");
    let operator = market.pipeline.house().agent(Hand::Operator).to_string();
    let bent = lies("settle_order", &|f| f["legs"][0]["payee_id"] = json!(operator.clone()));
    cases.bad("the creator's share for the operator", &bent, "bundle.money", "split policy gives");
    let bent = lies("settle_order", &|f| leg(f, "provider", "2961"));
    cases.bad("shares of more than was paid", &bent, "bundle.money", "do not sum");
    let bent = lies("settle_order", &|f| {
        f["policy_id"] = json!(2);
        leg(f, "provider", "1");
        leg(f, "operator", "3144");
    });
    cases.bad("a policy that nobody has seen", &bent, "bundle.money", "another split policy");
    let bent = lies("settle_order", &|f| {
        (f["billed_units"], f["paid"], f["refunded"]) = (json!("18"), json!("1800"), json!("1900"));
        f["legs"] = json!([{"n": 1, "role": "creator", "payee_id": market.payee.id(), "amount": "270"},
            {"n": 2, "role": "provider", "payee_id": market.provider.id(), "amount": "1440"},
            {"n": 3, "role": "operator", "payee_id": operator.clone(), "amount": "90"}]);
    });
    cases.bad("half the metered units", &bent, "bundle.money", "had stated 37 metered units, and billed 18");
    let bent = lies("settle_order", &|f| f["paid"] = json!(3700));
    cases.bad("an amount that is no text", &bent, "bundle.money", "no whole amounts");
    let bent = lies("settle_order", &|f| f["asset_id"] = json!(2));
    cases.bad("another asset", &bent, "bundle.money", "another one moved");
    let short = |kind| {
        resealed(
            &if kind == "fail_attempt" { refunded.clone() } else { invalid.clone() },
            &key,
            with_facts(kind, |f| f["refunded"] = json!("3600")),
        )
    };
    cases.bad("a refund short of what was held", &short("fail_attempt"), "bundle.money", "but 3600 refunded");
    cases.bad(
        "a refund after a verdict, short",
        &short("resolve_dispute"),
        "bundle.money",
        "but 3600 refunded",
    );

    // Terms: not what the parties signed.
    let bent = lies("accept_offer", &|f| (f["price_per_unit"], f["held"]) = (json!("130"), json!("4810")));
    cases.bad("another price than offered", &bent, "bundle.terms", "not the one that the provider offered");
    let bent = lies("accept_offer", &|f| (f["work_units"], f["held"]) = (json!("38"), json!("3800")));
    cases.bad("other units than asked for", &bent, "bundle.terms", "not those that the buyer asked for");
    let bent = lies("accept_offer", &|f| f["provider_id"] = json!(market.payee.id()));
    cases.bad("another provider", &bent, "bundle.terms", "did not make the offer");
    let bent = lies("accept_offer", &|f| f["offer_id"] = json!(Uuid::nil()));
    cases.bad("another offer", &bent, "bundle.terms", "another offer or request");
    let bent = lies("accept_offer", &|f| f["provider_key_id"] = json!(market.buyer.key.id()));
    cases.bad(
        "a metering key that is not the provider's",
        &bent,
        "bundle.terms",
        "not the one that signed the offer",
    );

    // Steps: by whom and about what.
    let put = |n: usize, party: &Party, kind: Kind, claimed: Option<AgentId>| {
        let submission = party.submission("a-key", kind, None);
        let mut bent = bundle.clone();
        let command_id = receipt(&bent.items[n]).command_id;
        bent.items[n].command = Some(as_logged(&submission, &command_id));
        bent.keys.push(v1::Key {
            public_key: party.key.public().as_bytes().to_vec(),
            purpose: party.purpose.into(),
        });
        resealed(&bent, &key, move |receipt, _| {
            if receipt.command_id == command_id {
                receipt.actor_id = claimed.unwrap_or(submission.actor).into();
                receipt.request_digest = request_digest(&submission);
            }
        })
    };
    let shill = Party::new("shill", KeyPurpose::Buyer);
    let (accept, settle) = (at(&bundle, "accept_output"), at(&bundle, "settle_order"));
    let accepts = || kinds::accept_output(order.order, OUTPUT);
    let bent = put(accept, &shill, accepts(), None);
    cases.bad("somebody else accepts", &bent, "bundle.steps", "not this agent's to take");
    let bent = put(accept, &shill, accepts(), Some(market.buyer.id()));
    cases.bad(
        "somebody else accepts in the buyer's name",
        &bent,
        "bundle.commands",
        "another agent than the key",
    );
    let bent = put(accept, &market.buyer, kinds::accept_output(order.order, [8; 32]), None);
    cases.bad("the buyer accepted another output", &bent, "bundle.steps", "another order, attempt or output");
    let bent = put(settle, &market.provider, kinds::settle(order.order), None);
    cases.bad("the provider settles", &bent, "bundle.steps", "not this agent's to take");
    let revoked = {
        let key_id = market.buyer.key.id();
        let kind = Kind::RevokeKey(v1::RevokeKey { key_id: key_id.into(), reason: "lost".into() });
        let submission = market.buyer.submission("revoke", kind, None);
        let mut bent = bundle.clone();
        let rfq = at(&bent, "open_rfq");
        bent.items.insert(rfq, bent.items[rfq - 1].clone());
        bent.items[rfq].command = Some(as_logged(&submission, &[7; 16]));
        let seq = receipt(&bent.items[rfq + 1]).seq - 1;
        resealed(&bent, &key, move |receipt, _| {
            if receipt.command_id == [7; 16] {
                (receipt.seq, receipt.kind) = (seq, "revoke_key".into());
                receipt.request_digest = request_digest(&submission);
                receipt.actor_id = submission.actor.into();
            }
        })
    };
    cases.bad("a revoked key goes on", &revoked, "bundle.commands", "open_rfq: its key had been revoked");
    let elsewhere = {
        let mut bent = bundle.clone();
        let taken = &other.items[at(&other, "accept_output")];
        bent.items[accept].command = taken.command.clone();
        let digest = receipt(taken).request_digest;
        let command_id = receipt(taken).command_id;
        resealed(&bent, &key, move |receipt, _| {
            if receipt.command_id == command_id {
                receipt.request_digest = digest.clone();
            }
        })
    };
    cases.bad(
        "an acceptance of another order",
        &elsewhere,
        "bundle.steps",
        "another order, attempt or output",
    );
    let twice = {
        let mut bent = bundle.clone();
        bent.items[accept].command = bent.items[accept - 1].command.clone();
        let digest = receipt(&bundle.items[accept - 1]).request_digest;
        resealed(&bent, &key, move |receipt, _| {
            if receipt.kind == "accept_output" {
                receipt.request_digest = digest.clone();
            }
        })
    };
    cases.bad("one request told twice", &twice, "bundle.commands", "it was used twice");
    let unaccepted = {
        let mut bent = bundle.clone();
        bent.items.drain(accept - 1..=accept);
        resealed(&bent, &key, with_facts("settle_order", |f| f["transitions"][0]["from"] = json!("reported")))
    };
    cases.bad("settled without acceptance", &unaccepted, "bundle.moves", "does not move an order");
    let bent = lies("settle_order", &|f| drop(f.as_object_mut().unwrap().remove("transitions")));
    cases.bad("settled without a move", &bent, "bundle.moves", "neither moves the order nor repeats");
    let bent = resealed(
        &invalid,
        &key,
        with_facts("resolve_dispute", |f| {
            f["transitions"][0]["event"] = json!("judge_valid");
            f["transitions"][0]["to"] = json!("accepted");
        }),
    );
    cases.bad("a verdict turned round", &bent, "bundle.moves", "judge_invalid does not move");

    // What was signed for something else.
    let upload = {
        let submission = upload_of(&market.buyer, accepts());
        let mut bent = bundle.clone();
        bent.items[accept].command.as_mut().unwrap().signature_base = submission.0.clone();
        bent.items[accept].command.as_mut().unwrap().signature = submission.1.clone();
        resealed(&bent, &key, |_, _| {})
    };
    cases.bad("an upload told as a command", &upload, "bundle.commands", "not a command's");

    // What cannot be read, or is told of another place or time.
    let deep = resealed(&bundle, &key, |receipt, _| {
        if receipt.code == "UM604" {
            receipt.facts_json = format!("{{\"a\":{}1{}}}", "[".repeat(500), "]".repeat(500));
        }
    });
    cases.bad("facts nested beyond reading", &deep, "bundle.receipts", "nested too deeply");
    for facts in ["", "[]", "{\"a\": NaN}", "{} {}"] {
        let bent = resealed(&bundle, &key, |receipt, _| {
            if receipt.code == "UM604" {
                receipt.facts_json = facts.into();
            }
        });
        cases.bad("facts that are no object", &bent, "bundle.receipts", "no JSON object");
    }
    let bent = resealed(&bundle, &key, |receipt, _| {
        if receipt.kind == "settle_order" {
            receipt.ledger_id = 2;
        }
    });
    cases.bad("a receipt of another ledger", &bent, "bundle.ledger", "receipt of ledger 2");
    let bent = resealed(&bundle, &key, |receipt, _| {
        if receipt.kind == "settle_order" {
            receipt.ledger_time_us = 1;
        }
    });
    cases.bad("a settlement before its order", &bent, "bundle.ledger", "time went back");
    cases.check();
    market.pipeline.shutdown().await;
}

/// Base and signature of a PUT whose bytes happen to be a command's.
fn upload_of(party: &Party, kind: Kind) -> (Vec<u8>, Vec<u8>) {
    let body = v1::CommandBody { kind: Some(kind) }.encode_to_vec();
    let content_type = proto::dsse::payload_type::<v1::CommandBody>();
    let target_uri = format!("http://127.0.0.1:8420/v1/ledgers/{LEDGER}/commands");
    let request = RequestToSign {
        method: "PUT",
        target_uri: &target_uri,
        content_type: Some(&content_type),
        body: Some(BodyDigest::of(&body)),
        idempotency_key: None,
    };
    let validity = Validity::from_now(1_795_000_000, 60).unwrap();
    let signed = httpsig::sign_request(&party.key, &request, &validity).unwrap();
    let headers = signed.headers().map(|(name, value)| (name, value.as_bytes()));
    let parsed = httpsig::parse("PUT", &target_uri, headers, httpsig::Coverage::Upload).unwrap();
    (parsed.base, parsed.signature.to_vec())
}

#[tokio::test]
async fn a_whole_market_of_an_impostor_holds_only_by_itself() {
    let (real, impostor) = (Market::start().await, Market::start().await);
    let mut cases = cases(&real);
    let bundle = bundle_of(&impostor, &eventful(&impostor).await).await;
    cases.bad("another market's receipt key", &bundle, "bundle.trust", "not the one you trust");
    cases.cases.push(Case {
        name: "nobody to ask",
        bytes: to_bytes(&bundle),
        key: None,
        found: Found::Holds,
    });
    // Its genesis names the real key, which never signed it.
    let mut bent = bundle.clone();
    let command = bent.items[0].command.as_mut().unwrap();
    let mut body = v1::CommandBody::decode(command.command_body.as_slice()).unwrap();
    let Some(Kind::Genesis(genesis)) = &mut body.kind else { panic!("no genesis") };
    let named = genesis.keys.iter_mut().find(|key| key.purpose == i32::from(KeyPurpose::Receipt)).unwrap();
    named.public_key = cases.key.public().as_bytes().to_vec();
    command.command_body = body.encode_to_vec();
    cases.bad("a genesis that names the real key", &bent, "bundle.checkpoint", "no signature of");
    cases.check();
    real.pipeline.shutdown().await;
    impostor.pipeline.shutdown().await;
}
