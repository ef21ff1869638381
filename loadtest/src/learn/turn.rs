//! Between the lessons and the second exam, somebody trains and promotes: a command, or a person.

use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{bail, Context};
use serde::{Deserialize, Serialize};
use tokio::process::Command;

use super::ask::Asker;

/// How often the version is looked at.
const POLL: Duration = Duration::from_millis(500);

/// How the turn came about. The command itself is left out: it may hold a key.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Turn {
    /// `command`, or `hand` if a new version was waited for.
    pub by: String,
    /// How long it took.
    pub seconds: f64,
}

/// Runs the command; without one, waits until the model names another version.
///
/// # Errors
/// The command fails, or no other version answers within the scenario's `turn_timeout`.
pub async fn take(asker: &Asker<'_>, url: &str, command: Option<&str>) -> anyhow::Result<Turn> {
    let start = Instant::now();
    let by = match command {
        Some(command) => {
            run(command, url).await?;
            "command"
        }
        None => {
            wait(asker).await?;
            "hand"
        }
    };
    Ok(Turn {
        by: by.to_owned(),
        seconds: start.elapsed().as_secs_f64(),
    })
}

/// What it prints goes where this program's output goes.
async fn run(command: &str, url: &str) -> anyhow::Result<()> {
    let mut shell = Command::new("sh");
    shell.args(["-c", command]).stdin(Stdio::null());
    shell.env("LOADTEST_URL", url.trim_end_matches('/'));
    let status = shell.kill_on_drop(true).status().await;
    let status = status.context("cannot run sh for --turn")?;
    if !status.success() {
        bail!(
            "the --turn command failed ({status}). The preferences are on record: mend the command and \
             run it by hand, or start again with another user_name"
        );
    }
    Ok(())
}

async fn wait(asker: &Asker<'_>) -> anyhow::Result<()> {
    let model = &asker.scenario.model;
    let limit = asker.scenario.turn_timeout;
    let before = asker.version().await;
    let before =
        before.map_err(|failure| anyhow::anyhow!("{}: {}", failure.kind, failure.message))?;
    say(&format!(
        "The preferences are on record. Now train on GET /v1/admin/snapshot, install the bundle and \
         promote it, so that {model} names another version than {before}. Waiting for up to {limit:?}."
    ));
    let end = Instant::now() + limit;
    while Instant::now() < end {
        tokio::time::sleep(POLL).await;
        // A server that is being restarted is not there for a while.
        if asker.version().await.is_ok_and(|version| version != before) {
            return Ok(());
        }
    }
    bail!(
        "{model} still names version {before} after {limit:?}; raise turn_timeout in the scenario, or \
         pass --turn 'COMMAND'"
    );
}

/// To standard error: standard output is for the table.
fn say(text: &str) {
    use std::io::Write;
    let _ = writeln!(std::io::stderr(), "{text}");
}
