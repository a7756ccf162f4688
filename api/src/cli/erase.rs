//! `econ erase`: removes what is stored for the sake of an agent, an order or an artifact, for the operator; and for anybody
//! what they have uploaded themselves.

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
use provider_agent::client::Client;
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
    let (plan, receipts) = match running_api(&data_dir) {
        Some(url) => beside(&args, subject, key, &url).await?,
        None if args.dry_run => (read_plan(&args, subject, &key).await?, Vec::new()),
        None => alone(&args, subject, &key, &data_dir).await?,
    };
    tell(&args, subject, &plan, &receipts);
    Ok(())
}

/// What the agent of a key has uploaded, asked of a server and erased by it.
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
    let path = format!("/v1/erasure?ledger={}", market.ledger_id);
    let (mut plan, mut receipts) = (Vec::new(), Vec::new());
    loop {
        let page = market.client.get(&path, "application/json").await?;
        let page: Mine = serde_json::from_slice(&page).map_err(Failure::outside)?;
        let page: Vec<Planned> = page.artifacts.into_iter().map(|mine| mine.planned(me)).collect();
        let bodies = if args.dry_run { Vec::new() } else { commands(subject, &page) };
        let last = bodies.is_empty();
        plan.extend(page);
        for body in bodies {
            let answer = market.client.command(market.ledger_id, &fresh_key(), &body).await?;
            receipts.push(Receipt { seq: answer.seq, receipt_id: answer.receipt_id.to_string() });
        }
        if last {
            break;
        }
    }
    tell(args, subject, &plan, &receipts);
    Ok(())
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
struct Receipt {
    seq: u64,
    receipt_id: String,
}

async fn read_plan(args: &EraseArgs, subject: Subject, key: &KeyPair) -> Outcome<Vec<Planned>> {
    let database = Database::open(&args.place).await?;
    let plan = async {
        let reader = Reader::new(database.config("econ_api"), READERS)?;
        artifacts::plan_erasure(&reader, AgentId::of_first_key(key.public()), LEDGER, subject).await
    }
    .await;
    database.close().await?;
    Ok(plan?)
}

/// An econ runs on the data dir: it has the store, so it is asked.
async fn beside(
    args: &EraseArgs,
    subject: Subject,
    key: KeyPair,
    url: &str,
) -> Outcome<(Vec<Planned>, Vec<Receipt>)> {
    let plan = read_plan(args, subject, &key).await?;
    let mut receipts = Vec::new();
    if !args.dry_run {
        let client = Client::new(url, Arc::new(key))?;
        for body in commands(subject, &plan) {
            let answer = client.command(LEDGER, &fresh_key(), &body).await?;
            receipts.push(Receipt { seq: answer.seq, receipt_id: answer.receipt_id.to_string() });
        }
    }
    Ok((plan, receipts))
}

/// Nothing runs: the market is opened for as long as this takes.
async fn alone(
    args: &EraseArgs,
    subject: Subject,
    key: &KeyPair,
    data_dir: &Path,
) -> Outcome<(Vec<Planned>, Vec<Receipt>)> {
    let market = Market::open(&args.place, Clock::real(), "market").await?;
    let done = erase_in(subject, key, data_dir, &market).await;
    let closed = market.close().await;
    let done = done?;
    closed?;
    Ok(done)
}

async fn erase_in(
    subject: Subject,
    key: &KeyPair,
    data_dir: &Path,
    market: &Market,
) -> Outcome<(Vec<Planned>, Vec<Receipt>)> {
    let store = Store::open(data_dir.join(up::ARTIFACTS), data_dir.join(KEYS), BYTES_MAX);
    let store = store.map_err(Failure::io("the artifact store in", data_dir))?;
    let now_us = || market.pipeline.now_us();
    // What an earlier try was killed in.
    erasure::finish(&store, &market.reader, LEDGER, now_us()).await.map_err(failure)?;
    let operator = AgentId::of_first_key(key.public());
    let plan = artifacts::plan_erasure(&market.reader, operator, LEDGER, subject).await?;
    let mut receipts = Vec::new();
    for body in commands(subject, &plan) {
        let answer = market.pipeline.submit_service(LEDGER, Hand::Operator, &fresh_key(), body).await?;
        if !answer.is_ok() {
            return Err(Failure::new(answer.code.clone(), answer.message()));
        }
        receipts.push(Receipt { seq: answer.seq, receipt_id: answer.receipt_id.to_string() });
    }
    erasure::carry_out_all(&store, &market.reader, LEDGER, now_us()).await.map_err(failure)?;
    Ok((plan, receipts))
}

