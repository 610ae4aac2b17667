//! The nodes file (`server_priv/nodes`), and the states and notes that Torque keeps beside it.

use super::finding::{Damage, Findings, Place, is_name};
use crate::qmgr::Object;

/// Words with a value that are attributes of a node.
const ATTRIBUTES: &[&str] = &[
    "np",
    "gpus",
    "mics",
    "num_node_boards",
    "numa_board_str",
    "numa_gpu_node_str",
    "mom_service_port",
    "mom_manager_port",
    "TTL",
    "acl",
    "requestid",
];
/// The bit of a node's state that an administrator sets (`INUSE_OFFLINE` of Torque).
const OFFLINE_BIT: u32 = 1;

/// Reads a nodes file.
///
/// # Errors
/// A name that is none, a number that is none, a node twice.
pub(super) fn read(file: &str, text: &str) -> Result<Findings, Damage> {
    let mut findings = Findings::default();
    let mut known: Vec<&str> = Vec::new();
    for (at, line) in text.lines().enumerate() {
        let place = Place::line(file, at + 1);
        let line = line.split('#').next().unwrap_or(line);
        let mut words = line.split_ascii_whitespace();
        let Some(first) = words.next() else { continue };
        let (first, is_shared) = match first.strip_suffix(":ts") {
            Some(name) => (name, true),
            None => (first, false),
        };
        let Some(name) = name(&mut findings, &place, first)? else {
            continue;
        };
        if known.contains(&name) {
            return Err(Damage::new(
                place,
                format!("node {name} stands in this file twice"),
            ));
        }
        known.push(name);
        findings.exists(&place, Object::Node, name);
        if is_shared {
            findings.left(
                &place,
                format!("{name}:ts"),
                "every node is of type cluster",
            );
        }
        let mut properties: Vec<&str> = Vec::new();
        for word in words {
            match word.split_once('=') {
                None => properties.push(property(&place, word)?),
                Some((key, value)) => setting(&mut findings, &place, name, (key, value))?,
            }
        }
        if !properties.is_empty() {
            findings.set(
                &place,
                (Object::Node, name),
                "properties",
                &properties.join(","),
            );
        }
    }
    Ok(findings)
}

/// The name of a node, when `qmgr` can name it: Torque's takes no name that begins with a digit, though its nodes file does.
fn name<'a>(
    findings: &mut Findings,
    place: &Place,
    name: &'a str,
) -> Result<Option<&'a str>, Damage> {
    if is_name(name) {
        return Ok(Some(name));
    }
    if is_name(&format!("n{name}")) && name.starts_with(|c: char| c.is_ascii_digit()) {
        let why = "qmgr names no node that begins with a digit: its agent makes it known";
        findings.left(place, format!("node {name}"), why);
        return Ok(None);
    }
    let shown = name.escape_debug();
    let what = format!("'{shown}' is no name of a node: letters, digits, '-', '_' and '.'");
    Err(Damage::new(place.clone(), what))
}

fn property<'a>(place: &Place, word: &'a str) -> Result<&'a str, Damage> {
    let is_plain = word
        .chars()
        .all(|c| !c.is_control() && !",;\"'\\".contains(c));
    let what = || {
        Damage::new(
            place.clone(),
            format!("'{}' is no property", word.escape_debug()),
        )
    };
    is_plain.then_some(word).ok_or_else(what)
}

fn setting(
    findings: &mut Findings,
    place: &Place,
    node: &str,
    (key, value): (&str, &str),
) -> Result<(), Damage> {
    let Some(&known) = ATTRIBUTES
        .iter()
        .find(|known| known.eq_ignore_ascii_case(key))
    else {
        findings.left(
            place,
            format!("{key}={value} of node {node}"),
            "nodes files of Torque have no such word",
        );
        return Ok(());
    };
    let is_count = ["np", "gpus", "mics", "num_node_boards"].contains(&known);
    if is_count && value.parse::<u32>().is_err() {
        return Err(Damage::new(
            place.clone(),
            format!("{known}={value} is no number"),
        ));
    }
    findings.set(place, (Object::Node, node), known, value);
    Ok(())
}

