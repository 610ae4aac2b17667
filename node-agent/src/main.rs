//! The agent of a node: wires cards, containers and attempts to the server. Also the shim and the spawner of shims,
//! which are this same binary under another word. Decides nothing itself.

mod asked;
mod diagnosis;
mod doctor;
mod door;
mod engine;
mod events;
mod health;
mod host;
mod inventory;
mod kernel_log;
mod link;
mod notes;
mod preparing;
mod serve;
mod sessions;
mod settings;
mod sisters;
mod surroundings;

use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use clap::{Parser, Subcommand};
use tracing_subscriber::EnvFilter;

use crate::settings::Settings;

/// Threads that wait for disks, name services and drivers. The agent itself needs one.
const BLOCKING_THREADS_MAX: usize = 16;

/// Run jobs and containers on this node for a Capstan server
#[derive(Parser)]
#[command(
    name = "capstan-agent",
    version,
    args_conflicts_with_subcommands = true
)]
struct Arguments {
    /// Settings file (TOML)
    #[arg(long, value_name = "FILE", default_value = "/etc/capstan/agent.toml")]
    settings: PathBuf,
    #[command(subcommand)]
    inner: Option<Inner>,
}

#[derive(Subcommand)]
enum Inner {
    /// Look at this host, and say what is wrong, why it matters, and which line mends it
    Doctor {
        /// As JSON
        #[arg(long)]
        json: bool,
        /// Settings file (TOML)
        #[arg(long, value_name = "FILE", default_value = "/etc/capstan/agent.toml")]
        settings: PathBuf,
    },
    /// Run one attempt to its end (started by the agent)
    #[command(hide = true)]
    Shim {
        /// The attempt's file in the ledger
        file: PathBuf,
    },
    /// Start shims on request (started by the agent)
    #[command(hide = true)]
    Spawner,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    // The shim and the spawner fork, so they must be done before any thread begins.
    let outcome = match arguments.inner {
        Some(Inner::Shim { file }) => {
            capstan_supervisor::attempts::execute_shim(&file).context("starting the shim")
        }
        Some(Inner::Spawner) => {
            capstan_supervisor::attempts::serve_spawner().context("serving the agent")
        }
        Some(Inner::Doctor { json, settings }) => return examine(&settings, json),
        None => run(&arguments.settings),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            start_log();
            tracing::error!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

/// The doctor: its report is all that is printed.
fn examine(settings: &std::path::Path, json: bool) -> ExitCode {
    let examined = || {
        let settings = Settings::read(settings)?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .max_blocking_threads(BLOCKING_THREADS_MAX)
            .build()
            .context("starting the runtime")?;
        let status = runtime.block_on(doctor::run(&settings, json));
        // What hangs must not keep the report.
        runtime.shutdown_background();
        status
    };
    examined().unwrap_or_else(|error: anyhow::Error| {
        start_log();
        tracing::error!("{error:#}");
        ExitCode::from(2)
    })
}

fn run(settings: &std::path::Path) -> anyhow::Result<()> {
    let settings = Settings::read(settings)?;
    start_log();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(BLOCKING_THREADS_MAX)
        .build()
        .context("starting the runtime")?;
    let outcome = runtime.block_on(serve::serve(settings));
    // Threads that wait for a driver or an engine must not keep an agent that was told to stop.
    runtime.shutdown_background();
    outcome
}

fn start_log() {
    let filter = EnvFilter::try_from_env("CAPSTAN_LOG")
        .or_else(|_| EnvFilter::try_from_default_env())
        .unwrap_or_else(|_| EnvFilter::new("info"));
    // A second start only finds that the first one stands.
    let _standing = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none())
        .with_writer(std::io::stderr)
        .try_init();
}
