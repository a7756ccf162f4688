//! Artifacts are what they are called, belong to the parties of their order, and can be erased.

use std::path::{Path, PathBuf};

use proto::ids::ArtifactHash;
use proto::keys::KeyPair;
use proto::v1::{self, KeyPurpose, command_body::Kind};
use provider_agent::client::ClientError;

use crate::support::http::{COMMAND, Craft, Reply, exchange};
use crate::support::kinds;
use crate::support::market::fact;
use crate::support::party::Party;
use crate::support::server::{ARTIFACT_BYTES_MAX, Server};

/// A signed upload of bytes under a name that may be another's.
fn put(who: &'static str, name: &ArtifactHash, bytes: &[u8]) -> Craft {
    Craft::new(who, "PUT", format!("/v1/artifacts/{name}")).body("application/octet-stream", bytes.to_vec())
}

async fn get(server: &Server, who: &'static str, name: &ArtifactHash) -> Reply {
    server.send(&Craft::new(who, "GET", format!("/v1/artifacts/{name}"))).await
}

async fn erase(server: &Server, who: &'static str, name: &ArtifactHash) -> Reply {
    server.send(&Craft::new(who, "DELETE", format!("/v1/artifacts/{name}"))).await
}

fn assert_refused(reply: &Reply, status: u16, code: &str) {
    let problem = reply.problem();
    assert_eq!((reply.status, problem.code.as_str()), (status, code), "{}", reply.text());
}

/// Every file in the store, whole or not.
fn stored(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let (folders, mut found): (Vec<_>, Vec<_>) = entries.partition(|path| path.is_dir());
    found.extend(folders.iter().flat_map(|folder| stored(folder)));
    found
}

#[tokio::test]
async fn what_is_not_what_it_is_called_or_not_what_was_signed_leaves_nothing() {
    let server = Server::start().await;
    let before = server.every_row().await;
    let name = ArtifactHash::of(b"right");
    let too_large = vec![7; usize::try_from(ARTIFACT_BYTES_MAX).unwrap() + 1];
    let elsewhere = |path: &str| Craft { path: path.into(), ..put("buyer", &name, b"right") };
    let undigested = {
        let mut craft = put("buyer", &name, b"right");
        craft.components = COMMAND[..3].to_vec();
        craft
    };
    let cases = [
        ("other bytes than the name's", put("buyer", &name, b"wrong"), 400, "UB111"),
        ("no bytes", put("buyer", &name, b""), 400, "UB111"),
        ("too large", put("buyer", &ArtifactHash::of(&too_large), &too_large), 413, "UB107"),
        (
            "the name's bytes, but not the signed ones",
            Craft { sent_body: Some(b"right".to_vec()), ..put("buyer", &name, b"other") },
            401,
            "UI209",
        ),
        ("digest not covered", undigested, 401, "UI207"),
        ("unsigned", put("buyer", &name, b"right").unsigned(), 401, "UI201"),
        ("by nobody", put("nobody", &name, b"right"), 401, "UI202"),
        (
            "as text",
            Craft::new("buyer", "PUT", format!("/v1/artifacts/{name}")).body("text/plain", b"right".to_vec()),
            415,
            "UB106",
        ),
        ("a name that is none", elsewhere("/v1/artifacts/right"), 400, "UB103"),
        ("a way out of the store", elsewhere("/v1/artifacts/..%2f..%2fkeys%2foperator.pem"), 400, "UB103"),
        ("a name in capitals", elsewhere(&format!("/v1/artifacts/{}", "AB".repeat(32))), 400, "UB103"),
    ];
    for (name, craft, status, code) in cases {
        let reply = server.send(&craft).await;
        let problem = reply.problem();
        assert_eq!((reply.status, problem.code.as_str()), (status, code), "{name}: {}", reply.text());
        assert_eq!(stored(&server.artifacts), Vec::<PathBuf>::new(), "{name}");
        assert_eq!(server.every_row().await, before, "{name}");
    }
    // As large as allowed is allowed.
    let largest = &too_large[1..];
    let hash = server.client("buyer").put_artifact(largest.to_vec()).await.unwrap();
    assert_eq!(server.client("buyer").get_artifact(hash).await.unwrap(), largest);
}

