//! The artifact store: bytes named by their BLAKE3 hash, in sealed files beside the database, erasable.
//!
//! `<root>/<ledger>/<first two hex digits>/<hex>.sealed`, and its key under `<keys>/<ledger>/<two digits>/<hex>`. A file is
//! complete or not there: it is written under another name, checked, synced and renamed. One without its key is nothing.
//! Files of earlier releases, without `.sealed`, are plain until the server has sealed them. Who may do what is the
//! database's business (`ledger::artifacts`).

mod seal;

use std::collections::BTreeSet;
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use futures_util::{Stream, StreamExt as _, TryStreamExt as _};
use proto::httpsig::BodyDigest;
use proto::ids::ArtifactHash;
use seal::{Opener, SealKey, Sealer};
use sha2::{Digest as _, Sha256};
use tokio::io::AsyncWriteExt as _;
use tokio::sync::{Mutex, MutexGuard};
use tokio_util::io::ReaderStream;
use uuid::Uuid;

/// Largest artifact unless the operator says otherwise, bytes.
pub const BYTES_MAX: u64 = 64 * 1024 * 1024;
/// The folder of keys, beside that of artifacts.
pub const KEYS: &str = "artifact-keys";
/// How sealed files' names end.
const SEALED: &str = "sealed";
/// Where files lie until they are whole.
const INCOMING: &str = "incoming";

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
    keys: PathBuf,
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
    temporary: Temporary,
}

/// A sealed file and its key, which vanish unless they are renamed.
#[derive(Debug)]
struct Temporary {
    path: PathBuf,
    key_path: PathBuf,
    key: SealKey,
}

impl Drop for Temporary {
    fn drop(&mut self) {
        // After a rename there is nothing under these names; a left-over is removed when the store opens next.
        let _ = std::fs::remove_file(&self.path);
        let _ = std::fs::remove_file(&self.key_path);
    }
}

/// An artifact that is being read.
pub struct Opened {
    /// How many bytes it has.
    pub size_bytes: u64,
    content: Content,
}

enum Content {
    Sealed(Opener),
    Plain(tokio::fs::File),
}

impl Opened {
    /// Its bytes. Breaks off with an error where the file is no longer what was stored.
    pub fn into_stream(self) -> impl Stream<Item = io::Result<Bytes>> + Send {
        let chunks = match self.content {
            Content::Plain(file) => return ReaderStream::with_capacity(file, 64 * 1024).left_stream(),
            Content::Sealed(opener) => opener,
        };
        futures_util::stream::try_unfold(chunks, |mut chunks| async move {
            Ok(chunks.next().await?.map(|chunk| (chunk, chunks)))
        })
        .right_stream()
    }
}

