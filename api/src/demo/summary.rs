//! What a run came to: read from the reporting views when it is over, so that it says the same when asked again.

use std::fmt::Write as _;

use proto::money::Amount;
use provider_agent::Fault;
use provider_agent::client::AssetInfo;
use serde_json::{Value, json};

use super::plan::Plan;
use crate::cli::amount::{counted, decimal, thousands};
use crate::cli::failure::Outcome;
use crate::cli::place::Database;
use crate::cli::views::{self, whole};

/// Everything that is told about a finished run.
#[derive(Debug)]
pub(crate) struct Summary {
    plan: Plan,
    asset: AssetInfo,
    outcomes: Vec<Value>,
    roles: Vec<Value>,
    payouts: Value,
    latency: Vec<Value>,
    metered: Vec<Value>,
    quarantine: Vec<Value>,
    concentration: Vec<Value>,
    fill: Vec<Value>,
    earners: Vec<Value>,
    receipts: u128,
    verified: Value,
    urls: Vec<(String, String)>,
    seconds: f64,
}

impl Summary {
    /// Reads the views. `verified` is the report of `econ verify`, `seconds` how long the command has been running.
    pub(crate) async fn read(
        database: &Database,
        plan: Plan,
        asset: AssetInfo,
        verified: Value,
        urls: Vec<(String, String)>,
        seconds: f64,
    ) -> Outcome<Self> {
        Ok(Self {
            plan,
            asset,
            outcomes: views::rows(database, "transparency.outcomes").await?,
            roles: views::earned_by_role(database).await?,
            payouts: views::payouts_confirmed(database).await?,
            latency: views::rows(database, "transparency.latency_segments").await?,
            metered: views::rows(database, "transparency.time_metered").await?,
            quarantine: views::rows(database, "transparency.metering_quarantine").await?,
            concentration: views::rows(database, "transparency.payout_hhi").await?,
            fill: views::rows(database, "transparency.fill_rate").await?,
            earners: views::rows(database, "transparency.unique_earners").await?,
            receipts: proven(&verified, "log.gapless"),
            verified,
            urls,
            seconds,
        })
    }

    /// Whether every order ended and everything was proven.
    pub(crate) fn is_good(&self) -> bool {
        self.verified["passed"] == true
            && self.open() == 0
            && self.settled() + self.refunded() == self.plan.orders.len() as u128
    }

    fn count(&self, wanted: impl Fn(&Value) -> bool) -> u128 {
        self.outcomes.iter().filter(|row| wanted(row)).map(|row| whole(&row["orders"])).sum()
    }

    fn settled(&self) -> u128 {
        self.count(|row| row["state"] == "settled")
    }

    fn refunded(&self) -> u128 {
        self.count(|row| row["state"] == "refunded")
    }

    fn open(&self) -> u128 {
        self.count(|row| row["state"] != "settled" && row["state"] != "refunded")
    }

    fn refunded_for(&self, cause: &str) -> u128 {
        self.count(|row| row["state"] == "refunded" && row["cause"] == cause)
    }

    fn money(&self, rows: &[Value], field: &str) -> u128 {
        rows.iter().map(|row| whole(&row[field])).sum()
    }

    /// One JSON object; amounts are minor units as strings.
    pub(crate) fn to_json(&self) -> Value {
        let refunded: serde_json::Map<String, Value> = self
            .outcomes
            .iter()
            .filter(|row| row["state"] == "refunded")
            .map(|row| (row["cause"].as_str().unwrap_or("unknown").to_owned(), row["orders"].clone()))
            .collect();
        let planned: serde_json::Map<String, Value> = Fault::ALL
            .into_iter()
            .map(|fault| (cause(fault).to_owned(), self.plan.faulty(fault).into()))
            .collect();
        let minor = |units: u128| Value::String(units.to_string());
        json!({
            "ok": self.is_good(),
            "note": NOTE,
            "settings": {
                "orders": self.plan.run.orders, "buyers": self.plan.run.buyers, "seed": self.plan.run.seed,
                "days": self.plan.run.days, "trace": self.plan.run.trace,
            },
            "simulated_clock": self.plan.run.days > 0,
            "orders": {
                "settled": count(self.settled()), "refunded": count(self.refunded()), "open": count(self.open()),
                "refunded_by_cause": refunded, "faults_planned": planned,
            },
            "asset": { "code": self.asset.code, "scale": self.asset.scale },
            "value_minor": {
                "held": minor(self.money(&self.outcomes, "held_minor")),
                "paid": minor(self.money(&self.outcomes, "paid_minor")),
                "refunded": minor(self.money(&self.outcomes, "refunded_minor")),
                "by_role": self.roles,
            },
            "payouts": self.payouts,
            "payout_concentration": self.concentration,
            "earners": self.earners,
            "fill_rate": self.fill,
            "latency_ms": self.latency,
            "time_metered": self.metered,
            "metering_quarantine": self.quarantine,
            "receipts": count(self.receipts),
            "verify": self.verified,
            "urls": self.urls.iter().cloned().collect::<std::collections::BTreeMap<_, _>>(),
            "seconds": (self.seconds * 10.0).round() / 10.0,
        })
    }

