//! `[preferences]`: people who send preferences while a level runs.

use serde::Serialize;

use super::check::{Check, LIMITS};
use super::{RawPreferences, ScenarioError};

/// Who sends preferences beside the measured requests, and how many.
#[derive(Debug, Clone, Serialize)]
pub struct Preferences {
    /// So many write at once; each level runs once for each entry.
    pub writers: Vec<usize>,
    /// They write in turn as so many people, `writer-0` and on: a server may cap what it keeps
    /// of one person.
    pub users: usize,
    /// Length of the prompt and of each of the two answers.
    pub words: usize,
    /// All writers together start no more than this; as fast as they are answered if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_per_second: Option<f64>,
}

impl Check {
    pub(super) fn preferences(&self, raw: &RawPreferences) -> Result<Preferences, ScenarioError> {
        let Some(writers) = raw.writers.clone() else {
            let problem = "missing; write e.g. writers = [0, 16]".into();
            return Err(self.field("preferences.writers", problem));
        };
        self.not_empty("preferences.writers", writers.len())?;
        self.distinct("preferences.writers", &writers)?;
        for &level in &writers {
            self.range("preferences.writers", level, 0, LIMITS.in_flight)?;
        }
        let users = raw.users.unwrap_or(1000);
        let words = raw.words.unwrap_or(40);
        let rate = raw.max_per_second.map(|rate| {
            let field = "preferences.max_per_second";
            self.range(field, rate, 0.001, 100_000.0)
        });
        Ok(Preferences {
            writers,
            users: self.range("preferences.users", users, 1, LIMITS.users)?,
            words: self.range("preferences.words", words, 1, MAX_WORDS)?,
            max_per_second: rate.transpose()?,
        })
    }
}

/// Three texts of so many short words are far below what a server takes as a body.
const MAX_WORDS: usize = 10_000;

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::scenario::{resolve, RawScenario};

    fn run(preferences: &str) -> Result<Option<Preferences>, ScenarioError> {
        let text =
            format!("[load]\nkind = \"closed\"\n[prompts]\nsource = \"synthetic\"\n{preferences}");
        let raw = RawScenario::parse(&text, Path::new("x.toml"))?;
        Ok(resolve(&raw)?.preferences)
    }

    #[test]
    fn defaults_are_filled_in() {
        assert!(run("").unwrap().is_none());
        let preferences = run("[preferences]\nwriters = [0, 4]").unwrap().unwrap();
        assert_eq!(preferences.writers, [0, 4]);
        assert_eq!((preferences.users, preferences.words), (1000, 40));
        assert_eq!(preferences.max_per_second, None);
    }

    #[test]
    fn errors_name_the_field() {
        let cases = [
            ("users = 2", "preferences.writers: missing"),
            ("writers = []", "preferences.writers: empty"),
            ("writers = [1, 1]", "preferences.writers: 1 occurs twice"),
            ("writers = [5000]", "preferences.writers: 5000 is not"),
            ("writers = [1]\nusers = 0", "preferences.users: 0 is not"),
            ("writers = [1]\nwords = 0", "preferences.words: 0 is not"),
            (
                "writers = [1]\nmax_per_second = 0.0",
                "preferences.max_per_second: 0 is not",
            ),
        ];
        for (text, expected) in cases {
            let error = run(&format!("[preferences]\n{text}")).expect_err(text);
            let expected = format!("scenario x.toml: {expected}");
            assert!(error.to_string().starts_with(&expected), "{error}");
        }
    }
}
