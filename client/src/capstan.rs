//! The list of commands, and what needs no server: help and versions.

use std::io::Write;
use std::path::Path;

use crate::command::{Call, Failure};
use crate::getopt::Opt;
use crate::output::screen::Screen;
use crate::{complete, manual};

/// The release of Torque whose commands these are to programs that ask.
const TORQUE_VERSION: &str = "6.1.3.h5";

/// A command, as help shows it.
pub(crate) struct Command {
    /// The name to call it by.
    pub(crate) name: &'static str,
    /// What it does, in the imperative, without a full stop.
    pub(crate) summary: &'static str,
    /// Its options; empty where the command reads them itself.
    pub(crate) options: &'static [Opt],
}

/// Every command.
pub(crate) const COMMANDS: &[Command] = &[
    Command {
        name: "qsub",
        summary: "Submit a script as a job",
        options: crate::qsub::OPTIONS,
    },
    Command {
        name: "qstat",
        summary: "List jobs, queues or the server",
        options: crate::qstat::OPTIONS,
    },
    Command {
        name: "qwhy",
        summary: "Say why jobs wait, when they start and what would help",
        options: crate::qwhy::OPTIONS,
    },
    Command {
        name: "qalter",
        summary: "Change the attributes of jobs",
        options: crate::qalter::OPTIONS,
    },
    Command {
        name: "qselect",
        summary: "Print the ids of jobs that meet criteria",
        options: crate::qselect::OPTIONS,
    },
    Command {
        name: "qdel",
        summary: "Delete jobs",
        options: crate::qdel::OPTIONS,
    },
    Command {
        name: "qhold",
        summary: "Hold jobs",
        options: crate::qhold::OPTIONS,
    },
    Command {
        name: "qrls",
        summary: "Release held jobs",
        options: crate::qhold::OPTIONS,
    },
    Command {
        name: "qmove",
        summary: "Move jobs to another queue",
        options: &[],
    },
    Command {
        name: "qrerun",
        summary: "Put running jobs back in their queue",
        options: crate::qrerun::OPTIONS,
    },
    Command {
        name: "qrun",
        summary: "Start waiting jobs now (operators)",
        options: crate::qrun::OPTIONS,
    },
    Command {
        name: "qorder",
        summary: "Let two waiting jobs change places",
        options: &[],
    },
    Command {
        name: "qfair",
        summary: "Show who has used how much of his share",
        options: crate::qfair::OPTIONS,
    },
    Command {
        name: "qimages",
        summary: "List images, their short names and the nodes that hold them",
        options: crate::qimages::OPTIONS,
    },
    Command {
        name: "chk_gpu",
        summary: "Draw which cards are free",
        options: &[],
    },
    Command {
        name: "qgpu",
        summary: "Draw which cards are free, as chk_gpu",
        options: &[],
    },
    Command {
        name: "chk_gpuused",
        summary: "List how busy each card is, and whose it is",
        options: &[],
    },
    Command {
        name: "chk_res",
        summary: "Show what a node has and what its jobs use",
        options: &[],
    },
    Command {
        name: "k_log",
        summary: "Show what a node's kernel complained of, and of which jobs",
        options: crate::k_log::OPTIONS,
    },
    Command {
        name: "qreport",
        summary: "Show who used how many card-hours this month, as get_report",
        options: crate::get_report::OPTIONS,
    },
    Command {
        name: "getallreposimages",
        summary: "List images and which nodes have them, as qimages",
        options: crate::qimages::OPTIONS,
    },
    Command {
        name: "get_report",
        summary: "Show who used how many card-hours this month",
        options: crate::get_report::OPTIONS,
    },
    Command {
        name: "qchkpt",
        summary: "Ask for a checkpoint of jobs",
        options: &[],
    },
    Command {
        name: "pbsnodes",
        summary: "List nodes, or take them out of service",
        options: crate::pbsnodes::OPTIONS,
    },
    Command {
        name: "tracejob",
        summary: "Show what the logs say about a job",
        options: crate::tracejob::OPTIONS,
    },
    Command {
        name: "qmgr",
        summary: "Administer the server, its queues and its nodes",
        options: crate::qmgr::OPTIONS,
    },
    Command {
        name: "qenable",
        summary: "Let queues take jobs",
        options: &[],
    },
    Command {
        name: "qdisable",
        summary: "Let queues take no jobs",
        options: &[],
    },
    Command {
        name: "qstart",
        summary: "Let jobs of queues start",
        options: &[],
    },
    Command {
        name: "qstop",
        summary: "Let no jobs of queues start",
        options: &[],
    },
    Command {
        name: "qterm",
        summary: "End the server; jobs go on",
        options: crate::qterm::OPTIONS,
    },
    Command {
        name: "pbs_rsub",
        summary: "Reserve nodes or cards for a time",
        options: crate::reserve::SUBMIT_OPTIONS,
    },
    Command {
        name: "pbs_rstat",
        summary: "List reservations",
        options: crate::reserve::LIST_OPTIONS,
    },
    Command {
        name: "pbs_rdel",
        summary: "Take reservations back",
        options: &[],
    },
    Command {
        name: "qsig",
        summary: "Send a signal to running jobs",
        options: crate::qsig::OPTIONS,
    },
    Command {
        name: "qmsg",
        summary: "Add a line to what running jobs write",
        options: crate::qmsg::OPTIONS,
    },
    Command {
        name: "qpeek",
        summary: "Show what a running job has written so far",
        options: crate::qpeek::OPTIONS,
    },
    Command {
        name: "qlog",
        summary: "Show all that a running job has written, and go on with -f",
        options: crate::qpeek::LOG_OPTIONS,
    },
    Command {
        name: "dockerlog",
        summary: "Show what a running job writes until it ends, as qlog -f",
        options: crate::qpeek::LOG_OPTIONS,
    },
    Command {
        name: "qattach",
        summary: "Return to the terminal of an interactive job",
        options: crate::qattach::OPTIONS,
    },
    Command {
        name: "qexec",
        summary: "Run a program, or a shell, in a running job",
        options: crate::qexec::OPTIONS,
    },
    Command {
        name: "momctl",
        summary: "Ask the agents of nodes how they are (root)",
        options: crate::momctl::OPTIONS,
    },
    Command {
        name: "qgpumode",
        summary: "Set the compute mode of a card (operators)",
        options: crate::qgpumode::OPTIONS,
    },
    Command {
        name: "qgpureset",
        summary: "Reset a card's counts of memory errors (operators)",
        options: crate::qgpureset::OPTIONS,
    },
    Command {
        name: "migrate",
        summary: "Take over what a Torque was set up with",
        options: crate::migrate::OPTIONS,
    },
    Command {
        name: "doctor",
        summary: "Examine this node: what is wrong, why, and how to mend it",
        options: crate::doctor::OPTIONS,
    },
    Command {
        name: "sim",
        summary: "Simulate the scheduler on jobs of the past",
        options: crate::sim::OPTIONS,
    },
    Command {
        name: "replay",
        summary: "Show past scheduling cycles, made again",
        options: crate::replay::OPTIONS,
    },
    Command {
        name: "pbsdsh",
        summary: "Run a program on the places of the job",
        options: crate::pbsdsh::OPTIONS,
    },
    Command {
        name: "pbs_track",
        summary: "Make a process one of a job's",
        options: crate::pbs_track::OPTIONS,
    },
    Command {
        name: "startdocker",
        summary: "Run a program in a container of the job",
        options: &[],
    },
];

