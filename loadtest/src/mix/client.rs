//! One client: picks a deed and a person, does it, and tells the ledger.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::time::Duration;

use futures_util::StreamExt;
use rand::Rng;
use rand_chacha::ChaCha8Rng;
use reqwest::{Method, Response};
use serde_json::{json, Value};

use super::ledger::Ledger;
use super::scenario::{Deed, Mix};
use super::slow;
use crate::http::{chain, failure, in_time, whole_json, Http};
use crate::outcome::{ErrorKind, Failure};
use crate::prompts::synthetic;
use crate::seeds::{rng, Purpose};
use crate::stats::{add_error, Errors};

/// Answers that a client remembers, to rate them.
const REMEMBERED: usize = 32;
/// Answers at once for a reader that hardly reads: together they are more than buffers hold.
const SLOW_ANSWERS: usize = 8;
/// A client whose request failed waits for so long.
const AFTER_FAILURE: Duration = Duration::from_millis(50);

/// What marks of kept answers, of ratings and of preferences begin with.
const KEPT: char = 'k';
const RATED: char = 'f';
/// Preferences can be sent again by their mark alone: [`preference`].
pub const PREFERRED: char = 'p';

/// What all clients of a round share.
pub struct Round<'a> {
    /// Who does what.
    pub mix: &'a Mix,
    /// How the server is reached.
    pub http: &'a Http,
    /// Number of the round: no two rounds write the same mark.
    pub number: usize,
    /// Deeds that may still begin.
    pub left: Cell<usize>,
    /// What was acknowledged.
    pub ledger: &'a RefCell<Ledger>,
    /// What was done.
    pub tally: &'a RefCell<Tally>,
}

/// What was done, and what went wrong.
#[derive(Debug, Default)]
pub struct Tally {
    /// Deeds that were answered as they should be, by name.
    pub done: BTreeMap<String, u64>,
    /// Refusals: 429 and 503. A full server may say so.
    pub refused: BTreeMap<String, Errors>,
    /// Anything else.
    pub failed: BTreeMap<String, Errors>,
}

impl Tally {
    /// Counts a deed.
    pub fn add(&mut self, deed: &str, result: Result<(), Failure>) {
        match result {
            Ok(()) => *self.done.entry(deed.to_owned()).or_default() += 1,
            Err(failure) if is_refusal(&failure) => add_error(&mut self.refused, &failure),
            Err(failure) => add_error(&mut self.failed, &failure),
        }
    }

    /// All deeds that were done.
    pub fn total(&self) -> u64 {
        self.done.values().sum()
    }
}

/// Whether the server said that it has no room now.
pub fn is_refusal(failure: &Failure) -> bool {
    matches!(
        failure.kind,
        ErrorKind::Http {
            status: 429 | 503,
            ..
        }
    )
}

/// One client of a round.
pub struct Client<'a> {
    round: &'a Round<'a>,
    number: usize,
    rng: ChaCha8Rng,
    /// Records that it has begun.
    marks: usize,
    /// (person, completion) of answers that are kept.
    kept: Vec<(usize, String)>,
}

impl<'a> Client<'a> {
    /// Client `number` of a round.
    pub fn new(round: &'a Round<'a>, number: usize) -> Self {
        Self {
            round,
            number,
            rng: rng(round.mix.seed, Purpose::Deed, round.number, number),
            marks: 0,
            kept: Vec::new(),
        }
    }

    /// Goes on until no deeds are left.
    pub async fn run(mut self) {
        while let Some(left) = self.round.left.get().checked_sub(1) {
            self.round.left.set(left);
            let person = self.round.mix.person_of(self.number, &mut self.rng);
            let deed = self.round.mix.weights.draw(&mut self.rng);
            let deed = self.possible(deed, person);
            let result = self.act(deed, person).await;
            let failed = result.is_err();
            self.round.tally.borrow_mut().add(deed.name(), result);
            if failed {
                tokio::time::sleep(AFTER_FAILURE).await;
            }
        }
    }

