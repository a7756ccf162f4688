//! What a judgement says, and how it reads.

use std::fmt;

use serde::Serialize;

use crate::ids::OrderId;
use crate::v1::EvidenceBundle;

/// Each check and what holds when it passes, in the order in which they are made and told.
const CHECKS: &[(&str, &str)] = &[
    ("bundle.trust", "the market's receipt key is the one you trust"),
    ("bundle.checkpoint", "the checkpoint is signed by the receipt key in the log's name"),
    ("bundle.forest", "the checkpoint is a leaf of the log over all of the market's ledgers"),
    ("bundle.witness", "the witnesses you trust have cosigned the checkpoint or the forest's"),
    (
        "bundle.receipts",
        "each receipt is signed by the receipt key, and its id is the hash of what was signed",
    ),
    ("bundle.ledger", "each receipt is of this ledger, and they stand in the order of the log"),
    ("bundle.deadline", "no receipt was left out of the checkpoint beyond the time that it promises"),
    ("bundle.log", "each receipt is in the log under the checkpoint, at its place"),
    ("bundle.commands", "each command is signed by the agent that its receipt names"),
    ("bundle.content", "each receipt is about the command beside it, byte for byte"),
    ("bundle.links", "the order's receipts form one chain without a gap"),
    ("bundle.moves", "each step follows the state before it, as the order's rules allow"),
    ("bundle.order", "the order is the one that the bundle is about, and its making is there"),
    ("bundle.terms", "price, units and parties are what the buyer and the provider signed"),
    ("bundle.steps", "each step is the party's whose step it is, and its command is about this order"),
    ("bundle.metering", "each metering row is chained, and signed by the provider's key of this order"),
    ("bundle.money", "what was held was paid and refunded to the smallest unit, split as the policy says"),
];

/// What is wrong, and where.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// A receipt by seq and kind, a metering row, the checkpoint.
    pub place: String,
    /// What a person should know.
    pub message: String,
}

/// One check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Check {
    /// A stable name, `bundle.…`.
    pub name: &'static str,
    /// What holds when it passes.
    pub what: &'static str,
    /// Things looked at; 0: there was nothing to look at.
    pub count: u64,
    /// The first thing wrong; `None`: it holds.
    pub problem: Option<Problem>,
    /// All things wrong.
    pub problems: u64,
}

/// One line of the order's story.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Step {
    /// Where in the log.
    pub seq: u64,
    /// Ledger time, Unix microseconds; the house's clock.
    pub at_us: i64,
    /// Who did it: buyer, provider, house, verifier or an agent's id.
    pub who: String,
    /// The command's kind.
    pub kind: String,
    /// "ok" or the refusal's code.
    pub code: String,
    /// In words.
    pub text: String,
    /// The command is signed by who it says, and its receipt is in the log.
    pub proven: bool,
}

/// The answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Judgement {
    /// Which order; `None`: the bundle's id is none.
    pub order_id: Option<OrderId>,
    /// In which ledger.
    pub ledger_id: u32,
    /// Of which log.
    pub origin: String,
    /// The order's newest state in the bundle; empty when there is none.
    pub state: String,
    /// Every check.
    pub checks: Vec<Check>,
    /// What happened, in order.
    pub timeline: Vec<Step>,
    /// What signatures prove.
    pub proven: Vec<String>,
    /// What is somebody's word.
    pub claimed: Vec<String>,
    /// What would be needed to know more.
    pub missing: Vec<String>,
}

impl Judgement {
    pub(super) fn new(order_id: Option<OrderId>, bundle: &EvidenceBundle) -> Self {
        let checks = CHECKS
            .iter()
            .map(|(name, what)| Check { name, what, count: 0, problem: None, problems: 0 })
            .collect();
        Self {
            order_id,
            ledger_id: bundle.ledger_id,
            origin: printable(&bundle.origin, 255),
            state: String::new(),
            checks,
            timeline: Vec::new(),
            proven: Vec::new(),
            claimed: Vec::new(),
            missing: Vec::new(),
        }
    }

