//! Filters of Jinja2's that ours lacks, or takes other arguments.

use minijinja::value::{from_args, Kwargs, Rest, Tuple, Value, ValueKind, ValueOrKwargs};
use minijinja::{escape_formatter, filters, Environment, Error, ErrorKind, State};
use minijinja_contrib::filters as contrib;

use super::dialect::PERCENT;
use super::json;
use super::methods;

type Arguments = Rest<ValueOrKwargs>;

/// Adds them, and writes floats as Python does.
pub(super) fn register(environment: &mut Environment<'_>) {
    environment.add_filter(PERCENT, percent);
    environment.add_filter(
        "tojson",
        |state: &mut State, value: &Value, args: Arguments| {
            let names = ["ensure_ascii", "indent", "separators", "sort_keys"];
            json::to_json(state, value, &named(args, &names)?)
        },
    );
    environment.add_filter("default", default);
    environment.add_filter("d", default);
    environment.add_filter("dictsort", |value: &Value, args: Arguments| {
        filters::dictsort(value, named(args, &["case_sensitive", "by", "reverse"])?)
    });
    environment.add_filter("sort", |state: &State, value: Value, args: Arguments| {
        filters::sort(
            state,
            value,
            named(args, &["reverse", "case_sensitive", "attribute"])?,
        )
    });
    environment.add_filter("unique", |state: &State, value: Value, args: Arguments| {
        filters::unique(state, value, named(args, &["case_sensitive", "attribute"])?)
    });
    environment.add_filter("min", |state: &State, value: Value, args: Arguments| {
        filters::min(state, value, named(args, &["case_sensitive", "attribute"])?)
    });
    environment.add_filter("max", |state: &State, value: Value, args: Arguments| {
        filters::max(state, value, named(args, &["case_sensitive", "attribute"])?)
    });
    environment.add_filter("indent", indent);
    environment.add_filter("int", int);
    environment.add_filter("float", |value: &Value, args: Arguments| {
        let default = named(args, &["default"])?.get::<Option<Value>>("default")?;
        let number = number(value).map(Value::from);
        Ok::<_, Error>(number.or(default).unwrap_or_else(|| Value::from(0.0)))
    });
    environment.add_filter("center", |state: &State, text: &str, args: Arguments| {
        let width = named(args, &["width"])?.get::<Option<usize>>("width")?;
        methods::center(state, text, width.unwrap_or(80), ' ')
    });
    environment.add_filter("wordcount", |text: &str| {
        let is_word = |c: char| c.is_alphanumeric() || c == '_';
        text.split(|c| !is_word(c))
            .filter(|word| !word.is_empty())
            .count()
    });
    environment.add_filter(
        "truncate",
        |state: &mut State, value: &Value, args: Arguments| {
            let names = ["length", "killwords", "end", "leeway"];
            contrib::truncate(state, value, named(args, &names)?)
        },
    );
    environment.add_filter("striptags", contrib::striptags);
    environment.add_filter("filesizeformat", contrib::filesizeformat);
    for name in ["e", "escape", "forceescape"] {
        environment.add_filter(name, escape);
    }
    environment.add_filter("urlencode", urlencode);
    // What it writes differs from Python's.
    environment.remove_filter("pprint");
    environment.set_formatter(|output, state, value| match json::as_float(value) {
        Some(number) if number.is_finite() => Ok(output.write_str(&json::float(number))?),
        _ => escape_formatter(output, state, value),
    });
}

/// Arguments by name; `names` are those that are given by place, in order.
fn named(args: Arguments, names: &[&str]) -> Result<Kwargs, Error> {
    let args = args.into_values();
    let (by_place, by_name): (&[Value], Kwargs) = from_args(&args)?;
    if by_place.len() > names.len() {
        return Err(Error::from(ErrorKind::TooManyArguments));
    }
    let by_place = names.iter().zip(by_place);
    let mut all: Vec<(&str, Value)> = by_place
        .map(|(name, value)| (*name, value.clone()))
        .collect();
    for name in by_name.args() {
        all.push((name, by_name.peek(name)?));
    }
    Ok(all.into_iter().collect())
}

/// `%` of Python: it formats where a text stands before it.
fn percent(state: &mut State, left: &Value, right: &Value) -> Result<Value, Error> {
    if left.kind() != ValueKind::String {
        return remainder(left, right);
    }
    let mut args = vec![left.clone()];
    match right.downcast_object_ref::<Tuple>() {
        Some(values) => args.extend(values.iter().cloned()),
        None if right.kind() == ValueKind::Map => {
            let mut fields = Vec::new();
            for key in right.try_iter()? {
                fields.push((key.to_string(), right.get_item(&key)?));
            }
            args.push(Value::from(fields.into_iter().collect::<Kwargs>()));
        }
        None => args.push(right.clone()),
    }
    state.apply_filter("format", &args)
}

/// The remainder with the sign of the divisor.
fn remainder(left: &Value, right: &Value) -> Result<Value, Error> {
    let failed = |why: String| Error::new(ErrorKind::InvalidOperation, why);
    let whole = |value: &Value| match value.kind() {
        ValueKind::Bool => Some(i128::from(value.is_true())),
        ValueKind::Number if value.is_integer() => i128::try_from(value.clone()).ok(),
        _ => None,
    };
    if let (Some(left), Some(right)) = (whole(left), whole(right)) {
        let remainder = left.checked_rem(right);
        let remainder =
            remainder.ok_or_else(|| failed(format!("{left} % {right} is no number")))?;
        let other_sign = remainder != 0 && (remainder < 0) != (right < 0);
        return Ok(Value::from(if other_sign {
            remainder + right
        } else {
            remainder
        }));
    }
    let number = |value: &Value| {
        let is_number = matches!(value.kind(), ValueKind::Number | ValueKind::Bool);
        let number = is_number
            .then(|| f64::try_from(value.clone()).ok())
            .flatten();
        number.ok_or_else(|| {
            failed(format!(
                "% has no meaning for {} and {}",
                left.kind(),
                right.kind()
            ))
        })
    };
    let (left, right) = (number(left)?, number(right)?);
    if right == 0.0 {
        return Err(failed(format!("{left} % 0 is no number")));
    }
    let remainder = left % right;
    let other_sign = remainder != 0.0 && (remainder < 0.0) != (right < 0.0);
    Ok(Value::from(if other_sign {
        remainder + right
    } else {
        remainder
    }))
}

