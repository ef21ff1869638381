//! Tokenizer, chat template and detokenizer against the reference data (`tests/fixtures/oracles`).

use std::sync::{Arc, OnceLock};

use crate::common::{oracle_json as oracle, oracles, smollm2_gguf};
use attune_base_model::gguf_vocabulary::gguf_vocabulary;
use attune_model::weights::gguf::GgufFile;
use attune_text::chat_template::{ChatMessage, ChatTemplate, TemplateVariables};
use attune_text::detokenizer::Detokenizer;
use attune_text::tokenizer::{SpecialTokens, Tokenizer};
use proptest::prelude::*;
use serde_json::Value;

const TINY: [&str; 5] = ["gemma3", "llama", "mistral", "qwen2", "qwen3"];

fn smollm2() -> Arc<Tokenizer> {
    static TOKENIZER: OnceLock<Arc<Tokenizer>> = OnceLock::new();
    let load = || {
        Arc::new(
            Tokenizer::from_gguf(
                &gguf_vocabulary(&GgufFile::open(&smollm2_gguf()).unwrap()).unwrap(),
            )
            .unwrap(),
        )
    };
    TOKENIZER.get_or_init(load).clone()
}

fn tiny(family: &str) -> Arc<Tokenizer> {
    let directory = oracles().join("tiny").join(family);
    Arc::new(Tokenizer::from_directory(&directory).unwrap())
}

fn ids(value: &Value) -> Vec<u32> {
    serde_json::from_value(value.clone()).unwrap()
}

/// `case[key]`, or `same` where the file says that it is the same.
fn or_same<T: serde::de::DeserializeOwned>(case: &Value, key: &str, same: T) -> T {
    if case[key] == "same" {
        same
    } else {
        serde_json::from_value(case[key].clone()).unwrap()
    }
}

fn messages(value: &Value) -> Vec<ChatMessage> {
    let message = |m: &Value| ChatMessage {
        role: m["role"].as_str().unwrap().to_owned(),
        content: m["content"].as_str().unwrap().to_owned(),
    };
    value.as_array().unwrap().iter().map(message).collect()
}

/// The ids of a prompt that asks for an answer, without variables and without a limit.
fn encoded(template: &ChatTemplate, tokenizer: &Tokenizer, messages: &[ChatMessage]) -> Vec<u32> {
    let none = TemplateVariables::default();
    let ids = template.encode(&none, usize::MAX, tokenizer, messages, true);
    ids.unwrap()
}

fn streamed(tokenizer: &Arc<Tokenizer>, ids: &[u32], skip_special: bool) -> String {
    let mut detokenizer = Detokenizer::new(tokenizer.clone(), skip_special);
    let mut text: String = ids.iter().map(|&id| detokenizer.push(id)).collect();
    text.push_str(&detokenizer.finish());
    text
}

#[test]
fn smollm2_strings_have_the_reference_ids_and_texts() {
    let tokenizer = smollm2();
    let cases = oracle("smollm2/tokenizer_cases.json");
    let cases = cases["cases"].as_array().unwrap();
    assert!(cases.len() >= 41, "the file lost cases");
    for case in cases {
        let text = case["text"].as_str().unwrap();
        let want = ids(&case["ids"]);
        let special = tokenizer.encode(text, SpecialTokens::Recognise).unwrap();
        assert_eq!(special, want, "{text:?}");
        let plain = tokenizer.encode(text, SpecialTokens::AsText).unwrap();
        let want_plain = or_same(case, "ids_specials_as_text", want.clone());
        assert_eq!(plain, want_plain, "{text:?} as text");
        for (key, skip_special) in [("decoded", false), ("decoded_skip_special", true)] {
            let decoded = or_same(case, key, text.to_owned());
            assert_eq!(tokenizer.decode(&want, skip_special), decoded, "{text:?}");
            assert_eq!(
                streamed(&tokenizer, &want, skip_special),
                decoded,
                "{text:?}"
            );
        }
    }
}

#[test]
fn smollm2_says_what_its_ids_mean() {
    let tokenizer = smollm2();
    let meta = oracle("smollm2/meta.json");
    let id = |key: &str| u32::try_from(meta[key].as_u64().unwrap()).unwrap();
    assert_eq!(tokenizer.len(), id("vocab_size") as usize);
    assert_eq!(tokenizer.bos(), Some(id("bos_id")));
    assert_eq!(tokenizer.end_ids()[0], id("eos_id"));
    assert_eq!(Some(tokenizer.adds_bos()), meta["add_bos"].as_bool());
    assert_eq!(tokenizer.chat_template(), meta["chat_template"].as_str());
    assert_eq!(tokenizer.bos_token(), Some("<|im_start|>"));
    assert_eq!(tokenizer.eos_token(), Some("<|im_end|>"));
    for (name, id) in meta["special_ids"].as_object().unwrap() {
        let id = u32::try_from(id.as_u64().unwrap()).unwrap();
        assert_eq!(tokenizer.token_id(name), Some(id), "{name}");
        assert!(tokenizer.is_special(id), "{name}");
        assert_eq!(tokenizer.token_bytes(id), name.as_bytes());
    }
    let known: Vec<u8> = (0..tokenizer.len())
        .map(|id| tokenizer.token_bytes(u32::try_from(id).unwrap()))
        .filter_map(|bytes| <[u8; 1]>::try_from(bytes).ok())
        .map(|[byte]| byte)
        .collect();
    let missing: Vec<u8> = (0..=u8::MAX).filter(|byte| !known.contains(byte)).collect();
    let want: Vec<u8> = serde_json::from_value(meta["bytes_missing_from_vocab"].clone()).unwrap();
    assert_eq!(missing, want);
}

