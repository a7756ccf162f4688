//! Agents: keys, capability ads.

use async_graphql::{Context, Enum, InputObject, Object, Result, SimpleObject};
use ledger::{identity, market};
use proto::ids::AgentId;
use proto::v1;
use proto::v1::command_body::Kind;

use super::command::carry;
use super::result::CommandResult;
use super::scalars::{AmountText, Count, Hex32, Id, Micros};
use super::{PAGE_MAX, failed, page_size, signer, state};

/// What a key may be used for; one key has one purpose.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum)]
pub enum KeyPurpose {
    /// Orders, spends, judges outputs, settles.
    Buyer,
    /// Advertises, offers, executes, meters.
    Provider,
    /// Receives shares.
    Payee,
    /// The market's operator. Registered by genesis only.
    Operator,
    /// The server's own hand. Registered by genesis only.
    Service,
    /// Judges disputed outputs. Registered by genesis only.
    Verifier,
    /// Signs receipts and checkpoints. Registered by genesis only.
    Receipt,
}

impl From<KeyPurpose> for v1::KeyPurpose {
    fn from(purpose: KeyPurpose) -> Self {
        match purpose {
            KeyPurpose::Buyer => Self::Buyer,
            KeyPurpose::Provider => Self::Provider,
            KeyPurpose::Payee => Self::Payee,
            KeyPurpose::Operator => Self::Operator,
            KeyPurpose::Service => Self::Service,
            KeyPurpose::Verifier => Self::Verifier,
            KeyPurpose::Receipt => Self::Receipt,
        }
    }
}

/// Message Key.
#[derive(Debug, InputObject)]
pub struct KeyInput {
    /// Ed25519, hex.
    public_key: Hex32,
    /// What it is for.
    purpose: KeyPurpose,
}

/// Message RegisterAgent. The request is signed by this very key.
#[derive(Debug, InputObject)]
pub struct RegisterAgentInput {
    /// The agent's first key.
    key: KeyInput,
    /// A salted commitment to what a person calls this agent.
    name_commitment: Option<Hex32>,
    /// The agent that in the end earns; itself unless stated.
    beneficial_owner_id: Option<Id>,
}

/// Message RevokeKey.
#[derive(Debug, InputObject)]
pub struct RevokeKeyInput {
    /// BLAKE3 of the public key.
    key_id: Hex32,
    /// lost, compromised or retired.
    reason: String,
}

/// Message CapabilityAd.
#[derive(Debug, InputObject)]
pub struct CapabilityAdInput {
    /// For example gemm.int8.
    work_class: String,
    /// For example eu-north.
    region: String,
    /// Devices behind this ad.
    device_count: u32,
    /// cpu, or the GPU's product name.
    device_kind: String,
    /// The asset of the price.
    asset_id: u32,
    /// Minor units per work unit.
    price_per_unit: AmountText,
    /// Orders it runs at a time.
    max_concurrency: u32,
    /// Largest job it takes, work units.
    max_work_units: Count,
    /// The agent that in the end earns.
    beneficial_owner_id: Option<Id>,
    /// false withdraws the ad.
    #[graphql(default = true)]
    active: bool,
}

/// Commands about agents.
#[derive(Debug, Default)]
pub struct AgentMutation;

#[Object]
impl AgentMutation {
    /// Registers an agent by its first key; grants no money. Signed by the key it registers.
    async fn register_agent(
        &self,
        ctx: &Context<'_>,
        #[graphql(default = 1)] ledger_id: u32,
        input: RegisterAgentInput,
    ) -> Result<CommandResult> {
        let key = v1::Key {
            public_key: input.key.public_key.bytes(),
            purpose: v1::KeyPurpose::from(input.key.purpose).into(),
        };
        let register = v1::RegisterAgent {
            key: Some(key),
            name_commitment: input.name_commitment.map(Hex32::bytes).unwrap_or_default(),
            beneficial_owner_id: input.beneficial_owner_id.map(Id::bytes).unwrap_or_default(),
        };
        carry(ctx, ledger_id, Kind::RegisterAgent(register))
    }

    /// Ends the validity of one of the sender's keys.
    async fn revoke_key(
        &self,
        ctx: &Context<'_>,
        #[graphql(default = 1)] ledger_id: u32,
        input: RevokeKeyInput,
    ) -> Result<CommandResult> {
        let revoke = v1::RevokeKey { key_id: input.key_id.bytes(), reason: input.reason };
        carry(ctx, ledger_id, Kind::RevokeKey(revoke))
    }

    /// Publishes, changes or withdraws the sender's capability ad for a work class.
    async fn publish_capability(
        &self,
        ctx: &Context<'_>,
        #[graphql(default = 1)] ledger_id: u32,
        input: CapabilityAdInput,
    ) -> Result<CommandResult> {
        let ad = v1::CapabilityAd {
            work_class: input.work_class,
            region: input.region,
            device_count: input.device_count,
            device_kind: input.device_kind,
            asset_id: input.asset_id,
            price_per_unit: input.price_per_unit.0.to_string(),
            max_concurrency: input.max_concurrency,
            max_work_units: input.max_work_units.0,
            beneficial_owner_id: input.beneficial_owner_id.map(Id::bytes).unwrap_or_default(),
            active: input.active,
        };
        carry(ctx, ledger_id, Kind::PublishCapability(v1::PublishCapability { ad: Some(ad) }))
    }
}

