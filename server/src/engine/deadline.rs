//! When time alone makes something due: a completed job ages out, a job's time comes, a reservation begins or ends, a
//! silent node is judged.

use capstan_core::{JobState, Link, State, next_routing};
use capstan_types::Timestamp;

/// The earliest time after `after` at which something is due; `None` when nothing will be without another event.
pub(super) fn next_due(state: &State, after: Timestamp) -> Option<Timestamp> {
    let settings = state.settings()?;
    let oldest = state.ended_until(Timestamp(u64::MAX));
    let ages_out = oldest.filter_map(|id| {
        let job = state.job(id)?;
        match &job.state {
            JobState::Ended(ended) => {
                let keep = settings.keep_completed_secs(job.queue.as_str());
                Some(ended.at.plus_secs(keep))
            }
            JobState::Pending
            | JobState::Starting(_)
            | JobState::Running(_)
            | JobState::Exiting(..) => None,
        }
    });
    let mut ages_out = ages_out.take(AGED_OUT_AT_ONCE).filter(|due| *due > after);
    let mut queues = settings.queues.values();
    let ages_out = match queues.any(|queue| queue.keep_completed_secs().is_some()) {
        // Oldest first: the first one that is not overdue is the next.
        false => ages_out.next(),
        true => ages_out.min(),
    };
    let judged = state
        .nodes()
        .filter(|node| state.held_on(&node.name).next().is_some());
    let judged = judged.filter_map(|node| match node.link {
        Link::Lost(since) => Some(since.plus_secs(settings.node_lost_after_secs)),
        Link::Up(_) | Link::Never | Link::New => None,
    });
    let time_comes = state.pending().filter_map(|job| job.not_before);
    let reserved = state
        .reservations()
        .flat_map(|made| made.spans.iter().take(2));
    let reserved = reserved.flat_map(|span| [span.from, span.until]);
    let routed = next_routing(state, after);
    let others = judged.chain(time_comes).chain(reserved).chain(routed);
    let others = others.filter(|due| *due > after);
    ages_out.into_iter().chain(others).min()
}

/// More jobs than this do not end in one instant that a tick has just dealt with.
const AGED_OUT_AT_ONCE: usize = 100_000;

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use capstan_core::{Change, Inventory, Job, Node, Reservation, ReservationKind};
    use capstan_types::{JobId, ResourceList, Span};

    use super::*;
    use crate::testing::{ended, job, run, seconds, state};

    fn check(state: &State, after: u64, expected: Option<u64>) {
        assert_eq!(next_due(state, seconds(after)), expected.map(seconds));
    }

    #[test]
    fn the_oldest_ended_job_ages_out_first() {
        let end = |seq, at| ended(job(JobId::whole(seq), "a", &[]), run(&[], 0, 1), at, 0);
        let state = state([end(1, 50), end(2, 20)]);
        check(&state, 0, Some(320));
        check(&state, 320, Some(350));
        check(&state, 350, None);
    }

    #[test]
    fn a_waiting_job_is_due_at_its_time() {
        let waiting = Job {
            not_before: Some(seconds(60)),
            ..job(JobId::whole(1), "a", &[])
        };
        let state = state([waiting]);
        check(&state, 0, Some(60));
        check(&state, 60, None);
    }

    #[test]
    fn a_reservation_is_due_when_it_begins_and_when_it_ends() {
        let span = |from, until| Span {
            from: seconds(from),
            until: seconds(until),
        };
        let made = Reservation {
            id: "S1".parse().unwrap(),
            name: "".into(),
            owner: "alice".into(),
            host: "hn1".into(),
            kind: ReservationKind::Jobs,
            users: Vec::new(),
            groups: Vec::new(),
            asked: ResourceList::default(),
            shares: Vec::new(),
            spans: vec![span(60, 120), span(180, 240)],
            past: 0,
            rule: "".into(),
            created: seconds(0),
        };
        let mut state = state([]);
        state.absorb(&Change::PutReservation(Arc::new(made)));
        check(&state, 0, Some(60));
        check(&state, 60, Some(120));
        check(&state, 120, Some(180));
        check(&state, 180, Some(240));
    }

    /// Only a lost node that still holds something is judged when its time has come.
    #[test]
    fn a_silent_node_is_judged_for_what_it_holds() {
        let node = Node {
            name: "node01".into(),
            agent: "a1".into(),
            inventory: Inventory::default(),
            slots: 4,
            properties: Vec::new(),
            link: Link::Lost(seconds(10)),
            is_offline: false,
            note: "".into(),
            unclean: Vec::new(),
            strays: Vec::new(),
            is_unwell: false,
            preparing: Vec::new(),
            ordinal: 1,
        };
        let mut state = state([]);
        state.absorb(&Change::PutNode(Arc::new(node)));
        check(&state, 0, None);
        let mut running = job(JobId::whole(1), "a", &[]);
        running.state = JobState::Running(run(&[("node01", &[0], &[])], 0, 1));
        state.absorb(&Change::PutJob(Arc::new(running)));
        check(&state, 0, Some(310));
    }
}
