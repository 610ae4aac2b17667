//! `qmgr`: queues and nodes are made and removed, attributes are set and unset. All directives of an order happen, or
//! none. Who may do what, and what is refused with which words, is as in Torque.

mod node;
mod policy;

pub(super) use self::node::NOTE_BYTES_MAX;
use std::sync::Arc;

use capstan_types::{
    AttributeError, AttributeObject, AttributeSetter, Attributes, QueueName, ResourceSetter,
    SetOperator, resource,
};

use super::draft::Draft;
use crate::{Directive, ManageCommand, ManageOrder, Queue, QueueType, Rejection, Settings};

/// Longest name of a queue, as in PBS.
const QUEUE_NAME_MAX: usize = 15;
/// The highest job number, as in Torque.
const JOB_NUMBER_MAX: i64 = 99_999_999;
/// What `disallowed_types` may hold.
const JOB_TYPES: [&str; 7] = [
    "batch",
    "interactive",
    "rerunable",
    "nonrerunable",
    "fault_tolerant",
    "fault_intolerant",
    "job_array",
];

/// Why an order of a manager is refused. Nothing has changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ManageProblem {
    /// Queues and nodes are made and removed by managers.
    #[error("only managers may create and delete")]
    NotManager,
    /// Attributes are set by operators and managers.
    #[error("only operators and managers may set attributes")]
    NotOperator,
    /// The order makes no sense for such a thing: a server is not created.
    #[error("this cannot be done with a thing of this kind")]
    WrongObject,
    /// Nodes have no attributes that can be unset.
    #[error("attributes of nodes cannot be unset, only set")]
    NotUnset,
    /// An unknown attribute or resource, or a value that is not of its kind.
    #[error(transparent)]
    Attribute(#[from] AttributeError),
    /// Nobody, or not this caller, may set this attribute or resource.
    #[error("{attribute} may not be set")]
    ReadOnly {
        /// The attribute, and the resource behind a dot.
        attribute: Box<str>,
    },
    /// A number beyond what the attribute may be.
    #[error("{attribute} is too large")]
    TooLarge {
        /// The attribute.
        attribute: Box<str>,
    },
    /// An entry of `managers` or `operators` without a host.
    #[error("{entry} names no host")]
    NoHost {
        /// The entry.
        entry: Box<str>,
    },
    /// `disallowed_types` has a word that is no type of jobs.
    #[error("{word} is no type of jobs")]
    NoJobType {
        /// The word.
        word: Box<str>,
    },
    /// There is no such queue.
    #[error("there is no queue {0}")]
    NoQueue(Box<str>),
    /// There is such a queue already.
    #[error("there is a queue {0} already")]
    QueueExists(QueueName),
    /// The name of a queue is empty, or longer than PBS has it.
    #[error("the name of a queue has 1 to {QUEUE_NAME_MAX} characters")]
    QueueNameTooLong,
    /// The name of a queue has characters that cannot stand in a destination.
    #[error("{0:?} is no name for a queue")]
    QueueName(Box<str>),
    /// There are jobs in the queue.
    #[error("there are jobs in queue {0}")]
    QueueBusy(QueueName),
    /// A queue without a type, or a routing queue without destinations, cannot be enabled.
    #[error("queue {0} is not completely defined")]
    QueueIncomplete(QueueName),
    /// The attribute is for queues of the other type.
    #[error("queue {queue} is of the wrong type for {attribute}")]
    WrongQueueType {
        /// The queue.
        queue: QueueName,
        /// The attribute.
        attribute: Box<str>,
    },
    /// There is no such node.
    #[error("there is no node {0}")]
    NoNode(Box<str>),
    /// There is such a node already.
    #[error("there is a node {0} already")]
    NodeExists(Box<str>),
    /// A value that an attribute of a node cannot have.
    #[error("{attribute} of a node cannot be so")]
    NodeValue {
        /// The attribute.
        attribute: Box<str>,
    },
    /// Two states that exclude each other.
    #[error("{attribute} has values that exclude each other")]
    MutuallyExclusive {
        /// The attribute.
        attribute: Box<str>,
    },
    /// Of several nodes, these could not be changed.
    #[error("{0} could not be changed")]
    Nodes(Box<str>),
}