    /// Who has no kept answer keeps one first; who is never deleted chats.
    fn possible(&self, deed: Deed, person: usize) -> Deed {
        match deed {
            Deed::Feedback if !self.kept.iter().any(|(who, _)| *who == person) => Deed::Keep,
            Deed::Delete if self.round.mix.stays(person) => Deed::Chat,
            other => other,
        }
    }

    async fn act(&mut self, deed: Deed, person: usize) -> Result<(), Failure> {
        match deed {
            Deed::Chat => self.chat(person).await,
            Deed::Stream => self.stream(person).await,
            Deed::Disconnect => self.disconnect(person).await,
            Deed::Slow => self.slow(person).await,
            Deed::Keep => self.keep(person).await,
            Deed::Feedback => self.feedback(person).await,
            Deed::Preference => self.prefer(person).await,
            Deed::Delete => self.delete(person).await,
        }
    }

    async fn chat(&mut self, person: usize) -> Result<(), Failure> {
        let body = self.body(person, self.round.mix.max_tokens);
        let request = self.round.http.post("v1/chat/completions").json(&body);
        let (_, answer) = self
            .round
            .http
            .json(request, self.round.mix.timeout)
            .await?;
        one_choice(&answer)
    }

    async fn stream(&mut self, person: usize) -> Result<(), Failure> {
        let mut body = self.body(person, self.round.mix.max_tokens);
        body["stream"] = json!(true);
        let request = self.round.http.post("v1/chat/completions").json(&body);
        let text = self
            .round
            .http
            .text(request, self.round.mix.timeout)
            .await?;
        match text.ends_with("data: [DONE]\n\n") {
            true => Ok(()),
            false => Err(failure(ErrorKind::NoDone, "a stream broke off".to_owned())),
        }
    }

    /// Goes away before the head of the answer, or after some pieces of it.
    async fn disconnect(&mut self, person: usize) -> Result<(), Failure> {
        let mut body = self.body(person, self.round.mix.long_tokens);
        body["stream"] = json!(true);
        body["ignore_eos"] = json!(true);
        let wait = Duration::from_micros(self.rng.random_range(0..50_000));
        let pieces = self.rng.random_range(0..self.round.mix.long_tokens);
        let request = self.round.http.post("v1/chat/completions").json(&body);
        let reading = async {
            let mut bytes = self.round.http.send(request).await?.bytes_stream();
            for _ in 0..pieces {
                match bytes.next().await {
                    Some(piece) => piece.map_err(|e| failure(ErrorKind::Body, chain(&e)))?,
                    None => break,
                };
            }
            Ok(())
        };
        // Whichever is first; both drop the connection.
        tokio::time::timeout(wait, reading).await.unwrap_or(Ok(()))
    }

    async fn slow(&mut self, person: usize) -> Result<(), Failure> {
        let mut body = self.body(person, self.round.mix.long_tokens);
        body["stream"] = json!(true);
        body["ignore_eos"] = json!(true);
        body["n"] = json!(SLOW_ANSWERS);
        let sips = self.rng.random_range(1..20);
        let target = self.round.http.target();
        let key = target.api_key();
        let read = slow::read(target.address(), key, &body, sips).await;
        read.map_err(|e| failure(ErrorKind::Send, chain(&e)))
    }

