//! The server's side: shows each new checkpoint, of every ledger and of the forest, to the witnesses, and keeps what they
//! say. It waits for nobody and holds nobody up; what a witness has against our log is an alarm.

use std::collections::HashMap;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use ledger::receipts::log::{self, FOREST};
use ledger::{Reader, base, receipts};
use proto::merkle::TreeHash;
use proto::note::{Cosignature, KeyUse, VerifierKey, parse_size, verify_cosignatures};
use tokio_util::sync::CancellationToken;

use super::request::Request;
use crate::server::ServerState;

/// How often new checkpoints are looked for.
const INTERVAL: Duration = Duration::from_secs(1);
/// Longest that a witness may take to answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// How far a witness' clock may be from ours, seconds.
const CLOCKS_APART_S_MAX: u64 = 600;
/// Far more than some cosignature lines have.
const ANSWER_BYTES_MAX: usize = 16 * 1024;

/// A witness and where it is, as in `https://witness.example=NAME+HASH+KEY`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// Submission prefix: `/add-checkpoint` comes after it.
    pub url: String,
    /// Its cosignatures verify with this.
    pub key: VerifierKey,
}

impl FromStr for Peer {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        // Base64 may end in '=', a URL before its query holds none.
        let (url, key) =
            text.split_once('=').ok_or("write URL=KEY, the key as the witness tells it at URL/")?;
        let key: VerifierKey = key.parse().map_err(|error: proto::note::NoteError| error.to_string())?;
        if key.usage != KeyUse::Cosignature {
            return Err("this is the key of a log, not of a witness".to_owned());
        }
        if !url.starts_with("http://") {
            return Err("the URL begins with http://; put a proxy in between for TLS".to_owned());
        }
        Ok(Self { url: url.trim_end_matches('/').to_owned(), key })
    }
}

/// Why a checkpoint was not cosigned.
#[derive(Debug, thiserror::Error)]
pub(super) enum SubmitError {
    /// It contradicts what the witness has seen: the database was restored to an earlier point, or somebody forks the log.
    #[error("the witness has seen another log: {0}")]
    Contradiction(String),
    /// It is unwell, or does not know us.
    #[error("{0}")]
    Unwell(String),
    /// Our own database.
    #[error(transparent)]
    Ours(#[from] ledger::Error),
}

/// Starts a task for each witness; they end with the server.
pub fn start(state: &Arc<ServerState>, peers: Vec<Peer>) {
    for peer in peers {
        let reader = state.reader().clone();
        state.spawn(move |stopping| keep(reader, peer, stopping));
    }
}

async fn keep(reader: Reader, peer: Peer, stopping: CancellationToken) {
    let client = match reqwest::Client::builder().timeout(PATIENCE).build() {
        Ok(client) => client,
        Err(error) => return tracing::error!(%error, "no witness can be asked"),
    };
    let mut submitter =
        Submitter { reader, peer, client, cosigned: HashMap::new(), troubles: HashMap::new() };
    while stopping.run_until_cancelled(tokio::time::sleep(INTERVAL)).await.is_some() {
        let Some(()) = stopping.run_until_cancelled(submitter.round()).await else { return };
    }
}

/// One witness, and how far it has come with each log.
pub(super) struct Submitter {
    reader: Reader,
    peer: Peer,
    client: reqwest::Client,
    cosigned: HashMap<u32, u64>,
    /// What was last said of a log, so that it is said once.
    troubles: HashMap<u32, String>,
}

impl Submitter {
    async fn round(&mut self) {
        let mut logs = vec![FOREST];
        match base::read_ledgers(&self.reader).await {
            Ok(ledgers) => logs.extend(ledgers.iter().map(|ledger| ledger.ledger_id)),
            Err(error) => return tracing::warn!(%error, "the witnesses wait for the database"),
        }
        for ledger_id in logs {
            let asked = self.submit(ledger_id).await;
            self.tell(ledger_id, asked);
        }
    }

    fn tell(&mut self, ledger_id: u32, asked: Result<(), SubmitError>) {
        let witness = self.peer.key.name.to_string();
        let alarm = matches!(asked, Err(SubmitError::Contradiction(_)));
        metrics::gauge!("econ_witness_contradicts", "witness" => witness.clone(), "ledger" => ledger_id.to_string())
            .set(if alarm { 1.0 } else { 0.0 });
        let Err(error) = asked else {
            self.troubles.remove(&ledger_id);
            return;
        };
        metrics::counter!("econ_witness_failures_total", "witness" => witness.clone()).increment(1);
        let said = error.to_string();
        if self.troubles.get(&ledger_id) == Some(&said) {
            return;
        }
        if alarm {
            tracing::error!(
                witness,
                ledger_id,
                said,
                "a witness contradicts our log: run `econ verify --checkpoint` with its word"
            );
        } else {
            tracing::warn!(witness, ledger_id, said, "a checkpoint was not cosigned; it is tried again");
        }
        self.troubles.insert(ledger_id, said);
    }

