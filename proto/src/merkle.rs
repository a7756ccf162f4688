//! The receipt log's tree: RFC 6962 / RFC 9162 over SHA-256, in memory, and its proofs.
//!
//! Leaf indices count from 0, sizes count leaves. Proofs are lists of hashes in the order of RFC 9162, section 2.1.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest as _, Sha256};

use crate::ids::serde_as_text;

/// The SHA-256 hash of a leaf, an inner node or a whole tree. Written as lowercase hex.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TreeHash(pub [u8; 32]);

/// Why a proof, a frontier or a hash is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MerkleError {
    /// The leaf lies beyond the tree.
    #[error("leaf {index} is not in a tree of {size} leaves")]
    IndexBeyondSize {
        /// The leaf asked for.
        index: u64,
        /// Leaves in the tree.
        size: u64,
    },
    /// The newer tree is the smaller one.
    #[error("a tree of {new} leaves cannot extend one of {old}: the log was shortened")]
    Shrunk {
        /// Leaves of the older tree.
        old: u64,
        /// Leaves of the newer tree.
        new: u64,
    },
    /// Every tree extends the empty one: a proof from size 0 would prove nothing.
    #[error("a proof from the empty tree proves nothing")]
    FromEmpty,
    /// The proof has more or fewer hashes than its sizes need.
    #[error("the proof has {found} hashes, but these sizes need another number")]
    ProofLength {
        /// Hashes in the proof.
        found: usize,
    },
    /// The proof leads to another root than the one claimed.
    #[error("the proof does not lead to the {which} root")]
    RootMismatch {
        /// `old`, `new` or `tree`.
        which: &'static str,
    },
    /// The number of peaks does not fit the size.
    #[error("a tree of {size} leaves has {} peaks, not {found}", size.count_ones())]
    Peaks {
        /// Leaves in the tree.
        size: u64,
        /// Peaks given.
        found: usize,
    },
    /// Not 32 bytes, or not 64 lowercase hex digits.
    #[error("a tree hash has 32 bytes, written as 64 lowercase hex digits")]
    NotAHash,
}

impl TreeHash {
    /// From a message's `bytes` field or a database column.
    pub fn from_slice(bytes: &[u8]) -> Result<Self, MerkleError> {
        bytes.try_into().map(Self).map_err(|_| MerkleError::NotAHash)
    }

    /// The 32 bytes.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Display for TreeHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for TreeHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TreeHash({self})")
    }
}

impl FromStr for TreeHash {
    type Err = MerkleError;
    fn from_str(text: &str) -> Result<Self, MerkleError> {
        let mut bytes = [0; 32];
        if text.bytes().any(|b| b.is_ascii_uppercase()) || hex::decode_to_slice(text, &mut bytes).is_err() {
            return Err(MerkleError::NotAHash);
        }
        Ok(Self(bytes))
    }
}

impl From<TreeHash> for Vec<u8> {
    fn from(hash: TreeHash) -> Vec<u8> {
        hash.0.to_vec()
    }
}

serde_as_text!(TreeHash);

/// SHA-256(0x00 ‖ `data`).
pub fn leaf_hash(data: &[u8]) -> TreeHash {
    TreeHash(Sha256::new().chain_update([0]).chain_update(data).finalize().into())
}

/// SHA-256(0x01 ‖ `left` ‖ `right`).
pub fn node_hash(left: &TreeHash, right: &TreeHash) -> TreeHash {
    TreeHash(Sha256::new().chain_update([1]).chain_update(left.0).chain_update(right.0).finalize().into())
}

/// The root of the tree without leaves: SHA-256 of nothing.
pub fn empty_root() -> TreeHash {
    TreeHash(Sha256::digest([]).into())
}

/// Verifies that the leaf with hash `leaf` is number `index` of the tree of `size` leaves with this root
/// (RFC 9162, section 2.1.3.2).
pub fn verify_inclusion(
    leaf: &TreeHash,
    index: u64,
    size: u64,
    proof: &[TreeHash],
    root: &TreeHash,
) -> Result<(), MerkleError> {
    if index >= size {
        return Err(MerkleError::IndexBeyondSize { index, size });
    }
    let length = MerkleError::ProofLength { found: proof.len() };
    let (mut node, mut last) = (index, size - 1);
    let mut hash = *leaf;
    for sibling in proof {
        if last == 0 {
            return Err(length);
        }
        if node & 1 == 1 || node == last {
            hash = node_hash(sibling, &hash);
            // A node without right sibling rises unchanged until it has a left one.
            while node & 1 == 0 && node != 0 {
                (node, last) = (node >> 1, last >> 1);
            }
        } else {
            hash = node_hash(&hash, sibling);
        }
        (node, last) = (node >> 1, last >> 1);
    }
    if last != 0 {
        return Err(length);
    }
    if hash != *root {
        return Err(MerkleError::RootMismatch { which: "tree" });
    }
    Ok(())
}

