//! What clients made for other servers send: honoured, refused by name, or named as ignored.

use attune::api::types::client_fields::{ClientField, Fate, Neutral, Place};
use attune::api::types::client_table::TABLE;
use attune::app::state::Limits;
use serde_json::{json, Value};

use crate::support::http::Reply;
use crate::support::{Setup, TestServer, CONTEXT};

const CHAT: &str = "/v1/chat/completions";
const COMPLETIONS: &str = "/v1/completions";
const IGNORED: &str = "x-attune-ignored";

/// As Qwen3's and gpt-oss's: it reads three variables.
const THINKING: &str = "{% for m in messages %}{{ '<|' + m.role + '|>\n' + m.content + '<|end|>\n' }}{% endfor %}\
    {% if reasoning_effort is defined %}{{ 'effort ' + reasoning_effort + '\n' }}{% endif %}\
    {% if verbosity is defined %}{{ 'verbosity ' + verbosity + '\n' }}{% endif %}\
    {% if add_generation_prompt %}{{ '<|assistant|>\n' }}\
    {% if enable_thinking is defined and enable_thinking is false %}{{ '<think>\n\n</think>\n\n' }}{% endif %}{% endif %}";

fn with(mut body: Value, extra: &Value) -> Value {
    let extra = extra.as_object().unwrap().clone();
    body.as_object_mut().unwrap().extend(extra);
    body
}

fn chat(extra: &Value) -> Value {
    let body = json!({"model": "attune", "temperature": 0, "messages": [{"role": "user", "content": "hi"}]});
    with(body, extra)
}

fn completion(extra: &Value) -> Value {
    with(
        json!({"model": "attune", "temperature": 0, "prompt": "a"}),
        extra,
    )
}

fn ignored(reply: &Reply) -> Vec<String> {
    let value = reply.headers.get(IGNORED).map(|v| v.to_str().unwrap());
    let names = value.into_iter().flat_map(|v| v.split(", "));
    names.map(str::to_owned).collect()
}

fn thinking() -> TestServer {
    TestServer::with(Setup {
        template_source: Some(THINKING),
        ..Setup::default()
    })
}

fn strict() -> TestServer {
    TestServer::with(Setup {
        limits: Limits {
            strict: true,
            ..Limits::default()
        },
        ..Setup::default()
    })
}

/// Asks both ways; says what was named as ignored.
async fn answered(server: &TestServer, path: &str, body: &Value) -> Vec<String> {
    let whole = server.post(path, body).await;
    assert_eq!(whole.status, 200, "{body}: {}", whole.text());
    let streamed = server
        .post(path, &with(body.clone(), &json!({"stream": true})))
        .await;
    assert_eq!(streamed.status, 200, "{body}: {}", streamed.text());
    assert_eq!(streamed.events().pop().as_deref(), Some("[DONE]"));
    assert_eq!(ignored(&whole), ignored(&streamed), "{body}");
    ignored(&whole)
}

