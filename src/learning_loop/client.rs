//! The admin routes of a server that runs.

use std::fs::File;
use std::io::{self, BufWriter, Read, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{json, Value};

use super::LoopError;
use crate::app::address::{self, LastServer};
use attune_ids::AdapterVersion;
use attune_store::DecisionRecord;

/// How often a request is sent that does not reach the server, or that it cannot serve just now: a turn
/// takes hours, a restart of the server seconds.
const ATTEMPTS: u32 = 6;

/// Bytes of an answer that is not a snapshot.
const MAX_ANSWER: u64 = 16 << 20;

/// Bytes of a proof of identity, as an answer.
const MAX_PROOF: u64 = 4096;

/// Time for a proof of identity.
const PROOF_TIMEOUT: Duration = Duration::from_secs(10);

/// A server.
#[derive(Debug, Clone)]
pub struct Client {
    agent: ureq::Agent,
    server: Server,
    key: Option<String>,
    /// Waited before the second attempt, and twice as long before each one after.
    patience: Duration,
}

/// How a server is found.
#[derive(Debug, Clone)]
enum Server {
    /// The operator says where it is.
    Named(String),
    /// It left word in this data directory. That is read anew for each attempt, as a server may be started
    /// again elsewhere, and the server proves that the word is its own before it is sent anything.
    LeftWord(PathBuf),
}

/// An attempt that failed.
struct Failed {
    error: LoopError,
    /// Whether it had no effect, and may have one later. A request that broke off half-way may have had its
    /// effect.
    may_pass: bool,
}

impl Client {
    /// `url` is that of the server, with or without `/v1`; `key` has the role `admin`.
    pub fn new(url: &str, key: Option<String>) -> Self {
        let url = url.trim_end_matches('/');
        let url = url.strip_suffix("/v1").unwrap_or(url).to_owned();
        Self::of(Server::Named(url), key)
    }

    /// The server that has `data_dir` open.
    pub fn of_data_dir(data_dir: &Path, key: Option<String>) -> Self {
        Self::of(Server::LeftWord(data_dir.to_owned()), key)
    }

    fn of(server: Server, key: Option<String>) -> Self {
        Self {
            agent: ureq::AgentBuilder::new()
                .timeout_connect(Duration::from_secs(10))
                .timeout_read(Duration::from_secs(300))
                // Nobody but who was asked gets the key.
                .redirects(0)
                .build(),
            server,
            key,
            patience: Duration::from_secs(1),
        }
    }

    /// Writes the server's snapshot to `out`; whether it is whole, its reader sees.
    ///
    /// # Errors
    /// A server that cannot be reached or refuses; a disk that fails.
    pub fn snapshot(&self, out: &Path) -> Result<(), LoopError> {
        let answer = self.ask("GET", "/v1/admin/snapshot", None)?;
        let mut file = BufWriter::new(File::create(out).map_err(LoopError::io(out))?);
        io::copy(&mut answer.into_reader(), &mut file)
            .and_then(|_| file.flush())
            .map_err(LoopError::io(out))
    }

    /// Installs the bundle of that name in the server's bundle folder.
    ///
    /// # Errors
    /// As above; a bundle that the server cannot use.
    pub fn install(&self, name: &str) -> Result<(), LoopError> {
        self.ask("POST", "/v1/admin/adapters", Some(&json!({"path": name})))?;
        Ok(())
    }

    /// Records a decision, and carries it out.
    ///
    /// # Errors
    /// [`LoopError::Conflict`]; as above.
    pub fn decide(&self, decision: &DecisionRecord) -> Result<(), LoopError> {
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
            Err(LoopError::Refused {
                status: 409,
                message,
                ..
            }) => Err(LoopError::Conflict(message)),
            Err(error) => Err(error),
        }
    }

    fn ask(
        &self,
        method: &str,
        path: &str,
        body: Option<&Value>,
    ) -> Result<ureq::Response, LoopError> {
        let mut patience = self.patience;
        for attempt in 1.. {
            let failed = match self.attempt(method, path, body) {
                Ok(answer) => return Ok(answer),
                Err(failed) => *failed,
            };
            if attempt == ATTEMPTS || !failed.may_pass {
                return Err(failed.error);
            }
            tracing::warn!(error = %failed.error, "trying again");
            std::thread::sleep(patience);
            patience *= 2;
        }
        unreachable!("the last attempt returns")
    }

    fn attempt(
        &self,
        method: &str,
        path: &str,
        body: Option<&Value>,
    ) -> Result<ureq::Response, Box<Failed>> {
        let server = match &self.server {
            Server::Named(url) => url.clone(),
            Server::LeftWord(data_dir) => self.verified(data_dir)?,
        };
        let url = format!("{server}{path}");
        let mut request = self.agent.request(method, &url);
        if let Some(key) = &self.key {
            request = request.set("Authorization", &format!("Bearer {key}"));
        }
        let sent = match body {
            None => request.call(),
            Some(body) => request
                .set("Content-Type", "application/json")
                .send_string(&body.to_string()),
        };
        accepted(url, sent)
    }

    /// The URL of the server that left word in `data_dir`, once it has proved that it did.
    fn verified(&self, data_dir: &Path) -> Result<String, Box<Failed>> {
        let no_word = |source| Failed {
            error: LoopError::Unreachable {
                data_dir: data_dir.to_owned(),
                source,
            },
            may_pass: true,
        };
        let left = address::last(data_dir).map_err(no_word)?;
        let challenge = LastServer::challenge();
        let url = format!("{}/v1/identity", left.url);
        let request = self.agent.get(&url).timeout(PROOF_TIMEOUT);
        let sent = request.query("challenge", &hex::encode(challenge)).call();
        let proof = match accepted(url, sent) {
            Ok(answer) => proof_of(answer),
            Err(failed) if failed.may_pass => return Err(failed),
            Err(_) => None,
        };
        match proof.is_some_and(|proof| left.has_proved(&challenge, &proof)) {
            true => Ok(left.url),
            false => Err(Box::new(Failed {
                error: LoopError::Stranger {
                    url: left.url,
                    data_dir: data_dir.to_owned(),
                },
                may_pass: false,
            })),
        }
    }
}

