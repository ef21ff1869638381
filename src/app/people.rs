//! What is recorded of people: shown, exported, set, deleted.

use std::io;
use std::sync::Arc;

use futures_util::stream::{try_unfold, Stream};

use super::boot::now_unix_ms;
use super::error::AppError;
use super::keys::{AllowedUsers, Caller, Role};
use super::state::AppState;
use attune_adapter::lease::Lease;
use attune_engine::subject::Subject;
use attune_ids::{AdapterVersion, UserId, UserKey};
use attune_model::user_model::soft_prompt::{RowKind, SoftPrompt};
use attune_store::{ExportPlace, Store, StoreError, UserCounts};

/// Bytes of a part of a person's export, and of one record more.
const EXPORT_BYTES: usize = 256 << 10;

/// What an answer has to know of a person.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Known {
    /// Text about them for the prompt.
    pub profile: Option<Arc<str>>,
    /// When they were deleted last, in milliseconds since 1970.
    pub deleted_unix_ms: Option<u64>,
}

impl Known {
    /// The rows that a version has for `user`: a stranger's, if what it learned of them is from before they
    /// were deleted, or may be.
    pub fn soft_prompt(&self, lease: &Lease, user: Option<&UserKey>) -> SoftPrompt {
        let reach = &lease.adapter().reach;
        let remembered = |user: &&UserKey| match self.deleted_unix_ms {
            None => true,
            Some(deleted) => reach.of(user).is_after(deleted),
        };
        lease.soft_prompt(user.filter(remembered))
    }
}

/// What callers see of a person. All of it is there for a stranger, too.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Person {
    /// Who.
    pub user: UserId,
    /// When they were first recorded, in milliseconds since 1970.
    pub created_unix_ms: Option<u64>,
    /// How much is recorded.
    pub counts: UserCounts,
    /// The version that answers them under the alias.
    pub version: Option<AdapterVersion>,
    /// Whose rows it has for them.
    pub row: RowKind,
    /// Text about them for the prompt.
    pub profile: Option<String>,
    /// Whether what they prefer may be learned.
    pub learning: bool,
}

/// What is to be set of a person; `None` stays as it is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PersonChange {
    /// Text about them, `Some(None)` to remove it.
    pub profile: Option<Option<String>>,
    /// Whether what they prefer may be learned.
    pub learning: Option<bool>,
}

/// What an answer has to know of `user`: from memory, whatever the store's disk does.
pub fn known(state: &AppState, user: &UserKey) -> Known {
    let known = state.versions.store().known(user);
    Known {
        profile: known.profile,
        deleted_unix_ms: known.deleted_unix_ms,
    }
}

/// The person `id` of the caller's tenant. The roles `users` and `admin` may ask for everybody, other
/// keys for the people whom their entry in the key file names.
///
/// # Errors
/// The key may not.
pub fn person_of(caller: &Caller, id: UserId) -> Result<UserKey, AppError> {
    if !caller.users.contains(&id) {
        return Err(AppError::UserNotAllowed);
    }
    if caller.users == AllowedUsers::Any && !caller.roles.contains(&Role::Admin) {
        caller.require(Role::Users)?;
    }
    Ok(UserKey {
        tenant: caller.tenant.clone(),
        user: id,
    })
}

/// What is recorded of `user`, and who answers them now.
///
/// # Errors
/// The store cannot be read.
pub async fn show(state: &Arc<AppState>, user: UserKey) -> Result<Person, AppError> {
    let known = known(state, &user);
    let lease = state.versions.by_alias_for(&state.alias, Some(&user));
    // Nothing answers them while the version cannot be loaded.
    let lease = lease.ok().flatten();
    let row = lease.as_ref().map_or(RowKind::None, |lease| {
        known.soft_prompt(lease, Some(&user)).kind()
    });
    let version = lease.map(|lease| lease.adapter().version.clone());
    let read = move |store: &Store| -> Result<Person, StoreError> {
        let profile = store.profile(&user)?;
        Ok(Person {
            created_unix_ms: store.user(&user)?.map(|record| record.created_unix_ms),
            counts: store.user_counts(&user)?,
            version,
            row,
            learning: profile.as_ref().is_none_or(|profile| profile.learning),
            profile: profile.and_then(|profile| profile.text),
            user: user.user,
        })
    };
    state.with_store(read).await
}

