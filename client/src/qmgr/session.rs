//! Carrying out orders: which objects at which servers they mean, what is asked of the servers, and what is said of refusals.

use std::io::Write;

use capstan_proto::Refusal;
use capstan_proto::wire::manage_request::{self, directive};
use capstan_proto::wire::{
    ManageRequest, StatNodesRequest, StatQueuesRequest, StatReservationsRequest, StatServerRequest,
};
use capstan_types::{Pbse, ReservationId};
use jiff::tz::TimeZone;
use tonic::Status;

use super::grammar::{At, Directive, Name, Object, Operator, Order, Verb};
use super::show::{self, Shown};
use crate::command::{Failure, refusal};
use crate::door::{Doors, Server};
use crate::output::screen::Screen;

/// The servers of one call, and what `active` has chosen.
pub(crate) struct Session<'a> {
    doors: Doors<'a>,
    /// Those of the command line; the default one is the empty name.
    servers: Vec<String>,
    active_queues: Option<Vec<Name>>,
    active_nodes: Option<Vec<Name>>,
    /// `-z`: nothing is said of errors.
    is_quiet: bool,
    /// `-a`: the first error ends an order.
    stops_at_errors: bool,
}

/// Why an order was not carried out.
enum No {
    /// The server's word.
    Refused(Refusal),
    /// A listing asks for an attribute that does not exist.
    Undefined(String),
    /// The server had nothing to say.
    Nothing,
}

impl From<Status> for No {
    fn from(status: Status) -> Self {
        Self::Refused(refusal(&status))
    }
}

impl<'a> Session<'a> {
    /// A session with the servers that the operands name.
    pub(crate) fn new(doors: Doors<'a>, operands: &[String], is_quiet: bool, stops: bool) -> Self {
        let servers = match operands {
            [] => vec![String::new()],
            operands => operands.to_vec(),
        };
        Self {
            doors,
            servers,
            active_queues: None,
            active_nodes: None,
            is_quiet,
            stops_at_errors: stops,
        }
    }

    /// Says what is wrong, unless `-z` was given.
    pub(crate) fn complain<W: Write>(&self, screen: &mut Screen<W>, text: &str) {
        if !self.is_quiet {
            screen.complain(text);
        }
    }

    /// Reaches all servers of the command line; whether there is any to work with.
    pub(crate) async fn connect<W: Write>(&mut self, screen: &mut Screen<W>) -> bool {
        let mut reached = 0;
        for name in self.servers.clone() {
            reached += usize::from(self.reach(&name, screen).await.is_some());
        }
        reached > 0 && (!self.stops_at_errors || reached == self.servers.len())
    }

    async fn reach<W: Write>(&mut self, name: &str, screen: &mut Screen<W>) -> Option<Server> {
        match self.doors.to(name).await {
            Ok(server) => Some(server),
            Err(Failure { text, .. }) => {
                self.complain(screen, &text);
                None
            }
        }
    }

    /// Carries out an order; whether all of it was done.
    ///
    /// # Errors
    /// The output cannot be written.
    pub(crate) async fn execute<W: Write>(
        &mut self,
        order: &Order,
        screen: &mut Screen<W>,
    ) -> Result<bool, Failure> {
        if order.verb == Verb::Active {
            return Ok(self.activate(order, screen).await);
        }
        let mut is_done = true;
        for Name { object, at } in self.meant(order, screen) {
            for name in self.servers_of(&at) {
                let told = match self.reach(&name, screen).await {
                    Some(mut server) => self.ask(&mut server, order, &object, screen).await,
                    None => {
                        is_done = false;
                        continue;
                    }
                };
                screen.pass_on()?;
                let Err(no) = told else { continue };
                self.complain(screen, &no.text(&object, &name));
                if self.stops_at_errors {
                    return Ok(false);
                }
                is_done = false;
            }
        }
        Ok(is_done)
    }

    /// The objects that an order is about.
    fn meant<W: Write>(&self, order: &Order, screen: &mut Screen<W>) -> Vec<Name> {
        if !order.names.is_empty() {
            return order.names.clone();
        }
        let (active, complaint) = match order.object {
            Object::Server => return self.own_servers(),
            Object::Queue => (&self.active_queues, "No Active Queues, nothing done."),
            Object::Node => (&self.active_nodes, "No Active Nodes, nothing done."),
        };
        if active.is_none() {
            self.complain(screen, complaint);
        }
        active.clone().unwrap_or_default()
    }

