//! `qmgr` and `qterm`: what a manager says is read into the core's words, and the core's refusals are told in Torque's.

use std::net::ToSocketAddrs;
use std::sync::Arc;

use capstan_core::{Directive, Event, ManageCommand, ManageOrder, ManageProblem};
use capstan_proto::{Refusal, wire};
use capstan_types::{AttributeError, AttributeObject, Pbse, SetOperator};
use tonic::{Code, Response, Status};
use tracing::Instrument;
use wire::manage_request::directive::Operator;
use wire::manage_request::{Command, Object};

use super::identity::Person;
use super::refusal::edge_status;
use super::{Door, is_manager, is_operator};

/// Most directives of one order.
const DIRECTIVES_MAX: usize = 1024;
/// Longest name of anything, bytes.
const NAME_BYTES_MAX: usize = 1024;

pub(super) async fn manage(
    door: &Arc<Door>,
    person: &Arc<Person>,
    request: wire::ManageRequest,
) -> Result<Response<wire::Done>, Status> {
    let by = person.as_caller();
    let order = read(request, by.clone()).map_err(edge_status)?;
    if is_operator(&door.latest.get(), person) {
        let hosts = Hosts::of(&order, person, door).map_err(edge_status)?;
        let looked_up = tokio::task::spawn_blocking(move || hosts.check()).await;
        let checked = looked_up.map_err(|error| Status::internal(error.to_string()))?;
        checked.map_err(edge_status)?;
    }
    let span = tracing::info_span!("rpc", call = "manage", user = &*by.user);
    let told = describe(&order);
    let done = door.order(Event::Manage(Box::new(order)), &by);
    let done = done.instrument(span.clone()).await?;
    span.in_scope(|| tracing::info!(order = told, "managed"));
    Ok(done)
}

pub(super) async fn shutdown(
    door: &Arc<Door>,
    person: &Arc<Person>,
    request: wire::ShutdownRequest,
) -> Result<Response<wire::Done>, Status> {
    let wire::ShutdownRequest { kind } = request;
    if !is_operator(&door.latest.get(), person) {
        return Err(edge_status(Refusal::new(Pbse::Perm, "")));
    }
    if !["", "quick"].contains(&kind.as_str()) {
        return Err(edge_status(Refusal::new(Pbse::Ivalreq, "")));
    }
    tracing::info!(user = &*person.user, "asked to stop");
    door.asked_to_stop.cancel();
    Ok(Response::new(wire::Done {}))
}

fn read(request: wire::ManageRequest, by: capstan_core::Caller) -> Result<ManageOrder, Refusal> {
    let (command, object) = (request.command(), request.object());
    let wire::ManageRequest {
        command: _,
        object: _,
        name,
        directives,
    } = request;
    if directives.len() > DIRECTIVES_MAX || name.len() > NAME_BYTES_MAX {
        return Err(Refusal::new(Pbse::Ivalreq, "too much at once"));
    }
    let directives = directives.into_iter().map(|directive| {
        let operator = directive.operator();
        let wire::manage_request::Directive {
            name,
            resource,
            operator: _,
            value,
        } = directive;
        let is_fit = name.len() <= NAME_BYTES_MAX && resource.len() <= NAME_BYTES_MAX;
        is_fit
            .then(|| Directive {
                name: name.into(),
                resource: resource.into(),
                operator: match operator {
                    Operator::Assign => SetOperator::Assign,
                    Operator::Add => SetOperator::Add,
                    Operator::Remove => SetOperator::Remove,
                },
                value: value.into(),
            })
            .ok_or_else(|| Refusal::new(Pbse::Noattr, ""))
    });
    Ok(ManageOrder {
        by,
        command: match command {
            Command::Create => ManageCommand::Create,
            Command::Delete => ManageCommand::Delete,
            Command::Set => ManageCommand::Set,
            Command::Unset => ManageCommand::Unset,
        },
        object: match object {
            Object::Server => AttributeObject::Server,
            Object::Queue => AttributeObject::Queue,
            Object::Node => AttributeObject::Node,
        },
        name: name.into(),
        directives: directives.collect::<Result<_, _>>()?,
    })
}

/// Hosts that an order names and that must be known.
struct Hosts {
    /// A node to be made.
    node: Option<String>,
    /// Hosts of users in access lists.
    of_users: Vec<String>,
}

impl Hosts {
    fn of(order: &ManageOrder, person: &Person, door: &Door) -> Result<Self, Refusal> {
        let is_node = order.object == AttributeObject::Node
            && order.command == ManageCommand::Create
            && is_manager(&door.latest.get(), person);
        let mut of_users = Vec::new();
        let lists = order.directives.iter().filter(|directive| {
            let name = directive.name.to_ascii_lowercase();
            order.object == AttributeObject::Server
                && order.command == ManageCommand::Set
                && directive.operator != SetOperator::Remove
                && ["managers", "operators"].contains(&name.as_str())
        });
        for directive in lists {
            let entries = directive.value.split(',').map(str::trim);
            for entry in entries.filter(|entry| !entry.is_empty()) {
                let (_, host) = entry
                    .split_once('@')
                    .ok_or_else(|| Refusal::new(Pbse::Badhost, ""))?;
                let is_own = *host == *person.host;
                if !is_own && !host.contains(['*', '[']) {
                    of_users.push(host.to_owned());
                }
            }
        }
        Ok(Self {
            node: is_node.then(|| order.name.to_string()),
            of_users,
        })
    }