    /// For people.
    pub(crate) fn to_text(&self) -> String {
        let mut text = String::new();
        // Writing to a string cannot fail.
        let _ = self.write_orders(&mut text);
        let _ = self.write_money(&mut text);
        let _ = self.write_time(&mut text);
        let _ = self.write_proof(&mut text);
        text
    }

    fn write_orders(&self, out: &mut String) -> std::fmt::Result {
        let all = self.settled() + self.refunded() + self.open();
        writeln!(
            out,
            "\nORDERS   {} of {} ended; this command has run {:.1} s",
            all - self.open(),
            self.plan.orders.len(),
            self.seconds
        )?;
        writeln!(out, "  settled      {:>7}", thousands(&self.settled().to_string()))?;
        writeln!(out, "  refunded     {:>7}", thousands(&self.refunded().to_string()))?;
        for fault in Fault::ALL {
            let (cause, what) = (cause(fault), meaning(fault));
            let (seen, planned) = (self.refunded_for(cause), self.plan.faulty(fault));
            writeln!(out, "    {cause:<12} {seen:>5}   {what} (seeded: {planned})")?;
        }
        let others = self.outcomes.iter().filter(|row| {
            row["state"] == "refunded" && !Fault::ALL.into_iter().any(|fault| row["cause"] == cause(fault))
        });
        for row in others {
            writeln!(out, "    {:<12} {:>5}", row["cause"].as_str().unwrap_or("?"), whole(&row["orders"]))?;
        }
        if self.open() > 0 {
            writeln!(out, "  still open   {:>7}", self.open())?;
        }
        let (ordered, asked) =
            (self.money(&self.fill, "rfqs_ordered"), self.money(&self.fill, "rfqs_expired"));
        if ordered + asked > 0 {
            let (found, all) = (thousands(&ordered.to_string()), thousands(&(ordered + asked).to_string()));
            writeln!(
                out,
                "  fill rate    {:>7}   {found} of {all} requests for offers found a provider",
                percent(ordered, ordered + asked)
            )?;
        }
        Ok(())
    }

    fn write_money(&self, out: &mut String) -> std::fmt::Result {
        let show = |units: u128| match Amount::from_u128(units) {
            Ok(amount) => decimal(amount, self.asset.scale),
            Err(_) => units.to_string(),
        };
        let (held, paid) =
            (self.money(&self.outcomes, "held_minor"), self.money(&self.outcomes, "paid_minor"));
        writeln!(out, "\nMONEY    in {}", self.asset.code)?;
        writeln!(out, "  held in escrow {:>14}", show(held))?;
        writeln!(out, "  refunded       {:>14}", show(self.money(&self.outcomes, "refunded_minor")))?;
        writeln!(out, "  paid           {:>14}   split among", show(paid))?;
        for role in &self.roles {
            let amount = whole(&role["amount_minor"]);
            writeln!(
                out,
                "    {:<12} {:>14}   {:>6}   {}",
                role["role"].as_str().unwrap_or("?"),
                show(amount),
                percent(amount, paid),
                counted(whole(&role["payees"]), "payee"),
            )?;
        }
        writeln!(
            out,
            "  paid out       {:>14}   in {} to {}",
            show(whole(&self.payouts["amount_minor"])),
            counted(whole(&self.payouts["payouts"]), "payout"),
            counted(whole(&self.payouts["payees"]), "payee"),
        )?;
        for row in self.concentration.iter().filter(|row| row["basis"] == "payouts") {
            writeln!(
                out,
                "  concentration  {:>14}   HHI of payouts by owner: {}",
                row["hhi"].to_string(),
                row["guidelines_2023"].as_str().unwrap_or("?"),
            )?;
        }
        Ok(())
    }

