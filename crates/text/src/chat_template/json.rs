//! `tojson`, as transformers has it: Python's `json.dumps`.

use minijinja::value::{Kwargs, Value, ValueKind};
use minijinja::{Error, ErrorKind, State};

/// How deep lists and objects may be nested.
const MAX_DEPTH: usize = 200;

/// `tojson(ensure_ascii=false, indent=none, separators=none, sort_keys=false)`.
///
/// # Errors
/// A value that JSON does not have, among them one that is undefined.
pub(super) fn to_json(
    state: &mut State<'_, '_>,
    value: &Value,
    options: &Kwargs,
) -> Result<String, Error> {
    let indent = match options.get::<Option<Value>>("indent")? {
        Some(indent) if !indent.is_none() => Some(match indent.as_str() {
            Some(text) => text.to_owned(),
            None => " ".repeat(usize::try_from(indent.clone()).unwrap_or(0).min(64)),
        }),
        _ => None,
    };
    let separators = options.get::<Option<Value>>("separators")?;
    let (item, key) = match separators.filter(|separators| !separators.is_none()) {
        Some(pair) => (
            pair.get_item_by_index(0)?.to_string(),
            pair.get_item_by_index(1)?.to_string(),
        ),
        None if indent.is_some() => (",".to_owned(), ": ".to_owned()),
        None => (", ".to_owned(), ": ".to_owned()),
    };
    let flag = |name| Ok::<_, Error>(options.get::<Option<bool>>(name)?.unwrap_or(false));
    let mut writer = Writer {
        ascii: flag("ensure_ascii")?,
        sorted: flag("sort_keys")?,
        indent,
        item,
        key,
        text: String::new(),
        state,
    };
    options.assert_all_used()?;
    writer.value(value, 0)?;
    Ok(writer.text)
}

/// A number as Python writes it.
pub(super) fn float(number: f64) -> String {
    let text = format!("{number:?}");
    match text.split_once('e') {
        Some((digits, exponent)) => {
            let exponent: i32 = exponent.parse().unwrap_or_default();
            let sign = if exponent < 0 { '-' } else { '+' };
            format!("{digits}e{sign}{:02}", exponent.unsigned_abs())
        }
        None => text,
    }
}

/// A float, and not a whole number in another type.
pub(super) fn as_float(value: &Value) -> Option<f64> {
    let is_float = value.kind() == ValueKind::Number && !value.is_integer();
    f64::try_from(value.clone()).ok().filter(|_| is_float)
}

struct Writer<'a, 'template, 'env> {
    ascii: bool,
    sorted: bool,
    indent: Option<String>,
    item: String,
    key: String,
    text: String,
    state: &'a State<'template, 'env>,
}

impl Writer<'_, '_, '_> {
    fn value(&mut self, value: &Value, depth: usize) -> Result<(), Error> {
        self.state.consume_fuel(1)?;
        match value.kind() {
            ValueKind::None => self.text.push_str("null"),
            ValueKind::Bool => self
                .text
                .push_str(if value.is_true() { "true" } else { "false" }),
            ValueKind::Number => {
                let number = number(value);
                self.text.push_str(&number);
            }
            ValueKind::String => self.string(value.as_str().unwrap_or_default())?,
            ValueKind::Seq | ValueKind::Iterable => {
                let items: Vec<Value> = value.try_iter()?.collect();
                self.all('[', ']', &items, depth, |writer, item| {
                    writer.value(item, depth + 1)
                })?;
            }
            ValueKind::Map => {
                let mut keys: Vec<Value> = value.try_iter()?.collect();
                if self.sorted {
                    keys.sort_by_key(Value::to_string);
                }
                self.all('{', '}', &keys, depth, |writer, key| {
                    writer.string(&name(key)?)?;
                    let separator = writer.key.clone();
                    writer.text.push_str(&separator);
                    writer.value(&value.get_item(key)?, depth + 1)
                })?;
            }
            kind => return Err(unwritable(kind)),
        }
        Ok(())
    }

    fn all(
        &mut self,
        open: char,
        close: char,
        items: &[Value],
        depth: usize,
        write: impl Fn(&mut Self, &Value) -> Result<(), Error>,
    ) -> Result<(), Error> {
        if depth == MAX_DEPTH {
            let message = format!("tojson: more than {MAX_DEPTH} levels");
            return Err(Error::new(ErrorKind::InvalidOperation, message));
        }
        self.text.push(open);
        for (i, item) in items.iter().enumerate() {
            if i > 0 {
                let separator = self.item.clone();
                self.text.push_str(&separator);
            }
            self.line(depth + 1)?;
            write(self, item)?;
        }
        if !items.is_empty() {
            self.line(depth)?;
        }
        self.text.push(close);
        Ok(())
    }

    fn line(&mut self, depth: usize) -> Result<(), Error> {
        if let Some(indent) = &self.indent {
            self.state
                .consume_fuel((indent.len() * depth / 64) as u64)?;
            self.text.push('\n');
            self.text.push_str(&indent.repeat(depth));
        }
        Ok(())
    }

    fn string(&mut self, string: &str) -> Result<(), Error> {
        self.state.consume_fuel((string.len() / 64) as u64)?;
        self.text.push('"');
        for character in string.chars() {
            match character {
                '"' => self.text.push_str("\\\""),
                '\\' => self.text.push_str("\\\\"),
                '\n' => self.text.push_str("\\n"),
                '\r' => self.text.push_str("\\r"),
                '\t' => self.text.push_str("\\t"),
                '\u{8}' => self.text.push_str("\\b"),
                '\u{c}' => self.text.push_str("\\f"),
                '\0'..='\u{1f}' => self.escape(character),
                '\u{7f}'.. if self.ascii => self.escape(character),
                _ => self.text.push(character),
            }
        }
        self.text.push('"');
        Ok(())
    }

    fn escape(&mut self, character: char) {
        for unit in character.encode_utf16(&mut [0; 2]) {
            self.text.push_str(&format!("\\u{unit:04x}"));
        }
    }
}

fn number(value: &Value) -> String {
    match as_float(value) {
        Some(number) if number.is_nan() => "NaN".to_owned(),
        Some(number) if number.is_infinite() => if number > 0.0 {
            "Infinity"
        } else {
            "-Infinity"
        }
        .to_owned(),
        Some(number) => float(number),
        None => value.to_string(),
    }
}

/// The key of an object.
fn name(key: &Value) -> Result<String, Error> {
    match key.kind() {
        ValueKind::String => Ok(key.as_str().unwrap_or_default().to_owned()),
        ValueKind::Number => Ok(number(key)),
        ValueKind::Bool => Ok(if key.is_true() { "true" } else { "false" }.to_owned()),
        ValueKind::None => Ok("null".to_owned()),
        kind => Err(unwritable(kind)),
    }
}

fn unwritable(kind: ValueKind) -> Error {
    let message = format!("tojson: JSON has no {kind} value");
    Error::new(ErrorKind::InvalidOperation, message)
}
