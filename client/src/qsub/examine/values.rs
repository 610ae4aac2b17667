//! What is wrong inside of the argument of `-l` or `-W`, pointed at: names that nothing is called, values that are none.
//! Grammars are those of `capstan-types`, by which the server judges as well.

use capstan_types::{
    AttributeObject, NodeSpec, ParseError, ResourceKind, ResourceList, Seconds, Select, Size,
    Version, check_models, nearest_word, resource, resource_kind, resource_names,
};

use super::finding::{Finding, Severity};
use super::source::Word;
use crate::qsub::lists::split_commas;

/// Resources that people ask for, before all others that are known: of two as near, the first is meant.
const COMMON: &[&str] = &[
    "walltime", "nodes", "gpus", "ngpus", "mem", "ncpus", "procs", "select", "place", "cput",
    "pmem", "vmem", "pvmem", "file", "host", "nice",
];
/// Names that the server takes for resources, beside those of its table.
const TAKEN: &[&str] = &["place", "ngpus"];
/// A memory limit below this is no memory for any program: the unit was forgotten.
const MEMORY_BYTES_MIN: u64 = 1 << 20;
/// A walltime that is a plain number below this was probably meant as hours.
const SECONDS_SUSPECT: u64 = 100;

/// One `name=value` of a list: where the name begins, and the value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Part<'a> {
    pub(super) name: &'a str,
    pub(super) name_at: usize,
    pub(super) value: &'a str,
    pub(super) value_at: usize,
}

/// The parts of an argument of `-l`, as far as it can be read.
pub(super) fn resources(text: &str) -> Vec<Part<'_>> {
    let mut parts = Vec::new();
    let mut at = text.len() - text.trim_start().len();
    while at < text.len() {
        let rest = &text[at..];
        let end = rest.find(['=', ',']).unwrap_or(rest.len());
        let name = rest[..end].trim_end();
        let Some(value) = rest[end..].strip_prefix('=') else {
            break;
        };
        let value = split_commas(value).first().copied().unwrap_or("");
        let begin = at + end + 1;
        let inner = value.trim();
        let mut value_at = begin + (value.len() - value.trim_start().len());
        let bare = crate::qsub::lists::unquoted(inner);
        value_at += (inner.len() - bare.len()) / 2;
        parts.push(Part {
            name,
            name_at: at,
            value: bare,
            value_at,
        });
        at = begin + value.len();
        let behind = &text[at..];
        let Some(more) = behind.strip_prefix(',') else {
            break;
        };
        at = text.len() - more.trim_start().len();
    }
    parts
}

/// What is wrong with the resources that one `-l` asks for.
pub(super) fn check_resources(word: &Word) -> Vec<Finding> {
    let parts = resources(&word.text);
    parts
        .iter()
        .filter_map(|part| check_resource(word, part))
        .collect()
}

fn check_resource(word: &Word, part: &Part<'_>) -> Option<Finding> {
    let Part {
        name,
        name_at,
        value,
        value_at,
    } = *part;
    let point = |finding: Finding, at: usize, bytes: usize| match word.spot(at) {
        Some(spot) => finding.at(spot, bytes),
        None => finding,
    };
    // `gpumem>=24gb` comes as a value of `gpumem>`.
    let name = match name.strip_suffix('>') {
        Some(bare @ ("gpumem" | "cuda" | "cc")) => bare,
        Some(_) | None => name,
    };
    if resource(name).is_none() && !TAKEN.contains(&name) {
        let message = format!("there is no resource {name}");
        let finding = Finding::new(Severity::Error, message).advise(meant(name));
        return Some(point(finding, name_at, name.len()));
    }
    if let Some(error) = problem(name, value) {
        let at = if error.text == value { error.at } else { 0 };
        let wrong = item(value, at);
        let message = match name {
            "nodes" | "select" | "place" => {
                format!("{name}= cannot be read: expected {}", error.expected)
            }
            _ => format!("{name}={value} is no value: expected {}", error.expected),
        };
        let severity = match name {
            // Torque's dialect takes any text for select, and then gives what nobody asked for.
            "select" => Severity::Warning,
            _ => Severity::Error,
        };
        let finding = Finding::new(severity, message).advise(advice(name, wrong));
        return Some(point(finding, value_at + at, wrong.len().max(1)));
    }
    let doubt = doubtful(name, value)?;
    Some(point(doubt, value_at, value.len()))
}

