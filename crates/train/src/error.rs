//! What stops a training run.

use std::io;
use std::path::{Path, PathBuf};

use super::dataset::split::ShareError;
use super::dataset::DatasetError;
use super::encode::EncodeError;
use super::evaluate::EvaluateError;
use super::metrics::MetricsError;
use super::report::ReportError;
use super::task::load::TaskError;
use attune_adapter::AdapterError;
use attune_base_model::LoadError;
use attune_model::device::DeviceError;
use attune_model::user_model::table::UserModelError;
use attune_text::tokenizer::TextError;

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
    /// A version that is made or changed.
    #[error(transparent)]
    Adapter(#[from] AdapterError),
    /// A bundle that was named.
    #[error("bundle {}: {error}", .dir.display())]
    Bundle {
        /// Where it is.
        dir: PathBuf,
        /// Why it cannot be used.
        error: AdapterError,
    },
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
    /// An evaluation.
    #[error(transparent)]
    Evaluate(#[from] EvaluateError),
    /// `report.html`.
    #[error("the report: {0}")]
    Report(#[from] ReportError),
    /// A file of tasks.
    #[error(transparent)]
    Task(#[from] TaskError),
    /// A text that the model's tokenizer or template refuses.
    #[error(transparent)]
    Text(#[from] TextError),
    /// The data leaves nothing to learn from.
    #[error("{0}")]
    Data(String),
    /// A setting that does not fit the data, the model or the machine.
    #[error("{0}")]
    Setting(String),
    /// What computes, or where it computes, failed.
    #[error("{0}")]
    Engine(String),
    /// A defect of this program.
    #[error("{0}; this is a bug, please report it")]
    Bug(String),
    /// The run's directory.
    #[error("{}: {source}", .path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
}

/// Whose turn it is to act on an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorKind {
    /// Nobody's: there is nothing to learn yet, and more data may change that. Every other kind is a failure.
    Data,
    /// Who typed the settings, or wrote the files that they name.
    Setting,
    /// Who runs the machine: memory, disk, device, or files that changed under the run.
    Engine,
    /// Who wrote this program.
    Bug,
}

impl TrainError {
    /// What kind of error it is. Only of [`ErrorKind::Data`] it may be said that nothing failed.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Data(_) | Self::Evaluate(EvaluateError::NoPairs) => ErrorKind::Data,
            Self::Dataset(error) => match error {
                DatasetError::Empty { .. } | DatasetError::NothingLeft { .. } => ErrorKind::Data,
                DatasetError::Io { .. } | DatasetError::Snapshot { .. } => ErrorKind::Engine,
                _ => ErrorKind::Setting,
            },
            // A learning rate that is too large ends in numbers that are none.
            Self::Setting(_)
            | Self::Encode(_)
            | Self::Share(_)
            | Self::Task(_)
            | Self::Text(_)
            | Self::UserModel(_)
            | Self::NotFinite { .. }
            | Self::Evaluate(EvaluateError::NotFinite { .. }) => ErrorKind::Setting,
            Self::Engine(_)
            | Self::Base(_)
            | Self::Device(_)
            | Self::Adapter(_)
            | Self::Bundle { .. }
            | Self::Metrics(_)
            | Self::Report(_)
            | Self::Tensor(_)
            | Self::Io { .. } => ErrorKind::Engine,
            Self::Bug(_) | Self::Evaluate(EvaluateError::DifferentPairs { .. }) => ErrorKind::Bug,
        }
    }

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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dataset::Counts;

    /// Only what more data can mend is no failure.
    #[test]
    fn nothing_to_learn_is_told_from_failures() {
        let io = || io::Error::from(io::ErrorKind::StorageFull);
        let path = || PathBuf::from("x");
        let counts = Box::new(Counts::default());
        let (file, error) = (path(), io());
        let of = |errors: Vec<TrainError>| -> Vec<ErrorKind> {
            errors.iter().map(TrainError::kind).collect()
        };
        let data = of(vec![
            TrainError::Data(String::new()),
            EvaluateError::NoPairs.into(),
            DatasetError::NothingLeft { counts }.into(),
            DatasetError::Empty { file: path() }.into(),
        ]);
        assert_eq!(data, [ErrorKind::Data; 4]);
        let engine = of(vec![
            TrainError::io(Path::new("x"))(io()),
            DatasetError::Io { file, error }.into(),
            ReportError::NoRun { dir: path() }.into(),
            TrainError::Engine(String::new()),
        ]);
        assert_eq!(engine, [ErrorKind::Engine; 4]);
        let max = 1;
        let setting = of(vec![
            TrainError::Setting(String::new()),
            TrainError::NotFinite { step: 1 },
            DatasetError::TooManyPairs { file: path(), max }.into(),
        ]);
        assert_eq!(setting, [ErrorKind::Setting; 3]);
        let what = String::new();
        let bug = of(vec![
            TrainError::Bug(String::new()),
            EvaluateError::DifferentPairs { what }.into(),
        ]);
        assert_eq!(bug, [ErrorKind::Bug; 2]);
    }
}
