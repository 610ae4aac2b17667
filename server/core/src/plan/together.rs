//! Jobs that start together or not at all: the complete sets of `synccount` and `syncwith`. The first of a set whose turn it
//! is brings the others with it; when one of them gets nothing, none does, and nodes are reserved for all of them from one
//! time on. Nobody is stopped for a set. A set that could not start together on idle nodes is not accepted.

use std::sync::Arc;

use capstan_types::{JobId, Reason, Timestamp};

use super::card_types::CardTypes;
use super::desk::Desk;
use super::image::is_of_image;
use super::order::stands_aside;
use super::reserve::{Booking, Within, claim, earliest};
use super::{Plan, plan};
use crate::model::Pending;
use crate::{Change, Holds, Job, JobState, Link, Node, State, Ties, WaitedFor};

/// So often a time is looked for from which on all members have nodes; each costs a reservation a member.
const TRIES_MAX: usize = 16;

/// Why a set does not start: which of its members does not, and why that one does not.
type Failing = (JobId, Reason);

/// Whether a job starts only together with others. An array has its own pace.
pub(super) fn is_of_set(waiting: &Pending) -> bool {
    let job = &waiting.job;
    job.array.is_none() && job.ties.set.contains(&job.id)
}

/// The first of the waiting jobs `set` that would get nothing beside those before it, were all nodes that ever joined up
/// and idle.
pub(crate) fn misfit(state: &State, set: &[Arc<Job>], now: Timestamp) -> Option<JobId> {
    let mut idle = State::default();
    let settings = state.settings().cloned().map(Change::PutSettings);
    let nodes = state.nodes().filter(|node| node.has_joined());
    let nodes: Vec<Change> = nodes.map(|node| unused(node, now)).collect();
    if nodes.is_empty() {
        return None;
    }
    let ids: Vec<JobId> = set.iter().map(|job| job.id).collect();
    let jobs = set.iter().map(|job| ready(job, &ids));
    let changes = settings.into_iter().chain(nodes).chain(jobs);
    changes.for_each(|change| idle.absorb(&change));
    let plan = plan(&idle, now);
    let lacks_nodes = |reason: &Reason| match WaitedFor::of(reason) {
        WaitedFor::Resources | WaitedFor::Nodes => true,
        WaitedFor::Hold
        | WaitedFor::Dependency
        | WaitedFor::Time
        | WaitedFor::Queue
        | WaitedFor::Limit
        | WaitedFor::Window
        | WaitedFor::Line
        | WaitedFor::Image => false,
    };
    let mut reasons = plan.reasons.into_iter();
    reasons.find_map(|(id, reason)| lacks_nodes(&reason).then_some(id))
}

fn unused(node: &Node, now: Timestamp) -> Change {
    let mut node = node.clone();
    node.link = Link::Up(now);
    node.is_offline = false;
    node.is_unwell = false;
    node.unclean.clear();
    node.strays.clear();
    Change::PutNode(Arc::new(node))
}

/// The job with nothing to wait for but nodes.
fn ready(job: &Job, set: &[JobId]) -> Change {
    let mut job = job.clone();
    job.holds = Holds::default();
    job.waits_for.clear();
    job.not_before = None;
    job.ties = Ties {
        set: set.to_vec(),
        ..Ties::default()
    };
    Change::PutJob(Arc::new(job))
}

impl<'a> Desk<'a> {
    /// Places all members of the set of which `waiting` is one, or says of each why not. Does nothing for a member that the
    /// first one brought along.
    pub(super) fn serve_set(&mut self, waiting: &'a Pending, plan: &mut Plan) {
        if !self.brought.insert(waiting.job.id) {
            return;
        }
        let members = self.members(waiting);
        let failing = match self.absent(&members) {
            Some(failing) => failing,
            None => match self.place_all(&members, plan) {
                Ok(()) => {
                    self.brought
                        .extend(members.iter().map(|member| member.job.id));
                    return;
                }
                Err(failing) => {
                    self.brought
                        .extend(members.iter().map(|member| member.job.id));
                    self.wait_together(&members, &failing);
                    failing
                }
            },
        };
        let (first, reason) = failing;
        for member in members {
            let id = member.job.id;
            if id == first {
                plan.reasons.push((id, reason.clone()));
            } else if self.brought.contains(&id) {
                plan.reasons.push((id, Reason::DependsOn(first)));
            }
        }
    }

