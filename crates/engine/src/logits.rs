//! The logits of a step, row by row, without copying them.

use std::ops::Deref;
use std::sync::RwLockReadGuard;

use candle_core::{CpuStorage, DType, Device, Storage, Tensor};

/// The logits of a step: checked to be (rows, vocab), f32, contiguous, on the CPU.
#[derive(Debug, Clone)]
pub struct LogitTable {
    tensor: Tensor,
    rows: usize,
    vocab_size: usize,
}

/// One row; cheap to make.
#[derive(Debug)]
pub struct LogitRow {
    table: LogitTable,
    row: usize,
}

impl LogitTable {
    /// # Errors
    /// Another shape than (`rows`, `vocab_size`), or a tensor that cannot be brought here.
    pub fn new(tensor: &Tensor, rows: usize, vocab_size: usize) -> Result<Self, String> {
        if rows > 0 && tensor.dims() != [rows, vocab_size] {
            return Err(format!(
                "logits are {:?} and should be [{rows}, {vocab_size}]",
                tensor.dims()
            ));
        }
        // All three pass a tensor on as it is where it is right already.
        let tensor = tensor
            .to_device(&Device::Cpu)
            .and_then(|t| t.to_dtype(DType::F32))
            .and_then(|t| t.contiguous())
            .map_err(|e| e.to_string())?;
        Ok(Self {
            tensor,
            rows,
            vocab_size,
        })
    }

    /// All rows.
    pub fn rows(&self) -> impl Iterator<Item = LogitRow> + '_ {
        (0..self.rows).map(|row| LogitRow {
            table: self.clone(),
            row,
        })
    }
}

impl LogitRow {
    /// The logits.
    pub fn values(&self) -> impl Deref<Target = [f32]> + '_ {
        let (storage, layout) = self.table.tensor.storage_and_layout();
        let start = layout.start_offset() + self.row * self.table.vocab_size;
        Values {
            storage,
            start,
            len: self.table.vocab_size,
        }
    }
}

struct Values<'a> {
    storage: RwLockReadGuard<'a, Storage>,
    start: usize,
    len: usize,
}

impl Deref for Values<'_> {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        match &*self.storage {
            Storage::Cpu(CpuStorage::F32(values)) => &values[self.start..self.start + self.len],
            // `LogitTable::new` saw to it; an empty row is refused by the sampler.
            _ => &[],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_seen_through_views() {
        let values: Vec<f32> = (0..12).map(|v| v as f32).collect();
        let whole = Tensor::from_vec(values, (4, 3), &Device::Cpu).unwrap();
        let view = whole.narrow(0, 1, 2).unwrap();
        let table = LogitTable::new(&view, 2, 3).unwrap();
        let rows: Vec<Vec<f32>> = table.rows().map(|r| r.values().to_vec()).collect();
        assert_eq!(rows, [[3.0, 4.0, 5.0], [6.0, 7.0, 8.0]]);
        assert!(LogitTable::new(&view, 3, 3).is_err());
        let turned = whole.t().unwrap();
        let table = LogitTable::new(&turned, 3, 4).unwrap();
        let first = table.rows().next().unwrap();
        assert_eq!(*first.values(), [0.0, 3.0, 6.0, 9.0]);
    }
}
