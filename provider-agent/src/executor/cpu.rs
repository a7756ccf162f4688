//! The portable executor: exact integer GEMM on the host's cores, in safe code that the compiler vectorises.
//!
//! B is grown once, transposed and widened to `i16`; A is grown band by band, so a tall job never holds all
//! of A. The inner loop is then a sum of products of two contiguous `i16` runs, which compilers turn into
//! the multiply-and-add-pairs instruction that every x86-64 and AArch64 has.

use std::num::NonZeroUsize;
use std::ops::ControlFlow;
use std::time::Instant;

use rayon::ThreadPool;
use rayon::iter::{IndexedParallelIterator, ParallelIterator};
use rayon::slice::ParallelSliceMut;

use super::{Device, ExecError, OnProgress, Output, Progress};
use crate::job::{JobSpec, MULTIPLY_ADDS_PER_WORK_UNIT, OUTPUT_HEADER_BYTES};

/// Jobs up to this many multiply-adds (under half a millisecond) run on the caller's thread: waking a pool
/// would cost more than it saves, and a provider with many small jobs runs them side by side anyway.
const INLINE_MULTIPLY_ADDS_MAX: u64 = 1 << 22;
/// Multiply-adds per thread between two progress reports: some 10 ms.
const BAND_MULTIPLY_ADDS: u64 = 1 << 26;
/// Rows per task at most: enough to reuse a block of B, few enough to spread over the threads.
const TASK_ROWS_MAX: usize = 32;
/// Depth of one block: a row of it is 4 KiB of `i16`.
const BLOCK_DEPTH: usize = 2048;
/// Columns of one block: with the depth, 256 KiB, which stays in a second-level cache.
const BLOCK_COLUMNS: usize = 64;
/// Bytes drawn from a seed at once.
const DRAW_BYTES: usize = 4096;

/// Runs jobs on a fixed number of threads.
#[derive(Debug)]
pub struct CpuExecutor {
    threads: usize,
    /// None for one thread: the caller's own does the work then.
    pool: Option<ThreadPool>,
}

impl CpuExecutor {
    /// An executor of exactly `threads` threads, kept until it is dropped.
    ///
    /// # Errors
    /// [`ExecError::Device`] when the system refuses the threads.
    pub fn new(threads: NonZeroUsize) -> Result<Self, ExecError> {
        let threads = threads.get();
        let pool = (threads > 1)
            .then(|| {
                rayon::ThreadPoolBuilder::new()
                    .num_threads(threads)
                    .thread_name(|i| format!("gemm-{i}"))
                    .build()
                    .map_err(|e| ExecError::Device(format!("cannot start {threads} threads: {e}")))
            })
            .transpose()?;
        Ok(Self { threads, pool })
    }

    /// What it runs on.
    pub fn device(&self) -> Device {
        Device {
            kind: "cpu",
            name: format!("cpu ({})", std::env::consts::ARCH),
            count: u32::try_from(self.threads).unwrap_or(u32::MAX),
        }
    }

