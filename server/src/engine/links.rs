//! The links to connected agents, as the engine holds them: where an order for a node is put.

use std::collections::BTreeMap;
use std::sync::Arc;

use capstan_proto::wire::{ServerMessage, server_message::Message};
use capstan_types::{AgentId, NodeName};
use tokio::sync::mpsc;
use tokio_util::sync::DropGuard;
use tonic::Status;

use crate::link::line::Line;

/// Most orders that wait for one agent. An agent that does not take them is cut off and reconciled at its next hello.
pub(crate) const OUTBOX_MAX: usize = 4096;

/// One connection of an agent. Dropping it ends the connection.
pub(crate) struct Link {
    /// Counts connections, so that news of a replaced one are recognised.
    pub(crate) connection: u64,
    /// The agent that said hello on it.
    pub(crate) agent: AgentId,
    /// What is to be sent.
    pub(crate) outbox: mpsc::Sender<Result<ServerMessage, Status>>,
    /// Ends the task that reads from the agent.
    pub(crate) _reader: DropGuard,
    /// Nothing may be sent before the welcome: the agent would take it for news of the time before.
    pub(crate) is_welcomed: bool,
    /// Where the agent is asked questions; opened by the welcome.
    pub(crate) line: Arc<Line>,
}

/// The current link of each node.
#[derive(Default)]
pub(super) struct Links(BTreeMap<NodeName, Link>);

/// What became of an order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sent {
    /// On its way.
    Yes,
    /// The node is not connected: reconciled at its next hello.
    NotConnected,
    /// The agent did not take its orders, or the connection broke: it was cut off.
    CutOff,
}

impl Links {
    /// Makes `link` the node's link; the one before it, if any, ends.
    pub(super) fn replace(&mut self, node: NodeName, link: Link) {
        self.0.insert(node, link);
    }

    /// Whether `connection` is the node's current one.
    pub(super) fn is_current(&self, node: &NodeName, connection: u64) -> bool {
        self.0
            .get(node)
            .is_some_and(|link| link.connection == connection)
    }

    /// Whether the node has a link.
    pub(super) fn is_connected(&self, node: &NodeName) -> bool {
        self.0.contains_key(node)
    }

    /// Ends the node's link; returns the agent whose it was.
    pub(super) fn remove(&mut self, node: &NodeName) -> Option<AgentId> {
        self.0.remove(node).map(|link| link.agent)
    }

    /// Sends the welcome to `agent`, and opens its link for orders.
    pub(super) fn welcome(&mut self, node: &NodeName, agent: &AgentId, message: Message) -> Sent {
        match self.0.get_mut(node) {
            Some(link) if link.agent == *agent => {
                link.is_welcomed = true;
                let line = link.line.clone();
                let sent = self.send(node, message);
                line.open();
                sent
            }
            Some(_) | None => Sent::NotConnected,
        }
    }

    /// Sends an order.
    pub(super) fn send(&mut self, node: &NodeName, message: Message) -> Sent {
        let Some(link) = self.0.get(node).filter(|link| link.is_welcomed) else {
            return Sent::NotConnected;
        };
        let message = ServerMessage {
            message: Some(message),
        };
        match link.outbox.try_send(Ok(message)) {
            Ok(()) => Sent::Yes,
            Err(_) => Sent::CutOff,
        }
    }

    /// Ends all links.
    pub(super) fn clear(&mut self) {
        self.0.clear();
    }
}
