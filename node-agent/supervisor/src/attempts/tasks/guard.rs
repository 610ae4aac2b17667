//! Watches over one program that a person runs here, as long as it is there: it holds the program's place in the table of
//! tasks, and passes on that the attempt has ended, or that clients can come back. A restarted agent takes this up again.

use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use capstan_proto::wire::terminal_input::Input;
use capstan_proto::wire::terminal_output::Output;
use capstan_proto::wire::{OpenTerminal, TerminalInput, TerminalOutput};
use capstan_types::AttemptId;
use prost::Message;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::sync::mpsc;

use super::process::{KILL, LINKED};
use super::{TaskOrder, TaskPlace, TaskTable};
use crate::attempts::keeper::connect_to;
use crate::attempts::ledger::{ENTERED, Ledger, guest_in};
use crate::attempts::table::Supervisor;
use crate::attempts::terminal::{VERSION, frames};

/// What the engine calls programs in containers that nobody holds any more; for one listener.
pub(in crate::attempts) type Orphans = Arc<Mutex<Option<mpsc::UnboundedReceiver<String>>>>;

impl Supervisor {
    /// Programs in containers that an agent before us began: what the engine calls each, when nobody holds it any more. To
    /// be asked for once.
    pub(crate) fn orphans(&self) -> Option<mpsc::UnboundedReceiver<String>> {
        let mut orphans = self.orphans.lock().unwrap_or_else(PoisonError::into_inner);
        orphans.take()
    }

    /// There is a connection to the server from now on: who was cut off from a program can come back to it.
    pub fn linked(&self) {
        self.tasks.linked();
    }
}

/// Holds `place` until the process at the other end of `stream` is gone, whose socket is `door`.
pub(in crate::attempts) async fn guard(mut stream: UnixStream, place: TaskPlace, door: PathBuf) {
    let mut links = place.table.links();
    let mut is_killed = false;
    let mut bytes = [0; 512];
    loop {
        tokio::select! {
            // What it says is of no interest here; that it ends is.
            read = stream.read(&mut bytes) => if !matches!(read, Ok(1..)) {
                break;
            },
            () = place.ending.cancelled(), if !is_killed => {
                is_killed = true;
                // One that has gone needs no order.
                drop(stream.write_all(&[KILL]).await);
            }
            Ok(()) = links.changed() => drop(stream.write_all(&[LINKED]).await),
        }
    }
    // Left behind by one that was killed.
    clear_away(&door);
    let (table, attempt) = (place.table.clone(), place.attempt());
    drop(place);
    if !table.has(attempt) {
        forget_guest(&door, attempt);
    }
}

/// Notes whose processes are those of an attempt whose script runs elsewhere, for an agent after us: nobody else would tell
/// it before the next task. One that cannot be noted is a stranger to that agent, which ends what it runs in containers.
pub(super) fn note_guest(ledger: &Ledger, order: &TaskOrder) {
    let path = ledger.guest(order.entry.attempt());
    if path.exists() {
        return;
    }
    let note = TaskOrder {
        arguments: Vec::new(),
        environment: Vec::new(),
        ..order.clone()
    };
    let new = path.with_extension("new");
    let write = || {
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&new)?;
        file.write_all(&note.encode_to_vec())?;
        std::fs::rename(&new, &path)
    };
    if let Err(error) = write() {
        tracing::warn!(path = %path.display(), %error, "whose tasks these are is not noted");
    }
}

fn forget_guest(door: &Path, attempt: AttemptId) {
    if let Some(folder) = door.parent() {
        // Of an attempt whose script runs here there is none.
        drop(std::fs::remove_file(guest_in(folder, attempt)));
    }
}

/// What tells of a program; what the engine calls it, if that was noted.
fn clear_away(door: &Path) -> Option<String> {
    let note = door.with_extension(ENTERED);
    let entered = std::fs::read_to_string(&note).ok();
    for path in [door, &note] {
        // Most often there is none of the two any more.
        drop(std::fs::remove_file(path));
    }
    entered
}

/// Takes up again what an agent before us left running; their attempts. Sockets at which nobody listens go. What an engine
/// calls a program in a container is told when nobody holds that any more.
pub(in crate::attempts) fn adopt(ledger: &Ledger, tasks: &TaskTable) -> (Vec<AttemptId>, Orphans) {
    // Bounded by what is found.
    let (ended, orphans) = mpsc::unbounded_channel();
    let mut found = Vec::new();
    for (attempt, door) in ledger.programs() {
        let stream = connect_to(&door).and_then(UnixStream::from_std);
        // Tasks of `pbsdsh`, which look the same here, may be more than programs that people run.
        let place = tasks.admit_program(attempt, None);
        let place = place.or_else(|_full| tasks.admit(attempt, None));
        let (stream, place) = match (stream, place) {
            (Ok(stream), Ok(place)) => (stream, place),
            (Err(_), _) => {
                if let Some(entered) = clear_away(&door) {
                    tracing::info!(%attempt, "a program in a container that nobody holds is ended");
                    drop(ended.send(entered));
                }
                continue;
            }
            (Ok(_), Err(refused)) => {
                tracing::warn!(%attempt, %refused, "a program of an agent before is not watched");
                continue;
            }
        };
        tracing::info!(%attempt, "a program that somebody runs in it goes on");
        if !found.contains(&attempt) {
            found.push(attempt);
            take_up_guest(ledger, tasks, attempt);
        }
        tokio::spawn(watch(stream, place, door, ended.clone()));
    }
    for attempt in ledger.guests() {
        if !found.contains(&attempt) {
            drop(std::fs::remove_file(ledger.guest(attempt)));
        }
    }
    (found, Arc::new(Mutex::new(Some(orphans))))
}

fn take_up_guest(ledger: &Ledger, tasks: &TaskTable, attempt: AttemptId) {
    let note = std::fs::read(ledger.guest(attempt)).ok();
    let order = note.and_then(|note| TaskOrder::decode(note.as_slice()).ok());
    if let Some(order) = order.filter(|order| order.entry.attempt() == attempt) {
        super::welcome(tasks, &order);
    }
}

async fn watch(
    mut stream: UnixStream,
    place: TaskPlace,
    door: PathBuf,
    ended: mpsc::UnboundedSender<String>,
) {
    let Some(Output::Ready(ready)) = greet(&mut stream).await else {
        return;
    };
    guard(stream, place, door).await;
    if !ready.entered.is_empty() {
        // Nobody hears of it where there is no engine.
        drop(ended.send(ready.entered));
    }
}

/// Says that this is no client; what is answered is of no interest.
async fn greet(stream: &mut UnixStream) -> Option<Output> {
    let open = OpenTerminal {
        version: VERSION,
        ..OpenTerminal::default()
    };
    let word = TerminalInput {
        input: Some(Input::Open(open)),
    };
    let mut bytes = Vec::new();
    frames::put(&word, &mut bytes);
    stream.write_all(&bytes).await.ok()?;
    let mut arrived = Vec::new();
    loop {
        if let Some(word) = frames::take::<TerminalOutput>(&mut arrived).ok()? {
            return word.output;
        }
        if stream.read_buf(&mut arrived).await.ok()? == 0 {
            return None;
        }
    }
}

/// The connection to a program's socket.
pub(in crate::attempts) async fn connect(door: &Path) -> std::io::Result<UnixStream> {
    let door = door.to_owned();
    let connecting = tokio::task::spawn_blocking(move || connect_to(&door)).await;
    UnixStream::from_std(connecting.map_err(std::io::Error::other)??)
}
