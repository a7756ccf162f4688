//! Being known, and money: `register`, `deposit`, `balance`, `statement`.

use proto::ids::AgentId;
use proto::v1::KeyPurpose;
use serde_json::json;

use super::amount;
use super::client::ClientArgs;
use super::failure::{Failure, Outcome};
use super::market::StatementLine;
use super::place::{Database, PlaceArgs};
use super::table::{self, moment};
use super::{say, views};

/// What a key is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Purpose {
    /// Orders, spends, judges outputs.
    Buyer,
    /// Offers and executes; `econ agent` registers itself.
    Provider,
    /// Receives shares.
    Payee,
}

/// `econ register`.
#[derive(Debug, clap::Args)]
pub(crate) struct RegisterArgs {
    /// What the key is for
    #[arg(long, value_enum, default_value_t = Purpose::Buyer)]
    purpose: Purpose,
    /// The agent that in the end earns [default: this one]
    #[arg(long, value_name = "AGENT")]
    owner: Option<AgentId>,
    #[command(flatten)]
    client: ClientArgs,
}

/// `econ deposit`.
#[derive(Debug, clap::Args)]
pub(crate) struct DepositArgs {
    /// Whose wallet
    agent: AgentId,
    /// How much, such as 25 or 1.25
    amount: String,
    /// In which asset
    #[arg(long, default_value = "USD")]
    asset: String,
    /// The bank's or rail's reference: the same one is booked once
    #[arg(long)]
    reference: String,
    #[command(flatten)]
    client: ClientArgs,
}

/// `econ balance`.
#[derive(Debug, clap::Args)]
pub(crate) struct BalanceArgs {
    #[command(flatten)]
    client: ClientArgs,
}

/// `econ statement`.
#[derive(Debug, clap::Args)]
pub(crate) struct StatementArgs {
    /// Whose: your own key's agent, or, on the market's own machine, anybody
    payee: AgentId,
    /// As comma-separated values
    #[arg(long)]
    csv: bool,
    #[command(flatten)]
    client: ClientArgs,
}

/// `econ register`.
pub(crate) async fn register(args: RegisterArgs) -> Outcome {
    let market = args.client.market().await?;
    let purpose = match args.purpose {
        Purpose::Buyer => KeyPurpose::Buyer,
        Purpose::Provider => KeyPurpose::Provider,
        Purpose::Payee => KeyPurpose::Payee,
    };
    let facts = market.register(purpose, args.owner).await?;
    let me = market.me()?;
    args.client.print(&facts, || {
        let known = if facts["exists"] == true { "was registered already" } else { "is registered" };
        say(format_args!("agent {me} {known}"));
        if args.purpose == Purpose::Buyer {
            say(format_args!(
                "Next: the market's operator funds it with `econ deposit {me} 25 --reference YOUR-REFERENCE`"
            ));
        }
    });
    Ok(())
}

/// `econ deposit`.
pub(crate) async fn deposit(args: DepositArgs) -> Outcome {
    let market = args.client.market_as_operator().await?;
    let asset = amount::asset(&market.info, &args.asset)?;
    let amount = amount::parse(&args.amount, asset)?;
    let receipt = market.deposit(args.agent, asset.asset_id, amount, &args.reference).await?;
    let json = json!({
        "seq": receipt.seq, "receiptId": receipt.receipt_id, "replayed": receipt.replayed, "facts": receipt.facts,
    });
    args.client.print(&json, || {
        if receipt.replayed || receipt.facts["exists"] == true {
            say(format_args!("reference {} was booked before: nothing was added", args.reference));
        } else {
            say(format_args!(
                "{} booked for {} (receipt {})",
                amount::show(amount, asset),
                args.agent,
                receipt.seq
            ));
        }
    });
    Ok(())
}

