//! A prompt as the model reads it: the one place where messages, a text or ids become one.
//!
//! Chat, completions, rollouts, samples and the trainer's encoder all come here, so a model is trained on the ids that
//! it will be served: the template's control tokens, BOS, the user's profile, and where the soft rows go.
//!
//! The profile is text about the user. As P-RLHF (arXiv 2402.05133) has it, it stands in front of their first words:
//! that explicit user model is the base model's own embedding of the text.

use std::borrow::Cow;
use std::sync::Arc;

use super::chat_template::{ChatMessage, ChatTemplate, TemplateVariables};
use super::tokenizer::{SpecialTokens, TextError, Tokenizer};

/// What stands before a profile.
pub const USER_INFO: &str = "User textual information: ";

/// A prompt: the model reads `ids[..soft_at]`, the soft rows of the user, `ids[soft_at..]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prompt {
    /// At least one.
    pub ids: Arc<[u32]>,
    /// 1 where the ids begin with the BOS that the tokenizer adds, else 0. A BOS that only a template writes stands
    /// behind the soft rows.
    pub soft_at: usize,
}

impl Prompt {
    /// What stands behind the soft rows.
    pub fn after_soft_rows(&self) -> &[u32] {
        &self.ids[self.soft_at..]
    }
}

/// What a prompt is made from.
#[derive(Debug, Clone)]
pub enum PromptSource<'a> {
    /// A conversation, for a model with a chat template.
    Messages(Cow<'a, [ChatMessage]>),
    /// Text to go on from, without a template. Control tokens in it are plain text.
    Text(&'a str),
}

/// Makes the prompts of one model.
#[derive(Debug, Clone, Copy)]
pub struct PromptEncoder<'a> {
    tokenizer: &'a Tokenizer,
    template: Option<&'a ChatTemplate>,
    variables: Option<&'a TemplateVariables>,
    most: usize,
}

impl<'a> PromptEncoder<'a> {
    /// `template`: `None` for models that were not made for chat.
    pub fn new(tokenizer: &'a Tokenizer, template: Option<&'a ChatTemplate>) -> Self {
        Self {
            tokenizer,
            template,
            variables: None,
            most: usize::MAX,
        }
    }

    /// With variables of the caller's for the template.
    pub fn with_variables(self, variables: &'a TemplateVariables) -> Self {
        Self {
            variables: Some(variables),
            ..self
        }
    }

    /// Refuses a conversation that shows to have more than `most` ids before it is encoded
    /// (see [`ChatTemplate::encode`]).
    pub fn at_most(self, most: usize) -> Self {
        Self { most, ..self }
    }

    /// A question to the model: one message of the user's, or the text itself for a model without a template.
    pub fn question<'t>(&self, text: &'t str) -> PromptSource<'t> {
        match self.template {
            Some(_) => PromptSource::Messages(vec![message("user", text.to_owned())].into()),
            None => PromptSource::Text(text),
        }
    }

    /// The prompt of `source`, asked by a person of whom `profile` is known.
    ///
    /// # Errors
    /// Messages for a model without a template; a text that is too long, or that the template refuses.
    pub fn encode(
        &self,
        source: &PromptSource<'_>,
        profile: Option<&str>,
    ) -> Result<Prompt, TextError> {
        let ids = match source {
            PromptSource::Messages(messages) => {
                self.conversation(&with_profile(messages, profile), true)
            }
            PromptSource::Text(text) => self.text(&profiled(text, profile)),
        };
        ids.map(|ids| self.ids(ids))
    }

    /// A prompt that somebody wrote id by id, so no profile is put into it. Where it is empty, the model goes on from
    /// what stands before any text, as at OpenAI.
    pub fn ids(&self, mut ids: Vec<u32>) -> Prompt {
        let tokenizer = self.tokenizer;
        if ids.is_empty() {
            ids.extend(tokenizer.bos().or(tokenizer.end_ids().first().copied()));
        }
        let bos = tokenizer.added_bos();
        Prompt {
            soft_at: usize::from(bos.is_some() && ids.first().copied() == bos),
            ids: ids.into(),
        }
    }

    /// The ids of the prompt and of `reply` behind it: as the template ends an assistant's message, or as one text.
    ///
    /// # Errors
    /// As [`PromptEncoder::encode`].
    pub fn encode_with_reply(
        &self,
        source: &PromptSource<'_>,
        profile: Option<&str>,
        reply: &str,
    ) -> Result<Vec<u32>, TextError> {
        match source {
            PromptSource::Messages(messages) => {
                let mut messages = with_profile(messages, profile).into_owned();
                messages.push(message("assistant", reply.to_owned()));
                self.conversation(&messages, false)
            }
            PromptSource::Text(text) => self.text(&format!("{}{reply}", profiled(text, profile))),
        }
    }

    fn conversation(
        &self,
        messages: &[ChatMessage],
        add_generation_prompt: bool,
    ) -> Result<Vec<u32>, TextError> {
        let template = self.template.ok_or(TextError::NoChatTemplate)?;
        let none = TemplateVariables::default();
        let variables = self.variables.unwrap_or(&none);
        template.encode(
            variables,
            self.most,
            self.tokenizer,
            messages,
            add_generation_prompt,
        )
    }

    fn text(&self, text: &str) -> Result<Vec<u32>, TextError> {
        let ids = self.tokenizer.encode(text, SpecialTokens::AsText)?;
        let bos = self.tokenizer.added_bos();
        Ok(bos.into_iter().chain(ids).collect())
    }
}

