//! How an attempt ends, whoever says so: its node, a node that came back without it, or time. Each end frees what
//! the attempt held and decides whether the job runs again.

use std::sync::Arc;

use capstan_types::AttemptId;

use super::draft::Draft;
use crate::{
    Account, Effect, Ended, Holds, Job, JobEvent, JobState, Rejection, Run, StopOrder, Usage,
};

/// Torque's JOB_EXEC_INITABT, "job aborted on MOM initialization": the node lost the attempt and the job may not
/// be rerun.
pub(super) const EXIT_LOST: i32 = -4;
/// Torque's JOB_EXEC_FAIL1 and JOB_EXEC_RETRY_PROLOGUE: of sessions, which are not tried again.
const EXIT_UNSTARTABLE: i32 = -1;
const EXIT_PROLOGUE: i32 = -14;

/// 256 + SIGTERM: deleted while it ran.
pub(super) const EXIT_DELETED: i32 = 271;

/// A job whose attempts get lost so many times is held: something in it may be what kills the nodes.
pub(super) const LOST_ATTEMPTS_MAX: u32 = 20;

/// A job whose files could not be copied to its node is tried again after so long, as Torque does.
const STAGE_IN_RETRY_SECS: u64 = 30 * 60;

/// A job whose starts are failed by nodes, a prologue's for one, is tried so often in a row, with a pause of seconds that
/// doubles each time.
const FAILED_STARTS_MAX: u32 = 8;

/// What is left of an attempt that is over.
pub(super) struct Remains {
    pub(super) exit_status: Option<i32>,
    pub(super) usage: Option<Usage>,
    /// Why, in words; empty when it ended by itself.
    pub(super) cause: Box<str>,
    /// Of its containers.
    pub(super) images: Vec<Box<str>>,
}

impl Remains {
    /// Nothing ran to its end.
    pub(super) fn of_nothing(exit_status: Option<i32>) -> Self {
        Self {
            exit_status,
            usage: None,
            cause: Box::default(),
            images: Vec::new(),
        }
    }
}

/// What begins the line that says where a file was kept, in Torque's mail.
const RETAINED: &str = "Output retained on that host in: ";

/// The job, whose owner is told of files that could not be copied from `node`; as it was when there are none.
pub(super) fn told_undelivered(
    draft: &mut Draft,
    job: &Arc<Job>,
    (node, told): (&capstan_types::NodeName, &str),
) -> Arc<Job> {
    if told.is_empty() {
        return job.clone();
    }
    draft.account(job, Account::NotDelivered(told.into()));
    let kept: Vec<&str> = told
        .lines()
        .filter_map(|line| line.strip_prefix(RETAINED))
        .collect();
    let comment = match kept.is_empty() {
        true => {
            let first = told.lines().next().unwrap_or_default();
            format!("files are left on {node}: {first}")
        }
        false => format!(
            "what the job wrote could not be copied and is kept on {node}: {}",
            kept.join(" ")
        ),
    };
    Arc::new(commented(job, &comment))
}

/// The script ran to its end, or was stopped.
pub(super) fn exited(
    draft: &mut Draft,
    job: &Arc<Job>,
    exit_status: i32,
    (mut usage, cause, images): (Usage, &str, &[Box<str>]),
) -> Result<(), Rejection> {
    let settings = draft.state.settings();
    if settings.is_some_and(|settings| !settings.tells("job_samples")) {
        usage.measured = None;
    }
    if let JobState::Starting(_) = &job.state {
        // Its node had no chance to say that it started before it was over.
        draft.account(job, Account::Started);
    }
    let job = &started(job);
    match &job.state {
        JobState::Exiting(run, order) if order.requeue => {
            let comment = match order.for_job {
                // That it was stopped is not its own fault, however often.
                Some(_) => {
                    let job = commented(job, &format!("{}; requeued", order.by));
                    return back(draft, job, run.attempt);
                }
                None => format!("requeued by {}", order.by),
            };
            requeue(draft, job, run.attempt, comment)
        }
        JobState::Starting(run) | JobState::Running(run)
            if job.spec.is_rerunnable && asks_for_another_run(draft, exit_status) =>
        {
            let comment = format!("requeued for its exit status {exit_status}");
            requeue_lost(draft, job, run.attempt, comment)
        }
        JobState::Exiting(..) => {
            let remains = Remains {
                exit_status: canceled_exit(draft).or(Some(exit_status)),
                usage: Some(usage),
                cause: cause.into(),
                images: images.to_vec(),
            };
            end(draft, Job::clone(job), remains)
        }
        JobState::Pending | JobState::Starting(_) | JobState::Running(_) | JobState::Ended(_) => {
            let remains = Remains {
                exit_status: Some(exit_status),
                usage: Some(usage),
                cause: cause.into(),
                images: images.to_vec(),
            };
            end(draft, Job::clone(job), remains)
        }
    }
}

