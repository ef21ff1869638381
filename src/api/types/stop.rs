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
    /// One, of 1 to 256 characters.
    One(String),
    /// Several, at most four.
    Many(Vec<String>),
}

impl Stop {
    /// Takes the field `stop`.
    ///
    /// # Errors
    /// Another type, none or too many, one that is empty or too long.
    pub fn take(fields: &mut Fields) -> Parsed<Option<Self>> {
        let path = fields.path("stop");
        match fields.take("stop") {
            None => Ok(None),
            Some(Value::Array(values)) => {
                let values = fields::array(Value::Array(values), &path, MAX_STOPS)?;
                let stops = values.into_iter().enumerate();
                let stops = stops.map(|(i, value)| {
                    fields::nonempty(value, &format!("{path}[{i}]"), MAX_STOP_CHARS)
                });
                Ok(Some(Self::Many(stops.collect::<Parsed<_>>()?)))
            }
            Some(value) => {
                fields::nonempty(value, &path, MAX_STOP_CHARS).map(|stop| Some(Self::One(stop)))
            }
        }
    }

    /// The strings.
    pub fn into_strings(self) -> Vec<String> {
        match self {
            Self::One(stop) => vec![stop],
            Self::Many(stops) => stops,
        }
    }
}