pub(super) fn manage(draft: &mut Draft, order: &ManageOrder) -> Result<(), Rejection> {
    let setter = setter(draft, order)?;
    let settings = draft.state.settings().map(|settings| (**settings).clone());
    let Some(mut settings) = settings else {
        return Err(ManageProblem::WrongObject.into());
    };
    let order = Order {
        setter,
        is_root: order.by.uid == 0,
        command: order.command,
        directives: &order.directives,
        name: &order.name,
        object: order.object,
    };
    match (order.object, order.command) {
        (AttributeObject::Server, ManageCommand::Set | ManageCommand::Unset) => {
            order.to_server(draft, &mut settings)?;
        }
        (AttributeObject::Queue, ManageCommand::Create) => {
            order.create_queue(draft, &mut settings)?;
        }
        (AttributeObject::Queue, ManageCommand::Delete) => {
            order.delete_queue(draft, &mut settings)?;
        }
        (AttributeObject::Queue, ManageCommand::Set | ManageCommand::Unset) => {
            order.to_queues(draft, &mut settings)?;
        }
        (AttributeObject::Node, ManageCommand::Create) => {
            node::create(draft, &mut settings, &order)?;
        }
        (AttributeObject::Node, ManageCommand::Delete) => {
            node::delete(draft, &mut settings, &order)?;
        }
        (AttributeObject::Node, ManageCommand::Set) => node::set(draft, &mut settings, &order)?,
        (AttributeObject::Node, ManageCommand::Unset) => return Err(ManageProblem::NotUnset.into()),
        (AttributeObject::Server, ManageCommand::Create | ManageCommand::Delete)
        | (AttributeObject::Job, _) => return Err(ManageProblem::WrongObject.into()),
    }
    policy::check_owners(&settings)?;
    let is_same = draft.state.settings().is_some_and(|old| **old == settings);
    if !is_same {
        draft.put_settings(Arc::new(settings));
        node::configure_all(draft);
    }
    Ok(())
}

/// What the caller may set.
fn setter(draft: &Draft, order: &ManageOrder) -> Result<AttributeSetter, ManageProblem> {
    let by = &order.by;
    let is_manager = draft.require_manager(by).is_ok();
    let is_operator = draft.is_operator(by.uid, &by.user);
    match (order.command, is_manager, is_operator) {
        (_, true, _) => Ok(AttributeSetter::Manager),
        (ManageCommand::Create | ManageCommand::Delete, false, _) => Err(ManageProblem::NotManager),
        (ManageCommand::Set | ManageCommand::Unset, false, true) => Ok(AttributeSetter::Operator),
        (ManageCommand::Set | ManageCommand::Unset, false, false) => {
            Err(ManageProblem::NotOperator)
        }
    }
}

/// An order whose caller may give it.
struct Order<'a> {
    /// What the caller may set: what these may.
    setter: AttributeSetter,
    is_root: bool,
    command: ManageCommand,
    object: AttributeObject,
    name: &'a str,
    directives: &'a [Directive],
}

