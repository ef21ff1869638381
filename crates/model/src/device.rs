//! Which device a model runs on, and what to say when it is not there.

use std::fmt;
use std::str::FromStr;

use candle_core::{DType, Device};

/// What `--device` asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DeviceChoice {
    /// The first CUDA device, if this build can use one and it answers; else the CPU.
    #[default]
    Auto,
    /// The CPU.
    Cpu,
    /// A CUDA device by its number.
    Cuda(usize),
}

/// Why a device cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DeviceError {
    /// Compiled without the feature.
    #[error("--device {choice}: this attune was built without CUDA. Build it with `cargo build --release --features cuda` (docs/gpu.md says how), or use --device cpu")]
    NotBuilt {
        /// What was asked for.
        choice: DeviceChoice,
    },
    /// No driver, no device, or one that does not answer.
    #[error("--device {choice}: no CUDA device answers ({reason}). Install NVIDIA's driver (libcuda.so.1; `nvidia-smi` shows what it sees), give a container its GPUs (`docker run --gpus all`), or use --device cpu")]
    NoAnswer {
        /// What was asked for.
        choice: DeviceChoice,
        /// What the driver, or its absence, said.
        reason: String,
    },
}

impl FromStr for DeviceChoice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once(':') {
            None if text == "auto" => Ok(Self::Auto),
            None if text == "cpu" => Ok(Self::Cpu),
            None if text == "cuda" => Ok(Self::Cuda(0)),
            Some(("cuda", number)) => match number.parse() {
                Ok(number) => Ok(Self::Cuda(number)),
                Err(_) => Err(format!("{number:?} is not the number of a device")),
            },
            _ => Err(format!(
                "{text:?} is not one of auto, cpu, cuda, cuda:0, cuda:1, ..."
            )),
        }
    }
}

impl fmt::Display for DeviceChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Cpu => f.write_str("cpu"),
            Self::Cuda(number) => write!(f, "cuda:{number}"),
        }
    }
}

impl DeviceChoice {
    /// The device.
    ///
    /// # Errors
    /// A CUDA device was named that this build or this machine does not have. `Auto` has no errors:
    /// it falls back to the CPU, and the log says why.
    pub fn open(self) -> Result<Device, DeviceError> {
        match self {
            Self::Cpu => Ok(Device::Cpu),
            Self::Cuda(number) => cuda(self, number),
            Self::Auto => match cuda(self, 0) {
                Ok(device) => Ok(device),
                Err(DeviceError::NotBuilt { .. }) => Ok(Device::Cpu),
                Err(DeviceError::NoAnswer { reason, .. }) => {
                    tracing::info!(reason, "no CUDA device answers; using the CPU");
                    Ok(Device::Cpu)
                }
            },
        }
    }
}

/// What activations and dense weights are kept as on `device` when nobody says.
pub fn usual_dtype(device: &Device) -> DType {
    match device {
        Device::Cpu => DType::F32,
        _ => DType::BF16,
    }
}

#[cfg(not(feature = "cuda"))]
fn cuda(choice: DeviceChoice, _: usize) -> Result<Device, DeviceError> {
    Err(DeviceError::NotBuilt { choice })
}

#[cfg(feature = "cuda")]
fn cuda(choice: DeviceChoice, number: usize) -> Result<Device, DeviceError> {
    use super::cuda_device::{open, NoDevice};

    open(number).map_err(|why| {
        let reason = match why {
            NoDevice::NoDriver => "there is no libcuda.so.1".into(),
            NoDevice::Driver(code) => format!("the driver says {code:?}"),
            NoDevice::OnlySoMany(n) => format!("the driver sees {n} of them"),
            NoDevice::Closed(error) => error.to_string(),
        };
        DeviceError::NoAnswer { choice, reason }
    })
}

/// (free, total) bytes of a device's memory; `None` for the CPU. What a pool keeps without using it does not
/// count as free: [`release_unused`].
///
/// # Errors
/// The driver does not answer.
pub fn memory(device: &Device) -> candle_core::Result<Option<(usize, usize)>> {
    match device {
        #[cfg(feature = "cuda")]
        Device::Cuda(device) => super::cuda_device::memory(device).map(Some),
        _ => Ok(None),
    }
}

/// Waits for a device, and gives back what its pool keeps without using it.
///
/// # Errors
/// A device that failed.
pub fn release_unused(device: &Device) -> candle_core::Result<()> {
    match device {
        #[cfg(feature = "cuda")]
        Device::Cuda(device) => super::cuda_device::release_unused(device),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn choices_have_one_spelling_each() {
        for (text, choice) in [
            ("auto", DeviceChoice::Auto),
            ("cpu", DeviceChoice::Cpu),
            ("cuda:0", DeviceChoice::Cuda(0)),
            ("cuda:3", DeviceChoice::Cuda(3)),
        ] {
            assert_eq!(text.parse(), Ok(choice));
            assert_eq!(choice.to_string(), text);
        }
        assert_eq!("cuda".parse(), Ok(DeviceChoice::Cuda(0)));
        for text in ["", "gpu", "cuda:", "cuda:x", "cpu:0", "CUDA"] {
            assert!(text.parse::<DeviceChoice>().is_err(), "{text}");
        }
    }

    #[test]
    fn the_cpu_is_always_there() {
        assert!(DeviceChoice::Cpu.open().unwrap().is_cpu());
        assert!(memory(&Device::Cpu).unwrap().is_none());
    }

    #[cfg(not(feature = "cuda"))]
    #[test]
    fn a_build_without_cuda_says_how_to_get_one() {
        assert!(DeviceChoice::Auto.open().unwrap().is_cpu());
        let error = DeviceChoice::Cuda(1).open().unwrap_err().to_string();
        for part in ["--device cuda:1", "--features cuda", "--device cpu"] {
            assert!(error.contains(part), "{error}");
        }
    }

    /// On a machine without a driver; where there is one, its first device opens.
    #[cfg(feature = "cuda")]
    #[test]
    fn a_machine_without_a_gpu_is_told_what_is_missing() {
        match DeviceChoice::Cuda(0).open() {
            Ok(device) => assert!(device.is_cuda()),
            Err(error) => {
                let error = error.to_string();
                for part in ["--device cuda:0", "driver", "--device cpu"] {
                    assert!(error.contains(part), "{error}");
                }
            }
        }
        assert!(DeviceChoice::Cuda(99).open().is_err());
    }
}
