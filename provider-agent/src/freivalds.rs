//! Checking a product without multiplying: Freivalds' test (R. Freivalds, "Probabilistic machines can use
//! less running time", IFIP 1977).
//!
//! A claimed C equals A·B exactly when (C − A·B)·r = 0 for every vector r. One random r costs three
//! matrix–vector products, O(m·k + k·n + m·n) instead of O(m·n·k), and a wrong C survives it with a
//! probability of at most 2⁻³²: see below. Four rounds leave at most 2⁻¹²⁸.
//!
//! **Why wrapping 64-bit arithmetic is enough.** r has uniform 32-bit entries, and everything is computed
//! modulo 2⁶⁴, where sums and products are exact. Let D = C − A·B be non-zero, at entry (i, j), with value
//! d. Entries of C are any `i32` and those of A·B lie within ±2³⁰ (see [`crate::job`]), so
//! 0 < |d| ≤ 2³¹ + 2³⁰ < 2³², hence d = 2ᵗ·(odd) with t ≤ 31. Fix all entries of r but r\[j\]: row i is zero
//! only if d·r\[j\] ≡ c (mod 2⁶⁴) for one fixed c, which determines r\[j\] modulo 2⁶⁴⁻ᵗ, that is, modulo at
//! least 2³³. Among 2³² values there is at most one.
//!
//! **Why the provider cannot aim.** The vectors are drawn from the verifier's seed, the job and the hash of
//! the output itself: whoever changes the output gets other vectors, and a seed chosen after the output was
//! committed leaves nothing to search for. The seed is recorded with the verdict, so anybody can repeat the
//! check later and gets the same answer.

use crate::job::{JobSpec, OUTPUT_HEADER_BYTES, OUTPUT_MAGIC};

/// Fewest rounds of a check: error at most 2⁻¹²⁸.
pub const ROUNDS_MIN: u32 = 4;

/// Key-derivation context of the random vectors.
const CONTEXT_R: &str = "openagents econ gemm v1 freivalds";

/// Why bytes are not the output of a job.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Mismatch {
    /// Not as long as the job's output must be.
    #[error("the output has {actual} bytes, the job's has {expected}")]
    Length {
        /// What the job asks for, in bytes.
        expected: usize,
        /// What came, in bytes.
        actual: usize,
    },
    /// Does not begin with the format's magic.
    #[error("the output does not begin with ECGEMM01")]
    Magic,
    /// The header names another shape than the job.
    #[error("the output says {m}×{n}, the job says {expected_m}×{expected_n}")]
    Shape {
        /// Rows that the header names.
        m: u32,
        /// Columns that the header names.
        n: u32,
        /// Rows of the job.
        expected_m: u32,
        /// Columns of the job.
        expected_n: u32,
    },
    /// A row of C is not the row of A·B. Certain, not probable: only a pass has an error probability.
    #[error("row {row} of the output is not the row of the product")]
    Product {
        /// The first row found wrong, from 0.
        row: usize,
    },
}

/// Checks that `output` is the output artifact of `spec`.
///
/// A right output always passes. A wrong one passes with a probability of at most 2⁻³² to the power of
/// `rounds`; fewer than [`ROUNDS_MIN`] rounds are raised to it. `rng_seed` must be chosen after the output
/// was committed. Costs O(m·k + k·n + m·n) per round, and memory for B's and A's rows one at a time.
///
/// # Errors
/// The first [`Mismatch`] in the order length, magic, shape, product (lowest row).
pub fn check(spec: &JobSpec, output: &[u8], rng_seed: [u8; 32], rounds: u32) -> Result<(), Mismatch> {
    check_header(spec, output)?;
    let (_, n, k) = spec.dimensions();
    let rounds = rounds.max(ROUNDS_MIN) as usize;
    let vectors = random_vectors(spec, output, rng_seed, rounds);

    // B·r, all rounds in one pass over B: entry [round · k + p].
    let mut b_r = vec![0_i64; rounds * k];
    let mut row = vec![0_u8; n];
    let mut operand = spec.operand_b(0);
    for p in 0..k {
        operand.fill(&mut row);
        for (round, r) in vectors.chunks_exact(n).enumerate() {
            b_r[round * k + p] = dot(row.iter().map(|b| i64::from(b.cast_signed())), r);
        }
    }

    let mut row = vec![0_u8; k];
    let mut operand = spec.operand_a(0);
    for (i, claimed) in output[OUTPUT_HEADER_BYTES..].chunks_exact(4 * n).enumerate() {
        operand.fill(&mut row);
        for (r, b_r) in vectors.chunks_exact(n).zip(b_r.chunks_exact(k)) {
            let product = dot(row.iter().map(|a| i64::from(a.cast_signed())), b_r);
            let claimed = dot(claimed.chunks_exact(4).map(little_endian), r);
            if product != claimed {
                return Err(Mismatch::Product { row: i });
            }
        }
    }
    Ok(())
}

fn check_header(spec: &JobSpec, output: &[u8]) -> Result<(), Mismatch> {
    let expected = spec.output_bytes();
    if output.len() != expected {
        return Err(Mismatch::Length { expected, actual: output.len() });
    }
    if output[..8] != OUTPUT_MAGIC {
        return Err(Mismatch::Magic);
    }
    if output[..OUTPUT_HEADER_BYTES] != spec.output_header() {
        let number =
            |at: usize| u32::from_le_bytes([output[at], output[at + 1], output[at + 2], output[at + 3]]);
        let (m, n) = (number(8), number(12));
        return Err(Mismatch::Shape { m, n, expected_m: spec.m(), expected_n: spec.n() });
    }
    Ok(())
}

