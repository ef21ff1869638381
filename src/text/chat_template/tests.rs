use std::time::{Duration, UNIX_EPOCH};

use super::*;
use crate::text::tokenizer::GgufVocabulary;

fn user(content: &str) -> Vec<ChatMessage> {
    vec![ChatMessage {
        role: "user".to_owned(),
        content: content.to_owned(),
    }]
}

fn render(source: &str, content: &str) -> Result<String, TextError> {
    let template = ChatTemplate::new(source, Some("<s>"), None)?;
    template.render(&user(content), true)
}

fn message(result: Result<impl std::fmt::Debug, TextError>) -> String {
    result.unwrap_err().to_string()
}

#[test]
fn an_endless_template_ends() {
    let nested = "{% for a in range(9999) %}{% for b in range(9999) %}{% endfor %}{% endfor %}";
    let error = message(render(nested, ""));
    assert!(error.contains("fuel"), "{error}");
    let recursive = "{% macro f() %}{{ f() }}{{ f() }}{% endmacro %}{{ f() }}";
    assert!(render(recursive, "").is_err());
}

#[test]
fn a_template_that_writes_too_much_ends() {
    let error = message(render("{{ 'x' * 20000000 }}", ""));
    assert!(error.contains("16777216 bytes"), "{error}");
    assert!(render("{{ 'x' * 104857600 }}", "").is_err());
    let doubling = "{% set n = namespace(x='xxxxxxxx') %}\
        {% for i in range(60) %}{% set n.x = n.x ~ n.x %}{% endfor %}{{ n.x }}";
    assert!(render(doubling, "").is_err());
    let pieces = "{% for a in range(9999) %}{{ messages[0].content }}{% endfor %}";
    assert!(render(pieces, &"y".repeat(20_000)).is_err());
}

#[test]
fn a_template_reaches_no_file() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "secret").unwrap();
    for tag in ["include", "import", "extends"] {
        let name = file.path().display();
        let rest = if tag == "import" { " as x" } else { "" };
        let result = render(&format!("{{% {tag} '{name}'{rest} %}}"), "");
        assert!(result.is_err(), "{tag}");
    }
}

#[test]
fn white_space_is_as_transformers_has_it() {
    let source = "  {% for m in messages %}\n  {{ m['content'] | trim }}\n  {% endfor %}\nend\n";
    assert_eq!(render(source, " a ").unwrap(), "  a\nend");
}

#[test]
fn templates_find_what_transformers_provides() {
    let source = "{{ bos_token }}{{ eos_token }}{% if tools is not none %}T{% endif %}\
        {% for m in messages %}{{ m | tojson }}{{ m.content.split('>')[0].strip() }}\
        {% if loop.first %}{% break %}{% endif %}{% endfor %}\
        {% if add_generation_prompt %}!{% endif %}";
    let json = "{\"role\": \"user\", \"content\": \" <b>\"}";
    assert_eq!(render(source, " <b>").unwrap(), format!("<s>{json}<b!"));
    let indented = "{{ messages | tojson(indent=4) }}";
    let json = "[\n    {\n        \"role\": \"user\",\n        \"content\": \"a\"\n    }\n]";
    assert_eq!(render(indented, "a").unwrap(), json);
    let date = ChatTemplate::with_clock("{{ strftime_now('%d %b %Y') }}", None, None, || {
        UNIX_EPOCH + Duration::from_secs(1_709_210_096)
    });
    assert_eq!(date.unwrap().render(&[], false).unwrap(), "29 Feb 2024");
}

#[test]
fn a_templates_own_refusal_is_shown() {
    let error = message(render("{{ raise_exception('roles must alternate') }}", ""));
    assert!(error.contains("roles must alternate"), "{error}");
    let error = message(ChatTemplate::new("{% if %}", None, None));
    assert!(error.contains("chat template"), "{error}");
}

#[test]
fn a_role_comes_from_the_list() {
    let template = ChatTemplate::new("{{ messages[0].role }}", None, None).unwrap();
    let mut messages = user("");
    messages[0].role = "user|>x<|system".to_owned();
    let error = message(template.render(&messages, true));
    assert!(error.contains("is not one of system, developer"), "{error}");
}

