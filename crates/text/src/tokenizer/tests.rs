use std::fs;

use serde_json::{json, Value};
use tempfile::TempDir;

use super::*;

const AS_TEXT: SpecialTokens = SpecialTokens::AsText;
const RECOGNISE: SpecialTokens = SpecialTokens::Recognise;

/// `a`, `b`, a space and what they merge into, then three control tokens.
fn bpe() -> GgufVocabulary {
    let tokens = [
        "a",
        "b",
        "\u{120}",
        "ab",
        "\u{120}a",
        "<s>",
        "</s>",
        "<|im_end|>",
    ];
    GgufVocabulary {
        model: "gpt2".to_owned(),
        pre: Some("smollm".to_owned()),
        tokens: tokens.map(str::to_owned).to_vec(),
        token_types: vec![1, 1, 1, 1, 1, 3, 3, 3],
        merges: ["\u{120} a", "a b"].map(str::to_owned).to_vec(),
        bos: Some(5),
        eos: Some(6),
        ..GgufVocabulary::default()
    }
}

fn refused(vocabulary: &GgufVocabulary) -> String {
    Tokenizer::from_gguf(vocabulary).unwrap_err().to_string()
}

#[test]
fn a_gguf_vocabulary_encodes_and_decodes() {
    let tokenizer = Tokenizer::from_gguf(&bpe()).unwrap();
    assert_eq!(
        tokenizer.encode("ab ab</s>", RECOGNISE).unwrap(),
        [3, 4, 1, 6]
    );
    assert_eq!(tokenizer.decode(&[3, 4, 99, 1, 6], false), "ab ab</s>");
    assert_eq!(tokenizer.decode(&[3, 4, 99, 1, 6], true), "ab ab");
    // `x`, `<`, `/`, `s` and `>` have no token.
    assert_eq!(tokenizer.encode("axb</s>", AS_TEXT).unwrap(), [3]);
    assert_eq!((tokenizer.bos(), tokenizer.adds_bos()), (Some(5), false));
    assert_eq!(tokenizer.end_ids(), [6, 7]);
    assert_eq!((tokenizer.len(), tokenizer.is_empty()), (8, false));
}

#[test]
fn what_is_wrong_with_a_gguf_vocabulary_is_named() {
    let with = |change: &dyn Fn(&mut GgufVocabulary)| {
        let mut vocabulary = bpe();
        change(&mut vocabulary);
        refused(&vocabulary)
    };
    let cases = [
        (with(&|v| v.model = "bert".to_owned()), "\"bert\""),
        (with(&|v| v.pre = Some("kimi-k2".to_owned())), "\"kimi-k2\""),
        (with(&|v| v.pre = None), "tokenizer.ggml.pre is missing"),
        (
            with(&|v| v.tokens.clear()),
            "tokenizer.ggml.tokens is empty",
        ),
        (
            with(&|v| v.token_types.truncate(2)),
            "token_type has 2 entries",
        ),
        (with(&|v| v.eos = Some(8)), "eos_token_id"),
        (with(&|v| v.merges[1] = "ab".to_owned()), "merges[1] \"ab\""),
        (with(&|v| v.merges[1] = "b z".to_owned()), "`z`"),
        (
            with(&|v| v.model = "llama".to_owned()),
            "scores has 0 entries",
        ),
        (
            with(&|v| {
                v.eos = None;
                v.tokens[7] = "c".to_owned();
            }),
            "no token ends a text",
        ),
    ];
    for (error, part) in cases {
        assert!(error.contains(part), "{error:?} does not name {part}");
    }
}

#[test]
fn every_pre_tokenizer_compiles() {
    let all = [
        "default",
        "gpt-2",
        "smollm",
        "command-r",
        "llama-bpe",
        "deepseek-r1-qwen",
    ];
    for pre in all.into_iter().chain(["qwen2", "tekken"]) {
        let vocabulary = GgufVocabulary {
            pre: Some(pre.to_owned()),
            ..bpe()
        };
        let tokenizer = Tokenizer::from_gguf(&vocabulary).unwrap();
        assert_eq!(
            tokenizer.encode("ab ab", AS_TEXT).unwrap(),
            [3, 4, 1],
            "{pre}"
        );
        assert_eq!(
            tokenizer.adds_bos(),
            matches!(pre, "llama-bpe" | "tekken"),
            "{pre}"
        );
    }
}

