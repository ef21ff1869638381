//! What templates may call, as transformers provides it.

use std::time::SystemTime;

use minijinja::value::{Kwargs, Value};
use minijinja::{Environment, Error, ErrorKind};

use super::strftime::strftime;

/// Adds `raise_exception(message)`, `strftime_now(format)` (UTC) and `tojson`.
pub(super) fn register(environment: &mut Environment<'_>, now: fn() -> SystemTime) {
    environment.add_function("raise_exception", |message: String| {
        Err::<Value, _>(Error::new(ErrorKind::InvalidOperation, message))
    });
    environment.add_function("strftime_now", move |format: String| {
        strftime(&format, now())
    });
    environment.add_filter("tojson", to_json);
}

/// JSON as Python writes it: characters that HTML minds are left as they are.
fn to_json(value: &Value, indent: Option<Value>, options: Kwargs) -> Result<Value, Error> {
    // Python's `ensure_ascii=False` is what happens anyway.
    let _: Option<bool> = options.get("ensure_ascii")?;
    let json = minijinja::filters::tojson(value, indent, options)?;
    Ok(Value::from(unescape_html(
        json.as_str().unwrap_or_default(),
    )))
}

/// Undoes the escapes `\u003c`, `\u003e`, `\u0026` and `\u0027` of a JSON text.
fn unescape_html(json: &str) -> String {
    let mut text = String::with_capacity(json.len());
    let mut rest = json;
    while let Some(at) = rest.find('\\') {
        let (before, escape) = rest.split_at(at);
        text.push_str(before);
        let plain = match escape.get(..6) {
            Some("\\u003c") => Some('<'),
            Some("\\u003e") => Some('>'),
            Some("\\u0026") => Some('&'),
            Some("\\u0027") => Some('\''),
            _ => None,
        };
        let length = match plain {
            Some(character) => {
                text.push(character);
                6
            }
            // In JSON the character after a backslash is ASCII; `\\` must be skipped as one.
            None => {
                text.push_str(&escape[..2]);
                2
            }
        };
        rest = &escape[length..];
    }
    text + rest
}

/// transformers marks what the assistant wrote by `{% generation %}`, for training; the marks mean
/// nothing here, and other Jinjas do not know them.
pub(super) fn without_generation_marks(source: &str) -> String {
    let mut text = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(start) = rest.find("{%") {
        let Some(length) = rest[start..].find("%}") else {
            break;
        };
        let (tag, after) = rest[start..].split_at(length + 2);
        text.push_str(&rest[..start]);
        let word = tag.trim_matches(['{', '%', '}', '-', '+', ' ', '\n', '\t']);
        match word {
            "generation" => text.push_str(&tag.replace(word, "if true")),
            "endgeneration" => text.push_str(&tag.replace(word, "endif")),
            _ => text.push_str(tag),
        }
        rest = after;
    }
    text + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn html_escapes_are_undone_and_others_are_kept() {
        let json = r#"{"a": "\u003cb\u003e \u0026 \u0027 \\u003c \\\u003c \n \u00e9"}"#;
        let plain = r#"{"a": "<b> & ' \\u003c \\< \n \u00e9"}"#;
        assert_eq!(unescape_html(json), plain);
    }

    #[test]
    fn generation_marks_become_blocks_that_always_run() {
        let marked = "{%- generation -%}a{% endgeneration %}{% set generation = 1 %}{{ '{%' }}";
        let plain = "{%- if true -%}a{% endif %}{% set generation = 1 %}{{ '{%' }}";
        assert_eq!(without_generation_marks(marked), plain);
    }
}