    /// Shows the newest checkpoint of a log if this witness has not cosigned it yet.
    async fn submit(&mut self, ledger_id: u32) -> Result<(), SubmitError> {
        let Some(checkpoint) = receipts::read_checkpoint(&self.reader, ledger_id).await? else {
            return Ok(());
        };
        let size = checkpoint.head.size;
        let mut old = self.cosigned.get(&ledger_id).copied().unwrap_or_default();
        if old == size {
            return Ok(());
        }
        // Once from what we remember, once from what a 409 says; then again at the next tick.
        for _ in 0..2 {
            let proof = log::consistency_proof(&self.reader, ledger_id, old.min(size), size).await?;
            let proof = proof.ok_or_else(|| {
                SubmitError::Contradiction(format!(
                    "our log is shorter than the {size} leaves of its checkpoint"
                ))
            })?;
            let request =
                Request { old, proof: proof.into_iter().map(TreeHash).collect(), note: &checkpoint.note };
            let (status, body) = self.post(request.to_body()).await?;
            match status {
                200 => {
                    let cosignature = self.read(&checkpoint.note, &body)?;
                    let witness = self.peer.key.name.as_str();
                    log::store_cosignature(&self.reader, ledger_id, size, witness, &cosignature).await?;
                    self.cosigned.insert(ledger_id, size);
                    return Ok(());
                }
                409 => {
                    let seen = body.strip_suffix('\n').and_then(parse_size);
                    let seen = seen.ok_or_else(|| SubmitError::Unwell("its 409 names no size".to_owned()))?;
                    if seen > size {
                        return Err(self.ahead(ledger_id, size, seen).await?);
                    }
                    if seen == old {
                        let why = format!("it knows another tree of {seen} leaves");
                        return Err(SubmitError::Contradiction(why));
                    }
                    old = seen;
                }
                422 => {
                    let why = format!("ours of {size} leaves does not extend its {old}: {}", body.trim_end());
                    return Err(SubmitError::Contradiction(why));
                }
                _ => return Err(SubmitError::Unwell(format!("HTTP {status}: {}", body.trim_end()))),
            }
        }
        Ok(())
    }

    /// It has seen more than the checkpoint shown. Another server of ours may have shown it a newer one meanwhile; only
    /// more leaves than the log has now are an alarm.
    async fn ahead(&self, ledger_id: u32, size: u64, seen: u64) -> Result<SubmitError, ledger::Error> {
        let now = receipts::read_log(&self.reader, ledger_id).await?.map_or(0, |head| head.size);
        Ok(if seen > now {
            SubmitError::Contradiction(format!("it has seen {seen} leaves, and our log has {now}"))
        } else {
            SubmitError::Unwell(format!("it has seen {seen} leaves already, more than the {size} shown"))
        })
    }

    async fn post(&self, body: String) -> Result<(u16, String), SubmitError> {
        let unwell = |error: reqwest::Error| SubmitError::Unwell(error.without_url().to_string());
        let url = format!("{}/add-checkpoint", self.peer.url);
        let mut answer = self.client.post(url).body(body).send().await.map_err(unwell)?;
        let status = answer.status().as_u16();
        let mut bytes = Vec::new();
        while let Some(chunk) = answer.chunk().await.map_err(unwell)? {
            bytes.extend_from_slice(&chunk);
            if bytes.len() > ANSWER_BYTES_MAX {
                return Err(SubmitError::Unwell("it answers at too great length".to_owned()));
            }
        }
        Ok((status, String::from_utf8_lossy(&bytes).into_owned()))
    }

    /// The cosignature in an answer, if it is one of this witness on this very checkpoint, made about now.
    fn read(&self, note: &str, lines: &str) -> Result<Cosignature, SubmitError> {
        let unwell = |why: String| SubmitError::Unwell(why);
        // The note's own lines may hold older ones of this witness; only the answer counts.
        let (text, _) = proto::note::split(note).map_err(|error| unwell(error.to_string()))?;
        let answered = format!("{text}\n{lines}");
        let found = verify_cosignatures(&answered, &self.peer.key.name, &self.peer.key.key)
            .map_err(|error| unwell(format!("its answer: {error}")))?;
        let found =
            found.into_iter().next().ok_or_else(|| unwell("its answer holds no cosignature".to_owned()))?;
        let now_s = u64::try_from(ledger::clock::system_now_us() / 1_000_000).unwrap_or_default();
        if found.time_s.abs_diff(now_s) > CLOCKS_APART_S_MAX {
            return Err(unwell(format!(
                "its clock says {}, ours {now_s}: more than ten minutes apart",
                found.time_s
            )));
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_witness_is_named_by_its_address_and_its_own_kind_of_key() {
        let key = proto::keys::KeyPair::from_seed(&[6; 32]);
        let key = VerifierKey { name: "w".parse().unwrap(), key: *key.public(), usage: KeyUse::Cosignature };
        let peer: Peer = format!("http://127.0.0.1:9/={key}").parse().unwrap();
        assert_eq!((peer.url.as_str(), &peer.key), ("http://127.0.0.1:9", &key));
        let log = VerifierKey { usage: KeyUse::Note, ..key.clone() };
        for bad in
            [format!("http://x={log}"), format!("https://x={key}"), key.to_string(), "http://x=".into()]
        {
            assert!(bad.parse::<Peer>().is_err(), "{bad}");
        }
    }
}
