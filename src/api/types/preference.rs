//! Preferences and ratings.

use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use super::client_fields::{Ignored, Taken};
use super::generation::{recorded_user_id, Bounds, MAX_ANSWERS};
use super::message::Message;
use crate::api::error::ApiError;
use crate::api::fields::{self, Fields, Parsed};
use crate::api::json::FromBody;
use crate::app::chat::ChatMessage;
use crate::app::preferences::{
    AnswerRef, Compared, ComparedAnswer, FeedbackRecord, PreferenceRecord, PreferenceSource,
    Rating, Turn,
};
use crate::app::user::UserHint;
use attune_ids::UserId;

/// Characters of an answer that is sent as text.
const MAX_ANSWER_CHARS: usize = 256 * 1024;
const MAX_COMMENT_CHARS: usize = 4096;

/// A preference request: two texts with the conversation that they answer, or two answers of kept
/// completions.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct PreferenceRequest {
    /// Who prefers. With kept completions: the person whom they answered, if it is given.
    #[schema(value_type = Option<String>, max_length = 64)]
    pub user: Option<UserId>,
    /// The person, where `user` is not given.
    #[schema(value_type = Option<String>, max_length = 64)]
    pub safety_identifier: Option<UserId>,
    /// The conversation; with texts only.
    pub messages: Option<Vec<Message>>,
    /// The better answer.
    pub chosen: AnswerField,
    /// The other one, which is not the same text.
    pub rejected: AnswerField,
    /// What it has that changes nothing.
    #[serde(skip)]
    #[schema(ignore)]
    pub ignored: Ignored,
}

/// A preference request, and the body that it was.
#[derive(Debug)]
pub struct PreferenceBody {
    /// As it was sent.
    pub body: Value,
    /// What it says.
    pub request: PreferenceRequest,
}

impl FromBody for PreferenceBody {
    fn from_body(body: Value, bounds: &Bounds<'_>) -> Parsed<Self> {
        let request = PreferenceRequest::parse(body.clone(), bounds)?;
        Ok(Self { body, request })
    }

    fn ignored(&self) -> Option<&Ignored> {
        Some(&self.request.ignored)
    }
}

/// An answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
#[serde(untagged)]
pub enum AnswerField {
    /// Its text.
    Text(String),
    /// A kept completion's answer.
    Answer(AnswerOf),
}

/// An answer of a kept completion.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct AnswerOf {
    /// The completion's id.
    pub completion_id: String,
    /// The answer's place in it; 0 where it is missing.
    pub index: Option<u32>,
}

impl PreferenceRequest {
    /// Reads and checks a body.
    ///
    /// # Errors
    /// See [`Fields`].
    pub fn parse(body: Value, bounds: &Bounds<'_>) -> Parsed<Self> {
        let mut fields = Fields::body(body)?;
        let mut taken = Taken::new(bounds.strict);
        let messages = match fields.take("messages") {
            None => None,
            Some(value) => {
                let messages = fields::array(value, "messages", bounds.max_messages)?.into_iter();
                let messages = messages.enumerate();
                let parse = |(i, m)| Message::parse(m, format!("messages[{i}]"), &mut taken);
                Some(messages.map(parse).collect::<Parsed<Vec<_>>>()?)
            }
        };
        let request = Self {
            user: recorded_user_id(&mut fields, "user")?,
            safety_identifier: recorded_user_id(&mut fields, "safety_identifier")?,
            messages,
            chosen: answer(&mut fields, "chosen")?,
            rejected: answer(&mut fields, "rejected")?,
            ignored: taken.ignored,
        };
        fields.finish()?;
        Ok(request)
    }

    /// Whom it names.
    pub fn user_hint(&self, header: Option<UserId>) -> UserHint {
        UserHint {
            header,
            user: self.user.clone(),
            safety_identifier: self.safety_identifier.clone(),
        }
    }

