//! From a command's protobuf body to what SQL reads: its kind and a JSON object.
//!
//! Pure and deterministic: replay calls the same function on the stored body. It judges shapes only (lengths of ids and
//! hashes, enums, presence); every rule about values is SQL's. Field names are those of the .proto files; ids become
//! UUID text, hashes lowercase hex, amounts stay the text that was sent, an empty optional id or hash becomes null.

use proto::ids::{AgentId, Hash32};
use proto::keys::{KeyPair, PublicKey};
use proto::prost::Message as _;
use proto::v1::{self, command_body::Kind};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::error::Error;

/// More of them in one request is refused before anything is decoded further.
const METERING_RUNS_MAX: usize = 100;
const METERING_ROWS_MAX: usize = 1_000;
/// One command carries at most so many transfers.
pub const TRANSFERS_MAX: usize = 8_190;
/// Most uploads that one command erases.
pub const ERASED_UPLOADS_MAX: usize = 1_000;
const TEXT_BYTES_MAX: usize = 256;

/// The kind and SQL arguments of a command that `signer` signed. `UB103`: the body is not what its kind asks for.
pub fn of_body(body: &v1::CommandBody, signer: &PublicKey) -> Result<(&'static str, Value), Error> {
    let kind = body.kind.as_ref().ok_or_else(|| malformed("kind", "is missing"))?;
    Ok(match kind {
        Kind::Genesis(g) => ("genesis", genesis(g)?),
        Kind::RegisterAgent(r) => {
            let key = r.key.as_ref().ok_or_else(|| malformed("key", "is missing"))?;
            let args = json!({
                "key": public_key(key)?,
                "name_commitment": optional_hash("name_commitment", &r.name_commitment)?,
                "beneficial_owner_id": optional_id("beneficial_owner_id", &r.beneficial_owner_id)?,
            });
            ("register_agent", args)
        }
        Kind::RevokeKey(r) => (
            "revoke_key",
            json!({"key_id": hash("key_id", &r.key_id)?, "reason": text("reason", &r.reason)?}),
        ),
        Kind::Deposit(d) => (
            "deposit",
            json!({
                "agent_id": id("agent_id", &d.agent_id)?, "asset_id": d.asset_id, "amount": text("amount", &d.amount)?,
                "external_reference": text("external_reference", &d.external_reference)?,
            }),
        ),
        Kind::PublishCapability(p) => {
            let ad = p.ad.as_ref().ok_or_else(|| malformed("ad", "is missing"))?;
            ("publish_capability", json!({"ad": capability(ad)?}))
        }
        Kind::RecordPresence(p) => (
            "record_presence",
            json!({
                "agent_id": id("agent_id", &p.agent_id)?, "reachable": p.reachable,
                "connection_id": id("connection_id", &p.connection_id)?,
            }),
        ),
        Kind::OpenRfq(r) => ("open_rfq", open_rfq(r)?),
        Kind::CancelRfq(r) => ("cancel_rfq", json!({"rfq_id": id("rfq_id", &r.rfq_id)?})),
        Kind::SubmitOffer(o) => (
            "submit_offer",
            json!({
                "offer_id": id("offer_id", &o.offer_id)?, "rfq_id": id("rfq_id", &o.rfq_id)?,
                "price_per_unit": text("price_per_unit", &o.price_per_unit)?, "valid_for_ms": o.valid_for_ms,
            }),
        ),
        Kind::AcceptOffer(o) => (
            "accept_offer",
            json!({"offer_id": id("offer_id", &o.offer_id)?, "spend_cap": text("spend_cap", &o.spend_cap)?}),
        ),
        Kind::StartAttempt(a) => ("start_attempt", attempt(&a.run_ticket_id, &a.attempt_id)?),
        Kind::RecordMetering(m) => ("record_metering", metering(m, signer)?),
        Kind::ReportOutput(o) => {
            let mut args = attempt(&o.run_ticket_id, &o.attempt_id)?;
            args["output_hash"] = hash("output_hash", &o.output_hash)?;
            ("report_output", args)
        }
        Kind::FailAttempt(f) => (
            "fail_attempt",
            json!({
                "run_ticket_id": id("run_ticket_id", &f.run_ticket_id)?,
                "attempt_id": optional_id("attempt_id", &f.attempt_id)?, "reason": text("reason", &f.reason)?,
            }),
        ),
        Kind::AcceptOutput(a) => (
            "accept_output",
            json!({"order_id": id("order_id", &a.order_id)?, "output_hash": hash("output_hash", &a.output_hash)?}),
        ),
        Kind::RejectOutput(r) => (
            "reject_output",
            json!({
                "order_id": id("order_id", &r.order_id)?, "output_hash": hash("output_hash", &r.output_hash)?,
                "reason": text("reason", &r.reason)?,
            }),
        ),
        Kind::ResolveDispute(r) => (
            "resolve_dispute",
            json!({
                "order_id": id("order_id", &r.order_id)?, "output_valid": r.output_valid,
                "finding": text("finding", &r.finding)?,
            }),
        ),
        Kind::SettleOrder(s) => ("settle_order", json!({"order_id": id("order_id", &s.order_id)?})),
        Kind::ExpireRfq(e) => ("expire_rfq", json!({"rfq_id": id("rfq_id", &e.rfq_id)?})),
        Kind::ExpireOrder(e) => ("expire_order", json!({"order_id": id("order_id", &e.order_id)?})),
        Kind::ReservePayout(r) => (
            "reserve_payout",
            json!({
                "payee_id": id("payee_id", &r.payee_id)?, "asset_id": r.asset_id, "rail": text("rail", &r.rail)?,
                "min_amount": text("min_amount", &r.min_amount)?,
            }),
        ),
        Kind::ConfirmPayout(c) => (
            "confirm_payout",
            json!({
                "payout_id": id("payout_id", &c.payout_id)?, "rail_reference": text("rail_reference", &c.rail_reference)?,
            }),
        ),
        Kind::FailPayout(f) => (
            "fail_payout",
            json!({"payout_id": id("payout_id", &f.payout_id)?, "reason": text("reason", &f.reason)?}),
        ),
        Kind::PostTransfers(p) => ("post_transfers", transfers(p)?),
        Kind::Exchange(e) => (
            "exchange",
            json!({
                "exchange_id": id("exchange_id", &e.exchange_id)?,
                "from_account_id": id("from_account_id", &e.from_account_id)?,
                "to_account_id": id("to_account_id", &e.to_account_id)?,
                "sell_amount": text("sell_amount", &e.sell_amount)?, "rate": text("rate", &e.rate)?,
                "rate_source": text("rate_source", &e.rate_source)?,
                "min_buy_amount": text("min_buy_amount", &e.min_buy_amount)?,
            }),
        ),
        Kind::ClosePeriod(c) => ("close_period", json!({"ends_at_us": c.ends_at_us})),
        Kind::SendAcross(s) => {
            ("send_across", crossing(&s.group_id, s.peer_ledger_id, &s.account_id, s.asset_id, &s.amount)?)
        }
        Kind::ReceiveAcross(r) => {
            ("receive_across", crossing(&r.group_id, r.peer_ledger_id, &r.account_id, r.asset_id, &r.amount)?)
        }
        Kind::EraseSubject(e) => ("erase_subject", erasure(e)?),
    })
}

