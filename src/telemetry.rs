//! Logs and metrics.
//!
//! Metrics are kept in a [`Metrics`] value, so that two servers in one process (tests) do not count
//! into each other. A program that runs one server makes its set the process-wide one too, which
//! is where the engine's thread counts.

use std::io::IsTerminal;
use std::sync::Arc;
use std::time::Duration;

use metrics_exporter_prometheus::{
    BuildError, Matcher, PrometheusBuilder, PrometheusHandle, PrometheusRecorder,
};
use tracing_subscriber::EnvFilter;

/// Buckets of durations from one millisecond to some minutes, in seconds.
const LATENCY_BUCKETS: [f64; 20] = [
    0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0,
    20.0, 40.0, 80.0, 160.0,
];

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object per line.
    Json,
}

/// Why logging or metrics could not be started.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// A filter that does not parse.
    #[error(
        "the log filter {filter:?} does not parse: {reason}; an example is `info,attune=debug`"
    )]
    Filter {
        /// What was given.
        filter: String,
        /// The parser's reason.
        reason: String,
    },
    /// Another subscriber or recorder is already there.
    #[error("logging or metrics are already set up in this process")]
    AlreadySet,
    /// The Prometheus recorder refuses its buckets.
    #[error("metrics cannot be set up: {0}")]
    Metrics(#[from] BuildError),
}

/// Sends log lines to standard error. `filter` is in `tracing`'s syntax, for example `info`.
///
/// # Errors
/// The filter does not parse, or the process has a subscriber already.
pub fn init_logs(filter: &str, format: LogFormat) -> Result<(), TelemetryError> {
    let parsed = EnvFilter::try_new(filter).map_err(|e| TelemetryError::Filter {
        filter: filter.to_owned(),
        reason: e.to_string(),
    })?;
    let builder = tracing_subscriber::fmt()
        .with_env_filter(parsed)
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr)
        // It would say so on standard error, which is what failed, and panic where that fails, too.
        .log_internal_errors(false);
    match format {
        LogFormat::Text => builder.try_init(),
        LogFormat::Json => builder.json().try_init(),
    }
    .map_err(|_| TelemetryError::AlreadySet)
}

/// The counters, gauges and histograms of one server. Cheap to clone.
#[derive(Clone)]
pub struct Metrics {
    recorder: Arc<PrometheusRecorder>,
    handle: PrometheusHandle,
}

impl std::fmt::Debug for Metrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

impl Metrics {
    /// How often [`Metrics::run_upkeep`] wants to be called.
    pub const UPKEEP_INTERVAL: Duration = Duration::from_secs(5);

    /// An empty set. Histograms of seconds have usual buckets, except those that are named.
    ///
    /// # Errors
    /// The recorder refuses the buckets.
    pub fn new(buckets: &[(&str, &[f64])]) -> Result<Self, TelemetryError> {
        let usual = Matcher::Suffix("_seconds".to_owned());
        let mut builder =
            PrometheusBuilder::new().set_buckets_for_metric(usual, &LATENCY_BUCKETS)?;
        for (name, bounds) in buckets {
            builder = builder.set_buckets_for_metric(Matcher::Full((*name).to_owned()), bounds)?;
        }
        let recorder = builder.build_recorder();
        Ok(Self {
            handle: recorder.handle(),
            recorder: Arc::new(recorder),
        })
    }

    /// Makes this the set into which code outside of [`Metrics::record`] counts.
    ///
    /// # Errors
    /// The process has one already.
    pub fn install(&self) -> Result<(), TelemetryError> {
        metrics::set_global_recorder(self.recorder.clone()).map_err(|_| TelemetryError::AlreadySet)
    }

    /// Runs `record`, in which the macros of the `metrics` crate count into this set.
    pub fn record<T>(&self, record: impl FnOnce() -> T) -> T {
        metrics::with_local_recorder(self.recorder.as_ref(), record)
    }

    /// The text that Prometheus scrapes.
    pub fn render(&self) -> String {
        self.handle.render()
    }

    /// Folds histogram samples into buckets; without it or scrapes they pile up.
    pub fn run_upkeep(&self) {
        self.handle.run_upkeep();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_sets_do_not_count_into_each_other() {
        let (one, two) = (Metrics::new(&[]).unwrap(), Metrics::new(&[]).unwrap());
        one.record(|| metrics::counter!("things_total", "kind" => "a").increment(3));
        one.record(|| metrics::histogram!("wait_seconds").record(0.03));
        let text = one.render();
        assert!(text.contains("things_total{kind=\"a\"} 3"), "{text}");
        assert!(
            text.contains("wait_seconds_bucket{le=\"0.04\"} 1"),
            "{text}"
        );
        assert_eq!(two.render(), "");
    }

    #[test]
    fn a_bad_filter_is_quoted() {
        let error = init_logs("attune=loud=very", LogFormat::Text).unwrap_err();
        assert!(error.to_string().contains("attune=loud=very"), "{error}");
    }
}
