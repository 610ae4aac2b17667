//! What is asked of a node while its jobs run: signals, messages, output so far, diagnosis, card modes. Who may ask and
//! where the attempt is, the core says; the agent does it and answers.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use capstan_core::query::{self, Asker, Reached, Unreached};
use capstan_core::{Caller, Event, NodeOrder, SuspendOrder};
use capstan_proto::wire::ask_node_request::Question as NodeQuestion;
use capstan_proto::wire::question::Question;
use capstan_proto::wire::signal_attempt::Pause;
use capstan_proto::{Refusal, wire};
use capstan_types::{NodeName, Pbse};
use futures_util::stream;
use tokio_stream::Stream;
use tonic::{Response, Status};

use super::identity::Person;
use super::refusal::edge_status;
use super::signals::{self, Wanted};
use super::{Door, is_operator};
use crate::link::line::{ANSWER_WITHIN, Answers, Unanswered};
use crate::snapshot::Snapshot;
use crate::view::selection;

/// Longest message of `qmsg`, bytes; Torque's client cuts at 256.
const TEXT_BYTES_MAX: usize = 4096;
/// Longest report of a node, bytes.
const REPORT_BYTES_MAX: usize = 1 << 20;
/// Longest name of an attribute or a card, bytes.
const NAME_BYTES_MAX: usize = 256;
/// Outputs of jobs that one user may be reading at once.
const READS_PER_USER_MAX: usize = 16;

/// Who reads how many outputs.
#[derive(Clone, Debug, Default)]
pub(crate) struct Readers(Arc<Mutex<BTreeMap<u32, usize>>>);

/// The place of one reader; given back when it is dropped.
struct Reader {
    readers: Readers,
    uid: u32,
}

impl Readers {
    fn counts(&self) -> MutexGuard<'_, BTreeMap<u32, usize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn admit(&self, uid: u32) -> Option<Reader> {
        let mut counts = self.counts();
        let own = counts.entry(uid).or_default();
        if *own >= READS_PER_USER_MAX {
            return None;
        }
        *own += 1;
        let readers = self.clone();
        Some(Reader { readers, uid })
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        let mut counts = self.readers.counts();
        let left = counts.get(&self.uid).map_or(0, |own| own.saturating_sub(1));
        match left {
            0 => counts.remove(&self.uid),
            left => counts.insert(self.uid, left),
        };
    }
}

fn refused(problem: Unanswered) -> Status {
    edge_status(problem.into_refusal())
}

/// The attempts that `typed` names, if `person` may reach them.
fn reach(snapshot: &Snapshot, person: &Person, typed: &str) -> Result<Vec<Reached>, Status> {
    let unknown = || Refusal::new(Pbse::Unkjobid, "cannot locate job");
    let id = selection::job_id(snapshot, typed).map_err(|refusal| {
        let is_elsewhere = refusal.error == Pbse::Unkjobid;
        edge_status(if is_elsewhere { unknown() } else { refusal })
    })?;
    let asker = Asker {
        user: &person.user,
        is_operator: is_operator(snapshot, person),
    };
    query::reach(&snapshot.state, id, asker).map_err(|unreached| {
        let state = |name| Refusal::new(Pbse::Badstate, format!("invalid state for job - {name}"));
        edge_status(match unreached {
            Unreached::Unknown => unknown(),
            Unreached::NotOwner => Refusal::new(Pbse::Perm, "operation not permitted"),
            Unreached::Exiting => state("EXITING"),
            Unreached::Ended => state("COMPLETE"),
            Unreached::NotRunning => Refusal::new(Pbse::Badstate, ""),
        })
    })
}

/// The one attempt that `typed` names; of an array, its first member that runs.
fn reach_one(snapshot: &Snapshot, person: &Person, typed: &str) -> Result<Reached, Status> {
    let reached = reach(snapshot, person, typed)?.into_iter().next();
    reached.ok_or_else(|| edge_status(Refusal::new(Pbse::Badstate, "")))
}

