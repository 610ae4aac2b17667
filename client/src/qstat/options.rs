//! The options of `qstat` in both dialects, and which of them exclude each other.

use crate::command::{Call, Failure};
use crate::dialect::Dialect;
use crate::getopt::{self, Item, Opt};
use crate::output::wide::{Layout, MemoryUnit};

use super::usage::{self, misuse};

/// Every option, as Torque reads it. What only PBS Pro knows is understood as well.
pub(crate) const OPTIONS: &[Opt] = &[
    Opt::flag('a', "List jobs in the wide table"),
    Opt::flag('c', "Leave completed jobs out"),
    Opt::flag('C', "Show fewer attributes; no effect"),
    Opt::flag('e', "List jobs in execution queues only, arrays expanded"),
    Opt::value('E', "TEXT", "List arrays member by member"),
    Opt::flag('f', "Show all attributes"),
    Opt::value('F', "json|dsv[:X]", "In a format of PBS Pro"),
    Opt::flag('H', "List finished jobs in the wide table"),
    Opt::flag('i', "List jobs that do not run"),
    Opt::flag('J', "List job arrays only"),
    Opt::flag('l', "No effect"),
    Opt::flag('n', "Show where jobs run"),
    Opt::flag('1', "With -n or -f: on one line"),
    Opt::flag('p', "No effect; in PBS Pro's dialect: how much is done"),
    Opt::flag('q', "List limits and loads of queues"),
    Opt::flag('r', "List jobs that run"),
    Opt::flag('s', "Show why jobs are in their state"),
    Opt::flag('t', "List members of arrays one by one"),
    Opt::flag('T', "Show estimated start times"),
    Opt::value('u', "USER[,...]", "List jobs of these users"),
    Opt::flag('w', "Use wide columns; with -f: do not fold (PBS Pro)"),
    Opt::flag('x', "As XML; in PBS Pro's dialect or with -F: finished too"),
    Opt::flag('G', "Show memory in gigabytes, and how busy jobs are"),
    Opt::flag('M', "Show memory in megawords"),
    Opt::flag('Q', "List queues"),
    Opt::flag('R', "Show disk columns"),
    Opt::flag('B', "List the server"),
    Opt::value('W', "TEXT", "No effect"),
    Opt::value(
        '-',
        "cards|xml|json|version",
        "Each job with its cards on one line; as XML or JSON; say which version this is",
    ),
];

/// Options that the dialects understand differently.
const CONTESTED: &str = "xpE";

/// What is listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum View {
    /// Jobs in the plain table.
    Rows,
    /// Jobs in the wide table.
    Wide,
    /// Jobs with all attributes.
    Full,
    /// Jobs with their cards, a line each.
    Cards,
    /// Queues, in full or not.
    Queues {
        /// With all attributes.
        in_full: bool,
    },
    /// Limits of queues.
    Limits,
    /// The server, in full or not.
    Server {
        /// With all attributes.
        in_full: bool,
    },
}

/// In which form.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum Format {
    /// For people.
    #[default]
    Text,
    /// Torque's XML; jobs only.
    Xml,
    /// Everything under its PBS name, values as text.
    Json,
    /// PBS Pro's JSON.
    ProJson,
    /// PBS Pro's lines of `name=value` with this between them.
    Dsv(String),
}

/// The command line, understood.
#[derive(Clone, Debug)]
pub(crate) struct Wish {
    /// What is listed.
    pub(crate) view: View,
    /// In which form.
    pub(crate) format: Format,
    /// How the wide table looks.
    pub(crate) layout: Layout,
    /// Only jobs in these states, unless asked for by id; empty for all.
    pub(crate) states: &'static str,
    /// Only jobs of these users, unless asked for by id in a table; empty for everybody's.
    pub(crate) users: Vec<String>,
    /// Members of arrays one by one.
    pub(crate) expand_arrays: bool,
    /// The same, but not where states, users or a queue choose the jobs (`-E`).
    pub(crate) expand_unless_chosen: bool,
    /// Only jobs in execution queues.
    pub(crate) exec_only: bool,
    /// Without completed jobs.
    pub(crate) hide_completed: bool,
    /// PBS Pro: with finished jobs.
    pub(crate) include_finished: bool,
    /// Only arrays.
    pub(crate) arrays_only: bool,
    /// PBS Pro's plain table: percentage instead of time.
    pub(crate) with_percentage: bool,
    /// No folding.
    pub(crate) on_one_line: bool,
    /// The dialect as far as the command line and the environment decide it.
    pub(crate) dialect: Option<Dialect>,
    /// Ids, queues or the server's name.
    pub(crate) operands: Vec<String>,
}

