//! What an advance reservation gets: nodes that have enough free in all of its times, of what is expected to be free
//! then by walltimes and by the reservations that are there already. All or nothing.

use capstan_types::{Span, Timestamp};

use super::cluster::{Cluster, When};
use super::fit::{Shape, pick};
use super::inside::set_aside;
use super::request::{Each, Part, Request, ShapeKey};
use crate::model::walltime_secs;
use crate::{Job, JobSpec, ReservedShare, State};

/// Most times that are tried for a reservation that does not fit when it is asked for.
const TRIES_MAX: usize = 200;

/// A request does not fit when it is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Misfit {
    /// Nodes (or chunks) wanted.
    pub(crate) wanted: u32,
    /// Nodes that could give a share (or chunks that could be had) in all of its time.
    pub(crate) free: u32,
    /// The nearest later beginning with which it would fit; `None` for none that can be named.
    pub(crate) fits_at: Option<Timestamp>,
}

/// What `spec` would get in all of `spans`.
///
/// # Errors
/// When no nodes have so much free then.
pub(crate) fn set_nodes_aside(
    state: &State,
    spec: &JobSpec,
    spans: &[Span],
    now: Timestamp,
) -> Result<Vec<ReservedShare>, Misfit> {
    let mut cluster = Cluster::new(state, now);
    let shape = Shape::new(ShapeKey::of(spec), 0, &cluster);
    let future = Future::of(&cluster, state, now);
    let rooms = future.rooms(&cluster, spans);
    if let Some(shares) = choose(&mut cluster, &shape, &rooms) {
        return Ok(shares);
    }
    let (wanted, free) = count(&cluster, &shape, &rooms);
    let mut fits_at = None;
    let first = spans.first().map_or(Timestamp(0), |span| span.from);
    for from in future.changes(first) {
        let by_ms = from.0 - first.0;
        let later: Vec<Span> = spans.iter().map(|span| shifted(*span, by_ms)).collect();
        let rooms = future.rooms(&cluster, &later);
        if choose(&mut cluster, &shape, &rooms).is_some() {
            fits_at = Some(from);
            break;
        }
    }
    Err(Misfit {
        wanted,
        free,
        fits_at,
    })
}

const fn shifted(span: Span, by_ms: u64) -> Span {
    Span {
        from: Timestamp(span.from.0.saturating_add(by_ms)),
        until: Timestamp(span.until.0.saturating_add(by_ms)),
    }
}

fn choose(
    cluster: &mut Cluster<'_>,
    shape: &Shape<'_>,
    rooms: &[Each],
) -> Option<Vec<ReservedShare>> {
    let picks = pick(cluster, shape, When::Later(rooms))?;
    let shares = picks.iter().map(|chosen| {
        let seat = &cluster.seats[chosen.place];
        let is_whole = shape.key.is_exclusive;
        let each = if is_whole { seat.whole } else { chosen.each };
        // Cards without their cores would be of no use to anybody: each comes with its slice of those that are there.
        let slice = seat.whole.slots.checked_div(seat.whole.cards).unwrap_or(0);
        let slices = slice.saturating_mul(each.cards);
        let room = rooms[chosen.place];
        ReservedShare {
            node: seat.node.name.clone(),
            is_whole,
            slots: each.slots.max(slices.min(room.slots)),
            cards: each.cards,
            memory_bytes: each.memory_bytes,
        }
    });
    Some(shares.collect())
}

/// How many nodes (or chunks) are wanted, and how many could be had.
fn count(cluster: &Cluster<'_>, shape: &Shape<'_>, rooms: &[Each]) -> (u32, u32) {
    let (Request::Nodes(parts) | Request::Free(parts)) = &shape.request;
    let wanted = parts.iter().map(|part| part.count);
    let wanted = wanted.fold(0, u32::saturating_add);
    let is_chunks = matches!(shape.request, Request::Free(_));
    let could_give = cluster.seats.iter().enumerate().map(|(place, seat)| {
        let class = &cluster.classes[seat.class];
        let suits = |part: &&Part<'_>| part.means(place, class.properties, &class.kinds);
        let often = parts.iter().filter(suits).map(|part| {
            let often = part.each.how_often_in(rooms[place]);
            if is_chunks { often } else { often.min(1) }
        });
        often.max().unwrap_or(0)
    });
    (wanted, could_give.fold(0, u32::saturating_add))
}

/// What is taken of nodes from now on.
struct Future<'a> {
    state: &'a State,
    /// What running jobs hold of each node, until when.
    held: Vec<Vec<(Timestamp, Each)>>,
    /// All times at which something becomes free.
    ends: Vec<Timestamp>,
}

impl<'a> Future<'a> {
    fn of(cluster: &Cluster<'_>, state: &'a State, now: Timestamp) -> Self {
        let mut future = Self {
            state,
            held: vec![Vec::new(); cluster.seats.len()],
            ends: Vec::new(),
        };
        for (_, job) in state.running() {
            let end = expected_end(job, now);
            future.ends.push(end);
            let shares = job.state.run().into_iter();
            for share in shares.flat_map(|run| run.shares.iter()) {
                if let Some(place) = cluster.find(share.node.as_str()) {
                    let is_exclusive = job.spec.is_exclusive();
                    let each = match is_exclusive {
                        true => cluster.seats[place].whole,
                        false => cluster.held(place, share),
                    };
                    future.held[place].push((end, each));
                }
            }
        }
        for reservation in state.reservations() {
            let ends = reservation.spans.iter().map(|span| span.until);
            future.ends.extend(ends);
        }
        future
    }

    /// The least that each node has free in all of `spans`, nodes in the order of names.
    fn rooms(&self, cluster: &Cluster<'_>, spans: &[Span]) -> Vec<Each> {
        let first = spans.first().map_or(Timestamp(0), |span| span.from);
        let rooms = cluster.seats.iter().zip(&self.held).map(|(seat, held)| {
            if !seat.node.is_usable() {
                return Each::default();
            }
            let held = held.iter().filter(|(end, _)| *end > first);
            held.fold(seat.whole, |room, (_, each)| room.minus(*each))
        });
        let mut rooms: Vec<Each> = rooms.collect();
        for reservation in self.state.reservations() {
            let meets = |span: &Span| reservation.meeting(*span).next().is_some();
            if !spans.iter().any(meets) {
                continue;
            }
            for share in &reservation.shares {
                if let Some(place) = cluster.find(share.node.as_str()) {
                    rooms[place] = rooms[place].minus(set_aside(cluster, place, share));
                }
            }
        }
        rooms
    }

    /// When something becomes free after `after`.
    fn changes(&self, after: Timestamp) -> Vec<Timestamp> {
        let mut later = self.ends.clone();
        later.retain(|at| *at > after);
        later.sort_unstable();
        later.dedup();
        later.truncate(TRIES_MAX);
        later
    }
}

/// When a running job is over by its walltime.
pub(crate) fn expected_end(job: &Job, now: Timestamp) -> Timestamp {
    let began = job.state.run().map(|run| match run.started {
        Some((at, _)) => at,
        None => run.placed,
    });
    let end = began.unwrap_or(now).plus_secs(walltime_secs(job));
    end.max(now.plus_secs(1))
}
