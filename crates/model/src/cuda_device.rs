//! CUDA devices, set up for a server that owns its GPU: everything runs on one stream, and memory that a
//! pass has used stays with the process for the next one.

use candle_core::cuda::cudarc::cublas::sys as cublas;
use candle_core::cuda::cudarc::driver::{result, sys, CudaContext, DriverError};
use candle_core::{bail, CudaDevice, Device, Error, Result};

/// Why there is no device.
#[derive(Debug)]
pub enum NoDevice {
    /// There is no driver's library.
    NoDriver,
    /// The driver says so.
    Driver(sys::CUresult),
    /// There are only so many.
    OnlySoMany(usize),
    /// It does not open.
    Closed(Error),
}

/// Opens a device by its number.
///
/// # Errors
/// See [`NoDevice`].
pub fn open(number: usize) -> std::result::Result<Device, NoDevice> {
    let n_devices = result::init()
        .and_then(|()| result::device::get_count())
        .map_err(|error| match error.0 {
            // What the shim of scripts/cuda-toolchain.sh answers where there is no driver.
            sys::CUresult::CUDA_ERROR_STUB_LIBRARY => NoDevice::NoDriver,
            code => NoDevice::Driver(code),
        })?;
    if number >= n_devices as usize {
        return Err(NoDevice::OnlySoMany(n_devices as usize));
    }
    let device = Device::new_cuda(number).map_err(NoDevice::Closed)?;
    let set_up = |device: &CudaDevice| {
        one_stream(device);
        sum_in_f32(device)?;
        keep_memory(device)
    };
    device
        .as_cuda_device()
        .and_then(set_up)
        .map_err(NoDevice::Closed)?;
    Ok(device)
}

/// (free, total) bytes. What the pool keeps without using it is not free.
///
/// # Errors
/// The driver does not answer.
pub fn memory(device: &CudaDevice) -> Result<(usize, usize)> {
    let stream = device.cuda_stream();
    stream.context().mem_get_info().map_err(Error::wrap)
}

/// Waits for the device and gives back what the pool keeps without using it.
///
/// # Errors
/// A device that failed.
#[expect(unsafe_code, reason = "pools have no safe calls")]
pub fn release_unused(device: &CudaDevice) -> Result<()> {
    let stream = device.cuda_stream();
    stream.synchronize().map_err(Error::wrap)?;
    with_pool(stream.context(), |pool| {
        // SAFETY: the pool is its device's default one, which lives as long as the process.
        unsafe { result::mem_pool::trim_to(pool, 0) }
    })
}

/// Without this, each tensor makes and destroys two events, which nobody waits for.
#[expect(unsafe_code, reason = "soundness rests on there being one stream")]
fn one_stream(device: &CudaDevice) {
    // SAFETY: events order the use of a tensor on several streams. `Device::new_cuda` takes the default
    // stream, and nobody here makes another: everything on this device is in one order.
    unsafe { device.disable_event_tracking() };
}

/// cuBLAS may add up parts of a 16-bit product in 16 bits, unless it is told.
#[expect(unsafe_code, reason = "math modes have no safe call")]
fn sum_in_f32(device: &CudaDevice) -> Result<()> {
    let blas = device.cublas_handle();
    let mode = cublas::cublasMath_t::CUBLAS_MATH_DISALLOW_REDUCED_PRECISION_REDUCTION;
    // SAFETY: the handle is alive, and no other thread has it yet.
    match unsafe { cublas::cublasSetMathMode(*blas.handle(), mode) } {
        cublas::cublasStatus_t::CUBLAS_STATUS_SUCCESS => Ok(()),
        status => bail!("cuBLAS refuses its math mode: {status:?}"),
    }
}

/// A pool gives back at every synchronisation what is above its threshold, which is 0 unless it is set:
/// each step would map its memory anew.
#[expect(unsafe_code, reason = "pools have no safe calls")]
fn keep_memory(device: &CudaDevice) -> Result<()> {
    let stream = device.cuda_stream();
    with_pool(stream.context(), |pool| {
        let mut threshold = u64::MAX;
        let attribute = sys::CUmemPool_attribute::CU_MEMPOOL_ATTR_RELEASE_THRESHOLD;
        // SAFETY: the pool is its device's default one, and this attribute is a u64.
        unsafe { result::mem_pool::set_attribute(pool, attribute, (&raw mut threshold).cast()) }
    })
}

/// Runs `call` with the device's default pool; devices without pools allocate in another way.
#[expect(unsafe_code, reason = "pools have no safe calls")]
fn with_pool(
    context: &CudaContext,
    call: impl FnOnce(sys::CUmemoryPool) -> std::result::Result<(), DriverError>,
) -> Result<()> {
    if !context.has_async_alloc() {
        return Ok(());
    }
    // SAFETY: the device is the one that the context was made for.
    let pool = unsafe { result::device::get_default_mem_pool(context.cu_device()) };
    pool.and_then(call).map_err(Error::wrap)
}
