//! Stories of orders told to both judges of evidence, the one in Rust and the one in Python.

use std::time::Duration;

use ledger::Reader;
use ledger::evidence::read_bundle;
use ledger::house::Hand;
use proto::evidence::to_bytes;
use proto::ids::{AgentId, OrderId};
use proto::keys::{KeyPair, PublicKey};
use proto::v1;
use uuid::Uuid;

use super::evidence::{Found, judged, read_in_python};
use super::kinds::{self, OUTPUT};
use super::market::{Market, Order};
use super::party::LEDGER;

/// How long a checkpoint may take.
const PATIENCE: Duration = Duration::from_secs(120);

/// Reported, refused once, accepted twice, settled: 14 receipts.
pub async fn eventful(market: &Market) -> Order {
    let order = market.reported().await;
    assert_eq!(market.send(&market.buyer, kinds::settle(order.order)).await.code, "UM604");
    market.must(&market.buyer, kinds::accept_output(order.order, OUTPUT)).await;
    market.must(&market.buyer, kinds::accept_output(order.order, OUTPUT)).await;
    market.hand_must(Hand::Service, kinds::settle(order.order)).await;
    order
}

pub async fn bundle_for(market: &Market, actor: Option<AgentId>, order: Uuid) -> Option<v1::EvidenceBundle> {
    let reader = Reader::new(market.db.config("econ_api"), 2).unwrap();
    let asked = std::time::Instant::now();
    loop {
        match read_bundle(&reader, actor, LEDGER, OrderId::from_uuid(order)).await {
            // The keeper of the checkpoints has its own pace, on a busy machine a slow one; whoever asks is told to ask again.
            Err(error) if error.code == "UR801" && asked.elapsed() < PATIENCE => {}
            read => return read.unwrap(),
        }
    }
}

pub async fn bundle_of(market: &Market, order: &Order) -> v1::EvidenceBundle {
    bundle_for(market, Some(market.buyer.id()), order.order).await.unwrap()
}

/// One story told, one expectation.
pub struct Case {
    pub name: &'static str,
    pub bytes: Vec<u8>,
    pub key: Option<PublicKey>,
    pub found: Found,
}

pub struct Cases {
    pub key: KeyPair,
    pub cases: Vec<Case>,
}

impl Cases {
    pub fn good(&mut self, name: &'static str, bundle: &v1::EvidenceBundle) {
        for key in [Some(*self.key.public()), None] {
            self.cases.push(Case { name, bytes: to_bytes(bundle), key, found: Found::Holds });
        }
    }

    /// Fails at this check first, and says this.
    pub fn bad(&mut self, name: &'static str, bundle: &v1::EvidenceBundle, check: &str, message: &str) {
        let found = Found::Broken(check.into(), message.into());
        self.cases.push(Case { name, bytes: to_bytes(bundle), key: Some(*self.key.public()), found });
    }

    pub fn no_bundle(&mut self, name: &'static str, bytes: Vec<u8>, message: &str) {
        self.cases.push(Case {
            name,
            bytes,
            key: Some(*self.key.public()),
            found: Found::NoBundle(message.into()),
        });
    }

    /// Both readers, each over every case.
    pub fn check(&self) {
        let dir = tempfile::tempdir().unwrap();
        let mut wrong = Vec::new();
        let mut python = true;
        for (n, case) in self.cases.iter().enumerate() {
            let found = judged(&case.bytes, case.key);
            let as_expected = match (&found, &case.found) {
                (Found::Broken(check, message), Found::Broken(expected, part)) => {
                    check == expected && message.contains(part)
                }
                (Found::NoBundle(message), Found::NoBundle(part)) => message.contains(part),
                (found, expected) => found == expected,
            };
            if !as_expected {
                wrong.push(format!("{}: {found:?}, but {:?} was expected", case.name, case.found));
            }
            let file = dir.path().join(format!("{n}.econ"));
            std::fs::write(&file, &case.bytes).unwrap();
            let Some(other) = python.then(|| read_in_python(&file, case.key)).flatten() else {
                python = false;
                continue;
            };
            // Who breaks a promise also lacks a proof: which of the two it was must be told.
            let is_told = |found: &Found| matches!(found, Found::Broken(_, said) if said.contains("promise"));
            let is_deadline = matches!(&found, Found::Broken(check, _) if check == "bundle.deadline");
            if is_deadline && !is_told(&other) {
                wrong.push(format!("{}: a promise is broken, but {other:?} in Python", case.name));
            }
            // The one in Python ends at its first finding, and groups the checks: which one it names is its own.
            if std::mem::discriminant(&other) != std::mem::discriminant(&found) {
                wrong.push(format!("{}: {found:?} here, but {other:?} in Python", case.name));
            }
        }
        assert!(wrong.is_empty(), "{wrong:#?}");
    }
}

pub fn cases(market: &Market) -> Cases {
    let path = market.dir().join("keys/receipt.pem");
    Cases { key: KeyPair::load(&path).unwrap(), cases: Vec::new() }
}
