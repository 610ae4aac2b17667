//! What an advance reservation gets: nodes that have enough free in all of its times, of what is expected to be free
//! then by walltimes and by the reservations that are there already. All or nothing.

use std::collections::BTreeMap;

use capstan_types::{NodeName, Span, Timestamp};

use super::chunks::chunks_wanted_and_free;
use super::cluster::{Cluster, When};
use super::fit::{Shape, pick};
use super::order::walltime_secs;
use super::request::{Each, Request, ShapeKey};
use super::windows::set_aside;
use crate::{Job, JobSpec, NodeShare, ReservedShare, State};

/// Most times that are tried for a reservation that does not fit when it is asked for.
const TRIES_MAX: usize = 200;

/// A request does not fit when it is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Misfit {
    /// Nodes wanted.
    pub(crate) wanted: u32,
    /// Nodes that could give a share in the time that has fewest.
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
    let future = Future::of(state, now);
    let rooms = future.rooms(state, spans);
    if let Some(shares) = choose(&mut cluster, &shape, &rooms) {
        return Ok(shares);
    }
    let (wanted, free) = count(&cluster, &shape, &rooms);
    let mut fits_at = None;
    if let Some(first) = spans.first() {
        for from in future.changes(first.from) {
            let later: Vec<Span> = spans
                .iter()
                .map(|span| shifted(*span, from.0 - first.from.0))
                .collect();
            let rooms = future.rooms(state, &later);
            if choose(&mut cluster, &shape, &rooms).is_some() {
                fits_at = Some(from);
                break;
            }
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
    let mut shares: Vec<ReservedShare> = Vec::new();
    for chosen in picks {
        let node = cluster.seats[chosen.place].node;
        let whole = shape.key.is_exclusive.then(|| Each::whole(node));
        let each = whole.unwrap_or(chosen.each);
        shares.push(ReservedShare {
            node: node.name.clone(),
            is_whole: shape.key.is_exclusive,
            slots: each.slots,
            cards: each.cards,
            memory_bytes: each.memory_bytes,
        });
    }
    Some(shares)
}

/// How many nodes (or chunks) are wanted, and how many could be had.
fn count(cluster: &Cluster<'_>, shape: &Shape<'_>, rooms: &[Each]) -> (u32, u32) {
    let parts = match &shape.request {
        Request::Nodes(parts) => parts,
        Request::Free(parts) => return chunks_wanted_and_free(cluster, shape, parts),
    };
    let wanted = parts.iter().map(|part| part.count);
    let could_give = cluster.seats.iter().enumerate().filter(|(place, seat)| {
        let class = &cluster.classes[seat.class];
        let suits = |part: &super::request::Part<'_>| {
            part.means(*place, class.properties, &class.kinds) && part.each.fits_in(rooms[*place])
        };
        seat.node.is_usable() && parts.iter().any(suits)
    });
    let free = u32::try_from(could_give.count()).unwrap_or(u32::MAX);
    (wanted.fold(0, u32::saturating_add), free)
}

/// What is taken of nodes from now on.
struct Future<'a> {
    /// What running jobs hold, until when.
    held: BTreeMap<&'a NodeName, Vec<(Timestamp, Each)>>,
    /// All times at which something becomes free.
    ends: Vec<Timestamp>,
}

impl<'a> Future<'a> {
    fn of(state: &'a State, now: Timestamp) -> Self {
        let mut future = Self {
            held: BTreeMap::new(),
            ends: Vec::new(),
        };
        for (_, job) in state.running() {
            let end = expected_end(job, now);
            future.ends.push(end);
            for share in job
                .state
                .run()
                .into_iter()
                .flat_map(|run| run.shares.iter())
            {
                let each = held_of(state, job, share);
                let on_node = future.held.entry(&share.node).or_default();
                on_node.push((end, each));
            }
        }
        for reservation in state.reservations() {
            future
                .ends
                .extend(reservation.spans.iter().map(|span| span.until));
        }
        future
    }

    /// The least that each node has free in all of `spans`, nodes in the order of names.
    fn rooms(&self, state: &State, spans: &[Span]) -> Vec<Each> {
        let first = spans.first().map_or(Timestamp(0), |span| span.from);
        let mut reserved: BTreeMap<&NodeName, Each> = BTreeMap::new();
        for reservation in state.reservations() {
            let meets = |span: &Span| reservation.meeting(*span).next().is_some();
            if !spans.iter().any(meets) {
                continue;
            }
            for share in &reservation.shares {
                if let Some(node) = state.node(&share.node) {
                    let sum = reserved.entry(&share.node).or_default();
                    *sum = sum.and(set_aside(node, share));
                }
            }
        }
        let room = |node: &std::sync::Arc<crate::Node>| {
            if !node.is_usable() {
                return Each::default();
            }
            let held = self.held.get(&node.name).into_iter().flatten();
            let held = held.filter(|(end, _)| *end > first);
            let taken = held.fold(Each::default(), |sum, (_, each)| sum.and(*each));
            let reserved = reserved.get(&node.name).copied().unwrap_or_default();
            Each::whole(node).minus(taken).minus(reserved)
        };
        state.nodes().map(room).collect()
    }

    /// When something becomes free after `after`.
    fn changes(&self, after: Timestamp) -> Vec<Timestamp> {
        let mut later: Vec<Timestamp> = self.ends.iter().copied().collect();
        later.retain(|at| *at > after);
        later.sort_unstable();
        later.dedup();
        later.truncate(TRIES_MAX);
        later
    }
}

/// What an attempt holds on a node, for the others there: all of it when it has the node for itself.
fn held_of(state: &State, job: &Job, share: &NodeShare) -> Each {
    match state.node(&share.node).filter(|_| job.spec.is_exclusive()) {
        Some(node) => Each::whole(node),
        None => Each::of(share),
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