    /// Members that wait still, in the order in which they came: `waiting` as it is given, and not as it is stored. One that
    /// runs already, or has ended, or is of another set now, is not waited for.
    fn members(&self, waiting: &'a Pending) -> Vec<&'a Pending> {
        let own = waiting.job.id;
        let state = self.cluster.state;
        let mut members: Vec<&'a Pending> = Vec::new();
        for id in &waiting.job.ties.set {
            let stored = match *id == own {
                true => Some(waiting),
                false => state.waiting_job(*id),
            };
            let waits = |member: &&Pending| matches!(member.job.state, JobState::Pending);
            let is_mutual =
                |member: &&Pending| is_of_set(member) && member.job.ties.set.contains(&own);
            members.extend(stored.filter(waits).filter(is_mutual));
        }
        members
    }

    /// The first member that is not in line at all.
    fn absent(&self, members: &[&'a Pending]) -> Option<Failing> {
        let settings = self.cluster.state.settings();
        members.iter().find_map(|member| {
            let job = &member.job;
            let queue = settings.and_then(|all| all.queues.get(&job.queue));
            let is_open = queue.is_some_and(|queue| queue.is_started() && !queue.is_routing());
            let closed = (!is_open).then(|| Reason::QueueStopped(job.queue.clone()));
            let reason = stands_aside(job, self.cluster.now).or(closed);
            reason.map(|reason| (job.id, reason))
        })
    }

    fn place_all(&mut self, members: &[&'a Pending], plan: &mut Plan) -> Result<(), Failing> {
        let before = self.clone();
        let mut all = Plan::default();
        self.promise_nothing_more();
        for member in members {
            self.serve_alone(member, &mut all);
            if let Some(failing) = all.reasons.pop() {
                *self = before;
                return Err(failing);
            }
        }
        self.promise_again(&before);
        plan.placements.append(&mut all.placements);
        Ok(())
    }

    /// Reserves nodes for all members from one time on, if it is their turn and nodes are what they wait for.
    fn wait_together(&mut self, members: &[&'a Pending], failing: &Failing) {
        let (failing, reason) = failing;
        if is_of_image(reason) {
            let member = members.iter().find(|member| member.job.id == *failing);
            if let Some(member) = member {
                let shape = self.shape(member, CardTypes::default());
                self.lacks(*failing, shape, member.walltime_secs);
            }
        }
        let is_of_nodes = match WaitedFor::of(reason) {
            WaitedFor::Resources | WaitedFor::Nodes | WaitedFor::Line | WaitedFor::Window => true,
            WaitedFor::Hold
            | WaitedFor::Dependency
            | WaitedFor::Time
            | WaitedFor::Queue
            | WaitedFor::Image
            | WaitedFor::Limit => false,
        };
        let may_wait = members.iter().all(|member| self.may_wait(&member.job));
        if is_of_nodes
            && may_wait
            && self.may_reserve_more()
            && let Some(bookings) = self.bookings_together(members)
        {
            self.book_together(members, bookings);
        }
    }

    /// The earliest bookings that begin at one time, which are claimed then.
    fn bookings_together(&mut self, members: &[&'a Pending]) -> Option<Vec<Booking>> {
        let mut not_before = self.cluster.now;
        for _ in 0..TRIES_MAX {
            let mut cluster = self.cluster.clone();
            let mut bookings = Vec::with_capacity(members.len());
            for member in members {
                let shape = self.shape(member, CardTypes::default());
                let shape = &self.shapes[shape];
                let wanted = (member.job.id, member.walltime_secs);
                let within = Within {
                    not_before: Some(not_before),
                    not_after: None,
                };
                let booking = earliest(&mut cluster, shape, wanted, within)?;
                claim(&mut cluster, &booking);
                bookings.push(booking);
            }
            let begins = bookings.iter().map(|booking| booking.span.from);
            let latest = begins.clone().max()?;
            if begins.clone().all(|from| from == latest) {
                self.cluster = cluster;
                return Some(bookings);
            }
            not_before = latest;
        }
        None
    }
}
