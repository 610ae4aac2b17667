//! The desk that serves the line: one job after the other, each gets its nodes, or a reason and perhaps a reservation.

use std::collections::BTreeMap;
use std::sync::Arc;

use capstan_types::{JobId, QueueName, Reason, Timestamp};

use super::card_types::CardTypes;
use super::cluster::{Cluster, When};
use super::explain::explain;
use super::fit::{Shape, fit, pick};
use super::limits::RunLimits;
use super::order::Waiting;
use super::realm::Realms;
use super::request::ShapeKey;
use super::reserve::{Booking, places, reserve};
use super::timeline::Span;
use super::{Placement, Plan, Promise, Promised};
use crate::{Job, NodeShare, Policy, State};

pub(super) struct Desk<'a> {
    cluster: Cluster<'a>,
    shapes: Vec<Shape<'a>>,
    index: BTreeMap<ShapeKey<'a>, usize>,
    /// Whether any node is one user's only.
    has_private_nodes: bool,
    policy: Policy,
    /// Who was queued by then and does not fit gets a reservation.
    reserves_until: Option<Timestamp>,
    /// In the order in which they were made.
    bookings: Vec<Booking>,
    /// Who stops all behind him: nobody overtakes.
    barrier: Option<JobId>,
    /// The same by queue, of those whose jobs start in strict order.
    barriers: BTreeMap<&'a QueueName, JobId>,
    /// Queues whose jobs start in strict order.
    strict: Vec<&'a QueueName>,
    /// Which nodes are queues' own.
    realms: Realms<'a>,
    limits: RunLimits<'a>,
}

/// What is known of a shape in this plan. Free room only shrinks while a plan is made and claims are only added, so
/// what failed once fails again.
#[derive(Clone, Debug, Default)]
pub(super) struct Known {
    /// It does not fit, however short.
    fails: Option<Reason>,
    /// It would fit but for claims, from this walltime on.
    fails_from: Option<(u64, Reason)>,
    /// It would not fit if all others were gone.
    is_hopeless: bool,
}

impl Known {
    fn failure(&self, walltime_secs: u64) -> Option<&Reason> {
        let from = self.fails_from.as_ref();
        let from = from.filter(|(secs, _)| walltime_secs >= *secs);
        self.fails.as_ref().or(from.map(|(_, reason)| reason))
    }
}

impl<'a> Desk<'a> {
    pub(super) fn new(state: &'a State, policy: &Policy, now: Timestamp) -> Self {
        let cluster = Cluster::new(state, now);
        let reserves_until = match policy.reserves_for_starving_only {
            false => Some(Timestamp(u64::MAX)),
            true => {
                let starving = policy.starve_after_secs.unwrap_or(u64::MAX);
                now.0
                    .checked_sub(starving.saturating_mul(1000))
                    .map(Timestamp)
            }
        };
        let has_private_nodes = cluster.classes.iter().any(|class| class.only_uid.is_some());
        let queues = state.settings().into_iter().flat_map(|all| &all.queues);
        let strict = queues.filter(|(_, queue)| queue.is("strict_fifo"));
        Self {
            cluster,
            shapes: Vec::new(),
            index: BTreeMap::new(),
            policy: *policy,
            reserves_until,
            bookings: Vec::new(),
            barrier: None,
            barriers: BTreeMap::new(),
            strict: strict.map(|(name, _)| name).collect(),
            realms: Realms::of(state.settings().map(AsRef::as_ref)),
            limits: RunLimits::of(state, now),
            has_private_nodes,
        }
    }

    /// Places the job, or the members of the array that are its turn, or says why not.
    pub(super) fn serve(&mut self, waiting: Waiting<'a>, plan: &mut Plan) {
        let job = waiting.job;
        let shape = self.shape(job, CardTypes::default());
        let reason = match &job.array {
            None => self
                .serve_one(waiting, job.id, shape, plan)
                .err()
                .map(|turned| turned.reason),
            Some(array) => {
                // Those beyond the limits of the array are held.
                let turn = job.members_startable();
                let members = array.waiting.iter().take(turn);
                let members = members.map(|index| JobId::member(job.id.seq, index));
                let turned = self.serve_members(waiting, members, shape, plan);
                let limit = job.spec.array.as_ref().and_then(|array| array.slot_limit);
                let rest = limit.filter(|_| turn as u64 != array.waiting.len());
                turned.or(rest.map(Reason::ArraySlotLimit))
            }
        };
        plan.reasons.extend(reason.map(|reason| (job.id, reason)));
    }

    /// When the plan would be another one though nothing has happened.
    pub(super) const fn look_again(&self) -> Option<Timestamp> {
        self.limits.look_again()
    }

    /// What is promised to those who wait.
    pub(super) fn promises(&self) -> Vec<Promise> {
        let bookings = self.bookings.iter();
        let promises = bookings.map(|booking| Promise {
            job: booking.job,
            start: booking.span.from,
            until: booking.span.until,
            nodes: booking
                .nodes
                .iter()
                .map(|(place, each)| Promised {
                    node: self.cluster.seats[*place].node.name.clone(),
                    slots: each.slots,
                    cards: each.cards,
                    memory_bytes: each.memory_bytes,
                })
                .collect(),
        });
        promises.collect()
    }

    /// Members in their order, as if each were a job of its own; why the first that is not placed is not.
    fn serve_members(
        &mut self,
        array: Waiting<'a>,
        members: impl Iterator<Item = JobId>,
        shape: usize,
        plan: &mut Plan,
    ) -> Option<Reason> {
        let mut first = None;
        for member in members {
            if let Err(turned) = self.serve_one(array, member, shape, plan) {
                first.get_or_insert(turned.reason);
                if turned.is_final {
                    break;
                }
            }
        }
        first
    }