/// An agent, as everybody may see it.
#[derive(Debug, SimpleObject)]
pub struct Agent {
    /// Derived from its first key.
    agent_id: Id,
    /// The ledger whose command registered it.
    ledger_id: u32,
    /// Ledger time, Unix microseconds.
    registered_at_us: Micros,
    /// The agent that in the end earns.
    beneficial_owner_id: Id,
    /// From the oldest to the newest.
    keys: Vec<AgentKey>,
}

/// One of its keys.
#[derive(Debug, SimpleObject)]
pub struct AgentKey {
    /// BLAKE3 of the public key.
    key_id: Hex32,
    /// Ed25519.
    public_key: Hex32,
    /// buyer, provider, payee, operator, service, verifier or receipt.
    purpose: String,
    /// Ledger time, Unix microseconds.
    valid_from_us: Micros,
    /// Ledger time, Unix microseconds; null: valid.
    revoked_at_us: Option<Micros>,
}

impl From<identity::Agent> for Agent {
    fn from(agent: identity::Agent) -> Self {
        let keys = agent.keys.into_iter().map(|key| AgentKey {
            key_id: Hex32(*key.key_id.as_bytes()),
            public_key: Hex32(key.public_key),
            purpose: key.purpose,
            valid_from_us: Micros(key.valid_from_us),
            revoked_at_us: key.revoked_at_us.map(Micros),
        });
        Self {
            agent_id: agent.agent_id.into(),
            ledger_id: agent.ledger_id,
            registered_at_us: Micros(agent.registered_at_us),
            beneficial_owner_id: agent.beneficial_owner_id.into(),
            keys: keys.collect(),
        }
    }
}

/// An active capability ad.
#[derive(Debug, SimpleObject)]
pub struct Ad {
    /// Who offers.
    provider_id: Id,
    /// Who earns in the end.
    beneficial_owner_id: Id,
    /// For example gemm.int8.
    work_class: String,
    /// Where.
    region: String,
    /// cpu, or the GPU's product name.
    device_kind: String,
    /// Self-declared.
    device_count: i32,
    /// The asset of the price.
    asset_id: u32,
    /// Minor units per work unit.
    price_per_unit: AmountText,
    /// Orders it runs at a time.
    max_concurrency: i32,
    /// Largest job it takes, work units.
    max_work_units: Count,
    /// Its live connection is up.
    reachable: bool,
    /// Orders that are ordered or running.
    live_orders: i32,
    /// Ledger time, Unix microseconds.
    published_at_us: Micros,
}

impl From<market::Ad> for Ad {
    fn from(ad: market::Ad) -> Self {
        Self {
            provider_id: ad.provider_id.into(),
            beneficial_owner_id: ad.beneficial_owner_id.into(),
            work_class: ad.work_class,
            region: ad.region,
            device_kind: ad.device_kind,
            device_count: ad.device_count,
            asset_id: ad.asset_id,
            price_per_unit: AmountText(ad.price_per_unit),
            max_concurrency: ad.max_concurrency,
            max_work_units: Count(ad.max_work_units),
            reachable: ad.reachable,
            live_orders: ad.live_orders,
            published_at_us: Micros(ad.published_at_us),
        }
    }
}

/// Reads about agents.
#[derive(Debug, Default)]
pub struct AgentQuery;

#[Object]
impl AgentQuery {
    /// An agent with its keys; null: nobody has this id.
    async fn agent(&self, ctx: &Context<'_>, id: Id) -> Result<Option<Agent>> {
        let found = identity::read_agent(&state(ctx)?.reader, AgentId::from_uuid(id.0)).await;
        Ok(found.map_err(failed)?.map(Agent::from))
    }

    /// The agent whose key signed this request; null when it is unsigned.
    async fn me(&self, ctx: &Context<'_>) -> Result<Option<Agent>> {
        let Some(signer) = signer(ctx) else { return Ok(None) };
        let found = identity::read_agent(&state(ctx)?.reader, signer.agent_id).await;
        Ok(found.map_err(failed)?.map(Agent::from))
    }

    /// Active capability ads of a work class (left out: all), cheapest first within class and asset.
    #[graphql(complexity = "first.unwrap_or(PAGE_MAX) as usize * child_complexity + 1")]
    async fn ads(
        &self,
        ctx: &Context<'_>,
        #[graphql(default = 1)] ledger_id: u32,
        work_class: Option<String>,
        first: Option<u32>,
    ) -> Result<Vec<Ad>> {
        let rows = page_size(first.or(Some(PAGE_MAX)))?;
        let found = market::read_ads(&state(ctx)?.reader, ledger_id, work_class.as_deref(), rows).await;
        Ok(found.map_err(failed)?.into_iter().map(Ad::from).collect())
    }
}
