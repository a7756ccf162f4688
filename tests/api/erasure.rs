//! Erasing contents at the operator's word: gone for everybody, told to those it concerned, and nothing that is proven needs
//! them. Whatever moment a process is killed at, the next one finishes.

use std::path::{Path, PathBuf};

use api::artifacts::Store;
use api::erasure::{self, Swept};
use ledger::Reader;
use ledger::artifacts;
use ledger::house::Hand;
use proto::ids::ArtifactHash;
use proto::keys::KeyPair;
use proto::v1::{self, ErasureSubject, KeyPurpose, command_body::Kind};
use provider_agent::client::{Client, ClientError};
use uuid::Uuid;

use crate::support::http::{Craft, Reply};
use crate::support::kinds;
use crate::support::market::{fact, id_of};
use crate::support::party::{LEDGER, Party};
use crate::support::server::Server;

const INPUT: &[u8] = b"what a person asked for";
const OUTPUT: &[u8] = b"what a machine answered";

async fn get(server: &Server, who: &'static str, name: &ArtifactHash) -> Reply {
    server.send(&Craft::new(who, "GET", format!("/v1/artifacts/{name}"))).await
}

async fn put(server: &Server, who: &'static str, bytes: &[u8]) -> Reply {
    let path = format!("/v1/artifacts/{}", ArtifactHash::of(bytes));
    server.send(&Craft::new(who, "PUT", path).body("application/octet-stream", bytes.to_vec())).await
}

#[track_caller]
fn assert_refused(reply: &Reply, status: u16, code: &str) {
    let problem = reply.problem();
    assert_eq!((reply.status, problem.code.as_str()), (status, code), "{}", reply.text());
}

/// A settled order over an input and an output that its parties have uploaded.
async fn settled(server: &Server, input: &[u8], output: &[u8]) -> Uuid {
    let market = &server.market;
    let (rfq, offer, attempt) = (market.id(), market.id(), market.id());
    for (who, bytes) in [("buyer", input), ("provider", output)] {
        assert!([200, 201].contains(&put(server, who, bytes).await.status));
    }
    let open = v1::OpenRfq { input_hash: ArtifactHash::of(input).into(), ..kinds::rfq(rfq) };
    market.must(&market.buyer, Kind::OpenRfq(open)).await;
    market.must(&market.provider, Kind::SubmitOffer(kinds::offer(offer, rfq))).await;
    let accepted = market.must(&market.buyer, kinds::accept_offer(offer, "10000")).await;
    let (order, ticket) = (fact(&accepted, "order_id"), fact(&accepted, "run_ticket_id"));
    let output = *ArtifactHash::of(output).as_bytes();
    market.must(&market.provider, kinds::start(ticket, attempt)).await;
    market
        .must(&market.provider, kinds::metering(ticket, attempt, &market.provider.key, &[kinds::UNITS]))
        .await;
    market.must(&market.provider, kinds::report(ticket, attempt, output)).await;
    market.must(&market.buyer, kinds::accept_output(order, output)).await;
    market.must(&market.buyer, kinds::settle(order)).await;
    order
}

fn operator(server: &Server) -> Client {
    server.client_of(KeyPair::load(&server.market.dir().join("keys/operator.pem")).unwrap())
}

fn erase(subject_kind: ErasureSubject, subject: Option<Uuid>, contents: &[(&[u8], Option<Uuid>)]) -> Kind {
    let items: Vec<_> =
        contents.iter().map(|(bytes, agent)| (*ArtifactHash::of(bytes).as_bytes(), *agent)).collect();
    kinds::erase(subject_kind, subject, &items)
}

/// Sends a command as the operator, and what it says.
async fn told(server: &Server, key: &str, kind: Kind) -> Result<serde_json::Value, ClientError> {
    let body = v1::CommandBody { kind: Some(kind) };
    operator(server).command(LEDGER, key, &body).await.map(|answer| answer.facts)
}

/// Every file under a folder.
fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let (folders, mut found): (Vec<_>, Vec<_>) = entries.partition(|path| path.is_dir());
    found.extend(folders.iter().flat_map(|folder| files(folder)));
    found
}