/// Why the value is none.
fn problem(name: &str, value: &str) -> Option<ParseError> {
    match name {
        "select" => Select::parse(value).err(),
        "place" => capstan_types::Place::parse(value).err(),
        "gpus" | "ngpus" => {
            let count = value.split(':').next().unwrap_or_default();
            if count.parse::<u32>().is_err() {
                return Some(ParseError::new(value, 0, "a number of cards"));
            }
            let before = "1:gpus=";
            let error = NodeSpec::parse(&format!("{before}{value}")).err()?;
            let at = error.at.saturating_sub(before.len());
            Some(ParseError::new(value, at, error.expected))
        }
        "cuda" | "cc" => Version::parse(value).err(),
        "gpu_model" => check_models(value).err(),
        _ => ResourceList::default().set(name, value).err(),
    }
}

/// The item of a request that byte `at` is in: up to the next `:`, `+` or `#`.
fn item(value: &str, at: usize) -> &str {
    let rest = value.get(at..).unwrap_or_default();
    let end = rest.find([':', '+', '#', ',']).unwrap_or(rest.len());
    &rest[..end]
}

/// What may have been meant by a name that no resource has.
fn meant(name: &str) -> String {
    let known: Vec<&str> = COMMON.iter().copied().chain(resource_names()).collect();
    match nearest_word(name, &known) {
        Some(near) => format!("{near}= is meant?"),
        None => "common ones are nodes, gpus, ncpus, mem and walltime".to_owned(),
    }
}

fn advice(name: &str, wrong: &str) -> String {
    let word = wrong.split(['=', '>', '<']).next().unwrap_or_default();
    match (name, resource_kind(name)) {
        ("nodes", _) => {
            match nearest_word(word, &["ppn=", "gpus=", "gpumem>=", "cuda>=", "cc>="]) {
                Some(near) => format!("{near} is meant?"),
                None => "for example nodes=2:ppn=4:gpus=1".to_owned(),
            }
        }
        ("select", _) => {
            let known = [
                "ncpus=",
                "ngpus=",
                "mem=",
                "mpiprocs=",
                "host=",
                "gpumem>=",
                "gpu_model=",
            ];
            match nearest_word(word, &known) {
                Some(near) => format!("{near} is meant?"),
                None => "for example select=2:ncpus=8:ngpus=1:mem=32gb".to_owned(),
            }
        }
        (_, Some(ResourceKind::Time)) => format!("for example {name}=12:00:00 or 90 (seconds)"),
        (_, Some(ResourceKind::Size)) => format!("for example {name}=16gb"),
        (_, _) => String::new(),
    }
}

/// A value that can be read, and is hardly what was meant.
fn doubtful(name: &str, value: &str) -> Option<Finding> {
    let is_number = !value.is_empty() && value.bytes().all(|b| b.is_ascii_digit());
    match (name, resource_kind(name)) {
        ("mem" | "pmem" | "vmem" | "pvmem", Some(ResourceKind::Size)) => {
            let bytes = Size::parse(value).ok()?.bytes();
            let is_doubtful = bytes > 0 && bytes < MEMORY_BYTES_MIN;
            let finding = || {
                let message = format!("{name}={value} is {bytes} bytes: no program runs in that");
                let unit = if is_number { value } else { "1" };
                Finding::new(Severity::Warning, message)
                    .advise(format!("{name}={unit}gb is meant?"))
            };
            is_doubtful.then(finding)
        }
        ("walltime", _) if is_number => {
            let seconds = Seconds::parse(value).ok()?.0;
            let finding = || {
                let message = format!("walltime={value} is {seconds} seconds");
                Finding::new(Severity::Note, message).advise(format!("hours are {value}:00:00"))
            };
            (seconds > 0 && seconds < SECONDS_SUSPECT).then(finding)
        }
        (_, _) => None,
    }
}

/// Attributes that `-W` is used for, before all others that a job has.
const OF_W: &[&str] = &[
    "depend",
    "block",
    "group_list",
    "umask",
    "stagein",
    "stageout",
    "sandbox",
    "signal",
    "gang",
    "interactive",
    "job_radix",
    "fault_tolerant",
    "x",
];

