//! The nodes as one plan sees them: what is free on each, kept in order, so that the best node is found without
//! looking at all of them. Nodes that are alike in all that a request can name form a class.

use std::collections::{BTreeMap, BTreeSet};

use capstan_types::{AttemptId, NodeName, Timestamp};

use super::card_types::{CardTypes, limited_types};
use super::kinds::Kinds;
use super::lending::SharedCard;
use super::lots::Lots;
use super::realm::{Owners, Realms};
use super::request::{Each, ShapeKey, may_run};
use super::slices::Slice;
use super::timeline::{Claim, Span, Timeline};
use crate::model::walltime_secs;
use crate::{Job, JobState, Node, NodeShare, Scheduler, State};

/// What should have come back already, or is not clean yet, is taken to come back after so long.
pub(super) const OVERDUE_SECS: u64 = 60;

#[derive(Clone)]
pub(super) struct Cluster<'a> {
    pub(super) state: &'a State,
    /// In name order.
    pub(super) seats: Vec<Seat<'a>>,
    pub(super) classes: Vec<Class<'a>>,
    /// Whether nodes are taken in the order in which they were declared, and not the tightest first.
    pub(super) in_order: bool,
    /// Marks nodes chosen in one try; counts tries.
    pub(super) round: u32,
    /// Whether each card keeps its slice of cores and memory.
    pub(super) has_slices: bool,
    pub(super) now: Timestamp,
    /// Whether the nodes know when what is lent comes back: nobody asks before something does not fit.
    pub(super) has_timelines: bool,
    /// What this plan lent, until when.
    pub(super) lent: Vec<(usize, Timestamp, Each)>,
}

/// One node.
#[derive(Clone)]
pub(super) struct Seat<'a> {
    pub(super) node: &'a Node,
    pub(super) class: usize,
    /// All that it has.
    pub(super) whole: Each,
    pub(super) free: Each,
    /// What each of its cards keeps.
    pub(super) slice: Option<Slice>,
    /// Cards that are lent to jobs that said shared.
    pub(super) shared: Vec<SharedCard>,
    /// Cards that are lent to nobody and may not be lent.
    pub(super) unclean: u32,
    /// What of it will be free when.
    pub(super) timeline: Timeline,
    pub(super) round: u32,
    /// A job on it has it for itself.
    is_closed: bool,
    pub(super) lots: Option<Lots>,
}

impl Seat<'_> {
    /// Whether nothing of it is lent. Every share has a slot.
    pub(super) fn is_idle(&self) -> bool {
        self.free.slots == self.whole.slots
    }
}

