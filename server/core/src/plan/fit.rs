//! Whether a request fits now, and on which nodes: best fit by cards, then by slots, then by name, so that jobs are
//! packed and whole nodes stay free for those that need them. All nodes of a request or none.

use super::cluster::Cluster;
use super::desk::Known;
use super::request::{Each, Part, Request, ShapeKey, Target};
use crate::{NodeShare, OrderProblem, Rejection};

/// A request and what this plan knows of it.
pub(super) struct Shape<'a> {
    pub(super) number: usize,
    pub(super) key: ShapeKey<'a>,
    pub(super) request: Request<'a>,
    pub(super) known: Known,
    /// Per part: classes whose nodes would do when idle. For loose slots: one list, for the slots of one node.
    pub(super) classes: Vec<Vec<usize>>,
    /// Parts in the order in which they choose: those with the least choice first.
    pub(super) turns: Vec<usize>,
}

impl<'a> Shape<'a> {
    pub(super) fn new(key: ShapeKey<'a>, number: usize, cluster: &Cluster<'a>) -> Self {
        let request = Request::of(&key, |name| cluster.find(name));
        let suits = |part: &Part<'_>| {
            let found = cluster.classes.iter().enumerate().filter(|(_, class)| {
                let is_meant = matches!(part.target, Target::Node(_))
                    || part.means(usize::MAX, class.properties);
                is_meant && class.is_enough(part.each, key.uid)
            });
            found.map(|(at, _)| at).collect::<Vec<_>>()
        };
        let (classes, turns) = match &request {
            Request::Nodes(parts) => {
                let classes: Vec<_> = parts.iter().map(suits).collect();
                let choice = |part: usize| {
                    classes[part]
                        .iter()
                        .map(|class| cluster.classes[*class].known)
                        .sum()
                };
                let turns = turns(parts, choice);
                (classes, turns)
            }
            Request::Loose { .. } => {
                let one = Each {
                    slots: 1,
                    ..Each::default()
                };
                let classes = cluster.classes.iter().enumerate();
                let classes = classes.filter(|(_, class)| class.is_enough(one, key.uid));
                (vec![classes.map(|(at, _)| at).collect()], Vec::new())
            }
        };
        Self {
            number,
            key,
            request,
            known: Known::Untried,
            classes,
            turns,
        }
    }
}