/// Commands of Torque to which `--version` is an option like any other that they do not have.
const WITHOUT_VERSION: &[&str] = &["qmgr", "qterm", "qenable", "qdisable", "qstart", "qstop"];

/// The command of this name.
pub(crate) fn command(name: &str) -> Option<&'static Command> {
    COMMANDS.iter().find(|command| command.name == name)
}

/// Answers what needs no server: `capstan` itself, and `--version`, `--about` and `--help` of every command.
///
/// # Errors
/// There is no such command.
pub(crate) fn answer<W: Write>(call: &Call, screen: &mut Screen<W>) -> Result<Option<u8>, Failure> {
    let Some(command) = command(call.program) else {
        let asks_server = call.args.first().is_some_and(|word| word == "complete");
        return (!asks_server).then(|| own(call, screen)).transpose();
    };
    let first = call.args.first().map(String::as_str);
    if call.program == "qexec" && !matches!(first, Some("--help" | "--version" | "--about")) {
        // What stands behind a program of theirs is not for us: `qexec 7 ls --help`.
        return Ok(None);
    }
    let has_version = !WITHOUT_VERSION.contains(&call.program);
    if has_version && call.asks_for("version") {
        version(screen)?;
    } else if has_version && call.asks_for("about") {
        let about = format!("Version: {TORQUE_VERSION}\nCommit: {}", commit());
        screen.complain(&about);
    } else if call.asks_for("help") {
        manual::help(command, screen)?;
    } else {
        return Ok(None);
    }
    Ok(Some(0))
}