    /// Nothing is wrong, and there was something to look at.
    pub fn passed(&self) -> bool {
        self.checks.iter().all(|check| check.problem.is_none())
            && self.checks.iter().any(|check| check.name == "bundle.order" && check.count > 0)
    }

    /// The check of a name.
    pub fn check(&self, name: &str) -> Option<&Check> {
        self.checks.iter().find(|check| check.name == name)
    }

    fn check_mut(&mut self, name: &str) -> Option<&mut Check> {
        self.checks.iter_mut().find(|check| check.name == name)
    }

    pub(super) fn count(&mut self, name: &str) {
        if let Some(check) = self.check_mut(name) {
            check.count += 1;
        }
    }

    pub(super) fn note(&mut self, name: &str, place: impl Into<String>, message: impl Into<String>) {
        if let Some(check) = self.check_mut(name) {
            check.problems += 1;
            if check.problem.is_none() {
                let problem = Problem {
                    place: printable(&place.into(), 120),
                    message: printable(&message.into(), 600),
                };
                check.problem = Some(problem);
            }
        }
    }

    pub(super) fn holds(&self, name: &str) -> bool {
        self.check(name).is_some_and(|check| check.count > 0 && check.problem.is_none())
    }

    pub(super) fn prove(&mut self, text: impl Into<String>) {
        self.proven.push(text.into());
    }

    pub(super) fn claim(&mut self, text: impl Into<String>) {
        self.claimed.push(text.into());
    }

    pub(super) fn lack(&mut self, text: impl Into<String>) {
        self.missing.push(text.into());
    }
}

/// What a stranger wrote, fit for a terminal: no control characters, no direction marks, not without end.
pub(super) fn printable(text: &str, chars_max: usize) -> String {
    let odd = |c: char| {
        c.is_control()
            || matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    text.chars().take(chars_max).map(|c| if odd(c) { '\u{fffd}' } else { c }).collect()
}

impl fmt::Display for Judgement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let order = self.order_id.map_or_else(|| "(no order id)".to_owned(), |id| id.to_string());
        let state = if self.state.is_empty() { "in no known state" } else { &self.state };
        writeln!(f, "order {order} in ledger {} of {}: {state}\n", self.ledger_id, self.origin)?;
        for step in &self.timeline {
            let mark = if step.proven { "proven " } else { "CLAIMED" };
            let refused = if step.code == "ok" { String::new() } else { format!(" refused {}:", step.code) };
            writeln!(
                f,
                "  {}  {:>6}  {mark}  {:<8} {}{refused} {}",
                moment(step.at_us),
                step.seq,
                step.who,
                step.kind,
                step.text
            )?;
        }
        writeln!(f)?;
        for check in &self.checks {
            match &check.problem {
                None if check.name == "bundle.trust" && check.count == 0 => {
                    writeln!(f, "  open    {}: no key was given to compare with (--key)", check.name)?
                }
                None if check.count == 0 => writeln!(f, "  none    {}: nothing to look at", check.name)?,
                None => writeln!(f, "  holds   {}: {} ({})", check.name, check.what, check.count)?,
                Some(problem) => {
                    writeln!(f, "  BROKEN  {}: {}: {}", check.name, problem.place, problem.message)?;
                    if check.problems > 1 {
                        writeln!(f, "          and {} more", check.problems - 1)?;
                    }
                }
            }
        }
        for (title, lines) in
            [("Proven", &self.proven), ("Only claimed", &self.claimed), ("Missing", &self.missing)]
        {
            if !lines.is_empty() {
                writeln!(f, "\n{title}")?;
                for line in lines {
                    writeln!(f, "  - {line}")?;
                }
            }
        }
        let verdict = if self.passed() { "The evidence holds." } else { "The evidence does NOT hold." };
        write!(f, "\n{verdict}")
    }
}

/// Unix microseconds as UTC, to the millisecond; what no calendar holds stays a number.
pub(super) fn moment(us: i64) -> String {
    jiff::Timestamp::from_microsecond(us).map_or_else(|_| format!("{us} us"), |time| format!("{time:.3}"))
}