    fn serve_one(
        &mut self,
        waiting: Waiting<'a>,
        id: JobId,
        shape: usize,
        plan: &mut Plan,
    ) -> Result<(), Turned> {
        let job = waiting.job;
        if let Some(first) = self
            .barrier
            .or_else(|| self.barriers.get(&job.queue).copied())
        {
            return Err(Turned::finally(Reason::BehindJob(first)));
        }
        if let Some(limit) = self.limits.reached(job) {
            return Err(Turned::finally(Reason::RunLimit(limit)));
        }
        let span = self.cluster.span(waiting.walltime_secs);
        let banned = self.limits.banned(job);
        let allowed = banned.as_ref().map(|(types, _)| self.shape(job, *types));
        match self.place(allowed.unwrap_or(shape), waiting.walltime_secs, span) {
            Ok(shares) => {
                self.limits.count(job, &shares);
                plan.placements.push(Placement { job: id, shares });
                Ok(())
            }
            Err(reason) => {
                let shape = allowed.unwrap_or(shape);
                Err(match banned.filter(|_| self.would_fit(job, span)) {
                    // Only the limit is in its way, and nothing is reserved for that.
                    Some((_, limit)) => Turned::finally(Reason::RunLimit(limit)),
                    None => self.turn_away(waiting, id, shape, reason),
                })
            }
        }
    }

    /// Whether the job would start but for limits on types of cards.
    fn would_fit(&mut self, job: &'a Arc<Job>, span: Span) -> bool {
        let shape = self.shape(job, CardTypes::default());
        pick(&mut self.cluster, &self.shapes[shape], When::Now(span)).is_some()
    }

    /// What a job of this shape gets now, or why it gets nothing.
    fn place(
        &mut self,
        shape: usize,
        walltime_secs: u64,
        span: Span,
    ) -> Result<Vec<NodeShare>, Reason> {
        let (cluster, shape) = (&mut self.cluster, &mut self.shapes[shape]);
        if let Some(reason) = shape.known.failure(walltime_secs) {
            return Err(reason.clone());
        }
        if let Some(shares) = fit(cluster, shape, span) {
            return Ok(shares);
        }
        let reason = match claimant(&self.bookings, cluster, shape, span) {
            // It may be the claims: whether it fits without them is what `explain` looks at.
            Some(by) => explain(cluster, shape, Some(by)),
            None => explain(cluster, shape, None),
        };
        let known = &mut shape.known;
        match reason {
            Reason::BehindJob(_) => known.fails_from = Some((walltime_secs, reason.clone())),
            _ => known.fails = Some(reason.clone()),
        }
        Err(reason)
    }

    /// A job that does not fit: nodes are reserved for it if it is its turn.
    fn turn_away(
        &mut self,
        waiting: Waiting<'a>,
        id: JobId,
        shape: usize,
        reason: Reason,
    ) -> Turned {
        let job = waiting.job;
        let may_wait = self.reserves_until.is_some_and(|time| job.queued <= time);
        let depth = usize::try_from(self.policy.backfill_depth).unwrap_or(usize::MAX);
        let is_strict = self.strict.contains(&&job.queue);
        let is_turn = self.bookings.len() < depth.max(1) || is_strict;
        let is_hopeless = self.shapes[shape].known.is_hopeless;
        if !may_wait || !is_turn || is_hopeless {
            return Turned::finally(reason);
        }
        let (cluster, shape) = (&mut self.cluster, &mut self.shapes[shape]);
        let Some(booking) = reserve(cluster, shape, id, waiting.walltime_secs) else {
            shape.known.is_hopeless = true;
            return Turned::finally(reason);
        };
        self.bookings.push(booking);
        if depth == 0 {
            self.barrier = Some(id);
        }
        if is_strict {
            self.barriers.insert(&job.queue, id);
        }
        Turned {
            reason,
            is_final: false,
        }
    }

    fn shape(&mut self, job: &'a Arc<Job>, banned: CardTypes) -> usize {
        let mut key = ShapeKey::of(&job.spec);
        if !self.has_private_nodes {
            key.uid = 0;
        }
        key.realm = self.realms.realm(&job.queue);
        key.banned = banned;
        // Most jobs ask for what the one before asked for.
        if let Some(last) = self.shapes.last().filter(|last| last.key == key) {
            return last.number;
        }
        let (shapes, cluster) = (&mut self.shapes, &self.cluster);
        *self.index.entry(key).or_insert_with(|| {
            let number = shapes.len();
            shapes.push(Shape::new(key, number, cluster));
            number
        })
    }
}

/// The first job for which nodes are reserved that the shape could use in this span.
fn claimant(
    bookings: &[Booking],
    cluster: &Cluster<'_>,
    shape: &Shape<'_>,
    span: Span,
) -> Option<JobId> {
    if bookings.is_empty() {
        return None;
    }
    let mut could_use = vec![false; cluster.seats.len()];
    for place in places(cluster, shape) {
        could_use[place] = true;
    }
    let meets = |booking: &&Booking| {
        let is_then = booking.span.from < span.until;
        is_then && booking.nodes.iter().any(|(place, _)| could_use[*place])
    };
    bookings.iter().find(meets).map(|booking| booking.job)
}

/// Not placed.
struct Turned {
    reason: Reason,
    /// Members behind in the same array have the same answer.
    is_final: bool,
}

impl Turned {
    fn finally(reason: Reason) -> Self {
        Self {
            reason,
            is_final: true,
        }
    }
}
