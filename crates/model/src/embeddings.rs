//! The table of embeddings, in numbers or in the blocks of a file.

use std::sync::Arc;

use candle_core::{Device, Result, Tensor};

use super::kernels::quantized::QuantizedMatrix;
use super::placement::Placement;
use super::weights::AsStored;

/// The embedding of each token.
#[derive(Debug)]
pub enum Embeddings {
    /// (vocab, hidden), where and as it was placed.
    Numbers(Tensor),
    /// A row is dequantized when it is looked up; a tied head has the same blocks.
    Blocks(Arc<QuantizedMatrix>),
}

impl Embeddings {
    /// # Errors
    /// No memory.
    pub fn new(table: &AsStored, placement: &Placement) -> Result<Self> {
        Ok(match table {
            AsStored::Numbers(table) => Self::Numbers(placement.place(table)?),
            AsStored::Blocks(table) => Self::Blocks(table.clone()),
        })
    }

    /// The table, for a head that is tied to it.
    pub fn table(&self) -> AsStored {
        match self {
            Self::Numbers(table) => AsStored::Numbers(table.clone()),
            Self::Blocks(table) => AsStored::Blocks(table.clone()),
        }
    }

    /// Where ids have to be.
    pub fn device(&self) -> &Device {
        match self {
            Self::Numbers(table) => table.device(),
            Self::Blocks(_) => &Device::Cpu,
        }
    }

    /// Tokens of the table.
    ///
    /// # Errors
    /// A table that is not a matrix.
    pub fn vocabulary(&self) -> Result<usize> {
        match self {
            Self::Numbers(table) => table.dim(0),
            Self::Blocks(table) => Ok(table.shape().0),
        }
    }

    /// The embeddings of `ids`, (ids) u32: (ids, hidden).
    ///
    /// # Errors
    /// An id outside the vocabulary.
    pub fn of(&self, ids: &Tensor) -> Result<Tensor> {
        match self {
            Self::Numbers(table) => table.embedding(ids),
            Self::Blocks(table) => table.rows(&ids.to_vec1()?),
        }
    }
}

#[cfg(test)]
mod tests {
    use candle_core::quantized::{GgmlDType, QTensor};

    use super::*;

    #[test]
    fn blocks_give_the_embeddings_of_their_numbers() {
        let table = Tensor::randn(0f32, 1.0, (20, 64), &Device::Cpu).unwrap();
        let blocks = QTensor::quantize(&table, GgmlDType::Q4_1).unwrap();
        let numbers = Embeddings::Numbers(blocks.dequantize(&Device::Cpu).unwrap());
        let blocks = QuantizedMatrix::new(&blocks, |row| row).unwrap();
        let blocks = Embeddings::Blocks(Arc::new(blocks));
        let ids = Tensor::new(&[3u32, 19, 3], &Device::Cpu).unwrap();
        let [got, want] =
            [&blocks, &numbers].map(|e| e.of(&ids).unwrap().to_vec2::<f32>().unwrap());
        assert_eq!(got, want);
        assert_eq!(blocks.vocabulary().unwrap(), 20);
        let outside = Tensor::new(&[20u32], &Device::Cpu).unwrap();
        assert!(blocks.of(&outside).is_err());
    }
}