impl Store {
    /// Opens a store, making its folders, and removes what interrupted uploads have left.
    pub fn open(root: impl Into<PathBuf>, keys: impl Into<PathBuf>, bytes_max: u64) -> io::Result<Self> {
        let (root, keys) = (root.into(), keys.into());
        for folder in [&root, &keys] {
            let incoming = folder.join(INCOMING);
            std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&incoming)?;
            for left in std::fs::read_dir(&incoming)? {
                std::fs::remove_file(left?.path())?;
            }
        }
        Ok(Self { root, keys, bytes_max, locks: (0..=u8::MAX).map(|_| Mutex::default()).collect() })
    }

    /// Largest artifact that is taken, bytes.
    pub fn bytes_max(&self) -> u64 {
        self.bytes_max
    }

    /// Where an artifact is, its key, and where earlier releases had it.
    fn paths(&self, ledger_id: u32, hash: &ArtifactHash) -> (PathBuf, PathBuf, PathBuf) {
        let hex = hash.to_string();
        let of = |folder: &Path| folder.join(ledger_id.to_string()).join(&hex[..2]).join(&hex);
        (of(&self.root).with_extension(SEALED), of(&self.keys), of(&self.root))
    }

    /// Whether it is here and whole: a damaged one may be sent again.
    async fn is_here(&self, ledger_id: u32, hash: &ArtifactHash) -> io::Result<bool> {
        let Some(opened) = self.open_artifact(ledger_id, hash).await? else { return Ok(false) };
        let (mut stream, mut hasher) = (std::pin::pin!(opened.into_stream()), blake3::Hasher::new());
        while let Some(chunk) = stream.next().await {
            match chunk {
                Err(error) if error.kind() == io::ErrorKind::InvalidData => return Ok(false),
                chunk => hasher.update(&chunk?),
            };
        }
        Ok(hasher.finalize().as_bytes() == hash.as_bytes())
    }

    /// Takes an upload: streams it to the side and checks its size and hash.
    pub async fn receive<E: std::fmt::Display>(
        &self,
        hash: &ArtifactHash,
        mut body: impl Stream<Item = Result<Bytes, E>> + Unpin,
    ) -> Result<Received, StoreError> {
        // Whoever sends what is here already still has to send it: that is the proof of holding it. It is written as well, so
        // that the time does not tell whether somebody holds the same.
        let (temporary, mut sealer, mut file) = self.temporary().await?;
        let (mut blake3, mut sha256, mut size_bytes) = (blake3::Hasher::new(), Sha256::new(), 0_u64);
        while let Some(chunk) = body.next().await {
            let chunk = chunk.map_err(|error| StoreError::BrokenOff(error.to_string()))?;
            size_bytes = size_bytes.saturating_add(u64::try_from(chunk.len()).unwrap_or(u64::MAX));
            if size_bytes > self.bytes_max {
                return Err(StoreError::TooLarge(self.bytes_max));
            }
            blake3.update(&chunk);
            sha256.update(&chunk);
            file.write_all(&sealer.push(&chunk)?).await?;
        }
        let found = ArtifactHash::from_bytes(*blake3.finalize().as_bytes());
        if found != *hash {
            return Err(StoreError::OtherHash(found));
        }
        let temporary = close(temporary, sealer, file).await?;
        let digest = (size_bytes > 0).then(|| BodyDigest::from_sha256(sha256.finalize().into()));
        Ok(Received { size_bytes, digest, temporary })
    }

    async fn temporary(&self) -> io::Result<(Temporary, Sealer, tokio::fs::File)> {
        let name = Uuid::now_v7().to_string();
        let [path, key_path] = [&self.root, &self.keys].map(|folder| folder.join(INCOMING).join(&name));
        let mut file = tokio::fs::File::create_new(&path).await?;
        let temporary = Temporary { path, key_path, key: SealKey::generate()? };
        let (sealer, head) = Sealer::new(&temporary.key);
        file.write_all(&head).await?;
        Ok((temporary, sealer, file))
    }

    /// Nobody else keeps or erases this artifact while the guard lives.
    pub async fn lock(&self, hash: &ArtifactHash) -> MutexGuard<'_, ()> {
        // One lock per first byte: there are 256, and an index is a byte.
        self.locks[usize::from(hash.as_bytes()[0])].lock().await
    }

    /// Puts received bytes under their name, unless they are there.
    pub async fn keep(&self, ledger_id: u32, hash: &ArtifactHash, received: Received) -> io::Result<()> {
        // A reader between the two renames would see a key and a file that do not fit, so nothing that is whole is replaced.
        if self.is_here(ledger_id, hash).await? {
            return Ok(());
        }
        self.place(ledger_id, hash, &received.temporary).await
    }

    /// Puts a sealed file and its key under an artifact's name.
    async fn place(&self, ledger_id: u32, hash: &ArtifactHash, temporary: &Temporary) -> io::Result<()> {
        let (path, key_path, _) = self.paths(ledger_id, hash);
        let folders = [path.parent(), key_path.parent()].into_iter().flatten();
        for folder in folders.clone().filter(|folder| !folder.exists()) {
            tokio::fs::create_dir_all(folder).await?;
            for made in folder.ancestors().skip(1).take(2) {
                tokio::fs::File::open(made).await?.sync_all().await?;
            }
        }
        tokio::fs::rename(&temporary.key_path, &key_path).await?;
        tokio::fs::rename(&temporary.path, &path).await?;
        // From here on it is stored, also after a loss of power.
        for folder in folders {
            tokio::fs::File::open(folder).await?.sync_all().await?;
        }
        Ok(())
    }

    /// The artifact's bytes; `None`: it is not here.
    pub async fn open_artifact(&self, ledger_id: u32, hash: &ArtifactHash) -> io::Result<Option<Opened>> {
        if let Some((opener, size_bytes)) = self.open_sealed(ledger_id, hash).await? {
            return Ok(Some(Opened { size_bytes, content: Content::Sealed(opener) }));
        }
        let (_, _, plain_path) = self.paths(ledger_id, hash);
        let file = match tokio::fs::File::open(&plain_path).await {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            opened => opened?,
        };
        let size_bytes = file.metadata().await?.len();
        Ok(Some(Opened { size_bytes, content: Content::Plain(file) }))
    }

    async fn open_sealed(&self, ledger_id: u32, hash: &ArtifactHash) -> io::Result<Option<(Opener, u64)>> {
        let (path, key_path, _) = self.paths(ledger_id, hash);
        match SealKey::read(&key_path).await? {
            Some(key) => Opener::open(&path, &key).await,
            None => Ok(None),
        }
    }

    /// All bytes of an artifact, checked against its name; `None`: it is not here, or no longer whole.
    pub async fn read(&self, ledger_id: u32, hash: &ArtifactHash) -> io::Result<Option<Vec<u8>>> {
        let Some(opened) = self.open_artifact(ledger_id, hash).await? else { return Ok(None) };
        let read = opened.into_stream().try_collect::<Vec<Bytes>>().await;
        let bytes = match read {
            Err(error) if error.kind() == io::ErrorKind::InvalidData => return Ok(None),
            read => read?.concat(),
        };
        Ok((ArtifactHash::of(&bytes) == *hash).then_some(bytes))
    }

    /// Removes an artifact, if it is here: its key first, without which the rest is nothing.
    pub async fn erase(&self, ledger_id: u32, hash: &ArtifactHash) -> io::Result<()> {
        let (path, key_path, plain_path) = self.paths(ledger_id, hash);
        for path in [key_path, path, plain_path] {
            match tokio::fs::remove_file(&path).await {
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                removed => removed?,
            }
            if let Some(folder) = path.parent() {
                tokio::fs::File::open(folder).await?.sync_all().await?;
            }
        }
        Ok(())
    }

    /// The numbers that artifacts or keys are stored under, a ledger's or not.
    pub async fn ledger_ids(&self) -> io::Result<BTreeSet<u32>> {
        let mut found = BTreeSet::new();
        for folder in [&self.root, &self.keys] {
            let mut entries = tokio::fs::read_dir(folder).await?;
            while let Some(entry) = entries.next_entry().await? {
                found.extend(entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()));
            }
        }
        Ok(found)
    }

    /// Whether anything of an artifact is here, whole or not.
    pub fn has_any(&self, ledger_id: u32, hash: &ArtifactHash) -> bool {
        Self::on_disk(&self.root, &self.keys, ledger_id, hash).is_some()
    }

    /// How many bytes the files of an artifact take in a store that another process may have open; `None`: there are none.
    pub fn on_disk(root: &Path, keys: &Path, ledger_id: u32, hash: &ArtifactHash) -> Option<u64> {
        let hex = hash.to_string();
        let of = |folder: &Path| folder.join(ledger_id.to_string()).join(&hex[..2]).join(&hex);
        let sizes = [of(root).with_extension(SEALED), of(root), of(keys)]
            .map(|path| std::fs::symlink_metadata(path).ok().map(|found| found.len()));
        sizes.into_iter().flatten().reduce(u64::saturating_add)
    }

    /// The artifacts of a ledger whose hash begins with this byte, as far as anything of them is here.
    pub async fn stored(&self, ledger_id: u32, first: u8) -> io::Result<BTreeSet<ArtifactHash>> {
        let mut found = BTreeSet::new();
        for folder in [&self.root, &self.keys] {
            let folder = folder.join(ledger_id.to_string()).join(format!("{first:02x}"));
            let mut entries = match tokio::fs::read_dir(&folder).await {
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                read => read?,
            };
            while let Some(entry) = entries.next_entry().await? {
                let name = entry.file_name();
                found.extend(
                    Path::new(&name).file_stem().and_then(|stem| stem.to_str()?.parse::<ArtifactHash>().ok()),
                );
            }
        }
        Ok(found)
    }

    /// Seals an artifact that an earlier release stored plainly. `true`: there was one.
    pub async fn seal_plain(&self, ledger_id: u32, hash: &ArtifactHash) -> io::Result<bool> {
        let (_, _, plain_path) = self.paths(ledger_id, hash);
        if !tokio::fs::try_exists(&plain_path).await? {
            return Ok(false);
        }
        if self.open_sealed(ledger_id, hash).await?.is_none() {
            let mut plain = ReaderStream::with_capacity(tokio::fs::File::open(&plain_path).await?, 64 * 1024);
            let (temporary, mut sealer, mut file) = self.temporary().await?;
            while let Some(chunk) = plain.next().await {
                file.write_all(&sealer.push(&chunk?)?).await?;
            }
            let temporary = close(temporary, sealer, file).await?;
            self.place(ledger_id, hash, &temporary).await?;
        }
        tokio::fs::remove_file(&plain_path).await?;
        Ok(true)
    }

    /// Where the store is.
    pub fn root(&self) -> &Path {
        &self.root
    }
}

