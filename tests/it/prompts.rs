//! A model is trained on the rows that it reads while serving.

use std::path::Path;

use attune_text::chat_template::{ChatMessage, ChatTemplate};
use attune_text::tokenizer::Tokenizer;
use attune_train::dataset::{Pair, PairPrompt, Place, Source};
use attune_train::encode::Encoder;
use attune_train::pack::{Completion, Pack, PromptPrefix};
use serde_json::{json, Value};

use crate::support::runner::RowsRead;
use crate::support::{tiny_llama, Setup, TestServer};

/// T_u of the scripted version.
const SOFT_ROWS: usize = 2;
const PROFILE: &str = "Drinks tea.";

/// The tiny Llama's, whose template writes a BOS; it adds one by itself where `adds_bos`.
fn tokenizer(adds_bos: bool) -> Tokenizer {
    let directory = tempfile::tempdir().unwrap();
    let read = |name: &str| std::fs::read_to_string(tiny_llama().join(name)).unwrap();
    let config = read("tokenizer_config.json").replace(
        "\"add_bos_token\": false",
        &format!("\"add_bos_token\": {adds_bos}"),
    );
    for (name, text) in [
        ("tokenizer_config.json", config),
        ("tokenizer.json", read("tokenizer.json")),
    ] {
        std::fs::write(directory.path().join(name), text).unwrap();
    }
    let tokenizer = Tokenizer::from_directory(directory.path()).unwrap();
    assert_eq!(tokenizer.adds_bos(), adds_bos);
    tokenizer
}

/// What the model reads of a prompt before it answers alice.
async fn served(adds_bos: bool, path: &str, mut body: Value) -> Vec<Option<u32>> {
    let rows = RowsRead::default();
    let server = TestServer::with(Setup {
        promoted: true,
        tokenizer: Some(tokenizer(adds_bos)),
        rows_read: Some(rows.clone()),
        ..Setup::default()
    });
    let profile = json!({"profile": PROFILE});
    server.post("/v1/users/alice", &profile).await;
    body["model"] = json!("attune");
    body["user"] = json!("alice");
    body["max_tokens"] = json!(1);
    let reply = server.post(path, &body).await;
    assert_eq!(reply.status, 200, "{}", reply.text());
    let rows = rows.lock().unwrap();
    rows.clone()
}

/// What it reads in training before a response to the same prompt.
fn trained(adds_bos: bool, chat: bool, prompt: PairPrompt) -> Vec<Option<u32>> {
    let tokenizer = tokenizer(adds_bos);
    let template = chat.then(|| ChatTemplate::of(&tokenizer).unwrap());
    let encoder = Encoder::new(&tokenizer, template.as_ref(), 200, 250).unwrap();
    let pair = Pair {
        user: None,
        prompt,
        user_info: Some(PROFILE.to_owned()),
        chosen: "yes".to_owned(),
        rejected: "no".to_owned(),
        interaction: None,
        group: None,
        part: None,
        source: Source {
            file: Path::new("pairs.jsonl").into(),
            place: Place::Line(1),
        },
    };
    let encoded = encoder.encode(&pair).unwrap().unwrap();
    let prefix = PromptPrefix {
        bos: encoder.bos(),
        n_user_tokens: SOFT_ROWS,
    };
    let completion = Completion {
        user: Some(1),
        prompt: &encoded.prompt,
        response: &encoded.chosen,
        kept: None,
    };
    let pack = Pack::new(&[completion], prefix);
    let is_soft = |row| pack.shown_at.iter().any(|(soft, _)| *soft == row);
    let rows = pack.input.token_ids.iter().enumerate();
    let rows = rows.map(|(row, id)| (!is_soft(row)).then_some(*id));
    rows.take(prefix.beginning(&completion)).collect()
}

#[tokio::test]
async fn training_reads_the_rows_of_serving() {
    let turns = [
        ("system", "Be kind. </s>"),
        ("user", "hi <|end|>"),
        ("assistant", "ho"),
        ("user", "hu"),
    ];
    let message = |(role, content): (&str, &str)| ChatMessage {
        role: role.to_owned(),
        content: content.to_owned(),
    };
    let json_message = |(role, content)| json!({"role": role, "content": content});
    let messages = PairPrompt::Messages(turns.map(message).to_vec());
    for adds_bos in [false, true] {
        let soft_at = usize::from(adds_bos);
        let soft = soft_at..soft_at + SOFT_ROWS;

        let body = json!({"messages": turns.map(json_message)});
        let chat = served(adds_bos, "/v1/chat/completions", body).await;
        assert_eq!(chat, trained(adds_bos, true, messages.clone()));
        assert_eq!(chat[soft.clone()], [None; SOFT_ROWS], "{adds_bos}");

        let text = || "Once upon </s>".to_owned();
        let body = json!({"prompt": text()});
        let completion = served(adds_bos, "/v1/completions", body).await;
        assert_eq!(
            completion,
            trained(adds_bos, false, PairPrompt::Text(text()))
        );
        assert_eq!(completion[soft], [None; SOFT_ROWS], "{adds_bos}");
    }
}
