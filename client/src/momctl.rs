//! `momctl`: asks the agents of nodes how they are. Agents are asked by way of the server, which alone they talk to; what
//! a Torque daemon could be told over its own port and an agent cannot is said plainly.

use std::io::{Read, Write};
use std::time::Duration;

use capstan_proto::wire::ask_node_request::Question;
use capstan_proto::wire::{AskNodeRequest, DiagnoseNode, NodeRow, StatNodesRequest};

use crate::command::{Call, Failure, refusal};
use crate::door::{self, Doors, Server};
use crate::getopt::{Item, Opt, Parsed};
use crate::output::screen::Screen;

/// The options of `momctl`.
pub(crate) const OPTIONS: &[Opt] = &[
    Opt::value('c', "JOB|all", "Clear a stale job (agents keep none)"),
    Opt::flag('C', "Have the node report to the server now"),
    Opt::value('d', "LEVEL", "Print a diagnosis, 0 to 3"),
    Opt::value('f', "FILE", "Read the names of nodes from this file"),
    Opt::value(
        'h',
        "HOST[,...]",
        "The nodes, or :PROPERTY; this host when not given",
    ),
    Opt::flag('l', "Print the layout of the node (agents have none)"),
    Opt::value('p', "PORT", "Accepted; agents have no port"),
    Opt::value('q', "ATTRIBUTE", "Print one value; may be repeated"),
    Opt::value(
        'r',
        "FILE",
        "Reconfigure (agents read their settings when they start)",
    ),
    Opt::flag('s', "Stop the agent (its service does that)"),
    Opt::flag('u', "Update (agents have nothing to update)"),
    Opt::flag('v', "Say what is done"),
];

const USAGE: &str = "\
USAGE:  momctl <ARGS>
            [ -c {JOB|'all'} ]    // CLEAR STALE JOB
            [ -C ]                // CYCLE
            [ -d DIAGLEVEL ]      // DIAGNOSE (0 - 3)
            [ -f HOSTFILE ]       // FILE CONTAINING HOSTLIST
            [ -h HOST[,HOST]... ] // HOSTLIST
            [ -l ]                // LAYOUT
            [ -p PORT ]           // PORT
            [ -q ATTR ]           // QUERY ATTRIBUTE
            [ -r FILE ]           // RECONFIG
            [ -s ]                // SHUTDOWN
            [ -u ]                // UPDATE

 Only one of c, C, d, q, r, or s must be specified, but -q may
 be used multiple times. HOST may be a hostname or \":property\".";

const NOT_ROOT: &str = "ERROR:  must be root to run this command";
/// Most that is read of a file of hosts.
const HOSTS_BYTES_MAX: u64 = 64 << 10;
const LEVEL_MAX: u32 = 3;

/// What is wanted of every node.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Order {
    /// The answers to these questions: level, or name of a value.
    Query(Vec<Query>),
    /// What has no sense here: what Torque calls it, and what to do instead.
    Senseless(&'static str, &'static str),
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Query {
    Diagnosis(u32),
    Cycle,
    Value(String),
}

/// What the command line says.
#[derive(Debug, PartialEq, Eq)]
struct Wish {
    order: Order,
    hosts: Vec<String>,
    is_verbose: bool,
}

/// Asks the nodes one by one. As in Torque a node that does not answer is complained about, and the exit status is 0.
///
/// # Errors
/// Misuse, a caller who is not root, a server that is not there.
pub(crate) async fn run<W: Write>(call: &Call, screen: &mut Screen<W>) -> Result<u8, Failure> {
    if !nix::unistd::getuid().is_root() {
        return Err(Failure::new(1, NOT_ROOT));
    }
    let parsed = call.parse(OPTIONS);
    parsed
        .problems()
        .for_each(|problem| screen.complain(problem));
    let mut wish = wish(&parsed)?;
    if wish.hosts.is_empty() {
        wish.hosts.push(door::known_host_name(&call.env));
    }
    let mut doors = Doors::new(call, Duration::ZERO);
    let server = doors.to("").await;
    let mut server = server.map_err(|failure| Failure::new(1, failure.text))?;
    let (mut done, mut failed) = (0, 0);
    for host in &wish.hosts {
        for node in nodes(&mut server, host, screen).await? {
            match ask(&mut server, &wish, &node, screen).await? {
                true => done += 1,
                false => failed += 1,
            }
        }
    }
    if wish.is_verbose {
        writeln!(
            screen.out(),
            "Node Summary:  {done} Successful  {failed} Failed"
        )?;
    }
    Ok(0)
}

