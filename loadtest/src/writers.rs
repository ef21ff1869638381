//! People who send preferences while a level's requests are measured.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::future::{ready, Future};
use std::time::{Duration, Instant};

use futures_util::{stream, StreamExt};
use reqwest::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::{json, Value};

use crate::http::{failure, Http};
use crate::outcome::{ErrorKind, Failure};
use crate::prompts::synthetic;
use crate::recorder::{Recorder, Summary};
use crate::scenario::Preferences;
use crate::seeds::{rng, Purpose};
use crate::stats::{add_error, Errors};

/// A writer that failed waits for so long, so that a server which is down is not hammered.
const AFTER_FAILURE: Duration = Duration::from_millis(100);

/// What the writers of one level came to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct WriterNumbers {
    /// So many wrote at once.
    pub writers: usize,
    /// Preferences that were answered with 201.
    pub ok: u64,
    /// Others.
    pub failed: u64,
    /// From the start of the level to the end of its last write.
    pub wall_s: f64,
    /// `ok` per second.
    pub per_s: f64,
    /// From the send to the whole answer, of those with 201.
    pub latency_ms: Option<Summary>,
    /// By kind.
    pub errors: BTreeMap<String, Errors>,
}

/// The writers of one level.
pub struct Writers<'a> {
    /// Where they write.
    pub http: &'a Http,
    /// What they write.
    pub shape: &'a Preferences,
    /// So many write at once.
    pub count: usize,
    /// Seed of the scenario.
    pub seed: u64,
    /// Number of the level: no two levels of a run send the same text.
    pub ordinal: usize,
    /// A write that takes longer has failed.
    pub timeout: Duration,
}

impl Writers<'_> {
    /// Writes until `ended` is ready and the writes under way are answered.
    pub async fn run(&self, ended: impl Future<Output = ()>) -> WriterNumbers {
        let start = Instant::now();
        let tally = RefCell::new(Tally::default());
        let tally = &tally;
        // As in a closed loop of requests: a slot of the buffer is a writer that waits for its 201.
        let writes = stream::iter(0usize..)
            .then(|number| self.pace(start, number))
            .take_until(ended)
            .map(|number| async move {
                let sent = Instant::now();
                let result = self.write(number).await;
                let latency = sent.elapsed();
                let failed = result.is_err();
                tally.borrow_mut().add(result, latency, start.elapsed());
                if failed {
                    tokio::time::sleep(AFTER_FAILURE).await;
                }
            })
            .buffer_unordered(self.count);
        writes.for_each(ready).await;
        tally.take().finish(self.count)
    }

    /// Returns when write `number` may start.
    async fn pace(&self, start: Instant, number: usize) -> usize {
        if let Some(rate) = self.shape.max_per_second {
            let due = start + Duration::from_secs_f64(number as f64 / rate);
            tokio::time::sleep_until(due.into()).await;
        }
        number
    }

    async fn write(&self, number: usize) -> Result<(), Failure> {
        let request = self.http.post("v1/preferences").json(&self.body(number));
        let (status, _) = self.http.json(request, self.timeout).await?;
        if status == StatusCode::CREATED {
            return Ok(());
        }
        let kind = ErrorKind::Http {
            status: status.as_u16(),
            code: "-".to_owned(),
        };
        Err(failure(
            kind,
            "201 expected: nothing new was recorded".to_owned(),
        ))
    }

    /// The marker makes every text of a run another one, so that no server can merge them.
    fn body(&self, number: usize) -> Value {
        let mut rng = rng(self.seed, Purpose::Write, self.ordinal, number);
        let mark = format!("{}-{number}", self.ordinal);
        let mut text =
            |kind: &str| format!("[{mark} {kind}] {}", synthetic(self.shape.words, &mut rng));
        json!({
            "user": format!("writer-{}", number % self.shape.users),
            "messages": [{"role": "user", "content": text("prompt")}],
            "chosen": text("chosen"),
            "rejected": text("rejected"),
        })
    }
}

#[derive(Default)]
struct Tally {
    latency: Recorder,
    ok: u64,
    failed: u64,
    errors: BTreeMap<String, Errors>,
    end: Duration,
}

impl Tally {
    fn add(&mut self, result: Result<(), Failure>, latency: Duration, end: Duration) {
        self.end = end;
        match result {
            Ok(()) => {
                self.ok += 1;
                self.latency.add(latency);
            }
            Err(failure) => {
                self.failed += 1;
                add_error(&mut self.errors, &failure);
            }
        }
    }

    fn finish(self, writers: usize) -> WriterNumbers {
        let wall = self.end.as_secs_f64();
        WriterNumbers {
            writers,
            ok: self.ok,
            failed: self.failed,
            wall_s: wall,
            per_s: if wall > 0.0 {
                self.ok as f64 / wall
            } else {
                0.0
            },
            latency_ms: self.latency.summary(),
            errors: self.errors,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::target::Target;

    #[test]
    fn bodies_differ_and_go_round_the_users() {
        let target = Target::new("http://127.0.0.1:1", None).unwrap();
        let http = Http::new(target, true).unwrap();
        let shape = Preferences {
            writers: vec![1],
            users: 3,
            words: 5,
            max_per_second: None,
        };
        let level = |ordinal| Writers {
            http: &http,
            shape: &shape,
            count: 1,
            seed: 1,
            ordinal,
            timeout: Duration::from_secs(1),
        };
        let bodies: Vec<Value> = (0..6).map(|n| level(n / 4).body(n % 4)).collect();
        let users: Vec<&str> = bodies.iter().filter_map(|b| b["user"].as_str()).collect();
        let expected = ["writer-0", "writer-1", "writer-2", "writer-0"];
        assert_eq!(users[..4], expected);
        let mark = |text: &Value| text.as_str().unwrap().split(']').next().map(str::to_owned);
        let marks: HashSet<Option<String>> = bodies
            .iter()
            .flat_map(|body| [mark(&body["chosen"]), mark(&body["rejected"])])
            .collect();
        assert_eq!(marks.len(), 12, "whatever the words are: {marks:?}");
        assert_eq!(bodies[0], level(0).body(0), "the seed decides");
        let words = bodies[0]["chosen"].as_str().unwrap().split(' ').count();
        assert_eq!(words, 2 + 5, "the marker, then the words");
    }
}