fn failure(problem: Problem) -> Failure {
    Failure::new(problem.code.into_owned(), problem.detail)
}

/// Each try is judged by what is stored then; one that was done leaves nothing to ask for.
fn fresh_key() -> String {
    format!("erase:{}", Uuid::now_v7())
}

/// The commands that a plan comes to; none when nothing is to go.
fn commands(subject: Subject, plan: &[Planned]) -> Vec<CommandBody> {
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
    let uploads: Vec<ErasedUpload> = plan.iter().filter_map(upload).collect();
    let command = |items: &[ErasedUpload]| CommandBody {
        kind: Some(Kind::EraseSubject(EraseSubject {
            subject_kind: subject_kind.into(),
            subject_id: subject_id.clone(),
            items: items.to_vec(),
        })),
    };
    uploads.chunks(ERASED_UPLOADS_MAX).map(command).collect()
}

fn tell(args: &EraseArgs, subject: Subject, plan: &[Planned], receipts: &[Receipt]) {
    let (subject, kind) = (name(subject), subject.kind());
    if args.json {
        say(json!({
            "subject": { "kind": kind, "id": subject }, "dryRun": args.dry_run,
            "artifacts": plan.iter().map(planned_json).collect::<Vec<_>>(),
            "receipts": receipts.iter().map(|r| json!({ "seq": r.seq, "receiptId": r.receipt_id })).collect::<Vec<_>>(),
        }));
        return;
    }
    if plan.is_empty() {
        say(format_args!("nothing of {kind} {subject} is stored"));
        return;
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
    let gone = plan.iter().filter(|planned| !matches!(planned.action, Action::Keep { .. })).count();
    let count = counted(gone, "artifact");
    match receipts {
        _ if args.dry_run => say(format_args!("dry run: {count} would be erased; nothing was")),
        [] => say("nothing was erased"),
        [.., last] => {
            say(format_args!("{count} erased (receipt {})", last.seq));
            say(REMAINS);
        }
    }
}

/// Said by everything that erases.
const REMAINS: &str = "what stays: ids, hashes, amounts and times in the log, receipts and books, which are the proof; and copies \
that somebody has fetched";

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

    #[test]
    fn a_plan_becomes_commands_of_at_most_a_thousand_uploads_and_what_is_kept_is_in_none() {
        let agent_id = AgentId::of_first_key(KeyPair::from_seed(&[1; 32]).public());
        let planned =
            |n: u32, action| Planned { hash: ArtifactHash::of(&n.to_le_bytes()), size_bytes: 1, action };
        let keep = || Action::Keep { reason: "needed".to_owned() };
        let mut plan: Vec<Planned> = (0..1_000).map(|n| planned(n, Action::Erase)).collect();
        plan.push(planned(1_000, keep()));
        plan.push(planned(1_001, Action::Unlink { agent_id, reason: "uploaded_by_another".to_owned() }));
        let bodies = commands(Subject::Agent(agent_id), &plan);
        let sizes: Vec<usize> = bodies
            .iter()
            .map(|body| match &body.kind {
                Some(Kind::EraseSubject(erase)) => erase.items.len(),
                _ => 0,
            })
            .collect();
        assert_eq!(sizes, [1_000, 1]);
        assert!(commands(Subject::Agent(agent_id), &[planned(0, keep())]).is_empty());
        assert!(commands(Subject::Agent(agent_id), &[]).is_empty());
    }
}