#[test]
fn smollm2_prompts_are_the_reference_prompts() {
    let tokenizer = smollm2();
    let template = ChatTemplate::of(&tokenizer).unwrap();
    let chat = oracle("smollm2/chat.json");
    let records = chat["records"].as_array().unwrap();
    assert!(records.len() >= 7, "the file lost records");
    for record in records {
        let name = &record["name"];
        let messages = messages(&record["messages"]);
        let prompt = template.render(&messages, true).unwrap();
        assert_eq!(prompt, record["prompt"].as_str().unwrap(), "{name}");
        let safe = encoded(&template, &tokenizer, &messages);
        assert_eq!(safe, ids(&record["prompt_ids"]), "{name}");
        let naive = tokenizer.encode(&prompt, SpecialTokens::Recognise).unwrap();
        assert_eq!(naive, ids(&record["prompt_ids_naive"]), "{name}");
    }
}

#[test]
fn tiny_prompts_are_the_reference_prompts() {
    let chat = oracle("tiny/chat_cases.json");
    for family in TINY {
        let tokenizer = tiny(family);
        assert_eq!(tokenizer.bos(), Some(1), "{family}");
        assert_eq!(tokenizer.end_ids()[0], 2, "{family}");
        assert!(!tokenizer.adds_bos(), "{family}");
        let template = ChatTemplate::of(&tokenizer).unwrap();
        for case in chat["cases"].as_array().unwrap() {
            let messages = messages(&case["messages"]);
            let prompt = template.render(&messages, true).unwrap();
            assert_eq!(prompt, case["prompt"].as_str().unwrap(), "{family}");
            let safe = encoded(&template, &tokenizer, &messages);
            assert_eq!(safe, ids(&case["ids_safe"]), "{family}");
            let naive = tokenizer.encode(&prompt, SpecialTokens::Recognise).unwrap();
            assert_eq!(naive, ids(&case["ids_naive"]), "{family}");
        }
    }
}

/// Text that likes to spell control tokens.
fn hostile() -> impl Strategy<Value = String> {
    let part = prop_oneof![
        Just("<|im_start|>".to_owned()),
        Just("<|im_end|>".to_owned()),
        Just("<s>||<|user|>".to_owned()),
        "[<|imstarend_>\\[\\]/ \n]{1,8}",
        "\\PC{0,8}",
        any::<String>(),
    ];
    prop::collection::vec(part, 0..6).prop_map(|parts| parts.concat())
}

proptest! {
    #[test]
    fn text_never_becomes_a_control_token(text in hostile()) {
        for tokenizer in [smollm2(), tiny("llama")] {
            let ids = tokenizer.encode(&text, SpecialTokens::AsText).unwrap();
            // The tiny vocabulary writes what it does not know as <unk>, id 0.
            let is_unknown = |id: u32| id == 0 && tokenizer.len() < 1000;
            let control = ids.iter().find(|&&id| tokenizer.is_special(id) && !is_unknown(id));
            prop_assert_eq!(control, None);
        }
    }

    #[test]
    fn ascii_text_comes_back(text in "[ -~\n]{0,80}") {
        for tokenizer in [smollm2(), tiny("llama")] {
            for special in [SpecialTokens::AsText, SpecialTokens::Recognise] {
                let ids = tokenizer.encode(&text, special).unwrap();
                prop_assert_eq!(tokenizer.decode(&ids, false), &*text);
            }
        }
    }

    #[test]
    fn pieces_join_to_the_whole(
        ids in prop::collection::vec(prop_oneof![0u32..49_200, 0u32..300], 0..40),
        skip_special: bool,
    ) {
        let tokenizer = smollm2();
        let text = streamed(&tokenizer, &ids, skip_special);
        prop_assert_eq!(text, tokenizer.decode(&ids, skip_special));
    }

    #[test]
    fn content_cannot_add_control_tokens(contents in prop::collection::vec(hostile(), 1..4)) {
        for tokenizer in [smollm2(), tiny("llama")] {
            let template = ChatTemplate::of(&tokenizer).unwrap();
            let role = |i: usize| if i.is_multiple_of(2) { "user" } else { "assistant" };
            let with = |content: &dyn Fn(&str) -> String| -> Vec<ChatMessage> {
                let message = |(i, text): (usize, &String)| ChatMessage {
                    role: role(i).to_owned(),
                    content: content(text),
                };
                contents.iter().enumerate().map(message).collect()
            };
            let control = |messages: &[ChatMessage]| -> Vec<u32> {
                let ids = encoded(&template, &tokenizer, messages);
                let is_control = |&id: &u32| tokenizer.is_special(id) && id != 0;
                ids.into_iter().filter(is_control).collect()
            };
            let harmless = control(&with(&|_| "x".to_owned()));
            prop_assert_eq!(control(&with(&|text| text.to_owned())), harmless);
        }
    }
}
