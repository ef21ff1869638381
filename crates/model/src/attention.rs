//! The seam between the decoder and whatever keeps keys and values.

use candle_core::{Result, Tensor};

use super::input::ForwardInput;
use super::kernels::paged_attention::AttentionShape;

/// Causal attention of the packed rows of one layer.
pub trait Attention {
    /// Gets ready for a pass over `input`, before the first layer.
    ///
    /// # Errors
    /// A failure of the tensor library.
    fn begin(&mut self, input: &ForwardInput) -> Result<()> {
        let _ = input;
        Ok(())
    }

    /// q is (rows, heads * head_dim); k and v are (rows, kv heads * head_dim), rotated and
    /// normalised; all of one type, where the model is. Returns (rows, heads * head_dim).
    ///
    /// # Errors
    /// A failure of the tensor library.
    fn attend(
        &mut self,
        layer: usize,
        shape: AttentionShape,
        qkv: [&Tensor; 3],
        input: &ForwardInput,
    ) -> Result<Tensor>;
}