#[tokio::test]
async fn what_asks_for_nothing_changes_nothing() {
    let server = TestServer::new();
    let plain = server.chat(&chat(&json!({}))).await;
    for extra in [
        json!({"stop": []}),
        json!({"stop": ""}),
        json!({"stop": [""]}),
        json!({"user": ""}),
        json!({"user": " \t", "safety_identifier": ""}),
        json!({"logprobs": false, "top_logprobs": 0}),
        json!({"top_logprobs": 0}),
        json!({"stop_token_ids": [], "skip_special_tokens": true}),
        json!({"messages": [{"role": "user", "content": "hi", "tool_calls": null, "refusal": null, "audio": null}]}),
        json!({"typical_p": 1.0, "tfs_z": 1, "mirostat": 0, "dynatemp_range": 0.0, "xtc_probability": 0, "dry_multiplier": 0,
            "repeat_last_n": 64, "repeat_penalty": 1.0, "grammar": "", "samplers": null, "top_n_sigma": -1}),
        json!({"use_beam_search": false, "length_penalty": 1.0, "best_of": 1, "add_generation_prompt": true,
            "continue_final_message": false, "echo": false, "include_stop_str_in_output": false, "prompt_logprobs": null}),
        json!({"format": "", "raw": false, "template": "", "system": "", "images": [], "options": {}}),
        json!({"options": {"temperature": 0, "top_k": 40, "top_p": 1, "min_p": 0, "typical_p": 1.0, "repeat_penalty": 1,
            "mirostat": 0, "num_predict": 11, "stop": [], "repeat_last_n": -1, "penalize_newline": true}}),
        json!({"repeat_last_n": -1, "repeat_penalty": 1.5}),
        json!({"max_tokens": 11, "n_predict": 11, "options": {"num_predict": 11.0}}),
        json!({"chat_template_kwargs": {}}),
        json!({"logit_bias": [], "stop_sequences": []}),
        json!({"typ_p": 1, "samplers": [], "thinking_budget_tokens": -1, "reasoning_budget_tokens": -1}),
        json!({"penalize_nl": false, "options": {"penalize_newline": false, "repeat_penalty": 1}}),
        json!({"penalize_nl": true, "repeat_penalty": 1.5, "repeat_last_n": -1}),
        json!({"stop": ["X"], "stop_sequences": []}),
        json!({"stop": "", "options": {"stop": ["X"]}}),
        json!({"max_tokens": 11, "n_predict": -1}),
        json!({"max_tokens": -1, "options": {"num_predict": 11}}),
        json!({"max_tokens": 11, "options": {"num_predict": -2}}),
        json!({"seed": 7, "options": {"seed": -1}}),
        json!({"stop": vec!["X"; 16]}),
        json!({"stop_sequences": vec!["X"; 16]}),
        json!({"options": {"stop": vec!["X"; 16]}}),
    ] {
        let body = chat(&extra);
        assert_eq!(answered(&server, CHAT, &body).await, [""; 0], "{extra}");
        let answer = server.chat(&body).await;
        for field in ["choices", "usage"] {
            assert_eq!(answer[field], plain[field], "{extra}");
        }
    }
    let plain = server
        .post(COMPLETIONS, &completion(&json!({})))
        .await
        .json();
    for extra in [
        json!({"suffix": "", "stop": "", "user": "", "logprobs": false, "best_of": 1}),
        json!({"max_completion_tokens": 16, "options": {"num_predict": 16}, "add_special_tokens": true}),
        json!({"n_predict": 16, "repeat_penalty": 1, "typical_p": 1, "raw": false, "system": "", "context": []}),
    ] {
        let body = completion(&extra);
        assert_eq!(answered(&server, COMPLETIONS, &body).await, [""; 0]);
        let answer = server.post(COMPLETIONS, &body).await.json();
        assert_eq!(answer["choices"], plain["choices"], "{extra}");
    }
}

