//! What can go wrong between a checked request and its answer. Only `api` knows status codes.

use std::time::Duration;

use attune_engine::request::{SequenceError, SubmitError, Whose};
use attune_ids::{AdapterVersion, Alias};
use attune_store::{InsertError, StoreError};

/// Characters of an id that an error repeats.
const MAX_REPEATED_CHARS: usize = 128;

/// When a caller who met a busy store may come again.
pub const STORE_BUSY_RETRY_AFTER: Duration = Duration::from_secs(2);

/// Why a request was not answered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AppError {
    /// A value that the caller can correct.
    #[error("{message}")]
    Invalid {
        /// The field, as the caller wrote it: `prompt`, `messages`.
        field: &'static str,
        /// What is wrong with it.
        message: String,
    },
    /// Soft prompt and prompt leave no room in the context for an answer.
    #[error(
        "this model's context is {context} positions, but the request needs {}: {soft} of the user's \
         soft prompt, {prompt} of the prompt and 1 of the answer at least; shorten the prompt", .soft + .prompt + 1
    )]
    ContextLength {
        /// The field that holds the prompt.
        field: &'static str,
        /// Positions there are.
        context: usize,
        /// T_u of the user.
        soft: usize,
        /// Prompt tokens.
        prompt: usize,
    },
    /// A text that has more tokens than the context has positions, whatever it says.
    #[error(
        "this model's context is {context} positions, and no text of {bytes} bytes fits it; shorten the text"
    )]
    TextTooLong {
        /// The field that holds the text.
        field: &'static str,
        /// Its length.
        bytes: usize,
        /// Positions there are.
        context: usize,
    },
    /// A request larger than this server can ever run, as its settings are.
    #[error("the request cannot run: {0}")]
    TooMuch(String),
    /// No model of that name; never answered by another one.
    #[error("the model {0:?} does not exist; GET /v1/models lists those that do")]
    ModelNotFound(String),
    /// The key may not act for that person.
    #[error("this API key may not act for the user that the request names")]
    UserNotAllowed,
    /// The key manages one tenant.
    #[error("this API key manages its tenant only, and this is the whole server's: use one with the role \"admin\" and \"tenant\": \"*\"")]
    TenantOnly,
    /// The key lacks a role.
    #[error("this API key lacks the role {0:?}")]
    RoleMissing(&'static str),
    /// The queue is full.
    #[error("the server is at its limit of waiting requests; try again later")]
    Overloaded {
        /// When room is expected.
        retry_after: Duration,
    },
    /// The answer would miss its deadline, as busy as the server is.
    #[error(
        "the server is too busy to finish this answer in time; try again later, or ask for fewer tokens"
    )]
    Late {
        /// When it could be finished in time.
        retry_after: Duration,
    },
    /// One key or one person has as many answers under way as they may have.
    #[error(
        "one {whose} may have {cap} answers under way at a time, and that many are; wait until one of them ends"
    )]
    TooMany {
        /// `API key` or `user`.
        whose: &'static str,
        /// Answers that they may have.
        cap: usize,
        /// When one of them is expected to end.
        retry_after: Duration,
    },
    /// Nothing has this id, or it is another tenant's: callers cannot tell which.
    #[error("there is no {what} {id:?}")]
    NotFound {
        /// What was looked for: `completion`, `preference`. Its code is this and `_not_found`.
        what: &'static str,
        /// The id, as the caller wrote it.
        id: String,
    },
    /// Another request had the same idempotency key.
    #[error("the Idempotency-Key belongs to another request; send a new key with a new request")]
    KeyReused,
    /// The person was deleted after the request began.
    #[error(
        "the user was deleted while this request was under way: nothing was recorded; a request that \
         begins now begins anew with them"
    )]
    UserDeleted,
    /// What the caller expected is not so any more.
    #[error("{0}")]
    Conflict(String),
    /// Versions that are in use take the memory for versions. The text is for the caller.
    #[error("{0}")]
    AdapterMemory(String),
    /// An installed version cannot be loaded. The reason is for the log.
    #[error("version {version} cannot be loaded: {reason}")]
    AdapterDamaged {
        /// The version.
        version: AdapterVersion,
        /// Why.
        reason: String,
    },
    /// The version that an alias names cannot be loaded.
    #[error(
        "{alias} names adapter version {version}, which cannot be loaded, and nothing answers in its place; \
         an admin can promote another version or roll back, and GET /v1/admin/aliases says why"
    )]
    AliasUnavailable {
        /// The alias.
        alias: Alias,
        /// The version.
        version: AdapterVersion,
    },
    /// The tenant has as many records as it may have.
    #[error("{0}")]
    TenantFull(String),
    /// The store's disk has less room than is kept. The text is for the log.
    #[error("{0}")]
    StoreFull(String),
    /// So much waits for the store that this was not taken in.
    #[error("the store is busy; try again later")]
    StoreBusy {
        /// When room is expected.
        retry_after: Duration,
    },
    /// The store cannot write, or a record is damaged. The text is for the log.
    #[error("the store failed: {0}")]
    Store(String),
    /// The server drains.
    #[error("the server is shutting down")]
    ShuttingDown,
    /// The answer took longer than the server allows.
    #[error("the answer was not complete after {0:?}")]
    Deadline(Duration),
    /// The caller did not read the answer for longer than the server allows.
    #[error(
        "the answer was not read for {0:?}; read streams as they come, or ask for fewer tokens"
    )]
    Unread(Duration),
    /// Our fault. The text is for the log, not for the caller.
    #[error("{0}")]
    Internal(String),
}

