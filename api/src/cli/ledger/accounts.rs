//! `econ ledger accounts`.

use proto::ids::AgentId;

use super::listing::{ListArgs, exact_moment};
use super::name::{self, Account};
use crate::cli::failure::Outcome;
use crate::cli::money::{exact_decimal, signed_decimal};
use crate::cli::{say, table};

/// Options of `econ ledger accounts`.
#[derive(Debug, clap::Args)]
pub(crate) struct AccountsArgs {
    /// Only these: wallet, escrow, payable, external, equity, liquidity, clearing
    #[arg(long)]
    purpose: Option<String>,
    /// Only this agent's
    #[arg(long, value_name = "AGENT")]
    owner: Option<AgentId>,
    /// At most so many
    #[arg(long, value_name = "N", default_value_t = 1_000)]
    limit: u32,
    #[command(flatten)]
    list: ListArgs,
}

const CSV: [&str; 13] = [
    "account_id",
    "purpose",
    "asset",
    "owner_id",
    "ref_id",
    "balance",
    "debits",
    "credits",
    "debits_pending",
    "credits_pending",
    "spendable",
    "closed",
    "opened_at",
];

/// `econ ledger accounts`.
pub(super) async fn run(args: AccountsArgs) -> Outcome {
    let market = args.list.client.market_as_operator().await?;
    let limit = usize::try_from(args.limit).unwrap_or(usize::MAX).saturating_add(1);
    let mut found = name::accounts(&market, args.purpose.as_deref(), args.owner, limit).await?;
    let more = found.len() == limit;
    found.truncate(limit - 1);
    let csv = found.iter().map(|account| {
        let exact = |text: &str| exact_decimal(text, account.scale);
        [
            account.account_id.to_string(),
            account.purpose.clone(),
            account.asset.clone(),
            account.owner_id.map(|id| id.to_string()).unwrap_or_default(),
            account.ref_id.clone().unwrap_or_default(),
            exact(&account.balances.balance()),
            exact(&account.balances.debits_posted),
            exact(&account.balances.credits_posted),
            exact(&account.balances.debits_pending),
            exact(&account.balances.credits_pending),
            exact(&account.spendable),
            account.closed.to_string(),
            exact_moment(account.opened_at_us),
        ]
    });
    args.list.show(&found, (&CSV, csv), || show(&found, more))
}

fn show(accounts: &[Account], more: bool) {
    if accounts.is_empty() {
        return say("no accounts that this key may see");
    }
    let mut table =
        table::plain(["account", "purpose", "asset", "balance", "reserved", "spendable", "owner", "for"]);
    for account in accounts {
        let decimal = |text: &str| signed_decimal(text, account.scale);
        let purpose =
            if account.closed { format!("{} (closed)", account.purpose) } else { account.purpose.clone() };
        table.add_row([
            account.account_id.to_string(),
            purpose,
            account.asset.clone(),
            decimal(&account.balances.balance()),
            decimal(&account.balances.debits_pending),
            decimal(&account.spendable),
            account.owner_id.map_or_else(|| "the market".to_owned(), |id| id.to_string()),
            account.ref_id.clone().unwrap_or_default(),
        ]);
    }
    say(table);
    if more {
        say(format_args!("and more: --limit shows more than {}", accounts.len()));
    }
}
