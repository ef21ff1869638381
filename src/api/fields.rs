//! Typed reading of JSON objects. Every error names the field, and a field that nobody took is an
//! error: nothing is ignored in silence.

use std::ops::RangeInclusive;

use serde_json::{Map, Value};

use super::error::ApiError;

/// A value, or the error that names its field.
pub type Parsed<T> = Result<T, ApiError>;

/// The largest integer that a JSON number holds exactly.
const MAX_EXACT: f64 = 9_007_199_254_740_992.0;

/// The fields of one object that are not yet taken. `null` counts as absent, as it does at OpenAI.
#[derive(Debug)]
pub struct Fields {
    path: String,
    map: Map<String, Value>,
    /// Fields that the caller wrote under another name, and the path of that.
    written: Vec<(&'static str, String)>,
}

impl Fields {
    /// The request's body.
    ///
    /// # Errors
    /// Not an object.
    pub fn body(value: Value) -> Parsed<Self> {
        match value {
            Value::Object(map) => Ok(Self {
                path: String::new(),
                map,
                written: Vec::new(),
            }),
            other => Err(ApiError::malformed_body(format!(
                "the body must be a JSON object, but it is {}",
                kind_of(&other)
            ))),
        }
    }

    /// An object inside the body; `path` names it.
    ///
    /// # Errors
    /// Not an object.
    pub fn nested(value: Value, path: String) -> Parsed<Self> {
        match value {
            Value::Object(map) => Ok(Self {
                path,
                map,
                written: Vec::new(),
            }),
            other => Err(wrong_type(&path, "an object", &other)),
        }
    }

    /// The full path of a field as the caller wrote it: `messages[0].role`, `options.num_predict`.
    pub fn path(&self, name: &str) -> String {
        let written = self.written.iter().find(|(ours, _)| *ours == name);
        if let Some((_, path)) = written {
            path.clone()
        } else if self.path.is_empty() {
            name.to_owned()
        } else {
            format!("{}.{name}", self.path)
        }
    }

    /// Takes a field as it is.
    pub fn take(&mut self, name: &str) -> Option<Value> {
        self.map.remove(name).filter(|value| !value.is_null())
    }

    /// Takes a field in which null is a value of its own.
    pub fn take_nullable(&mut self, name: &str) -> Option<Value> {
        self.map.remove(name)
    }

    /// Whether nothing is left to be taken.
    pub fn is_empty(&self) -> bool {
        self.map.is_empty()
    }

    /// Looks at a field.
    pub fn peek(&self, name: &str) -> Option<&Value> {
        self.map.get(name).filter(|value| !value.is_null())
    }

    /// Whether the caller wrote a field only under another name.
    pub fn is_written_otherwise(&self, name: &str) -> bool {
        self.written.iter().any(|(ours, _)| *ours == name)
    }

    /// Puts `value`, which the caller wrote as `path`, in the place of the field `name`. Of two values one that sets
    /// nothing gives way.
    ///
    /// # Errors
    /// That field is there with another value.
    pub fn also(&mut self, name: &'static str, value: Value, path: String) -> Parsed<()> {
        let number = |a: &Value, b: &Value| a.as_f64().is_some_and(|a| b.as_f64() == Some(a));
        match self.peek(name) {
            Some(there) if *there == value || number(there, &value) => Ok(()),
            Some(_) if is_unset(name, &value) => Ok(()),
            Some(there) if !is_unset(name, there) => {
                let other = self.path(name);
                let message = format!("'{path}' is another name of '{other}'; give one of them");
                Err(ApiError::invalid("invalid_value", path, message))
            }
            _ => {
                self.map.insert(name.to_owned(), value);
                self.written.retain(|(ours, _)| *ours != name);
                self.written.push((name, path));
                Ok(())
            }
        }
    }

    /// Takes a field that must be there.
    ///
    /// # Errors
    /// Missing or null.
    pub fn required(&mut self, name: &str) -> Parsed<Value> {
        self.take(name).ok_or_else(|| self.missing(name))
    }

    /// The error for a field that must be there.
    pub fn missing(&self, name: &str) -> ApiError {
        let path = self.path(name);
        let message = format!("the parameter '{path}' is missing");
        ApiError::invalid("missing_required_parameter", path, message)
    }

    /// A string of at most `max` characters.
    ///
    /// # Errors
    /// Another type, or longer.
    pub fn string(&mut self, name: &str, max: usize) -> Parsed<Option<String>> {
        let path = self.path(name);
        self.take(name)
            .map(|value| string(value, &path, max))
            .transpose()
    }

    /// A string of 1 to `max` characters.
    ///
    /// # Errors
    /// Another type, empty, or longer.
    pub fn nonempty(&mut self, name: &str, max: usize) -> Parsed<Option<String>> {
        let path = self.path(name);
        self.take(name)
            .map(|value| nonempty(value, &path, max))
            .transpose()
    }

