//! `loadtest run`, `loadtest learn` and `loadtest compare`; see the README.

use std::path::Path;
use std::process::ExitCode;

use clap::Parser;

use loadtest::cli::{Cli, Command, LearnArgs, RunArgs};
use loadtest::learn;
use loadtest::report::Report;
use loadtest::run::{run, Options};
use loadtest::scenario::{resolve, RawScenario};
use loadtest::target::Target;
use loadtest::{compare, table};

fn main() -> anyhow::Result<ExitCode> {
    match Cli::parse().command {
        Command::Run(args) => run_scenario(*args),
        Command::Learn(args) => learn_scenario(*args),
        Command::Compare { a, b } => {
            let (first, second) = (Report::read(&a)?, Report::read(&b)?);
            print(&compare::render(&column(&a), &first, &column(&b), &second));
            Ok(ExitCode::SUCCESS)
        }
    }
}

fn run_scenario(args: RunArgs) -> anyhow::Result<ExitCode> {
    let mut raw = RawScenario::read(&args.scenario)?;
    args.overrides.apply(&mut raw);
    let scenario = resolve(&raw)?;
    let target = Target::new(&args.url, args.api_key)?;
    let options = Options {
        target,
        note: args.note,
        quiet: args.quiet,
    };

    let report = runtime()?.block_on(async {
        tokio::select! {
            report = run(&scenario, options, interrupt()) => report.map(Some),
            () = second_interrupt() => Ok(None),
        }
    })?;
    let Some(report) = report else {
        return Ok(ExitCode::from(130));
    };

    print(&table::render(&report));
    if let Some(file) = &args.json {
        report.write(file)?;
    }
    let failed = args.fail_on_error && (report.unanswered() > 0 || report.interrupted);
    Ok(if failed {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    })
}

fn learn_scenario(args: LearnArgs) -> anyhow::Result<ExitCode> {
    let mut raw = learn::scenario::RawLearn::read(&args.scenario)?;
    args.overrides.apply(&mut raw);
    let scenario = learn::scenario::resolve(&raw)?;
    let options = Options {
        target: Target::new(&args.url, args.api_key)?,
        note: args.note,
        quiet: args.quiet,
    };
    let report = runtime()?.block_on(async {
        let learned = learn::run::run(&scenario, options, args.turn.as_deref());
        tokio::select! {
            report = learned => report.map(Some),
            () = interrupt() => Ok(None),
        }
    })?;
    // Half of a run says nothing. The preferences that were sent stay with the server.
    let Some(report) = report else {
        return Ok(ExitCode::from(130));
    };
    print(&learn::table::render(&report));
    if let Some(file) = &args.json {
        report.write(file)?;
    }
    if let Some(file) = &args.plot {
        learn::plot::write(&report, file)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// One thread: the generator shares the machine with the server and must stay small.
fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
}

/// Ready at Ctrl-C; never, if the signal cannot be watched.
async fn interrupt() {
    if tokio::signal::ctrl_c().await.is_err() {
        std::future::pending().await
    }
}

/// The first Ctrl-C lets requests in flight finish, the second does not wait for them.
async fn second_interrupt() {
    interrupt().await;
    interrupt().await;
}

/// A report's file name without its ending, as the name of its column.
fn column(file: &Path) -> String {
    file.file_stem()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned()
}

/// The one place that writes to standard output. A closed pipe is no error.
fn print(text: &str) {
    use std::io::Write;
    let _ = std::io::stdout().write_all(text.as_bytes());
}
