//! What stops a training run.

use std::io;
use std::path::{Path, PathBuf};

use super::dataset::split::ShareError;
use super::dataset::DatasetError;
use super::encode::EncodeError;
use super::metrics::MetricsError;
use crate::adapter::AdapterError;
use crate::base_model::LoadError;
use crate::model::device::DeviceError;
use crate::user_model::table::UserModelError;

/// Why a run cannot begin or go on. Checkpoints that were written before are whole.
#[derive(Debug, thiserror::Error)]
pub enum TrainError {
    /// The data.
    #[error(transparent)]
    Dataset(#[from] DatasetError),
    /// The data as token ids.
    #[error(transparent)]
    Encode(#[from] EncodeError),
    /// The share that is held out.
    #[error(transparent)]
    Share(#[from] ShareError),
    /// The base model.
    #[error(transparent)]
    Base(#[from] LoadError),
    /// The device.
    #[error(transparent)]
    Device(#[from] DeviceError),
    /// A bundle.
    #[error(transparent)]
    Adapter(#[from] AdapterError),
    /// `metrics.jsonl`.
    #[error(transparent)]
    Metrics(#[from] MetricsError),
    /// A table of the user model that is no longer made of numbers.
    #[error(
        "{0}: training diverged; take a smaller --lr or --user-lr, or go on from the checkpoint \
         with --resume"
    )]
    UserModel(#[from] UserModelError),
    /// A loss that is not a number.
    #[error(
        "the loss is no longer a finite number at step {step}: take a smaller --lr or --user-lr, \
         a longer --warmup, or a smaller --beta; the last checkpoint is whole"
    )]
    NotFinite {
        /// The step, counted from 1.
        step: usize,
    },
    /// The tensor library.
    #[error("the forward or backward pass failed: {0}")]
    Tensor(#[from] candle_core::Error),
    /// Something about the data that leaves nothing to train on, or a setting that does not fit.
    #[error("{0}")]
    Unfit(String),
    /// The run's directory.
    #[error("{}: {source}", .path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
}

impl TrainError {
    /// Says at which step a loss was none; the learner does not know.
    pub(super) fn at_step(self, step: usize) -> Self {
        match self {
            Self::NotFinite { .. } => Self::NotFinite { step },
            other => other,
        }
    }

    /// For `map_err`.
    pub(super) fn io(path: &Path) -> impl FnOnce(io::Error) -> Self + '_ {
        move |source| Self::Io {
            path: path.to_owned(),
            source,
        }
    }
}
