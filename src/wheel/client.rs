//! The admin routes of a server that runs.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;
use std::time::Duration;

use serde_json::{json, Value};

use super::WheelError;
use crate::ids::AdapterVersion;
use crate::store::DecisionRecord;

/// How often a request is sent that does not reach the server, or that it cannot serve just now: a turn
/// takes hours, a restart of the server seconds.
const ATTEMPTS: u32 = 6;

/// Bytes of an answer that is not a snapshot.
const MAX_ANSWER: u64 = 16 << 20;

/// A server, by its URL.
#[derive(Debug, Clone)]
pub struct Client {
    agent: ureq::Agent,
    url: String,
    key: Option<String>,
    /// Waited before the second attempt, and twice as long before each one after.
    patience: Duration,
}

impl Client {
    /// `url` is that of the server, with or without `/v1`; `key` has the role `admin`.
    pub fn new(url: &str, key: Option<String>) -> Self {
        let url = url.trim_end_matches('/');
        Self {
            agent: ureq::AgentBuilder::new()
                .timeout_connect(Duration::from_secs(10))
                .timeout_read(Duration::from_secs(300))
                .build(),
            url: url.strip_suffix("/v1").unwrap_or(url).to_owned(),
            key,
            patience: Duration::from_secs(1),
        }
    }

    /// Writes the server's snapshot to `out`; whether it is whole, its reader sees.
    ///
    /// # Errors
    /// A server that cannot be reached or refuses; a disk that fails.
    pub fn snapshot(&self, out: &Path) -> Result<(), WheelError> {
        let answer = self.ask("GET", "/v1/admin/snapshot", None)?;
        let mut file = BufWriter::new(File::create(out).map_err(WheelError::io(out))?);
        io::copy(&mut answer.into_reader(), &mut file)
            .and_then(|_| file.flush())
            .map_err(WheelError::io(out))
    }

    /// Installs the bundle of that name in the server's bundle folder.
    ///
    /// # Errors
    /// As above; a bundle that the server cannot use.
    pub fn install(&self, name: &str) -> Result<(), WheelError> {
        self.ask("POST", "/v1/admin/adapters", Some(&json!({"path": name})))?;
        Ok(())
    }

    /// Records a decision, and carries it out.
    ///
    /// # Errors
    /// [`WheelError::Conflict`]; as above.
    pub fn decide(&self, decision: &DecisionRecord) -> Result<(), WheelError> {
        let version = |version: &Option<AdapterVersion>| {
            version.as_ref().map(|version| version.as_str().to_owned())
        };
        let numbers = decision.evaluation.as_deref();
        let numbers: Option<Value> = numbers.and_then(|text| serde_json::from_str(text).ok());
        let body = json!({
            "alias": decision.alias.as_str(),
            "current": version(&decision.current),
            "candidate": version(&decision.candidate),
            "promoted": decision.promoted,
            "reason": decision.reason,
            "snapshot": decision.snapshot,
            "evaluation": numbers,
        });
        match self.ask("POST", "/v1/admin/decisions", Some(&body)) {
            Ok(_) => Ok(()),
            Err(WheelError::Refused {
                status: 409,
                message,
                ..
            }) => Err(WheelError::Conflict(message)),
            Err(error) => Err(error),
        }
    }

    fn ask(
        &self,
        method: &str,
        path: &str,
        body: Option<&Value>,
    ) -> Result<ureq::Response, WheelError> {
        let url = format!("{}{path}", self.url);
        let mut patience = self.patience;
        for attempt in 1.. {
            let error = match self.send(method, &url, body) {
                Ok(answer) => return Ok(answer),
                Err(error) => *error,
            };
            if attempt == ATTEMPTS || !may_pass(&error) {
                return Err(as_seen(url, error));
            }
            tracing::warn!(%url, %error, "trying again");
            std::thread::sleep(patience);
            patience *= 2;
        }
        unreachable!("the last attempt returns")
    }

    fn send(
        &self,
        method: &str,
        url: &str,
        body: Option<&Value>,
    ) -> Result<ureq::Response, Box<ureq::Error>> {
        let mut request = self.agent.request(method, url);
        if let Some(key) = &self.key {
            request = request.set("Authorization", &format!("Bearer {key}"));
        }
        let sent = match body {
            None => request.call(),
            Some(body) => request
                .set("Content-Type", "application/json")
                .send_string(&body.to_string()),
        };
        sent.map_err(Box::new)
    }
}

/// Whether the request had no effect, and may have one later. One that broke off half-way may have had
/// its effect.
fn may_pass(error: &ureq::Error) -> bool {
    match error {
        ureq::Error::Status(status, _) => *status == 503,
        ureq::Error::Transport(transport) => matches!(
            transport.kind(),
            ureq::ErrorKind::ConnectionFailed | ureq::ErrorKind::Dns
        ),
    }
}

