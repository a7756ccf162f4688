//! The buyer's commands: ask, choose, order, look, accept or dispute, settle.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use proto::ids::{AgentId, OfferId, OrderId, RfqId};
use proto::money::Amount;
use provider_agent::JobSpec;
use provider_agent::client::AssetInfo;
use serde_json::{Value, json};

use super::amount;
use super::client::ClientArgs;
use super::failure::{Failure, Outcome};
use super::market::{Checked, Market, NewRfq, Offer, Order, Receipt};
use super::say;
use super::table::{self, moment};

/// How often `econ offers --wait` looks.
const LOOK: Duration = Duration::from_millis(200);

/// Requests for offers.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum RfqCommand {
    /// Ask for offers for one job
    Open(OpenArgs),
    /// Show one of your requests
    Show {
        /// Which
        rfq: RfqId,
        #[command(flatten)]
        client: ClientArgs,
    },
    /// Withdraw an open request
    Cancel {
        /// Which
        rfq: RfqId,
        #[command(flatten)]
        client: ClientArgs,
    },
}

/// What to ask for.
#[derive(Debug, clap::Args)]
pub(crate) struct OpenArgs {
    /// The job as a request for inference: tokens read and tokens written. A matrix product of proportional size stands in
    #[arg(long, value_name = "READ,WRITTEN", value_parser = tokens, required_unless_present = "input", conflicts_with = "input")]
    tokens: Option<(u32, u32)>,
    /// The job as a file: the protobuf bytes of a GemmJob
    #[arg(long, value_name = "FILE")]
    input: Option<PathBuf>,
    /// The most you pay for all of it, such as 1.25
    #[arg(long, value_name = "AMOUNT")]
    max_price: String,
    /// In which asset
    #[arg(long, default_value = "USD")]
    asset: String,
    /// Where it must run [default: anywhere]
    #[arg(long)]
    region: Option<String>,
    /// Seconds that offers are taken for
    #[arg(long, value_name = "SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u32).range(1..=3600))]
    valid_for: u32,
    /// Seconds that a run may take
    #[arg(long, value_name = "SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u32).range(1..=86400))]
    max_duration: u32,
    /// Who made what runs, and gets a share
    #[arg(long, value_name = "AGENT")]
    creator: Option<AgentId>,
    /// Who brought you here, and gets a share
    #[arg(long, value_name = "AGENT")]
    referrer: Option<AgentId>,
    #[command(flatten)]
    client: ClientArgs,
}

/// `econ offers`.
#[derive(Debug, clap::Args)]
pub(crate) struct OffersArgs {
    /// The request
    rfq: RfqId,
    /// Wait so many seconds for the first offer
    #[arg(long, value_name = "SECONDS", default_value_t = 0)]
    wait: u64,
    #[command(flatten)]
    client: ClientArgs,
}

/// `econ order`.
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub(crate) struct OrderArgs {
    #[command(subcommand)]
    what: Option<OrderCommand>,
    /// The offer to accept: its price is held in escrow and its provider may start
    #[arg(required = true)]
    offer: Option<OfferId>,
    /// The most this order may cost, in the offer's asset [default: the offer's price]
    #[arg(long, value_name = "AMOUNT", requires = "rfq")]
    cap: Option<String>,
    /// The offer's request; only --cap needs it
    #[arg(long)]
    rfq: Option<RfqId>,
    #[command(flatten)]
    client: ClientArgs,
}

/// Existing orders.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum OrderCommand {
    /// Show an order
    Show {
        /// Which
        order: OrderId,
        #[command(flatten)]
        client: ClientArgs,
    },
    /// Fetch an order's output and check it
    Output {
        /// Which
        order: OrderId,
        /// Where to write it [default: only check it]
        #[arg(short, long, value_name = "FILE")]
        out: Option<PathBuf>,
        #[command(flatten)]
        client: ClientArgs,
    },
}

/// A command about one order.
#[derive(Debug, clap::Args)]
pub(crate) struct OneOrder {
    /// Which
    order: OrderId,
    #[command(flatten)]
    client: ClientArgs,
}

/// `econ reject`.
#[derive(Debug, clap::Args)]
pub(crate) struct RejectArgs {
    /// Which
    order: OrderId,
    /// What is wrong; a verifier judges it
    #[arg(long, value_parser = ["wrong_output", "over_report", "missing_output"])]
    reason: String,
    #[command(flatten)]
    client: ClientArgs,
}

/// `econ orders`.
#[derive(Debug, clap::Args)]
pub(crate) struct OrdersArgs {
    /// So many, newest first
    #[arg(long, default_value_t = 20)]
    limit: usize,
    #[command(flatten)]
    client: ClientArgs,
}