/// Whether the command line says something that the dialects understand differently, so that the server has to be asked
/// for its own when the environment does not say.
pub(crate) fn is_contested(call: &Call) -> bool {
    let flags = call.args.iter().filter_map(|arg| arg.strip_prefix('-'));
    flags
        .filter(|flags| !flags.starts_with('-'))
        .any(|flags| flags.contains(|letter| CONTESTED.contains(letter)))
}

/// What has been seen of the options.
#[derive(Default)]
struct Seen {
    /// Complaints, each on its line.
    lines: Vec<String>,
    /// An unknown long option: told by the usage alone.
    is_wrong: bool,
    /// Letters of the options that choose or shape the wide table.
    alternates: String,
    has_full: bool,
    has_cards: bool,
    mode: Mode,
    users: Option<String>,
    format: Format,
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Mode {
    #[default]
    Jobs,
    Queues,
    Limits,
    Servers,
}

const CONFLICT: &str = "qstat: conflicting options.";

impl Wish {
    /// Understands a command line.
    ///
    /// # Errors
    /// Unknown options, and those that exclude each other. As in Torque `-f`, `-Q` and `-B` mind only what stands
    /// before them: `-f -a` passes, `-a -f` does not.
    pub(crate) fn read(call: &Call, dialect: Option<Dialect>) -> Result<Self, Failure> {
        let is_pro = dialect == Some(Dialect::Pro);
        let options: Vec<Opt> = OPTIONS
            .iter()
            .map(|option| of_dialect(option, is_pro))
            .collect();
        let parsed = getopt::parse(call.program, &options, &call.args);
        let mut seen = Seen::default();
        for item in &parsed.items {
            if let Err(()) = seen.take(item, is_pro) {
                return Err(misuse(&seen.lines, is_pro));
            }
        }
        seen.check(parsed.has('w'), is_pro);
        if !seen.lines.is_empty() || seen.is_wrong {
            return Err(misuse(&seen.lines, is_pro));
        }
        Ok(Self::of(call, seen, (parsed, dialect)))
    }

    fn of(call: &Call, seen: Seen, (parsed, dialect): (getopt::Parsed, Option<Dialect>)) -> Self {
        let has = |letter| parsed.has(letter);
        let is_set = |name: &str| call.env.get(name).is_some();
        let is_pro_format = matches!(seen.format, Format::ProJson | Format::Dsv(_));
        let is_unfolded = seen.has_full && has('w');
        // Who asks for a format of PBS Pro speaks its tongue; Torque knows no -w, and so not `-f -w` either.
        let dialect = match is_pro_format || is_unfolded {
            true => Some(Dialect::Pro),
            false => dialect,
        };
        let is_pro = dialect == Some(Dialect::Pro);
        let is_xml = seen.format == Format::Text && has('x') && !is_pro;
        let format = if is_xml { Format::Xml } else { seen.format };
        // -1 is none of them, and -u and -w alone do not change what -f shows.
        let shapes = |letter: char| letter != '1' && !("uw".contains(letter) && seen.has_full);
        let is_wide = seen.alternates.chars().any(shapes);
        let view = match seen.mode {
            Mode::Servers => View::Server {
                in_full: seen.has_full,
            },
            Mode::Limits => View::Limits,
            Mode::Queues => View::Queues {
                in_full: seen.has_full,
            },
            // What stands on one line needs no other form.
            Mode::Jobs if seen.has_cards && format == Format::Text => View::Cards,
            Mode::Jobs if is_wide && matches!(format, Format::Text | Format::Xml) => View::Wide,
            Mode::Jobs if seen.has_full || format != Format::Text => View::Full,
            Mode::Jobs => View::Rows,
        };
        // Torque has XML of jobs in full only.
        let has_none = format == Format::Xml && view != View::Full;
        let format = if has_none { Format::Text } else { format };
        let exec_only = has('e') || is_set("PBS_QSTAT_EXECONLY");
        let hides = has('c') || is_set("PBS_QSTAT_NO_COMPLETE");
        Self {
            view,
            format,
            layout: layout(&parsed, is_pro),
            states: match (has('i'), has('r'), has('H')) {
                (true, _, _) => "EHQTW",
                (_, true, _) => "RSB",
                (_, _, true) => "CFX",
                (false, false, false) => "",
            },
            users: seen.users.as_deref().map(user_names).unwrap_or_default(),
            expand_arrays: has('t') || exec_only,
            expand_unless_chosen: !is_pro && parsed.value('E').is_some(),
            exec_only,
            hide_completed: hides && view != View::Wide,
            include_finished: has('x') || has('H'),
            arrays_only: has('J'),
            with_percentage: has('p') && is_pro,
            on_one_line: has('1') || is_unfolded,
            dialect,
            operands: parsed.operands,
        }
    }
}

/// `-E` takes a text in Torque and nothing in PBS Pro.
fn of_dialect(option: &Opt, is_pro: bool) -> Opt {
    match option.letter {
        'E' if is_pro => Opt::flag('E', "Group ids by server; no effect"),
        _ => *option,
    }
}

fn layout(parsed: &getopt::Parsed, is_pro: bool) -> Layout {
    Layout {
        with_nodes: parsed.has('n'),
        on_one_line: parsed.has('1'),
        with_comment: parsed.has('s'),
        with_disks: parsed.has('R') && !is_pro,
        has_wide_columns: parsed.has('w'),
        with_estimates: parsed.has('T'),
        memory: match (parsed.has('G'), parsed.has('M')) {
            (true, _) => MemoryUnit::Gigabytes,
            (_, true) => MemoryUnit::Megawords,
            (false, false) => MemoryUnit::Typed,
        },
        with_use: false,
    }
}

impl Seen {
    /// Takes one option in, in its place. `Err` ends the reading at once.
    fn take(&mut self, item: &Item, is_pro: bool) -> Result<(), ()> {
        let letter = match item {
            Item::Problem(text) => {
                self.lines.push(match text.ends_with("-- 'F'") {
                    true => usage::unknown('F'),
                    false => text.clone(),
                });
                return Ok(());
            }
            Item::Value('u', users) => {
                self.users = Some(users.clone());
                'u'
            }
            Item::Value('F', format) => {
                match Format::named(format) {
                    Some(format) => self.format = format,
                    None => self.lines.push(usage::unknown('F')),
                }
                return Ok(());
            }
            Item::Value('-', word) => {
                match word.as_str() {
                    "xml" => self.format = Format::Xml,
                    "json" => self.format = Format::Json,
                    "cards" => self.has_cards = true,
                    _ => self.is_wrong = true,
                }
                return Ok(());
            }
            Item::Value(..) => return Ok(()),
            Item::Flag(letter) => *letter,
        };
        self.take_letter(letter, is_pro)
    }