fn as_seen(url: String, error: ureq::Error) -> WheelError {
    match error {
        ureq::Error::Status(status, answer) => WheelError::Refused {
            url,
            status,
            message: message(answer),
        },
        ureq::Error::Transport(transport) => WheelError::Http {
            url,
            reason: transport.to_string(),
        },
    }
}

/// What an error of OpenAI's form says.
fn message(answer: ureq::Response) -> String {
    use std::io::Read;
    let mut text = String::new();
    let read = answer
        .into_reader()
        .take(MAX_ANSWER)
        .read_to_string(&mut text);
    let body: Value = read
        .ok()
        .and_then(|_| serde_json::from_str(&text).ok())
        .unwrap_or_default();
    match body["error"]["message"].as_str() {
        Some(message) => message.to_owned(),
        None => "not an answer of attune; is the URL right?".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader, Read};
    use std::net::TcpListener;
    use std::thread;

    use super::*;
    use crate::ids::Alias;

    /// A server that gives `answers` in turn, and then the requests that it got.
    fn server(answers: Vec<String>) -> (Client, thread::JoinHandle<Vec<String>>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/v1/", listener.local_addr().unwrap());
        let serving = thread::spawn(move || {
            let one = |answer: String| {
                let mut stream = listener.accept().unwrap().0;
                let mut lines = BufReader::new(stream.try_clone().unwrap());
                let (mut head, mut length) = (String::new(), 0);
                loop {
                    let mut line = String::new();
                    lines.read_line(&mut line).unwrap();
                    if let Some(value) = line.to_lowercase().strip_prefix("content-length:") {
                        length = value.trim().parse().unwrap();
                    }
                    head += &line;
                    if line == "\r\n" {
                        break;
                    }
                }
                let mut body = vec![0; length];
                lines.read_exact(&mut body).unwrap();
                stream.write_all(answer.as_bytes()).unwrap();
                head + &String::from_utf8(body).unwrap()
            };
            answers.into_iter().map(one).collect()
        });
        let mut client = Client::new(&url, Some("secret".into()));
        client.patience = Duration::from_millis(1);
        (client, serving)
    }

    fn answer(status: &str, body: &str) -> String {
        let length = body.len();
        format!("HTTP/1.1 {status}\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{body}")
    }

    fn decision() -> DecisionRecord {
        DecisionRecord {
            id: DecisionRecord::new_id(7),
            created_unix_ms: 7,
            alias: Alias::new("attune").unwrap(),
            current: None,
            candidate: Some(AdapterVersion::new("ab".repeat(32)).unwrap()),
            promoted: true,
            reason: "better".into(),
            snapshot: None,
            evaluation: Some(r#"{"margin": 0.5}"#.into()),
        }
    }

    #[test]
    fn a_server_that_is_busy_is_asked_again() {
        let busy = answer(
            "503 Service Unavailable",
            r#"{"error": {"message": "draining"}}"#,
        );
        let (client, serving) = server(vec![busy.clone(), busy, answer("201 Created", "{}")]);
        client.decide(&decision()).unwrap();
        let requests = serving.join().unwrap();
        assert_eq!(requests[0], requests[2]);
        let sent = &requests[2];
        assert!(
            sent.starts_with("POST /v1/admin/decisions HTTP/1.1\r\n"),
            "{sent}"
        );
        assert!(sent.contains("Authorization: Bearer secret\r\n"), "{sent}");
        let body: Value = serde_json::from_str(sent.split("\r\n\r\n").nth(1).unwrap()).unwrap();
        assert_eq!(body["evaluation"]["margin"], 0.5);
        assert_eq!(
            (&body["current"], &body["promoted"]),
            (&Value::Null, &json!(true))
        );
    }

    #[test]
    fn what_the_server_says_is_told() {
        let no = r#"{"error": {"message": "alias attune names 1234"}}"#;
        let (client, serving) = server(vec![
            answer("409 Conflict", no),
            answer("400 Bad Request", no),
            answer("404 Not Found", "<html>"),
        ]);
        let conflict = client.decide(&decision()).unwrap_err();
        assert!(
            matches!(&conflict, WheelError::Conflict(m) if m.contains("1234")),
            "{conflict}"
        );
        let refused = client.install("x").unwrap_err().to_string();
        assert!(
            refused.ends_with("/v1/admin/adapters: 400, alias attune names 1234"),
            "{refused}"
        );
        let dir = tempfile::tempdir().unwrap();
        let other = client
            .snapshot(&dir.path().join("s"))
            .unwrap_err()
            .to_string();
        assert!(other.contains("404, not an answer of attune"), "{other}");
        serving.join().unwrap();
    }

    #[test]
    fn a_server_that_is_not_there_is_named() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        drop(listener);
        let mut client = Client::new(&url, None);
        client.patience = Duration::from_millis(1);
        let error = client.install("x").unwrap_err();
        assert!(matches!(error, WheelError::Http { .. }), "{error}");
        assert!(error.to_string().starts_with(&url), "{error}");
    }
}
