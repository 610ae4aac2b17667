//! Waiting jobs by the time at which they were called likely to start: who has not started then was told something wrong,
//! and that is known at once and not only when it starts.

use capstan_types::{JobId, JobPart, Timestamp};

use super::State;
use crate::{Forecast, Job, JobState};

impl State {
    /// Keeps the index as `old` becomes `new`.
    pub(super) fn index_told(&mut self, old: Option<&Job>, new: Option<&Job>) {
        let (old, new) = (old.and_then(place), new.and_then(place));
        if old == new {
            return;
        }
        if let Some(old) = old {
            self.told.remove(&old);
        }
        self.told.extend(new);
    }

    /// What waiting jobs were told that were to start from `from` on and before `now`, by that time.
    pub(crate) fn told_between(
        &self,
        from: Timestamp,
        now: Timestamp,
    ) -> impl Iterator<Item = Forecast> {
        let first = JobId {
            seq: 0,
            part: JobPart::Whole,
        };
        let due = self.told.range((from, first)..(now.max(from), first));
        due.filter_map(|(_, id)| self.job(*id)?.forecast)
    }
}

/// Where a job stands that was told something itself.
fn place(job: &Job) -> Option<(Timestamp, JobId)> {
    let told = job.forecast.filter(|told| !told.is_of_array)?;
    let is_waiting = matches!(job.state, JobState::Pending) && !job.is_array();
    is_waiting.then_some((told.likely_by, job.id))
}
