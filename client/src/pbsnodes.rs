//! `pbsnodes`: lists nodes, takes them out of service, and keeps notes on them.

use std::io::Write;

use capstan_proto::Refusal;
use capstan_proto::wire::alter_node_request::Admin;
use capstan_proto::wire::{AlterNodeRequest, NodeRow, StatNodesRequest};
use serde_json::{Value, json};

use crate::command::{Call, Failure, refusal};
use crate::door::{self, Server};
use crate::getopt::{Opt, Parsed};
use crate::output::screen::Screen;
use crate::output::{json, nodes};

/// The options of `pbsnodes`.
pub(crate) const OPTIONS: &[Opt] = &[
    Opt::flag('a', "List all nodes"),
    Opt::value('A', "TEXT", "Add to the note"),
    Opt::flag('c', "Put the nodes back in service"),
    Opt::flag('d', "Ignored"),
    Opt::flag(
        'l',
        "List names and states; of nodes in trouble, or in the state named first",
    ),
    Opt::value('m', "STATE", "Power state"),
    Opt::flag('n', "With -l: show notes"),
    Opt::value('N', "TEXT", "Set the note; n or nothing clears it"),
    Opt::flag('o', "Take the nodes out of service; running jobs go on"),
    Opt::flag('p', "Ignored"),
    Opt::flag('q', "Say nothing about what fails"),
    Opt::flag('r', "Put the nodes back in service once they report"),
    Opt::value('s', "SERVER", "The server to ask"),
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
    let wish = Wish::read(&parsed)?;
    let mut server = door::open(call, door::patience(None, &call.env)).await?;
    if let Some(name) = parsed.value('s') {
        check_server(&mut server, name).await?;
    }
    let done = match &wish.action {
        Action::Nothing => Ok(()),
        Action::Change(change) => {
            change_nodes(&mut server, change, &wish, screen).await;
            Ok(())
        }
        Action::List(list) => show(&mut server, list, &wish.nodes, screen).await,
    };
    match done {
        Err(failure) if wish.is_quiet => Err(Failure::new(failure.status, "")),
        done => done.map(|()| 0),
    }
}

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
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum List {
    Blocks,
    Xml,
    Json,
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

impl Wish {
    fn read(parsed: &Parsed) -> Result<Self, Failure> {
        let problems: Vec<&str> = parsed.problems().collect();
        if !problems.is_empty() {
            return Err(Failure::new(1, format!("{}\n{USAGE}", problems.join("\n"))));
        }
        if parsed.has('n') && !parsed.has('l') {
            return Err(Failure::new(1, format!("Error: -n requires -l\n{USAGE}")));
        }
        if parsed.value('m').is_some() {
            return Err(Failure::new(
                1,
                "pbsnodes: power states (-m) are not supported yet",
            ));
        }
        let mut nodes = parsed.operands.clone();
        let action = Self::action(parsed, &mut nodes)?;
        if matches!(action, Action::Change(_)) && nodes.is_empty() {
            return Err(Failure::new(1, USAGE));
        }
        Ok(Self {
            action,
            nodes,
            is_quiet: parsed.has('q'),
        })
    }

    fn action(parsed: &Parsed, nodes: &mut Vec<String>) -> Result<Action, Failure> {
        let note = parsed
            .value('N')
            .map(|note| if note == "n" { "" } else { note });
        let is_change = parsed.has('o') || parsed.has('c') || parsed.has('r');
        if is_change || note.is_some() || parsed.value('A').is_some() {
            let admin = match (parsed.has('o'), is_change) {
                (true, _) => Admin::Offline,
                (false, true) => Admin::Clear,
                (false, false) => Admin::Keep,
            };
            let appended = parsed.value('A').map(str::to_owned);
            return Ok(Action::Change(Change {
                admin,
                note: note.map(str::to_owned),
                appended,
            }));
        }
        let list = match parsed.value('-') {
            Some("xml") => List::Xml,
            Some("json") => List::Json,
            Some(word) => {
                return Err(Failure::new(
                    1,
                    format!("pbsnodes: unrecognized option '--{word}'\n{USAGE}"),
                ));
            }
            None if parsed.has('x') => List::Xml,
            None if parsed.has('l') => {
                let state = nodes.first().and_then(|word| State::named(word));
                if state.is_some() {
                    nodes.remove(0);
                }
                List::Lines {
                    state: state.unwrap_or(State::Trouble),
                    with_notes: parsed.has('n'),
                }
            }
            None if parsed.has('d') || parsed.has('p') => return Ok(Action::Nothing),
            None => List::Blocks,
        };
        if parsed.has('a') {
            nodes.clear();
        }
        Ok(Action::List(list))
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
        match word {
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
            List::Xml | List::Json => together.extend(found),
        }
        screen.pass_on()?;
    }
    match list {
        List::Xml => nodes::document(screen.out(), &together),
        List::Json => {
            let list: Vec<Value> = together.iter().map(json::node).collect();
            writeln!(screen.out(), "{}", json!({ "nodes": list }))?;
        }
        List::Blocks | List::Lines { .. } => {}
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
            let what = match change.admin {
                Admin::Keep => "Error setting note attribute for",
                Admin::Offline | Admin::Clear => "Error marking node",
            };
            screen.complain(&format!("{what} {node} - {}", refusal.text()));
        }
    }
}

