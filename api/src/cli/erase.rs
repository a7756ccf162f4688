//! `econ erase`: removes what is stored for the sake of an agent, an order or an artifact, for the operator; and for anybody
//! what they have uploaded themselves.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;

use api::artifacts::{BYTES_MAX, KEYS, Store};
use api::erasure;
use api::server::problem::Problem;
use ledger::Reader;
use ledger::args::ERASED_UPLOADS_MAX;
use ledger::artifacts::{self, Action, Planned, Subject};
use ledger::clock::Clock;
use ledger::house::Hand;
use proto::ids::{AgentId, ArtifactHash, OrderId};
use proto::keys::KeyPair;
use proto::v1::command_body::Kind;
use proto::v1::{CommandBody, EraseSubject, ErasedUpload, ErasureSubject};
use provider_agent::client::{Client, ClientError};
use serde_json::{Value, json};
use uuid::Uuid;

use super::amount::{counted, thousands};
use super::client::{ClientArgs, operator_key, running_api};
use super::failure::{Failure, Outcome};
use super::place::{Database, PlaceArgs};
use super::say;
use super::up::{self, LEDGER, Market};

/// Connections for reading: one question follows the other.
const READERS: usize = 1;

/// Options of `econ erase`.
#[derive(Debug, clap::Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct EraseArgs {
    /// An agent's id, an order's id, or an artifact's hash: as the operator. Or `me`: what the agent of your key has uploaded
    #[arg(value_parser = parse_target)]
    subject: Target,
    /// Say what would be done and do nothing
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    place: PlaceArgs,
    /// For `me`: the API [default: the econ that runs on the data dir]
    #[arg(long, env = "ECON_API", value_name = "URL")]
    api: Option<String>,
    /// For `me`: the key to sign with [default: econ/key.pem in your configuration folder]
    #[arg(long, env = "ECON_KEY", value_name = "FILE")]
    key: Option<PathBuf>,
    /// Print one JSON object instead of text
    #[arg(long)]
    json: bool,
}

/// Whose contents.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Target {
    /// Of the agent whose key signs.
    Me,
    /// Of whomever the operator names.
    Other(Subject),
}

const AFTER_HELP: &str = "\
Of an agent: what it uploaded, and the outputs that it bought. Of an order: its input and output. Of an artifact: the bytes, \
whoever uploaded them. Nothing goes while an order is live or disputed; what another agent uploaded too stays with that one. \
Of `me`: what you uploaded; what others uploaded of the same bytes, or for you, is not yours to erase: ask the operator. \
The log keeps one command that names ids and hashes; every proof and replay holds as before. Ids, hashes, amounts and times \
stay for ever, and so do copies that somebody has fetched.

Works beside a running econ and without one. Repeat it as often as you like, after a crash as well.";

fn parse_target(text: &str) -> Result<Target, String> {
    if text == "me" { Ok(Target::Me) } else { parse_subject(text).map(Target::Other) }
}

/// Agents' ids are derived from keys (UUIDv8), orders' ids carry a time (UUIDv7).
fn parse_subject(text: &str) -> Result<Subject, String> {
    if let Ok(hash) = text.parse() {
        return Ok(Subject::Artifact(hash));
    }
    match Uuid::from_str(text) {
        Ok(id) if id.get_version_num() == 8 => Ok(Subject::Agent(AgentId::from_uuid(id))),
        Ok(id) => Ok(Subject::Order(OrderId::from_uuid(id))),
        Err(_) => {
            Err("neither an agent's or order's id nor an artifact's hash (64 hex digits), nor `me`"
                .to_owned())
        }
    }
}

