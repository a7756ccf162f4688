use proptest::prelude::*;

use super::*;

const ZERO: [u8; 32] = [0; 32];
const RAMP: [u8; 32] = [
    0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28,
    29, 30, 31,
];

/// BLAKE3 hash of the seven bytes "golden".
fn golden_seed() -> [u8; 32] {
    *blake3::hash(b"golden").as_bytes()
}

fn cpu(threads: usize) -> CpuExecutor {
    CpuExecutor::new(NonZeroUsize::new(threads).unwrap()).unwrap()
}

fn run(executor: &CpuExecutor, spec: &JobSpec) -> Output {
    executor.execute(spec, &mut |_| ControlFlow::Continue(())).unwrap()
}

/// The artifact by the definition: one loop per index, `i64`, no blocking, no transposing.
fn by_definition(spec: &JobSpec) -> Vec<u8> {
    let (m, n, k) = spec.dimensions();
    let (mut a, mut b) = (vec![0; m * k], vec![0; k * n]);
    spec.operand_a(0).fill(&mut a);
    spec.operand_b(0).fill(&mut b);
    let mut bytes = spec.output_header().to_vec();
    for i in 0..m {
        for j in 0..n {
            let mut sum = 0_i64;
            for p in 0..k {
                sum += i64::from(a[i * k + p].cast_signed()) * i64::from(b[p * n + j].cast_signed());
            }
            bytes.extend_from_slice(&i32::try_from(sum).unwrap().to_le_bytes());
        }
    }
    bytes
}

/// Frozen: a change of any of these is another job format, and every hash ever settled would be wrong.
///
/// They come from an independent implementation, run once with Python 3.11, NumPy 2.4.6 and the PyPI
/// package `blake3` 1.0.11:
/// ```python
/// def xof(context, seed, length):
///     return blake3.blake3(seed, derive_key_context=context).digest(length=length)
/// A = np.frombuffer(xof("openagents econ gemm v1 A", seed, m * k), dtype=np.int8).reshape(m, k)
/// B = np.frombuffer(xof("openagents econ gemm v1 B", seed, k * n), dtype=np.int8).reshape(k, n)
/// C = A.astype(np.int64) @ B.astype(np.int64)
/// out = b"ECGEMM01" + struct.pack("<II", m, n) + C.astype("<i4").tobytes()
/// blake3.blake3(out).hexdigest()
/// ```
#[test]
fn the_golden_jobs_give_the_golden_outputs() {
    let golden = golden_seed();
    let cases: [(u32, u32, u32, [u8; 32], &str); 11] = [
        (1, 1, 1, ZERO, "c8176e38642799942657bdca898786d22e7bb8ed156cb3e874e6c8e978936445"),
        (1, 1, 1, RAMP, "fa74f572555d4a5bdc175f33cc0f4a65e45a9a8d629bf0cdd6eff0e813cb3100"),
        (3, 5, 7, RAMP, "50d0415ae2f9712d3edba2582c1475ee82559aa8659457ae04e5709cb4e7d95c"),
        (5, 3, 1, golden, "323c72212652b6b34ad1caa7841ab25a0df10835b49c2665dfb23ce9bf967a30"),
        (64, 64, 256, ZERO, "ba9cbfb0a83fd1503d1f3302343e10383b17ade18f3a866b83d5bbf602a4f00d"),
        (157, 64, 256, RAMP, "25c166e55dbf6e89c77a1a4a5357ce798c6dcd35e95da3197bf18c3bd82df693"),
        (33, 17, 2049, golden, "a35551f7f7ea13b5b24a933e4b47ff8f248fa940252c2143ec21d6b6fede7ef1"),
        (2, 130, 4097, RAMP, "a774d2af5e4dc858130065be1c801dadbf1f8334fc11652a859a5673398669f7"),
        (1, 2, 65536, ZERO, "a6d3329d04c27fdcad935e22d30db9d0875d9230847f819550b825606e266b5f"),
        (700, 257, 511, golden, "896032c9fe563b933b7fed85b9f8112ccf935c06fb21ea132e52edb597b9308e"),
        (1024, 64, 256, ZERO, "fca7d0e56349f8e120b4f06cc9c1cc90b7b7f7f3275a39d359477454ef1ee6cc"),
    ];
    let executor = cpu(2);
    for (m, n, k, seed, expected) in cases {
        let output = run(&executor, &JobSpec::new(m, n, k, seed).unwrap());
        assert_eq!(hex::encode(output.hash), expected, "{m}×{n}×{k}");
    }
}

