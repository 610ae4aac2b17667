//! The rule of a gang: tasks that `pbsdsh` runs together, of which the first that fails is named, and ends the job when the
//! job wants that (`-W gang=end`). Whoever called for the tasks ends the others of its call by itself (`pbsdsh -k`).

use std::sync::Arc;

use capstan_proto::wire::task_report::Report;
use tokio::sync::mpsc;

use super::live::LiveAttempt;
use super::table::{Order, Supervisor};
use super::tasks::is_passing;

/// Reports that wait for a slow reader.
const REPORTS_MAX: usize = 8;
/// The status of a job whose task could not be run, or was lost.
const LOST: i32 = 1;

/// The first task of a gang that failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Failed {
    pub(super) status: i32,
    /// `rank 3 on gpu02 failed first, with exit status 1`.
    pub(super) words: String,
}

impl Failed {
    /// What the last word of a task says of it.
    fn of(report: &Report, rank: u32, node: &str) -> Option<Self> {
        let (status, how) = match report {
            Report::Started(_) | Report::Stdout(_) | Report::Stderr(_) | Report::ExitStatus(0) => {
                return None;
            }
            Report::ExitStatus(status) => (*status, format!("with exit status {status}")),
            // It goes on, and who wants it comes back to it.
            Report::Failed(failure) if is_passing(failure) => return None,
            Report::Failed(_) => (LOST, "without a word of how".to_owned()),
        };
        let words = format!("rank {rank} on {node} failed first, {how}");
        Some(Self { status, words })
    }
}

/// What is watched of a task.
pub(super) struct Member {
    pub(super) rank: u32,
    pub(super) node: String,
}

impl Supervisor {
    /// Passes on what a task of a gang says, and takes down how it failed when no other did before.
    pub(super) fn watch_gang(
        &self,
        live: Arc<LiveAttempt>,
        member: Member,
        mut said: mpsc::Receiver<Report>,
    ) -> mpsc::Receiver<Report> {
        let (words, heard) = mpsc::channel(REPORTS_MAX);
        let supervisor = self.clone();
        tokio::spawn(async move {
            loop {
                let report = tokio::select! {
                    report = said.recv() => report,
                    // Nobody waits for it any more: it ends, and has not failed.
                    () = words.closed() => return,
                };
                let Some(report) = report else { return };
                if let Some(failed) = Failed::of(&report, member.rank, &member.node) {
                    supervisor.gang_failed(&live, failed).await;
                }
                if words.send(report).await.is_err() {
                    return;
                }
            }
        });
        heard
    }

    async fn gang_failed(&self, live: &LiveAttempt, failed: Failed) {
        if !live.note_failed(failed.clone()) || !live.entry.spec.gang_ends {
            return;
        }
        let attempt = live.entry.attempt();
        let Failed { status, words } = failed;
        tracing::info!(%attempt, words, "the gang has failed");
        self.order(Order::Fail {
            attempt,
            status,
            words,
        })
        .await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_rank_is_named_with_its_node() {
        let check = |report: Report, expected: Option<(i32, &str)>| {
            let failed = Failed::of(&report, 3, "gpu02");
            let failed = failed.map(|failed| (failed.status, failed.words));
            assert_eq!(failed.as_ref().map(|it| (it.0, it.1.as_str())), expected);
        };
        check(Report::ExitStatus(0), None);
        check(Report::Stderr(b"oops".to_vec()), None);
        let words = "rank 3 on gpu02 failed first, with exit status 137";
        check(Report::ExitStatus(137), Some((137, words)));
        let words = "rank 3 on gpu02 failed first, without a word of how";
        check(Report::Failed(Default::default()), Some((1, words)));
    }
}
