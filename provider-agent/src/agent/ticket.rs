//! A run ticket, judged without asking the house: who signed it, for whom, for what, until when.

use std::time::Duration;

use proto::dsse::{self, DsseError};
use proto::ids::{AgentId, ArtifactHash, AttemptId, IdError, KeyId, OrderId, RunTicketId};
use proto::keys::PublicKey;
use proto::prost::Message;
use proto::v1::{Envelope, RunTicket};

/// A ticket that this agent may run under.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ticket {
    /// Its id.
    pub run_ticket_id: RunTicketId,
    /// The order it executes.
    pub order_id: OrderId,
    /// The input artifact.
    pub input_hash: ArtifactHash,
    /// The most it may bill, in work units.
    pub max_work_units: u64,
    /// How long one execution may take.
    pub max_duration: Duration,
    /// Ledger time of its issue, in Unix microseconds.
    pub issued_at_us: i64,
    /// Ledger time of its expiry, in Unix microseconds.
    pub expires_at_us: i64,
}

/// What a ticket is held against.
#[derive(Debug, Clone)]
pub struct Expected<'a> {
    /// The key that the house signs tickets with.
    pub service_key: &'a PublicKey,
    /// This agent.
    pub agent_id: AgentId,
    /// Its key.
    pub key_id: KeyId,
    /// The ledger it works on.
    pub ledger_id: u32,
    /// What it advertises.
    pub work_class: &'a str,
    /// Ledger time is at least this, in Unix microseconds.
    pub ledger_time_us: i64,
}

