//! The keys of the key file, for people.

use std::path::Path;

use super::caller::{AllowedUsers, Reach, Role};
use super::file::{self, written, ApiKey, KeyFileError};
use crate::app::columns::in_columns;

/// The keys as a table for people.
///
/// # Errors
/// The file cannot be read.
pub fn list(path: &Path, now_unix_ms: u64) -> Result<String, KeyFileError> {
    let (keys, ()) = file::read(path, |_| ())?;
    let header = ["name", "prefix", "roles", "tenant", "expires", "users"].map(str::to_owned);
    let rows = keys.iter().map(|key| row(key, now_unix_ms));
    Ok(in_columns([header].into_iter().chain(rows)))
}

fn row(key: &ApiKey, now_unix_ms: u64) -> [String; 6] {
    let caller = &key.caller;
    let roles: Vec<_> = caller.roles.iter().map(|role| role.as_str()).collect();
    let tenant = match caller.reach {
        Reach::Server if caller.roles.contains(&Role::Admin) => "*",
        _ => caller.tenant.as_str(),
    };
    let prefix = match (&key.prefix, key.in_clear) {
        (_, true) => "in clear!",
        (Some(prefix), false) => prefix,
        (None, false) => "",
    };
    let expires = match key.expires_unix_ms {
        None => "never".to_owned(),
        Some(end) if end <= now_unix_ms => "expired".to_owned(),
        Some(end) => written(end),
    };
    let users = match &caller.users {
        AllowedUsers::Any => "*".to_owned(),
        AllowedUsers::Only(users) => format!("{} named", users.len()),
    };
    let (name, tenant) = (caller.name.clone(), tenant.to_owned());
    [
        name,
        prefix.to_owned(),
        roles.join(","),
        tenant,
        expires,
        users,
    ]
}
