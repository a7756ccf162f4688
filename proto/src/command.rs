//! A command's signed bytes: what they commit to, how a receipt names them, and who signed them.

use prost::Message as _;
use sha2::{Digest as _, Sha256};

use crate::ids::{AgentId, Hash32, KeyId};
use crate::keys::PublicKey;
use crate::v1::command_body::Kind;
use crate::v1::{CommandBody, SignedCommand};
use crate::{dsse, httpsig, v1};

/// What "the same request" means: method, target (path and query), content type and content digest, each preceded by
/// its length so that no two requests read alike. The authority is left out on purpose: a server that comes back on
/// another port is still the same ledger (docs/adr).
pub fn request_digest(method: &str, target: &str, content_type: &str, content_digest: &[u8; 32]) -> Hash32 {
    let parts = [method.as_bytes(), target.as_bytes(), content_type.as_bytes(), content_digest];
    Hash32::of(&framed(b"econ request v1", &parts))
}

/// What the log keeps of a command and no other field of its receipt commits to; see `log_hash` in receipt.proto.
/// `signed_body` is empty where the request's body is the CommandBody itself; `recorded_json` is as [`canonical_object`] gives it.
pub fn log_hash(signature_base: &[u8], signature: &[u8], signed_body: &[u8], recorded_json: &[u8]) -> Hash32 {
    Hash32::of(&framed(b"", &[signature_base, signature, signed_body, recorded_json]))
}

/// JSON in the one form that is hashed: RFC 8785 (JCS). `None`: it is no JSON object.
pub fn canonical_object(json: &str) -> Option<String> {
    let object: serde_json::Map<String, serde_json::Value> = serde_json::from_str(json).ok()?;
    serde_json_canonicalizer::to_string(&object).ok()
}

/// Each part preceded by its length as 8 bytes, big-endian: no two lists of parts give the same bytes.
fn framed(prefix: &[u8], parts: &[&[u8]]) -> Vec<u8> {
    let length = prefix.len() + parts.iter().map(|part| part.len() + 8).sum::<usize>();
    let mut bytes = Vec::with_capacity(length);
    bytes.extend_from_slice(prefix);
    for part in parts {
        bytes.extend_from_slice(&(part.len() as u64).to_be_bytes());
        bytes.extend_from_slice(part);
    }
    bytes
}

/// Path and query of an absolute URI; the whole of it when it has none.
pub fn path_of(target_uri: &str) -> &str {
    let Some((_, rest)) = target_uri.split_once("://") else { return target_uri };
    rest.find('/').map_or("/", |slash| &rest[slash..])
}

/// The name of a command's kind, as the log and its receipt state it.
pub fn kind_name(kind: &Kind) -> &'static str {
    match kind {
        Kind::Genesis(_) => "genesis",
        Kind::RegisterAgent(_) => "register_agent",
        Kind::RevokeKey(_) => "revoke_key",
        Kind::Deposit(_) => "deposit",
        Kind::PublishCapability(_) => "publish_capability",
        Kind::RecordPresence(_) => "record_presence",
        Kind::OpenRfq(_) => "open_rfq",
        Kind::CancelRfq(_) => "cancel_rfq",
        Kind::SubmitOffer(_) => "submit_offer",
        Kind::AcceptOffer(_) => "accept_offer",
        Kind::StartAttempt(_) => "start_attempt",
        Kind::RecordMetering(_) => "record_metering",
        Kind::ReportOutput(_) => "report_output",
        Kind::FailAttempt(_) => "fail_attempt",
        Kind::AcceptOutput(_) => "accept_output",
        Kind::RejectOutput(_) => "reject_output",
        Kind::ResolveDispute(_) => "resolve_dispute",
        Kind::SettleOrder(_) => "settle_order",
        Kind::ExpireRfq(_) => "expire_rfq",
        Kind::ExpireOrder(_) => "expire_order",
        Kind::ReservePayout(_) => "reserve_payout",
        Kind::ConfirmPayout(_) => "confirm_payout",
        Kind::FailPayout(_) => "fail_payout",
        Kind::PostTransfers(_) => "post_transfers",
        Kind::Exchange(_) => "exchange",
        Kind::ClosePeriod(_) => "close_period",
        Kind::SendAcross(_) => "send_across",
        Kind::ReceiveAcross(_) => "receive_across",
        Kind::EraseSubject(_) => "erase_subject",
    }
}

/// Turns the signed JSON of a GraphQL request into the ledger and exact command bytes it stands for.
pub type Rederive<'a> = dyn Fn(&[u8]) -> Result<(u32, Vec<u8>), String> + 'a;

/// What the signed bytes of a command say about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signed {
    /// Digest of the request, as its receipt must state it.
    pub request_digest: Hash32,
    /// Scoped to the actor.
    pub idempotency_key: String,
    /// `None`: a service command, which has none.
    pub nonce: Option<String>,
    /// Who speaks, where the signed bytes name it (service commands); elsewhere the key stands for its agent.
    pub actor_id: Option<Vec<u8>>,
    /// The bytes that were executed follow from the bytes that were signed. `false` only where a GraphQL request could not
    /// be read again, because nobody gave a [`Rederive`].
    pub body_follows: bool,
}

const SERVICE: &str = "application/vnd.openagents.econ.v1.ServiceCommand";

