//! What a key may do, and for whom.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::app::error::AppError;
use attune_ids::{Tenant, UserId};

/// What a key may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Chat, completions, models.
    Inference,
    /// Preferences and ratings.
    Feedback,
    /// What is recorded of people: shown, set, exported, deleted.
    Users,
    /// The same, and with [`Reach::Server`] versions, aliases and the snapshot.
    Admin,
}

impl Role {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Inference, Self::Feedback, Self::Users, Self::Admin];

    /// The word in the key file.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Inference => "inference",
            Self::Feedback => "feedback",
            Self::Users => "users",
            Self::Admin => "admin",
        }
    }
}

/// How far the role `admin` of a key reaches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// The key's tenant.
    Tenant,
    /// The whole server: the operator's key.
    Server,
}

/// For whom a key may act.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AllowedUsers {
    /// Everybody of the tenant.
    Any,
    /// These.
    Only(BTreeSet<UserId>),
}

impl AllowedUsers {
    /// Whether `user` is among them.
    pub fn contains(&self, user: &UserId) -> bool {
        match self {
            Self::Any => true,
            Self::Only(users) => users.contains(user),
        }
    }
}

/// Who sent a request, as its API key says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// The key's name, for logs.
    pub name: String,
    /// Scopes user ids.
    pub tenant: Tenant,
    /// What it may do.
    pub roles: BTreeSet<Role>,
    /// How far its role `admin` reaches.
    pub reach: Reach,
    /// For whom it may act.
    pub users: AllowedUsers,
    /// The person of requests that name none.
    pub bound_user: Option<UserId>,
}

impl Caller {
    /// The caller of a server without keys: may do everything, for everybody.
    pub fn open() -> Self {
        Self {
            name: "open".to_owned(),
            tenant: Tenant::default(),
            roles: Role::ALL.into(),
            reach: Reach::Server,
            users: AllowedUsers::Any,
            bound_user: None,
        }
    }

    /// Whether it may see a record of `user`; what is nobody's is not for keys of single people.
    pub fn may_see(&self, user: Option<&UserId>) -> bool {
        match user {
            Some(user) => self.users.contains(user),
            None => self.users == AllowedUsers::Any,
        }
    }

    /// Checks for a role.
    ///
    /// # Errors
    /// The key lacks it.
    pub fn require(&self, role: Role) -> Result<(), AppError> {
        if self.roles.contains(&role) {
            Ok(())
        } else {
            Err(AppError::RoleMissing(role.as_str()))
        }
    }

    /// Checks that it is the operator's.
    ///
    /// # Errors
    /// The key lacks the role `admin`, or is the admin of one tenant.
    pub fn require_operator(&self) -> Result<(), AppError> {
        self.require(Role::Admin)?;
        match self.reach {
            Reach::Server => Ok(()),
            Reach::Tenant => Err(AppError::TenantOnly),
        }
    }
}