/// Verifies that the tree of `new_size` leaves begins with the very leaves of the tree of `old_size`
/// (RFC 9162, section 2.1.4.2). Equal sizes need equal roots and an empty proof; from size 0 nothing can be proven.
pub fn verify_consistency(
    old_size: u64,
    new_size: u64,
    proof: &[TreeHash],
    old_root: &TreeHash,
    new_root: &TreeHash,
) -> Result<(), MerkleError> {
    if new_size < old_size {
        return Err(MerkleError::Shrunk { old: old_size, new: new_size });
    }
    if old_size == 0 {
        return Err(MerkleError::FromEmpty);
    }
    let length = MerkleError::ProofLength { found: proof.len() };
    if old_size == new_size {
        if !proof.is_empty() {
            return Err(length);
        }
        if old_root != new_root {
            return Err(MerkleError::RootMismatch { which: "new" });
        }
        return Ok(());
    }
    // A complete old tree is itself the first node of the path; the proof leaves it out.
    let (first, rest) = if old_size.is_power_of_two() {
        (*old_root, proof)
    } else {
        let (first, rest) = proof.split_first().ok_or_else(|| length.clone())?;
        (*first, rest)
    };
    let (mut node, mut last) = (old_size - 1, new_size - 1);
    while node & 1 == 1 {
        (node, last) = (node >> 1, last >> 1);
    }
    let (mut old_hash, mut new_hash) = (first, first);
    for sibling in rest {
        if last == 0 {
            return Err(length);
        }
        if node & 1 == 1 || node == last {
            old_hash = node_hash(sibling, &old_hash);
            new_hash = node_hash(sibling, &new_hash);
            while node & 1 == 0 && node != 0 {
                (node, last) = (node >> 1, last >> 1);
            }
        } else {
            new_hash = node_hash(&new_hash, sibling);
        }
        (node, last) = (node >> 1, last >> 1);
    }
    if last != 0 {
        return Err(length);
    }
    if old_hash != *old_root {
        return Err(MerkleError::RootMismatch { which: "old" });
    }
    if new_hash != *new_root {
        return Err(MerkleError::RootMismatch { which: "new" });
    }
    Ok(())
}

/// All that is needed to append to a tree and know its root: the roots of its complete subtrees, largest first,
/// one for each bit set in `size`. At most 64 hashes.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Frontier {
    size: u64,
    peaks: Vec<TreeHash>,
}

impl Frontier {
    /// The frontier of the empty tree.
    pub fn new() -> Self {
        Self::default()
    }

    /// From stored parts; the number of peaks must fit the size.
    pub fn from_parts(size: u64, peaks: Vec<TreeHash>) -> Result<Self, MerkleError> {
        if peaks.len() != size.count_ones() as usize {
            return Err(MerkleError::Peaks { size, found: peaks.len() });
        }
        Ok(Self { size, peaks })
    }

    /// Leaves in the tree.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Roots of the complete subtrees, largest first.
    pub fn peaks(&self) -> &[TreeHash] {
        &self.peaks
    }

    /// Appends the leaf whose hash this is.
    pub fn append(&mut self, leaf: TreeHash) {
        let mut hash = leaf;
        // As many peaks merge as the size has trailing ones: a carry of binary addition.
        for _ in 0..self.size.trailing_ones() {
            if let Some(left) = self.peaks.pop() {
                hash = node_hash(&left, &hash);
            }
        }
        self.peaks.push(hash);
        self.size += 1;
    }

    /// The root of the tree.
    pub fn root(&self) -> TreeHash {
        self.peaks
            .iter()
            .rev()
            .copied()
            .reduce(|right, left| node_hash(&left, &right))
            .unwrap_or_else(empty_root)
    }
}

/// A whole tree in memory: two hashes for each leaf, proofs in logarithmic time.
#[derive(Clone, Debug, Default)]
pub struct Tree {
    /// `levels[k][i]` is the root of leaves `i·2^k .. (i+1)·2^k`, complete subtrees only.
    levels: Vec<Vec<TreeHash>>,
}

impl Tree {
    /// The tree without leaves.
    pub fn new() -> Self {
        Self::default()
    }