/// Nodes with equal properties, sizes and cards.
#[derive(Clone)]
pub(super) struct Class<'a> {
    pub(super) properties: &'a [Box<str>],
    pub(super) only_uid: Option<u32>,
    /// Whose own its nodes are.
    owners: Owners,
    /// Which limited types of cards its nodes have.
    types: CardTypes,
    pub(super) slots: u32,
    pub(super) cards: u32,
    /// What its cards are.
    pub(super) kinds: Kinds<'a>,
    /// The most memory that a node of it has.
    pub(super) memory_bytes: u64,
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
            has_slices: keeps_slices(state),
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
            while let Some((_, _, share)) = held.next_if(|(name, ..)| **name <= node.name) {
                if share.node == node.name {
                    shares.push(share);
                }
            }
            let owners = realms.owners(node);
            let key = (class_key(node), Kinds::of(node), owners);
            let classes = &mut cluster.classes;
            let class = *index.entry(key).or_insert_with_key(|(_, kinds, _)| {
                let limited = CardTypes::of(&types, node);
                classes.push(Class::new(node, kinds.clone(), (owners, limited)));
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
        let mut whole = Each {
            kinds: self.classes[class].kinds.counts(),
            ..Each::unmixed(node)
        };
        let slice = Slice::of(whole).filter(|_| self.has_slices);
        if let Some(slice) = slice {
            (whole.spare_slots, whole.spare_memory) = slice.spare(whole);
        }
        self.seats.push(Seat {
            node,
            class,
            whole,
            free: Each::default(),
            slice,
            shared: Vec::new(),
            unclean: 0,
            timeline: Timeline::default(),
            round: 0,
            is_closed: shares.is_none(),
            lots: None,
        });
        if let Some(shares) = shares {
            self.take_stock(place, shares);
        }
        let free = self.seats[place].free;
        let class = &mut self.classes[class];
        class.known += 1;
        class.memory_bytes = class.memory_bytes.max(whole.memory_bytes);
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

    /// Promises something of a node.
    pub(super) fn claim(&mut self, place: usize, claim: Claim) {
        self.seats[place].timeline.claim(claim);
    }

    /// What comes back of which nodes when `job` has ended.
    pub(super) fn comes_back(&self, job: &Job) -> Vec<(usize, Each)> {
        let shares = job.state.run().map(|run| run.shares.iter());
        let found = shares.into_iter().flatten().filter_map(|share| {
            let place = self.find(share.node.as_str())?;
            Some((place, self.back_of(place, share)))
        });
        found.collect()
    }

    fn back_of(&self, place: usize, share: &NodeShare) -> Each {
        let seat = &self.seats[place];
        match seat.is_closed {
            true => seat.whole,
            false => self.held(place, share),
        }
    }

    /// Has something come back earlier than was known.
    pub(super) fn hasten(&mut self, place: usize, each: Each, times: (Timestamp, Timestamp)) {
        self.seats[place].timeline.hasten(each, times);
    }

    /// Has the nodes know when what is lent comes back.
    pub(super) fn know_timelines(&mut self) {
        if std::mem::replace(&mut self.has_timelines, true) {
            return;
        }
        let soon = self.now.plus_secs(OVERDUE_SECS);
        let mut known = vec![Each::default(); self.seats.len()];
        let state = self.state;
        let ends: Vec<(AttemptId, Timestamp)> = state
            .reckoned_running()
            .map(|(attempt, running)| {
                (
                    attempt,
                    end_after(&running.job, running.walltime_secs, soon),
                )
            })
            .collect();
        let mut returns: Vec<(usize, Timestamp, Each)> = Vec::with_capacity(ends.len());
        let mut place = 0;
        // Seats and what is held are both in the order of names, ends in that of attempts.
        for (node, attempt, share) in state.held() {
            while self
                .seats
                .get(place)
                .is_some_and(|seat| seat.node.name < *node)
            {
                place += 1;
            }
            let is_there = self
                .seats
                .get(place)
                .is_some_and(|seat| seat.node.name == *node);
            let found = ends.binary_search_by_key(&attempt, |(attempt, _)| *attempt);
            if let Some(at) = found.ok().filter(|_| is_there) {
                returns.push((place, ends[at].1, self.back_of(place, share)));
            }
        }
        returns.append(&mut std::mem::take(&mut self.lent));
        returns.extend(self.shared_cards());
        for (place, at, each) in returns {
            known[place] = known[place].and(each);
            self.seats[place].timeline.returns_unsorted(at, each);
        }
        for (seat, known) in self.seats.iter_mut().zip(known) {
            // Cards that are not clean, what attempts hold that should not run any more.
            let hidden = seat.whole.minus(seat.free).minus(known);
            if hidden != Each::default() {
                seat.timeline.returns_unsorted(soon, hidden);
            }
            seat.timeline.sort();
        }
    }
}

/// Whether CPU work leaves each card its slice: as our own scheduler does unless it is told not to.
fn keeps_slices(state: &State) -> bool {
    state.settings().is_some_and(|settings| {
        let is_wanted = settings.attributes.boolean("card_slices");
        is_wanted.unwrap_or(true) && settings.scheduler != Scheduler::Fifo
    })
}

/// When what a job holds comes back: at the end of its walltime, or of its grace once it was told to stop; soon when that
/// is over.
pub(super) fn end(job: &Job, soon: Timestamp) -> Timestamp {
    end_after(job, walltime_secs(job), soon)
}

/// The same of a job whose walltime is known.
fn end_after(job: &Job, walltime_secs: u64, soon: Timestamp) -> Timestamp {
    let Some(run) = job.state.run() else {
        return soon;
    };
    let began = run.started.map_or(run.placed, |(at, _)| at);
    let end = began.plus_secs(walltime_secs);
    let end = match &job.state {
        JobState::Exiting(_, order) => end.min(order.at.plus_secs(order.grace_secs.into())),
        JobState::Pending | JobState::Starting(_) | JobState::Running(_) | JobState::Ended(_) => {
            end
        }
    };
    end.max(soon)
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

type ClassKey<'a> = (&'a [Box<str>], u16, Option<u32>);

fn class_key(node: &Node) -> ClassKey<'_> {
    let inventory = &node.inventory;
    (&node.properties, node.slots, inventory.only_uid)
}

impl<'a> Class<'a> {
    fn new(node: &'a Node, kinds: Kinds<'a>, (owners, types): (Owners, CardTypes)) -> Self {
        let whole = Each::unmixed(node);
        Self {
            properties: &node.properties,
            only_uid: node.inventory.only_uid,
            owners,
            types,
            slots: whole.slots,
            cards: whole.cards,
            kinds,
            memory_bytes: 0,
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

    pub(super) fn insert(&mut self, free: Each, place: usize) {
        self.by_cards.insert((free.cards, free.slots, place));
    }

    pub(super) fn remove(&mut self, free: Each, place: usize) {
        self.by_cards.remove(&(free.cards, free.slots, place));
    }
}
