//! Artifacts at rest. Each file is sealed under a random key of its own, which lies in a folder of its own: whoever copies
//! the artifacts without their keys, say into a backup that nobody can change any more, has copied nothing that an erasure
//! does not reach.
//!
//! A sealed file is 8 bytes of magic, 16 bytes that name its key, and then chunks of 64 KiB, each with a tag:
//! ChaCha20-Poly1305 (RFC 8439) in the STREAM construction (Hoang, Reyhanitabar, Rogaway, Vizár 2015), in which no chunk can
//! be changed, moved, left out or cut off. The nonce is zero, since a key seals one file only.

use std::io;
use std::path::Path;

use aead_stream::{DecryptorBE32, EncryptorBE32};
use bytes::Bytes;
use chacha20poly1305::ChaCha20Poly1305;
use ledger::artifacts::{SEALED_HEAD_BYTES, sealed_head};
use rand::TryRng as _;
use tokio::fs::File;
use tokio::io::AsyncReadExt as _;
use zeroize::Zeroizing;

const HEAD_BYTES: usize = SEALED_HEAD_BYTES;
/// Plain bytes of each chunk but the last, which has at most as many.
const CHUNK_BYTES: usize = 64 * 1024;
const TAG_BYTES: usize = 16;
const SEALED_CHUNK_BYTES: usize = CHUNK_BYTES + TAG_BYTES;

/// The key of one file.
pub(super) struct SealKey(Zeroizing<[u8; 32]>);

impl std::fmt::Debug for SealKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SealKey")
    }
}

impl SealKey {
    pub(super) fn generate() -> io::Result<Self> {
        let mut key = Zeroizing::new([0; 32]);
        rand::rngs::SysRng.try_fill_bytes(&mut *key).map_err(io::Error::other)?;
        Ok(Self(key))
    }

    /// `None`: it is not there, or not whole.
    pub(super) async fn read(path: &Path) -> io::Result<Option<Self>> {
        let bytes = match tokio::fs::read(path).await {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            read => Zeroizing::new(read?),
        };
        Ok(<[u8; 32]>::try_from(bytes.as_slice()).ok().map(|key| Self(Zeroizing::new(key))))
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        self.0.as_slice()
    }

    /// What the head of its file says, so that a key and a file that do not belong together are not tried.
    fn head(&self) -> [u8; HEAD_BYTES] {
        sealed_head(&self.0)
    }
}

/// Turns plain bytes, as they come, into those of a sealed file.
pub(super) struct Sealer {
    stream: EncryptorBE32<ChaCha20Poly1305>,
    /// Not sealed yet; at most a chunk, as only the end tells which chunk is the last.
    buffer: Vec<u8>,
}

impl Sealer {
    /// The sealer, and what the file begins with.
    pub(super) fn new(key: &SealKey) -> (Self, [u8; HEAD_BYTES]) {
        let stream = EncryptorBE32::new((&*key.0).into(), &Default::default());
        (Self { stream, buffer: Vec::with_capacity(CHUNK_BYTES) }, key.head())
    }

    /// What can be written after these bytes.
    pub(super) fn push(&mut self, mut bytes: &[u8]) -> io::Result<Vec<u8>> {
        let mut sealed = Vec::new();
        while self.buffer.len() + bytes.len() > CHUNK_BYTES {
            let (now, rest) = bytes.split_at(CHUNK_BYTES - self.buffer.len());
            self.buffer.extend_from_slice(now);
            sealed.extend(self.stream.encrypt_next(self.buffer.as_slice()).map_err(unsealable)?);
            self.buffer.clear();
            bytes = rest;
        }
        self.buffer.extend_from_slice(bytes);
        Ok(sealed)
    }

    /// The last that is to be written.
    pub(super) fn finish(self) -> io::Result<Vec<u8>> {
        self.stream.encrypt_last(self.buffer.as_slice()).map_err(unsealable)
    }
}

/// Reads a sealed file's plain bytes, chunk by chunk.
pub(super) struct Opener {
    file: File,
    /// `None`: the last chunk has been read.
    stream: Option<DecryptorBE32<ChaCha20Poly1305>>,
    /// Sealed bytes that are still in the file.
    left: u64,
}

