//! Every option that cannot be right, not only the first: each is tried by itself on a draft that goes on without those
//! that failed. An option that is none is named with the one that was probably meant.

use capstan_types::nearest_word;

use crate::command::Failure;
use crate::getopt::Item;
use crate::qsub::draft::{Draft, Reading};

use super::finding::{Finding, Severity, Spot};
use super::source::{Placed, Word};
use super::values;

/// Long names that people type, of other schedulers as well, and what says the same here.
const LONG: &[(&str, &str)] = &[
    ("account", "-A ACCOUNT"),
    ("array", "-t 0-9"),
    ("chdir", "-d FOLDER"),
    ("cpus-per-task", "-l nodes=1:ppn=N"),
    ("cput", "-l cput=HH:MM:SS"),
    ("dependency", "-W depend=afterok:JOB"),
    ("depend", "-W depend=afterok:JOB"),
    ("error", "-e FILE"),
    ("export", "-v NAME=VALUE"),
    ("gpus", "-l nodes=1:gpus=N"),
    ("gpus-per-node", "-l nodes=1:gpus=N"),
    ("gres", "-l nodes=1:gpus=N"),
    ("hold", "-h"),
    ("job-name", "-N NAME"),
    ("join", "-j oe"),
    ("mail-type", "-m abe"),
    ("mail-user", "-M USER"),
    ("mem", "-l mem=SIZE"),
    ("name", "-N NAME"),
    ("ncpus", "-l ncpus=N"),
    ("ngpus", "-l nodes=1:gpus=N"),
    ("nodes", "-l nodes=N"),
    ("ntasks-per-node", "-l nodes=N:ppn=M"),
    ("ntasks", "-l nodes=N:ppn=M"),
    ("output", "-o FILE"),
    ("partition", "-q QUEUE"),
    ("priority", "-p NUMBER"),
    ("queue", "-q QUEUE"),
    ("select", "-l select=..."),
    ("time", "-l walltime=HH:MM:SS"),
    ("variable", "-v NAME=VALUE"),
    ("walltime", "-l walltime=HH:MM:SS"),
    ("workdir", "-d FOLDER"),
];
/// Words behind one dash that are shorter are letters.
const WORD_LETTERS_MIN: usize = 4;

/// What is wrong with these options. `draft` takes in those that are right; `line` is where what has no spot stands.
pub(super) fn check(options: &[Placed], draft: &mut Draft, reading: &Reading<'_>) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut word_of: Option<&Word> = None;
    for option in options {
        // Of `-walltime` the letters make no sense one by one, and one word is said about it.
        if word_of.is_some_and(|word| std::ptr::eq(word, &option.word) || *word == option.word) {
            continue;
        }
        let first = option.letter_at == 1;
        if let Some(finding) = misspelt(option).filter(|_| first) {
            word_of = Some(&option.word);
            findings.push(finding);
            continue;
        }
        findings.extend(one(option, draft, reading));
    }
    findings
}

/// `-walltime=1:00:00`: a long name behind one dash, which qsub would take for many letters.
fn misspelt(option: &Placed) -> Option<Finding> {
    let word = option.word.text.strip_prefix('-')?;
    let name = long_name(word);
    let known = LONG.iter().find(|(long, _)| *long == name);
    let (long, right) = known.filter(|_| name.len() >= WORD_LETTERS_MIN)?;
    let message = format!("options have one letter: -{long} is none");
    let finding = Finding::new(Severity::Error, message).advise(format!("{right} is meant?"));
    Some(pointed(
        finding,
        option.word.spot(0),
        option.word.text.len(),
    ))
}

/// The name in `name=value`.
fn long_name(word: &str) -> &str {
    word.split('=').next().unwrap_or_default()
}

fn one(option: &Placed, draft: &mut Draft, reading: &Reading<'_>) -> Vec<Finding> {
    match (&option.item, &option.value) {
        (Item::Problem(problem), _) => vec![unknown(option, problem)],
        (Item::Value('-', long), _) if !long.starts_with("image=") => vec![no_long(option, long)],
        // Whether an id may stand there is known only when all options are.
        (Item::Value('J', _), _) => {
            drop(draft.apply(std::slice::from_ref(&option.item), reading));
            Vec::new()
        }
        (item, value) => {
            let mut findings = match (option.letter(), value) {
                (Some('l'), Some(value)) => values::check_resources(value),
                (Some('W'), Some(value)) => {
                    values::check_attributes(value, &crate::qsub::additional::names(&value.text))
                }
                (_, _) => Vec::new(),
            };
            let applied = draft.apply(std::slice::from_ref(item), reading);
            let is_told = findings.iter().any(|one| one.severity == Severity::Error);
            if let Err(failure) = applied
                && !is_told
            {
                findings.insert(0, refused(option, &failure));
            }
            findings
        }
    }
}

