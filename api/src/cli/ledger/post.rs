//! `econ ledger post`: a journal becomes one signed command, or is tried and taken back.

use std::collections::HashMap;
use std::path::PathBuf;

use ledger::Reader;
use ledger::base;
use ledger::books::{self, AccountName, Change, DryRun};
use ledger::clock::system_now_us;
use proto::ids::{AccountId, TransferId};
use proto::keys::{KeyPair, PublicKey};
use proto::v1::{self, command_body::Kind};
use provider_agent::client::{AssetInfo, ClientError};
use serde_json::{Value, json};

use super::attempt::Attempt;
use super::journal::{self, AccountText, Row};
use crate::cli::amount::{counted, decimal};
use crate::cli::client::{ClientArgs, operator_key};
use crate::cli::failure::{Failure, Outcome};
use crate::cli::place::{Database, PlaceArgs, connect};
use crate::cli::{money, say, table};

/// Connections for looking up names: one question follows the other.
const READERS: usize = 1;
/// Lines that are shown one by one; more of them nobody reads.
const LINES_SHOWN: usize = 40;

/// Options of `econ ledger post`.
#[derive(Debug, clap::Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct PostArgs {
    /// The journal: comma-separated values under a header line
    file: PathBuf,
    /// Post it, show what came of it, and take it all back; needs the market's data dir or database
    #[arg(long)]
    dry_run: bool,
    /// The market's Postgres, where that is not in the data dir: for a dry run and for accounts that are named
    #[arg(long, env = "ECON_DATABASE_URL", value_name = "URL", hide_env_values = true)]
    database_url: Option<String>,
    /// Folder of Postgres' programs, where a dry run must start the embedded one
    #[arg(long, env = "ECON_PG_BIN", value_name = "DIR")]
    pg_bin: Option<PathBuf>,
    #[command(flatten)]
    client: ClientArgs,
}

const AFTER_HELP: &str = "\
Columns, in any order: debit_account, credit_account (an id, or purpose[:AGENT-ID] such as external or wallet:AGENT-ID), \
asset, amount (1.25, in units of the asset), and where needed transfer_id, kind (plain, pending, post_pending, \
void_pending), pending_id, timeout_ms, balancing_debit, balancing_credit, closing_debit, closing_credit, reverses_id, \
effective_at (2026-11-20T09:30:00Z).

A file is one linked chain in one command: all of it is posted or nothing, so it holds at most 8,190 transfers. Posting the \
same file again books nothing twice; FILE.ids, written beside it, lets the second answer be that of the first.";

/// `econ ledger post`.
pub(crate) async fn run(args: PostArgs) -> Outcome {
    let content = std::fs::read(&args.file).map_err(Failure::io("cannot read", &args.file))?;
    if args.dry_run { dry_run(&args, &content).await } else { post(&args, &content).await }
}

/// Sends the journal as the operator.
async fn post(args: &PostArgs, content: &[u8]) -> Outcome {
    let market = args.client.market_as_operator().await?;
    let rows = journal::read(content, &market.info.assets)?;
    let names = journal::names(&rows);
    let accounts = if names.is_empty() {
        HashMap::new()
    } else {
        // The API tells nobody another's accounts, so names are for whoever has the books at hand.
        let database = Database::open(&args.place()).await.map_err(|failure| {
            Failure::outside(format!(
                "accounts are found by name in the market's --data-dir (or name them by id): {failure}"
            ))
        })?;
        let found = look_up(&database, market.ledger_id, names).await;
        database.close().await?;
        found?
    };
    let origin =
        market.info.ledger(Some(market.ledger_id)).map(|ledger| ledger.origin.clone()).unwrap_or_default();
    let mut attempt = Attempt::resume(&args.file, content, &origin, now_ms())?;
    let items = journal::items(&rows, &accounts, &attempt)?;
    let ids: Vec<Vec<u8>> = items.iter().map(|item| item.transfer_id.clone()).collect();
    let body = v1::CommandBody { kind: Some(Kind::PostTransfers(v1::PostTransfers { items })) };
    attempt.sent()?;
    let answer = match market.client.command(market.ledger_id, &attempt.idempotency_key(), &body).await {
        Ok(answer) => answer,
        Err(ClientError::Refused(refusal)) if refusal.code == "UB601" => {
            return Err(Failure::new(
                "UB601",
                "this very file was posted to this ledger before, and the record that was written beside it (FILE.ids) is \
                 not here: nothing was sent. Put the record back to hear what came of it; to book the same once more, give its \
                 lines a transfer_id of their own",
            ));
        }
        Err(ClientError::Refused(refusal)) if refusal.seq.is_some() => {
            // It has its answer for good and has changed nothing.
            attempt.refused()?;
            return Err(ClientError::Refused(refusal).into());
        }
        Err(error) => return Err(error.into()),
    };
    let results = results(&answer.facts);
    if let Some(refused) = refusal(&rows, &results) {
        attempt.refused()?;
        return Err(refused);
    }
    attempt.booked()?;
    let shown: Vec<&str> =
        results.iter().map(|result| if answer.replayed { "exists" } else { result.as_str() }).collect();
    let json = json!({
        "posted": if answer.replayed { 0 } else { rows.len() }, "replayed": answer.replayed, "seq": answer.seq,
        "receiptId": answer.receipt_id, "journalId": answer.facts["journal_id"], "transfers": lines_json(&rows, &ids, &shown),
    });
    args.client.print(&json, || {
        show_lines(&rows, &shown, &market.info.assets);
        let count = counted(rows.len(), "transfer");
        if answer.replayed {
            say(format_args!("{count} posted before (receipt {}): nothing was added", answer.seq));
        } else {
            say(format_args!("{count} posted (receipt {})", answer.seq));
        }
    });
    Ok(())
}

