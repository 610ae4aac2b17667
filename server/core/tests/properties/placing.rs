//! Placement against brute force, on small clusters with cards of several kinds: what could be placed is placed, and
//! nothing else; the node is the best there is; cards are what was asked for; and each card that is free has its slice of
//! cores, unless somebody is there who could not have started anywhere without slices of others.

use std::collections::BTreeMap;
use std::sync::Arc;

use capstan_core::{Card, DeleteOrder, Event, Node, Settings};
use capstan_types::{CardWish, JobId, ServerName};
use proptest::prelude::*;

use crate::harness::{World, caller, inventory, submission};

/// Model, memory in gigabytes.
const KINDS: [(&str, u64); 3] = [("RTX 2080 Ti", 11), ("RTX 3090", 24), ("A40", 48)];

/// What is asked of cards, and which kinds are so.
const WISHES: [(&str, &[usize]); 6] = [
    ("", &[0, 1, 2]),
    (":2080ti", &[0]),
    (":3090", &[1]),
    (":3090|a40", &[1, 2]),
    (":gpumem>=24gb", &[1, 2]),
    (":gpumem>=40gb:a40", &[2]),
];

/// Slots, and the kinds of cards in index order.
pub(crate) type Machine = (u16, Vec<usize>);

/// Of one or two sizes of nodes, the second no larger than the first: (nodes, slots, cards) each, and a wish.
#[derive(Clone, Debug)]
pub(crate) struct Ask {
    first: (u32, u32, u32),
    /// Nodes; slots and cards less than of the first.
    second: Option<(u32, u32, u32)>,
    wish: usize,
    /// Which of the running jobs ends before.
    ends: Option<usize>,
    is_shared: bool,
}

pub(crate) fn machine() -> impl Strategy<Value = Machine> {
    let mixed = proptest::collection::vec(0..KINDS.len(), 0..5);
    let equal = (0..KINDS.len(), 0..5_usize).prop_map(|(kind, count)| vec![kind; count]);
    (1..13_u16, prop_oneof![mixed, equal])
}

pub(crate) fn ask() -> impl Strategy<Value = Ask> {
    let first = (1..3_u32, 1..9_u32, 0..4_u32);
    let second = proptest::option::of((1..3_u32, 0..4_u32, 0..3_u32));
    let ends = proptest::option::of(0..8_usize);
    let shared = proptest::bool::weighted(0.1);
    (first, second, 0..WISHES.len(), ends, shared).prop_map(
        |(first, second, wish, ends, is_shared)| Ask {
            first,
            second: second.filter(|_| !is_shared),
            wish,
            ends,
            is_shared,
        },
    )
}

impl Ask {
    fn parts(&self) -> Vec<(u32, u32, u32)> {
        let (_, slots, cards) = self.first;
        let less = self.second.map(|(count, fewer_slots, fewer_cards)| {
            let slots = slots.saturating_sub(fewer_slots).max(1);
            (count, slots, cards.saturating_sub(fewer_cards))
        });
        std::iter::once(self.first).chain(less).collect()
    }

    fn resources(&self) -> String {
        let wish = WISHES[self.wish].0;
        let shared = if self.is_shared { ":shared" } else { "" };
        let part = |(count, slots, cards): &(u32, u32, u32)| {
            format!("{count}:ppn={slots}:gpus={cards}{wish}{shared}")
        };
        let parts: Vec<String> = self.parts().iter().map(part).collect();
        format!("nodes={}", parts.join("+"))
    }

    /// Of each part, one at a time.
    fn each(&self) -> Vec<(u32, u32)> {
        let parts = self.parts().into_iter();
        let each = parts
            .flat_map(|(count, slots, cards)| std::iter::repeat_n((slots, cards), count as usize));
        each.collect()
    }
}

pub(crate) fn world(machines: &[Machine], keeps_slices: bool) -> World {
    let mut settings = Settings::new(ServerName::from("hn1"));
    settings.set("card_slices", if keeps_slices { "True" } else { "False" });
    let mut world = World::new(settings);
    for (at, (slots, kinds)) in machines.iter().enumerate() {
        let name = format!("node{at}");
        let mut own = inventory(&name, *slots, kinds.len() as u32);
        for (card, kind) in own.cards.iter_mut().zip(kinds) {
            let (model, gigabytes) = KINDS[*kind];
            card.model = model.into();
            card.memory_bytes = gigabytes << 30;
        }
        world.attach(&name, own, Vec::new());
    }
    world
}