/// `capstan help [COMMAND]`, `capstan version`.
fn own<W: Write>(call: &Call, screen: &mut Screen<W>) -> Result<u8, Failure> {
    let mut words = call.args.iter().map(String::as_str);
    match (words.next(), words.next().and_then(command)) {
        (Some("help" | "--help"), Some(command)) => manual::help(command, screen)?,
        (None | Some("help" | "--help" | "-h"), None) => help(screen)?,
        (Some("version" | "--version"), _) => {
            writeln!(screen.out(), "capstan {}", env!("CARGO_PKG_VERSION"))?;
            version(screen)?;
        }
        (Some("man"), _) => {
            let folder = call.args.get(1).map_or("man", String::as_str);
            manual::write_pages(Path::new(folder), screen)?;
        }
        (Some("completion"), _) => {
            let shell = call.args.get(1).map_or("", String::as_str);
            complete::script(shell, screen)?;
        }
        (Some(word), _) => {
            let text =
                format!("capstan: there is no command '{word}'\nhint: 'capstan help' lists them");
            return Err(Failure::new(2, text));
        }
        (None, Some(_)) => help(screen)?,
    }
    Ok(0)
}

fn version<W: Write>(screen: &mut Screen<W>) -> Result<(), Failure> {
    Ok(writeln!(
        screen.out(),
        "Version: {TORQUE_VERSION}\nCommit: {}",
        commit()
    )?)
}

/// The commit this was built from, when the build was told (`CAPSTAN_COMMIT`); programs expect 40 digits.
fn commit() -> &'static str {
    option_env!("CAPSTAN_COMMIT").unwrap_or("0000000000000000000000000000000000000000")
}

fn help<W: Write>(screen: &mut Screen<W>) -> Result<(), Failure> {
    let out = screen.out();
    writeln!(
        out,
        "Capstan runs batch jobs on GPU clusters. Its commands:\n"
    )?;
    for Command { name, summary, .. } in COMMANDS {
        writeln!(out, "    {name:<12} {summary}")?;
    }
    writeln!(
        out,
        "\nEach is called by its name or as 'capstan NAME'; 'capstan help NAME' lists its options.\n\
         'capstan man FOLDER' writes the manual pages, 'capstan completion bash|zsh|fish' prints completions."
    )?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(program: &'static str, args: &[&str]) -> String {
        let args = args.iter().map(|&arg| arg.to_owned()).collect();
        let mut screen = Screen::new(std::io::sink());
        let status = answer(
            &Call {
                program,
                args,
                ..Call::default()
            },
            &mut screen,
        );
        let text = String::from_utf8(screen.out().clone()).unwrap();
        match status {
            Ok(status) => format!("{status:?}\n{text}"),
            Err(failure) => format!("{}\n{}", failure.status, failure.text),
        }
    }

    #[test]
    fn help_lists_every_command() {
        let help = said("capstan", &["help"]);
        for command in COMMANDS {
            assert!(help.contains(command.name), "{help}");
        }
        assert!(said("capstan", &["help", "qsub"]).contains("-N NAME"));
        assert!(
            said("capstan", &["nosuch"]).starts_with("2\ncapstan: there is no command 'nosuch'")
        );
    }

    #[test]
    fn versions_need_no_server() {
        for program in ["qsub", "qstat", "qdel", "pbsnodes"] {
            let version = said(program, &["--version"]);
            assert!(
                version.starts_with("Some(0)\nVersion: 6.1.3.h5\nCommit: "),
                "{version}"
            );
        }
        assert!(said("qsub", &["--", "--version"]).starts_with("None"));
    }
}