/// What is wrong with the names in one `-W`.
pub(super) fn check_attributes(word: &Word, names: &[String]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for name in names {
        let is_known = OF_W.contains(&name.as_str())
            || AttributeObject::Job.attribute(name).is_some()
            || name == "job_array_request";
        if is_known {
            continue;
        }
        let own = AttributeObject::Job.attributes().iter();
        let known: Vec<&str> = OF_W
            .iter()
            .copied()
            .chain(own.map(|attribute| attribute.name))
            .collect();
        let advice = match nearest_word(name, &known) {
            Some(near) => format!("{near}= is meant?"),
            None => "common ones are depend, group_list, umask, stagein and block".to_owned(),
        };
        let message = format!("a job has no attribute {name}");
        let finding = Finding::new(Severity::Error, message).advise(advice);
        let at = word.text.find(&format!("{name}=")).unwrap_or(0);
        findings.push(match word.spot(at) {
            Some(spot) => finding.at(spot, name.len()),
            None => finding,
        });
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::super::source::command_line;
    use super::*;
    use crate::qsub::lists::resource_requests;
    use proptest::prelude::*;

    /// The finding about `-l TEXT`: its severity, what it points at, and the advice.
    fn check(text: &str, expected: Option<(Severity, &str, &str)>) {
        let (line, words) = command_line("qsub", &[text.to_owned()]);
        let found = check_resources(&words[0]);
        let seen = found.first().map(|finding| {
            let (spot, bytes) = finding.spot.unwrap();
            let end = (spot.at + bytes).min(line.len());
            (
                finding.severity,
                &line[spot.at..end],
                finding.advice.as_str(),
            )
        });
        assert_eq!(seen, expected, "{text}: {found:?}");
    }

    #[test]
    fn a_name_that_nothing_has_is_pointed_at_and_the_nearest_named() {
        use Severity::{Error, Note, Warning};
        check(
            "walltme=1:00:00",
            Some((Error, "walltme", "walltime= is meant?")),
        );
        check("nodes=1,gpuz=2", Some((Error, "gpuz", "gpus= is meant?")));
        check("nodes=1:gpuz=2", Some((Error, "gpuz=2", "gpus= is meant?")));
        check(
            "nodes=2:pnp=4",
            Some((Error, "pnp=4", "for example nodes=2:ppn=4:gpus=1")),
        );
        check(
            "nodes=1:ppn=x",
            Some((Error, "x", "for example nodes=2:ppn=4:gpus=1")),
        );
        check("mem=abc", Some((Error, "abc", "for example mem=16gb")));
        for cards in [
            "gpus=1:rtx4090",
            "gpus=2:3090|a40:gpumem>=24gb",
            "nodes=1:gpus=1,cuda>=12.1",
            "nodes=1:gpus=1,gpu_model=a100|h100",
        ] {
            check(cards, None);
        }
        check(
            "walltime=12h",
            Some((
                Error,
                "12h",
                "for example walltime=12:00:00 or 90 (seconds)",
            )),
        );
        check("mem=16", Some((Warning, "16", "mem=16gb is meant?")));
        check("walltime=24", Some((Note, "24", "hours are 24:00:00")));
        check(
            "select=1:ngpu=2",
            Some((Warning, "ngpu=2", "ngpus= is meant?")),
        );
        check("nodes=2:ppn=4:gpus=1,walltime=12:00:00,mem=16gb", None);
        check("gpus=1", None);
        check("gpus=one", Some((Error, "one", "")));
        check("place=scatter:excl", None);
    }

    #[test]
    fn names_of_attributes_are_looked_at_too() {
        let (line, words) = command_line("qsub", &["dpend=afterok:1".to_owned()]);
        let found = check_attributes(&words[0], &["dpend".to_owned()]);
        let (spot, bytes) = found[0].spot.unwrap();
        assert_eq!(&line[spot.at..spot.at + bytes], "dpend");
        assert_eq!(found[0].advice, "depend= is meant?");
        assert!(check_attributes(&words[0], &["Priority".to_owned(), "x".to_owned()]).is_empty());
    }

    proptest! {
        #[test]
        fn parts_are_those_that_qsub_reads(text in "[a-z =,'\"1:]{0,24}") {
            if let Ok(expected) = resource_requests(&text) {
                let seen: Vec<_> = resources(&text).iter().map(|part| (part.name.to_owned(), part.value.to_owned())).collect();
                prop_assert_eq!(seen, expected);
            }
        }
    }
}
