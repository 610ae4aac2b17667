//! `qmgr`: administers the server, its queues and its nodes. This file decides where orders come from, what is echoed, and
//! with which status the command ends.

mod grammar;
mod help;
mod lines;
mod session;
mod show;
mod tables;

use std::io::{BufRead, IsTerminal, Read, Write};
use std::time::Duration;

use crate::command::{Call, Failure};
use crate::door::Doors;
use crate::getopt::{Opt, Parsed};
use crate::output::screen::Screen;
use session::Session;

pub(crate) use grammar::{Directive, Object, Operator, Order, Request, Verb, parse};
pub(crate) use lines::{Lines, requests};
pub(crate) use session::wire;
pub(crate) use show::{Shown, print, print_head};
pub(crate) use tables::of as table;

/// The options of `qmgr`.
pub(crate) const OPTIONS: &[Opt] = &[
    Opt::flag('a', "Stop at the first error"),
    Opt::value('c', "COMMAND", "Carry out this command only"),
    Opt::flag('e', "Echo commands"),
    Opt::flag('n', "Check commands only, carry out none"),
    Opt::flag('z', "Say nothing about errors"),
];

const USAGE: &str = "Usage: qmgr [-a] [-c command] [-e] [-n] [-z] [server...]";
/// What a connection to one server counts against in Torque; scripts skip this line by its words.
const GREETING: &[u8] = b"Max open servers: 9\n";
const PROMPT: &[u8] = b"Qmgr: ";
const PROMPT_CONTINUED: &[u8] = b"Qmgr< ";
/// Longest command, with all its lines, in bytes.
const COMMAND_BYTES_MAX: usize = 1 << 20;

/// Exit statuses of Torque's.
const NOT_PARSED: u8 = 1;
const NOT_DONE: u8 = 2;
const NOT_CONNECTED: u8 = 3;

/// Carries out one command (`-c`) or those of stdin.
///
/// # Errors
/// Misuse, and output that cannot be written. All else is said on stderr and ends in the exit status.
pub(crate) async fn run<W: Write>(call: &Call, screen: &mut Screen<W>) -> Result<u8, Failure> {
    let parsed = call.parse(OPTIONS);
    check(&parsed)?;
    let has = |letter| parsed.has(letter);
    let doors = Doors::new(call, Duration::ZERO);
    let session = Session::new(doors, &parsed.operands, has('z'), has('a'));
    let mut qmgr = Qmgr {
        session,
        stops: has('a'),
        echoes: has('e'),
        only_checks: has('n'),
    };
    match parsed.value('c') {
        Some(command) => qmgr.one(command, screen).await,
        None => qmgr.all(screen).await,
    }
}

fn check(parsed: &Parsed) -> Result<(), Failure> {
    let mut text: Vec<&str> = parsed.problems().collect();
    if text.is_empty() {
        return Ok(());
    }
    if !parsed.has('z') {
        text.push(USAGE);
    }
    Err(Failure::new(NOT_PARSED, text.join("\n")))
}

struct Qmgr<'a> {
    session: Session<'a>,
    /// `-a`
    stops: bool,
    /// `-e`
    echoes: bool,
    /// `-n`
    only_checks: bool,
}

/// What became of a request.
enum Outcome {
    /// It went well, or not: the last one's counts for the exit status.
    Done(bool),
    /// Help was shown, which Torque counts as a failure.
    Helped,
    /// Nothing more is to be done.
    End(u8),
}

