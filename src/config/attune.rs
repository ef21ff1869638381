//! The command line of `attune`.

use std::path::PathBuf;

use clap::{Parser, Subcommand};

use super::adapter::Adapter;
use super::key::Key;
use super::learning_loop::Loop;
use super::model::Model;
use super::serve::Serve;
use super::store::Store;

/// OpenAI-compatible chat inference that answers each user the way that user prefers.
#[derive(Debug, Parser)]
#[command(name = "attune", version, about)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The subcommands of `attune`.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Serve chat over HTTP. Fetches the model on first start.
    Serve(Box<Serve>),
    /// Models that attune knows by name.
    #[command(subcommand)]
    Model(Model),
    /// Adapter versions: import, install, promote, roll back, retire, forget, list, verify.
    #[command(subcommand)]
    Adapter(Adapter),
    /// API keys: make, list, revoke. A running server follows within seconds.
    #[command(subcommand)]
    Key(Key),
    /// The store: verify, export, compact, import. Stop the server first.
    #[command(subcommand)]
    Store(Store),
    /// Learn from what people preferred: export, train, compare, promote what is better.
    Loop(Box<Loop>),
    /// Print the OpenAPI document.
    Openapi {
        /// Write it to this file instead.
        #[arg(long)]
        out: Option<PathBuf>,
    },
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }
}
