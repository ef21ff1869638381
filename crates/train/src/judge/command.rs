//! A process that answers lines with lines.
//!
//! It is bounded in everything that it can do to us: how long a vote takes, how long its line is, how many lines
//! it may be ahead. It has a process group of its own, which is killed when it fails and at the end, so that
//! nothing that it started is left.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::thread;
use std::time::Instant;

use rustix::process::{kill_process_group, Pid, Signal};
use serde::Deserialize;
use serde_json::json;

use crate::settings::judge::JudgeSettings;
use attune_text::chat_template::ChatMessage;

/// Bytes of a vote, at most.
const MAX_LINE: u64 = 1 << 16;

/// Votes that may wait to be read.
const AHEAD: usize = 16;

/// Failures in a row after which a judge is not asked any more.
const PATIENCE: usize = 3;

/// What a judge says of two answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Preference {
    /// The first is better.
    First,
    /// The second is better.
    Second,
    /// Neither is.
    Neither,
}

/// A judge. It is started when it is first asked.
#[derive(Debug)]
pub struct Judge<'a> {
    settings: &'a JudgeSettings,
    running: Option<Running>,
    asked: u64,
    failures: usize,
}

/// A vote as it is read.
#[derive(Debug, Deserialize)]
struct Vote {
    id: u64,
    // Null is neither; a line without it is no vote.
    #[serde(deserialize_with = "Option::deserialize")]
    vote: Option<Side>,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Side {
    A,
    B,
}

impl<'a> Judge<'a> {
    /// A judge that nobody has asked yet.
    pub fn new(settings: &'a JudgeSettings) -> Self {
        Self {
            settings,
            running: None,
            asked: 0,
            failures: 0,
        }
    }

    /// Which of two answers to a conversation is better. `None`: the judge failed; it is started anew for the
    /// next question, but after some failures in a row it is not asked again.
    pub fn ask(&mut self, messages: &[ChatMessage], answers: [&str; 2]) -> Option<Preference> {
        if self.failures >= PATIENCE {
            return None;
        }
        self.asked += 1;
        match self.try_to_ask(messages, answers) {
            Ok(preference) => {
                self.failures = 0;
                Some(preference)
            }
            Err(reason) => {
                self.running = None;
                self.failures += 1;
                let last = self.failures == PATIENCE;
                tracing::warn!(%reason, last, "the judge did not vote");
                None
            }
        }
    }

    fn try_to_ask(
        &mut self,
        messages: &[ChatMessage],
        [a, b]: [&str; 2],
    ) -> Result<Preference, String> {
        let until = Instant::now() + self.settings.timeout;
        let running = match self.running.take() {
            Some(running) => running,
            None => Running::start(&self.settings.command)
                .map_err(|error| format!("it cannot be started: {error}"))?,
        };
        let running = self.running.insert(running);
        let message = |m: &ChatMessage| json!({"role": m.role, "content": m.content});
        let messages: Vec<_> = messages.iter().map(message).collect();
        let question = json!({"id": self.asked, "messages": messages, "a": a, "b": b});
        let line = running.ask(format!("{question}\n"), until)?;
        let vote: Vote = serde_json::from_slice(&line)
            .map_err(|error| format!("its line is no vote: {error}"))?;
        if vote.id != self.asked {
            let (said, asked) = (vote.id, self.asked);
            return Err(format!(
                "it voted on question {said} when {asked} was asked"
            ));
        }
        Ok(match vote.vote {
            Some(Side::A) => Preference::First,
            Some(Side::B) => Preference::Second,
            None => Preference::Neither,
        })
    }
}

/// `sh -c command` between two pipes.
fn shell(command: &str) -> Command {
    let mut shell = Command::new("sh");
    shell
        .args(["-c", command])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .process_group(0)
        // Of `attune loop`: it opens the server to whoever has it.
        .env_remove("ATTUNE_API_KEY");
    shell
}

/// The process.
#[derive(Debug)]
struct Running {
    child: Child,
    questions: SyncSender<String>,
    votes: Receiver<Vec<u8>>,
}

impl Running {
    fn start(command: &str) -> std::io::Result<Self> {
        let mut child = shell(command).spawn()?;
        let (questions, to_write) = mpsc::sync_channel(1);
        let (read, votes) = mpsc::sync_channel(AHEAD);
        // A pipe that is full, or that nothing comes out of, must hold up a thread that nobody waits for. Both
        // end when the process group is gone.
        if let (Some(stdin), Some(stdout)) = (child.stdin.take(), child.stdout.take()) {
            thread::spawn(move || write(stdin, &to_write));
            thread::spawn(move || read_lines(stdout, &read));
        }
        Ok(Self {
            child,
            questions,
            votes,
        })
    }