impl Qmgr<'_> {
    /// `-c`
    async fn one<W: Write>(&mut self, text: &str, screen: &mut Screen<W>) -> Result<u8, Failure> {
        if !self.session.connect(screen).await {
            return Ok(NOT_CONNECTED);
        }
        self.echo(text, screen);
        Ok(match self.request(text, screen).await? {
            Outcome::Done(true) => 0,
            Outcome::Done(false) => NOT_DONE,
            Outcome::Helped if self.stops => NOT_PARSED,
            Outcome::Helped => NOT_DONE,
            Outcome::End(status) => status,
        })
    }

    /// Commands from stdin until its end.
    async fn all<W: Write>(&mut self, screen: &mut Screen<W>) -> Result<u8, Failure> {
        screen.out().extend_from_slice(GREETING);
        let is_dialogue = std::io::stdin().is_terminal() && std::io::stdout().is_terminal();
        let mut lines = Lines::default();
        let mut status = 0;
        loop {
            if is_dialogue {
                let prompt = if lines.is_continued() {
                    PROMPT_CONTINUED
                } else {
                    PROMPT
                };
                screen.out().extend_from_slice(prompt);
            }
            // Whoever looks on sees answers and complaints in the order of the commands.
            screen.finish(&mut std::io::stderr())?;
            let Some(line) = next_line(&lines)? else {
                if is_dialogue {
                    screen.out().push(b'\n');
                }
                return Ok(status);
            };
            if !is_dialogue {
                screen.out().extend_from_slice(&line);
                screen.out().push(b'\n');
            }
            let Some(text) = lines.take(&String::from_utf8_lossy(&line)) else {
                continue;
            };
            for request in requests(&text) {
                self.echo(request, screen);
                status = match self.request(request, screen).await? {
                    Outcome::Done(true) => 0,
                    Outcome::Done(false) | Outcome::Helped => NOT_DONE,
                    Outcome::End(status) => return Ok(status),
                };
            }
        }
    }

    fn echo<W: Write>(&self, text: &str, screen: &mut Screen<W>) {
        if self.echoes {
            screen.out().extend_from_slice(text.as_bytes());
            screen.out().push(b'\n');
        }
    }

    async fn request<W: Write>(
        &mut self,
        text: &str,
        screen: &mut Screen<W>,
    ) -> Result<Outcome, Failure> {
        let order = match parse(text) {
            Ok(Request::Order(order)) => order,
            Ok(Request::Nothing) => return Ok(Outcome::Done(true)),
            Ok(Request::Quit) => return Ok(Outcome::End(0)),
            Ok(Request::Help(topic)) => {
                screen.out().extend_from_slice(help::on(&topic).as_bytes());
                screen.out().push(b'\n');
                return Ok(Outcome::Helped);
            }
            Err(error) => {
                self.session.complain(screen, &error.shown(text));
                return Ok(if self.stops {
                    Outcome::End(NOT_PARSED)
                } else {
                    Outcome::Done(false)
                });
            }
        };
        if self.only_checks {
            return Ok(Outcome::Done(true));
        }
        if !self.session.connect(screen).await {
            return Ok(Outcome::End(NOT_CONNECTED));
        }
        let is_done = self.session.execute(&order, screen).await?;
        Ok(match is_done || !self.stops {
            true => Outcome::Done(is_done),
            false => Outcome::End(NOT_DONE),
        })
    }
}

/// The next line of stdin without its end; `None` at the end of the input.
fn next_line(lines: &Lines) -> Result<Option<Vec<u8>>, Failure> {
    let room = COMMAND_BYTES_MAX - lines.len().min(COMMAND_BYTES_MAX);
    let mut line = Vec::new();
    let limit = u64::try_from(room + 1).unwrap_or(u64::MAX);
    let read = std::io::stdin()
        .lock()
        .take(limit)
        .read_until(b'\n', &mut line);
    let read = read.map_err(|error| {
        Failure::new(NOT_PARSED, format!("qmgr: cannot read the input: {error}"))
    })?;
    if read > room {
        let text = format!("qmgr: a command is longer than {COMMAND_BYTES_MAX} bytes");
        return Err(Failure::new(NOT_PARSED, text));
    }
    if line.last() == Some(&b'\n') {
        line.pop();
    }
    Ok((read > 0).then_some(line))
}