fn genesis(g: &v1::Genesis) -> Result<Value, Error> {
    let assets: Result<Vec<_>, Error> = g
        .assets
        .iter()
        .map(|a| Ok(json!({"asset_id": a.asset_id, "code": text("code", &a.code)?, "scale": a.scale})))
        .collect();
    let keys: Result<Vec<_>, Error> = g.keys.iter().map(public_key).collect();
    let policy = g.default_policy.as_ref().ok_or_else(|| malformed("default_policy", "is missing"))?;
    let shares: Result<Vec<_>, Error> =
        policy.shares.iter().map(|s| Ok(json!({"role": role(s.role)?, "share_ppm": s.share_ppm}))).collect();
    Ok(json!({
        "origin": text("origin", &g.origin)?, "market_name": text("market_name", &g.market_name)?,
        "assets": assets?, "keys": keys?,
        "default_policy": {"name": text("name", &policy.name)?, "shares": shares?},
    }))
}

fn public_key(key: &v1::Key) -> Result<Value, Error> {
    let public =
        PublicKey::from_slice(&key.public_key).map_err(|e| malformed("public_key", &e.to_string()))?;
    Ok(json!({
        "public_key": hex::encode(public.as_bytes()), "key_id": public.id().to_string(),
        "agent_id": AgentId::of_first_key(&public).to_string(), "purpose": purpose(key.purpose)?,
    }))
}

