//! The contracts of the house: what travels between its parties, and how each can check what another signed.
//!
//! * [`v1`]: the messages of `openagents/econ/v1/*.proto`.
//! * [`ids`] and [`keys`]: identifiers, hashes, Ed25519 keys and the ids derived from them.
//! * [`dsse`]: signed envelopes around messages (receipts, metering runs, the server's own commands).
//! * [`httpsig`]: signed HTTP requests (RFC 9421, RFC 9530), on both sides and years later from stored bytes.
//! * [`command`] and [`evidence`]: what a receipt commits to, and the judgement of an order from its evidence alone.
//! * [`merkle`], [`tiles`] and [`note`]: the receipt log's tree, its proofs, its tiles and its signed checkpoints.
//! * [`receipt`]: one receipt, checked by whoever holds its envelope.
//! * [`money`]: amounts in whole minor units.
//!
//! # One key, four kinds of signed bytes
//!
//! An Ed25519 key of this house signs exactly four kinds of bytes, and none can be taken for another:
//!
//! | what | the bytes begin with |
//! |---|---|
//! | DSSE pre-authentication encoding | `DSSEv1 ` (with the space) |
//! | RFC 9421 signature base | `"`, the quote of the first covered component |
//! | signed note (checkpoint, statement about a backup) | the log's origin or the signer's name: no space, no quote in that line, and not `cosignature/v1` ([`note::NoteName`]) |
//! | cosignature (checkpoint with a time) | `cosignature/v1`, a newline, `time ` |
//!
//! Nothing outside this crate can sign bytes of its choice: [`keys::KeyPair`] has no public raw `sign`.
//!
//! No database driver and no async runtime is linked here; nothing here reads a clock except the two
//! constructors that say so (`now_v7`, [`keys::KeyPair::generate`] for randomness).

#[cfg(test)]
mod attacks;
pub mod command;
pub mod dsse;
pub mod evidence;
pub mod httpsig;
pub mod ids;
pub mod keys;
pub mod merkle;
pub mod money;
pub mod note;
pub mod receipt;
pub mod tiles;
#[cfg(test)]
mod vectors;

/// The generated messages of package `openagents.econ.v1`. The .proto files are their documentation.
#[allow(missing_docs, reason = "generated; the contracts' own comments are the documentation")]
#[allow(clippy::all, reason = "generated")]
#[allow(rustdoc::invalid_html_tags, rustdoc::bare_urls, reason = "comments of .proto files are not Markdown")]
pub mod v1 {
    include!(concat!(env!("OUT_DIR"), "/openagents.econ.v1.rs"));
}

/// The encoded `google.protobuf.FileDescriptorSet` of the package, without source info: for breaking-change
/// checks and for clients that decode without generated code.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));

pub use prost;

#[cfg(test)]
mod tests {
    use prost::Message as _;
    use prost_types::FileDescriptorSet;

    #[test]
    fn the_descriptor_set_holds_every_proto_file() {
        let set = FileDescriptorSet::decode(super::FILE_DESCRIPTOR_SET).unwrap();
        let described: Vec<_> = set.file.iter().map(|file| file.name().to_owned()).collect();
        let dir = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("openagents/econ/v1");
        for entry in std::fs::read_dir(dir).unwrap() {
            let name = entry.unwrap().file_name().into_string().unwrap();
            assert!(described.contains(&format!("openagents/econ/v1/{name}")), "{name}");
        }
        assert!(set.file.iter().all(|file| file.package() == "openagents.econ.v1"));
        assert!(set.file.iter().all(|file| file.source_code_info.is_none()));
    }
}
