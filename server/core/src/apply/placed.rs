//! Placements of a plan become attempts. A plan is made of a state that may have changed since: a placement that no
//! longer holds is dropped, and the next plan decides anew.

use std::sync::Arc;

use capstan_types::{CardWish, JobPart};

use super::draft::Draft;
use super::forecast;
use super::run::forget;
use crate::{Effect, Job, JobEvent, NodeShare, Placement, PlanOrder, Rejection, Run, Usage};

pub(super) fn placed(draft: &mut Draft, placements: &[Placement]) -> Result<(), Rejection> {
    for placement in placements {
        if let Some(job) = still_startable(draft, placement) {
            start(draft, &job, &placement.shares)?;
        }
    }
    Ok(())
}

/// The same of a plan that says what its jobs have waited for.
pub(super) fn planned(draft: &mut Draft, order: &PlanOrder) -> Result<(), Rejection> {
    // Both are in one order.
    let mut waits = order.waits.iter().peekable();
    for placement in &order.placements {
        let waited = waits.next_if(|(job, _)| *job == placement.job);
        let Some(mut job) = still_startable(draft, placement) else {
            continue;
        };
        if let Some((_, waited)) = waited {
            Arc::make_mut(&mut job).waits.clone_from(waited);
        }
        start(draft, &job, &placement.shares)?;
    }
    Ok(())
}

/// Makes an attempt of `job` on these nodes.
pub(super) fn start(
    draft: &mut Draft,
    job: &Arc<Job>,
    shares: &[NodeShare],
) -> Result<(), Rejection> {
    let now = draft.now;
    let run = Run {
        attempt: draft.take_attempt(),
        shares: shares.into(),
        placed: now,
        started: None,
        usage: Usage::default(),
        is_suspended: false,
        is_altered: false,
        images: Vec::new(),
    };
    forecast::learn(draft, job);
    let mut job = Job::clone(job);
    job.run_count = job.run_count.saturating_add(1);
    job.eligible = job.eligible.or(job.not_before).or(Some(now));
    job.comment = None;
    job.first_until = None;
    job.forced = None;
    if let JobPart::Member(_) = job.id.part {
        forget(draft, job.id)?;
    }
    let job = draft.advance(job, JobEvent::Placed(run))?;
    if let Some(share) = shares.first() {
        let node = share.node.clone();
        draft.effects.push(Effect::StartAttempt { node, job });
    }
    Ok(())
}

fn still_startable(draft: &Draft, placement: &Placement) -> Option<Arc<Job>> {
    let shares = &placement.shares;
    let job = draft.state.resolve(placement.job)?;
    let is_startable =
        !job.is_array() && job.is_eligible(draft.now) && has_room_in_array(draft, &job);
    let are_distinct =
        (1..shares.len()).all(|at| shares[..at].iter().all(|one| one.node != shares[at].node));
    let is_alone = |share: &NodeShare| is_alone(draft, &job, share);
    let are_free = !shares.is_empty()
        && are_distinct
        && shares
            .iter()
            .all(|share| is_free(draft, share) && is_alone(share));
    (is_startable && are_free).then_some(job)
}

pub(super) fn has_room_in_array(draft: &Draft, job: &Job) -> bool {
    let array = draft.state.job(capstan_types::JobId::array(job.id.seq));
    let request = array.and_then(|array| array.spec.array.as_ref());
    let limit = request.and_then(|request| request.slot_limit);
    let running = array
        .and_then(|array| array.array.as_ref())
        .map_or(0, |members| members.running);
    limit.is_none_or(|limit| running < limit)
}

/// Whether nobody is on the node of `share` who wants to be alone there, if only the job itself.
fn is_alone(draft: &Draft, job: &Job, share: &NodeShare) -> bool {
    let mut others = draft.state.held_on(&share.node);
    let is_exclusive = |attempt| {
        let other = draft.state.job_of(attempt);
        other.is_some_and(|other| other.spec.is_exclusive())
    };
    !others.any(|(attempt, _)| job.spec.is_exclusive() || is_exclusive(attempt))
}

/// Whether all of `share` is there, clean and lent to nobody.
fn is_free(draft: &Draft, share: &NodeShare) -> bool {
    let Some(node) = draft.state.node(&share.node) else {
        return false;
    };
    let held = || draft.state.held_on(&share.node).map(|(_, held)| held);
    let is_ascending = share.slots.windows(2).all(|pair| pair[0] < pair[1]);
    let are_slots_free = is_ascending
        && share.slots.last().is_none_or(|last| *last < node.slots)
        && held().all(|other| share.slots.iter().all(|slot| !other.slots.contains(slot)));
    let are_cards_free = share.cards.iter().enumerate().all(|(at, card)| {
        let is_twice = share.cards[..at]
            .iter()
            .any(|other| other.uuid == card.uuid);
        let is_there = node.inventory.cards.iter().any(|own| own.uuid == card.uuid);
        let lent = held().flat_map(|other| &other.cards);
        let lent = lent.filter(|lent| lent.uuid == card.uuid);
        // Of a card that was declared shared, what is left of it; a whole card is left only when nobody has any.
        let taken: u32 = lent.map(|lent| u32::from(lent.share)).sum();
        let is_left = card.share > 0 && taken + u32::from(card.share) <= u32::from(CardWish::WHOLE);
        is_there && !is_twice && is_left && !node.unclean.contains(&card.uuid)
    });
    let memory_held: u64 = held()
        .map(|other| other.memory_bytes)
        .fold(0, u64::saturating_add);
    let is_memory_free =
        share.memory_bytes <= node.inventory.memory_bytes.saturating_sub(memory_held);
    node.is_usable() && node.strays.is_empty() && are_slots_free && are_cards_free && is_memory_free
}
