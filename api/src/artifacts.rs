//! The artifact store: bytes named by their BLAKE3 hash, in files beside the database, erasable.
//!
//! `<root>/<ledger>/<first two hex digits>/<hex>`. A file is complete or not there: it is written under another name,
//! checked, synced and renamed. Who may do what is the database's business (`ledger::artifacts`).

use std::io;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use futures_util::{Stream, StreamExt as _};
use proto::httpsig::BodyDigest;
use proto::ids::ArtifactHash;
use sha2::{Digest as _, Sha256};
use tokio::io::AsyncWriteExt as _;
use tokio::sync::{Mutex, MutexGuard};
use uuid::Uuid;

/// Largest artifact unless the operator says otherwise, bytes.
pub const BYTES_MAX: u64 = 64 * 1024 * 1024;

/// Why an upload was not stored.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// More bytes than the store takes.
    #[error("an artifact has at most {0} bytes")]
    TooLarge(u64),
    /// The bytes have another hash than the URL says.
    #[error("the bytes hash to {0}, not to the name they were sent under")]
    OtherHash(ArtifactHash),
    /// The sender stopped, or the connection broke.
    #[error("the upload broke off: {0}")]
    BrokenOff(String),
    /// The disk.
    #[error("the artifact store: {0}")]
    Io(#[from] io::Error),
}

/// A directory of artifacts.
#[derive(Debug)]
pub struct Store {
    root: PathBuf,
    bytes_max: u64,
    /// By the hash's first byte: keeping and erasing one artifact exclude each other.
    locks: Vec<Mutex<()>>,
}

/// Bytes that have arrived and match their name, not yet under it.
#[derive(Debug)]
pub struct Received {
    /// How many.
    pub size_bytes: u64,
    /// SHA-256, for Content-Digest; `None`: there were none.
    pub digest: Option<BodyDigest>,
    /// `None`: the store has had them.
    temporary: Option<Temporary>,
}

/// A file that vanishes unless it is renamed.
#[derive(Debug)]
struct Temporary(PathBuf);

impl Drop for Temporary {
    fn drop(&mut self) {
        // After a rename there is nothing under this name; a left-over is removed when the store opens next.
        let _ = std::fs::remove_file(&self.0);
    }
}

impl Store {
    /// Opens a store, making its directory, and removes what interrupted uploads have left.
    pub fn open(root: impl Into<PathBuf>, bytes_max: u64) -> io::Result<Self> {
        let root = root.into();
        let incoming = root.join("incoming");
        std::fs::create_dir_all(&incoming)?;
        for left in std::fs::read_dir(&incoming)? {
            std::fs::remove_file(left?.path())?;
        }
        Ok(Self { root, bytes_max, locks: (0..=u8::MAX).map(|_| Mutex::default()).collect() })
    }

    /// Largest artifact that is taken, bytes.
    pub fn bytes_max(&self) -> u64 {
        self.bytes_max
    }

    fn path(&self, ledger_id: u32, hash: &ArtifactHash) -> PathBuf {
        let hex = hash.to_string();
        self.root.join(ledger_id.to_string()).join(&hex[..2]).join(hex)
    }

    /// Takes an upload: streams it to the side and checks its size and hash.
    pub async fn receive<E: std::fmt::Display>(
        &self,
        ledger_id: u32,
        hash: &ArtifactHash,
        mut body: impl Stream<Item = Result<Bytes, E>> + Unpin,
    ) -> Result<Received, StoreError> {
        // Whoever sends what is here already still has to send it: that is the proof of holding it.
        let known = tokio::fs::try_exists(self.path(ledger_id, hash)).await?;
        let mut target = if known { None } else { Some(self.temporary().await?) };
        let (mut blake3, mut sha256, mut size_bytes) = (blake3::Hasher::new(), Sha256::new(), 0_u64);
        while let Some(chunk) = body.next().await {
            let chunk = chunk.map_err(|error| StoreError::BrokenOff(error.to_string()))?;
            size_bytes = size_bytes.saturating_add(u64::try_from(chunk.len()).unwrap_or(u64::MAX));
            if size_bytes > self.bytes_max {
                return Err(StoreError::TooLarge(self.bytes_max));
            }
            blake3.update(&chunk);
            sha256.update(&chunk);
            if let Some((_, file)) = &mut target {
                file.write_all(&chunk).await?;
            }
        }
        let found = ArtifactHash::from_bytes(*blake3.finalize().as_bytes());
        if found != *hash {
            return Err(StoreError::OtherHash(found));
        }
        let temporary = match target {
            Some((temporary, mut file)) => {
                file.flush().await?;
                // After the rename nobody checks the content again before handing it out.
                file.sync_data().await?;
                Some(temporary)
            }
            None => None,
        };
        let digest = (size_bytes > 0).then(|| BodyDigest::from_sha256(sha256.finalize().into()));
        Ok(Received { size_bytes, digest, temporary })
    }

    async fn temporary(&self) -> io::Result<(Temporary, tokio::fs::File)> {
        let path = self.root.join("incoming").join(Uuid::now_v7().to_string());
        let file = tokio::fs::File::create_new(&path).await?;
        Ok((Temporary(path), file))
    }

