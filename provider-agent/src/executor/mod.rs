//! Executors: one small interface, one variant per kind of device.
//!
//! An executor is given a job and returns the output artifact, telling on the way how far it is. It knows
//! nothing of orders, tickets, prices or faults: metering and everything contractual happens around it.

mod cpu;

use std::ops::ControlFlow;

pub use cpu::CpuExecutor;

use crate::job::{JobError, JobSpec};

/// Cumulative counters of one execution: they only grow, so a lost report heals with the next one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Progress {
    /// Whole work units finished; at the end exactly [`JobSpec::work_units`].
    pub work_units_done: u64,
    /// Time inside the multiplication kernel, in monotonic nanoseconds (elapsed, not summed over threads).
    pub kernel_ns: u64,
    /// Time since the execution began, in monotonic nanoseconds: kernel, operands and hashing.
    pub wall_ns: u64,
    /// Operand bytes grown from the seed so far; at the end m·k + k·n.
    pub bytes_in: u64,
    /// Bytes of the output artifact finished so far; at the end all of it.
    pub bytes_out: u64,
    /// Most device memory held at once, in bytes; 0 on a CPU.
    pub peak_vram_bytes: u64,
}

impl Progress {
    /// These counters, counted on from those of an earlier life of the same attempt. Time and operands were
    /// spent twice and add up; the work and the output are the same ones and do not.
    #[must_use]
    pub fn counted_on_from(&self, earlier: &Self) -> Self {
        Self {
            work_units_done: self.work_units_done.max(earlier.work_units_done),
            kernel_ns: self.kernel_ns.saturating_add(earlier.kernel_ns),
            wall_ns: self.wall_ns.saturating_add(earlier.wall_ns),
            bytes_in: self.bytes_in.saturating_add(earlier.bytes_in),
            bytes_out: self.bytes_out.max(earlier.bytes_out),
            peak_vram_bytes: self.peak_vram_bytes.max(earlier.peak_vram_bytes),
        }
    }
}

/// A finished execution.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Output {
    /// The output artifact, in the layout of [`crate::job`].
    pub bytes: Vec<u8>,
    /// BLAKE3 hash of `bytes`: the artifact's name.
    pub hash: [u8; 32],
    /// The counters at the end.
    pub usage: Progress,
}

/// Why an execution gave no output.
#[derive(Debug, thiserror::Error)]
pub enum ExecError {
    /// The job is not one this executor can run.
    #[error(transparent)]
    Job(#[from] JobError),
    /// The caller's progress function asked to stop.
    #[error("the execution was stopped after {work_units_done} work units")]
    Stopped {
        /// Whole work units finished by then.
        work_units_done: u64,
    },
    /// This executor does not run such jobs.
    #[error("this executor does not run such a job: {0}")]
    Unsupported(&'static str),
    /// The device or its runtime failed.
    #[error("the device failed: {0}")]
    Device(String),
}

/// What an execution calls now and then, on the caller's thread, with the counters so far.
///
/// Returning `Break` stops the execution at that point (a ticket that ran out, a shutdown).
pub type OnProgress<'a> = dyn FnMut(Progress) -> ControlFlow<()> + 'a;

/// What an executor runs on, as it goes into a capability ad and a metering row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Device {
    /// `cpu`, `cuda` or `zero`.
    pub kind: &'static str,
    /// The device's own name.
    pub name: String,
    /// Devices (GPUs), or threads on a CPU.
    pub count: u32,
}

/// An executor of any kind.
#[derive(Debug)]
#[non_exhaustive]
pub enum Executor {
    /// Portable, exact, on the host's cores.
    Cpu(CpuExecutor),
    /// Runs the 1×1×1 job and refuses every other: for measuring everything around the work.
    Zero(CpuExecutor),
}

impl Executor {
    /// Runs `spec` and returns its output artifact, bit for bit the same on every device.
    ///
    /// `progress` is called on this thread: after each band of rows, and once at the end with the final
    /// counters.
    ///
    /// # Errors
    /// [`ExecError::Stopped`] when `progress` said so, [`ExecError::Unsupported`], [`ExecError::Device`] when the
    /// device failed.
    pub fn execute(&self, spec: &JobSpec, progress: &mut OnProgress<'_>) -> Result<Output, ExecError> {
        match self {
            Self::Cpu(cpu) => cpu.execute(spec, progress),
            Self::Zero(_) if spec.multiply_adds() != 1 => {
                Err(ExecError::Unsupported("the zero-work executor runs nothing but 1×1×1"))
            }
            Self::Zero(cpu) => cpu.execute(spec, progress),
        }
    }

    /// What it runs on.
    pub fn device(&self) -> Device {
        match self {
            Self::Cpu(cpu) => cpu.device(),
            Self::Zero(_) => Device { kind: "zero", name: "zero-work".to_owned(), count: 1 },
        }
    }
}
