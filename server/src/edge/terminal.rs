//! Terminals of jobs: who may be connected with which, until when one waits for a job that has not started, and what is
//! said about the end. The words themselves are passed on as they are.

mod seats;

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use capstan_core::query::{self, Reached, Unreached};
use capstan_core::{JobState, Payload};
use capstan_proto::wire::{
    self, open_terminal::Wish, terminal_input::Input, terminal_output::Output,
};
use capstan_proto::{Refusal, wire::TerminalOutput};
use capstan_types::{AttemptId, JobId, NodeName, Pbse};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout};
use tokio_stream::Stream;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};
use tracing::Instrument;

use self::seats::PER_USER_MAX;
pub(super) use self::seats::Seats;
use super::Door;
use super::identity::Person;
use super::refusal::edge_status;
use crate::clock;
use crate::engine::payload_id;
use crate::link::launch;
use crate::link::sessions::{Misspoken, Session};
use crate::snapshot::Snapshot;
use crate::view::attributes::expected_start;
use crate::view::{Scene, selection};

/// How long the first word may take.
const FIRST_WORD_WITHIN: Duration = Duration::from_secs(10);
/// Longest command line, bytes and words.
const COMMAND_BYTES_MAX: usize = 128 << 10;
const WORDS_MAX: usize = 4096;
/// Longest name of a kind of terminal.
const TERM_BYTES_MAX: usize = 64;
/// Most rows and columns of a terminal.
const SIZE_MAX: u32 = 4096;
/// Between looks whether a job has started, or has ended.
const PAUSE: Duration = Duration::from_millis(100);
/// How long the end of a session waits for the end of its job, so that whoever looks next sees it ended.
const END_WITHIN: Duration = Duration::from_secs(10);
/// How long a client may take to say that it knows how its program ended.
const FAREWELL: Duration = Duration::from_secs(5);
/// Between looks whether the job of a program has ended.
const JOB_PAUSE: Duration = Duration::from_secs(1);
/// How long a program may take to end with its job, before its client hears no more of it.
const LAST_WORDS: Duration = Duration::from_secs(10);
/// Digits of the key of a program.
const KEY_DIGITS: usize = 32;
/// As many words as a session has on its way; none of them waits.
const WORDS_ON_THE_WAY: usize = 64;

/// What a terminal shows.
pub(crate) type TerminalStream =
    Pin<Box<dyn Stream<Item = Result<TerminalOutput, Status>> + Send + 'static>>;

/// `qsub -I`, `qattach`, `qexec`.
pub(super) async fn open(
    door: &Arc<Door>,
    person: Arc<Person>,
    mut inbound: Streaming<wire::TerminalInput>,
) -> Result<TerminalStream, Status> {
    let refuse = |error, detail: &str| edge_status(Refusal::new(error, detail));
    let first = timeout(FIRST_WORD_WITHIN, inbound.message()).await;
    let first = first.map_err(|_| Status::deadline_exceeded("no first word came"))??;
    let Some(Input::Open(open)) = first.and_then(|first| first.input) else {
        return Err(Status::invalid_argument("the first word opens a terminal"));
    };
    let wanted = Wanted::of(open).map_err(edge_status)?;
    let seat = door.seats.admit(person.uid).ok_or_else(|| {
        let detail = format!("you have {PER_USER_MAX} terminals already: close one");
        refuse(Pbse::ServerBusy, &detail)
    })?;
    let job = selection::job_id(&door.latest.get(), &wanted.open.job_id).map_err(edge_status)?;
    let user = person.user.clone();
    let visit = Visit {
        door: door.clone(),
        person,
        job,
    };
    // What is wrong is said at once, where there is nothing to wait for.
    let reached = visit.reach(&wanted)?;
    let (out, outbound) = mpsc::channel(WORDS_ON_THE_WAY);
    let span = tracing::info_span!("rpc", call = "terminal", %job, user = &*user);
    let sitting = async move {
        let ended = visit.sit(wanted, reached, &mut inbound, &out).await;
        if let Err(status) = ended {
            tracing::debug!(reason = status.message(), "a terminal was closed");
            drop(out.try_send(Err(status)));
        }
        drop(seat);
    };
    // Ends with the client, with the session, or with the connection to the node.
    tokio::spawn(sitting.instrument(span));
    Ok(Box::pin(ReceiverStream::new(outbound)))
}

/// What is wanted, made sane.
struct Wanted {
    open: wire::OpenTerminal,
    /// The node of a program; none for the first one, and for sessions.
    node: Option<NodeName>,
    is_session: bool,
    waits: bool,
}

