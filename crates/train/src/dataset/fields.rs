//! Typed fields of a record. Every problem names the field.

use serde_json::Value;

use super::error::Problem;
use super::object::{kind_of, Object};
use attune_ids::{Tenant, UserId, UserKey};
use attune_text::tokenizer::MAX_TEXT_BYTES;

/// The longest `interaction` or `group`, in characters.
pub const MAX_LABEL_CHARS: usize = 256;

/// Names that people give the field `user`. Without a user a pair trains the generic user only,
/// which should not happen because of a name.
pub(super) const NEARLY_USER: [&str; 4] = ["user_id", "userid", "userId", "User"];

/// A text that must be there.
pub(super) fn text(object: &mut Object, name: &str) -> Result<String, Problem> {
    optional_text(object, name)?.ok_or_else(|| missing(name))
}

/// A text, if it is there.
pub(super) fn optional_text(object: &mut Object, name: &str) -> Result<Option<String>, Problem> {
    object.take(name).map(|v| into_text(v, name)).transpose()
}

/// A value as text that can be encoded.
pub(super) fn into_text(value: Value, field: &str) -> Result<String, Problem> {
    let Value::String(text) = value else {
        return Err(wrong_type(field, "text", &value));
    };
    check_bytes(field, text.len())?;
    Ok(text)
}

/// A label: text or an integer.
pub(super) fn label(object: &mut Object, name: &str) -> Result<Option<String>, Problem> {
    let Some(label) = name_like(object, name)? else {
        return Ok(None);
    };
    let got = label.chars().count();
    if got > MAX_LABEL_CHARS {
        return Err(Problem::TooLong {
            field: name.to_owned(),
            got,
            max: MAX_LABEL_CHARS,
            unit: "characters",
        });
    }
    Ok(Some(label))
}

/// The fields `user` and `tenant`.
pub(super) fn user(object: &mut Object) -> Result<Option<UserKey>, Problem> {
    let tenant = match optional_text(object, "tenant")? {
        Some(name) => Tenant::new(name)?,
        None => Tenant::default(),
    };
    if let Some(user) = name_like(object, "user")? {
        let user = UserId::new(&user)?;
        return Ok(Some(UserKey { tenant, user }));
    }
    match NEARLY_USER.iter().find(|name| object.has(name)) {
        Some(&name) => Err(Problem::NearlyUser {
            field: name.to_owned(),
        }),
        None => Ok(None),
    }
}

/// P-SOUPS' `user_id`: a number, of which 0 is nobody in particular.
pub(super) fn numbered_user(object: &mut Object, name: &str) -> Result<Option<UserKey>, Problem> {
    let id = name_like(object, name)?.ok_or_else(|| missing(name))?;
    if id == "0" {
        return Ok(None);
    }
    Ok(Some(UserKey {
        tenant: Tenant::default(),
        user: UserId::new(&id)?,
    }))
}

fn name_like(object: &mut Object, name: &str) -> Result<Option<String>, Problem> {
    match object.take(name) {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(Value::Number(n)) if n.is_i64() || n.is_u64() => Ok(Some(n.to_string())),
        Some(other) => Err(wrong_type(name, "text or an integer", &other)),
    }
}

/// Refuses texts that could not be encoded later.
pub(super) fn check_bytes(field: &str, got: usize) -> Result<(), Problem> {
    if got <= MAX_TEXT_BYTES {
        return Ok(());
    }
    Err(Problem::TooLong {
        field: field.to_owned(),
        got,
        max: MAX_TEXT_BYTES,
        unit: "bytes",
    })
}

pub(super) fn missing(field: &str) -> Problem {
    Problem::Missing {
        field: field.to_owned(),
    }
}

pub(super) fn wrong_type(field: &str, expected: &'static str, found: &Value) -> Problem {
    Problem::WrongType {
        field: field.to_owned(),
        expected,
        found: kind_of(found),
    }
}