impl Order<'_> {
    fn means_all(&self) -> bool {
        self.name.is_empty() || self.name.starts_with('@')
    }

    /// Does what the directives say, and nothing else.
    fn change(&self, attributes: &mut Attributes) -> Result<(), ManageProblem> {
        for directive in self.directives {
            self.check_right(directive)?;
        }
        for directive in self.directives {
            let Directive {
                name,
                resource,
                operator,
                value,
            } = directive;
            match self.command {
                ManageCommand::Unset => attributes.unset(name, resource)?,
                ManageCommand::Create | ManageCommand::Set => {
                    attributes.change(name, resource, *operator, value)?;
                }
                ManageCommand::Delete => {}
            }
        }
        Ok(())
    }

    fn check_right(&self, directive: &Directive) -> Result<(), ManageProblem> {
        let known = self.object.attribute(&directive.name);
        let known = known.ok_or_else(|| AttributeError::UnknownAttribute {
            attribute: directive.name.clone(),
        })?;
        let by_resource = resource(&directive.resource).map(|resource| resource.setter);
        // What only the server sets in a job, a manager may limit.
        // Who chooses the program has the server's own rights, which managers otherwise have not.
        let is_program = known.name == "sendmail_path";
        let is_allowed = known.setter <= self.setter
            && (!is_program || self.is_root)
            && (self.setter >= AttributeSetter::Manager
                || by_resource.is_none_or(|setter| setter <= ResourceSetter::Operator));
        is_allowed
            .then_some(())
            .ok_or_else(|| ManageProblem::ReadOnly {
                attribute: label(directive),
            })
    }

    fn touches(&self, attribute: &str) -> bool {
        let mut names = self.directives.iter().map(|directive| &directive.name);
        names.any(|name| name.eq_ignore_ascii_case(attribute))
    }

    fn to_server(&self, draft: &mut Draft, settings: &mut Settings) -> Result<(), ManageProblem> {
        // The number is a counter of the state and no attribute, so that what is added is added to the number of now.
        let next = i64::try_from(draft.state.next_seq()).unwrap_or(i64::MAX);
        let value = capstan_types::AttributeValue::Integer(next);
        settings.attributes.put("next_job_number", Some(value));
        self.change(&mut settings.attributes)?;
        policy::check(&settings.attributes)?;
        if self.touches("next_job_number") && self.command == ManageCommand::Set {
            let number = self.job_number(&settings.attributes, next)?;
            // No two jobs have one number, whatever a manager says.
            let last = draft.state.jobs().last().map_or(0, |job| job.id.seq + 1);
            draft.set_next_seq(number.max(last));
        }
        settings.attributes.put("next_job_number", None);
        for attribute in ["keep_completed", "kill_delay", "np_default"] {
            if settings
                .attributes
                .integer(attribute)
                .is_some_and(|n| n < 0)
            {
                return Err(bad_number(&settings.attributes, attribute));
            }
        }
        for attribute in ["managers", "operators"] {
            let list = settings.attributes.list(attribute).iter();
            if let Some(entry) = list.clone().find(|entry| !entry.contains('@')) {
                let entry = entry.clone();
                return Err(ManageProblem::NoHost { entry });
            }
        }
        Ok(())
    }

    /// `+=` is no sum here: a number that is behind already is left behind, as in Torque.
    fn job_number(&self, attributes: &Attributes, before: i64) -> Result<u64, ManageProblem> {
        let attribute = "next_job_number";
        let mut number = attributes.integer(attribute).unwrap_or(0);
        let mut directives = self.directives.iter();
        let last = directives.rfind(|directive| directive.name.eq_ignore_ascii_case(attribute));
        if let Some(directive) = last.filter(|directive| directive.operator == SetOperator::Add) {
            number = directive.value.parse().unwrap_or(0).max(before);
        }
        if number > JOB_NUMBER_MAX {
            return Err(ManageProblem::TooLarge {
                attribute: attribute.into(),
            });
        }
        u64::try_from(number).map_err(|_| bad_number(attributes, attribute))
    }

    fn create_queue(&self, draft: &Draft, settings: &mut Settings) -> Result<(), ManageProblem> {
        if self.name.is_empty() || self.name.len() > QUEUE_NAME_MAX {
            return Err(ManageProblem::QueueNameTooLong);
        }
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
        if !self.name.bytes().all(is_plain) {
            return Err(ManageProblem::QueueName(self.name.into()));
        }
        let name = QueueName::from(self.name);
        if settings.queues.contains_key(&name) {
            return Err(ManageProblem::QueueExists(name));
        }
        let mut queue = Queue::created(name, settings.next_ordinal(), draft.now);
        self.to_queue(&mut queue)?;
        settings.queues.insert(queue.name.clone(), queue);
        Ok(())
    }

    fn delete_queue(&self, draft: &Draft, settings: &mut Settings) -> Result<(), ManageProblem> {
        let found = settings.queues.get(self.name);
        let name = found.map(|queue| queue.name.clone());
        let name = name.ok_or_else(|| ManageProblem::NoQueue(self.name.into()))?;
        if draft.state.live_in_queue(&name, None) > 0 {
            return Err(ManageProblem::QueueBusy(name));
        }
        settings.queues.remove(&name);
        Ok(())
    }

    fn to_queues(&self, draft: &Draft, settings: &mut Settings) -> Result<(), ManageProblem> {
        let mut found = false;
        for queue in settings.queues.values_mut() {
            if self.means_all() || queue.name.as_str() == self.name {
                found = true;
                self.to_queue(queue)?;
                queue.changed = draft.now;
            }
        }
        found
            .then_some(())
            .ok_or_else(|| ManageProblem::NoQueue(self.name.into()))
    }

    fn to_queue(&self, queue: &mut Queue) -> Result<(), ManageProblem> {
        self.change(&mut queue.attributes)?;
        policy::check(&queue.attributes)?;
        let attributes = &queue.attributes;
        if attributes.integer("keep_completed").is_some_and(|n| n < 0) {
            return Err(bad_number(attributes, "keep_completed"));
        }
        let mut types = attributes.list("disallowed_types").iter();
        if let Some(word) = types.find(|word| !JOB_TYPES.contains(&&***word)) {
            return Err(ManageProblem::NoJobType { word: word.clone() });
        }
        let is_complete = match queue.queue_type() {
            None => false,
            Some(QueueType::Execution) => true,
            Some(QueueType::Route) => !queue.route_destinations().is_empty(),
        };
        let is_set = self.command != ManageCommand::Unset;
        match queue.is_enabled() && !is_complete {
            true if is_set && self.touches("enabled") => {
                return Err(ManageProblem::QueueIncomplete(queue.name.clone()));
            }
            // Torque leaves it enabled, and what it then prints of the queue cannot be read back.
            true => queue.set("enabled", "False"),
            false => {}
        }
        match misplaced(queue).filter(|_| is_set) {
            Some(attribute) => Err(ManageProblem::WrongQueueType {
                queue: queue.name.clone(),
                attribute: attribute.into(),
            }),
            None => Ok(()),
        }
    }
}

