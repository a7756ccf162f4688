//! The payout scheduler: open payables become reserved payouts, reserved payouts are sent and confirmed.
//!
//! Two commands per payout, both of the service's key, so a crash between them leaves a reserved payout that the next
//! round confirms. A payable is paid at most once whatever happens here: the database sees to that.

use std::collections::HashSet;
use std::time::Duration;

use ledger::house::Hand;
use ledger::payouts::{self, Due};
use ledger::pipeline::{Answer, Pipeline};
use ledger::{Error, Reader};
use proto::ids::{AgentId, PayoutId};
use proto::money::Amount;
use proto::v1::command_body::Kind;
use proto::v1::{CommandBody, ConfirmPayout, ReservePayout};
use uuid::Uuid;

/// Rows of each kind in one look.
const PAGE: u32 = 500;
/// The only rail so far: money that leaves the books inside this house. It confirms at once.
const RAIL: &str = "internal";

/// When and what to pay out.
#[derive(Debug, Clone, Copy)]
pub struct PayoutOptions {
    /// Pause between rounds.
    pub every: Duration,
    /// Smaller sums wait, minor units.
    pub min_amount: Amount,
}

impl Default for PayoutOptions {
    /// Every second, everything.
    fn default() -> Self {
        Self { every: Duration::from_secs(1), min_amount: Amount::from_u64(1) }
    }
}

/// What a round did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Round {
    /// Payouts reserved.
    pub reserved: u64,
    /// Payouts confirmed.
    pub confirmed: u64,
    /// Commands that were refused.
    pub refused: u64,
}

/// Runs rounds until `stop` resolves; a running round ends first.
pub async fn run(
    pipeline: Pipeline,
    reader: Reader,
    ledger_id: u32,
    options: PayoutOptions,
    stop: impl Future<Output = ()>,
) {
    let mut ticks = tokio::time::interval(options.every);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut stop = std::pin::pin!(stop);
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            () = &mut stop => return,
        }
        match run_once(&pipeline, &reader, ledger_id, options.min_amount).await {
            Ok(round) if round != Round::default() => tracing::debug!(ledger_id, ?round, "payouts"),
            Ok(_) => {}
            // What was not done is still due in the next round.
            Err(error) => tracing::warn!(ledger_id, %error, "payouts wait"),
        }
    }
}

/// Pays everything that is open now: reserves what is at least `min_amount` and confirms what is reserved, until nothing
/// is left that can be done.
pub async fn run_once(
    pipeline: &Pipeline,
    reader: &Reader,
    ledger_id: u32,
    min_amount: Amount,
) -> Result<Round, Error> {
    let mut round = Round::default();
    // What was refused once would be refused again: it is left for the next round.
    let mut refused: HashSet<Subject> = HashSet::new();
    loop {
        let mut progressed = false;
        for due in payouts::due(reader, ledger_id, PAGE).await? {
            let (subject, answer) = match due {
                Due::Reserve { payee_id, asset_id, amount } => {
                    let subject = Subject::Payee(payee_id, asset_id);
                    if amount < min_amount || refused.contains(&subject) {
                        continue;
                    }
                    (subject, reserve(pipeline, ledger_id, payee_id, asset_id, min_amount).await?)
                }
                Due::Confirm { payout_id } => {
                    let subject = Subject::Payout(payout_id);
                    if refused.contains(&subject) {
                        continue;
                    }
                    (subject, confirm(pipeline, ledger_id, payout_id).await?)
                }
            };
            match (answer.is_ok(), &subject) {
                (true, Subject::Payee(..)) => round.reserved += 1,
                (true, Subject::Payout(_)) => round.confirmed += 1,
                (false, _) => {
                    tracing::warn!(
                        ledger_id,
                        code = answer.code,
                        message = answer.message(),
                        "a payout was refused"
                    );
                    round.refused += 1;
                    refused.insert(subject);
                    continue;
                }
            }
            progressed = true;
        }
        if !progressed {
            return Ok(round);
        }
    }
}

#[derive(Debug, PartialEq, Eq, Hash)]
enum Subject {
    Payee(AgentId, u32),
    Payout(PayoutId),
}

async fn reserve(
    pipeline: &Pipeline,
    ledger_id: u32,
    payee_id: AgentId,
    asset_id: u32,
    min_amount: Amount,
) -> Result<Answer, Error> {
    let reserve = ReservePayout {
        payee_id: payee_id.into(),
        asset_id,
        rail: RAIL.to_owned(),
        min_amount: min_amount.to_string(),
    };
    // A fresh key: the same payee is paid again and again. Sent twice it would find nothing open the second time.
    let key = format!("reserve:{}", Uuid::now_v7());
    submit(pipeline, ledger_id, &key, Kind::ReservePayout(reserve)).await
}

async fn confirm(pipeline: &Pipeline, ledger_id: u32, payout_id: PayoutId) -> Result<Answer, Error> {
    let confirm = ConfirmPayout {
        payout_id: payout_id.into(),
        // The internal rail's movement is the posting itself, so the payout names it.
        rail_reference: format!("{RAIL}:{payout_id}"),
    };
    submit(pipeline, ledger_id, &format!("confirm:{payout_id}"), Kind::ConfirmPayout(confirm)).await
}

async fn submit(pipeline: &Pipeline, ledger_id: u32, key: &str, kind: Kind) -> Result<Answer, Error> {
    pipeline.submit_service(ledger_id, Hand::Service, key, CommandBody { kind: Some(kind) }).await
}
