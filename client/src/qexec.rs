//! `qexec`: runs a program, or a shell, in a running job: on its node, in its share, with its cards, in its container.

use std::io::IsTerminal;

use capstan_proto::wire::open_terminal::Wish;
use capstan_proto::wire::{ExecuteProgram, OpenTerminal};

use crate::command::{Call, Failure, exit_status};
use crate::door::{self, Doors};
use crate::getopt::Opt;
use crate::operand;
use crate::terminal::{End, Talk, tty};

/// The options of `qexec`; `--node` and `--outside`.
pub(crate) const OPTIONS: &[Opt] = &[
    Opt::value(
        '-',
        "node NAME",
        "On this node of the job, not on its first",
    ),
    Opt::value('-', "outside", "Beside the job's container, not inside"),
];

const USAGE: &str = "usage: qexec [--node NAME] [--outside] JOB [COMMAND [ARGUMENT...]]";
/// As a shell has it for a command that SIGINT ended.
const INTERRUPTED: u8 = 130;
/// When the program did not run, or what became of it is not known; a program that ran rarely ends so.
const NOT_RUN: u8 = 255;

/// What is wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Wanted {
    node: String,
    outside: bool,
    job: String,
    command: Vec<String>,
}

/// Runs the program.
///
/// # Errors
/// Misuse, a job that does not run or is somebody else's.
pub(crate) async fn run(call: &Call) -> Result<u8, Failure> {
    let wanted = wanted(&call.args).ok_or_else(|| Failure::new(2, USAGE))?;
    let operand = operand::read("qexec", &wanted.job, None)?;
    let mut doors = Doors::new(call, door::patience(None, &call.env));
    let mut server = doors.to(&operand.host).await?;
    // As with any remote shell: a terminal when somebody sits at one, else three plain streams.
    let has_terminal = std::io::stdin().is_terminal() && std::io::stdout().is_terminal();
    let execute = ExecuteProgram {
        arguments: wanted.command,
        node: wanted.node,
        outside: wanted.outside,
        key: crate::startdocker::long_key().map_err(|error| {
            let text = format!("qexec: no random number can be had from the kernel: {error}");
            Failure::new(NOT_RUN, text)
        })?,
        from_byte: None,
    };
    let open = OpenTerminal {
        job_id: wanted.job.clone(),
        window: tty::size().filter(|_| has_terminal),
        term: call.env.get("TERM").unwrap_or_default().to_owned(),
        wish: Some(Wish::Execute(execute)),
        version: 0,
        message: String::new(),
    };
    let failure = |text: String| Err(Failure::new(NOT_RUN, text));
    match Talk::new(call, open)?.run(server.clone()).await {
        End::Exited(status) => Ok(u8::try_from(status).unwrap_or(NOT_RUN)),
        End::Refused(refusal) => {
            let id = door::full_id(&mut server, &wanted.job).await;
            let text = format!("qexec: {} {id}", refusal.text());
            Err(Failure::new(exit_status(refusal.error), text))
        }
        End::Gone(why) => failure(format!("qexec: {why}")),
        End::Lost => failure("qexec: the connection to the job broke".to_owned()),
        End::Unread => Err(Failure::BROKEN_PIPE),
        End::Interrupted => Err(Failure::new(INTERRUPTED, "")),
        End::Detached | End::Replaced | End::HungUp => failure(String::new()),
    }
}

/// Options stand in front of the job; what is behind it is the program's.
fn wanted(args: &[String]) -> Option<Wanted> {
    let mut wanted = Wanted::default();
    let mut words = args.iter();
    loop {
        let word = words.next()?;
        match word.as_str() {
            "--outside" => wanted.outside = true,
            "--node" => wanted.node.clone_from(words.next()?),
            word if word.starts_with("--node=") => wanted.node = word["--node=".len()..].to_owned(),
            word if word.starts_with('-') => return None,
            job => {
                wanted.job = job.to_owned();
                break;
            }
        }
    }
    wanted.command = words.cloned().collect();
    if wanted.command.first().is_some_and(|word| word == "--") {
        wanted.command.remove(0);
    }
    Some(wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(line: &str, expected: Option<(&str, bool, &str, &[&str])>) {
        let args: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        let expected = expected.map(|(node, outside, job, command)| Wanted {
            node: node.to_owned(),
            outside,
            job: job.to_owned(),
            command: command.iter().map(|word| (*word).to_owned()).collect(),
        });
        assert_eq!(wanted(&args), expected, "{line}");
    }

    #[test]
    fn what_stands_behind_the_job_is_the_programs() {
        check("7", Some(("", false, "7", &[])));
        check(
            "7.hn1 ls --node -l",
            Some(("", false, "7.hn1", &["ls", "--node", "-l"])),
        );
        check("--node n2 7 -- ls", Some(("n2", false, "7", &["ls"])));
        check("--node=n2 --outside 7", Some(("n2", true, "7", &[])));
        for bad in ["", "--node", "-x 7", "--node n2"] {
            check(bad, None);
        }
    }
}
