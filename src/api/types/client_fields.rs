//! Fields that clients of other servers send, and what becomes of each: [`TABLE`].
//!
//! What would change an answer is honoured under our own name for it, or refused unless its value asks for nothing.
//! What cannot change one is accepted, and the answer's header `x-attune-ignored` names it, so that nothing is
//! ignored in silence. With `--strict` no field of the table is taken.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::sync::{Mutex, PoisonError};

use axum::http::HeaderValue;
use serde_json::{json, Value};

use super::client_table::TABLE;
use crate::api::error::ApiError;
use crate::api::fields::{unsupported_parameter, Fields, Parsed};

/// Tokens at the end of prompt and answer that `repeat_penalty` concerns at llama.cpp and Ollama.
const WINDOW: i64 = 64;

/// Bytes of the header that names what was ignored.
const MAX_HEADER: usize = 1024;

/// A field that another server knows.
#[derive(Debug, Clone, Copy)]
pub struct ClientField {
    /// Its name, with the place where it stands.
    pub name: &'static str,
    /// Where it stands.
    pub place: Place,
    /// Who sends it.
    pub known_to: &'static str,
    /// What it means there.
    pub meaning: &'static str,
    /// What becomes of it here.
    pub fate: Fate,
}

/// Where a field stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// In the body of a chat and of a completion. A sampling field may stand in Ollama's `options`, too.
    Body,
    /// In the body of a chat.
    Chat,
    /// In the body of a completion.
    Completion,
    /// In a message.
    Message,
    /// In a part of a message.
    Part,
    /// In `stream_options`.
    StreamOptions,
}

