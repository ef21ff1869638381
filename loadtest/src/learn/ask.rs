//! One chat request, one preference.

use std::time::Duration;

use reqwest::StatusCode;
use serde_json::{json, Value};

use super::scenario::LearnScenario;
use crate::http::{failure, Http};
use crate::outcome::{ErrorKind, Failure};

/// What stands for the version where no adapter version answered.
pub const BASE: &str = "base";
/// What stands for it where the server does not say.
pub const UNKNOWN: &str = "unknown";

/// Two answers, and how a preference between them is told.
#[derive(Debug, Clone, PartialEq)]
pub struct Pair {
    /// The answers.
    pub texts: Vec<String>,
    /// The completion that the server keeps, if both are of one.
    completion: Option<String>,
    /// Makes the preference known if it is sent twice.
    key: String,
}

/// Asks one server, as a scenario says.
pub struct Asker<'a> {
    /// The server.
    pub http: &'a Http,
    /// Model, lengths, timeouts.
    pub scenario: &'a LearnScenario,
}

/// What came back.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    /// Id of the completion.
    pub id: String,
    /// By `index`.
    pub texts: Vec<String>,
    /// The version that answered.
    pub version: String,
}

impl Asker<'_> {
    /// One greedy answer; without `user`, the generic one.
    ///
    /// # Errors
    /// No answer, or not one.
    pub async fn greedy(&self, question: &str, user: Option<&str>) -> Result<Answer, Failure> {
        let mut body = self.body(question, 0.0);
        if let Some(user) = user {
            body["user"] = json!(user);
        }
        self.ask(&body, 1).await
    }

    /// Two different answers: samples of one completion, which the server keeps, or answers in two of the
    /// scenario's styles.
    ///
    /// # Errors
    /// No answer, or not two.
    pub async fn two(&self, question: &str, user: &str, seed: u64) -> Result<Pair, Failure> {
        let mut body = self.body(question, self.scenario.temperature);
        body["user"] = json!(user);
        body["seed"] = json!(seed);
        let styles = &self.scenario.styles;
        if styles.is_empty() {
            body["n"] = json!(2);
            body["store"] = json!(true);
            let Answer { id, texts, .. } = self.ask(&body, 2).await?;
            return Ok(Pair {
                texts,
                key: format!("learn-{id}"),
                completion: Some(id),
            });
        }
        // Two that differ, in an order of their own for each chat.
        let first = (seed % styles.len() as u64) as usize;
        let step = 1 + (seed / styles.len() as u64) as usize % (styles.len() - 1);
        let mut texts = Vec::new();
        for style in [first, (first + step) % styles.len()] {
            let question = json!({"role": "user", "content": question});
            let mut messages: Vec<Value> =
                styles[style].messages.iter().map(|m| json!(m)).collect();
            messages.push(question);
            body["messages"] = json!(messages);
            texts.extend(self.ask(&body, 1).await?.texts);
        }
        Ok(Pair {
            texts,
            completion: None,
            key: format!("learn-{user}-{seed}"),
        })
    }

    /// Sends back which of the two answers to a question is better.
    ///
    /// # Errors
    /// The preference was not recorded.
    pub async fn prefer(
        &self,
        question: &str,
        user: &str,
        pair: &Pair,
        chosen: usize,
    ) -> Result<(), Failure> {
        let body = match &pair.completion {
            Some(completion) => {
                let answer = |index: usize| json!({"completion_id": completion, "index": index});
                json!({"chosen": answer(chosen), "rejected": answer(1 - chosen)})
            }
            // The style was the app's; the person asked the question alone.
            None => json!({
                "user": user,
                "messages": [{"role": "user", "content": question}],
                "chosen": pair.texts[chosen],
                "rejected": pair.texts[1 - chosen],
            }),
        };
        let request = self.http.post("v1/preferences").json(&body);
        let request = request.header("Idempotency-Key", &pair.key);
        let (status, _) = self.http.json(request, self.scenario.timeout).await?;
        if status == StatusCode::CREATED {
            return Ok(());
        }
        let kind = ErrorKind::Http {
            status: status.as_u16(),
            code: "-".to_owned(),
        };
        Err(failure(kind, "201 expected".to_owned()))
    }

    /// The version that the model names now: as the list of models says, else as a short answer.
    ///
    /// # Errors
    /// The server does not answer.
    pub async fn version(&self) -> Result<String, Failure> {
        let models = self.http.models().await?;
        let model = models
            .iter()
            .find(|model| model["id"] == self.scenario.model);
        if let Some(version) = model.and_then(|model| model.get("adapter_version")) {
            return Ok(version.as_str().unwrap_or(BASE).to_owned());
        }
        let mut body = self.body("Hello", 0.0);
        body["max_tokens"] = json!(1);
        Ok(self.ask(&body, 1).await?.version)
    }

    fn body(&self, question: &str, temperature: f64) -> Value {
        json!({
            "model": self.scenario.model,
            "messages": [{"role": "user", "content": question}],
            "max_tokens": self.scenario.max_tokens,
            "temperature": temperature,
        })
    }

    async fn ask(&self, body: &Value, answers: usize) -> Result<Answer, Failure> {
        let request = self.http.post("v1/chat/completions").json(body);
        let timeout: Duration = self.scenario.timeout;
        let (_, body) = self.http.json(request, timeout).await?;
        read(&body, answers).map_err(|problem| failure(ErrorKind::Body, problem))
    }
}

/// The answers by index, so many as were asked for.
fn read(body: &Value, answers: usize) -> Result<Answer, String> {
    let choices = body["choices"].as_array().map_or(&[][..], Vec::as_slice);
    let text = |index: usize| {
        let mut of_index = choices.iter().filter(|choice| choice["index"] == index);
        of_index.next().map(|choice| {
            choice["message"]["content"]
                .as_str()
                .unwrap_or_default()
                .to_owned()
        })
    };
    let texts: Vec<String> = (0..answers).map_while(text).collect();
    if texts.len() < answers {
        return Err(format!("{} answers for n = {answers}", texts.len()));
    }
    let version = match body["attune"].get("adapter_version") {
        Some(version) => version.as_str().unwrap_or(BASE),
        None => UNKNOWN,
    };
    Ok(Answer {
        id: body["id"].as_str().unwrap_or_default().to_owned(),
        texts,
        version: version.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_read_by_index() {
        let choice =
            |index: usize, text: &str| json!({"index": index, "message": {"content": text}});
        let body = json!({
            "id": "c-1",
            "choices": [choice(1, "b"), choice(0, "a")],
            "attune": {"adapter_version": null},
        });
        let answer = read(&body, 2).unwrap();
        assert_eq!(answer.texts, ["a", "b"]);
        assert_eq!((answer.id.as_str(), answer.version.as_str()), ("c-1", BASE));
        assert_eq!(read(&body, 3).unwrap_err(), "2 answers for n = 3");

        let plain = json!({"choices": [{"index": 0, "message": {"content": null}}]});
        let answer = read(&plain, 1).unwrap();
        assert_eq!(
            (answer.texts[0].as_str(), answer.version.as_str()),
            ("", UNKNOWN)
        );
    }
}
