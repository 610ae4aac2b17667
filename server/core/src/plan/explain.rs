//! Why a request that failed did fail: the first part of it that lacks something, and what, on the node that has
//! most of it. Made once per shape and plan.

use capstan_types::{JobId, NodeName, Reason};

use super::cluster::{Cluster, Seat};
use super::fit::{Shape, chunks_wanted_and_free};
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
        Target::Node(place) => lacks_named(cluster, &parts[*at], place),
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
            let fits = |seat: &&Seat<'_>| {
                seat.node.is_usable()
                    && (!shape.key.is_exclusive || seat.free.slots == u32::from(seat.node.slots))
                    && parts.iter().any(|part| part.each.fits_in(seat.free))
            };
            let free = cluster.seats.iter().filter(fits).count() as u32;
            Reason::NotEnoughNodes { wanted, free }
        })
}

fn lacks_named(cluster: &Cluster<'_>, part: &Part<'_>, place: usize) -> Option<Reason> {
    let seat = &cluster.seats[place];
    let name = || seat.node.name.clone();
    if !seat.node.is_up() {
        return Some(Reason::NodeDown(name()));
    }
    if seat.node.is_offline {
        return Some(Reason::NodeOffline(name()));
    }
    let missing = part
        .properties
        .iter()
        .find(|property| !seat.node.has_property(property));
    if let Some(property) = missing {
        return Some(Reason::NoNodeLike(property.clone()));
    }
    shortage(std::iter::once(seat), part)
}

fn lacks(cluster: &Cluster<'_>, shape: &Shape<'_>, part: &Part<'_>, at: usize) -> Option<Reason> {
    let classes = || {
        shape.classes[at]
            .iter()
            .map(|class| &cluster.classes[*class])
    };
    let known: u32 = classes().map(|class| class.known).sum();
    if known < part.count {
        return Some(lacks_for_good(cluster, part));
    }
    let is_enough = |seat: &&Seat<'_>| part.each.memory_bytes <= seat.node.inventory.memory_bytes;
    let usable =
        || classes().flat_map(|class| class.usable.iter().map(|place| &cluster.seats[*place]));
    let seats = || usable().filter(is_enough);
    let up = seats().count() as u32;
    if up < part.count {
        let wanted = part.count;
        return Some(Reason::NodesDown { wanted, up });
    }
    shortage(seats(), part)
}

/// The cluster had the right nodes when the job was taken, and has them no more.
fn lacks_for_good(cluster: &Cluster<'_>, part: &Part<'_>) -> Reason {
    let has = |wanted: &str| {
        cluster
            .seats
            .iter()
            .any(|seat| seat.node.has_property(wanted))
    };
    let property = match part.target {
        Target::Property(name) => Some(name),
        Target::Any | Target::Node(_) => None,
    };
    let mut wanted = property
        .into_iter()
        .chain(part.properties.iter().map(AsRef::as_ref));
    if let Some(missing) = wanted.find(|wanted| !has(wanted)) {
        return Reason::NoNodeLike(missing.into());
    }
    let meant = cluster.seats.iter().enumerate();
    let meant = meant
        .filter(|(place, seat)| seat.node.is_usable() && part.means(*place, &seat.node.properties));
    shortage(meant.map(|(_, seat)| seat), part).unwrap_or(Reason::NotEnoughNodes {
        wanted: part.count,
        free: 0,
    })
}

/// What too few of these nodes have enough of, whether they are kept or not.
fn shortage<'s, 'n: 's>(
    seats: impl Iterator<Item = &'s Seat<'n>>,
    part: &Part<'_>,
) -> Option<Reason> {
    let seats: Vec<&Seat<'_>> = seats.collect();
    let each = part.each;
    let (wanted, nodes) = (each.cards, part.count);
    let enough = |has: &dyn Fn(&Seat<'_>) -> bool| {
        seats.iter().filter(|seat| has(seat)).count() >= nodes as usize
    };
    let most = |amount: &dyn Fn(&Seat<'_>) -> u64| {
        let best = seats.iter().rev().max_by_key(|seat| amount(seat));
        best.map_or((0, None), |seat| {
            (amount(seat), Some(seat.node.name.clone()))
        })
    };
    if !enough(&|seat| each.cards <= seat.free.cards) {
        return Some(cards_shortage(&seats, each, nodes).unwrap_or_else(|| {
            let (free, on) = most(&|seat| u64::from(seat.free.cards));
            let free_most = free as u32;
            Reason::NotEnoughCards {
                wanted,
                nodes,
                free_most,
                on,
            }
        }));
    }
    if !enough(&|seat| each.slots <= seat.free.slots) {
        let (free, on) = most(&|seat| u64::from(seat.free.slots));
        return Some(Reason::NotEnoughSlots {
            wanted: each.slots,
            nodes,
            free_most: free as u32,
            on,
        });
    }
    if !enough(&|seat| each.memory_bytes <= seat.free.memory_bytes) {
        let (free_most_bytes, on) = most(&|seat| seat.free.memory_bytes);
        return Some(Reason::NotEnoughMemory {
            wanted_bytes: each.memory_bytes,
            nodes,
            free_most_bytes,
            on,
        });
    }
    let free = seats.iter().filter(|seat| each.fits_in(seat.free)).count() as u32;
    (free < nodes).then_some(Reason::NotEnoughNodes {
        wanted: nodes,
        free,
    })
}

/// Whether there would be cards enough, were they clean.
fn cards_shortage(seats: &[&Seat<'_>], each: Each, nodes: u32) -> Option<Reason> {
    let would_do = |seat: &&&Seat<'_>| each.cards <= seat.free.cards + seat.unclean;
    let waiting = seats.iter().filter(would_do);
    if waiting.clone().count() < nodes as usize {
        return None;
    }
    let worst = waiting.rev().max_by_key(|seat| seat.unclean)?;
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
