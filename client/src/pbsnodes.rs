//! `pbsnodes`: lists nodes, takes them out of service, and keeps notes on them.

use std::io::Write;

use capstan_proto::Refusal;
use capstan_proto::wire::alter_node_request::Admin;
use capstan_proto::wire::{AlterNodeRequest, NodeRow, StatNodesRequest};
use capstan_types::Pbse;
use jiff::tz::TimeZone;

use crate::command::{Call, Failure, refusal};
use crate::door::{self, Server};
use crate::getopt::{Item, Opt, Parsed};
use crate::output::screen::Screen;
use crate::output::{json, nodes, pro, pro_formats};
use crate::qstat::Format;

/// The options of `pbsnodes`.
pub(crate) const OPTIONS: &[Opt] = &[
    Opt::flag('a', "List all nodes"),
    Opt::value('A', "TEXT", "Add to the note"),
    Opt::flag('c', "Put the nodes back in service"),
    Opt::flag('d', "No effect"),
    Opt::value('F', "json|dsv[:X]", "In a format of PBS Pro"),
    Opt::flag(
        'l',
        "List states: of nodes in trouble, or in the state named",
    ),
    Opt::value('m', "STATE", "Power state; only running is possible"),
    Opt::flag('n', "With -l: show notes"),
    Opt::value('N', "TEXT", "Set the note; n or nothing clears it"),
    Opt::flag('o', "Take the nodes out of service; running jobs go on"),
    Opt::flag('p', "No effect"),
    Opt::flag('q', "Say nothing about what fails"),
    Opt::flag('r', "Put the nodes back in service once they report"),
    Opt::value('s', "SERVER", "The server to ask"),
    Opt::flag('v', "No effect: every node is listed"),
    Opt::flag('x', "List as XML"),
    Opt::value(
        '-',
        "xml|json|version",
        "List as XML or JSON; say which version this is",
    ),
];

const USAGE: &str = "\
usage:\tpbsnodes [-{c|d|l|o|p|r}] [-s server] [-n] [-N \"note\"] [-A \"append note\"] [-q] [-m standby|suspend|sleep|hibernate|shutdown] node ...
\tpbsnodes [-{a|x}] [-s server] [-q] [node]";

/// Lists or changes nodes.
///
/// # Errors
/// Misuse, a server that is not there, a node that is not there. Exit status 1 for all of them, as in Torque.
pub(crate) async fn run<W: Write>(call: &Call, screen: &mut Screen<W>) -> Result<u8, Failure> {
    let parsed = call.parse(OPTIONS);
    let is_quiet = parsed.has('q');
    let wish = match Wish::read(&parsed) {
        Ok(wish) => wish,
        Err(Misuse(lines)) => {
            let usage = (!is_quiet).then(|| USAGE.to_owned());
            let lines: Vec<String> = lines.into_iter().chain(usage).collect();
            return Err(Failure::new(1, lines.join("\n")));
        }
    };
    let done = ask(call, &parsed, &wish, screen).await;
    match done {
        Err(failure) if is_quiet => Err(Failure::new(failure.status, "")),
        done => done.map(|()| 0),
    }
}

async fn ask<W: Write>(
    call: &Call,
    parsed: &Parsed,
    wish: &Wish,
    screen: &mut Screen<W>,
) -> Result<(), Failure> {
    let mut server = door::open(call, door::patience(None, &call.env)).await?;
    if let Some(name) = parsed.value('s') {
        check_server(&mut server, name).await?;
    }
    match &wish.action {
        Action::Nothing => Ok(()),
        Action::Change(change) => {
            change_nodes(&mut server, change, wish, screen).await;
            Ok(())
        }
        Action::List(list) => show(&mut server, list, &wish.nodes, screen).await,
    }
}

/// What is said of a command line that is not understood, in front of the usage.
#[derive(Debug, PartialEq, Eq)]
struct Misuse(Vec<String>);

/// What the command line asks for.
struct Wish {
    action: Action,
    nodes: Vec<String>,
    is_quiet: bool,
}

enum Action {
    Nothing,
    List(List),
    Change(Change),
}

/// A listing.
#[derive(Clone, Debug, PartialEq, Eq)]
enum List {
    Blocks,
    Xml,
    Json,
    /// `-F json` of PBS Pro.
    ProJson,
    /// `-F dsv` of PBS Pro, with this between values.
    Dsv(String),
    /// `-l`: nodes in these states, with notes or without.
    Lines {
        state: State,
        with_notes: bool,
    },
}

/// A change of the nodes named.
struct Change {
    admin: Admin,
    note: Option<String>,
    appended: Option<String>,
    power: Option<String>,
}

/// The state words of `-l`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Down, offline or unknown: what `-l` lists by itself.
    Trouble,
    All,
    Up,
    /// Something runs on it.
    Active,
    /// The state holds this word.
    Word(&'static str),
}

/// Power states that `-m` takes.
const POWER_STATES: [&str; 6] = [
    "running",
    "standby",
    "suspend",
    "sleep",
    "hibernate",
    "shutdown",
];