/// Sets what `change` says. The request began at `began_unix_ms`, by [`AppState::begin`].
///
/// # Errors
/// The person was deleted after that; the store cannot write.
pub async fn set(
    state: &Arc<AppState>,
    user: UserKey,
    change: PersonChange,
    began_unix_ms: u64,
) -> Result<Person, AppError> {
    let whom = user.clone();
    let write = move |store: &Store| {
        store.change_profile(&whom, began_unix_ms, |profile| {
            if let Some(text) = change.profile {
                profile.text = text;
            }
            if let Some(learning) = change.learning {
                profile.learning = learning;
            }
        })
    };
    state.with_store(write).await?;
    show(state, user).await
}

/// Everything that is recorded of `user`, a JSON object per line, part by part: no more than one part of it
/// is in memory at once.
///
/// # Errors
/// The store cannot be read. Where that happens behind the first part, the stream ends with the error.
pub async fn export(
    state: &Arc<AppState>,
    user: UserKey,
) -> Result<impl Stream<Item = io::Result<Vec<u8>>>, AppError> {
    let state = state.clone();
    let first = part(&state, &user, None).await?;
    let parts = try_unfold(Some(first), move |part_before| {
        let (state, user) = (state.clone(), user.clone());
        async move {
            let Some((lines, place)) = part_before else {
                return Ok(None);
            };
            let next = match place {
                None => None,
                Some(place) => Some(
                    part(&state, &user, Some(place))
                        .await
                        .map_err(io::Error::other)?,
                ),
            };
            Ok(Some((lines, next)))
        }
    });
    Ok(parts)
}

async fn part(
    state: &Arc<AppState>,
    user: &UserKey,
    from: Option<ExportPlace>,
) -> Result<(Vec<u8>, Option<ExportPlace>), AppError> {
    let user = user.clone();
    let read = move |store: &Store| store.export_user(&user, from, EXPORT_BYTES);
    state.with_store(read).await
}

/// Deletes everything that is recorded of `user`.
///
/// # Errors
/// The store cannot write: nobody was deleted, or a part is gone; the same request completes it.
pub async fn erase(state: &Arc<AppState>, user: UserKey) -> Result<(), AppError> {
    let shared = state.clone();
    // All of it, even if the caller goes away meanwhile.
    let work = move |store: &Store| -> Result<u64, StoreError> {
        let erased = store.erase_user(&user, now_unix_ms())?;
        forget(&shared, &user);
        Ok(erased)
    };
    let erased = state.with_store(work).await?;
    tracing::info!(records = erased, "a user was deleted");
    Ok(())
}

/// Ends the answers that are on their way to `user`, who was deleted, and takes what was computed with their rows
/// and words out of every cache.
pub(super) fn forget(state: &AppState, user: &UserKey) {
    state.engine.forget(subject(user));
    forget_rows(state, user);
}

/// Takes what was computed with the rows and words of `user`, who was deleted, out of every cache. Their answers
/// go on: they may have come back since.
pub(super) fn forget_cached(state: &AppState, user: &UserKey) {
    state.engine.forget_cached(subject(user));
    forget_rows(state, user);
}

fn forget_rows(state: &AppState, user: &UserKey) {
    for loaded in state.versions.loaded().all() {
        if let Some(people) = &loaded.adapter().people {
            people.forget(user);
        }
    }
}

/// What the engine knows of `user`.
pub(super) fn subject(user: &UserKey) -> Subject {
    Subject::of(&[
        user.tenant.as_str().as_bytes(),
        user.user.as_str().as_bytes(),
    ])
}

/// Whether the person of a request was deleted after it began: what it read of them may be from before.
pub(super) fn deleted_since(state: &AppState, user: &UserKey, began_unix_ms: u64) -> bool {
    let deleted = state.versions.store().known(user).deleted_unix_ms;
    deleted.is_some_and(|deleted| deleted >= began_unix_ms)
}
