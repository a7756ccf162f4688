//! Ed25519 keys, and the ids derived from them.

use std::fmt;
use std::fs;
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use ed25519_dalek::{Signature, Signer as _, SigningKey, VerifyingKey};
use rand::TryRng as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use zeroize::Zeroizing;

use crate::ids::serde_as_text;
pub use crate::ids::{AgentId, KeyId};

/// An Ed25519 public key that is fit for use: canonically encoded, in the prime-order subgroup, not the identity.
/// All conforming verifiers agree about signatures of such a key. Written as 64 lowercase hex digits.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct PublicKey(VerifyingKey);

/// Why bytes are not a usable public key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PublicKeyError {
    /// Not 32 bytes.
    #[error("a public key has 32 bytes, not {0}")]
    Length(usize),
    /// Not 64 lowercase hex digits.
    #[error("a public key is written as 64 lowercase hex digits")]
    NotHex,
    /// The bytes name no point of the curve.
    #[error("the public key is not a point of the curve")]
    NotAPoint,
    /// A second spelling of a point.
    #[error("the public key is not encoded canonically")]
    NotCanonical,
    /// A point of small order: anybody can make signatures for it.
    #[error("the public key is a point of small order")]
    Weak,
    /// A point with a small-order part: verifiers disagree about its signatures.
    #[error("the public key is not in the prime-order subgroup")]
    MixedOrder,
}

/// The signature is not one of this key over these bytes, or is not in canonical form.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the signature does not verify under this key")]
pub struct BadSignature;

impl PublicKey {
    /// Checks the bytes thoroughly. Costs about as much as verifying a signature: keep the result.
    pub fn from_bytes(bytes: &[u8; 32]) -> Result<Self, PublicKeyError> {
        let key = VerifyingKey::from_bytes(bytes).map_err(|_| PublicKeyError::NotAPoint)?;
        let point = key.to_edwards();
        if point.compress().as_bytes() != bytes {
            return Err(PublicKeyError::NotCanonical);
        }
        if key.is_weak() {
            return Err(PublicKeyError::Weak);
        }
        if !point.is_torsion_free() {
            return Err(PublicKeyError::MixedOrder);
        }
        Ok(Self(key))
    }

    /// From a message's `bytes` field.
    pub fn from_slice(bytes: &[u8]) -> Result<Self, PublicKeyError> {
        Self::from_bytes(bytes.try_into().map_err(|_| PublicKeyError::Length(bytes.len()))?)
    }

    /// The 32 bytes of RFC 8032.
    pub fn as_bytes(&self) -> &[u8; 32] {
        self.0.as_bytes()
    }

    /// BLAKE3 of the 32 bytes.
    pub fn id(&self) -> KeyId {
        KeyId::of(self.as_bytes())
    }

    /// Verifies strictly: canonical S and R, no small-order R, without the cofactor.
    pub fn verify(&self, message: &[u8], signature: &[u8]) -> Result<(), BadSignature> {
        let signature = Signature::from_slice(signature).map_err(|_| BadSignature)?;
        self.0.verify_strict(message, &signature).map_err(|_| BadSignature)
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.as_bytes()))
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({self})")
    }
}

impl FromStr for PublicKey {
    type Err = PublicKeyError;
    fn from_str(text: &str) -> Result<Self, PublicKeyError> {
        let mut bytes = [0; 32];
        if text.bytes().any(|b| b.is_ascii_uppercase()) {
            return Err(PublicKeyError::NotHex);
        }
        hex::decode_to_slice(text, &mut bytes).map_err(|_| PublicKeyError::NotHex)?;
        Self::from_bytes(&bytes)
    }
}

impl From<PublicKey> for Vec<u8> {
    fn from(key: PublicKey) -> Vec<u8> {
        key.as_bytes().to_vec()
    }
}

serde_as_text!(PublicKey);

impl AgentId {
    /// The id of the agent whose first key this is: a UUIDv8 of the first 16 bytes of
    /// BLAKE3("econ agent v1" ‖ public key). So an agent knows its id before it registers, and nobody else
    /// can register under it.
    pub fn of_first_key(key: &PublicKey) -> Self {
        let mut hasher = blake3::Hasher::new();
        hasher.update(b"econ agent v1").update(key.as_bytes());
        let mut bytes = [0; 16];
        hasher.finalize_xof().fill(&mut bytes);
        Self::from_uuid(uuid::Uuid::new_v8(bytes))
    }
}

