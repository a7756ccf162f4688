//! What was checked, how much of it, and the first thing that is off.

use std::fmt;

use serde::Serialize;

use super::tables::LeftOut;

/// One check.
#[derive(Debug, Clone, Serialize)]
pub struct Check {
    /// Short name, e.g. `receipts.signature`.
    pub name: &'static str,
    /// What was proven, in words.
    pub what: &'static str,
    /// How many things were checked.
    pub count: u64,
    /// The first offender; `None`: all is well.
    pub problem: Option<Problem>,
}

/// Where and what.
#[derive(Debug, Clone, Serialize)]
pub struct Problem {
    /// Names the row: table and key, or seq.
    pub place: String,
    /// What is wrong with it.
    pub message: String,
}

/// The outcome of a verification.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Report {
    /// Every check that ran, in order.
    pub checks: Vec<Check>,
    /// What the digests leave out, each with its reason.
    pub left_out: Vec<LeftOut>,
}

impl Report {
    /// Nothing is off.
    pub fn passed(&self) -> bool {
        !self.checks.is_empty() && self.checks.iter().all(|check| check.problem.is_none())
    }

    /// The first offender of all checks.
    pub fn first_problem(&self) -> Option<(&'static str, &Problem)> {
        self.checks.iter().find_map(|check| check.problem.as_ref().map(|problem| (check.name, problem)))
    }

    pub(crate) fn add(
        &mut self,
        name: &'static str,
        what: &'static str,
        count: u64,
        problem: Option<Problem>,
    ) {
        self.checks.push(Check { name, what, count, problem });
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for check in &self.checks {
            let mark = if check.problem.is_none() { "ok  " } else { "FAIL" };
            writeln!(f, "{mark}  {:<28} {:>9}  {}", check.name, check.count, check.what)?;
            if let Some(problem) = &check.problem {
                writeln!(f, "      at {}: {}", problem.place, problem.message)?;
            }
        }
        for left in &self.left_out {
            writeln!(f, "      left out of the digests: {} ({})", left.what(), left.reason)?;
        }
        match self.first_problem() {
            None => write!(f, "verify: everything balances and is proven"),
            Some((name, problem)) => {
                write!(f, "verify: FAILED {name} at {}: {}", problem.place, problem.message)
            }
        }
    }
}

/// Remembers the first problem of a check.
#[derive(Default)]
pub(crate) struct First(pub(crate) Option<Problem>);

impl First {
    pub(crate) fn note(&mut self, place: impl Into<String>, message: impl Into<String>) {
        if self.0.is_none() {
            self.0 = Some(Problem { place: place.into(), message: message.into() });
        }
    }
}
