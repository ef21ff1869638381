//! Frozen linear layers, dense or quantized, and the LoRA that runs beside them.
//!
//! The seam where faster kernels will go: a layer is a [`Linear`], whatever holds its weights.

use std::sync::atomic::AtomicUsize;
use std::sync::Arc;

use candle_core::{bail, DType, Device, Result, Tensor};
use mistralrs_quant::{IsqType, QuantMethod, QuantMethodConfig, QuantizeOntoGuard, UnquantLinear};

use super::input::SequenceSpan;
use super::kernels::log_probs::log_probs;
use super::kernels::packed_matmul::{PackedMatrix, WeightType};
use super::lora::{LoraSet, Projection};
use super::placement::{Placement, Route};
use super::portable;

/// How the weights of linear layers are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LinearFormat {
    /// Packed for our own kernel.
    Packed(WeightType),
    /// Packed in f32 in both directions, so that gradients pass through: twice the memory.
    Differentiable,
    /// A plain matrix of the tensor library, which has gradients: what runs on a GPU.
    Dense,
    /// Quantized at load by mistralrs-quant.
    Quantized(IsqType),
}

/// y = x W^T + b, frozen.
#[derive(Debug)]
pub struct Linear {
    weight: Weight,
    bias: Option<Tensor>,
}

#[derive(Debug)]
enum Weight {
    Packed {
        weight: Arc<PackedMatrix>,
        /// W^T, where gradients pass through.
        transposed: Option<Arc<PackedMatrix>>,
    },
    /// (out, in), where and as it was placed.
    Dense(Tensor),
    Quantized {
        weight: Arc<dyn QuantMethod>,
        /// The 8-bit float product of mistralrs-quant needs a batch dimension.
        batched: bool,
    },
}

impl Linear {
    /// `weight` is (out, in), f32 or as it is placed; `bias` (out).
    ///
    /// # Errors
    /// A shape that the format cannot hold (K-quants need 256 inputs per block), or packed weights
    /// elsewhere than on the CPU in f32.
    pub fn new(weight: Tensor, bias: Option<Tensor>, placement: &Placement) -> Result<Self> {
        let format = placement.format;
        let packs = matches!(
            format,
            LinearFormat::Packed(_) | LinearFormat::Differentiable
        );
        if packs && placement.route() == Route::Portable {
            bail!("packed weights are for the CPU and f32: a bug, the format should be dense");
        }
        let weight = match format {
            LinearFormat::Packed(kept_as) => Weight::Packed {
                weight: Arc::new(PackedMatrix::new(&weight, kept_as)?),
                transposed: None,
            },
            LinearFormat::Differentiable => Weight::Packed {
                weight: Arc::new(PackedMatrix::new(&weight, WeightType::F32)?),
                transposed: Some(Arc::new(PackedMatrix::new(&weight.t()?, WeightType::F32)?)),
            },
            LinearFormat::Dense => Weight::Dense(placement.place(&weight)?.contiguous()?),
            LinearFormat::Quantized(kind) => Weight::Quantized {
                weight: quantize(weight, kind, &placement.device)?,
                batched: kind == IsqType::F8E4M3,
            },
        };
        let bias = bias.map(|b| placement.place(&b)).transpose()?;
        Ok(Self { weight, bias })
    }

    /// x is (rows, in), contiguous; the result (rows, out), of x's type.
    ///
    /// # Errors
    /// A misshapen x.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let y = match &self.weight {
            Weight::Packed { weight, transposed } => weight.forward(x, transposed.as_ref())?,
            Weight::Dense(weight) => portable::frozen::product(x, weight)?,
            Weight::Quantized {
                weight,
                batched: true,
            } => weight.forward_autocast(&x.unsqueeze(0)?)?.squeeze(0)?,
            Weight::Quantized { weight, .. } => weight.forward_autocast(x)?,
        };
        match &self.bias {
            Some(bias) => y.broadcast_add(bias),
            None => Ok(y),
        }
    }

    /// `log softmax(y)[target]` of each row, (rows); this layer is the head, which has no bias.
    ///
    /// # Errors
    /// A misshapen x, a target outside the vocabulary, or a head that is quantized.
    pub fn log_probs(&self, x: &Tensor, targets: Vec<u32>) -> Result<Tensor> {
        match &self.weight {
            Weight::Packed { weight, transposed } => {
                log_probs(x, weight, transposed.as_ref(), targets)
            }
            Weight::Dense(weight) => portable::log_probs::log_probs(x, weight, &targets),
            Weight::Quantized { .. } => bail!("log-probs need a model that is not quantized"),
        }
    }
}

fn quantize(weight: Tensor, kind: IsqType, device: &Device) -> Result<Arc<dyn QuantMethod>> {
    let weight = weight.to_dtype(DType::F32)?;
    let dense = QuantMethodConfig::Unquantized(candle_nn::Linear::new(weight, None));
    Arc::new(UnquantLinear::new(dense)?).apply_isq(
        Some(kind),
        device.clone(),
        &AtomicUsize::new(0),
        None,
        QuantizeOntoGuard::new(),
    )
}