/// An Ed25519 signing key, wiped from memory when dropped. It signs only what this crate frames (see the crate's
/// table of signed bytes), and its `Debug` shows the public half.
pub struct KeyPair {
    secret: SigningKey,
    public: PublicKey,
}

/// Why a key cannot be made, saved or loaded.
#[derive(Debug, thiserror::Error)]
pub enum KeyFileError {
    /// The system gave no randomness.
    #[error("the system gave no randomness: {0}")]
    Randomness(String),
    /// The seed's public key fails the checks of [`PublicKey`] (never the case for an honest seed).
    #[error("the key is unusable: {0}")]
    Unusable(#[from] PublicKeyError),
    /// Others could read the file.
    #[error(
        "{path}: its permissions are {mode:03o}, so others can read it; run `chmod 600` on it, or make a new key if \
         somebody may have"
    )]
    TooOpen {
        /// The key file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// There is a file of that name; keys are never overwritten.
    #[error("{0}: exists already, and a key is never overwritten")]
    Exists(PathBuf),
    /// Not the PEM of an Ed25519 key.
    #[error(
        "{path}: {why}; expected an unencrypted PKCS#8 PEM of an Ed25519 key (`openssl genpkey -algorithm ed25519`)"
    )]
    Malformed {
        /// The key file.
        path: PathBuf,
        /// What is wrong with it.
        why: &'static str,
    },
    /// The file cannot be read or written.
    #[error("{path}: {source}")]
    Io {
        /// The key file.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
}

/// PKCS#8 version 1 of an Ed25519 key (RFC 8410) is this, then the 32 bytes of the seed.
const PKCS8_PREFIX: [u8; 16] = *b"\x30\x2e\x02\x01\x00\x30\x05\x06\x03\x2b\x65\x70\x04\x22\x04\x20";
const PEM_BEGIN: &str = "-----BEGIN PRIVATE KEY-----";
const PEM_END: &str = "-----END PRIVATE KEY-----";
/// Far more than a key file has; a wrong file is not read whole.
const PEM_BYTES_MAX: u16 = 4096;

impl KeyPair {
    /// A new key of the system's randomness.
    pub fn generate() -> Result<Self, KeyFileError> {
        let mut seed = Zeroizing::new([0; 32]);
        rand::rngs::SysRng
            .try_fill_bytes(&mut *seed)
            .map_err(|error| KeyFileError::Randomness(error.to_string()))?;
        Ok(Self::from_seed(&seed))
    }

    /// The key of a 32-byte seed (the private key of RFC 8032). Every seed gives a usable key.
    pub fn from_seed(seed: &[u8; 32]) -> Self {
        let secret = SigningKey::from_bytes(seed);
        // A clamped scalar times the base point is never the identity, lies in the subgroup, and is encoded by us.
        let public = PublicKey(secret.verifying_key());
        Self { secret, public }
    }

    /// The public half.
    pub fn public(&self) -> &PublicKey {
        &self.public
    }

    /// The id of the public half.
    pub fn id(&self) -> KeyId {
        self.public.id()
    }

    /// Signs bytes that a module of this crate has framed. Private to the crate on purpose: framing keeps the four
    /// kinds of signed bytes apart.
    pub(crate) fn sign(&self, framed: &[u8]) -> [u8; 64] {
        self.secret.sign(framed).to_bytes()
    }

    /// Unencrypted PKCS#8 PEM, which OpenSSL and most libraries read.
    pub fn to_pem(&self) -> Zeroizing<String> {
        let mut der = Zeroizing::new([0; 48]);
        der[..16].copy_from_slice(&PKCS8_PREFIX);
        der[16..].copy_from_slice(self.secret.as_bytes());
        let body = Zeroizing::new(BASE64.encode(*der));
        Zeroizing::new(format!("{PEM_BEGIN}\n{}\n{PEM_END}\n", *body))
    }