fn wish(parsed: &Parsed) -> Result<Wish, Failure> {
    let misused = |why: &str| Failure::new(1, format!("  {why}\n{USAGE}"));
    let (mut order, mut queries, mut hosts) = (None, Vec::new(), Vec::new());
    for item in &parsed.items {
        let query = match item {
            Item::Flag('C') => Query::Cycle,
            Item::Value('d', level) => Query::Diagnosis(level.parse().unwrap_or(0).min(LEVEL_MAX)),
            Item::Value('q', name) => Query::Value(name.clone()),
            Item::Value('h', list) => {
                hosts = split(list);
                continue;
            }
            Item::Value('f', file) => {
                hosts = split(&read(file)?);
                continue;
            }
            Item::Value('p', port) => {
                if port.parse::<u16>().unwrap_or(0) == 0 {
                    return Err(misused("invalid port specified"));
                }
                continue;
            }
            Item::Flag(letter) | Item::Value(letter, _) => {
                order = senseless(*letter).or(order);
                continue;
            }
            Item::Problem(_) => continue,
        };
        order = None;
        queries.push(query);
    }
    let order = match (order, queries.is_empty()) {
        (Some(order), _) => order,
        (None, false) => Order::Query(queries),
        (None, true) => return Err(misused("no command specified")),
    };
    Ok(Wish {
        order,
        hosts,
        is_verbose: parsed.has('v'),
    })
}

fn senseless(letter: char) -> Option<Order> {
    let (what, why) = match letter {
        'c' => (
            "request job clear",
            "agents keep no stale jobs; 'qdel -p JOB' makes the server forget one",
        ),
        'l' => ("print the layout", "agents keep no layout of their node"),
        'r' => (
            "reconfigure mom",
            "an agent reads its settings file when it starts: change it there and restart the agent, jobs go on",
        ),
        's' => (
            "shutdown mom daemon",
            "stop the service capstan-agent there, jobs go on",
        ),
        'u' => ("update mom", "agents have nothing to update"),
        _ => return None,
    };
    Some(Order::Senseless(what, why))
}

fn split(list: &str) -> Vec<String> {
    let names = list.split([',', ' ', '\t', '\n']);
    names
        .filter(|name| !name.is_empty())
        .map(ToOwned::to_owned)
        .collect()
}

fn read(file: &str) -> Result<String, Failure> {
    let mut text = String::new();
    let read = std::fs::File::open(file)
        .and_then(|file| file.take(HOSTS_BYTES_MAX).read_to_string(&mut text));
    match read {
        Ok(_) => Ok(text),
        Err(error) => {
            let number = error.raw_os_error().unwrap_or(libc::EIO);
            let what = error.to_string();
            let what = what.split(" (os error").next().unwrap_or_default();
            let text = format!("ERROR:    cannot open file '{file}', errno: {number} ({what})");
            Err(Failure::new(1, text))
        }
    }
}

