//! What the simulated server is set up with: its nodes, its policy, and orders as `qmgr` gives them, which the core itself
//! checks and carries out.

use std::sync::Arc;

use capstan_core::{
    Caller, Card, Directive, Event, Hello, Inventory, ManageCommand, ManageOrder, PolicyName,
    Settings, State, apply,
};
use capstan_types::{AgentId, AttributeObject, AttributeValue, CardId, SetOperator, Timestamp};

use crate::cluster::NodeDescription;
use crate::{Cluster, SimError};

/// The name of the simulated server and of its host.
pub(crate) const SERVER: &str = "sim";

/// An order of `qmgr`.
#[derive(Clone, Debug, PartialEq)]
pub struct Order {
    /// As it was written, for messages.
    pub text: Box<str>,
    /// What is done.
    pub command: ManageCommand,
    /// To what kind of thing.
    pub object: AttributeObject,
    /// To which.
    pub name: Box<str>,
    /// What is set.
    pub directives: Vec<Directive>,
}

impl Order {
    /// `NAME=VALUE` (or `+=`, `-=`) of the server, or `queue.QUEUE.NAME=VALUE`; `None` when it is neither.
    #[must_use]
    pub fn assignment(text: &str) -> Option<Self> {
        let (left, value) = text.split_once('=')?;
        let (key, operator) = match (left.strip_suffix('+'), left.strip_suffix('-')) {
            (Some(key), _) => (key, SetOperator::Add),
            (None, Some(key)) => (key, SetOperator::Remove),
            (None, None) => (left, SetOperator::Assign),
        };
        let key = key.trim();
        let (object, name, key) = match key.strip_prefix("queue.") {
            Some(rest) => {
                let (queue, key) = rest.split_once('.')?;
                (AttributeObject::Queue, queue, key)
            }
            None => (AttributeObject::Server, "", key),
        };
        let (attribute, resource) = key.split_once('.').unwrap_or((key, ""));
        let directive = Directive {
            name: attribute.into(),
            resource: resource.into(),
            operator,
            value: value.trim().into(),
        };
        (!attribute.is_empty()).then(|| Self {
            text: text.into(),
            command: ManageCommand::Set,
            object,
            name: name.into(),
            directives: vec![directive],
        })
    }
}

/// A server and its nodes.
#[derive(Clone, Debug, Default)]
pub struct Site {
    /// The nodes.
    pub cluster: Cluster,
    /// The policy; `None` for what the orders say.
    pub policy: Option<PolicyName>,
    /// A dump of a whole server's settings, to begin with; empty for a fresh server with a queue `batch`.
    pub dump: Vec<Order>,
    /// Single orders, carried out after the policy is set.
    pub orders: Vec<Order>,
}

impl Site {
    /// How to call what it does: its policy and its orders.
    #[must_use]
    pub fn label(&self) -> String {
        let policy = match (self.policy, self.dump.is_empty()) {
            (Some(policy), _) => policy.word(),
            (None, true) => PolicyName::Default.word(),
            (None, false) => "as configured",
        };
        let orders = self.orders.iter().map(|order| &*order.text);
        let words: Vec<&str> = std::iter::once(policy).chain(orders).collect();
        words.join(" ")
    }

    /// Whether its nodes have what is described and no job can make room for itself: then none starts where its cards
    /// are not free.
    pub(crate) fn is_plain(&self) -> bool {
        let only_server = |order: &Order| order.object == AttributeObject::Server;
        self.dump.is_empty() && self.orders.iter().all(only_server)
    }

    /// The state of the server when it has started and all nodes have come.
    ///
    /// # Errors
    /// An order that the core refuses.
    pub(crate) fn state(&self, now: Timestamp) -> Result<State, SimError> {
        let mut state = State::default();
        let settings = self.settings();
        let refused = |order: &str| {
            let order = order.into();
            |why: capstan_core::Rejection| SimError::Setting {
                order,
                why: why.to_string().into(),
            }
        };
        let started = Event::ServerStarted(Arc::new(settings));
        apply(&mut state, &started, now).map_err(refused("start"))?;
        let policy = self.policy.map(|policy| {
            let text = format!("policy={}", policy.word());
            Order::assignment(&text)
        });
        let scheduling = Order::assignment("scheduling=True");
        let own = policy.flatten().into_iter().chain(scheduling);
        let own: Vec<Order> = own.collect();
        for order in self.dump.iter().chain(&own).chain(&self.orders) {
            let event = Event::Manage(Box::new(order.event()));
            apply(&mut state, &event, now).map_err(refused(&order.text))?;
        }
        for node in &self.cluster.nodes {
            let event = Event::NodeAttached(Box::new(hello(node)));
            apply(&mut state, &event, now).map_err(refused(node.name.as_str()))?;
        }
        Ok(state)
    }

    fn settings(&self) -> Settings {
        let mut settings = Settings::new(SERVER.into());
        // What has ended is of no more interest: the simulation keeps its own account.
        settings.set("keep_completed", "0");
        let makes_queues = self.dump.iter().any(|order| {
            order.command == ManageCommand::Create && order.object == AttributeObject::Queue
        });
        if makes_queues {
            settings.queues.clear();
        }
        for node in &self.cluster.nodes {
            settings.declared.push(node.name.clone());
            let properties = AttributeValue::List(node.properties.clone());
            let own = settings.node_mut(&node.name);
            own.put(
                "properties",
                (!node.properties.is_empty()).then_some(properties),
            );
        }
        settings
    }
}

impl Order {
    fn event(&self) -> ManageOrder {
        let Self {
            text: _,
            command,
            object,
            name,
            directives,
        } = self.clone();
        ManageOrder {
            by: Caller {
                user: "root".into(),
                uid: 0,
                host: SERVER.into(),
            },
            command,
            object,
            name,
            directives,
        }
    }
}

/// What the agent of the node would say.
fn hello(node: &NodeDescription) -> Hello {
    let models = node.cards.iter();
    let cards = models.flat_map(|cards| (0..cards.count).map(move |_| cards));
    let card = |(index, kind): (u32, &crate::CardsOfOneModel)| Card {
        uuid: CardId::from(format!("GPU-{}-{index}", node.name)),
        index,
        model: kind.model.clone(),
        memory_bytes: kind.memory_bytes,
        pci_address: format!("00000000:{index:02X}:00.0").into(),
        driver: "simulated".into(),
        traits: capstan_core::CardTraits::default(),
    };
    Hello {
        node: node.name.clone(),
        agent: AgentId::from(format!("agent-{}", node.name)),
        inventory: Inventory {
            cores: node.cores,
            memory_bytes: node.memory_bytes,
            cards: (0..).zip(cards).map(card).collect(),
            engine: "simulated".into(),
            simulated: true,
            ..Inventory::default()
        },
        attempts: Vec::new(),
        unclean: Vec::new(),
    }
}
