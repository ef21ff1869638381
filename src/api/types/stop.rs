//! Stop strings of a request.

use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use crate::api::fields::{self, Fields, Parsed};

/// Stop strings that a request may name: more than at OpenAI, since clients of other servers send all they have.
pub const MAX_STOPS: usize = 16;
/// How many of them OpenAI takes.
const MAX_STOPS_STRICT: usize = 4;
/// Characters of a stop string.
pub const MAX_STOP_CHARS: usize = 256;

/// One stop string or up to 16; the answer ends before the first that it would contain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
#[serde(untagged)]
pub enum Stop {
    /// One, of up to 256 characters; an empty one ends nothing.
    One(String),
    /// Several, at most 16.
    Many(Vec<String>),
}

impl Stop {
    /// Takes the field `stop`; `strict` takes no more strings than OpenAI does.
    ///
    /// # Errors
    /// Another type, too many, one that is too long.
    pub fn take(fields: &mut Fields, strict: bool) -> Parsed<Option<Self>> {
        let path = fields.path("stop");
        let max = if strict { MAX_STOPS_STRICT } else { MAX_STOPS };
        match fields.take("stop") {
            None => Ok(None),
            Some(Value::Array(values)) if values.is_empty() => Ok(None),
            Some(Value::Array(values)) => {
                let values = fields::array(Value::Array(values), &path, max)?;
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
