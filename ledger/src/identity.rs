//! Mirror of the SQL domain `identity`: keys and whose they are.

use proto::ids::{AgentId, KeyId};

use crate::error::Error;
use crate::reader::{Reader, bytes32, get, id, small};

/// A registered key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RegisteredKey {
    /// Whose it is.
    pub agent_id: AgentId,
    /// Ed25519.
    pub public_key: [u8; 32],
    /// buyer, provider, payee, operator, service, verifier or receipt.
    pub purpose: String,
    /// It was revoked: nothing signed with it is accepted.
    pub revoked: bool,
}

/// The key of a key id; `None`: nobody registered it. Calls `identity.read_key`.
pub async fn read_key(reader: &Reader, key_id: &KeyId) -> Result<Option<RegisteredKey>, Error> {
    let sql = "select agent_id, public_key, purpose, revoked from identity.read_key($1)";
    let row = reader.row(sql, &[&key_id.as_bytes().as_slice()]).await?;
    row.map(|row| {
        Ok(RegisteredKey {
            agent_id: AgentId::from_uuid(get(&row, "agent_id")?),
            public_key: bytes32(&row, "public_key")?,
            purpose: get(&row, "purpose")?,
            revoked: get(&row, "revoked")?,
        })
    })
    .transpose()
}

/// An agent as everybody may see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Agent {
    /// Derived from its first key.
    pub agent_id: AgentId,
    /// The ledger whose command registered it.
    pub ledger_id: u32,
    /// Ledger time, Unix microseconds.
    pub registered_at_us: i64,
    /// The agent that in the end earns.
    pub beneficial_owner_id: AgentId,
    /// From the oldest to the newest.
    pub keys: Vec<AgentKey>,
}

/// One of its keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AgentKey {
    /// BLAKE3 of the public key.
    pub key_id: KeyId,
    /// Ed25519.
    pub public_key: [u8; 32],
    /// buyer, provider, payee, operator, service, verifier or receipt.
    pub purpose: String,
    /// Ledger time, Unix microseconds.
    pub valid_from_us: i64,
    /// Ledger time, Unix microseconds; `None`: valid.
    pub revoked_at_us: Option<i64>,
}

/// An agent with its keys; `None`: nobody has this id. Calls `identity.read_agent`.
pub async fn read_agent(reader: &Reader, agent_id: AgentId) -> Result<Option<Agent>, Error> {
    let sql = "select agent_id, ledger_id, (extract(epoch from registered_at) * 1000000)::bigint as registered_at_us, \
               beneficial_owner_id, key_id, public_key, purpose, \
               (extract(epoch from valid_from) * 1000000)::bigint as valid_from_us, \
               (extract(epoch from revoked_at) * 1000000)::bigint as revoked_at_us from identity.read_agent($1)";
    let rows = reader.rows(sql, &[&agent_id.as_uuid()]).await?;
    let Some(first) = rows.first() else { return Ok(None) };
    let keys = rows.iter().map(|row| {
        Ok(AgentKey {
            key_id: KeyId::from_bytes(bytes32(row, "key_id")?),
            public_key: bytes32(row, "public_key")?,
            purpose: get(row, "purpose")?,
            valid_from_us: get(row, "valid_from_us")?,
            revoked_at_us: get(row, "revoked_at_us")?,
        })
    });
    Ok(Some(Agent {
        agent_id: id(first, "agent_id", AgentId::from_uuid)?,
        ledger_id: small(first, "ledger_id")?,
        registered_at_us: get(first, "registered_at_us")?,
        beneficial_owner_id: id(first, "beneficial_owner_id", AgentId::from_uuid)?,
        keys: keys.collect::<Result<_, Error>>()?,
    }))
}
