//! A program that somebody runs in an attempt beside its script: on its node, in its share, with its variables and rights.
//! A process of its own holds it and its streams, and outlives us; we start that, connect clients with it, and watch over it.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use capstan_proto::wire::terminal_output::Output;
use capstan_proto::wire::{ExecuteProgram, LaunchSpec, OpenSession, OpenTerminal};
use capstan_types::{AttemptId, Pbse};
use prost::Message;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::task::spawn_blocking;

use super::attach::talk;
use super::{Ends, failed};
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

/// Runs the program, or goes on with it, to its end or to that of the session.
pub(super) async fn execute(
    supervisor: &Supervisor,
    order: OpenSession,
    open: OpenTerminal,
    mut wish: ExecuteProgram,
    ends: Ends,
) {
    let attempt = AttemptId(order.attempt);
    let is_kept = !wish.key.is_empty();
    if !is_kept {
        wish.key = proc::cookie();
    }
    let is_key =
        |key: &str| key.len() == KEY_DIGITS && key.bytes().all(|it| it.is_ascii_hexdigit());
    if !is_key(&wish.key) {
        let problem = format!("the key of the program is not {KEY_DIGITS} hexadecimal digits");
        return drop(ends.output.send(failed(Pbse::Ivalreq, problem)).await);
    }
    let door = supervisor.site.ledger.program(attempt, &wish.key);
    let from_byte = wish.from_byte;
    let stream = match connect(&door).await {
        Ok(stream) => Ok(stream),
        Err(_) if from_byte.is_some() => {
            let problem = "the program is not there any more, and how it ended is not known";
            Err(failed(Pbse::Badstate, problem))
        }
        Err(_) => begin(supervisor, order, &open, (wish, is_kept), &door).await,
    };
    match stream {
        Ok(stream) => talk(stream, open.going_on_from(from_byte), ends).await,
        Err(problem) => drop(ends.output.send(problem).await),
    }
}

/// What the process that holds the program needs to know of a client, which is not what it runs.
trait GoingOn {
    fn going_on_from(self, from_byte: Option<u64>) -> OpenTerminal;
}

impl GoingOn for OpenTerminal {
    fn going_on_from(mut self, from_byte: Option<u64>) -> OpenTerminal {
        let wish = ExecuteProgram {
            from_byte,
            ..ExecuteProgram::default()
        };
        self.wish = Some(capstan_proto::wire::open_terminal::Wish::Execute(wish));
        self
    }
}

async fn begin(
    supervisor: &Supervisor,
    order: OpenSession,
    open: &OpenTerminal,
    (wish, is_kept): (ExecuteProgram, bool),
    door: &Path,
) -> Result<UnixStream, Output> {
    let (mut order, place) = prepare(supervisor, order, wish).await?;
    order.session = Some(SessionTask {
        has_terminal: open.window.is_some(),
        term: open.term.clone(),
        window: open.window,
        door: door.to_string_lossy().into_owned(),
        is_kept,
        entered: String::new(),
        first: Vec::new(),
    });
    start(&supervisor.site, &order, place, door.to_owned()).await?;
    let connected = connect(door).await;
    connected.map_err(|error| failed(Pbse::System, format!("the program is lost: {error}")))
}

async fn prepare(
    supervisor: &Supervisor,
    order: OpenSession,
    wish: ExecuteProgram,
) -> Result<(TaskOrder, TaskPlace), Output> {
    let attempt = AttemptId(order.attempt);
    let (entry, number) = match order.spec {
        Some(spec) => (guest(&supervisor.site, spec).await?, 0),
        None => {
            let live = supervisor.started(attempt);
            let live = live.map_err(|problem| failed(Pbse::Badstate, problem.to_string()))?;
            let mut entry = live.entry.clone();
            entry.spec.script.clear();
            (entry, live.next_task())
        }
    };
    if !entry.spec.image.is_empty() {
        let problem = match wish.outside {
            true => "the job is a container: nothing of it runs outside",
            false => "the job is a container, which has not started yet or has ended: try again",
        };
        return Err(failed(Pbse::Badstate, problem));
    }
    // Taken after the attempt was seen alive: one that ends meanwhile ends this, too.
    let place = supervisor.tasks.admit(attempt);
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
    Ok((order, place))
}

async fn guest(site: &Arc<Site>, spec: LaunchSpec) -> Result<Entry, Output> {
    let site = site.clone();
    // Names may come from a directory on the network.
    let resolved = spawn_blocking(move || site.guest(spec)).await;
    let problem = |text: String| failed(Pbse::System, text);
    let resolved = resolved.map_err(|error| problem(error.to_string()))?;
    resolved.map_err(|error| problem(error.to_string()))
}

/// Starts the process that holds the program; when this returns, the program runs, and its socket is there.
async fn start(
    site: &Arc<Site>,
    order: &TaskOrder,
    place: TaskPlace,
    door: PathBuf,
) -> Result<(), Output> {
    let problem = |error: io::Error| {
        let text = format!("no process can be made for the program: {error}");
        failed(Pbse::System, text)
    };
    let spawning = site.clone();
    let started = spawn_blocking(move || spawning.spawner.start_session(None)).await;
    let started = started
        .map_err(io::Error::other)
        .and_then(|started| started);
    let stream = started.and_then(UnixStream::from_std);
    let mut stream = stream.map_err(problem)?;
    let line = ask(&mut stream, order).await.map_err(problem)?;
    match line.split_once(' ') {
        Some((STARTED, _)) => {
            tokio::spawn(guard(stream, place, door));
            Ok(())
        }
        Some((FAILED, why)) => Err(failed(Pbse::System, why)),
        Some(_) | None => Err(problem(io::ErrorKind::UnexpectedEof.into())),
    }
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
