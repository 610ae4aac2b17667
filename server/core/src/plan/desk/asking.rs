//! What would become of a job if it came to the desk as it stands: what it would get, or what it lacks and where.
//! Nothing is promised to anybody for being asked about.

use capstan_types::{JobId, NodeName, Reason, Timestamp};

use super::{CardTypes, Desk, Plan};
use crate::model::{ENDLESS_SECS, Pending};
use crate::plan::cluster::When;
use crate::plan::fit::pick;
use crate::plan::request::Each;
use crate::plan::reserve::{Within, earliest, places};
use crate::plan::timeline::Span;

/// What a job would need of nodes, and the nodes that are nearest to giving it.
#[derive(Debug)]
pub(in crate::plan) struct Near {
    /// Wanted on each node, of the part of its request that lacks most.
    pub(in crate::plan) each: Each,
    /// On so many.
    pub(in crate::plan) nodes: u32,
    /// So many nodes could give it now.
    pub(in crate::plan) ready: u32,
    /// Those that could not, nearest first, and what is free of them.
    pub(in crate::plan) lacking: Vec<(NodeName, Each, u32)>,
}

impl<'a> Desk<'a> {
    /// From now on nobody gets a reservation.
    pub(in crate::plan) fn promise_nothing_more(&mut self) {
        self.reserves_until = None;
    }

    /// Nothing if the job would start, which then has what it gets; else why it would not.
    pub(in crate::plan) fn ask(&mut self, waiting: &'a Pending) -> Option<Reason> {
        let mut plan = Plan::default();
        self.serve(waiting, &mut plan);
        let mut reasons = plan.reasons.into_iter();
        let own = reasons.find(|(id, _)| *id == waiting.job.id);
        own.map(|(_, reason)| reason)
    }

    /// Why the job would not get nodes, whatever limits say.
    pub(in crate::plan) fn ask_nodes(&mut self, waiting: &'a Pending) -> Option<Reason> {
        if self.windows.own(&waiting.job.queue).is_some() {
            // A reservation has nodes of its own, of which its own jobs are told.
            return self.ask(waiting);
        }
        let shape = self.shape(waiting, CardTypes::default());
        let span = self.cluster.span(waiting.walltime_secs);
        let span = span.of_guest(self.shapes[shape].key.guest);
        self.place(shape, waiting.walltime_secs, span).err()
    }

    /// For whom nodes are reserved before this span ends, where such gaps are not filled.
    pub(super) fn held_back(&self, span: Span) -> Option<JobId> {
        let mut bookings = self
            .bookings
            .iter()
            .filter(|_| !self.policy.backfills_spare);
        let first = bookings.find(|booking| span.until > booking.span.from)?;
        Some(first.job)
    }

    /// Whether the job would start but for limits on types of cards.
    pub(super) fn would_fit(&mut self, waiting: &'a Pending, span: Span) -> bool {
        let shape = self.shape(waiting, CardTypes::default());
        pick(&mut self.cluster, &self.shapes[shape], When::Now(span)).is_some()
    }

    /// Whether nothing but nodes would keep the job from starting.
    pub(in crate::plan) fn lets_wait_for_nodes(&mut self, waiting: &'a Pending) -> bool {
        let queue = &waiting.job.queue;
        let asked_secs = Some(waiting.walltime_secs).filter(|secs| *secs < ENDLESS_SECS);
        self.windows.gate(queue, asked_secs).is_none()
            && self.limits_reached(waiting).is_empty()
            && self.windows.own(queue).is_none()
            && self.barrier.is_none()
            && !self.barriers.contains_key(queue)
    }

    /// From when, not later than `until`, nodes would be reserved for the job, if they were now.
    pub(in crate::plan) fn reserved_by(
        &mut self,
        waiting: &'a Pending,
        until: Timestamp,
    ) -> Option<Timestamp> {
        let banned = self.limits.banned(&waiting.job);
        let number = self.shape(
            waiting,
            banned.map_or_else(CardTypes::default, |(types, _)| types),
        );
        let (cluster, shape) = (&mut self.cluster, &self.shapes[number]);
        let wanted = (waiting.job.id, waiting.walltime_secs);
        let within = Within {
            not_before: None,
            not_after: Some(until),
        };
        let booking = earliest(cluster, shape, wanted, within)?;
        Some(booking.span.from)
    }

    /// All limits that keep the job from starting.
    pub(in crate::plan) fn limits_reached(&mut self, waiting: &'a Pending) -> Vec<Reason> {
        let reached = self.limits.all_reached(&waiting.job);
        reached.into_iter().map(Reason::RunLimit).collect()
    }

    /// Where the job comes nearest to what it asks for; at most `most` nodes.
    pub(in crate::plan) fn near(&mut self, waiting: &'a Pending, most: usize) -> Option<Near> {
        let number = self.shape(waiting, CardTypes::default());
        let (cluster, shape) = (&self.cluster, &self.shapes[number]);
        let mut usable: Vec<usize> = places(cluster, shape).collect();
        usable.sort_unstable();
        usable.dedup();
        let ready = |each: Each| {
            let fitting = usable.iter().map(|place| &cluster.seats[*place]);
            fitting.filter(|seat| each.fits_in(seat.free)).count() as u32
        };
        let parts = shape.request.parts();
        let lacks = |part: &&crate::plan::request::Part<'_>| ready(part.each) < part.count;
        let part = parts.iter().find(lacks).or(parts.first())?;
        let each = part.each;
        let missing = |free: Each| {
            (
                each.cards.saturating_sub(free.cards),
                each.slots.saturating_sub(free.slots),
                each.memory_bytes.saturating_sub(free.memory_bytes),
            )
        };
        let seats = usable.iter().map(|place| &cluster.seats[*place]);
        let mut lacking: Vec<_> = seats
            .filter(|seat| !each.fits_in(seat.free))
            .map(|seat| (missing(seat.free), &seat.node.name, seat.free, seat.unclean))
            .collect();
        lacking.sort_by(|one, other| (one.0, one.1).cmp(&(other.0, other.1)));
        let lacking = lacking.into_iter().take(most);
        Some(Near {
            each,
            nodes: part.count,
            ready: ready(each),
            lacking: lacking
                .map(|(_, node, free, unclean)| (node.clone(), free, unclean))
                .collect(),
        })
    }
}
