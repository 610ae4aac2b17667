//! The options of `qstat`, which of them exclude each other, and its usage text.

use crate::command::{Call, Failure};
use crate::getopt::{Item, Opt};
use crate::output::wide::{Layout, MemoryUnit};

/// Every option.
pub(crate) const OPTIONS: &[Opt] = &[
    Opt::flag('a', "List jobs in the wide table"),
    Opt::flag('c', "Leave completed jobs out"),
    Opt::flag('C', "Show fewer attributes"),
    Opt::flag('e', "List jobs in execution queues only"),
    Opt::value('E', "TEXT", "Ignored"),
    Opt::flag('f', "Show all attributes"),
    Opt::flag('i', "List jobs that do not run"),
    Opt::flag('l', "Ignored"),
    Opt::flag('n', "Show where jobs run"),
    Opt::flag('1', "With -n or -f: on one line"),
    Opt::flag('p', "Ignored"),
    Opt::flag('q', "List limits and loads of queues"),
    Opt::flag('r', "List jobs that run"),
    Opt::flag('s', "Show why jobs are in their state"),
    Opt::flag('t', "List members of arrays one by one"),
    Opt::value('u', "USER[,...]", "List jobs of these users"),
    Opt::flag('x', "List as XML"),
    Opt::flag('G', "Show memory in gigabytes"),
    Opt::flag('M', "Show memory in megawords"),
    Opt::flag('Q', "List queues"),
    Opt::flag('R', "Show disk columns"),
    Opt::flag('B', "List the server"),
    Opt::value('W', "TEXT", "Ignored"),
    Opt::value(
        '-',
        "xml|json|version",
        "List as XML or JSON; say which version this is",
    ),
];

const USAGE: &str = "\
usage: 
                          qstat [-f [-1]] [-W site_specific] [-x] [ job_identifier... | destination... ]
                          qstat [-a|-i|-r|-e] [-u user] [-n [-1]] [-s] [-t] [-G|-M] [-R] [job_id... | destination...]
                          qstat -Q [-f [-1]] [-W site_specific] [ destination... ]
                          qstat -q [-G|-M] [ destination... ]
                          qstat -B [-f [-1]] [-W site_specific] [ server_name... ]
                          qstat -t";

/// What is listed, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum View {
    /// Jobs in the plain table.
    Rows,
    /// Jobs in the wide table.
    Wide,
    /// Jobs with all attributes.
    Full,
    /// Jobs with all attributes, as XML.
    Xml,
    /// Jobs with all attributes, as JSON.
    Json,
    /// Queues, in full or not.
    Queues { in_full: bool },
    /// Limits of queues.
    Limits,
    /// The server, in full or not.
    Server { in_full: bool },
}

/// The command line, understood.
#[derive(Clone, Debug)]
pub(crate) struct Wish {
    /// What is listed.
    pub(crate) view: View,
    /// How the wide table looks.
    pub(crate) layout: Layout,
    /// Only jobs in these states; empty for all.
    pub(crate) states: &'static str,
    /// Only jobs of these users; empty for everybody's.
    pub(crate) users: Vec<String>,
    /// Members of arrays one by one.
    pub(crate) expand_arrays: bool,
    /// Without completed jobs.
    pub(crate) hide_completed: bool,
    /// No folding.
    pub(crate) on_one_line: bool,
    /// Ids, queues or the server's name.
    pub(crate) operands: Vec<String>,
}

const CONFLICT: &str = "qstat: conflicting options.";

fn misuse(what: &str) -> Failure {
    Failure::new(2, format!("{what}\n{USAGE}"))
}

impl Wish {
    /// Understands a command line.
    ///
    /// # Errors
    /// Unknown options, and those that exclude each other. As in Torque `-f`, `-Q` and `-B` mind only what stands
    /// before them: `-f -a` passes, `-a -f` does not.
    pub(crate) fn read(call: &Call) -> Result<Self, Failure> {
        let parsed = call.parse(OPTIONS);
        let problems: Vec<&str> = parsed.problems().collect();
        if !problems.is_empty() {
            return Err(misuse(&problems.join("\n")));
        }
        check_order(&parsed.items)?;
        let has = |letter| parsed.has(letter);
        if has('B') && has('q') {
            return Err(misuse("cannot combine -B with -q option"));
        }
        let is_one_without_use = has('1') && !has('n') && !has('f');
        if (has('G') && has('M')) || (has('q') && has('f')) || is_one_without_use {
            return Err(misuse(CONFLICT));
        }
        let is_set = |name: &str| call.env.get(name).is_some();
        let users = parsed.value('u').map(user_names).unwrap_or_default();
        let is_wide = "airnsGMR".chars().any(has) || parsed.value('u').is_some();
        let view = match parsed.value('-') {
            Some("xml") => View::Xml,
            Some("json") => View::Json,
            Some(word) => return Err(misuse(&format!("qstat: unrecognized option '--{word}'"))),
            None if has('Q') => View::Queues { in_full: has('f') },
            None if has('B') => View::Server { in_full: has('f') },
            None if has('q') => View::Limits,
            None if has('x') => View::Xml,
            None if has('f') => View::Full,
            None if is_wide => View::Wide,
            None => View::Rows,
        };
        let hide_completed = (has('c') || is_set("PBS_QSTAT_NO_COMPLETE")) && view != View::Wide;
        Ok(Self {
            layout: Layout {
                with_nodes: has('n'),
                on_one_line: has('1'),
                with_comment: has('s'),
                with_disks: has('R'),
                memory: match (has('G'), has('M')) {
                    (true, _) => MemoryUnit::Gigabytes,
                    (_, true) => MemoryUnit::Megawords,
                    (false, false) => MemoryUnit::Typed,
                },
            },
            states: match (has('i'), has('r')) {
                (true, _) => "EHQTW",
                (_, true) => "RS",
                (false, false) => "",
            },
            users,
            expand_arrays: has('t') || has('e') || is_set("PBS_QSTAT_EXECONLY"),
            hide_completed,
            on_one_line: has('1'),
            operands: parsed.operands,
            view,
        })
    }
}

