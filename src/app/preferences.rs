//! Preferences and ratings: checked against what was answered, written, found again.

use std::sync::Arc;

use super::error::AppError;
use super::keep;
use super::keys::Caller;
use super::state::AppState;
use super::user::{self, UserHint};
use attune_ids::{RecordId, Tenant, UserId, UserKey};
pub use attune_store::{
    ComparedAnswer, FeedbackRecord, Idempotent, Inserted, Listed, Page, PreferenceRecord,
    PreferenceSource, Rating, Turn,
};
use attune_store::{CompletionRecord, InsertError, Owners, Store};

/// One answer of a kept completion.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AnswerRef {
    /// The completion's id, as the caller wrote it.
    pub completion: String,
    /// The answer's place in it.
    pub index: u32,
}

/// Two answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Compared {
    /// As texts, with the conversation that they answer.
    Texts {
        /// The conversation.
        messages: Vec<Turn>,
        /// The better answer.
        chosen: String,
        /// The other one.
        rejected: String,
    },
    /// As parts of kept completions.
    Answers {
        /// The better answer.
        chosen: AnswerRef,
        /// The other one.
        rejected: AnswerRef,
    },
}

/// A preference that is to be recorded, checked as far as that goes without the store.
#[derive(Debug, Clone)]
pub struct PreferenceCommand {
    /// Whom the request names.
    pub user: UserHint,
    /// What is compared.
    pub compared: Compared,
    /// Makes a repetition known.
    pub idempotent: Option<Idempotent>,
    /// When the request began, by [`AppState::begin`].
    pub began_unix_ms: u64,
}

/// A rating that is to be recorded.
#[derive(Debug, Clone)]
pub struct FeedbackCommand {
    /// What is rated.
    pub answer: AnswerRef,
    /// How.
    pub rating: Rating,
    /// What the person says of it.
    pub comment: Option<String>,
    /// Makes a repetition known.
    pub idempotent: Option<Idempotent>,
    /// When the request began, by [`AppState::begin`].
    pub began_unix_ms: u64,
}

/// Records a preference. When this returns, it is durable.
///
/// # Errors
/// Completions that are not there, answer different conversations or are another person's; equal
/// answers; an idempotency key of another request; a person who was deleted after the request began; a store
/// that cannot write.
pub async fn prefer(
    state: &Arc<AppState>,
    caller: &Caller,
    command: PreferenceCommand,
) -> Result<Inserted<PreferenceRecord>, AppError> {
    // Before anything is looked up: a repetition is told no more than the first request was.
    let user = user::resolve(caller, command.user.clone())?.map(|key| key.user);
    let whose = Whose::of(&command.compared, user.clone());
    if let Some(known) = known(state, caller, &command.idempotent, Store::known_preference).await? {
        whose.check(caller, known.user.as_ref())?;
        return Ok(Inserted::Known(known));
    }
    let record = match command.compared {
        Compared::Texts {
            messages,
            chosen,
            rejected,
        } => {
            let texts = (messages, chosen, rejected);
            of_texts(state, caller, user, texts, command.began_unix_ms)
        }
        Compared::Answers { chosen, rejected } => {
            let answers = (chosen, rejected);
            let named = command.user.named();
            of_answers(state, caller, named, answers, command.began_unix_ms).await?
        }
    };
    if record.chosen.text == record.rejected.text {
        return Err(invalid(
            "rejected",
            "'chosen' and 'rejected' are the same text",
        ));
    }
    let idempotent = command.idempotent;
    let write = move |store: &Store| store.insert_preference(&record, idempotent.as_ref());
    let inserted = state.with_store(write).await?;
    if let Inserted::Known(known) = &inserted {
        whose.check(caller, known.user.as_ref())?;
    }
    Ok(inserted)
}

/// Whose record a repetition may be given. The key alone decides nothing: other API keys of the tenant
/// may send the same one.
enum Whose {
    /// Of the person that the request is for.
    Resolved(Option<UserId>),
    /// Of the person who got this completion; the API key must be allowed to see it.
    Answered(String),
}