#[test]
fn a_small_output_has_the_golden_numbers() {
    // From the same run as above: C of the 3×5×7 job, row by row.
    let expected = [
        -13368, 20432, 16007, 11367, -24614, -6823, 25496, -24158, 5195, 25096, 4064, 31, -12659, 3538, -6570,
    ];
    let output = run(&cpu(1), &JobSpec::new(3, 5, 7, RAMP).unwrap());
    assert_eq!(output.bytes[..8], *b"ECGEMM01");
    assert_eq!(output.bytes[8..16], [3, 0, 0, 0, 5, 0, 0, 0]);
    let values: Vec<i32> =
        output.bytes[16..].chunks_exact(4).map(|b| i32::from_le_bytes(b.try_into().unwrap())).collect();
    assert_eq!(values, expected);
}

#[test]
fn the_extreme_operands_of_the_deepest_job_do_not_overflow() {
    let k = crate::job::DEPTH_MAX as usize;
    let (lowest, highest) = (vec![-128_i16; k], vec![127_i16; k]);
    let check = |a: &[i16], b: &[i16], expected: i32| {
        let mut out = [0; 4];
        multiply(a, b, k, &mut out);
        assert_eq!(i32::from_le_bytes(out), expected);
    };
    check(&lowest, &lowest, 1 << 30);
    check(&lowest, &highest, -128 * 127 * 65_536);
    check(&highest, &highest, 127 * 127 * 65_536);
}

#[test]
fn counters_only_grow_and_end_at_the_whole_job() {
    // Deep and wide enough for several bands.
    let spec = JobSpec::new(200, 300, 3000, RAMP).unwrap();
    let mut seen: Vec<Progress> = Vec::new();
    let output = cpu(2)
        .execute(&spec, &mut |p| {
            seen.push(p);
            ControlFlow::Continue(())
        })
        .unwrap();
    assert!(seen.len() > 1, "one report only");
    for pair in seen.windows(2) {
        assert!(pair[0].work_units_done < pair[1].work_units_done);
        assert!(pair[0].kernel_ns < pair[1].kernel_ns);
        assert!(pair[0].wall_ns < pair[1].wall_ns);
        assert!(pair[0].bytes_in < pair[1].bytes_in);
        assert!(pair[0].bytes_out < pair[1].bytes_out);
    }
    let last = *seen.last().unwrap();
    assert_eq!(last, output.usage);
    assert_eq!(last.work_units_done, spec.work_units());
    assert_eq!(last.bytes_in, 200 * 3000 + 3000 * 300);
    assert_eq!(last.bytes_out, output.bytes.len() as u64);
    assert!(last.kernel_ns <= last.wall_ns);
}

#[test]
fn an_execution_stops_when_the_caller_says_so() {
    let spec = JobSpec::new(200, 300, 3000, RAMP).unwrap();
    let mut calls = 0;
    let stopped = cpu(2).execute(&spec, &mut |_| {
        calls += 1;
        ControlFlow::Break(())
    });
    assert_eq!(calls, 1);
    let Err(ExecError::Stopped { work_units_done }) = stopped else { panic!("{stopped:?}") };
    assert!(work_units_done > 0 && work_units_done < spec.work_units());
}

#[test]
fn the_zero_work_job_is_one_number_and_one_report() {
    let spec = JobSpec::zero_work(ZERO);
    let mut calls = 0;
    let output = cpu(2)
        .execute(&spec, &mut |_| {
            calls += 1;
            ControlFlow::Continue(())
        })
        .unwrap();
    assert_eq!((calls, output.bytes.len(), output.usage.work_units_done), (1, 20, 1));
    assert_eq!((output.usage.bytes_in, output.usage.bytes_out), (2, 20));
    assert_eq!(output.bytes, by_definition(&spec));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn any_job_on_any_number_of_threads_follows_the_definition(
        m in 1_u32..80, n in 1_u32..80, k in 1_u32..160, seed: [u8; 32], threads in 1_usize..4,
    ) {
        let spec = JobSpec::new(m, n, k, seed).unwrap();
        prop_assert_eq!(run(&cpu(threads), &spec).bytes, by_definition(&spec));
    }

    #[test]
    fn depths_around_the_block_border_follow_the_definition(
        m in 1_u32..4, n in 1_u32..6, k in 2040_u32..2060, seed: [u8; 32],
    ) {
        let spec = JobSpec::new(m, n, k, seed).unwrap();
        prop_assert_eq!(run(&cpu(1), &spec).bytes, by_definition(&spec));
    }
}
