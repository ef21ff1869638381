//! `loadtest run`, `learn`, `compare`, `soak`, `kills` and `overload`; see the README.

use std::future::Future;
use std::path::Path;
use std::process::ExitCode;

use anyhow::Context;
use clap::Parser;
use tokio::signal::unix::{signal, SignalKind};

use loadtest::cli::{Cli, Command, KillsArgs, LearnArgs, MixArgs, OverloadArgs, RunArgs};
use loadtest::mix::scenario::{Mix, RawMix};
use loadtest::mix::server::ServerCommand;
use loadtest::report::Report;
use loadtest::run::{run, Options};
use loadtest::scenario::{resolve, RawScenario};
use loadtest::target::Target;
use loadtest::{compare, kills, learn, mix, overload, soak, table};

fn main() -> anyhow::Result<ExitCode> {
    match Cli::parse().command {
        Command::Run(args) => run_scenario(*args),
        Command::Learn(args) => learn_scenario(*args),
        Command::Soak(args) => soak_server(args),
        Command::Kills(args) => kill_servers(args),
        Command::Overload(args) => overload_server(args),
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

    let ran = run(&scenario, options, interrupt());
    let Some(report) = until_second_interrupt(ran)? else {
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
    // Half of a run says nothing. The preferences that were sent stay with the server.
    let learned = learn::run::run(&scenario, options, args.turn.as_deref());
    let Some(report) = until(interrupt(), learned)? else {
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

fn soak_server(args: MixArgs) -> anyhow::Result<ExitCode> {
    let command = ServerCommand::new(&args.server)?;
    let (mix, options) = mix(&args, &command)?;
    let soaked = soak::run::run(&mix, options, &command, interrupt());
    let Some(report) = until_second_interrupt(soaked)? else {
        return Ok(ExitCode::from(130));
    };
    print(&soak::report::render(&report));
    write_json(args.json.as_deref(), &report)?;
    Ok(exit_code(
        report.faults().is_empty() && !report.mix.interrupted,
    ))
}

fn kill_servers(args: KillsArgs) -> anyhow::Result<ExitCode> {
    let command = ServerCommand::new(&args.mix.server)?;
    let (mix, options) = mix(&args.mix, &command)?;
    let plan = kills::run::Kills {
        count: args.kills,
        longest_life: args.longest_life,
        command,
    };
    let killed = kills::run::run(&mix, options, &plan, interrupt());
    let Some(report) = until_second_interrupt(killed)? else {
        return Ok(ExitCode::from(130));
    };
    print(&kills::report::render(&report));
    write_json(args.mix.json.as_deref(), &report)?;
    Ok(exit_code(
        report.mix.broken.is_empty() && !report.mix.interrupted,
    ))
}

fn overload_server(args: OverloadArgs) -> anyhow::Result<ExitCode> {
    let mut raw = overload::scenario::RawOverload::read(&args.scenario)?;
    args.apply(&mut raw);
    let scenario = overload::scenario::resolve(&raw)?;
    let command = args.server.as_deref().map(ServerCommand::new).transpose()?;
    let (target, health) = match &command {
        Some(command) => (command.target(args.api_key)?, command.health_target()?),
        None => {
            let health = args.health_url.as_deref().unwrap_or(&args.url);
            (
                Target::new(&args.url, args.api_key)?,
                Target::new(health, None)?,
            )
        }
    };
    let options = Options {
        target,
        note: args.note,
        quiet: true,
    };
    let place = overload::run::Place { health, command };
    // Half of a run says nothing; a server that this program started ends with it.
    let overloaded = overload::run::run(&scenario, options, place);
    let Some(report) = until(interrupt(), overloaded)? else {
        return Ok(ExitCode::from(130));
    };
    print(&overload::report::render(&report, &scenario));
    write_json(args.json.as_deref(), &report)?;
    Ok(exit_code(report.faults(&scenario).is_empty()))
}

fn mix(args: &MixArgs, command: &ServerCommand) -> anyhow::Result<(Mix, Options)> {
    let mut raw = RawMix::read(&args.scenario)?;
    args.apply(&mut raw);
    let options = Options {
        target: command.target(args.api_key.clone())?,
        note: args.note.clone(),
        quiet: false,
    };
    Ok((mix::scenario::resolve(&raw)?, options))
}

/// A run that ends well by itself at the first signal: the second leaves at once.
fn until_second_interrupt<T>(
    run: impl Future<Output = anyhow::Result<T>>,
) -> anyhow::Result<Option<T>> {
    let second = async {
        interrupt().await;
        interrupt().await;
    };
    until(second, run)
}

/// Runs, unless `end` comes first.
fn until<T>(
    end: impl Future<Output = ()>,
    run: impl Future<Output = anyhow::Result<T>>,
) -> anyhow::Result<Option<T>> {
    runtime()?.block_on(async {
        tokio::select! {
            report = run => report.map(Some),
            () = end => Ok(None),
        }
    })
}

fn write_json(file: Option<&Path>, report: &impl serde::Serialize) -> anyhow::Result<()> {
    let Some(file) = file else {
        return Ok(());
    };
    let mut text = serde_json::to_string_pretty(report)?;
    text.push('\n');
    std::fs::write(file, text).with_context(|| format!("cannot write {}", file.display()))
}

fn exit_code(good: bool) -> ExitCode {
    match good {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    }
}

/// One thread: the generator shares the machine with the server and must stay small.
fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
}

/// Ready at Ctrl-C and at SIGTERM; never, if signals cannot be watched.
async fn interrupt() {
    let Ok(mut terminate) = signal(SignalKind::terminate()) else {
        return std::future::pending().await;
    };
    tokio::select! {
        Ok(()) = tokio::signal::ctrl_c() => {}
        Some(()) = terminate.recv() => {}
        else => std::future::pending().await,
    }
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
