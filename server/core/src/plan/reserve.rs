//! Nodes for a job that does not fit now: the earliest time at which it will by what everybody's walltime says, and the
//! nodes that it gets then. They are claimed, so that nobody behind it takes what would make it wait longer: backfill.

use capstan_types::{JobId, Timestamp};

use super::cluster::{Cluster, When};
use super::fit::{Shape, pick};
use super::request::{Each, Request, Target};
use super::timeline::{Claim, Claimant, Span};
use super::windows::Guests;

/// So many times at which something comes back are tried behind the first at which the job would fit but for claims.
const TRIES_MAX: usize = 64;

/// What a waiting job is promised.
#[derive(Clone, Debug)]
pub(super) struct Booking {
    pub(super) job: JobId,
    pub(super) span: Span,
    /// Places of nodes, and what of them.
    pub(super) nodes: Vec<(usize, Each)>,
}

/// Claims nodes for `job` of this shape; `None` when it would not fit if all others were gone.
pub(super) fn reserve(
    cluster: &mut Cluster<'_>,
    shape: &Shape<'_>,
    job: JobId,
    walltime_secs: u64,
) -> Option<Booking> {
    let booking = earliest(cluster, shape, (job, walltime_secs), Within::default())?;
    claim(cluster, &booking);
    Some(booking)
}

/// Claims what is booked.
pub(super) fn claim(cluster: &mut Cluster<'_>, booking: &Booking) {
    for (place, each) in &booking.nodes {
        let claim = Claim {
            from: booking.span.from,
            until: booking.span.until,
            each: *each,
            by: Claimant::Job(booking.job),
            closed_to: Guests::ALL,
        };
        cluster.claim(*place, claim);
    }
}

/// Within which times somebody wants nodes, both of them included.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Within {
    pub(super) not_before: Option<Timestamp>,
    pub(super) not_after: Option<Timestamp>,
}

/// The earliest time at which nodes are free for a job that does not fit now, and which; or for any job, not before a time.
pub(super) fn earliest(
    cluster: &mut Cluster<'_>,
    shape: &Shape<'_>,
    (job, walltime_secs): (JobId, u64),
    within: Within,
) -> Option<Booking> {
    cluster.know_timelines();
    let mut times = times(cluster, shape);
    if let Some(not_before) = within.not_before {
        let is_later = times.partition_point(|time| *time <= not_before);
        times.splice(..is_later, [not_before]);
    }
    let mut rooms = vec![Each::default(); cluster.seats.len()];
    let mut fits_at = |cluster: &mut Cluster<'_>, at: Timestamp| {
        fill(cluster, shape, &mut rooms, |seat, free| {
            seat.free_at(free, at)
        });
        pick(cluster, shape, When::Later(&rooms)).is_some()
    };
    if let Some(not_after) = within.not_after {
        times.retain(|time| *time <= not_after);
        // Who asks for a time that is soon mostly asks in vain: one look tells.
        if !times.last().is_some_and(|last| fits_at(cluster, *last)) {
            return None;
        }
    }
    // What is free only grows but for claims, so the first time at which it fits without them is found by halving.
    let (mut low, mut high) = (0, times.len());
    while low < high {
        let middle = usize::midpoint(low, high);
        match fits_at(cluster, times[middle]) {
            true => high = middle,
            false => low = middle + 1,
        }
    }
    for from in times.iter().skip(low).take(TRIES_MAX) {
        let span = Span::of(*from, walltime_secs).of_guest(shape.key.guest);
        fill(cluster, shape, &mut rooms, |seat, free| {
            seat.room(free, span)
        });
        if let Some(picks) = pick(cluster, shape, When::Later(&rooms)) {
            let nodes = picks.iter().map(|pick| {
                let whole = Each::whole(cluster.seats[pick.place].node);
                (
                    pick.place,
                    if shape.key.is_exclusive {
                        whole
                    } else {
                        pick.each
                    },
                )
            });
            let nodes = nodes.collect();
            return Some(Booking { job, span, nodes });
        }
    }
    None
}

/// All times at which something that the shape could use comes back, in order.
fn times(cluster: &Cluster<'_>, shape: &Shape<'_>) -> Vec<Timestamp> {
    let mut times = Vec::new();
    for place in places(cluster, shape) {
        let timeline = &cluster.seats[place].timeline;
        times.extend(timeline.ends());
        times.extend(timeline.claim_ends());
    }
    // Who lacks nothing but an image has what he needs when that is there.
    if let Some(comes) = shape.image_comes() {
        times.retain(|time| *time > comes);
        times.push(comes);
    }
    times.sort_unstable();
    times.dedup();
    times
}

/// Usable nodes that the shape could use, some perhaps twice.
pub(super) fn places<'c>(
    cluster: &'c Cluster<'_>,
    shape: &'c Shape<'_>,
) -> impl Iterator<Item = usize> + 'c {
    let (Request::Nodes(parts) | Request::Free(parts)) = &shape.request;
    let mut seen = vec![false; cluster.classes.len()];
    let classes = shape.classes.iter().flatten().copied();
    let is_all_named = parts
        .iter()
        .all(|part| matches!(part.target, Target::Node(_)));
    let named = parts.iter().filter_map(|part| match part.target {
        Target::Node(place) => Some(place),
        Target::Any | Target::Property(_) => None,
    });
    let classes = classes
        .filter(move |_| !is_all_named)
        .filter(move |class| !std::mem::replace(&mut seen[*class], true));
    let of_classes = classes.flat_map(|class| cluster.classes[class].usable.iter().copied());
    named
        .filter(|place| cluster.seats[*place].node.is_usable())
        .chain(of_classes)
}

/// Says of each node that the shape could use how much of it there will be.
fn fill(
    cluster: &Cluster<'_>,
    shape: &Shape<'_>,
    rooms: &mut [Each],
    room: impl Fn(&super::timeline::Timeline, Each) -> Each,
) {
    for place in places(cluster, shape) {
        let seat = &cluster.seats[place];
        rooms[place] = room(&seat.timeline, seat.free);
    }
}