/// `econ erase`.
pub(crate) async fn run(args: EraseArgs) -> Outcome {
    let Target::Other(subject) = args.subject else { return of_me(&args).await };
    let data_dir = args.place.data_dir()?;
    let path = operator_key(&data_dir);
    if !path.exists() {
        let why = format!(
            "this needs the operator's key, and there is none at {}: name the market's --data-dir",
            path.display()
        );
        return Err(Failure::new("UI112", why));
    }
    let key = KeyPair::load(&path)?;
    let done = match running_api(&data_dir) {
        Some(url) if !args.dry_run => beside(&args, subject, key, &data_dir, &url).await?,
        None if !args.dry_run => alone(&args, subject, &key, &data_dir).await?,
        _ => Done { plan: read_plan(&args, subject, &key, &data_dir).await?, receipts: Vec::new() },
    };
    tell(&args, subject, &done)
}

/// What the agent of a key has uploaded, asked of a server page by page and erased by it.
async fn of_me(args: &EraseArgs) -> Outcome {
    let place = ClientArgs {
        api: args.api.clone(),
        key: args.key.clone(),
        data_dir: args.place.data_dir.clone(),
        ..ClientArgs::default()
    };
    let market = place.market().await?;
    let me = market.me()?;
    let subject = Subject::Agent(me);
    let mut done = Done::default();
    let mut path = format!("/v1/erasure?ledger={}", market.ledger_id);
    loop {
        let page = market.client.get(&path, "application/json").await;
        let page = page.map_err(|error| done.broke_off(None, error.into()))?;
        let page: Mine = serde_json::from_slice(&page).map_err(Failure::outside)?;
        let Some(last) = page.artifacts.last() else { break };
        path = format!("/v1/erasure?ledger={}&after={}", market.ledger_id, last.artifact_hash);
        let page: Vec<Planned> = page.artifacts.into_iter().map(|mine| mine.planned(me)).collect();
        for part in page.chunks(ERASED_UPLOADS_MAX) {
            if let Some(body) = command(subject, part).filter(|_| !args.dry_run) {
                let sent = send(&market.client, market.ledger_id, &body).await;
                done.receipts.push(sent.map_err(|(receipt, failure)| done.broke_off(receipt, failure))?);
            }
        }
        done.plan.extend(page);
    }
    tell(args, subject, &done)
}

/// What `GET /v1/erasure` says.
#[derive(serde::Deserialize)]
struct Mine {
    artifacts: Vec<MyUpload>,
}

#[derive(serde::Deserialize)]
struct MyUpload {
    artifact_hash: ArtifactHash,
    size_bytes: u64,
}

impl MyUpload {
    /// Whether somebody else holds the same bytes is not told.
    fn planned(self, me: AgentId) -> Planned {
        let action = Action::Unlink { agent_id: me, reason: String::new() };
        Planned { hash: self.artifact_hash, size_bytes: self.size_bytes, action }
    }
}

/// Where a command that erased is kept.
#[derive(Debug, Clone)]
struct Receipt {
    seq: u64,
    receipt_id: String,
}

/// What erasing came to.
#[derive(Debug, Default)]
struct Done {
    plan: Vec<Planned>,
    receipts: Vec<Receipt>,
}

impl Done {
    /// What was erased before something failed is erased, and stays provable.
    fn broke_off(&self, last: Option<Receipt>, failure: Failure) -> Failure {
        let done = self.receipts.iter().cloned().chain(last);
        let lines: Vec<String> =
            done.map(|done| format!("done: command {}, receipt {}", done.seq, done.receipt_id)).collect();
        if lines.is_empty() { failure } else { failure.with_details(lines) }
    }
}

/// A command that failed, with its receipt where it was done all the same.
type Sent = Result<Receipt, (Option<Receipt>, Failure)>;

/// Lets a server erase.
async fn send(client: &Client, ledger_id: u32, body: &CommandBody) -> Sent {
    match client.command(ledger_id, &fresh_key(), body).await {
        Ok(answer) => Ok(Receipt { seq: answer.seq, receipt_id: answer.receipt_id.to_string() }),
        Err(ClientError::Refused(refusal)) if refusal.code.starts_with("UB9") => {
            let receipt = refusal.seq.zip(refusal.receipt_id);
            let receipt = receipt.map(|(seq, id)| Receipt { seq, receipt_id: id.to_string() });
            Err((receipt, Failure::new(refusal.code, refusal.detail)))
        }
        Err(error) => Err((None, error.into())),
    }
}

