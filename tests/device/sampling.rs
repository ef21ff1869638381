//! The sampler's kernel against the sampler: on the CPU, by threads, and on the device under test.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use attune_engine::device::chosen::ChosenTokens;
use attune_engine::device::host_copy::HostCopies;
use attune_engine::device::sampler;
use attune_engine::draw::Scratch;
use attune_engine::sampler::SamplingPlan;
use candle_core::Tensor;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::elsewhere;

#[derive(Debug)]
struct Case {
    rows: Vec<Vec<f32>>,
    plans: Vec<SamplingPlan>,
}

/// Rows with and without equal logits, impossible tokens, and broken numbers.
fn case(random: &mut ChaCha8Rng, vocab: usize) -> Case {
    let one_of =
        |random: &mut ChaCha8Rng, values: &[f32]| values[random.random_range(0..values.len())];
    let (steps, impossible, broken) = (random.random(), random.random(), random.random());
    let logit = |random: &mut ChaCha8Rng| {
        let logit: f32 = random.random_range(-9.0..9.0);
        match (steps, impossible && random.random_bool(0.3)) {
            (_, true) => f32::NEG_INFINITY,
            (true, _) => logit.round(),
            (false, _) => logit,
        }
    };
    let mut rows: Vec<Vec<f32>> = (0..12)
        .map(|_| (0..vocab).map(|_| logit(random)).collect())
        .collect();
    if broken {
        rows[0][0] = f32::NAN;
        rows[1][vocab - 1] = f32::INFINITY;
        rows[2].fill(f32::NEG_INFINITY);
    }
    let top_k = [0.0, 1.0, 5.0, 50.0, vocab as f32];
    let plan = |_| SamplingPlan {
        temperature: one_of(random, &[0.0, 0.3, 1.0, 1.7]),
        top_k: one_of(random, &top_k) as usize,
        top_p: one_of(random, &[0.0, 0.1, 0.5, 0.9, 1.0, 1.0]),
        min_p: one_of(random, &[0.0, 0.0, 0.05, 1.0]),
        u: random.random(),
    };
    let plans = (0..rows.len()).map(plan).collect();
    Case { rows, plans }
}

/// The host's token; `None` where it would refuse the row.
fn expected(row: &[f32], plan: &SamplingPlan) -> Option<u32> {
    let broken = row.iter().any(|l| l.is_nan() || *l == f32::INFINITY);
    let possible = row.iter().any(|l| *l > f32::NEG_INFINITY);
    let chosen = plan.choose(row, &mut Scratch::default());
    assert_eq!(chosen.is_some(), !broken && possible);
    chosen
}

/// Rows that got another token.
fn differing(case: &Case, got: &[Option<u32>]) -> usize {
    let rows = case.rows.iter().zip(&case.plans).zip(got);
    let differs = rows.filter(|((row, plan), got)| expected(row, plan) != **got);
    differs.count()
}

/// The kernel's source, compiled for the CPU.
fn by_threads(program: &Path, case: &Case, n_threads: u32) -> Vec<Option<u32>> {
    let mut input = Vec::new();
    let sizes = [case.rows.len() as u32, case.rows[0].len() as u32, n_threads];
    input.extend(sizes.iter().flat_map(|n| n.to_le_bytes()));
    let numbers = |w: &SamplingPlan| {
        let floats = [w.temperature, w.top_k as f32, w.top_p, w.min_p].map(f64::from);
        floats.into_iter().chain([w.u])
    };
    let numbers = case.plans.iter().flat_map(numbers);
    input.extend(numbers.flat_map(f64::to_le_bytes));
    input.extend(case.rows.iter().flatten().flat_map(|l| l.to_le_bytes()));
    let mut run = Command::new(program);
    let run = run.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut run = run.spawn().unwrap();
    run.stdin.take().unwrap().write_all(&input).unwrap();
    let output = run.wait_with_output().unwrap();
    assert!(output.status.success());
    let report = output.stdout.chunks_exact(4);
    let report: Vec<f32> = report
        .map(|b| f32::from_le_bytes(b.try_into().unwrap()))
        .collect();
    let (ids, checks) = report.split_at(case.rows.len());
    let token = |(id, check): (&f32, &f32)| (!check.is_nan()).then_some(*id as u32);
    ids.iter().zip(checks).map(token).collect()
}

#[test]
fn the_kernel_run_by_threads_is_the_sampler() {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let directory = tempfile::tempdir().unwrap();
    let program = directory.path().join("choose");
    let kernel = here.join("crates/engine/src/device/choose.cu");
    // A C++ compiler is there: crates that attune builds on want one.
    let compiled = Command::new(std::env::var("CXX").unwrap_or_else(|_| "c++".into()))
        .args(["-std=c++20", "-O1", "-pthread", "-o"])
        .arg(&program)
        .arg(format!("-DKERNEL={:?}", kernel.to_str().unwrap()))
        .arg(here.join("tests/device/blocks_of_threads.cpp"))
        .output()
        .unwrap();
    let errors = String::from_utf8_lossy(&compiled.stderr);
    assert!(compiled.status.success(), "{errors}");
    let mut random = ChaCha8Rng::seed_from_u64(11);
    for (vocab, n_threads) in [(1, 1), (7, 8), (7, 2), (100, 8), (1000, 32), (3001, 16)] {
        for _ in 0..8 {
            let case = case(&mut random, vocab);
            let got = by_threads(&program, &case, n_threads);
            assert_eq!(differing(&case, &got), 0, "{case:?}: {got:?}");
        }
    }
}

#[test]
fn the_device_chooses_as_the_sampler() {
    let device = elsewhere().device;
    let mut copies = HostCopies::default();
    let mut random = ChaCha8Rng::seed_from_u64(12);
    let (mut rows, mut differ) = (0, 0);
    for vocab in [1, 7, 1000, 49_152, 128_256] {
        for _ in 0..8 {
            let case = case(&mut random, vocab);
            let logits = Tensor::new(case.rows.clone(), &device).unwrap();
            let choice = sampler::choose(&logits, &case.plans).unwrap();
            let ids = choice.ids.to_vec1::<u32>().unwrap();
            let report = copies.start(&choice.report).unwrap();
            let got = ChosenTokens::new(choice.ids, report).wait().unwrap();
            let stated = got.iter().map(|t| t.unwrap_or(0));
            assert_eq!(ids, stated.collect::<Vec<u32>>());
            rows += got.len();
            differ += differing(&case, &got);
        }
    }
    // A GPU's exponential is another one: a token at the very edge may fall to the other side.
    let allowed = if device.is_cpu() { 0 } else { rows / 20 };
    assert!(differ <= allowed, "{differ} of {rows}");
}
