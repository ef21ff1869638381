//! `attune`: parse, build, run.

use std::io::Write;
use std::process::ExitCode;
use std::sync::atomic::AtomicBool;
use std::sync::Arc;

use anyhow::{Context, Result};
use attune::api::openapi;
use attune::app::{commands, devices};
use attune::config::attune::{Cli, Command};
use attune::config::learning_loop::Loop;
use attune::config::serve::{Serve, ServeConfig};
use attune::learning_loop::repeat::Repeat;
use attune::serve;
use attune::telemetry::{init_logs, LogFormat};
use clap::Parser;
use signal_hook::consts::{SIGINT, SIGTERM};

fn main() -> ExitCode {
    let done = match Cli::parse().command {
        Command::Serve(raw) => serve_until_told(&raw),
        Command::Model(command) => logs(false).and_then(|()| print(&commands::model(command)?)),
        Command::Adapter(command) => logs(false).and_then(|()| print(&commands::adapter(command)?)),
        Command::Key(command) => logs(false).and_then(|()| print(&commands::key(command)?)),
        Command::Store(command) => logs(false).and_then(|()| print(&commands::store(command)?)),
        Command::Loop(raw) => logs(false).and_then(|()| turn_wheel(&raw)),
        Command::Openapi { out: None } => print(&openapi::document()),
        Command::Openapi { out: Some(path) } => {
            std::fs::write(&path, openapi::document()).with_context(|| path.display().to_string())
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // The last words go to people; nothing can be done if even that fails.
            let _ = writeln!(std::io::stderr(), "attune: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn serve_until_told(raw: &Serve) -> Result<()> {
    let settings = raw.settings()?;
    logs(settings.log_json)?;
    let config = ServeConfig::new(&settings)?;
    serve::run(&config, devices::load, |address| {
        say(&format!("attune is ready on http://{address}\n"))
    })?;
    Ok(())
}

fn turn_wheel(raw: &Loop) -> Result<()> {
    let turns = Repeat::new(raw)?;
    rayon::ThreadPoolBuilder::new()
        .num_threads(turns.threads)
        .build_global()?;
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        // The second one ends the program at once; the next turn sweeps up.
        signal_hook::flag::register_conditional_shutdown(signal, 1, stop.clone())?;
        signal_hook::flag::register(signal, stop.clone())?;
    }
    turns.all(&stop, |line| {
        // A closed pipe is no reason to stop learning.
        let _ = print(&format!("{line}\n"));
    })?;
    Ok(())
}

fn logs(json: bool) -> Result<()> {
    let filter = std::env::var("ATTUNE_LOG").unwrap_or_else(|_| "info".to_owned());
    Ok(init_logs(
        &filter,
        if json {
            LogFormat::Json
        } else {
            LogFormat::Text
        },
    )?)
}

fn print(text: &str) -> Result<()> {
    say(text).context("standard output")
}

fn say(text: &str) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()
}
