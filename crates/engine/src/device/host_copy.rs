//! Copies to the host that are started now and waited for later.
//!
//! A device works its stream off in order, so a copy that is asked for late waits for everything before
//! it. One that was started when its values were made waits for them alone; that takes pinned memory, for
//! with any other the driver itself waits.

use candle_core::{DType, Result, Tensor};

#[cfg(feature = "cuda")]
use pinned::Pinned;

/// Starts copies; keeps the memory that they land in.
#[derive(Debug, Default)]
pub struct HostCopies {
    #[cfg(feature = "cuda")]
    free: pinned::FreeList,
}

/// A copy of f32 that was started.
#[derive(Debug)]
pub struct HostCopy(Values);

#[derive(Debug)]
enum Values {
    /// Read when they are waited for.
    Tensor(Tensor),
    #[cfg(feature = "cuda")]
    Pinned(Pinned),
}

impl HostCopies {
    /// Starts a copy of all of `tensor`'s values.
    ///
    /// # Errors
    /// No memory, or a device that failed.
    pub fn start(&mut self, tensor: &Tensor) -> Result<HostCopy> {
        #[cfg(feature = "cuda")]
        if tensor.device().is_cuda() {
            let values = self.free.start(&tensor.to_dtype(DType::F32)?)?;
            return Ok(HostCopy(Values::Pinned(values)));
        }
        Ok(HostCopy::of(tensor.clone()))
    }
}

impl HostCopy {
    /// Of a tensor that is here, or that may be read in the order of its device's stream.
    pub fn of(tensor: Tensor) -> Self {
        Self(Values::Tensor(tensor))
    }

    /// Waits for the values, in row-major order.
    ///
    /// # Errors
    /// A device that failed.
    pub fn wait(self) -> Result<Vec<f32>> {
        match self.0 {
            Values::Tensor(tensor) => tensor.to_dtype(DType::F32)?.flatten_all()?.to_vec1(),
            #[cfg(feature = "cuda")]
            Values::Pinned(values) => values.wait(),
        }
    }
}

#[cfg(feature = "cuda")]
mod pinned {
    use std::sync::{Arc, Mutex, PoisonError};

    use candle_core::cuda::cudarc::driver::{CudaEvent, CudaStream, PinnedHostSlice};
    use candle_core::{bail, Error, Result, Storage, Tensor};

    /// Floats that one buffer holds at least: (token, check) of so many rows as run at once as a rule.
    const LEAST: usize = 1024;

    /// Buffers that no copy uses.
    #[derive(Debug, Clone, Default)]
    pub struct FreeList(Arc<Mutex<Vec<PinnedHostSlice<f32>>>>);

    /// A copy into a buffer, which goes back to its list.
    #[derive(Debug)]
    pub struct Pinned {
        /// `None` only while it is being dropped.
        buffer: Option<PinnedHostSlice<f32>>,
        len: usize,
        /// Reached when the copy is through. The buffer has an event of its own, which is recorded only
        /// where several streams are in use.
        done: CudaEvent,
        free: FreeList,
    }

    impl FreeList {
        /// Starts a copy of a tensor of f32 on a CUDA device.
        pub fn start(&self, tensor: &Tensor) -> Result<Pinned> {
            let tensor = tensor.contiguous()?;
            let len = tensor.elem_count();
            let (storage, layout) = tensor.storage_and_layout();
            let Storage::Cuda(storage) = &*storage else {
                bail!("a copy from a device that is not CUDA: a bug");
            };
            let first = layout.start_offset();
            let values = storage.as_cuda_slice::<f32>()?.slice(first..first + len);
            let stream = storage.device.cuda_stream();
            let mut buffer = self.take(&stream, len)?;
            // As many bytes are copied as the target is long.
            let target = &mut buffer.as_mut_slice().map_err(Error::wrap)?[..len];
            stream.memcpy_dtoh(&values, target).map_err(Error::wrap)?;
            let done = stream.record_event(None).map_err(Error::wrap)?;
            Ok(Pinned {
                buffer: Some(buffer),
                len,
                done,
                free: self.clone(),
            })
        }

        #[expect(unsafe_code, reason = "pinned memory comes uninitialised")]
        fn take(&self, stream: &CudaStream, len: usize) -> Result<PinnedHostSlice<f32>> {
            let mut free = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(i) = free.iter().position(|buffer| buffer.len() >= len) {
                return Ok(free.swap_remove(i));
            }
            // Not write-combined, which is slow to read.
            // SAFETY: every bit pattern is an f32, and only what a copy has written is read: `Pinned::wait`
            // takes the first `len`, which `start` copied.
            let buffer = unsafe { stream.context().alloc_pinned_with_flags(len.max(LEAST), 0) };
            buffer.map_err(Error::wrap)
        }

        fn give_back(&self, buffer: PinnedHostSlice<f32>) {
            let mut free = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            free.push(buffer);
        }
    }

    impl Pinned {
        /// Waits for this copy alone.
        pub fn wait(self) -> Result<Vec<f32>> {
            self.done.synchronize().map_err(Error::wrap)?;
            let Some(buffer) = &self.buffer else {
                bail!("a copy without a buffer: a bug");
            };
            Ok(buffer.as_slice().map_err(Error::wrap)?[..self.len].to_vec())
        }
    }

    impl Drop for Pinned {
        fn drop(&mut self) {
            // Whoever gets the buffer next, or its memory, must not find a copy under way.
            let through = self.done.synchronize();
            match (self.buffer.take(), through) {
                (Some(buffer), Ok(())) => self.free.give_back(buffer),
                // A device that failed writes nothing any more.
                (buffer, _) => drop(buffer),
            }
        }
    }
}