#[tokio::test]
async fn an_upload_that_breaks_off_leaves_nothing() {
    let server = Server::start().await;
    let before = server.every_row().await;
    let bytes = vec![3; 50_000];
    let craft = put("buyer", &ArtifactHash::of(&bytes), &bytes);
    let announced = craft.head(server.address, &format!("content-length: {}\r\n", bytes.len()));
    let reply = exchange(server.address, &[announced.as_bytes(), &bytes[..20_000]]).await;
    assert_refused(&reply, 400, "UB103");
    let chunked = craft.head(server.address, "transfer-encoding: chunked\r\n");
    let reply = exchange(server.address, &[chunked.as_bytes(), b"4e20\r\n", &bytes[..20_000], b"\r\n"]).await;
    assert_refused(&reply, 400, "UB103");
    assert_eq!(stored(&server.artifacts), Vec::<PathBuf>::new());
    assert_eq!(server.every_row().await, before);
    // Nothing is in the way of the whole.
    assert_eq!(server.send(&craft).await.status, 201);
    assert_eq!(stored(&server.artifacts).len(), 1);
}

#[tokio::test]
async fn an_artifact_opens_to_the_parties_of_its_order_and_to_nobody_else() {
    let server = Server::start().await;
    let market = &server.market;
    Party::new("stranger", KeyPurpose::Buyer).register(&market.pipeline).await;
    market.another_provider("rival", kinds::ad()).await;
    let input = server.client("buyer").put_artifact(&b"the input"[..]).await.unwrap();
    assert_eq!(get(&server, "buyer", &input).await.body, b"the input");

    // Being invited does not open it, being chosen does.
    let rfq = market.id();
    let open = v1::OpenRfq { input_hash: input.into(), ..kinds::rfq(rfq) };
    market.must(&market.buyer, Kind::OpenRfq(open)).await;
    let offer = market.id();
    market.must(&market.provider, Kind::SubmitOffer(kinds::offer(offer, rfq))).await;
    for who in ["provider", "rival", "stranger", "payee"] {
        assert_refused(&get(&server, who, &input).await, 403, "UB302");
    }
    let accepted = market.must(&market.buyer, kinds::accept_offer(offer, "10000")).await;
    let (order, ticket) = (fact(&accepted, "order_id"), fact(&accepted, "run_ticket_id"));
    assert_eq!(get(&server, "provider", &input).await.body, b"the input");

    // The output opens to the buyer once it is reported, not when it is merely stored.
    let output = server.client("provider").put_artifact(&b"the output"[..]).await.unwrap();
    assert_refused(&get(&server, "buyer", &output).await, 403, "UB302");
    let attempt = market.id();
    market.must(&market.provider, kinds::start(ticket, attempt)).await;
    let metered = kinds::metering(ticket, attempt, &market.provider.key, &[kinds::UNITS]);
    market.must(&market.provider, metered).await;
    market.must(&market.provider, kinds::report(ticket, attempt, *output.as_bytes())).await;
    assert_eq!(get(&server, "buyer", &output).await.body, b"the output");

    for (name, who) in [(&input, "rival"), (&input, "stranger"), (&output, "rival"), (&output, "stranger")] {
        assert_refused(&get(&server, who, name).await, 403, "UB302");
    }
    let unsigned = Craft::new("buyer", "GET", format!("/v1/artifacts/{input}")).unsigned();
    assert_refused(&server.send(&unsigned).await, 401, "UI201");
    // What does not exist is refused in the same words as what is somebody else's.
    let (none, others) = (ArtifactHash::of(b"nothing"), get(&server, "stranger", &input).await);
    assert_eq!(get(&server, "stranger", &none).await.text(), others.text());
    // The verifier may see what it might have to judge.
    let verifier = || KeyPair::load(&market.dir().join("keys/verifier.pem")).unwrap();
    assert_eq!(server.client_of(verifier()).get_artifact(output).await.unwrap(), &b"the output"[..]);
    assert!(server.client_of(verifier()).get_artifact(none).await.is_err());
    assert_eq!(
        market.text(&format!("select state from market.orders where order_id = '{order}'")).await,
        "reported"
    );
}

