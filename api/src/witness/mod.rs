//! A witness (C2SP tlog-witness): a process of somebody else's that cosigns a log's checkpoints as long as each extends the
//! one before. It holds no data but the newest size and root of each log. Whoever insists on its cosignature cannot be shown
//! another log than everybody else.

mod request;
mod state;
pub mod submit;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use parking_lot::Mutex;
use proto::keys::{KeyFileError, KeyPair, PublicKey};
use proto::merkle::{TreeHash, empty_root, verify_consistency};
use proto::note::{self, Checkpoint, KeyUse, NoteError, NoteName, VerifierKey, cosign, parse_and_verify};
use tokio::net::TcpListener;

use crate::server::listen;
use request::Request;
use state::{Seen, Store};

/// A checkpoint of 64 KiB and 63 hashes fit.
const BODY_BYTES_MAX: usize = 72 * 1024;
/// Its private key, in its folder.
const KEY_FILE: &str = "witness.pem";
/// The media type of a tree size in a 409.
const TREE_SIZE: &str = "text/x.tlog.size";
/// How long running requests get at the end.
const GOODBYE: std::time::Duration = std::time::Duration::from_secs(3);

/// How a witness is run.
#[derive(Debug, Clone)]
pub struct WitnessOptions {
    /// Its key and what it has seen.
    pub dir: PathBuf,
    /// The logs that it watches, with the keys that sign for them.
    pub logs: Vec<VerifierKey>,
    /// What it is called; `None`: after its key.
    pub name: Option<NoteName>,
}

/// Why a witness cannot start.
#[derive(Debug, thiserror::Error)]
pub enum WitnessError {
    /// The key.
    #[error("the witness' key: {0}")]
    Key(#[from] KeyFileError),
    /// A name.
    #[error("the witness' name: {0}")]
    Name(#[from] NoteError),
    /// What it remembers.
    #[error("what the witness has seen, in {dir}: {why}")]
    State {
        /// Where.
        dir: PathBuf,
        /// Why.
        why: String,
    },
}

/// A witness with its key and its memory.
pub struct Witness {
    name: NoteName,
    key: KeyPair,
    logs: HashMap<NoteName, Vec<PublicKey>>,
    /// Held from the comparison to the stored state: two requests at once must not both extend the same tree.
    store: Mutex<Store>,
}

/// What a request comes to.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    Cosigned(String),
    Refused(StatusCode, String),
    /// The size that it has seen is another one.
    Conflict(u64),
}

impl Witness {
    /// Opens the witness of a folder; makes its key at the first start. One process per folder.
    pub fn open(options: &WitnessOptions) -> Result<Arc<Self>, WitnessError> {
        let state = |why: String| WitnessError::State { dir: options.dir.clone(), why };
        let store = Store::open(&options.dir).map_err(state)?;
        let path = options.dir.join(KEY_FILE);
        let key = if path.exists() {
            KeyPair::load(&path)?
        } else {
            let key = KeyPair::generate()?;
            key.save(&path)?;
            key
        };
        let name = match &options.name {
            Some(name) => name.clone(),
            None => format!("econ-witness/{}", &key.id().to_string()[..16]).parse()?,
        };
        let mut logs: HashMap<NoteName, Vec<PublicKey>> = HashMap::new();
        for log in options.logs.iter().filter(|log| log.usage == KeyUse::Note) {
            logs.entry(log.name.clone()).or_default().push(log.key);
        }
        Ok(Arc::new(Self { name, key, logs, store: Mutex::new(store) }))
    }

    /// Its verifier key, as servers take it.
    pub fn verifier_key(&self) -> VerifierKey {
        VerifierKey { name: self.name.clone(), key: *self.key.public(), usage: KeyUse::Cosignature }
    }