    /// Leaves in the tree.
    pub fn size(&self) -> u64 {
        self.levels.first().map_or(0, |leaves| leaves.len() as u64)
    }

    /// Appends the leaf whose hash this is.
    pub fn append(&mut self, leaf: TreeHash) {
        let mut hash = leaf;
        for level in 0.. {
            if self.levels.len() == level {
                self.levels.push(Vec::new());
            }
            let nodes = &mut self.levels[level];
            nodes.push(hash);
            match nodes.as_slice() {
                [.., left, right] if nodes.len().is_multiple_of(2) => hash = node_hash(left, right),
                _ => return,
            }
        }
    }

    /// The root of the whole tree.
    pub fn root(&self) -> TreeHash {
        self.hash_of(0, self.size())
    }

    /// The root when the tree had `size` leaves; `IndexBeyondSize` if it never had so many.
    pub fn root_at(&self, size: u64) -> Result<TreeHash, MerkleError> {
        self.check_size(size)?;
        Ok(self.hash_of(0, size))
    }

    /// Proves leaf `index` in the tree of the first `size` leaves.
    pub fn inclusion_proof(&self, index: u64, size: u64) -> Result<Vec<TreeHash>, MerkleError> {
        self.check_size(size)?;
        if index >= size {
            return Err(MerkleError::IndexBeyondSize { index, size });
        }
        let mut proof = Vec::new();
        let (mut start, mut end) = (0, size);
        while end - start > 1 {
            let middle = start + left_part(end - start);
            if index < middle {
                proof.push(self.hash_of(middle, end));
                end = middle;
            } else {
                proof.push(self.hash_of(start, middle));
                start = middle;
            }
        }
        proof.reverse();
        Ok(proof)
    }

    /// Proves that the tree of `old` leaves begins the tree of `new` leaves.
    pub fn consistency_proof(&self, old: u64, new: u64) -> Result<Vec<TreeHash>, MerkleError> {
        self.check_size(new)?;
        if new < old {
            return Err(MerkleError::Shrunk { old, new });
        }
        if old == 0 {
            return Err(MerkleError::FromEmpty);
        }
        let mut proof = Vec::new();
        let (mut start, mut end) = (0, new);
        // Walks down to the node that ends where the old tree ended.
        while end != old {
            let middle = start + left_part(end - start);
            if old <= middle {
                proof.push(self.hash_of(middle, end));
                end = middle;
            } else {
                proof.push(self.hash_of(start, middle));
                start = middle;
            }
        }
        // That node is the old tree itself exactly when it begins at 0: then the verifier has it already.
        if start != 0 {
            proof.push(self.hash_of(start, end));
        }
        proof.reverse();
        Ok(proof)
    }

    fn check_size(&self, size: u64) -> Result<(), MerkleError> {
        if size > self.size() {
            return Err(MerkleError::IndexBeyondSize { index: size - 1, size: self.size() });
        }
        Ok(())
    }

    /// The root over leaves `start..end`, where `start` is aligned as RFC 9162 splits always are.
    fn hash_of(&self, start: u64, end: u64) -> TreeHash {
        let width = end - start;
        if width == 0 {
            return empty_root();
        }
        if width.is_power_of_two()
            && let Some(hash) = self.complete(start, width)
        {
            return hash;
        }
        let middle = start + left_part(width);
        node_hash(&self.hash_of(start, middle), &self.hash_of(middle, end))
    }

    fn complete(&self, start: u64, width: u64) -> Option<TreeHash> {
        let index = usize::try_from(start / width).ok()?;
        self.levels.get(width.trailing_zeros() as usize)?.get(index).copied()
    }
}

