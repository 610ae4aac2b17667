//! Where chunks go that may share nodes: all on one node if any has so much, else on as few as will do.

use std::cmp::Reverse;

use super::cluster::Cluster;
use super::fit::{Pick, Wanted, best, declared, may_have, takes};
use super::lending::CardOrder;
use super::request::{Each, Part, Target};
use super::shape::{Ask, Shape, thousandths};

/// All chunks on one node if any has so much, else on as few nodes as will do.
pub(super) fn pick_free(
    cluster: &mut Cluster<'_>,
    (shape, when): Wanted<'_, '_>,
    parts: &[Part<'_>],
) -> Option<Vec<Pick>> {
    cluster.begin();
    if let Some(pick) = pick_together(cluster, (shape, when), parts) {
        return Some(vec![pick]);
    }
    let mut picks: Vec<Pick> = Vec::new();
    for &at in &shape.turns {
        let part = &parts[at];
        let mut missing = part.count;
        for (offer, place) in offers(cluster, (shape, when), (part, at), &picks) {
            let order = shape.ask(at).order(cluster.seats[place].class);
            let pick = match picks.iter().position(|pick| pick.place == place) {
                Some(known) => &mut picks[known],
                None => {
                    picks.push(Pick {
                        part: at,
                        place,
                        each: Each::default(),
                        orders: Vec::new(),
                    });
                    picks.last_mut()?
                }
            };
            let room = cluster.room(place, when).minus(pick.each);
            let count = offer.min(missing);
            let asked = (part.each.times(count), &order, shape.is_exempt);
            pick.each = pick.each.and(cluster.offer(place, asked, room, when)?);
            pick.orders.push(CardOrder {
                cards: order.cards.saturating_mul(count),
                ..order
            });
            missing -= count;
            if missing == 0 {
                break;
            }
        }
        if missing > 0 {
            return None;
        }
    }
    Some(picks)
}

/// All chunks on one node. Chunks that want cards of different kinds are not put together so.
fn pick_together(
    cluster: &Cluster<'_>,
    (shape, when): Wanted<'_, '_>,
    parts: &[Part<'_>],
) -> Option<Pick> {
    let all = parts.iter().map(|part| part.each.times(part.count));
    let each = all.fold(Each::default(), Each::and);
    let (first, others) = shape.classes.split_first()?;
    let with_cards = || (0..parts.len()).filter(|at| parts[*at].each.cards > 0);
    let model = with_cards().next().unwrap_or(0);
    let wish = parts[model].wish;
    if with_cards().any(|at| parts[at].wish != wish) {
        return None;
    }
    let in_all = |class: &&usize| {
        let masks = || with_cards().map(|at| shape.masks[at][**class]);
        others.iter().all(|classes| classes.contains(class))
            && masks().all(|mask| mask == shape.masks[model][**class])
    };
    let classes: Vec<usize> = first.iter().filter(in_all).copied().collect();
    let ask = Ask {
        each,
        masks: &shape.masks[model],
        wish,
        is_exempt: shape.is_exempt,
    };
    let named = parts.iter().find_map(|part| match part.target {
        Target::Node(place) => Some(place),
        Target::Any | Target::Property(_) => None,
    });
    let place = match named {
        Some(place) => {
            let class = &cluster.classes[cluster.seats[place].class];
            let means_all = parts
                .iter()
                .all(|part| part.means(place, class.properties, &class.kinds));
            let is_of_all = classes.contains(&cluster.seats[place].class);
            let is_free = takes(cluster, place, ask, (shape, when)).is_some();
            (means_all && is_of_all && is_free).then_some(place)
        }
        None => best(cluster, &classes, (ask, 1), (shape, when))
            .first()
            .copied(),
    }?;
    Some(Pick {
        part: 0,
        place,
        each: takes(cluster, place, ask, (shape, when))?,
        orders: vec![ask.order(cluster.seats[place].class)],
    })
}

/// How often a node with so much free gives what a part asks of one.
fn how_often(
    cluster: &Cluster<'_>,
    place: usize,
    (shape, at): (&Shape<'_>, usize),
    free: Each,
) -> u32 {
    let seat = &cluster.seats[place];
    let class = &cluster.classes[seat.class];
    let ask = shape.ask(at);
    let mut free = free;
    if ask.each.cards > 0 {
        let mask = ask.order(seat.class).mask;
        free.cards = free.cards_of(mask, class.kinds.is_mixed());
    }
    let often = ask.each.how_often_in(free);
    let slice = seat.slice.filter(|_| !ask.is_exempt);
    slice.map_or(often, |slice| {
        let thousandths = thousandths(ask.each.cards, &ask.wish);
        often.min(slice.how_often(ask.each, thousandths, free))
    })
}

/// How many chunks of a part which open nodes could take beside what is picked already, in the order in which to ask
/// them.
fn offers(
    cluster: &Cluster<'_>,
    (shape, when): Wanted<'_, '_>,
    (part, at): (&Part<'_>, usize),
    picks: &[Pick],
) -> Vec<(u32, usize)> {
    let offer = |place: usize| {
        let room = cluster.room(place, when);
        let picked = picks.iter().find(|pick| pick.place == place);
        let free = picked.map_or(room, |pick| room.minus(pick.each));
        let is_open = cluster.is_open(place, when) && shape.admits(place, when);
        match is_open && may_have(cluster, place, shape, room) {
            true => how_often(cluster, place, (shape, at), free),
            false => 0,
        }
    };
    let is_meant = |place: usize| match part.target {
        Target::Node(wanted) => wanted == place,
        Target::Any | Target::Property(_) => true,
    };
    let places = declared(cluster, &shape.classes[at], |place| {
        is_meant(place) && offer(place) > 0
    });
    let mut offers: Vec<(u32, usize)> = places
        .into_iter()
        .map(|place| (offer(place), place))
        .collect();
    if !cluster.in_order {
        offers.sort_by_key(|(offer, place)| {
            let is_new = picks.iter().all(|pick| pick.place != *place);
            let cards = cluster.room(*place, when).cards;
            (is_new, Reverse(*offer), cards, *place)
        });
    }
    offers
}

/// Of chunks that may share nodes: how many are wanted, and how many nodes that are up could take now, kept or not.
pub(super) fn chunks_wanted_and_free(
    cluster: &Cluster<'_>,
    shape: &Shape<'_>,
    parts: &[Part<'_>],
) -> (u32, u32) {
    let mut wanted: u32 = 0;
    let mut free: u32 = 0;
    for (at, part) in parts.iter().enumerate() {
        wanted = wanted.saturating_add(part.count);
        let usable = shape.classes[at]
            .iter()
            .flat_map(|class| &cluster.classes[*class].usable);
        let offers = usable.map(|place| part.each.how_often_in(shape.seen(cluster, at, *place)));
        free = free.saturating_add(offers.fold(0, u32::saturating_add));
    }
    (wanted, free)
}
