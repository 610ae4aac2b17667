//! The desk that serves the line: one job after the other, each gets its nodes or a reason.

use std::collections::BTreeMap;
use std::sync::Arc;

use capstan_types::{JobId, JobPart, Reason};

use super::cluster::Cluster;
use super::explain::explain;
use super::fit::{Shape, fit};
use super::keep::{all_kept, can_hope, keep, keeper};
use super::request::ShapeKey;
use super::{Placement, Plan};
use crate::{Job, NodeShare, State};

pub(super) struct Desk<'a> {
    state: &'a State,
    cluster: Cluster<'a>,
    shapes: Vec<Shape<'a>>,
    index: BTreeMap<ShapeKey<'a>, usize>,
    /// Of arrays with a slot limit: members that have an attempt, or got one or nodes kept in this plan.
    claimed: BTreeMap<u64, u32>,
    /// Whether any node is one user's only.
    has_private_nodes: bool,
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
    pub(super) fn new(state: &'a State) -> Self {
        let cluster = Cluster::new(state);
        let has_private_nodes = cluster.classes.iter().any(|class| class.only_uid.is_some());
        Self {
            state,
            cluster,
            shapes: Vec::new(),
            index: BTreeMap::new(),
            claimed: BTreeMap::new(),
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
                let members = array
                    .waiting
                    .iter()
                    .map(|index| JobId::member(job.id.seq, index));
                self.serve_members(job, members, shape, plan)
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
        self.check_array_room(job)?;
        let decided = self.decide(id, shape);
        if let Some(claimed) = self.claimed.get_mut(&id.seq) {
            // One that nodes are kept for counts as well, or an array would keep more than it may use.
            *claimed += 1;
        }
        let shares = decided?;
        plan.placements.push(Placement { job: id, shares });
        Ok(())
    }

    /// What the job gets now, or why it gets nothing, with nodes kept for it.
    fn decide(&mut self, job: JobId, shape: usize) -> Result<Vec<NodeShare>, Turned> {
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

    /// The slot limit of an array counts members with an attempt, whether they got it in this plan or before.
    fn check_array_room(&mut self, job: &Job) -> Result<(), Turned> {
        let limit = job.spec.array.as_ref().and_then(|array| array.slot_limit);
        let Some(limit) = limit.filter(|_| job.id.part != JobPart::Whole) else {
            return Ok(());
        };
        let state = self.state;
        let claimed = self.claimed.entry(job.id.seq).or_insert_with(|| {
            let array = state.job(JobId::array(job.id.seq));
            array
                .and_then(|array| array.array.as_ref())
                .map_or(0, |members| members.running)
        });
        if *claimed < limit {
            return Ok(());
        }
        Err(Turned::finally(Reason::ArraySlotLimit(limit)))
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
