//! The command line of `pbsdsh`: what stands behind the program is the program's.

use capstan_proto::wire::Variable;

use crate::command::Environment;
use crate::getopt::{self, Opt};

/// The options of `pbsdsh`.
pub(crate) const OPTIONS: &[Opt] = &[
    Opt::value('c', "COPIES", "Run on so many of the first places"),
    Opt::value('n', "PLACE", "Run on this place only, counted from 0"),
    Opt::value('h', "HOST", "Run on this host only"),
    Opt::value(
        'e',
        "LIST",
        "Give the program these variables: NAME or NAME=VALUE, with commas",
    ),
    Opt::flag('E', "Give the program all variables"),
    Opt::flag('k', "End all tasks as soon as one fails, and name it"),
    Opt::flag('o', "Write to our stdout instead of the job's"),
    Opt::flag('s', "Run on one place after the other"),
    Opt::flag('u', "Run once on every host"),
    Opt::flag('v', "Say what is done"),
];

const USAGE: &str = "Usage: pbsdsh [-c copies][-o][-s][-u][-v] program [args]...]
       pbsdsh [-n nodenumber][-o][-s][-u][-v] program [args]...
       pbsdsh [-h hostname][-o][-v] program [args]...
Where -c copies =  run  copy of \"args\" on the first \"copies\" nodes,
      -n nodenumber = run a copy of \"args\" on the \"nodenumber\"-th node,
      -o = capture stdout of processes,
      -s = forces synchronous execution,
      -u = run on unique hostnames,
      -h = run on this specific hostname,
      -v = forces verbose output.";

/// Where the program is to run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Where {
    Everywhere,
    /// On so many of the first places.
    First(u32),
    /// On one place.
    One(u32),
    /// On the first place of every host.
    EachNode,
    /// On the n-th place of a host.
    Node(String, u32),
}

/// A command line, read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Options {
    pub(super) wanted: Where,
    pub(super) captures: bool,
    /// The first task that fails ends the others.
    pub(super) is_gang: bool,
    pub(super) one_by_one: bool,
    pub(super) is_verbose: bool,
    exported: Vec<String>,
    exports_all: bool,
    /// The program and its arguments.
    pub(super) program: Vec<String>,
}

/// Reads the words behind `pbsdsh`; else what to say.
pub(super) fn parse(words: &[String]) -> Result<Options, String> {
    let (own, program) = split(words);
    let parsed = getopt::parse("pbsdsh", OPTIONS, own);
    let mut is_wrong = parsed.problems().next().is_some() || program.is_empty();
    let mut number = |letter: char, least: u32| -> Option<u32> {
        let value = parsed.value(letter)?;
        let number = value.parse().ok().filter(|number| *number >= least);
        is_wrong |= number.is_none();
        number
    };
    let (copies, place) = (number('c', 1), number('n', 0));
    is_wrong |= copies.is_some() && place.is_some();
    if is_wrong {
        let mut text: Vec<&str> = parsed.problems().collect();
        text.push(USAGE);
        return Err(text.join("\n"));
    }
    let wanted = match (parsed.value('h'), place, copies) {
        (Some(host), _, _) => {
            let (host, nth) = host.split_once('/').unwrap_or((host, "0"));
            Where::Node(host.to_owned(), nth.parse().unwrap_or(0))
        }
        (None, Some(place), _) => Where::One(place),
        (None, None, _) if parsed.has('u') => Where::EachNode,
        (None, None, Some(copies)) => Where::First(copies),
        (None, None, None) => Where::Everywhere,
    };
    let exported = parsed.value('e').unwrap_or_default().split(',');
    Ok(Options {
        wanted,
        captures: parsed.has('o'),
        is_gang: parsed.has('k'),
        one_by_one: parsed.has('s'),
        is_verbose: parsed.has('v'),
        exported: exported
            .filter(|name| !name.is_empty())
            .map(str::to_owned)
            .collect(),
        exports_all: parsed.has('E'),
        program: program.to_vec(),
    })
}

/// Our own words, and those of the program: it begins with the first that is no option of ours.
fn split(words: &[String]) -> (&[String], &[String]) {
    let mut at = 0;
    while let Some(word) = words.get(at) {
        let Some(cluster) = word.strip_prefix('-').filter(|rest| !rest.is_empty()) else {
            break;
        };
        if cluster == "-" {
            return (&words[..at], &words[at + 1..]);
        }
        let valued = cluster.char_indices().find(|(_, letter)| {
            let option = OPTIONS.iter().find(|option| option.letter == *letter);
            option.is_some_and(|option| option.argument.is_some())
        });
        let takes_next = valued.is_some_and(|(at, letter)| at + letter.len_utf8() == cluster.len());
        at += 1 + usize::from(takes_next);
    }
    words.split_at(at.min(words.len()))
}

impl Options {
    /// What is added to the environment of tasks.
    pub(super) fn variables(&self, env: &Environment) -> Vec<Variable> {
        let variable = |name: &str, value: &str| Variable {
            name: name.to_owned(),
            value: value.to_owned(),
        };
        let all = env.0.iter().filter(|_| self.exports_all);
        let all = all.map(|(name, value)| variable(name, value));
        let named = self
            .exported
            .iter()
            .filter_map(|item| match item.split_once('=') {
                Some((name, value)) => Some(variable(name, value)),
                None => env.get(item).map(|value| variable(item, value)),
            });
        all.chain(named).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<String> {
        line.split_ascii_whitespace().map(str::to_owned).collect()
    }

    fn check(line: &str, wanted: &Where, program: &str) {
        let options = parse(&words(line)).unwrap();
        assert_eq!(
            (&options.wanted, options.program),
            (wanted, words(program)),
            "{line}"
        );
    }

    #[test]
    fn the_program_keeps_its_own_options() {
        check("hostname", &Where::Everywhere, "hostname");
        check("-u ls -u --version", &Where::EachNode, "ls -u --version");
        check("-c 2 sh -c x", &Where::First(2), "sh -c x");
        check("-vn1 env", &Where::One(1), "env");
        check("-n 1 -- -x", &Where::One(1), "-x");
        check("-h gpu01 a", &Where::Node("gpu01".into(), 0), "a");
        check("-h gpu01/2 a", &Where::Node("gpu01".into(), 2), "a");
    }

    #[test]
    fn misuse_is_answered_with_the_usage() {
        for line in [
            "",
            "-n",
            "-n x a",
            "-c 0 a",
            "-c 1 -n 1 a",
            "-v",
            "-Z a",
            "-n -1 a",
        ] {
            let text = parse(&words(line)).unwrap_err();
            assert!(text.ends_with(USAGE), "{line}");
        }
        let text = parse(&words("-Z a")).unwrap_err();
        assert!(text.starts_with("pbsdsh: invalid option -- 'Z'\n"));
    }

    #[test]
    fn variables_are_named_or_given() {
        let env = Environment(vec![("A".into(), "1".into()), ("B".into(), "2".into())]);
        let names = |line: &str| {
            let variables = parse(&words(line)).unwrap().variables(&env);
            let shown = variables
                .iter()
                .map(|it| format!("{}={}", it.name, it.value));
            shown.collect::<Vec<_>>().join(" ")
        };
        assert_eq!(names("x"), "");
        assert_eq!(names("-e B,C,D=3 x"), "B=2 D=3");
        assert_eq!(names("-E x"), "A=1 B=2");
    }
}
