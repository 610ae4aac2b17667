//! Why a request that failed did fail: the first part of it that lacks something, and what, on the node that has
//! most of it. Made once per shape and plan.

use capstan_types::{JobId, NodeName, Reason};

use super::chunks::chunks_wanted_and_free;
use super::cluster::{Class, Cluster, Seat};
use super::fit::Shape;
use super::request::{Each, Part, Request, Target};

/// `claimant` has reserved nodes that the shape could use: what it is when nothing is lacking.
pub(super) fn explain(cluster: &Cluster<'_>, shape: &Shape<'_>, claimant: Option<JobId>) -> Reason {
    if !cluster.seats.iter().any(|seat| seat.node.is_up()) {
        return Reason::NoNodeUp;
    }
    match &shape.request {
        Request::Nodes(parts) => explain_parts(cluster, (shape, claimant), parts),
        Request::Free(parts) => explain_free(cluster, (shape, claimant), parts),
    }
}

type Failed<'s, 'a> = (&'s Shape<'a>, Option<JobId>);

fn explain_parts(
    cluster: &Cluster<'_>,
    (shape, claimant): Failed<'_, '_>,
    parts: &[Part<'_>],
) -> Reason {
    let lacking = shape.turns.iter().find_map(|at| match parts[*at].target {
        Target::Node(place) => lacks_named(cluster, (shape, *at), &parts[*at], place),
        Target::Any | Target::Property(_) => lacks(cluster, shape, &parts[*at], *at),
    });
    // Each part alone would do, all together would not.
    lacking
        .or(claimant.map(Reason::BehindJob))
        .unwrap_or_else(|| {
            let wanted = parts
                .iter()
                .map(|part| part.count)
                .fold(0, u32::saturating_add);
            let fits = |(place, seat): &(usize, &Seat<'_>)| {
                let takes = |(at, part): (usize, &Part<'_>)| {
                    part.each.fits_in(shape.seen(cluster, at, *place))
                };
                seat.node.is_usable()
                    && (!shape.key.is_exclusive || seat.is_idle())
                    && parts.iter().enumerate().any(takes)
            };
            let free = cluster.seats.iter().enumerate().filter(fits).count() as u32;
            Reason::NotEnoughNodes { wanted, free }
        })
}

fn lacks_named(
    cluster: &Cluster<'_>,
    (shape, at): (&Shape<'_>, usize),
    part: &Part<'_>,
    place: usize,
) -> Option<Reason> {
    let seat = &cluster.seats[place];
    let name = || seat.node.name.clone();
    if !seat.node.is_up() || seat.node.is_unwell {
        return Some(Reason::NodeDown(name()));
    }
    if seat.node.is_offline {
        return Some(Reason::NodeOffline(name()));
    }
    let class = &cluster.classes[seat.class];
    if part.suiting(class.properties, &class.kinds).is_none() {
        let missing = part.missing(std::iter::once((class.properties, &class.kinds)));
        return Some(Reason::NoNodeLike(missing));
    }
    let seen = |place: usize| shape.seen(cluster, at, place);
    shortage(std::iter::once((seat, seen(place))), part)
}

fn lacks(cluster: &Cluster<'_>, shape: &Shape<'_>, part: &Part<'_>, at: usize) -> Option<Reason> {
    let classes = || {
        shape.classes[at]
            .iter()
            .map(|class| &cluster.classes[*class])
    };
    let known: u32 = classes().map(|class| class.known).sum();
    if known < part.count {
        return Some(lacks_for_good(cluster, (shape, at), part));
    }
    let is_enough =
        |place: &usize| part.each.memory_bytes <= cluster.seats[*place].whole.memory_bytes;
    let usable = || classes().flat_map(|class| class.usable.iter().copied());
    let seen = |place: usize| (&cluster.seats[place], shape.seen(cluster, at, place));
    let seats = || usable().filter(is_enough).map(seen);
    let up = seats().count() as u32;
    if up < part.count {
        let wanted = part.count;
        return Some(Reason::NodesDown { wanted, up });
    }
    shortage(seats(), part)
}

/// The cluster had the right nodes when the job was taken, and has them no more.
fn lacks_for_good(
    cluster: &Cluster<'_>,
    (shape, at): (&Shape<'_>, usize),
    part: &Part<'_>,
) -> Reason {
    let classes = || cluster.classes.iter();
    let is_meant = |class: &Class<'_>| part.suiting(class.properties, &class.kinds).is_some();
    if !classes().any(is_meant) {
        let all = classes().map(|class| (class.properties, &class.kinds));
        return Reason::NoNodeLike(part.missing(all));
    }
    let meant = cluster.seats.iter().enumerate();
    let meant = meant.filter(|(place, seat)| {
        let class = &cluster.classes[seat.class];
        seat.node.is_usable() && part.means(*place, class.properties, &class.kinds)
    });
    let seen = meant.map(|(place, seat)| (seat, shape.seen(cluster, at, place)));
    shortage(seen, part).unwrap_or(Reason::NotEnoughNodes {
        wanted: part.count,
        free: 0,
    })
}

/// What too few of these nodes have enough of, of what is free of them for the request.
fn shortage<'s, 'n: 's>(
    seats: impl Iterator<Item = (&'s Seat<'n>, Each)>,
    part: &Part<'_>,
) -> Option<Reason> {
    let seats: Vec<(&Seat<'_>, Each)> = seats.collect();
    let each = part.each;
    let (wanted, nodes) = (each.cards, part.count);
    let enough = |has: &dyn Fn(&Each) -> bool| {
        seats.iter().filter(|(_, free)| has(free)).count() >= nodes as usize
    };
    let most = |amount: &dyn Fn(&Each) -> u64| {
        let best = seats.iter().rev().max_by_key(|(_, free)| amount(free));
        best.map_or((0, None), |(seat, free)| {
            (amount(free), Some(seat.node.name.clone()))
        })
    };
    if !enough(&|free| each.cards <= free.cards) {
        return Some(cards_shortage(&seats, each, nodes).unwrap_or_else(|| {
            let (free, on) = most(&|free| u64::from(free.cards));
            let free_most = free as u32;
            Reason::NotEnoughCards {
                wanted,
                nodes,
                free_most,
                on,
            }
        }));
    }
    if !enough(&|free| each.slots <= free.slots) {
        let (free, on) = most(&|free| u64::from(free.slots));
        return Some(Reason::NotEnoughSlots {
            wanted: each.slots,
            nodes,
            free_most: free as u32,
            on,
        });
    }
    if !enough(&|free| each.memory_bytes <= free.memory_bytes) {
        let (free_most_bytes, on) = most(&|free| free.memory_bytes);
        return Some(Reason::NotEnoughMemory {
            wanted_bytes: each.memory_bytes,
            nodes,
            free_most_bytes,
            on,
        });
    }
    let free = seats.iter().filter(|(_, free)| each.fits_in(*free)).count() as u32;
    (free < nodes).then_some(Reason::NotEnoughNodes {
        wanted: nodes,
        free,
    })
}

/// Whether there would be cards enough, were they clean.
fn cards_shortage(seats: &[(&Seat<'_>, Each)], each: Each, nodes: u32) -> Option<Reason> {
    let would_do = |(seat, free): &&(&Seat<'_>, Each)| each.cards <= free.cards + seat.unclean;
    let waiting = seats.iter().filter(would_do);
    if waiting.clone().count() < nodes as usize {
        return None;
    }
    let (worst, _) = waiting.rev().max_by_key(|(seat, _)| seat.unclean)?;
    let on: NodeName = worst.node.name.clone();
    let cards = worst.unclean;
    Some(Reason::CardsNotClean { on, cards })
}

/// Chunks that may share nodes.
fn explain_free(
    cluster: &Cluster<'_>,
    (shape, claimant): Failed<'_, '_>,
    parts: &[Part<'_>],
) -> Reason {
    let (wanted, free) = chunks_wanted_and_free(cluster, shape, parts);
    let behind = claimant.filter(|_| free >= wanted);
    behind.map_or_else(
        || match shape.key.loose_slots {
            Some(_) => Reason::NotEnoughSlotsInAll { wanted, free },
            None => Reason::NotEnoughNodes { wanted, free },
        },
        Reason::BehindJob,
    )
}
