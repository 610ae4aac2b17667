//! The desk that serves the line: one job after the other, each gets its nodes or a reason.

use std::collections::BTreeMap;
use std::sync::Arc;

use capstan_types::{JobId, Reason, Timestamp};

use super::cluster::Cluster;
use super::explain::explain;
use super::fit::{Shape, fit};
use super::keep::{all_kept, can_hope, keep, keeper};
use super::limits::RunLimits;
use super::request::ShapeKey;
use super::{Placement, Plan};
use crate::{Job, NodeShare, Scheduler, State};

pub(super) struct Desk<'a> {
    cluster: Cluster<'a>,
    shapes: Vec<Shape<'a>>,
    index: BTreeMap<ShapeKey<'a>, usize>,
    /// Whether any node is one user's only.
    has_private_nodes: bool,
    /// For which jobs nodes are kept.
    keeps: Keeps,
    limits: RunLimits<'a>,
}

/// For which jobs that do not fit nodes are kept.
#[derive(Clone, Copy)]
enum Keeps {
    All,
    /// Those that were queued at or before this time; `None` for no job.
    QueuedUntil(Option<Timestamp>),
}

impl Keeps {
    fn include(self, job: &Job) -> bool {
        match self {
            Self::All => true,
            Self::QueuedUntil(time) => time.is_some_and(|time| job.queued <= time),
        }
    }
}

/// What is known of a shape in this plan. Free room only shrinks while a plan is made, so a shape that failed once
/// fails again.
#[derive(Clone, Debug, Default)]
pub(super) enum Known {
    /// It may fit.
    #[default]
    Untried,
    /// It does not fit; nodes are still to be kept for jobs of it.
    Fails(Reason),
    /// It does not fit, and there is nothing left to keep.
    Blocked(Reason),
}

impl<'a> Desk<'a> {
    pub(super) fn new(state: &'a State, now: Timestamp) -> Self {
        let cluster = Cluster::new(state);
        let keeps = match state.settings().map(|settings| settings.scheduler) {
            Some(Scheduler::Fifo) => {
                let starving = Scheduler::STARVING_SECS * 1000;
                Keeps::QueuedUntil(now.0.checked_sub(starving).map(Timestamp))
            }
            Some(Scheduler::Packing) | None => Keeps::All,
        };
        let has_private_nodes = cluster.classes.iter().any(|class| class.only_uid.is_some());
        Self {
            cluster,
            shapes: Vec::new(),
            index: BTreeMap::new(),
            keeps,
            limits: RunLimits::of(state, now),
            has_private_nodes,
        }
    }

    /// Places the job, or the members of the array that are its turn, or says why not.
    pub(super) fn serve(&mut self, job: &'a Arc<Job>, plan: &mut Plan) {
        let shape = self.shape(job);
        let reason = match &job.array {
            None => self
                .serve_one(job, job.id, shape, plan)
                .err()
                .map(|turned| turned.reason),
            Some(array) => {
                // Those beyond the limits of the array are held.
                let turn = job.members_startable();
                let members = array.waiting.iter().take(turn);
                let members = members.map(|index| JobId::member(job.id.seq, index));
                let turned = self.serve_members(job, members, shape, plan);
                let limit = job.spec.array.as_ref().and_then(|array| array.slot_limit);
                let rest = limit.filter(|_| turn as u64 != array.waiting.len());
                turned.or(rest.map(Reason::ArraySlotLimit))
            }
        };
        plan.reasons.extend(reason.map(|reason| (job.id, reason)));
    }

    /// Members in their order, as if each were a job of its own; why the first that is not placed is not.
    fn serve_members(
        &mut self,
        array: &Arc<Job>,
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
        job: &Arc<Job>,
        id: JobId,
        shape: usize,
        plan: &mut Plan,
    ) -> Result<(), Turned> {
        if let Known::Blocked(reason) = &self.shapes[shape].known {
            return Err(Turned::finally(reason.clone()));
        }
        if let Some(limit) = self.limits.reached(job) {
            return Err(Turned::finally(Reason::RunLimit(limit)));
        }
        let may_keep = self.keeps.include(job);
        let shares = self.decide(id, shape, may_keep)?;
        self.limits.count(job);
        plan.placements.push(Placement { job: id, shares });
        Ok(())
    }

    /// What the job gets now, or why it gets nothing, with nodes kept for it.
    fn decide(
        &mut self,
        job: JobId,
        shape: usize,
        may_keep: bool,
    ) -> Result<Vec<NodeShare>, Turned> {
        let (cluster, shape) = (&mut self.cluster, &mut self.shapes[shape]);
        let reason = match &shape.known {
            Known::Blocked(reason) => return Err(Turned::finally(reason.clone())),
            Known::Fails(reason) => reason.clone(),
            Known::Untried => {
                if let Some(shares) = fit(cluster, shape) {
                    return Ok(shares);
                }
                match hopeless(cluster, shape) {
                    Some(reason) => {
                        shape.known = Known::Blocked(reason.clone());
                        return Err(Turned::finally(reason));
                    }
                    None => {
                        let reason = explain(cluster, shape);
                        shape.known = Known::Fails(reason.clone());
                        reason
                    }
                }
            }
        };
        if !may_keep {
            return Err(Turned::finally(reason));
        }
        if keep(cluster, shape, job) > 0 {
            return Err(Turned {
                reason,
                is_final: false,
            });
        }
        let reason = keeper(cluster, shape).map_or(reason, Reason::BehindJob);
        shape.known = Known::Blocked(reason.clone());
        Err(Turned::finally(reason))
    }

    fn shape(&mut self, job: &'a Arc<Job>) -> usize {
        let mut key = ShapeKey::of(&job.spec);
        if !self.has_private_nodes {
            key.uid = 0;
        }
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

/// Why there is nothing to keep for a shape that does not fit: too few of the right nodes are up, or all of them are
/// kept already.
fn hopeless(cluster: &mut Cluster<'_>, shape: &Shape<'_>) -> Option<Reason> {
    if !can_hope(cluster, shape) {
        return Some(explain(cluster, shape));
    }
    all_kept(cluster, shape).map(Reason::BehindJob)
}

/// Not placed.
struct Turned {
    reason: Reason,
    /// Members behind in the same array have the same answer and keep nothing.
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