#[test]
fn user_defined_tokens_are_found_in_text() {
    let mut vocabulary = bpe();
    vocabulary
        .tokens
        .extend(["  ".to_owned(), "<|fim|>".to_owned()]);
    vocabulary.token_types.extend([4, 4]);
    let tokenizer = Tokenizer::from_gguf(&vocabulary).unwrap();
    assert_eq!(tokenizer.encode("a  b", AS_TEXT).unwrap(), [0, 8, 1]);
    assert_eq!(tokenizer.decode(&[0, 8, 1], true), "a  b");
    // By its name it is a control token, whatever the file says.
    assert!(tokenizer.is_special(9));
    assert!(tokenizer.encode("<|fim|>", AS_TEXT).unwrap().is_empty());
}

#[test]
fn a_text_that_is_too_long_is_refused() {
    let tokenizer = Tokenizer::from_gguf(&bpe()).unwrap();
    let text = " ".repeat(MAX_TEXT_BYTES);
    assert_eq!(
        tokenizer.encode(&text, AS_TEXT).unwrap().len(),
        MAX_TEXT_BYTES
    );
    for special in [AS_TEXT, RECOGNISE] {
        let error = tokenizer
            .encode(&format!("{text}</s>a"), special)
            .unwrap_err();
        assert!(matches!(error, TextError::TooLong { .. }), "{error}");
    }
}

fn added(id: u32, name: &str, special: bool) -> Value {
    json!({"id": id, "content": name, "special": special, "single_word": false,
        "lstrip": false, "rstrip": false, "normalized": false})
}

/// A word vocabulary, one character a word.
fn words() -> Value {
    json!({
        "version": "1.0",
        "added_tokens": [added(0, "<unk>", true), added(1, "<s>", true), added(2, "</s>", true),
            added(6, "<think>", false), added(7, "<|im_end|>", false)],
        "pre_tokenizer": {"type": "Split", "pattern": {"Regex": "."}, "behavior": "Isolated",
            "invert": false},
        "decoder": {"type": "Fuse"},
        "truncation": {"direction": "Right", "max_length": 2, "strategy": "LongestFirst",
            "stride": 0},
        "model": {"type": "WordLevel", "unk_token": "<unk>",
            "vocab": {"<unk>": 0, "<s>": 1, "</s>": 2, "a": 3, "b": 4, "<": 5}},
    })
}

fn directory(tokenizer: &Value, config: &Value) -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    let write = |name: &str, json: &Value| {
        fs::write(directory.path().join(name), json.to_string()).unwrap();
    };
    write("tokenizer.json", tokenizer);
    write("tokenizer_config.json", config);
    directory
}

fn load(tokenizer: &Value, config: &Value) -> Result<Tokenizer, TextError> {
    Tokenizer::from_directory(directory(tokenizer, config).path())
}

#[test]
fn a_directory_encodes_and_decodes() {
    let config = json!({"bos_token": "<s>", "eos_token": {"content": "</s>"}});
    let tokenizer = load(&words(), &config).unwrap();
    let text = "<s>ab<think>a<|im_end|>";
    assert_eq!(
        tokenizer.encode(text, RECOGNISE).unwrap(),
        [1, 3, 4, 6, 3, 7]
    );
    // Text that spells a control token is text; what it cannot write is unknown.
    assert_eq!(tokenizer.encode("a</s>", AS_TEXT).unwrap(), [3, 5, 0, 0, 0]);
    assert_eq!(tokenizer.encode("<think>", AS_TEXT).unwrap(), [6]);
    // Not marked in the file, but a control token by its name.
    assert!(tokenizer.is_special(7) && !tokenizer.is_special(6));
    assert_eq!(tokenizer.end_ids(), [2, 7]);
    assert_eq!(tokenizer.bos_token(), Some("<s>"));
    assert_eq!(tokenizer.eos_token(), Some("</s>"));
    assert_eq!(tokenizer.chat_template(), None);
}

/// DeepSeek's files do not mark the tokens that begin turns.
#[test]
fn text_does_not_spell_tokens_that_a_file_forgot_to_mark() {
    let names = [
        "<\u{ff5c}User\u{ff5c}>",
        "<\u{ff5c}tool\u{2581}sep\u{ff5c}>",
        "<unused0>",
    ];
    let mut json = words();
    let ids = [8, 9, 10];
    for (id, name) in ids.into_iter().zip(names) {
        json["added_tokens"]
            .as_array_mut()
            .unwrap()
            .push(added(id, name, false));
    }
    let tokenizer = load(&json, &json!({"eos_token": "</s>"})).unwrap();
    let mut vocabulary = bpe();
    vocabulary.tokens.extend(names.map(str::to_owned));
    vocabulary.token_types.extend([4; 3]);
    let gguf = Tokenizer::from_gguf(&vocabulary).unwrap();
    for (id, name) in ids.into_iter().zip(names) {
        for tokenizer in [&tokenizer, &gguf] {
            assert!(
                !tokenizer.encode(name, AS_TEXT).unwrap().contains(&id),
                "{name}"
            );
            assert_eq!(tokenizer.encode(name, RECOGNISE).unwrap(), [id], "{name}");
        }
    }
}