/// Posts the journal in a transaction that is rolled back.
async fn dry_run(args: &PostArgs, content: &[u8]) -> Outcome {
    let key =
        args.client.key.clone().map_or_else(|| args.client.data_dir().map(|dir| operator_key(&dir)), Ok)?;
    let operator = *KeyPair::load(&key)?.public();
    let database = Database::open(&args.place()).await?;
    let tried = try_out(args, content, &database, &operator).await;
    database.close().await?;
    let (rows, ids, assets, done) = tried?;
    if done.code != "ok" {
        return Err(Failure::new(
            done.code,
            done.facts["message"].as_str().unwrap_or("the journal would be refused"),
        ));
    }
    let results = results(&done.facts);
    if let Some(refused) = refusal(&rows, &results) {
        return Err(refused);
    }
    let shown: Vec<&str> = results.iter().map(String::as_str).collect();
    let json = json!({
        "dryRun": true, "transfers": lines_json(&rows, &ids, &shown),
        "accounts": done.accounts.iter().map(change_json).collect::<Vec<_>>(),
    });
    args.client.print(&json, || {
        show_lines(&rows, &shown, &assets);
        let mut table = table::plain(["account", "asset", "balance", "would be", "reserved", "would be"]);
        for change in &done.accounts {
            let scale = u8::try_from(change.scale).unwrap_or_default();
            let signed = |text: &str| money::signed_decimal(text, scale);
            table.add_row([
                account_name(change),
                change.asset.clone(),
                signed(&change.before),
                signed(&change.after),
                signed(&change.reserved_before),
                signed(&change.reserved_after),
            ]);
        }
        say(format_args!("\n{table}\n"));
        say(format_args!("dry run: {} would be posted; nothing was", counted(rows.len(), "transfer")));
    });
    Ok(())
}

type Tried = (Vec<Row>, Vec<Vec<u8>>, Vec<AssetInfo>, DryRun);

async fn try_out(
    args: &PostArgs,
    content: &[u8],
    database: &Database,
    operator: &PublicKey,
) -> Outcome<Tried> {
    let reader = Reader::new(database.config("econ_api"), READERS)?;
    let ledgers = base::read_ledgers(&reader).await?;
    let wanted = args.client.ledger;
    let known = ledgers.iter().find(|known| wanted.is_none_or(|wanted| wanted == known.ledger_id));
    let known = known.ok_or_else(|| Failure::new("UB401", "there is no such ledger here"))?;
    let assets: Vec<AssetInfo> = books::read_assets(&reader)
        .await?
        .into_iter()
        .map(|asset| AssetInfo {
            asset_id: asset.asset_id,
            code: asset.code,
            scale: u8::try_from(asset.scale).unwrap_or_default(),
        })
        .collect();
    let rows = journal::read(content, &assets)?;
    let accounts = look_up(database, known.ledger_id, journal::names(&rows)).await?;
    // Of ledger time, which may be ahead of this machine's clock.
    let at_ms =
        now_ms().max(known.last_time_us.and_then(|us| u64::try_from(us / 1_000).ok()).unwrap_or_default());
    let attempt = Attempt::resume(&args.file, content, &known.origin, at_ms)?;
    let items = journal::items(&rows, &accounts, &attempt)?;
    let ids = items.iter().map(|item| item.transfer_id.clone()).collect();
    let mut admin = connect(&database.admin()).await?;
    let done = books::dry_run_post(&mut admin, known.ledger_id, operator, system_now_us(), items).await?;
    Ok((rows, ids, assets, done))
}

impl PostArgs {
    fn place(&self) -> PlaceArgs {
        PlaceArgs {
            data_dir: self.client.data_dir.clone(),
            database_url: self.database_url.clone(),
            pg_bin: self.pg_bin.clone(),
        }
    }
}