    fn own_servers(&self) -> Vec<Name> {
        let name = |server: &String| Name {
            object: server.clone(),
            at: At::Named(server.clone()),
        };
        self.servers.iter().map(name).collect()
    }

    fn servers_of(&self, at: &At) -> Vec<String> {
        match at {
            At::Active => self.servers.clone(),
            At::Default => vec![String::new()],
            At::Named(name) => vec![name.clone()],
        }
    }

    /// Asks one server about one object.
    async fn ask<W: Write>(
        &self,
        server: &mut Server,
        order: &Order,
        name: &str,
        screen: &mut Screen<W>,
    ) -> Result<(), No> {
        let Order { verb, object, .. } = *order;
        let wanted = in_order_of_requests(&order.directives);
        let command = match verb {
            Verb::List | Verb::Active => {
                let zone = TimeZone::system();
                for shown in stat(server, object, name).await? {
                    show::list(
                        screen.out(),
                        object,
                        &shown.only(object, &wanted).map_err(No::Undefined)?,
                        &zone,
                    );
                }
                return Ok(());
            }
            Verb::Print => {
                if object == Object::Server && wanted.is_empty() {
                    let queues = stat(server, Object::Queue, "").await;
                    let queues = by_managers(server, or_none(queues)?).await?;
                    print(screen, Object::Queue, &wanted, queues)?;
                }
                return print(screen, object, &wanted, stat(server, object, name).await?);
            }
            Verb::Create => manage_request::Command::Create,
            Verb::Delete => manage_request::Command::Delete,
            Verb::Set => manage_request::Command::Set,
            Verb::Unset => manage_request::Command::Unset,
        };
        let (object, name) = match object {
            Object::Server => (manage_request::Object::Server, ""),
            Object::Queue => (manage_request::Object::Queue, name),
            Object::Node => (manage_request::Object::Node, name),
        };
        let request = ManageRequest {
            command: command.into(),
            object: object.into(),
            name: name.to_owned(),
            directives: wanted.into_iter().map(wire).collect(),
        };
        server.manage(request).await?;
        Ok(())
    }

    /// `active`: chooses objects, or lists those that are chosen. Objects at a named server must exist there.
    async fn activate<W: Write>(&mut self, order: &Order, screen: &mut Screen<W>) -> bool {
        let Order {
            object, ref names, ..
        } = *order;
        if names.is_empty() {
            self.list_active(object, screen);
            return true;
        }
        for Name { object: own, at } in names {
            let server = match at {
                At::Active => continue,
                At::Default => String::new(),
                At::Named(server) => server.clone(),
            };
            let Some(mut server) = self.reach(&server, screen).await else {
                return false;
            };
            let kind = match object {
                Object::Server => continue,
                Object::Queue => "Queue",
                Object::Node => "Node",
            };
            let Err(no) = stat(&mut server, object, own).await else {
                continue;
            };
            if let No::Refused(refusal) = no {
                self.complain(screen, &format!("qmgr: {}.", refusal.text()));
            }
            self.complain(screen, &format!("{kind} does not exist: {own}."));
            return false;
        }
        match object {
            // Each order of Torque's begins with the servers of the command line again.
            Object::Server => {}
            Object::Queue => self.active_queues = Some(names.clone()),
            Object::Node => self.active_nodes = Some(names.clone()),
        }
        true
    }

    fn list_active<W: Write>(&self, object: Object, screen: &mut Screen<W>) {
        let own_servers = self.own_servers();
        let (head, names) = match object {
            Object::Server => ("servers", own_servers.as_slice()),
            Object::Queue => ("queues", self.active_queues.as_deref().unwrap_or_default()),
            Object::Node => ("nodes", self.active_nodes.as_deref().unwrap_or_default()),
        };
        let mut text = format!("Active {head}:\n");
        for Name { object: own, at } in names {
            let server = match at {
                At::Active => "active",
                At::Default => "default",
                At::Named(name) => label(name),
            };
            text.push_str(&match object {
                Object::Server => format!("{server}\n"),
                Object::Queue | Object::Node => format!("{own}@{server}\n"),
            });
        }
        screen.out().extend_from_slice(text.as_bytes());
    }
}

