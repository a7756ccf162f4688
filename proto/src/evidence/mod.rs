//! The judgement of one order from its evidence alone: no network, no database, no clock.
//!
//! A bundle is not believed, it is checked: [`judge`] recomputes every hash, verifies every signature and proof, and does
//! the order's arithmetic again. Its answer separates what is *proven* by signatures from what is only *claimed* by
//! somebody, and names what is *missing*. docs/RECEIPTS.md describes the same checks for other languages.

mod log;
mod metering;
mod money;
mod order;
mod parties;
mod report;
#[cfg(test)]
mod tests;
mod timeline;

use std::collections::HashMap;

use prost::Message as _;
use serde_json::Value;

use crate::command::Rederive;
use crate::ids::{AgentId, KeyId, OrderId};
use crate::keys::PublicKey;
use crate::note::VerifierKey;
use crate::v1::{CommandBody, EvidenceBundle, EvidenceItem, Genesis, KeyPurpose, Receipt};
pub use order::MOVES;
pub use report::{Check, Judgement, Problem, Step};

/// What a bundle's file begins with.
pub const MAGIC: &[u8; 16] = b"econ evidence 1\n";
/// An order's evidence has some tens of kilobytes; what is larger is not read.
pub const BYTES_MAX: usize = 256 * 1024 * 1024;
/// An order has some ten receipts; refusals of a stubborn party may add to them.
pub const ITEMS_MAX: usize = 100_000;

/// Why a file cannot be judged at all.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BundleError {
    /// It begins otherwise.
    #[error("this is no evidence bundle: it does not begin with \"econ evidence 1\"")]
    NoBundle,
    /// The bytes after the first line are not the message.
    #[error("the bundle is damaged or cut short: {0}")]
    Damaged(String),
    /// More than any order has.
    #[error("the bundle is too large: {0}")]
    TooLarge(String),
}

/// The bytes of a bundle's file.
pub fn to_bytes(bundle: &EvidenceBundle) -> Vec<u8> {
    let mut bytes = MAGIC.to_vec();
    bytes.reserve(bundle.encoded_len());
    bundle.encode_raw(&mut bytes);
    bytes
}

/// Reads a bundle's file. Nothing in it is believed yet.
pub fn from_bytes(bytes: &[u8]) -> Result<EvidenceBundle, BundleError> {
    if bytes.len() > BYTES_MAX {
        return Err(BundleError::TooLarge(format!("{} bytes, more than {BYTES_MAX}", bytes.len())));
    }
    let message = bytes.strip_prefix(MAGIC).ok_or(BundleError::NoBundle)?;
    let bundle = EvidenceBundle::decode(message).map_err(|error| BundleError::Damaged(error.to_string()))?;
    // What no reader looks at could say anything to a reader who does.
    if bundle.encode_to_vec() != message {
        return Err(BundleError::Damaged("it has bytes that are no part of it".into()));
    }
    if bundle.items.len() > ITEMS_MAX {
        return Err(BundleError::TooLarge(format!("{} items, more than {ITEMS_MAX}", bundle.items.len())));
    }
    Ok(bundle)
}

/// What whoever judges knows from elsewhere. Without it, a bundle can only be consistent with itself.
#[derive(Default)]
pub struct Trust<'a> {
    /// The market's receipt key, as it was published; `None`: the one that the bundle names.
    pub receipt_key: Option<PublicKey>,
    /// Witnesses that must have cosigned.
    pub witnesses: &'a [VerifierKey],
    /// Reads GraphQL requests again; `None`: what such a request asked for is the house's word.
    pub rederive: Option<&'a Rederive<'a>>,
}

