//! Carrying out the orders of a plan, one by one, and saying how far it came when the server refuses one.

use std::io::Write;
use std::time::Duration;

use capstan_proto::wire::manage_request;
use capstan_proto::wire::{ManageRequest, StatNodesRequest, StatQueuesRequest};
use capstan_types::Pbse;

use crate::command::{Call, Failure, refusal};
use crate::door::{Doors, Server};
use crate::output::screen::Screen;
use crate::qmgr::{Lines, Object, Order, Request, Verb, parse, requests, wire};

/// Sends the orders to the server.
///
/// # Errors
/// The server is not there, or refuses an order: those before it are done, and the message says which.
pub(super) async fn run<W: Write>(
    call: &Call,
    screen: &mut Screen<W>,
    text: &str,
) -> Result<u8, Failure> {
    let orders = read(text)?;
    let mut server = Doors::new(call, Duration::ZERO)
        .to("")
        .await
        .map_err(|failure| Failure::new(1, format!("{}\nNothing was applied.", failure.text)))?;
    let known = Known::ask(&mut server).await;
    for (done, order) in orders.iter().enumerate() {
        let asked = match order.verb == Verb::Create && known.has(order) {
            true => Ok(Asked::WasThere),
            false => ask(&mut server, order).await,
        };
        match asked {
            Ok(Asked::Done) => {}
            Ok(Asked::WasThere) => {
                let what = order.to_string().replacen("create ", "", 1);
                screen.complain(&format!(
                    "{what} is there already: its attributes are set, others stay"
                ));
            }
            Err(why) => {
                let all = orders.len();
                let number = done + 1;
                let state = match done {
                    0 => "Nothing was applied.".to_owned(),
                    done => format!("Orders 1 to {done} are carried out, none after it."),
                };
                let text = format!(
                    "capstan migrate: the server refused order {number} of {all}:\n  {order}\n  {why}\n{state}\nhint: the same command may be run again when the reason is gone"
                );
                return Err(Failure::new(1, text));
            }
        }
    }
    screen.complain(&format!("{} orders were carried out.", orders.len()));
    Ok(0)
}

/// The orders of a plan's text.
fn read(text: &str) -> Result<Vec<Order>, Failure> {
    let mut lines = Lines::default();
    let mut orders = Vec::new();
    for line in text.lines() {
        let Some(text) = lines.take(line) else {
            continue;
        };
        for request in requests(&text) {
            match parse(request) {
                Ok(Request::Order(order)) => orders.push(order),
                Ok(Request::Help(_) | Request::Quit | Request::Nothing) => {}
                Err(error) => {
                    let text = format!(
                        "capstan migrate: cannot be said to the server:\n{}\nNothing was applied.",
                        error.shown(request)
                    );
                    return Err(Failure::new(1, text));
                }
            }
        }
    }
    Ok(orders)
}

/// What the server has already. Creating it again is not tried: a node whose agent has made it known may have a name that
/// does not resolve here, and would be refused.
struct Known {
    queues: Vec<String>,
    nodes: Vec<String>,
}

impl Known {
    /// A server that does not answer, or has no nodes, is taken to have nothing: the first order will tell.
    async fn ask(server: &mut Server) -> Self {
        let queues = server.stat_queues(StatQueuesRequest::default()).await;
        let nodes = server.stat_nodes(StatNodesRequest::default()).await;
        let queues = queues
            .map(|reply| reply.into_inner().queues)
            .unwrap_or_default();
        let nodes = nodes
            .map(|reply| reply.into_inner().nodes)
            .unwrap_or_default();
        Self {
            queues: queues.into_iter().map(|row| row.name).collect(),
            nodes: nodes.into_iter().map(|row| row.name).collect(),
        }
    }

    fn has(&self, order: &Order) -> bool {
        let known = match order.object {
            Object::Server => return false,
            Object::Queue => &self.queues,
            Object::Node => &self.nodes,
        };
        order.names.iter().any(|name| known.contains(&name.object))
    }
}

enum Asked {
    Done,
    WasThere,
}

/// The error is the server's reason.
async fn ask(server: &mut Server, order: &Order) -> Result<Asked, String> {
    let command = match order.verb {
        Verb::Create => manage_request::Command::Create,
        Verb::Set => manage_request::Command::Set,
        Verb::Delete | Verb::Unset | Verb::List | Verb::Print | Verb::Active => {
            return Err("plans create and set only".to_owned());
        }
    };
    let object = match order.object {
        Object::Server => manage_request::Object::Server,
        Object::Queue => manage_request::Object::Queue,
        Object::Node => manage_request::Object::Node,
    };
    let name = order.names.first().map(|name| name.object.clone());
    let request = ManageRequest {
        command: command.into(),
        object: object.into(),
        name: name.unwrap_or_default(),
        directives: order.directives.iter().map(wire).collect(),
    };
    let Err(status) = server.manage(request).await else {
        return Ok(Asked::Done);
    };
    let refusal = refusal(&status);
    let is_there = [Pbse::Queexist, Pbse::Nodeexist].contains(&refusal.error);
    match is_there && order.verb == Verb::Create {
        true => Ok(Asked::WasThere),
        false => Err(refusal.text()),
    }
}
