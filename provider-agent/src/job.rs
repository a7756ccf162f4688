//! The integer GEMM job: `C[m×n] = A[m×k] · B[k×n]`, INT8 × INT8 → INT32, bit-exact on every device.
//!
//! A job is small enough to travel as its own input artifact: the operands are not sent but grown from a
//! 32-byte seed, so the artifact is the protobuf bytes of `GemmJob` and nothing else. It stands in for
//! inference: it costs what matrix work costs and can be checked exactly, but it answers no prompt.
//!
//! **Operands.** `A` is the first `m·k` bytes of BLAKE3's extendable output in key-derivation mode with the
//! context [`CONTEXT_A`] and the seed as key material; `B` is the first `k·n` bytes with [`CONTEXT_B`]. Both
//! are row-major, and every byte is reinterpreted as a two's complement `i8` (so −128 occurs).
//!
//! **Output artifact.** A 16-byte header (`ECGEMM01`, `m` and `n` as little-endian `u32`), then `C`
//! row-major as little-endian `i32`.
//!
//! **No overflow.** A product of two `i8` is at most 2¹⁴ in absolute value ((−128)·(−128)), and `k` is at
//! most 2¹⁶, so every partial sum, in any order of adding, stays within 2³⁰ < 2³¹: no implementation can
//! wrap, and all correct ones agree bit for bit.

use proto::prost::Message;
use proto::v1::GemmJob;

/// Key-derivation context of the left operand.
pub const CONTEXT_A: &str = "openagents econ gemm v1 A";
/// Key-derivation context of the right operand.
pub const CONTEXT_B: &str = "openagents econ gemm v1 B";

/// First eight bytes of every output artifact.
pub const OUTPUT_MAGIC: [u8; 8] = *b"ECGEMM01";
/// Length of the output artifact's header, in bytes.
pub const OUTPUT_HEADER_BYTES: usize = 16;

/// Multiply-adds in one work unit.
pub const MULTIPLY_ADDS_PER_WORK_UNIT: u64 = 65_536;

/// Largest `m` and largest `n`, in rows and columns.
pub const SIDE_MAX: u32 = 1 << 16;
/// Largest `k`: above it a sum could leave `i32` (see the module's proof).
pub const DEPTH_MAX: u32 = 1 << 16;
/// Largest operand, in elements (bytes). A provider accepts jobs from strangers, so what one job can make
/// it allocate is bounded: 64 MiB per operand, 64 MiB of output.
pub const OPERAND_ELEMENTS_MAX: u64 = 1 << 26;
/// Largest output, in elements of four bytes.
pub const OUTPUT_ELEMENTS_MAX: u64 = 1 << 24;
/// Longest input artifact that [`JobSpec::decode`] looks at, in bytes.
pub const ARTIFACT_BYTES_MAX: usize = 4096;

/// Columns of a job made by [`JobSpec::from_request`].
pub const REQUEST_N: u32 = 64;
/// Depth of a job made by [`JobSpec::from_request`].
pub const REQUEST_K: u32 = 256;

/// Why bytes or numbers are not a job. Every case is the buyer's fault: the provider ran nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JobError {
    /// The artifact is not the protobuf message `GemmJob`.
    #[error("the input artifact is not a GemmJob message: {0}")]
    Malformed(String),
    /// The artifact is longer than any job can be.
    #[error("the input artifact has {bytes} bytes, a job has at most {ARTIFACT_BYTES_MAX}")]
    ArtifactTooLong {
        /// Its length in bytes.
        bytes: usize,
    },
    /// The seed has not 32 bytes.
    #[error("the seed has {bytes} bytes, it must have 32")]
    SeedLength {
        /// Its length in bytes.
        bytes: usize,
    },
    /// A dimension is zero or above its limit.
    #[error("dimension {name} is {value}, it must lie in 1..={max}")]
    Dimension {
        /// `m`, `n` or `k`.
        name: &'static str,
        /// What the job says.
        value: u32,
        /// The largest value allowed.
        max: u32,
    },
    /// A matrix is larger than a provider is willing to hold.
    #[error("matrix {name} has {elements} elements, at most {max} are allowed")]
    MatrixTooLarge {
        /// `A`, `B` or `C`.
        name: &'static str,
        /// Elements the job asks for.
        elements: u64,
        /// The largest number allowed.
        max: u64,
    },
}

/// A checked job: the dimensions are within the limits, so nothing downstream has to check them again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct JobSpec {
    m: u32,
    n: u32,
    k: u32,
    seed: [u8; 32],
}