/// Attributes that only queues of one type have.
const OF_EXECUTION: [&str; 14] = [
    "checkpoint_dir",
    "checkpoint_min",
    "checkpoint_defaults",
    "rendezvous_retry",
    "reserved_expedite",
    "reserved_sync",
    "resources_available",
    "resources_assigned",
    "kill_delay",
    "max_user_run",
    "max_group_run",
    "keep_completed",
    "is_transit",
    "own_nodes",
];
const OF_ROUTING: [&str; 6] = [
    "route_destinations",
    "alt_router",
    "route_held_jobs",
    "route_waiting_jobs",
    "route_retry_time",
    "route_lifetime",
];

/// An attribute that is set and that queues of this type do not have; a queue without a type has that of its first.
fn misplaced(queue: &Queue) -> Option<&'static str> {
    let is_set = |name: &&&'static str| queue.attributes.get(name).is_some();
    let of_execution = OF_EXECUTION.iter().find(is_set).copied();
    let of_routing = OF_ROUTING.iter().find(is_set).copied();
    match queue.queue_type() {
        Some(QueueType::Execution) => of_routing,
        Some(QueueType::Route) => of_execution,
        None => of_execution.and(of_routing),
    }
}

fn bad_number(attributes: &Attributes, attribute: &str) -> ManageProblem {
    let value = attributes.integer(attribute).unwrap_or(0);
    AttributeError::BadValue {
        attribute: attribute.into(),
        value: value.to_string().into(),
    }
    .into()
}

fn label(directive: &Directive) -> Box<str> {
    match &*directive.resource {
        "" => directive.name.clone(),
        resource => format!("{}.{resource}", directive.name).into(),
    }
}
