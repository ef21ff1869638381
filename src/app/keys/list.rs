//! The keys of the key file, for people.

use std::fmt::Write as _;
use std::path::Path;

use super::caller::{AllowedUsers, Reach, Role};
use super::file::{self, written, KeyFileError};

/// The keys as a table for people.
///
/// # Errors
/// The file cannot be read.
pub fn list(path: &Path, now_unix_ms: u64) -> Result<String, KeyFileError> {
    let (keys, ()) = file::read(path, |_| ())?;
    let mut table = format!(
        "{:<20} {:<12} {:<28} {:<12} {:<22} {}\n",
        "name", "prefix", "roles", "tenant", "expires", "users"
    );
    for key in &keys {
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
        // Writing to a string does not fail.
        let _ = writeln!(
            table,
            "{:<20} {prefix:<12} {:<28} {tenant:<12} {expires:<22} {users}",
            caller.name,
            roles.join(",")
        );
    }
    Ok(table)
}