/// The sealed file of an artifact, and its key.
fn stored(server: &Server, name: &ArtifactHash) -> [PathBuf; 2] {
    let hex = name.to_string();
    let keys = server.artifacts.with_file_name("artifact-keys");
    let of = |folder: &Path| folder.join("1").join(&hex[..2]).join(&hex);
    [of(&server.artifacts).with_extension("sealed"), of(&keys)]
}

#[tokio::test]
async fn an_erased_order_is_gone_and_all_that_proves_it_stands() {
    let mut server = Server::start().await;
    Party::new("stranger", KeyPurpose::Buyer).register(&server.market.pipeline).await;
    let order = settled(&server, INPUT, OUTPUT).await;
    settled(&server, b"another input", b"another output").await;
    let (input, output) = (ArtifactHash::of(INPUT), ArtifactHash::of(OUTPUT));
    for name in [&input, &output] {
        assert!(stored(&server, name).iter().all(|path| path.exists()));
        for who in ["buyer", "provider"] {
            assert_eq!(get(&server, who, name).await.status, 200);
        }
    }
    let command = || erase(ErasureSubject::Order, Some(order), &[(INPUT, None), (OUTPUT, None)]);
    let facts = told(&server, "erase", command()).await.unwrap();
    assert_eq!((&facts["subject_kind"], &facts["subject_id"]), (&"order".into(), &order.to_string().into()));
    for name in [&input, &output] {
        assert!(stored(&server, name).iter().all(|path| !path.exists()));
        for who in ["buyer", "provider"] {
            assert_refused(&get(&server, who, name).await, 410, "UM410");
        }
        // Strangers are told nothing, as ever.
        assert_refused(&get(&server, "stranger", name).await, 403, "UB302");
        let verifier =
            server.client_of(KeyPair::load(&server.market.dir().join("keys/verifier.pem")).unwrap());
        match verifier.get_artifact(*name).await {
            Err(ClientError::Refused(refusal)) => {
                assert_eq!((refusal.status, &*refusal.code), (410, "UM410"))
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(files(&server.artifacts).len(), 2, "the other order's");
    // The same request again is the same command.
    assert_eq!(told(&server, "erase", command()).await.unwrap(), facts);
    let erasures =
        server.market.count("select count(*) from base.commands where kind = 'erase_subject'").await;
    assert_eq!(erasures, 1);
    // Whoever still has the bytes may send them again; it is a new upload, and may be erased like the first.
    assert_eq!(put(&server, "buyer", INPUT).await.status, 201);
    assert_eq!(get(&server, "provider", &input).await.body, INPUT);
    assert_refused(&get(&server, "buyer", &output).await, 410, "UM410");
    told(&server, "once-more", command()).await.unwrap();
    assert_refused(&get(&server, "provider", &input).await, 410, "UM410");

    // Its receipt stands with the operator and not in the order's chain, which ended when it closed; and everything is proven without a byte of it.
    let receipts = format!(
        "select count(*) from receipts.receipts r join base.commands c using (ledger_id, seq) \
         where r.subject_id <> '{order}' and c.kind = 'erase_subject' and c.code = 'ok'"
    );
    assert_eq!(server.market.count(&receipts).await, 2);
    for bytes in ["what a person asked for", "what a machine answered"] {
        let sql = format!(
            "select count(*) from base.commands where position(convert_to('{bytes}', 'UTF8') in body || signature_base) > 0"
        );
        assert_eq!(server.market.count(&sql).await, 0);
    }
    server.stop().await;
    server.market.pipeline.shutdown().await;
    server.verified().await;
}

#[tokio::test]
async fn an_erased_agent_is_gone_and_what_another_uploaded_too_stays_with_that_one() {
    let mut server = Server::start().await;
    let (buyer, payee) = (id_of(&server.market.buyer), id_of(&server.market.payee));
    settled(&server, INPUT, OUTPUT).await;
    assert_eq!(put(&server, "payee", INPUT).await.status, 201);
    assert_eq!(put(&server, "payee", b"the payee's own").await.status, 201);
    // What the operator's program finds out: the input is the payee's as well, the output was made for the buyer alone.
    let reader = Reader::new(server.market.db.config("econ_api"), 1).unwrap();
    let house = server.market.pipeline.house().agent(Hand::Operator);
    let subject = artifacts::Subject::Agent(proto::ids::AgentId::from_uuid(buyer));
    let mut plan: Vec<_> = artifacts::plan_erasure(&reader, house, LEDGER, subject, None)
        .await
        .unwrap()
        .into_iter()
        .map(|planned| (planned.hash, planned.action))
        .collect();
    plan.sort_by_key(|(hash, _)| *hash != ArtifactHash::of(INPUT));
    let unlink = artifacts::Action::Unlink {
        agent_id: proto::ids::AgentId::from_uuid(buyer),
        reason: "uploaded_by_another".into(),
    };
    assert_eq!(
        plan,
        [(ArtifactHash::of(INPUT), unlink), (ArtifactHash::of(OUTPUT), artifacts::Action::Erase)]
    );

    let command = erase(ErasureSubject::Agent, Some(buyer), &[(INPUT, Some(buyer)), (OUTPUT, None)]);
    told(&server, "erase", command).await.unwrap();
    for (who, bytes, status) in [
        ("buyer", INPUT, 410),
        // It came from the buyer.
        ("provider", INPUT, 410),
        ("payee", INPUT, 200),
        ("buyer", OUTPUT, 410),
        ("provider", OUTPUT, 410),
        ("payee", b"the payee's own", 200),
    ] {
        assert_eq!(get(&server, who, &ArtifactHash::of(bytes)).await.status, status, "{who}");
    }
    let again = artifacts::plan_erasure(&reader, house, LEDGER, subject, None).await.unwrap();
    assert_eq!(again, [], "nothing of it is left");
    // The last holder takes it along.
    told(&server, "the-payee", erase(ErasureSubject::Agent, Some(payee), &[(INPUT, None)])).await.unwrap();
    assert!(stored(&server, &ArtifactHash::of(INPUT)).iter().all(|path| !path.exists()));
    server.stop().await;
    server.market.pipeline.shutdown().await;
    server.verified().await;
}

#[tokio::test]
async fn an_artifact_is_erased_whoever_uploaded_it() {
    let server = Server::start().await;
    for who in ["buyer", "payee", "provider"] {
        assert_eq!(put(&server, who, INPUT).await.status, 201);
    }
    let market = &server.market;
    for hand in [Hand::Service, Hand::Verifier] {
        assert_eq!(
            market.hand(hand, erase(ErasureSubject::Artifact, None, &[(INPUT, None)])).await.code,
            "UI301"
        );
    }
    let theirs = v1::CommandBody { kind: Some(erase(ErasureSubject::Artifact, None, &[(INPUT, None)])) };
    match server.client("buyer").command(LEDGER, "mine", &theirs).await {
        Err(ClientError::Refused(refusal)) => assert_eq!((refusal.status, &*refusal.code), (403, "UM304")),
        other => panic!("{other:?}"),
    }
    let name = ArtifactHash::of(INPUT);
    assert_eq!(get(&server, "payee", &name).await.body, INPUT);
    let withdraw = || Craft::new("payee", "DELETE", format!("/v1/artifacts/{name}"));
    assert_eq!(server.send(&withdraw()).await.status, 204);
    told(&server, "erase", erase(ErasureSubject::Artifact, None, &[(INPUT, None)])).await.unwrap();
    for who in ["buyer", "provider"] {
        assert_refused(&get(&server, who, &name).await, 410, "UM410");
    }
    assert_eq!(files(&server.artifacts), Vec::<PathBuf>::new());
    // That somebody had the same bytes is not told to whoever withdrew before, or sends and withdraws them after.
    assert_refused(&get(&server, "payee", &name).await, 403, "UB302");
    assert_eq!(put(&server, "payee", INPUT).await.status, 201);
    assert_eq!(server.send(&withdraw()).await.status, 204);
    assert_refused(&get(&server, "payee", &name).await, 403, "UB302");
}

/// What the agent of a key is told that it may erase.
async fn mine(server: &Server, who: &'static str) -> Vec<String> {
    let said = server.send(&Craft::new(who, "GET", "/v1/erasure")).await;
    assert_eq!(said.status, 200, "{}", said.text());
    let artifacts = said.json()["artifacts"].as_array().unwrap().clone();
    artifacts.iter().map(|one| one["artifact_hash"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn an_agent_erases_what_it_uploaded_and_the_same_bytes_of_another_stay() {
    let mut server = Server::start().await;
    let name = ArtifactHash::of(INPUT);
    settled(&server, INPUT, OUTPUT).await;
    assert_eq!(put(&server, "payee", INPUT).await.status, 201);
    let nobody = server.send(&Craft::new("nobody", "GET", "/v1/erasure").unsigned()).await;
    assert_eq!(nobody.status, 401, "{}", nobody.text());
    assert_eq!(mine(&server, "buyer").await, [name.to_string()], "the output is the provider's upload");
    let buyer = id_of(&server.market.buyer);
    let own = || erase(ErasureSubject::Agent, Some(buyer), &[(INPUT, Some(buyer))]);
    let own = |key: &'static str| (key, v1::CommandBody { kind: Some(own()) });
    for (key, body) in [own("once"), own("and-again")] {
        server.client("buyer").command(LEDGER, key, &body).await.unwrap();
        assert_eq!(mine(&server, "buyer").await, Vec::<String>::new());
        for who in ["buyer", "provider"] {
            assert_refused(&get(&server, who, &name).await, 410, "UM410");
        }
        assert_eq!(get(&server, "payee", &name).await.body, INPUT);
        assert!(stored(&server, &name).iter().all(|path| path.exists()));
    }
    // The last one takes the bytes and their key along. Whoever withdrew, or came later, is not told of any erasure.
    let withdrawn = Craft::new("payee", "DELETE", format!("/v1/artifacts/{name}"));
    assert_eq!(server.send(&withdrawn).await.status, 204);
    assert!(stored(&server, &name).iter().all(|path| !path.exists()));
    assert_refused(&get(&server, "payee", &name).await, 403, "UB302");
    server.stop().await;
    server.market.pipeline.shutdown().await;
    server.verified().await;
}

/// The store as a server that starts finds it, and what it does first.
async fn next_server(server: &Server) -> (Store, Reader) {
    let keys = server.artifacts.with_file_name("artifact-keys");
    let store = Store::open(&server.artifacts, keys, 1_000).unwrap();
    let reader = Reader::new(server.market.db.config("econ_api"), 1).unwrap();
    erasure::carry_out_all(&store, &reader, LEDGER, server.market.pipeline.now_us()).await.unwrap();
    (store, reader)
}

#[tokio::test]
async fn killed_after_the_command_it_serves_nothing_any_more_and_the_next_server_removes_it() {
    let server = Server::start().await;
    let name = ArtifactHash::of(INPUT);
    for who in ["buyer", "payee"] {
        put(&server, who, INPUT).await;
    }
    // Past the door that would carry it out.
    server.market.hand_must(Hand::Operator, erase(ErasureSubject::Artifact, None, &[(INPUT, None)])).await;
    for who in ["buyer", "payee"] {
        assert_refused(&get(&server, who, &name).await, 410, "UM410");
    }
    assert!(stored(&server, &name).iter().all(|path| path.exists()), "not removed yet");
    // One of the two sends it again meanwhile: that came after the erasure, and stays.
    assert_eq!(put(&server, "buyer", INPUT).await.status, 201);
    next_server(&server).await;
    assert_eq!(get(&server, "buyer", &name).await.body, INPUT);
    assert_refused(&get(&server, "payee", &name).await, 410, "UM410");

    server.market.hand_must(Hand::Operator, erase(ErasureSubject::Artifact, None, &[(INPUT, None)])).await;
    let (store, reader) = next_server(&server).await;
    assert!(stored(&server, &name).iter().all(|path| !path.exists()));
    assert!(artifacts::pending_erasures(&reader, LEDGER, 10).await.unwrap().is_empty());
    assert_eq!(erasure::sweep(&store, &reader, LEDGER).await.unwrap(), Swept::default());
}

#[tokio::test]
async fn killed_while_it_removes_files_or_given_them_back_by_a_restore_the_next_server_removes_them() {
    let server = Server::start().await;
    let name = ArtifactHash::of(INPUT);
    put(&server, "buyer", INPUT).await;
    put(&server, "payee", OUTPUT).await;
    let [sealed, key] = stored(&server, &name);
    let backup = [std::fs::read(&sealed).unwrap(), std::fs::read(&key).unwrap()];
    told(&server, "erase", erase(ErasureSubject::Artifact, None, &[(INPUT, None)])).await.unwrap();
    // Marked and not removed; its key removed and not the file; all of it brought back from a backup.
    for (with_file, with_key) in [(true, true), (true, false), (false, true)] {
        for (wanted, path, bytes) in [(with_file, &sealed, &backup[0]), (with_key, &key, &backup[1])] {
            if wanted {
                std::fs::write(path, bytes).unwrap();
            }
        }
        assert_refused(&get(&server, "buyer", &name).await, 410, "UM410");
        let (store, reader) = next_server(&server).await;
        let swept = erasure::sweep(&store, &reader, LEDGER).await.unwrap();
        assert_eq!(swept, Swept { removed: 1, ..Swept::default() }, "{with_file} {with_key}");
        assert!(!sealed.exists() && !key.exists());
        assert_eq!(get(&server, "payee", &ArtifactHash::of(OUTPUT)).await.body, OUTPUT);
    }
    // Withdrawn by its uploader and cut off before the file was gone: likewise.
    std::fs::write(&sealed, &backup[0]).unwrap();
    std::fs::write(&key, &backup[1]).unwrap();
    let withdraw = "update artifacts.uploads set erased_at = now() where erased_at is null";
    server.market.admin.batch_execute(withdraw).await.unwrap();
    let (store, reader) = next_server(&server).await;
    assert_eq!(erasure::sweep(&store, &reader, LEDGER).await.unwrap().removed, 2);
    // What no row knows is not touched: after a restore the database may be the older of the two.
    let unknown = stored(&server, &ArtifactHash::of(b"unknown"));
    for path in &unknown {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, b"something").unwrap();
    }
    let swept = erasure::sweep(&store, &reader, LEDGER).await.unwrap();
    assert_eq!(swept, Swept { unknown: 1, ..Swept::default() });
    assert!(unknown.iter().all(|path| path.exists()));
}

async fn withdraw(server: &Server, who: &'static str, name: &ArtifactHash) -> Reply {
    server.send(&Craft::new(who, "DELETE", format!("/v1/artifacts/{name}"))).await
}

/// Writes an artifact's two files past the server, into a folder of some number.
fn put_back(server: &Server, ledger: &str, name: &ArtifactHash) -> [PathBuf; 2] {
    let paths = stored(server, name).map(|path| {
        let shard = path.parent().unwrap();
        let root = shard.parent().unwrap().with_file_name(ledger);
        root.join(shard.file_name().unwrap()).join(path.file_name().unwrap())
    });
    for path in &paths {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, [1; 32]).unwrap();
    }
    paths
}

/// A folder that is not empty where a file was: nothing removes it by mistake, and reading it fails.
fn in_the_way(path: &Path) {
    let _ = std::fs::remove_file(path);
    std::fs::create_dir_all(path.join("something")).unwrap();
}

#[tokio::test]
async fn nothing_is_stored_under_a_number_that_is_no_ledgers_and_what_was_goes_at_the_next_start() {
    let server = Server::start().await;
    let name = ArtifactHash::of(INPUT);
    for ledger in ["0", "2", "77", "4294967295"] {
        let path = format!("/v1/artifacts/{name}?ledger={ledger}");
        let put = Craft::new("buyer", "PUT", &path).body("application/octet-stream", INPUT.to_vec());
        assert_refused(&server.send(&put).await, 404, "UB401");
        for method in ["GET", "DELETE"] {
            assert_refused(&server.send(&Craft::new("buyer", method, &path)).await, 404, "UB401");
        }
        let asked = Craft::new("buyer", "GET", format!("/v1/erasure?ledger={ledger}"));
        assert_refused(&server.send(&asked).await, 404, "UB401");
    }
    assert_eq!(files(&server.artifacts), Vec::<PathBuf>::new());
    // As earlier releases took it; and as a restore leaves a ledger that was made after its moment.
    let rowed = put_back(&server, "77", &name);
    let buyer = id_of(&server.market.buyer);
    let row = format!(
        "insert into artifacts.uploads (ledger_id, artifact_hash, agent_id, size_bytes, uploaded_at) \
         values (77, '\\x{name}', '{buyer}', 1, now())"
    );
    server.market.admin.batch_execute(&row).await.unwrap();
    let impossible = put_back(&server, "4294967295", &name);
    let rowless = put_back(&server, "77", &ArtifactHash::of(OUTPUT));
    assert_eq!(put(&server, "buyer", INPUT).await.status, 201);
    let (store, reader) = next_server(&server).await;
    let swept = erasure::finish(&store, &reader, LEDGER, server.market.pipeline.now_us()).await.unwrap();
    assert_eq!(swept, Swept { removed: 2, unknown: 1, ..Swept::default() });
    assert!(rowed.iter().chain(&impossible).all(|path| !path.exists()));
    assert!(rowless.iter().all(|path| path.exists()));
    assert_eq!(get(&server, "buyer", &name).await.body, INPUT);
}

#[tokio::test]
async fn an_upload_that_cannot_be_recorded_leaves_no_file_and_takes_none_of_anothers() {
    let server = Server::start().await;
    let name = ArtifactHash::of(INPUT);
    let broken = "alter table artifacts.uploads add constraint no_more_ck check (agent_id is null) not valid";
    let mended = "alter table artifacts.uploads drop constraint no_more_ck";
    server.market.admin.batch_execute(broken).await.unwrap();
    assert_eq!(put(&server, "buyer", INPUT).await.status, 500);
    assert!(stored(&server, &name).iter().all(|path| !path.exists()));
    server.market.admin.batch_execute(mended).await.unwrap();
    assert_eq!(put(&server, "buyer", INPUT).await.status, 201);
    server.market.admin.batch_execute(broken).await.unwrap();
    assert_eq!(put(&server, "payee", INPUT).await.status, 500);
    assert_eq!(get(&server, "buyer", &name).await.body, INPUT);
}

#[tokio::test]
async fn a_file_that_no_row_knows_is_counted_and_goes_at_the_operators_word_for_it_only() {
    let server = Server::start().await;
    let names = [ArtifactHash::of(INPUT), ArtifactHash::of(OUTPUT)];
    let paths: Vec<PathBuf> = names.iter().flat_map(|name| put_back(&server, "1", name)).collect();
    let (store, reader) = next_server(&server).await;
    let unknown = |unknown| Swept { unknown, ..Swept::default() };
    assert_eq!(erasure::sweep(&store, &reader, LEDGER).await.unwrap(), unknown(2));
    // Anybody may erase "its own" upload of whatever hash; that moves nothing.
    let buyer = id_of(&server.market.buyer);
    let own = erase(ErasureSubject::Agent, Some(buyer), &[(INPUT, Some(buyer)), (OUTPUT, Some(buyer))]);
    let own = v1::CommandBody { kind: Some(own) };
    server.client("buyer").command(LEDGER, "own", &own).await.unwrap();
    assert_eq!(erasure::sweep(&store, &reader, LEDGER).await.unwrap(), unknown(2));
    assert!(paths.iter().all(|path| path.exists()));
    told(&server, "erase", erase(ErasureSubject::Artifact, None, &[(INPUT, None)])).await.unwrap();
    assert!(stored(&server, &names[0]).iter().all(|path| !path.exists()));
    assert!(stored(&server, &names[1]).iter().all(|path| path.exists()));
    // Cut off between the command and the file: the next start removes it.
    server.market.hand_must(Hand::Operator, erase(ErasureSubject::Artifact, None, &[(OUTPUT, None)])).await;
    let removed = Swept { removed: 1, ..Swept::default() };
    assert_eq!(erasure::sweep(&store, &reader, LEDGER).await.unwrap(), removed);
    assert_eq!(files(&server.artifacts), Vec::<PathBuf>::new());
}

#[tokio::test]
async fn whether_an_upload_is_new_tells_nothing_of_what_others_erased() {
    let server = Server::start().await;
    let payee = id_of(&server.market.payee);
    assert_eq!(put(&server, "buyer", INPUT).await.status, 201);
    assert_eq!(put(&server, "buyer", INPUT).await.status, 200);
    assert_eq!(put(&server, "payee", INPUT).await.status, 201);
    told(&server, "theirs", erase(ErasureSubject::Agent, Some(payee), &[(INPUT, Some(payee))]))
        .await
        .unwrap();
    assert_eq!(put(&server, "buyer", INPUT).await.status, 200);
    assert_eq!(put(&server, "payee", INPUT).await.status, 201);
    // Its own that is erased is new again, carried out or not.
    server.market.hand_must(Hand::Operator, erase(ErasureSubject::Artifact, None, &[(INPUT, None)])).await;
    assert_eq!(put(&server, "buyer", INPUT).await.status, 201);
    assert_eq!(put(&server, "buyer", INPUT).await.status, 200);
}

#[tokio::test]
async fn that_something_was_erased_is_not_told_to_a_counterpart_of_somebody_who_came_later() {
    let server = Server::start().await;
    let name = ArtifactHash::of(INPUT);
    assert_eq!(put(&server, "payee", INPUT).await.status, 201);
    told(&server, "erase", erase(ErasureSubject::Artifact, None, &[(INPUT, None)])).await.unwrap();
    // Two who guess the bytes: one uploads and orders, the other provides, and the first takes the bytes away.
    settled(&server, INPUT, OUTPUT).await;
    assert_eq!(withdraw(&server, "buyer", &name).await.status, 204);
    for who in ["buyer", "provider"] {
        assert_refused(&get(&server, who, &name).await, 403, "UB302");
    }
    assert_refused(&get(&server, "payee", &name).await, 410, "UM410");
}

#[tokio::test]
async fn a_file_that_cannot_be_removed_keeps_no_other_and_is_said_until_it_is_gone() {
    let server = Server::start().await;
    let [name, other] = [ArtifactHash::of(INPUT), ArtifactHash::of(OUTPUT)];
    for bytes in [INPUT, OUTPUT] {
        assert_eq!(put(&server, "buyer", bytes).await.status, 201);
    }
    let [_, key] = stored(&server, &name);
    in_the_way(&key);
    let command = || erase(ErasureSubject::Artifact, None, &[(INPUT, None), (OUTPUT, None)]);
    for again in ["first", "second"] {
        match told(&server, again, command()).await {
            Err(ClientError::Refused(refusal)) => {
                assert_eq!((refusal.status, &*refusal.code), (500, "UB905"));
                assert!(
                    refusal.seq.is_some() && refusal.receipt_id.is_some(),
                    "the command stands: {refusal:?}"
                );
            }
            other => panic!("{other:?}"),
        }
        assert_refused(&get(&server, "buyer", &name).await, 410, "UM410");
        assert!(stored(&server, &other).iter().all(|path| !path.exists()));
        // Still planned: nobody is told that nothing is stored.
        let reader = Reader::new(server.market.db.config("econ_api"), 1).unwrap();
        let house = server.market.pipeline.house().agent(Hand::Operator);
        let subject = artifacts::Subject::Artifact(name);
        let plan = artifacts::plan_erasure(&reader, house, LEDGER, subject, None).await.unwrap();
        assert_eq!(plan.len(), 1);
        assert_eq!(artifacts::pending_erasures(&reader, LEDGER, 10).await.unwrap(), [name]);
    }
    std::fs::remove_dir_all(&key).unwrap();
    told(&server, "third", command()).await.unwrap();
    assert_eq!(files(&server.artifacts), Vec::<PathBuf>::new());
}

#[tokio::test]
async fn a_start_goes_past_every_file_that_it_cannot_remove_or_seal() {
    let server = Server::start().await;
    let contents: Vec<Vec<u8>> = (0..4_u8).map(|n| vec![n; 10]).collect();
    let mut names: Vec<ArtifactHash> = contents.iter().map(|bytes| ArtifactHash::of(bytes)).collect();
    names.sort();
    for bytes in &contents {
        assert_eq!(put(&server, "buyer", bytes).await.status, 201);
    }
    // The first cannot be removed, the second not be sealed; the third goes; the fourth is somebody's.
    in_the_way(&stored(&server, &names[0])[1]);
    let [sealed, key] = stored(&server, &names[1]);
    std::fs::remove_file(&sealed).unwrap();
    std::fs::remove_file(&key).unwrap();
    in_the_way(&sealed.with_extension(""));
    for name in [names[0], names[2]] {
        let withdrawn =
            format!("update artifacts.uploads set erased_at = now() where artifact_hash = '\\x{name}'");
        server.market.admin.batch_execute(&withdrawn).await.unwrap();
    }
    let (store, reader) = next_server(&server).await;
    let swept = erasure::finish(&store, &reader, LEDGER, server.market.pipeline.now_us()).await.unwrap();
    assert_eq!(swept, Swept { removed: 1, failed: 2, ..Swept::default() });
    assert!(stored(&server, &names[2]).iter().all(|path| !path.exists()));
    assert!(stored(&server, &names[3]).iter().all(|path| path.exists()));
}

#[tokio::test]
async fn somebodys_open_request_stops_neither_the_erasure_of_another_holder_nor_of_the_bytes() {
    let server = Server::start().await;
    let market = &server.market;
    let (buyer, payee) = (id_of(&market.buyer), id_of(&market.payee));
    for who in ["buyer", "payee"] {
        assert_eq!(put(&server, who, INPUT).await.status, 201);
    }
    let open = v1::OpenRfq { input_hash: ArtifactHash::of(INPUT).into(), ..kinds::rfq(market.id()) };
    market.must(&market.buyer, Kind::OpenRfq(open)).await;
    let reader = Reader::new(market.db.config("econ_api"), 1).unwrap();
    let house = market.pipeline.house().agent(Hand::Operator);
    let plan = async |subject| {
        let plan = artifacts::plan_erasure(&reader, house, LEDGER, subject, None).await;
        plan.map(|plan| plan.into_iter().map(|planned| planned.action).collect::<Vec<_>>())
    };
    let agent = |id| proto::ids::AgentId::from_uuid(id);
    let unlink =
        artifacts::Action::Unlink { agent_id: agent(payee), reason: "uploaded_by_another".to_owned() };
    assert_eq!(plan(artifacts::Subject::Agent(agent(payee))).await.unwrap(), [unlink]);
    assert_eq!(plan(artifacts::Subject::Agent(agent(buyer))).await.unwrap_err().code, "UM608");
    let whole = plan(artifacts::Subject::Artifact(ArtifactHash::of(INPUT))).await.unwrap();
    assert_eq!(whole, [artifacts::Action::Erase]);
}

#[tokio::test]
async fn what_an_agent_may_erase_is_told_in_pages() {
    let server = Server::start().await;
    let buyer = id_of(&server.market.buyer);
    let rows = format!(
        "insert into artifacts.uploads (ledger_id, artifact_hash, agent_id, size_bytes, uploaded_at) \
         select 1, sha256(convert_to(n::text, 'UTF8')), '{buyer}', 1, now() from generate_series(1, 1500) as n"
    );
    server.market.admin.batch_execute(&rows).await.unwrap();
    let mut seen = mine(&server, "buyer").await;
    assert_eq!(seen.len(), 1_000);
    for left in [500, 0] {
        let path = format!("/v1/erasure?after={}", seen.last().unwrap());
        let page = server.send(&Craft::new("buyer", "GET", path)).await;
        let page = page.json()["artifacts"].as_array().unwrap().clone();
        assert_eq!(page.len(), left);
        seen.extend(page.iter().map(|one| one["artifact_hash"].as_str().unwrap().to_owned()));
    }
    assert!(seen.is_sorted() && seen.len() == 1_500);
    assert_refused(&server.send(&Craft::new("buyer", "GET", "/v1/erasure?after=x")).await, 400, "UB103");
}