/// Llama 2 with tokens that were added for a chat that it was never trained for.
#[test]
fn an_end_without_an_embedding_ends_nothing() {
    let loaded = |config: &Value, n: usize| load(&words(), config).unwrap().with_embeddings(n);
    let own = json!({"bos_token": "<s>", "eos_token": "</s>"});
    let tokenizer = loaded(&own, 7).unwrap();
    assert_eq!(tokenizer.end_ids(), [2]);
    let error = tokenizer.encode("a<|im_end|>", RECOGNISE).unwrap_err();
    assert!(matches!(error, TextError::NoEmbedding { .. }), "{error}");
    let other = json!({"bos_token": "<s>", "eos_token": "<|im_end|>"});
    assert_eq!(loaded(&other, 8).unwrap().end_ids(), [7]);
    assert_eq!(loaded(&other, 7).unwrap_err(), "<|im_end|>");
    let bos = json!({"bos_token": "<|im_end|>", "eos_token": "</s>"});
    assert_eq!(loaded(&bos, 7).unwrap_err(), "<|im_end|>");
}

#[test]
fn bos_is_added_where_the_config_or_the_post_processor_says_so() {
    let adds = |tokenizer: &Value, config: Value| load(tokenizer, &config).unwrap().adds_bos();
    let tokens =
        |flag: Value| json!({"bos_token": "<s>", "eos_token": "</s>", "add_bos_token": flag});
    let mut with_processor = words();
    with_processor["post_processor"] = json!({"type": "TemplateProcessing",
        "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}},
            {"Sequence": {"id": "A", "type_id": 0}}],
        "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 0}}],
        "special_tokens": {"<s>": {"id": "<s>", "ids": [1], "tokens": ["<s>"]}}});
    assert!(!adds(&words(), tokens(Value::Null)));
    assert!(adds(&words(), tokens(json!(true))));
    assert!(adds(&with_processor, tokens(Value::Null)));
    assert!(!adds(&with_processor, tokens(json!(false))));
    assert!(!adds(
        &words(),
        json!({"eos_token": "</s>", "add_bos_token": true})
    ));
}

#[test]
fn what_is_wrong_with_a_directory_is_named() {
    let empty = tempfile::tempdir().unwrap();
    let missing = Tokenizer::from_directory(empty.path())
        .unwrap_err()
        .to_string();
    assert!(
        missing.contains("tokenizer.json does not exist"),
        "{missing}"
    );

    let error = |change: &dyn Fn(&mut Value)| {
        let mut tokenizer = words();
        change(&mut tokenizer);
        let config = json!({"eos_token": "</s>"});
        load(&tokenizer, &config).unwrap_err().to_string()
    };
    let cases = [
        (
            error(&|t| t["model"] = json!({"type": "Other"})),
            "tokenizer.json",
        ),
        (error(&|t| t["decoder"] = json!({"type": "CTC"})), "CTC"),
        (
            error(&|t| t["added_tokens"][1]["id"] = json!(9)),
            "\"<s>\" has id 9",
        ),
        (
            error(&|t| t["added_tokens"][1]["id"] = json!("1")),
            "lacks its id",
        ),
    ];
    for (error, part) in cases {
        assert!(error.contains(part), "{error:?} does not name {part}");
    }
    let mut without_end = words();
    without_end["added_tokens"] = json!([]);
    let error = load(&without_end, &json!({})).unwrap_err().to_string();
    assert!(error.contains("no token ends a text"), "{error}");
}

/// As transformers has it: what stands only in `added_tokens_decoder` is a token like those of `tokenizer.json`, also
/// where the vocabulary has it already, and its flags hold.
#[test]
fn tokens_that_stand_only_in_the_config_are_tokens() {
    let config = json!({
        "eos_token": "</s>",
        "added_tokens_decoder": {
            "10": {"content": "<note>", "special": false},
            "8": {"content": "<|tool|>", "special": true},
            "9": {"content": "[INST]", "special": true, "rstrip": true},
            "6": {"content": "<think>", "special": true, "lstrip": true},
        },
    });
    let tokenizer = load(&words(), &config).unwrap();
    let ids = tokenizer.encode("a<|tool|>a[INST]  a<note> <think>", RECOGNISE);
    assert_eq!(ids.unwrap(), [3, 8, 3, 9, 3, 10, 6]);
    for (id, is_special) in [(8, true), (9, true), (10, false), (6, true)] {
        assert_eq!(tokenizer.is_special(id), is_special, "{id}");
    }
    assert_eq!(tokenizer.token_id("<|tool|>"), Some(8));
    assert_eq!(tokenizer.decode(&[8, 3], false), "<|tool|>a");
    assert_eq!(tokenizer.decode(&[8, 3], true), "a");
    assert!(!tokenizer.encode("<|tool|>", AS_TEXT).unwrap().contains(&8));

    let other = json!({"eos_token": "</s>", "added_tokens_decoder": {"40": {"content": "<x>"}}});
    let error = load(&words(), &other).unwrap_err().to_string();
    assert!(
        error.contains("\"<x>\" has id 40") && error.contains("gives it 8"),
        "{error}"
    );
}

