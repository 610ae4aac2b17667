//! Windows at work: what they take of the nodes' future, what jobs find that are inside their own reservation, and what a
//! job is told that would run into one.

use capstan_types::{Reason, Timestamp};

use super::cluster::{Cluster, OVERDUE_SECS, When, end};
use super::fit::{Shape, pick};
use super::request::Each;
use super::reserve::places;
use super::slices::with_surplus;
use super::timeline::{Claim, Claimant, Span};
use super::windows::{Guest, Windows};
use crate::model::ENDLESS_SECS;
use crate::{Job, NodeShare, ReservedShare};

/// So many beginnings of windows are tried for a walltime that would end before; the latest first.
const BEGINNINGS_MAX: usize = 32;

/// Takes all windows that a job could run into that starts now out of the nodes' future.
pub(super) fn claim_windows(cluster: &mut Cluster<'_>, windows: &Windows<'_>) {
    if windows.is_empty() {
        return;
    }
    let until = cluster.now.plus_secs(ENDLESS_SECS);
    cluster.know_timelines();
    for node in windows.nodes() {
        let Some(place) = cluster.find(node.as_str()) else {
            continue;
        };
        let each = |share: &ReservedShare| set_aside(cluster, place, share);
        for taken in windows.taken(node, until, each) {
            let claim = Claim {
                from: taken.span.from,
                until: taken.span.until,
                each: taken.each,
                by: Claimant::Window(taken.window),
                closed_to: windows.closed_to(taken.window),
            };
            cluster.claim(place, claim);
        }
    }
    let soon = cluster.now.plus_secs(OVERDUE_SECS);
    let state = cluster.state;
    for (_, job) in state.running() {
        let (Some(window), Some(over)) = (windows.inside(job), windows.own_end(&job.queue)) else {
            continue;
        };
        let (by_walltime, over) = (end(job, soon), over.max(soon));
        for (place, each) in cluster.comes_back(job) {
            if by_walltime > over {
                // What still runs then is stopped.
                cluster.hasten(place, each, (by_walltime, over));
            }
            let times = (cluster.now, by_walltime.min(over));
            cluster.seats[place]
                .timeline
                .use_window(window, each, times);
        }
    }
}

/// What a reservation takes of a node. Cores without cards come from what is no card's slice.
pub(super) fn set_aside(cluster: &Cluster<'_>, place: usize, share: &ReservedShare) -> Each {
    let seat = &cluster.seats[place];
    if share.is_whole {
        return seat.whole;
    }
    let each = Each {
        slots: share.slots,
        cards: share.cards,
        memory_bytes: share.memory_bytes,
        ..Each::default()
    };
    let thousandths = u64::from(share.cards) * 1000;
    let surplus = seat.slice.map(|slice| slice.surplus(each, thousandths));
    with_surplus(each, surplus)
}

/// What a job gets inside its own reservation, until `until`; `None` when others of it have it.
pub(super) fn fit_inside(
    cluster: &mut Cluster<'_>,
    windows: &Windows<'_>,
    (shape, window): (&Shape<'_>, usize),
    until: Timestamp,
) -> Option<Vec<NodeShare>> {
    let now = cluster.now;
    let span = Span {
        from: now,
        until,
        guest: shape.key.guest,
    };
    let mut rooms = vec![Each::default(); cluster.seats.len()];
    for node in windows
        .reservation(window)
        .shares
        .iter()
        .map(|share| &share.node)
    {
        let place = cluster.find(node.as_str());
        if let Some(place) = place.filter(|place| shape.admits_now(*place)) {
            rooms[place] = room_inside(cluster, windows, (place, window), span);
        }
    }
    let picks = pick(cluster, shape, When::Later(&rooms))?;
    let shares = picks.iter().map(|pick| {
        let timeline = &mut cluster.seats[pick.place].timeline;
        timeline.use_window(window, pick.each, (now, until));
        cluster.lend(pick.place, pick.each, &pick.orders, until)
    });
    let shares: Vec<NodeShare> = shares.collect();
    if shape.key.is_exclusive {
        let places = picks.iter().map(|pick| pick.place);
        places.for_each(|place| cluster.close(place, until));
    }
    Some(shares)
}

/// What is left of a reservation on a node: what nobody of it uses, and nobody else promised.
fn room_inside(
    cluster: &Cluster<'_>,
    windows: &Windows<'_>,
    (place, window): (usize, usize),
    span: Span,
) -> Each {
    let seat = &cluster.seats[place];
    let there = seat.timeline.room(seat.free, span);
    let left = seat.timeline.left_of_window(window, cluster.now);
    let mut has_memory = false;
    for share in windows.shares(window, &seat.node.name) {
        has_memory |= share.memory_bytes > 0;
    }
    // A reservation that says nothing of memory has what is there, as a job has that says nothing of it.
    Each {
        slots: there.slots.min(left.slots),
        cards: there.cards.min(left.cards),
        memory_bytes: match has_memory {
            true => there.memory_bytes.min(left.memory_bytes),
            false => there.memory_bytes,
        },
        kinds: there.kinds,
        spare_slots: Each::UNLIMITED,
        spare_memory: Each::UNLIMITED,
    }
}

/// What a job is told that would start now but for windows; `None` when it would not.
pub(super) fn in_the_way(
    cluster: &mut Cluster<'_>,
    windows: &Windows<'_>,
    shape: &Shape<'_>,
    span: Span,
) -> Option<Reason> {
    if windows.is_empty() {
        return None;
    }
    let everywhere = Span {
        guest: Guest::EVERYWHERE,
        ..span
    };
    pick(cluster, shape, When::Now(everywhere))?;
    let mut beginnings: Vec<(Timestamp, usize)> = Vec::new();
    for place in places(cluster, shape) {
        let met = cluster.seats[place].timeline.windows_met(span);
        beginnings.extend(met);
    }
    beginnings.sort_unstable();
    beginnings.dedup();
    let now = cluster.now;
    // The longest that ends before a window: of those that begin later the latest, because less is free the longer it runs.
    let later = beginnings.iter().rev().filter(|(from, _)| *from > now);
    for (from, window) in later.take(BEGINNINGS_MAX) {
        let shorter = Span {
            until: *from,
            ..span
        };
        if pick(cluster, shape, When::Now(shorter)).is_some() {
            return Some(told(windows, *window, *from, from.secs_since(now)));
        }
    }
    let (from, window) = beginnings.first()?;
    Some(told(windows, *window, *from, 0))
}

fn told(windows: &Windows<'_>, window: usize, starts: Timestamp, fits_secs: u64) -> Reason {
    let made = windows.reservation(window);
    Reason::Window {
        reservation: made.id,
        name: made.name.clone(),
        starts,
        fits_secs,
    }
}

/// For how long the job may run when it starts now inside its reservation, and until when.
pub(super) fn until(windows: &Windows<'_>, job: &Job, walltime_end: Timestamp) -> Timestamp {
    let own = windows.own_end(&job.queue);
    own.map_or(walltime_end, |own| own.min(walltime_end))
}
