//! What the end of a job teaches about the next one like it: how long it ran.

use super::draft::Draft;
use crate::{Change, Ended, Job, RunTime, RunTimes};

/// Remembers how long the last attempt of `job` ran, if it ever started.
pub(super) fn remember(draft: &mut Draft, job: &Job, ended: &Ended) {
    let started = ended.run.as_ref().and_then(|run| run.started);
    let Some((started, _)) = started else {
        return;
    };
    let walltime = job.spec.resources.seconds("walltime");
    let secs = ended.at.secs_since(started);
    let run_time = RunTime::new(secs, walltime.map(|walltime| walltime.0));
    for key in job.run_times_keys() {
        let before = draft.state.run_times(&key);
        if before.is_none() {
            for old in draft.state.crowded_out(&key) {
                draft.put_run_times(Change::RemoveRunTimes(old.clone()), old);
            }
        }
        let times = RunTimes::after(before, run_time, ended.at);
        draft.put_run_times(Change::PutRunTimes(key.clone(), times), key);
    }
}