/// Chats, and what is named of them.
#[rustfmt::skip]
fn without_effect() -> Vec<(Value, &'static str)> {
    let message = |extra: Value| {
        let replayed = with(json!({"role": "assistant", "content": "yo"}), &extra);
        json!({"messages": [{"role": "user", "content": "hi"}, replayed, {"role": "user", "content": "hi"}]})
    };
    let part = json!([{"type": "text", "text": "hi", "cache_control": {"type": "ephemeral"}}]);
    vec![
        (json!({"cache_prompt": true}), "cache_prompt"),
        (json!({"keep_alive": "5m", "id_slot": 0}), "id_slot, keep_alive"),
        (json!({"keep_alive": -1, "timings_per_token": true, "return_progress": true}), "keep_alive, return_progress, timings_per_token"),
        (json!({"reasoning_effort": "low"}), "reasoning_effort"),
        (json!({"verbosity": "high", "reasoning_effort": "none"}), "reasoning_effort, verbosity"),
        (json!({"chat_template_kwargs": {"enable_thinking": false}}), "chat_template_kwargs"),
        (json!({"enable_thinking": true}), "enable_thinking"),
        (json!({"think": false}), "enable_thinking"),
        (json!({"think": "low", "thinking": {"type": "enabled"}}), "enable_thinking, reasoning_effort"),
        (json!({"options": {"num_ctx": 8192, "num_thread": 4, "mirostat_tau": 5.0}}), "mirostat_tau, num_ctx, num_thread"),
        (json!({"priority": 3, "service_tier": "auto", "prompt_cache_key": "k"}), "priority, prompt_cache_key, service_tier"),
        (json!({"prediction": {"type": "content", "content": "x"}}), "prediction"),
        (json!({"xtc_threshold": 0.1, "xtc_probability": 0}), "xtc_threshold"),
        (json!({"messages": [{"role": "user", "content": "hi", "name": "al"}]}), "messages[].name"),
        (json!({"messages": [{"role": "user", "content": part}]}), "messages[].content[].cache_control"),
        (message(json!({"reasoning_content": "hm", "provider_specific_fields": {"a": 1}})), "messages[].provider_specific_fields, messages[].reasoning_content"),
        (message(json!({"refusal": null, "annotations": [], "audio": null, "function_call": null, "tool_calls": null})), "messages[].annotations"),
        (message(json!({"tool_calls": [], "refusal": ""})), ""),
        (message(json!({"content": null, "reasoning_content": "hm"})), "messages[].reasoning_content"),
        (message(json!({"content": []})), ""),
        (json!({"sse_ping_interval": 30, "reasoning_control": true, "backend_sampling": false, "timings_per_token": true}),
            "backend_sampling, reasoning_control, sse_ping_interval, timings_per_token"),
        // Here the penalty looks at all of it.
        (json!({"repeat_penalty": 1.1}), "repeat_last_n"),
        (json!({"options": {"repeat_penalty": 1.1}}), "repeat_last_n"),
        (json!({"repeat_penalty": 1.1, "repeat_last_n": 64}), "repeat_last_n"),
        (json!({"repetition_penalty": 1.1, "repeat_last_n": 64}), "repeat_last_n"),
        (json!({"repetition_penalty": 1.1}), ""),
    ]
}

#[tokio::test]
async fn what_cannot_change_an_answer_is_named() {
    let server = TestServer::new();
    for (extra, names) in without_effect() {
        let names: Vec<&str> = names.split(", ").filter(|n| !n.is_empty()).collect();
        assert_eq!(
            answered(&server, CHAT, &chat(&extra)).await,
            names,
            "{extra}"
        );
    }
    for (extra, names) in [
        (
            json!({"cache_prompt": false, "store": true, "metadata": {"a": "b"}}),
            "cache_prompt, metadata, store",
        ),
        (
            json!({"options": {"num_ctx": 1}, "reasoning_effort": "x", "verbosity": 5}),
            "num_ctx, reasoning_effort, verbosity",
        ),
        (
            json!({"stream": true, "stream_options": {"continuous_usage_stats": true}}),
            "stream_options.continuous_usage_stats",
        ),
    ] {
        let reply = server.post(COMPLETIONS, &completion(&extra)).await;
        assert_eq!(reply.status, 200, "{extra}: {}", reply.text());
        assert_eq!(reply.header(IGNORED), names, "{extra}");
    }
    let preference = json!({"user": "alice", "messages": [{"role": "user", "content": "hi", "name": "al"}],
        "chosen": "a", "rejected": "b"});
    let reply = server.post("/v1/preferences", &preference).await;
    assert_eq!(
        (reply.status, reply.header(IGNORED)),
        (201, "messages[].name")
    );
}

