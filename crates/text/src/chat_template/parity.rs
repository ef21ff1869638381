//! Templates as Python's Jinja2 renders them: `tests/fixtures/templates`, whose `make.py` says how.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::Value as Json;

use super::*;

const NOW: u64 = 1_709_210_096;

fn now() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(NOW)
}

fn rendered(case: &Json) -> Result<String, TextError> {
    let mut names = TokenNames::default();
    for (name, token) in [
        ("bos_token", "<s>"),
        ("eos_token", "</s>"),
        ("unk_token", "<unk>"),
        ("pad_token", "[PAD]"),
    ] {
        names.name(name, Some(token));
    }
    let text = |json: &Json| json.as_str().unwrap().to_owned();
    let message = |json: &Json| ChatMessage {
        role: text(&json["role"]),
        content: text(&json["content"]),
    };
    let messages: Vec<ChatMessage> = case["messages"]
        .as_array()
        .unwrap()
        .iter()
        .map(message)
        .collect();
    let variables = TemplateVariables::new(case["variables"].as_object().unwrap().clone()).unwrap();
    let template = ChatTemplate::with_clock(case["template"].as_str().unwrap(), names, now)?;
    let conversation = Conversation {
        messages: &messages,
        variables: &variables,
        add_generation_prompt: case["add_generation_prompt"].as_bool().unwrap(),
    };
    template.render_from(&template.environment, &conversation, &Writing::default())
}

#[test]
fn templates_are_rendered_as_by_jinja2() {
    let file = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../tests/fixtures/templates/rendered.json"
    );
    let file: Json = serde_json::from_str(&std::fs::read_to_string(file).unwrap()).unwrap();
    assert_eq!(file["now_unix_s"], NOW);
    let cases = file["cases"].as_array().unwrap();
    assert!(cases.len() >= 85, "the file lost cases");
    for case in cases {
        let name = &case["name"];
        match (rendered(case), case["rendered"].as_str()) {
            (Ok(prompt), Some(want)) => assert_eq!(prompt, want, "{name}"),
            (Ok(prompt), None) => panic!("{name}: Jinja2 refuses what gives {prompt:?}"),
            (Err(error), want) => assert_eq!(want, None, "{name}: {error}"),
        }
    }
}