    /// Reads [`KeyPair::to_pem`] and what OpenSSL writes; the error says what is wrong.
    pub fn from_pem(pem: &str) -> Result<Self, &'static str> {
        let body = pem
            .trim()
            .strip_prefix(PEM_BEGIN)
            .and_then(|rest| rest.strip_suffix(PEM_END))
            .ok_or("it is not one PEM block PRIVATE KEY")?;
        // Sized beforehand, so that no grown-out-of buffer keeps a copy of the secret.
        let mut compact = Zeroizing::new(String::with_capacity(body.len()));
        compact.extend(body.chars().filter(|c| !c.is_ascii_whitespace()));
        let der = Zeroizing::new(BASE64.decode(compact.as_bytes()).map_err(|_| "its base64 is broken")?);
        let seed = der.strip_prefix(&PKCS8_PREFIX).ok_or("it holds no PKCS#8 version 1 Ed25519 key")?;
        let seed: &[u8; 32] = seed.try_into().map_err(|_| "its key has the wrong length")?;
        Ok(Self::from_seed(seed))
    }

    /// Saves the key as PEM, readable by its owner only. The file appears whole, fsynced with its folder, or not at
    /// all; one of that name is never replaced (`Exists`). The folder must be there.
    pub fn save(&self, path: &Path) -> Result<(), KeyFileError> {
        let io = |source| KeyFileError::Io { path: path.to_owned(), source };
        let dir = match path.parent() {
            Some(dir) if !dir.as_os_str().is_empty() => dir,
            _ => Path::new("."),
        };
        let mut file = tempfile::Builder::new()
            .prefix(".key-")
            .permissions(fs::Permissions::from_mode(0o600))
            .tempfile_in(dir)
            .map_err(io)?;
        file.write_all(self.to_pem().as_bytes()).map_err(io)?;
        file.as_file().sync_all().map_err(io)?;
        file.persist_noclobber(path).map_err(|error| match error.error.kind() {
            io::ErrorKind::AlreadyExists => KeyFileError::Exists(path.to_owned()),
            _ => io(error.error),
        })?;
        // Without this a crash may lose the name though the bytes are safe: the agent would come back as a stranger.
        fs::File::open(dir).and_then(|dir| dir.sync_all()).map_err(io)
    }

    /// Loads a key that [`KeyPair::save`] or OpenSSL wrote. Refuses a file that group or others have any right on.
    pub fn load(path: &Path) -> Result<Self, KeyFileError> {
        let io = |source| KeyFileError::Io { path: path.to_owned(), source };
        let malformed = |why| KeyFileError::Malformed { path: path.to_owned(), why };
        let file = fs::File::open(path).map_err(io)?;
        // Asked of the open file, not of the name: the name may point elsewhere a moment later.
        let metadata = file.metadata().map_err(io)?;
        if !metadata.is_file() {
            return Err(malformed("it is not a regular file"));
        }
        let mode = metadata.permissions().mode() & 0o777;
        if mode & 0o077 != 0 {
            return Err(KeyFileError::TooOpen { path: path.to_owned(), mode });
        }
        if metadata.len() > u64::from(PEM_BYTES_MAX) {
            return Err(malformed("it is too long for a key"));
        }
        let mut pem = Zeroizing::new(String::with_capacity(PEM_BYTES_MAX.into()));
        file.take(PEM_BYTES_MAX.into()).read_to_string(&mut pem).map_err(io)?;
        Self::from_pem(&pem).map_err(malformed)
    }
}

