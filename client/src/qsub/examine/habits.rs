//! Mistakes that people make in scripts and PBS does not tell them of. Only what is certain to be one is told: a false
//! alarm teaches people to look away.

use std::collections::BTreeSet;
use std::path::Path;

use super::finding::{Finding, Severity, Spot, Where};
use super::source::{Scanned, is_executable};

/// Lines looked at, for scripts that are data.
const LINES_MAX: usize = 20_000;

/// What is to be told about the lines of a script whose directives begin with `prefix`, of a job that gets `cards` cards
/// on a node.
pub(super) fn check(scanned: &Scanned, prefix: &str, cards: Option<u32>) -> Vec<Finding> {
    let mut findings = Vec::new();
    if prefix.starts_with("#PBS") {
        findings.extend(near_misses(scanned, prefix));
    }
    findings.extend(behind_the_first_command(scanned, prefix));
    findings.extend(interpreter(scanned, |path| Path::new(path).exists()));
    let body = body(scanned);
    findings.extend(containers(&body));
    if let Some(cards) = cards.filter(|cards| *cards > 0) {
        findings.extend(visible_cards(&body, cards));
        findings.extend(processes(&body, cards));
    }
    findings
}

fn at(line: usize, text: &str) -> (Spot, usize) {
    let from = text.len() - text.trim_start().len();
    let spot = Spot {
        within: Where::Script,
        line,
        at: from,
    };
    (spot, text.trim().len())
}

fn told(severity: Severity, message: String, line: usize, text: &str) -> Finding {
    let (spot, bytes) = at(line, text);
    Finding::new(severity, message).at(spot, bytes)
}

/// `# PBS -N x`, `#pbs -N x`, `#PSB -N x`: comments that look like directives. `##PBS` is one that was switched off.
fn near_misses(scanned: &Scanned, prefix: &str) -> Vec<Finding> {
    let end = scanned.body.unwrap_or(scanned.lines.len());
    let lines = scanned.lines.iter().enumerate().take(end);
    let found = lines.filter_map(|(line, text)| {
        let comment = text.trim_start().strip_prefix('#')?;
        if comment.starts_with(['#', '!']) {
            return None;
        }
        let (word, rest) = comment.trim_start().split_once(char::is_whitespace)?;
        let is_option = rest.trim_start().starts_with('-');
        let is_exact = text.trim_start().starts_with(prefix);
        let like = ["pbs", "psb", "bps", "pbss", "qsub"];
        if !is_option || is_exact {
            return None;
        }
        if word == "SBATCH" {
            let message = "this is an order for Slurm: here it is a comment".to_owned();
            let advice = format!("directives begin with {prefix}");
            return Some(told(Severity::Warning, message, line, text).advise(advice));
        }
        like.contains(&word.to_ascii_lowercase().as_str()).then(|| {
            let message = format!("this is a comment: directives begin with {prefix}");
            let advice = format!("{prefix} {} is meant?", rest.trim());
            told(Severity::Warning, message, line, text).advise(advice)
        })
    });
    found.collect()
}

/// Directives that nobody reads.
fn behind_the_first_command(scanned: &Scanned, prefix: &str) -> Vec<Finding> {
    let Some(body) = scanned.body.filter(|_| !prefix.is_empty()) else {
        return Vec::new();
    };
    let lines = scanned.lines.iter().enumerate().take(LINES_MAX).skip(body);
    // What stands in a here-document may be a script of its own.
    let lines = lines.take_while(|(_, text)| !text.contains("<<"));
    let is_directive = |text: &str| {
        let rest = text.trim_start().strip_prefix(prefix);
        rest.is_some_and(|rest| rest.trim_start().starts_with('-'))
    };
    let found = lines.filter(|(_, text)| is_directive(text));
    let found = found.map(|(line, text)| {
        let message = format!(
            "this is ignored: it stands behind the first command (line {})",
            body + 1
        );
        told(Severity::Warning, message, line, text).advise("move it above all commands")
    });
    found.collect()
}

/// A first line that names no program, or nearly one.
fn interpreter(scanned: &Scanned, exists: impl Fn(&str) -> bool) -> Option<Finding> {
    let first = scanned.lines.first()?;
    if let Some(named) = first.strip_prefix("#!") {
        let program = named.split_whitespace().next()?;
        let is_missing = program.starts_with('/') && !exists(program);
        return is_missing.then(|| {
            let message = format!("there is no {program} on this host");
            told(Severity::Warning, message, 0, first)
        });
    }
    let named = first.trim_start_matches(['#', '!', ' ', '\t']);
    let is_path = ["/bin/", "/usr/bin/"]
        .iter()
        .any(|folder| named.starts_with(folder));
    let is_nearly = is_path && first.trim_start().starts_with(['#', '!']) && named.len() < 64;
    if is_nearly {
        let message = "this line does not name the program that reads the script".to_owned();
        let advice = format!("#!{named} is meant?");
        return Some(told(Severity::Warning, message, 0, first).advise(advice));
    }
    let end = scanned.body.unwrap_or(scanned.lines.len());
    let mut lines = scanned.lines.iter().enumerate().take(end).skip(1);
    let (line, text) = lines.find(|(_, text)| text.starts_with("#!/"))?;
    let message = "only the first line of a script names the program that reads it".to_owned();
    Some(told(Severity::Warning, message, line, text).advise("make it the first line"))
}