fn proof_of(answer: ureq::Response) -> Option<Vec<u8>> {
    let mut text = String::new();
    let mut reader = answer.into_reader().take(MAX_PROOF);
    reader.read_to_string(&mut text).ok()?;
    let body: Value = serde_json::from_str(&text).ok()?;
    hex::decode(body["proof"].as_str()?).ok()
}

/// A redirect is no success: nobody follows it.
fn accepted(
    url: String,
    sent: Result<ureq::Response, ureq::Error>,
) -> Result<ureq::Response, Box<Failed>> {
    let refused = |status, answer| Failed {
        may_pass: status == 503,
        error: LoopError::Refused {
            url: url.clone(),
            status,
            message: message(answer),
        },
    };
    match sent {
        Ok(answer) if answer.status() < 300 => Ok(answer),
        Ok(answer) => Err(Box::new(refused(answer.status(), answer))),
        Err(ureq::Error::Status(status, answer)) => Err(Box::new(refused(status, answer))),
        Err(ureq::Error::Transport(transport)) => Err(Box::new(Failed {
            may_pass: matches!(
                transport.kind(),
                ureq::ErrorKind::ConnectionFailed | ureq::ErrorKind::Dns
            ),
            error: LoopError::Http {
                url,
                reason: transport.to_string(),
            },
        })),
    }
}

/// What an error of OpenAI's form says.
fn message(answer: ureq::Response) -> String {
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
    use std::io::{BufRead, BufReader};
    use std::net::TcpListener;
    use std::thread;

    use super::*;
    use attune_ids::Alias;

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

    /// Somebody has the port of a server that left word and ended.
    #[test]
    fn a_stranger_is_told_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let zeros = format!(
            r#"{{"object": "identity", "proof": "{}"}}"#,
            "00".repeat(32)
        );
        for reply in [
            answer("200 OK", &zeros),
            answer("200 OK", "<html>"),
            answer("200 OK", r#"{"proof": ""}"#),
            answer("404 Not Found", "{}"),
            "HTTP/1.1 307 Go\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 0\r\n\r\n"
                .to_owned(),
        ] {
            let (named, serving) = server(vec![reply]);
            let Server::Named(url) = &named.server else {
                panic!("named")
            };
            let address = url.strip_prefix("http://").unwrap().parse().unwrap();
            let identity = address::Identity::new();
            address::publish(dir.path(), address, &identity).unwrap();
            let mut client = Client::of_data_dir(dir.path(), Some("secret".into()));
            client.patience = Duration::from_millis(1);
            let error = client.decide(&decision()).unwrap_err();
            assert!(matches!(error, LoopError::Stranger { .. }), "{error}");
            let requests = serving.join().unwrap();
            assert_eq!(requests.len(), 1);
            assert!(
                requests[0].starts_with("GET /v1/identity?challenge="),
                "{}",
                requests[0]
            );
            assert!(!requests[0].contains("secret"), "{}", requests[0]);
        }
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
            matches!(&conflict, LoopError::Conflict(m) if m.contains("1234")),
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
        assert!(matches!(error, LoopError::Http { .. }), "{error}");
        assert!(error.to_string().starts_with(&url), "{error}");
    }
}