impl Opener {
    /// The file and how many plain bytes it holds. `None`: it is not there, or was sealed under another key.
    pub(super) async fn open(path: &Path, key: &SealKey) -> io::Result<Option<(Self, u64)>> {
        let mut file = match File::open(path).await {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            opened => opened?,
        };
        let mut head = [0; HEAD_BYTES];
        let left = file.metadata().await?.len().saturating_sub(HEAD_BYTES as u64);
        let chunks = left.div_ceil(SEALED_CHUNK_BYTES as u64);
        let plain = left.checked_sub(chunks * TAG_BYTES as u64);
        let (Ok(_), Some(plain), true) = (file.read_exact(&mut head).await, plain, chunks > 0) else {
            return Ok(None);
        };
        if head != key.head() {
            return Ok(None);
        }
        let stream = Some(DecryptorBE32::new((&*key.0).into(), &Default::default()));
        Ok(Some((Self { file, stream, left }, plain)))
    }

    /// The next chunk; `None` after the last. Fails where the file is not what was sealed.
    pub(super) async fn next(&mut self) -> io::Result<Option<Bytes>> {
        let Some(mut stream) = self.stream.take() else { return Ok(None) };
        let last = self.left <= SEALED_CHUNK_BYTES as u64;
        let wanted = if last { usize::try_from(self.left).unwrap_or_default() } else { SEALED_CHUNK_BYTES };
        let mut chunk = vec![0; wanted];
        self.file.read_exact(&mut chunk).await?;
        self.left = self.left.saturating_sub(wanted as u64);
        if last {
            stream.decrypt_last_in_place(b"", &mut chunk).map_err(unsealable)?;
        } else {
            stream.decrypt_next_in_place(b"", &mut chunk).map_err(unsealable)?;
            self.stream = Some(stream);
        }
        Ok(Some(chunk.into()))
    }
}

fn unsealable(_: chacha20poly1305::Error) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "a sealed artifact is not what was sealed")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sealed(key: &SealKey, plain: &[u8], step: usize) -> Vec<u8> {
        let (mut sealer, head) = Sealer::new(key);
        let mut file = head.to_vec();
        for part in plain.chunks(step.max(1)) {
            file.extend(sealer.push(part).unwrap());
        }
        file.extend(sealer.finish().unwrap());
        file
    }

    /// What a file of these bytes opens to; `None`: to nothing, or with a failure on the way.
    async fn opened(key: &SealKey, file: &[u8]) -> Option<Vec<u8>> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        std::fs::write(&path, file).unwrap();
        let (mut opener, size) = Opener::open(&path, key).await.unwrap()?;
        let mut plain = Vec::new();
        while let Some(chunk) = opener.next().await.ok()? {
            plain.extend(chunk);
        }
        assert_eq!(plain.len() as u64, size, "the size was told before");
        Some(plain)
    }

    #[tokio::test]
    async fn what_was_sealed_opens_to_the_same_bytes_whatever_their_number_and_pieces() {
        let key = SealKey::generate().unwrap();
        for size in [0, 1, CHUNK_BYTES - 1, CHUNK_BYTES, CHUNK_BYTES + 1, 3 * CHUNK_BYTES, 200_001] {
            let plain: Vec<u8> = (0..251).cycle().take(size).collect();
            for step in [1_000, CHUNK_BYTES, 1 << 20] {
                let file = sealed(&key, &plain, step);
                assert_eq!(opened(&key, &file).await.as_deref(), Some(plain.as_slice()), "{size} by {step}");
            }
        }
        let file = sealed(&key, b"a secret that repeats: a secret", 100);
        assert!(!file.windows(8).any(|window| window == b"a secret"));
    }

    #[tokio::test]
    async fn without_its_key_or_changed_in_any_place_it_opens_to_nothing() {
        let key = SealKey::generate().unwrap();
        let plain = vec![7; 2 * CHUNK_BYTES + 5];
        let file = sealed(&key, &plain, CHUNK_BYTES);
        assert!(opened(&SealKey::generate().unwrap(), &file).await.is_none());
        let one = HEAD_BYTES + SEALED_CHUNK_BYTES;
        for place in [0, 8, HEAD_BYTES, one - 1, one, file.len() - 1] {
            let mut bent = file.clone();
            bent[place] ^= 1;
            assert!(opened(&key, &bent).await.is_none(), "byte {place}");
        }
        let swapped = [
            &file[..HEAD_BYTES],
            &file[one..one + SEALED_CHUNK_BYTES],
            &file[HEAD_BYTES..one],
            &file[one + SEALED_CHUNK_BYTES..],
        ];
        assert!(opened(&key, &swapped.concat()).await.is_none(), "chunks changed places");
        for length in [0, HEAD_BYTES, one, one + SEALED_CHUNK_BYTES, file.len() - 1] {
            assert!(opened(&key, &file[..length]).await.is_none(), "cut off after {length}");
        }
    }
}
