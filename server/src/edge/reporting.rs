//! `get_report`: what was used in a month. The sums are made of the accounting log, one month at a time and not again for a
//! while, so that nobody keeps the disk busy by asking.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use capstan_proto::{Refusal, wire};
use capstan_types::Pbse;
use tokio::sync::Mutex;
use tokio::time::Instant;
use tonic::Status;

use super::refusal::edge_status;
use crate::clock::wall;
use crate::records::{Month, month};
use crate::view::selection::Viewer;
use crate::view::words::local;

/// Sums are good for so long.
const GOOD_FOR: Duration = Duration::from_secs(60);
/// Months that are remembered.
const MONTHS_MAX: usize = 24;

/// The months that were summed up lately.
#[derive(Debug)]
pub(super) struct Reports {
    state_folder: PathBuf,
    known: Mutex<BTreeMap<String, (Instant, Arc<Month>)>>,
}

impl Reports {
    pub(super) fn of(state_folder: PathBuf) -> Self {
        Self {
            state_folder,
            known: Mutex::default(),
        }
    }

    /// What the viewer may see of a month, or of this one.
    pub(super) async fn report(
        &self,
        request: wire::StatUseRequest,
        viewer: Viewer<'_>,
        sees_all: bool,
    ) -> Result<wire::StatUseReply, Status> {
        let wire::StatUseRequest { month, user } = request;
        let month = match month.as_str() {
            "" => local(wall()).strftime("%Y%m").to_string(),
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
        let rows = sums.used.iter().filter(|((_, name), _)| is_seen(name));
        let rows = rows.map(|((group, user), used)| wire::UseRow {
            group: group.to_string(),
            user: user.to_string(),
            jobs: used.jobs,
            failed: used.failed,
            wall_secs: used.wall_secs,
            core_secs: used.core_secs,
            card_secs: used.card_secs,
        });
        Ok(wire::StatUseReply {
            rows: rows.collect(),
            month,
            is_cut: sums.is_cut,
        })
    }

    /// One caller reads at a time; the others then find what was read.
    async fn sums(&self, wanted: &str) -> Result<Arc<Month>, Status> {
        let mut known = self.known.lock().await;
        if let Some((at, sums)) = known.get(wanted)
            && at.elapsed() < GOOD_FOR
        {
            return Ok(sums.clone());
        }
        let (folder, name) = (self.state_folder.clone(), wanted.to_owned());
        let read = tokio::task::spawn_blocking(move || month(&folder, &name)).await;
        let problem = |problem: String| {
            let detail = format!("the accounting log cannot be read: {problem}");
            edge_status(Refusal::new(Pbse::System, detail))
        };
        let sums = match read {
            Ok(Ok(sums)) => Arc::new(sums),
            Ok(Err(error)) => return Err(problem(error.to_string())),
            Err(error) => return Err(problem(error.to_string())),
        };
        if known.len() >= MONTHS_MAX {
            known.clear();
        }
        known.insert(wanted.to_owned(), (Instant::now(), sums.clone()));
        Ok(sums)
    }
}