/// A command of the script, which may go over several lines.
struct CommandLine<'a> {
    line: usize,
    first: &'a str,
    text: String,
}

/// The commands. Comments are left out, and all from the first here-document on, which may be anything.
fn body(scanned: &Scanned) -> Vec<CommandLine<'_>> {
    let Some(body) = scanned.body else {
        return Vec::new();
    };
    let mut commands: Vec<CommandLine<'_>> = Vec::new();
    let mut is_open = false;
    for (line, text) in scanned.lines.iter().enumerate().take(LINES_MAX).skip(body) {
        if text.contains("<<") {
            break;
        }
        let bare = text.strip_suffix('\\');
        match commands.last_mut().filter(|_| is_open) {
            Some(command) => {
                command.text.push(' ');
                command.text.push_str(bare.unwrap_or(text));
            }
            None if !is_executable(text) => continue,
            None => commands.push(CommandLine {
                line,
                first: text,
                text: bare.unwrap_or(text).to_owned(),
            }),
        }
        is_open = bare.is_some();
    }
    commands
}

/// The words of a command, quotes dropped.
fn words(text: &str) -> impl Iterator<Item = &str> {
    let ends = |c: char| c.is_whitespace() || ['"', '\'', ';', '(', ')'].contains(&c);
    text.split(ends).filter(|word| !word.is_empty())
}