    /// The app's view.
    ///
    /// # Errors
    /// A text beside a completion, or texts without their conversation.
    pub fn into_compared(self) -> Parsed<Compared> {
        match (self.chosen, self.rejected, self.messages) {
            (AnswerField::Text(chosen), AnswerField::Text(rejected), Some(messages)) => {
                Ok(Compared::Texts {
                    messages: messages.into_iter().map(turn).collect(),
                    chosen,
                    rejected,
                })
            }
            (AnswerField::Text(_), AnswerField::Text(_), None) => Err(ApiError::invalid(
                "missing_required_parameter",
                "messages",
                "the parameter 'messages' is missing: texts need the conversation that they answer",
            )),
            (AnswerField::Answer(chosen), AnswerField::Answer(rejected), None) => {
                Ok(Compared::Answers {
                    chosen: chosen.into(),
                    rejected: rejected.into(),
                })
            }
            (AnswerField::Answer(_), AnswerField::Answer(_), Some(_)) => Err(ApiError::invalid(
                "invalid_value",
                "messages",
                "'messages' is allowed only with texts: completions have their own",
            )),
            _ => Err(ApiError::invalid(
                "invalid_value",
                "rejected",
                "'chosen' and 'rejected' must both be texts, or both be answers of completions",
            )),
        }
    }
}

impl From<AnswerOf> for AnswerRef {
    fn from(answer: AnswerOf) -> Self {
        Self {
            completion: answer.completion_id,
            index: answer.index.unwrap_or(0),
        }
    }
}

fn answer(fields: &mut Fields, name: &str) -> Parsed<AnswerField> {
    match fields.required(name)? {
        Value::Object(map) => {
            let mut nested = Fields::nested(Value::Object(map), name.to_owned())?;
            let answer = answer_of(&mut nested)?;
            nested.finish()?;
            Ok(AnswerField::Answer(answer))
        }
        Value::String(text) => {
            let text = fields::string(Value::String(text), name, MAX_ANSWER_CHARS)?;
            if text.trim().is_empty() {
                let message = format!("'{name}' must not be blank");
                return Err(ApiError::invalid("invalid_value", name, message));
            }
            Ok(AnswerField::Text(text))
        }
        other => Err(fields::wrong_type(name, "a string or an object", &other)),
    }
}

fn answer_of(fields: &mut Fields) -> Parsed<AnswerOf> {
    let path = fields.path("completion_id");
    let index = fields.size("index", 0..=MAX_ANSWERS - 1)?;
    Ok(AnswerOf {
        completion_id: fields::string(fields.required("completion_id")?, &path, 128)?,
        index: index.and_then(|index| u32::try_from(index).ok()),
    })
}

fn turn(message: Message) -> Turn {
    let ChatMessage { role, content } = message.into();
    Turn { role, content }
}

/// A preference that is recorded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Preference {
    /// `pref_...`
    pub id: String,
    /// Always `preference`.
    pub object: &'static str,
    /// Who prefers.
    #[schema(required)]
    pub user: Option<String>,
    /// Seconds since 1970.
    pub created: u64,
    /// The adapter version that answered this person then; `null` is the bare base model.
    #[schema(required)]
    pub adapter_version: Option<String>,
    /// How it was sent: `texts`, `completions` or `choices`.
    pub source: &'static str,
    /// The conversation.
    pub messages: Vec<KeptMessage>,
    /// The better answer.
    pub chosen: KeptAnswer,
    /// The other one.
    pub rejected: KeptAnswer,
}

/// A message that is recorded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct KeptMessage {
    /// `system`, `user` or `assistant`.
    pub role: String,
    /// What was said.
    pub content: String,
}

/// An answer that is recorded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct KeptAnswer {
    /// Its text.
    pub text: String,
    /// The completion that it is part of.
    #[schema(required)]
    pub completion_id: Option<String>,
    /// Its place there.
    #[schema(required)]
    pub index: Option<u32>,
    /// The version that made it, where that is known.
    #[schema(required)]
    pub adapter_version: Option<String>,
}

impl From<PreferenceRecord> for Preference {
    fn from(record: PreferenceRecord) -> Self {
        Self {
            id: record.id.into(),
            object: "preference",
            user: record.user.map(Into::into),
            created: record.created_unix_ms / 1000,
            adapter_version: record.adapter_version.map(Into::into),
            source: match record.source {
                PreferenceSource::Texts => "texts",
                PreferenceSource::Completions => "completions",
                PreferenceSource::Choices => "choices",
            },
            messages: record.messages.into_iter().map(Into::into).collect(),
            chosen: record.chosen.into(),
            rejected: record.rejected.into(),
        }
    }
}