/// The profile in front of the user's first message, or as a message of its own where they have none.
fn with_profile<'a>(messages: &'a [ChatMessage], profile: Option<&str>) -> Cow<'a, [ChatMessage]> {
    if profile.is_none() {
        return messages.into();
    }
    let mut messages = messages.to_vec();
    match messages.iter_mut().find(|message| message.role == "user") {
        Some(first) => first.content = profiled(&first.content, profile).into_owned(),
        None => messages.push(message("user", profiled("", profile).into_owned())),
    }
    messages.into()
}

/// The profile in front of a text.
fn profiled<'a>(text: &'a str, profile: Option<&str>) -> Cow<'a, str> {
    match profile {
        Some(profile) => format!("{USER_INFO}{profile}\n{text}").into(),
        None => text.into(),
    }
}

fn message(role: &str, content: String) -> ChatMessage {
    ChatMessage {
        role: role.to_owned(),
        content,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tokenizer::GgufVocabulary;

    /// A BOS, an EOS, and one token for each of two characters.
    fn tokenizer(add_bos: bool) -> Tokenizer {
        Tokenizer::from_gguf(&GgufVocabulary {
            model: "llama".to_owned(),
            tokens: ["<s>", "</s>", "a", "b"].map(str::to_owned).to_vec(),
            token_types: vec![3, 3, 1, 1],
            scores: vec![0.0; 4],
            bos: Some(0),
            eos: Some(1),
            add_bos: Some(add_bos),
            add_space_prefix: Some(false),
            ..GgufVocabulary::default()
        })
        .unwrap()
    }

    fn user(content: &str) -> ChatMessage {
        message("user", content.to_owned())
    }

    /// Rows in front of a prompt stand behind the BOS that the tokenizer adds, and before one that others wrote.
    #[test]
    fn soft_rows_stand_behind_an_added_bos() {
        for (add_bos, soft_at, text) in [(true, 1, vec![0, 2]), (false, 0, vec![2])] {
            let tokenizer = tokenizer(add_bos);
            let template =
                ChatTemplate::new("<s>{{ messages[0].content }}", Some("<s>"), None).unwrap();
            let encoder = PromptEncoder::new(&tokenizer, Some(&template));
            let chat = encoder.encode(&encoder.question("a"), None).unwrap();
            assert_eq!((&chat.ids[..], chat.soft_at), (&[0, 2][..], soft_at));
            assert_eq!(chat.after_soft_rows(), &[0, 2][soft_at..]);
            let plain = encoder.encode(&PromptSource::Text("a"), None).unwrap();
            assert_eq!((&plain.ids[..], plain.soft_at), (&text[..], soft_at));
            assert_eq!(encoder.ids(vec![0, 2]), chat);
            // Ids are as they are.
            let ids = encoder.ids(vec![2]);
            assert_eq!((&ids.ids[..], ids.soft_at), (&[2][..], 0));
        }
    }

    #[test]
    fn a_prompt_is_never_empty() {
        let tokenizer = tokenizer(false);
        let template = ChatTemplate::new("", None, None).unwrap();
        let encoder = PromptEncoder::new(&tokenizer, Some(&template));
        for source in [encoder.question("a"), PromptSource::Text("")] {
            assert_eq!(encoder.encode(&source, None).unwrap().ids[..], [0]);
        }
        assert_eq!(encoder.ids(Vec::new()).ids[..], [0]);
    }

    #[test]
    fn a_profile_stands_before_the_first_words_of_the_user() {
        let info = format!("{USER_INFO}tea\n");
        let profile = Some("tea");
        let contents = |messages: &[ChatMessage]| -> Vec<String> {
            let messages = with_profile(messages, profile);
            messages.iter().map(|m| m.content.clone()).collect()
        };
        let system = message("system", "s".to_owned());
        let turns = [system.clone(), user("a"), user("b")];
        assert_eq!(contents(&turns), ["s", &format!("{info}a"), "b"]);
        assert_eq!(contents(&[system]), ["s", &info]);
        assert_eq!(with_profile(&turns, None)[..], turns[..]);
        assert_eq!(profiled("a", profile), format!("{info}a"));
        assert_eq!(profiled("a", None), "a");
    }

    #[test]
    fn messages_need_a_template() {
        let tokenizer = tokenizer(true);
        let encoder = PromptEncoder::new(&tokenizer, None);
        let messages = PromptSource::Messages(vec![user("a")].into());
        let error = encoder.encode(&messages, None).unwrap_err();
        assert!(matches!(error, TextError::NoChatTemplate), "{error}");
        let question = encoder.question("a");
        assert_eq!(encoder.encode(&question, None).unwrap().ids[..], [0, 2]);
        let joint = encoder.encode_with_reply(&question, None, "b").unwrap();
        assert_eq!(joint, [0, 2, 3]);
    }
}
