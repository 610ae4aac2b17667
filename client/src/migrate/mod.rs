//! `capstan migrate`: what a Torque was set up with, as orders of `qmgr` for this server. Everything is read and checked
//! first; a damaged file ends the command before anything is printed or applied.

mod apply;
mod database;
mod dump;
mod finding;
mod home;
mod mom;
mod nodes;
mod plan;
#[cfg(test)]
mod tests;
mod xml;

use std::io::Write;
use std::path::PathBuf;

use crate::command::{Call, Failure};
use crate::getopt::Opt;
use crate::output::screen::Screen;
use home::Home;
use plan::Plan;

/// The options of `capstan migrate`.
pub(crate) const OPTIONS: &[Opt] = &[
    Opt::value(
        '-',
        "from-torque DIR",
        "Torque's home, usually /var/spool/torque",
    ),
    Opt::value(
        '-',
        "dump FILE",
        "Read this output of qmgr -c 'print server' instead",
    ),
    Opt::value('-', "print", "Print the orders of qmgr only, as by default"),
    Opt::value('-', "apply", "Carry the orders out on this server"),
];

const USAGE: &str = "usage: capstan migrate --from-torque DIR [--dump FILE] [--apply | --print]";

/// What is asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Arguments {
    home: PathBuf,
    dump: Option<PathBuf>,
    is_applied: bool,
}

/// Prints or applies what a Torque was set up with.
///
/// # Errors
/// Misuse (2), a damaged file (1), a refusal of the server (1).
pub(crate) async fn run<W: Write>(call: &Call, screen: &mut Screen<W>) -> Result<u8, Failure> {
    let arguments = arguments(&call.args)
        .map_err(|what| Failure::new(2, format!("capstan migrate: {what}\n{USAGE}")))?;
    let home = Home::new(&arguments.home, arguments.dump.as_deref());
    let findings = home.read().map_err(|finding::Damage { place, what }| {
        Failure::new(
            1,
            format!("capstan migrate: {place} {what}\nNothing was taken over."),
        )
    })?;
    let plan = Plan::new(findings);
    let orders = plan.orders();
    screen.complain(&format!(
        "From {}:\n{}",
        arguments.home.display(),
        plan.report().trim_end()
    ));
    if arguments.is_applied {
        return apply::run(call, screen, &orders).await;
    }
    let from = arguments.home.display().to_string();
    let head = format!(
        "# Taken over from {} by capstan migrate.\n",
        from.escape_debug()
    );
    screen.out().extend_from_slice(head.as_bytes());
    screen.out().extend_from_slice(orders.as_bytes());
    Ok(0)
}

fn arguments(words: &[String]) -> Result<Arguments, String> {
    let mut arguments = Arguments::default();
    let mut is_printed = false;
    let mut words = words.iter();
    while let Some(word) = words.next() {
        let (option, attached) = match word.split_once('=') {
            Some((option, value)) => (option, Some(value.to_owned())),
            None => (word.as_str(), None),
        };
        let mut value = || {
            let value = attached.clone().or_else(|| words.next().cloned());
            value
                .filter(|value| !value.is_empty())
                .ok_or_else(|| format!("{option} wants a value"))
        };
        match option {
            "--from-torque" => arguments.home = value()?.into(),
            "--dump" => arguments.dump = Some(value()?.into()),
            "--apply" if attached.is_none() => arguments.is_applied = true,
            "--print" if attached.is_none() => is_printed = true,
            _ => return Err(format!("there is no option {word}")),
        }
    }
    if arguments.home.as_os_str().is_empty() {
        return Err("--from-torque is missing".to_owned());
    }
    match arguments.is_applied && is_printed {
        true => Err("--apply and --print exclude each other".to_owned()),
        false => Ok(arguments),
    }
}
