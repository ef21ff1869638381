//! Training as a whole, on a tiny random model: runs, resumption bit for bit, kill -9, bad input,
//! evaluation, new users, and the way to PEFT and back.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test may stop at the first surprise"
)]

mod bad_input;
#[path = "../common/mod.rs"]
mod common;
mod entangle;
mod expo;
mod fit;
mod forgetting;
mod judge;
mod personal;
mod reference;
mod resume;
mod versions;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::atomic::AtomicBool;

use attune::config::train::run::TrainConfig;
use attune::config::train::{TrainCli, TrainCommand};
use attune_adapter::bundle::{self, BundleContents};
use attune_train::run::{run, Outcome};
use attune_train::work::options::RunOptions;
use attune_train::TrainError;
use clap::Parser;
use serde_json::json;

use crate::common::oracles;

/// Six users, half of whom like what the others do not: 8 pairs each.
fn write_pairs(path: &Path) {
    let mut lines = String::new();
    for user in 0..6 {
        for pair in 0..8 {
            let (a, b) = (format!("yes {pair}"), format!("no, {}", pair * 7 % 5));
            let (chosen, rejected) = if user % 2 == 0 { (a, b) } else { (b, a) };
            let line = json!({
                "user": format!("user-{user}"), "prompt": format!("Q {}?", pair % 3),
                "chosen": chosen, "rejected": rejected,
            });
            lines += &format!("{line}\n");
        }
    }
    fs::write(path, lines).unwrap();
}

/// A directory with data, and what a run of the tiny model is told.
struct Bench {
    dir: tempfile::TempDir,
}

impl Bench {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        write_pairs(&dir.path().join("pairs.jsonl"));
        Self { dir }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The arguments of `attune-train pdpo` into the directory `out`.
    fn arguments(&self, out: &str, more: &[&str]) -> Vec<String> {
        let text = |path: PathBuf| path.to_str().unwrap().to_owned();
        let mut arguments = vec![
            "pdpo".to_owned(),
            "--base".to_owned(),
            text(oracles().join("tiny/llama")),
            "--data".to_owned(),
            text(self.path("pairs.jsonl")),
            "--out".to_owned(),
            text(self.path(out)),
        ];
        let usual = "--n-user-tokens 2 --lora-rank 2 --batch-size 5 --epochs 2 --lr 0.01 \
                     --log-every 2 --eval-every 4 --warmup 2";
        arguments.extend(usual.split_whitespace().map(str::to_owned));
        arguments.extend(more.iter().map(|a| (*a).to_owned()));
        arguments
    }

    /// A run in this process.
    fn run(&self, out: &str, more: &[&str], stop: &AtomicBool) -> Result<Outcome, TrainError> {
        let mut arguments = self.arguments(out, more);
        arguments.insert(0, "attune-train".into());
        // A later flag wins over one of the usual ones, as in a shell with an alias.
        let TrainCommand::Pdpo(raw) = parse(&arguments) else {
            panic!("not pdpo")
        };
        let config = raw.config().unwrap();
        let options = options(&config, stop);
        run(&config.settings, &options)
    }

    /// The same in a process of its own.
    fn command(&self, arguments: &[String]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_attune-train"));
        command.args(arguments);
        command
    }

    fn bundle(&self, out: &str) -> PathBuf {
        bundle::locate(&self.path(out).join("bundle")).unwrap()
    }

    fn contents(&self, out: &str) -> BundleContents {
        bundle::contents(&self.bundle(out)).unwrap()
    }
}

/// Where a run is, as its command line says.
fn options<'a>(config: &TrainConfig, stop: &'a AtomicBool) -> RunOptions<'a> {
    RunOptions {
        out: config.out.clone(),
        against: config.against.clone(),
        judge: None,
        resume: config.resume,
        compute: config.compute,
        max_memory: config.max_memory,
        stop,
        progress: false,
    }
}

fn parse(arguments: &[String]) -> TrainCommand {
    let mut kept: Vec<String> = Vec::new();
    let mut rest = arguments.iter().peekable();
    while let Some(argument) = rest.next() {
        let value = rest.next_if(|next| !next.starts_with("--")).cloned();
        if let Some(at) = kept
            .iter()
            .position(|k| k == argument && argument.starts_with("--"))
        {
            kept.drain(at..at + 2);
        }
        kept.push(argument.clone());
        kept.extend(value);
    }
    TrainCli::parse_from(kept).command
}

fn never() -> AtomicBool {
    AtomicBool::new(false)
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// A published run, or a panic that says what happened.
fn published(outcome: Result<Outcome, TrainError>) {
    match outcome.unwrap() {
        Outcome::Published { .. } => {}
        other @ Outcome::Stopped { .. } => panic!("{other:?}"),
    }
}