    async fn keep(&mut self, person: usize) -> Result<(), Failure> {
        let mark = self.mark(KEPT);
        let mut body = self.body(person, self.round.mix.max_tokens);
        body["store"] = json!(true);
        body["metadata"] = json!({"mark": mark});
        self.round.ledger.borrow_mut().writing(person, &mark);
        let request = self.round.http.post("v1/chat/completions").json(&body);
        let exchange = async {
            let response = self.round.http.send(request).await?;
            let kept = is_kept(&response);
            Ok((kept, whole_json(response).await?))
        };
        let (kept, answer) = in_time(self.round.mix.timeout, exchange).await?;
        one_choice(&answer)?;
        if !kept {
            let refused = ErrorKind::Http {
                status: 503,
                code: "not kept".to_owned(),
            };
            return Err(failure(refused, "x-attune-kept says no".to_owned()));
        }
        self.round.ledger.borrow_mut().written(person, &mark);
        let id = answer["id"].as_str().unwrap_or_default().to_owned();
        self.kept.truncate(REMEMBERED - 1);
        self.kept.insert(0, (person, id));
        Ok(())
    }

    async fn feedback(&mut self, person: usize) -> Result<(), Failure> {
        let of_person = self.kept.iter().find(|(who, _)| *who == person);
        let Some((_, completion)) = of_person else {
            return Ok(());
        };
        let completion = completion.clone();
        let mark = self.mark(RATED);
        let rating = self.rng.random_range(1..=5);
        let body = json!({"completion_id": completion, "rating": rating, "comment": mark});
        self.write("v1/feedback", person, &mark, &body).await
    }

    async fn prefer(&mut self, person: usize) -> Result<(), Failure> {
        let mark = self.mark(PREFERRED);
        let body = preference(self.round.mix, person, &mark);
        self.write("v1/preferences", person, &mark, &body).await
    }

    async fn write(
        &self,
        path: &str,
        person: usize,
        mark: &str,
        body: &Value,
    ) -> Result<(), Failure> {
        self.round.ledger.borrow_mut().writing(person, mark);
        write(self.round.http, path, mark, body, self.round.mix.timeout).await?;
        self.round.ledger.borrow_mut().written(person, mark);
        Ok(())
    }

    async fn delete(&mut self, person: usize) -> Result<(), Failure> {
        self.kept.retain(|(who, _)| *who != person);
        self.round.ledger.borrow_mut().deleting(person);
        let path = format!("v1/users/{}", self.round.mix.user(person));
        let request = self.round.http.request(Method::DELETE, &path);
        self.round
            .http
            .json(request, self.round.mix.timeout)
            .await?;
        self.round.ledger.borrow_mut().deleted(person);
        Ok(())
    }

    fn mark(&mut self, kind: char) -> String {
        self.marks += 1;
        format!("{kind}{}-{}-{}", self.round.number, self.number, self.marks)
    }

    fn body(&mut self, person: usize, max_tokens: usize) -> Value {
        let mix = self.round.mix;
        json!({
            "model": mix.model,
            "user": mix.user(person),
            "max_tokens": max_tokens,
            "temperature": 0,
            "messages": [{"role": "user", "content": synthetic(mix.words, &mut self.rng)}],
        })
    }
}

/// Writes one record, once whatever happens: its mark is the idempotency key.
///
/// # Errors
/// It was not acknowledged.
pub async fn write(
    http: &Http,
    path: &str,
    mark: &str,
    body: &Value,
    timeout: Duration,
) -> Result<(), Failure> {
    let request = http.post(path).header("Idempotency-Key", mark).json(body);
    http.json(request, timeout).await.map(|_| ())
}

/// A preference whose mark is the chosen text. The same for the same mark, so that it can be sent again.
pub fn preference(mix: &Mix, person: usize, mark: &str) -> Value {
    json!({
        "user": mix.user(person),
        "messages": [{"role": "user", "content": format!("Which is better, {mark}?")}],
        "chosen": mark,
        "rejected": "the other one",
    })
}

fn is_kept(response: &Response) -> bool {
    let header = response.headers().get("x-attune-kept");
    header.is_some_and(|value| value.as_bytes() == b"true")
}

fn one_choice(answer: &Value) -> Result<(), Failure> {
    match answer["choices"].as_array().map(Vec::len) {
        Some(1) => Ok(()),
        _ => Err(failure(ErrorKind::Body, "not one answer".to_owned())),
    }
}