    /// See [`super::Executor::execute`].
    pub fn execute(&self, spec: &JobSpec, progress: &mut OnProgress<'_>) -> Result<Output, ExecError> {
        let start = Instant::now();
        let (m, n, k) = spec.dimensions();
        let pool = if spec.multiply_adds() <= INLINE_MULTIPLY_ADDS_MAX { None } else { self.pool.as_ref() };
        let threads = if pool.is_some() { self.threads } else { 1 };

        let columns = packed_b(spec, pool);
        let mut bytes = vec![0; spec.output_bytes()];
        bytes[..OUTPUT_HEADER_BYTES].copy_from_slice(&spec.output_header());

        let task_rows = m.div_ceil(threads).min(TASK_ROWS_MAX);
        let band_rows = band_rows(n, k, task_rows, threads).min(m);
        let mut band_a: Vec<i16> = vec![0; band_rows * k];
        let mut usage = Progress {
            bytes_in: (k as u64) * (n as u64),
            bytes_out: OUTPUT_HEADER_BYTES as u64,
            ..Progress::default()
        };
        let mut rows_done = 0;
        for band in bytes[OUTPUT_HEADER_BYTES..].chunks_mut(band_rows * n * 4) {
            let rows = band.len() / (n * 4);
            let a = &mut band_a[..rows * k];
            each_chunk(pool, a, task_rows * k, |task, part| {
                let first = rows_done * k + task * task_rows * k;
                draw_widened(spec.operand_a(first as u64), part);
            });

            let kernel_start = Instant::now();
            let a = &band_a[..rows * k];
            each_chunk(pool, band, task_rows * n * 4, |task, out| {
                let first = task * task_rows * k;
                let rows = out.len() / (n * 4);
                multiply(&a[first..first + rows * k], &columns, k, out);
            });
            usage.kernel_ns += elapsed_ns(kernel_start);

            rows_done += rows;
            usage.bytes_in += (rows * k) as u64;
            usage.bytes_out += (rows * n * 4) as u64;
            if rows_done < m {
                usage.work_units_done = (rows_done * n) as u64 * k as u64 / MULTIPLY_ADDS_PER_WORK_UNIT;
                usage.wall_ns = elapsed_ns(start);
                report(progress, usage)?;
            }
        }

        let hash = *blake3::hash(&bytes).as_bytes();
        usage.work_units_done = spec.work_units();
        usage.wall_ns = elapsed_ns(start);
        report(progress, usage)?;
        Ok(Output { bytes, hash, usage })
    }
}

/// Rows between two reports: whole rounds of tasks over all threads, at least one.
fn band_rows(n: usize, k: usize, task_rows: usize, threads: usize) -> usize {
    let round = task_rows * threads;
    let round_multiply_adds = (round * n) as u64 * k as u64;
    let rounds = (BAND_MULTIPLY_ADDS * threads as u64 / round_multiply_adds).max(1);
    // At most 2²⁶ multiply-adds over at least one each: far below any usize.
    round * usize::try_from(rounds).unwrap_or(1)
}

fn report(progress: &mut OnProgress<'_>, usage: Progress) -> Result<(), ExecError> {
    match progress(usage) {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(()) => Err(ExecError::Stopped { work_units_done: usage.work_units_done }),
    }
}

fn elapsed_ns(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_nanos()).unwrap_or(u64::MAX)
}

/// Calls `work(i, chunk i)` for every chunk, on the pool where there is one.
fn each_chunk<T: Send>(
    pool: Option<&ThreadPool>,
    data: &mut [T],
    chunk_len: usize,
    work: impl Fn(usize, &mut [T]) + Send + Sync,
) {
    match pool {
        Some(pool) => {
            pool.install(|| data.par_chunks_mut(chunk_len).enumerate().for_each(|(i, part)| work(i, part)));
        }
        None => data.chunks_mut(chunk_len).enumerate().for_each(|(i, part)| work(i, part)),
    }
}

/// Fills `out` with the next bytes of `reader`, each read as `i8` and widened.
fn draw_widened(mut reader: blake3::OutputReader, out: &mut [i16]) {
    let mut drawn = [0; DRAW_BYTES];
    for part in out.chunks_mut(DRAW_BYTES) {
        let drawn = &mut drawn[..part.len()];
        reader.fill(drawn);
        for (wide, byte) in part.iter_mut().zip(drawn.iter()) {
            *wide = i16::from(byte.cast_signed());
        }
    }
}

