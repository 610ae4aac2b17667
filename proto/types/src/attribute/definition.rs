//! What is known of an attribute: its name, how its value is read, who may set it, and whether it does anything here.

use super::{job, node, queue, server};

/// An attribute that Torque 6.1.3 knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AttributeDefinition {
    /// Its name, as listings print it.
    pub name: &'static str,
    /// How its value is read and printed.
    pub kind: AttributeKind,
    /// Who may set it.
    pub setter: AttributeSetter,
    /// Of a job: whether it may be altered while the job runs.
    pub is_alterable_running: bool,
    /// What it does.
    pub effect: AttributeEffect,
}

/// How the value of an attribute is read and printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AttributeKind {
    /// `True` or `False`; read from `t`, `T`, `y`, `1`, `true` … and their opposites.
    Boolean,
    /// A whole number that may be negative.
    Integer,
    /// Any text on one line.
    Text,
    /// A comma list in the order in which it was set.
    List,
    /// A comma list of `user@host` patterns, kept in the order in which Torque looks through it: users by name, then
    /// hosts from their end.
    Users,
    /// A comma list of host patterns, ordered by their ends, as Torque looks through it.
    Hosts,
    /// A value by resource.
    Resources,
    /// A whole number by resource.
    Costs,
    /// A time: epoch seconds; listings print it as ctime(3) does.
    Time,
    /// `Execution` or `Route`, read from any beginning of these in any case.
    QueueType,
    /// A comma list of states of a node.
    NodeState,
    /// `cluster`.
    NodeType,
    /// Hold letters.
    Holds,
    /// Dependencies.
    Dependencies,
    /// The server makes it up when it is asked.
    Computed,
}

/// Who may set an attribute; each may what those before it may.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum AttributeSetter {
    /// Everybody.
    User,
    /// The one who submits, once.
    Submitter,
    /// Operators and managers.
    Operator,
    /// Managers.
    Manager,
    /// The server only.
    Nobody,
    /// The server only, and only managers see it.
    Internal,
}

/// What an attribute does here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AttributeEffect {
    /// What it does in Torque.
    Real,
    /// It is accepted, kept and shown, and does nothing: why, in one line.
    Nothing(&'static str),
}

/// What has attributes.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize,
)]
pub enum AttributeObject {
    /// The server.
    Server,
    /// A queue.
    Queue,
    /// A node.
    Node,
    /// A job.
    Job,
}

impl AttributeDefinition {
    pub(super) const fn new(
        name: &'static str,
        kind: AttributeKind,
        setter: AttributeSetter,
    ) -> Self {
        Self {
            name,
            kind,
            setter,
            is_alterable_running: false,
            effect: AttributeEffect::Real,
        }
    }

    pub(super) const fn while_running(mut self) -> Self {
        self.is_alterable_running = true;
        self
    }

    pub(super) const fn without_effect(mut self, reason: &'static str) -> Self {
        self.effect = AttributeEffect::Nothing(reason);
        self
    }

    /// Whether `qmgr print` leaves it out: nobody could set it.
    #[must_use]
    pub fn is_read_only(&self) -> bool {
        self.setter >= AttributeSetter::Nobody
    }
}

impl AttributeObject {
    /// Its attributes, in the order of listings.
    #[must_use]
    pub const fn attributes(self) -> &'static [AttributeDefinition] {
        match self {
            Self::Server => server::TABLE,
            Self::Queue => queue::TABLE,
            Self::Node => node::TABLE,
            Self::Job => job::TABLE,
        }
    }

    /// The attribute of this name, in any case, as in Torque; `None` for an unknown one.
    #[must_use]
    pub fn attribute(self, name: &str) -> Option<&'static AttributeDefinition> {
        let mut all = self.attributes().iter();
        all.find(|known| known.name.eq_ignore_ascii_case(name))
    }

    /// As `qmgr` writes it: "server", "queue", "node".
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Server => "server",
            Self::Queue => "queue",
            Self::Node => "node",
            Self::Job => "job",
        }
    }
}

impl AttributeKind {
    /// For documents: "boolean", "list of hosts" …
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Boolean => "boolean",
            Self::Integer => "integer",
            Self::Text => "text",
            Self::List => "list",
            Self::Users => "list of users",
            Self::Hosts => "list of hosts",
            Self::Resources => "value by resource",
            Self::Costs => "integer by resource",
            Self::Time => "time",
            Self::QueueType => "Execution or Route",
            Self::NodeState => "states",
            Self::NodeType => "node type",
            Self::Holds => "holds",
            Self::Dependencies => "dependencies",
            Self::Computed => "computed",
        }
    }

    /// Whether its value is a comma list, which `qmgr print` writes as one `=` and several `+=`.
    #[must_use]
    pub const fn is_list(self) -> bool {
        match self {
            Self::List | Self::Users | Self::Hosts | Self::NodeState => true,
            Self::Boolean
            | Self::Integer
            | Self::Text
            | Self::Resources
            | Self::Costs
            | Self::Time
            | Self::QueueType
            | Self::NodeType
            | Self::Holds
            | Self::Dependencies
            | Self::Computed => false,
        }
    }
}

impl AttributeSetter {
    /// For documents: "operator", "nobody (read-only)" …
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Submitter => "user, at submission",
            Self::Operator => "operator",
            Self::Manager => "manager",
            Self::Nobody => "nobody (read-only)",
            Self::Internal => "nobody (internal)",
        }
    }
}
