//! The house's own keys. They live in files beside the database, never in it.

use std::os::unix::fs::DirBuilderExt as _;
use std::path::Path;
use std::sync::Arc;

use proto::ids::AgentId;
use proto::keys::{KeyFileError, KeyPair};

/// Which of the house's hands signs a command of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Hand {
    /// Money in and out, policies.
    Operator,
    /// Timers, presence, settlement, payouts.
    Service,
    /// Judgement of outputs.
    Verifier,
}

/// One agent per key: operator, service and verifier act; the receipt key signs receipts and checkpoints only.
#[derive(Debug, Clone)]
pub struct House {
    operator: Arc<KeyPair>,
    service: Arc<KeyPair>,
    verifier: Arc<KeyPair>,
    receipt: Arc<KeyPair>,
}

impl House {
    /// Loads the four keys from `dir`, making those that are missing (a file each, 0600, fsynced before use).
    pub fn load_or_create(dir: &Path) -> Result<Self, KeyFileError> {
        let io = |source| KeyFileError::Io { path: dir.to_owned(), source };
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(io)?;
        Ok(Self {
            operator: load_or_create(&dir.join("operator.pem"))?,
            service: load_or_create(&dir.join("service.pem"))?,
            verifier: load_or_create(&dir.join("verifier.pem"))?,
            receipt: load_or_create(&dir.join("receipt.pem"))?,
        })
    }

    /// The key of one hand.
    pub fn key(&self, hand: Hand) -> &Arc<KeyPair> {
        match hand {
            Hand::Operator => &self.operator,
            Hand::Service => &self.service,
            Hand::Verifier => &self.verifier,
        }
    }

    /// The agent that one hand acts as.
    pub fn agent(&self, hand: Hand) -> AgentId {
        AgentId::of_first_key(self.key(hand).public())
    }

    /// Signs receipts and checkpoints.
    pub fn receipt_key(&self) -> &Arc<KeyPair> {
        &self.receipt
    }
}

/// One key file.
fn load_or_create(path: &Path) -> Result<Arc<KeyPair>, KeyFileError> {
    match KeyPair::load(path) {
        Err(KeyFileError::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {}
        found => return found.map(Arc::new),
    }
    let key = KeyPair::generate()?;
    match key.save(path) {
        // Somebody else was first: theirs is the key.
        Err(KeyFileError::Exists(_)) => KeyPair::load(path).map(Arc::new),
        saved => saved.map(|()| Arc::new(key)),
    }
}