/// `qsig`.
pub(super) async fn signal_job(
    door: &Arc<Door>,
    person: &Arc<Person>,
    request: wire::SignalJobRequest,
) -> Result<Response<wire::Done>, Status> {
    let wire::SignalJobRequest {
        job_id,
        signal,
        asynchronous,
    } = request;
    let snapshot = door.latest.get();
    let reached = reach(&snapshot, person, &job_id)?;
    let wanted = signals::parse(&signal);
    let wanted = wanted.ok_or_else(|| edge_status(Refusal::new(Pbse::Unksig, "")))?;
    let is_for_operators = matches!(wanted, Wanted::Suspend | Wanted::Resume);
    if is_for_operators && !is_operator(&snapshot, person) {
        return Err(edge_status(Refusal::new(Pbse::Perm, "")));
    }
    drop(snapshot);
    let (door, person) = (door.clone(), person.clone());
    let sending = async move { signal_all(&door, &person, reached, wanted).await };
    if asynchronous {
        // As in Torque, what comes of it is not told.
        tokio::spawn(async move {
            if let Err(status) = sending.await {
                tracing::info!(reason = status.message(), "a signal did not arrive");
            }
        });
    } else {
        sending.await?;
    }
    Ok(Response::new(wire::Done {}))
}

/// Signals every attempt, and tells the last refusal.
async fn signal_all(
    door: &Door,
    person: &Person,
    reached: Vec<Reached>,
    wanted: Wanted,
) -> Result<(), Status> {
    let mut outcome = Ok(());
    for reached in reached {
        let signalled = signal_one(door, person, &reached, wanted).await;
        outcome = signalled.and(outcome);
    }
    outcome
}

async fn signal_one(
    door: &Door,
    person: &Person,
    reached: &Reached,
    wanted: Wanted,
) -> Result<(), Status> {
    let (signal, pause) = match wanted {
        Wanted::Signal(signal) => (signal, Pause::None),
        Wanted::Suspend => (0, Pause::Suspend),
        Wanted::Resume => (0, Pause::Resume),
    };
    let question = Question::Signal(wire::SignalAttempt {
        attempt: reached.attempt.0,
        signal,
        pause: pause.into(),
    });
    tracing::info!(job = %reached.job.id, attempt = %reached.attempt, ?wanted, user = &*person.user, "signalling a job");
    done(door, &reached.node, question).await?;
    let is_suspended = match wanted {
        Wanted::Signal(_) => return Ok(()),
        Wanted::Suspend => true,
        Wanted::Resume => false,
    };
    let by = person.as_caller();
    let order = SuspendOrder {
        job: reached.job.id,
        is_suspended,
        by: by.clone(),
    };
    door.decide(Event::Suspend(order), &by).await.map(drop)
}

/// Has the agent do something that has no answer but that it is done.
async fn done(door: &Door, node: &NodeName, question: Question) -> Result<(), Status> {
    let answers = door.lines.ask(node, question).map_err(refused)?;
    answers.all(0).await.map(drop).map_err(refused)
}

/// `qmsg`.
pub(super) async fn message_job(
    door: &Arc<Door>,
    person: &Arc<Person>,
    request: wire::MessageJobRequest,
) -> Result<Response<wire::Done>, Status> {
    let wire::MessageJobRequest {
        job_id,
        text,
        to_stdout,
        to_stderr,
    } = request;
    let reached = reach(&door.latest.get(), person, &job_id)?;
    if text.len() > TEXT_BYTES_MAX {
        let detail = format!("the message is over {TEXT_BYTES_MAX} bytes");
        return Err(edge_status(Refusal::new(Pbse::Ivalreq, detail)));
    }
    let text = printable(&text);
    for reached in reached {
        let question = Question::WriteMessage(wire::WriteMessage {
            attempt: reached.attempt.0,
            text: text.clone(),
            to_stdout,
            to_stderr: to_stderr || !to_stdout,
        });
        done(door, &reached.node, question).await?;
    }
    Ok(Response::new(wire::Done {}))
}

/// Without what a terminal would obey when the job's owner looks at the file.
fn printable(text: &str) -> String {
    let is_harmless = |letter: char| !letter.is_control() || letter == '\n' || letter == '\t';
    let letters = text.trim_end_matches('\n').chars();
    letters
        .map(|letter| if is_harmless(letter) { letter } else { ' ' })
        .collect()
}

/// A place among those who read, if the person has not enough of them.
fn admit(door: &Door, person: &Person) -> Result<Reader, Status> {
    door.readers.admit(person.uid).ok_or_else(|| {
        let detail = format!("you are reading {READS_PER_USER_MAX} outputs and logs already");
        edge_status(Refusal::new(Pbse::ServerBusy, detail))
    })
}

