//! Stop strings of a request.

use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use crate::api::fields::{self, Fields, Parsed};

/// Stop strings that a request may name.
pub const MAX_STOPS: usize = 4;
/// Characters of a stop string.
pub const MAX_STOP_CHARS: usize = 256;

/// One stop string or up to four; the answer ends before the first that it would contain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
#[serde(untagged)]
pub enum Stop {
    /// One, of up to 256 characters; an empty one ends nothing.
    One(String),
    /// Several, at most four.
    Many(Vec<String>),
}

impl Stop {
    /// Takes the field `stop`.
    ///
    /// # Errors
    /// Another type, too many, one that is too long.
    pub fn take(fields: &mut Fields) -> Parsed<Option<Self>> {
        let path = fields.path("stop");
        match fields.take("stop") {
            None => Ok(None),
            Some(Value::Array(values)) if values.is_empty() => Ok(None),
            Some(Value::Array(values)) => {
                let values = fields::array(Value::Array(values), &path, MAX_STOPS)?;
                let stops = values.into_iter().enumerate();
                let stops = stops.map(|(i, value)| {
                    fields::string(value, &format!("{path}[{i}]"), MAX_STOP_CHARS)
                });
                Ok(Some(Self::Many(stops.collect::<Parsed<_>>()?)))
            }
            Some(value) => {
                fields::string(value, &path, MAX_STOP_CHARS).map(|stop| Some(Self::One(stop)))
            }
        }
    }

    /// The strings. An empty one ends nothing, and is left out.
    pub fn into_strings(self) -> Vec<String> {
        let mut stops = match self {
            Self::One(stop) => vec![stop],
            Self::Many(stops) => stops,
        };
        stops.retain(|stop| !stop.is_empty());
        stops
    }
}
