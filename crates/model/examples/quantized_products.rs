//! How fast products on quantized blocks are, by format and number of rows: for docs/experiments.md.
//!
//!   quantized_products [OUT IN]
//!
//! With all threads; weights that the caches hold (some 2 MB) and weights that they do not.

#![expect(clippy::print_stdout, reason = "its figures are for a terminal")]

use std::time::Instant;

use attune_model::kernels::quantized::{products, Format, QuantizedMatrix};
use candle_core::quantized::QTensor;
use candle_core::{Device, Result, Tensor};

fn main() -> Result<()> {
    // Inside the pool, as the engine is.
    rayon::scope(|_| measure())
}

fn measure() -> Result<()> {
    let given: Vec<usize> = std::env::args()
        .skip(1)
        .filter_map(|n| n.parse().ok())
        .collect();
    let (n_out, n_in) = match given.as_slice() {
        [n_out, n_in] => (*n_out, *n_in),
        _ => (1536, 768),
    };
    for format in Format::ALL {
        let numbers = Tensor::randn(0f32, 1.0, (n_out, n_in), &Device::Cpu)?;
        let blocks = QTensor::quantize(&numbers, format.stored())?;
        let copies = 1 + (64 << 20) / blocks.storage_size_in_bytes();
        let weights: Vec<QuantizedMatrix> = (0..copies)
            .map(|_| QuantizedMatrix::new(&blocks, |row| row))
            .collect::<Result<_>>()?;
        for rows in [1, 8, 32, 128] {
            let x = Tensor::randn(0f32, 1.0, (rows, n_in), &Device::Cpu)?;
            let operations = 2.0 * (rows * n_out * n_in) as f64;
            let cached = seconds(|i| products(&[&weights[i % 2]], &x).map(drop))?;
            let streamed = seconds(|i| products(&[&weights[i % copies]], &x).map(drop))?;
            println!(
                "{format:?} {rows:4} rows: cached {:6.1} GOP/s, streamed {:6.1} GOP/s = {:5.1} GB/s",
                operations / cached / 1e9,
                operations / streamed / 1e9,
                weights[0].bytes() as f64 / streamed / 1e9,
            );
        }
    }
    Ok(())
}

/// The best of some passes, per product.
fn seconds(mut product: impl FnMut(usize) -> Result<()>) -> Result<f64> {
    let mut best = f64::MAX;
    for _ in 0..8 {
        let began = Instant::now();
        let mut n = 0;
        while n < 64 || began.elapsed().as_millis() < 5 {
            product(n)?;
            n += 1;
        }
        best = best.min(began.elapsed().as_secs_f64() / n as f64);
    }
    Ok(best)
}
