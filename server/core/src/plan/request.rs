//! What a job asks of nodes, in one form for `nodes=`, `ncpus=` and `procs=`.

use capstan_types::{Chunk, ChunkTarget};

use crate::{JobSpec, Node};

/// What decides where a job may run: jobs with equal shapes fit or fail alike, so each is tried once a plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct ShapeKey<'a> {
    pub(super) chunks: &'a [Chunk],
    pub(super) loose_slots: Option<u32>,
    pub(super) memory_bytes: Option<u64>,
    /// Matters only to nodes whose agent is not root.
    pub(super) uid: u32,
}

impl<'a> ShapeKey<'a> {
    pub(super) fn of(spec: &'a JobSpec) -> Self {
        let nodes = spec.nodes.as_ref().filter(|_| spec.loose_slots.is_none());
        Self {
            chunks: nodes.map_or(&[], |nodes| &nodes.chunks),
            loose_slots: spec.loose_slots,
            memory_bytes: spec.memory_bytes,
            uid: spec.owner.uid,
        }
    }
}

/// The same in numbers.
#[derive(Clone, Debug)]
pub(super) enum Request<'a> {
    /// Parts of one or more nodes each; all nodes differ.
    Nodes(Vec<Part<'a>>),
    /// Slots wherever they are.
    Loose {
        /// How many.
        slots: u32,
        /// Memory that goes with each.
        slot_memory_bytes: u64,
    },
}

/// So many nodes, each with so much.
#[derive(Clone, Debug)]
pub(super) struct Part<'a> {
    /// How many nodes.
    pub(super) count: u32,
    /// What each must give.
    pub(super) each: Each,
    /// Which nodes are meant.
    pub(super) target: Target<'a>,
    /// Properties each must have.
    pub(super) properties: &'a [Box<str>],
}

/// What is wanted of one node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Each {
    pub(super) slots: u32,
    pub(super) cards: u32,
    pub(super) memory_bytes: u64,
}

/// Which nodes a part means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Target<'a> {
    /// Any.
    Any,
    /// This one, by its place among all nodes in name order.
    Node(usize),
    /// Any with this property: the name is no node's.
    Property(&'a str),
}

impl<'a> Request<'a> {
    /// The request of `key`; `find` tells the place of a node by its name.
    pub(super) fn of(key: &ShapeKey<'a>, find: impl Fn(&str) -> Option<usize>) -> Self {
        let memory = key.memory_bytes.unwrap_or(0);
        if let Some(slots) = key.loose_slots {
            let slot_memory_bytes = memory.div_ceil(u64::from(slots.max(1)));
            return Self::Loose {
                slots,
                slot_memory_bytes,
            };
        }
        if key.chunks.is_empty() {
            return Self::Nodes(vec![Part::single(memory)]);
        }
        let nodes = key
            .chunks
            .iter()
            .map(|chunk| u64::from(chunk.node_count()))
            .sum::<u64>();
        let memory_each = memory.div_ceil(nodes.max(1));
        let mut parts: Vec<Part<'a>> = Vec::with_capacity(key.chunks.len());
        for chunk in key.chunks {
            let part = Part::of(chunk, memory_each, &find);
            let same = parts.iter_mut().find(|other| other.is_same_node(&part));
            match same {
                // `gpu01+gpu01` asks one node for both.
                Some(other) => other.each = other.each.and(part.each),
                None => parts.push(part),
            }
        }
        Self::Nodes(parts)
    }
}

impl<'a> Part<'a> {
    fn single(memory_bytes: u64) -> Self {
        let each = Each {
            slots: 1,
            cards: 0,
            memory_bytes,
        };
        Self {
            count: 1,
            each,
            target: Target::Any,
            properties: &[],
        }
    }

    fn of(chunk: &'a Chunk, memory_bytes: u64, find: &impl Fn(&str) -> Option<usize>) -> Self {
        let target = match &chunk.target {
            ChunkTarget::Count(_) => Target::Any,
            ChunkTarget::Named(name) => find(name).map_or(Target::Property(name), Target::Node),
        };
        let each = Each {
            slots: chunk.ppn,
            cards: chunk.gpus,
            memory_bytes,
        };
        Self {
            count: chunk.node_count(),
            each,
            target,
            properties: &chunk.properties,
        }
    }

    fn is_same_node(&self, other: &Self) -> bool {
        matches!(self.target, Target::Node(_))
            && self.target == other.target
            && self.properties == other.properties
    }

    /// Whether a node with these properties is meant; whether it has enough is another question.
    pub(super) fn means(&self, place: usize, properties: &[Box<str>]) -> bool {
        let has = |wanted: &str| properties.iter().any(|own| **own == *wanted);
        let is_meant = match self.target {
            Target::Any => true,
            Target::Node(node) => node == place,
            Target::Property(name) => has(name),
        };
        is_meant && self.properties.iter().all(|wanted| has(wanted))
    }
}

impl Each {
    fn and(self, other: Self) -> Self {
        Self {
            slots: self.slots.saturating_add(other.slots),
            cards: self.cards.saturating_add(other.cards),
            memory_bytes: self.memory_bytes.saturating_add(other.memory_bytes),
        }
    }

    /// All that `node` has.
    pub(super) fn whole(node: &Node) -> Self {
        Self {
            slots: u32::from(node.slots),
            cards: u32::try_from(node.inventory.cards.len()).unwrap_or(u32::MAX),
            memory_bytes: node.inventory.memory_bytes,
        }
    }

    pub(super) fn fits_in(self, free: Self) -> bool {
        self.slots <= free.slots
            && self.cards <= free.cards
            && self.memory_bytes <= free.memory_bytes
    }

    pub(super) fn minus(self, taken: Self) -> Self {
        Self {
            slots: self.slots.saturating_sub(taken.slots),
            cards: self.cards.saturating_sub(taken.cards),
            memory_bytes: self.memory_bytes.saturating_sub(taken.memory_bytes),
        }
    }
}

/// Whether the agent of `node` can run jobs of this user at all.
pub(super) fn may_run(only_uid: Option<u32>, uid: u32) -> bool {
    only_uid.is_none_or(|only| only == uid)
}