/// Erases what is planned, a command's worth at a time. What others have uploaded meanwhile is not the subject's to take
/// along, so each command has a plan of its own; what was not planned at first is left to the next time, so this ends.
async fn in_steps(
    subject: Subject,
    plan: impl AsyncFn() -> Outcome<Vec<Planned>>,
    send: impl AsyncFn(CommandBody) -> Sent,
) -> Outcome<Done> {
    let mut done = Done::default();
    let mut now = plan().await?;
    let mut asked: BTreeSet<ArtifactHash> = now.iter().map(|planned| planned.hash).collect();
    loop {
        let (kept, mut goes): (Vec<_>, Vec<_>) = now
            .into_iter()
            .filter(|planned| asked.contains(&planned.hash))
            .partition(|planned| matches!(planned.action, Action::Keep { .. }));
        let is_last = goes.len() <= ERASED_UPLOADS_MAX;
        goes.truncate(ERASED_UPLOADS_MAX);
        if let Some(body) = command(subject, &goes) {
            let sent = send(body).await;
            done.receipts.push(sent.map_err(|(receipt, failure)| done.broke_off(receipt, failure))?);
        }
        asked.retain(|hash| !goes.iter().any(|gone| gone.hash == *hash));
        done.plan.extend(goes);
        if is_last {
            done.plan.extend(kept);
            done.plan.sort_by_key(|planned| planned.hash);
            return Ok(done);
        }
        now = plan().await.map_err(|failure| done.broke_off(None, failure))?;
    }
}

async fn read_plan(
    args: &EraseArgs,
    subject: Subject,
    key: &KeyPair,
    data_dir: &Path,
) -> Outcome<Vec<Planned>> {
    let database = Database::open(&args.place).await?;
    let plan = async {
        let reader = Reader::new(database.config("econ_api"), READERS)?;
        plan_in(&reader, subject, key, data_dir).await
    }
    .await;
    database.close().await?;
    plan
}

/// By the database; and of an artifact also what the store has without its knowing, as after a restore.
async fn plan_in(reader: &Reader, subject: Subject, key: &KeyPair, data_dir: &Path) -> Outcome<Vec<Planned>> {
    let operator = AgentId::of_first_key(key.public());
    let mut plan = artifacts::plan_erasure(reader, operator, LEDGER, subject, None).await?;
    if let (Subject::Artifact(hash), true) = (subject, plan.is_empty()) {
        let on_disk = Store::on_disk(&data_dir.join(up::ARTIFACTS), &data_dir.join(KEYS), LEDGER, &hash);
        plan.extend(on_disk.map(|size_bytes| Planned { hash, size_bytes, action: Action::Erase }));
    }
    Ok(plan)
}

/// An econ runs on the data dir: it has the store, so it is asked.
async fn beside(
    args: &EraseArgs,
    subject: Subject,
    key: KeyPair,
    data_dir: &Path,
    url: &str,
) -> Outcome<Done> {
    let key = Arc::new(key);
    let client = Client::new(url, key.clone())?;
    let plan = async || read_plan(args, subject, &key, data_dir).await;
    in_steps(subject, plan, async |body| send(&client, LEDGER, &body).await).await
}

/// Nothing runs: the market is opened for as long as this takes.
async fn alone(args: &EraseArgs, subject: Subject, key: &KeyPair, data_dir: &Path) -> Outcome<Done> {
    let market = Market::open(&args.place, Clock::real(), "market").await?;
    let done = erase_in(subject, key, data_dir, &market).await;
    let closed = market.close().await;
    let done = done?;
    closed?;
    Ok(done)
}

