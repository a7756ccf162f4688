//! A receipt's envelope, checked by somebody who has it and the receipt key and trusts nobody else.

use prost::Message as _;

use crate::dsse::{self, DsseError};
use crate::ids::{KeyId, ReceiptId};
use crate::keys::PublicKey;
use crate::merkle::{MerkleError, TreeHash, leaf_hash, verify_inclusion};
use crate::v1;

/// Why an envelope is no receipt of this key, or not in the log.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReceiptError {
    /// The bytes are no envelope at all.
    #[error("these bytes are not a DSSE envelope: {0}")]
    NotAnEnvelope(String),
    /// Another type, another signer, or a signature that does not verify.
    #[error(transparent)]
    Dsse(#[from] DsseError),
    /// Receipts are numbered from 1.
    #[error("the receipt has no seq, so it is in no log")]
    NoSeq,
    /// The proof does not lead from this receipt to that root.
    #[error(transparent)]
    NotIncluded(#[from] MerkleError),
}

/// What [`check`] found out about an envelope.
#[derive(Debug, Clone, PartialEq)]
pub struct Checked {
    /// What it says.
    pub receipt: v1::Receipt,
    /// BLAKE3 of the payload.
    pub receipt_id: ReceiptId,
    /// The log's leaf: SHA-256(0x00 ‖ the envelope's exact bytes).
    pub leaf: TreeHash,
}

/// Checks the exact bytes of an envelope: payload type, the signature of `key` and nobody else, and that the payload is a
/// receipt. Whether the log holds it is [`Checked::check_inclusion`]'s question.
pub fn check(envelope: &[u8], key: &PublicKey) -> Result<Checked, ReceiptError> {
    let decoded =
        v1::Envelope::decode(envelope).map_err(|error| ReceiptError::NotAnEnvelope(error.to_string()))?;
    let trusted = |key_id: &KeyId| (*key_id == key.id()).then_some(*key);
    let receipt: v1::Receipt = dsse::verify_message(&decoded, trusted)?.0;
    Ok(Checked { receipt, receipt_id: ReceiptId::of(&decoded.payload), leaf: leaf_hash(envelope) })
}

impl Checked {
    /// Checks that the tree of `size` leaves with this root holds the receipt at the place of its seq.
    pub fn check_inclusion(
        &self,
        size: u64,
        proof: &[TreeHash],
        root: &TreeHash,
    ) -> Result<(), ReceiptError> {
        let index = self.receipt.seq.checked_sub(1).ok_or(ReceiptError::NoSeq)?;
        Ok(verify_inclusion(&self.leaf, index, size, proof, root)?)
    }
}