    fn take_letter(&mut self, letter: char, is_pro: bool) -> Result<(), ()> {
        let has_alternates = !self.alternates.is_empty();
        let is_mode = |mode| self.mode == mode;
        let is_refused = match letter {
            'f' => self.alternates.contains(|seen| !"uw".contains(seen)) && !is_pro,
            'Q' => has_alternates || is_mode(Mode::Servers),
            'B' => has_alternates || is_mode(Mode::Queues),
            _ => false,
        };
        if is_refused {
            let with =
                format!(" -{letter} incompatible with one or more options. Read qstat man page");
            self.lines.push(match is_pro {
                true => CONFLICT.to_owned(),
                false => format!("{CONFLICT}\n{with}"),
            });
            return Err(());
        }
        match letter {
            'f' => self.has_full = true,
            'Q' => self.mode = Mode::Queues,
            'B' => self.mode = Mode::Servers,
            'q' if is_mode(Mode::Servers) => {
                self.lines
                    .push("cannot combine -B with -q option".to_owned());
                return Err(());
            }
            'q' => self.mode = Mode::Limits,
            _ => {}
        }
        if "airqunsGMRTHw1".contains(letter) && !self.alternates.contains(letter) {
            self.alternates.push(letter);
        }
        Ok(())
    }

    /// What may not stand together in any order; each conflict is told once more.
    fn check(&mut self, has_wide_columns: bool, is_pro: bool) {
        let has = |letter| self.alternates.contains(letter);
        let choices = "airqH".chars().filter(|letter| has(*letter)).count();
        let has_use = has('n') || self.has_full || (is_pro && has('s'));
        let is_one_without_use = has('1') && !has_use;
        let conflicts = [
            choices > 1,
            has('G') && has('M'),
            has('q') && self.has_full,
            is_one_without_use,
        ];
        let is_wide_without_use =
            has_wide_columns && !self.has_full && !"ansTuirH".chars().any(has);
        for _ in conflicts.iter().filter(|is_so| **is_so) {
            self.lines.push(CONFLICT.to_owned());
        }
        if is_wide_without_use {
            let text = "qstat: option w can be used only with option a, n, T or s";
            self.lines.push(text.to_owned());
        }
    }
}

impl Format {
    /// A format by PBS Pro's name of it.
    pub(crate) fn named(name: &str) -> Option<Self> {
        match name.split_once(':').unwrap_or((name, "|")) {
            ("json", _) if name == "json" => Some(Self::ProJson),
            ("default", _) if name == "default" => Some(Self::Text),
            ("dsv", delimiter) => Some(Self::Dsv(delimiter.to_owned())),
            _ => None,
        }
    }
}

/// `user[@host],…` without the hosts.
fn user_names(list: &str) -> Vec<String> {
    let names = list
        .split(',')
        .map(|user| user.split('@').next().unwrap_or("").trim().to_owned());
    names.collect()
}

#[cfg(test)]
mod tests;