fn capability(ad: &v1::CapabilityAd) -> Result<Value, Error> {
    Ok(json!({
        "work_class": text("work_class", &ad.work_class)?, "region": text("region", &ad.region)?,
        "device_count": ad.device_count, "device_kind": text("device_kind", &ad.device_kind)?,
        "asset_id": ad.asset_id, "price_per_unit": text("price_per_unit", &ad.price_per_unit)?,
        "max_concurrency": ad.max_concurrency, "max_work_units": ad.max_work_units,
        "beneficial_owner_id": optional_id("beneficial_owner_id", &ad.beneficial_owner_id)?, "active": ad.active,
    }))
}

fn open_rfq(r: &v1::OpenRfq) -> Result<Value, Error> {
    Ok(json!({
        "rfq_id": id("rfq_id", &r.rfq_id)?, "work_class": text("work_class", &r.work_class)?,
        "region": if r.region.is_empty() { Value::Null } else { text("region", &r.region)? },
        "input_hash": hash("input_hash", &r.input_hash)?, "work_units": r.work_units, "asset_id": r.asset_id,
        "max_price": text("max_price", &r.max_price)?, "valid_for_ms": r.valid_for_ms,
        "max_duration_ms": r.max_duration_ms, "creator_id": optional_id("creator_id", &r.creator_id)?,
        "referrer_id": optional_id("referrer_id", &r.referrer_id)?, "max_providers": r.max_providers,
    }))
}

fn attempt(run_ticket_id: &[u8], attempt_id: &[u8]) -> Result<Value, Error> {
    Ok(
        json!({"run_ticket_id": id("run_ticket_id", run_ticket_id)?, "attempt_id": id("attempt_id", attempt_id)?}),
    )
}

/// Rows are taken from their exact signed bytes; the head's signature is judged by the key that signed the request.
fn metering(m: &v1::RecordMetering, signer: &PublicKey) -> Result<Value, Error> {
    if m.runs.is_empty() || m.runs.len() > METERING_RUNS_MAX {
        return Err(malformed("runs", "must hold 1 to 100 runs"));
    }
    if m.runs.iter().map(|run| run.rows.len()).sum::<usize>() > METERING_ROWS_MAX {
        return Err(malformed("rows", "at most 1,000 rows in one request"));
    }
    let runs: Result<Vec<_>, Error> = m.runs.iter().map(|run| metering_run(run, signer)).collect();
    Ok(json!({"runs": runs?}))
}

fn metering_run(run: &v1::MeteringRun, signer: &PublicKey) -> Result<Value, Error> {
    let envelope = v1::Envelope::decode(run.head_envelope.as_slice())
        .map_err(|_| malformed("head_envelope", "is not an Envelope"))?;
    let head = v1::MeteringHead::decode(envelope.payload.as_slice())
        .map_err(|_| malformed("head_envelope", "does not hold a MeteringHead"))?;
    let signature_valid = proto::dsse::verify_message::<v1::MeteringHead>(&envelope, |key_id| {
        (*key_id == signer.id()).then_some(*signer)
    })
    .is_ok();
    let rows: Result<Vec<_>, Error> = run.rows.iter().map(|bytes| metering_row(bytes)).collect();
    let rows = rows?;
    // The head must name the run's last row, or the signature covers something else.
    let covers =
        run.rows.last().is_some_and(|bytes| Hash32::of(bytes).as_ref() == head.last_row_hash.as_slice())
            && rows.last().is_some_and(|row| row["seq"] == json!(head.last_seq));
    Ok(json!({
        "run_ticket_id": id("run_ticket_id", &head.run_ticket_id)?, "attempt_id": id("attempt_id", &head.attempt_id)?,
        "signature_valid": signature_valid && covers,
        "head": {"last_seq": head.last_seq, "last_row_hash": hash("last_row_hash", &head.last_row_hash)?},
        "head_envelope": hex::encode(&run.head_envelope), "rows": rows,
    }))
}