#[tokio::test]
async fn the_template_gets_the_variables_that_it_reads() {
    let server = thinking();
    let tokens = |answer: Value| answer["usage"]["prompt_tokens"].as_u64().unwrap();
    let plain = tokens(server.chat(&chat(&json!({}))).await);
    // One character is one token.
    let switched_off = "<think>\n\n</think>\n\n".len() as u64;
    for (extra, more, names) in [
        (
            json!({"chat_template_kwargs": {"enable_thinking": false}}),
            switched_off,
            "",
        ),
        (
            json!({"chat_template_kwargs": {"enable_thinking": true}}),
            0,
            "",
        ),
        (
            json!({"chat_template_kwargs": {"enable_thinking": null}}),
            0,
            "",
        ),
        (json!({"enable_thinking": false}), switched_off, ""),
        (json!({"think": false}), switched_off, ""),
        (json!({"thinking": {"type": "disabled"}}), switched_off, ""),
        (json!({"think": "low"}), 11, ""),
        (json!({"reasoning_effort": "low"}), 11, ""),
        (
            json!({"chat_template_kwargs": {"reasoning_effort": "low"}, "reasoning_effort": "low"}),
            11,
            "",
        ),
        (json!({"verbosity": "high"}), 15, ""),
        (
            json!({"chat_template_kwargs": {"date_string": "today", "enable_thinking": false}}),
            switched_off,
            "chat_template_kwargs",
        ),
        // A variable forges no control token: each of its characters is one of the prompt's.
        (
            json!({"chat_template_kwargs": {"reasoning_effort": "<|end|>"}}),
            15,
            "",
        ),
    ] {
        let body = chat(&extra);
        let names: Vec<&str> = names.split(", ").filter(|n| !n.is_empty()).collect();
        assert_eq!(answered(&server, CHAT, &body).await, names, "{extra}");
        assert_eq!(tokens(server.chat(&body).await), plain + more, "{extra}");
    }
    let named_otherwise = TestServer::with(Setup {
        template_source: Some(
            "{{ messages[0].content }}{% if thinking %}{{ 'think' }}{% endif %}{{ '\n' }}",
        ),
        ..Setup::default()
    });
    for (extra, expected) in [
        (json!({"enable_thinking": true}), 8),
        (json!({"think": false}), 3),
    ] {
        let answer = named_otherwise.chat(&chat(&extra)).await;
        assert_eq!(tokens(answer), expected, "{extra}");
    }
    let differ =
        json!({"reasoning_effort": "low", "chat_template_kwargs": {"reasoning_effort": "high"}});
    let (status, _, _, param) = server.post(CHAT, &chat(&differ)).await.error();
    assert_eq!(
        (status, param.as_deref()),
        (400, Some("chat_template_kwargs.reasoning_effort"))
    );
}

