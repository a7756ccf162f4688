//! Faults on purpose, for the demo and for tests: a market shows what it is worth when providers misbehave.
//!
//! A fault plan is part of an agent's options and never of an executor: executors are always honest. Which
//! run goes wrong, and how, follows from the plan's seed and the job's input hash alone, so that a demo with
//! the same seeds shows the same faults however its threads and processes happen to be scheduled.

use std::fmt;
use std::str::FromStr;

/// A way for one run to go wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Fault {
    /// The execution dies half way, and the agent says so.
    Crash,
    /// The execution hangs: it meters, but never reports an output.
    Timeout,
    /// The output has one wrong number.
    WrongOutput,
    /// The metering claims more work than the job has.
    OverReport,
    /// The agent takes the ticket and is never heard of again.
    Vanish,
}

impl Fault {
    /// Every fault, in the order in which a plan draws them.
    pub const ALL: [Self; 5] =
        [Self::Crash, Self::Timeout, Self::WrongOutput, Self::OverReport, Self::Vanish];

    /// Its name in a plan, in logs and in summaries.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Crash => "crash",
            Self::Timeout => "timeout",
            Self::WrongOutput => "wrong",
            Self::OverReport => "over",
            Self::Vanish => "vanish",
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Why text is not a fault plan.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FaultError {
    /// Not `name=value` with a known name.
    #[error("{0:?} in a fault plan: write crash=, timeout=, wrong=, over=, vanish= with a share, or seed=")]
    Entry(String),
    /// Not a share.
    #[error("{0:?} is no share: write a decimal between 0 and 1 with at most six places, such as 0.03")]
    Share(String),
    /// Not a seed.
    #[error("{0:?} is no seed: write a whole number below 2^64")]
    Seed(String),
    /// The shares together are more than everything.
    #[error("the shares add up to more than 1")]
    TooMuch,
}

/// Which runs go wrong. The default is none. Written `crash=0.03,timeout=0.02,wrong=0.03,over=0.03,vanish=0.02,seed=7`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FaultPlan {
    /// Share of each fault, in runs per million, in the order of [`Fault::ALL`].
    shares_ppm: [u32; 5],
    seed: u64,
}

impl FaultPlan {
    /// How the run of the job with this input hash goes wrong; None when it does not.
    pub fn pick(&self, input_hash: &[u8; 32]) -> Option<Fault> {
        let digest = blake3::Hasher::new_derive_key("openagents econ demo v1 fault")
            .update(&self.seed.to_le_bytes())
            .update(input_hash)
            .finalize();
        let [a, b, c, d, e, f, g, h, ..] = *digest.as_bytes();
        // 64 bits over a million: the bias is far below one run in the life of a market.
        let mut lot = u64::from_le_bytes([a, b, c, d, e, f, g, h]) % 1_000_000;
        for (fault, share_ppm) in Fault::ALL.into_iter().zip(self.shares_ppm) {
            match lot.checked_sub(u64::from(share_ppm)) {
                Some(rest) => lot = rest,
                None => return Some(fault),
            }
        }
        None
    }
}

impl FromStr for FaultPlan {
    type Err = FaultError;

    fn from_str(text: &str) -> Result<Self, FaultError> {
        let mut plan = Self::default();
        for entry in text.split(',').map(str::trim).filter(|entry| !entry.is_empty()) {
            let (name, value) = entry.split_once('=').ok_or_else(|| FaultError::Entry(entry.to_owned()))?;
            if name == "seed" {
                plan.seed = value.parse().map_err(|_| FaultError::Seed(value.to_owned()))?;
                continue;
            }
            let fault = Fault::ALL.into_iter().position(|fault| fault.name() == name);
            let share = fault.and_then(|fault| plan.shares_ppm.get_mut(fault));
            *share.ok_or_else(|| FaultError::Entry(entry.to_owned()))? =
                parse_ppm(value).ok_or_else(|| FaultError::Share(value.to_owned()))?;
        }
        if plan.shares_ppm.iter().sum::<u32>() > 1_000_000 {
            return Err(FaultError::TooMuch);
        }
        Ok(plan)
    }
}

impl fmt::Display for FaultPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (fault, ppm) in Fault::ALL.into_iter().zip(self.shares_ppm).filter(|(_, ppm)| *ppm > 0) {
            write!(f, "{fault}={}.{:06},", ppm / 1_000_000, ppm % 1_000_000)?;
        }
        write!(f, "seed={}", self.seed)
    }
}

/// A decimal between 0 and 1, in millionths; exact, so that the same text is the same plan everywhere.
fn parse_ppm(text: &str) -> Option<u32> {
    let (whole, places) = text.split_once('.').unwrap_or((text, ""));
    let digits = |part: &str| part.bytes().all(|b| b.is_ascii_digit());
    if whole.len() != 1 || places.len() > 6 || !digits(whole) || !digits(places) {
        return None;
    }
    let ppm = format!("{whole}{places:0<6}").parse().ok()?;
    (ppm <= 1_000_000).then_some(ppm)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hash(n: u32) -> [u8; 32] {
        *blake3::hash(&n.to_le_bytes()).as_bytes()
    }

    fn plan(text: &str) -> FaultPlan {
        text.parse().unwrap()
    }

    #[test]
    fn a_plan_reads_back_as_it_is_written() {
        let text = "crash=0.030000,timeout=0.020000,wrong=0.000001,seed=7";
        assert_eq!(plan(text).to_string(), text);
        assert_eq!(plan("crash=0.03, timeout=0.02,wrong=0.000001,seed=7"), plan(text));
        assert_eq!(plan("vanish=1").to_string(), "vanish=1.000000,seed=0");
        assert_eq!(plan(""), FaultPlan::default());
    }

    #[test]
    fn a_plan_that_means_nothing_is_refused() {
        let check = |text: &str, expected: FaultError| assert_eq!(text.parse::<FaultPlan>(), Err(expected));
        check("explode=0.1", FaultError::Entry("explode=0.1".to_owned()));
        check("crash", FaultError::Entry("crash".to_owned()));
        for share in ["", "1.1", "-0.1", "NaN", "1e-1", "0.0000001", "2", "10", "0.+1", ".5"] {
            check(&format!("crash={share}"), FaultError::Share(share.to_owned()));
        }
        check("seed=-1", FaultError::Seed("-1".to_owned()));
        check("crash=0.6,over=0.5", FaultError::TooMuch);
    }

    #[test]
    fn the_default_plan_has_no_faults_and_a_full_one_nothing_else() {
        for n in 0..100 {
            assert_eq!(FaultPlan::default().pick(&hash(n)), None);
            assert_eq!(plan("over=1").pick(&hash(n)), Some(Fault::OverReport));
            assert_eq!(plan("over=0,seed=9").pick(&hash(n)), None);
        }
    }

    #[test]
    fn a_plan_keeps_its_shares_and_repeats_itself() {
        let text = "crash=0.02,timeout=0.02,wrong=0.02,over=0.02,vanish=0.02,seed=42";
        let picks = |text: &str| (0..10_000).map(|n| plan(text).pick(&hash(n))).collect::<Vec<_>>();
        let first = picks(text);
        assert_eq!(first, picks(text));
        for fault in Fault::ALL {
            let count = first.iter().filter(|pick| **pick == Some(fault)).count();
            // 200 expected; six standard deviations are 84.
            assert!((116..=284).contains(&count), "{fault}: {count}");
        }
        assert_ne!(first, picks(&text.replace("42", "43")));
    }
}
