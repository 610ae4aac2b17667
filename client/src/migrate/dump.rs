//! What `qmgr -c 'print server'` (or `print node`) printed on a Torque: the most exact picture of it, and the only one of
//! releases that keep their database in binary.

use super::finding::{Damage, Findings, Place};
use crate::qmgr::{Lines, Object, Order, Request, Verb, parse, requests};

/// Reads a dump.
///
/// # Errors
/// A line that is no order of `qmgr`.
pub(super) fn read(file: &str, text: &str) -> Result<Findings, Damage> {
    let mut findings = Findings::default();
    let mut lines = Lines::default();
    let mut first = None;
    for (at, line) in text.lines().enumerate() {
        // An order is where its first line is.
        let start = *first.get_or_insert(at + 1);
        let taken = lines.take(line);
        if !lines.is_continued() {
            first = None;
        }
        let Some(text) = taken else { continue };
        let place = Place::line(file, start);
        for request in requests(&text) {
            match parse(request) {
                Ok(Request::Order(order)) => add(&mut findings, &place, &order),
                Ok(Request::Nothing) => {}
                Ok(Request::Help(_) | Request::Quit) => {
                    findings.left(&place, request.trim(), "sets nothing");
                }
                Err(error) => {
                    let what = format!("is no order of qmgr:\n{}", error.shown(request));
                    return Err(Damage::new(place, what));
                }
            }
        }
    }
    if lines.is_continued() {
        let place = Place::line(file, text.lines().count());
        return Err(Damage::new(place, "ends in the middle of an order"));
    }
    Ok(findings)
}

fn add(findings: &mut Findings, place: &Place, order: &Order) {
    let Order {
        verb,
        object,
        names,
        directives,
    } = order;
    let is_taken = match (verb, object) {
        (Verb::Create, Object::Queue | Object::Node) => !names.is_empty(),
        (Verb::Set, Object::Server) => true,
        (Verb::Set, Object::Queue | Object::Node) => !names.is_empty(),
        (
            Verb::Create | Verb::Delete | Verb::Unset | Verb::List | Verb::Print | Verb::Active,
            _,
        ) => false,
    };
    if !is_taken {
        findings.left(
            place,
            order.to_string(),
            "only create and set with names are taken over",
        );
        return;
    }
    let names: Vec<&str> = match object {
        Object::Server => vec![""],
        Object::Queue | Object::Node => names.iter().map(|name| name.object.as_str()).collect(),
    };
    for name in names {
        if *verb == Verb::Create {
            findings.exists(place, *object, name);
        }
        for directive in directives {
            findings.attribute(place, (*object, name), directive.clone());
        }
    }
}