/// The nodes that a name means: itself, or those with a property that are not down.
async fn nodes<W: Write>(
    server: &mut Server,
    name: &str,
    screen: &mut Screen<W>,
) -> Result<Vec<String>, Failure> {
    if !name.starts_with(':') || name.len() == 1 {
        return Ok(vec![name.to_owned()]);
    }
    let property = name.split('@').next().unwrap_or(name);
    let request = StatNodesRequest {
        node: property.to_owned(),
    };
    let rows: Vec<NodeRow> = match server.stat_nodes(request).await {
        Ok(reply) => reply.into_inner().nodes,
        Err(_) => Vec::new(),
    };
    if rows.is_empty() {
        let on = door::server_name(server).await.unwrap_or_default();
        screen.complain(&format!("no nodes found in {property} on {on}"));
    }
    let (down, up): (Vec<NodeRow>, Vec<NodeRow>) =
        rows.into_iter().partition(|row| row.state.contains("down"));
    for row in down {
        screen.complain(&format!("{:>12}:   skipping down node", row.name));
    }
    Ok(up.into_iter().map(|row| row.name).collect())
}

/// Asks one node; whether it answered.
async fn ask<W: Write>(
    server: &mut Server,
    wish: &Wish,
    node: &str,
    screen: &mut Screen<W>,
) -> Result<bool, Failure> {
    let queries = match &wish.order {
        Order::Query(queries) => queries,
        Order::Senseless(what, why) => {
            screen.complain(&format!("ERROR:    cannot {what} on {node}: {why}"));
            return Ok(false);
        }
    };
    for (index, query) in queries.iter().enumerate() {
        let (level, attribute) = match query {
            Query::Diagnosis(level) => (*level, ""),
            Query::Cycle => (0, "cycle"),
            Query::Value(name) => (0, name.split('=').next().unwrap_or(name)),
        };
        let question = Question::Diagnose(DiagnoseNode {
            level,
            attribute: attribute.to_owned(),
        });
        let request = AskNodeRequest {
            node: node.to_owned(),
            question: Some(question),
        };
        let value = match server.ask_node(request).await {
            Ok(reply) => reply.into_inner().text,
            Err(status) => {
                let refusal = refusal(&status);
                let number = refusal.error.number();
                let text = refusal.text();
                screen.complain(&format!(
                    "cannot connect to MOM on node '{node}', errno={number} ({text})"
                ));
                return Ok(false);
            }
        };
        if wish.is_verbose && index == 0 {
            screen.complain(&format!("INFO:     successfully connected to {node}"));
        }
        let out = screen.out();
        match query {
            Query::Diagnosis(_) => writeln!(out, "{value}")?,
            Query::Cycle => writeln!(out, "mom {node} successfully cycled {value}")?,
            Query::Value(_) => writeln!(out, "{node:>12}: {attribute:>12} = '{value}'")?,
        }
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::getopt;

    fn wished(args: &[&str]) -> Result<Wish, Failure> {
        let args: Vec<String> = args.iter().map(|&arg| arg.to_owned()).collect();
        wish(&getopt::parse("momctl", OPTIONS, &args))
    }

    #[test]
    fn queries_are_gathered_and_hosts_split() {
        let seen = wished(&["-d3", "-q", "loadave", "-h", "gpu01, gpu02,:fast"]).unwrap();
        let queries = vec![Query::Diagnosis(3), Query::Value("loadave".into())];
        assert_eq!(seen.order, Order::Query(queries));
        assert_eq!(seen.hosts, ["gpu01", "gpu02", ":fast"]);
        let level = wished(&["-d", "9"]).unwrap().order;
        assert_eq!(level, Order::Query(vec![Query::Diagnosis(3)]));
    }

    #[test]
    fn without_a_command_there_is_usage() {
        let failure = wished(&["-h", "gpu01"]).unwrap_err();
        assert_eq!(failure.status, 1);
        assert!(
            failure
                .text
                .starts_with("  no command specified\nUSAGE:  momctl <ARGS>\n")
        );
        let failure = wished(&["-p", "0", "-C"]).unwrap_err();
        assert!(failure.text.starts_with("  invalid port specified\n"));
    }

    #[test]
    fn what_has_no_sense_here_is_said() {
        for args in [&["-c", "all"][..], &["-r", "/x"], &["-s"], &["-l"], &["-u"]] {
            let order = wished(args).unwrap().order;
            assert!(matches!(order, Order::Senseless(..)), "{args:?}");
        }
    }
}
