//! Each portable step against our kernel, and against itself without a gradient: values and slopes.

use std::sync::Arc;

use candle_core::{DType, Device, Result, Tensor, Var};

use super::{attention, frozen, log_probs, steps};
use crate::attention::Attention;
use crate::config::Activation;
use crate::input::ForwardInput;
use crate::kernels;
use crate::kernels::packed_attention::{PackedAttention, SpanContext};
use crate::kernels::packed_matmul::{PackedMatrix, WeightType};
use crate::kernels::paged_attention::AttentionShape;
use crate::kernels::rope::Angles;
use crate::placement::Route;

fn noise(rows: usize, width: usize, by: f32) -> Tensor {
    let values = (0..rows * width).map(|i| (i as f32 * by + by).sin());
    Tensor::from_vec(values.collect(), (rows, width), &Device::Cpu).unwrap()
}

fn distance(a: &Tensor, b: &Tensor) -> f32 {
    let difference = (a.to_dtype(DType::F32).unwrap() - b.to_dtype(DType::F32).unwrap()).unwrap();
    let greatest = difference.abs().unwrap().max_all().unwrap();
    greatest.to_scalar().unwrap()
}

/// Compares f with g at `inputs`: values, gradients under one weighting of the outputs, and f's value
/// where no gradient is asked for, which may take another path.
fn compare(
    name: &str,
    inputs: &[Tensor],
    f: impl Fn(&[Tensor]) -> Result<Tensor>,
    g: impl Fn(&[Tensor]) -> Result<Tensor>,
) {
    let variables: Vec<Var> = inputs
        .iter()
        .map(|x| Var::from_tensor(x).unwrap())
        .collect();
    let tracked: Vec<Tensor> = variables.iter().map(|v| v.as_tensor().clone()).collect();
    let run = |h: &dyn Fn(&[Tensor]) -> Result<Tensor>| {
        let y = h(&tracked).unwrap();
        let by = noise(1, y.elem_count(), 0.31).reshape(y.shape()).unwrap();
        let loss = (&y * by).unwrap().sum_all().unwrap();
        let mut store = loss.backward().unwrap();
        let gradients = variables.iter().map(|v| store.remove(v).unwrap()).collect();
        (y, gradients)
    };
    let (ours, our_gradients): (Tensor, Vec<Tensor>) = run(&f);
    let (theirs, their_gradients): (Tensor, Vec<Tensor>) = run(&g);
    assert!(distance(&ours, &theirs) < 1e-5, "{name}: values");
    for (i, (a, b)) in our_gradients.iter().zip(&their_gradients).enumerate() {
        assert!(distance(a, b) < 3e-5, "{name}: gradient {i}");
    }
    let untracked: Vec<Tensor> = tracked.iter().map(Tensor::detach).collect();
    let fast = f(&untracked).unwrap();
    assert!(distance(&fast, &ours) < 1e-5, "{name}: without gradients");
}

#[test]
fn steps_are_those_of_the_kernels() {
    let weight = noise(1, 24, 0.3).flatten_all().unwrap();
    let values: Arc<[f32]> = weight.to_vec1::<f32>().unwrap().into();
    compare(
        "rms norm",
        &[noise(7, 24, 0.7)],
        |x| steps::rms_norm(&x[0], &weight, 1e-5),
        |x| kernels::rms_norm::rms_norm(&x[0], &values, 1e-5),
    );

    let (rows, half) = (5, 4);
    let turn = |f: fn(f32) -> f32| (0..rows * half).map(|i| f(i as f32 * 0.9)).collect();
    let (cos, sin): (Vec<f32>, Vec<f32>) = (turn(f32::cos), turn(f32::sin));
    let tensor = |v: &Vec<f32>| Tensor::from_vec(v.clone(), (rows, half), &Device::Cpu).unwrap();
    let (c, s) = (tensor(&cos), tensor(&sin));
    let angles = Arc::new(Angles { cos, sin, half });
    compare(
        "rotate",
        &[noise(rows, 3 * 2 * half, 0.7)],
        |x| steps::rotate(&x[0], &c, &s),
        |x| kernels::rope::rotate(&x[0], &angles),
    );

    for activation in [Activation::Silu, Activation::GeluTanh] {
        compare(
            "gate",
            &[noise(6, 40, 0.7), noise(6, 40, 1.3)],
            |x| steps::gated(&x[0], &x[1], activation),
            |x| kernels::gated::gated(&x[0], &x[1], activation),
        );
    }
}

