//! Messages to prompt ids through the model's own chat template.
//!
//! | file | subject |
//! |---|---|
//! | `guard` | content that cannot spell a control token, whatever the template does to it |
//! | `functions` | what templates may call: `raise_exception`, `strftime_now`, `tojson` |
//! | `strftime` | dates |
//! | [`variables`] | what a caller adds to a template's variables |
//!
//! A template is code that came with the model: it gets no files, a bounded amount of work
//! ([`FUEL`]) and a bounded amount of output ([`MAX_RENDERED_BYTES`]).

mod functions;
mod guard;
mod strftime;
pub mod variables;

use std::collections::BTreeSet;
use std::io;
use std::time::SystemTime;

use minijinja::syntax::SyntaxConfig;
use minijinja::value::Value;
use minijinja::{context, AutoEscape, Environment};

use super::tokenizer::{TextError, Tokenizer};
use guard::{Guard, Split};
pub use variables::TemplateVariables;

/// What one rendering may do: an instruction costs 1, and so do 64 bytes that it writes or copies.
/// Templates use about 30 for each message and 10 for each kilobyte; 2 million are about 0.1 s and
/// bound the memory to 128 MB.
pub const FUEL: u64 = 2_000_000;

/// The longest text that a template may write, in bytes. A guarded rendering (see
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
    environment: Environment<'static>,
    /// What the template reads and does not set itself.
    names: BTreeSet<String>,
    bos_token: Option<String>,
    eos_token: Option<String>,
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
        Self::with_clock(source, bos_token, eos_token, SystemTime::now)
    }

    /// The template that came with the model.
    ///
    /// # Errors
    /// The model has none ([`TextError::NoChatTemplate`]), or it does not parse.
    pub fn of(tokenizer: &Tokenizer) -> Result<Self, TextError> {
        let source = tokenizer.chat_template().ok_or(TextError::NoChatTemplate)?;
        Self::new(source, tokenizer.bos_token(), tokenizer.eos_token())
    }

    fn with_clock(
        source: &str,
        bos_token: Option<&str>,
        eos_token: Option<&str>,
        now: fn() -> SystemTime,
    ) -> Result<Self, TextError> {
        let mut environment = Environment::new();
        // As transformers configures Jinja.
        let syntax = SyntaxConfig::builder()
            .trim_blocks(true)
            .lstrip_blocks(true)
            .build()
            .map_err(failed)?;
        environment.set_syntax(syntax);
        environment.set_auto_escape_callback(|_| AutoEscape::None);
        environment
            .set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
        environment.set_fuel(Some(FUEL));
        functions::register(&mut environment, now);
        environment
            .add_template_owned(NAME, functions::without_generation_marks(source))
            .map_err(failed)?;
        let template = environment.get_template(NAME).map_err(failed)?;
        let names = template.undeclared_variables(false).into_iter().collect();
        Ok(Self {
            environment,
            names,
            bos_token: bos_token.map(str::to_owned),
            eos_token: eos_token.map(str::to_owned),
        })
    }

    /// Whether the template reads a variable of this name that a caller may set, for example
    /// `enable_thinking`. One that it does not read cannot change a prompt.
    pub fn knows(&self, name: &str) -> bool {
        !variables::is_reserved(name) && self.names.contains(name)
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
        let none = TemplateVariables::default();
        self.render_with(messages, &none, add_generation_prompt, &str::to_owned)
    }

    /// The prompt's ids: only the template's own special strings become control tokens; each run
    /// of text between them is encoded as plain text. A BOS that the template writes is kept, one
    /// that the tokenizer would add is added only if it is not already there.
    ///
    /// The prompt is rendered twice, as it is and with guarded content, in which no character
    /// touches the next. Control tokens in the guarded one are the template's own for certain. The
    /// plain one is used if it has the same ones; some templates look for words in content, which
    /// only works there. Otherwise content forged one, and the guarded one is used.
    ///
    /// # Errors
    /// As [`ChatTemplate::render`]; a text that cannot be encoded.
    pub fn encode(
        &self,
        tokenizer: &Tokenizer,
        messages: &[ChatMessage],
        add_generation_prompt: bool,
    ) -> Result<Vec<u32>, TextError> {
        let none = TemplateVariables::default();
        self.encode_with(
            &none,
            usize::MAX,
            tokenizer,
            messages,
            add_generation_prompt,
        )
    }

    /// The same with variables of the caller's, for a prompt of at most `most` tokens. A longer one may come back, but
    /// one that is so long that it shows before it is encoded is refused. Variables that the template does not know
    /// (see [`ChatTemplate::knows`]) change nothing.
    ///
    /// # Errors
    /// As [`ChatTemplate::encode`]; [`TextError::TooManyTokens`].
    pub fn encode_with(
        &self,
        variables: &TemplateVariables,
        most: usize,
        tokenizer: &Tokenizer,
        messages: &[ChatMessage],
        add_generation_prompt: bool,
    ) -> Result<Vec<u32>, TextError> {
        let specials = tokenizer.specials();
        let guard = Guard::new(messages, variables, specials)?;
        let render = |text: &dyn Fn(&str) -> String| {
            self.render_with(messages, variables, add_generation_prompt, text)
        };
        let guarded = render(&|text| guard.protect(text))?;
        let guarded = Split::new(specials, &guarded);
        let plain = render(&str::to_owned)?;
        let plain = Split::new(specials, &plain);
        let bytes = plain.text_bytes();
        let least = tokenizer.least_tokens(bytes);
        if least > most {
            return Err(TextError::TooManyTokens { bytes, least, most });
        }

        let mut ids = if plain.control_ids() == guarded.control_ids() {
            plain.encode(tokenizer)?
        } else {
            guarded.unprotected(&guard).encode(tokenizer)?
        };
        if let Some(bos) = tokenizer.bos() {
            if tokenizer.adds_bos() && ids.first() != Some(&bos) {
                ids.insert(0, bos);
            }
        }
        Ok(ids)
    }

    /// `text`: how what came from outside is written.
    fn render_with(
        &self,
        messages: &[ChatMessage],
        variables: &TemplateVariables,
        add_generation_prompt: bool,
        text: &dyn Fn(&str) -> String,
    ) -> Result<String, TextError> {
        if let Some(message) = messages.iter().find(|m| !ROLES.contains(&&*m.role)) {
            return Err(TextError::Template(format!(
                "role {:?} is not one of {}",
                message.role,
                ROLES.join(", ")
            )));
        }
        let message =
            |m: &ChatMessage| context! { role => m.role.as_str(), content => text(&m.content) };
        let messages: Vec<Value> = messages.iter().map(message).collect();
        // Templates ask whether these are none, so they must be, and not undefined.
        let mut context = vec![("tools", Value::from(())), ("documents", Value::from(()))];
        context.extend(variables.values(text));
        context.push(("messages", Value::from(messages)));
        context.push(("add_generation_prompt", Value::from(add_generation_prompt)));
        let tokens = [
            ("bos_token", &self.bos_token),
            ("eos_token", &self.eos_token),
        ];
        for (name, token) in tokens {
            context.extend(token.as_deref().map(|token| (name, Value::from(token))));
        }
        let template = self.environment.get_template(NAME).map_err(failed)?;
        let mut output = Capped::default();
        template
            .render_captured_to(Value::from_pairs(context), &mut output)
            .map_err(failed)?;
        String::from_utf8(output.bytes).map_err(|e| TextError::Template(e.to_string()))
    }
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
mod tests;
