//! The desk that serves the line: one job after the other, each gets its nodes, or a reason and perhaps a reservation.

mod asking;
mod turned;

use std::collections::{BTreeMap, BTreeSet};

use capstan_types::{JobId, QueueName, Reason, Timestamp};

use super::card_types::CardTypes;
use super::cluster::{Cluster, When};
use super::explain::explain;
use super::fit::{Shape, fit, pick};
use super::image::{Lacking, is_of_image, lacks_image};
use super::inside::{claim_windows, fit_inside, in_the_way, until};
use super::limits::RunLimits;
use super::order::Head;
use super::preempt::{Preemptor, Way};
use super::realm::Realms;
use super::request::ShapeKey;
use super::reserve::{Booking, reserve};
use super::timeline::Span;
use super::together::is_of_set;
use super::windows::Windows;
use super::{Placement, Plan, Promise, Promised};
use crate::model::{ENDLESS_SECS, Pending};
use crate::{Job, NodeShare, Policy, State};

pub(super) use asking::Near;
use turned::{Turned, claimant};

#[derive(Clone)]
pub(super) struct Desk<'a> {
    pub(super) cluster: Cluster<'a>,
    pub(super) shapes: Vec<Shape<'a>>,
    index: BTreeMap<ShapeKey<'a>, usize>,
    /// Of each profile, once it came: the shape of jobs to whom no card is banned.
    by_profile: Vec<Option<usize>>,
    /// Whether any node is one user's only.
    has_private_nodes: bool,
    policy: Policy,
    /// Who was queued by then and does not fit gets a reservation.
    reserves_until: Option<Timestamp>,
    /// In the order in which they were made.
    pub(super) bookings: Vec<Booking>,
    /// Who stops all behind him: nobody overtakes.
    barrier: Option<JobId>,
    /// The same by queue, of those whose jobs start in strict order.
    barriers: BTreeMap<&'a QueueName, JobId>,
    /// Queues whose jobs start in strict order.
    strict: Vec<&'a QueueName>,
    /// Which nodes are queues' own.
    realms: Realms<'a>,
    limits: RunLimits<'a>,
    pub(super) windows: Windows<'a>,
    pub(super) preemptor: Preemptor<'a>,
    /// How many of the bookings are of jobs for which others are stopped: they take nobody's turn.
    bookings_beside: usize,
    /// Members of sets that have been served.
    pub(super) brought: BTreeSet<JobId>,
    /// Jobs that may be waiting for their images alone.
    pub(super) lacking: Vec<Lacking>,
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
    /// Whether it fitted, walltime and reservations aside, when it was first asked.
    fits_for_a_moment: Option<bool>,
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
        let mut cluster = Cluster::new(state, now);
        let windows = Windows::of(state, now);
        claim_windows(&mut cluster, &windows);
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
            by_profile: vec![None; state.profile_bound()],
            policy: *policy,
            reserves_until,
            bookings: Vec::new(),
            barrier: None,
            barriers: BTreeMap::new(),
            strict: strict.map(|(name, _)| name).collect(),
            realms: Realms::of(state.settings().map(AsRef::as_ref)),
            limits: RunLimits::of(state, now),
            windows,
            preemptor: Preemptor::new(state, now),
            bookings_beside: 0,
            brought: BTreeSet::new(),
            lacking: Vec::new(),
            has_private_nodes,
        }
    }

    /// Places the job, or the members of the array that are its turn, and with it those that are to start together with it,
    /// or says why not.
    pub(super) fn serve(&mut self, waiting: &'a Pending, plan: &mut Plan) {
        match is_of_set(waiting) {
            true => self.serve_set(waiting, plan),
            false => self.serve_alone(waiting, plan),
        }
    }

    /// Places the job, or the members of the array that are its turn, or says why not.
    pub(super) fn serve_alone(&mut self, waiting: &'a Pending, plan: &mut Plan) {
        let job = &waiting.job;
        let shape = self.shape(waiting, CardTypes::default());
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

    /// Whether a job that does not fit may still change something: get nodes reserved, or have others stopped.
    pub(super) fn may_reserve_more(&self) -> bool {
        let depth = usize::try_from(self.policy.backfill_depth).unwrap_or(usize::MAX);
        let is_full = self.bookings.len() - self.bookings_beside >= depth.max(1);
        !is_full && self.barrier.is_none()
    }

    /// Whether whoever does not start is of no consequence once nodes are reserved for all who may have some: nobody is
    /// stopped for him, and no limit is looked at again for his sake.
    pub(super) fn is_simple(&self) -> bool {
        self.preemptor.is_idle() && !self.limits.forget()
    }

    /// Whether a job could start in this plan: what fits nowhere even for a moment will not.
    pub(super) fn could_start(
        &mut self,
        head: &Head,
        job: impl FnOnce() -> Option<&'a Pending>,
    ) -> bool {
        if self.barrier.is_some() {
            return false;
        }
        let known = self.known(head).and_then(|known| known.fits_for_a_moment);
        if let Some(known) = known {
            return known;
        }
        let Some(job) = job() else {
            return false;
        };
        // Who is in a reservation of its own has other nodes than its shape says.
        if self.windows.own(&job.job.queue).is_some() {
            return true;
        }
        let number = self.shape(job, CardTypes::default());
        let (cluster, shape) = (&mut self.cluster, &mut self.shapes[number]);
        let moment = cluster.span(1).of_guest(shape.key.guest);
        let fits = pick(cluster, shape, When::Now(moment)).is_some();
        shape.known.fits_for_a_moment = Some(fits);
        fits
    }

    /// How many jobs nodes are reserved for.
    pub(super) const fn booked(&self) -> usize {
        self.bookings.len()
    }

    /// Whether it is known that a job does not start in this plan. Does not look at the job itself.
    pub(super) fn is_known_to_fail(&self, head: &Head) -> bool {
        let known = self.known(head);
        known.is_some_and(|known| known.failure(head.walltime_secs).is_some())
    }

    fn known(&self, head: &Head) -> Option<&Known> {
        if self.windows.has_reservations() {
            return None;
        }
        let profile = head.profile.map(|at| at as usize)?;
        let number = self.by_profile.get(profile).copied()??;
        Some(&self.shapes[number].known)
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
        array: &'a Pending,
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
        waiting: &'a Pending,
        id: JobId,
        shape: usize,
        plan: &mut Plan,
    ) -> Result<(), Turned> {
        let job = &waiting.job;
        let asked_secs = Some(waiting.walltime_secs).filter(|secs| *secs < ENDLESS_SECS);
        if let Some(reason) = self.windows.gate(&job.queue, asked_secs) {
            return Err(Turned::finally(reason));
        }
        if let Some(first) = self
            .barrier
            .or_else(|| self.barriers.get(&job.queue).copied())
        {
            return Err(Turned::finally(Reason::BehindJob(first)));
        }
        if let Some(limit) = self.limits.reached(job) {
            return Err(Turned::finally(Reason::RunLimit(limit)));
        }
        if let Some(window) = self.windows.own(&job.queue) {
            return self.serve_inside(waiting, id, (shape, window), plan);
        }
        let span = self.cluster.span(waiting.walltime_secs);
        let span = span.of_guest(self.shapes[shape].key.guest);
        let banned = self.limits.banned(job);
        let allowed = banned
            .as_ref()
            .map(|(types, _)| self.shape(waiting, *types));
        match self.place(allowed.unwrap_or(shape), waiting.walltime_secs, span) {
            Ok(shares) => {
                self.limits.count(job, &shares);
                self.preemptor.count(job);
                plan.placements.push(Placement { job: id, shares });
                Ok(())
            }
            Err(reason) => {
                let shape = allowed.unwrap_or(shape);
                Err(match banned.filter(|_| self.would_fit(waiting, span)) {
                    // Only the limit is in its way, and nothing is reserved for that.
                    Some((_, limit)) => Turned::finally(Reason::RunLimit(limit)),
                    None => self.turn_away(waiting, id, shape, reason),
                })
            }
        }
    }

    /// A job of a reservation gets what others of it leave, whatever is reserved or promised otherwise.
    fn serve_inside(
        &mut self,
        waiting: &'a Pending,
        id: JobId,
        (shape, window): (usize, usize),
        plan: &mut Plan,
    ) -> Result<(), Turned> {
        let end = self.cluster.span(waiting.walltime_secs).until;
        let end = until(&self.windows, &waiting.job, end);
        let number = shape;
        let (cluster, shape) = (&mut self.cluster, &self.shapes[shape]);
        let shares = fit_inside(cluster, &self.windows, (shape, window), end);
        let Some(shares) = shares else {
            if let Some(reason) =
                self.lacks_inside((id, waiting.walltime_secs), (number, window), end)
            {
                return Err(Turned::finally(reason));
            }
            let full = self.windows.reservation(window).id;
            return Err(Turned::finally(Reason::ReservationFull(full)));
        };
        self.limits.count(&waiting.job, &shares);
        plan.placements.push(Placement { job: id, shares });
        Ok(())
    }

    /// What a job of this shape gets now, or why it gets nothing.
    fn place(
        &mut self,
        shape: usize,
        walltime_secs: u64,
        span: Span,
    ) -> Result<Vec<NodeShare>, Reason> {
        if let Some(first) = self.held_back(span) {
            return Err(Reason::BehindJob(first));
        }
        let (cluster, shape) = (&mut self.cluster, &mut self.shapes[shape]);
        if let Some(reason) = shape.known.failure(walltime_secs) {
            return Err(reason.clone());
        }
        if let Some(shares) = fit(cluster, shape, span) {
            return Ok(shares);
        }
        if let Some(reason) = lacks_image(cluster, shape, span) {
            shape.known.fails = Some(reason.clone());
            return Err(reason);
        }
        let windows = &self.windows;
        let met = shape.whatever_image(|shape| in_the_way(cluster, windows, shape, span));
        if let Some(reason) = met {
            shape.known.fails_from = Some((walltime_secs, reason.clone()));
            return Err(reason);
        }
        // It may be the claims: whether it fits without them is what `explain` looks at.
        let by = claimant(&self.bookings, cluster, shape, span);
        let reason = explain(cluster, shape, by);
        let known = &mut shape.known;
        match matches!(reason, Reason::BehindJob(_)) {
            true => known.fails_from = Some((walltime_secs, reason.clone())),
            false => known.fails = Some(reason.clone()),
        }
        Err(reason)
    }

    /// Whether a job has waited long enough to have nodes reserved.
    pub(super) fn may_wait(&self, job: &Job) -> bool {
        self.reserves_until.is_some_and(|time| job.queued <= time)
    }

    /// Nodes are reserved again as they were at a desk before.
    pub(super) const fn promise_again(&mut self, before: &Self) {
        self.reserves_until = before.reserves_until;
    }

    /// Notes the bookings of a set, which is one turn.
    pub(super) fn book_together(&mut self, members: &[&'a Pending], bookings: Vec<Booking>) {
        self.bookings_beside += bookings.len().saturating_sub(1);
        self.bookings.extend(bookings);
        for member in members {
            let job = &member.job;
            if self.policy.backfill_depth == 0 {
                self.barrier.get_or_insert(job.id);
            }
            if self.strict.contains(&&job.queue) {
                self.barriers.entry(&job.queue).or_insert(job.id);
            }
        }
    }

    /// A job that does not fit: nodes are reserved for it if it is its turn.
    fn turn_away(
        &mut self,
        waiting: &'a Pending,
        id: JobId,
        shape: usize,
        reason: Reason,
    ) -> Turned {
        let job = &waiting.job;
        let may_wait = self.may_wait(job);
        let depth = usize::try_from(self.policy.backfill_depth).unwrap_or(usize::MAX);
        let is_strict = self.strict.contains(&&job.queue);
        let is_turn = self.bookings.len() - self.bookings_beside < depth.max(1) || is_strict;
        if self.shapes[shape].known.is_hopeless {
            return Turned::finally(reason);
        }
        let is_for_image = is_of_image(&reason);
        if is_for_image && !self.lacks(id, shape, waiting.walltime_secs) {
            return Turned::finally(reason);
        }
        let (number, cluster, shape) = (shape, &mut self.cluster, &mut self.shapes[shape]);
        let way = match is_for_image {
            true => Way::None,
            false => self.preemptor.make_way((cluster, shape), waiting, id),
        };
        let reason = match way {
            // Those behind in the same array may have another node get it.
            Way::None if is_for_image && (!may_wait || !is_turn) => {
                return Turned {
                    reason,
                    is_final: false,
                };
            }
            Way::None if !may_wait || !is_turn => return Turned::finally(reason),
            Way::None => reason,
            Way::Kept => {
                self.bookings_beside += 1;
                reason
            }
            Way::Cleared(reason) => {
                self.bookings_beside += 1;
                reason
            }
        };
        let Some(booking) = reserve(cluster, shape, id, waiting.walltime_secs) else {
            shape.known.is_hopeless = true;
            return Turned::finally(reason);
        };
        self.bookings.push(booking);
        if !is_for_image && self.shapes[number].images.is_some() {
            self.lacks(id, number, waiting.walltime_secs);
        }
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

    pub(super) fn shape(&mut self, waiting: &'a Pending, banned: CardTypes) -> usize {
        let profile = waiting.profile.filter(|_| banned == CardTypes::default());
        let profile = profile.map_or(usize::MAX, |at| at as usize);
        if let Some(Some(known)) = self.by_profile.get(profile) {
            return *known;
        }
        let job = &waiting.job;
        let mut key = ShapeKey::of(&job.spec);
        let settings = self.cluster.state.settings();
        key.needs = settings.and_then(|settings| settings.image_of(&job.queue, &job.spec));
        if !self.has_private_nodes && key.needs.is_none() {
            key.uid = 0;
        }
        key.realm = self.realms.realm(&job.queue);
        key.banned = banned;
        key.guest = self.windows.guest(&job.queue);
        let (shapes, cluster) = (&mut self.shapes, &self.cluster);
        let number = *self.index.entry(key).or_insert_with(|| {
            let number = shapes.len();
            shapes.push(Shape::new(key, number, cluster));
            number
        });
        if let Some(known) = self.by_profile.get_mut(profile) {
            *known = Some(number);
        }
        number
    }
}
