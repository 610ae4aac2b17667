//! The nodes as one plan sees them: what is free on each, kept in order, so that the best node is found without
//! looking at all of them. Nodes that are alike in all that a request can name form a class.

use std::collections::{BTreeMap, BTreeSet};

use capstan_types::{CardWish, NodeName, Timestamp};

use super::card_types::{CardTypes, limited_types};
use super::order::walltime_secs;
use super::realm::{Owners, Realms};
use super::request::{Each, ShapeKey, may_run};
use super::timeline::{Claim, Span, Timeline};
use crate::{Job, Node, NodeShare, Scheduler, ShareCard, State};

/// What should have come back already, or is not clean yet, is taken to come back after so long.
const OVERDUE_SECS: u64 = 60;

pub(super) struct Cluster<'a> {
    state: &'a State,
    /// In name order.
    pub(super) seats: Vec<Seat<'a>>,
    pub(super) classes: Vec<Class<'a>>,
    /// Whether nodes are taken in the order in which they were declared, and not the tightest first.
    pub(super) in_order: bool,
    /// Marks nodes chosen in one try; counts tries.
    pub(super) round: u32,
    now: Timestamp,
    /// Whether the nodes know when what is lent comes back: nobody asks before something does not fit.
    has_timelines: bool,
    /// What this plan lent, until when.
    lent: Vec<(usize, Timestamp, Each)>,
}

/// One node.
pub(super) struct Seat<'a> {
    pub(super) node: &'a Node,
    pub(super) class: usize,
    pub(super) free: Each,
    /// Cards that are lent to nobody and may not be lent.
    pub(super) unclean: u32,
    /// What of it will be free when.
    pub(super) timeline: Timeline,
    pub(super) round: u32,
    /// A job on it has it for itself.
    is_closed: bool,
    lots: Option<Lots>,
}

/// What exactly is free on a node; made when something of it is lent in this plan.
struct Lots {
    taken: Vec<bool>,
    /// Free cards, last index first.
    cards: Vec<ShareCard>,
}

/// Nodes with equal properties and sizes.
pub(super) struct Class<'a> {
    pub(super) properties: &'a [Box<str>],
    pub(super) only_uid: Option<u32>,
    /// Whose own its nodes are.
    owners: Owners,
    /// Which limited types of cards its nodes have.
    types: CardTypes,
    pub(super) slots: u32,
    pub(super) cards: u32,
    /// Places of the nodes that are up and not offline.
    pub(super) usable: Vec<usize>,
    /// How many nodes there are, down and offline ones included.
    pub(super) known: u32,
    /// (free cards, free slots, place) of usable nodes.
    pub(super) by_cards: BTreeSet<(u32, u32, usize)>,
}

/// When a request is to fit.
#[derive(Clone, Copy)]
pub(super) enum When<'v> {
    /// From now on, for so long.
    Now(Span),
    /// Some time later: what will be free of each node then, for as long as it is wanted.
    Later(&'v [Each]),
}

impl<'a> Cluster<'a> {
    pub(super) fn new(state: &'a State, now: Timestamp) -> Self {
        let mut cluster = Self {
            state,
            seats: Vec::new(),
            classes: Vec::new(),
            in_order: state
                .settings()
                .is_some_and(|settings| settings.scheduler == Scheduler::Fifo),
            round: 0,
            now,
            has_timelines: false,
            lent: Vec::new(),
        };
        let settings = state.settings().map(AsRef::as_ref);
        let (realms, types) = (Realms::of(settings), limited_types(settings));
        let mut index = BTreeMap::new();
        let taken = taken_whole(state);
        let mut held = state.held().peekable();
        for node in state.nodes() {
            let mut shares = Vec::new();
            // Both are in name order; what is held on nodes that are gone is passed over.
            while let Some((_, share)) = held.next_if(|(name, _)| **name <= node.name) {
                if share.node == node.name {
                    shares.push(share);
                }
            }
            let kinds = (realms.owners(node), CardTypes::of(&types, node));
            let key = (class_key(node), kinds);
            let classes = &mut cluster.classes;
            let class = *index.entry(key).or_insert_with(|| {
                classes.push(Class::new(node, kinds));
                classes.len() - 1
            });
            let shares = match taken.contains(&node.name) {
                true => None,
                false => Some(&shares[..]),
            };
            cluster.seat(node, class, shares);
        }
        cluster
    }

    /// `shares` are what is lent of the node; `None` when one job has it for itself.
    fn seat(&mut self, node: &'a Node, class: usize, shares: Option<&[&NodeShare]>) {
        let place = self.seats.len();
        let (free, unclean) = match shares {
            Some(shares) => what_is_free(node, shares),
            None => (Each::default(), 0),
        };
        self.seats.push(Seat {
            node,
            class,
            free,
            unclean,
            timeline: Timeline::default(),
            round: 0,
            is_closed: shares.is_none(),
            lots: None,
        });
        let class = &mut self.classes[class];
        class.known += 1;
        if node.is_usable() {
            class.usable.push(place);
            class.insert(free, place);
        }
    }