async fn change_node(server: &mut Server, change: &Change, node: &str) -> Result<(), Refusal> {
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
mod tests {
    use super::*;
    use crate::getopt;
    use proptest::prelude::*;

    fn read(args: &[&str]) -> Result<Wish, Failure> {
        let args: Vec<String> = args.iter().map(|&arg| arg.to_owned()).collect();
        Wish::read(&getopt::parse("pbsnodes", OPTIONS, &args))
    }

    fn check_list(args: &[&str], expected: List, nodes: &[&str]) {
        let wish = read(args).map_err(|failure| failure.text).unwrap();
        let Action::List(list) = wish.action else {
            panic!("{args:?} lists")
        };
        assert_eq!(
            (list, wish.nodes),
            (expected, nodes.iter().map(|&n| n.to_owned()).collect()),
            "{args:?}"
        );
    }

    #[test]
    fn a_state_word_behind_l_is_no_node() {
        let lines = |state| List::Lines {
            state,
            with_notes: false,
        };
        check_list(&["-l"], lines(State::Trouble), &[]);
        check_list(&["-l", "all"], lines(State::All), &[]);
        check_list(
            &["-l", "free", "gpu01"],
            lines(State::Word("free")),
            &["gpu01"],
        );
        check_list(&["-l", "banana"], lines(State::Trouble), &["banana"]);
        check_list(&["gpu01", "cpu01"], List::Blocks, &["gpu01", "cpu01"]);
        check_list(&["-a", "gpu01"], List::Blocks, &[]);
        check_list(&[":fast"], List::Blocks, &[":fast"]);
        check_list(&["--json"], List::Json, &[]);
    }

    #[test]
    fn misuse_is_told_as_torque_tells_it() {
        let text = |args: &[&str]| {
            read(args)
                .err()
                .map(|failure| (failure.status, failure.text))
        };
        assert_eq!(
            text(&["-n"]),
            Some((1, format!("Error: -n requires -l\n{USAGE}")))
        );
        assert_eq!(
            text(&["-Z"]),
            Some((1, format!("pbsnodes: invalid option -- 'Z'\n{USAGE}")))
        );
        assert_eq!(text(&["-o"]), Some((1, USAGE.to_owned())));
    }

    #[test]
    fn states_are_words_of_a_list() {
        assert!(State::Trouble.fits("offline,job-exclusive"));
        assert!(!State::Up.fits("offline,job-exclusive"));
        assert!(State::Active.fits("offline,job-exclusive"));
        assert!(State::Word("free").fits("free") && !State::Word("free").fits("down"));
    }

    proptest! {
        #[test]
        fn any_command_line_is_understood_or_refused(
            args in proptest::collection::vec("-[aAcdlmnNopqrsx-]{1,4}|[ -~]{0,8}", 0..6),
        ) {
            let args: Vec<&str> = args.iter().map(String::as_str).collect();
            prop_assert!(read(&args).is_err_and(|failure| failure.status == 1) || read(&args).is_ok());
        }
    }
}
