//! A short memory of registered keys, so that not every request asks the database.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ledger::{Reader, identity};
use parking_lot::Mutex;
use proto::ids::{AgentId, KeyId};
use proto::keys::PublicKey;

use crate::server::problem::{Problem, internal};

/// A revoked key can read for at most so long after its revocation; what changes state is judged in the database again.
const MEMORY: Duration = Duration::from_secs(1);
const KEYS_MAX: usize = 16_384;

/// A registered key, ready to verify with.
#[derive(Debug, Clone)]
pub(super) struct KnownKey {
    pub(super) agent_id: AgentId,
    pub(super) public_key: PublicKey,
    pub(super) purpose: String,
    pub(super) revoked: bool,
}

#[derive(Debug)]
pub(super) struct KeyCache {
    reader: Reader,
    /// Only keys that exist: a stranger cannot fill it.
    known: Mutex<HashMap<KeyId, (Instant, Arc<KnownKey>)>>,
}

impl KeyCache {
    pub(super) fn new(reader: Reader) -> Self {
        Self { reader, known: Mutex::default() }
    }

    /// The key, if anybody registered it.
    pub(super) async fn find(&self, key_id: KeyId) -> Result<Option<Arc<KnownKey>>, Problem> {
        if let Some((at, key)) = self.known.lock().get(&key_id)
            && at.elapsed() < MEMORY
        {
            return Ok(Some(key.clone()));
        }
        // Stamped before it is read: a revocation in between is then seen no later than after MEMORY.
        let asked = Instant::now();
        let Some(found) = identity::read_key(&self.reader, &key_id).await? else {
            return Ok(None);
        };
        let public_key = PublicKey::from_bytes(&found.public_key)
            .map_err(|error| internal("reading a registered key", &error))?;
        let key = Arc::new(KnownKey {
            agent_id: found.agent_id,
            public_key,
            purpose: found.purpose,
            revoked: found.revoked,
        });
        let mut known = self.known.lock();
        if known.len() >= KEYS_MAX {
            known.retain(|_, (at, _)| at.elapsed() < MEMORY);
            if known.len() >= KEYS_MAX {
                known.clear();
            }
        }
        known.insert(key_id, (asked, key.clone()));
        Ok(Some(key))
    }
}
