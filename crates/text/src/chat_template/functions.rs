//! Functions and tests that templates may use, as Jinja2 and transformers have them.

use std::time::SystemTime;

use minijinja::value::{from_args, Kwargs, Rest, Value, ValueKind, ValueOrKwargs};
use minijinja::{functions, tests as builtin, Environment, Error, ErrorKind};
use minijinja_contrib::globals;

use super::strftime::strftime;

/// Adds `raise_exception(message)`, `strftime_now(format)` (UTC), `namespace`, `cycler`, `joiner`, and tests of
/// Jinja2's that ours lacks or sees otherwise.
pub(super) fn register(environment: &mut Environment<'_>, now: fn() -> SystemTime) {
    environment.add_function("raise_exception", |message: String| {
        Err::<Value, _>(Error::new(ErrorKind::InvalidOperation, message))
    });
    environment.add_function("strftime_now", move |format: String| {
        strftime(&format, now())
    });
    environment.add_function("namespace", namespace);
    environment.add_function("cycler", |items: Rest<Value>| globals::cycler(items.0));
    environment.add_function("joiner", globals::joiner);
    environment.add_test("callable", |value: &Value| {
        let is_data = matches!(
            value.kind(),
            ValueKind::Seq | ValueKind::Map | ValueKind::Iterable
        );
        value.as_object().is_some() && !is_data
    });
    // In Python a truth value is a number, what has a length and items is a sequence, and nothing cannot be gone through.
    environment.add_test("number", |value: &Value| {
        matches!(value.kind(), ValueKind::Number | ValueKind::Bool)
    });
    environment.add_test("sequence", |value: &Value| {
        use ValueKind::{Map, Seq, String, Undefined};
        matches!(value.kind(), Seq | String | Map | Undefined)
    });
    environment.add_test("iterable", |value: &Value| {
        !value.is_none() && builtin::is_iterable(value)
    });
}

/// `namespace({'a': 1}, b=2)`.
fn namespace(args: Rest<ValueOrKwargs>) -> Result<Value, Error> {
    let (first, named): (Option<Value>, Kwargs) = from_args(&args.into_values())?;
    let mut entries = Vec::new();
    if let Some(first) = first {
        for key in first.try_iter()? {
            let value = first.get_item(&key)?;
            entries.push((key.to_string(), value));
        }
    }
    for name in named.args() {
        entries.push((name.to_owned(), named.peek(name)?));
    }
    let all: Kwargs = entries.into_iter().collect();
    functions::namespace(Some(ValueOrKwargs::from(Value::from(all))))
}
