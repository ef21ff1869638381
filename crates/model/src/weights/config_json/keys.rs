//! Keys of a JSON object, each taken once; what is left was not understood.

use serde_json::{Map, Value};

use super::harmless;

/// The keys of one object that nobody has taken yet.
#[derive(Debug)]
pub(super) struct Keys {
    /// In front of a key's name in messages: `rope_scaling.` for the keys of an object inside.
    within: String,
    left: Map<String, Value>,
    /// Keys that transformers does not read in this family.
    unread: Vec<String>,
}

impl Keys {
    pub fn new(object: Map<String, Value>) -> Self {
        Self {
            within: String::new(),
            left: object,
            unread: Vec::new(),
        }
    }

    /// The name of a key as messages show it.
    pub fn name(&self, key: &str) -> String {
        format!("{}{key}", self.within)
    }

    /// Whether the file says anything about `key`, be it null.
    pub fn has(&self, key: &str) -> bool {
        self.left.contains_key(key)
    }

    /// Whether a value other than null is left under `key`.
    pub fn is_set(&self, key: &str) -> bool {
        self.left.get(key).is_some_and(|v| !v.is_null())
    }

    /// Whether nothing is left.
    pub fn is_empty(&self) -> bool {
        self.left.is_empty()
    }

    /// A count; a file may write it as 4096.0.
    pub fn count(&mut self, key: &str) -> Result<Option<usize>, String> {
        self.take(key, "a whole number from 0 on", |v| {
            let whole = |f: f64| (f.fract() == 0.0 && (0.0..9e15).contains(&f)).then_some(f as u64);
            let n = v.as_u64().or_else(|| whole(v.as_f64()?))?;
            usize::try_from(n).ok()
        })
    }

    /// A number.
    pub fn number(&mut self, key: &str) -> Result<Option<f64>, String> {
        self.take(key, "a number", Value::as_f64)
    }

    /// A number above 0.
    pub fn positive(&mut self, key: &str) -> Result<Option<f64>, String> {
        let positive = |v: &Value| v.as_f64().filter(|f| *f > 0.0 && f.is_finite());
        self.take(key, "a number above 0", positive)
    }

    pub fn flag(&mut self, key: &str) -> Result<Option<bool>, String> {
        self.take(key, "true or false", Value::as_bool)
    }

    pub fn text(&mut self, key: &str) -> Result<Option<String>, String> {
        self.take(key, "a string", |v| v.as_str().map(str::to_owned))
    }

    pub fn texts(&mut self, key: &str) -> Result<Option<Vec<String>>, String> {
        let text = |v: &Value| v.as_str().map(str::to_owned);
        let texts = |v: &Value| v.as_array()?.iter().map(text).collect();
        self.take(key, "a list of strings", texts)
    }

    /// The keys of an object inside.
    pub fn object(&mut self, key: &str) -> Result<Option<Self>, String> {
        let object = self.take(key, "an object", |v| v.as_object().cloned())?;
        Ok(object.map(|left| Self {
            within: format!("{}.", self.name(key)),
            left,
            unread: Vec::new(),
        }))
    }

    /// Drops a key whatever it says: transformers does not read it in this family.
    pub fn unread(&mut self, key: &str) {
        if self
            .left
            .remove(key)
            .is_some_and(|v| !harmless::asks_nothing(key, &v))
        {
            self.unread.push(self.name(key));
        }
    }

    /// The keys of an object that transformers does not read in this family.
    pub fn unread_object(&mut self, key: &str) -> Result<Option<Self>, String> {
        let object = self.object(key)?.filter(|object| !object.is_empty());
        if object.is_some() {
            self.unread.push(self.name(key));
        }
        Ok(object)
    }

    /// Drops a key without a word: it has no say in what is computed.
    pub fn drop(&mut self, key: &str) {
        self.left.remove(key);
    }

    /// Refuses what is left and could change logits. What is not known and does not look like it is returned,
    /// for the log.
    pub fn finish(self) -> Result<Vec<String>, String> {
        let mut unknown = self.unread;
        for (key, value) in &self.left {
            let name = format!("{}{key}", self.within);
            if harmless::is_harmless(key) || harmless::asks_nothing(key, value) {
                continue;
            }
            if harmless::speaks_of_computing(key) {
                return Err(format!(
                    "{name} = {} is not supported: the model would compute something else without it",
                    harmless::short(value)
                ));
            }
            unknown.push(name);
        }
        Ok(unknown)
    }

    /// Refuses everything that is left but nulls: inside `rope_scaling` each key has a say.
    pub fn finish_strictly(self) -> Result<(), String> {
        match self.left.iter().find(|(_, value)| !value.is_null()) {
            None => Ok(()),
            Some((key, value)) => Err(format!(
                "{}{key} = {} is not supported",
                self.within,
                harmless::short(value)
            )),
        }
    }

    /// A key's value; `None` if it is not there or null.
    fn take<T>(
        &mut self,
        key: &str,
        kind: &str,
        read: impl Fn(&Value) -> Option<T>,
    ) -> Result<Option<T>, String> {
        match self.left.remove(key) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => match read(&value) {
                Some(read) => Ok(Some(read)),
                None if value.is_array() && !kind.starts_with("a list") => Err(format!(
                    "{} has one value per layer, and models whose layers differ are not supported: take one whose layers are alike",
                    self.name(key)
                )),
                None => Err(format!(
                    "{} = {} is not {kind}",
                    self.name(key),
                    harmless::short(&value)
                )),
            },
        }
    }
}
