//! What cards say unasked, passed on to those whom it concerns: the warden, who takes failed cards out of use, and the jobs
//! that were on them. The server hears of it with the next heartbeat, which is made at once.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::SystemTime;

use capstan_proto::wire::WriteMessage;
use capstan_supervisor::attempts::Supervisor;
use capstan_supervisor::cards::classify;
use capstan_supervisor::ports::{GpuEvent, Gpus};
use capstan_types::{AttemptId, CardId};
use tokio::sync::mpsc;

use crate::diagnosis::Diagnosis;

/// Events that may wait; a card that says more at once has said enough.
const EVENTS_MAX: usize = 256;
/// So many lines about errors are written into one job's output.
const LINES_MAX: u32 = 8;
/// Attempts whose lines are counted.
const COUNTED_MAX: usize = 1024;

/// Hears events for as long as the agent lives.
pub(crate) async fn watch<G: Gpus>(
    gpus: Arc<G>,
    supervisor: Supervisor,
    diagnosis: Arc<Diagnosis>,
) {
    let (tell, mut told) = mpsc::channel(EVENTS_MAX);
    gpus.listen(Box::new(move |event| match tell.try_send(event) {
        Ok(()) | Err(mpsc::error::TrySendError::Full(_)) => true,
        Err(mpsc::error::TrySendError::Closed(_)) => false,
    }));
    let mut lines: BTreeMap<AttemptId, u32> = BTreeMap::new();
    while let Some(event) = told.recv().await {
        let Some((card, text)) = take_in(&supervisor, event).await else {
            continue;
        };
        diagnosis.beat.notify_one();
        for attempt in supervisor.tenants(card.as_str()) {
            if lines.len() >= COUNTED_MAX {
                lines.clear();
            }
            let count = lines.entry(attempt).or_default();
            *count += 1;
            if *count <= LINES_MAX {
                tell_job(&supervisor, attempt, &text).await;
            }
        }
    }
}

/// Tells the warden; returns the card and what its jobs are to be told.
async fn take_in(supervisor: &Supervisor, event: GpuEvent) -> Option<(CardId, String)> {
    let warden = supervisor.warden().clone();
    let taking = tokio::task::spawn_blocking(move || match event {
        GpuEvent::Xid {
            card: Some(card),
            xid,
        } => {
            let meaning = classify(xid).1;
            let text = match warden.hear_xid(&card, xid, now_ms()) {
                true => format!("XID {xid} ({meaning}): the card is taken out of use"),
                false => format!("XID {xid} ({meaning})"),
            };
            Some((card, text))
        }
        GpuEvent::Uncorrected { card: Some(card) } => {
            warden.hear_uncorrected(&card, now_ms());
            let text = "an uncorrectable memory error: the card is taken out of use";
            Some((card, text.to_owned()))
        }
        GpuEvent::Xid { card: None, xid } => {
            tracing::error!(
                xid,
                meaning = classify(xid).1,
                "error on a card that is not named"
            );
            None
        }
        GpuEvent::Uncorrected { card: None } => {
            tracing::error!("uncorrectable memory error on a card that is not named");
            None
        }
    });
    let (card, text) = taking.await.ok()??;
    Some((card.clone(), format!("capstan: card {card}: {text}")))
}

async fn tell_job(supervisor: &Supervisor, attempt: AttemptId, text: &str) {
    let message = WriteMessage {
        attempt: attempt.0,
        text: text.to_owned(),
        to_stdout: false,
        to_stderr: true,
    };
    if let Err(problem) = supervisor.write_message(message).await {
        tracing::debug!(%attempt, %problem, "the job is not told");
    }
}

/// Milliseconds since 1970.
pub(crate) fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since.map_or(0, |since| since.as_millis() as u64)
}