impl Whose {
    fn of(compared: &Compared, user: Option<UserId>) -> Self {
        match compared {
            Compared::Texts { .. } => Self::Resolved(user),
            Compared::Answers { chosen, .. } => Self::Answered(chosen.completion.clone()),
        }
    }

    fn check(&self, caller: &Caller, user: Option<&UserId>) -> Result<(), AppError> {
        match self {
            Self::Resolved(resolved) if resolved.as_ref() == user => Ok(()),
            Self::Resolved(_) => Err(AppError::KeyReused),
            Self::Answered(_) if caller.may_see(user) => Ok(()),
            Self::Answered(completion) => Err(keep::not_found(completion)),
        }
    }
}

/// The record of the same request, if it was done before: a repetition gets it even if what it named
/// is gone meanwhile.
async fn known<R, F>(
    state: &Arc<AppState>,
    caller: &Caller,
    request: &Option<Idempotent>,
    find: F,
) -> Result<Option<R>, AppError>
where
    R: Send + 'static,
    F: FnOnce(&Store, &Tenant, &Idempotent) -> Result<Option<R>, InsertError> + Send + 'static,
{
    let Some(request) = request.clone() else {
        return Ok(None);
    };
    let tenant = caller.tenant.clone();
    let read = move |store: &Store| find(store, &tenant, &request);
    state.with_store(read).await
}

fn of_texts(
    state: &AppState,
    caller: &Caller,
    user: Option<UserId>,
    (messages, chosen, rejected): (Vec<Turn>, String, String),
    began: u64,
) -> PreferenceRecord {
    let key = user.clone().map(|user| UserKey {
        tenant: caller.tenant.clone(),
        user,
    });
    // An alias that cannot answer has nothing to do with these texts.
    let lease = state.versions.by_alias_for(&state.alias, key.as_ref());
    let lease = lease.ok().flatten();
    let answer = |text| ComparedAnswer {
        text,
        completion: None,
        index: None,
        adapter_version: None,
    };
    PreferenceRecord {
        tenant: caller.tenant.clone(),
        id: RecordId::generate("pref_", began),
        user,
        created_unix_ms: began,
        source: PreferenceSource::Texts,
        adapter_version: lease.map(|lease| lease.adapter().version.clone()),
        messages,
        chosen: answer(chosen),
        rejected: answer(rejected),
    }
}

async fn of_answers(
    state: &Arc<AppState>,
    caller: &Caller,
    named: Option<UserId>,
    (chosen, rejected): (AnswerRef, AnswerRef),
    began: u64,
) -> Result<PreferenceRecord, AppError> {
    let same = chosen.completion == rejected.completion;
    let (better, other) = (
        answered(state, caller, &chosen.completion, began).await?,
        answered(state, caller, &rejected.completion, began).await?,
    );
    if better.user != other.user {
        return Err(invalid(
            "rejected",
            "the two completions answered different users",
        ));
    }
    if named.is_some() && named != better.user {
        return Err(invalid("user", "the completions answered another user"));
    }
    if better.messages != other.messages {
        return Err(invalid(
            "rejected",
            "the two completions answer different messages",
        ));
    }
    Ok(PreferenceRecord {
        tenant: caller.tenant.clone(),
        id: RecordId::generate("pref_", began),
        user: better.user.clone(),
        created_unix_ms: began,
        source: match same {
            true => PreferenceSource::Choices,
            false => PreferenceSource::Completions,
        },
        adapter_version: better.adapter_version.clone(),
        chosen: compared(&better, chosen.index, "chosen")?,
        rejected: compared(&other, rejected.index, "rejected")?,
        messages: better.messages,
    })
}

/// The kept completion that a body names.
async fn answered(
    state: &Arc<AppState>,
    caller: &Caller,
    id: &str,
    began: u64,
) -> Result<CompletionRecord, AppError> {
    let key = RecordId::new(id).map_err(|_| keep::not_found(id))?;
    keep::find(state, caller, &key, began).await
}

