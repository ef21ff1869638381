//! OpenAI's Python client, from the package index, against the real server with the real model.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test may stop at the first surprise"
)]

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

const KEYS: &str = r#"{"keys": [{"name": "python", "key": "sk-python-client-0123456789",
    "users": ["alice", "bob", "nobody-knows-me"]}]}"#;

/// Ends the server also when an assertion fails.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn the_python_client_is_content() {
    let python = python_with_openai();
    let data = tempfile::tempdir().unwrap();
    let keys = data.path().join("keys.json");
    fs::write(&keys, KEYS).unwrap();
    let (_server, url) = start(data.path(), &keys);
    let client = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/python_sdk/client.py");
    let status = Command::new(python).arg(client).arg(url).status().unwrap();
    assert!(
        status.success(),
        "the client found something; see its output above"
    );
}

/// The server's base URL, from the line that it prints when it is ready.
fn start(data: &Path, keys: &Path) -> (Server, String) {
    let mut server = Command::new(env!("CARGO_BIN_EXE_attune"));
    server
        .args([
            "serve",
            "--port",
            "0",
            "--kv-memory",
            "128MiB",
            "--data-dir",
        ])
        .arg(data);
    server.arg("--api-keys").arg(keys).stdout(Stdio::piped());
    let mut server = Server(server.spawn().unwrap());
    let mut line = String::new();
    BufReader::new(server.0.stdout.take().unwrap())
        .read_line(&mut line)
        .unwrap();
    let address = line.trim().strip_prefix("attune is ready on ");
    let address = address.unwrap_or_else(|| panic!("the server did not start: {line:?}"));
    let url = format!("{address}/v1");
    (server, url)
}

/// A virtual environment with the client, made once a build directory.
fn python_with_openai() -> PathBuf {
    let home = Path::new(env!("CARGO_TARGET_TMPDIR")).join("python-openai");
    let python = home.join("bin/python");
    let has_client = || {
        let import = Command::new(&python)
            .args(["-c", "import openai"])
            .stderr(Stdio::null())
            .status();
        import.is_ok_and(|s| s.success())
    };
    if !has_client() {
        let run = |command: &mut Command| {
            let done = command.stdout(Stdio::null()).status();
            assert!(
                done.is_ok_and(|s| s.success()),
                "{command:?} failed: this test needs python3 with venv and pip"
            );
        };
        run(Command::new("python3")
            .args(["-I", "-m", "venv"])
            .arg(&home));
        run(Command::new(&python).args(["-I", "-m", "pip", "install", "--quiet", "openai>=2,<3"]));
    }
    python
}