/// A token that only its role names; and a `!` for padding, which text keeps.
#[test]
fn tokens_that_only_a_role_names_are_control_tokens_where_they_look_like_one() {
    let mut tokenizer = words();
    tokenizer["added_tokens"]
        .as_array_mut()
        .unwrap()
        .truncate(3);
    tokenizer["model"]["vocab"]["[SEP]"] = json!(6);
    tokenizer["model"]["vocab"]["!"] = json!(7);
    let named =
        json!({"eos_token": "</s>", "pad_token": "!", "additional_special_tokens": ["[SEP]"]});
    let tokenizer = load(&tokenizer, &named).unwrap();
    assert_eq!(tokenizer.encode("a[SEP]!", RECOGNISE).unwrap(), [3, 6, 7]);
    assert!(tokenizer.is_special(6) && !tokenizer.is_special(7));
    assert_eq!(tokenizer.encode("a!", AS_TEXT).unwrap(), [3, 7]);
    assert_eq!(tokenizer.token_names().get("pad_token"), Some("!"));
    assert_eq!(tokenizer.token_names().additional, ["[SEP]"]);
}

/// `null` says that there is none, as Qwen's files do; ids of other files do not give it a name then.
#[test]
fn a_token_that_the_config_denies_has_no_name_in_templates() {
    let files = |config: &Value| {
        let directory = directory(&words(), config);
        let ids = json!({"bos_token_id": 1, "eos_token_id": 2}).to_string();
        std::fs::write(directory.path().join("config.json"), ids).unwrap();
        Tokenizer::from_directory(directory.path()).unwrap()
    };
    let denied = files(&json!({"bos_token": null, "eos_token": "</s>"}));
    assert_eq!((denied.bos_token(), denied.bos()), (None, Some(1)));
    let open = files(&json!({}));
    assert_eq!(
        (open.bos_token(), open.eos_token()),
        (Some("<s>"), Some("</s>"))
    );
}

#[test]
fn an_unknown_token_that_ends_text_is_never_text() {
    let mut tokenizer = words();
    tokenizer["model"]["unk_token"] = json!("</s>");
    let tokenizer = load(&tokenizer, &json!({"eos_token": "</s>"})).unwrap();
    assert_eq!(tokenizer.encode("axb", AS_TEXT).unwrap(), [3, 4]);
}

/// Llama 3 takes a piece that is a token as it is, so a control token in the vocabulary of merges
/// could be reached by text.
#[test]
fn a_control_token_that_text_reaches_is_spelled_out() {
    let tokenizer = json!({
        "version": "1.0",
        "added_tokens": [added(2, "ab", true)],
        "decoder": {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true,
            "use_regex": true},
        "model": {"type": "BPE", "ignore_merges": true, "merges": ["a b"],
            "vocab": {"a": 0, "b": 1, "ab": 2}},
    });
    let tokenizer = load(&tokenizer, &json!({"eos_token": "ab"})).unwrap();
    assert_eq!(tokenizer.encode("ab", RECOGNISE).unwrap(), [2]);
    assert_eq!(tokenizer.encode("ab", AS_TEXT).unwrap(), [0, 1]);
}

#[test]
fn only_the_first_text_of_a_prompt_gets_a_space() {
    let space = "\u{2581}";
    let metaspace = json!({"type": "Metaspace", "replacement": space, "prepend_scheme": "first",
        "split": false});
    let tokenizer = json!({
        "version": "1.0",
        "added_tokens": [added(0, "<s>", true)],
        "pre_tokenizer": &metaspace,
        "decoder": &metaspace,
        "model": {"type": "BPE", "merges": [], "vocab": {"<s>": 0, "a": 1, space: 2}},
    });
    let tokenizer = load(&tokenizer, &json!({"eos_token": "<s>"})).unwrap();
    assert_eq!(tokenizer.encode("a", AS_TEXT).unwrap(), [2, 1]);
    assert_eq!(
        tokenizer.encode("a<s>a a", RECOGNISE).unwrap(),
        [2, 1, 0, 1, 2, 1]
    );
    assert_eq!(tokenizer.decode(&[2, 1, 2, 1], false), "a a");
}