impl AppError {
    /// Nothing has this id, which a caller wrote: as much of it as is worth repeating.
    pub fn not_found(what: &'static str, id: &str) -> Self {
        let id = id.chars().take(MAX_REPEATED_CHARS).collect();
        Self::NotFound { what, id }
    }
}

impl From<StoreError> for AppError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::TooLarge { bytes, max, .. } => Self::Invalid {
                field: "body",
                message: format!(
                    "the record would have {bytes} bytes, and at most {max} are allowed; send shorter texts"
                ),
            },
            StoreError::Quota { .. } => Self::TenantFull(error.to_string()),
            StoreError::NoRoom { .. } => Self::StoreFull(error.to_string()),
            StoreError::Busy => Self::StoreBusy {
                retry_after: STORE_BUSY_RETRY_AFTER,
            },
            StoreError::AdapterInUse { .. } => Self::Conflict(error.to_string()),
            StoreError::UserDeleted => Self::UserDeleted,
            error => Self::Store(error.to_string()),
        }
    }
}

impl From<InsertError> for AppError {
    fn from(error: InsertError) -> Self {
        match error {
            InsertError::KeyReused => Self::KeyReused,
            InsertError::Store(error) => error.into(),
        }
    }
}

impl From<SubmitError> for AppError {
    fn from(error: SubmitError) -> Self {
        match error {
            SubmitError::Full { retry_after } => Self::Overloaded { retry_after },
            SubmitError::Late { retry_after } => Self::Late { retry_after },
            SubmitError::Capped {
                whose,
                cap,
                retry_after,
            } => Self::TooMany {
                whose: match whose {
                    Whose::Key => "API key",
                    Whose::Member => "user",
                },
                cap,
                retry_after,
            },
            SubmitError::ShuttingDown => Self::ShuttingDown,
            SubmitError::Stopped => Self::Internal(error.to_string()),
            // Values are checked before; what is left is more answers or rows than there are places.
            SubmitError::Invalid(message) => Self::TooMuch(message),
        }
    }
}

impl From<SequenceError> for AppError {
    fn from(error: SequenceError) -> Self {
        match error {
            SequenceError::ShuttingDown => Self::ShuttingDown,
            SequenceError::Forgotten => Self::UserDeleted,
            SequenceError::Deadline(limit) => Self::Deadline(limit),
            SequenceError::Stalled(limit) => Self::Unread(limit),
            other => Self::Internal(other.to_string()),
        }
    }
}