    /// Nobody else keeps or erases this artifact while the guard lives.
    pub async fn lock(&self, hash: &ArtifactHash) -> MutexGuard<'_, ()> {
        // One lock per first byte: there are 256, and an index is a byte.
        self.locks[usize::from(hash.as_bytes()[0])].lock().await
    }

    /// Puts received bytes under their name. `false`: they were erased in between and must be sent again.
    pub async fn keep(
        &self,
        ledger_id: u32,
        hash: &ArtifactHash,
        received: &mut Received,
    ) -> io::Result<bool> {
        let path = self.path(ledger_id, hash);
        let Some(temporary) = received.temporary.take() else {
            return tokio::fs::try_exists(&path).await;
        };
        if let Some(directory) = path.parent() {
            tokio::fs::create_dir_all(directory).await?;
        }
        tokio::fs::rename(&temporary.0, &path).await?;
        Ok(true)
    }

    /// The artifact's file and size; `None`: it is not here.
    pub async fn open_artifact(
        &self,
        ledger_id: u32,
        hash: &ArtifactHash,
    ) -> io::Result<Option<(tokio::fs::File, u64)>> {
        let file = match tokio::fs::File::open(self.path(ledger_id, hash)).await {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            opened => opened?,
        };
        let size_bytes = file.metadata().await?.len();
        Ok(Some((file, size_bytes)))
    }

    /// All bytes of an artifact, checked against its name; `None`: it is not here, or no longer whole.
    pub async fn read(&self, ledger_id: u32, hash: &ArtifactHash) -> io::Result<Option<Vec<u8>>> {
        let bytes = match tokio::fs::read(self.path(ledger_id, hash)).await {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            read => read?,
        };
        Ok((ArtifactHash::of(&bytes) == *hash).then_some(bytes))
    }

    /// Removes the bytes of an artifact, if they are here.
    pub async fn erase(&self, ledger_id: u32, hash: &ArtifactHash) -> io::Result<()> {
        match tokio::fs::remove_file(self.path(ledger_id, hash)).await {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            removed => removed,
        }
    }

    /// Where the store is.
    pub fn root(&self) -> &Path {
        &self.root
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Chunk = Result<Bytes, String>;

    fn body(chunks: &[&'static str]) -> impl Stream<Item = Chunk> + Unpin + use<> {
        let chunks: Vec<Chunk> =
            chunks.iter().map(|chunk| Ok(Bytes::from_static(chunk.as_bytes()))).collect();
        futures_util::stream::iter(chunks)
    }

    fn incoming(store: &Store) -> usize {
        std::fs::read_dir(store.root().join("incoming")).unwrap().count()
    }

    #[tokio::test]
    async fn what_is_kept_can_be_read_and_erased() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path().join("artifacts"), 100).unwrap();
        let hash = ArtifactHash::of(b"onetwo");
        let mut received = store.receive(1, &hash, body(&["one", "two"])).await.unwrap();
        assert_eq!((received.size_bytes, received.digest), (6, Some(BodyDigest::of(b"onetwo"))));
        assert!(store.read(1, &hash).await.unwrap().is_none());
        assert!(store.keep(1, &hash, &mut received).await.unwrap());
        assert_eq!(store.read(1, &hash).await.unwrap().unwrap(), b"onetwo");
        assert!(store.read(2, &hash).await.unwrap().is_none(), "another ledger has its own files");
        assert_eq!(store.open_artifact(1, &hash).await.unwrap().unwrap().1, 6);

        // Sent again: hashed, not written; and when it was erased in between the sender is told.
        let mut again = store.receive(1, &hash, body(&["onetwo"])).await.unwrap();
        store.erase(1, &hash).await.unwrap();
        assert!(!store.keep(1, &hash, &mut again).await.unwrap());
        assert!(store.open_artifact(1, &hash).await.unwrap().is_none());
        store.erase(1, &hash).await.unwrap();
    }

    #[tokio::test]
    async fn what_does_not_match_leaves_nothing_behind() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path(), 6).unwrap();
        let hash = ArtifactHash::of(b"other");
        let found = store.receive(1, &hash, body(&["bytes"])).await.unwrap_err();
        assert!(matches!(found, StoreError::OtherHash(found) if found == ArtifactHash::of(b"bytes")));
        let found = store.receive(1, &hash, body(&["many", "bytes"])).await.unwrap_err();
        assert!(matches!(found, StoreError::TooLarge(6)));
        let broken: Vec<Chunk> = vec![Ok(Bytes::from_static(b"oth")), Err("reset".into())];
        let found = store.receive(1, &hash, futures_util::stream::iter(broken)).await.unwrap_err();
        assert!(matches!(found, StoreError::BrokenOff(_)));
        assert_eq!(incoming(&store), 0);
        assert!(store.read(1, &hash).await.unwrap().is_none());
    }

    #[tokio::test]
    async fn a_file_that_was_changed_on_disk_is_not_handed_to_a_judge() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path(), 100).unwrap();
        let hash = ArtifactHash::of(b"true");
        let mut received = store.receive(1, &hash, body(&["true"])).await.unwrap();
        store.keep(1, &hash, &mut received).await.unwrap();
        std::fs::write(store.path(1, &hash), b"false").unwrap();
        assert!(store.read(1, &hash).await.unwrap().is_none());
    }

    #[tokio::test]
    async fn opening_clears_what_an_interrupted_upload_left() {
        let directory = tempfile::tempdir().unwrap();
        drop(Store::open(directory.path(), 100).unwrap());
        std::fs::write(directory.path().join("incoming/half"), b"ha").unwrap();
        assert_eq!(incoming(&Store::open(directory.path(), 100).unwrap()), 0);
    }
}