/// The packed rows of one batch by the LoRA that they run with. Rows of the bare base are in none.
#[derive(Debug, Default)]
pub struct LoraGroups {
    groups: Vec<LoraGroup>,
    n_rows: usize,
    /// The rows of all groups; `None`: every row is in the one group.
    adapted: Option<Adapted>,
}

#[derive(Debug)]
struct LoraGroup {
    lora: Arc<LoraSet>,
    rows: Vec<u32>,
    /// The same where x is.
    index: Option<Tensor>,
}

/// Rows of some groups, where x is.
#[derive(Debug)]
struct Adapted {
    /// Group after group, (n), u32.
    rows: Tensor,
    /// Where each packed row's result is, (rows), u32: among the rows of the base layer, or behind them among
    /// the adapted ones.
    places: Tensor,
}

impl LoraGroups {
    /// Groups the rows of `spans`; the order of groups is that of their first rows. Sets that are
    /// elsewhere than on `device` are brought there, with their gradients' way back.
    ///
    /// # Errors
    /// No memory.
    pub fn new(spans: &[SequenceSpan], n_rows: usize, device: &Device) -> Result<Self> {
        let mut by_set: Vec<(Arc<LoraSet>, Vec<u32>)> = Vec::new();
        for span in spans {
            let Some(lora) = span.lora.as_ref().filter(|l| !l.pairs.is_empty()) else {
                continue;
            };
            let rows = span.rows.clone().map(|r| r as u32);
            match by_set.iter_mut().find(|(set, _)| Arc::ptr_eq(set, lora)) {
                Some((_, known)) => known.extend(rows),
                None => by_set.push((lora.clone(), rows.collect())),
            }
        }
        let group = |(lora, rows): (Arc<LoraSet>, Vec<u32>)| {
            let some = rows.len() < n_rows;
            let index = some.then(|| Tensor::new(rows.as_slice(), device));
            let lora = match device {
                Device::Cpu => lora,
                _ => lora.to_device(device)?,
            };
            Ok(LoraGroup {
                lora,
                rows,
                index: index.transpose()?,
            })
        };
        let groups: Vec<LoraGroup> = by_set.into_iter().map(group).collect::<Result<_>>()?;
        let some = groups.iter().any(|g| g.index.is_some());
        let adapted = some.then(|| Adapted::new(&groups, n_rows, device));
        Ok(Self {
            adapted: adapted.transpose()?,
            groups,
            n_rows,
        })
    }

    /// Adds each group's delta of layer (`block`, `projection`) to `y` = the base layer's output for
    /// `x`, in place where nothing is trained. Rows without a delta keep their bits.
    ///
    /// # Errors
    /// A LoRA that does not fit the layer: bundles are checked when they are read.
    pub fn add_to(
        &self,
        y: Tensor,
        x: &Tensor,
        block: usize,
        projection: Projection,
    ) -> Result<Tensor> {
        let (mut deltas, mut with) = (Vec::new(), Vec::new());
        for group in &self.groups {
            let Some(pair) = group.lora.pairs.get(&(block, projection)) else {
                continue;
            };
            if let Some(packed) = pair.packed_for(x) {
                packed.add_to(&y, x, &group.rows)?;
                continue;
            }
            let x = match &group.index {
                None => x.clone(),
                Some(rows) => x.index_select(rows, 0)?,
            };
            deltas.push(pair.delta(&group.lora.drop_out(x, block, projection)?)?);
            with.push(group);
        }
        let some;
        let adapted = match &self.adapted {
            _ if with.is_empty() => return Ok(y),
            None => return y + &deltas[0],
            Some(all) if with.len() == self.groups.len() => all,
            Some(_) => {
                some = Adapted::new(with, self.n_rows, y.device())?;
                &some
            }
        };
        let changed = (y.index_select(&adapted.rows, 0)? + Tensor::cat(&deltas, 0)?)?;
        Tensor::cat(&[y, changed], 0)?.index_select(&adapted.places, 0)
    }
}

impl Adapted {
    fn new<'a>(
        groups: impl IntoIterator<Item = &'a LoraGroup>,
        n_rows: usize,
        device: &Device,
    ) -> Result<Self> {
        let rows = groups.into_iter().flat_map(|g| g.rows.iter().copied());
        let rows: Vec<u32> = rows.collect();
        let mut places: Vec<u32> = (0..n_rows as u32).collect();
        for (row, place) in rows.iter().zip(n_rows as u32..) {
            places[*row as usize] = place;
        }
        Ok(Self {
            rows: Tensor::new(rows, device)?,
            places: Tensor::new(places, device)?,
        })
    }
}
