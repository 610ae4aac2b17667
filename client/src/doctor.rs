//! `capstan doctor`: the agent's own look at this host. The checks are the agent's, so its program makes them; this finds
//! it and lets it take our place.

use std::io;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;

use crate::command::{Call, Failure};
use crate::getopt::Opt;

/// The options of `capstan doctor`.
pub(crate) const OPTIONS: &[Opt] = &[
    Opt::value(
        's',
        "FILE",
        "Settings of the agent (/etc/capstan/agent.toml)",
    ),
    Opt::value('-', "json", "As JSON"),
];

const USAGE: &str = "usage: capstan doctor [-s settings] [--json]";
/// The program, beside ours or where programs are found.
const AGENT: &str = "capstan-agent";

/// Becomes the agent's doctor.
///
/// # Errors
/// Misuse, or a host without an agent.
pub(crate) fn run(call: &Call) -> Result<u8, Failure> {
    let parsed = call.parse(OPTIONS);
    let long = parsed.value('-');
    if parsed.problems().next().is_some()
        || !parsed.operands.is_empty()
        || long.is_some_and(|word| word != "json")
    {
        return Err(Failure::new(2, USAGE));
    }
    let mut command = Command::new(agent());
    command.arg("doctor");
    if let Some(settings) = parsed.value('s') {
        command.args(["--settings", settings]);
    }
    if long.is_some() {
        command.arg("--json");
    }
    // Returns only when it could not be done.
    let error = command.exec();
    let text = if error.kind() == io::ErrorKind::NotFound {
        format!(
            "capstan doctor: there is no {AGENT} on this host\nhint: call it on a node; it looks at the host that it runs on"
        )
    } else {
        format!("capstan doctor: cannot start {AGENT}: {error}")
    };
    Err(Failure::new(2, text))
}

fn agent() -> PathBuf {
    let own = std::env::current_exe().ok();
    let beside = own.and_then(|own| Some(own.parent()?.join(AGENT)));
    beside
        .filter(|path| path.is_file())
        .unwrap_or_else(|| AGENT.into())
}
