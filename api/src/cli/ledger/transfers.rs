//! `econ ledger transfers`.

use proto::ids::JournalId;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::listing::{ListArgs, exact_moment};
use crate::cli::failure::Outcome;
use crate::cli::money::{exact_decimal, signed_decimal};
use crate::cli::table::moment;
use crate::cli::{say, table};

/// Options of `econ ledger transfers`.
#[derive(Debug, clap::Args)]
pub(crate) struct TransfersArgs {
    /// Only those of this business event
    #[arg(long, value_name = "ID")]
    journal: Option<JournalId>,
    /// At most so many
    #[arg(long, value_name = "N", default_value_t = 50)]
    limit: u32,
    #[command(flatten)]
    list: ListArgs,
}

/// A transfer as the API shows it; the amount in minor units.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Transfer {
    seq: u64,
    item: i32,
    at_us: i64,
    effective_at_us: Option<i64>,
    transfer_id: String,
    journal_id: String,
    kind: String,
    debit_account_id: String,
    credit_account_id: String,
    asset: String,
    scale: u8,
    amount: String,
    pending_id: Option<String>,
    reverses_id: Option<String>,
    reason: String,
}

const FIELDS: &str = "nodes { seq item atUs effectiveAtUs transferId journalId kind debitAccountId creditAccountId asset scale \
    amount pendingId reversesId reason } pageInfo { hasNextPage endCursor }";

const CSV: [&str; 14] = [
    "seq",
    "item",
    "at",
    "effective_at",
    "transfer_id",
    "journal_id",
    "kind",
    "reason",
    "debit_account_id",
    "credit_account_id",
    "amount",
    "asset",
    "pending_id",
    "reverses_id",
];

/// `econ ledger transfers`.
pub(super) async fn run(args: TransfersArgs) -> Outcome {
    let market = args.list.client.market_as_operator().await?;
    let limit = usize::try_from(args.limit).unwrap_or(usize::MAX);
    let (declared, field, given) = match args.journal {
        Some(_) => (", $id: UUID!", "journal", ", id: $id"),
        None => ("", "transfers", ""),
    };
    let query = format!(
        "query($ledgerId: Int!, $first: Int!, $after: String{declared}) {{ {field}(ledgerId: $ledgerId, first: $first, \
         after: $after{given}) {{ {FIELDS} }} }}"
    );
    let mut variables = json!({});
    if let Some(journal) = args.journal {
        variables["id"] = journal.to_string().into();
    }
    let found: Vec<Transfer> = market.pages_of(&query, field, variables, limit).await?;
    let csv = found.iter().map(|row| {
        let or_empty = |text: &Option<String>| text.clone().unwrap_or_default();
        [
            row.seq.to_string(),
            row.item.to_string(),
            exact_moment(row.at_us),
            row.effective_at_us.map(exact_moment).unwrap_or_default(),
            row.transfer_id.clone(),
            row.journal_id.clone(),
            row.kind.clone(),
            row.reason.clone(),
            row.debit_account_id.clone(),
            row.credit_account_id.clone(),
            exact_decimal(&row.amount, row.scale),
            row.asset.clone(),
            or_empty(&row.pending_id),
            or_empty(&row.reverses_id),
        ]
    });
    args.list.show(&found, (&CSV, csv), || show(&found))
}

fn show(transfers: &[Transfer]) {
    if transfers.is_empty() {
        return say("no transfers that this key may see");
    }
    let mut table =
        table::plain(["seq", "at", "kind", "reason", "amount", "asset", "debit", "credit", "journal"]);
    for row in transfers {
        table.add_row([
            format!("{}.{}", row.seq, row.item),
            moment(row.at_us),
            row.kind.clone(),
            row.reason.clone(),
            signed_decimal(&row.amount, row.scale),
            row.asset.clone(),
            row.debit_account_id.clone(),
            row.credit_account_id.clone(),
            row.journal_id.clone(),
        ]);
    }
    say(table);
}