    fn write_time(&self, out: &mut String) -> std::fmt::Result {
        writeln!(out, "\nLATENCY  of settled orders, milliseconds   p50        p95")?;
        for row in &self.latency {
            let segment = row["segment"].as_str().unwrap_or("?");
            let value = |field: &str| row[field].as_f64().unwrap_or_default();
            writeln!(
                out,
                "  {segment:<10} {:<23} {:>9.1}  {:>9.1}",
                segment_meaning(segment),
                value("p50_ms"),
                value("p95_ms")
            )?;
        }
        if self.plan.run.days > 0 {
            writeln!(
                out,
                "  by a simulated clock over {} days, and every receipt says so",
                self.plan.run.days
            )?;
        }
        let sum = |field: &str| self.money(&self.metered, field);
        writeln!(
            out,
            "\nMETERED  {} work units in {} attempts",
            thousands(&sum("work_units").to_string()),
            sum("attempts")
        )?;
        writeln!(out, "  execution      {:>14} s of processor work", seconds(sum("kernel_ns")))?;
        let rows: u128 = self.money(&self.quarantine, "rows");
        if rows > 0 {
            let reasons: Vec<&str> =
                self.quarantine.iter().filter_map(|row| row["reason"].as_str()).collect();
            writeln!(
                out,
                "  set aside      {rows:>14} rows that were signed but not believed ({})",
                reasons.join(", ")
            )?;
        }
        writeln!(out, "  {NOTE}")
    }

    fn write_proof(&self, out: &mut String) -> std::fmt::Result {
        writeln!(
            out,
            "\nPROOF    {} receipts, one for each command, refusals included",
            thousands(&self.receipts.to_string())
        )?;
        for check in self.verified["checks"].as_array().into_iter().flatten() {
            let mark = if check["problem"].is_null() { "ok  " } else { "FAIL" };
            let count = thousands(&whole(&check["count"]).to_string());
            writeln!(
                out,
                "  {mark} {:<24} {count:>9}  {}",
                check["name"].as_str().unwrap_or("?"),
                check["what"].as_str().unwrap_or("")
            )?;
            if let Some(place) = check["problem"]["place"].as_str() {
                writeln!(out, "       at {place}: {}", check["problem"]["message"].as_str().unwrap_or("?"))?;
            }
        }
        let verdict = if self.verified["passed"] == true {
            "everything balances and is proven"
        } else {
            "NOT PROVEN: see above"
        };
        writeln!(out, "  verify: {verdict}")?;
        writeln!(out, "\nLOOK")?;
        for (name, url) in &self.urls {
            writeln!(out, "  {name:<10} {url}")?;
        }
        Ok(())
    }
}

/// How many things the check `name` looked at.
fn proven(verified: &Value, name: &str) -> u128 {
    let checks = verified["checks"].as_array().into_iter().flatten();
    checks.filter(|check| check["name"] == name).map(|check| whole(&check["count"])).sum()
}

/// What the demo's work is not.
pub(crate) const NOTE: &str =
    "The work is an integer matrix product that stands in for inference: no language model runs here.";

/// What the ledger calls the end of an order with this fault.
const fn cause(fault: Fault) -> &'static str {
    match fault {
        Fault::Crash => "crash",
        Fault::Timeout => "timeout",
        Fault::WrongOutput => "wrong_output",
        Fault::OverReport => "over_report",
        Fault::Vanish => "vanished",
    }
}

const fn meaning(fault: Fault) -> &'static str {
    match fault {
        Fault::Crash => "the run died and its provider said so",
        Fault::Timeout => "the run metered, but brought no output in time",
        Fault::WrongOutput => "the output was not the product",
        Fault::OverReport => "more work was metered than there was",
        Fault::Vanish => "the provider took the ticket and was not heard of again",
    }
}

fn segment_meaning(segment: &str) -> &'static str {
    match segment {
        "discover" => "asked to offered",
        "contract" => "to the ticket redeemed",
        "execute" => "to the output reported",
        "verify" => "to the output judged",
        "settle" => "to the money split",
        "total" => "all of it",
        _ => "",
    }
}

/// A share with one decimal place, computed in whole numbers.
fn percent(part: u128, whole: u128) -> String {
    if whole == 0 {
        return "-".into();
    }
    let tenths = (part * 1_000 + whole / 2) / whole;
    format!("{}.{} %", tenths / 10, tenths % 10)
}

/// Seconds with three decimal places.
fn seconds(nanoseconds: u128) -> String {
    let milliseconds = nanoseconds / 1_000_000;
    format!("{}.{:03}", thousands(&(milliseconds / 1_000).to_string()), milliseconds % 1_000)
}

/// A count as a JSON number.
fn count(value: u128) -> Value {
    u64::try_from(value).map_or_else(|_| value.to_string().into(), Value::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_rounded_in_whole_numbers() {
        for (part, whole, expected) in
            [(1, 3, "33.3 %"), (2, 3, "66.7 %"), (0, 5, "0.0 %"), (5, 5, "100.0 %"), (1, 0, "-")]
        {
            assert_eq!(percent(part, whole), expected);
        }
        assert_eq!(seconds(1_234_567_000_000), "1,234.567");
        assert_eq!(seconds(4_000_000), "0.004");
    }
}
