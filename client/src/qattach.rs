//! `qattach`: returns to the terminal of an interactive job.

use std::io::{IsTerminal, Write};

use capstan_proto::wire::open_terminal::Wish;
use capstan_proto::wire::{AttachSession, OpenTerminal};

use crate::command::{Call, Failure, exit_status};
use crate::door::{self, Doors};
use crate::getopt::Opt;
use crate::operand;
use crate::output::screen::Screen;
use crate::terminal::{End, Talk, tty};

/// The options of `qattach`.
pub(crate) const OPTIONS: &[Opt] = &[];

const USAGE: &str = "usage: qattach JOB";

/// Connects the terminal with that of the job.
///
/// # Errors
/// Misuse, a job that has no terminal, a terminal that somebody else takes.
pub(crate) async fn run<W: Write>(call: &Call, screen: &mut Screen<W>) -> Result<u8, Failure> {
    let parsed = call.parse(OPTIONS);
    let ([job], None) = (&parsed.operands[..], parsed.problems().next()) else {
        return Err(Failure::new(2, USAGE));
    };
    let operand = operand::read("qattach", job, None)?;
    if !std::io::stdin().is_terminal() || !std::io::stdout().is_terminal() {
        let text = "qattach: standard input and output must be a terminal: to run one program in a job, use qexec";
        return Err(Failure::new(1, text));
    }
    let mut doors = Doors::new(call, door::patience(None, &call.env));
    let mut server = doors.to(&operand.host).await?;
    let id = door::full_id(&mut server, job).await;
    let open = OpenTerminal {
        job_id: job.clone(),
        window: tty::size(),
        term: call.env.get("TERM").unwrap_or_default().to_owned(),
        wish: Some(Wish::Attach(AttachSession::default())),
        version: 0,
        message: String::new(),
    };
    let end = Talk::new(call, open)?.run(server).await;
    tell(screen, "qattach", &id, end)
}

/// Says how a session ended, in Torque's words where it has some; the exit status.
///
/// # Errors
/// When it did not end as whoever sat there wanted.
pub(crate) fn tell<W: Write>(
    screen: &mut Screen<W>,
    name: &str,
    id: &str,
    end: End,
) -> Result<u8, Failure> {
    let failure = |text: String| Err(Failure::new(1, text));
    match end {
        End::Exited(_) => {
            writeln!(screen.out(), "\n{name}: job {id} completed")?;
            Ok(0)
        }
        End::Gone(why) => {
            writeln!(screen.out(), "\n{name}: job {id} completed")?;
            failure(format!("{name}: {why}"))
        }
        End::Detached => {
            writeln!(
                screen.out(),
                "\n{name}: job {id} goes on: 'qattach {id}' returns to it"
            )?;
            Ok(0)
        }
        End::Replaced => failure(format!(
            "\n{name}: somebody else is connected with job {id} now: 'qattach {id}' takes it back"
        )),
        End::Refused(refusal) => {
            let text = format!("{name}: {} {id}", refusal.text());
            Err(Failure::new(exit_status(refusal.error), text))
        }
        End::Lost => failure(format!(
            "\n{name}: the connection to job {id} is lost: 'qattach {id}' returns to it as long as it runs"
        )),
        // Nobody is left to be told.
        End::HungUp | End::Interrupted => Err(Failure::new(129, "")),
        End::Unread => Err(Failure::BROKEN_PIPE),
    }
}