#[tokio::test]
async fn naming_somebody_elses_artifact_in_an_rfq_opens_it_to_nobody() {
    let server = Server::start().await;
    let market = &server.market;
    let victim = Party::new("victim", KeyPurpose::Buyer);
    victim.register(&market.pipeline).await;
    let secret = server.client("victim").put_artifact(&b"a secret"[..]).await.unwrap();
    // The buyer knows the name, and a provider works with the buyer.
    let rfq = market.id();
    let open = v1::OpenRfq { input_hash: secret.into(), ..kinds::rfq(rfq) };
    market.must(&market.buyer, Kind::OpenRfq(open)).await;
    let offer = market.id();
    market.must(&market.provider, Kind::SubmitOffer(kinds::offer(offer, rfq))).await;
    let accepted = market.must(&market.buyer, kinds::accept_offer(offer, "10000")).await;
    for who in ["buyer", "provider"] {
        assert_refused(&get(&server, who, &secret).await, 403, "UB302");
    }
    // Nor does the provider open it to the buyer by reporting it as output.
    let (ticket, attempt) = (fact(&accepted, "run_ticket_id"), market.id());
    market.must(&market.provider, kinds::start(ticket, attempt)).await;
    market.must(&market.provider, kinds::report(ticket, attempt, *secret.as_bytes())).await;
    assert_refused(&get(&server, "buyer", &secret).await, 403, "UB302");
}

#[tokio::test]
async fn an_erased_artifact_is_gone_for_everybody_once_nobody_else_holds_it() {
    let server = Server::start().await;
    let market = &server.market;
    let name = server.client("buyer").put_artifact(&b"personal"[..]).await.unwrap();
    let rfq = market.id();
    let open = v1::OpenRfq { input_hash: name.into(), ..kinds::rfq(rfq) };
    market.must(&market.buyer, Kind::OpenRfq(open)).await;
    let offer = market.id();
    market.must(&market.provider, Kind::SubmitOffer(kinds::offer(offer, rfq))).await;
    market.must(&market.buyer, kinds::accept_offer(offer, "10000")).await;

    // Two hold it: one withdraws, the other keeps it. Sending the same again is known already.
    assert_eq!(server.send(&put("payee", &name, b"personal")).await.status, 201);
    assert_eq!(server.send(&put("payee", &name, b"personal")).await.status, 200);
    assert_eq!(erase(&server, "payee", &name).await.status, 204);
    assert_refused(&get(&server, "payee", &name).await, 403, "UB302");
    assert_eq!(get(&server, "provider", &name).await.body, b"personal");

    assert_refused(&erase(&server, "provider", &name).await, 404, "UM407");
    assert_eq!(erase(&server, "buyer", &name).await.status, 204);
    assert_eq!(stored(&server.artifacts), Vec::<PathBuf>::new());
    for who in ["buyer", "provider", "payee"] {
        assert_refused(&get(&server, who, &name).await, 403, "UB302");
    }
    // Whoever may still ask is told that the bytes are gone.
    let verifier = KeyPair::load(&market.dir().join("keys/verifier.pem")).unwrap();
    match server.client_of(verifier).get_artifact(name).await {
        Err(ClientError::Refused(refusal)) => assert_eq!((refusal.status, &*refusal.code), (404, "UB403")),
        other => panic!("{other:?}"),
    }
    assert_refused(&erase(&server, "buyer", &name).await, 404, "UM407");
    // It may come back.
    assert_eq!(server.send(&put("buyer", &name, b"personal")).await.status, 201);
    assert_eq!(get(&server, "provider", &name).await.body, b"personal");
    // The log knows names only: nothing of the content was ever in a row.
    let dump = server.market.count(
        "select count(*) from base.commands where position(convert_to('personal', 'UTF8') in body) > 0",
    );
    assert_eq!(dump.await, 0);
}