impl Wish {
    fn read(parsed: &Parsed) -> Result<Self, Misuse> {
        let mut lines: Vec<String> = parsed.problems().map(str::to_owned).collect();
        let mut is_wrong = !lines.is_empty();
        let mode = Mode::of(parsed);
        if parsed.has('n') && mode != Mode::Lines {
            lines.push("Error: -n requires -l".to_owned());
        }
        let mut format = None;
        for item in &parsed.items {
            match item {
                Item::Value('-', word) if word == "xml" => format = Some(List::Xml),
                Item::Value('-', word) if word == "json" => format = Some(List::Json),
                Item::Value('-', _) => is_wrong = true,
                Item::Value('F', name) => match Format::named(name) {
                    Some(Format::ProJson) => format = Some(List::ProJson),
                    Some(Format::Dsv(delimiter)) => format = Some(List::Dsv(delimiter)),
                    Some(Format::Text) => format = None,
                    Some(Format::Xml | Format::Json) | None => {
                        lines.push("pbsnodes: invalid option -- 'F'".to_owned());
                    }
                },
                Item::Value('m', word) => {
                    is_wrong |= !POWER_STATES.contains(&word.to_ascii_lowercase().as_str());
                }
                Item::Flag('x') => format = Some(List::Xml),
                Item::Value(..) | Item::Flag(_) | Item::Problem(_) => {}
            }
        }
        is_wrong |= parsed.operands.iter().any(String::is_empty);
        if is_wrong || !lines.is_empty() {
            return Err(Misuse(lines));
        }
        let mut nodes = parsed.operands.clone();
        let action = match mode {
            Mode::Nothing => Action::Nothing,
            Mode::Change(admin) => Action::Change(Change::of(parsed, admin)),
            Mode::Lines => {
                let state = nodes.first().and_then(|word| State::named(word));
                if state.is_some() {
                    nodes.remove(0);
                }
                Action::List(format.unwrap_or(List::Lines {
                    state: state.unwrap_or(State::Trouble),
                    with_notes: parsed.has('n'),
                }))
            }
            Mode::All => Action::List(format.unwrap_or(List::Blocks)),
        };
        Ok(Self {
            action,
            nodes,
            is_quiet: parsed.has('q'),
        })
    }
}

/// What is done: the last of the options that choose wins, as in Torque.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    All,
    Lines,
    Nothing,
    Change(Admin),
}

impl Mode {
    fn of(parsed: &Parsed) -> Self {
        let mut mode = Self::All;
        for item in &parsed.items {
            mode = match item {
                Item::Flag('a' | 'x') => Self::All,
                Item::Flag('l') => Self::Lines,
                Item::Flag('d' | 'p') => Self::Nothing,
                Item::Flag('o') => Self::Change(Admin::Offline),
                Item::Flag('c' | 'r') => Self::Change(Admin::Clear),
                // These go with the others.
                Item::Value('N' | 'A' | 'm', _) if mode == Self::All => Self::Change(Admin::Keep),
                Item::Flag(_) | Item::Value(..) | Item::Problem(_) => mode,
            };
        }
        mode
    }
}

impl Change {
    fn of(parsed: &Parsed, admin: Admin) -> Self {
        let note = parsed.value('N');
        Self {
            admin,
            note: note.map(|note| if note == "n" { "" } else { note }.to_owned()),
            appended: parsed.value('A').map(str::to_owned),
            power: parsed.value('m').map(str::to_ascii_lowercase),
        }
    }
}

impl State {
    fn named(word: &str) -> Option<Self> {
        const WORDS: &[&str] = &[
            "free",
            "offline",
            "down",
            "reserve",
            "job-exclusive",
            "job-sharing",
            "busy",
            "time-shared",
            "state-unknown",
        ];
        match word.to_ascii_lowercase().as_str() {
            "active" => Some(Self::Active),
            "all" => Some(Self::All),
            "up" => Some(Self::Up),
            word => WORDS
                .iter()
                .find(|known| **known == word)
                .map(|known| Self::Word(known)),
        }
    }

    /// Whether a node in `state`, a comma list, is meant.
    fn fits(self, state: &str) -> bool {
        let is = |words: &[&str]| state.split(',').any(|word| words.contains(&word.trim()));
        let is_in_trouble = is(&["down", "offline", "unknown", "state-unknown"]);
        match self {
            Self::Trouble => is_in_trouble,
            Self::All => true,
            Self::Up => !is_in_trouble,
            Self::Active => is(&["job-exclusive", "job-sharing", "busy"]),
            Self::Word("state-unknown") => is(&["state-unknown", "unknown"]),
            Self::Word("down") => is(&["down", "state-unknown", "unknown"]),
            Self::Word(word) => is(&[word]),
        }
    }
}

fn failed(refusal: &Refusal) -> Failure {
    Failure::new(1, format!("pbsnodes: {}", refusal.text()))
}

