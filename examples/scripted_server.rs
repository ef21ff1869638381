//! `attune serve` with a model that is a script: everything but the arithmetic is the program's own, so that
//! `loadtest soak`, `kills` and `overload` meet the server and not the model. Takes the flags of `attune serve`:
//!
//!     cargo run --release --example scripted_server -- --port 8080 --data-dir DIR --offer 3
//!
//! The tokenizer, the template and the width of rows are those of the tiny Llama of the tests.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "an example may stop at the first surprise"
)]

use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{ensure, Result};
use attune::app::boot::{BootError, Loaded};
use attune::config::serve::{Serve, ServeConfig};
use attune::serve;
use attune::telemetry::{init_logs, LogFormat};
use attune_adapter::publish;
use attune_base_model as base_model;
use clap::Parser;
use contents::knowing;
use runner::{Gate, ScriptedRunner, Shape};

#[path = "../tests/it/support/contents.rs"]
mod contents;
#[allow(
    dead_code,
    reason = "tests hold the engine by the gate, this server does not"
)]
#[path = "../tests/it/support/runner.rs"]
mod runner;

const TINY_LLAMA: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/tests/fixtures/oracles/tiny/llama"
);

/// Serve a scripted model.
#[derive(Parser)]
struct Cli {
    /// Microseconds that a step of the model takes.
    #[arg(long, default_value_t = 0)]
    step_micros: u64,
    /// Microseconds that each row of a step takes on top.
    #[arg(long, default_value_t = 0)]
    row_micros: u64,
    /// Blocks of the KV cache, of 16 positions each.
    #[arg(long, default_value_t = 1024)]
    kv_blocks: usize,
    /// Puts so many versions, `scripted-0` and on, into the bundle folder before it serves.
    #[arg(long, default_value_t = 0)]
    offer: usize,
    /// People whom each of these versions knows: `soak-0` and on.
    #[arg(long, default_value_t = 64)]
    known: usize,
    #[command(flatten)]
    serve: Serve,
}

fn main() -> Result<()> {
    let cli = Cli::parse();
    // Three answers are written in the script, one per version.
    ensure!(cli.offer <= 3, "--offer {}: at most 3", cli.offer);
    ensure!(cli.kv_blocks > 0, "--kv-blocks 0: at least one block");
    let mut settings = cli.serve.settings()?;
    TINY_LLAMA.clone_into(&mut settings.model.name.model);
    let filter = std::env::var("ATTUNE_LOG").unwrap_or_else(|_| "warn".to_owned());
    init_logs(&filter, LogFormat::Text)?;
    let config = ServeConfig::new(&settings)?;
    serve::run(
        &config,
        |config| scripted(&cli, config),
        |address| writeln!(std::io::stdout(), "attune is ready on http://{address}"),
    )?;
    Ok(())
}

/// The tiny Llama's texts, and a script in the place of its weights.
fn scripted(cli: &Cli, config: &ServeConfig) -> Result<Loaded, BootError> {
    let placement = config.model.placed_on(config.compute.device.open()?);
    let base = base_model::load(TINY_LLAMA, placement)?;
    let hidden = base.decoder.config().hidden_size;
    for says in 0..cli.offer {
        let folder = config.bundles.join(format!("scripted-{says}"));
        let people: Vec<String> = (0..cli.known).map(|n| format!("soak-{n}")).collect();
        publish::write(&folder, &knowing(&people, says, &base.sha256, hidden))
            .expect("the bundle folder can be written");
    }
    let shape = Shape {
        hidden,
        n_blocks: cli.kv_blocks,
        per_step: Duration::from_micros(cli.step_micros),
        per_row: Duration::from_micros(cli.row_micros),
    };
    Ok((
        base,
        Box::new(ScriptedRunner::new(Arc::new(Gate::default()), shape)),
    ))
}