/// `econ rfq …`.
pub(crate) async fn rfq(command: RfqCommand) -> Outcome {
    match command {
        RfqCommand::Open(args) => open(args).await,
        RfqCommand::Show { rfq, client } => {
            let market = client.market().await?;
            let found = market.rfq(rfq).await?.ok_or_else(|| unknown("UM401", "request", rfq))?;
            client.print(&to_json(&found)?, || {
                say(format_args!("request   {}", found.rfq_id));
                say(format_args!("state     {}", found.state));
                say(format_args!(
                    "job       {} units of {}",
                    amount::thousands(&found.work_units.to_string()),
                    found.work_class
                ));
                say(format_args!("region    {}", found.region.as_deref().unwrap_or("any")));
                say(format_args!("at most   {}", show(&market, found.asset_id, &found.max_price)));
                say(format_args!(
                    "asked     {}",
                    amount::counted(found.invited.unwrap_or_default(), "provider")
                ));
                say(format_args!("until     {}", moment(found.expires_at_us)));
                if let Some(order) = found.order_id {
                    say(format_args!("order     {order}"));
                }
            });
            Ok(())
        }
        RfqCommand::Cancel { rfq, client } => {
            let receipt = client.market().await?.cancel_rfq(rfq).await?;
            client.print(&to_json(&receipt)?, || say(format_args!("withdrawn (receipt {})", receipt.seq)));
            Ok(())
        }
    }
}

async fn open(args: OpenArgs) -> Outcome {
    let market = args.client.market().await?;
    let asset = amount::asset(&market.info, &args.asset)?;
    let max_price = amount::parse(&args.max_price, asset)?;
    let job = match (args.tokens, &args.input) {
        (Some((read, written)), _) => JobSpec::from_request(read, written, rand::random()),
        (None, Some(path)) => {
            let bytes = std::fs::read(path).map_err(Failure::io("cannot read", path))?;
            JobSpec::decode(&bytes)
                .map_err(|error| Failure::new("UB124", format!("{} is no job: {error}", path.display())))?
        }
        (None, None) => return Err(Failure::usage("say what to run, with --tokens or --input")),
    };
    let input_hash = market.put_job(&job).await?;
    let info = market.client.info().await?;
    let rfq = NewRfq {
        // Near ledger time, which need not be this machine's.
        rfq_id: RfqId::v7_at(u64::try_from(info.ledger_time_us / 1_000).unwrap_or_default(), rand::random()),
        region: args.region,
        input_hash,
        work_units: job.work_units(),
        asset_id: asset.asset_id,
        max_price,
        valid_for_ms: args.valid_for * 1_000,
        max_duration_ms: args.max_duration * 1_000,
        creator_id: args.creator,
        referrer_id: args.referrer,
    };
    let receipt = market.open_rfq(&rfq).await?;
    let asked = receipt.facts["invited"].as_array().map_or(0, Vec::len);
    let mut json = to_json(&receipt)?;
    json["rfqId"] = rfq.rfq_id.to_string().into();
    args.client.print(&json, || {
        say(format_args!("request  {}", rfq.rfq_id));
        say(format_args!(
            "job      {} work units, at most {}",
            amount::thousands(&rfq.work_units.to_string()),
            amount::show(max_price, asset)
        ));
        if asked == 0 {
            say("asked    nobody: no provider is free that fits the class, region, size and price");
        } else {
            say(format_args!("asked    {}", amount::counted(asked, "provider")));
            say(format_args!("Next: econ offers {} --wait 5", rfq.rfq_id));
        }
    });
    Ok(())
}

/// `econ offers`.
pub(crate) async fn offers(args: OffersArgs) -> Outcome {
    let market = args.client.market().await?;
    let until = Instant::now() + Duration::from_secs(args.wait);
    let mut offers = market.offers(args.rfq).await?;
    while offers.is_empty() && Instant::now() < until {
        tokio::time::sleep(LOOK).await;
        offers = market.offers(args.rfq).await?;
    }
    args.client.print(&to_json(&offers)?, || show_offers(&market, &offers));
    Ok(())
}

fn show_offers(market: &Market, offers: &[Offer]) {
    if offers.is_empty() {
        return say("no offers (yet): wait for some with --wait SECONDS");
    }
    let mut table = table::plain(["offer", "provider", "price", "per unit", "valid until", "state"]);
    for offer in offers {
        table.add_row([
            offer.offer_id.to_string(),
            offer.provider_id.to_string(),
            show(market, offer.asset_id, &offer.price),
            show(market, offer.asset_id, &offer.price_per_unit),
            moment(offer.expires_at_us),
            offer.state.clone(),
        ]);
    }
    say(table);
    if let Some(best) = offers.iter().find(|offer| offer.state == "open") {
        say(format_args!("Next: econ order {}", best.offer_id));
    }
}