/// `user[@host],…` without the hosts.
fn user_names(list: &str) -> Vec<String> {
    let names = list
        .split(',')
        .map(|user| user.split('@').next().unwrap_or("").trim().to_owned());
    names.collect()
}

/// The conflicts that depend on the order of options.
fn check_order(items: &[Item]) -> Result<(), Failure> {
    let mut alternates = String::new();
    let mut has_users = false;
    let mut has_queues = false;
    for item in items {
        let letter = match item {
            Item::Flag(letter) => *letter,
            Item::Value('u', _) => {
                has_users = true;
                continue;
            }
            Item::Value(..) | Item::Problem(_) => continue,
        };
        let is_after = match letter {
            'f' => !alternates.is_empty() && alternates != "q",
            'Q' => !alternates.is_empty() || has_users,
            'B' => (!alternates.is_empty() && alternates != "q") || has_users || has_queues,
            _ => false,
        };
        if is_after {
            let what = format!(
                "{CONFLICT}\n -{letter} incompatible with one or more options. Read qstat man page"
            );
            return Err(misuse(&what));
        }
        let is_exclusive = "airq".contains(letter);
        if is_exclusive
            && alternates
                .chars()
                .any(|other| other != letter && "airq".contains(other))
        {
            return Err(misuse(CONFLICT));
        }
        has_queues |= letter == 'Q';
        if "airqnsGMR".contains(letter) && !alternates.contains(letter) {
            alternates.push(letter);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(args: &[&str]) -> Result<Wish, Failure> {
        let args = args.iter().map(|&arg| arg.to_owned()).collect();
        Wish::read(&Call {
            program: "qstat",
            args,
            ..Call::default()
        })
    }

    fn check(args: &[&str], expected: Result<View, &str>) {
        let seen = read(args).map(|wish| wish.view);
        assert_eq!(seen, expected.map_err(misuse), "{args:?}");
    }

    #[test]
    fn options_choose_the_view() {
        check(&[], Ok(View::Rows));
        check(&["-an1u", "alice"], Ok(View::Wide));
        check(&["-u", "alice", "-f"], Ok(View::Full));
        check(&["-f", "-a"], Ok(View::Full));
        check(&["-f", "-1"], Ok(View::Full));
        check(&["-Qf"], Ok(View::Queues { in_full: true }));
        check(&["-B"], Ok(View::Server { in_full: false }));
        check(&["-q"], Ok(View::Limits));
        check(&["--json"], Ok(View::Json));
        assert_eq!(
            read(&["-u", "alice@h,bob"]).unwrap().users,
            ["alice", "bob"]
        );
    }

    #[test]
    fn options_that_exclude_each_other_are_refused_in_the_words_of_torque() {
        let before = |letter| {
            format!(
                "{CONFLICT}\n -{letter} incompatible with one or more options. Read qstat man page"
            )
        };
        check(&["-1"], Err(CONFLICT));
        check(&["-a", "-i"], Err(CONFLICT));
        check(&["-G", "-M"], Err(CONFLICT));
        check(&["-f", "-q"], Err(CONFLICT));
        check(&["-n", "-f"], Err(&before('f')));
        check(&["-a", "-Q"], Err(&before('Q')));
        check(&["-Q", "-B"], Err(&before('B')));
        check(&["-B", "-q"], Err("cannot combine -B with -q option"));
        check(&["-Z"], Err("qstat: invalid option -- 'Z'"));
    }

    proptest! {
        #[test]
        fn any_command_line_is_understood_or_refused_with_usage(
            args in proptest::collection::vec("-[acCeEfilnpqrstuxGMQRBW1-]{1,4}|[ -~]{0,8}", 0..6),
        ) {
            let args: Vec<&str> = args.iter().map(String::as_str).collect();
            if let Err(Failure { status, text }) = read(&args) {
                prop_assert_eq!((status, text.ends_with(USAGE)), (2, true));
            }
        }
    }
}