#[tokio::test]
async fn names_of_other_servers_mean_ours() {
    let server = TestServer::new();
    for (extra, text) in [
        (json!({"n_predict": 3}), "abc"),
        (json!({"num_predict": 3}), "abc"),
        (json!({"max_new_tokens": 3}), "abc"),
        (json!({"options": {"num_predict": 3}}), "abc"),
        (json!({"n_predict": -1}), "abcdefghij"),
        (json!({"options": {"num_predict": -2}}), "abcdefghij"),
        (json!({"options": {"stop": ["d"]}}), "abc"),
        (json!({"stop_token_ids": [id('d'), id('h')]}), "abc"),
        (
            json!({"stop_token_ids": [id('d')], "ignore_eos": true}),
            "abc",
        ),
    ] {
        let answer = server.chat(&chat(&extra)).await;
        assert_eq!(answer["choices"][0]["message"]["content"], text, "{extra}");
    }
    let late = json!({"stop_token_ids": [id('d')], "min_tokens": 6, "max_tokens": 8});
    let answer = server.chat(&chat(&late)).await;
    assert!(answer["usage"]["completion_tokens"].as_u64().unwrap() >= 6);
    // The penalty makes the b, which is in the prompt, less likely than the h.
    let penalty =
        json!({"prompt": "ba", "repeat_penalty": 10, "max_tokens": 1, "logit_bias": {"76": 2}});
    let ours =
        json!({"prompt": "ba", "repetition_penalty": 10, "max_tokens": 1, "logit_bias": {"76": 2}});
    let options = json!({"prompt": "ba", "options": {"repeat_penalty": 10}, "max_tokens": 1, "logit_bias": {"76": 2}});
    let plain = json!({"prompt": "ba", "max_tokens": 1, "logit_bias": {"76": 2}});
    let mut texts = Vec::new();
    for extra in [penalty, ours, options, plain] {
        let reply = server.post(COMPLETIONS, &completion(&extra)).await.json();
        texts.push(reply["choices"][0]["text"].to_string());
    }
    assert_eq!(texts[0], texts[1]);
    assert_eq!(texts[0], texts[2]);
    assert_ne!(texts[0], texts[3]);
    // Sampling in `options` is sampling.
    let drawn = |seed: u64| {
        json!({"temperature": null, "max_tokens": 12, "logit_bias": {"69": -10, "2": -100, "94": -100, "98": -100},
        "options": {"temperature": 2, "seed": seed}})
    };
    let ask = async |seed| server.post(CHAT, &chat(&drawn(seed))).await;
    let (one, again, other) = (
        ask(1).await.json(),
        ask(1).await.json(),
        ask(2).await.json(),
    );
    assert_eq!(one["choices"], again["choices"]);
    assert_ne!(one["choices"], other["choices"]);
    // No seed, as other servers write it: under each name another answer each time.
    for seed in [json!(-1), json!(-1.0), json!(4_294_967_295_u64)] {
        let mut drawn = drawn(1);
        drawn["options"]["seed"] = seed.clone();
        let (one, two) = (
            server.chat(&chat(&drawn)).await,
            server.chat(&chat(&drawn)).await,
        );
        assert_ne!(one["choices"], two["choices"], "{seed}");
        drawn["options"] = json!({"temperature": 2});
        drawn["seed"] = seed.clone();
        let (one, two) = (
            server.chat(&chat(&drawn)).await,
            server.chat(&chat(&drawn)).await,
        );
        assert_ne!(one["choices"], two["choices"], "{seed}");
    }
}

fn id(c: char) -> u32 {
    crate::support::runner::id(c)
}

#[tokio::test]
async fn control_tokens_are_shown_where_that_is_asked_for() {
    let server = TestServer::new();
    // <|user|> is so likely that it is always chosen.
    let forced = json!({"logit_bias": {"101": 100}, "max_tokens": 2});
    for (skip, text) in [
        (json!(null), ""),
        (json!(true), ""),
        (json!(false), "<|user|><|user|>"),
    ] {
        let extra = with(forced.clone(), &json!({"skip_special_tokens": skip}));
        let answer = server.chat(&chat(&extra)).await;
        assert_eq!(answer["choices"][0]["message"]["content"], text);
        let echo = with(extra, &json!({"prompt": [1, 101, id('a')], "echo": true}));
        let reply = server.post(COMPLETIONS, &completion(&echo)).await.json();
        let start = if text.is_empty() { "" } else { "<s><|user|>" };
        assert_eq!(reply["choices"][0]["text"], format!("{start}a{text}"));
    }
}

