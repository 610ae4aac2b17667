//! Programs that people run in attempts, on the host or in a container, from the agent's side: a process of its own holds
//! each and outlives us. It is found again by the key that its client made up.

use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;

use capstan_proto::wire::open_terminal::Wish;
use capstan_proto::wire::terminal_output::Output;
use capstan_proto::wire::{ExecuteProgram, LaunchSpec, OpenSession, OpenTerminal};
use capstan_types::{AttemptId, Pbse};
use prost::Message;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::task::{JoinHandle, spawn_blocking};

use super::attach::talk;
use super::{Ends, failed};
use crate::attempts::ledger::ENTERED;
use crate::attempts::proc;
use crate::attempts::record::Entry;
use crate::attempts::site::Site;
use crate::attempts::table::Supervisor;
use crate::attempts::tasks::guard::{connect, guard};
use crate::attempts::tasks::process::{FAILED, STARTED};
use crate::attempts::tasks::{SessionTask, TaskOrder, TaskPlace};

/// Digits of a key.
const KEY_DIGITS: usize = 32;
/// Longest answer of a process that is asked to hold a program.
const ANSWER_BYTES_MAX: usize = 4096;

/// What a client wants of a program.
#[derive(Debug)]
pub(crate) struct Seat {
    attempt: AttemptId,
    open: OpenTerminal,
    from_byte: Option<u64>,
    is_kept: bool,
    door: PathBuf,
}

/// A program that is to be held, and its place among those of the attempt.
pub(crate) struct Program {
    pub(in crate::attempts) order: TaskOrder,
    pub(in crate::attempts) place: TaskPlace,
    /// A task of `pbsdsh`.
    pub(in crate::attempts) is_task: bool,
}

/// One that an engine has started in a container.
#[derive(Debug)]
pub(crate) struct EngineProgram {
    /// The engine's name of it.
    pub(crate) id: String,
    /// The engine's connection to it.
    pub(crate) stream: OwnedFd,
    /// What was read on that already.
    pub(crate) first: Vec<u8>,
}

impl Seat {
    /// The seat at the program of `wish` in `attempt`.
    ///
    /// # Errors
    /// What it is called by is no key.
    pub(crate) fn of(
        supervisor: &Supervisor,
        attempt: AttemptId,
        mut open: OpenTerminal,
        wish: &ExecuteProgram,
    ) -> Result<Self, Output> {
        let is_kept = !wish.key.is_empty();
        let key = match is_kept {
            true => wish.key.clone(),
            false => proc::cookie(),
        };
        if key.len() != KEY_DIGITS || !key.bytes().all(|it| it.is_ascii_hexdigit()) {
            let problem = format!("the key of the program is not {KEY_DIGITS} hexadecimal digits");
            return Err(failed(Pbse::Ivalreq, problem));
        }
        // What it runs is known where it is held.
        open.wish = Some(Wish::Execute(ExecuteProgram {
            from_byte: wish.from_byte,
            ..ExecuteProgram::default()
        }));
        Ok(Self {
            attempt,
            open,
            from_byte: wish.from_byte,
            is_kept,
            door: supervisor.site.ledger.program(attempt, &key),
        })
    }

    pub(crate) const fn attempt(&self) -> AttemptId {
        self.attempt
    }

    /// Notes what the engine calls the program, for an agent after us that finds nobody who holds it.
    pub(crate) fn note_entered(&self, id: &str) -> io::Result<()> {
        std::fs::write(self.door.with_extension(ENTERED), id)
    }

    /// The connection to the program if it is there; none when it is still to be begun.
    ///
    /// # Errors
    /// It is not there any more.
    pub(crate) async fn find(&self) -> Result<Option<UnixStream>, Output> {
        match connect(&self.door).await {
            Ok(stream) => Ok(Some(stream)),
            Err(_) if self.from_byte.is_some() => {
                let problem = "the program is not there any more, and how it ended is not known";
                Err(failed(Pbse::Badstate, problem))
            }
            Err(_) => Ok(None),
        }
    }

    /// Connects the client, until one of the two has gone.
    pub(crate) async fn sit(self, stream: UnixStream, ends: Ends) {
        talk(stream, self.open, ends).await;
    }
}