    /// True or false.
    ///
    /// # Errors
    /// Another type.
    pub fn boolean(&mut self, name: &str) -> Parsed<Option<bool>> {
        match self.take(name) {
            None => Ok(None),
            Some(Value::Bool(value)) => Ok(Some(value)),
            Some(other) => Err(wrong_type(&self.path(name), "a boolean", &other)),
        }
    }

    /// An integer in `range`.
    ///
    /// # Errors
    /// Another type, or out of range.
    pub fn integer(&mut self, name: &str, range: RangeInclusive<i64>) -> Parsed<Option<i64>> {
        let path = self.path(name);
        self.take(name)
            .map(|value| integer(&value, &path, range))
            .transpose()
    }

    /// An integer in `range`, as a size.
    ///
    /// # Errors
    /// Another type, or out of range.
    pub fn size(&mut self, name: &str, range: RangeInclusive<usize>) -> Parsed<Option<usize>> {
        let bound = |n: usize| i64::try_from(n).unwrap_or(i64::MAX);
        let value = self.integer(name, bound(*range.start())..=bound(*range.end()))?;
        // Not negative and at most usize::MAX: `range` was in usize.
        Ok(value.map(|n| usize::try_from(n).unwrap_or(usize::MAX)))
    }

    /// How many tokens there may be: what is more than `room` comes down to it, and -1 is all of it.
    ///
    /// # Errors
    /// Another type, or not positive.
    pub fn limit(&mut self, name: &str, room: usize) -> Parsed<Option<usize>> {
        let path = self.path(name);
        self.take(name)
            .map(|value| limit(&value, &path, room))
            .transpose()
    }

    /// A finite number in `range`.
    ///
    /// # Errors
    /// Another type, or out of range.
    pub fn number(&mut self, name: &str, range: RangeInclusive<f64>) -> Parsed<Option<f64>> {
        let path = self.path(name);
        self.take(name)
            .map(|value| number(&value, &path, range))
            .transpose()
    }

    /// One of `words`.
    ///
    /// # Errors
    /// Another type or word.
    pub fn word(&mut self, name: &str, words: &[&str]) -> Parsed<Option<String>> {
        let path = self.path(name);
        let Some(word) = self.string(name, 64)? else {
            return Ok(None);
        };
        if words.contains(&word.as_str()) {
            Ok(Some(word))
        } else {
            let message = format!("'{path}' must be one of {words:?}");
            Err(ApiError::invalid("invalid_value", path, message))
        }
    }

    /// Takes a documented field that this server does not support: only a value that asks for
    /// nothing passes.
    ///
    /// # Errors
    /// Any other value.
    pub fn unsupported(&mut self, name: &str, asks_nothing: fn(&Value) -> bool) -> Parsed<()> {
        match self.take(name) {
            Some(value) if !asks_nothing(&value) => Err(unsupported_parameter(&self.path(name))),
            _ => Ok(()),
        }
    }