/// A node as brute force sees it.
#[derive(Clone)]
struct Sight {
    name: String,
    slots: u32,
    cards: u32,
    free_slots: u32,
    free_cards: u32,
    /// Of those, and of all, such as are wanted.
    free_suiting: u32,
    suiting: u32,
    /// Whether any node would do for work without cards.
    is_any: bool,
    /// What is left to spare beside slices.
    spare: i64,
    /// So much of each of its cards is wanted, thousandths.
    share: u32,
}

impl Sight {
    fn slice(&self) -> u32 {
        self.slots.checked_div(self.cards).unwrap_or(0)
    }

    fn idle(&self) -> Self {
        let spare = self.slots - self.slice() * self.cards;
        Self {
            free_slots: self.slots,
            free_cards: self.cards,
            free_suiting: self.suiting,
            spare: i64::from(spare),
            ..self.clone()
        }
    }

    fn surplus(&self, slots: u32, thousandths: u32) -> i64 {
        i64::from(slots.saturating_sub(thousandths * self.slice() / 1000))
    }

    fn gives(&self, (slots, cards): (u32, u32), leaves_slices: bool) -> bool {
        let surplus = self.surplus(slots, cards * self.share);
        let is_left = self.cards == 0 || surplus == 0 || surplus <= self.spare;
        (self.suiting > 0 || self.is_any && cards == 0)
            && self.free_slots >= slots
            && self.free_suiting >= cards
            && (is_left || !leaves_slices)
    }
}

fn kind_of(card: &Card) -> usize {
    let found = KINDS.iter().position(|(model, _)| *model == &*card.model);
    found.unwrap()
}

fn sights(world: &World, ask: &Ask) -> Vec<Sight> {
    let (text, kinds) = WISHES[ask.wish];
    let sight = |node: &Arc<Node>| {
        let held = || world.state.held_on(&node.name).map(|(_, share)| share);
        let is_lent = |card: &Card| {
            let mut cards = held().flat_map(|share| &share.cards);
            cards.any(|lent| lent.uuid == card.uuid)
        };
        let suits = |card: &&Card| kinds.contains(&kind_of(card));
        let all = &node.inventory.cards;
        let count = |is_right: &dyn Fn(&Card) -> bool| {
            all.iter().filter(|card| is_right(card)).count() as u32
        };
        let mut sight = Sight {
            name: node.name.to_string(),
            slots: u32::from(node.slots),
            cards: all.len() as u32,
            free_slots: u32::from(node.slots)
                - held().map(|share| share.slots.len() as u32).sum::<u32>(),
            free_cards: count(&|card| !is_lent(card)),
            free_suiting: count(&|card| !is_lent(card) && suits(&card)),
            suiting: count(&|card| suits(&card)),
            is_any: text.is_empty(),
            spare: 0,
            share: u32::from(match ask.is_shared {
                true => CardWish::SHARE_DEFAULT,
                false => CardWish::WHOLE,
            }),
        };
        sight.spare = sight.idle().spare;
        for share in held() {
            let shares = share.cards.iter().map(|card| u32::from(card.share));
            sight.spare -= sight.surplus(share.slots.len() as u32, shares.sum());
        }
        sight
    };
    world.state.nodes().map(sight).collect()
}

/// Whether all of these can be given by different nodes, by trying everything.
fn can_give(nodes: &[Sight], wanted: &[(u32, u32)], leaves_slices: bool) -> bool {
    let Some((first, others)) = wanted.split_first() else {
        return true;
    };
    (0..nodes.len()).any(|at| {
        let mut rest = nodes.to_vec();
        let node = rest.remove(at);
        node.gives(*first, leaves_slices) && can_give(&rest, others, leaves_slices)
    })
}