impl From<Turn> for KeptMessage {
    fn from(turn: Turn) -> Self {
        Self {
            role: turn.role,
            content: turn.content,
        }
    }
}

impl From<ComparedAnswer> for KeptAnswer {
    fn from(answer: ComparedAnswer) -> Self {
        Self {
            text: answer.text,
            completion_id: answer.completion.map(Into::into),
            index: answer.index,
            adapter_version: answer.adapter_version.map(Into::into),
        }
    }
}

/// A rating request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct FeedbackRequest {
    /// The kept completion.
    pub completion_id: String,
    /// The answer's place in it; 0 where it is missing.
    pub index: Option<u32>,
    /// `up`, `down`, or 1 (bad) to 5 (good).
    pub rating: RatingField,
    /// What the person says of it, up to 4096 characters.
    pub comment: Option<String>,
}

/// A thumb or stars.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
#[serde(untagged)]
pub enum RatingField {
    /// `up` or `down`.
    Thumb(String),
    /// 1 to 5.
    Stars(u8),
}

impl FeedbackRequest {
    /// Reads and checks a body.
    ///
    /// # Errors
    /// See [`Fields`].
    pub fn parse(body: Value) -> Parsed<Self> {
        let mut fields = Fields::body(body)?;
        let AnswerOf {
            completion_id,
            index,
        } = answer_of(&mut fields)?;
        let request = Self {
            completion_id,
            index,
            rating: rating(fields.required("rating")?)?,
            comment: fields.string("comment", MAX_COMMENT_CHARS)?,
        };
        fields.finish()?;
        Ok(request)
    }

    /// The rating.
    pub fn score(&self) -> Rating {
        match &self.rating {
            RatingField::Thumb(thumb) if thumb == "up" => Rating::Up,
            RatingField::Thumb(_) => Rating::Down,
            RatingField::Stars(stars) => Rating::Stars(*stars),
        }
    }

    /// What is rated.
    pub fn answer(&self) -> AnswerRef {
        AnswerRef {
            completion: self.completion_id.clone(),
            index: self.index.unwrap_or(0),
        }
    }
}

fn rating(value: Value) -> Parsed<RatingField> {
    match value {
        Value::String(thumb) if thumb == "up" || thumb == "down" => Ok(RatingField::Thumb(thumb)),
        Value::String(_) => {
            let message = "'rating' must be up, down, or an integer from 1 to 5";
            Err(ApiError::invalid("invalid_value", "rating", message))
        }
        Value::Number(_) => {
            let stars = fields::integer(&value, "rating", 1..=5)?;
            Ok(RatingField::Stars(u8::try_from(stars).unwrap_or(1)))
        }
        other => Err(fields::wrong_type(
            "rating",
            "a string or an integer",
            &other,
        )),
    }
}

/// A rating that is recorded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Feedback {
    /// `fb_...`
    pub id: String,
    /// Always `feedback`.
    pub object: &'static str,
    /// The completion.
    pub completion_id: String,
    /// The answer's place in it.
    pub index: u32,
    /// The rating.
    pub rating: RatingField,
    /// What the person says of it.
    #[schema(required)]
    pub comment: Option<String>,
    /// Who was answered.
    #[schema(required)]
    pub user: Option<String>,
    /// Seconds since 1970.
    pub created: u64,
    /// The adapter version that answered; `null` is the bare base model.
    #[schema(required)]
    pub adapter_version: Option<String>,
}

impl From<FeedbackRecord> for Feedback {
    fn from(record: FeedbackRecord) -> Self {
        Self {
            id: record.id.into(),
            object: "feedback",
            completion_id: record.completion.into(),
            index: record.index,
            rating: match record.rating {
                Rating::Up => RatingField::Thumb("up".to_owned()),
                Rating::Down => RatingField::Thumb("down".to_owned()),
                Rating::Stars(stars) => RatingField::Stars(stars),
            },
            comment: record.comment,
            user: record.user.map(Into::into),
            created: record.created_unix_ms / 1000,
            adapter_version: record.adapter_version.map(Into::into),
        }
    }
}
