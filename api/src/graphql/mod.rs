//! The GraphQL API: one module per noun, each with its queries and mutations.
//!
//! Reads show what the database shows to the signed actor; without a signature only what is public. Every mutation is one
//! command: [`command::command_of`] turns the signed request into it, the pipeline decides it, and the mutation's own
//! selection shows the answer.

pub mod accounts;
pub mod agents;
pub mod books;
pub mod command;
pub mod history;
pub(crate) mod http;
pub mod ledgers;
pub mod metering;
mod nesting;
pub mod offers;
pub mod orders;
pub mod payouts;
pub mod receipts;
pub mod result;
pub mod rfqs;
pub mod scalars;
pub mod settlements;
pub mod subscription;
pub mod transparency;

#[cfg(test)]
mod tests;

use std::sync::{Arc, OnceLock};

use async_graphql::{Context, MergedObject, Result};
use proto::ids::AgentId;

pub use command::{GraphqlCommandError, command_of};

use crate::auth::Signer;
use crate::server::ServerState;
use crate::server::problem::{Problem, internal};
use command::coded;

/// Deepest nesting of a query; what introspection needs and a little more.
pub const DEPTH_MAX: usize = 20;
/// Most fields of a query, those of a page counted once per row asked for.
pub const COMPLEXITY_MAX: usize = 5_000;
/// Rows of a page that asks for no number.
pub const PAGE_DEFAULT: u32 = 20;
/// Rows of a page at most.
pub const PAGE_MAX: u32 = 100;

/// Everything that can be read.
#[derive(Debug, Default, MergedObject)]
pub struct Query(
    ledgers::LedgerQuery,
    agents::AgentQuery,
    accounts::AccountQuery,
    history::HistoryQuery,
    rfqs::RfqQuery,
    offers::OfferQuery,
    orders::OrderQuery,
    metering::MeteringQuery,
    settlements::SettlementQuery,
    payouts::PayoutQuery,
    receipts::ReceiptQuery,
    transparency::TransparencyQuery,
);

/// Every command that a client may send. A request holds exactly one.
#[derive(Debug, Default, MergedObject)]
pub struct Mutation(
    agents::AgentMutation,
    accounts::AccountMutation,
    books::BookMutation,
    rfqs::RfqMutation,
    offers::OfferMutation,
    orders::OrderMutation,
    settlements::SettlementMutation,
    payouts::PayoutMutation,
);

/// The schema's type.
pub type Schema = async_graphql::Schema<Query, Mutation, subscription::Subscription>;

/// The schema. It holds no state: whatever a resolver needs comes with the request, so that [`command_of`] can run it
/// anywhere.
pub fn schema() -> &'static Schema {
    static SCHEMA: OnceLock<Schema> = OnceLock::new();
    SCHEMA.get_or_init(|| {
        Schema::build(Query::default(), Mutation::default(), subscription::Subscription)
            .limit_depth(DEPTH_MAX)
            .limit_complexity(COMPLEXITY_MAX)
            .limit_directives(8)
            .finish()
    })
}

/// Who sent the request, in the context of its resolvers.
#[derive(Debug, Clone, Default)]
pub(crate) struct Sender(pub(crate) Option<Arc<Signer>>);

fn state<'c>(ctx: &Context<'c>) -> Result<&'c Arc<ServerState>> {
    ctx.data_opt::<Arc<ServerState>>()
        .ok_or_else(|| coded(&internal("a read", &"the request came without the server's state")))
}

/// The signed actor, or nobody: SQL then shows what is public.
fn actor_or_none(ctx: &Context<'_>) -> Option<AgentId> {
    signer(ctx).map(|signer| signer.agent_id)
}

fn signer<'c>(ctx: &Context<'c>) -> Option<&'c Arc<Signer>> {
    ctx.data_opt::<Sender>().and_then(|sender| sender.0.as_ref())
}

/// The signed actor. UI201: the request is unsigned, and this field shows private rows.
fn actor(ctx: &Context<'_>) -> Result<AgentId> {
    let detail = "this field shows private data: sign the request with a registered key";
    actor_or_none(ctx).ok_or_else(|| coded(&Problem::new("UI201", detail)))
}

fn failed(error: ledger::Error) -> async_graphql::Error {
    coded(&Problem::from(error))
}

/// The number of rows of a page. UB103: none, or more than [`PAGE_MAX`].
fn page_size(first: Option<u32>) -> Result<u32> {
    match first.unwrap_or(PAGE_DEFAULT) {
        rows @ 1..=PAGE_MAX => Ok(rows),
        _ => Err(coded(&Problem::new("UB103", format!("a page has 1 to {PAGE_MAX} rows")))),
    }
}

/// A page as a Relay connection. `rows` has one more than `first` when there is a next page.
fn connection<T: async_graphql::OutputType>(
    mut rows: Vec<T>,
    first: u32,
    had_cursor: bool,
    cursor: impl Fn(&T) -> String,
) -> async_graphql::connection::Connection<String, T> {
    let first = usize::try_from(first).unwrap_or(usize::MAX);
    let has_next = rows.len() > first;
    rows.truncate(first);
    let mut page = async_graphql::connection::Connection::new(had_cursor, has_next);
    page.edges.extend(rows.into_iter().map(|row| async_graphql::connection::Edge::new(cursor(&row), row)));
    page
}

/// Reads a page's cursor: the text of an id. UB103.
fn cursor_id<T: std::str::FromStr<Err = proto::ids::IdError>>(after: Option<String>) -> Result<Option<T>> {
    let parsed = after.map(|after| after.parse()).transpose();
    parsed.map_err(|_| coded(&Problem::new("UB103", "after is the endCursor of an earlier page, unchanged")))
}
