//! Methods of Python's strings, lists and dictionaries that our Jinja lacks, or sees otherwise.

use minijinja::value::{from_args, Kwargs, Tuple, Value, ValueKind};
use minijinja::{Error, ErrorKind, State};
use minijinja_contrib::pycompat;

/// Calls `method` of `value`. What is not known here is looked for among the library's own.
pub(super) fn call(
    state: &mut State<'_, '_>,
    value: &Value,
    method: &str,
    args: &[Value],
) -> Result<Value, Error> {
    let own = match value.kind() {
        ValueKind::String => {
            let text = value.as_str().unwrap_or_default();
            string(state, text, method, args)?
        }
        ValueKind::Seq => list(value, method, args)?,
        ValueKind::Map if method == "copy" => {
            let () = from_args(args)?;
            Some(value.clone())
        }
        _ => None,
    };
    match own {
        Some(result) => Ok(result),
        None => pycompat::unknown_method_callback(state, value, method, args),
    }
}

fn string(
    state: &State<'_, '_>,
    text: &str,
    method: &str,
    args: &[Value],
) -> Result<Option<Value>, Error> {
    Ok(Some(match method {
        "strip" | "lstrip" | "rstrip" => {
            let (characters,): (Option<&str>,) = from_args(args)?;
            Value::from(stripped(text, characters, method))
        }
        "split" | "rsplit" => split(text, args, method == "rsplit")?,
        "splitlines" => {
            let (keep, named): (Option<bool>, Kwargs) = from_args(args)?;
            let keep = keep.or(named.get("keepends")?).unwrap_or(false);
            named.assert_all_used()?;
            lines(text, keep).into_iter().map(Value::from).collect()
        }
        "partition" | "rpartition" => {
            let (separator,): (&str,) = from_args(args)?;
            partition(text, separator, method == "rpartition")
        }
        "find" | "rfind" | "index" | "rindex" | "count" => search(text, method, args)?,
        "startswith" | "endswith" => {
            let (affix, from, to): (&Value, Option<i64>, Option<i64>) = from_args(args)?;
            let (part, _) = part(text, from, to);
            Value::from(has_affix(part, affix, method)?)
        }
        "removeprefix" => {
            let (affix,): (&str,) = from_args(args)?;
            Value::from(text.strip_prefix(affix).unwrap_or(text))
        }
        "removesuffix" => {
            let (affix,): (&str,) = from_args(args)?;
            Value::from(text.strip_suffix(affix).unwrap_or(text))
        }
        "ljust" | "rjust" | "center" | "zfill" | "expandtabs" => padded(state, text, method, args)?,
        _ => return in_case(text, method, args),
    }))
}

/// Methods about the case and the kind of characters.
fn in_case(text: &str, method: &str, args: &[Value]) -> Result<Option<Value>, Error> {
    let result = match method {
        "title" => Value::from(title(text)),
        "swapcase" => {
            let swapped = |c: char| match c.is_uppercase() {
                true => c.to_lowercase().collect::<String>(),
                false => c.to_uppercase().collect(),
            };
            Value::from(text.chars().map(swapped).collect::<String>())
        }
        "casefold" => Value::from(text.to_lowercase().replace('\u{df}', "ss")),
        "istitle" => Value::from(text.chars().any(char::is_alphabetic) && title(text) == text),
        "isdigit" | "isdecimal" => {
            let superscripts = ['\u{b2}', '\u{b3}', '\u{b9}'];
            let is_digit =
                |c: char| c.is_ascii_digit() || (method == "isdigit" && superscripts.contains(&c));
            Value::from(!text.is_empty() && text.chars().all(is_digit))
        }
        "isspace" => Value::from(!text.is_empty() && text.chars().all(is_space)),
        "isidentifier" => {
            let starts = text.starts_with(|c: char| c.is_alphabetic() || c == '_');
            Value::from(starts && text.chars().all(|c| c.is_alphanumeric() || c == '_'))
        }
        "isprintable" => {
            let is_printable = |c: char| c == ' ' || !(c.is_control() || is_space(c));
            Value::from(text.chars().all(is_printable))
        }
        _ => return Ok(None),
    };
    let () = from_args(args)?;
    Ok(Some(result))
}