/// Whether a request could never leave all cards their slices, so that it need not.
fn is_exempt(nodes: &[Sight], ask: &Ask) -> bool {
    let idle: Vec<Sight> = nodes.iter().map(Sight::idle).collect();
    !can_give(&idle, &ask.each(), true)
}

/// Submits one job after the other, each to be placed at once or to go away.
pub(crate) fn check(machines: &[Machine], asks: &[Ask], keeps_slices: bool) {
    let mut world = world(machines, keeps_slices);
    let mut running: Vec<JobId> = Vec::new();
    let mut exempt: BTreeMap<JobId, bool> = BTreeMap::new();
    for ask in asks {
        if let Some(ends) = ask.ends.filter(|_| !running.is_empty()) {
            let id = running.remove(ends % running.len());
            world.exits(id, 0);
            exempt.remove(&id);
        }
        let Ok(id) = world.submit(submission(&ask.resources())) else {
            let idle: Vec<Sight> = sights(&world, ask).iter().map(Sight::idle).collect();
            assert!(
                ask.is_shared || !can_give(&idle, &ask.each(), false),
                "{ask:?} fits"
            );
            continue;
        };
        let nodes = sights(&world, ask);
        // With slices, what suits one part and what suits the other may be no part of one another, and then who chooses
        // first may choose what the other needs.
        let is_nested = ask.second.is_none() || !keeps_slices;
        let is_exempt = !is_nested || is_exempt(&nodes, ask);
        let is_possible = can_give(&nodes, &ask.each(), keeps_slices && !is_exempt);
        let plan = world.place();
        let is_placed = !plan.placements.is_empty();
        if !ask.is_shared {
            let is_right = is_placed == is_possible || !is_nested && !is_placed;
            assert!(is_right, "{} {plan:?}", ask.resources());
        }
        if plan.placements.is_empty() {
            let by = caller("alice");
            let order = DeleteOrder {
                job: id,
                by,
                grace_secs: None,
                purge: false,
                message: Box::default(),
            };
            world.must(&Event::Delete(order));
            continue;
        }
        world.started(id);
        running.push(id);
        exempt.insert(id, is_exempt || !keeps_slices);
        let leaves_slices = keeps_slices && !is_exempt;
        is_best(&nodes, ask, &world.node_of(id).to_string(), leaves_slices);
        cards_are_as_asked(&world, id, ask);
        free_cards_have_slices(&world, ask, &exempt);
    }
}

/// Of the nodes that could give it, the one on which least is left; on one without cards when it wants none.
fn is_best(nodes: &[Sight], ask: &Ask, chosen: &str, leaves_slices: bool) {
    let [each] = ask.each()[..] else {
        return;
    };
    if ask.is_shared {
        return;
    }
    let rank = |node: &Sight| {
        let wastes_cards = each.1 == 0 && node.cards > 0;
        (wastes_cards, node.free_cards, node.free_slots)
    };
    let could = nodes.iter().filter(|node| node.gives(each, leaves_slices));
    let best = could.map(rank).min().unwrap();
    let chosen = nodes.iter().find(|node| node.name == chosen).unwrap();
    assert_eq!(rank(chosen), best, "{}", ask.resources());
}

fn cards_are_as_asked(world: &World, id: JobId, ask: &Ask) {
    for share in world.job(id).state.run().unwrap().shares.iter() {
        let node = world.state.node(&share.node).unwrap();
        for lent in &share.cards {
            let mut cards = node.inventory.cards.iter();
            let card = cards.find(|card| card.uuid == lent.uuid).unwrap();
            let suits = WISHES[ask.wish].1.contains(&kind_of(card));
            assert!(suits, "{} got a {}", ask.resources(), card.model);
        }
    }
}

fn free_cards_have_slices(world: &World, ask: &Ask, exempt: &BTreeMap<JobId, bool>) {
    for sight in sights(world, ask) {
        let node = sight.name.as_str().into();
        let held = world.state.held_on(&node);
        let mut jobs = held.map(|(attempt, _)| world.state.job_of(attempt).unwrap().id);
        if jobs.any(|id| exempt[&id]) {
            continue;
        }
        let kept = sight.free_cards * sight.slice();
        assert!(
            sight.free_slots >= kept,
            "cards of {} are stranded",
            sight.name
        );
    }
}