impl JobSpec {
    /// Builds a job of `m` rows, `n` columns and depth `k`.
    ///
    /// # Errors
    /// [`JobError::Dimension`] and [`JobError::MatrixTooLarge`], judged in this order: m, n, k, A, B, C.
    pub fn new(m: u32, n: u32, k: u32, seed: [u8; 32]) -> Result<Self, JobError> {
        for (name, value, max) in [("m", m, SIDE_MAX), ("n", n, SIDE_MAX), ("k", k, DEPTH_MAX)] {
            if value == 0 || value > max {
                return Err(JobError::Dimension { name, value, max });
            }
        }
        let (rows, columns, depth) = (u64::from(m), u64::from(n), u64::from(k));
        for (name, elements, max) in [
            ("A", rows * depth, OPERAND_ELEMENTS_MAX),
            ("B", depth * columns, OPERAND_ELEMENTS_MAX),
            ("C", rows * columns, OUTPUT_ELEMENTS_MAX),
        ] {
            if elements > max {
                return Err(JobError::MatrixTooLarge { name, elements, max });
            }
        }
        Ok(Self { m, n, k, seed })
    }

    /// The smallest job (1×1×1): next to no work, for measuring everything around the work.
    pub const fn zero_work(seed: [u8; 32]) -> Self {
        Self { m: 1, n: 1, k: 1, seed }
    }

    /// The job that stands in for an inference request of `context_tokens` read and `generated_tokens`
    /// written.
    ///
    /// Its work is proportional to the request's, with a written token weighed as four read ones (decoding
    /// goes token by token and costs more than prefill): n = 64, k = 256 and
    /// m = ⌈(C + 4·G) / 16⌉, at least 1 and at most 65,536. Four rows are one work unit.
    pub fn from_request(context_tokens: u32, generated_tokens: u32, seed: [u8; 32]) -> Self {
        let weighed = u64::from(context_tokens) + 4 * u64::from(generated_tokens);
        let m = weighed.div_ceil(16).clamp(1, u64::from(SIDE_MAX));
        // The clamp makes the conversion succeed; 65,536 rows of 64 columns are within every limit.
        Self { m: u32::try_from(m).unwrap_or(SIDE_MAX), n: REQUEST_N, k: REQUEST_K, seed }
    }

    /// Rows of A and C.
    pub const fn m(&self) -> u32 {
        self.m
    }

    /// Columns of B and C.
    pub const fn n(&self) -> u32 {
        self.n
    }

    /// Columns of A, rows of B.
    pub const fn k(&self) -> u32 {
        self.k
    }

    /// The seed that both operands grow from.
    pub const fn seed(&self) -> &[u8; 32] {
        &self.seed
    }

    /// (m, n, k) as lengths.
    pub(crate) const fn dimensions(&self) -> (usize, usize, usize) {
        (self.m as usize, self.n as usize, self.k as usize)
    }

    /// Multiply-adds of the whole job: m·n·k, at most 2³⁸.
    pub const fn multiply_adds(&self) -> u64 {
        self.m as u64 * self.n as u64 * self.k as u64
    }

    /// Billable size of the job: ⌈m·n·k / 65,536⌉ work units of 65,536 multiply-adds, at least one.
    pub const fn work_units(&self) -> u64 {
        self.multiply_adds().div_ceil(MULTIPLY_ADDS_PER_WORK_UNIT)
    }

    /// Exact length of the output artifact, in bytes.
    pub const fn output_bytes(&self) -> usize {
        OUTPUT_HEADER_BYTES + 4 * (self.m as usize) * (self.n as usize)
    }

    /// The output artifact's header for this job.
    pub fn output_header(&self) -> [u8; OUTPUT_HEADER_BYTES] {
        let mut header = [0; OUTPUT_HEADER_BYTES];
        header[..8].copy_from_slice(&OUTPUT_MAGIC);
        header[8..12].copy_from_slice(&self.m.to_le_bytes());
        header[12..].copy_from_slice(&self.n.to_le_bytes());
        header
    }

    /// The input artifact: the protobuf bytes of `GemmJob`.
    ///
    /// The artifact's name is the BLAKE3 hash of the bytes as the buyer stored them; a reader hashes what it
    /// received and never what it encoded again.
    pub fn encode(&self) -> Vec<u8> {
        GemmJob { m: self.m, n: self.n, k: self.k, seed: self.seed.to_vec() }.encode_to_vec()
    }

    /// Reads an input artifact. Unknown fields are skipped, as protobuf readers do.
    ///
    /// # Errors
    /// [`JobError`]: not a `GemmJob`, a seed of another length than 32, dimensions outside the limits.
    pub fn decode(artifact: &[u8]) -> Result<Self, JobError> {
        if artifact.len() > ARTIFACT_BYTES_MAX {
            return Err(JobError::ArtifactTooLong { bytes: artifact.len() });
        }
        let job = GemmJob::decode(artifact).map_err(|e| JobError::Malformed(e.to_string()))?;
        let seed = job.seed.try_into().map_err(|s: Vec<u8>| JobError::SeedLength { bytes: s.len() })?;
        Self::new(job.m, job.n, job.k, seed)
    }