fn list(value: &Value, method: &str, args: &[Value]) -> Result<Option<Value>, Error> {
    match method {
        "index" => {
            let (item,): (&Value,) = from_args(args)?;
            let at = value.try_iter()?.position(|own| own == *item);
            at.map(|at| Some(Value::from(at)))
                .ok_or_else(|| invalid(format!("{item} is not in list")))
        }
        "copy" => {
            let () = from_args(args)?;
            Ok(Some(value.clone()))
        }
        _ => Ok(None),
    }
}

fn invalid(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::InvalidOperation, message.into())
}

fn is_space(character: char) -> bool {
    character.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&character)
}

fn stripped<'a>(text: &'a str, characters: Option<&str>, method: &str) -> &'a str {
    let is_stripped = |c: char| characters.map_or(is_space(c), |characters| characters.contains(c));
    match method {
        "strip" => text.trim_matches(is_stripped),
        "lstrip" => text.trim_start_matches(is_stripped),
        _ => text.trim_end_matches(is_stripped),
    }
}

/// `split(sep=none, maxsplit=-1)`.
fn split(text: &str, args: &[Value], from_right: bool) -> Result<Value, Error> {
    let (separator, most, named): (Option<&str>, Option<i64>, Kwargs) = from_args(args)?;
    let separator = separator.or(named.get("sep")?);
    let most = most.or(named.get("maxsplit")?).unwrap_or(-1);
    named.assert_all_used()?;
    let most = usize::try_from(most).unwrap_or(usize::MAX);
    let parts = match (separator, from_right) {
        (Some(""), _) => return Err(invalid("empty separator")),
        (Some(separator), false) => text.splitn(most.saturating_add(1), separator).collect(),
        (Some(separator), true) => {
            let mut parts: Vec<&str> = text.rsplitn(most.saturating_add(1), separator).collect();
            parts.reverse();
            parts
        }
        (None, false) => words(text, most),
        (None, true) => words_from_right(text, most),
    };
    Ok(parts.into_iter().map(Value::from).collect())
}

fn words(text: &str, most: usize) -> Vec<&str> {
    let mut words = Vec::new();
    let mut rest = text.trim_start_matches(is_space);
    while !rest.is_empty() {
        let end = match words.len() < most {
            true => rest.find(is_space).unwrap_or(rest.len()),
            false => rest.len(),
        };
        words.push(&rest[..end]);
        rest = rest[end..].trim_start_matches(is_space);
    }
    words
}

fn words_from_right(text: &str, most: usize) -> Vec<&str> {
    let mut words = Vec::new();
    let mut rest = text.trim_end_matches(is_space);
    while !rest.is_empty() {
        let last_space = rest.char_indices().rfind(|&(_, c)| is_space(c));
        let start = match last_space {
            Some((at, space)) if words.len() < most => at + space.len_utf8(),
            _ => 0,
        };
        words.push(&rest[start..]);
        rest = rest[..start].trim_end_matches(is_space);
    }
    words.reverse();
    words
}

/// The lines of a text, by all ends of lines that Python knows.
pub(super) fn lines(text: &str, keep_ends: bool) -> Vec<&str> {
    let is_end = |c: char| {
        matches!(
            c,
            '\n' | '\r' | '\u{b}' | '\u{c}' | '\u{1c}'
                ..='\u{1e}' | '\u{85}' | '\u{2028}' | '\u{2029}'
        )
    };
    let mut lines = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        let end = rest.find(is_end).unwrap_or(rest.len());
        let tail = &rest[end..];
        let length = match tail.chars().next() {
            Some('\r') if tail.starts_with("\r\n") => 2,
            other => other.map_or(0, char::len_utf8),
        };
        lines.push(&rest[..if keep_ends { end + length } else { end }]);
        rest = &tail[length..];
    }
    lines
}

fn partition(text: &str, separator: &str, from_right: bool) -> Value {
    let found = match from_right {
        true => text.rsplit_once(separator),
        false => text.split_once(separator),
    };
    let parts = match found {
        Some((before, after)) => [before, separator, after],
        None if from_right => ["", "", text],
        None => [text, "", ""],
    };
    Value::from(Tuple::from(parts.map(Value::from)))
}

/// `text[from:to]` in characters, and how many characters stand before it.
fn part(text: &str, from: Option<i64>, to: Option<i64>) -> (&str, usize) {
    if from.is_none() && to.is_none() {
        return (text, 0);
    }
    let length = text.chars().count();
    let place = |at: i64| match usize::try_from(at) {
        Ok(at) => at.min(length),
        Err(_) => length.saturating_sub(usize::try_from(at.unsigned_abs()).unwrap_or(usize::MAX)),
    };
    let (from, to) = (from.map_or(0, place), to.map_or(length, place));
    let byte = |at: usize| {
        text.char_indices()
            .nth(at)
            .map_or(text.len(), |(byte, _)| byte)
    };
    (text.get(byte(from)..byte(to)).unwrap_or_default(), from)
}