fn compared(
    completion: &CompletionRecord,
    index: u32,
    field: &'static str,
) -> Result<ComparedAnswer, AppError> {
    Ok(ComparedAnswer {
        text: choice(completion, index, field)?,
        completion: Some(completion.id.clone()),
        index: Some(index),
        adapter_version: completion.adapter_version.clone(),
    })
}

fn choice(
    completion: &CompletionRecord,
    index: u32,
    field: &'static str,
) -> Result<String, AppError> {
    let found = completion.choices.iter().find(|c| c.index == index);
    found.map(|c| c.content.clone()).ok_or_else(|| {
        let count = completion.choices.len();
        invalid(
            field,
            &format!("the completion has {count} answers, so there is no index {index}"),
        )
    })
}

/// Records a rating. When this returns, it is durable.
///
/// # Errors
/// As [`prefer`].
pub async fn rate(
    state: &Arc<AppState>,
    caller: &Caller,
    command: FeedbackCommand,
) -> Result<Inserted<FeedbackRecord>, AppError> {
    let AnswerRef { completion, index } = command.answer;
    let whose = Whose::Answered(completion.clone());
    if let Some(known) = known(state, caller, &command.idempotent, Store::known_feedback).await? {
        whose.check(caller, known.user.as_ref())?;
        return Ok(Inserted::Known(known));
    }
    let began = command.began_unix_ms;
    let completion = answered(state, caller, &completion, began).await?;
    let record = FeedbackRecord {
        tenant: caller.tenant.clone(),
        id: RecordId::generate("fb_", began),
        answer: choice(&completion, index, "index")?,
        user: completion.user,
        created_unix_ms: began,
        completion: completion.id,
        index,
        rating: command.rating,
        comment: command.comment,
        adapter_version: completion.adapter_version,
        messages: completion.messages,
    };
    let idempotent = command.idempotent;
    let write = move |store: &Store| store.insert_feedback(&record, idempotent.as_ref());
    let inserted = state.with_store(write).await?;
    if let Inserted::Known(known) = &inserted {
        whose.check(caller, known.user.as_ref())?;
    }
    Ok(inserted)
}

/// A preference of the caller's tenant.
///
/// # Errors
/// None of that id, or one of a person for whom the key may not act.
pub async fn find(
    state: &Arc<AppState>,
    caller: &Caller,
    id: &RecordId,
) -> Result<PreferenceRecord, AppError> {
    let (tenant, key) = (caller.tenant.clone(), id.clone());
    let read = move |store: &Store| store.preference(&tenant, &key);
    let found = state.with_store(read).await?;
    let may_see = |record: &PreferenceRecord| caller.may_see(record.user.as_ref());
    found.filter(may_see).ok_or_else(|| not_found(id.as_str()))
}

/// The error for a preference that is not there, or is hidden from the caller.
pub fn not_found(id: &str) -> AppError {
    AppError::not_found("preference", id)
}

/// A part of the caller's preferences: of `user`, or of all for whom the key may act.
///
/// # Errors
/// The key may not act for `user`; the store cannot be read.
pub async fn list(
    state: &Arc<AppState>,
    caller: &Arc<Caller>,
    user: Option<UserId>,
    page: Page,
) -> Result<Listed<PreferenceRecord>, AppError> {
    if user
        .as_ref()
        .is_some_and(|user| !caller.users.contains(user))
    {
        return Err(AppError::UserNotAllowed);
    }
    let whose = user.map_or_else(|| keep::whose(caller), |user| Owners::Only(vec![user]));
    let tenant = caller.tenant.clone();
    let read = move |store: &Store| store.preferences(&tenant, &whose, &page);
    state.with_store(read).await
}

fn invalid(field: &'static str, message: &str) -> AppError {
    AppError::Invalid {
        field,
        message: message.to_owned(),
    }
}
