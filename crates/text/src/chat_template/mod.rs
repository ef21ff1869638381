//! Messages to prompt ids through the model's own chat template.
//!
//! | file | subject |
//! |---|---|
//! | `rendered` | which control tokens of a prompt the template wrote: content cannot spell one |
//! | `marks`, `marked` | text and templates whose characters are marked, to follow them |
//! | `source`, `dialect` | a template cut into tokens, and in words that our Jinja knows |
//! | `functions`, `filters`, `methods`, `json` | what templates may call, as Jinja2, transformers and Python have it |
//! | `strftime` | dates |
//! | [`variables`] | what a caller adds to a template's variables |
//!
//! A template is code that came with the model: it gets no files, a bounded amount of work
//! ([`FUEL`]) and a bounded amount of output ([`MAX_RENDERED_BYTES`]).

mod dialect;
mod filters;
mod functions;
mod json;
mod marked;
mod marks;
mod methods;
mod rendered;
mod source;
mod strftime;
pub mod variables;

use std::collections::BTreeSet;
use std::io;
use std::time::SystemTime;

use minijinja::syntax::SyntaxConfig;
use minijinja::value::Value;
use minijinja::{context, AutoEscape, Environment};

use super::tokenizer::{TextError, TokenNames, Tokenizer};
use marked::Words;
use marks::Marks;
use rendered::{Marked, Rendered};
pub use variables::TemplateVariables;

/// What one rendering may do: an instruction costs 1, and so do 64 bytes that it writes or copies.
/// Templates use about 30 for each message and 10 for each kilobyte; 2 million are about 0.1 s and
/// bound the memory to 128 MB.
pub const FUEL: u64 = 2_000_000;

/// The longest text that a template may write, in bytes. A marked rendering (see
/// [`ChatTemplate::encode`]) is up to four times as long as its prompt.
pub const MAX_RENDERED_BYTES: usize = 16 << 20;

/// The roles a message can have. Templates write the role into the names of control tokens, so
/// it must come from this list.
pub const ROLES: [&str; 6] = [
    "system",
    "developer",
    "user",
    "assistant",
    "tool",
    "function",
];

const NAME: &str = "chat";

/// One message of a conversation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChatMessage {
    /// One of [`ROLES`].
    pub role: String,
    /// Its text.
    pub content: String,
}

/// A chat template, compiled and bounded in time (fuel) and output.
#[derive(Debug)]
pub struct ChatTemplate {
    /// In words that our Jinja knows.
    source: String,
    environment: Environment<'static>,
    /// What the template reads and does not set itself.
    variables: BTreeSet<String>,
    tokens: TokenNames,
    now: fn() -> SystemTime,
}

impl ChatTemplate {
    /// Compiles `source` (Jinja). `bos_token` and `eos_token` are the strings that templates refer to.
    ///
    /// # Errors
    /// The source does not parse.
    pub fn new(
        source: &str,
        bos_token: Option<&str>,
        eos_token: Option<&str>,
    ) -> Result<Self, TextError> {
        let mut tokens = TokenNames::default();
        tokens.name("bos_token", bos_token);
        tokens.name("eos_token", eos_token);
        Self::with_clock(source, tokens, SystemTime::now)
    }

    /// The template that came with the model.
    ///
    /// # Errors
    /// The model has none ([`TextError::NoChatTemplate`]), or it does not parse.
    pub fn of(tokenizer: &Tokenizer) -> Result<Self, TextError> {
        let source = tokenizer.chat_template().ok_or(TextError::NoChatTemplate)?;
        Self::with_clock(source, tokenizer.token_names().clone(), SystemTime::now)
    }

    fn with_clock(
        source: &str,
        tokens: TokenNames,
        now: fn() -> SystemTime,
    ) -> Result<Self, TextError> {
        let source = dialect::translate(source);
        let environment = environment(source.clone(), now)?;
        let template = environment.get_template(NAME).map_err(failed)?;
        let variables = template.undeclared_variables(false).into_iter().collect();
        Ok(Self {
            source,
            environment,
            variables,
            tokens,
            now,
        })
    }