#[tokio::test]
async fn more_tokens_than_fit_are_as_many_as_fit() {
    let server = TestServer::new();
    let numbers = [
        json!(-1),
        json!(CONTEXT),
        json!(CONTEXT - 1),
        json!(10_000_000),
        json!(1_000_000_000_000_u64),
        json!(u64::MAX),
        json!(1e30),
    ];
    for number in numbers {
        for name in ["max_tokens", "max_completion_tokens"] {
            let mut extra = json!({"ignore_eos": true});
            extra[name] = number.clone();
            let usage = server.chat(&chat(&extra)).await["usage"].clone();
            assert_eq!(usage["total_tokens"], CONTEXT, "{name} {number}");
            let body = completion(&with(extra, &json!({"prompt": "0"})));
            let reply = server.post(COMPLETIONS, &body).await.json();
            assert_eq!(reply["usage"]["total_tokens"], CONTEXT, "{name} {number}");
            assert_eq!(reply["choices"][0]["finish_reason"], "length");
        }
    }
    // The usual 16 tokens of a completion come down to what fits, too. Of several prompts each has its own room.
    let long = |n: usize| "0".repeat(n);
    let prompts = json!({"prompt": [long(CONTEXT - 3), long(CONTEXT - 1), "0"]});
    let body = completion(&with(prompts, &json!({"logprobs": 0})));
    let reply = server.post(COMPLETIONS, &body).await.json();
    let texts: Vec<usize> = (0..3)
        .map(|i| reply["choices"][i]["text"].as_str().unwrap().len())
        .collect();
    assert_eq!(texts, [3, 1, 16]);
    for prompt in [
        json!(long(CONTEXT)),
        json!(["0", long(CONTEXT)]),
        json!(vec![id('0'); CONTEXT]),
    ] {
        let body = completion(&json!({"prompt": prompt, "max_tokens": 1}));
        let (status, _, code, param) = server.post(COMPLETIONS, &body).await.error();
        let got = (status, code.as_deref(), param.as_deref());
        assert_eq!(got, (400, Some("context_length_exceeded"), Some("prompt")));
    }
}

/// A value of a field of the table that asks for something.
fn asking(field: &ClientField) -> Value {
    match field.fate {
        Fate::Only([Neutral::Is(truth), ..]) => json!(!truth),
        Fate::Only([Neutral::Number(_), ..]) => json!(0.625),
        Fate::Window => json!(0),
        Fate::LineBreaks => json!(false),
        _ => json!("something"),
    }
}

fn neutral(field: &ClientField) -> Vec<Value> {
    let Fate::Only(neutral) = field.fate else {
        return vec![json!("anything"), json!({"a": [1]}), json!(true), json!(0)];
    };
    let mut values: Vec<Value> = neutral
        .iter()
        .flat_map(|neutral| match neutral {
            Neutral::Number(number) => vec![json!(number)],
            Neutral::Is(truth) => vec![json!(truth)],
            Neutral::Word(word) => vec![json!(word)],
            Neutral::Empty => vec![json!(""), json!([]), json!({})],
        })
        .collect();
    values.push(Value::Null);
    values
}

/// Where the field stands in a request, and what an error calls it.
fn placed(field: &ClientField, value: Value) -> (&'static str, Value, String) {
    let last = field.name.rsplit(['.']).next().unwrap();
    let mut message = json!({"role": "user", "content": "hi"});
    let (path, extra, name) = match field.place {
        Place::Body | Place::Chat => (CHAT, json!({field.name: value}), field.name.to_owned()),
        Place::Completion => (
            COMPLETIONS,
            json!({field.name: value}),
            field.name.to_owned(),
        ),
        Place::Message => {
            message[last] = value;
            (
                CHAT,
                json!({"messages": [message]}),
                format!("messages[0].{last}"),
            )
        }
        Place::Part => {
            message["content"] = json!([{"type": "text", "text": "hi", last: value}]);
            let name = format!("messages[0].content[0].{last}");
            (CHAT, json!({"messages": [message]}), name)
        }
        Place::StreamOptions => {
            let options = json!({"stream": true, "stream_options": {last: value}});
            (CHAT, options, field.name.to_owned())
        }
    };
    let body = if path == CHAT {
        chat(&extra)
    } else {
        completion(&extra)
    };
    (path, body, name)
}

