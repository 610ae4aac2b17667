//! Options that lose: given twice, or to another that makes them void. The later of two wins, and the command line stands
//! behind the script.

use std::collections::BTreeMap;

use crate::qsub::additional;

use super::finding::{Finding, Severity, Spot, Where};
use super::source::Placed;
use super::values;

/// Attributes of `-W` that are added up.
const ADDED_UP: &[&str] = &["stagein", "stageout", "x"];
/// Options that are added up, or of which both count.
const NOT_SINGLE: &[char] = &['-', 'C', 'J', 'L', 'P', 'b'];

/// One thing that was said.
#[derive(Clone, Debug)]
struct Said {
    /// As it is shown: `-l walltime=`, `-N `.
    key: String,
    value: String,
    spot: Spot,
    bytes: usize,
}

/// What of these options has no effect.
pub(super) fn check(options: &[Placed]) -> Vec<Finding> {
    let mut by_key: BTreeMap<String, Vec<Said>> = BTreeMap::new();
    for option in options {
        for said in said(option) {
            by_key.entry(said.key.clone()).or_default().push(said);
        }
    }
    let mut findings: Vec<Finding> = by_key.values().flat_map(|all| losers(all)).collect();
    findings.extend(voided(&by_key));
    findings
}

/// What an option says, a thing each.
fn said(option: &Placed) -> Vec<Said> {
    let (Some(letter), Some(value)) = (option.letter(), &option.value) else {
        return Vec::new();
    };
    let one = |key: String, said: &str, at: usize, bytes: usize| {
        Some(Said {
            key,
            value: said.to_owned(),
            spot: value.spot(at)?,
            bytes,
        })
    };
    match letter {
        'l' => {
            let parts = values::resources(&value.text);
            let found = parts.iter().filter_map(|part| {
                let key = format!("-l {}=", part.name);
                let bytes = part.value_at + part.value.len() - part.name_at;
                one(key, part.value, part.name_at, bytes)
            });
            found.collect()
        }
        'W' => {
            let names = additional::names(&value.text).into_iter();
            let names = names.filter(|name| !ADDED_UP.contains(&name.as_str()));
            let found = names.filter_map(|name| {
                let at = value.text.find(&format!("{name}="))?;
                let behind = &value.text[at + name.len() + 1..];
                one(format!("-W {name}="), behind, at, name.len())
            });
            found.collect()
        }
        letter if NOT_SINGLE.contains(&letter) => Vec::new(),
        letter => one(
            format!("-{letter} "),
            &value.text,
            0,
            value.text.len().max(1),
        )
        .into_iter()
        .collect(),
    }
}

/// All but the last of these, as far as they say something else.
fn losers(all: &[Said]) -> Vec<Finding> {
    let Some((winner, before)) = all.split_last() else {
        return Vec::new();
    };
    let differing = before.iter().filter(|said| said.value != winner.value);
    let found = differing.map(|loser| {
        let Said { key, value, .. } = loser;
        let by = match winner.spot.within {
            Where::Script => format!("line {}", winner.spot.line + 1),
            Where::CommandLine => "the command line".to_owned(),
        };
        let message = format!("{key}{value} loses to {key}{} of {by}", winner.value);
        // To overrule a script on the command line is what the command line is for.
        let severity = match loser.spot.within == winner.spot.within {
            true => Severity::Warning,
            false => Severity::Note,
        };
        let finding = Finding::new(severity, message).at(loser.spot, loser.bytes);
        match key.as_str() {
            "-v " => finding.advise("lists of -v are not added up: name all variables in one"),
            _ => finding,
        }
    });
    found.collect()
}

/// `-e` beside `-j oe`, `-o` beside `-j eo`.
fn voided(by_key: &BTreeMap<String, Vec<Said>>) -> Option<Finding> {
    let last = |key: &str| by_key.get(key).and_then(|all| all.last());
    let (void, file) = match last("-j ")?.value.as_str() {
        "oe" => ("-e ", "-o"),
        "eo" => ("-o ", "-e"),
        _ => return None,
    };
    let said = last(void)?;
    let message = format!(
        "{void}{} has no effect: both streams go into the file of {file}, because of -j",
        said.value
    );
    Some(Finding::new(Severity::Warning, message).at(said.spot, said.bytes))
}

#[cfg(test)]
mod tests {
    use super::super::source::{command_line, placed, scan};
    use super::*;
    use crate::qsub::options::OPTIONS;

    fn check_both(script: &str, arguments: &[&str], expected: &[(Severity, &str)]) {
        let scanned = scan(script.as_bytes(), "#PBS");
        let arguments: Vec<String> = arguments.iter().map(|&word| word.to_owned()).collect();
        let (_, words) = command_line("qsub", &arguments);
        let mut options = Vec::new();
        for line in &scanned.directives {
            options.extend(placed("qsub", OPTIONS, line.as_ref().unwrap()));
        }
        options.extend(placed("qsub", OPTIONS, &words));
        let found = check(&options);
        let seen: Vec<_> = found
            .iter()
            .map(|one| (one.severity, one.message.as_str()))
            .collect();
        assert_eq!(seen, expected, "{script} {arguments:?}");
    }

    #[test]
    fn the_later_of_two_wins_and_the_earlier_is_told() {
        use Severity::{Note, Warning};
        check_both(
            "#PBS -N a\n#PBS -N b\n",
            &[],
            &[(Warning, "-N a loses to -N b of line 2")],
        );
        check_both(
            "#PBS -l nodes=1,walltime=1:00\n",
            &["-l", "walltime=2:00"],
            &[(
                Note,
                "-l walltime=1:00 loses to -l walltime=2:00 of the command line",
            )],
        );
        check_both("#PBS -N a\n#PBS -N a\n#PBS -V\n#PBS -V\n", &[], &[]);
        check_both("#PBS -l nodes=1\n#PBS -l walltime=1\n", &[], &[]);
        check_both(
            "#PBS -v A=1\n#PBS -v B=2\n",
            &[],
            &[(Warning, "-v A=1 loses to -v B=2 of line 2")],
        );
        check_both(
            "#PBS -j oe\n#PBS -e err\n",
            &[],
            &[(
                Warning,
                "-e err has no effect: both streams go into the file of -o, because of -j",
            )],
        );
        check_both("#PBS -W x=a\n#PBS -W x=b\n", &[], &[]);
    }
}
