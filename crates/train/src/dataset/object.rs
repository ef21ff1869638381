//! The fields of one record, in the order of the file and each once.

use std::fmt;

use serde::de::{Deserialize, Deserializer, Error, MapAccess, Visitor};
use serde_json::Value;

/// A JSON object, or a row of a table.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Object {
    fields: Vec<(String, Value)>,
}

impl Object {
    /// Whether a field of this name is there and not null.
    pub(super) fn has(&self, name: &str) -> bool {
        self.get(name).is_some()
    }

    /// The value of a field; null counts as absent, as it does in tables.
    pub(super) fn get(&self, name: &str) -> Option<&Value> {
        let (_, value) = self.fields.iter().find(|(n, _)| n == name)?;
        Some(value).filter(|value| !value.is_null())
    }

    /// Takes a field out.
    pub(super) fn take(&mut self, name: &str) -> Option<Value> {
        let at = self.fields.iter().position(|(n, _)| n == name)?;
        let (_, value) = self.fields.remove(at);
        Some(value).filter(|value| !value.is_null())
    }

    /// Names of the fields that are there.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.fields.iter().map(|(name, _)| name.as_str())
    }

    /// The fields as a map, null ones too.
    pub(crate) fn into_map(self) -> serde_json::Map<String, Value> {
        self.fields.into_iter().collect()
    }

    /// The fields in order.
    pub(super) fn fields(&self) -> &[(String, Value)] {
        &self.fields
    }
}

impl FromIterator<(String, Value)> for Object {
    fn from_iter<I: IntoIterator<Item = (String, Value)>>(fields: I) -> Self {
        Self {
            fields: fields.into_iter().collect(),
        }
    }
}

impl<'de> Deserialize<'de> for Object {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(ObjectVisitor)
    }
}

struct ObjectVisitor;

impl<'de> Visitor<'de> for ObjectVisitor {
    type Value = Object;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a record, which is an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Object, A::Error> {
        let mut object = Object::default();
        while let Some(name) = map.next_key::<String>()? {
            // Parsers elsewhere keep the first or the last of them: nobody knows what was meant.
            if object.fields.iter().any(|(known, _)| *known == name) {
                return Err(A::Error::custom(format!("the field {name} is there twice")));
            }
            object.fields.push((name, map.next_value()?));
        }
        Ok(object)
    }
}

/// What a JSON value is called in messages.
pub(super) fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(n) if n.is_i64() || n.is_u64() => "an integer",
        Value::Number(_) => "a number with a fraction",
        Value::String(_) => "text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}
