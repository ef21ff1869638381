//! People, as apps and operators see them. Never their embeddings.

use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use crate::api::fields::{self, Fields, Parsed};
use crate::app::people::{Person, PersonChange};

/// Characters of a profile.
const MAX_PROFILE_CHARS: usize = 4096;

/// A person. A stranger's answer looks the same.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct User {
    /// The id.
    pub id: String,
    /// Always `user`.
    pub object: &'static str,
    /// When they were first recorded, in seconds since 1970.
    #[schema(required)]
    pub created: Option<u64>,
    /// Preferences that are recorded.
    pub preferences: u64,
    /// Ratings that are recorded.
    pub feedback: u64,
    /// Completions that are kept.
    pub completions: u64,
    /// The version that answers them under the alias; `null` is the bare base model.
    #[schema(required)]
    pub adapter_version: Option<String>,
    /// Whose rows it has for them: `none`, `generic` or `user`.
    pub user_row: &'static str,
    /// Text about them that stands in their prompts.
    #[schema(required)]
    pub profile: Option<String>,
    /// Whether what they prefer may be learned.
    pub learning: bool,
}

impl From<Person> for User {
    fn from(person: Person) -> Self {
        Self {
            id: person.user.into(),
            object: "user",
            created: person.created_unix_ms.map(|ms| ms / 1000),
            preferences: person.counts.preferences,
            feedback: person.counts.feedback,
            completions: person.counts.completions,
            adapter_version: person.version.map(Into::into),
            user_row: person.row.as_str(),
            profile: person.profile,
            learning: person.learning,
        }
    }
}

/// What is to be set of a person; what is missing stays as it is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, ToSchema)]
pub struct UserRequest {
    /// Text about them that stands in their prompts, up to 4096 characters; an empty one removes it.
    pub profile: Option<String>,
    /// Whether what they prefer may be learned.
    pub learning: Option<bool>,
}

impl UserRequest {
    /// Reads and checks a body.
    ///
    /// # Errors
    /// See [`Fields`].
    pub fn parse(body: Value) -> Parsed<Self> {
        let mut fields = Fields::body(body)?;
        let profile = fields.take("profile");
        let profile = profile.map(|text| fields::string(text, "profile", MAX_PROFILE_CHARS));
        let request = Self {
            profile: profile.transpose()?,
            learning: fields.boolean("learning")?,
        };
        fields.finish()?;
        Ok(request)
    }

    /// The app's view.
    pub fn into_change(self) -> PersonChange {
        let text = |text: String| (!text.trim().is_empty()).then_some(text);
        PersonChange {
            profile: self.profile.map(text),
            learning: self.learning,
        }
    }
}
