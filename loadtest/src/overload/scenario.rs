//! The scenario of `overload`: as typed, then checked.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::scenario::{as_seconds, Check, Endpoint, RequestShape, ScenarioError, Seconds, LIMITS};

/// The file as typed; `scenarios/README.md` documents every field with its default.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "named and documented as in Overload")]
pub struct RawOverload {
    pub description: Option<String>,
    pub seed: Option<u64>,
    pub model: Option<String>,
    pub words: Option<usize>,
    pub max_tokens: Option<usize>,
    pub timeout: Option<String>,
    pub clients: Option<usize>,
    pub measure: Option<String>,
    pub factor: Option<f64>,
    pub duration: Option<String>,
    pub max_in_flight: Option<usize>,
    pub heavy_users: Option<usize>,
    pub light_users: Option<usize>,
    pub light_every: Option<String>,
    pub health_every: Option<String>,
    pub goodput: Option<f64>,
    pub light_ttft: Option<String>,
    pub health: Option<String>,
    /// Where the file was, for messages.
    #[serde(skip)]
    pub file: PathBuf,
}

/// A checked scenario.
#[derive(Debug, Clone, Serialize)]
pub struct Overload {
    /// One sentence for the reader of the report.
    pub description: String,
    /// Prompts and arrivals follow from it.
    pub seed: u64,
    /// Sent as `model`.
    pub model: String,
    /// Words of a prompt.
    pub words: usize,
    /// Every answer has so many tokens.
    pub max_tokens: usize,
    /// Of one request, from its scheduled start to the last byte.
    #[serde(rename = "timeout_s", serialize_with = "as_seconds")]
    pub timeout: Duration,
    /// Clients of the closed loop that measures the capacity.
    pub clients: usize,
    /// How long it measures.
    #[serde(rename = "measure_s", serialize_with = "as_seconds")]
    pub measure: Duration,
    /// Heavy users ask for so many times the capacity.
    pub factor: f64,
    /// How long.
    #[serde(rename = "duration_s", serialize_with = "as_seconds")]
    pub duration: Duration,
    /// Unanswered heavy requests; above that, starts wait.
    pub max_in_flight: usize,
    /// Users who send the heavy requests, in turn.
    pub heavy_users: usize,
    /// Users who ask now and then.
    pub light_users: usize,
    /// From one request of a light user to the next.
    #[serde(rename = "light_every_s", serialize_with = "as_seconds")]
    pub light_every: Duration,
    /// From one look at `/livez` and `/readyz` to the next.
    #[serde(rename = "health_every_s", serialize_with = "as_seconds")]
    pub health_every: Duration,
    /// Share of the capacity that whole answers must keep.
    pub goodput: f64,
    /// Bound on the light users' p99 of TTFT.
    #[serde(rename = "light_ttft_s", serialize_with = "as_seconds")]
    pub light_ttft: Duration,
    /// Bound on p99 of the health routes.
    #[serde(rename = "health_s", serialize_with = "as_seconds")]
    pub health: Duration,
}

impl RawOverload {
    /// Reads a scenario file.
    ///
    /// # Errors
    /// The file cannot be read, or is not such a scenario.
    pub fn read(file: &Path) -> Result<Self, ScenarioError> {
        let mut raw: Self = ScenarioError::read(file)?;
        raw.file = file.to_owned();
        Ok(raw)
    }
}

/// Checks a scenario and fills in defaults.
///
/// # Errors
/// [`ScenarioError::Field`] for the first field that is out of range.
pub fn resolve(raw: &RawOverload) -> Result<Overload, ScenarioError> {
    let check = Check {
        file: raw.file.clone(),
    };
    let time = |field: &str, given: &Option<String>, default: &str| {
        let value = Seconds(check.duration(field, given.as_deref(), default)?);
        let bounds = [Duration::from_millis(1), Duration::from_secs(3600)].map(Seconds);
        Ok(check.range(field, value, bounds[0], bounds[1])?.0)
    };
    let count = |field: &str, given: Option<usize>, default: usize, most: usize| {
        check.range(field, given.unwrap_or(default), 1, most)
    };
    Ok(Overload {
        description: raw.description.clone().unwrap_or_default(),
        seed: raw.seed.unwrap_or(0),
        model: raw.model.clone().unwrap_or_else(|| "attune".to_owned()),
        words: count("words", raw.words, 8, LIMITS.tokens)?,
        max_tokens: count("max_tokens", raw.max_tokens, 32, LIMITS.tokens)?,
        timeout: time("timeout", &raw.timeout, "60s")?,
        clients: count("clients", raw.clients, 32, LIMITS.in_flight)?,
        measure: time("measure", &raw.measure, "30s")?,
        factor: check.range("factor", raw.factor.unwrap_or(10.0), 1.0, 100.0)?,
        duration: time("duration", &raw.duration, "5m")?,
        max_in_flight: count("max_in_flight", raw.max_in_flight, 900, LIMITS.in_flight)?,
        heavy_users: count("heavy_users", raw.heavy_users, 4, LIMITS.users)?,
        light_users: count("light_users", raw.light_users, 4, 1000)?,
        light_every: time("light_every", &raw.light_every, "2s")?,
        health_every: time("health_every", &raw.health_every, "100ms")?,
        goodput: check.range("goodput", raw.goodput.unwrap_or(0.8), 0.0, 1.0)?,
        light_ttft: time("light_ttft", &raw.light_ttft, "5s")?,
        health: time("health", &raw.health, "50ms")?,
    })
}

impl Overload {
    /// What every request has in common: its length is fixed, so that answers and tokens say the same.
    pub fn shape(&self) -> RequestShape {
        RequestShape {
            endpoint: Endpoint::Chat,
            model: self.model.clone(),
            system: None,
            max_tokens: self.max_tokens,
            temperature: 0.0,
            seed: None,
            ignore_eos: true,
            stream: true,
            // Hundreds of new connections a second would use up all ports.
            keep_alive: true,
            timeout: self.timeout,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shipped_scenarios_resolve_and_slips_are_named() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios");
        let mut raw = RawOverload::read(&folder.join("overload.toml")).unwrap();
        assert_eq!(resolve(&raw).unwrap().duration.as_secs(), 300);
        let fairness = RawOverload::read(&folder.join("fairness.toml")).unwrap();
        assert_eq!(resolve(&fairness).unwrap().heavy_users, 1);
        raw.factor = Some(0.5);
        let error = resolve(&raw).unwrap_err().to_string();
        assert!(
            error.contains("overload.toml: factor: 0.5 is not"),
            "{error}"
        );
    }
}
