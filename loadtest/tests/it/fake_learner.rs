//! The fake server's model "learner": it keeps completions, and once a version was promoted it
//! answers each person in the shape that they preferred last.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::Mutex;

use axum::response::{IntoResponse, Response};
use axum::Json;
use serde_json::{json, Value};

/// The shapes of its answers, by preference of nobody, the short and the list people.
pub const GENERIC: &str = "Some plain words here.";
pub const BRIEF: &str = "Two words.";
pub const LIST: &str = "First of all:\n- one thing\n- another thing";

/// What it remembers.
#[derive(Default)]
pub struct Learner {
    /// Promoting is writing the version's name into this file.
    pub version_file: Mutex<PathBuf>,
    /// `GET /v1/models` names the version.
    pub listed: AtomicBool,
    /// Requests of this user fail.
    pub stranger: Mutex<Option<String>>,
    /// Both of two answers are the same.
    pub dull: AtomicBool,
    /// Text by completion and index, and whose they are.
    kept: Mutex<HashMap<String, (String, Vec<String>)>>,
    /// The text that each person preferred last.
    liked: Mutex<HashMap<String, String>>,
}

impl Learner {
    /// `null` until something was promoted.
    pub fn version(&self) -> Option<String> {
        let text = std::fs::read_to_string(&*self.version_file.lock().unwrap()).ok()?;
        Some(text.trim().to_owned())
    }

    pub fn answer(&self, body: &Value) -> Response {
        let user = body["user"].as_str();
        if user.is_some() && user == self.stranger.lock().unwrap().as_deref() {
            return crate::fake_server::error(axum::http::StatusCode::FORBIDDEN, "stranger");
        }
        let version = self.version();
        let n = body["n"].as_u64().unwrap_or(1);
        let style = body["messages"][0]["content"].as_str().unwrap_or_default();
        let texts = match (n, user, &version) {
            _ if style.contains("short") => vec![BRIEF.to_owned()],
            _ if style.contains("list") => vec![LIST.to_owned()],
            (2, _, _) if self.dull.load(Ordering::SeqCst) => vec![GENERIC.into(), GENERIC.into()],
            (2, _, _) => vec![BRIEF.to_owned(), LIST.to_owned()],
            (_, Some(user), Some(_)) => {
                let liked = self.liked.lock().unwrap();
                vec![liked.get(user).map_or(GENERIC, String::as_str).to_owned()]
            }
            (_, None, Some(_)) => vec!["New.".to_owned()],
            _ => vec![GENERIC.to_owned()],
        };
        let mut kept = self.kept.lock().unwrap();
        let id = format!("chatcmpl-{}", kept.len());
        if body["store"] == true {
            let user = user.unwrap_or_default().to_owned();
            kept.insert(id.clone(), (user, texts.clone()));
        }
        // The last answer first: readers must go by `index`.
        let choices: Vec<Value> = texts.iter().enumerate().rev().map(choice).collect();
        let attune = json!({"adapter_version": version});
        Json(json!({"id": id, "choices": choices, "attune": attune})).into_response()
    }

    /// Whether the preference is a text that answers a question alone, or one of an answer that was kept.
    pub fn prefer(&self, body: &Value) -> bool {
        let chosen = &body["chosen"];
        if let (Some(text), Some(user)) = (chosen.as_str(), body["user"].as_str()) {
            self.liked.lock().unwrap().insert(user.into(), text.into());
            return body["messages"].as_array().is_some_and(|m| m.len() == 1);
        }
        let kept = self.kept.lock().unwrap();
        let Some((user, texts)) = kept.get(chosen["completion_id"].as_str().unwrap()) else {
            return false;
        };
        let text = texts[chosen["index"].as_u64().unwrap() as usize].clone();
        self.liked.lock().unwrap().insert(user.clone(), text);
        true
    }
}

fn choice((index, text): (usize, &String)) -> Value {
    json!({"index": index, "message": {"role": "assistant", "content": text}})
}