/// The largest power of two below `width` (for `width` ≥ 2): the size of the left subtree.
fn left_part(width: u64) -> u64 {
    1 << (u64::BITS - 1 - (width - 1).leading_zeros())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The reference leaves of RFC 6962 implementations, and the roots of their trees of size 1 to 8.
    const LEAVES: [&str; 8] =
        ["", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f"];
    const ROOTS: [&str; 9] = [
        "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
        "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
        "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
        "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
        "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
        "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
        "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
        "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
    ];

    fn tree_of(size: u64) -> Tree {
        let mut tree = Tree::new();
        for n in 0..size {
            tree.append(leaf_hash(&n.to_be_bytes()));
        }
        tree
    }

    #[test]
    fn roots_are_those_of_the_reference_leaves() {
        let (mut tree, mut frontier) = (Tree::new(), Frontier::new());
        for (size, root) in ROOTS.iter().enumerate() {
            assert_eq!(tree.root().to_string(), *root, "size {size}");
            assert_eq!(frontier.root().to_string(), *root, "size {size}");
            if let Some(leaf) = LEAVES.get(size) {
                let leaf = leaf_hash(&hex::decode(leaf).unwrap());
                tree.append(leaf);
                frontier.append(leaf);
            }
        }
        assert_eq!(tree.root_at(3).unwrap().to_string(), ROOTS[3]);
        assert!(tree.root_at(9).is_err());
    }

    #[test]
    fn a_frontier_goes_on_from_its_parts() {
        let tree = tree_of(100);
        let mut frontier = Frontier::new();
        for n in 0..100 {
            frontier = Frontier::from_parts(frontier.size(), frontier.peaks().to_vec()).unwrap();
            frontier.append(leaf_hash(&u64::to_be_bytes(n)));
            assert_eq!(frontier.root(), tree.root_at(n + 1).unwrap());
        }
        assert_eq!(
            Frontier::from_parts(101, frontier.peaks().to_vec()),
            Err(MerkleError::Peaks { size: 101, found: 3 })
        );
    }

    #[test]
    fn every_leaf_of_every_small_tree_is_proven_and_nothing_else_is() {
        let tree = tree_of(40);
        for size in 1..=40 {
            let root = tree.root_at(size).unwrap();
            for index in 0..size {
                let leaf = leaf_hash(&index.to_be_bytes());
                let proof = tree.inclusion_proof(index, size).unwrap();
                let verify = |index, size, proof: &[_]| verify_inclusion(&leaf, index, size, proof, &root);
                assert_eq!(verify(index, size, &proof), Ok(()), "{index} in {size}");
                for wrong in (0..size + 2).filter(|wrong| *wrong != index) {
                    assert!(verify(wrong, size, &proof).is_err(), "{index} as {wrong} in {size}");
                }
                let longer = [&proof[..], &[root]].concat();
                assert!(verify(index, size, &longer).is_err());
                for n in 0..proof.len() {
                    assert!(verify(index, size, &proof[..n]).is_err());
                    let mut changed = proof.clone();
                    changed[n].0[31] ^= 1;
                    assert!(verify(index, size, &changed).is_err());
                }
            }
        }
    }

    #[test]
    fn every_pair_of_small_trees_is_consistent_and_only_with_its_own_roots() {
        let tree = tree_of(40);
        let root = |size| tree.root_at(size).unwrap();
        for new in 1..=40 {
            for old in 1..=new {
                let proof = tree.consistency_proof(old, new).unwrap();
                let (old_root, new_root) = (root(old), root(new));
                assert_eq!(
                    verify_consistency(old, new, &proof, &old_root, &new_root),
                    Ok(()),
                    "{old} to {new}"
                );
                let foreign = leaf_hash(b"foreign");
                assert!(verify_consistency(old, new, &proof, &foreign, &new_root).is_err());
                assert!(verify_consistency(old, new, &proof, &old_root, &foreign).is_err());
                let longer = [&proof[..], &[foreign]].concat();
                assert!(verify_consistency(old, new, &longer, &old_root, &new_root).is_err());
                for n in 0..proof.len() {
                    assert!(verify_consistency(old, new, &proof[..n], &old_root, &new_root).is_err());
                    let mut changed = proof.clone();
                    changed[n].0[0] ^= 128;
                    assert!(verify_consistency(old, new, &changed, &old_root, &new_root).is_err());
                }
            }
        }
    }

    #[test]
    fn a_shortened_log_is_named_so() {
        let tree = tree_of(8);
        let (five, eight) = (tree.root_at(5).unwrap(), tree.root());
        assert_eq!(verify_consistency(8, 5, &[], &eight, &five), Err(MerkleError::Shrunk { old: 8, new: 5 }));
        assert_eq!(verify_consistency(0, 5, &[], &empty_root(), &five), Err(MerkleError::FromEmpty));
        assert!(tree.consistency_proof(3, 9).is_err());
        assert!(tree.inclusion_proof(8, 8).is_err());
    }

    #[test]
    fn sizes_near_the_limit_do_not_overflow() {
        let hash = leaf_hash(b"");
        for size in [u64::MAX, 1 << 63, (1 << 63) + 1] {
            assert!(verify_inclusion(&hash, size - 1, size, &[hash; 70], &hash).is_err());
            assert!(verify_consistency(1, size, &[hash; 70], &hash, &hash).is_err());
            assert!(verify_consistency(size - 1, size, &[hash; 3], &hash, &hash).is_err());
        }
    }
}