impl fmt::Debug for KeyPair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyPair({}, secret withheld)", self.public)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 8032, section 7.1, test 2.
    const SEED: &str = "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb";
    const PUBLIC: &str = "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c";
    const SIGNATURE: &str = "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da\
                             085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00";

    fn rfc_key() -> KeyPair {
        let mut seed = [0; 32];
        hex::decode_to_slice(SEED, &mut seed).unwrap();
        KeyPair::from_seed(&seed)
    }

    #[test]
    fn the_key_of_rfc_8032_signs_as_printed_there() {
        let key = rfc_key();
        assert_eq!(key.public().to_string(), PUBLIC);
        assert_eq!(hex::encode(key.sign(&[0x72])), SIGNATURE);
        assert_eq!(key.public().verify(&[0x72], &hex::decode(SIGNATURE).unwrap()), Ok(()));
        assert_eq!(key.public().verify(&[0x73], &hex::decode(SIGNATURE).unwrap()), Err(BadSignature));
        assert_eq!(key.public().verify(&[0x72], &hex::decode(SIGNATURE).unwrap()[..63]), Err(BadSignature));
    }

    #[test]
    fn ids_of_a_key_are_frozen() {
        let key = rfc_key();
        // Both computed with the PyPI package `blake3`.
        assert_eq!(key.id().to_string(), "1027e035b26b605dc6d4b78d07dc29660fcc3498b598a2e57c4e6b1b673a1e95");
        assert_eq!(AgentId::of_first_key(key.public()).to_string(), "1e5060a9-3b05-8598-b2b6-f652870256a1");
    }

    #[test]
    fn unfit_public_keys_are_refused() {
        let check =
            |hex_key: &str, refusal| assert_eq!(hex_key.parse::<PublicKey>(), Err(refusal), "{hex_key}");
        let identity = "0100000000000000000000000000000000000000000000000000000000000000";
        check(identity, PublicKeyError::Weak);
        // y = 0 has order 4; y = -1 has order 2.
        check("0000000000000000000000000000000000000000000000000000000000000000", PublicKeyError::Weak);
        check("ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f", PublicKeyError::Weak);
        // p + 1 is a second spelling of y = 1.
        check(
            "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
            PublicKeyError::NotCanonical,
        );
        // y = 2 is on no point.
        check("0200000000000000000000000000000000000000000000000000000000000000", PublicKeyError::NotAPoint);
        check(&PUBLIC.to_uppercase(), PublicKeyError::NotHex);
        check(&PUBLIC[2..], PublicKeyError::NotHex);
        assert_eq!(PublicKey::from_slice(&[0; 31]), Err(PublicKeyError::Length(31)));
    }

    #[test]
    fn a_key_with_a_small_order_part_is_refused() {
        let torsion = VerifyingKey::from_bytes(&[0; 32]).unwrap().to_edwards();
        let mixed = rfc_key().public().0.to_edwards() + torsion;
        assert_eq!(PublicKey::from_bytes(mixed.compress().as_bytes()), Err(PublicKeyError::MixedOrder));
    }

    #[test]
    fn a_saved_key_comes_back_and_is_never_overwritten() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("agent.pem");
        let key = KeyPair::generate().unwrap();
        key.save(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(KeyPair::load(&path).unwrap().public(), key.public());
        assert!(matches!(KeyPair::generate().unwrap().save(&path), Err(KeyFileError::Exists(_))));
        assert_eq!(KeyPair::load(&path).unwrap().public(), key.public());
        // No leftovers of either attempt.
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_key_others_can_read_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("agent.pem");
        rfc_key().save(&path).unwrap();
        for mode in [0o640, 0o604, 0o660, 0o610, 0o601] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            let refusal = KeyPair::load(&path).unwrap_err();
            assert!(
                matches!(refusal, KeyFileError::TooOpen { mode: found, .. } if found == mode),
                "{refusal}"
            );
        }
        fs::set_permissions(&path, fs::Permissions::from_mode(0o400)).unwrap();
        assert!(KeyPair::load(&path).is_ok());
    }

    #[test]
    fn the_pem_is_what_openssl_writes() {
        // RFC 8410, section 10.3.
        let pem = "-----BEGIN PRIVATE KEY-----\n\
                   MC4CAQAwBQYDK2VwBCIEINTuctv5E1hK1bbY8fdp+K06/nwoy/HU++CXqI9EdVhC\n\
                   -----END PRIVATE KEY-----\n";
        let key = KeyPair::from_pem(pem).unwrap();
        assert_eq!(
            key.public().to_string(),
            "19bf44096984cdfe8541bac167dc3b96c85086aa30b6b6cb0c5c38ad703166e1"
        );
        assert_eq!(*key.to_pem(), pem);
    }

    #[test]
    fn broken_key_files_say_what_is_wrong() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("agent.pem");
        let pem = rfc_key().to_pem();
        for broken in [
            String::new(),
            pem.replace("PRIVATE", "PUBLIC"),
            pem.replace("MC4C", "MC4*"),
            pem.replace("MC4C", "MC4D"),
            format!("{}{}", *pem, *pem),
            "x".repeat(5000),
        ] {
            fs::write(&path, &broken).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
            let refusal = KeyPair::load(&path).unwrap_err();
            assert!(matches!(refusal, KeyFileError::Malformed { .. }), "{refusal} for {broken}");
        }
        assert!(matches!(KeyPair::load(dir.path()), Err(KeyFileError::Malformed { .. })));
        assert!(matches!(KeyPair::load(&dir.path().join("none")), Err(KeyFileError::Io { .. })));
    }

    #[test]
    fn the_secret_is_not_printed() {
        assert!(!format!("{:?}", rfc_key()).contains(&SEED[..8]));
    }
}