/// Checks that `signer` signed exactly this command for this ledger; says what is wrong otherwise.
pub fn check_signed(
    command: &SignedCommand,
    ledger_id: u32,
    signer: &PublicKey,
    rederive: Option<&Rederive<'_>>,
) -> Result<Signed, String> {
    let target = format!("/v1/ledgers/{ledger_id}/commands");
    if command.content_type.starts_with(SERVICE) {
        dsse::verify_stored(&command.signature_base, &command.signature, signer)
            .map_err(|e| e.to_string())?;
        let (payload_type, payload) = dsse::read_pae(&command.signature_base).map_err(|e| e.to_string())?;
        if payload_type != command.content_type || payload_type != dsse::payload_type::<v1::ServiceCommand>()
        {
            return Err("its signed bytes name another payload type".into());
        }
        let service = v1::ServiceCommand::decode(payload).map_err(|e| e.to_string())?;
        if service.ledger_id != ledger_id {
            return Err("its signed bytes are for another ledger".into());
        }
        if service.actor_id != AgentId::of_first_key(signer).to_bytes() {
            return Err("its signed bytes name another agent than its key's".into());
        }
        // So that whoever compares bytes and whoever compares messages come to the same answer.
        if service.encode_to_vec() != payload {
            return Err("its signed bytes are not in canonical form".into());
        }
        let body = service.body.map(|body| body.encode_to_vec()).unwrap_or_default();
        if body != command.command_body {
            return Err("the command that was executed is not the one that was signed".into());
        }
        let request_digest =
            request_digest("SERVICE", &target, payload_type, &Sha256::digest(payload).into());
        return Ok(Signed {
            request_digest,
            idempotency_key: service.idempotency_key,
            nonce: None,
            actor_id: Some(service.actor_id),
            body_follows: true,
        });
    }
    httpsig::verify_stored(&command.signature_base, &command.signature, signer).map_err(|e| e.to_string())?;
    let request = httpsig::read_base(&command.signature_base).map_err(|e| e.to_string())?;
    let is_own_body = command.body.is_empty();
    let body = if is_own_body { &command.command_body } else { &command.body };
    request.check_body(body).map_err(|e| e.to_string())?;
    if request.key_id != signer.id() {
        return Err("its signed bytes name another key".into());
    }
    if request.content_type.as_deref() != Some(command.content_type.as_str()) {
        return Err("its signed bytes name another content type".into());
    }
    // Uploads and reads are signed too, and their bytes are anybody's to suggest: they are never commands.
    if request.method != "POST" || request.idempotency_key.is_none() {
        return Err("its signed bytes are not a command's: no POST with an idempotency key".into());
    }
    let signed_target = path_of(&request.target_uri);
    let body_follows = if is_own_body {
        if signed_target != target {
            return Err("its signed bytes are for another ledger".into());
        }
        true
    } else if let Some(rederive) = rederive {
        let (named, bytes) = rederive(body)?;
        if named != ledger_id || bytes != command.command_body {
            return Err("the command that was executed is not the one that was signed".into());
        }
        true
    } else {
        false
    };
    let digest: [u8; 32] = Sha256::digest(body).into();
    let request_digest = request_digest(&request.method, signed_target, &command.content_type, &digest);
    let idempotency_key = request.idempotency_key.ok_or("its signed bytes hold no idempotency key")?;
    Ok(Signed { request_digest, idempotency_key, nonce: Some(request.nonce), actor_id: None, body_follows })
}

/// The key that a registration brings along, if it is the one asked for.
pub fn registered_key(body: &CommandBody, key_id: &KeyId) -> Option<PublicKey> {
    let keys: Vec<&v1::Key> = match body.kind.as_ref()? {
        Kind::RegisterAgent(register) => register.key.iter().collect(),
        Kind::Genesis(genesis) => genesis.keys.iter().collect(),
        _ => return None,
    };
    keys.into_iter()
        .filter_map(|key| PublicKey::from_slice(&key.public_key).ok())
        .find(|public| public.id() == *key_id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_requests_read_alike() {
        let digest = [7; 32];
        let one = request_digest("POST", "/ab", "c", &digest);
        assert_ne!(one, request_digest("POST", "/a", "bc", &digest));
        assert_ne!(one, request_digest("POST/", "ab", "c", &digest));
        assert_eq!(one, request_digest("POST", "/ab", "c", &digest));
    }

    #[test]
    fn no_two_logged_commands_read_alike() {
        let one = log_hash(b"ab", b"c", b"", b"{}");
        assert_ne!(one, log_hash(b"a", b"bc", b"", b"{}"));
        assert_ne!(one, log_hash(b"ab", b"c", b"{}", b""));
        assert_eq!(one, log_hash(b"ab", b"c", b"", b"{}"));
    }

    #[test]
    fn recorded_facts_have_one_form() {
        let one = canonical_object(r#"{ "b": "x", "a": {"d":1.0, "c":"\u0041"} }"#);
        assert_eq!(one.as_deref(), Some(r#"{"a":{"c":"A","d":1},"b":"x"}"#));
        assert_eq!(canonical_object("[1]"), None);
        assert_eq!(canonical_object("{"), None);
    }

    #[test]
    fn the_path_leaves_scheme_and_authority_behind() {
        assert_eq!(path_of("http://127.0.0.1:8420/v1/x?y=1"), "/v1/x?y=1");
        assert_eq!(path_of("http://host"), "/");
    }
}
