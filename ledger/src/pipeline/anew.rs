//! Trying the house's commands anew after a refusal by force.
//!
//! The house keys its commands by their subject, so that a repeated one gets its stored answer. But a refusal by force was
//! nobody's judgement: it says that we have a bug, or had one. Were it kept as the answer, an order would stay stuck after
//! the bug has gone. So the next try goes under a key of its own, numbered: soon at first, then less and less often, and at
//! once after a start, since the server that starts may be the repaired one.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use super::Answer;
use crate::house::Hand;

/// How long after a refusal by force the next try is due; doubled by each further one.
const FIRST_WAIT_US: i64 = 30_000_000;
const LONGEST_WAIT_US: i64 = 3_600_000_000;

/// Whose command, in which ledger, under which key.
pub(super) type Subject = (u32, Hand, String);

/// What was refused by force since this server started.
#[derive(Default)]
pub(super) struct Anew(Mutex<HashMap<Subject, Forced>>);

struct Forced {
    tries: u32,
    next_us: i64,
    answer: Answer,
}

impl Anew {
    /// How many tries there have been that this server knows of, and the refusal that stands until the next one is due.
    pub(super) fn before(&self, subject: &Subject, now_us: i64) -> (u32, Option<Answer>) {
        let forced = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(forced) = forced.get(subject) else { return (0, None) };
        let standing = (now_us < forced.next_us).then(|| Answer { replayed: true, ..forced.answer.clone() });
        (forced.tries, standing)
    }

    /// Try number `tries` ended like this.
    pub(super) fn after(&self, subject: Subject, tries: u32, answer: &Answer, now_us: i64) {
        let mut forced = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if answer.is_forced() {
            let wait_us = FIRST_WAIT_US.saturating_mul(1 << (tries - 1).min(16)).min(LONGEST_WAIT_US);
            forced.insert(subject, Forced { tries, next_us: now_us + wait_us, answer: answer.clone() });
        } else {
            forced.remove(&subject);
        }
    }
}

/// The idempotency key of a subject's next try, after so many others.
pub(super) fn key(key: &str, tries: u32) -> String {
    if tries == 0 { key.to_owned() } else { format!("{key}#{}", tries + 1) }
}
