//! `econ receipts`, `econ receipt`: what the log says, checked here and not taken on the server's word.
//!
//! The receipt key comes from the server unless one is named: with `--receipt-key` a server that lies about its key is found
//! out too.

use proto::ids::{AgentId, CommandId, JournalId, OrderId, ReceiptId};
use proto::keys::PublicKey;
use proto::merkle::TreeHash;
use proto::note::{Checkpoint, NoteName, parse_and_verify};
use proto::receipt::{self, Checked};
use provider_agent::client::ClientError;
use serde::Deserialize;
use serde_json::{Value, json};
use uuid::Uuid;

use super::client::ClientArgs;
use super::failure::{Failure, Outcome};
use super::ledger::moment as parse_moment;
use super::market::Market;
use super::say;
use super::table::{self, moment};

/// Receipts of one page.
const PAGE: usize = 100;

/// Options of `econ receipts`.
#[derive(Debug, clap::Args)]
pub(crate) struct ReceiptsArgs {
    /// About this: an agent, RFQ, offer, order, payout …
    #[arg(long, value_name = "ID", conflicts_with = "order")]
    subject: Option<Uuid>,
    /// About this order
    #[arg(long, value_name = "ID")]
    order: Option<OrderId>,
    /// Of this agent's commands
    #[arg(long, value_name = "ID")]
    actor: Option<AgentId>,
    /// Of commands of this kind, such as accept_offer
    #[arg(long, value_name = "KIND")]
    kind: Option<String>,
    /// Of this outcome: ok, or the code of a refusal
    #[arg(long, value_name = "CODE")]
    code: Option<String>,
    /// Not earlier than this moment, such as 2026-11-20T09:30:00Z
    #[arg(long, value_name = "TIME", value_parser = parse_moment)]
    since: Option<i64>,
    /// Earlier than this moment
    #[arg(long, value_name = "TIME", value_parser = parse_moment)]
    until: Option<i64>,
    /// Of commands that posted transfers of this business event
    #[arg(long, value_name = "ID")]
    journal: Option<JournalId>,
    /// Of this command
    #[arg(long, value_name = "ID")]
    command: Option<CommandId>,
    /// Oldest first
    #[arg(long)]
    oldest: bool,
    /// At most so many
    #[arg(long, value_name = "N", default_value_t = 50)]
    limit: usize,
    #[command(flatten)]
    trust: TrustArgs,
}

/// Options of `econ receipt`.
#[derive(Debug, clap::Args)]
pub(crate) struct ReceiptArgs {
    /// Its seq, or its id (64 hex digits)
    #[arg(value_name = "SEQ|ID")]
    receipt: String,
    #[command(flatten)]
    trust: TrustArgs,
}

/// Whom to ask, and whose signature to believe.
#[derive(Debug, clap::Args)]
struct TrustArgs {
    /// The key that receipts must be signed by, 64 hex digits [default: the one that the server states]
    #[arg(long, value_name = "HEX")]
    receipt_key: Option<PublicKey>,
    #[command(flatten)]
    client: ClientArgs,
}

impl TrustArgs {
    fn key(&self, market: &Market) -> Outcome<PublicKey> {
        match self.receipt_key {
            Some(key) => Ok(key),
            None => {
                market.info.receipt_key.parse().map_err(|error| broken("the server's receipt key", &error))
            }
        }
    }
}

#[derive(Debug, Deserialize)]
struct Page {
    receipts: Vec<Listed>,
    next: Option<u64>,
}

/// What is taken from the server's list: the bytes, and nothing that it says about them.
#[derive(Debug, Deserialize)]
struct Listed {
    envelope: String,
}

#[derive(Debug, Deserialize)]
struct Proof {
    hashes: Vec<TreeHash>,
}

