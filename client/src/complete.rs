//! Completion of command lines for bash, zsh and fish. The shells ask this program at every key, so that what they
//! offer is what the commands take: options from their tables, jobs, queues and nodes from the server.

use std::io::Write;

use capstan_proto::wire::stat_jobs_request::Detail;
use capstan_proto::wire::{StatJobsRequest, StatNodesRequest, StatQueuesRequest};

use crate::capstan::{COMMANDS, command};
use crate::command::{Call, Failure};
use crate::door::{self, Server};
use crate::getopt::Opt;
use crate::output::screen::Screen;

/// Most candidates that a shell is given.
const CANDIDATES_MAX: usize = 1000;

/// The program behind all commands, and what it does itself.
const OWN: &str = "capstan";
const OWN_WORDS: &[(&str, &str)] = &[
    ("help", "List commands, or a command's options"),
    ("version", "Say which version this is"),
    ("man", "Write the manual's pages into a folder"),
    ("completion", "Print completions for bash, zsh or fish"),
];

/// What a word on a command line can be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wanted {
    /// One of the command's options.
    Option,
    Job,
    Queue,
    Node,
    /// What the shell itself completes: files, or nothing that we know.
    Other,
}

/// A word that fits, and what it is.
type Candidate = (String, String);

/// `capstan completion bash|zsh|fish`: the lines for the shell's start file.
///
/// # Errors
/// Another shell.
pub(crate) fn script<W: Write>(shell: &str, screen: &mut Screen<W>) -> Result<(), Failure> {
    let names = COMMANDS.iter().map(|command| command.name);
    let names: Vec<&str> = std::iter::once(OWN).chain(names).collect();
    let joined = names.join(" ");
    let text = match shell {
        "bash" => format!(
            "_capstan() {{\n    local IFS=$'\\n'\n    \
             mapfile -t COMPREPLY < <(capstan complete -- \"${{COMP_WORDS[@]:0:COMP_CWORD+1}}\" 2>/dev/null | cut -f 1)\n\
             }}\ncomplete -o default -F _capstan {joined}\n"
        ),
        "zsh" => format!(
            "#compdef {joined}\n_capstan() {{\n    local -a found\n    \
             found=(${{(f)\"$(capstan complete -- \"${{(@)words[1,CURRENT]}}\" 2>/dev/null | sed 's/:/\\\\:/g; s/\\t/:/')\"}})\n    \
             if (( $#found )); then _describe capstan found; else _files; fi\n}}\ncompdef _capstan {joined}\n"
        ),
        "fish" => {
            let lines = names.iter().map(|name| {
                format!(
                    "complete -c {name} -a '(capstan complete -- (commandline -opc) (commandline -ct) 2>/dev/null)'\n"
                )
            });
            lines.collect()
        }
        other => {
            let text = format!(
                "capstan completion: no completion for '{other}'; there is bash, zsh and fish"
            );
            return Err(Failure::new(2, text));
        }
    };
    screen.out().write_all(text.as_bytes())?;
    Ok(())
}

/// `capstan complete -- WORD...`: what the last word may become, a line each, its meaning behind a tab.
///
/// # Errors
/// Nobody reads it. A server that does not answer has no jobs to offer, which is no error.
pub(crate) async fn answer<W: Write>(call: &Call, screen: &mut Screen<W>) -> Result<(), Failure> {
    let words = call.args.iter().skip_while(|word| *word != "--").skip(1);
    let words: Vec<&str> = words.map(String::as_str).collect();
    let Some((&last, before)) = words.split_last() else {
        return Ok(());
    };
    let Some((&name, behind)) = before.split_first() else {
        return Ok(());
    };
    let found = match (basename(name), behind) {
        (OWN, []) => own(OWN_WORDS),
        (OWN, ["help"]) => own(&[]),
        (OWN, [name, behind @ ..]) => candidates(call, name, behind, last).await,
        (name, behind) => candidates(call, name, behind, last).await,
    };
    let fitting = found.iter().filter(|(word, _)| word.starts_with(last));
    for (word, meaning) in fitting.take(CANDIDATES_MAX) {
        writeln!(screen.out(), "{word}\t{meaning}")?;
    }
    Ok(())
}

/// What may stand behind `capstan`, or behind `capstan help`.
fn own(words: &[(&str, &str)]) -> Vec<Candidate> {
    let commands = COMMANDS
        .iter()
        .map(|command| (command.name, command.summary));
    let words = words.iter().copied().chain(commands);
    words
        .map(|(word, meaning)| (word.to_owned(), meaning.to_owned()))
        .collect()
}

/// What may stand behind a command and some words.
async fn candidates(call: &Call, name: &str, before: &[&str], last: &str) -> Vec<Candidate> {
    let Some(command) = command(name) else {
        return Vec::new();
    };
    let wanted = wanted(command.name, command.options, before, last);
    match wanted {
        Wanted::Option => options(command.options),
        Wanted::Job | Wanted::Queue | Wanted::Node => from_server(call, wanted).await,
        Wanted::Other => Vec::new(),
    }
}

fn basename(name: &str) -> &str {
    name.rsplit('/').next().unwrap_or(name)
}

