//! `econ ledger trial-balance`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::json;

use super::listing::{By, ListArgs, moment};
use crate::cli::amount::thousands;
use crate::cli::failure::{Failure, Outcome};
use crate::cli::{say, table};

/// Options of `econ ledger trial-balance`.
#[derive(Debug, clap::Args)]
pub(crate) struct TrialBalanceArgs {
    /// As it was at this moment, such as 2026-11-20T09:30:00Z [default: now]
    #[arg(long, value_name = "RFC3339", value_parser = moment)]
    at: Option<i64>,
    /// By which time
    #[arg(long, value_enum, default_value_t = By::Record)]
    by: By,
    #[command(flatten)]
    list: ListArgs,
}

const QUERY: &str = "query($ledgerId: Int!, $at: Micros, $by: BookTime!) { trialBalance(ledgerId: $ledgerId, at: $at, by: $by) { \
    asset scale purpose accounts debits credits debitsPending creditsPending } }";

/// One asset's accounts of one purpose; minor units.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Line {
    asset: String,
    scale: u8,
    purpose: String,
    accounts: u64,
    debits: String,
    credits: String,
    debits_pending: String,
    credits_pending: String,
}

/// One asset's accounts, all of them.
#[derive(Debug, Default)]
struct Total {
    scale: u8,
    accounts: u64,
    debits: u128,
    credits: u128,
    debits_pending: u128,
    credits_pending: u128,
}

impl Total {
    const fn is_equal(&self) -> bool {
        self.debits == self.credits && self.debits_pending == self.credits_pending
    }
}

const CSV: [&str; 7] =
    ["asset", "purpose", "accounts", "debits", "credits", "debits_pending", "credits_pending"];

/// `econ ledger trial-balance`. Fails when debits and credits differ, after it has shown them.
pub(super) async fn run(args: TrialBalanceArgs) -> Outcome {
    let market = args.list.client.market_as_operator().await?;
    let variables = json!({ "at": args.at, "by": args.by.as_graphql() });
    let lines: Vec<Line> = market.query(QUERY, "trialBalance", variables).await?;
    let totals = totals(&lines)?;
    let csv = lines.iter().map(|line| {
        let exact = |text: &str| decimal(text, line.scale, false);
        [
            line.asset.clone(),
            line.purpose.clone(),
            line.accounts.to_string(),
            exact(&line.debits),
            exact(&line.credits),
            exact(&line.debits_pending),
            exact(&line.credits_pending),
        ]
    });
    args.list.show(&lines, (&CSV, csv), || show(&lines, &totals))?;
    let unequal: Vec<&str> =
        totals.iter().filter(|(_, total)| !total.is_equal()).map(|(asset, _)| *asset).collect();
    if unequal.is_empty() {
        return Ok(());
    }
    Err(Failure::outside(format!(
        "debits and credits differ in {}: run `econ verify`, which names what was changed",
        unequal.join(", ")
    )))
}

fn totals(lines: &[Line]) -> Outcome<BTreeMap<&str, Total>> {
    let mut totals: BTreeMap<&str, Total> = BTreeMap::new();
    for line in lines {
        let total = totals.entry(&line.asset).or_default();
        total.scale = line.scale;
        total.accounts += line.accounts;
        for (sum, text) in [
            (&mut total.debits, &line.debits),
            (&mut total.credits, &line.credits),
            (&mut total.debits_pending, &line.debits_pending),
            (&mut total.credits_pending, &line.credits_pending),
        ] {
            let added = text.parse().ok().and_then(|more: u128| sum.checked_add(more));
            *sum = added.ok_or_else(|| Failure::outside(format!("the API's sum {text:?} is no number")))?;
        }
    }
    Ok(totals)
}

fn show(lines: &[Line], totals: &BTreeMap<&str, Total>) {
    if lines.is_empty() {
        return say("nothing was posted then, or this key may not see it: the operator's may");
    }
    let mut table =
        table::plain(["asset", "purpose", "accounts", "debits", "credits", "debits held", "credits held"]);
    for (asset, total) in totals {
        for line in lines.iter().filter(|line| line.asset == *asset) {
            let shown = |text: &str| decimal(text, line.scale, true);
            table.add_row([
                line.asset.clone(),
                line.purpose.clone(),
                line.accounts.to_string(),
                shown(&line.debits),
                shown(&line.credits),
                shown(&line.debits_pending),
                shown(&line.credits_pending),
            ]);
        }
        let shown = |sum: u128| decimal(&sum.to_string(), total.scale, true);
        table.add_row([
            (*asset).to_owned(),
            if total.is_equal() { "TOTAL, equal" } else { "TOTAL, NOT EQUAL" }.to_owned(),
            total.accounts.to_string(),
            shown(total.debits),
            shown(total.credits),
            shown(total.debits_pending),
            shown(total.credits_pending),
        ]);
    }
    say(table);
    if totals.values().all(Total::is_equal) {
        say("Debits equal credits in every asset.");
    }
}

/// Minor units, of however many digits, as units of the asset: every decimal place, thousands apart for people.
fn decimal(minor: &str, scale: u8, for_people: bool) -> String {
    let scale = usize::from(scale);
    let padded = format!("{minor:0>width$}", width = scale + 1);
    let (whole, fraction) = padded.split_at(padded.len() - scale);
    let whole = if for_people { thousands(whole) } else { whole.to_owned() };
    if scale == 0 { whole } else { format!("{whole}.{fraction}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(asset: &str, purpose: &str, debits: &str, credits: &str) -> Line {
        Line {
            asset: asset.into(),
            scale: 6,
            purpose: purpose.into(),
            accounts: 1,
            debits: debits.into(),
            credits: credits.into(),
            debits_pending: "0".into(),
            credits_pending: "0".into(),
        }
    }

    #[test]
    fn totals_are_per_asset_and_say_whether_they_are_equal() {
        let big = "9999999999999999999999999999";
        let lines = [
            line("USD", "external", big, "0"),
            line("USD", "wallet", "1", big),
            line("USD", "equity", "0", "1"),
            line("EUR", "wallet", "1", "2"),
        ];
        let totals = totals(&lines).unwrap();
        assert!(totals["USD"].is_equal() && totals["USD"].accounts == 3);
        assert!(!totals["EUR"].is_equal());
        assert!(super::totals(&[line("USD", "wallet", "x", "0")]).is_err());
    }

    #[test]
    fn sums_may_be_longer_than_any_amount() {
        assert_eq!(
            decimal("12345678901234567890123456789012", 6, true),
            "12,345,678,901,234,567,890,123,456.789012"
        );
        assert_eq!(decimal("5", 2, false), "0.05");
        assert_eq!(decimal("1234", 0, true), "1,234");
    }
}
