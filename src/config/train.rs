//! The command line of `attune-train`: a file per command, and one per group of settings that commands share.

pub mod base_model;
pub mod data;
pub mod entangle;
pub mod eval;
pub mod evaluation;
pub mod expo;
pub mod fit_users;
pub mod lengths;
pub mod lora;
pub mod objective;
pub mod optimizer;
pub mod pdpo;
pub mod run;
pub mod sample;
pub mod tasks;
pub mod user_model;

use std::path::PathBuf;

use clap::{Parser, Subcommand};

use self::entangle::Entangle;
use self::eval::Eval;
use self::expo::{ExpDpo, ExpGrpo};
use self::fit_users::FitUsers;
use self::pdpo::Pdpo;
use self::sample::Sample;
use self::tasks::{Explain, Solve, Tasks};

/// Preference pairs become adapter versions: a LoRA and a user model, learned together.
#[derive(Debug, Parser)]
#[command(name = "attune-train", version, about)]
pub struct TrainCli {
    /// What to do.
    #[command(subcommand)]
    pub command: TrainCommand,
}

/// The subcommands of `attune-train`.
#[derive(Debug, Subcommand)]
pub enum TrainCommand {
    /// Train by P-DPO, or by the personal form of another preference loss.
    Pdpo(Box<Pdpo>),
    /// Score pairs: accuracy and margin, with intervals, by user.
    Eval(Eval),
    /// Add rows for new users to a bundle; the model and the known users stay as they are.
    FitUsers(Box<FitUsers>),
    /// Answer one prompt for several users, side by side.
    Sample(Sample),
    /// Measure how the gradients of chosen and rejected responses pull at each other.
    Entangle(Entangle),
    /// Make up tasks with an answer that a program can check.
    Tasks(Tasks),
    /// Solve tasks: pass@k.
    Solve(Solve),
    /// Turn tasks into preference pairs: self-explanations above wrong answers (ExP-DPO).
    Explain(Explain),
    /// Learn tasks from pairs that the policy makes: its explanations above its wrong answers (ExP-DPO).
    ExpDpo(Box<ExpDpo>),
    /// Learn tasks by reinforcement, with self-explanations beside it (ExP-GRPO).
    ExpGrpo(Box<ExpGrpo>),
    /// Rewrite RUN/report.html.
    Report {
        /// The run's directory.
        run: PathBuf,
    },
}