/// Ends a sealed file and writes its key, both durably: after the renames nobody checks the content again before handing it
/// out, and a file that outlived its key in a power loss would be lost.
async fn close(temporary: Temporary, sealer: Sealer, mut file: tokio::fs::File) -> io::Result<Temporary> {
    file.write_all(&sealer.finish()?).await?;
    file.flush().await?;
    let key = async {
        let mut options = tokio::fs::OpenOptions::new();
        let mut file = options.write(true).create_new(true).mode(0o600).open(&temporary.key_path).await?;
        file.write_all(temporary.key.as_bytes()).await?;
        file.flush().await?;
        file.sync_data().await
    };
    tokio::try_join!(file.sync_data(), key)?;
    Ok(temporary)
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

    fn open(directory: &Path, bytes_max: u64) -> io::Result<Store> {
        Store::open(directory.join("artifacts"), directory.join("artifact-keys"), bytes_max)
    }

    fn incoming(store: &Store) -> usize {
        std::fs::read_dir(store.root().join(INCOMING)).unwrap().count()
    }

    #[tokio::test]
    async fn what_is_kept_can_be_read_and_erased() {
        let directory = tempfile::tempdir().unwrap();
        let store = open(directory.path(), 100).unwrap();
        let hash = ArtifactHash::of(b"onetwo");
        let received = store.receive(&hash, body(&["one", "two"])).await.unwrap();
        assert_eq!((received.size_bytes, received.digest), (6, Some(BodyDigest::of(b"onetwo"))));
        assert!(store.read(1, &hash).await.unwrap().is_none());
        store.keep(1, &hash, received).await.unwrap();
        assert_eq!(store.read(1, &hash).await.unwrap().unwrap(), b"onetwo");
        assert!(store.read(2, &hash).await.unwrap().is_none(), "another ledger has its own files");
        assert_eq!(store.open_artifact(1, &hash).await.unwrap().unwrap().size_bytes, 6);

        // Sent again: what is there stays; what was erased in between comes back.
        let key = std::fs::read(store.paths(1, &hash).1).unwrap();
        let again = store.receive(&hash, body(&["onetwo"])).await.unwrap();
        store.keep(1, &hash, again).await.unwrap();
        assert_eq!(std::fs::read(store.paths(1, &hash).1).unwrap(), key);
        let again = store.receive(&hash, body(&["onetwo"])).await.unwrap();
        store.erase(1, &hash).await.unwrap();
        store.keep(1, &hash, again).await.unwrap();
        assert_ne!(std::fs::read(store.paths(1, &hash).1).unwrap(), key);
        assert_eq!((store.read(1, &hash).await.unwrap().unwrap(), incoming(&store)), (b"onetwo".to_vec(), 0));
        store.erase(1, &hash).await.unwrap();
        assert!(store.open_artifact(1, &hash).await.unwrap().is_none());
        store.erase(1, &hash).await.unwrap();
    }

    #[tokio::test]
    async fn what_does_not_match_leaves_nothing_behind() {
        let directory = tempfile::tempdir().unwrap();
        let store = open(directory.path(), 6).unwrap();
        let hash = ArtifactHash::of(b"other");
        let found = store.receive(&hash, body(&["bytes"])).await.unwrap_err();
        assert!(matches!(found, StoreError::OtherHash(found) if found == ArtifactHash::of(b"bytes")));
        let found = store.receive(&hash, body(&["many", "bytes"])).await.unwrap_err();
        assert!(matches!(found, StoreError::TooLarge(6)));
        let broken: Vec<Chunk> = vec![Ok(Bytes::from_static(b"oth")), Err("reset".into())];
        let found = store.receive(&hash, futures_util::stream::iter(broken)).await.unwrap_err();
        assert!(matches!(found, StoreError::BrokenOff(_)));
        assert_eq!(incoming(&store), 0);
        assert!(store.read(1, &hash).await.unwrap().is_none());
    }

    #[tokio::test]
    async fn a_file_that_was_changed_on_disk_is_not_handed_to_a_judge() {
        let directory = tempfile::tempdir().unwrap();
        let store = open(directory.path(), 100).unwrap();
        let hash = ArtifactHash::of(b"true");
        let received = store.receive(&hash, body(&["true"])).await.unwrap();
        store.keep(1, &hash, received).await.unwrap();
        let (path, key_path, plain_path) = store.paths(1, &hash);
        let mut sealed = std::fs::read(&path).unwrap();
        *sealed.last_mut().unwrap() ^= 1;
        std::fs::write(&path, &sealed).unwrap();
        assert!(store.read(1, &hash).await.unwrap().is_none());
        // Whoever has the right bytes can bring them back.
        let again = store.receive(&hash, body(&["true"])).await.unwrap();
        store.keep(1, &hash, again).await.unwrap();
        assert_eq!(store.read(1, &hash).await.unwrap().unwrap(), b"true");
        std::fs::remove_file(&key_path).unwrap();
        std::fs::write(&plain_path, b"false").unwrap();
        assert!(store.read(1, &hash).await.unwrap().is_none());
    }

    #[tokio::test]
    async fn a_copy_without_its_key_is_nothing_and_neither_is_a_key_without_its_copy() {
        let directory = tempfile::tempdir().unwrap();
        let store = open(directory.path(), 100).unwrap();
        let hash = ArtifactHash::of(b"personal");
        let (path, key_path, plain_path) = store.paths(1, &hash);
        let keep = async || {
            let received = store.receive(&hash, body(&["personal"])).await.unwrap();
            store.keep(1, &hash, received).await.unwrap();
            assert_eq!(store.read(1, &hash).await.unwrap().unwrap(), b"personal");
        };
        keep().await;
        let backup = std::fs::read(&path).unwrap();
        assert!(!backup.windows(8).any(|window| window == b"personal") && !plain_path.exists());
        for gone in [&path, &key_path] {
            std::fs::remove_file(gone).unwrap();
            assert!(store.open_artifact(1, &hash).await.unwrap().is_none(), "{}", gone.display());
            assert_eq!(
                store.stored(1, hash.as_bytes()[0]).await.unwrap().len(),
                1,
                "what is left can be found"
            );
            // Sent again it is whole again, under another key.
            keep().await;
        }
        assert_ne!(std::fs::read(&path).unwrap(), backup);
        store.erase(1, &hash).await.unwrap();
        std::fs::write(&path, &backup).unwrap();
        assert!(store.open_artifact(1, &hash).await.unwrap().is_none(), "the backup opens to nothing");
    }

    #[tokio::test]
    async fn what_an_earlier_release_stored_plainly_is_read_and_sealed_and_erased() {
        let directory = tempfile::tempdir().unwrap();
        let store = open(directory.path(), 100).unwrap();
        let hash = ArtifactHash::of(b"old");
        let (path, _, plain_path) = store.paths(1, &hash);
        std::fs::create_dir_all(plain_path.parent().unwrap()).unwrap();
        std::fs::write(&plain_path, b"old").unwrap();
        assert_eq!(store.read(1, &hash).await.unwrap().unwrap(), b"old");
        assert_eq!(store.stored(1, hash.as_bytes()[0]).await.unwrap(), BTreeSet::from([hash]));
        // Cut off after sealing, before the plain file was gone: it is done again.
        for _ in 0..2 {
            assert!(store.seal_plain(1, &hash).await.unwrap());
            assert!(path.exists() && !plain_path.exists());
            assert_eq!(store.read(1, &hash).await.unwrap().unwrap(), b"old");
            assert!(!store.seal_plain(1, &hash).await.unwrap());
            std::fs::write(&plain_path, b"old").unwrap();
        }
        store.erase(1, &hash).await.unwrap();
        assert!(!path.exists() && !plain_path.exists());
        assert!(store.stored(1, hash.as_bytes()[0]).await.unwrap().is_empty());
    }

    #[tokio::test]
    async fn opening_clears_what_an_interrupted_upload_left() {
        let directory = tempfile::tempdir().unwrap();
        drop(open(directory.path(), 100).unwrap());
        std::fs::write(directory.path().join("artifacts/incoming/half"), b"ha").unwrap();
        assert_eq!(incoming(&open(directory.path(), 100).unwrap()), 0);
    }
}
