//! The command line of `capstan sim`, read by hand: its options are long words.

use std::path::PathBuf;

use capstan_sim::{Order, PolicyName, Slice};

use crate::getopt::Opt;

/// The options of `capstan sim`.
pub(super) const OPTIONS: &[Opt] = &[
    Opt::value(
        '-',
        "policy NAME",
        "Order jobs by fifo, easy, default or fair",
    ),
    Opt::value(
        '-',
        "set NAME=VALUE",
        "Set an attribute of the server, or queue.QUEUE.NAME, as qmgr does",
    ),
    Opt::value(
        '-',
        "qmgr FILE",
        "Begin with these orders of qmgr, such as print server prints",
    ),
    Opt::value('-', "nodes N", "So many nodes, all alike"),
    Opt::value(
        '-',
        "slots G",
        "So many cards, each with a core, on each node",
    ),
    Opt::value('-', "cluster FILE", "The nodes that this file describes"),
    Opt::value(
        '-',
        "change NAME=VALUE",
        "Run again with this set as well, and say who wins and who loses",
    ),
    Opt::value(
        '-',
        "against POLICY",
        "Run again with this policy, and say who wins and who loses",
    ),
    Opt::value(
        '-',
        "join WORD,WORD",
        "Run again where nodes with cards of one model share these properties, and say who wins and who loses",
    ),
    Opt::value('-', "json", "Print one JSON object"),
    Opt::value('-', "plot FILE.svg", "Draw use, queue and waits over time"),
    Opt::value('-', "trace-out FILE", "Write when and where each job ran"),
];

/// What is asked for.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Arguments {
    pub(super) slices: Vec<Slice>,
    pub(super) nodes: Nodes,
    pub(super) policy: Option<PolicyName>,
    pub(super) settings: Vec<Order>,
    pub(super) dumps: Vec<PathBuf>,
    pub(super) against: Option<PolicyName>,
    pub(super) changes: Vec<Order>,
    /// Properties that nodes with cards of one model share.
    pub(super) joined: Vec<Box<str>>,
    pub(super) is_json: bool,
    pub(super) plot: Option<PathBuf>,
    pub(super) trace_out: Option<PathBuf>,
}

/// What the nodes are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Nodes {
    /// As a file describes them.
    Described(PathBuf),
    /// So many of so many slots; what is not given the trace says.
    Alike {
        nodes: Option<u32>,
        slots: Option<u32>,
    },
}

impl Default for Nodes {
    fn default() -> Self {
        Self::Alike {
            nodes: None,
            slots: None,
        }
    }
}

impl Arguments {
    /// Reads the words behind `capstan sim`.
    pub(super) fn read(words: &[String]) -> Result<Self, String> {
        let mut arguments = Self::default();
        let mut words = words.iter();
        while let Some(word) = words.next() {
            let is_option = word.starts_with("--") && word.len() > 2;
            if word.starts_with('-') && !is_option && word != "-" {
                return Err(format!("there is no option {word}"));
            }
            if !is_option {
                arguments.slices.push(Slice::parse(word));
                continue;
            }
            let (option, attached) = match word.split_once('=') {
                Some((option, value)) => (option, Some(value)),
                None => (word.as_str(), None),
            };
            if option == "--json" && attached.is_none() {
                arguments.is_json = true;
                continue;
            }
            if !OPTIONS.iter().any(|known| is_named(known, option)) {
                return Err(format!("there is no option {word}"));
            }
            let value = attached.or_else(|| words.next().map(String::as_str));
            let value = value.filter(|value| !value.is_empty());
            let value = value.ok_or_else(|| format!("{option} wants a value"))?;
            arguments.take(option, value)?;
        }
        match arguments.slices.is_empty() {
            true => Err("which trace? Name an SWF file, or accounting logs".to_owned()),
            false => Ok(arguments),
        }
    }

    fn take(&mut self, option: &str, value: &str) -> Result<(), String> {
        match option {
            "--policy" => self.policy = Some(policy(option, value)?),
            "--against" => self.against = Some(policy(option, value)?),
            "--set" => self.settings.push(order(option, value)?),
            "--join" => self.joined.extend(value.split(',').map(Box::from)),
            "--change" => self.changes.push(order(option, value)?),
            "--qmgr" => self.dumps.push(value.into()),
            "--cluster" => {
                if self.nodes != Nodes::default() {
                    return Err(
                        "--cluster says all about the nodes: leave out --nodes and --slots"
                            .to_owned(),
                    );
                }
                self.nodes = Nodes::Described(value.into());
            }
            "--nodes" | "--slots" => {
                let number = value.parse().ok().filter(|number| *number > 0);
                let number: Option<u32> =
                    Some(number.ok_or_else(|| format!("{option} '{value}' is no number above 0"))?);
                let Nodes::Alike { nodes, slots } = &mut self.nodes else {
                    return Err(
                        "--cluster says all about the nodes: leave out --nodes and --slots"
                            .to_owned(),
                    );
                };
                *(if option == "--nodes" { nodes } else { slots }) = number;
            }
            "--plot" if !value.ends_with(".svg") => {
                return Err(format!("--plot draws SVG: '{value}' should end in .svg"));
            }
            "--plot" => self.plot = Some(value.into()),
            "--trace-out" => self.trace_out = Some(value.into()),
            _ => return Err(format!("{option} takes no value")),
        }
        Ok(())
    }
}

fn is_named(known: &Opt, option: &str) -> bool {
    let name = known
        .argument
        .and_then(|argument| argument.split(' ').next());
    name.is_some() && name == option.strip_prefix("--")
}

fn policy(option: &str, value: &str) -> Result<PolicyName, String> {
    PolicyName::parse(value).ok_or_else(|| {
        let names = PolicyName::ALL.map(PolicyName::word).join(", ");
        format!("{option}: there is no policy '{value}', there is {names}")
    })
}

fn order(option: &str, value: &str) -> Result<Order, String> {
    Order::assignment(value)
        .ok_or_else(|| format!("{option} '{value}' is no NAME=VALUE and no queue.QUEUE.NAME=VALUE"))
}
