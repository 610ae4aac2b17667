//! What always holds of a state.

use std::collections::BTreeMap;

use capstan_core::{Change, JobState, State};
use capstan_types::{AttemptId, CardId, CardWish, JobId, JobPart, NodeName};

pub(crate) fn check_invariants(state: &State) {
    nothing_is_lent_twice(state);
    only_live_attempts_hold(state);
    arrays_count_their_members(state);
}

/// A slot has at most one attempt, and so has a card that is not shared; free and used together are what there is.
fn nothing_is_lent_twice(state: &State) {
    let mut cards: BTreeMap<(&NodeName, &CardId), u32> = BTreeMap::new();
    let mut slots: BTreeMap<(&NodeName, u16), AttemptId> = BTreeMap::new();
    for (attempt, job) in state.running() {
        for share in job.state.run().unwrap().shares.iter() {
            for card in &share.cards {
                let lent = cards.entry((&share.node, &card.uuid)).or_default();
                *lent += u32::from(card.share);
                assert!(
                    card.share > 0 && *lent <= u32::from(CardWish::WHOLE),
                    "card {} of {} is lent twice",
                    card.uuid,
                    share.node
                );
                // Only who said so has less than a whole card.
                let mut chunks = job.spec.nodes.iter().flat_map(|nodes| &nodes.chunks);
                assert!(
                    card.is_whole() || chunks.any(|chunk| chunk.cards.is_shared),
                    "job {} did not ask to share",
                    job.id
                );
            }
            for slot in &share.slots {
                let other = slots.insert((&share.node, *slot), attempt);
                assert_eq!(other, None, "slot {slot} of {} is lent twice", share.node);
            }
        }
    }
    for node in state.nodes() {
        let memory: u64 = state
            .held_on(&node.name)
            .map(|(_, share)| share.memory_bytes)
            .sum();
        assert!(
            memory <= node.inventory.memory_bytes,
            "memory of {} is lent twice",
            node.name
        );
        let used = slots
            .keys()
            .filter(|(name, slot)| **name == node.name && *slot < node.slots)
            .count();
        assert!(
            used <= usize::from(node.slots),
            "{} has more used than there is",
            node.name
        );
    }
}

/// What is held is exactly what the jobs with an attempt hold; ended and waiting ones hold nothing.
fn only_live_attempts_hold(state: &State) {
    let mut expected = Vec::new();
    for job in state.jobs() {
        match &job.state {
            JobState::Starting(run) | JobState::Running(run) | JobState::Exiting(run, _) => {
                assert!(!run.shares.is_empty(), "an attempt has a node");
                for share in run.shares.iter() {
                    expected.push((share.node.clone(), run.attempt));
                }
                assert!(
                    run.attempt < state.next_attempt(),
                    "attempt ids are not reused"
                );
            }
            JobState::Pending | JobState::Ended(_) => {}
        }
        assert!(job.id.seq < state.next_seq(), "job ids are not reused");
    }
    expected.sort();
    let mut held = Vec::new();
    for (node, ..) in state.held() {
        held.push(node.clone());
    }
    assert_eq!(
        held,
        expected
            .iter()
            .map(|(node, _)| node.clone())
            .collect::<Vec<_>>()
    );
    assert_eq!(
        state.pending().count() + state.running().count(),
        state.live_count()
    );
}

fn arrays_count_their_members(state: &State) {
    for job in state.jobs().filter(|job| job.is_array()) {
        let array = job.array.as_ref().unwrap();
        let members: Vec<_> = state
            .submission(job.id.seq)
            .filter(|member| !member.is_array())
            .collect();
        let live = members.iter().filter(|member| !member.has_ended()).count();
        let running = members
            .iter()
            .filter(|member| member.state.run().is_some())
            .count();
        assert_eq!(
            (array.live as usize, array.running as usize),
            (live, running),
            "{}",
            job.id
        );
        for member in members {
            let JobPart::Member(index) = member.id.part else {
                panic!("{} is no member", member.id);
            };
            assert!(!array.waiting.contains(index), "{} has a record", member.id);
        }
        let is_over = array.waiting.is_empty() && live == 0;
        assert_eq!(
            is_over,
            job.has_ended(),
            "{} ends with its last member",
            job.id
        );
    }
}

/// No member of an array is started beyond its slot limit. More may run when the limit was lowered since.
pub(crate) fn slot_limits_hold(before: &[Change], after: &State) {
    let ran = |id: JobId| {
        let found = before.iter().find_map(|change| {
            let Change::PutJob(job) = change else {
                return None;
            };
            job.array.as_ref().filter(|_| job.id == id)
        });
        found.map_or(0, |array| array.running)
    };
    for job in after.jobs().filter(|job| job.is_array()) {
        let limit = job.spec.array.as_ref().and_then(|array| array.slot_limit);
        let running = job.array.as_ref().map_or(0, |array| array.running);
        if let Some(limit) = limit.filter(|_| running > ran(job.id)) {
            assert!(running <= limit, "{} runs {running} of {limit}", job.id);
        }
    }
}
