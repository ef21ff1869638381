//! The server's process: started, waited for, killed or told to end.

use std::net::{Ipv4Addr, TcpListener};
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{bail, Context};
use tokio::process::{Child, Command};

use crate::http::Http;
use crate::target::{Target, TargetError};

/// A start may fetch and load a model.
const START_LIMIT: Duration = Duration::from_secs(300);
/// A server that is told to end finishes its answers first.
const END_LIMIT: Duration = Duration::from_secs(120);
/// A port that the system chooses.
const ANY_PORT: (Ipv4Addr, u16) = (Ipv4Addr::LOCALHOST, 0);
/// From one look to the next.
const POLL: Duration = Duration::from_millis(20);

/// How a server is started, and where it answers then.
pub struct ServerCommand {
    shell: String,
    port: u16,
    health_port: u16,
}

impl ServerCommand {
    /// `shell` is run by sh, with a free port in `$PORT`, and another in `$HEALTH_PORT`.
    ///
    /// # Errors
    /// `$PORT` is not in it; no port is free.
    pub fn new(shell: &str) -> anyhow::Result<Self> {
        anyhow::ensure!(
            shell.contains("$PORT"),
            "--server {shell:?}: where is its port? Write '... --port $PORT', in single quotes"
        );
        // Both are held until both are known, so that they differ.
        let [one, other] = [TcpListener::bind(ANY_PORT)?, TcpListener::bind(ANY_PORT)?];
        Ok(Self {
            shell: shell.to_owned(),
            port: one.local_addr()?.port(),
            health_port: other.local_addr()?.port(),
        })
    }

    /// Where it answers.
    ///
    /// # Errors
    /// None: the URL is ours.
    pub fn target(&self, api_key: Option<String>) -> Result<Target, TargetError> {
        Target::new(&format!("http://127.0.0.1:{}", self.port), api_key)
    }

    /// Where it answers for its health, if the command names such a port.
    ///
    /// # Errors
    /// None: the URL is ours.
    pub fn health_target(&self) -> Result<Target, TargetError> {
        let own = self.shell.contains("$HEALTH_PORT");
        let port = if own { self.health_port } else { self.port };
        Target::new(&format!("http://127.0.0.1:{port}"), None)
    }

    /// Runs it in the place of sh, and waits until it answers.
    ///
    /// # Errors
    /// It cannot be run, ends, or does not answer within five minutes.
    pub async fn start(&self, http: &Http) -> anyhow::Result<Process> {
        let mut shell = Command::new("sh");
        shell.args(["-c", &format!("exec {}", self.shell)]);
        shell.env("PORT", self.port.to_string());
        shell.env("HEALTH_PORT", self.health_port.to_string());
        shell.stdin(Stdio::null()).stdout(Stdio::null());
        // Ctrl-C is for the program, which ends the server when it has looked at it.
        let child = shell.process_group(0).kill_on_drop(true).spawn();
        let child = child.context("cannot run sh for --server")?;
        let pid = child.id().context("the --server command ended at once")?;
        let mut process = Process { child, pid };
        process.wait_until_it_answers(http).await?;
        Ok(process)
    }
}

/// A server that this program started. It is killed when this is dropped.
pub struct Process {
    child: Child,
    pid: u32,
}

impl Process {
    /// Its number.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Ends it without warning, as a power cut of the process would.
    ///
    /// # Errors
    /// It had ended before by itself.
    pub async fn kill(mut self) -> anyhow::Result<()> {
        if let Some(status) = self.child.try_wait()? {
            bail!(
                "the server had ended by itself ({status}) before it was killed; its log says why"
            );
        }
        self.child
            .kill()
            .await
            .context("the server cannot be killed")
    }

    /// Tells it to end, and waits for that.
    ///
    /// # Errors
    /// It does not end, or not well.
    pub async fn stop(mut self) -> anyhow::Result<()> {
        let pid = self.pid.to_string();
        let told = Command::new("kill").args(["-TERM", &pid]).status().await;
        told.context("cannot run kill")?;
        let ended = tokio::time::timeout(END_LIMIT, self.child.wait()).await;
        let status =
            ended.with_context(|| format!("the server does not end in {END_LIMIT:?}"))??;
        anyhow::ensure!(status.success(), "the server ended with {status}");
        Ok(())
    }

    async fn wait_until_it_answers(&mut self, http: &Http) -> anyhow::Result<()> {
        let start = Instant::now();
        while start.elapsed() < START_LIMIT {
            if let Some(status) = self.child.try_wait()? {
                bail!(
                    "the --server command ended with {status} before it answered; its log says why"
                );
            }
            if http.models().await.is_ok() {
                return Ok(());
            }
            tokio::time::sleep(POLL).await;
        }
        bail!("the server does not answer after {START_LIMIT:?}: does it listen on $PORT?")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_free_and_the_command_must_take_one() {
        let error = ServerCommand::new("serve --port 80").err().unwrap();
        assert!(error.to_string().contains("--port $PORT"), "{error}");
        let command = ServerCommand::new("serve --port $PORT").unwrap();
        let target = command.target(None).unwrap();
        assert_eq!(target.address().port(), command.port);
        assert_eq!(command.health_target().unwrap().address(), target.address());
        let both = ServerCommand::new("serve --port $PORT --health-port $HEALTH_PORT").unwrap();
        assert_eq!(
            both.health_target().unwrap().address().port(),
            both.health_port
        );
        assert_ne!(both.port, both.health_port);
    }

    #[tokio::test]
    async fn a_server_that_ends_is_not_waited_for() {
        let command = ServerCommand::new("sh -c 'exit 7' $PORT").unwrap();
        let http = Http::new(command.target(None).unwrap(), true).unwrap();
        let error = command.start(&http).await.err().unwrap().to_string();
        assert!(error.contains("ended with exit status: 7"), "{error}");
    }
}
