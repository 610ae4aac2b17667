//! What a job asks of nodes, in one form for `nodes=`, `ncpus=`, `procs=` and `select=`.

use std::borrow::Cow;

use capstan_types::{Arrangement, CardWish, Chunk, ChunkTarget};

use super::card_types::CardTypes;
use super::kinds::{Counts, KINDS_MAX, Kinds, Mask, count_of};
use super::realm::Realm;
use super::windows::Guest;
use crate::apply::arrangement;
use crate::model::request_hash;
use crate::{JobSpec, Node, NodeShare};

/// What decides where a job may run: jobs with equal shapes fit or fail alike, so each is tried once a plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct ShapeKey<'a> {
    /// [`request_hash`]: first, so that different requests are told apart at once.
    hash: u64,
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
    /// Which windows are open to it.
    pub(super) guest: Guest,
    /// Types of cards that it may not have now.
    pub(super) banned: CardTypes,
    /// The image of its container: among nodes that are equally good, those that hold it are preferred.
    pub(super) image: Option<&'a str>,
    /// The image in which it runs: no node that lacks it will do.
    pub(super) needs: Option<&'a str>,
}

impl<'a> ShapeKey<'a> {
    pub(super) fn of(spec: &'a JobSpec) -> Self {
        let nodes = spec.nodes.as_ref().filter(|_| spec.loose_slots.is_none());
        Self {
            hash: request_hash(spec),
            chunks: nodes.map_or(&[], |nodes| &nodes.chunks),
            loose_slots: spec.loose_slots,
            memory_bytes: spec.memory_bytes,
            arrangement: arrangement(spec),
            is_exclusive: spec.is_exclusive(),
            uid: spec.owner.uid,
            realm: Realm::ANYWHERE,
            guest: Guest::STRANGER,
            banned: CardTypes::default(),
            image: spec.image.as_deref(),
            needs: None,
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
    /// Properties each must have, or models that its cards must be.
    pub(super) properties: Cow<'a, [Box<str>]>,
    /// What its cards must be beside their model.
    pub(super) wish: CardWish,
}

/// So much of one node: wanted, lent or free.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Each {
    pub(super) slots: u32,
    pub(super) cards: u32,
    pub(super) memory_bytes: u64,
    /// Its cards by kind, on nodes with several kinds; else, and before a node is chosen, all 0.
    pub(super) kinds: Counts,
    /// What is taken beyond the slices of its cards; of what is free, what may be. Of nodes without slices
    /// [`Each::UNLIMITED`]; less than nothing where requests that are exempt took the slices of others.
    pub(super) spare_slots: i64,
    /// The same of memory, bytes.
    pub(super) spare_memory: i64,
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

/// One node for everything, each card as all parts want theirs. Parts that name different nodes, or a node and a property, ask for what no node is.
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
        all.wish = all.wish.and(part.wish);
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
            memory_bytes,
            ..Each::default()
        };
        Self {
            count: 1,
            each,
            target: Target::Any,
            properties: Cow::Borrowed(&[]),
            wish: CardWish::ANY,
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
            ..Each::default()
        };
        Self {
            count: chunk.node_count(),
            each,
            target,
            properties: Cow::Borrowed(&chunk.properties),
            wish: chunk.cards,
        }
    }

    fn is_same_node(&self, other: &Self) -> bool {
        matches!(self.target, Target::Node(_))
            && self.target == other.target
            && self.properties == other.properties
            && self.wish == other.wish
    }

    /// Whether a node with these properties and cards is meant; whether it has enough is another question.
    pub(super) fn means(&self, place: usize, properties: &[Box<str>], kinds: &Kinds<'_>) -> bool {
        let is_meant = match self.target {
            Target::Node(node) => node == place,
            Target::Any | Target::Property(_) => true,
        };
        is_meant && self.suiting(properties, kinds).is_some()
    }

    /// The kinds of cards that it may get of a node with these properties; `None` when no such node is meant. Which node
    /// is named is another question.
    pub(super) fn suiting(&self, properties: &[Box<str>], kinds: &Kinds<'_>) -> Option<Mask> {
        kinds.suiting(&self.wish, self.words(), properties)
    }

    /// What none of these nodes, or all of it together, is: for a person.
    pub(super) fn missing<'n, 'k: 'n>(
        &self,
        nodes: impl Iterator<Item = (&'n [Box<str>], &'n Kinds<'k>)>,
    ) -> Box<str> {
        let nodes: Vec<_> = nodes.collect();
        let has = |word: &&str| {
            let mut nodes = nodes.iter();
            nodes.any(|(properties, kinds)| {
                let word = std::iter::once(*word);
                kinds.suiting(&CardWish::ANY, word, properties).is_some()
            })
        };
        if let Some(missing) = self.words().find(|word| !has(word)) {
            return missing.into();
        }
        let wish = CardWish {
            is_shared: false,
            ..self.wish
        };
        let words: Vec<&str> = self.words().collect();
        format!("{}{wish}", words.join(":"))
            .trim_start_matches(':')
            .into()
    }

    /// What its nodes or their cards must be called.
    pub(super) fn words(&self) -> impl Iterator<Item = &str> {
        let named = match self.target {
            Target::Property(name) => Some(name),
            Target::Any | Target::Node(_) => None,
        };
        named
            .into_iter()
            .chain(self.properties.iter().map(AsRef::as_ref))
    }
}

