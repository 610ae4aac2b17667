//! Jobs that wait for others: what releases them, and what makes waiting hopeless.
//!
//! As Torque does it (recorded session H02): a parent that was deleted before it ever ran counts as a success for
//! `afterok` and `afterany`, and as a failure for `after` and `afternotok`.

use capstan_types::{Condition, JobId};

use super::delete;
use super::draft::{Draft, News};
use crate::{Account, Ended, Job, JobEvent, Rejection};

/// Exit status of a job that was deleted because its dependency failed, as Torque shows it: 256 + SIGTERM.
const EXIT_DEPENDENCY_FAILED: i32 = 271;

/// Whether `news` of a job meets the condition, now and for good; `None` when more news must come.
pub(super) fn verdict(condition: Condition, news: News) -> Option<bool> {
    match (condition, news) {
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

/// Releases or deletes everyone whom the news of this event concern, and those who wait for them in turn.
pub(super) fn settle(draft: &mut Draft) -> Result<(), Rejection> {
    let mut at = 0;
    while let Some(&(parent, news)) = draft.news.get(at) {
        at += 1;
        let waiting: Vec<JobId> = draft.state.dependants(parent).collect();
        for id in waiting {
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
    let verdicts = job.waits_for.iter().filter(|(_, on)| *on == parent);
    if verdicts
        .clone()
        .any(|(condition, _)| verdict(*condition, news) == Some(false))
    {
        return delete_dependant(draft, Job::clone(&job), parent);
    }
    let is_met = |(condition, on): &(Condition, JobId)| {
        *on == parent && verdict(*condition, news) == Some(true)
    };
    if !job.waits_for.iter().any(is_met) {
        return Ok(());
    }
    let mut job = Job::clone(&job);
    job.waits_for.retain(|wait| !is_met(wait));
    if job.is_eligible(draft.now) {
        job.eligible = Some(draft.now);
    }
    draft.put(job)?;
    Ok(())
}

/// The condition can never be met any more. What it waited for stays in the record, as in Torque.
fn delete_dependant(draft: &mut Draft, mut job: Job, parent: JobId) -> Result<(), Rejection> {
    let settings = draft.state.settings();
    let parent = settings.map_or_else(
        || parent.to_string(),
        |settings| parent.on(&settings.server),
    );
    job.comment = Some(format!("Job deleted as result of dependency on job {parent}").into());
    delete::drop_waiting(draft, &mut job);
    let ended = Ended {
        at: draft.now,
        exit_status: Some(EXIT_DEPENDENCY_FAILED),
        run: None,
    };
    let job = draft.advance(job, JobEvent::Ended(ended))?;
    draft.account(&job, Account::Aborted);
    Ok(())
}