/// `rounds` vectors of n uniform `i32` entries, widened, one after the other.
fn random_vectors(spec: &JobSpec, output: &[u8], rng_seed: [u8; 32], rounds: usize) -> Vec<i64> {
    let mut reader = blake3::Hasher::new_derive_key(CONTEXT_R)
        .update(&rng_seed)
        .update(&spec.m().to_le_bytes())
        .update(&spec.n().to_le_bytes())
        .update(&spec.k().to_le_bytes())
        .update(spec.seed())
        .update(blake3::hash(output).as_bytes())
        .finalize_xof();
    let mut bytes = vec![0; 4 * rounds * spec.n() as usize];
    reader.fill(&mut bytes);
    bytes.chunks_exact(4).map(little_endian).collect()
}

fn little_endian(bytes: &[u8]) -> i64 {
    i64::from(i32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
}

/// The sum of products modulo 2⁶⁴.
fn dot(left: impl Iterator<Item = i64>, right: &[i64]) -> i64 {
    left.zip(right).fold(0, |sum, (l, r)| sum.wrapping_add(l.wrapping_mul(*r)))
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroUsize;
    use std::ops::ControlFlow;

    use proptest::prelude::*;

    use super::*;
    use crate::executor::CpuExecutor;

    fn output_of(spec: &JobSpec) -> Vec<u8> {
        let executor = CpuExecutor::new(NonZeroUsize::MIN).unwrap();
        executor.execute(spec, &mut |_| ControlFlow::Continue(())).unwrap().bytes
    }

    #[test]
    fn every_single_flipped_bit_of_a_small_output_is_found() {
        let spec = JobSpec::new(3, 5, 7, [9; 32]).unwrap();
        let right = output_of(&spec);
        assert_eq!(check(&spec, &right, [1; 32], ROUNDS_MIN), Ok(()));
        for bit in 0..right.len() * 8 {
            let mut wrong = right.clone();
            wrong[bit / 8] ^= 1 << (bit % 8);
            assert!(check(&spec, &wrong, [1; 32], ROUNDS_MIN).is_err(), "bit {bit} went unseen");
        }
    }

    #[test]
    fn a_refusal_says_what_is_wrong_in_a_fixed_order() {
        let spec = JobSpec::new(4, 2, 3, [2; 32]).unwrap();
        let right = output_of(&spec);
        let verdict = |bytes: &[u8]| check(&spec, bytes, [3; 32], 0);
        assert_eq!(verdict(&[]), Err(Mismatch::Length { expected: 48, actual: 0 }));
        assert_eq!(verdict(&right[..47]), Err(Mismatch::Length { expected: 48, actual: 47 }));
        let mut wrong = right.clone();
        wrong[16 + 4 * (2 * 2)] ^= 1; // row 2, column 0
        assert_eq!(verdict(&wrong), Err(Mismatch::Product { row: 2 }));
        wrong[8..16].copy_from_slice(&[2, 0, 0, 0, 4, 0, 0, 0]);
        let shape = Mismatch::Shape { m: 2, n: 4, expected_m: 4, expected_n: 2 };
        assert_eq!(verdict(&wrong), Err(shape));
        wrong[0] = b'X';
        assert_eq!(verdict(&wrong), Err(Mismatch::Magic));
    }

    #[test]
    fn the_output_of_another_seed_is_refused() {
        let spec = JobSpec::new(8, 8, 8, [1; 32]).unwrap();
        let other = JobSpec::new(8, 8, 8, [2; 32]).unwrap();
        assert_eq!(check(&spec, &output_of(&other), [0; 32], 4), Err(Mismatch::Product { row: 0 }));
    }

    #[test]
    fn two_errors_that_cancel_in_a_row_sum_are_found() {
        // A check with a fixed vector (all ones, say) would miss these.
        let spec = JobSpec::new(8, 8, 8, [1; 32]).unwrap();
        let mut wrong = output_of(&spec);
        let mut add = |column: usize, delta: i32| {
            let at = 16 + 4 * (8 * 5 + column);
            let value = i32::from_le_bytes(wrong[at..at + 4].try_into().unwrap()) + delta;
            wrong[at..at + 4].copy_from_slice(&value.to_le_bytes());
        };
        add(0, 1000);
        add(7, -1000);
        assert_eq!(check(&spec, &wrong, [0; 32], 4), Err(Mismatch::Product { row: 5 }));
    }

    #[test]
    fn the_vectors_depend_on_the_output() {
        let spec = JobSpec::new(2, 2, 2, [1; 32]).unwrap();
        let vectors = |output: &[u8]| random_vectors(&spec, output, [5; 32], 4);
        assert_eq!(vectors(b"one"), vectors(b"one"));
        assert_ne!(vectors(b"one"), vectors(b"two"));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn a_right_output_always_passes(
            m in 1_u32..40, n in 1_u32..40, k in 1_u32..80, seed: [u8; 32], rng_seed: [u8; 32],
        ) {
            let spec = JobSpec::new(m, n, k, seed).unwrap();
            prop_assert_eq!(check(&spec, &output_of(&spec), rng_seed, ROUNDS_MIN), Ok(()));
        }

        #[test]
        fn a_flipped_bit_anywhere_is_found(
            m in 1_u32..40, n in 1_u32..40, k in 1_u32..80, seed: [u8; 32], rng_seed: [u8; 32],
            at: prop::sample::Index, bit in 0_u32..8,
        ) {
            let spec = JobSpec::new(m, n, k, seed).unwrap();
            let mut wrong = output_of(&spec);
            let at = at.index(wrong.len());
            wrong[at] ^= 1 << bit;
            prop_assert!(check(&spec, &wrong, rng_seed, ROUNDS_MIN).is_err());
        }
    }
}
