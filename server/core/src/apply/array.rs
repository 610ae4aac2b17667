//! What an array knows of its members: which wait without a record, how many run, what has become of them, and whom its
//! slot limit holds.
//!
//! Members beyond the slot limit are held, as in Torque (recorded session G01), and let go one by one. Those without a
//! record of their own need none for that: which they are follows from how many there are ([`Job::as_member`]).

use std::sync::Arc;

use capstan_types::{Holds, IndexSet, JobId, JobPart};

use super::draft::{Draft, News};
use crate::{ArrayState, Job, JobState, MemberFates, Rejection};

/// Takes a change of member `index` into its array's account, and lets members go whose turn it is.
pub(super) fn count_member(
    draft: &mut Draft,
    index: u32,
    before: Option<&Arc<Job>>,
    after: &Job,
) -> Result<(), Rejection> {
    let Some(array) = draft.state.job(JobId::array(after.id.seq)) else {
        return Ok(());
    };
    let mut array = Job::clone(array);
    let Some(members) = array.array.as_mut() else {
        return Ok(());
    };
    members.waiting.remove(index);
    count_live(members, before, after);
    count_fate(&mut members.fates, before, after);
    if let JobState::Ended(ended) = &after.state {
        let failed = ended.exit_status.filter(|status| *status != 0);
        members.worst_exit = members.worst_exit.or(failed);
    }
    let is_placed_anew = after.run_count > before.map_or(0, |job| job.run_count);
    array.run_count += u32::from(is_placed_anew);
    let id = array.id;
    draft.end_array_if_done(array)?;
    settle_slots(draft, id);
    Ok(())
}

fn count_live(members: &mut ArrayState, before: Option<&Arc<Job>>, after: &Job) {
    let is_live = |job: &Arc<Job>| u32::from(!job.has_ended());
    let is_running = |job: &Arc<Job>| u32::from(job.state.run().is_some());
    let count = |sum: u32, new: u32, old: u32| (sum + new).saturating_sub(old);
    let (was_live, was_running) = (before.map_or(0, is_live), before.map_or(0, is_running));
    members.live = count(members.live, u32::from(!after.has_ended()), was_live);
    let is_running = u32::from(after.state.run().is_some());
    members.running = count(members.running, is_running, was_running);
}

/// Each member counts once as started and once as ended, however often it ran.
fn count_fate(fates: &mut MemberFates, before: Option<&Arc<Job>>, after: &Job) {
    let had_started = before.is_some_and(|job| has_started(job) || job.run_count > 1);
    let is_first = after.run_count <= 1 && !had_started;
    fates.started += u32::from(is_first && has_started(after));
    let had_ended = before.is_some_and(|job| job.has_ended());
    if let (JobState::Ended(ended), false) = (&after.state, had_ended) {
        let fate = match ended.exit_status {
            None => &mut fates.never_ran,
            Some(0) => &mut fates.ok,
            Some(_) => &mut fates.failed,
        };
        *fate += 1;
    }
}

/// Whether an attempt of it has been seen to run: an end that was reported without a start is a start as well.
fn has_started(job: &Job) -> bool {
    match &job.state {
        JobState::Running(_) => true,
        JobState::Starting(run) | JobState::Exiting(run, _) => run.started.is_some(),
        JobState::Ended(ended) => ended.run.is_some(),
        JobState::Pending => false,
    }
}

/// Holds and lets go the members with a record that wait, lowest index first, as far as the slot limit of the array has
/// room beside those that run.
pub(super) fn settle_slots(draft: &mut Draft, array: JobId) {
    let Some(job) = draft.state.job(array) else {
        return;
    };
    let (Some(members), Some(request)) = (&job.array, &job.spec.array) else {
        return;
    };
    if members.live <= members.running {
        return; // None with a record waits, as nearly always.
    }
    let room = request
        .slot_limit
        .map_or(u32::MAX, |limit| limit.saturating_sub(members.running));
    let waiting = draft.state.submission(array.seq);
    let waiting = waiting.filter(|job| matches!(job.state, JobState::Pending) && !job.is_array());
    let mut changed = Vec::new();
    for (at, member) in waiting.enumerate() {
        let holds = match at < room as usize {
            true => member.holds.without(Holds::SLOT),
            false => member.holds.with(Holds::SLOT),
        };
        if holds != member.holds {
            let mut member = Job::clone(member);
            member.holds = holds;
            member.eligible = member.is_eligible(draft.now).then_some(draft.now);
            changed.push(member);
        }
    }
    changed.into_iter().for_each(|job| draft.put_alone(job));
}

/// Takes the waiting members out of `array`: they vanish without a record. Jobs that waited for one of them, or for some
/// of the array, learn that they never ran.
pub(super) fn drop_waiting(draft: &mut Draft, array: &mut Job) {
    let Some(members) = array.array.as_mut() else {
        return;
    };
    let awaited = draft
        .state
        .dependants_of_members(array.id.seq)
        .map(|(member, _)| member);
    let vanishing = awaited.filter(|member| match member.part {
        JobPart::Member(index) => members.waiting.contains(index),
        JobPart::Whole | JobPart::Array => false,
    });
    let news: Vec<_> = vanishing.map(|member| (member, News::NeverRan)).collect();
    draft.news.extend(news);
    let dropped = u32::try_from(members.waiting.len()).unwrap_or(u32::MAX);
    members.fates.never_ran = members.fates.never_ran.saturating_add(dropped);
    members.waiting = IndexSet::default();
    draft.news.push((array.id, News::Counted));
}