/// The accounts that are written by name.
async fn look_up(
    database: &Database,
    ledger_id: u32,
    names: Vec<AccountName>,
) -> Outcome<HashMap<AccountName, AccountId>> {
    let reader = Reader::new(database.config("econ_api"), READERS)?;
    let found = books::named_accounts(&reader, ledger_id, &names).await?;
    Ok(names.into_iter().zip(found).filter_map(|(name, id)| Some((name, id?))).collect())
}

fn now_ms() -> u64 {
    u64::try_from(system_now_us() / 1_000).unwrap_or_default()
}

/// One result per line, as the house gave them.
fn results(facts: &Value) -> Vec<String> {
    let given = facts["results"].as_array().map(Vec::as_slice).unwrap_or_default();
    given.iter().map(|result| result.as_str().unwrap_or_default().to_owned()).collect()
}

/// The line that broke the chain and why, if it broke.
fn refusal(rows: &[Row], results: &[String]) -> Option<Failure> {
    let at_fault = results.iter().position(|result| !matches!(result.as_str(), "ok" | "linked_event_failed"));
    let at_fault = at_fault.or_else(|| results.iter().position(|result| result != "ok"));
    let place = match at_fault {
        Some(place) => place,
        None if results.len() == rows.len() => return None,
        None => {
            return Some(Failure::outside(
                "the house answered for another number of transfers: see its receipt",
            ));
        }
    };
    let (result, line) = (&results[place], rows.get(place).map_or(0, |row| row.line));
    Some(Failure::new(
        "UL682",
        format!(
            "line {line} was refused with {result}, so none of the {} was posted: {}",
            counted(rows.len(), "transfer"),
            advice(result)
        ),
    ))
}

/// What to do about a result.
fn advice(result: &str) -> &'static str {
    match result {
        "exceeds_credits" => {
            "the debit account cannot spare the amount (what is reserved counts): fund it, or post less"
        }
        "exceeds_debits" => "the credit account may not receive that much: post less",
        "debit_account_not_found" | "credit_account_not_found" => {
            "this ledger has no account of that id: correct it"
        }
        "debit_account_already_closed" | "credit_account_already_closed" => {
            "the account is closed: use another, or void the transfer that closed it"
        }
        "exists" => "its transfer_id is booked already, with the same content: leave the line out",
        "id_already_failed" => "its transfer_id was spent by an attempt that failed: give the line a new one",
        "id_time_out_of_range" => {
            "its id is not a UUIDv7 of the last 24 hours of ledger time: make the id now, or leave transfer_id out and post again"
        }
        other if other.starts_with("exists_with_different_") => {
            "its transfer_id is booked already, with other content: give the line an id of its own"
        }
        other if other.starts_with("pending_transfer_") => {
            "what it would end is not there, not pending or not like that: look at it first"
        }
        _ => "docs/ERRORS.md says what it means; correct the line and post the file again",
    }
}

fn lines_json(rows: &[Row], ids: &[Vec<u8>], results: &[&str]) -> Vec<Value> {
    let line = |((row, id), result): ((&Row, &Vec<u8>), &&str)| {
        let id = TransferId::from_slice(id).map(|id| id.to_string()).unwrap_or_default();
        json!({ "line": row.line, "transferId": id, "result": result })
    };
    rows.iter().zip(ids).zip(results).map(line).collect()
}

fn change_json(change: &Change) -> Value {
    json!({
        "accountId": change.account_id, "purpose": change.purpose, "ownerId": change.owner_id, "asset": change.asset,
        "scale": change.scale, "before": change.before, "after": change.after, "reservedBefore": change.reserved_before,
        "reservedAfter": change.reserved_after,
    })
}

fn account_name(change: &Change) -> String {
    match change.owner_id {
        Some(owner) => format!("{}:{owner}", change.purpose),
        None => change.purpose.clone(),
    }
}

fn show_lines(rows: &[Row], results: &[&str], assets: &[AssetInfo]) {
    if rows.len() > LINES_SHOWN {
        return;
    }
    let account = |account: &Option<AccountText>| match account {
        None => String::new(),
        Some(AccountText::Id(id)) => id.to_string(),
        Some(AccountText::Name(purpose, None)) => purpose.clone(),
        Some(AccountText::Name(purpose, Some(owner))) => format!("{purpose}:{owner}"),
    };
    let mut table = table::plain(["line", "result", "amount", "asset", "debit", "credit"]);
    for (row, result) in rows.iter().zip(results) {
        let (code, asset_id) = row.asset.clone().unwrap_or_default();
        let scale = assets.iter().find(|asset| asset.asset_id == asset_id).map_or(0, |asset| asset.scale);
        let amount = row.amount.map(|amount| decimal(amount, scale)).unwrap_or_default();
        table.add_row([
            row.line.to_string(),
            (*result).to_owned(),
            amount,
            code,
            account(&row.debit),
            account(&row.credit),
        ]);
    }
    say(table);
}