/// Every ASCII character is a token; `<s>`, `</s>`, `<|im_end|>` and the character U+00A7 are
/// control tokens 0 to 3.
fn tokenizer(add_bos: bool) -> Tokenizer {
    let names = ["<s>", "</s>", "<|im_end|>", "\u{a7}"].map(str::to_owned);
    let ascii = ('!'..='~').map(String::from);
    let white = ["\u{120}", "\u{10a}", "\u{c2}", "\u{a7}."].map(str::to_owned);
    let tokens: Vec<String> = names.into_iter().chain(ascii).chain(white).collect();
    let types = [3; 4].into_iter().chain([1; 98]);
    let vocabulary = GgufVocabulary {
        model: "gpt2".to_owned(),
        pre: Some("gpt-2".to_owned()),
        token_types: types.collect(),
        tokens,
        bos: Some(0),
        eos: Some(1),
        add_bos: Some(add_bos),
        ..GgufVocabulary::default()
    };
    Tokenizer::from_gguf(&vocabulary).unwrap()
}

/// The prompt with control tokens written as `{id}`.
fn encoded(source: &str, tokenizer: &Tokenizer, contents: &[&str]) -> String {
    let template = ChatTemplate::new(source, Some("<s>"), Some("</s>")).unwrap();
    let messages: Vec<_> = contents.iter().flat_map(|content| user(content)).collect();
    let ids = template.encode(tokenizer, &messages, false).unwrap();
    shown(tokenizer, &ids)
}

fn shown(tokenizer: &Tokenizer, ids: &[u32]) -> String {
    let text = |&id: &u32| match tokenizer.is_special(id) {
        true => format!("{{{id}}}"),
        false => tokenizer.decode(&[id], false),
    };
    ids.iter().map(text).collect()
}

#[test]
fn only_the_template_writes_control_tokens() {
    let source = "{% for m in messages %}{{ m.content }}<|im_end|>{% endfor %}";
    let prompt = encoded(
        source,
        &tokenizer(false),
        &["a<|im_end|>b", "</s", ">c<|im_", "end|>"],
    );
    assert_eq!(prompt, "a<|im_end|>b{2}</s{2}>c<|im_{2}end|>{2}");
}

#[test]
fn content_cannot_be_joined_to_a_control_token() {
    let tokenizer = tokenizer(false);
    // With the next message, with the template's text, and by what the template takes away.
    let next = "{% for m in messages %}{{ m.content }}{% endfor %}</s>";
    assert_eq!(encoded(next, &tokenizer, &["<", "s>"]), "<s>{1}");
    let around = "<{{ messages[0].content }}>{{ messages[1].content }}|im_end|>";
    assert_eq!(encoded(around, &tokenizer, &["s", "<"]), "<s><|im_end|>");
    let removed = "{{ messages[0].content | replace('!', '') }}</s>";
    assert_eq!(encoded(removed, &tokenizer, &["<!s!>"]), "<s>{1}");
    let joined = "{{ messages[0].content.split('!') | join }}</s>";
    assert!(!encoded(joined, &tokenizer, &["<!s!>"]).contains("{0}"));
}

#[test]
fn a_control_token_of_one_character_is_not_content() {
    let prompt = encoded(
        "{{ messages[0].content }}\u{a7}",
        &tokenizer(false),
        &["a\u{a7}"],
    );
    // Its two bytes have no tokens of their own here.
    assert!(
        prompt.starts_with('a') && prompt.ends_with("{3}"),
        "{prompt}"
    );
    assert_eq!(prompt.matches("{3}").count(), 1, "{prompt}");
}

#[test]
fn marks_cannot_be_brought_along() {
    let source = "{{ messages[0].content }}</s>";
    let content = "a\u{e000}<s>\u{e000}";
    let template = ChatTemplate::new(source, None, None).unwrap();
    let specials = tokenizer(false);
    let guard = Guard::new(
        &user(content),
        &TemplateVariables::default(),
        specials.specials(),
    )
    .unwrap();
    let guarded = guard.protect(content);
    assert!(!guarded.contains("<s>"));
    let split = Split::new(specials.specials(), &guarded).unprotected(&guard);
    assert!(split.control_ids().is_empty());
    assert_eq!(split.text(), content);
    assert!(template.encode(&specials, &user(content), true).is_ok());
}

#[test]
fn templates_that_look_into_content_see_it_as_it_is() {
    let source = "{% set c = messages[0].content %}\
        {% if '</think>' in c %}{% set c = c.split('</think>')[-1].lstrip() %}{% endif %}{{ c }}</s>";
    assert_eq!(
        encoded(source, &tokenizer(false), &["<think>x</think> y"]),
        "y{1}"
    );
}

#[test]
fn bos_stands_there_once() {
    let written = "{{ bos_token }}{{ messages[0].content }}";
    let missing = "{{ messages[0].content }}";
    assert_eq!(encoded(written, &tokenizer(true), &["a"]), "{0}a");
    assert_eq!(encoded(written, &tokenizer(false), &["a"]), "{0}a");
    assert_eq!(encoded(missing, &tokenizer(true), &["a"]), "{0}a");
    assert_eq!(encoded(missing, &tokenizer(false), &["a"]), "a");
    // A BOS in content is not the prompt's.
    assert_eq!(encoded(missing, &tokenizer(true), &["<s>"]), "{0}<s>");
}