    /// Refuses what nobody took.
    ///
    /// # Errors
    /// The first such field that is not null.
    pub fn finish(self) -> Parsed<()> {
        let left = self.map.iter().find(|(_, value)| !value.is_null());
        match left {
            None => Ok(()),
            Some((name, _)) => {
                let name: String = name.chars().take(64).collect();
                Err(unsupported_parameter(&self.path(&name)))
            }
        }
    }
}

/// Whether clients that fill in all fields mean by `value` that they set nothing.
fn is_unset(name: &str, value: &Value) -> bool {
    match (name, value) {
        ("stop" | "stop_sequences", Value::Array(values)) => values.is_empty(),
        ("stop" | "stop_sequences", Value::String(text)) => text.is_empty(),
        ("max_tokens" | "n_predict" | "num_predict", value) => {
            matches!(value.as_f64(), Some(number) if number == -1.0 || number == -2.0)
        }
        ("seed", value) => value.as_f64() == Some(-1.0),
        _ => false,
    }
}

/// A string of at most `max` characters.
///
/// # Errors
/// Another type, or longer.
pub fn string(value: Value, path: &str, max: usize) -> Parsed<String> {
    match value {
        Value::String(text) if text.len() <= max || text.chars().count() <= max => Ok(text),
        Value::String(_) => {
            let message = format!("'{path}' must have at most {max} characters");
            Err(ApiError::invalid("string_above_max_length", path, message))
        }
        other => Err(wrong_type(path, "a string", &other)),
    }
}

/// A string of 1 to `max` characters.
///
/// # Errors
/// Another type, empty, or longer.
pub fn nonempty(value: Value, path: &str, max: usize) -> Parsed<String> {
    let text = string(value, path, max)?;
    if text.is_empty() {
        let message = format!("'{path}' must not be empty");
        return Err(ApiError::invalid("string_below_min_length", path, message));
    }
    Ok(text)
}

/// An array of 1 to `max` values.
///
/// # Errors
/// Another type, empty, or longer.
pub fn array(value: Value, path: &str, max: usize) -> Parsed<Vec<Value>> {
    match value {
        Value::Array(values) if values.is_empty() => {
            let message = format!("'{path}' must not be empty");
            Err(ApiError::invalid("empty_array", path, message))
        }
        Value::Array(values) if values.len() > max => {
            let message = format!(
                "'{path}' must have at most {max} elements, got {}",
                values.len()
            );
            Err(ApiError::invalid("array_above_max_length", path, message))
        }
        Value::Array(values) => Ok(values),
        other => Err(wrong_type(path, "an array", &other)),
    }
}

/// An integer in `range`; `1.0` is one.
///
/// # Errors
/// Another type, or out of range.
pub fn integer(value: &Value, path: &str, range: RangeInclusive<i64>) -> Parsed<i64> {
    let Value::Number(number) = value else {
        return Err(wrong_type(path, "an integer", value));
    };
    let whole = |f: &f64| f.fract() == 0.0 && f.abs() <= MAX_EXACT;
    // Exact: the value is whole and below 2^53.
    let exact = number
        .as_i64()
        .or_else(|| number.as_f64().filter(whole).map(|f| f as i64));
    let float = number.as_f64().unwrap_or(f64::NAN);
    match exact {
        Some(n) if range.contains(&n) => Ok(n),
        None if float.fract() != 0.0 || !float.is_finite() => {
            Err(wrong_type(path, "an integer", value))
        }
        _ if float < 0.0 || exact.is_some_and(|n| n < *range.start()) => Err(ApiError::invalid(
            "integer_below_min_value",
            path,
            format!("'{path}' must be at least {}", range.start()),
        )),
        _ => Err(ApiError::invalid(
            "integer_above_max_value",
            path,
            format!("'{path}' must be at most {}", range.end()),
        )),
    }
}

fn limit(value: &Value, path: &str, room: usize) -> Parsed<usize> {
    let whole = value.as_f64().filter(|f| f.fract() == 0.0);
    match (whole, integer(value, path, 1..=i64::MAX)) {
        (Some(-1.0), _) => Ok(room),
        (_, Ok(n)) => Ok(usize::try_from(n).unwrap_or(usize::MAX).min(room)),
        // Larger than what an integer of 64 bits can say.
        (Some(large), Err(_)) if large >= 1.0 => Ok(room),
        (Some(_), Err(_)) => {
            let message =
                format!("'{path}' must be at least 1, or -1 for all that the context leaves");
            Err(ApiError::invalid("integer_below_min_value", path, message))
        }
        (None, Err(error)) => Err(error),
    }
}

/// A finite number in `range`.
///
/// # Errors
/// Another type, or out of range.
pub fn number(value: &Value, path: &str, range: RangeInclusive<f64>) -> Parsed<f64> {
    let Some(number) = value.as_f64() else {
        return Err(wrong_type(path, "a number", value));
    };
    if !number.is_finite() {
        let message = format!("'{path}' must be a finite number");
        Err(ApiError::invalid("invalid_value", path, message))
    } else if number < *range.start() {
        let message = format!("'{path}' must be at least {}", range.start());
        Err(ApiError::invalid("decimal_below_min_value", path, message))
    } else if number > *range.end() {
        let message = format!("'{path}' must be at most {}", range.end());
        Err(ApiError::invalid("decimal_above_max_value", path, message))
    } else {
        Ok(number)
    }
}

/// Token ids. They are checked against the width of the logits, which the embedding table shares: the tokenizer
/// may know fewer.
///
/// # Errors
/// Another type, or out of range.
pub fn token_ids(values: &[Value], path: &str, vocab_size: usize) -> Parsed<Vec<u32>> {
    let max = i64::try_from(vocab_size).unwrap_or(i64::MAX) - 1;
    let values = values.iter().enumerate();
    let id = |(i, value)| {
        let path = format!("{path}[{i}]");
        let id = integer(value, &path, 0..=max)?;
        u32::try_from(id).map_err(|_| ApiError::invalid("invalid_value", &path, "no token id"))
    };
    values.map(id).collect()
}

/// The error for a value of another type.
pub fn wrong_type(path: &str, expected: &str, got: &Value) -> ApiError {
    let message = format!("'{path}' must be {expected}, but it is {}", kind_of(got));
    ApiError::invalid("invalid_type", path, message)
}

/// The error for a value that is valid at OpenAI and not supported here.
pub fn unsupported_value(path: &str, supported: &str) -> ApiError {
    let message = format!("this server does not support that value of '{path}'; {supported}");
    ApiError::invalid("unsupported_value", path, message)
}

/// The error for a field that is not supported here.
pub fn unsupported_parameter(path: &str) -> ApiError {
    let message = format!("this server does not support the parameter '{path}'; leave it out");
    ApiError::invalid("unsupported_parameter", path, message)
}

fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn code(error: &ApiError) -> (String, String) {
        let body = error.envelope().error;
        (
            body.code.unwrap_or_default(),
            body.param.unwrap_or_default(),
        )
    }

