//! x W^T with a frozen W: the gradient goes to x alone.

use candle_core::backend::BackendStorage;
use candle_core::{
    bail, CpuStorage, CudaStorage, CustomOp1, Layout, Result, Shape, Storage, Tensor,
};

/// x W^T; x is (rows, in), `weight` (out, in), contiguous, of x's type and device. The tensor library's own
/// product would compute a gradient of W, too: as much work again, and memory for every weight.
///
/// # Errors
/// A misshapen x.
pub fn product(x: &Tensor, weight: &Tensor) -> Result<Tensor> {
    if !x.track_op() {
        return x.matmul(&weight.t()?);
    }
    if x.dim(1)? != weight.dim(1)? {
        bail!("product: x is {:?} and W {:?}", x.shape(), weight.shape());
    }
    x.contiguous()?.apply_op1(Product {
        weight: weight.clone(),
    })
}

struct Product {
    /// (out, in).
    weight: Tensor,
}

impl Product {
    fn multiply<S: BackendStorage>(
        &self,
        x: &S,
        x_layout: &Layout,
        weight: &S,
        weight_layout: &Layout,
    ) -> Result<(S, Shape)> {
        let (rows, n_in) = x_layout.shape().dims2()?;
        let n_out = weight_layout.dims()[0];
        let transposed = weight_layout.transpose(0, 1)?;
        let y = x.matmul(weight, (1, rows, n_out, n_in), x_layout, &transposed)?;
        Ok((y, Shape::from((rows, n_out))))
    }
}

impl CustomOp1 for Product {
    fn name(&self) -> &'static str {
        "frozen-product"
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let (storage, weight_layout) = self.weight.storage_and_layout();
        match &*storage {
            Storage::Cpu(weight) => self.multiply(x, layout, weight, weight_layout),
            _ => bail!("product: x is on the CPU and W is not"),
        }
    }

    fn cuda_fwd(&self, x: &CudaStorage, layout: &Layout) -> Result<(CudaStorage, Shape)> {
        let (storage, weight_layout) = self.weight.storage_and_layout();
        match &*storage {
            Storage::Cuda(weight) => self.multiply(x, layout, weight, weight_layout),
            _ => bail!("product: x is on a CUDA device and W is not"),
        }
    }

    fn bwd(&self, _: &Tensor, _: &Tensor, gradient: &Tensor) -> Result<Option<Tensor>> {
        Ok(Some(gradient.contiguous()?.matmul(&self.weight)?))
    }
}
