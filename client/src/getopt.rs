//! Options on a command line, read as GNU `getopt` reads them: operands and options may mix, an argument may be
//! attached (`-N name`, `-Nname`), flags may be joined (`-an1`), `--` ends the options. Programs and people rely
//! on the messages as well, so they are GNU's to the letter. Decides nothing about what options mean.

/// One option of a command. The tables of all commands have this shape, so that help and man pages can be made of them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Opt {
    /// The letter behind the dash. `-` stands for the long options (`--version`), as in Torque's own tables.
    pub(crate) letter: char,
    /// What its argument is, in capitals; `None` for a flag.
    pub(crate) argument: Option<&'static str>,
    /// What it does, in the imperative, without a full stop.
    pub(crate) help: &'static str,
}

impl Opt {
    /// An option without an argument.
    pub(crate) const fn flag(letter: char, help: &'static str) -> Self {
        Self {
            letter,
            argument: None,
            help,
        }
    }

    /// An option with an argument.
    pub(crate) const fn value(letter: char, argument: &'static str, help: &'static str) -> Self {
        Self {
            letter,
            argument: Some(argument),
            help,
        }
    }
}

/// One thing found on a command line, in the order in which it stands there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Item {
    /// A flag.
    Flag(char),
    /// An option with its argument.
    Value(char, String),
    /// What GNU getopt says about a letter that is no option or lacks its argument, with the command's name in front.
    Problem(String),
}

/// A command line, read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Parsed {
    /// Options and problems in order.
    pub(crate) items: Vec<Item>,
    /// What is no option, in order.
    pub(crate) operands: Vec<String>,
    /// How many of the operands stand in front of a `--`; `None` without one.
    pub(crate) before_dashes: Option<usize>,
}

impl Parsed {
    /// The last argument given for `letter`.
    pub(crate) fn value(&self, letter: char) -> Option<&str> {
        self.items.iter().rev().find_map(|item| match item {
            Item::Value(found, value) if *found == letter => Some(value.as_str()),
            Item::Value(..) | Item::Flag(_) | Item::Problem(_) => None,
        })
    }

    /// Whether the flag `letter` is given.
    pub(crate) fn has(&self, letter: char) -> bool {
        self.items.contains(&Item::Flag(letter))
    }

    /// What getopt complained about, in order.
    pub(crate) fn problems(&self) -> impl Iterator<Item = &str> {
        self.items.iter().filter_map(|item| match item {
            Item::Problem(text) => Some(text.as_str()),
            Item::Value(..) | Item::Flag(_) => None,
        })
    }
}

/// Reads `args` (without the program's name) by the table `options`; `program` begins the messages.
pub(crate) fn parse(program: &str, options: &[Opt], args: &[String]) -> Parsed {
    let mut parsed = Parsed::default();
    let mut rest = args.iter();
    while let Some(argument) = rest.next() {
        if argument == "--" {
            parsed.before_dashes = Some(parsed.operands.len());
            parsed.operands.extend(rest.cloned());
            break;
        }
        if let Some(name) = long_with_value(options, argument) {
            parsed.items.push(match rest.next() {
                Some(value) => Item::Value('-', format!("{name}={value}")),
                None => Item::Problem(lacks_value(program, name)),
            });
            continue;
        }
        match argument.strip_prefix('-') {
            None | Some("") => parsed.operands.push(argument.clone()),
            Some(cluster) => parse_cluster(program, options, cluster, &mut rest, &mut parsed.items),
        }
    }
    parsed
}

/// The name of a long option of the table whose value is the next word, when `argument` is one: its entry reads
/// `NAME VALUE`. (`--NAME=VALUE` needs no such look: it is the value of the letter `-`.)
pub(crate) fn long_with_value<'a>(options: &[Opt], argument: &'a str) -> Option<&'a str> {
    let name = argument.strip_prefix("--")?;
    let of_table = |option: &&Opt| option.letter == '-';
    let mut long = options.iter().filter(of_table);
    let is_known = long.any(|option| {
        let entry = option.argument.and_then(|entry| entry.split_once(' '));
        entry.is_some_and(|(known, _)| known == name)
    });
    is_known.then_some(name)
}

/// What is said about one without its value.
pub(crate) fn lacks_value(program: &str, name: &str) -> String {
    format!("{program}: option '--{name}' requires an argument")
}

/// Reads the letters behind one dash, and the next argument when the last letter wants it.
fn parse_cluster(
    program: &str,
    options: &[Opt],
    cluster: &str,
    rest: &mut std::slice::Iter<'_, String>,
    items: &mut Vec<Item>,
) {
    for (at, letter) in cluster.char_indices() {
        let Some(option) = options.iter().find(|option| option.letter == letter) else {
            items.push(Item::Problem(format!(
                "{program}: invalid option -- '{letter}'"
            )));
            continue;
        };
        if option.argument.is_none() {
            items.push(Item::Flag(letter));
            continue;
        }
        let attached = &cluster[at + letter.len_utf8()..];
        let value = match attached {
            "" => rest.next().cloned(),
            attached => Some(attached.to_owned()),
        };
        items.push(match value {
            Some(value) => Item::Value(letter, value),
            None => Item::Problem(format!(
                "{program}: option requires an argument -- '{letter}'"
            )),
        });
        return;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const OPTIONS: &[Opt] = &[
        Opt::flag('a', "all"),
        Opt::flag('1', "one line"),
        Opt::value('u', "USER", "of this user"),
        Opt::value('-', "WORD", "long options"),
    ];

    /// `items` in short: `a` a flag, `u=x` a value, `!text` a problem.
    fn check(args: &[&str], items: &str, operands: &str) {
        let args: Vec<String> = args.iter().map(|&a| a.to_owned()).collect();
        let parsed = parse("qstat", OPTIONS, &args);
        let shown: Vec<String> = parsed
            .items
            .iter()
            .map(|item| match item {
                Item::Flag(letter) => letter.to_string(),
                Item::Value(letter, value) => format!("{letter}={value}"),
                Item::Problem(text) => format!("!{text}"),
            })
            .collect();
        assert_eq!(
            (shown.join(" "), parsed.operands.join(" ")),
            (items.to_owned(), operands.to_owned()),
            "{args:?}"
        );
    }

    #[test]
    fn options_and_operands_mix_as_in_gnu_getopt() {
        check(&["-a", "x", "-u", "alice", "y"], "a u=alice", "x y");
        check(&["-a1ualice", "x"], "a 1 u=alice", "x");
        check(&["-a1u", "alice"], "a 1 u=alice", "");
        check(&["-u", "-a"], "u=-a", "");
        check(&["-u", "--", "-a"], "u=-- a", "");
        check(&["-", "--", "-a"], "", "- -a");
        check(&["--version"], "-=version", "");
        check(&["-u", ""], "u=", "");
    }

    #[test]
    fn complaints_are_those_of_gnu_getopt() {
        check(&["-Z"], "!qstat: invalid option -- 'Z'", "");
        check(&["-aZ1"], "a !qstat: invalid option -- 'Z' 1", "");
        check(&["-u"], "!qstat: option requires an argument -- 'u'", "");
    }

    proptest! {
        #[test]
        fn any_command_line_is_read(args in proptest::collection::vec("(-|--|-[a1uZ]{0,3})?\\PC{0,6}", 0..8)) {
            let args: Vec<String> = args;
            parse("qstat", OPTIONS, &args);
        }
    }
}