/// The order in which parts choose their nodes: named nodes, then the fewest suitable nodes, then the most wanted.
/// Choosing in this order finds nodes wherever suitable sets are nested, which they are but in contrived requests.
pub(super) fn turns(parts: &[Part<'_>], choice: impl Fn(usize) -> u32) -> Vec<usize> {
    let mut turns: Vec<usize> = (0..parts.len()).collect();
    turns.sort_by_cached_key(|at| {
        let part = &parts[*at];
        let choice = match part.target {
            Target::Node(_) => 0,
            Target::Any | Target::Property(_) => choice(*at).max(1),
        };
        let wanted = (part.each.cards, part.each.slots, part.each.memory_bytes);
        (choice, std::cmp::Reverse(wanted), *at)
    });
    turns
}

/// Lends the nodes that the request gets now, in the order of its parts; nothing when it does not fit.
pub(super) fn fit(cluster: &mut Cluster<'_>, shape: &Shape<'_>) -> Option<Vec<NodeShare>> {
    let picks = match &shape.request {
        Request::Nodes(parts) => pick_parts(cluster, shape, parts)?,
        Request::Loose {
            slots,
            slot_memory_bytes,
        } => pick_loose(cluster, &shape.classes[0], *slots, *slot_memory_bytes)?,
    };
    let shares = picks
        .into_iter()
        .map(|pick| cluster.lend(pick.place, pick.each));
    Some(shares.collect())
}

/// How much is wanted and how much is there, of a request that does not fit now.
pub(super) fn shortage(cluster: &Cluster<'_>, shape: &Shape<'_>) -> Rejection {
    let Request::Nodes(parts) = &shape.request else {
        let slots = cluster.seats.iter().filter(|seat| seat.node.is_usable());
        let free = slots
            .map(|seat| seat.free.slots)
            .fold(0, u32::saturating_add);
        let wanted = shape.key.loose_slots.unwrap_or(1);
        return Rejection::Order(OrderProblem::NothingFree { wanted, free });
    };
    let counts = parts.iter().map(|part| part.count);
    let wanted = counts.fold(0, u32::saturating_add);
    let seats = cluster.seats.iter().enumerate();
    let could_take = seats.filter(|(place, seat)| {
        let properties = cluster.classes[seat.class].properties;
        let suits =
            |part: &Part<'_>| part.means(*place, properties) && part.each.fits_in(seat.free);
        seat.node.is_usable() && parts.iter().any(suits)
    });
    let free = u32::try_from(could_take.count()).unwrap_or(u32::MAX);
    Rejection::Order(OrderProblem::NothingFree { wanted, free })
}

struct Pick {
    part: usize,
    place: usize,
    each: Each,
}

fn pick_parts(
    cluster: &mut Cluster<'_>,
    shape: &Shape<'_>,
    parts: &[Part<'_>],
) -> Option<Vec<Pick>> {
    cluster.begin();
    let mut picks = Vec::with_capacity(parts.len());
    for &at in &shape.turns {
        let part = &parts[at];
        let places = match part.target {
            Target::Node(place) => named(cluster, part, place, shape.key.uid)
                .into_iter()
                .collect(),
            Target::Any | Target::Property(_) => {
                tightest(cluster, &shape.classes[at], part.each, part.count)
            }
        };
        if places.len() < part.count as usize {
            return None;
        }
        for place in places {
            cluster.choose(place);
            let each = part.each;
            picks.push(Pick {
                part: at,
                place,
                each,
            });
        }
    }
    picks.sort_by_key(|pick| pick.part);
    Some(picks)
}

fn named(cluster: &Cluster<'_>, part: &Part<'_>, place: usize, uid: u32) -> Option<usize> {
    let seat = &cluster.seats[place];
    let class = &cluster.classes[seat.class];
    let is_right = part.means(place, class.properties) && class.is_enough(part.each, uid);
    let is_free =
        cluster.is_open(place) && !cluster.is_chosen(place) && part.each.fits_in(seat.free);
    (is_right && is_free).then_some(place)
}

/// The `count` open nodes on which `each` leaves least: cards first, then slots, then by name. Fewer when there are
/// not so many.
fn tightest(cluster: &Cluster<'_>, classes: &[usize], each: Each, count: u32) -> Vec<usize> {
    let mut found = Vec::new();
    for class in classes.iter().map(|class| &cluster.classes[*class]) {
        let by_cards = (each.cards..=class.cards).flat_map(|cards| {
            let range = (cards, each.slots, 0)..=(cards, u32::MAX, usize::MAX);
            class.by_cards.range(range)
        });
        let fitting = by_cards.filter(|(_, _, place)| {
            each.memory_bytes <= cluster.seats[*place].free.memory_bytes
                && !cluster.is_chosen(*place)
        });
        found.extend(fitting.take(count as usize));
    }
    found.sort_unstable();
    found.truncate(count as usize);
    found.into_iter().map(|(_, _, place)| place).collect()
}

/// Loose slots on one node if any has so many, else on as few nodes as will do.
fn pick_loose(
    cluster: &mut Cluster<'_>,
    classes: &[usize],
    slots: u32,
    slot_memory: u64,
) -> Option<Vec<Pick>> {
    cluster.begin();
    let of = |slots: u32| Each {
        slots,
        cards: 0,
        memory_bytes: slot_memory.saturating_mul(u64::from(slots)),
    };
    if let Some(&place) = tightest(cluster, classes, of(slots), 1).first() {
        let each = of(slots);
        return Some(vec![Pick {
            part: 0,
            place,
            each,
        }]);
    }
    let open = classes
        .iter()
        .flat_map(|class| &cluster.classes[*class].by_slots);
    let mut offers: Vec<_> = open
        .map(|(_, cards, place)| {
            (
                loose_slots(cluster.seats[*place].free, slot_memory),
                *cards,
                *place,
            )
        })
        .filter(|(offer, _, _)| *offer > 0)
        .collect();
    offers
        .sort_unstable_by_key(|(offer, cards, place)| (std::cmp::Reverse(*offer), *cards, *place));
    let mut picks = Vec::new();
    let mut missing = slots;
    for (offer, _, place) in offers {
        let each = of(offer.min(missing));
        missing -= each.slots;
        picks.push(Pick {
            part: 0,
            place,
            each,
        });
        if missing == 0 {
            return Some(picks);
        }
    }
    None
}

/// How many slots with their memory this much has.
pub(super) fn loose_slots(free: Each, slot_memory: u64) -> u32 {
    let by_memory = free.memory_bytes.checked_div(slot_memory);
    let by_memory = by_memory.map_or(u32::MAX, |slots| u32::try_from(slots).unwrap_or(u32::MAX));
    free.slots.min(by_memory)
}