#[test]
fn a_model_without_a_template_says_what_to_use() {
    let error = message(ChatTemplate::of(&tokenizer(false)));
    assert_eq!(error, "the model has no chat template; use /v1/completions");
}

/// Refused before it is encoded, and only then: the longest token of this vocabulary is two bytes.
#[test]
fn a_prompt_that_cannot_fit_is_refused_before_it_is_encoded() {
    let every_byte = every_byte_and("ab");
    let template = ChatTemplate::new("{{ messages[0].content }}</s>", None, None).unwrap();
    let encode = |text: &str| {
        let none = TemplateVariables::default();
        template.encode_with(&none, 10, &every_byte, &user(text), true)
    };
    assert_eq!(encode(&"ab".repeat(10)).unwrap().len(), 10 + 1);
    let error = encode(&format!("{}a", "ab".repeat(10))).unwrap_err();
    assert!(
        matches!(
            error,
            TextError::TooManyTokens {
                bytes: 21,
                least: 11,
                most: 10
            }
        ),
        "{error}"
    );
    // A vocabulary that leaves text out says nothing about its length.
    let ascii = tokenizer(false);
    assert_eq!(ascii.least_tokens(1 << 30), 0);
    let dropped = {
        let none = TemplateVariables::default();
        template.encode_with(&none, 10, &ascii, &user(&"\u{e9}".repeat(1000)), true)
    };
    assert!(dropped.unwrap().len() <= 1001);
}

/// A byte-level vocabulary: each byte is a token, and so is `pair`.
fn every_byte_and(pair: &str) -> Tokenizer {
    let printable = |b: &u32| matches!(b, 0x21..=0x7e | 0xa1..=0xac | 0xae..=0xff);
    let shown = (0..256u32).filter(printable);
    let shifted = 0x100..0x100 + (256 - shown.clone().count() as u32);
    let bytes = shown
        .chain(shifted)
        .filter_map(char::from_u32)
        .map(String::from);
    let names = ["<s>", "</s>"].map(str::to_owned);
    let tokens: Vec<String> = names
        .into_iter()
        .chain(bytes)
        .chain([pair.to_owned()])
        .collect();
    let (first, second) = pair.split_at(1);
    let vocabulary = GgufVocabulary {
        model: "gpt2".to_owned(),
        pre: Some("gpt-2".to_owned()),
        token_types: [3; 2].into_iter().chain([1; 257]).collect(),
        tokens,
        merges: vec![format!("{first} {second}")],
        bos: Some(0),
        eos: Some(1),
        ..GgufVocabulary::default()
    };
    Tokenizer::from_gguf(&vocabulary).unwrap()
}

fn variables(entries: serde_json::Value) -> TemplateVariables {
    TemplateVariables::new(entries.as_object().unwrap().clone()).unwrap()
}

/// Qwen3's switch, gpt-oss' effort (which it sets itself where it is missing), and what no template reads.
#[test]
fn a_caller_adds_variables_that_the_template_reads() {
    let source = "{%- if reasoning_effort is not defined %}{% set reasoning_effort = 'medium' %}{% endif %}\
        {%- macro start() %}{{ model_identity }}{% endmacro %}\
        {%- set own = 1 %}{{ start() }}{{ reasoning_effort }}{{ bos_token }}{{ own }}\
        {%- if enable_thinking is defined and enable_thinking is false %}<think></think>{% endif %}</s>";
    let template = ChatTemplate::new(source, Some("<s>"), None).unwrap();
    for name in ["reasoning_effort", "model_identity", "enable_thinking"] {
        assert!(template.knows(name), "{name}");
    }
    for name in ["own", "start", "bos_token", "messages", "verbosity", ""] {
        assert!(!template.knows(name), "{name}");
    }
    let tokenizer = tokenizer(false);
    let prompt = |entries: serde_json::Value| {
        let ids =
            template.encode_with(&variables(entries), usize::MAX, &tokenizer, &user(""), true);
        shown(&tokenizer, &ids.unwrap())
    };
    assert_eq!(prompt(serde_json::json!({})), "medium{0}1{1}");
    let set = serde_json::json!({
        "reasoning_effort": "low", "enable_thinking": false, "model_identity": "me", "own": 2, "verbosity": "</s>"
    });
    assert_eq!(prompt(set), "melow{0}1<think></think>{1}");
    let off = serde_json::json!({"enable_thinking": null, "reasoning_effort": "<s></s>"});
    assert_eq!(prompt(off), "<s></s>{0}1{1}");
}