fn metering_row(bytes: &[u8]) -> Result<Value, Error> {
    let row = v1::MeteringRow::decode(bytes)
        .map_err(|_| malformed("rows", "hold something that is not a MeteringRow"))?;
    Ok(json!({
        "run_ticket_id": id("run_ticket_id", &row.run_ticket_id)?, "attempt_id": id("attempt_id", &row.attempt_id)?,
        "seq": row.seq, "prev_hash": hash("prev_hash", &row.prev_hash)?, "row_hash": Hash32::of(bytes).to_string(),
        "kernel_ns": row.kernel_ns, "wall_ns": row.wall_ns, "bytes_in": row.bytes_in, "bytes_out": row.bytes_out,
        "peak_vram_bytes": row.peak_vram_bytes, "energy_mj": row.energy_mj, "work_units": row.work_units,
        "attestation_level": row.attestation_level, "job_hash": optional_hash("job_hash", &row.job_hash)?,
        "output_hash": optional_hash("output_hash", &row.output_hash)?, "payload": hex::encode(bytes),
    }))
}

fn transfers(p: &v1::PostTransfers) -> Result<Value, Error> {
    if p.items.is_empty() || p.items.len() > TRANSFERS_MAX {
        return Err(malformed("items", "must hold 1 to 8,190 transfers"));
    }
    let items: Result<Vec<_>, Error> = p
        .items
        .iter()
        .map(|t| {
            let kind = match v1::TransferKind::try_from(t.kind) {
                Ok(v1::TransferKind::Plain) => "plain",
                Ok(v1::TransferKind::Pending) => "pending",
                Ok(v1::TransferKind::PostPending) => "post_pending",
                Ok(v1::TransferKind::VoidPending) => "void_pending",
                _ => return Err(malformed("kind", "is not a kind of transfer")),
            };
            let mut item = json!({
                "transfer_id": id("transfer_id", &t.transfer_id)?, "kind": kind,
                "debit_account_id": optional_id("debit_account_id", &t.debit_account_id)?,
                "credit_account_id": optional_id("credit_account_id", &t.credit_account_id)?,
                "asset_id": t.asset_id,
                "amount": if t.amount.is_empty() { Value::Null } else { text("amount", &t.amount)? },
                "pending_id": optional_id("pending_id", &t.pending_id)?, "timeout_ms": t.timeout_ms, "linked": t.linked,
            });
            // Rare ones are written only where they are set: 8,190 items are read by SQL key by key.
            for (field, set) in [
                ("balancing_debit", t.balancing_debit),
                ("balancing_credit", t.balancing_credit),
                ("closing_debit", t.closing_debit),
                ("closing_credit", t.closing_credit),
            ] {
                if set {
                    item[field] = Value::Bool(true);
                }
            }
            if !t.reverses_id.is_empty() {
                item["reverses_id"] = id("reverses_id", &t.reverses_id)?;
            }
            if t.effective_at_us != 0 {
                item["effective_at_us"] = json!(t.effective_at_us);
            }
            Ok(item)
        })
        .collect();
    Ok(json!({"items": items?}))
}

fn crossing(
    group_id: &[u8],
    peer_ledger_id: u32,
    account_id: &[u8],
    asset_id: u32,
    amount: &str,
) -> Result<Value, Error> {
    Ok(json!({
        "group_id": id("group_id", group_id)?, "peer_ledger_id": peer_ledger_id,
        "account_id": id("account_id", account_id)?, "asset_id": asset_id, "amount": text("amount", amount)?,
    }))
}

fn erasure(e: &v1::EraseSubject) -> Result<Value, Error> {
    let kind = match v1::ErasureSubject::try_from(e.subject_kind) {
        Ok(v1::ErasureSubject::Agent) => "agent",
        Ok(v1::ErasureSubject::Order) => "order",
        Ok(v1::ErasureSubject::Artifact) => "artifact",
        _ => return Err(malformed("subject_kind", "is not agent, order or artifact")),
    };
    if e.items.len() > ERASED_UPLOADS_MAX {
        return Err(malformed("items", "at most 1,000 uploads in one request"));
    }
    let item = |item: &v1::ErasedUpload| {
        Ok(json!({
            "artifact_hash": hash("artifact_hash", &item.artifact_hash)?,
            "agent_id": optional_id("agent_id", &item.agent_id)?,
        }))
    };
    let items: Result<Vec<Value>, Error> = e.items.iter().map(item).collect();
    Ok(
        json!({"subject_kind": kind, "subject_id": optional_id("subject_id", &e.subject_id)?, "items": items?}),
    )
}