/// Reads the states that survive a restart of Torque (`server_priv/node_status`): lines of a name and a number.
///
/// # Errors
/// A line of another form.
pub(super) fn read_states(file: &str, text: &str) -> Result<Findings, Damage> {
    let mut findings = Findings::default();
    for (at, line) in text.lines().enumerate() {
        let place = Place::line(file, at + 1);
        let mut words = line.split_ascii_whitespace();
        let Some(name) = words.next() else { continue };
        let number: Option<u32> = words.next().and_then(|word| word.parse().ok());
        let Some(number) = number else {
            return Err(Damage::new(
                place,
                "a line has the name of a node and its state as a number",
            ));
        };
        let Some(name) = self::name(&mut findings, &place, name)? else {
            continue;
        };
        if number & OFFLINE_BIT != 0 {
            findings.set(&place, (Object::Node, name), "state", "offline");
        }
    }
    Ok(findings)
}

/// Reads the notes of nodes (`server_priv/node_note`): lines of a name and a text.
///
/// # Errors
/// A name that is none.
pub(super) fn read_notes(file: &str, text: &str) -> Result<Findings, Damage> {
    let mut findings = Findings::default();
    for (at, line) in text.lines().enumerate() {
        let place = Place::line(file, at + 1);
        let Some((name, note)) = line.trim().split_once(' ') else {
            continue;
        };
        let Some(name) = self::name(&mut findings, &place, name)? else {
            continue;
        };
        findings.set(&place, (Object::Node, name), "note", note.trim());
    }
    Ok(findings)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::migrate::finding::What;

    /// Findings in short, one per line.
    fn told(findings: Result<Findings, Damage>) -> String {
        let findings = match findings {
            Ok(Findings(findings)) => findings,
            Err(Damage { place, what }) => return format!("{place}: {what}"),
        };
        let short = findings.iter().map(|finding| match &finding.what {
            What::Exists(object, name) => format!("{}: {} {name}", finding.place, object.word()),
            What::Attribute(_, name, directive) => format!("{}: {name} {directive}", finding.place),
            What::Left(what, why) => format!("{}: {what}: {why}", finding.place),
        });
        short.collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn a_line_is_a_node_with_slots_cards_and_properties() {
        let text = "# head\n\ngpu01 np=4 gpus=2 gpu fast A # the first\ncpu01:ts bigmem np=2 colour=red\nbare\n";
        let expected = "n:3: node gpu01
n:3: gpu01 np = 4
n:3: gpu01 gpus = 2
n:3: gpu01 properties = \"gpu,fast,A\"
n:4: node cpu01
n:4: cpu01:ts: every node is of type cluster
n:4: cpu01 np = 2
n:4: colour=red of node cpu01: nodes files of Torque have no such word
n:4: cpu01 properties = bigmem
n:5: node bare";
        assert_eq!(told(read("n", text)), expected);
    }

    #[test]
    fn a_damaged_line_is_named() {
        assert_eq!(
            told(read("n", "a np=4\nb np=many")),
            "n:2: np=many is no number"
        );
        assert_eq!(
            told(read("n", "a\na")),
            "n:2: node a stands in this file twice"
        );
        assert!(told(read("n", "\u{1b}[2J np=1")).starts_with("n:1: '"));
        let digit =
            "n:1: node 4u: qmgr names no node that begins with a digit: its agent makes it known";
        assert_eq!(told(read("n", "4u np=2")), digit);
        assert!(told(read("n", "../x")).contains("is no name of a node"));
        assert_eq!(told(read("n", "a b\"c")), "n:1: 'b\\\"c' is no property");
    }

    #[test]
    fn offline_nodes_and_notes_are_kept() {
        assert_eq!(
            told(read_states("s", "a 1\nb 0\nc 5\n")),
            "s:1: a state = offline\ns:3: c state = offline"
        );
        assert!(told(read_states("s", "a offline")).starts_with("s:1: a line has"));
        assert_eq!(
            told(read_notes("t", "a fan is loud\nb\n")),
            "t:1: a note = \"fan is loud\""
        );
    }
}