impl Each {
    /// As much as one likes.
    pub(super) const UNLIMITED: i64 = i64::MAX / 4;

    pub(super) fn and(self, other: Self) -> Self {
        Self {
            slots: self.slots.saturating_add(other.slots),
            cards: self.cards.saturating_add(other.cards),
            memory_bytes: self.memory_bytes.saturating_add(other.memory_bytes),
            kinds: both(self.kinds, other.kinds, u16::saturating_add),
            spare_slots: self.spare_slots.saturating_add(other.spare_slots),
            spare_memory: self.spare_memory.saturating_add(other.spare_memory),
        }
    }

    /// So many of it.
    pub(super) fn times(self, count: u32) -> Self {
        let of_kind = u16::try_from(count).unwrap_or(u16::MAX);
        Self {
            slots: self.slots.saturating_mul(count),
            cards: self.cards.saturating_mul(count),
            memory_bytes: self.memory_bytes.saturating_mul(u64::from(count)),
            kinds: self.kinds.map(|kind| kind.saturating_mul(of_kind)),
            spare_slots: self.spare_slots.saturating_mul(i64::from(count)),
            spare_memory: self.spare_memory.saturating_mul(i64::from(count)),
        }
    }

    /// How many of it `free` holds, of cards of any kind, whoever the slices are.
    pub(super) fn how_often_in(self, free: Self) -> u32 {
        let by = |free: u32, each: u32| free.checked_div(each).unwrap_or(u32::MAX);
        let by_memory = free.memory_bytes.checked_div(self.memory_bytes);
        let by_memory =
            by_memory.map_or(u32::MAX, |often| u32::try_from(often).unwrap_or(u32::MAX));
        by(free.slots, self.slots)
            .min(by(free.cards, self.cards))
            .min(by_memory)
    }

    /// What a share holds, whatever the kinds of its cards.
    pub(super) fn of(share: &NodeShare) -> Self {
        let count = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
        Self {
            slots: count(share.slots.len()),
            cards: count(share.cards.len()),
            memory_bytes: share.memory_bytes,
            ..Self::default()
        }
    }

    /// The less of each measure.
    pub(super) fn least(self, other: Self) -> Self {
        Self {
            slots: self.slots.min(other.slots),
            cards: self.cards.min(other.cards),
            memory_bytes: self.memory_bytes.min(other.memory_bytes),
            kinds: both(self.kinds, other.kinds, u16::min),
            spare_slots: self.spare_slots.min(other.spare_slots),
            spare_memory: self.spare_memory.min(other.spare_memory),
        }
    }

    /// All that `node` has, of which no card keeps a slice.
    pub(super) fn whole(node: &Node) -> Self {
        Self {
            kinds: Kinds::of(node).counts(),
            ..Self::unmixed(node)
        }
    }

    /// The same, its cards counted as if all were of one kind.
    pub(super) fn unmixed(node: &Node) -> Self {
        Self {
            slots: u32::from(node.slots),
            cards: u32::try_from(node.inventory.cards.len()).unwrap_or(u32::MAX),
            memory_bytes: node.inventory.memory_bytes,
            kinds: Counts::default(),
            spare_slots: Self::UNLIMITED,
            spare_memory: Self::UNLIMITED,
        }
    }

    pub(super) fn fits_in(self, free: Self) -> bool {
        let has_kinds = || (0..KINDS_MAX).all(|kind| self.kinds[kind] <= free.kinds[kind]);
        self.slots <= free.slots
            && self.cards <= free.cards
            && self.memory_bytes <= free.memory_bytes
            && (self.spare_slots == 0 || self.spare_slots <= free.spare_slots)
            && (self.spare_memory == 0 || self.spare_memory <= free.spare_memory)
            && (self.kinds == Counts::default() || has_kinds())
    }

    pub(super) fn minus(self, taken: Self) -> Self {
        Self {
            slots: self.slots.saturating_sub(taken.slots),
            cards: self.cards.saturating_sub(taken.cards),
            memory_bytes: self.memory_bytes.saturating_sub(taken.memory_bytes),
            kinds: both(self.kinds, taken.kinds, u16::saturating_sub),
            spare_slots: self.spare_slots.saturating_sub(taken.spare_slots),
            spare_memory: self.spare_memory.saturating_sub(taken.spare_memory),
        }
    }

    /// How many cards of these kinds there are of it on a node with several kinds or with one.
    pub(super) fn cards_of(self, mask: Mask, is_mixed: bool) -> u32 {
        match is_mixed {
            true => self.cards.min(count_of(mask, self.kinds)),
            false => self.cards,
        }
    }
}

fn both(one: Counts, other: Counts, how: impl Fn(u16, u16) -> u16) -> Counts {
    std::array::from_fn(|kind| how(one[kind], other[kind]))
}

/// Whether the agent of `node` can run jobs of this user at all.
pub(super) fn may_run(only_uid: Option<u32>, uid: u32) -> bool {
    only_uid.is_none_or(|only| only == uid)
}