/// B, widened and transposed: column `j` is `[j·k .. (j+1)·k]`.
fn packed_b(spec: &JobSpec, pool: Option<&ThreadPool>) -> Vec<i16> {
    let (_, n, k) = spec.dimensions();
    let mut rows: Vec<u8> = vec![0; k * n];
    each_chunk(pool, &mut rows, 1 << 18, |i, part| {
        spec.operand_b((i as u64) << 18).fill(part);
    });
    let mut columns = vec![0; k * n];
    // A few columns per task, so that each cache line of the row-major source serves several of them.
    const TOGETHER: usize = 16;
    each_chunk(pool, &mut columns, TOGETHER * k, |task, part| {
        let first = task * TOGETHER;
        let width = part.len() / k;
        for (p, row) in rows.chunks_exact(n).enumerate() {
            for (j, byte) in row[first..first + width].iter().enumerate() {
                part[j * k + p] = i16::from(byte.cast_signed());
            }
        }
    });
    columns
}

/// Multiplies whole rows `a` (row-major, `k` wide) by `columns` and writes little-endian `i32` to `out`.
///
/// Blocked so that a block of columns stays in cache while every row of the task passes over it, two rows
/// by four columns at a time so that each loaded run is used several times.
fn multiply(a: &[i16], columns: &[i16], k: usize, out: &mut [u8]) {
    let (rows, n) = (a.len() / k, columns.len() / k);
    let mut sums = vec![0_i32; rows * n];
    for depth in (0..k).step_by(BLOCK_DEPTH) {
        let depth = depth..k.min(depth + BLOCK_DEPTH);
        let a_run = |i: usize| &a[i * k + depth.start..i * k + depth.end];
        let b_run = |j: usize| &columns[j * k + depth.start..j * k + depth.end];
        for block in (0..n).step_by(BLOCK_COLUMNS) {
            let block = block..n.min(block + BLOCK_COLUMNS);
            let mut i = 0;
            while i + 2 <= rows {
                row_pass([a_run(i), a_run(i + 1)], b_run, block.clone(), |r, j, sum| {
                    sums[(i + r) * n + j] += sum;
                });
                i += 2;
            }
            if i < rows {
                row_pass([a_run(i)], b_run, block.clone(), |_, j, sum| sums[i * n + j] += sum);
            }
        }
    }
    for (bytes, sum) in out.chunks_exact_mut(4).zip(sums) {
        bytes.copy_from_slice(&sum.to_le_bytes());
    }
}

/// Passes `R` rows over the columns of `block`; `add(r, j, sum)` takes each partial sum.
#[inline(always)]
fn row_pass<'b, const R: usize>(
    a: [&[i16]; R],
    b_run: impl Fn(usize) -> &'b [i16],
    block: std::ops::Range<usize>,
    mut add: impl FnMut(usize, usize, i32),
) {
    let mut j = block.start;
    while j + 4 <= block.end {
        let sums = dots(a, [b_run(j), b_run(j + 1), b_run(j + 2), b_run(j + 3)]);
        for (r, row) in sums.iter().enumerate() {
            for (c, sum) in row.iter().enumerate() {
                add(r, j + c, *sum);
            }
        }
        j += 4;
    }
    while j < block.end {
        for (r, [sum]) in dots(a, [b_run(j)]).iter().enumerate() {
            add(r, j, *sum);
        }
        j += 1;
    }
}

/// All R×C sums of products of the runs `a` and `b`, which have one length.
#[inline(always)]
fn dots<const R: usize, const C: usize>(a: [&[i16]; R], b: [&[i16]; C]) -> [[i32; C]; R] {
    // Cut to one length first: it takes the bounds checks out of the loop, without which it would not
    // vectorise.
    let len = a[0].len();
    let a = a.map(|run| &run[..len]);
    let b = b.map(|run| &run[..len]);
    let mut sums = [[0_i32; C]; R];
    for p in 0..len {
        for r in 0..R {
            for c in 0..C {
                // Cannot overflow: crate::job has the proof.
                sums[r][c] += i32::from(a[r][p]) * i32::from(b[c][p]);
            }
        }
    }
    sums
}

#[cfg(test)]
#[path = "cpu_tests.rs"]
mod tests;