#[test]
fn products_and_log_probs_are_those_of_packed_matrices() {
    let weight = noise(700, 24, 0.17);
    let packed = |w: &Tensor| Arc::new(PackedMatrix::new(w, WeightType::F32).unwrap());
    let (head, transposed) = (packed(&weight), packed(&weight.t().unwrap()));
    compare(
        "product",
        &[noise(9, 24, 0.7)],
        |x| frozen::product(&x[0], &weight),
        |x| head.forward(&x[0], Some(&transposed)),
    );
    // More rows than have logits at once.
    let targets: Vec<u32> = (0..1100).map(|r| r * 7 % 700).collect();
    compare(
        "log probs",
        &[noise(1100, 24, 0.7)],
        |x| log_probs::log_probs(&x[0], &weight, &targets),
        |x| kernels::log_probs::log_probs(&x[0], &head, Some(&transposed), targets.clone()),
    );
    let x = noise(1, 24, 0.7);
    assert!(log_probs::log_probs(&x, &weight, &[700]).is_err());
    assert!(log_probs::log_probs(&x, &weight, &[1, 2]).is_err());
}

#[test]
fn packs_attend_as_the_kernel_does() {
    let spans = vec![
        SpanContext {
            rows: 0..5,
            before: vec![],
        },
        SpanContext {
            rows: 5..8,
            before: std::iter::once(0..5).collect(),
        },
        SpanContext {
            rows: 8..9,
            before: std::iter::once(0..5).collect(),
        },
        SpanContext {
            rows: 9..12,
            before: vec![],
        },
    ];
    for window in [None, Some(1), Some(3), Some(100)] {
        let shape = AttentionShape {
            n_heads: 6,
            n_kv_heads: 2,
            head_dim: 8,
            scale: 0.4,
            window,
            route: Route::Kernels,
        };
        let input = ForwardInput::default();
        compare(
            "attention",
            &[noise(12, 48, 0.7), noise(12, 16, 0.9), noise(12, 16, 1.1)],
            |x| attention::attend_pack(shape, [&x[0], &x[1], &x[2]], &spans),
            |x| {
                let mut kernel = PackedAttention::new(spans.clone());
                kernel.attend(0, shape, [&x[0], &x[1], &x[2]], &input)
            },
        );
    }
}

/// Half-precision tensors go through every step, and their sums are those of f32 up to rounding.
#[test]
fn half_precision_is_near() {
    let half = |t: &Tensor| t.to_dtype(DType::F16).unwrap();
    let (x, weight) = (noise(9, 24, 0.7), noise(700, 24, 0.17));
    let targets: Vec<u32> = (0..9).collect();
    let near = |name: &str, a: Result<Tensor>, b: Result<Tensor>| {
        let error = distance(&a.unwrap(), &b.unwrap());
        assert!(error < 2e-2, "{name}: {error}");
    };
    let norm = weight.get(0).unwrap();
    near(
        "rms norm",
        steps::rms_norm(&half(&x), &half(&norm), 1e-5),
        steps::rms_norm(&x, &norm, 1e-5),
    );
    near(
        "gate",
        steps::gated(&half(&x), &half(&x), Activation::Silu),
        steps::gated(&x, &x, Activation::Silu),
    );
    near(
        "log probs",
        log_probs::log_probs(&half(&x), &half(&weight), &targets),
        log_probs::log_probs(&x, &weight, &targets),
    );
    let shape = AttentionShape {
        n_heads: 3,
        n_kv_heads: 1,
        head_dim: 8,
        scale: 0.4,
        window: None,
        route: Route::Portable,
    };
    let kv = noise(11, 8, 0.9);
    near(
        "attention",
        attention::attend(shape, &half(&x), &half(&kv), &half(&kv)),
        attention::attend(shape, &x, &kv, &kv),
    );
}