/// `econ balance`.
pub(crate) async fn balance(args: BalanceArgs) -> Outcome {
    let market = args.client.market().await?;
    let balances = market.balances().await?;
    let json = serde_json::to_value(&balances).map_err(Failure::outside)?;
    args.client.print(&json, || {
        if balances.is_empty() {
            return say("no accounts yet");
        }
        let mut table = table::plain(["asset", "account", "balance", "reserved", "spendable"]);
        for row in &balances {
            let signed = |text: &str| signed_decimal(text, row.scale);
            table.add_row([
                row.asset.clone(),
                row.purpose.clone(),
                signed(&row.posted),
                signed(&row.pending_out),
                signed(&row.spendable),
            ]);
        }
        say(table);
    });
    Ok(())
}

/// `econ statement`.
pub(crate) async fn statement(args: StatementArgs) -> Outcome {
    let lines = match args.client.market().await {
        Ok(market) if market.me()? == args.payee => market.statement().await?,
        // Somebody else's: only with the rights that come with the data dir.
        _ => of_the_house(&args).await?,
    };
    if args.csv {
        return write_csv(&lines);
    }
    let json = serde_json::to_value(&lines).map_err(Failure::outside)?;
    args.client.print(&json, || {
        if lines.is_empty() {
            return say("nothing was earned yet");
        }
        let mut table = table::plain(["earned", "role", "amount", "asset", "order", "payout", "paid"]);
        for line in &lines {
            table.add_row([
                moment(line.earned_at_us),
                line.role.clone(),
                signed_decimal(&line.amount, line.scale),
                line.asset.clone(),
                line.order_id.clone(),
                line.payout_state.clone().unwrap_or_else(|| "open".into()),
                line.paid_at_us.map(moment).unwrap_or_default(),
            ]);
        }
        say(table);
    });
    Ok(())
}

/// A statement as the finance views have it.
async fn of_the_house(args: &StatementArgs) -> Outcome<Vec<StatementLine>> {
    let place = PlaceArgs { data_dir: args.client.data_dir.clone(), ..PlaceArgs::default() };
    let database = Database::open(&place).await.map_err(|failure| {
        Failure::outside(format!(
            "a statement is for its payee's own key (--key), or for whoever has the market's --data-dir: {failure}"
        ))
    })?;
    let rows = views::statement(&database, args.payee).await;
    database.close().await?;
    rows?.into_iter().map(|row| serde_json::from_value(row).map_err(Failure::outside)).collect()
}

fn write_csv(lines: &[StatementLine]) -> Outcome {
    let mut writer = csv::Writer::from_writer(std::io::stdout().lock());
    let failed = |error: csv::Error| Failure::outside(format!("cannot write: {error}"));
    writer
        .write_record([
            "earned_at",
            "role",
            "amount",
            "asset",
            "order_id",
            "payable_id",
            "payout_id",
            "payout_state",
            "paid_at",
        ])
        .map_err(failed)?;
    for line in lines {
        writer
            .write_record([
                &moment(line.earned_at_us),
                &line.role,
                &exact_decimal(&line.amount, line.scale),
                &line.asset,
                &line.order_id,
                &line.payable_id,
                line.payout_id.as_deref().unwrap_or_default(),
                line.payout_state.as_deref().unwrap_or("open"),
                &line.paid_at_us.map(moment).unwrap_or_default(),
            ])
            .map_err(failed)?;
    }
    writer.flush().map_err(|error| Failure::outside(format!("cannot write: {error}")))
}

/// Minor units, perhaps negative, for people.
pub(crate) fn signed_decimal(text: &str, scale: u8) -> String {
    with_sign(text, |amount| amount::decimal(amount, scale))
}

/// The same for programs: every decimal place and no thousands.
fn exact_decimal(text: &str, scale: u8) -> String {
    with_sign(text, |amount| amount.to_decimal_string(scale))
}

fn with_sign(text: &str, write: impl Fn(proto::money::Amount) -> String) -> String {
    let (sign, digits) = text.strip_prefix('-').map_or(("", text), |digits| ("-", digits));
    match proto::money::Amount::parse_minor(digits) {
        Ok(amount) => format!("{sign}{}", write(amount)),
        Err(_) => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn balances_may_be_negative() {
        assert_eq!(signed_decimal("-1250000", 6), "-1.25");
        assert_eq!(signed_decimal("1234567890000", 6), "1,234,567.89");
        assert_eq!(exact_decimal("1234567890000", 6), "1234567.890000");
    }
}