    /// The place of the node `name`.
    pub(super) fn find(&self, name: &str) -> Option<usize> {
        self.seats
            .binary_search_by(|seat| seat.node.name.as_str().cmp(name))
            .ok()
    }

    /// Whether anything of the node may be lent to anybody.
    pub(super) fn is_open(&self, place: usize, when: When<'_>) -> bool {
        let seat = &self.seats[place];
        match when {
            When::Now(_) => seat.node.is_usable() && !seat.is_closed,
            When::Later(_) => seat.node.is_usable(),
        }
    }

    /// What a job may have of the node.
    pub(super) fn room(&self, place: usize, when: When<'_>) -> Each {
        let seat = &self.seats[place];
        match when {
            When::Now(_) if !seat.timeline.has_claims() => seat.free,
            When::Now(span) => seat.timeline.room(seat.free, span),
            When::Later(rooms) => rooms[place],
        }
    }

    /// From now on, for so long.
    pub(super) fn span(&self, secs: u64) -> Span {
        Span::of(self.now, secs)
    }

    /// Nobody else gets anything of an open node until then: who got some of it has it for itself.
    pub(super) fn close(&mut self, place: usize, until: Timestamp) {
        let seat = &mut self.seats[place];
        seat.is_closed = true;
        let rest = std::mem::take(&mut seat.free);
        self.classes[seat.class].remove(rest, place);
        match self.has_timelines {
            true => seat.timeline.returns(until, rest),
            false => self.lent.push((place, until, rest)),
        }
    }

    /// Begins a try: no node is chosen.
    pub(super) fn begin(&mut self) {
        self.round += 1;
    }

    pub(super) fn choose(&mut self, place: usize) {
        self.seats[place].round = self.round;
    }

    pub(super) fn is_chosen(&self, place: usize) -> bool {
        self.seats[place].round == self.round
    }

    /// Lends `each` of an open node on which it fits: lowest slots and cards first. It comes back at `until`.
    pub(super) fn lend(&mut self, place: usize, each: Each, until: Timestamp) -> NodeShare {
        let seat = &mut self.seats[place];
        match self.has_timelines {
            true => seat.timeline.returns(until, each),
            false => self.lent.push((place, until, each)),
        }
        let class = &mut self.classes[seat.class];
        class.remove(seat.free, place);
        seat.free = seat.free.minus(each);
        class.insert(seat.free, place);
        let state = self.state;
        let node = seat.node;
        let lots = seat.lots.get_or_insert_with(|| Lots::of(node, state));
        NodeShare {
            node: node.name.clone(),
            slots: lots.take_slots(each.slots),
            cards: lots.take_cards(each.cards),
            memory_bytes: each.memory_bytes,
        }
    }

    /// Promises something of a node.
    pub(super) fn claim(&mut self, place: usize, claim: Claim) {
        self.seats[place].timeline.claim(claim);
    }

    /// Has the nodes know when what is lent comes back.
    pub(super) fn know_timelines(&mut self) {
        if std::mem::replace(&mut self.has_timelines, true) {
            return;
        }
        let soon = self.now.plus_secs(OVERDUE_SECS);
        let mut known = vec![Each::default(); self.seats.len()];
        let state = self.state;
        let running = state.running().flat_map(|(_, job)| returns(job, soon));
        let lent = std::mem::take(&mut self.lent).into_iter();
        let returns: Vec<(usize, Timestamp, Each)> = running
            .filter_map(|(share, at)| {
                let place = self.find(share.node.as_str())?;
                let is_closed = self.seats[place].is_closed;
                let whole = is_closed.then(|| Each::whole(self.seats[place].node));
                Some((place, at, whole.unwrap_or_else(|| Each::of(share))))
            })
            .chain(lent)
            .collect();
        for (place, at, each) in returns {
            known[place] = known[place].and(each);
            self.seats[place].timeline.returns_unsorted(at, each);
        }
        for (seat, known) in self.seats.iter_mut().zip(known) {
            // Cards that are not clean, what attempts hold that should not run any more.
            let hidden = Each::whole(seat.node).minus(seat.free).minus(known);
            if hidden != Each::default() {
                seat.timeline.returns_unsorted(soon, hidden);
            }
            seat.timeline.sort();
        }
    }
}