/// What the word behind `before` can be.
fn wanted(name: &str, options: &[Opt], before: &[&str], last: &str) -> Wanted {
    let argument = before
        .last()
        .and_then(|word| word.strip_prefix('-'))
        .and_then(|letters| letters.chars().last())
        .and_then(|letter| options.iter().find(|option| option.letter == letter))
        .and_then(|option| option.argument);
    if let Some(argument) = argument {
        let first = argument.trim_start_matches('[').split(['[', ']', '@', ',']);
        return match first.into_iter().next().unwrap_or_default() {
            "QUEUE" | "DESTINATION" => Wanted::Queue,
            "NODE" | "HOST" => Wanted::Node,
            "JOB" => Wanted::Job,
            _ => Wanted::Other,
        };
    }
    if last.starts_with('-') {
        return Wanted::Option;
    }
    match name {
        "qmove" if before.is_empty() => Wanted::Queue,
        // Behind the job stands a command.
        "qexec" if before.last().is_some_and(|word| !word.starts_with('-')) => Wanted::Other,
        "qsub" | "startdocker" | "pbsdsh" | "qmgr" | "qterm" | "qselect" | "sim" | "replay"
        | "pbs_rstat" | "pbs_rdel" | "qfair" | "qimages" | "getallreposimages" | "get_report"
        | "qreport" | "doctor" => Wanted::Other,
        "pbsnodes" | "momctl" | "qgpumode" | "qgpureset" | "pbs_rsub" | "chk_gpu" | "qgpu"
        | "chk_gpuused" | "chk_res" | "k_log" => Wanted::Node,
        "qenable" | "qdisable" | "qstart" | "qstop" => Wanted::Queue,
        _ => Wanted::Job,
    }
}

fn options(options: &[Opt]) -> Vec<Candidate> {
    let words = |option: &Opt| match option.letter {
        '-' => {
            let long = option.argument.unwrap_or_default().split('|');
            let name = |word: &str| word.split(' ').next().map(|word| format!("--{word}"));
            long.filter_map(name).collect()
        }
        letter => vec![format!("-{letter}")],
    };
    let known = options.iter().flat_map(|option| {
        let words: Vec<String> = words(option);
        words.into_iter().map(|word| (word, option.help.to_owned()))
    });
    known.collect()
}

async fn from_server(call: &Call, wanted: Wanted) -> Vec<Candidate> {
    let Ok(mut server) = door::open(call, std::time::Duration::ZERO).await else {
        return Vec::new();
    };
    let found = match wanted {
        Wanted::Job => jobs(&mut server).await,
        Wanted::Queue => queues(&mut server).await,
        Wanted::Node => nodes(&mut server).await,
        Wanted::Option | Wanted::Other => Ok(Vec::new()),
    };
    found.unwrap_or_default()
}

async fn jobs(server: &mut Server) -> Result<Vec<Candidate>, tonic::Status> {
    let request = StatJobsRequest {
        detail: Detail::Row.into(),
        hide_completed: true,
        ..StatJobsRequest::default()
    };
    let mut batches = server.stat_jobs(request).await?.into_inner();
    let mut found = Vec::new();
    while let Some(batch) = batches.message().await? {
        let rows = batch.rows.into_iter();
        found.extend(rows.map(|row| (row.id, format!("{} {} {}", row.owner, row.state, row.name))));
        if found.len() >= CANDIDATES_MAX {
            break;
        }
    }
    Ok(found)
}

async fn queues(server: &mut Server) -> Result<Vec<Candidate>, tonic::Status> {
    let reply = server.stat_queues(StatQueuesRequest::default()).await?;
    let queues = reply.into_inner().queues.into_iter();
    let found = queues.map(|queue| {
        let enabled = if queue.enabled {
            "takes jobs"
        } else {
            "takes no jobs"
        };
        (queue.name, enabled.to_owned())
    });
    Ok(found.collect())
}

async fn nodes(server: &mut Server) -> Result<Vec<Candidate>, tonic::Status> {
    let reply = server.stat_nodes(StatNodesRequest::default()).await?;
    let nodes = reply.into_inner().nodes.into_iter();
    Ok(nodes.map(|node| (node.name, node.state)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(line: &[&str], expected: Wanted) {
        let (last, before) = line.split_last().unwrap();
        let command = command(before[0]).unwrap();
        let seen = wanted(command.name, command.options, &before[1..], last);
        assert_eq!(seen, expected, "{line:?}");
    }

    #[test]
    fn words_are_what_the_command_takes_there() {
        check(&["qsub", "-"], Wanted::Option);
        check(&["qsub", "job"], Wanted::Other);
        check(&["qdel", ""], Wanted::Job);
        check(&["qdel", "-W", ""], Wanted::Other);
        check(&["pbsnodes", "g"], Wanted::Node);
        check(&["qsub", "-q", ""], Wanted::Queue);
        check(&["qselect", "-q", "b"], Wanted::Queue);
        check(&["qrun", "-H", ""], Wanted::Node);
    }

    #[test]
    fn long_options_are_offered_one_by_one() {
        let words = |name: &str| -> Vec<String> {
            let options = options(command(name).unwrap().options);
            options.into_iter().map(|(word, _)| word).collect()
        };
        assert!(words("qstat").ends_with(&["--xml", "--json", "--version"].map(str::to_owned)));
        assert!(words("migrate").contains(&"--from-torque".to_owned()));
        assert!(own(&[]).iter().any(|(word, _)| word == "qsub"));
    }

    #[test]
    fn every_shell_learns_every_command() {
        for shell in ["bash", "zsh", "fish"] {
            let mut screen = Screen::new(std::io::sink());
            script(shell, &mut screen).unwrap();
            let text = String::from_utf8(screen.out().clone()).unwrap();
            for command in COMMANDS {
                assert!(text.contains(command.name), "{shell} {}", command.name);
            }
        }
        let mut screen = Screen::new(std::io::sink());
        assert_eq!(script("csh", &mut screen).unwrap_err().status, 2);
    }
}