/// What a job has written, as it comes.
pub(crate) type OutputStream =
    Pin<Box<dyn Stream<Item = Result<wire::PeekJobReply, Status>> + Send + 'static>>;

/// `qpeek`.
pub(super) async fn peek_job(
    door: &Arc<Door>,
    person: &Arc<Person>,
    request: wire::PeekJobRequest,
) -> Result<OutputStream, Status> {
    let file = request.file();
    let wire::PeekJobRequest {
        job_id,
        file: _,
        last_lines,
        follow,
        first_lines,
    } = request;
    let reached = reach_one(&door.latest.get(), person, &job_id)?;
    let reader = admit(door, person)?;
    let question = Question::ReadOutput(wire::ReadOutput {
        attempt: reached.attempt.0,
        stderr: matches!(file, wire::peek_job_request::File::Stderr),
        last_lines,
        follow,
        first_lines,
    });
    let mut answers = door.lines.ask(&reached.node, question).map_err(refused)?;
    // The first word decides whether it is refused; a job that is followed may be silent for long.
    let within = (!follow).then_some(ANSWER_WITHIN);
    let mut first = None;
    let mut rest = None;
    if !follow {
        first = answers.next(within).await.map_err(refused)?;
    }
    if follow || first.is_some() {
        rest = Some((answers, reader));
    }
    Ok(Box::pin(chunks(first, rest, within)))
}

/// `first`, then what `answers` gives.
fn chunks(
    first: Option<Vec<u8>>,
    answers: Option<(Answers, Reader)>,
    within: Option<std::time::Duration>,
) -> impl Stream<Item = Result<wire::PeekJobReply, Status>> + Send + 'static {
    stream::unfold((first, answers), move |(first, answers)| async move {
        if let Some(data) = first {
            return Some((Ok(wire::PeekJobReply { data }), (None, answers)));
        }
        let (mut answers, reader) = answers?;
        match answers.next(within).await {
            Ok(Some(data)) => {
                let rest = Some((answers, reader));
                Some((Ok(wire::PeekJobReply { data }), (None, rest)))
            }
            Ok(None) => None,
            Err(problem) => Some((Err(refused(problem)), (None, None))),
        }
    })
}

/// `pbsnodes -o`, `-c`, `-r`, `-N`.
pub(super) async fn alter_node(
    door: &Arc<Door>,
    order: NodeOrder,
    by: &Caller,
) -> Result<Response<wire::Done>, Status> {
    let (node, is_cleared) = (order.node.clone(), order.offline == Some(false));
    let done = door.order(Event::AlterNode(order), by).await?;
    if is_cleared {
        release_cards(door, &node);
    }
    Ok(done)
}

/// `pbsnodes -c` and `-r`: cards that the node took out of use are in use again, as far as its agent then finds nothing
/// wrong with them, and what its kernel complained of keeps it out of use no longer. Nobody waits for it: the listing shows
/// what came of it.
fn release_cards(door: &Arc<Door>, node: &NodeName) {
    let snapshot = door.latest.get();
    let node_now = snapshot.state.node(node);
    if node_now.is_none_or(|it| it.unclean.is_empty() && it.inventory.health_problem.is_empty()) {
        return;
    }
    let (door, node) = (door.clone(), node.clone());
    tokio::spawn(async move {
        let asked = door.lines.ask(&node, Question::ReleaseCards(wire::Done {}));
        let answered = match asked {
            Ok(answers) => answers.all(REPORT_BYTES_MAX).await.map(|_| ()),
            Err(problem) => Err(problem),
        };
        if let Err(problem) = answered {
            tracing::warn!(%node, ?problem, "its cards are not released");
        }
    });
}