    #[test]
    fn integers_are_exact_and_bounded() {
        for (value, expected) in [
            (json!(3), Ok(3)),
            (json!(3.0), Ok(3)),
            (json!(0), Err("integer_below_min_value")),
            (json!(-1e30), Err("integer_below_min_value")),
            (json!(6), Err("integer_above_max_value")),
            (json!(u64::MAX), Err("integer_above_max_value")),
            (json!(1e300), Err("integer_above_max_value")),
            (json!(2.5), Err("invalid_type")),
            (json!("3"), Err("invalid_type")),
            (json!(true), Err("invalid_type")),
        ] {
            let got = integer(&value, "n", 1..=5).map_err(|e| code(&e).0);
            assert_eq!(got, expected.map_err(str::to_owned), "{value}");
        }
    }

    #[test]
    fn a_limit_comes_down_to_the_room_there_is() {
        for (value, expected) in [
            (json!(1), Ok(1)),
            (json!(8), Ok(8)),
            (json!(9), Ok(8)),
            (json!(9.0), Ok(8)),
            (json!(-1), Ok(8)),
            (json!(-1.0), Ok(8)),
            (json!(u64::MAX), Ok(8)),
            (json!(1e300), Ok(8)),
            (json!(0), Err("integer_below_min_value")),
            (json!(-2), Err("integer_below_min_value")),
            (json!(-1e300), Err("integer_below_min_value")),
            (json!(1.5), Err("invalid_type")),
            (json!("5"), Err("invalid_type")),
            (json!(true), Err("invalid_type")),
        ] {
            let got = limit(&value, "n", 8).map_err(|e| code(&e).0);
            assert_eq!(got, expected.map_err(str::to_owned), "{value}");
        }
    }

    #[test]
    fn a_field_under_another_name_is_known_by_that() {
        let mut fields = Fields::body(json!({"a": 1, "b": null})).unwrap();
        fields.also("a", json!(1.0), "x".into()).unwrap();
        let error = fields.also("a", json!(2), "x".into()).unwrap_err();
        assert_eq!(code(&error), ("invalid_value".into(), "x".into()));
        fields.also("b", json!(7), "o.b".into()).unwrap();
        let error = fields.integer("b", 0..=5).unwrap_err();
        assert_eq!(
            code(&error),
            ("integer_above_max_value".into(), "o.b".into())
        );
        assert_eq!(fields.integer("a", 0..=5).unwrap(), Some(1));
        assert!(fields.finish().is_ok());
    }

    #[test]
    fn numbers_are_bounded() {
        for (value, expected) in [
            (json!(0), Ok(0.0)),
            (json!(2), Ok(2.0)),
            (json!(2.0000001), Err("decimal_above_max_value")),
            (json!(-0.1), Err("decimal_below_min_value")),
            (json!("1"), Err("invalid_type")),
        ] {
            let got = number(&value, "t", 0.0..=2.0).map_err(|e| code(&e).0);
            assert_eq!(got, expected.map_err(str::to_owned), "{value}");
        }
    }

    #[test]
    fn a_field_that_nobody_took_is_refused_by_its_path() {
        let mut fields = Fields::nested(json!({"a": 1, "b": null, "c": 2}), "x[1]".into()).unwrap();
        assert_eq!(fields.integer("a", 0..=1).unwrap(), Some(1));
        let error = fields.finish().unwrap_err();
        assert_eq!(
            code(&error),
            ("unsupported_parameter".into(), "x[1].c".into())
        );
    }

    #[test]
    fn null_is_absent() {
        let mut fields = Fields::body(json!({"a": null, "b": null})).unwrap();
        assert_eq!(fields.string("a", 9).unwrap(), None);
        assert_eq!(
            code(&fields.required("b").unwrap_err()).0,
            "missing_required_parameter"
        );
        assert!(fields.finish().is_ok());
    }

    #[test]
    fn strings_count_characters() {
        let four = "\u{e4}\u{e4}\u{e4}\u{e4}";
        assert_eq!(string(json!(four), "s", 4).unwrap(), four);
        assert_eq!(
            code(&string(json!(four), "s", 3).unwrap_err()).0,
            "string_above_max_length"
        );
    }
}
