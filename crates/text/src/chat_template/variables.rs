//! Variables that a caller adds to a template's own (`chat_template_kwargs`).

use minijinja::value::Value;
use serde_json::Value as Json;

/// The most variables that one prompt may add.
pub const MAX_VARIABLES: usize = 64;
/// The longest name of one, in bytes.
pub const MAX_NAME_BYTES: usize = 64;
/// The most values in all of them together, nested ones counted.
pub const MAX_VALUES: usize = 10_000;
/// The longest text in all of them together, names of fields counted, in bytes.
pub const MAX_VALUE_BYTES: usize = 1 << 20;
/// How deep lists and objects may be nested.
pub const MAX_DEPTH: usize = 32;

/// What the server itself gives to templates, beside every name that ends in `_token`.
const RESERVED: [&str; 5] = [
    "messages",
    "add_generation_prompt",
    "tools",
    "additional_special_tokens",
    "loop",
];

/// Why a variable is refused.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum VariableError {
    /// A name that is not one.
    #[error(
        "{name:?} is no name of a template variable: letters, digits and underscores, no digit \
         first, at most {MAX_NAME_BYTES} bytes"
    )]
    Name {
        /// Its first bytes.
        name: String,
    },
    /// The server's own.
    #[error("template variable {name:?} is set by the server; leave it out")]
    Reserved {
        /// Its name.
        name: String,
    },
    /// Too many, too long or too deep.
    #[error("template variables are too large: at most {most} {what}")]
    Size {
        /// The bound.
        most: usize,
        /// What it bounds.
        what: &'static str,
    },
}

/// Checked variables, in the order in which they were set. Text in them is as foreign as a
/// message's: it can never spell a control token.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct TemplateVariables {
    values: Vec<(String, Json)>,
    size: Size,
}

impl TemplateVariables {
    /// All entries of an object, for example of `chat_template_kwargs`.
    ///
    /// # Errors
    /// As [`TemplateVariables::set`].
    pub fn new(entries: impl IntoIterator<Item = (String, Json)>) -> Result<Self, VariableError> {
        let mut variables = Self::default();
        for (name, value) in entries {
            variables.set(&name, value)?;
        }
        Ok(variables)
    }

    /// Sets one variable; a value that it already had is replaced.
    ///
    /// # Errors
    /// A name that is not one or is the server's own; more than the bounds above.
    pub fn set(&mut self, name: &str, value: Json) -> Result<(), VariableError> {
        check_name(name)?;
        self.values.retain(|(other, _)| other != name);
        if self.values.len() == MAX_VARIABLES {
            return Err(too_large(MAX_VARIABLES, "variables"));
        }
        self.size.add(&value, 0)?;
        self.values.push((name.to_owned(), value));
        Ok(())
    }

    /// Their names, in the order in which they were set.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.values.iter().map(|(name, _)| name.as_str())
    }

    /// The value of `name`.
    pub fn get(&self, name: &str) -> Option<&Json> {
        let entry = self.values.iter().find(|(other, _)| other == name);
        entry.map(|(_, value)| value)
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// Every text in them, names of fields included.
    pub(super) fn texts(&self) -> Vec<&str> {
        let mut texts = Vec::new();
        for (_, value) in &self.values {
            add_texts(value, &mut texts);
        }
        texts
    }

    /// For a template, each text as `text` writes it.
    pub(super) fn values(&self, text: &dyn Fn(&str) -> String) -> Vec<(&str, Value)> {
        let value = |(_, json): &(String, Json)| value(json, text);
        let names = self.names();
        names.zip(self.values.iter().map(value)).collect()
    }
}

/// Whether `name` is the server's to set.
pub(super) fn is_reserved(name: &str) -> bool {
    RESERVED.contains(&name) || name.ends_with("_token")
}

fn check_name(name: &str) -> Result<(), VariableError> {
    let is_letter = |c: char| c.is_ascii_alphabetic() || c == '_';
    let is_name = name.starts_with(is_letter)
        && name.len() <= MAX_NAME_BYTES
        && name.chars().all(|c| is_letter(c) || c.is_ascii_digit());
    if !is_name {
        let name = name.chars().take(MAX_NAME_BYTES).collect();
        return Err(VariableError::Name { name });
    }
    if is_reserved(name) {
        let name = name.to_owned();
        return Err(VariableError::Reserved { name });
    }
    Ok(())
}

fn too_large(most: usize, what: &'static str) -> VariableError {
    VariableError::Size { most, what }
}