impl Wanted {
    fn of(mut open: wire::OpenTerminal) -> Result<Self, Refusal> {
        let refuse = |detail: String| Refusal::new(Pbse::Ivalreq, detail);
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._+".contains(&byte);
        if open.term.len() > TERM_BYTES_MAX || !open.term.bytes().all(is_plain) {
            // A terminal of no known kind; programs take it for a dumb one.
            open.term.clear();
        }
        if let Some(window) = &mut open.window {
            window.rows = window.rows.clamp(1, SIZE_MAX);
            window.columns = window.columns.clamp(1, SIZE_MAX);
        }
        let (node, is_session, waits) = match &open.wish {
            Some(Wish::Attach(attach)) => {
                check_key(&attach.key)?;
                (None, true, attach.wait)
            }
            Some(Wish::Execute(execute)) => {
                let bytes: usize = execute.arguments.iter().map(String::len).sum();
                if bytes > COMMAND_BYTES_MAX || execute.arguments.len() > WORDS_MAX {
                    let detail = format!(
                        "a command has at most {WORDS_MAX} words and {COMMAND_BYTES_MAX} bytes"
                    );
                    return Err(refuse(detail));
                }
                if execute.arguments.iter().any(|word| word.contains('\0')) {
                    return Err(refuse("a word of the command holds a NUL".to_owned()));
                }
                if execute.arguments.first().is_some_and(String::is_empty) {
                    return Err(refuse("the command has an empty name".to_owned()));
                }
                check_key(&execute.key)?;
                let node = Some(execute.node.as_str()).filter(|node| !node.is_empty());
                (node.map(NodeName::from), false, false)
            }
            None => {
                return Err(refuse(
                    "it does not say what the terminal is for".to_owned(),
                ));
            }
        };
        Ok(Self {
            open,
            node,
            is_session,
            waits,
        })
    }
}

/// What a client that comes back is known by.
fn check_key(key: &str) -> Result<(), Refusal> {
    let is_hex = key.bytes().all(|byte| byte.is_ascii_hexdigit());
    match matches!(key.len(), 0 | KEY_DIGITS) && is_hex {
        true => Ok(()),
        false => {
            let detail = format!("the key is not {KEY_DIGITS} hexadecimal digits");
            Err(Refusal::new(Pbse::Ivalreq, detail))
        }
    }
}

/// Somebody at a terminal.
struct Visit {
    door: Arc<Door>,
    person: Arc<Person>,
    job: JobId,
}

impl Visit {
    /// The attempt; `None` while it has to be waited for.
    fn reach(&self, wanted: &Wanted) -> Result<Option<Reached>, Status> {
        let snapshot = self.door.latest.get();
        match query::enter(&snapshot.state, self.job, &self.person.user) {
            Ok(reached) if wanted.is_session && !reached.job.spec.is_interactive() => {
                let detail = "it is a batch job, without a terminal to return to: qexec enters it";
                Err(edge_status(Refusal::new(Pbse::Badstate, detail)))
            }
            Ok(reached) => Ok(Some(reached)),
            Err(Unreached::NotRunning) if wanted.waits => Ok(None),
            Err(Unreached::NotRunning) => Err(edge_status(self.not_started(&snapshot))),
            Err(unreached) => Err(edge_status(refusal(unreached))),
        }
    }

    /// Of a job that waits, when it is expected to start.
    fn not_started(&self, snapshot: &Snapshot) -> Refusal {
        let scene = Scene {
            snapshot,
            telemetry: &self.door.telemetry,
            now: clock::wall(),
        };
        let job = snapshot.state.resolve(self.job);
        let start = job.as_deref().and_then(|job| expected_start(scene, job));
        let detail = match start {
            Some((at, _)) => {
                let secs = at.secs().saturating_sub(scene.now.secs());
                format!(
                    "the job has not started yet: it is expected to within {} min",
                    secs / 60 + 1
                )
            }
            None => "the job has not started yet: qwhy tells what it waits for".to_owned(),
        };
        Refusal::new(Pbse::Badstate, detail)
    }

