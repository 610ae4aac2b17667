//! `get_report`: what was used in a month, also by jobs that still run. The sums of those that ended are made of the
//! accounting log, one month at a time and not again for a while, so that nobody keeps the disk busy by asking.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use capstan_core::{NodeShare, State};
use capstan_proto::{Refusal, wire};
use capstan_types::{Pbse, Timestamp};
use tokio::sync::Mutex;
use tokio::time::Instant;
use tonic::Status;

use super::refusal::edge_status;
use crate::clock::wall;
use crate::records::{Month, Used, Who, month};
use crate::view::selection::Viewer;
use crate::view::words::local;

/// Sums are good for so long.
const GOOD_FOR: Duration = Duration::from_secs(60);
/// Months that are remembered.
const MONTHS_MAX: usize = 24;

/// What jobs that run have used so far, by group and user: the time since their start, by what they hold.
pub(super) fn running(state: &State, now: Timestamp) -> BTreeMap<Who, Used> {
    let mut sums: BTreeMap<Who, Used> = BTreeMap::new();
    for (_, job) in state.running() {
        let (Some(run), owner) = (job.state.run(), &job.spec.owner) else {
            continue;
        };
        let Some((began, _)) = run.started else {
            continue;
        };
        let secs = now.secs_since(began);
        let count = |of: fn(&NodeShare) -> usize| run.shares.iter().map(of).sum::<usize>() as u64;
        let used = Used {
            running: 1,
            wall_secs: secs,
            core_secs: secs.saturating_mul(count(|share| share.slots.len())),
            card_secs: secs.saturating_mul(count(|share| share.cards.len())),
            ..Used::default()
        };
        let who = (owner.group.clone(), owner.user.clone());
        sums.entry(who).or_default().add(&used);
    }
    sums
}

/// The months that were summed up lately.
#[derive(Debug)]
pub(super) struct Reports {
    state_folder: PathBuf,
    known: Arc<Mutex<Known>>,
}

/// When each was summed up.
type Known = BTreeMap<String, (Instant, Arc<Month>)>;

impl Reports {
    pub(super) fn of(state_folder: PathBuf) -> Self {
        Self {
            state_folder,
            known: Arc::default(),
        }
    }

    /// What the viewer, who sees everybody or not, may see of a month, or of this one, to which what runs belongs.
    pub(super) async fn report(
        &self,
        request: wire::StatUseRequest,
        (viewer, sees_all): (Viewer<'_>, bool),
        running: BTreeMap<Who, Used>,
    ) -> Result<wire::StatUseReply, Status> {
        let wire::StatUseRequest { month, user } = request;
        let present = local(wall()).strftime("%Y%m").to_string();
        let month = match month.as_str() {
            "" => present.clone(),
            _ => month,
        };
        if month.len() != 6 || !month.bytes().all(|byte| byte.is_ascii_digit()) {
            let detail = format!("`{month}` is no month: write YYYYMM, such as 202611");
            return Err(edge_status(Refusal::new(Pbse::Ivalreq, detail)));
        }
        let sums = self.sums(&month).await?;
        let is_seen = |name: &str| {
            (sees_all || viewer.sees_all || name == viewer.user)
                && (user.is_empty() || name == user)
        };
        let mut used = sums.used.clone();
        if month == present {
            for (who, more) in running {
                used.entry(who).or_default().add(&more);
            }
        }
        let rows = used.iter().filter(|((_, name), _)| is_seen(name));
        let rows = rows.map(|((group, user), used)| wire::UseRow {
            group: group.to_string(),
            user: user.to_string(),
            jobs: used.jobs,
            failed: used.failed,
            wall_secs: used.wall_secs,
            core_secs: used.core_secs,
            card_secs: used.card_secs,
            running: used.running,
        });
        Ok(wire::StatUseReply {
            rows: rows.collect(),
            month,
            is_cut: sums.is_cut,
        })
    }

    /// One caller reads at a time; the others then find what was read.
    async fn sums(&self, wanted: &str) -> Result<Arc<Month>, Status> {
        let mut known = self.known.clone().lock_owned().await;
        if let Some((at, sums)) = known.get(wanted)
            && at.elapsed() < GOOD_FOR
        {
            return Ok(sums.clone());
        }
        let (folder, name) = (self.state_folder.clone(), wanted.to_owned());
        // The turn belongs to the reading: who hangs up does not give it back sooner, and what was read is remembered.
        let read = tokio::task::spawn_blocking(move || {
            let sums = Arc::new(month(&folder, &name)?);
            if known.len() >= MONTHS_MAX {
                known.clear();
            }
            known.insert(name, (Instant::now(), sums.clone()));
            Ok::<_, std::io::Error>(sums)
        });
        let problem = |problem: String| {
            let detail = format!("the accounting log cannot be read: {problem}");
            edge_status(Refusal::new(Pbse::System, detail))
        };
        match read.await {
            Ok(read) => read.map_err(|error| problem(error.to_string())),
            Err(error) => Err(problem(error.to_string())),
        }
    }
}
