//! `attune-train`: parse, build, run.

use std::io::Write;
use std::process::ExitCode;
use std::sync::atomic::AtomicBool;
use std::sync::Arc;

use anyhow::{Context, Result};
use attune::config::train::{Tasks, TrainCli, TrainCommand};
use attune::config::training::{threads, TrainConfig};
use attune::telemetry::{init_logs, LogFormat};
use attune_train::commands::entangle::{entangle, EntangleRequest};
use attune_train::commands::sample::{sample, SampleRequest};
use attune_train::commands::EvalRequest;
use attune_train::expo::explain::{explain, ExplainRequest};
use attune_train::expo::solve::{self, solve, SolveRequest};
use attune_train::fit_users::{fit_users, FitRequest};
use attune_train::run::{run, Outcome};
use attune_train::task::family::tasks;
use attune_train::work::options::RunOptions;
use attune_train::{commands, report};
use clap::Parser;
use signal_hook::consts::{SIGINT, SIGTERM};

/// What the log says unless RUST_LOG is set: what is left out, cut or doubtful.
const LOG: &str = "warn";

fn main() -> ExitCode {
    let command = TrainCli::parse().command;
    let filter = std::env::var("RUST_LOG").unwrap_or_else(|_| LOG.to_owned());
    let logs = init_logs(&filter, LogFormat::Text).context("RUST_LOG");
    let done = match logs.map(|()| command) {
        Ok(command) => execute(command),
        Err(error) => Err(error),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // The last words go to people; nothing can be done if even that fails.
            let _ = writeln!(std::io::stderr(), "attune-train: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn execute(command: TrainCommand) -> Result<()> {
    match command {
        TrainCommand::Pdpo(raw) => TrainConfig::new(&raw).map_err(Into::into).and_then(train),
        TrainCommand::ExpDpo(raw) => raw.config().map_err(Into::into).and_then(train),
        TrainCommand::ExpGrpo(raw) => raw.config().map_err(Into::into).and_then(train),
        TrainCommand::Eval(raw) => pool(raw.threads)
            .and_then(|()| Ok(commands::eval(&EvalRequest::try_from(raw)?)?))
            .and_then(|text| print(&text)),
        TrainCommand::FitUsers(raw) => pool(raw.threads)
            .and_then(|()| Ok(fit_users(&FitRequest::try_from(*raw)?)?))
            .and_then(|text| print(&text)),
        TrainCommand::Sample(raw) => pool(raw.threads)
            .and_then(|()| Ok(sample(&SampleRequest::try_from(raw)?)?))
            .and_then(|text| print(&text)),
        TrainCommand::Entangle(raw) => pool(raw.threads)
            .and_then(|()| Ok(entangle(&EntangleRequest::try_from(raw)?)?))
            .and_then(|text| print(&text)),
        TrainCommand::Tasks(raw) => write_tasks(&raw)
            .with_context(|| raw.out.display().to_string())
            .and_then(|()| print(&format!("{}\n", raw.out.display()))),
        TrainCommand::Solve(raw) => pool(raw.asking.threads)
            .and_then(|()| Ok(solve(&SolveRequest::try_from(raw)?)?))
            .and_then(|text| print(&text)),
        TrainCommand::Explain(raw) => pool(raw.asking.threads)
            .and_then(|()| Ok(explain(&ExplainRequest::try_from(raw)?)?))
            .and_then(|text| print(&text)),
        TrainCommand::Report { run } => report::report(&run)
            .context("no report was written")
            .and_then(|path| print(&format!("{}\n", path.display()))),
    }
}

fn train(config: TrainConfig) -> Result<()> {
    pool(config.threads)?;
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        // The second one ends the program at once; a checkpoint is never half-written all the same.
        signal_hook::flag::register_conditional_shutdown(signal, 1, stop.clone())?;
        signal_hook::flag::register(signal, stop.clone())?;
    }
    let options = RunOptions {
        out: config.out.clone(),
        against: config.against.clone(),
        judge: None,
        resume: config.resume,
        compute: config.compute,
        max_memory: config.max_memory,
        stop: &stop,
        progress: true,
    };
    match run(&config.settings, &options)? {
        Outcome::Published {
            version,
            evaluation,
            tasks,
        } => {
            let pairs = evaluation.map_or_else(String::new, |e| commands::table(&e));
            let tasks = tasks.map_or_else(String::new, |e| {
                let notes: String = e.notes.iter().map(|note| format!("{note}\n")).collect();
                solve::table(&e.solved) + &notes
            });
            print(&format!("{pairs}{tasks}published {version}\n"))
        }
        Outcome::Stopped { step } => print(&format!(
            "stopped after step {step}; go on with the same command and --resume\n"
        )),
    }
}

fn write_tasks(raw: &Tasks) -> Result<()> {
    let tasks = tasks(raw.family.into(), raw.difficulty, raw.n, raw.seed);
    let mut lines = String::new();
    for task in tasks {
        lines += &serde_json::to_string(&task)?;
        lines.push('\n');
    }
    Ok(std::fs::write(&raw.out, lines)?)
}

/// The thread pool of all passes.
fn pool(typed: usize) -> Result<()> {
    rayon::ThreadPoolBuilder::new()
        .num_threads(threads(typed))
        .build_global()
        .context("the thread pool could not be started")
}

fn print(text: &str) -> Result<()> {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes())
        .and_then(|()| out.flush())
        .context("standard output")
}