/// What becomes of a field.
#[derive(Debug, Clone, Copy)]
pub enum Fate {
    /// It is another name of this field of ours.
    Means(&'static str),
    /// It changes no answer, whatever it says.
    Ignored,
    /// It would change the answer: only these values pass, which ask for nothing. There may be none.
    Only(&'static [Neutral]),
    /// How far back penalties look: all of it, as here, or anything where there is no penalty. Another number is named
    /// as ignored, and so are the 64 tokens that `repeat_penalty` alone means elsewhere; but 0 would switch the
    /// penalties off.
    Window,
    /// Whether line breaks are penalized: true, as here, or anything where there is no penalty.
    LineBreaks,
}

/// A value that asks for nothing.
#[derive(Debug, Clone, Copy)]
pub enum Neutral {
    /// This number.
    Number(f64),
    /// This boolean.
    Is(bool),
    /// This word.
    Word(&'static str),
    /// A text, a list or an object with nothing in it.
    Empty,
}

/// Names of fields of one request that changed nothing: those of the table, and some of ours, never a client's words.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ignored(BTreeSet<&'static str>);

impl Ignored {
    /// One more.
    pub fn add(&mut self, name: &'static str) {
        self.0.insert(name);
    }

    /// All of them, sorted.
    pub fn names(&self) -> impl Iterator<Item = &'static str> + '_ {
        self.0.iter().copied()
    }

    /// The value of the header that names them; `None` where there are none. What would make it longer than 1 KiB
    /// is left out, and dots say so.
    pub fn header(&self) -> Option<HeaderValue> {
        let mut text = String::new();
        for name in self.names() {
            if text.len() + name.len() + ", , ...".len() > MAX_HEADER {
                text.push_str(", ...");
                break;
            }
            let comma = if text.is_empty() { "" } else { ", " };
            text.push_str(comma);
            text.push_str(name);
        }
        // Names are visible ASCII; a test reads all of them.
        let value = HeaderValue::from_str(&text).ok();
        value.filter(|value| !value.is_empty())
    }
}

/// What the log has said already.
#[derive(Debug, Default)]
pub struct Told(Mutex<BTreeSet<&'static str>>);

impl Told {
    /// Says it of each of these of which it was not said before.
    pub fn tell(&self, ignored: &Ignored) {
        for field in self.fresh(ignored) {
            tracing::info!(
                field,
                "requests have a field without effect here; x-attune-ignored names it in answers, --strict refuses it"
            );
        }
    }

    fn fresh(&self, ignored: &Ignored) -> Vec<&'static str> {
        // A set of names is whole at any moment.
        let mut told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        ignored.names().filter(|name| told.insert(name)).collect()
    }
}

/// Which fields a request may have, and those that changed nothing.
#[derive(Debug)]
pub struct Taken {
    strict: bool,
    /// So far.
    pub ignored: Ignored,
}

impl Taken {
    /// Nothing yet; `strict` takes no field of the table.
    pub fn new(strict: bool) -> Self {
        Self {
            strict,
            ignored: Ignored::default(),
        }
    }

    /// Whether what has no effect is refused.
    pub fn is_strict(&self) -> bool {
        self.strict
    }

    /// Takes the fields of the table that stand in a body, `route` being [`Place::Chat`] or [`Place::Completion`].
    /// Those that mean a field of ours are put in its place, so this comes before all others.
    ///
    /// # Errors
    /// A value that would change the answer; two names of one thing that differ; any of them, if that is asked for.
    pub fn body(&mut self, fields: &mut Fields, route: Place) -> Parsed<()> {
        self.options(fields)?;
        let rows = |row: &&ClientField| row.place == Place::Body || row.place == route;
        self.rows(fields, rows)
    }

    /// Takes the fields of the table that stand in `place`.
    ///
    /// # Errors
    /// As [`Self::body`].
    pub fn inner(&mut self, fields: &mut Fields, place: Place) -> Parsed<()> {
        self.rows(fields, |row| row.place == place)
    }

    fn rows(&mut self, fields: &mut Fields, rows: impl Fn(&&ClientField) -> bool) -> Parsed<()> {
        // As most messages and parts are once their own fields are taken, and there may be many of them.
        if fields.is_empty() {
            return Ok(());
        }
        for row in TABLE.iter().filter(rows) {
            let given = fields.take(row.key());
            let Some(value) = given.or_else(|| implied(row, fields)) else {
                continue;
            };
            let path = fields.path(row.key());
            if self.strict {
                return Err(unsupported_parameter(&path));
            }
            match row.fate {
                Fate::Means(ours) => {
                    let (ours, value) = as_ours(ours, value, &path)?;
                    fields.also(ours, value, path)?;
                }
                Fate::Ignored => self.ignored.add(row.name),
                Fate::Only(neutral) if neutral.iter().any(|n| n.is(&value)) => {}
                Fate::Window | Fate::LineBreaks if !penalizes(fields) => {}
                Fate::LineBreaks if value == json!(true) => {}
                Fate::Window if value.as_f64() == Some(-1.0) => {}
                Fate::Window if value.as_f64() != Some(0.0) => self.ignored.add(row.name),
                Fate::Only(_) | Fate::Window | Fate::LineBreaks => return Err(row.refused(&path)),
            }
        }
        Ok(())
    }

    /// Ollama's `options`: the same fields, one level deeper.
    fn options(&self, fields: &mut Fields) -> Parsed<()> {
        let path = fields.path("options");
        let Some(value) = fields.take("options") else {
            return Ok(());
        };
        if self.strict {
            return Err(unsupported_parameter(&path));
        }
        let mut options = Fields::nested(value, path)?;
        let ours = OURS.iter().copied();
        let theirs = TABLE.iter().filter(|row| row.place == Place::Body);
        for name in ours.chain(theirs.map(|row| row.name)) {
            let path = options.path(name);
            if let Some(value) = options.take(name) {
                fields.also(name, value, path)?;
            }
        }
        options.finish()
    }
}

/// Fields of ours that Ollama has in `options`.
const OURS: [&str; 8] = [
    "temperature",
    "top_p",
    "top_k",
    "min_p",
    "seed",
    "stop",
    "presence_penalty",
    "frequency_penalty",
];

/// What another server's value means, where it is not ours. The -2 of llama.cpp and Ollama fills the context, as -1
/// does here; `think` may be a word for how much, and `thinking` an object with a word for whether.
fn as_ours(ours: &'static str, value: Value, path: &str) -> Parsed<(&'static str, Value)> {
    Ok(match (ours, value) {
        ("max_tokens", Value::Number(number)) if number.as_f64() == Some(-2.0) => (ours, json!(-1)),
        ("enable_thinking", Value::String(word)) => ("reasoning_effort", json!(word)),
        ("enable_thinking", value @ Value::Object(_)) => {
            let mut thinking = Fields::nested(value, path.to_owned())?;
            let word = thinking.word("type", &["enabled", "disabled"])?;
            let word = word.ok_or_else(|| thinking.missing("type"))?;
            // A budget would change the answer.
            thinking.finish()?;
            (ours, json!(word == "enabled"))
        }
        (_, value) => (ours, value),
    })
}

/// What a field that is not there means to the servers that know it, where something else is there.
fn implied(row: &ClientField, fields: &Fields) -> Option<Value> {
    match row.fate {
        Fate::Window if fields.is_written_otherwise("repetition_penalty") => Some(json!(WINDOW)),
        _ => None,
    }
}

/// Whether there is a penalty. A value of another type is told of by whoever reads it.
fn penalizes(fields: &Fields) -> bool {
    let is = |name: &str, off: f64| {
        let value = fields.peek(name).and_then(Value::as_f64);
        value.is_some_and(|value| value != off)
    };
    is("repetition_penalty", 1.0) || is("presence_penalty", 0.0) || is("frequency_penalty", 0.0)
}

impl ClientField {
    /// Its name without its place.
    fn key(&self) -> &'static str {
        let prefix = match self.place {
            Place::Body | Place::Chat | Place::Completion => "",
            Place::Message => "messages[].",
            Place::Part => "messages[].content[].",
            Place::StreamOptions => "stream_options.",
        };
        self.name.strip_prefix(prefix).unwrap_or(self.name)
    }

    fn refused(&self, path: &str) -> ApiError {
        let passes = self.passes();
        if passes.is_empty() {
            return unsupported_parameter(path);
        }
        if matches!(self.fate, Fate::Window) {
            let message =
                format!("'{path}': 0 switches all penalties off; leave them out, and it with them");
            return ApiError::invalid("unsupported_parameter", path, message);
        }
        let message = format!(
            "this server does not support the parameter '{path}'; leave it out, or send {passes}, which asks for nothing"
        );
        ApiError::invalid("unsupported_parameter", path, message)
    }

    /// The values that pass, for people; empty where there are none.
    fn passes(&self) -> String {
        let neutral = match self.fate {
            Fate::Only(neutral) => neutral,
            Fate::Window => return "-1".to_owned(),
            Fate::LineBreaks => return "true".to_owned(),
            Fate::Means(_) | Fate::Ignored => return String::new(),
        };
        let words = neutral.iter().map(|neutral| match neutral {
            Neutral::Number(number) => number.to_string(),
            Neutral::Is(truth) => truth.to_string(),
            Neutral::Word(word) => format!("\"{word}\""),
            Neutral::Empty => "an empty value".to_owned(),
        });
        words.collect::<Vec<_>>().join(" or ")
    }
}

impl Neutral {
    fn is(&self, value: &Value) -> bool {
        match self {
            Self::Number(number) => value.as_f64() == Some(*number),
            Self::Is(truth) => value.as_bool() == Some(*truth),
            Self::Word(word) => value.as_str() == Some(word),
            Self::Empty => match value {
                Value::String(text) => text.trim().is_empty(),
                Value::Array(values) => values.is_empty(),
                Value::Object(map) => map.is_empty(),
                _ => false,
            },
        }
    }
}

/// The table as docs/api.md has it.
pub fn markdown() -> String {
    let mut text = "| field | known to | there it means | here |\n|---|---|---|---|\n".to_owned();
    for row in TABLE {
        let place = match row.place {
            Place::Chat => " (chat)",
            Place::Completion => " (completions)",
            _ => "",
        };
        let here = match (row.fate, row.passes()) {
            (Fate::Means(ours), _) => format!("`{ours}`"),
            (Fate::Ignored, _) => "no effect, named".to_owned(),
            (Fate::Window, _) => "-1; anything where there is no penalty; else no effect, named, and so is its default of 64; 0 is refused".to_owned(),
            (Fate::LineBreaks, passes) => format!("{passes}; anything where there is no penalty"),
            (Fate::Only(_), passes) if passes.is_empty() => "refused".to_owned(),
            (Fate::Only(_), passes) => format!("{passes} only"),
        };
        let (name, known_to, meaning) = (row.name, row.known_to, row.meaning);
        // A String takes whatever is written to it.
        let _ = writeln!(
            text,
            "| `{name}`{place} | {known_to} | {meaning} | {here} |"
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_log_names_a_field_once() {
        let told = Told::default();
        let mut ignored = Ignored::default();
        assert_eq!(told.fresh(&ignored), [""; 0]);
        ignored.add("keep_alive");
        assert_eq!(told.fresh(&ignored), ["keep_alive"]);
        ignored.add("cache_prompt");
        assert_eq!(told.fresh(&ignored), ["cache_prompt"]);
        assert_eq!(told.fresh(&ignored), [""; 0]);
    }
}