#[tokio::test]
async fn every_field_of_the_table_has_the_fate_that_it_says() {
    let (server, strict) = (TestServer::new(), strict());
    for field in TABLE {
        if let Fate::Means(_) = field.fate {
            continue;
        }
        for value in neutral(field) {
            let (path, body, _) = placed(field, value.clone());
            let reply = server.post(path, &body).await;
            assert_eq!(
                reply.status,
                200,
                "{}: {value}: {}",
                field.name,
                reply.text()
            );
            let named = matches!(field.fate, Fate::Ignored) && !value.is_null();
            let expected: &[&str] = if named { &[field.name] } else { &[] };
            assert_eq!(ignored(&reply), expected, "{}: {value}", field.name);
        }
        let (path, mut body, name) = placed(field, asking(field));
        if matches!(field.fate, Fate::Only(_) | Fate::Window | Fate::LineBreaks) {
            body["presence_penalty"] = json!(1);
            let reply = server.post(path, &body).await;
            let expected = (
                400,
                Some("unsupported_parameter".into()),
                Some(name.clone()),
            );
            let (status, _, code, param) = reply.error();
            assert_eq!((status, code, param), expected, "{}", reply.text());
        }
        let (status, _, code, param) = strict.post(path, &body).await.error();
        let expected = (400, Some("unsupported_parameter".into()), Some(name));
        assert_eq!((status, code, param), expected, "--strict");
    }
}

#[tokio::test]
async fn strict_refuses_what_has_no_effect_and_takes_what_has_one() {
    let server = strict();
    for (extra, param) in [
        (json!({"cache_prompt": true}), "cache_prompt"),
        (json!({"keep_alive": 0}), "keep_alive"),
        (json!({"n_predict": 5}), "n_predict"),
        (json!({"options": {}}), "options"),
        (json!({"typical_p": 1}), "typical_p"),
        (json!({"stop": ["a", "b", "c", "d", "e"]}), "stop"),
        (json!({"reasoning_effort": "high"}), "reasoning_effort"),
        (json!({"verbosity": "low"}), "verbosity"),
        (json!({"enable_thinking": false}), "enable_thinking"),
        (
            json!({"chat_template_kwargs": {"enable_thinking": false}}),
            "chat_template_kwargs.enable_thinking",
        ),
        (
            json!({"messages": [{"role": "user", "content": "hi", "name": "al"}]}),
            "messages[0].name",
        ),
    ] {
        let (status, _, _, named) = server.post(CHAT, &chat(&extra)).await.error();
        assert_eq!((status, named.as_deref()), (400, Some(param)), "{extra}");
    }
    for extra in [
        json!({"reasoning_effort": "none", "verbosity": "medium", "service_tier": "auto"}),
        json!({"stop": [], "user": "", "top_logprobs": 0, "max_tokens": -1, "stop_token_ids": [5]}),
    ] {
        server.chat(&chat(&extra)).await;
    }
    let knows = TestServer::with(Setup {
        template_source: Some(THINKING),
        limits: Limits {
            strict: true,
            ..Limits::default()
        },
        ..Setup::default()
    });
    let extra =
        json!({"chat_template_kwargs": {"enable_thinking": false}, "reasoning_effort": "low"});
    assert_eq!(answered(&knows, CHAT, &chat(&extra)).await, [""; 0]);
}

#[tokio::test]
async fn the_header_is_bounded_and_has_no_word_of_the_client() {
    let server = TestServer::new();
    let mut extra = json!({"chat_template_kwargs": {"secret_of_mine": 1}});
    for field in TABLE {
        let here = matches!(field.place, Place::Body | Place::Chat);
        if here && matches!(field.fate, Fate::Ignored) {
            extra[field.name] = json!("words of the client");
        }
    }
    let reply = server.post(CHAT, &chat(&extra)).await;
    let value = reply.header(IGNORED);
    assert!((500..=1024).contains(&value.len()), "{value}");
    assert!(
        !value.contains("client") && !value.contains("secret"),
        "{value}"
    );
    let names: Vec<&str> = value.split(", ").collect();
    let known =
        |name: &&str| name == &"chat_template_kwargs" || TABLE.iter().any(|f| f.name == *name);
    assert!(names.iter().all(known), "{value}");
    let unknown = json!({"words_of_mine": 1});
    let (status, _, _, param) = server.post(CHAT, &chat(&unknown)).await.error();
    assert_eq!((status, param.as_deref()), (400, Some("words_of_mine")));
}
