//! Numbers by name, averaged over a stretch of a run.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

/// Numbers since the last line, averaged.
#[derive(Debug, Default)]
pub struct NamedMeans {
    sums: BTreeMap<&'static str, (f64, f64)>,
}

impl NamedMeans {
    /// Adds `value` with `weight` to a mean.
    pub fn add(&mut self, name: &'static str, value: f64, weight: f64) {
        let (sum, weights) = self.sums.entry(name).or_default();
        *sum += value * weight;
        *weights += weight;
    }

    /// The means; forgets them.
    pub fn write(&mut self, line: &mut Map<String, Value>) {
        for (name, (sum, weights)) in std::mem::take(&mut self.sums) {
            if weights > 0.0 {
                line.insert(name.to_owned(), Value::from(sum / weights));
            }
        }
    }
}
