//! A file of orders of `qmgr`, such as `qmgr -c 'print server'` prints, as the simulated server gets them.

use capstan_sim::{Directive, ManageCommand, Order};
use capstan_types::{AttributeObject, SetOperator};

use crate::qmgr::{self, Lines, Object, Operator, Request, Verb};

/// Reads the orders that change something.
///
/// # Errors
/// The line of what is no order, and what is wrong with it.
pub(super) fn read(text: &str) -> Result<Vec<Order>, (usize, String)> {
    let mut orders = Vec::new();
    let mut lines = Lines::default();
    for (at, line) in text.lines().enumerate() {
        let Some(whole) = lines.take(line) else {
            continue;
        };
        for request in qmgr::requests(&whole) {
            match qmgr::parse(request) {
                Ok(Request::Order(order)) => orders.extend(carried_out(&order, request)),
                Ok(Request::Help(_) | Request::Nothing) => {}
                Ok(Request::Quit) => return Ok(orders),
                Err(error) => return Err((at + 1, error.shown(request))),
            }
        }
    }
    Ok(orders)
}

/// The order for each thing that it names; nothing for what only lists.
fn carried_out(order: &qmgr::Order, text: &str) -> Vec<Order> {
    let command = match order.verb {
        Verb::Create => ManageCommand::Create,
        Verb::Delete => ManageCommand::Delete,
        Verb::Set => ManageCommand::Set,
        Verb::Unset => ManageCommand::Unset,
        Verb::List | Verb::Print | Verb::Active => return Vec::new(),
    };
    let object = match order.object {
        Object::Server => AttributeObject::Server,
        Object::Queue => AttributeObject::Queue,
        Object::Node => AttributeObject::Node,
    };
    let directives: Vec<Directive> = order.directives.iter().map(directive).collect();
    let one = |name: &str| Order {
        text: text.trim().into(),
        command,
        object,
        name: name.into(),
        directives: directives.clone(),
    };
    match (order.object, order.names.as_slice()) {
        // There is but one server, whatever it is called in the dump.
        (Object::Server, _) => vec![one("")],
        (Object::Queue | Object::Node, names) => {
            names.iter().map(|name| one(&name.object)).collect()
        }
    }
}

fn directive(directive: &qmgr::Directive) -> Directive {
    let operator = match directive.operator {
        Operator::Assign => SetOperator::Assign,
        Operator::Add => SetOperator::Add,
        Operator::Remove => SetOperator::Remove,
    };
    Directive {
        name: directive.name.as_str().into(),
        resource: directive.resource.as_str().into(),
        operator,
        value: directive.value.as_str().into(),
    }
}