fn malformed(field: &str, why: &str) -> Error {
    Error::new("UB103", format!("{field} {why}"))
}

fn id(field: &str, bytes: &[u8]) -> Result<Value, Error> {
    let uuid = Uuid::from_slice(bytes).map_err(|_| malformed(field, "must be 16 bytes"))?;
    Ok(Value::String(uuid.to_string()))
}

fn optional_id(field: &str, bytes: &[u8]) -> Result<Value, Error> {
    if bytes.is_empty() { Ok(Value::Null) } else { id(field, bytes) }
}

fn hash(field: &str, bytes: &[u8]) -> Result<Value, Error> {
    if bytes.len() != 32 {
        return Err(malformed(field, "must be 32 bytes"));
    }
    Ok(Value::String(hex::encode(bytes)))
}

fn optional_hash(field: &str, bytes: &[u8]) -> Result<Value, Error> {
    if bytes.is_empty() { Ok(Value::Null) } else { hash(field, bytes) }
}

/// jsonb cannot hold U+0000, and nothing here is prose.
fn text(field: &str, value: &str) -> Result<Value, Error> {
    if value.len() > TEXT_BYTES_MAX || value.contains('\0') {
        return Err(malformed(field, "must be at most 256 bytes of text without U+0000"));
    }
    Ok(Value::String(value.to_owned()))
}

fn purpose(value: i32) -> Result<&'static str, Error> {
    Ok(match v1::KeyPurpose::try_from(value) {
        Ok(v1::KeyPurpose::Buyer) => "buyer",
        Ok(v1::KeyPurpose::Provider) => "provider",
        Ok(v1::KeyPurpose::Payee) => "payee",
        Ok(v1::KeyPurpose::Operator) => "operator",
        Ok(v1::KeyPurpose::Service) => "service",
        Ok(v1::KeyPurpose::Verifier) => "verifier",
        Ok(v1::KeyPurpose::Receipt) => "receipt",
        _ => return Err(malformed("purpose", "is not a purpose of keys")),
    })
}

fn role(value: i32) -> Result<&'static str, Error> {
    Ok(match v1::SplitRole::try_from(value) {
        Ok(v1::SplitRole::Creator) => "creator",
        Ok(v1::SplitRole::Provider) => "provider",
        Ok(v1::SplitRole::Operator) => "operator",
        Ok(v1::SplitRole::Referrer) => "referrer",
        _ => return Err(malformed("role", "is not a split role")),
    })
}

/// The genesis command of an instance: its assets, the house's public keys, the default split.
pub fn genesis_body(origin: &str, market_name: &str, house: &crate::house::House) -> v1::CommandBody {
    use crate::house::Hand;
    let key = |pair: &KeyPair, purpose: v1::KeyPurpose| v1::Key {
        public_key: pair.public().as_bytes().to_vec(),
        purpose: purpose.into(),
    };
    let share = |role: v1::SplitRole, share_ppm| v1::SplitShare { role: role.into(), share_ppm };
    v1::CommandBody {
        kind: Some(Kind::Genesis(v1::Genesis {
            origin: origin.to_owned(),
            market_name: market_name.to_owned(),
            assets: vec![
                v1::Asset { asset_id: 1, code: "USD".into(), scale: 6 },
                v1::Asset { asset_id: 2, code: "BTC".into(), scale: 11 },
            ],
            keys: vec![
                key(house.key(Hand::Operator), v1::KeyPurpose::Operator),
                key(house.key(Hand::Service), v1::KeyPurpose::Service),
                key(house.key(Hand::Verifier), v1::KeyPurpose::Verifier),
                key(house.receipt_key(), v1::KeyPurpose::Receipt),
            ],
            default_policy: Some(v1::SplitPolicy {
                name: "default".into(),
                shares: vec![
                    share(v1::SplitRole::Creator, 150_000),
                    share(v1::SplitRole::Provider, 780_000),
                    share(v1::SplitRole::Operator, 50_000),
                    share(v1::SplitRole::Referrer, 20_000),
                ],
            }),
        })),
    }
}