/// The job, of which a node has shown that it can begin.
pub(super) fn started(job: &Arc<Job>) -> Arc<Job> {
    let mut job = job.clone();
    if job.tries.failed_starts > 0 {
        Arc::make_mut(&mut job).tries.failed_starts = 0;
    }
    job
}

/// `exit_code_canceled_job`: what every deleted job shows as its exit status, when the site says so.
pub(super) fn canceled_exit(draft: &Draft) -> Option<i32> {
    number(draft, "exit_code_canceled_job")
}

/// `automatic_requeue_exit_code`: a script that ends with it wants to run again.
fn asks_for_another_run(draft: &Draft, exit_status: i32) -> bool {
    number(draft, "automatic_requeue_exit_code") == Some(exit_status)
}

fn number(draft: &Draft, attribute: &str) -> Option<i32> {
    let number = draft.state.settings()?.attributes.integer(attribute)?;
    i32::try_from(number).ok()
}

/// Whoever sits at a terminal has been told that the job does not start, and waits no more.
fn session_failed(
    draft: &mut Draft,
    job: &Arc<Job>,
    comment: &str,
    exit_status: i32,
) -> Result<(), Rejection> {
    end(
        draft,
        commented(job, comment),
        Remains::of_nothing(Some(exit_status)),
    )
}

/// It never ran and would not on a second try: the job is held until somebody has dealt with the reason.
pub(super) fn unstartable(
    draft: &mut Draft,
    job: &Arc<Job>,
    reason: &str,
) -> Result<(), Rejection> {
    if let JobState::Exiting(_, StopOrder { requeue: false, .. }) = &job.state {
        let remains = Remains::of_nothing(Some(EXIT_DELETED));
        return end(draft, commented(job, reason), remains);
    }
    if job.spec.is_interactive() {
        return session_failed(draft, job, reason, EXIT_UNSTARTABLE);
    }
    let Some(attempt) = job.state.run().map(|run| run.attempt) else {
        return Ok(());
    };
    let was_started = job.state.run().is_some_and(|run| run.started.is_some());
    let mut job = commented(job, reason);
    job.holds = job.holds.with(Holds::SYSTEM);
    job.eligible = None;
    let job = draft.advance(job, JobEvent::Requeued(attempt))?;
    if was_started {
        draft.account(&job, Account::Rerun);
    }
    Ok(())
}

/// The script never ran because a file could not be copied to its node: it waits, and is tried again, because what is
/// missing may come. One that was being deleted is gone.
pub(super) fn stage_in_failed(
    draft: &mut Draft,
    job: &Arc<Job>,
    reason: &str,
) -> Result<(), Rejection> {
    let Some(attempt) = job.state.run().map(|run| run.attempt) else {
        return Ok(());
    };
    if let JobState::Exiting(_, StopOrder { requeue: false, .. }) = &job.state {
        let remains = Remains::of_nothing(Some(EXIT_DELETED));
        return end(draft, commented(job, reason), remains);
    }
    draft.account(job, Account::StageInFailed(reason.into()));
    let mut job = commented(job, &format!("stage in failed: {reason}"));
    job.not_before = Some(draft.now.plus_secs(STAGE_IN_RETRY_SECS));
    job.eligible = None;
    draft.advance(job, JobEvent::Requeued(attempt))?;
    Ok(())
}

/// The script never ran because its node failed: a prologue did, a disk was full. It is tried again, after a while that
/// doubles each time, and held when nothing helps. (Torque tries again at once and without end: a broken prologue keeps a
/// cluster busy.) Starts that went otherwise do not count: a job that was preempted eight times has nothing wrong with it.
pub(super) fn prologue_failed(
    draft: &mut Draft,
    job: &Arc<Job>,
    reason: &str,
) -> Result<(), Rejection> {
    let Some(attempt) = job.state.run().map(|run| run.attempt) else {
        return Ok(());
    };
    if let JobState::Exiting(_, StopOrder { requeue: false, .. }) = &job.state {
        let remains = Remains::of_nothing(Some(EXIT_DELETED));
        return end(draft, commented(job, reason), remains);
    }
    if job.spec.is_interactive() {
        return session_failed(draft, job, reason, EXIT_PROLOGUE);
    }
    let mut job = commented(job, reason);
    let count = job.tries.failed_starts.saturating_add(1);
    job.tries.failed_starts = count;
    if count >= FAILED_STARTS_MAX {
        job.holds = job.holds.with(Holds::SYSTEM);
        job.comment = Some(format!("held after {count} attempts; {reason}").into());
    }
    let pause_secs = 1_u64 << count.min(FAILED_STARTS_MAX);
    job.not_before = Some(draft.now.plus_secs(pause_secs));
    job.eligible = None;
    let job = draft.advance(job, JobEvent::Requeued(attempt))?;
    draft.account(&job, Account::Rerun);
    Ok(())
}