/// Why a ticket is none for this agent.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TicketError {
    /// Not an envelope, or not one the house has signed.
    #[error("not signed by the house: {0}")]
    NotSigned(#[from] DsseError),
    /// The bytes are no envelope.
    #[error("not an envelope: {0}")]
    NotAnEnvelope(String),
    /// An id or hash in it has the wrong length.
    #[error("malformed: {0}")]
    Malformed(#[from] IdError),
    /// Made out to somebody or something else.
    #[error("its {field} is another")]
    Other {
        /// Which field.
        field: &'static str,
    },
    /// Too late.
    #[error("it expired {ago_ms} ms ago")]
    Expired {
        /// Milliseconds of ledger time, at least.
        ago_ms: i64,
    },
}

impl Ticket {
    /// Reads and judges the bytes of a ticket's envelope.
    ///
    /// # Errors
    /// The first reason in the order of [`TicketError`].
    pub fn verify(envelope: &[u8], expected: &Expected<'_>) -> Result<Self, TicketError> {
        let envelope = Envelope::decode(envelope).map_err(|e| TicketError::NotAnEnvelope(e.to_string()))?;
        let service_key_id = expected.service_key.id();
        let (ticket, _): (RunTicket, _) =
            dsse::verify_message(&envelope, |id| (*id == service_key_id).then_some(*expected.service_key))?;
        let provider_id = AgentId::from_slice(&ticket.provider_id)?;
        let provider_key_id = KeyId::from_slice(&ticket.provider_key_id)?;
        for (field, same) in [
            ("provider", provider_id == expected.agent_id),
            ("provider key", provider_key_id == expected.key_id),
            ("ledger", ticket.ledger_id == expected.ledger_id),
            ("work class", ticket.work_class == expected.work_class),
        ] {
            if !same {
                return Err(TicketError::Other { field });
            }
        }
        let verified = Self {
            run_ticket_id: RunTicketId::from_slice(&ticket.run_ticket_id)?,
            order_id: OrderId::from_slice(&ticket.order_id)?,
            input_hash: ArtifactHash::from_slice(&ticket.input_hash)?,
            max_work_units: ticket.max_work_units,
            max_duration: Duration::from_millis(ticket.max_duration_ms.into()),
            issued_at_us: ticket.issued_at_us,
            expires_at_us: ticket.expires_at_us,
        };
        let late_us = expected.ledger_time_us.saturating_sub(ticket.expires_at_us);
        if late_us >= 0 {
            return Err(TicketError::Expired { ago_ms: late_us / 1000 });
        }
        Ok(verified)
    }

    /// The id of the one attempt under this ticket: derived, so that an agent that lost its memory redeems
    /// the ticket as the same attempt, and near the ticket's ledger time.
    pub fn attempt_id(&self) -> AttemptId {
        let random = super::derived_bytes("attempt", &[&self.run_ticket_id.to_bytes()]);
        AttemptId::v7_at(super::unix_ms(self.issued_at_us), random)
    }
}

#[cfg(test)]
mod tests {
    use proto::keys::KeyPair;

    use super::*;

    fn house() -> KeyPair {
        KeyPair::from_seed(&[1; 32])
    }

    fn agent() -> KeyPair {
        KeyPair::from_seed(&[2; 32])
    }

    fn ticket() -> RunTicket {
        RunTicket {
            run_ticket_id: vec![1; 16],
            order_id: vec![2; 16],
            provider_id: AgentId::of_first_key(agent().public()).into(),
            provider_key_id: agent().id().into(),
            input_hash: vec![3; 32],
            work_class: "gemm.int8".to_owned(),
            max_work_units: 34,
            asset_id: 1,
            max_spend: "340".to_owned(),
            max_duration_ms: 5_000,
            issued_at_us: 1_700_000_000_000_000,
            expires_at_us: 1_700_000_005_000_000,
            nonce: vec![4; 16],
            ledger_id: 1,
        }
    }

    fn verdict(ticket: &RunTicket, signer: &KeyPair, at_us: i64) -> Result<Ticket, TicketError> {
        let (house, agent) = (house(), agent());
        let expected = Expected {
            service_key: house.public(),
            agent_id: AgentId::of_first_key(agent.public()),
            key_id: agent.id(),
            ledger_id: 1,
            work_class: "gemm.int8",
            ledger_time_us: at_us,
        };
        Ticket::verify(&dsse::sign_message(ticket, signer).encode_to_vec(), &expected)
    }

    const NOW: i64 = 1_700_000_001_000_000;

    #[test]
    fn a_ticket_for_this_agent_is_taken() {
        let taken = verdict(&ticket(), &house(), NOW).unwrap();
        assert_eq!(taken.max_duration, Duration::from_secs(5));
        assert_eq!(taken.attempt_id(), taken.attempt_id());
        assert_eq!(taken.attempt_id().unix_ms(), Some(1_700_000_000_000));
    }

    #[test]
    fn a_ticket_for_somebody_or_something_else_is_not() {
        let check = |change: &dyn Fn(&mut RunTicket), field: &'static str| {
            let mut changed = ticket();
            change(&mut changed);
            assert_eq!(verdict(&changed, &house(), NOW), Err(TicketError::Other { field }));
        };
        check(&|t| t.provider_id = vec![9; 16], "provider");
        check(&|t| t.provider_key_id = vec![9; 32], "provider key");
        check(&|t| t.ledger_id = 2, "ledger");
        check(&|t| t.work_class = "gemm.fp8".to_owned(), "work class");
    }

    #[test]
    fn a_ticket_that_the_house_did_not_sign_is_not() {
        let forged = verdict(&ticket(), &agent(), NOW);
        assert!(matches!(forged, Err(TicketError::NotSigned(DsseError::UnknownKey(_)))), "{forged:?}");
        let house = house();
        let expected = Expected {
            service_key: house.public(),
            agent_id: AgentId::of_first_key(agent().public()),
            key_id: agent().id(),
            ledger_id: 1,
            work_class: "gemm.int8",
            ledger_time_us: NOW,
        };
        let garbage = Ticket::verify(b"\xff", &expected);
        assert!(matches!(garbage, Err(TicketError::NotAnEnvelope(_))), "{garbage:?}");
        let mut tampered = dsse::sign_message(&ticket(), &house);
        tampered.payload[0] ^= 1;
        let tampered = Ticket::verify(&tampered.encode_to_vec(), &expected);
        assert!(matches!(tampered, Err(TicketError::NotSigned(DsseError::BadSignature(_)))), "{tampered:?}");
    }

    #[test]
    fn a_ticket_is_good_until_the_moment_it_expires() {
        let expiry = ticket().expires_at_us;
        assert!(verdict(&ticket(), &house(), expiry - 1).is_ok());
        assert_eq!(verdict(&ticket(), &house(), expiry), Err(TicketError::Expired { ago_ms: 0 }));
        let late = verdict(&ticket(), &house(), expiry + 7_500);
        assert_eq!(late, Err(TicketError::Expired { ago_ms: 7 }));
    }

    #[test]
    fn a_ticket_with_a_short_id_is_malformed() {
        let mut short = ticket();
        short.order_id.pop();
        assert!(matches!(verdict(&short, &house(), NOW), Err(TicketError::Malformed(_))));
    }
}
