//! What an overload came to.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::scenario::Overload;
use crate::recorder::Summary;
use crate::stats::Errors;
use crate::table::{new_table, short};

/// A whole run.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct OverloadReport {
    /// RFC 3339, UTC.
    pub started_at: String,
    /// RFC 3339, UTC.
    pub finished_at: String,
    /// Free text from `--note`.
    pub note: Option<String>,
    /// The scenario with all defaults.
    pub scenario: Value,
    /// What made the load.
    pub environment: BTreeMap<String, String>,
    /// What the server can do.
    pub capacity: Capacity,
    /// Those who ask for a multiple of that.
    pub heavy: Class,
    /// Those who ask now and then.
    pub light: Class,
    /// The health routes; `ms` is from the connection to the whole answer.
    pub health: Class,
}

/// Measured in a closed loop.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Capacity {
    /// Whole answers per second.
    pub answers_per_s: f64,
    /// Their tokens per second.
    pub tokens_per_s: f64,
    /// Of whole answers.
    pub ttft_ms: Option<Summary>,
    /// By kind.
    pub errors: BTreeMap<String, Errors>,
}

/// What one kind of users got.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Class {
    /// Requests with a whole answer.
    pub answered: u64,
    /// Others.
    pub failed: u64,
    /// Tokens of answers that were whole before the end, a second.
    pub tokens_per_s: f64,
    /// TTFT of whole answers, from the scheduled start.
    pub ms: Option<Summary>,
    /// By kind.
    pub errors: BTreeMap<String, Errors>,
}

impl OverloadReport {
    /// Tokens of whole answers per second, as a share of the capacity.
    pub fn goodput(&self) -> f64 {
        (self.heavy.tokens_per_s + self.light.tokens_per_s) / self.capacity.tokens_per_s
    }

    /// What is not good enough; empty is good.
    pub fn faults(&self, bounds: &Overload) -> Vec<String> {
        let mut faults = Vec::new();
        let goodput = self.goodput();
        if goodput < bounds.goodput {
            faults.push(format!(
                "goodput is {goodput:.2} of the capacity, less than {}",
                bounds.goodput
            ));
        }
        let mut bounded = |what: &str, class: &Class, bound: Duration| {
            let p99 = class.ms.map_or(f64::INFINITY, |ms| ms.p99);
            if p99 > bound.as_secs_f64() * 1e3 {
                faults.push(format!("{what}: p99 is {p99:.0} ms, more than {bound:?}"));
            }
            for (kind, errors) in &class.errors {
                faults.push(format!(
                    "{what}: {} x {kind}: {}",
                    errors.count, errors.example
                ));
            }
        };
        bounded("light users", &self.light, bounds.light_ttft);
        bounded("health routes", &self.health, bounds.health);
        faults
    }
}

/// The report as text.
pub fn render(report: &OverloadReport, bounds: &Overload) -> String {
    let mut table = new_table(&["", "answered", "failed", "out tok/s", "TTFT ms"]);
    let ms = |summary: Option<Summary>| {
        summary.map_or("-".to_owned(), |s| {
            let [p50, p99, max] = [s.p50, s.p99, s.max].map(short);
            format!("{p50} / {p99} / {max}")
        })
    };
    let rows = [
        ("heavy users", &report.heavy),
        ("light users", &report.light),
        ("health routes", &report.health),
    ];
    for (name, class) in rows {
        table.add_row([
            name.to_owned(),
            class.answered.to_string(),
            class.failed.to_string(),
            short(class.tokens_per_s),
            ms(class.ms),
        ]);
    }
    let capacity = &report.capacity;
    let mut text = format!(
        "Capacity: {:.1} answers/s, {:.1} tokens/s, TTFT {} ms. Asked for {} times that, for {:?}.\n{table}\nTTFT, and \
         the whole time of health routes: p50 / p99 / max. Goodput: {:.2} of the capacity.\n",
        capacity.answers_per_s,
        capacity.tokens_per_s,
        ms(capacity.ttft_ms),
        bounds.factor,
        bounds.duration,
        report.goodput(),
    );
    for (kind, errors) in &report.heavy.errors {
        let _ = writeln!(
            text,
            "Heavy users: {} x {kind}: {}",
            errors.count, errors.example
        );
    }
    for fault in report.faults(bounds) {
        let _ = writeln!(text, "FAULT: {fault}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::overload::scenario::{resolve, RawOverload};

    fn class(tokens_per_s: f64, p99: f64) -> Class {
        let ms = Summary {
            count: 9,
            mean: 1.0,
            p50: 1.0,
            p90: 1.0,
            p99,
            max: p99,
        };
        Class {
            answered: 9,
            failed: 0,
            tokens_per_s,
            ms: Some(ms),
            errors: BTreeMap::new(),
        }
    }

    fn report() -> OverloadReport {
        OverloadReport {
            started_at: String::new(),
            finished_at: String::new(),
            note: None,
            scenario: Value::Null,
            environment: BTreeMap::new(),
            capacity: Capacity {
                answers_per_s: 10.0,
                tokens_per_s: 100.0,
                ttft_ms: None,
                errors: BTreeMap::new(),
            },
            heavy: class(75.0, 90_000.0),
            light: class(6.0, 4900.0),
            health: class(0.0, 49.0),
        }
    }

    #[test]
    fn each_bound_is_looked_at() {
        let raw: RawOverload = toml::from_str("").unwrap();
        let bounds = resolve(&raw).unwrap();
        assert_eq!(report().faults(&bounds), Vec::<String>::new());
        type Change = fn(&mut OverloadReport);
        let changes: [(&str, Change); 5] = [
            ("goodput is 0.79", |r| r.heavy.tokens_per_s = 73.0),
            ("light users: p99 is 5100", |r| r.light = class(6.0, 5100.0)),
            ("light users: p99 is inf", |r| r.light.ms = None),
            ("health routes: p99 is 51", |r| r.health = class(0.0, 51.0)),
            ("health routes: 1 x connect", |r| {
                let errors = Errors {
                    count: 1,
                    example: "refused".into(),
                };
                r.health.errors.insert("connect".into(), errors);
            }),
        ];
        for (expected, change) in changes {
            let mut report = report();
            change(&mut report);
            let faults = report.faults(&bounds);
            assert!(
                faults.len() == 1 && faults[0].starts_with(expected),
                "{faults:?}"
            );
            assert!(render(&report, &bounds).contains("FAULT"));
        }
    }
}