/// Nobody knows what became of it. A job that was being deleted is gone; one that may be rerun gets another
/// attempt; any other ends here, for two attempts of it could do harm.
pub(super) fn lost(draft: &mut Draft, job: &Arc<Job>, reason: &str) -> Result<(), Rejection> {
    let comment = format!("lost: {reason}");
    let Some(attempt) = job.state.run().map(|run| run.attempt) else {
        return Ok(());
    };
    let exit_status = match &job.state {
        JobState::Exiting(_, order) if order.requeue => {
            return requeue(draft, job, attempt, comment);
        }
        JobState::Exiting(..) => EXIT_DELETED,
        JobState::Starting(_) | JobState::Running(_) if job.spec.is_rerunnable => {
            return requeue_lost(draft, job, attempt, comment);
        }
        JobState::Pending | JobState::Starting(_) | JobState::Running(_) | JobState::Ended(_) => {
            EXIT_LOST
        }
    };
    let remains = Remains::of_nothing(Some(exit_status));
    end(draft, commented(job, &comment), remains)
}

/// Ends the job with its current attempt.
pub(super) fn end(draft: &mut Draft, job: Job, remains: Remains) -> Result<(), Rejection> {
    let Remains {
        exit_status,
        usage,
        cause,
        images,
    } = remains;
    let run = job.state.run().map(|run| Run {
        usage: usage.unwrap_or(run.usage),
        images,
        ..run.clone()
    });
    let ended = Ended {
        at: draft.now,
        exit_status,
        run,
        cause,
    };
    let job = draft.advance(job, JobEvent::Ended(ended))?;
    draft.account(&job, Account::Ended);
    Ok(())
}

/// Back to its old place in the queue.
pub(super) fn requeue(
    draft: &mut Draft,
    job: &Arc<Job>,
    attempt: AttemptId,
    comment: String,
) -> Result<(), Rejection> {
    back(draft, commented(job, &comment), attempt)
}

/// The same of an attempt that was in vain: a job of which too many are is held. Those that a person ended, or that made
/// room for other jobs, do not count.
fn requeue_lost(
    draft: &mut Draft,
    job: &Arc<Job>,
    attempt: AttemptId,
    comment: String,
) -> Result<(), Rejection> {
    let mut job = commented(job, &comment);
    let count = job.tries.lost_attempts.saturating_add(1);
    job.tries.lost_attempts = count;
    if count >= LOST_ATTEMPTS_MAX {
        job.holds = job.holds.with(Holds::SYSTEM);
        job.comment = Some(format!("held after {count} attempts; {comment}").into());
    }
    back(draft, job, attempt)
}

fn back(draft: &mut Draft, mut job: Job, attempt: AttemptId) -> Result<(), Rejection> {
    job.eligible = job.holds.is_empty().then_some(draft.now);
    let job = draft.advance(job, JobEvent::Requeued(attempt))?;
    draft.account(&job, Account::Rerun);
    Ok(())
}

/// Tells the script's node to stop an attempt that is no longer the job's, and keeps new work away from the node
/// until it has.
pub(super) fn disown(draft: &mut Draft, run: &Run, grace_secs: u32) {
    let Some(share) = run.shares.first() else {
        return;
    };
    add_stray(draft, &share.node, run.attempt);
    draft.effects.push(Effect::StopAttempt {
        node: share.node.clone(),
        attempt: run.attempt,
        grace_secs,
    });
}

pub(super) fn add_stray(draft: &mut Draft, name: &capstan_types::NodeName, attempt: AttemptId) {
    let Some(node) = draft
        .state
        .node(name)
        .filter(|node| !node.strays.contains(&attempt))
    else {
        return;
    };
    let mut node = crate::Node::clone(node);
    node.strays.push(attempt);
    draft.put_node(node);
}

/// Seconds between SIGTERM and SIGKILL for this job.
pub(super) fn grace_secs(draft: &Draft, job: &Job) -> u32 {
    let setting = draft
        .state
        .settings()
        .map_or(0, |settings| settings.kill_delay_secs(job.queue.as_str()));
    job.spec.kill_delay_secs.unwrap_or(setting)
}

fn commented(job: &Arc<Job>, comment: &str) -> Job {
    let mut job = Job::clone(job);
    job.comment = Some(comment.into());
    job
}