async fn erase_in(subject: Subject, key: &KeyPair, data_dir: &Path, market: &Market) -> Outcome<Done> {
    let store = Store::open(data_dir.join(up::ARTIFACTS), data_dir.join(KEYS), BYTES_MAX);
    let store = store.map_err(Failure::io("the artifact store in", data_dir))?;
    let now_us = || market.pipeline.now_us();
    // What an earlier try was killed in. What cannot be removed now either is said after the commands.
    erasure::finish(&store, &market.reader, LEDGER, now_us()).await.map_err(failure)?;
    let send = async |body: CommandBody| {
        let sent = market.pipeline.submit_service(LEDGER, Hand::Operator, &fresh_key(), body.clone()).await;
        let answer = sent.map_err(|error| (None, error.into()))?;
        if !answer.is_ok() {
            return Err((None, Failure::new(answer.code.clone(), answer.message())));
        }
        let receipt = Receipt { seq: answer.seq, receipt_id: answer.receipt_id.to_string() };
        match erasure::carry_out(&store, &market.reader, LEDGER, &hashes_of(&body), now_us()).await {
            Ok(()) => Ok(receipt),
            Err(problem) => Err((Some(receipt), failure(erasure::unfinished(problem)))),
        }
    };
    let plan = async || plan_in(&market.reader, subject, key, data_dir).await;
    in_steps(subject, plan, send).await
}

fn hashes_of(body: &CommandBody) -> Vec<ArtifactHash> {
    match &body.kind {
        Some(Kind::EraseSubject(erase)) => erasure::hashes_of(erase),
        _ => Vec::new(),
    }
}

fn failure(problem: Problem) -> Failure {
    Failure::new(problem.code.into_owned(), problem.detail)
}

/// Each try is judged by what is stored then; one that was done leaves nothing to ask for.
fn fresh_key() -> String {
    format!("erase:{}", Uuid::now_v7())
}

/// The command that a plan comes to; none when nothing is to go.
fn command(subject: Subject, plan: &[Planned]) -> Option<CommandBody> {
    let (subject_kind, subject_id) = match subject {
        Subject::Agent(id) => (ErasureSubject::Agent, id.into()),
        Subject::Order(id) => (ErasureSubject::Order, id.into()),
        Subject::Artifact(_) => (ErasureSubject::Artifact, Vec::new()),
    };
    let upload = |planned: &Planned| {
        let agent_id = match &planned.action {
            Action::Erase => Vec::new(),
            Action::Unlink { agent_id, .. } => (*agent_id).into(),
            Action::Keep { .. } => return None,
        };
        Some(ErasedUpload { artifact_hash: planned.hash.into(), agent_id })
    };
    let items: Vec<ErasedUpload> = plan.iter().filter_map(upload).collect();
    let erase = EraseSubject { subject_kind: subject_kind.into(), subject_id, items };
    (!erase.items.is_empty()).then_some(CommandBody { kind: Some(Kind::EraseSubject(erase)) })
}