/// What all values together come to. What was replaced still counts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Size {
    values: usize,
    bytes: usize,
}

impl Size {
    fn add(&mut self, value: &Json, depth: usize) -> Result<(), VariableError> {
        if depth > MAX_DEPTH {
            return Err(too_large(MAX_DEPTH, "levels"));
        }
        self.values += 1;
        match value {
            Json::String(text) => self.bytes += text.len(),
            Json::Array(list) => {
                for item in list {
                    self.add(item, depth + 1)?;
                }
            }
            Json::Object(fields) => {
                for (name, value) in fields {
                    self.bytes += name.len();
                    self.add(value, depth + 1)?;
                }
            }
            Json::Null | Json::Bool(_) | Json::Number(_) => {}
        }
        if self.values > MAX_VALUES {
            return Err(too_large(MAX_VALUES, "values"));
        }
        if self.bytes > MAX_VALUE_BYTES {
            return Err(too_large(MAX_VALUE_BYTES, "bytes of text"));
        }
        Ok(())
    }
}

fn add_texts<'a>(value: &'a Json, texts: &mut Vec<&'a str>) {
    match value {
        Json::String(text) => texts.push(text),
        Json::Array(list) => list.iter().for_each(|item| add_texts(item, texts)),
        Json::Object(fields) => {
            for (name, value) in fields {
                texts.push(name);
                add_texts(value, texts);
            }
        }
        Json::Null | Json::Bool(_) | Json::Number(_) => {}
    }
}

fn value(json: &Json, text: &dyn Fn(&str) -> String) -> Value {
    match json {
        Json::Null => Value::from(()),
        Json::Bool(flag) => Value::from(*flag),
        Json::Number(number) => {
            let signed = number.as_i64().map(Value::from);
            let unsigned = || number.as_u64().map(Value::from);
            let float = || number.as_f64().map(Value::from);
            signed.or_else(unsigned).or_else(float).unwrap_or_default()
        }
        Json::String(string) => Value::from(text(string)),
        Json::Array(list) => list.iter().map(|item| value(item, text)).collect(),
        Json::Object(fields) => {
            let field = |(name, json): (&String, &Json)| (text(name), value(json, text));
            Value::from_pairs(fields.iter().map(field))
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn names_are_checked_and_the_servers_own_are_refused() {
        let error = |name: &str| {
            TemplateVariables::default()
                .set(name, json!(1))
                .unwrap_err()
        };
        for name in ["", "1a", "a-b", "a.b", "\u{e9}", &"a".repeat(65)] {
            assert!(matches!(error(name), VariableError::Name { .. }), "{name}");
        }
        let own = [
            "messages",
            "bos_token",
            "pad_token",
            "image_token",
            "tools",
            "loop",
        ];
        for name in own {
            let name = name.to_owned();
            assert_eq!(error(&name), VariableError::Reserved { name });
        }
        let fine =
            TemplateVariables::new([("_a1".to_owned(), json!(1)), ("B".to_owned(), json!(2))]);
        assert_eq!(fine.unwrap().names().collect::<Vec<_>>(), ["_a1", "B"]);
    }

    #[test]
    fn the_last_value_of_a_name_holds() {
        let mut variables = TemplateVariables::default();
        variables.set("a", json!(1)).unwrap();
        variables.set("a", json!(["x", {"y": "z"}])).unwrap();
        assert_eq!(variables.get("a"), Some(&json!(["x", {"y": "z"}])));
        assert_eq!(variables.texts(), ["x", "y", "z"]);
        assert!(!variables.is_empty() && variables.get("b").is_none());
    }

    #[test]
    fn everything_is_bounded() {
        let what = |result: Result<TemplateVariables, VariableError>| match result {
            Err(VariableError::Size { what, .. }) => what,
            other => panic!("{other:?}"),
        };
        let one = |value: Json| TemplateVariables::new([("a".to_owned(), value)]);
        let many = (0..=MAX_VARIABLES).map(|i| (format!("v{i}"), json!(i)));
        assert_eq!(what(TemplateVariables::new(many)), "variables");
        assert_eq!(what(one(json!(vec![0; MAX_VALUES]))), "values");
        assert_eq!(
            what(one(json!("x".repeat(MAX_VALUE_BYTES + 1)))),
            "bytes of text"
        );
        let nested = |depth: usize| (0..depth).fold(json!(1), |inner, _| json!([inner]));
        assert_eq!(what(one(nested(MAX_DEPTH + 1))), "levels");
        assert!(one(nested(MAX_DEPTH)).is_ok());
    }
}