impl Supervisor {
    /// Makes sure that the attempt may have one more program, inside its container or beside its script.
    ///
    /// # Errors
    /// It is not alive, or has too many.
    pub(crate) async fn admit_program(
        &self,
        order: OpenSession,
        wish: ExecuteProgram,
        is_inside: bool,
    ) -> Result<Program, Output> {
        let attempt = AttemptId(order.attempt);
        let (entry, number) = match order.spec {
            Some(spec) => (guest(&self.site, spec).await?, 0),
            None => {
                let live = self.started(attempt);
                let live = live.map_err(|problem| failed(Pbse::Badstate, problem.to_string()))?;
                let mut entry = live.entry.clone();
                entry.spec.script.clear();
                (entry, live.next_task())
            }
        };
        if !entry.spec.image.is_empty() && !is_inside {
            let problem = match wish.outside {
                true => "the job is a container: nothing of it runs outside",
                false => {
                    "the job is a container, which has not started yet or has ended: try again"
                }
            };
            return Err(failed(Pbse::Badstate, problem));
        }
        // Taken after the attempt was seen alive: one that ends meanwhile ends this, too.
        let owner = entry.identity.as_ref().map(|user| user.uid);
        let place = self.tasks.admit_program(attempt, owner);
        let place = place.map_err(|refused| failed(Pbse::Badstate, refused.to_string()))?;
        let order = TaskOrder {
            entry,
            node: order.node_index,
            vnode: order.vnode,
            task: number,
            arguments: wish.arguments,
            environment: Vec::new(),
            folder: String::new(),
            hooks: None,
            session: None,
        };
        Ok(Program {
            order,
            place,
            is_task: false,
        })
    }

    /// Has the program held, which is begun with that unless an engine has done so: the connection to it, and what is done
    /// when nobody holds it any more.
    ///
    /// # Errors
    /// It cannot be begun, or not be held.
    pub(crate) async fn hold(
        &self,
        program: Program,
        seat: &Seat,
        engine: Option<EngineProgram>,
    ) -> Result<(UnixStream, JoinHandle<()>), Output> {
        let Program {
            mut order,
            place,
            is_task,
        } = program;
        let (id, stream, first) = match engine {
            Some(EngineProgram { id, stream, first }) => (id, Some(stream), first),
            None => (String::new(), None, Vec::new()),
        };
        order.session = Some(SessionTask {
            has_terminal: seat.open.window.is_some(),
            term: seat.open.term.clone(),
            window: seat.open.window,
            door: seat.door.to_string_lossy().into_owned(),
            is_kept: seat.is_kept,
            entered: id,
            first,
            is_task,
        });
        let problem = |error: io::Error| {
            let text = format!("no process can be made for the program: {error}");
            failed(Pbse::System, text)
        };
        let site = self.site.clone();
        let started = spawn_blocking(move || site.spawner.start_session(stream.as_ref())).await;
        let started = started
            .map_err(io::Error::other)
            .and_then(|started| started);
        let mut holder = started.and_then(UnixStream::from_std).map_err(problem)?;
        let line = ask(&mut holder, &order).await.map_err(problem)?;
        match line.split_once(' ') {
            Some((STARTED, _)) => {}
            Some((FAILED, why)) => return Err(failed(Pbse::System, why)),
            Some(_) | None => return Err(problem(io::ErrorKind::UnexpectedEof.into())),
        }
        let guarding = tokio::spawn(guard(holder, place, seat.door.clone()));
        let stream = connect(&seat.door).await.map_err(problem)?;
        Ok((stream, guarding))
    }
}

async fn guest(site: &Arc<Site>, spec: LaunchSpec) -> Result<Entry, Output> {
    let site = site.clone();
    // Names may come from a directory on the network.
    let resolved = spawn_blocking(move || site.guest(spec)).await;
    let problem = |text: String| failed(Pbse::System, text);
    let resolved = resolved.map_err(|error| problem(error.to_string()))?;
    resolved.map_err(|error| problem(error.to_string()))
}

/// Tells the process what to run; its first line.
async fn ask(stream: &mut UnixStream, order: &TaskOrder) -> io::Result<String> {
    let order = order.encode_to_vec();
    let length = u32::try_from(order.len()).map_err(io::Error::other)?;
    stream.write_all(&length.to_le_bytes()).await?;
    stream.write_all(&order).await?;
    let mut answer = Vec::new();
    while answer.last() != Some(&b'\n') {
        if answer.len() > ANSWER_BYTES_MAX || stream.read_buf(&mut answer).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    let line = String::from_utf8_lossy(&answer);
    Ok(line.trim_end().to_owned())
}
