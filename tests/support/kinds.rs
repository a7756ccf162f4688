//! Commands with everything filled in. A test states what matters to it: `v1::OpenRfq { max_price: …, ..kinds::rfq(id) }`.

use proto::ids::Hash32;
use proto::keys::KeyPair;
use proto::prost::Message as _;
use proto::v1::{self, command_body::Kind};
use uuid::Uuid;

use super::party::USD;

pub const WORK_CLASS: &str = "gemm.int8";
/// Minor units per work unit that the market's provider asks.
pub const UNIT_PRICE: u64 = 100;
/// Work units of an ordinary order, which therefore costs 3,700.
pub const UNITS: u64 = 37;
/// The output that an honest provider reports.
pub const OUTPUT: [u8; 32] = [9; 32];
/// How long an ordinary RFQ and its offers are open, and how long a run may take.
pub const VALID_MS: u32 = 60_000;

pub fn bytes(id: Uuid) -> Vec<u8> {
    id.as_bytes().to_vec()
}

pub fn ad() -> v1::CapabilityAd {
    v1::CapabilityAd {
        work_class: WORK_CLASS.into(),
        region: "eu-1".into(),
        device_count: 1,
        device_kind: "cpu".into(),
        asset_id: USD,
        price_per_unit: UNIT_PRICE.to_string(),
        max_concurrency: 1_000,
        max_work_units: 1_000_000,
        beneficial_owner_id: Vec::new(),
        active: true,
    }
}

pub fn publish(ad: v1::CapabilityAd) -> Kind {
    Kind::PublishCapability(v1::PublishCapability { ad: Some(ad) })
}

pub fn presence(agent: Uuid, reachable: bool, connection: Uuid) -> Kind {
    Kind::RecordPresence(v1::RecordPresence {
        agent_id: bytes(agent),
        reachable,
        connection_id: bytes(connection),
    })
}

pub fn deposit(agent: Uuid, amount: &str, reference: &str) -> v1::Deposit {
    v1::Deposit {
        agent_id: bytes(agent),
        asset_id: USD,
        amount: amount.into(),
        external_reference: reference.into(),
    }
}

pub fn rfq(id: Uuid) -> v1::OpenRfq {
    v1::OpenRfq {
        rfq_id: bytes(id),
        work_class: WORK_CLASS.into(),
        region: String::new(),
        input_hash: vec![7; 32],
        work_units: UNITS,
        asset_id: USD,
        max_price: "10000".into(),
        valid_for_ms: VALID_MS,
        max_duration_ms: VALID_MS,
        creator_id: Vec::new(),
        referrer_id: Vec::new(),
        max_providers: 0,
    }
}

pub fn offer(id: Uuid, rfq: Uuid) -> v1::SubmitOffer {
    v1::SubmitOffer {
        offer_id: bytes(id),
        rfq_id: bytes(rfq),
        price_per_unit: UNIT_PRICE.to_string(),
        valid_for_ms: VALID_MS,
    }
}

pub fn accept_offer(offer: Uuid, spend_cap: &str) -> Kind {
    Kind::AcceptOffer(v1::AcceptOffer { offer_id: bytes(offer), spend_cap: spend_cap.into() })
}

pub fn start(ticket: Uuid, attempt: Uuid) -> Kind {
    Kind::StartAttempt(v1::StartAttempt { run_ticket_id: bytes(ticket), attempt_id: bytes(attempt) })
}

/// A signed run of rows from seq 0, one for each cumulative count of work units.
pub fn metering(ticket: Uuid, attempt: Uuid, key: &KeyPair, units: &[u64]) -> Kind {
    let mut prev_hash = vec![0; 32];
    let mut rows = Vec::new();
    for (seq, work_units) in (0..).zip(units) {
        let row = row(ticket, attempt, seq, prev_hash, *work_units);
        prev_hash = Hash32::of(&row).into();
        rows.push(row);
    }
    metering_run(ticket, attempt, key, rows)
}

/// One signed row at `seq`. A row that does not follow its predecessor directly needs no link to it.
pub fn metering_at(ticket: Uuid, attempt: Uuid, key: &KeyPair, seq: u32, work_units: u64) -> Kind {
    metering_run(ticket, attempt, key, vec![row(ticket, attempt, seq, vec![0; 32], work_units)])
}

fn row(ticket: Uuid, attempt: Uuid, seq: u32, prev_hash: Vec<u8>, work_units: u64) -> Vec<u8> {
    v1::MeteringRow {
        run_ticket_id: bytes(ticket),
        attempt_id: bytes(attempt),
        seq,
        prev_hash,
        work_units,
        kernel_ns: work_units * 1_000,
        wall_ns: work_units * 1_000,
        ..Default::default()
    }
    .encode_to_vec()
}