    /// Blocks: names may come from the network.
    fn check(self) -> Result<(), Refusal> {
        let is_known = |host: &str| !host.is_empty() && (host, 0).to_socket_addrs().is_ok();
        if self.node.is_some_and(|node| !is_known(&node)) {
            return Err(Refusal::new(Pbse::Unknode, ""));
        }
        match self.of_users.iter().find(|host| !is_known(host)) {
            Some(host) => {
                let detail = format!("First bad host: {host}");
                Err(Refusal::new(Pbse::Badaclhost, detail))
            }
            None => Ok(()),
        }
    }
}

/// For the log: `set queue batch resources_max.mem = 1gb, started = True`.
fn describe(order: &ManageOrder) -> String {
    let command = match order.command {
        ManageCommand::Create => "create",
        ManageCommand::Delete => "delete",
        ManageCommand::Set => "set",
        ManageCommand::Unset => "unset",
    };
    let directives = order.directives.iter().map(|directive| {
        let dot = if directive.resource.is_empty() {
            ""
        } else {
            "."
        };
        let operator = match directive.operator {
            SetOperator::Assign => "=",
            SetOperator::Add => "+=",
            SetOperator::Remove => "-=",
        };
        format!(
            "{}{dot}{} {operator} {}",
            directive.name, directive.resource, directive.value
        )
    });
    let directives: Vec<String> = directives.collect();
    let object = order.object.word();
    format!(
        "{command} {object} {} {}",
        order.name,
        directives.join(", ")
    )
}

/// A refusal of the core in Torque's words. What only a look at the new value as a whole shows is told without the
/// attribute, as there.
pub(super) fn words(problem: &ManageProblem) -> (Code, Pbse, String) {
    use ManageProblem as M;
    let none = String::new;
    match problem {
        M::NotManager => {
            let detail = "error in permissions (PERM_MANAGER)".to_owned();
            (Code::PermissionDenied, Pbse::Perm, detail)
        }
        M::NotOperator => {
            let detail = "error in permissions (PERM_OPorMGR)".to_owned();
            (Code::PermissionDenied, Pbse::Perm, detail)
        }
        M::WrongObject => {
            let detail = "Invalid object type".to_owned();
            (Code::InvalidArgument, Pbse::Ivalreq, detail)
        }
        M::NotUnset => (Code::InvalidArgument, Pbse::Ivalreq, none()),
        M::Attribute(error) => attribute_words(error),
        M::ReadOnly { attribute } => (
            Code::PermissionDenied,
            Pbse::Attrro,
            attribute.as_ref().to_owned(),
        ),
        M::TooLarge { .. } => (Code::InvalidArgument, Pbse::Exlimit, none()),
        M::NoHost { .. } => (Code::InvalidArgument, Pbse::Badhost, none()),
        M::NoJobType { .. } => (Code::InvalidArgument, Pbse::Baddisallowtype, none()),
        M::NoQueue(_) => (Code::NotFound, Pbse::Unkque, none()),
        M::QueueExists(_) => (Code::AlreadyExists, Pbse::Queexist, none()),
        M::QueueNameTooLong => (Code::InvalidArgument, Pbse::Quenbig, none()),
        M::QueueName(_) => (Code::InvalidArgument, Pbse::Ivalreq, problem.to_string()),
        M::QueueBusy(_) => (Code::FailedPrecondition, Pbse::Quebusy, none()),
        M::QueueIncomplete(_) => (Code::FailedPrecondition, Pbse::Quenoen, none()),
        M::WrongQueueType { queue, attribute } => {
            let detail = format!("Type of queue {queue} incompatible with attribute {attribute}");
            (Code::InvalidArgument, Pbse::Attrtype, detail)
        }
        M::NoNode(_) => (Code::NotFound, Pbse::Unknode, none()),
        M::NodeExists(_) => (Code::AlreadyExists, Pbse::Nodeexist, none()),
        M::NodeValue { attribute } => (
            Code::InvalidArgument,
            Pbse::Badndatval,
            attribute.as_ref().to_owned(),
        ),
        M::MutuallyExclusive { attribute } => (
            Code::InvalidArgument,
            Pbse::Mutualex,
            attribute.as_ref().to_owned(),
        ),
        M::Nodes(names) => (
            Code::InvalidArgument,
            Pbse::Gmoderr,
            names.as_ref().to_owned(),
        ),
    }
}

/// Attributes whose value Torque judges as a whole, when it no longer knows which directive it came from.
const JUDGED_AS_A_WHOLE: [&str; 3] = ["queue_type", "keep_completed", "next_job_number"];

fn attribute_words(error: &AttributeError) -> (Code, Pbse, String) {
    let (error, attribute) = match error {
        AttributeError::UnknownAttribute { attribute } => (Pbse::Noattr, attribute),
        AttributeError::UnknownResource { attribute } => (Pbse::Unkresc, attribute),
        AttributeError::BadValue { attribute, .. } => (Pbse::Badatval, attribute),
        AttributeError::Duplicate { attribute } => (Pbse::Duplist, attribute),
    };
    let is_untold = error == Pbse::Badatval && JUDGED_AS_A_WHOLE.contains(&&**attribute);
    let detail = if is_untold { "" } else { attribute };
    (Code::InvalidArgument, error, detail.to_owned())
}