/// `econ order …`.
pub(crate) async fn order(args: OrderArgs) -> Outcome {
    match (args.what, args.offer) {
        (Some(OrderCommand::Show { order, client }), _) => {
            let market = client.market().await?;
            let found = find(&market, order).await?;
            client.print(&to_json(&found)?, || show_order(&market, &found));
            Ok(())
        }
        (Some(OrderCommand::Output { order, out, client }), _) => output(order, out, &client).await,
        (None, Some(offer)) => accept_offer(offer, args.cap.as_deref(), args.rfq, &args.client).await,
        (None, None) => Err(Failure::usage("name an offer to accept, or `show` or `output` with an order")),
    }
}

async fn accept_offer(offer: OfferId, cap: Option<&str>, rfq: Option<RfqId>, client: &ClientArgs) -> Outcome {
    let market = client.market().await?;
    let cap = match (cap, rfq) {
        (Some(cap), Some(rfq)) => {
            let offers = market.offers(rfq).await?;
            let found = offers
                .iter()
                .find(|found| found.offer_id == offer)
                .ok_or_else(|| unknown("UM402", "offer", offer))?;
            amount::parse(cap, asset_of(&market, found.asset_id)?)?
        }
        // What is held is the offer's price, however high the cap.
        _ => Amount::MAX,
    };
    let receipt = market.accept_offer(offer, &cap.to_string()).await?;
    let order = receipt.facts["order_id"].as_str().unwrap_or("?").to_owned();
    client.print(&to_json(&receipt)?, || {
        say(format_args!("order    {order}"));
        let asset =
            receipt.facts["asset_id"].as_u64().and_then(|id| u32::try_from(id).ok()).unwrap_or_default();
        if let Some(held) = receipt.facts["held"].as_str() {
            say(format_args!("held     {} in escrow", show(&market, asset, held)));
        }
        say(format_args!("Next: econ order show {order}; when it is reported: econ order output {order}"));
    });
    Ok(())
}

async fn output(order: OrderId, out: Option<PathBuf>, client: &ClientArgs) -> Outcome {
    let market = client.market().await?;
    let found = find(&market, order).await?;
    if found.work_class != super::market::WORK_CLASS {
        return Err(Failure::outside(format!(
            "this program cannot check work of class {}",
            found.work_class
        )));
    }
    let job = market.job(&found).await?;
    let (bytes, problem) = match market.checked_output(&found, job).await? {
        Checked::Right(bytes) => (bytes, None),
        Checked::Wrong(bytes, why) => (bytes, Some(why)),
        Checked::Missing => {
            return Err(Failure::new("UM409", format!("order {order} is {} and has no output", found.state)));
        }
    };
    if let Some(path) = &out {
        std::fs::write(path, &bytes).map_err(Failure::io("cannot write", path))?;
    }
    let hash = found.output_hash.map(|hash| hash.to_string()).unwrap_or_default();
    let json = json!({
        "orderId": order.to_string(), "outputHash": hash, "bytes": bytes.len(), "right": problem.is_none(), "why": problem,
        "file": out.as_ref().map(|path| path.display().to_string()),
    });
    client.print(&json, || {
        say(format_args!("output   {} bytes, BLAKE3 {hash}", amount::thousands(&bytes.len().to_string())));
        if let Some(path) = &out {
            say(format_args!("written  {}", path.display()));
        }
        match &problem {
            None => say("check    it is the product that was ordered (Freivalds, error below 2^-128)"),
            Some(why) => say(format_args!("check    WRONG: {why}")),
        }
        if found.state == "reported" {
            match &problem {
                None => say(format_args!("Next: econ accept {order}")),
                Some(_) => say(format_args!("Next: econ reject {order} --reason wrong_output")),
            }
        }
    });
    match problem {
        None => Ok(()),
        Some(why) => {
            Err(Failure::new("UM611", format!("the output of order {order} is not what was ordered: {why}")))
        }
    }
}

/// `econ accept`.
pub(crate) async fn accept(args: OneOrder) -> Outcome {
    let market = args.client.market().await?;
    let order = find(&market, args.order).await?;
    let hash = order.output_hash.ok_or_else(|| no_output(&order))?;
    let receipt = market.accept_output(args.order, hash).await?;
    args.client.print(&to_json(&receipt)?, || said(&receipt, "accepted; the house settles it now"));
    Ok(())
}

/// `econ reject`.
pub(crate) async fn reject(args: RejectArgs) -> Outcome {
    let market = args.client.market().await?;
    let order = find(&market, args.order).await?;
    let hash = order.output_hash.ok_or_else(|| no_output(&order))?;
    let receipt = market.reject_output(args.order, hash, &args.reason).await?;
    args.client.print(&to_json(&receipt)?, || {
        said(&receipt, "disputed; the money stays in escrow until the verifier has judged");
    });
    Ok(())
}

