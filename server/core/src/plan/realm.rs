//! Nodes that are a queue's own: its jobs run on them and nowhere else, and no other queue's jobs do. A site's test node
//! is made so, and a group's machines.

use capstan_types::QueueName;

use crate::{Node, Settings};

/// Most queues that have nodes of their own.
pub(crate) const OWNING_QUEUES_MAX: usize = 63;

/// Which nodes a job may use, as far as they are some queue's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Realm(u64);

/// The queues that own a node, a bit each; 0 for a node that is nobody's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Owners(u64);

impl Realm {
    /// All nodes, whosever they are: for operators.
    pub(crate) const ANYWHERE: Self = Self(u64::MAX);
    const NOBODYS: Self = Self(0);

    pub(crate) const fn has(self, owners: Owners) -> bool {
        match owners.0 {
            0 => self.0 == 0 || self.0 == Self::ANYWHERE.0,
            owners => owners & self.0 != 0,
        }
    }
}

/// Which queues have which nodes for their own (`own_nodes`): by name of the node, or by a property of it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Realms<'a>(Vec<(&'a QueueName, &'a [Box<str>])>);

impl<'a> Realms<'a> {
    pub(crate) fn of(settings: Option<&'a Settings>) -> Self {
        let queues = settings.into_iter().flat_map(|all| all.queues.values());
        let lists = queues.map(|queue| (&queue.name, queue.attributes.list("own_nodes")));
        let owning = lists.filter(|(_, nodes)| !nodes.is_empty());
        Self(owning.take(OWNING_QUEUES_MAX).collect())
    }

    pub(crate) fn owners(&self, node: &Node) -> Owners {
        let is_own = |list: &[Box<str>]| {
            list.iter()
                .any(|word| **word == *node.name.as_str() || node.has_property(word))
        };
        let lists = self.0.iter().enumerate();
        let own = lists.filter(|(_, (_, list))| is_own(list));
        Owners(own.fold(0, |bits, (at, _)| bits | 1 << at))
    }

    pub(crate) fn realm(&self, queue: &QueueName) -> Realm {
        let at = self.0.iter().position(|(name, _)| *name == queue);
        at.map_or(Realm::NOBODYS, |at| Realm(1 << at))
    }
}