/// A letter that is no option, or lacks its argument.
fn unknown(option: &Placed, problem: &str) -> Finding {
    let problem = problem.split_once(": ").map_or(problem, |(_, text)| text);
    let letter = option.letter().unwrap_or('-');
    let finding = Finding::new(Severity::Error, problem);
    let other_case = match letter.is_ascii_uppercase() {
        true => letter.to_ascii_lowercase(),
        false => letter.to_ascii_uppercase(),
    };
    let word = long_name(option.word.text.trim_start_matches('-'));
    let names: Vec<&str> = LONG.iter().map(|(name, _)| *name).collect();
    let near = nearest_word(word, &names).filter(|_| word.len() >= WORD_LETTERS_MIN);
    let right = near.and_then(|near| LONG.iter().find(|(name, _)| *name == near));
    let table = crate::qsub::options::OPTIONS;
    let finding = match (right, table.iter().find(|one| one.letter == other_case)) {
        (Some((_, right)), _) => finding.advise(format!("{right} is meant?")),
        (None, Some(_)) if problem.starts_with("option requires") => finding,
        (None, Some(known)) => finding.advise(format!("-{other_case} is meant? ({})", known.help)),
        (None, None) => finding,
    };
    pointed(finding, option.word.spot(option.letter_at), 1)
}

/// `--walltime=…`.
fn no_long(option: &Placed, long: &str) -> Finding {
    let name = long_name(long);
    let message = format!("there is no option --{name}");
    let names: Vec<&str> = LONG.iter().map(|(name, _)| *name).collect();
    let near = nearest_word(name, &names);
    let right = near.and_then(|near| LONG.iter().find(|(name, _)| *name == near));
    let advice = match right {
        Some((_, right)) => format!("{right} is meant?"),
        None => "options have one letter, as -N NAME; resources stand behind -l".to_owned(),
    };
    let finding = Finding::new(Severity::Error, message).advise(advice);
    pointed(finding, option.word.spot(0), name.len() + 2)
}

/// What qsub itself has against an option, in its words without their frame.
fn refused(option: &Placed, failure: &Failure) -> Finding {
    let finding = Finding::new(Severity::Error, words_of(failure));
    match option.spot() {
        Some((spot, bytes)) => finding.at(spot, bytes),
        None => finding,
    }
}

/// The first line of a failure, without brackets and the command's name.
pub(super) fn words_of(failure: &Failure) -> String {
    let first = failure.text.lines().next().unwrap_or_default().trim();
    let bare = first
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'));
    let bare = bare.unwrap_or(first);
    bare.strip_prefix("qsub:").unwrap_or(bare).trim().to_owned()
}

fn pointed(finding: Finding, spot: Option<Spot>, bytes: usize) -> Finding {
    match spot {
        Some(spot) => finding.at(spot, bytes),
        None => finding,
    }
}

#[cfg(test)]
mod tests {
    use super::super::source::{command_line, placed};
    use super::*;
    use crate::command::Environment;
    use crate::dialect::Dialect;
    use crate::qsub::options::OPTIONS;

    /// What is said about these options: what is pointed at, the message, the advice.
    fn check_all(arguments: &[&str], expected: &[(&str, &str, &str)]) {
        let arguments: Vec<String> = arguments.iter().map(|&word| word.to_owned()).collect();
        let (line, words) = command_line("qsub", &arguments);
        let env = Environment::default();
        let reading = Reading {
            env: &env,
            dialect: Dialect::Torque,
        };
        let found = check(
            &placed("qsub", OPTIONS, &words),
            &mut Draft::default(),
            &reading,
        );
        let seen: Vec<_> = found
            .iter()
            .map(|one| {
                let (spot, bytes) = one.spot.unwrap();
                (
                    &line[spot.at..spot.at + bytes],
                    one.message.as_str(),
                    one.advice.as_str(),
                )
            })
            .collect();
        assert_eq!(seen, expected, "{arguments:?}");
    }

    #[test]
    fn every_wrong_option_is_told_not_only_the_first() {
        check_all(
            &["-p", "9999", "-N", "a", "-j", "eeo", "-l", "walltme=1"],
            &[
                ("9999", "illegal -p value", ""),
                ("eeo", "illegal -j value", ""),
                (
                    "walltme",
                    "there is no resource walltme",
                    "walltime= is meant?",
                ),
            ],
        );
        check_all(&["-N", "a", "-l", "nodes=1:gpus=2", "-V"], &[]);
    }

    #[test]
    fn options_that_are_none_are_named_with_the_nearest() {
        let walltime = "-l walltime=HH:MM:SS is meant?";
        check_all(
            &["--walltme"],
            &[("--walltme", "there is no option --walltme", walltime)],
        );
        check_all(
            &["--time=1:00"],
            &[("--time", "there is no option --time", walltime)],
        );
        check_all(
            &["-walltime=1:00"],
            &[(
                "-walltime=1:00",
                "options have one letter: -walltime is none",
                walltime,
            )],
        );
        check_all(
            &["-Q", "batch"],
            &[(
                "Q",
                "invalid option -- 'Q'",
                "-q is meant? (Submit to this queue)",
            )],
        );
        check_all(&["-N"], &[("N", "option requires an argument -- 'N'", "")]);
        check_all(
            &["-W", "dpend=afterok:1"],
            &[("dpend", "a job has no attribute dpend", "depend= is meant?")],
        );
    }
}
