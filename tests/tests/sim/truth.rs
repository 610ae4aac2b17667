//! What really happened, known to nobody inside the simulation: which attempt ran when, on which cards, how it
//! ended, which jobs were promised. Every claim of the server is checked against it.

use std::collections::{BTreeMap, BTreeSet};

use capstan_core::{Account, Effect, Job};
use capstan_types::{AttemptId, CardId, JobId, NodeName};

#[derive(Default)]
pub(crate) struct Truth {
    /// Jobs whose ids were told to somebody.
    pub(crate) promised: BTreeSet<JobId>,
    /// Jobs whose deletion was accepted, or may have been.
    pub(crate) deleted: BTreeSet<JobId>,
    runs: BTreeMap<AttemptId, Run>,
    /// Cards that a living process uses.
    in_use: BTreeMap<(NodeName, CardId), AttemptId>,
    /// How promised jobs ended, as the server recorded it.
    pub(crate) ends: BTreeMap<JobId, String>,
}

struct Run {
    job: JobId,
    begun: u32,
    /// Times that a node forgot, with its disk, that it knew of the attempt.
    forgotten: u32,
    exit_status: Option<i32>,
}

impl Truth {
    /// An agent wrote the attempt into its ledger.
    pub(crate) fn known(&mut self, attempt: AttemptId, job: &Job) {
        let run = self.runs.entry(attempt).or_insert(Run {
            job: job.id,
            begun: 0,
            forgotten: 0,
            exit_status: None,
        });
        assert_eq!(run.job, job.id, "{attempt} is of one job");
    }

    /// The script begins: once per attempt, on cards that nobody uses.
    pub(crate) fn begins(&mut self, node: &NodeName, attempt: AttemptId, cards: &[CardId]) {
        let run = self
            .runs
            .get_mut(&attempt)
            .expect("an agent knows what it runs");
        run.begun += 1;
        assert!(
            run.begun <= 1 + run.forgotten,
            "{attempt} of {} runs twice",
            run.job
        );
        for card in cards {
            let other = self.in_use.insert((node.clone(), card.clone()), attempt);
            assert_eq!(
                other, None,
                "card {card} is used by two attempts, {attempt} is one"
            );
        }
    }

    /// The script is over, whoever will learn of it.
    pub(crate) fn ends(
        &mut self,
        node: &NodeName,
        attempt: AttemptId,
        cards: &[CardId],
        exit_status: Option<i32>,
    ) {
        for card in cards {
            self.in_use.remove(&(node.clone(), card.clone()));
        }
        let run = self
            .runs
            .get_mut(&attempt)
            .expect("an agent knows what it ran");
        run.exit_status = exit_status;
    }

    /// The node's disk is gone, and with it the ledger.
    pub(crate) fn forgets(&mut self, attempt: AttemptId) {
        if let Some(run) = self.runs.get_mut(&attempt) {
            run.forgotten += 1;
        }
    }

    /// A record that goes is of a job that has ended, or was purged by somebody who said so.
    pub(crate) fn check_removal(&mut self, id: JobId, effects: &[Effect]) {
        let is_purged = effects.iter().any(|effect| {
            let Effect::Account { job, record, .. } = effect else {
                return false;
            };
            job.id.seq == id.seq && matches!(record, Account::Deleted(_))
        });
        if is_purged {
            self.ends.entry(id).or_insert_with(|| "purged".to_owned());
        }
    }

    /// Checks what the server says of a job that ended.
    pub(crate) fn check_end(&mut self, job: &Job, ended: &capstan_core::Ended) {
        let id = job.id;
        let was_deleted =
            self.deleted.contains(&id) || self.deleted.contains(&JobId::array(id.seq));
        let comment = job.comment.as_deref().unwrap_or("");
        let attempt = ended.run.as_ref().map(|run| run.attempt);
        let truth = attempt
            .and_then(|attempt| self.runs.get(&attempt))
            .and_then(|run| run.exit_status);
        let is_true = match (ended.exit_status, attempt) {
            (Some(_), None) if job.is_array() => true,
            (None, _) => was_deleted,
            (Some(271), None) => comment.starts_with("Job deleted as result of dependency"),
            (Some(_), None) => false,
            (Some(-4), Some(_)) => comment.starts_with("lost: "),
            (Some(271), Some(_)) => was_deleted || truth == Some(271),
            (Some(status), Some(_)) => truth == Some(status),
        };
        assert!(
            is_true,
            "{id} is said to have ended with {:?} ({comment}), truly {truth:?}",
            ended.exit_status
        );
        self.ends.insert(id, format!("{:?}", ended.exit_status));
    }

    /// A job that may not be rerun never runs twice, unless a disk was lost with its ledger.
    pub(crate) fn check_reruns(&self, job: &Job) {
        if job.spec.is_rerunnable {
            return;
        }
        let runs = self.runs.values().filter(|run| run.job == job.id);
        let (begun, forgotten) = runs.fold((0, 0), |(begun, forgotten), run| {
            (begun + run.begun, forgotten + run.forgotten)
        });
        assert!(
            begun <= 1 + forgotten,
            "{} may not be rerun and ran {begun} times",
            job.id
        );
    }
}
