//! Which person a request is for.

use super::error::AppError;
use super::keys::Caller;
use attune_ids::{UserId, UserKey};

/// The places in which a request can name a person.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UserHint {
    /// The `X-User-Id` header.
    pub header: Option<UserId>,
    /// The `user` field.
    pub user: Option<UserId>,
    /// The `safety_identifier` field.
    pub safety_identifier: Option<UserId>,
}

impl UserHint {
    /// Whom the request itself names.
    pub fn named(self) -> Option<UserId> {
        self.header.or(self.user).or(self.safety_identifier)
    }
}

/// The person: header, then `user`, then `safety_identifier`, then the key's bound user, else
/// nobody (the generic user answers).
///
/// # Errors
/// The key may not act for the person that the request names.
pub fn resolve(caller: &Caller, hint: UserHint) -> Result<Option<UserKey>, AppError> {
    let named = hint.named();
    let user = match named {
        Some(user) if caller.users.contains(&user) => user,
        Some(_) => return Err(AppError::UserNotAllowed),
        None => match &caller.bound_user {
            Some(user) => user.clone(),
            None => return Ok(None),
        },
    };
    Ok(Some(UserKey {
        tenant: caller.tenant.clone(),
        user,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::app::keys::AllowedUsers;

    fn id(text: &str) -> Option<UserId> {
        Some(UserId::new(text).unwrap())
    }

    fn hint(header: &str, user: &str, safety: &str) -> UserHint {
        UserHint {
            header: UserId::new(header).ok(),
            user: UserId::new(user).ok(),
            safety_identifier: UserId::new(safety).ok(),
        }
    }

    fn resolved(caller: &Caller, hint: UserHint) -> Option<UserId> {
        resolve(caller, hint).unwrap().map(|key| key.user)
    }

    #[test]
    fn header_then_user_then_safety_identifier_then_bound_then_nobody() {
        let mut caller = Caller::open();
        assert_eq!(resolved(&caller, hint("h", "u", "s")), id("h"));
        assert_eq!(resolved(&caller, hint("", "u", "s")), id("u"));
        assert_eq!(resolved(&caller, hint("", "", "s")), id("s"));
        assert_eq!(resolved(&caller, hint("", "", "")), None);
        caller.bound_user = id("b");
        assert_eq!(resolved(&caller, hint("", "", "")), id("b"));
        assert_eq!(resolved(&caller, hint("", "u", "")), id("u"));
    }

    #[test]
    fn a_key_acts_only_for_its_users_whichever_field_names_them() {
        let mut caller = Caller::open();
        caller.users = AllowedUsers::Only([UserId::new("alice").unwrap()].into());
        assert_eq!(resolved(&caller, hint("", "alice", "")), id("alice"));
        for stranger in [
            hint("bob", "", ""),
            hint("", "bob", ""),
            hint("", "", "bob"),
            hint("bob", "alice", ""),
        ] {
            assert_eq!(resolve(&caller, stranger), Err(AppError::UserNotAllowed));
        }
    }

    #[test]
    fn the_same_name_in_two_tenants_is_two_people() {
        let one = Caller::open();
        let mut two = Caller::open();
        two.tenant = attune_ids::Tenant::new("other").unwrap();
        let both = [&one, &two].map(|caller| resolve(caller, hint("", "u", "")).unwrap());
        assert_ne!(both[0], both[1]);
    }
}