    /// Sends a line and waits for one.
    fn ask(&self, line: String, until: Instant) -> Result<Vec<u8>, String> {
        let ended = || "it ended, or a line of it was too long".to_owned();
        // A judge that reads took the last question before it answered, so that there is room for this one.
        self.questions.try_send(line).map_err(|error| match error {
            mpsc::TrySendError::Full(_) => "it does not read its questions".to_owned(),
            mpsc::TrySendError::Disconnected(_) => ended(),
        })?;
        let left = until.saturating_duration_since(Instant::now());
        self.votes.recv_timeout(left).map_err(|error| match error {
            mpsc::RecvTimeoutError::Timeout => "it took too long".to_owned(),
            mpsc::RecvTimeoutError::Disconnected => ended(),
        })
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // The child was not waited for, so that its id is nobody else's.
        let killed = kill_process_group(Pid::from_child(&self.child), Signal::KILL);
        let ended = self.child.wait();
        if let (Err(error), Ok(_)) = (killed, ended) {
            tracing::debug!(%error, "the judge's processes");
        }
    }
}

fn write(mut stdin: ChildStdin, questions: &Receiver<String>) {
    for question in questions {
        if stdin.write_all(question.as_bytes()).is_err() || stdin.flush().is_err() {
            return;
        }
    }
}

fn read_lines(stdout: ChildStdout, votes: &SyncSender<Vec<u8>>) {
    let mut stdout = BufReader::new(stdout);
    loop {
        let mut line = Vec::new();
        let read = (&mut stdout).take(MAX_LINE).read_until(b'\n', &mut line);
        if read.is_err() || line.pop() != Some(b'\n') || votes.send(line).is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::time::Duration;

    use super::*;

    fn judge(command: &str) -> JudgeSettings {
        JudgeSettings {
            command: command.into(),
            timeout: Duration::from_secs(60),
            prompts: 1,
            max_tokens: 1,
        }
    }

    fn messages() -> Vec<ChatMessage> {
        let message = |role: &str, content: &str| ChatMessage {
            role: role.into(),
            content: content.into(),
        };
        vec![
            message("system", "Be brief."),
            message("user", "Hi \"you\"?\n"),
        ]
    }

    /// Prefers the shorter answer, if it is asked what we asked.
    const SHORTER: &str = r#"python3 -uc '
import json, sys
for line in sys.stdin:
    q = json.loads(line)
    assert [m["role"] for m in q["messages"]] == ["system", "user"], q
    assert q["messages"][1]["content"] == "Hi \"you\"?\n", q
    a, b = len(q["a"]), len(q["b"])
    print(json.dumps({"id": q["id"], "vote": None if a == b else "a" if a < b else "b"}))
'"#;

    #[test]
    fn it_votes() {
        let settings = judge(SHORTER);
        let mut judge = Judge::new(&settings);
        let long = "word ".repeat(50_000);
        for (answers, preference) in [
            (["no", "no, never"], Preference::First),
            (["yes, always", "yes"], Preference::Second),
            (["one", "two"], Preference::Neither),
            // More than a pipe holds.
            ([&long, "-"], Preference::Second),
        ] {
            assert_eq!(judge.ask(&messages(), answers), Some(preference));
        }
    }

    #[test]
    fn whatever_else_it_says_is_no_vote() {
        for command in [
            "exit 3",
            "no-such-command-is-there",
            "echo hello",
            "echo '{\"id\": 1, \"vote\": \"c\"}'",
            "echo '{\"id\": 2, \"vote\": \"a\"}'",
            "echo '{\"vote\": \"a\"}'",
            // A tie is said by null, not by leaving it out.
            "echo '{\"id\": 1}'",
            "echo",
            "printf '{\"id\": 1, \"vote\": \"a\"}'",
            "head -c 100000 /dev/zero; echo",
        ] {
            let settings = judge(command);
            let mut judge = Judge::new(&settings);
            assert_eq!(judge.ask(&messages(), ["a", "b"]), None, "{command}");
        }
    }

    /// It is begun anew after a failure, and given up after some.
    #[test]
    fn failures_are_counted() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("log");
        let settings = judge(&format!("echo >> {}; read line; echo no", log.display()));
        let mut never = Judge::new(&settings);
        for _ in 0..5 {
            assert_eq!(never.ask(&[], ["a", "b"]), None);
        }
        assert_eq!(std::fs::read(&log).unwrap().len(), PATIENCE);
        // One vote in between, and patience begins anew.
        let once = "read line; echo \"$line\" | \
                    sed 's/^.*\"id\":\\([0-9]*\\).*$/{\"id\": \\1, \"vote\": \"b\"}/'";
        let settings = judge(once);
        let mut every_second = Judge::new(&settings);
        let votes: Vec<bool> = (0..8)
            .map(|_| every_second.ask(&[], ["a", "b"]).is_some())
            .collect();
        assert_eq!(votes, [true, false].repeat(4));
    }

    /// Votes that nobody can have thought about: what is asked fills the pipe, and is not waited for.
    #[test]
    fn one_that_votes_without_reading_holds_nothing_up() {
        let (done, votes) = mpsc::channel();
        thread::spawn(move || {
            let settings = judge(
                "n=0; while :; do n=$((n+1)); echo \"{\\\"id\\\": $n, \\\"vote\\\": \\\"a\\\"}\"; done",
            );
            let mut blind = Judge::new(&settings);
            let more_than_a_pipe_holds = "word ".repeat(50_000);
            let mut ask = || blind.ask(&[], [&more_than_a_pipe_holds, "b"]);
            let _ = done.send([ask(), ask(), ask()]);
        });
        let votes = votes.recv_timeout(Duration::from_secs(60)).unwrap();
        assert_eq!(votes[2], None, "one is being written, one waits: {votes:?}");
    }

    /// The key would let it promote what it likes.
    #[test]
    fn it_does_not_get_the_key_of_the_server() {
        let shell = shell("true");
        let mut changed = shell.get_envs();
        assert!(changed.any(|(name, value)| name == "ATTUNE_API_KEY" && value.is_none()));
    }

    /// Nothing of a judge that hangs is left, its children included.
    #[test]
    fn one_that_hangs_is_killed_with_all_that_it_started() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("pid");
        let command = format!(
            "sleep 1000000 & echo $! > {}; read line; echo '{{\"id\": 1, \"vote\": \"a\"}}'; wait",
            file.display()
        );
        let patient = judge(&command);
        let hasty = JudgeSettings {
            timeout: Duration::from_millis(20),
            ..patient.clone()
        };
        let mut judge = Judge::new(&patient);
        assert_eq!(judge.ask(&messages(), ["a", "b"]), Some(Preference::First));
        judge.settings = &hasty;
        assert_eq!(judge.ask(&messages(), ["a", &"b".repeat(1 << 20)]), None);
        let pid = std::fs::read_to_string(&file).unwrap();
        let stat = Path::new("/proc").join(pid.trim()).join("stat");
        // Until it is gone: who adopted it may take its time to bury it.
        while let Ok(stat) = std::fs::read_to_string(&stat) {
            if stat.contains(") Z ") {
                break;
            }
            thread::yield_now();
        }
    }
}
