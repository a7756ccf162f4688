//! `econ ledger statement`.

use proto::ids::{AccountId, AgentId};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::listing::{By, ListArgs, exact_moment};
use super::name::{self, AccountName};
use crate::cli::failure::Outcome;
use crate::cli::market::{Market, PAGE};
use crate::cli::money::{exact_decimal, signed_decimal};
use crate::cli::table::moment;
use crate::cli::{say, table};

/// Options of `econ ledger statement`.
#[derive(Debug, clap::Args)]
pub(crate) struct StatementArgs {
    /// Whose: an account's id, or what it is for, such as wallet:AGENT-ID, equity, external
    #[arg(value_name = "ACCOUNT")]
    account: AccountName,
    /// In which asset, where the name means several accounts
    #[arg(long)]
    asset: Option<String>,
    /// In which order
    #[arg(long, value_enum, default_value_t = By::Record)]
    by: By,
    /// Go on with what is older: the cursor that the page before ended with
    #[arg(long, value_name = "CURSOR")]
    before: Option<String>,
    /// At most so many entries
    #[arg(long, value_name = "N", default_value_t = 50)]
    limit: u32,
    #[command(flatten)]
    list: ListArgs,
}

const QUERY: &str = "query($ledgerId: Int!, $id: UUID!, $by: BookTime!, $first: Int!, $after: String) { \
    account(ledgerId: $ledgerId, id: $id) { accountId asset scale purpose ownerId statement(by: $by, first: $first, after: $after) { \
    nodes { seq item atUs eventAtUs transferId journalId kind reason pendingId counterAccountId side amount balance pendingOut \
    pendingIn } pageInfo { hasNextPage endCursor } } } }";

/// A page of it as the API shows it.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Page {
    account_id: AccountId,
    asset: String,
    scale: u8,
    purpose: String,
    owner_id: Option<AgentId>,
    statement: Entries,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Entries {
    nodes: Vec<Entry>,
    page_info: PageInfo,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct PageInfo {
    has_next_page: bool,
    end_cursor: Option<String>,
}

/// An account's newest entries, or those before a cursor; amounts in minor units.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Statement {
    account_id: AccountId,
    asset: String,
    scale: u8,
    purpose: String,
    owner_id: Option<AgentId>,
    entries: Vec<Entry>,
    /// Goes into --before; null: that was all.
    before: Option<String>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Entry {
    seq: u64,
    item: i32,
    at_us: i64,
    event_at_us: i64,
    transfer_id: String,
    journal_id: String,
    kind: String,
    reason: String,
    pending_id: Option<String>,
    counter_account_id: String,
    side: String,
    amount: String,
    balance: String,
    pending_out: Option<String>,
    pending_in: Option<String>,
}

const CSV: [&str; 14] = [
    "seq",
    "item",
    "at",
    "event_at",
    "transfer_id",
    "journal_id",
    "kind",
    "reason",
    "counter_account_id",
    "side",
    "amount",
    "balance",
    "pending_out",
    "pending_in",
];

/// `econ ledger statement`.
pub(super) async fn run(args: StatementArgs) -> Outcome {
    let market = args.list.client.market_as_operator().await?;
    let account_id = name::find(&market, &args.account, args.asset.as_deref()).await?;
    let found = read(&market, account_id, &args).await?;
    let csv = found.entries.iter().map(|entry| {
        let exact = |text: &str| exact_decimal(text, found.scale);
        [
            entry.seq.to_string(),
            entry.item.to_string(),
            exact_moment(entry.at_us),
            exact_moment(entry.event_at_us),
            entry.transfer_id.clone(),
            entry.journal_id.clone(),
            entry.kind.clone(),
            entry.reason.clone(),
            entry.counter_account_id.clone(),
            entry.side.clone(),
            exact(&entry.amount),
            exact(&entry.balance),
            entry.pending_out.as_deref().map(exact).unwrap_or_default(),
            entry.pending_in.as_deref().map(exact).unwrap_or_default(),
        ]
    });
    args.list.show(&found, (&CSV, csv), || show(&found, args.by))
}

/// As many pages as the limit asks for.
async fn read(market: &Market, account_id: AccountId, args: &StatementArgs) -> Outcome<Statement> {
    let limit = usize::try_from(args.limit.max(1)).unwrap_or(usize::MAX);
    let mut entries = Vec::new();
    let mut after = args.before.clone();
    loop {
        let first = u32::try_from(limit - entries.len()).unwrap_or(PAGE).min(PAGE);
        let variables = json!({
            "id": account_id.to_string(), "by": args.by.as_graphql(), "first": first, "after": after,
        });
        let page: Option<Page> = market.query(QUERY, "account", variables).await?;
        let page = page.ok_or_else(|| name::missing("account"))?;
        let (nodes, info) = (page.statement.nodes, page.statement.page_info);
        entries.extend(nodes);
        after = info.end_cursor.filter(|_| info.has_next_page);
        if after.is_none() || entries.len() >= limit {
            return Ok(Statement {
                account_id: page.account_id,
                asset: page.asset,
                scale: page.scale,
                purpose: page.purpose,
                owner_id: page.owner_id,
                entries,
                before: after,
            });
        }
    }
}

fn show(statement: &Statement, by: By) {
    let whose = statement.owner_id.map_or_else(|| "the market".to_owned(), |id| id.to_string());
    say(format_args!(
        "{} of {whose} in {} (account {})",
        statement.purpose, statement.asset, statement.account_id
    ));
    if statement.entries.is_empty() {
        return say("no entries");
    }
    let time = if by == By::Event { "happened" } else { "recorded" };
    let mut table = table::plain([
        time,
        "kind",
        "reason",
        "debit",
        "credit",
        "balance",
        "reserved",
        "other account",
        "transfer",
    ]);
    for entry in &statement.entries {
        let decimal = |text: &str| signed_decimal(text, statement.scale);
        let amount = decimal(&entry.amount);
        let (debit, credit) =
            if entry.side == "debit" { (amount, String::new()) } else { (String::new(), amount) };
        table.add_row([
            moment(if by == By::Event { entry.event_at_us } else { entry.at_us }),
            entry.kind.clone(),
            entry.reason.clone(),
            debit,
            credit,
            decimal(&entry.balance),
            entry.pending_out.as_deref().map(decimal).unwrap_or_default(),
            entry.counter_account_id.clone(),
            entry.transfer_id.clone(),
        ]);
    }
    say(table);
    if let Some(before) = &statement.before {
        say(format_args!("There is more: --before {before}"));
    }
}