/// When what a job holds comes back: at the end of its walltime, or soon when that is over.
fn returns(job: &Job, soon: Timestamp) -> impl Iterator<Item = (&NodeShare, Timestamp)> {
    let end = job.state.run().map_or(soon, |run| {
        let began = run.started.map_or(run.placed, |(at, _)| at);
        began.plus_secs(walltime_secs(job)).max(soon)
    });
    let shares = job
        .state
        .run()
        .into_iter()
        .flat_map(|run| run.shares.iter());
    shares.map(move |share| (share, end))
}

/// The nodes that a job with an attempt has for itself.
fn taken_whole(state: &State) -> BTreeSet<NodeName> {
    let exclusive = state.running().filter(|(_, job)| job.spec.is_exclusive());
    let shares = exclusive.flat_map(|(_, job)| job.state.run().map(|run| run.shares.clone()));
    shares
        .flat_map(|shares| {
            shares
                .iter()
                .map(|share| share.node.clone())
                .collect::<Vec<_>>()
        })
        .collect()
}

type ClassKey<'a> = (&'a [Box<str>], u16, usize, Option<u32>);

fn class_key(node: &Node) -> ClassKey<'_> {
    let inventory = &node.inventory;
    (
        &node.properties,
        node.slots,
        inventory.cards.len(),
        inventory.only_uid,
    )
}

/// What is free on `node`, and how many cards are neither lent nor clean.
fn what_is_free(node: &Node, shares: &[&NodeShare]) -> (Each, u32) {
    let whole = Each::whole(node);
    if !node.strays.is_empty() {
        // Nobody knows what they still use.
        return (Each::default(), whole.cards);
    }
    let mut taken = Each::default();
    for share in shares {
        taken.slots += share.slots.len() as u32;
        taken.memory_bytes = taken.memory_bytes.saturating_add(share.memory_bytes);
    }
    let is_lent = |card: &capstan_types::CardId| {
        let mut cards = shares.iter().flat_map(|share| &share.cards);
        cards.any(|lent| lent.uuid == *card)
    };
    let mut unclean = 0;
    let has_any = shares.iter().any(|share| !share.cards.is_empty()) || !node.unclean.is_empty();
    for card in node.inventory.cards.iter().filter(|_| has_any) {
        if is_lent(&card.uuid) {
            taken.cards += 1;
        } else if node.unclean.contains(&card.uuid) {
            unclean += 1;
        }
    }
    taken.cards += unclean;
    (whole.minus(taken), unclean)
}

impl<'a> Class<'a> {
    fn new(node: &'a Node, (owners, types): (Owners, CardTypes)) -> Self {
        let whole = Each::whole(node);
        Self {
            properties: &node.properties,
            only_uid: node.inventory.only_uid,
            owners,
            types,
            slots: whole.slots,
            cards: whole.cards,
            usable: Vec::new(),
            known: 0,
            by_cards: BTreeSet::new(),
        }
    }

    /// Whether its nodes are large enough when idle. Memory may differ within a class: it is each node's question.
    pub(super) fn is_enough(&self, each: Each, key: &ShapeKey<'_>) -> bool {
        each.slots <= self.slots
            && each.cards <= self.cards
            && may_run(self.only_uid, key.uid)
            && key.realm.has(self.owners)
            && (each.cards == 0 || key.banned.are_apart(self.types))
    }

    fn insert(&mut self, free: Each, place: usize) {
        self.by_cards.insert((free.cards, free.slots, place));
    }

    fn remove(&mut self, free: Each, place: usize) {
        self.by_cards.remove(&(free.cards, free.slots, place));
    }
}

impl Lots {
    fn of(node: &Node, state: &State) -> Self {
        let mut taken = vec![false; usize::from(node.slots)];
        let mut lent = BTreeSet::new();
        let name: &NodeName = &node.name;
        for (_, share) in state.held_on(name) {
            for slot in &share.slots {
                if let Some(slot) = taken.get_mut(usize::from(*slot)) {
                    *slot = true;
                }
            }
            lent.extend(share.cards.iter().map(|card| &card.uuid));
        }
        let cards = node.inventory.cards.iter().rev();
        let free =
            cards.filter(|card| !lent.contains(&card.uuid) && !node.unclean.contains(&card.uuid));
        let cards = free.map(|card| ShareCard {
            uuid: card.uuid.clone(),
            index: card.index,
            share: CardWish::WHOLE,
        });
        Self {
            taken,
            cards: cards.collect(),
        }
    }

    fn take_slots(&mut self, count: u32) -> Vec<u16> {
        let free = self
            .taken
            .iter_mut()
            .enumerate()
            .filter(|(_, taken)| !**taken);
        let first = free.take(count as usize);
        first
            .map(|(slot, taken)| {
                *taken = true;
                slot as u16
            })
            .collect()
    }

    fn take_cards(&mut self, count: u32) -> Vec<ShareCard> {
        let rest = self.cards.len().saturating_sub(count as usize);
        let mut cards = self.cards.split_off(rest);
        cards.reverse();
        cards
    }
}