    /// Whether the template reads a variable of this name that a caller may set, for example
    /// `enable_thinking`. One that it does not read cannot change a prompt.
    pub fn knows(&self, name: &str) -> bool {
        !variables::is_reserved(name) && self.variables.contains(name)
    }

    /// The prompt's text, for people and tests: content stands in it as it came.
    ///
    /// # Errors
    /// The template fails (some refuse an order of roles), runs out of fuel or writes too much; a
    /// role that is not one of [`ROLES`].
    pub fn render(
        &self,
        messages: &[ChatMessage],
        add_generation_prompt: bool,
    ) -> Result<String, TextError> {
        let variables = TemplateVariables::default();
        let conversation = Conversation {
            messages,
            variables: &variables,
            add_generation_prompt,
        };
        self.render_from(&self.environment, &conversation, &Writing::default())
    }

    /// The prompt's ids: only what the template itself writes becomes a control token, and what messages spell,
    /// alone or together with what stands beside it, stays text. The text is that of
    /// [`ChatTemplate::render`]: templates see messages as they are. Each run of text between control tokens is
    /// encoded as plain text. A BOS that the template writes is kept, one that the tokenizer would add is added only
    /// if it is not already there.
    ///
    /// Variables that the template does not know (see [`ChatTemplate::knows`]) change nothing. The prompt is one of at
    /// most `most` tokens: a longer one may come back, but one that is so long that it shows before it is encoded is
    /// refused.
    ///
    /// # Errors
    /// As [`ChatTemplate::render`]; a text that cannot be encoded; [`TextError::TooManyTokens`].
    pub fn encode(
        &self,
        variables: &TemplateVariables,
        most: usize,
        tokenizer: &Tokenizer,
        messages: &[ChatMessage],
        add_generation_prompt: bool,
    ) -> Result<Vec<u32>, TextError> {
        let specials = tokenizer.specials();
        let contents = messages.iter().map(|message| message.content.as_str());
        let used = contents
            .chain(variables.texts())
            .chain([self.source.as_str()]);
        let marks = Marks::new(specials, used)?;
        let conversation = Conversation {
            messages,
            variables,
            add_generation_prompt,
        };
        let render = |marked| self.render_marked(tokenizer, &conversation, &marks, marked);
        let prompt = Rendered::new(specials, &marks, render)?;
        let bytes = prompt.text_bytes();
        let least = tokenizer.least_tokens(bytes);
        if least > most {
            return Err(TextError::TooManyTokens { bytes, least, most });
        }
        let mut ids = prompt.encode(tokenizer)?;
        if let Some(bos) = tokenizer.bos() {
            if tokenizer.adds_bos() && ids.first() != Some(&bos) {
                ids.insert(0, bos);
            }
        }
        Ok(ids)
    }

    fn render_marked(
        &self,
        tokenizer: &Tokenizer,
        conversation: &Conversation<'_>,
        marks: &Marks,
        marked: Marked,
    ) -> Result<String, TextError> {
        let mark = |text: &str| marks.mark(text);
        let mut writing = Writing::default();
        let words = match marked {
            Marked::Nothing => return self.render_from(&self.environment, conversation, &writing),
            Marked::Outside => {
                writing.outside = &mark;
                return self.render_from(&self.environment, conversation, &writing);
            }
            Marked::OutsideAndLooked => {
                writing.outside = &mark;
                Words::Looked
            }
            Marked::Template => Words::Plain,
            Marked::TemplateWords => {
                writing.roles = &mark;
                Words::Marked
            }
        };
        if words != Words::Looked {
            writing.tokens = &mark;
        }
        let source = marked::marked(&self.source, tokenizer.specials(), marks, words);
        self.render_from(&environment(source, self.now)?, conversation, &writing)
    }

