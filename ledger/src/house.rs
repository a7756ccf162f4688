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
        Self::each(dir, load_or_create)
    }

    /// Loads the four keys of a market that exists already: new ones in place of lost ones would be somebody else's.
    pub fn load(dir: &Path) -> Result<Self, KeyFileError> {
        Self::each(dir, |path| KeyPair::load(path).map(Arc::new))
    }

    fn each(
        dir: &Path,
        key: impl Fn(&Path) -> Result<Arc<KeyPair>, KeyFileError>,
    ) -> Result<Self, KeyFileError> {
        Ok(Self {
            operator: key(&dir.join("operator.pem"))?,
            service: key(&dir.join("service.pem"))?,
            verifier: key(&dir.join("verifier.pem"))?,
            receipt: key(&dir.join("receipt.pem"))?,
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_made_once_and_a_lost_one_is_not_replaced_in_a_market_that_exists() {
        let dir = tempfile::tempdir().unwrap();
        let keys = dir.path().join("keys");
        let made = House::load_or_create(&keys).unwrap();
        assert_eq!(House::load(&keys).unwrap().agent(Hand::Operator), made.agent(Hand::Operator));
        std::fs::remove_file(keys.join("verifier.pem")).unwrap();
        assert!(matches!(House::load(&keys), Err(KeyFileError::Io { .. })));
        assert!(!keys.join("verifier.pem").exists());
    }
}
