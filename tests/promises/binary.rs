//! `attune serve` as a process: what it refuses to start with, and how it ends.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};

use serde_json::{json, Value};

use crate::cli::{attune, failed, tiny_llama};
use crate::common::smollm2_gguf;
use crate::server::PATIENCE;

/// A server that is killed where a test ends early.
pub struct Serving {
    pub child: Child,
    pub address: String,
}

impl Drop for Serving {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Serving {
    /// Starts on a free port and reads the line that says which.
    pub fn start(arguments: &[&str]) -> Self {
        Self::start_with(arguments, Stdio::null())
    }

    fn start_with(arguments: &[&str], stderr: Stdio) -> Self {
        let mut command = attune(&["serve", "--port", "0"]);
        let command = command
            .args(arguments)
            .stdout(Stdio::piped())
            .stderr(stderr);
        let mut child = command.spawn().unwrap();
        let mut line = String::new();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        stdout.read_line(&mut line).unwrap();
        let address = line.trim().strip_prefix("attune is ready on http://");
        let address = address.unwrap_or_else(|| panic!("{line:?}")).to_owned();
        Self { child, address }
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(&self.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
    }

    /// One request; the answer as text.
    pub fn ask(&self, request: &str) -> String {
        let mut stream = self.connect();
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }

    pub fn terminate(&self) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill")
            .args(["-TERM", &pid])
            .status()
            .unwrap()
            .success());
    }
}

pub fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")
}

/// A request with a JSON body.
pub fn post(path: &str, body: &Value) -> String {
    let body = body.to_string();
    format!(
        "POST {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
}

pub fn chat(user: &str, max_tokens: usize, stream: bool) -> String {
    let body = json!({"model": "attune", "user": user, "temperature": 0, "stream": stream,
        "max_tokens": max_tokens, "ignore_eos": true,
        "messages": [{"role": "user", "content": "Tell me about rivers."}]});
    post("/v1/chat/completions", &body)
}

#[test]
fn sigterm_lets_answers_finish() {
    smollm2_gguf();
    let data_dir = tempfile::tempdir().unwrap();
    let data = data_dir.path().join("data");
    let arguments = ["--data-dir", data.to_str().unwrap(), "--kv-memory", "64MiB"];
    let mut serving = Serving::start(&arguments);
    assert!(serving.ask(&get("/readyz")).starts_with("HTTP/1.1 200"));
    let models = serving.ask(&get("/v1/models"));
    assert!(models.contains("\"attune\"") && models.contains("\"smollm2-135m-instruct\""));

    let mut running = serving.connect();
    running.write_all(chat("bob", 40, true).as_bytes()).unwrap();
    let mut answer = vec![0; 600];
    running.read_exact(&mut answer).unwrap();
    serving.terminate();
    running.read_to_end(&mut answer).unwrap();
    let answer = String::from_utf8_lossy(&answer);
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert!(answer.contains("\"finish_reason\":\"length\""), "{answer}");
    assert!(answer.contains("data: [DONE]"), "{answer}");
    let status = serving.child.wait().unwrap();
    assert_eq!(status.code(), Some(0));
    assert!(TcpStream::connect(&serving.address).is_err());

    // The store was closed: the same directory serves again, the same version.
    let again = Serving::start(&arguments);
    let version = |text: &str| {
        let line = text
            .lines()
            .find(|l| l.starts_with("x-attune-adapter-version"));
        line.unwrap_or_else(|| panic!("{text}")).to_owned()
    };
    assert_eq!(
        version(&again.ask(&chat("bob", 1, false))),
        version(&answer)
    );
}

/// Log lines that cannot be written are lost, and nothing else is.
#[test]
fn a_log_that_nobody_reads_fails_no_request() {
    let data_dir = tempfile::tempdir().unwrap();
    let data = data_dir.path().join("data");
    let arguments = [
        "--data-dir",
        data.to_str().unwrap(),
        "--model",
        &tiny_llama(),
        "--kv-memory",
        "4MiB",
    ];
    let mut serving = Serving::start_with(&arguments, Stdio::piped());
    drop(serving.child.stderr.take());
    for _ in 0..3 {
        let answer = serving.ask(&get("/v1/models"));
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        let answer = serving.ask(&get("/nothing"));
        assert!(answer.starts_with("HTTP/1.1 404"), "{answer}");
    }
    serving.terminate();
    assert_eq!(serving.child.wait().unwrap().code(), Some(0));
}

#[test]
fn a_port_that_is_taken() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let data_dir = tempfile::tempdir().unwrap();
    let data = data_dir.path().join("data");
    let mut command = attune(&["serve", "--port", &port, "--model", &tiny_llama()]);
    let said = failed(&command.arg("--data-dir").arg(&data).output().unwrap());
    assert!(
        said.contains(&port) && said.contains("cannot listen on"),
        "{said}"
    );
    assert!(
        !data.exists(),
        "nothing is made for a server that cannot start"
    );
}

#[test]
fn open_to_others_only_with_keys() {
    let data_dir = tempfile::tempdir().unwrap();
    let data = data_dir.path().to_str().unwrap();
    let keys = data_dir.path().join("keys.json");
    let key = "sk-0123456789abcdef";
    let open = [
        "--host",
        "0.0.0.0",
        "--model",
        &tiny_llama(),
        "--data-dir",
        data,
    ];
    let said = failed(
        &attune(&["serve", "--port", "0"])
            .args(open)
            .output()
            .unwrap(),
    );
    assert!(said.contains("--api-keys"), "{said}");

    let with_keys = [
        &open[..],
        &["--no-demo", "--api-keys", keys.to_str().unwrap()],
    ]
    .concat();
    let missing = failed(
        &attune(&["serve", "--port", "0"])
            .args(&with_keys)
            .output()
            .unwrap(),
    );
    assert!(missing.contains("keys.json"), "{missing}");
    std::fs::write(
        &keys,
        json!({"keys": [{"name": "a", "key": key}]}).to_string(),
    )
    .unwrap();
    let mut serving = Serving::start(&with_keys);
    serving.address = serving.address.replace("0.0.0.0", "127.0.0.1");
    assert!(serving
        .ask(&chat("u", 1, false))
        .starts_with("HTTP/1.1 401"));
    let authorized = format!("\r\nauthorization: Bearer {key}\r\nhost:");
    let request = chat("u", 1, false).replacen("\r\nhost:", &authorized, 1);
    let answer = serving.ask(&request);
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}

#[test]
fn settings_that_cannot_be_used() {
    for (arguments, named) in [
        (["--kv-memory", "lots"], "--kv-memory"),
        (["--quant", "q9"], "--quant"),
        (["--model", "/nowhere"], "/nowhere"),
    ] {
        let data_dir = tempfile::tempdir().unwrap();
        let mut command = attune(&["serve", "--port", "0"]);
        command
            .args(arguments)
            .arg("--data-dir")
            .arg(data_dir.path());
        let said = failed(&command.output().unwrap());
        assert!(said.contains(named), "{said}");
    }
}