fn tell(args: &EraseArgs, subject: Subject, Done { plan, receipts }: &Done) -> Outcome {
    let (subject, kind) = (name(subject), subject.kind());
    if args.json {
        say(json!({
            "subject": { "kind": kind, "id": subject }, "dryRun": args.dry_run,
            "artifacts": plan.iter().map(planned_json).collect::<Vec<_>>(),
            "receipts": receipts.iter().map(|r| json!({ "seq": r.seq, "receiptId": r.receipt_id })).collect::<Vec<_>>(),
        }));
        return kept_is_no_success(args.dry_run, plan);
    }
    if plan.is_empty() {
        say(format_args!("nothing of {kind} {subject} is stored"));
        return Ok(());
    }
    for planned in plan {
        let (action, why) = match &planned.action {
            Action::Erase => ("erased", None),
            Action::Unlink { reason, .. } => ("unlinked", Some(reason)),
            Action::Keep { reason } => ("kept", Some(reason)),
        };
        let why = why
            .filter(|reason| !reason.is_empty())
            .map(|reason| format!(": {}", in_words(reason)))
            .unwrap_or_default();
        say(format_args!(
            "{action:8} {} {} bytes{why}",
            planned.hash,
            thousands(&planned.size_bytes.to_string())
        ));
    }
    let [erased, unlinked, kept] = counts(plan).map(|count| thousands(&count.to_string()));
    match receipts.as_slice() {
        _ if args.dry_run => say(format_args!(
            "dry run: {erased} would be erased, {unlinked} unlinked, {kept} kept; nothing was"
        )),
        [] => say(format_args!("nothing was erased, {kept} kept")),
        [.., last] => {
            say(format_args!("{erased} erased, {unlinked} unlinked, {kept} kept (receipt {})", last.seq));
            say(REMAINS);
        }
    }
    kept_is_no_success(args.dry_run, plan)
}

/// How many of a plan are erased, unlinked and kept.
fn counts(plan: &[Planned]) -> [usize; 3] {
    let mut counts = [0; 3];
    for planned in plan {
        counts[match planned.action {
            Action::Erase => 0,
            Action::Unlink { .. } => 1,
            Action::Keep { .. } => 2,
        }] += 1;
    }
    counts
}

/// Whoever asked for all of it must not take a part for it.
fn kept_is_no_success(dry_run: bool, plan: &[Planned]) -> Outcome {
    match counts(plan) {
        [_, _, kept] if kept > 0 && !dry_run => {
            let why = format!("{} kept, each for its own reason: see the list", counted(kept, "artifact"));
            Err(Failure::new("UM612", why))
        }
        _ => Ok(()),
    }
}

/// Said by everything that erases.
const REMAINS: &str = "what stays: ids, hashes, amounts and times in the log, receipts and books, which are the proof; copies that \
somebody has fetched; and in a folder for backups the keys, until the next `econ backup` into it";

fn name(subject: Subject) -> String {
    match subject {
        Subject::Agent(id) => id.to_string(),
        Subject::Order(id) => id.to_string(),
        Subject::Artifact(hash) => hash.to_string(),
    }
}

fn planned_json(planned: &Planned) -> Value {
    let (action, agent_id, reason) = match &planned.action {
        Action::Erase => ("erase", None, None),
        Action::Unlink { agent_id, reason } => ("unlink", Some(agent_id.to_string()), Some(reason)),
        Action::Keep { reason } => ("keep", None, Some(reason)),
    };
    json!({
        "artifactHash": planned.hash.to_string(), "sizeBytes": planned.size_bytes, "action": action, "agentId": agent_id,
        "reason": reason,
    })
}

