//! `qterm`: ends the server; jobs go on.

use std::io::Write;
use std::time::Duration;

use capstan_proto::wire::ShutdownRequest;

use crate::command::{Call, Failure, refusal};
use crate::door::Doors;
use crate::getopt::Opt;
use crate::output::screen::Screen;

/// The options of `qterm`.
pub(crate) const OPTIONS: &[Opt] = &[Opt::value(
    't',
    "quick",
    "How to end it: quick is the only way, jobs keep running",
)];

const USAGE: &str = "Usage: qterm [-t quick] [server ...]";
const QUICK: &str = "quick";
/// The exit status of misuse.
const MISUSED: u8 = 1;
/// The exit status when a server did not end.
const NOT_DONE: u8 = 2;

/// Ends the servers that the operands name, or the default one.
///
/// # Errors
/// Misuse; all else is complained about and ends in the exit status.
pub(crate) async fn run<W: Write>(call: &Call, screen: &mut Screen<W>) -> Result<u8, Failure> {
    let parsed = call.parse(OPTIONS);
    let mut text: Vec<&str> = parsed.problems().collect();
    let kind = parsed.value('t').unwrap_or(QUICK);
    if !text.is_empty() || !kind.eq_ignore_ascii_case(QUICK) {
        text.push(USAGE);
        return Err(Failure::new(MISUSED, text.join("\n")));
    }
    let default = [String::new()];
    let servers = match parsed.operands.as_slice() {
        [] => default.as_slice(),
        operands => operands,
    };
    let mut doors = Doors::new(call, Duration::ZERO);
    let mut status = 0;
    for server in servers {
        if let Err(text) = end(&mut doors, server).await {
            screen.complain(&text);
            status = NOT_DONE;
        }
    }
    Ok(status)
}

/// The error is what to say.
async fn end(doors: &mut Doors<'_>, server: &str) -> Result<(), String> {
    let mut door = doors.to(server).await.map_err(|failure| failure.text)?;
    let answer = door
        .shutdown(ShutdownRequest {
            kind: QUICK.to_owned(),
        })
        .await;
    match answer {
        Ok(_) => Ok(()),
        Err(status) => Err(format!("qterm: {}{server}", refusal(&status).text())),
    }
}
