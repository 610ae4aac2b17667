//! Jobs that wait for others: what releases them, and what makes waiting hopeless.
//!
//! As Torque does it (recorded session H02): a parent that was deleted before it ever ran counts as a success for
//! `afterok` and `afterany`, and as a failure for `after` and `afternotok`.

use capstan_types::{Condition, JobId, JobPart};

use super::delete;
use super::draft::{Draft, News};
use crate::{Account, Ended, Job, JobEvent, MembersWait, Rejection, Sync};

/// Exit status of a job that was deleted because its dependency failed, as Torque shows it: 256 + SIGTERM.
const EXIT_DEPENDENCY_FAILED: i32 = 271;

/// Whether `news` of a job meets the condition, now and for good; `None` when more news must come.
pub(super) fn verdict(condition: Condition, news: News) -> Option<bool> {
    match (condition, news) {
        (_, News::Counted) => None,
        (Condition::After, News::Started | News::Exited(_)) => Some(true),
        (Condition::After, News::NeverRan | News::Aborted) => Some(false),
        (Condition::AfterOk | Condition::AfterNotOk | Condition::AfterAny, News::Started) => None,
        (Condition::AfterOk, News::Exited(status)) => Some(status == 0),
        (Condition::AfterOk, News::NeverRan) => Some(true),
        (Condition::AfterOk, News::Aborted) => Some(false),
        (Condition::AfterNotOk, News::Exited(status)) => Some(status != 0),
        (Condition::AfterNotOk, News::NeverRan) => Some(false),
        (Condition::AfterNotOk, News::Aborted) => Some(true),
        (Condition::AfterAny, News::Exited(_) | News::NeverRan | News::Aborted) => Some(true),
    }
}

/// Whether so many members of `array` are as `wait` has them, now and for good; `None` when that is still open. Members
/// that never ran count as parents that never ran do.
pub(super) fn members_verdict(array: &Job, wait: MembersWait) -> Option<bool> {
    let (Some(request), Some(members)) = (&array.spec.array, &array.array) else {
        return Some(false);
    };
    let total = request.indices.len();
    let needed = wait.count.map_or(total, u64::from);
    let fates = members.fates;
    let [started, ok, failed, never_ran] =
        [fates.started, fates.ok, fates.failed, fates.never_ran].map(u64::from);
    let left = total.saturating_sub(ok + failed + never_ran);
    let (have, possible) = match wait.condition {
        Condition::After => (started.max(ok + failed), total.saturating_sub(never_ran)),
        Condition::AfterOk => (ok + never_ran, ok + never_ran + left),
        Condition::AfterNotOk => (failed, failed + left),
        Condition::AfterAny => (ok + failed + never_ran, total),
    };
    match (have >= needed, possible >= needed) {
        (true, _) => Some(true),
        (false, true) => None,
        (false, false) => Some(false),
    }
}

/// Releases or deletes everyone whom the news of this event concern, and those who wait for them in turn.
pub(super) fn settle(draft: &mut Draft) -> Result<(), Rejection> {
    let mut at = 0;
    while let Some(&(parent, news)) = draft.news.get(at) {
        at += 1;
        let mut concerned: Vec<JobId> = draft.state.dependants(parent).collect();
        if let JobPart::Member(_) = parent.part {
            // What became of a member may be what others wait for of the array.
            concerned.extend(draft.state.dependants(JobId::array(parent.seq)));
        }
        for id in concerned {
            settle_one(draft, id, parent, news)?;
        }
    }
    Ok(())
}

fn settle_one(draft: &mut Draft, id: JobId, parent: JobId, news: News) -> Result<(), Rejection> {
    let job = draft.job(id)?;
    if job.has_ended() {
        return Ok(());
    }
    let of_job = |wait: &(Condition, JobId)| match wait.1 == parent {
        true => verdict(wait.0, news),
        false => None,
    };
    let array = draft.state.job(JobId::array(parent.seq)).cloned();
    let of_members = |wait: &MembersWait| match &array {
        _ if wait.array != JobId::array(parent.seq) => None,
        Some(array) => members_verdict(array, *wait),
        // Purged: nothing more will be heard of it.
        None => verdict(wait.condition, News::NeverRan),
    };
    let is_alone = job.ties.sync == Some(Sync::With(parent)) && has_ended(draft, parent);
    let is_hopeless = is_alone
        || job.waits_for.iter().any(|wait| of_job(wait) == Some(false))
        || job
            .ties
            .members
            .iter()
            .any(|wait| of_members(wait) == Some(false));
    if is_hopeless {
        return delete_dependant(draft, Job::clone(&job), parent);
    }
    let mut new = Job::clone(&job);
    new.waits_for.retain(|wait| of_job(wait) != Some(true));
    new.ties
        .members
        .retain(|wait| of_members(wait) != Some(true));
    let is_same = new.waits_for.len() == job.waits_for.len()
        && new.ties.members.len() == job.ties.members.len();
    if is_same {
        return Ok(());
    }
    if new.is_eligible(draft.now) {
        new.eligible = Some(draft.now);
    }
    draft.put(new)?;
    Ok(())
}

fn has_ended(draft: &Draft, id: JobId) -> bool {
    draft.state.resolve(id).is_none_or(|job| job.has_ended())
}

/// The condition can never be met any more. What it waited for stays in the record, as in Torque.
fn delete_dependant(draft: &mut Draft, mut job: Job, parent: JobId) -> Result<(), Rejection> {
    // Torque names what the job named: of an array the array.
    let is_named = job.awaited().any(|on| on == parent);
    let parent = match is_named {
        true => parent,
        false => JobId::array(parent.seq),
    };
    let settings = draft.state.settings();
    let parent = settings.map_or_else(
        || parent.to_string(),
        |settings| parent.on(&settings.server),
    );
    job.comment = Some(format!("Job deleted as result of dependency on job {parent}").into());
    delete::drop_waiting(draft, &mut job);
    if job.array.as_ref().is_some_and(|array| array.live > 0) {
        // Members that were made to run all the same go on, and the last of them ends the array.
        draft.put(job)?;
        return Ok(());
    }
    let ended = Ended {
        at: draft.now,
        exit_status: Some(EXIT_DEPENDENCY_FAILED),
        run: None,
        cause: Box::default(),
    };
    let job = draft.advance(job, JobEvent::Ended(ended))?;
    draft.account(&job, Account::Aborted);
    Ok(())
}
