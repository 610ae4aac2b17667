//! From findings to what is set here: a plan that explains itself. Everything is checked against the tables of attributes
//! before anything is asked of a server, and what the plan prints is what it applies.

use capstan_proto::wire::Attribute;
use capstan_types::{AttributeEffect, Attributes, SetOperator};

use super::finding::{Finding, Place, What};
use crate::qmgr::{self, Directive, Object, Operator, Shown};

/// Attributes that are part of what a server is, not of how it is set up: taking them over would be wrong, and why.
const OWN: &[(Object, &str, &str)] = &[
    (
        Object::Server,
        "server_name",
        "this server has a name of its own",
    ),
    (
        Object::Server,
        "sched_version",
        "the scheduler is part of the server",
    ),
    (Object::Node, "status", "the node's agent reports it"),
    (Object::Node, "gpu_status", "the node's agent reports it"),
    (Object::Node, "mic_status", "the node's agent reports it"),
    (Object::Node, "power_state", "the node's agent reports it"),
];
/// The one state of a node that an administrator sets; all others are found out.
const OFFLINE: &str = "offline";

/// What is made of the findings.
#[derive(Debug, Default)]
pub(super) struct Plan {
    targets: Vec<Target>,
    notes: Vec<Note>,
}

/// An object with the attributes that it gets.
#[derive(Debug)]
struct Target {
    object: Object,
    name: String,
    place: Place,
    is_created: bool,
    attributes: Attributes,
}

/// What is to be told of a finding.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Note {
    place: Place,
    what: String,
    fate: Fate,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Fate {
    Taken,
    WithoutEffect(String),
    Left(String),
}

impl Plan {
    /// Makes a plan. Of two findings about one attribute of one object the later one counts.
    pub(super) fn new(findings: Vec<Finding>) -> Self {
        let mut plan = Self::default();
        for Finding { place, what } in findings {
            match what {
                What::Exists(object, name) => {
                    let target = plan.target(object, &name, &place);
                    target.is_created = true;
                    let what = format!("{} {name}", object.word());
                    plan.note(&place, what, Fate::Taken);
                }
                What::Left(what, why) => plan.note(&place, what, Fate::Left(why)),
                What::Attribute(object, name, directive) => {
                    plan.attribute(&place, object, &name, &directive)
                }
            }
        }
        plan.drop_strangers();
        plan
    }

    fn note(&mut self, place: &Place, what: String, fate: Fate) {
        self.notes.push(Note {
            place: place.clone(),
            what,
            fate,
        });
    }

    fn target(&mut self, object: Object, name: &str, place: &Place) -> &mut Target {
        let is_it = |target: &Target| target.object == object && target.name == name;
        let at = self.targets.iter().position(is_it).unwrap_or_else(|| {
            self.targets.push(Target {
                object,
                name: name.to_owned(),
                place: place.clone(),
                is_created: false,
                attributes: Attributes::new(qmgr::table(object)),
            });
            self.targets.len() - 1
        });
        &mut self.targets[at]
    }

    fn attribute(&mut self, place: &Place, object: Object, name: &str, directive: &Directive) {
        let subject = if name.is_empty() {
            String::new()
        } else {
            format!("{} {name}: ", object.word())
        };
        let what = format!("{subject}{directive}");
        let fate = match self.set(place, object, name, directive) {
            Ok(AttributeEffect::Real) => Fate::Taken,
            Ok(AttributeEffect::Nothing(why)) => Fate::WithoutEffect(why.to_owned()),
            Err(why) => Fate::Left(why),
        };
        self.note(place, what, fate);
    }

    /// The error is why it is not taken over.
    fn set(
        &mut self,
        place: &Place,
        object: Object,
        name: &str,
        directive: &Directive,
    ) -> Result<AttributeEffect, String> {
        let known = qmgr::table(object).attribute(&directive.name);
        let known = known.ok_or("there is no such attribute")?;
        if let Some((_, _, why)) = OWN
            .iter()
            .find(|(of, own, _)| *of == object && *own == known.name)
        {
            return Err((*why).to_owned());
        }
        if known.is_read_only() {
            return Err("the server finds it out itself".to_owned());
        }
        if object == Object::Node && known.name == "state" && directive.value != OFFLINE {
            return Err("the server finds it out itself".to_owned());
        }
        let operator = match directive.operator {
            Operator::Assign => SetOperator::Assign,
            Operator::Add => SetOperator::Add,
            Operator::Remove => SetOperator::Remove,
        };
        let target = self.target(object, name, place);
        let changed =
            target
                .attributes
                .change(known.name, &directive.resource, operator, &directive.value);
        changed.map_err(|error| error.to_string())?;
        Ok(known.effect)
    }

    /// Findings about queues and nodes that no file says exist lead nowhere.
    fn drop_strangers(&mut self) {
        let (kept, strangers): (Vec<_>, Vec<_>) = std::mem::take(&mut self.targets)
            .into_iter()
            .partition(|target| target.is_created || target.object == Object::Server);
        self.targets = kept;
        for Target {
            object,
            name,
            place,
            ..
        } in strangers
        {
            let start = format!("{} {name}: ", object.word());
            self.notes.retain(|note| !note.what.starts_with(&start));
            let why = format!("no file says that there is such a {}", object.word());
            self.note(
                &place,
                format!("attributes of {} {name}", object.word()),
                Fate::Left(why),
            );
        }
    }

    /// The orders of `qmgr`: queues first, then the server, which names some of them, then nodes.
    pub(super) fn orders(&self) -> String {
        let mut out = Vec::new();
        for object in [Object::Queue, Object::Server, Object::Node] {
            let mut targets = self
                .targets
                .iter()
                .filter(|target| target.object == object)
                .peekable();
            if targets.peek().is_some() {
                qmgr::print_head(&mut out, object);
            }
            for target in targets {
                qmgr::print(&mut out, object, &target.shown());
            }
        }
        String::from_utf8_lossy(&out).into_owned()
    }

    /// What was taken over, what has no effect here, and what was not taken over, each with its place.
    pub(super) fn report(&self) -> String {
        let mut text = String::new();
        let section = |text: &mut String, head: &str, lines: Vec<String>| {
            if !lines.is_empty() {
                text.push_str(&format!("{head} ({}):\n", lines.len()));
                text.extend(lines.into_iter().map(|line| format!("  {line}\n")));
            }
        };
        let mut taken = Vec::new();
        let mut idle = Vec::new();
        let mut left = Vec::new();
        for Note { place, what, fate } in &self.notes {
            match fate {
                Fate::Taken => taken.push(format!("{place}: {what}")),
                Fate::WithoutEffect(why) => idle.push(format!("{place}: {what}: {why}")),
                Fate::Left(why) => left.push(format!("{place}: {what}: {why}")),
            }
        }
        section(&mut text, "taken over", taken);
        section(&mut text, "accepted without effect", idle);
        section(&mut text, "not taken over", left);
        let count = |object| {
            self.targets
                .iter()
                .filter(|target| target.object == object)
                .count()
        };
        let (queues, nodes) = (count(Object::Queue), count(Object::Node));
        text.push_str(&format!("{queues} queues, {nodes} nodes\n"));
        text
    }
}

impl Target {
    fn shown(&self) -> Shown {
        let lines = self.attributes.lines().into_iter().map(|line| Attribute {
            name: line.definition.name.to_owned(),
            resource: line.resource.to_owned(),
            value: line.value,
        });
        Shown::new(&self.name, lines.collect())
    }
}