    async fn sit(
        &self,
        mut wanted: Wanted,
        reached: Option<Reached>,
        inbound: &mut Streaming<wire::TerminalInput>,
        out: &mpsc::Sender<Result<TerminalOutput, Status>>,
    ) -> Result<(), Status> {
        // Of nobody's business but an agent's and its processes'.
        wanted.open.version = 0;
        wanted.open.message.clear();
        let reached = match reached {
            Some(reached) => reached,
            None => {
                tokio::select! {
                    reached = self.wait_for_start(&wanted) => reached?,
                    // Before it starts there is nothing to say: whatever comes means that nobody waits.
                    _word = inbound.message() => return Ok(()),
                }
            }
        };
        let is_session = wanted.is_session;
        let mut session = self.begin(wanted, &reached).await?;
        let mut job_over = std::pin::pin!(self.job_is_over(reached.attempt));
        loop {
            tokio::select! {
                output = session.next() => {
                    let output = output.map_err(|problem| edge_status(problem.into_refusal()))?;
                    if is_session && matches!(output, Output::ExitStatus(_)) {
                        self.wait_for_end().await;
                    }
                    let is_last = crate::link::sessions::is_last(&output);
                    let has_exited = matches!(output, Output::ExitStatus(_));
                    let output = TerminalOutput { output: Some(output) };
                    if out.try_send(Ok(output)).is_err() {
                        return Ok(());
                    }
                    if is_last {
                        if has_exited && !is_session {
                            farewell(inbound, &mut session).await;
                        }
                        return Ok(());
                    }
                }
                word = inbound.message() => {
                    let Ok(Some(word)) = word else { return Ok(()) };
                    let input = word.input.ok_or(Misspoken::Misplaced).map_err(misspoken)?;
                    let leaves = matches!(input, Input::Leave(_));
                    session.say(input).map_err(misspoken)?;
                    if leaves {
                        return Ok(());
                    }
                }
                () = self.door.asked_to_stop.cancelled() => {
                    // Whoever sits there comes back when we do.
                    session.break_off();
                    return Err(Status::unavailable("the server stops"));
                }
                () = job_over.as_mut(), if !is_session => {
                    // Without a connection the node finds out by itself.
                    let _gone = session.say(Input::Leave(0));
                    return Err(edge_status(refusal(Unreached::Ended)));
                }
            }
        }
    }

    /// Returns a while after the job has ended, in which its programs end as well, and say so themselves.
    async fn job_is_over(&self, attempt: AttemptId) {
        loop {
            let snapshot = self.door.latest.get();
            match query::enter(&snapshot.state, self.job, &self.person.user) {
                Ok(reached) if reached.attempt == attempt => {}
                Err(Unreached::Exiting) => {}
                Ok(_) | Err(_) => break,
            }
            drop(snapshot);
            sleep(JOB_PAUSE).await;
        }
        sleep(LAST_WORDS).await;
    }

    async fn wait_for_start(&self, wanted: &Wanted) -> Result<Reached, Status> {
        loop {
            if let Some(reached) = self.reach(wanted)? {
                return Ok(reached);
            }
            tokio::select! {
                () = sleep(PAUSE) => {}
                () = self.door.asked_to_stop.cancelled() => {
                    return Err(Status::unavailable("the server stops"));
                }
            }
        }
    }

    /// Waits until the job of a session that is over shows as such.
    async fn wait_for_end(&self) {
        let give_up = Instant::now() + END_WITHIN;
        while Instant::now() < give_up {
            let snapshot = self.door.latest.get();
            let job = snapshot.state.resolve(self.job);
            if job.is_none_or(|job| matches!(job.state, JobState::Ended(_))) {
                return;
            }
            drop(snapshot);
            sleep(PAUSE).await;
        }
    }

    async fn begin(&self, wanted: Wanted, reached: &Reached) -> Result<Session, Status> {
        let Wanted { open, node, .. } = wanted;
        let target = node.unwrap_or_else(|| reached.node.clone());
        let snapshot = self.door.latest.get();
        let (node_index, vnode) = place(reached, &target)?;
        let spec = match target == reached.node {
            true => None,
            false => Some(self.spec(&snapshot, reached, &target).await?),
        };
        tracing::info!(attempt = %reached.attempt, node = %target, "a terminal is opened");
        let whose = (&target, self.person.uid);
        let opened = Session::open(&self.door.lines, whose, |session| wire::OpenSession {
            session,
            attempt: reached.attempt.0,
            open: Some(open),
            spec,
            node_index,
            vnode,
        });
        opened.map_err(|problem| edge_status(problem.into_refusal()))
    }

