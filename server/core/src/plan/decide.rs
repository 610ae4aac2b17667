//! The decisions of a plan without its words: of the jobs that go on waiting most are not looked at. The first of each row of
//! equal jobs speaks for all of them, and whoever is known not to fit is passed over.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use capstan_types::Timestamp;

use super::desk::Desk;
use super::order::{Candidates, Head};
use super::{Plan, finish, open};
use crate::State;

/// So often in one plan all who are known to fail are taken out of the line; else they go when it is their turn.
const SWEEPS_MAX: usize = 64;

/// The decisions of [`super::plan`], without a word to those who go on waiting: there are no reasons, and of the line only the
/// first that does not start. Costs rows of equal jobs, not jobs.
#[must_use]
pub fn decide(state: &State, now: Timestamp) -> Plan {
    let Some((policy, mut desk)) = open(state, now) else {
        return Plan::default();
    };
    let mut candidates = Candidates::of(state, &policy, now);
    let mut plan = Plan::default();
    let mut is_by_rows = candidates.is_simple() && desk.is_simple();
    if is_by_rows {
        serve_rows(state, &mut candidates, &mut desk, &mut plan);
        // Who waits for an image is told where it comes, and those behind him have it come elsewhere: all are looked at.
        if desk.needs_images() {
            is_by_rows = false;
            desk = Desk::new(state, &policy, now);
            candidates = Candidates::of(state, &policy, now);
            plan = Plan::default();
        }
    }
    if !is_by_rows {
        for waiting in candidates.line_up().jobs {
            desk.serve(waiting, &mut plan);
        }
    }
    let first = plan.reasons.first().map(|(id, _)| *id);
    plan.line = first.into_iter().collect();
    plan.reasons = Vec::new();
    finish(&mut plan, desk, candidates.next_starving);
    plan
}

fn serve_rows<'a>(
    state: &'a State,
    candidates: &mut Candidates<'a>,
    desk: &mut Desk<'a>,
    plan: &mut Plan,
) {
    let heads = candidates.heads().into_iter().map(Reverse);
    let mut line: BinaryHeap<Reverse<Head>> = heads.collect();
    let mut sweeps_left = SWEEPS_MAX;
    let mut is_swept = false;
    loop {
        if !is_swept && !desk.may_reserve_more() {
            // From here on who does not start changes nothing for those behind him.
            is_swept = true;
            line.retain(|Reverse(head)| desk.could_start(head, || state.waiting_job(head.id)));
        }
        let Some(Reverse(head)) = line.pop() else {
            break;
        };
        if is_swept && desk.is_known_to_fail(&head) {
            continue;
        }
        let Some(job) = state.waiting_job(head.id) else {
            continue;
        };
        let before = (plan.placements.len(), desk.booked());
        desk.serve(job, plan);
        // Who is like one that got nothing gets nothing either: free room and what limits leave only shrink.
        if (plan.placements.len(), desk.booked()) != before {
            line.extend(candidates.behind(&head).map(Reverse));
        } else if is_swept && sweeps_left > 0 {
            sweeps_left -= 1;
            line.retain(|Reverse(head)| !desk.is_known_to_fail(head));
        }
    }
}
