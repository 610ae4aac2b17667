//! The daemon's command line: which settings, and what to do with them.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use capstan_server::past;
use clap::{Parser, Subcommand};

/// The Capstan server: queues jobs and hands out nodes and cards
#[derive(Parser)]
#[command(
    name = "capstan-server",
    version,
    args_conflicts_with_subcommands = true,
    subcommand_negates_reqs = true
)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
    /// Settings file (TOML)
    #[arg(long, value_name = "FILE", required = true)]
    settings: Option<PathBuf>,
    /// Read the settings, say whether they are right, and end
    #[arg(long)]
    check: bool,
}

#[derive(Subcommand)]
enum Command {
    /// Show scheduling cycles of the past, made again from the journal
    Replay(past::Arguments),
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    start_log();
    let ended = match &arguments.command {
        Some(Command::Replay(wanted)) => {
            past::run(wanted, &mut std::io::stdout().lock()).map(ExitCode::from)
        }
        None => serve(&arguments).map(|()| ExitCode::SUCCESS),
    };
    ended.unwrap_or_else(|error| {
        match arguments.command {
            // Somebody reads this on a terminal, and no log.
            Some(Command::Replay(_)) => complain(&error),
            None => tracing::error!("{error:#}"),
        }
        ExitCode::FAILURE
    })
}

/// Says why on standard error; nobody can be told when that is closed.
fn complain(error: &anyhow::Error) {
    writeln!(std::io::stderr(), "capstan replay: {error:#}").unwrap_or_default();
}

fn serve(arguments: &Arguments) -> anyhow::Result<()> {
    let host = nix::unistd::gethostname().context("asking for the host's name")?;
    let host = host.to_string_lossy();
    let file = arguments.settings.clone().unwrap_or_default();
    let settings = capstan_server::settings::load(&file, &host)?;
    if arguments.check {
        tracing::info!(file = %file.display(), "settings are right");
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