/// `CUDA_VISIBLE_DEVICES=0`: the job's cards have the numbers that the scheduler chose.
fn visible_cards(body: &[CommandLine<'_>], cards: u32) -> Option<Finding> {
    const NAME: &str = "CUDA_VISIBLE_DEVICES=";
    let literal = |command: &CommandLine<'_>| -> Option<BTreeSet<u32>> {
        let text = command.text.trim_start();
        let text = text.strip_prefix("export ").unwrap_or(text).trim_start();
        let value = text.strip_prefix(NAME)?;
        let end = value.find([' ', '\t', ';', '&']).unwrap_or(value.len());
        let value = value[..end].trim_matches(['"', '\'']);
        let numbers = value.split(',').map(|number| number.trim().parse().ok());
        numbers.collect()
    };
    let all: Vec<(&CommandLine<'_>, BTreeSet<u32>)> = body
        .iter()
        .filter_map(|command| Some((command, literal(command)?)))
        .collect();
    let (first, _) = all.first()?;
    let named: BTreeSet<u32> = all.iter().flat_map(|(_, cards)| cards).copied().collect();
    let message = match named.len() < cards as usize {
        true => format!(
            "the job asks for {}, and its programs see {} of them",
            many(cards),
            named.len()
        ),
        false => "which cards the job gets is known only when it starts".to_owned(),
    };
    let advice = "leave CUDA_VISIBLE_DEVICES as it is: it names the cards of the job";
    Some(told(Severity::Warning, message, first.line, first.first).advise(advice))
}

/// `torchrun --nproc_per_node=N` with another number than that of the cards.
fn processes(body: &[CommandLine<'_>], cards: u32) -> Option<Finding> {
    const OPTIONS: [&str; 2] = ["--nproc_per_node", "--nproc-per-node"];
    body.iter().find_map(|command| {
        let all: Vec<&str> = words(&command.text).collect();
        let launches = |word: &&str| {
            *word == "torchrun"
                || word.ends_with("/torchrun")
                || word.starts_with("torch.distributed")
        };
        all.iter().find(|word| launches(word))?;
        let number = all.iter().zip(1..).find_map(|(word, next)| {
            let (name, value) = word.split_once('=').unwrap_or((word, ""));
            let value = if value.is_empty() {
                all.get(next).copied()?
            } else {
                value
            };
            OPTIONS.contains(&name).then(|| value.parse::<u32>().ok())?
        })?;
        if number == cards {
            return None;
        }
        let message = format!(
            "{} on a node, of a job that asks for {} there",
            match number {
                1 => "one process".to_owned(),
                number => format!("{number} processes"),
            },
            many(cards)
        );
        Some(told(
            Severity::Warning,
            message,
            command.line,
            command.first,
        ))
    })
}

/// `startdocker … --gpus`: refused there.
fn containers(body: &[CommandLine<'_>]) -> Option<Finding> {
    body.iter().find_map(|command| {
        let mut all = words(&command.text);
        let is_startdocker = |word: &str| word == "startdocker" || word.ends_with("/startdocker");
        all.find(|word| is_startdocker(word))?;
        all.find(|word| word.split('=').next() == Some("--gpus"))?;
        let message =
            "startdocker refuses --gpus: a container sees the cards of its job".to_owned();
        let finding = told(Severity::Warning, message, command.line, command.first);
        Some(finding.advise("leave it out; -l nodes=1:gpus=N says how many"))
    })
}

fn many(cards: u32) -> String {
    match cards {
        1 => "1 card".to_owned(),
        cards => format!("{cards} cards"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::source::scan;
    use super::*;

    /// What is said about this script of a job with so many cards: line and message, cut to its first words.
    fn check_all(script: &str, cards: u32, expected: &[(usize, &str)]) {
        let scanned = scan(script.as_bytes(), "#PBS");
        let found = check(&scanned, "#PBS", Some(cards));
        assert_eq!(found.len(), expected.len(), "{script}: {found:?}");
        for (finding, (line, message)) in found.iter().zip(expected) {
            assert_eq!(
                finding.spot.unwrap().0.line + 1,
                *line,
                "{script}: {found:?}"
            );
            assert!(finding.message.starts_with(message), "{script}: {found:?}");
        }
    }

    #[test]
    fn comments_that_look_like_directives_are_told() {
        let comment = "this is a comment: directives begin with #PBS";
        check_all("# PBS -N x\n", 0, &[(1, comment)]);
        check_all(
            "#pbs -l nodes=1\n#PSB -V\n",
            0,
            &[(1, comment), (2, comment)],
        );
        check_all(
            "#SBATCH --time=1\n",
            0,
            &[(1, "this is an order for Slurm")],
        );
        check_all(
            "##PBS -N x\n# PBS is a batch system\n# pbs\n#PBS -N x\n",
            0,
            &[],
        );
    }

    #[test]
    fn directives_behind_the_first_command_are_told() {
        let ignored = "this is ignored: it stands behind the first command (line 2)";
        check_all("#PBS -V\ncd x\n  #PBS -N x\n#PBS\n", 0, &[(3, ignored)]);
        check_all("cat > y <<E\n#PBS -N inner\nE\n", 0, &[]);
    }

    #[test]
    fn interpreters_that_are_not_there_are_told() {
        check_all(
            "#!/nosuch/bash\n",
            0,
            &[(1, "there is no /nosuch/bash on this host")],
        );
        check_all("#!/bin/sh\ntrue\n", 0, &[]);
        check_all("#/bin/sh\ntrue\n", 0, &[(1, "this line does not name")]);
        check_all("# !/bin/sh\n", 0, &[(1, "this line does not name")]);
        check_all("\n#!/bin/sh\n", 0, &[(2, "only the first line")]);
        check_all("# note\ntrue\n#!/bin/sh\n", 0, &[]);
        check_all("#!/usr/bin/env python3\n", 0, &[]);
    }

    #[test]
    fn programs_that_see_fewer_cards_than_the_job_gets_are_told() {
        let fewer = "the job asks for 4 cards, and its programs see 1 of them";
        check_all("export CUDA_VISIBLE_DEVICES=0\n", 4, &[(1, fewer)]);
        check_all("CUDA_VISIBLE_DEVICES=\"0\" python x.py\n", 4, &[(1, fewer)]);
        let which = "which cards the job gets is known only when it starts";
        check_all(
            "CUDA_VISIBLE_DEVICES=0 a &\nCUDA_VISIBLE_DEVICES=1 b &\n",
            2,
            &[(1, which)],
        );
        check_all(
            "export CUDA_VISIBLE_DEVICES=$X\n# CUDA_VISIBLE_DEVICES=0\n",
            4,
            &[],
        );
        check_all("export CUDA_VISIBLE_DEVICES=0\n", 0, &[]);
        check_all("echo CUDA_VISIBLE_DEVICES=0\n", 4, &[]);
    }

    #[test]
    fn launchers_with_another_number_of_processes_are_told() {
        let one = "one process on a node, of a job that asks for 4 cards there";
        check_all("torchrun --nproc_per_node=1 train.py\n", 4, &[(1, one)]);
        check_all(
            "startdocker -c \"torchrun \\\n --nproc-per-node 8 x.py\" image\n",
            4,
            &[(1, "8 processes")],
        );
        check_all(
            "python -m torch.distributed.run --nproc_per_node=4 x\n",
            4,
            &[],
        );
        check_all("torchrun --nproc_per_node=$N x.py\n", 4, &[]);
        check_all("torchrun --nproc_per_node=gpu x.py\n", 4, &[]);
        check_all("other --nproc_per_node=1 x.py\n", 4, &[]);
        check_all(
            "startdocker -u '--gpus all' -c x image\n",
            1,
            &[(1, "startdocker refuses --gpus")],
        );
        check_all("docker --gpus all\n", 1, &[]);
    }
}
