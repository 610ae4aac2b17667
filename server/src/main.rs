//! The daemon's command line: which settings, and what to do with them.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use clap::Parser;

/// The Capstan server: queues jobs and hands out nodes and cards
#[derive(Parser)]
#[command(name = "capstan-server", version)]
struct Arguments {
    /// Settings file (TOML)
    #[arg(long, value_name = "FILE")]
    settings: PathBuf,
    /// Read the settings, say whether they are right, and end
    #[arg(long)]
    check: bool,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    start_log();
    match serve(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

fn serve(arguments: &Arguments) -> anyhow::Result<()> {
    let host = nix::unistd::gethostname().context("asking for the host's name")?;
    let host = host.to_string_lossy();
    let settings = capstan_server::settings::load(&arguments.settings, &host)?;
    if arguments.check {
        tracing::info!(file = %arguments.settings.display(), "settings are right");
        return Ok(());
    }
    capstan_server::run(settings)
}

/// Logs go to standard error; `CAPSTAN_LOG`, else `RUST_LOG`, chooses what (`info` when neither is set).
fn start_log() {
    let filter = std::env::var("CAPSTAN_LOG").or_else(|_| std::env::var("RUST_LOG"));
    let filter = filter.unwrap_or_else(|_| "info".to_owned());
    tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::new(filter))
        .with_writer(std::io::stderr)
        .with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()))
        .init();
}