    /// The bytes of A from element `offset` on, without end: read no more than the operand holds.
    pub(crate) fn operand_a(&self, offset: u64) -> blake3::OutputReader {
        operand(CONTEXT_A, &self.seed, offset)
    }

    /// The bytes of B from element `offset` on, likewise.
    pub(crate) fn operand_b(&self, offset: u64) -> blake3::OutputReader {
        operand(CONTEXT_B, &self.seed, offset)
    }
}

fn operand(context: &str, seed: &[u8; 32], offset: u64) -> blake3::OutputReader {
    let mut reader = blake3::Hasher::new_derive_key(context).update(seed).finalize_xof();
    reader.set_position(offset);
    reader
}

#[cfg(test)]
mod tests {
    use super::*;

    const SEED: [u8; 32] = [7; 32];

    #[test]
    fn an_encoded_job_reads_back_and_its_bytes_are_protobuf() {
        let job = JobSpec::new(157, 64, 256, SEED).unwrap();
        let bytes = job.encode();
        assert_eq!(JobSpec::decode(&bytes).unwrap(), job);
        // Written by hand from the protobuf encoding rules: varints 157, 64, 256, then 32 bytes.
        let mut expected = vec![0x08, 0x9d, 0x01, 0x10, 0x40, 0x18, 0x80, 0x02, 0x22, 0x20];
        expected.extend_from_slice(&SEED);
        assert_eq!(bytes, expected);
    }

    #[test]
    fn an_artifact_that_is_no_job_is_refused_with_its_reason() {
        let seeded = |m, n, k, seed: &[u8]| GemmJob { m, n, k, seed: seed.to_vec() }.encode_to_vec();
        let check = |artifact: &[u8], expected: &str| {
            let error = JobSpec::decode(artifact).unwrap_err().to_string();
            assert!(error.contains(expected), "{error:?} does not say {expected:?}");
        };
        check(&[0; ARTIFACT_BYTES_MAX + 1], "has 4097 bytes");
        check(b"\xff\xff\xff", "not a GemmJob");
        check(&seeded(1, 1, 1, &[0; 31]), "seed has 31 bytes");
        check(&[], "seed has 0 bytes");
        check(&seeded(0, 1, 1, &SEED), "dimension m is 0");
        check(&seeded(1, 0, 1, &SEED), "dimension n is 0");
        check(&seeded(1, 1, 0, &SEED), "dimension k is 0");
        check(&seeded(1 << 17, 1, 1, &SEED), "dimension m is 131072");
        check(&seeded(1, 1, (1 << 16) + 1, &SEED), "dimension k is 65537");
        check(&seeded(u32::MAX, u32::MAX, u32::MAX, &SEED), "dimension m is 4294967295");
        check(&seeded(2048, 1, 1 << 16, &SEED), "matrix A has 134217728");
        check(&seeded(1, 2048, 1 << 16, &SEED), "matrix B has 134217728");
        check(&seeded(8192, 8192, 1, &SEED), "matrix C has 67108864");
    }

    #[test]
    fn work_units_are_rounded_up() {
        let units = |m, n, k| JobSpec::new(m, n, k, SEED).unwrap().work_units();
        assert_eq!(units(1, 1, 1), 1);
        assert_eq!(units(4, 64, 256), 1);
        assert_eq!(units(5, 64, 256), 2);
        assert_eq!(units(64, 64, 256), 16);
        // The largest job that the limits allow: A and B of 2²⁶ elements, C of 2²⁴.
        assert_eq!(units(4096, 4096, 16384), 1 << 22);
    }

    #[test]
    fn a_request_becomes_a_job_of_proportional_work() {
        let rows = |context, generated| JobSpec::from_request(context, generated, SEED).m();
        assert_eq!(rows(0, 0), 1);
        assert_eq!(rows(16, 0), 1);
        assert_eq!(rows(17, 0), 2);
        assert_eq!(rows(0, 4), 1);
        assert_eq!(rows(2048, 28), 135);
        assert_eq!(rows(u32::MAX, u32::MAX), 65_536);
        let job = JobSpec::from_request(2048, 28, SEED);
        assert_eq!((job.n(), job.k(), job.work_units()), (64, 256, 34));
        assert_eq!(JobSpec::decode(&JobSpec::from_request(u32::MAX, 1, SEED).encode()).unwrap().m(), 65_536);
    }

    #[test]
    fn an_operand_reads_the_same_from_any_offset() {
        let job = JobSpec::new(3, 5, 7, SEED).unwrap();
        let mut whole = [0; 4096];
        job.operand_a(0).fill(&mut whole);
        for offset in [1_usize, 63, 64, 65, 1000] {
            let mut part = [0; 100];
            job.operand_a(offset as u64).fill(&mut part);
            assert_eq!(part[..], whole[offset..offset + 100]);
        }
        let mut other = [0; 4096];
        job.operand_b(0).fill(&mut other);
        assert_ne!(whole, other);
    }
}