/// `econ receipts`.
pub(crate) async fn list(args: ReceiptsArgs) -> Outcome {
    let market = args.trust.client.market().await?;
    let key = args.trust.key(&market)?;
    let mut found: Vec<Checked> = Vec::new();
    let mut after = None;
    while found.len() < args.limit {
        let first = PAGE.min(args.limit - found.len());
        let page: Page = read(&market, &args.path(market.ledger_id, first, after)).await?;
        for listed in page.receipts {
            let bytes =
                hex::decode(&listed.envelope).map_err(|error| broken("a receipt of the list", &error))?;
            let checked =
                receipt::check(&bytes, &key).map_err(|error| broken("a receipt of the list", &error))?;
            found.push(checked);
        }
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    if args.trust.client.json {
        say(json!({ "receipts": found.iter().map(to_json).collect::<Vec<_>>(), "next": after }));
        return Ok(());
    }
    if found.is_empty() {
        say("no receipts that this key may see");
        return Ok(());
    }
    let mut shown = table::plain(["seq", "at", "kind", "code", "subject", "its id", "by"]);
    for Checked { receipt, .. } in &found {
        shown.add_row([
            receipt.seq.to_string(),
            moment(receipt.ledger_time_us),
            receipt.kind.clone(),
            receipt.code.clone(),
            receipt.subject_kind.clone(),
            id_text(&receipt.subject_id),
            id_text(&receipt.actor_id),
        ]);
    }
    say(shown);
    say(format_args!("{} receipts, each signed by {key}", found.len()));
    Ok(())
}

impl ReceiptsArgs {
    fn path(&self, ledger_id: u32, first: usize, after: Option<u64>) -> String {
        let subject = self.subject.or(self.order.map(|order| order.as_uuid()));
        let order = if self.oldest { "oldest" } else { "newest" };
        let text = |value: Option<&dyn ToString>| value.map(ToString::to_string);
        let given = [
            ("subject", text(subject.as_ref().map(|id| id as &dyn ToString))),
            ("actor", text(self.actor.as_ref().map(|id| id as &dyn ToString))),
            ("kind", self.kind.clone()),
            ("code", self.code.clone()),
            ("since", text(self.since.as_ref().map(|at| at as &dyn ToString))),
            ("until", text(self.until.as_ref().map(|at| at as &dyn ToString))),
            ("journal", text(self.journal.as_ref().map(|id| id as &dyn ToString))),
            ("command", text(self.command.as_ref().map(|id| id as &dyn ToString))),
            ("after", text(after.as_ref().map(|seq| seq as &dyn ToString))),
        ];
        let mut path = format!("/v1/ledgers/{ledger_id}/receipts?order={order}&first={first}");
        for (name, value) in given {
            if let Some(value) = value {
                path.push_str(&format!("&{name}={}", percent(&value)));
            }
        }
        path
    }
}

/// `econ receipt`.
pub(crate) async fn show(args: ReceiptArgs) -> Outcome {
    let market = args.trust.client.market().await?;
    let key = args.trust.key(&market)?;
    let ledger_id = market.ledger_id;
    let asked = Asked::of(&args.receipt)?;
    let path = format!("/v1/receipts/{}?ledger={ledger_id}", args.receipt);
    let envelope = market.client.get(&path, "application/vnd.openagents.econ.v1.Envelope+protobuf").await?;
    let checked = receipt::check(&envelope, &key).map_err(|error| broken(&args.receipt, &error))?;
    let seq = checked.receipt.seq;
    if checked.receipt.ledger_id != ledger_id || !asked.is(&checked) {
        return Err(broken(
            &args.receipt,
            &format!("the server answered with receipt {seq} of ledger {}", checked.receipt.ledger_id),
        ));
    }
    let checkpoint = checkpoint(&market, &key).await?;
    // Younger than the checkpoint: it will be in the next one, about a second from now.
    let covering = checkpoint.as_ref().filter(|checkpoint| seq <= checkpoint.size);
    if let Some(checkpoint) = covering {
        let path = format!("/v1/ledgers/{ledger_id}/proof?seq={seq}&size={}", checkpoint.size);
        let proof: Proof = read(&market, &path).await?;
        checked
            .check_inclusion(checkpoint.size, &proof.hashes, &checkpoint.root)
            .map_err(|error| broken(&args.receipt, &error))?;
    }
    if args.trust.client.json {
        let mut shown = to_json(&checked);
        shown["signed_by"] = key.to_string().into();
        shown["included"] = covering.is_some().into();
        shown["checkpoint"] =
            checkpoint.map(|checkpoint| json!({ "size": checkpoint.size, "root": checkpoint.root })).into();
        say(shown);
        return Ok(());
    }
    let said = &checked.receipt;
    let facts: Value = serde_json::from_str(&said.facts_json).unwrap_or_default();
    say(format_args!("receipt {seq} of ledger {ledger_id}: {} -> {}", said.kind, said.code));
    say(format_args!("id       {}", checked.receipt_id));
    say(format_args!("at       {}", moment(said.ledger_time_us)));
    say(format_args!("by       {}", id_text(&said.actor_id)));
    say(format_args!("command  {}", id_text(&said.command_id)));
    say(format_args!("about    {} {}", said.subject_kind, id_text(&said.subject_id)));
    if !said.prev.is_empty() {
        say(format_args!("after    {}", hex::encode(&said.prev)));
    }
    say(format_args!("facts    {facts:#}"));
    say(format_args!("checked  signed by {key}"));
    match covering {
        Some(checkpoint) => say(format_args!(
            "checked  leaf {} of {} under the signed root {}",
            seq - 1,
            checkpoint.size,
            checkpoint.root
        )),
        None => say("not yet under a signed root: one is made about every second while commands come"),
    }
    Ok(())
}

/// The newest checkpoint, if there is one, and if it is signed by `key` in the name of this log.
async fn checkpoint(market: &Market, key: &PublicKey) -> Outcome<Option<Checkpoint>> {
    let ledger_id = market.ledger_id;
    let note = match market.client.get(&format!("/v1/ledgers/{ledger_id}/checkpoint"), "text/plain").await {
        Err(ClientError::Refused(refusal)) if refusal.code == "UR402" => return Ok(None),
        note => note?,
    };
    let origin = market.info.ledger(Some(ledger_id)).map(|ledger| ledger.origin.clone()).unwrap_or_default();
    let origin: NoteName = origin.parse().map_err(|error| broken("the log's origin", &error))?;
    let found = parse_and_verify(&String::from_utf8_lossy(&note), &origin, key);
    found.map(Some).map_err(|error| broken("the log's checkpoint", &error))
}

/// What was asked for; an answer must be that.
#[derive(Debug, PartialEq, Eq)]
enum Asked {
    Seq(u64),
    Id(ReceiptId),
}

impl Asked {
    fn of(text: &str) -> Outcome<Self> {
        if let Ok(seq) = text.parse() {
            return Ok(Self::Seq(seq));
        }
        let id = text.parse().map(Self::Id);
        id.map_err(|_| Failure::usage("a receipt is named by its seq or by its id of 64 hex digits"))
    }

    fn is(&self, checked: &Checked) -> bool {
        match self {
            Self::Seq(seq) => checked.receipt.seq == *seq,
            Self::Id(id) => checked.receipt_id == *id,
        }
    }
}

async fn read<T: for<'de> Deserialize<'de>>(market: &Market, path: &str) -> Outcome<T> {
    let body = market.client.get(path, "application/json").await?;
    serde_json::from_slice(&body)
        .map_err(|error| Failure::outside(format!("{path} answers with something else: {error}")))
}

fn to_json(checked: &Checked) -> Value {
    let said = &checked.receipt;
    json!({
        "seq": said.seq,
        "receipt_id": checked.receipt_id,
        "prev": (!said.prev.is_empty()).then(|| hex::encode(&said.prev)),
        "command_id": id_text(&said.command_id),
        "actor_id": id_text(&said.actor_id),
        "kind": said.kind,
        "code": said.code,
        "subject_kind": said.subject_kind,
        "subject_id": id_text(&said.subject_id),
        "ledger_time_us": said.ledger_time_us,
        "simulated": said.simulated,
        "facts": serde_json::from_str::<Value>(&said.facts_json).unwrap_or_default(),
    })
}

fn id_text(bytes: &[u8]) -> String {
    Uuid::from_slice(bytes).map(|id| id.to_string()).unwrap_or_default()
}

/// As RFC 3986 wants a query's value.
fn percent(text: &str) -> String {
    text.bytes()
        .map(|byte| match byte {
            b'0'..=b'9' | b'A'..=b'Z' | b'a'..=b'z' | b'-' | b'.' | b'_' | b'~' => {
                char::from(byte).to_string()
            }
            byte => format!("%{byte:02X}"),
        })
        .collect()
}

fn broken(what: &str, why: &dyn std::fmt::Display) -> Failure {
    Failure::new(
        "UR911",
        format!("{what} does not hold: {why}. Do not trust it; keep this output for an auditor"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_receipt_is_asked_for_by_seq_or_by_id() {
        assert_eq!(Asked::of("17").unwrap(), Asked::Seq(17));
        let id = ReceiptId::of(b"x");
        assert_eq!(Asked::of(&id.to_string()).unwrap(), Asked::Id(id));
        assert!(Asked::of("first").is_err());
    }

    #[test]
    fn what_a_filter_says_stays_in_its_place_of_the_query() {
        assert_eq!(percent("ok&actor=x y/ü"), "ok%26actor%3Dx%20y%2F%C3%BC");
    }
}
