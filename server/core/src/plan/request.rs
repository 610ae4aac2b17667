//! What a job asks of nodes, in one form for `nodes=`, `ncpus=`, `procs=` and `select=`.

use std::borrow::Cow;

use capstan_types::{Arrangement, Chunk, ChunkTarget};

use super::card_types::CardTypes;
use super::realm::Realm;
use crate::apply::arrangement;
use crate::{JobSpec, Node, NodeShare};

/// What decides where a job may run: jobs with equal shapes fit or fail alike, so each is tried once a plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct ShapeKey<'a> {
    pub(super) chunks: &'a [Chunk],
    pub(super) loose_slots: Option<u32>,
    pub(super) memory_bytes: Option<u64>,
    /// Whether its nodes must differ.
    pub(super) arrangement: Arrangement,
    /// Whether its nodes are its own.
    pub(super) is_exclusive: bool,
    /// Matters only to nodes whose agent is not root.
    pub(super) uid: u32,
    /// Which of the nodes that are queues' own it may use.
    pub(super) realm: Realm,
    /// Types of cards that it may not have now.
    pub(super) banned: CardTypes,
}

impl<'a> ShapeKey<'a> {
    pub(super) fn of(spec: &'a JobSpec) -> Self {
        let nodes = spec.nodes.as_ref().filter(|_| spec.loose_slots.is_none());
        Self {
            chunks: nodes.map_or(&[], |nodes| &nodes.chunks),
            loose_slots: spec.loose_slots,
            memory_bytes: spec.memory_bytes,
            arrangement: arrangement(spec),
            is_exclusive: spec.is_exclusive(),
            uid: spec.owner.uid,
            realm: Realm::ANYWHERE,
            banned: CardTypes::default(),
        }
    }
}

/// The same in numbers.
#[derive(Clone, Debug)]
pub(super) enum Request<'a> {
    /// Parts of one or more nodes each; all nodes differ.
    Nodes(Vec<Part<'a>>),
    /// Chunks wherever they are, several of them on one node or not.
    Free(Vec<Part<'a>>),
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
    pub(super) properties: Cow<'a, [Box<str>]>,
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
            let memory_each = memory.div_ceil(u64::from(slots.max(1)));
            let part = Part {
                count: slots,
                ..Part::single(memory_each)
            };
            return Self::Free(vec![part]);
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
        let parts = key
            .chunks
            .iter()
            .map(|chunk| Part::of(chunk, memory_each, &find));
        match key.arrangement {
            Arrangement::Scatter | Arrangement::VScatter => Self::Nodes(merged(parts)),
            Arrangement::Pack => Self::Nodes(vec![packed(parts)]),
            Arrangement::Free if nodes == 1 => Self::Nodes(parts.collect()),
            Arrangement::Free => Self::Free(parts.collect()),
        }
    }

    /// Its parts, whatever they mean.
    pub(super) fn parts(&self) -> &[Part<'a>] {
        match self {
            Self::Nodes(parts) | Self::Free(parts) => parts,
        }
    }
}

/// `gpu01+gpu01` asks one node for both.
fn merged<'a>(parts: impl Iterator<Item = Part<'a>>) -> Vec<Part<'a>> {
    let mut merged: Vec<Part<'a>> = Vec::new();
    for part in parts {
        match merged.iter_mut().find(|other| other.is_same_node(&part)) {
            Some(other) => other.each = other.each.and(part.each),
            None => merged.push(part),
        }
    }
    merged
}

/// One node for everything. Parts that name different nodes, or a node and a property, ask for what no node is.
fn packed<'a>(parts: impl Iterator<Item = Part<'a>>) -> Part<'a> {
    let mut all = Part {
        each: Each::default(),
        ..Part::single(0)
    };
    for part in parts {
        all.each = all.each.and(part.each.times(part.count));
        match (all.target, part.target) {
            (Target::Any, target) => all.target = target,
            (_, Target::Any) => {}
            (one, other) if one == other => {}
            (_, Target::Property(name)) => all.properties.to_mut().push(name.into()),
            (Target::Property(name), node @ Target::Node(_)) => {
                all.properties.to_mut().push(name.into());
                all.target = node;
            }
            (Target::Node(_), Target::Node(_)) => {
                all.properties.to_mut().push(TWO_NODES.into());
            }
        }
        all.properties
            .to_mut()
            .extend(part.properties.iter().cloned());
    }
    all
}

/// What no node has as a property: names have no blanks.
const TWO_NODES: &str = "two nodes at once";

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
            properties: Cow::Borrowed(&[]),
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
            memory_bytes: memory_bytes.saturating_add(chunk.memory_bytes),
        };
        Self {
            count: chunk.node_count(),
            each,
            target,
            properties: Cow::Borrowed(&chunk.properties),
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
    pub(super) fn and(self, other: Self) -> Self {
        Self {
            slots: self.slots.saturating_add(other.slots),
            cards: self.cards.saturating_add(other.cards),
            memory_bytes: self.memory_bytes.saturating_add(other.memory_bytes),
        }
    }

    /// So many of it.
    pub(super) fn times(self, count: u32) -> Self {
        Self {
            slots: self.slots.saturating_mul(count),
            cards: self.cards.saturating_mul(count),
            memory_bytes: self.memory_bytes.saturating_mul(u64::from(count)),
        }
    }

    /// How many of it `free` holds.
    pub(super) fn how_often_in(self, free: Self) -> u32 {
        let by = |free: u32, each: u32| free.checked_div(each).unwrap_or(u32::MAX);
        let by_memory = free.memory_bytes.checked_div(self.memory_bytes);
        let by_memory =
            by_memory.map_or(u32::MAX, |often| u32::try_from(often).unwrap_or(u32::MAX));
        by(free.slots, self.slots)
            .min(by(free.cards, self.cards))
            .min(by_memory)
    }

    /// What a share holds.
    pub(super) fn of(share: &NodeShare) -> Self {
        let count = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
        Self {
            slots: count(share.slots.len()),
            cards: count(share.cards.len()),
            memory_bytes: share.memory_bytes,
        }
    }

    /// The less of each measure.
    pub(super) fn least(self, other: Self) -> Self {
        Self {
            slots: self.slots.min(other.slots),
            cards: self.cards.min(other.cards),
            memory_bytes: self.memory_bytes.min(other.memory_bytes),
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
