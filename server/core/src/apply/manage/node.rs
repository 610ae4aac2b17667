//! Nodes, as `qmgr` makes, changes and removes them. A node that is only made waits for its agent.

use std::sync::Arc;

use capstan_types::{AttributeError, AttributeObject, Attributes, NodeName, SetOperator};

use super::super::{attempt, node};
use super::{ManageProblem, Order};
use crate::apply::draft::Draft;
use crate::{Directive, Job, Link, Node, Rejection, Settings};

/// Longest name of a node.
const NODE_NAME_MAX: usize = 255;
/// Most slots of a node.
const SLOTS_MAX: i64 = 4096;
/// Longest note on a node, bytes.
pub(in crate::apply) const NOTE_BYTES_MAX: usize = 4096;
/// States that are said of a node and not found out.
const OFFLINE: &str = "offline";
const FREE: &str = "free";
/// States that the server finds out; setting one says nothing that it would not see.
const SEEN_STATES: [&str; 9] = [
    "MOM-list-not-sent",
    "down",
    "job-exclusive",
    "job-sharing",
    "busy",
    "reserve",
    "state-unknown",
    "unknown",
    "time-shared",
];

/// A node under change: what the server knows of it, and what is configured.
struct Change {
    node: Node,
    config: Attributes,
}

pub(super) fn create(
    draft: &mut Draft,
    settings: &mut Settings,
    order: &Order<'_>,
) -> Result<(), ManageProblem> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
    let is_fit = (1..=NODE_NAME_MAX).contains(&order.name.len());
    if !is_fit || !order.name.bytes().all(is_plain) {
        return Err(ManageProblem::NoNode(order.name.into()));
    }
    let name = NodeName::from(order.name);
    if draft.state.node(&name).is_some() || settings.nodes.contains_key(&name) {
        return Err(ManageProblem::NodeExists(order.name.into()));
    }
    let mut change = Change {
        node: node::configured(name, Link::New, settings),
        config: Attributes::new(AttributeObject::Node),
    };
    change.apply(order)?;
    change.keep(draft, settings);
    Ok(())
}

pub(super) fn set(
    draft: &mut Draft,
    settings: &mut Settings,
    order: &Order<'_>,
) -> Result<(), ManageProblem> {
    let wanted = wanted(draft, order)?;
    let is_one = wanted.len() == 1 && wanted[0].name.as_str() == order.name;
    let mut failed: Vec<&str> = Vec::new();
    for node in &wanted {
        let config = settings.nodes.get(&node.name).cloned();
        let mut change = Change {
            node: Node::clone(node),
            config: config.unwrap_or(Attributes::new(AttributeObject::Node)),
        };
        match change.apply(order) {
            Ok(()) => change.keep(draft, settings),
            Err(problem) if is_one => return Err(problem),
            Err(_) => failed.push(node.name.as_str()),
        }
    }
    match failed.is_empty() {
        true => Ok(()),
        false => Err(ManageProblem::Nodes(failed.join(", ").into())),
    }
}

/// The nodes that an order means: one, all, or all that have a property.
fn wanted(draft: &Draft, order: &Order<'_>) -> Result<Vec<Arc<Node>>, ManageProblem> {
    let property = order.name.strip_prefix(':').filter(|name| *name != "ALL");
    let is_all = order.means_all()
        || (order.name.starts_with(':') || order.name.eq_ignore_ascii_case("all"));
    let is_wanted = |node: &&Arc<Node>| match property {
        Some(property) => node.has_property(property),
        None => is_all || node.name.as_str() == order.name,
    };
    let found: Vec<Arc<Node>> = draft.state.nodes().filter(is_wanted).cloned().collect();
    match found.is_empty() && property.is_none() {
        true => Err(ManageProblem::NoNode(order.name.into())),
        false => Ok(found),
    }
}

impl Change {
    fn apply(&mut self, order: &Order<'_>) -> Result<(), ManageProblem> {
        for directive in order.directives {
            order.check_right(directive)?;
            match &*directive.name.to_ascii_lowercase() {
                "state" => self.state(directive)?,
                "note" => self.note(directive)?,
                _ => self.other(directive)?,
            }
        }
        Ok(())
    }

