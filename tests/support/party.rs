//! Somebody with a key who talks to the pipeline directly, signed as the HTTP door would have it.

use ledger::pipeline::{Answer, Pipeline, Submission};
use proto::httpsig::{self, BodyDigest, RequestToSign, Validity};
use proto::ids::AgentId;
use proto::keys::KeyPair;
use proto::prost::Message as _;
use proto::v1::{self, command_body::Kind};

pub const LEDGER: u32 = 1;
pub const USD: u32 = 1;

/// An agent of a test; its key is derived from its name, so that a test reads the same each time.
pub struct Party {
    pub key: KeyPair,
    pub purpose: v1::KeyPurpose,
}

impl Party {
    pub fn new(name: &str, purpose: v1::KeyPurpose) -> Self {
        Self { key: KeyPair::from_seed(blake3::hash(name.as_bytes()).as_bytes()), purpose }
    }

    pub fn id(&self) -> AgentId {
        AgentId::of_first_key(self.key.public())
    }

    /// A request as the REST door hands it on. `nonce: None` takes a fresh one.
    pub fn submission(&self, idempotency_key: &str, kind: Kind, nonce: Option<&str>) -> Submission {
        self.submission_to(LEDGER, idempotency_key, kind, nonce)
    }

    /// The same for another ledger than the tests' usual one.
    pub fn submission_to(
        &self,
        ledger_id: u32,
        idempotency_key: &str,
        kind: Kind,
        nonce: Option<&str>,
    ) -> Submission {
        let body = v1::CommandBody { kind: Some(kind) };
        let bytes = body.encode_to_vec();
        let content_type = proto::dsse::payload_type::<v1::CommandBody>();
        let path = format!("/v1/ledgers/{ledger_id}/commands");
        let target_uri = format!("http://127.0.0.1:8420{path}");
        let mut validity = Validity::from_now(1_795_000_000, 60).unwrap();
        if let Some(nonce) = nonce {
            validity.nonce = nonce.to_owned();
        }
        let request = RequestToSign {
            method: "POST",
            target_uri: &target_uri,
            content_type: Some(&content_type),
            body: Some(BodyDigest::of(&bytes)),
            idempotency_key: Some(idempotency_key),
        };
        let signed = httpsig::sign_request(&self.key, &request, &validity).unwrap();
        let parsed = httpsig::parse(
            "POST",
            &target_uri,
            signed.headers().map(|(n, v)| (n, v.as_bytes())),
            httpsig::Coverage::Command,
        )
        .unwrap();
        Submission {
            ledger_id,
            actor: self.id(),
            key: *self.key.public(),
            idempotency_key: idempotency_key.to_owned(),
            nonce: Some(validity.nonce),
            method_target: ("POST".into(), path),
            content_digest: {
                use sha2::Digest as _;
                sha2::Sha256::digest(&bytes).into()
            },
            content_type,
            body,
            body_bytes: bytes.into(),
            signed_body: None,
            signature_base: parsed.base,
            signature: parsed.signature,
        }
    }

    pub async fn send(&self, pipeline: &Pipeline, idempotency_key: &str, kind: Kind) -> Answer {
        pipeline.submit(self.submission(idempotency_key, kind, None)).await.unwrap()
    }

    /// Sends and insists on success.
    pub async fn must(&self, pipeline: &Pipeline, idempotency_key: &str, kind: Kind) -> Answer {
        let answer = self.send(pipeline, idempotency_key, kind).await;
        assert_eq!(answer.code, "ok", "{}", answer.facts);
        answer
    }

    pub async fn register(&self, pipeline: &Pipeline) -> Answer {
        let key = v1::Key { public_key: self.key.public().as_bytes().to_vec(), purpose: self.purpose.into() };
        let register = v1::RegisterAgent { key: Some(key), ..Default::default() };
        self.must(pipeline, "register", Kind::RegisterAgent(register)).await
    }
}