impl No {
    fn text(&self, object: &str, server: &str) -> String {
        let undefined = |attribute: &str| format!("{} {attribute}", Pbse::Noattr.text());
        let what = match self {
            // Of orders Torque's server names the attribute without ` MSG=`; of submissions it does not name it.
            Self::Refused(refusal) if refusal.error == Pbse::Noattr => undefined(&refusal.detail),
            Self::Refused(refusal) => refusal.text(),
            Self::Undefined(attribute) => undefined(attribute),
            Self::Nothing => return "qmgr: Error from server".to_owned(),
        };
        format!("qmgr obj={object} svr={}: {what}", label(server))
    }
}

fn label(server: &str) -> &str {
    if server.is_empty() { "default" } else { server }
}

/// Prints objects behind a head, if there are any.
fn print<W: Write>(
    screen: &mut Screen<W>,
    object: Object,
    wanted: &[&Directive],
    objects: Vec<Shown>,
) -> Result<(), No> {
    if !objects.is_empty() {
        show::print_head(screen.out(), object);
    }
    for shown in objects {
        show::print(
            screen.out(),
            object,
            &shown.only(object, wanted).map_err(No::Undefined)?,
        );
    }
    Ok(())
}

/// Without the queues of reservations: fed back to a server they would be queues without one.
async fn by_managers(server: &mut Server, mut queues: Vec<Shown>) -> Result<Vec<Shown>, No> {
    let is_called_so = |shown: &Shown| shown.name.parse::<ReservationId>().is_ok();
    if queues.iter().any(is_called_so) {
        let all = StatReservationsRequest::default();
        let made = server.stat_reservations(all).await?.into_inner();
        let made = made.reservations;
        queues.retain(|shown| made.iter().all(|made| made.queue != shown.name));
    }
    Ok(queues)
}

/// A server without queues is none without an answer.
fn or_none(objects: Result<Vec<Shown>, No>) -> Result<Vec<Shown>, No> {
    match objects {
        Err(No::Nothing) => Ok(Vec::new()),
        other => other,
    }
}

/// The object of this name, or all of the kind when it is empty.
async fn stat(server: &mut Server, object: Object, name: &str) -> Result<Vec<Shown>, No> {
    let name = name.to_owned();
    let shown: Vec<Shown> = match object {
        Object::Server => {
            let reply = server.stat_server(StatServerRequest {}).await?.into_inner();
            vec![Shown::new(&reply.name, reply.attributes)]
        }
        Object::Queue => {
            let reply = server
                .stat_queues(StatQueuesRequest { queue: name })
                .await?
                .into_inner();
            reply
                .queues
                .into_iter()
                .map(|row| Shown::new(&row.name, row.attributes))
                .collect()
        }
        Object::Node => {
            let reply = server
                .stat_nodes(StatNodesRequest { node: name })
                .await?
                .into_inner();
            reply
                .nodes
                .into_iter()
                .map(|row| Shown::new(&row.name, row.attributes))
                .collect()
        }
    };
    if shown.is_empty() {
        Err(No::Nothing)
    } else {
        Ok(shown)
    }
}

/// Attributes as Torque sends them: the last one first, which shows in the order of listings and in which error is told.
/// Those of one attribute keep their order, because what is set first and then added to must not be the other way round.
fn in_order_of_requests(directives: &[Directive]) -> Vec<&Directive> {
    let mut groups: Vec<Vec<&Directive>> = Vec::new();
    for directive in directives {
        match groups
            .iter_mut()
            .find(|group| group[0].name == directive.name)
        {
            Some(group) => group.push(directive),
            None => groups.push(vec![directive]),
        }
    }
    groups.into_iter().rev().flatten().collect()
}

/// A directive as it travels.
pub(crate) fn wire(directive: &Directive) -> manage_request::Directive {
    let Directive {
        name,
        resource,
        operator,
        value,
    } = directive.clone();
    let operator = match operator {
        Operator::Assign => directive::Operator::Assign,
        Operator::Add => directive::Operator::Add,
        Operator::Remove => directive::Operator::Remove,
    };
    manage_request::Directive {
        name,
        resource,
        operator: operator.into(),
        value,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_attribute_is_sent_first_but_what_is_added_comes_after_what_is_set() {
        let directive = |key: &str| Directive {
            name: key[..1].to_owned(),
            value: key[1..].to_owned(),
            ..Directive::default()
        };
        let directives = ["a1", "b1", "a2", "c1"].map(directive);
        let sent = in_order_of_requests(&directives);
        let sent: Vec<String> = sent
            .iter()
            .map(|d| format!("{}{}", d.name, d.value))
            .collect();
        assert_eq!(sent, ["c1", "b1", "a1", "a2"]);
    }
}