    /// The attempt as another of its nodes would run it, without its script.
    async fn spec(
        &self,
        snapshot: &Snapshot,
        reached: &Reached,
        target: &NodeName,
    ) -> Result<wire::LaunchSpec, Status> {
        let payloads = self.door.payloads.clone();
        let id = payload_id(reached.job.id);
        // The payload lies on the disk.
        let payload = tokio::task::spawn_blocking(move || payloads.payload(id)).await;
        let payload = payload.ok().and_then(Result::ok).flatten();
        let payload = payload.ok_or_else(|| {
            let detail = "the job's variables cannot be read from the server's store";
            edge_status(Refusal::new(Pbse::System, detail))
        })?;
        let payload = Payload {
            script: Vec::new(),
            variables: payload.variables.clone(),
        };
        launch::spec(&snapshot.state, &reached.job, target, &payload)
            .ok_or_else(|| edge_status(refusal(Unreached::Ended)))
    }
}

/// Waits until the client has said that it knows the last word, and passes that on: until then the node keeps it.
async fn farewell(inbound: &mut Streaming<wire::TerminalInput>, session: &mut Session) {
    let heard = async {
        while let Ok(Some(word)) = inbound.message().await {
            if let Some(leave @ Input::Leave(_)) = word.input {
                // Without a connection the node finds out by itself.
                let _gone = session.say(leave);
                return;
            }
        }
    };
    let _late = timeout(FAREWELL, heard).await;
}

/// Which of the job's nodes it is, and the first slot there.
fn place(reached: &Reached, target: &NodeName) -> Result<(u32, u32), Status> {
    let shares = reached.job.state.run().map_or(&[][..], |run| &run.shares);
    let mut slots = 0;
    for (index, share) in shares.iter().enumerate() {
        if share.node == *target {
            return Ok((index as u32, slots as u32));
        }
        slots += share.slots.len().max(1);
    }
    let names: Vec<&str> = shares.iter().map(|share| share.node.as_str()).collect();
    let detail = format!(
        "the job has no part of node {target}: it runs on {}",
        names.join(", ")
    );
    Err(edge_status(Refusal::new(Pbse::Unknode, detail)))
}

fn refusal(unreached: Unreached) -> Refusal {
    let state = |detail: &str| Refusal::new(Pbse::Badstate, detail);
    match unreached {
        Unreached::Unknown => Refusal::new(Pbse::Unkjobid, "cannot locate job"),
        Unreached::NotOwner => Refusal::new(
            Pbse::Perm,
            "only the owner of a job may type into it, whoever else may delete it",
        ),
        Unreached::Exiting => state("the job is exiting"),
        Unreached::Ended => state("the job has ended"),
        Unreached::NotRunning => state("the job has not started yet: qstat tells when it has"),
    }
}

fn misspoken(problem: Misspoken) -> Status {
    match problem {
        Misspoken::TooMuch | Misspoken::Misplaced => {
            edge_status(Refusal::new(Pbse::Protocol, problem.to_string()))
        }
        Misspoken::Gone => Status::unavailable(problem.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wish(wish: Option<Wish>) -> wire::OpenTerminal {
        wire::OpenTerminal {
            job_id: "1".to_owned(),
            window: Some(wire::WindowSize {
                rows: 0,
                columns: 1 << 20,
            }),
            term: "xterm\x1b[2J".to_owned(),
            wish,
            version: 7,
            message: "x".to_owned(),
        }
    }

    #[test]
    fn what_a_client_says_of_its_terminal_is_made_sane() {
        let attach = wire::AttachSession::default();
        let wanted = Wanted::of(wish(Some(Wish::Attach(attach)))).unwrap();
        let window = wanted.open.window.unwrap();
        assert_eq!((window.rows, window.columns), (1, SIZE_MAX));
        assert_eq!(wanted.open.term, "");
        assert!(Wanted::of(wish(None)).is_err());
    }

    #[test]
    fn a_command_that_no_kernel_could_carry_is_refused() {
        let check = |arguments: &[&str], is_good: bool| {
            let execute = wire::ExecuteProgram {
                arguments: arguments.iter().map(|word| (*word).to_owned()).collect(),
                ..wire::ExecuteProgram::default()
            };
            let seen = Wanted::of(wish(Some(Wish::Execute(execute)))).is_ok();
            assert_eq!(seen, is_good, "{arguments:?}");
        };
        check(&[], true);
        check(&["ls", "-l", ""], true);
        check(&[""], false);
        check(&["a\0b"], false);
        check(&[&"x".repeat(COMMAND_BYTES_MAX + 1)], false);
        check(&vec!["x"; WORDS_MAX + 1], false);
    }
}