    /// Judges one request in the order of the standard; what is cosigned is on stable storage before this returns.
    fn judge(&self, body: &[u8], time_s: u64) -> Verdict {
        let refuse = |status, why: &str| Verdict::Refused(status, why.to_owned());
        let request = match Request::parse(body) {
            Ok(request) => request,
            Err(why) => return refuse(StatusCode::BAD_REQUEST, why),
        };
        let origin = match note::read_unverified(request.note) {
            Ok(checkpoint) => checkpoint.origin,
            Err(error) => return Verdict::Refused(StatusCode::BAD_REQUEST, error.to_string()),
        };
        let Some(keys) = self.logs.get(&origin) else {
            return refuse(StatusCode::NOT_FOUND, "this log is not watched here");
        };
        let verified = keys.iter().find_map(|key| parse_and_verify(request.note, &origin, key).ok());
        let Some(checkpoint) = verified else {
            return refuse(StatusCode::FORBIDDEN, "no signature of a key of this log verifies");
        };
        if request.old > checkpoint.size {
            return refuse(StatusCode::BAD_REQUEST, "the old size is larger than the checkpoint's");
        }
        let mut store = self.store.lock();
        let seen = store.seen(&origin);
        let (size, root) = seen.map_or((0, empty_root()), |seen| (seen.size, seen.root));
        if request.old != size {
            return Verdict::Conflict(size);
        }
        if request.old == checkpoint.size && checkpoint.root != root {
            tracing::error!(%origin, size, "a log shows two trees of the same size");
            return Verdict::Conflict(size);
        }
        if let Err(why) = extends(size, &root, &checkpoint, &request.proof) {
            tracing::error!(%origin, old = size, new = checkpoint.size, why, "a checkpoint does not extend the one before");
            return Verdict::Refused(StatusCode::UNPROCESSABLE_ENTITY, why);
        }
        let text = match note::split(request.note) {
            Ok((text, _)) => text,
            Err(error) => return Verdict::Refused(StatusCode::BAD_REQUEST, error.to_string()),
        };
        if let Err(error) = store.keep(&origin, Seen { size: checkpoint.size, root: checkpoint.root }) {
            tracing::error!(%error, %origin, "nothing was cosigned: the state cannot be written");
            return refuse(StatusCode::INTERNAL_SERVER_ERROR, "the witness cannot keep its state");
        }
        Verdict::Cosigned(cosign(text, &self.name, &self.key, time_s))
    }
}

/// Whether a checkpoint extends the tree that was seen.
fn extends(size: u64, root: &TreeHash, checkpoint: &Checkpoint, proof: &[TreeHash]) -> Result<(), String> {
    if size == 0 {
        if !proof.is_empty() {
            return Err("a proof from the empty tree has no hashes".to_owned());
        }
        return if checkpoint.size > 0 || checkpoint.root == empty_root() {
            Ok(())
        } else {
            Err("the empty tree has another root".to_owned())
        };
    }
    verify_consistency(size, checkpoint.size, proof, root, &checkpoint.root)
        .map_err(|error| error.to_string())
}

/// Serves until `shutdown` resolves.
pub async fn serve(
    witness: Arc<Witness>,
    listener: TcpListener,
    shutdown: impl Future<Output = ()>,
) -> std::io::Result<()> {
    let router = Router::new()
        .route("/", get(about))
        .route("/add-checkpoint", post(add_checkpoint))
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .with_state(witness);
    listen::run(router, listener, shutdown, GOODBYE, || ()).await
}

/// A listener at this address, and where it is.
pub async fn bind(address: SocketAddr) -> std::io::Result<(TcpListener, SocketAddr)> {
    let listener = TcpListener::bind(address).await?;
    let address = listener.local_addr()?;
    Ok((listener, address))
}

async fn about(State(witness): State<Arc<Witness>>) -> String {
    format!("{}\n", witness.verifier_key())
}

async fn add_checkpoint(State(witness): State<Arc<Witness>>, body: Bytes) -> Response {
    let time_s = u64::try_from(ledger::clock::system_now_us() / 1_000_000).unwrap_or_default();
    // It waits for the disk.
    let judged = tokio::task::spawn_blocking(move || witness.judge(&body, time_s)).await;
    match judged {
        Ok(Verdict::Cosigned(line)) => ([(CONTENT_TYPE, "text/plain; charset=utf-8")], line).into_response(),
        Ok(Verdict::Conflict(size)) => {
            (StatusCode::CONFLICT, [(CONTENT_TYPE, TREE_SIZE)], format!("{size}\n")).into_response()
        }
        Ok(Verdict::Refused(status, why)) => (status, format!("{why}\n")).into_response(),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

#[cfg(test)]
mod tests;