/// Judges a bundle.
pub fn judge(bundle: &EvidenceBundle, trust: &Trust<'_>) -> Judgement {
    let mut judgement = Judgement::new(OrderId::from_slice(&bundle.order_id).ok(), bundle);
    let genesis = Genesis::of(bundle);
    let named_key = genesis.as_ref().and_then(receipt_key_of);
    let Some(receipt_key) = trust.receipt_key.or(named_key) else {
        judgement.note(
            "bundle.trust",
            "the bundle",
            "it has no genesis that names a receipt key, and none was given",
        );
        return judgement;
    };
    if trust.receipt_key.is_some() {
        judgement.count("bundle.trust");
    }
    if named_key.is_some_and(|named| named != receipt_key) {
        judgement.note(
            "bundle.trust",
            "the genesis",
            format!(
                "names receipt key {}, not the one you trust",
                named_key.map_or_else(String::new, key_text)
            ),
        );
    }
    if trust.receipt_key.is_none() {
        judgement.claim(format!(
            "receipt key {} is the market's: compare it with the one it publishes, or give yours with --key",
            key_text(receipt_key)
        ));
    }
    let tree = log::checkpoint(bundle, genesis.as_ref(), &receipt_key, &mut judgement);
    log::forest(bundle, &receipt_key, tree.as_ref().map(|(checkpoint, _)| checkpoint), &mut judgement);
    log::witnesses(bundle, trust.witnesses, &mut judgement);
    let keys = keys_of(bundle);
    let items: Vec<Item<'_>> = bundle
        .items
        .iter()
        .filter_map(|item| log::item(item, bundle, &receipt_key, tree.as_ref(), &mut judgement))
        .collect();
    log::order_of(&items, &mut judgement);
    let mut before = log::Before::default();
    for item in &items {
        log::command(item, bundle, &keys, trust, &mut judgement, &mut before);
    }
    order::links(&items, bundle, &mut judgement);
    order::moves(&items, bundle, &mut judgement);
    let order = order::read(&items, bundle, &mut judgement);
    let units = order.as_ref().map(|order| metering::check(bundle, order, &items, &keys, &mut judgement));
    if let Some(order) = &order {
        parties::terms(order, &items, &keys, &mut judgement);
        parties::steps(order, &items, bundle, genesis.as_ref(), &mut judgement);
        money::check(order, genesis.as_ref(), &items, units.unwrap_or_default(), &mut judgement);
    }
    timeline::tell(&items, order.as_ref(), genesis.as_ref(), &mut judgement);
    order::weigh(&items, order.as_ref(), bundle, &mut judgement);
    judgement
}

/// One command with its receipt, as far as they could be read.
struct Item<'a> {
    source: &'a EvidenceItem,
    receipt: Receipt,
    body: CommandBody,
    facts: Value,
    /// Its receipt verified, and it is in the log: what it states is proven to be what the house stated.
    sealed: bool,
}

impl Item<'_> {
    fn place(&self) -> String {
        format!("seq {} {}", self.receipt.seq, self.receipt.kind)
    }

    fn is_ok(&self) -> bool {
        self.receipt.code == "ok"
    }

    /// A step that had been taken before: nothing moved.
    fn is_repeat(&self) -> bool {
        self.facts.get("exists") == Some(&Value::Bool(true))
    }

    /// How this step moved the order: from, event, to.
    fn moved(&self, order_id: &str) -> Option<(&str, &str, &str)> {
        let transitions = self.facts.get("transitions").filter(|_| self.is_ok())?.as_array()?;
        let step = transitions
            .iter()
            .find(|step| text(step, "machine") == "order" && text(step, "id") == order_id)?;
        Some((text(step, "from"), text(step, "event"), text(step, "to")))
    }
}

impl Genesis {
    /// Only the first item counts: a later genesis would be somebody's invention.
    fn of(bundle: &EvidenceBundle) -> Option<Self> {
        let command = bundle.items.first()?.command.as_ref()?;
        match CommandBody::decode(command.command_body.as_slice()).ok()?.kind? {
            crate::v1::command_body::Kind::Genesis(genesis) => Some(genesis),
            _ => None,
        }
    }

    /// The agents of its keys of a purpose.
    fn agents(&self, purpose: KeyPurpose) -> impl Iterator<Item = AgentId> {
        let keys = self.keys.iter().filter(move |key| key.purpose == i32::from(purpose));
        keys.filter_map(|key| PublicKey::from_slice(&key.public_key).ok())
            .map(|key| AgentId::of_first_key(&key))
    }
}

fn receipt_key_of(genesis: &Genesis) -> Option<PublicKey> {
    let purpose = i32::from(KeyPurpose::Receipt);
    let key = genesis.keys.iter().find(|key| key.purpose == purpose)?;
    PublicKey::from_slice(&key.public_key).ok()
}

/// Public keys by id. An id is the hash of its key, so a bundle cannot pass one key off as another.
fn keys_of(bundle: &EvidenceBundle) -> HashMap<KeyId, PublicKey> {
    let public = |key: &crate::v1::Key| PublicKey::from_slice(&key.public_key).ok();
    bundle.keys.iter().filter_map(public).map(|key| (key.id(), key)).collect()
}

fn key_text(key: PublicKey) -> String {
    hex::encode(key.as_bytes())
}

/// A whole number that facts state as text.
fn number(facts: &Value, name: &str) -> Option<u128> {
    whole(facts.get(name)?.as_str()?)
}

fn whole(text: &str) -> Option<u128> {
    let digits = !text.is_empty() && text.len() <= 28 && text.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| text.parse().ok())?
}

fn text<'a>(facts: &'a Value, name: &str) -> &'a str {
    facts.get(name).and_then(Value::as_str).unwrap_or_default()
}
