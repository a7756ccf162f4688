//! The operator's books: exchange between assets, accounting periods, value between ledgers.

use async_graphql::{Context, InputObject, Object, Result};
use proto::v1;
use proto::v1::command_body::Kind;

use super::command::carry;
use super::result::CommandResult;
use super::scalars::{AmountText, Id, Micros};

/// Message Exchange.
#[derive(Debug, InputObject)]
pub struct ExchangeInput {
    /// Chosen by the sender: UUIDv7.
    exchange_id: Id,
    /// Wallet or equity, of the asset sold.
    from_account_id: Id,
    /// Wallet or equity, of the asset bought.
    to_account_id: Id,
    /// Minor units.
    sell_amount: AmountText,
    /// Minor units bought for one minor unit sold, as a decimal.
    rate: String,
    /// Where the rate is from.
    rate_source: String,
    /// Minor units; less is refused.
    min_buy_amount: Option<AmountText>,
}

/// Message ClosePeriod.
#[derive(Debug, InputObject)]
pub struct ClosePeriodInput {
    /// The first moment that is no longer in the period.
    ends_at_us: Micros,
}

/// Messages SendAcross and ReceiveAcross.
#[derive(Debug, InputObject)]
pub struct CrossingInput {
    /// The transfer group: UUIDv7, the same in both ledgers.
    group_id: Id,
    /// The other ledger.
    peer_ledger_id: u32,
    /// Wallet or equity of this ledger.
    account_id: Id,
    /// Its asset.
    asset_id: u32,
    /// Minor units.
    amount: AmountText,
}

/// Commands about the books.
#[derive(Debug, Default)]
pub struct BookMutation;

#[Object]
impl BookMutation {
    /// Moves value from one asset to another at a recorded rate. Operator keys only.
    async fn exchange(
        &self,
        ctx: &Context<'_>,
        #[graphql(default = 1)] ledger_id: u32,
        input: ExchangeInput,
    ) -> Result<CommandResult> {
        let exchange = v1::Exchange {
            exchange_id: input.exchange_id.bytes(),
            from_account_id: input.from_account_id.bytes(),
            to_account_id: input.to_account_id.bytes(),
            sell_amount: input.sell_amount.0.to_string(),
            rate: input.rate,
            rate_source: input.rate_source,
            min_buy_amount: input.min_buy_amount.map(|amount| amount.0.to_string()).unwrap_or_default(),
        };
        carry(ctx, ledger_id, Kind::Exchange(exchange))
    }

    /// Closes the accounting period that ends at a moment of the past. Operator keys only.
    async fn close_period(
        &self,
        ctx: &Context<'_>,
        #[graphql(default = 1)] ledger_id: u32,
        input: ClosePeriodInput,
    ) -> Result<CommandResult> {
        let close = v1::ClosePeriod { ends_at_us: input.ends_at_us.0 };
        carry(ctx, ledger_id, Kind::ClosePeriod(close))
    }

    /// Moves value out of this ledger, on its way to another. Operator keys only.
    async fn send_across(
        &self,
        ctx: &Context<'_>,
        #[graphql(default = 1)] ledger_id: u32,
        input: CrossingInput,
    ) -> Result<CommandResult> {
        let send = v1::SendAcross {
            group_id: input.group_id.bytes(),
            peer_ledger_id: input.peer_ledger_id,
            account_id: input.account_id.bytes(),
            asset_id: input.asset_id,
            amount: input.amount.0.to_string(),
        };
        carry(ctx, ledger_id, Kind::SendAcross(send))
    }

    /// Takes in what another ledger sent. Operator keys only.
    async fn receive_across(
        &self,
        ctx: &Context<'_>,
        #[graphql(default = 1)] ledger_id: u32,
        input: CrossingInput,
    ) -> Result<CommandResult> {
        let receive = v1::ReceiveAcross {
            group_id: input.group_id.bytes(),
            peer_ledger_id: input.peer_ledger_id,
            account_id: input.account_id.bytes(),
            asset_id: input.asset_id,
            amount: input.amount.0.to_string(),
        };
        carry(ctx, ledger_id, Kind::ReceiveAcross(receive))
    }
}