/// `momctl`, `qgpumode`, `qgpureset`.
pub(super) async fn ask_node(
    door: &Arc<Door>,
    person: &Arc<Person>,
    request: wire::AskNodeRequest,
) -> Result<wire::AskNodeReply, Status> {
    let wire::AskNodeRequest { node, question } = request;
    let snapshot = door.latest.get();
    let is_operator = is_operator(&snapshot, person);
    let mut reader = None;
    let question = match question {
        // Everybody, of what concerns everybody and their own jobs.
        Some(NodeQuestion::ReadKernelLog(wish)) => {
            reader = Some(admit(door, person)?);
            Some(NodeQuestion::ReadKernelLog(wire::ReadKernelLog {
                secs: wish.secs,
                user: person.user.to_string(),
                all: is_operator,
            }))
        }
        _ if !is_operator => return Err(edge_status(Refusal::new(Pbse::Perm, ""))),
        question => question,
    };
    let question = question.ok_or_else(|| edge_status(Refusal::new(Pbse::Unkreq, "")))?;
    let name = NodeName::from(node);
    let question = node_question(&snapshot, &name, question).map_err(edge_status)?;
    match reader {
        // Anybody may, as often as he likes.
        Some(_) => tracing::debug!(node = %name, ?question, user = &*person.user, "asking a node"),
        None => tracing::info!(node = %name, ?question, user = &*person.user, "asking a node"),
    }
    drop(snapshot);
    let answers = door.lines.ask(&name, question).map_err(refused)?;
    let text = answers.all(REPORT_BYTES_MAX).await.map_err(refused)?;
    drop(reader);
    Ok(wire::AskNodeReply {
        text: String::from_utf8_lossy(&text).into_owned(),
    })
}

/// The question as the agent gets it, if the node and the card are there. Refusals in Torque's order.
fn node_question(
    snapshot: &Snapshot,
    name: &NodeName,
    question: NodeQuestion,
) -> Result<Question, Refusal> {
    let node = snapshot.state.node(name);
    let node = node.ok_or_else(|| Refusal::new(Pbse::Unknode, ""))?;
    let not_done = |detail: String| Err(Refusal::new(Pbse::Unkreq, detail));
    let typed = match &question {
        NodeQuestion::Diagnose(diagnose) => {
            if diagnose.attribute.len() > NAME_BYTES_MAX {
                return not_done(format!(
                    "an attribute's name is over {NAME_BYTES_MAX} bytes"
                ));
            }
            return Ok(Question::Diagnose(diagnose.clone()));
        }
        NodeQuestion::ReadKernelLog(wish) => return Ok(Question::ReadKernelLog(wish.clone())),
        NodeQuestion::SetCardMode(set) => set.card.clone(),
        NodeQuestion::ResetCardErrors(reset) => reset.card.clone(),
    };
    if !node.is_up() || node.is_offline {
        return not_done(format!("Node {name} is not available"));
    }
    if node.inventory.simulated || node.inventory.cards.is_empty() {
        return not_done("Not allowed for virtual gpus".to_owned());
    }
    let card = node.inventory.cards.iter().find(|card| {
        card.uuid.to_string() == typed
            || card.index.to_string() == typed
            || card.pci_address.eq_ignore_ascii_case(&typed)
    });
    let Some(card) = card else {
        return not_done("GPU ID does not exist on node".to_owned());
    };
    let card = card.uuid.to_string();
    match question {
        NodeQuestion::SetCardMode(set) if set.mode > 3 => {
            not_done("No action specified".to_owned())
        }
        NodeQuestion::SetCardMode(set) => {
            Ok(Question::SetCardMode(wire::SetCardMode { card, ..set }))
        }
        NodeQuestion::ResetCardErrors(reset) if !reset.permanent && !reset.volatile => {
            not_done("No action specified".to_owned())
        }
        NodeQuestion::ResetCardErrors(reset) => {
            Ok(Question::ResetCardErrors(wire::ResetCardErrors {
                card,
                ..reset
            }))
        }
        NodeQuestion::Diagnose(diagnose) => Ok(Question::Diagnose(diagnose)),
        NodeQuestion::ReadKernelLog(wish) => Ok(Question::ReadKernelLog(wish)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_user_reads_a_bounded_number_of_outputs() {
        let readers = Readers::default();
        let mut own: Vec<Reader> = (0..99).filter_map(|_| readers.admit(7)).collect();
        assert_eq!(own.len(), READS_PER_USER_MAX);
        assert!(readers.admit(8).is_some());
        own.pop();
        assert!(readers.admit(7).is_some());
        drop(own);
        assert!(readers.counts().is_empty());
    }

    #[test]
    fn a_message_has_nothing_that_a_terminal_obeys() {
        assert_eq!(printable("a\x1b[2Jb\tc\nd\n\n"), "a [2Jb\tc\nd");
    }
}