/// A server other than the one behind the socket cannot be asked from here.
async fn check_server(server: &mut Server, wanted: &str) -> Result<(), Failure> {
    let name = door::server_name(server)
        .await
        .map_err(|status| failed(&refusal(&status)))?;
    if door::is_name_of(wanted, &name) {
        return Ok(());
    }
    let what = format!(
        "cannot connect to server {wanted}, error=15010 (Access from host not allowed, or unknown host)"
    );
    Err(Failure::new(
        1,
        format!("{}\npbsnodes: {what}", door::unresolved(wanted)),
    ))
}

async fn stat(server: &mut Server, node: &str) -> Result<Vec<NodeRow>, Failure> {
    let request = StatNodesRequest {
        node: node.to_owned(),
    };
    let reply = server
        .stat_nodes(request)
        .await
        .map_err(|status| failed(&refusal(&status)))?;
    Ok(reply.into_inner().nodes)
}

async fn show<W: Write>(
    server: &mut Server,
    list: &List,
    names: &[String],
    screen: &mut Screen<W>,
) -> Result<(), Failure> {
    let all = [String::new()];
    let names = if names.is_empty() { &all } else { names };
    // A document is whole or not there at all.
    let mut together = Vec::new();
    for name in names {
        let found = stat(server, name).await?;
        match list {
            List::Blocks => found
                .iter()
                .for_each(|node| nodes::block(screen.out(), node)),
            List::Lines { state, with_notes } => {
                let meant = found.iter().filter(|node| state.fits(&node.state));
                meant.for_each(|node| nodes::line(screen.out(), node, *with_notes));
            }
            List::Dsv(delimiter) => {
                let zone = TimeZone::system();
                for node in &found {
                    let head = format!("Name={}", node.name);
                    let how = (delimiter.as_str(), &zone);
                    pro_formats::dsv(screen.out(), &head, &pro::node(node), how);
                }
            }
            List::Xml | List::Json | List::ProJson => together.extend(found),
        }
        screen.pass_on()?;
    }
    document(server, list, &together, screen).await
}

async fn document<W: Write>(
    server: &mut Server,
    list: &List,
    found: &[NodeRow],
    screen: &mut Screen<W>,
) -> Result<(), Failure> {
    match list {
        List::Xml => nodes::document(screen.out(), found),
        List::Json => {
            let mut document = json::Document::default();
            for node in found {
                document.element(screen.out(), "nodes");
                json::node(screen.out(), node);
                screen.pass_on()?;
            }
            document.end(screen.out(), "nodes");
        }
        List::ProJson => {
            let name = door::server_name(server).await;
            let name = name.map_err(|status| failed(&refusal(&status)))?;
            let version = found.first().and_then(|node| {
                let list = pro::node(node);
                let version = list.into_iter().find(|a| a.name == "pbs_version");
                version.map(|a| a.value)
            });
            let by = (name.as_str(), version.as_deref().unwrap_or_default());
            let zone = TimeZone::system();
            let mut document = pro_formats::Document::begin(screen.out(), "nodes", by, zone);
            for node in found {
                document.object(screen.out(), &node.name, &pro::node(node));
                screen.pass_on()?;
            }
            document.end(screen.out());
        }
        List::Blocks | List::Lines { .. } | List::Dsv(_) => {}
    }
    Ok(())
}

/// Changes the nodes one by one. As in Torque a failure is said but does not change the exit status.
async fn change_nodes<W: Write>(
    server: &mut Server,
    change: &Change,
    wish: &Wish,
    screen: &mut Screen<W>,
) {
    for node in &wish.nodes {
        let Err(refusal) = change_node(server, change, node).await else {
            continue;
        };
        if !wish.is_quiet {
            let text = refusal.text();
            screen.complain(&format!("Error setting note attribute for {node} - {text}"));
        }
    }
}

async fn change_node(server: &mut Server, change: &Change, node: &str) -> Result<(), Refusal> {
    if change
        .power
        .as_deref()
        .is_some_and(|state| state != "running")
    {
        let detail = "the power of nodes is not managed here: power_state is always Running";
        return Err(Refusal::new(Pbse::Nosup, detail));
    }
    let mut note = change.note.clone();
    if let Some(appended) = &change.appended {
        let request = StatNodesRequest {
            node: node.to_owned(),
        };
        let found = server
            .stat_nodes(request)
            .await
            .map_err(|status| refusal(&status))?
            .into_inner()
            .nodes;
        let before = note
            .take()
            .or_else(|| found.first().map(|node| node.note.clone()));
        let before = before
            .filter(|note| !note.is_empty())
            .map(|note| format!("{note} "));
        note = Some(before.unwrap_or_default() + appended);
    }
    let request = AlterNodeRequest {
        node: node.to_owned(),
        admin: change.admin.into(),
        note,
    };
    server
        .alter_node(request)
        .await
        .map(|_| ())
        .map_err(|status| refusal(&status))
}

#[cfg(test)]
mod tests;