/// Why bytes stay, for people.
fn in_words(reason: &str) -> &str {
    match reason {
        "needed" => "a live order or an open RFQ needs it; try again when that has ended",
        "uploaded_by_another" => "another agent uploaded the same bytes and keeps them",
        "bought_by_another" => "another buyer's order has the same output from the same provider",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    #[test]
    fn a_subject_is_told_from_its_id() {
        let agent = AgentId::of_first_key(KeyPair::from_seed(&[1; 32]).public());
        let (order, hash) = (OrderId::now_v7(), ArtifactHash::of(b""));
        assert_eq!(parse_subject(&agent.to_string()), Ok(Subject::Agent(agent)));
        assert_eq!(parse_subject(&order.to_string()), Ok(Subject::Order(order)));
        assert_eq!(parse_subject(&hash.to_string()), Ok(Subject::Artifact(hash)));
        for wrong in ["", "all", &hash.to_string()[1..]] {
            assert!(parse_subject(wrong).is_err(), "{wrong}");
        }
    }

    fn agent() -> AgentId {
        AgentId::of_first_key(KeyPair::from_seed(&[1; 32]).public())
    }

    fn planned(n: u32, action: Action) -> Planned {
        Planned { hash: ArtifactHash::of(&n.to_le_bytes()), size_bytes: 1, action }
    }

    fn unlink() -> Action {
        Action::Unlink { agent_id: agent(), reason: "uploaded_by_another".to_owned() }
    }

    fn items(body: &CommandBody) -> Vec<ErasedUpload> {
        match &body.kind {
            Some(Kind::EraseSubject(erase)) => erase.items.clone(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_is_kept_is_in_no_command_and_counted() {
        let keep = || Action::Keep { reason: "needed".to_owned() };
        let plan =
            [planned(0, Action::Erase), planned(1, keep()), planned(2, unlink()), planned(3, unlink())];
        let subject = Subject::Agent(agent());
        assert_eq!(items(&command(subject, &plan).unwrap()).len(), 3);
        assert_eq!(counts(&plan), [1, 2, 1]);
        assert!(command(subject, &[planned(0, keep())]).is_none());
        let failed = kept_is_no_success(false, &plan).unwrap_err();
        assert_eq!(failed.to_string(), "UM612: 1 artifact kept, each for its own reason: see the list");
        assert_eq!(kept_is_no_success(true, &plan), Ok(()));
        assert_eq!(kept_is_no_success(false, &plan[2..]), Ok(()));
    }

    /// A market of uploads of which another agent sends all again once the first command is through.
    #[tokio::test]
    async fn each_command_has_at_most_a_thousand_uploads_and_a_plan_of_its_own() {
        let left = std::cell::RefCell::new((0..2_500_u32).collect::<Vec<_>>());
        let sent = std::cell::RefCell::new(Vec::new());
        let plan = async || {
            let action = || if sent.borrow().is_empty() { Action::Erase } else { unlink() };
            // Something new comes all the time: it is left to the next time.
            let new = 10_000 + u32::try_from(sent.borrow().len()).unwrap();
            Ok(left.borrow().iter().chain([&new]).map(|n| planned(*n, action())).collect())
        };
        let send = async |body: CommandBody| {
            let gone = items(&body);
            left.borrow_mut().retain(|n| {
                let hash: Vec<u8> = planned(*n, Action::Erase).hash.into();
                !gone.iter().any(|item| item.artifact_hash == hash)
            });
            sent.borrow_mut().push(gone);
            Ok(Receipt { seq: 7, receipt_id: "r".to_owned() })
        };
        let done = in_steps(Subject::Agent(agent()), plan, send).await.unwrap();
        let sent = sent.into_inner();
        assert_eq!(sent.iter().map(Vec::len).collect::<Vec<_>>(), [1_000, 1_000, 500]);
        let everybodys =
            sent.iter().map(|items| items.iter().filter(|item| item.agent_id.is_empty()).count());
        assert_eq!(everybodys.collect::<Vec<_>>(), [1_000, 0, 0]);
        assert_eq!((counts(&done.plan), done.receipts.len()), ([1_000, 1_500, 0], 3));
    }

    #[tokio::test]
    async fn what_was_erased_before_something_failed_is_named_with_its_receipts() {
        let plan = async || Ok((0..1_500).map(|n| planned(n, Action::Erase)).collect());
        let sent = std::cell::Cell::new(0);
        let send = async |_| {
            sent.set(sent.get() + 1);
            let receipt = Receipt { seq: sent.get(), receipt_id: "r".to_owned() };
            match sent.get() {
                1 => Ok(receipt),
                _ => Err((Some(receipt), Failure::new("UB905", "not all"))),
            }
        };
        let failed = in_steps(Subject::Agent(agent()), plan, send).await.unwrap_err();
        assert_eq!(
            failed.to_string(),
            "UB905: not all\n  done: command 1, receipt r\n  done: command 2, receipt r"
        );
    }
}
