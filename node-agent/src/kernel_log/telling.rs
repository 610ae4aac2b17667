//! Who is told of what the kernel complains of: administrators by the node's message, jobs by lines in their output; and what
//! keeps work from the node.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use capstan_proto::wire::WriteMessage;
use capstan_supervisor::attempts::{Supervisor, Witness};
use tokio::sync::mpsc;

use super::line::Kind;
use super::{KERNEL, KernelLog, OnKernelErrors, Record, who};
use crate::notes::Notes;

/// How long a complaint stands in the node's message.
const NOTE_TIME: Duration = Duration::from_secs(3600);
/// So many lines are written into one job's output, and for so many attempts that is counted.
const LINES_MAX: u32 = 8;
const COUNTED_MAX: usize = 1024;

/// What telling people takes.
pub(super) struct People {
    pub(super) log: Arc<KernelLog>,
    pub(super) notes: Arc<Notes>,
    pub(super) on_errors: OnKernelErrors,
}

/// The administrator by the node's message and the agent's log, jobs by a line in their output.
pub(super) async fn tell_people(
    mut told: mpsc::Receiver<Record>,
    supervisor: Supervisor,
    people: People,
    beat: impl Fn(),
) {
    let People {
        log,
        notes,
        on_errors,
    } = people;
    let mut counts: BTreeMap<u64, u32> = BTreeMap::new();
    while let Some(record) = told.recv().await {
        let Record {
            line,
            at_ms,
            witnesses,
            is_named,
        } = &record;
        let is_of_node = match line.kind {
            Kind::Kernel | Kind::FileServer | Kind::Disk | Kind::Hardware => true,
            // Told of by NVML, by the job's shim, or nobody's affair but the program's.
            Kind::Card | Kind::Memory | Kind::Program | Kind::Other => false,
        };
        if !is_of_node {
            continue;
        }
        let all: Vec<&Witness> = witnesses.iter().collect();
        let text = format!("{}{}", line.text, who(&all, 0, *is_named));
        let age = Duration::from_millis(crate::events::now_ms().saturating_sub(*at_ms));
        let Some(left) = NOTE_TIME.checked_sub(age) else {
            continue;
        };
        tracing::warn!(text, "the kernel complains");
        let is_grave = line.kind == Kind::Kernel && !log.is_forgiven(line.at_us);
        match is_grave && on_errors == OnKernelErrors::Drain {
            true => notes.complain(KERNEL, &text, Some(left)),
            false => notes.put(KERNEL, &text, Some(left)),
        }
        beat();
        // What an agent before has told of it read from the same log.
        if !is_named || line.kind != Kind::Kernel || log.is_told(line.at_us) {
            continue;
        }
        for witness in witnesses {
            if counts.len() >= COUNTED_MAX {
                counts.clear();
            }
            let count = counts.entry(witness.attempt).or_default();
            *count += 1;
            if *count <= LINES_MAX {
                tell_job(&supervisor, witness, &line.text).await;
            }
        }
        if !witnesses.is_empty() {
            let (log, at_us) = (log.clone(), line.at_us);
            let written = tokio::task::spawn_blocking(move || {
                if let Some(mark) = &log.mark {
                    mark.tell(at_us);
                }
            });
            // Its panic is told by its own hook; the agent ends otherwise.
            drop(written.await);
        }
    }
}

async fn tell_job(supervisor: &Supervisor, witness: &Witness, text: &str) {
    let message = WriteMessage {
        attempt: witness.attempt,
        text: format!("capstan: the kernel complains of this job: {text}"),
        to_stdout: false,
        to_stderr: true,
    };
    if let Err(problem) = supervisor.write_message(message).await {
        tracing::debug!(attempt = witness.attempt, %problem, "the job is not told");
    }
}