fn metering_run(ticket: Uuid, attempt: Uuid, key: &KeyPair, rows: Vec<Vec<u8>>) -> Kind {
    let last = v1::MeteringRow::decode(rows.last().unwrap().as_slice()).unwrap();
    let head = v1::MeteringHead {
        run_ticket_id: bytes(ticket),
        attempt_id: bytes(attempt),
        last_seq: last.seq,
        last_row_hash: Hash32::of(rows.last().unwrap()).into(),
    };
    let head_envelope = proto::dsse::sign_message(&head, key).encode_to_vec();
    Kind::RecordMetering(v1::RecordMetering { runs: vec![v1::MeteringRun { rows, head_envelope }] })
}

pub fn report(ticket: Uuid, attempt: Uuid, output: [u8; 32]) -> Kind {
    Kind::ReportOutput(v1::ReportOutput {
        run_ticket_id: bytes(ticket),
        attempt_id: bytes(attempt),
        output_hash: output.to_vec(),
    })
}

/// `attempt` is nil when the ticket was never redeemed.
pub fn fail(ticket: Uuid, attempt: Uuid, reason: &str) -> Kind {
    Kind::FailAttempt(v1::FailAttempt {
        run_ticket_id: bytes(ticket),
        attempt_id: if attempt.is_nil() { Vec::new() } else { bytes(attempt) },
        reason: reason.into(),
    })
}

pub fn accept_output(order: Uuid, output: [u8; 32]) -> Kind {
    Kind::AcceptOutput(v1::AcceptOutput { order_id: bytes(order), output_hash: output.to_vec() })
}

pub fn reject_output(order: Uuid, output: [u8; 32], reason: &str) -> Kind {
    Kind::RejectOutput(v1::RejectOutput {
        order_id: bytes(order),
        output_hash: output.to_vec(),
        reason: reason.into(),
    })
}

/// `finding` is "valid" or what is wrong.
pub fn judge(order: Uuid, finding: &str) -> Kind {
    Kind::ResolveDispute(v1::ResolveDispute {
        order_id: bytes(order),
        output_valid: finding == "valid",
        finding: finding.into(),
    })
}

pub fn settle(order: Uuid) -> Kind {
    Kind::SettleOrder(v1::SettleOrder { order_id: bytes(order) })
}

pub fn cancel_rfq(rfq: Uuid) -> Kind {
    Kind::CancelRfq(v1::CancelRfq { rfq_id: bytes(rfq) })
}

pub fn expire_rfq(rfq: Uuid) -> Kind {
    Kind::ExpireRfq(v1::ExpireRfq { rfq_id: bytes(rfq) })
}

pub fn expire_order(order: Uuid) -> Kind {
    Kind::ExpireOrder(v1::ExpireOrder { order_id: bytes(order) })
}

pub fn reserve(payee: Uuid, min_amount: &str) -> Kind {
    Kind::ReservePayout(v1::ReservePayout {
        payee_id: bytes(payee),
        asset_id: USD,
        rail: "internal".into(),
        min_amount: min_amount.into(),
    })
}

pub fn confirm(payout: Uuid, reference: &str) -> Kind {
    Kind::ConfirmPayout(v1::ConfirmPayout { payout_id: bytes(payout), rail_reference: reference.into() })
}

/// At a rate of 2; the accounts are the caller's to name.
pub fn exchange(id: Uuid, from: Uuid, to: Uuid, sell_amount: &str) -> v1::Exchange {
    v1::Exchange {
        exchange_id: bytes(id),
        from_account_id: bytes(from),
        to_account_id: bytes(to),
        sell_amount: sell_amount.into(),
        rate: "2".into(),
        rate_source: "test/2026".into(),
        min_buy_amount: String::new(),
    }
}

pub fn close_period(ends_at_us: i64) -> Kind {
    Kind::ClosePeriod(v1::ClosePeriod { ends_at_us })
}

pub fn send_across(group: Uuid, peer_ledger_id: u32, account: Uuid, amount: &str) -> Kind {
    Kind::SendAcross(v1::SendAcross {
        group_id: bytes(group),
        peer_ledger_id,
        account_id: bytes(account),
        asset_id: USD,
        amount: amount.into(),
    })
}

pub fn receive_across(group: Uuid, peer_ledger_id: u32, account: Uuid, amount: &str) -> Kind {
    Kind::ReceiveAcross(v1::ReceiveAcross {
        group_id: bytes(group),
        peer_ledger_id,
        account_id: bytes(account),
        asset_id: USD,
        amount: amount.into(),
    })
}

pub fn fail_payout(payout: Uuid, reason: &str) -> Kind {
    Kind::FailPayout(v1::FailPayout { payout_id: bytes(payout), reason: reason.into() })
}

/// What is erased for whose sake: artifacts, each everybody's upload or one agent's.
pub fn erase(
    subject_kind: v1::ErasureSubject,
    subject: Option<Uuid>,
    items: &[([u8; 32], Option<Uuid>)],
) -> Kind {
    let item = |(hash, agent): &([u8; 32], Option<Uuid>)| v1::ErasedUpload {
        artifact_hash: hash.to_vec(),
        agent_id: agent.map(bytes).unwrap_or_default(),
    };
    Kind::EraseSubject(v1::EraseSubject {
        subject_kind: subject_kind.into(),
        subject_id: subject.map(bytes).unwrap_or_default(),
        items: items.iter().map(item).collect(),
    })
}
