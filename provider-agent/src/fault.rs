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
    /// Every fault, in the order the plan draws from.
    pub const ALL: [Self; 5] =
        [Self::Crash, Self::Timeout, Self::WrongOutput, Self::OverReport, Self::Vanish];

    /// Its name on the command line and in summaries.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Crash => "crash",
            Self::Timeout => "timeout",
            Self::WrongOutput => "wrong-output",
            Self::OverReport => "over-report",
            Self::Vanish => "vanish",
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A word that names no fault, or a share outside 0..=1,000,000.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FaultError {
    /// No such fault.
    #[error("no fault is called {0:?}: crash, timeout, wrong-output, over-report or vanish")]
    UnknownFault(String),
    /// The share is more than everything.
    #[error("the share of faulty runs is {0} ppm, at most 1000000")]
    Share(u32),
}

impl FromStr for Fault {
    type Err = FaultError;

    fn from_str(name: &str) -> Result<Self, FaultError> {
        let known = Self::ALL.into_iter().find(|fault| fault.name() == name);
        known.ok_or_else(|| FaultError::UnknownFault(name.to_owned()))
    }
}

/// Which runs go wrong. The default is none.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FaultPlan {
    share_ppm: u32,
    seed: u64,
    kinds: Vec<Fault>,
}

impl FaultPlan {
    /// A plan under which `share_ppm` runs in a million go wrong, each in one of the ways `kinds` with equal
    /// chance; no kinds, no faults.
    ///
    /// # Errors
    /// [`FaultError::Share`] above 1,000,000.
    pub fn new(share_ppm: u32, seed: u64, kinds: &[Fault]) -> Result<Self, FaultError> {
        if share_ppm > 1_000_000 {
            return Err(FaultError::Share(share_ppm));
        }
        Ok(Self { share_ppm, seed, kinds: kinds.to_vec() })
    }

    /// How the run of the job with this input hash goes wrong; None when it does not.
    pub fn pick(&self, input_hash: &[u8; 32]) -> Option<Fault> {
        let digest = blake3::Hasher::new_derive_key("openagents econ demo v1 fault")
            .update(&self.seed.to_le_bytes())
            .update(input_hash)
            .finalize();
        let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p, ..] = *digest.as_bytes();
        // 64 bits over a million: the bias is far below one run in the life of a market.
        let lot = u64::from_le_bytes([a, b, c, d, e, f, g, h]) % 1_000_000;
        let way = u64::from_le_bytes([i, j, k, l, m, n, o, p]);
        if lot >= u64::from(self.share_ppm) || self.kinds.is_empty() {
            return None;
        }
        let index = usize::try_from(way % self.kinds.len() as u64).ok()?;
        self.kinds.get(index).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hash(n: u32) -> [u8; 32] {
        *blake3::hash(&n.to_le_bytes()).as_bytes()
    }

    #[test]
    fn every_fault_reads_back_from_its_name() {
        for fault in Fault::ALL {
            assert_eq!(fault.to_string().parse(), Ok(fault));
        }
        let unknown = "explode".parse::<Fault>().unwrap_err();
        assert!(unknown.to_string().contains("crash, timeout"));
    }

    #[test]
    fn the_default_plan_has_no_faults_and_a_full_one_nothing_else() {
        let all = FaultPlan::new(1_000_000, 1, &Fault::ALL).unwrap();
        for n in 0..100 {
            assert_eq!(FaultPlan::default().pick(&hash(n)), None);
            assert!(all.pick(&hash(n)).is_some());
            assert_eq!(FaultPlan::new(1_000_000, 1, &[]).unwrap().pick(&hash(n)), None);
        }
        assert_eq!(FaultPlan::new(1_000_001, 1, &[]), Err(FaultError::Share(1_000_001)));
    }

    #[test]
    fn a_plan_keeps_its_share_uses_every_kind_and_repeats_itself() {
        let plan = FaultPlan::new(100_000, 42, &Fault::ALL).unwrap();
        let picks: Vec<_> = (0..10_000).map(|n| plan.pick(&hash(n))).collect();
        assert_eq!(picks, (0..10_000).map(|n| plan.clone().pick(&hash(n))).collect::<Vec<_>>());
        for fault in Fault::ALL {
            let count = picks.iter().filter(|p| **p == Some(fault)).count();
            // 200 expected; six standard deviations are 84.
            assert!((116..=284).contains(&count), "{fault}: {count}");
        }
        let other = FaultPlan::new(100_000, 43, &Fault::ALL).unwrap();
        assert_ne!(picks, (0..10_000).map(|n| other.pick(&hash(n))).collect::<Vec<_>>());
    }
}