    fn render_from(
        &self,
        environment: &Environment<'_>,
        conversation: &Conversation<'_>,
        writing: &Writing<'_>,
    ) -> Result<String, TextError> {
        let messages = conversation.messages;
        if let Some(message) = messages.iter().find(|m| !ROLES.contains(&&*m.role)) {
            return Err(TextError::Template(format!(
                "role {:?} is not one of {}",
                message.role,
                ROLES.join(", ")
            )));
        }
        let message = |m: &ChatMessage| {
            context! { role => (writing.roles)(&m.role), content => (writing.outside)(&m.content) }
        };
        let messages: Vec<Value> = messages.iter().map(message).collect();
        // Templates ask whether these are none, so they must be, and not undefined.
        let mut context = vec![("tools", Value::from(())), ("documents", Value::from(()))];
        context.extend(conversation.variables.values(writing.outside));
        context.push(("messages", Value::from(messages)));
        let prompt = Value::from(conversation.add_generation_prompt);
        context.push(("add_generation_prompt", prompt));
        for (name, token) in &self.tokens.named {
            context.push((name, Value::from((writing.tokens)(token))));
        }
        let additional = self.tokens.additional.iter();
        let additional: Vec<Value> = additional
            .map(|token| Value::from((writing.tokens)(token)))
            .collect();
        if !additional.is_empty() {
            context.push(("additional_special_tokens", Value::from(additional)));
        }
        let template = environment.get_template(NAME).map_err(failed)?;
        let mut output = Capped::default();
        template
            .render_captured_to(Value::from_pairs(context), &mut output)
            .map_err(failed)?;
        String::from_utf8(output.bytes).map_err(|e| TextError::Template(e.to_string()))
    }
}

/// What a prompt is made of.
struct Conversation<'a> {
    messages: &'a [ChatMessage],
    variables: &'a TemplateVariables,
    add_generation_prompt: bool,
}

/// How texts are given to a template: as they are, or marked.
struct Writing<'a> {
    /// What came from outside.
    outside: &'a dyn Fn(&str) -> String,
    roles: &'a dyn Fn(&str) -> String,
    /// `bos_token` and the like.
    tokens: &'a dyn Fn(&str) -> String,
}

impl Default for Writing<'_> {
    fn default() -> Self {
        Self {
            outside: &str::to_owned,
            roles: &str::to_owned,
            tokens: &str::to_owned,
        }
    }
}

/// Jinja as transformers configures it, with `source` as its only template.
fn environment(source: String, now: fn() -> SystemTime) -> Result<Environment<'static>, TextError> {
    let mut environment = Environment::new();
    let syntax = SyntaxConfig::builder()
        .trim_blocks(true)
        .lstrip_blocks(true)
        .build()
        .map_err(failed)?;
    environment.set_syntax(syntax);
    environment.set_auto_escape_callback(|_| AutoEscape::None);
    environment.set_unknown_method_callback(methods::call);
    environment.set_fuel(Some(FUEL));
    functions::register(&mut environment, now);
    filters::register(&mut environment);
    environment
        .add_template_owned(NAME, source)
        .map_err(failed)?;
    Ok(environment)
}

/// The message with its causes: the first says where, the last says why.
fn failed(error: minijinja::Error) -> TextError {
    let mut message = error.to_string();
    let mut cause = std::error::Error::source(&error);
    while let Some(inner) = cause {
        message = format!("{message}: {inner}");
        cause = inner.source();
    }
    TextError::Template(message)
}

/// Output that refuses to grow past [`MAX_RENDERED_BYTES`].
#[derive(Default)]
struct Capped {
    bytes: Vec<u8>,
}

impl io::Write for Capped {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.bytes.len() + bytes.len() > MAX_RENDERED_BYTES {
            return Err(io::Error::other(format!(
                "it writes more than {MAX_RENDERED_BYTES} bytes"
            )));
        }
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod parity;
#[cfg(test)]
mod tests;
