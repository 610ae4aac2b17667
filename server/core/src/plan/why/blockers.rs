//! All that keeps a job from starting, and what it lacks where.

use capstan_types::{Condition, JobId, Reason};

use super::standing::desk;
use super::{Amount, Asked, Awaited, Blocker, Holder, Lack, NearNode};
use crate::plan::desk::Desk;
use crate::plan::desk::Near;
use crate::plan::expected_end;
use crate::plan::request::Each;
use crate::{Job, JobState, NodeShare, Policy, State};

/// Most nodes that are named.
const NODES_MAX: usize = 4;
/// Most jobs that are named as holders.
const HOLDERS_MAX: usize = 8;
/// Most jobs waited for that are named.
const AWAITED_MAX: usize = 20;

/// What keeps a job from starting.
pub(super) struct Found<'a> {
    pub(super) blockers: Vec<Blocker>,
    pub(super) lack: Option<Lack>,
    /// The desk at which that was found, as it was before: making one costs more than all else here.
    pub(super) desk: Option<Desk<'a>>,
}

/// What blocks the job, beginning with what it has been told, and what it lacks.
pub(super) fn find<'a>(asked: &Asked<'a>) -> Found<'a> {
    let told = asked.reason;
    let mut reasons = Vec::new();
    let mut add = |reason: Reason| {
        if !reasons.contains(&reason) {
            reasons.push(reason);
        }
    };
    let job = asked.job();
    if !job.holds.is_empty() {
        add(Reason::Held(job.holds));
    }
    if let Some(time) = job.not_before.filter(|time| *time > asked.now) {
        add(Reason::WaitingUntil(time));
    }
    let settings = asked.state.settings();
    let queue = settings.and_then(|settings| settings.queues.get(&job.queue));
    if !queue.is_some_and(|queue| queue.is_started()) {
        add(Reason::QueueStopped(job.queue.clone()));
    }
    if let Some(told) = told.filter(|told| !says_who_is_awaited(told)) {
        add(told.clone());
    }
    let policy = settings
        .map(|settings| Policy::of(settings))
        .unwrap_or_default();
    let (mut lack, mut fresh) = (None, None);
    if let Some(mut desk) = desk(asked, &policy) {
        desk.promise_nothing_more();
        let waiting = asked.subject;
        desk.limits_reached(waiting).into_iter().for_each(&mut add);
        let near = desk.near(waiting, NODES_MAX);
        if let Some(reason) = desk.ask_nodes(waiting) {
            // Of two words for nodes that are not free the one that was told is enough.
            if !told.is_some_and(is_of_nodes) {
                add(reason);
            }
            // Nodes that are free and kept for others are not lacking.
            let near = near.filter(|near| near.ready < near.nodes);
            lack = near.map(|near| lack_of(asked.state, &near, asked));
            fresh = Some(desk);
        }
    }
    let awaited = awaited(asked.state, job, asked);
    let reasons = reasons.into_iter().map(Blocker::Reason);
    Found {
        blockers: awaited.into_iter().chain(reasons).collect(),
        lack,
        desk: fresh,
    }
}

const fn says_who_is_awaited(reason: &Reason) -> bool {
    matches!(reason, Reason::DependsOn(_) | Reason::Held(_))
}

fn is_of_nodes(reason: &Reason) -> bool {
    use crate::WaitedFor as W;
    match W::of(reason) {
        W::Resources | W::Nodes | W::Line | W::Window | W::Image => true,
        W::Hold | W::Dependency | W::Time | W::Queue | W::Limit => false,
    }
}

/// The jobs that are waited for.
fn awaited(state: &State, job: &Job, asked: &Asked<'_>) -> Vec<Blocker> {
    let single = job.waits_for.iter().copied();
    let members = job.ties.members.iter();
    let members = members.map(|wait| (wait.condition, wait.array));
    let others = job.ties.awaited().map(|on| (Condition::After, on));
    let others = others.filter(|(_, on)| job.ties.members.iter().all(|wait| wait.array != *on));
    let all = single.chain(members).chain(others).take(AWAITED_MAX);
    all.map(|(condition, on)| Blocker::Awaited {
        condition,
        job: on,
        is: becomes(state, on, asked),
    })
    .collect()
}

/// What has become of a job that is waited for. What is met is no longer waited for, so an ended job never will be it.
fn becomes(state: &State, on: JobId, asked: &Asked<'_>) -> Awaited {
    let Some(on) = state.resolve(on) else {
        return Awaited::Never;
    };
    match &on.state {
        JobState::Pending => Awaited::Waiting,
        JobState::Starting(_) | JobState::Running(_) | JobState::Exiting(..) => {
            Awaited::Running(expected_end(&on, asked.now))
        }
        JobState::Ended(_) => Awaited::Never,
    }
}

fn lack_of(state: &State, near: &Near, asked: &Asked<'_>) -> Lack {
    let nearest: Vec<NearNode> = near
        .lacking
        .iter()
        .map(|(node, free, unclean)| NearNode {
            node: node.clone(),
            free: amount(*free),
            unclean: *unclean,
        })
        .collect();
    let wants_cards = near.each.cards > 0;
    let mut holders: Vec<Holder> = Vec::new();
    for (node, free, _) in &near.lacking {
        let lacks_cards = wants_cards && near.each.cards > free.cards;
        for (attempt, share) in state.held_on(node) {
            let Some(job) = state.job_of(attempt) else {
                continue;
            };
            // Who has no card is no help to whom only cards lack.
            if lacks_cards && share.cards.is_empty() {
                continue;
            }
            holders.push(holder(job, share, asked));
        }
    }
    holders.sort_by_key(|holder| (holder.until.is_none(), holder.until, holder.job));
    holders.truncate(HOLDERS_MAX);
    Lack {
        wanted: amount(near.each),
        nodes: near.nodes,
        ready: near.ready,
        nearest,
        holders,
    }
}

fn holder(job: &Job, share: &NodeShare, asked: &Asked<'_>) -> Holder {
    let has_walltime = job.spec.resources.seconds("walltime").is_some();
    Holder {
        job: job.id,
        user: job.spec.owner.user.clone(),
        node: share.node.clone(),
        held: amount(Each::of(share)),
        until: has_walltime.then(|| expected_end(job, asked.now)),
    }
}

const fn amount(each: Each) -> Amount {
    Amount {
        cards: each.cards,
        slots: each.slots,
        memory_bytes: each.memory_bytes,
    }
}