fn default(state: &State, value: &Value, args: Arguments) -> Result<Value, Error> {
    let named = named(args, &["default_value", "boolean"])?;
    let default = named.get::<Option<Value>>("default_value")?;
    let args = [
        default.unwrap_or_else(|| Value::from("")),
        Value::from(named.get::<Option<bool>>("boolean")?.unwrap_or(false)),
    ];
    named.assert_all_used()?;
    filters::default(state, value, Rest(args.to_vec()))
}

/// What HTML minds, as MarkupSafe writes it.
fn escape(value: &Value) -> String {
    let escaped = value.to_string().replace('&', "&amp;");
    let escaped = escaped.replace('<', "&lt;").replace('>', "&gt;");
    escaped.replace('\'', "&#39;").replace('"', "&#34;")
}

/// A text for a path, or a dictionary for a query.
fn urlencode(value: &Value) -> Result<String, Error> {
    if value.kind() != ValueKind::Map {
        return filters::urlencode(value);
    }
    let quoted = |value: &Value| {
        let quoted = filters::urlencode(&Value::from(value.to_string()))?;
        Ok::<_, Error>(quoted.replace('/', "%2F").replace("%20", "+"))
    };
    let mut pairs = Vec::new();
    for key in value.try_iter()? {
        pairs.push(format!(
            "{}={}",
            quoted(&key)?,
            quoted(&value.get_item(&key)?)?
        ));
    }
    Ok(pairs.join("&"))
}

/// `width` is a number of spaces or a text.
fn indent(state: &State, text: &str, args: Arguments) -> Result<String, Error> {
    let named = named(args, &["width", "first", "blank"])?;
    let width = named
        .get::<Option<Value>>("width")?
        .unwrap_or_else(|| Value::from(4));
    let flag = |name| Ok::<_, Error>(named.get::<Option<bool>>(name)?.unwrap_or(false));
    let (first, blank) = (flag("first")?, flag("blank")?);
    named.assert_all_used()?;
    let indent = match width.as_str() {
        Some(text) => text.to_owned(),
        None => {
            let width = usize::try_from(width)?;
            state.consume_fuel((width / 64) as u64)?;
            " ".repeat(width)
        }
    };
    let text = format!("{text}\n");
    let lines = methods::lines(&text, false);
    state.consume_fuel((lines.len().saturating_mul(indent.len()) / 64) as u64)?;
    let mut written = String::new();
    for (i, line) in lines.iter().enumerate() {
        if i > 0 {
            written.push('\n');
        }
        if (i == 0 && first) || (i > 0 && (blank || !line.is_empty())) {
            written.push_str(&indent);
        }
        written.push_str(line);
    }
    Ok(written)
}

/// `int(default=0, base=10)`: what is no number is the default.
fn int(value: &Value, args: Arguments) -> Result<Value, Error> {
    let named = named(args, &["default", "base"])?;
    let default = named
        .get::<Option<Value>>("default")?
        .unwrap_or_else(|| Value::from(0));
    let base = named.get::<Option<u32>>("base")?.unwrap_or(10);
    named.assert_all_used()?;
    if value.is_integer() {
        return Ok(value.clone());
    }
    let whole = value.as_str().and_then(|text| whole_number(text, base));
    let truncated = || {
        let number = number(value).filter(|number| number.is_finite());
        number.map(|number| number.trunc() as i128)
    };
    Ok(whole.or_else(truncated).map_or(default, Value::from))
}

/// A number as Python reads it: with a sign, a prefix that fits the base, and underscores.
fn whole_number(text: &str, base: u32) -> Option<i128> {
    let text = text.trim();
    let (sign, digits) = match text.strip_prefix('-') {
        Some(digits) => (-1, digits),
        None => (1, text.strip_prefix('+').unwrap_or(text)),
    };
    let prefix = digits.get(..2).unwrap_or_default().to_ascii_lowercase();
    let (own, rest) = match prefix.as_str() {
        "0x" => (16, &digits[2..]),
        "0o" => (8, &digits[2..]),
        "0b" => (2, &digits[2..]),
        _ => (0, digits),
    };
    let (base, digits) = match base {
        0 if own == 0 => (10, digits),
        0 => (own, rest),
        base if base == own => (base, rest),
        base => (base, digits),
    };
    if !(2..=36).contains(&base) || digits.starts_with('_') || digits.ends_with('_') {
        return None;
    }
    let digits = digits.replace('_', "");
    let is_digits = digits.chars().all(|c| c.is_digit(base));
    let number = is_digits
        .then(|| i128::from_str_radix(&digits, base).ok())
        .flatten();
    number.map(|number| sign * number)
}

/// A number, a truth value, or a text that is one.
fn number(value: &Value) -> Option<f64> {
    match value.kind() {
        ValueKind::Number => f64::try_from(value.clone()).ok(),
        ValueKind::Bool => Some(f64::from(u8::from(value.is_true()))),
        ValueKind::String => value.as_str()?.trim().parse().ok(),
        _ => None,
    }
}