    fn state(&mut self, directive: &Directive) -> Result<(), ManageProblem> {
        let words: Vec<&str> = directive.value.split(',').map(str::trim).collect();
        let is_known = |word: &&str| [OFFLINE, FREE].contains(word) || SEEN_STATES.contains(word);
        let attribute: Box<str> = "state".into();
        if !words.iter().all(is_known) {
            return Err(ManageProblem::NodeValue { attribute });
        }
        if words.contains(&FREE) && words.len() > 1 {
            return Err(ManageProblem::MutuallyExclusive { attribute });
        }
        let is_named = words.contains(&OFFLINE);
        self.node.is_offline = match directive.operator {
            SetOperator::Assign => is_named,
            SetOperator::Add => self.node.is_offline || is_named,
            SetOperator::Remove => self.node.is_offline && !is_named,
        };
        Ok(())
    }

    fn note(&mut self, directive: &Directive) -> Result<(), ManageProblem> {
        let old = &self.node.note;
        let value = &directive.value;
        let note: String = match directive.operator {
            SetOperator::Assign => value.to_string(),
            SetOperator::Add => format!("{old}{value}"),
            SetOperator::Remove => old.strip_suffix(&**value).unwrap_or(old).to_owned(),
        };
        if note.len() > NOTE_BYTES_MAX || note.chars().any(char::is_control) {
            let attribute = "note".into();
            return Err(ManageProblem::NodeValue { attribute });
        }
        self.node.note = note.into();
        Ok(())
    }

    fn other(&mut self, directive: &Directive) -> Result<(), ManageProblem> {
        let Directive {
            name,
            resource,
            operator,
            value,
        } = directive;
        let changed = self.config.change(name, resource, *operator, value);
        changed.map_err(|error| match error {
            AttributeError::BadValue { attribute, .. }
            | AttributeError::Duplicate { attribute } => ManageProblem::NodeValue { attribute },
            error @ (AttributeError::UnknownAttribute { .. }
            | AttributeError::UnknownResource { .. }) => error.into(),
        })?;
        let np = self.config.integer("np");
        if np.is_some_and(|np| !(1..=SLOTS_MAX).contains(&np)) {
            let attribute = "np".into();
            return Err(ManageProblem::NodeValue { attribute });
        }
        let mut properties = self.config.list("properties").iter();
        // A property is asked for with colons and pluses around it.
        if properties.any(|word| word.contains([':', '+', '#', '=', ' '])) {
            let attribute = "properties".into();
            return Err(ManageProblem::NodeValue { attribute });
        }
        Ok(())
    }

    fn keep(self, draft: &mut Draft, settings: &mut Settings) {
        let Self { mut node, config } = self;
        let is_new = draft.state.node(&node.name).is_none();
        if is_new || !config.is_empty() || settings.nodes.contains_key(&node.name) {
            *settings.node_mut(&node.name) = config;
        }
        node::configure(&mut node, Some(settings));
        draft.put_node(node);
    }
}

/// What runs there is put back in its queue, or ends where it may not run twice; then the node is forgotten, until an
/// agent comes for it again.
pub(super) fn delete(
    draft: &mut Draft,
    settings: &mut Settings,
    order: &Order<'_>,
) -> Result<(), Rejection> {
    for node in wanted(draft, order)? {
        let attempts = draft.state.held_on(&node.name);
        let attempts: Vec<_> = attempts.map(|(attempt, _)| attempt).collect();
        for attempt in attempts {
            let job: Option<Arc<Job>> = draft.state.job_of(attempt).cloned();
            let run = job.as_ref().and_then(|job| job.state.run()).cloned();
            if let (Some(job), Some(run)) = (job, run) {
                attempt::lost(draft, &job, &format!("node {} was deleted", node.name))?;
                attempt::disown(draft, &run, 0);
            }
        }
        settings.nodes.remove(&node.name);
        draft.remove_node(&node.name);
    }
    Ok(())
}

/// What the server says of all nodes (`np_default`) may have changed.
pub(super) fn configure_all(draft: &mut Draft) {
    let settings = draft.state.settings().cloned();
    let nodes: Vec<Arc<Node>> = draft.state.nodes().cloned().collect();
    for old in nodes {
        let mut node = Node::clone(&old);
        node::configure(&mut node, settings.as_deref());
        if node != *old {
            draft.put_node(node);
        }
    }
}