fn search(text: &str, method: &str, args: &[Value]) -> Result<Value, Error> {
    let (what, from, to): (&str, Option<i64>, Option<i64>) = from_args(args)?;
    let (part, before) = part(text, from, to);
    if method == "count" {
        return Ok(Value::from(part.matches(what).count()));
    }
    let found = match method {
        "find" | "index" => part.find(what),
        _ => part.rfind(what),
    };
    match found {
        Some(at) => Ok(Value::from(before + part[..at].chars().count())),
        None if method.ends_with("find") => Ok(Value::from(-1)),
        None => Err(invalid("substring not found")),
    }
}

/// `affix` is a text or several.
fn has_affix(text: &str, affix: &Value, method: &str) -> Result<bool, Error> {
    let has = |affix: &str| match method {
        "startswith" => text.starts_with(affix),
        _ => text.ends_with(affix),
    };
    if let Some(affix) = affix.as_str() {
        return Ok(has(affix));
    }
    let expected = || {
        invalid(format!(
            "{method} takes a text or a tuple of texts, not {}",
            affix.kind()
        ))
    };
    if affix.kind() != ValueKind::Seq {
        return Err(expected());
    }
    for affix in affix.try_iter()? {
        if has(affix.as_str().ok_or_else(expected)?) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// A letter after what is none is a capital.
fn title(text: &str) -> String {
    let mut titled = String::with_capacity(text.len());
    let mut in_word = false;
    for character in text.chars() {
        if in_word {
            titled.extend(character.to_lowercase());
        } else {
            titled.extend(character.to_uppercase());
        }
        in_word = character.is_alphabetic();
    }
    titled
}

fn padded(state: &State<'_, '_>, text: &str, method: &str, args: &[Value]) -> Result<Value, Error> {
    if method == "expandtabs" {
        let (size,): (Option<usize>,) = from_args(args)?;
        return expanded(state, text, size.unwrap_or(8)).map(Value::from);
    }
    let (width, fill): (usize, Option<&str>) = from_args(args)?;
    let mut fill = fill.unwrap_or(" ").chars();
    let (Some(fill), None) = (fill.next(), fill.next()) else {
        return Err(invalid("the fill is one character"));
    };
    if method == "center" {
        return center(state, text, width, fill).map(Value::from);
    }
    let missing = missing(state, text, width)?;
    let filled = |fill: char| fill.to_string().repeat(missing);
    Ok(Value::from(match method {
        "ljust" => format!("{text}{}", filled(fill)),
        "rjust" => format!("{}{text}", filled(fill)),
        _ => {
            let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
            let sign = &text[..text.len() - digits.len()];
            format!("{sign}{}{digits}", filled('0'))
        }
    }))
}

/// How many characters are missing for a width; their bytes are paid for.
fn missing(state: &State<'_, '_>, text: &str, width: usize) -> Result<usize, Error> {
    let missing = width.saturating_sub(text.chars().count());
    state.consume_fuel((missing / 16) as u64)?;
    Ok(missing)
}

/// Python's `str.center`: of an odd number of characters, the wider half stands left where the width is odd.
pub(super) fn center(
    state: &State<'_, '_>,
    text: &str,
    width: usize,
    fill: char,
) -> Result<String, Error> {
    let missing = missing(state, text, width)?;
    let left = missing / 2 + (missing & width & 1);
    let filled = |count: usize| fill.to_string().repeat(count);
    Ok(format!("{}{text}{}", filled(left), filled(missing - left)))
}

fn expanded(state: &State<'_, '_>, text: &str, size: usize) -> Result<String, Error> {
    let mut expanded = String::with_capacity(text.len());
    let mut column = 0;
    for character in text.chars() {
        match character {
            '\t' if size == 0 => {}
            '\t' => {
                let width = size - column % size;
                state.consume_fuel((width / 64) as u64)?;
                expanded.push_str(&" ".repeat(width));
                column += width;
            }
            _ => {
                expanded.push(character);
                column = if matches!(character, '\n' | '\r') {
                    0
                } else {
                    column + 1
                };
            }
        }
    }
    Ok(expanded)
}