/// `econ settle`.
pub(crate) async fn settle(args: OneOrder) -> Outcome {
    let market = args.client.market().await?;
    let receipt = market.settle(args.order).await?;
    args.client.print(&to_json(&receipt)?, || said(&receipt, "settled"));
    Ok(())
}

/// `econ orders`.
pub(crate) async fn orders(args: OrdersArgs) -> Outcome {
    let market = args.client.market().await?;
    let orders = market.orders(args.limit).await?;
    args.client.print(&to_json(&orders)?, || {
        if orders.is_empty() {
            return say("no orders yet: ask for offers with `econ rfq open`");
        }
        let mut table =
            table::plain(["order", "state", "cause", "held", "paid", "refunded", "units", "ordered"]);
        for order in &orders {
            let money = |minor: &Option<String>| {
                minor.as_ref().map_or("-".to_owned(), |minor| show(&market, order.asset_id, minor))
            };
            table.add_row([
                order.order_id.to_string(),
                order.state.clone(),
                order.cause.clone().unwrap_or_default(),
                show(&market, order.asset_id, &order.held),
                money(&order.paid),
                money(&order.refunded),
                order.work_units.to_string(),
                moment(order.ordered_at_us),
            ]);
        }
        say(table);
    });
    Ok(())
}

fn show_order(market: &Market, order: &Order) {
    say(format_args!("order     {}", order.order_id));
    match &order.cause {
        Some(cause) => say(format_args!("state     {} ({cause})", order.state)),
        None => say(format_args!("state     {}", order.state)),
    }
    say(format_args!("provider  {}", order.provider_id));
    say(format_args!(
        "job       {} units of {}, input {}",
        order.work_units, order.work_class, order.input_hash
    ));
    say(format_args!("price     {} per unit", show(market, order.asset_id, &order.price_per_unit)));
    say(format_args!("held      {}", show(market, order.asset_id, &order.held)));
    say(format_args!(
        "metered   {}",
        order.metered_units.map_or("nothing yet".to_owned(), |units| format!("{units} units"))
    ));
    if let Some(hash) = order.output_hash {
        say(format_args!("output    {hash}"));
    }
    if let (Some(paid), Some(refunded)) = (&order.paid, &order.refunded) {
        say(format_args!("paid      {}", show(market, order.asset_id, paid)));
        say(format_args!("refunded  {}", show(market, order.asset_id, refunded)));
    }
    say(format_args!("ordered   {}", moment(order.ordered_at_us)));
    if let Some(closed) = order.closed_at_us {
        say(format_args!("closed    {}", moment(closed)));
    }
}

async fn find(market: &Market, order: OrderId) -> Outcome<Order> {
    market.order(order).await?.ok_or_else(|| unknown("UM403", "order", order))
}

fn unknown(code: &str, what: &str, id: impl std::fmt::Display) -> Failure {
    Failure::new(code, format!("there is no {what} {id}, or it is not yours"))
}

fn no_output(order: &Order) -> Failure {
    Failure::new("UM409", format!("order {} is {} and has no output to judge", order.order_id, order.state))
}

fn said(receipt: &Receipt, what: &str) {
    let again = if receipt.replayed { ", as answered before" } else { "" };
    say(format_args!("{what} (receipt {}{again})", receipt.seq));
}

fn asset_of(market: &Market, asset_id: u32) -> Outcome<&AssetInfo> {
    market
        .info
        .asset(asset_id)
        .ok_or_else(|| Failure::new("UB123", format!("this house has no asset {asset_id}")))
}

fn show(market: &Market, asset_id: u32, minor: &str) -> String {
    match market.info.asset(asset_id) {
        Some(asset) => amount::show_minor(minor, asset),
        None => format!("{minor} of asset {asset_id} (minor units)"),
    }
}

fn to_json(value: &impl serde::Serialize) -> Outcome<Value> {
    serde_json::to_value(value).map_err(Failure::outside)
}

fn tokens(text: &str) -> Result<(u32, u32), String> {
    let (read, written) = text.split_once(',').ok_or("write two numbers with a comma, such as 2000,30")?;
    let number =
        |text: &str| text.trim().parse::<u32>().map_err(|_| format!("{text:?} is no number of tokens"));
    Ok((number(read)?, number(written)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_two_numbers() {
        assert_eq!(tokens("2000,30"), Ok((2000, 30)));
        for bad in ["2000", "a,b", "-1,2", "1,2,3"] {
            assert!(tokens(bad).is_err(), "{bad}");
        }
    }
}
