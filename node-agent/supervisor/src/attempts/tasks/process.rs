//! The agent's side of one task: starts the process between, passes on what the task writes, and says how it ended.

use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;

use capstan_proto::wire::task_report::Report;
use nix::fcntl::OFlag;
use nix::unistd::{pipe2, read};
use prost::Message;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf, pipe};
use tokio::sync::mpsc;

use super::{TaskOrder, TaskPlace, failed};
use crate::attempts::site::Site;

/// Words of the process between: what it says begins with one of these.
pub(in crate::attempts) const STARTED: &str = "started";
pub(in crate::attempts) const EXIT: &str = "exit";
pub(in crate::attempts) const FAILED: &str = "failed";
/// What it is told: nobody waits for the task any more; the attempt has ended.
pub(in crate::attempts) const END: u8 = b'e';
pub(in crate::attempts) const KILL: u8 = b'k';
/// The same to a program that a person runs: agent and server are connected, and clients can come back.
pub(in crate::attempts) const LINKED: u8 = b'l';
/// Bytes of one chunk.
const CHUNK_BYTES: usize = 32 << 10;
/// What a task has written is there when it has ended; a process that it left may go on writing, and is not waited for.
const LAST_CHUNKS_MAX: usize = 64;

/// The process between, and what the task writes.
struct Task {
    lines: Lines<BufReader<OwnedReadHalf>>,
    control: OwnedWriteHalf,
    stdout: Stream,
    stderr: Stream,
}

/// One of the two streams, until it is closed.
struct Stream {
    pipe: Option<pipe::Receiver>,
    wrap: fn(Vec<u8>) -> Report,
}

/// Runs a task, holding its place until nothing is left of it.
pub(super) async fn run(
    site: Arc<Site>,
    order: TaskOrder,
    place: TaskPlace,
    reports: mpsc::Sender<Report>,
) {
    let mut task = match start(&site, &order).await {
        Ok(task) => task,
        Err(error) => {
            tracing::warn!(attempt = order.entry.spec.attempt, %error, "a task cannot be started");
            let problem = format!("no process can be made for the task: {error}");
            drop(reports.send(failed(problem)).await);
            return;
        }
    };
    // The attempt's script runs elsewhere: who wants the reports knows how long the attempt lives.
    let is_guest = order.entry.is_guest();
    drop(order);
    let has_ended = tokio::select! {
        has_ended = task.follow(&reports) => has_ended,
        () = reports.closed() => false,
        () = place.ending.cancelled() => false,
    };
    let mut wanted = Some(reports).filter(|_| is_guest && has_ended);
    if !has_ended && !place.ending.is_cancelled() {
        task.tell(END).await;
    }
    let mut is_killed = false;
    loop {
        tokio::select! {
            () = task.gone() => return,
            () = place.ending.cancelled(), if !is_killed => {
                is_killed = true;
                task.tell(KILL).await;
            }
            () = closed(wanted.as_ref()) => {
                wanted = None;
                task.tell(END).await;
            }
        }
    }
}

async fn closed(reports: Option<&mpsc::Sender<Report>>) {
    match reports {
        Some(reports) => reports.closed().await,
        None => std::future::pending().await,
    }
}

async fn start(site: &Arc<Site>, order: &TaskOrder) -> io::Result<Task> {
    let (out, err) = (pipe2(OFlag::O_CLOEXEC)?, pipe2(OFlag::O_CLOEXEC)?);
    let stdout = Stream::new(pipe::Receiver::from_owned_fd(out.0)?, Report::Stdout);
    let stderr = Stream::new(pipe::Receiver::from_owned_fd(err.0)?, Report::Stderr);
    let site = site.clone();
    let started = tokio::task::spawn_blocking(move || site.spawner.start_task(&[out.1, err.1]));
    let stream = started.await.map_err(io::Error::other)??;
    let (reading, mut control) = UnixStream::from_std(stream)?.into_split();
    let order = order.encode_to_vec();
    let length = u32::try_from(order.len()).map_err(io::Error::other)?;
    control.write_all(&length.to_le_bytes()).await?;
    control.write_all(&order).await?;
    Ok(Task {
        lines: BufReader::new(reading).lines(),
        control,
        stdout,
        stderr,
    })
}

impl Task {
    /// Passes on what the task says; true when it has ended, false when nobody listens any more.
    async fn follow(&mut self, reports: &mpsc::Sender<Report>) -> bool {
        loop {
            let report = tokio::select! {
                chunk = self.stdout.next() => Some(chunk),
                chunk = self.stderr.next() => Some(chunk),
                line = self.lines.next_line() => {
                    let line = line.ok().flatten().unwrap_or_default();
                    let (word, rest) = line.split_once(' ').unwrap_or((&line, ""));
                    match word {
                        STARTED => rest.parse().ok().map(Report::Started),
                        EXIT => {
                            self.last_words(reports).await;
                            let status = rest.parse().unwrap_or_default();
                            drop(reports.send(Report::ExitStatus(status)).await);
                            return true;
                        }
                        FAILED => {
                            drop(reports.send(failed(rest)).await);
                            return true;
                        }
                        // Closed, or nothing that we know.
                        _ => {
                            let problem = failed("what became of the task is not known");
                            drop(reports.send(problem).await);
                            return true;
                        }
                    }
                }
            };
            if let Some(report) = report
                && reports.send(report).await.is_err()
            {
                return false;
            }
        }
    }

    /// What the task wrote before it ended.
    async fn last_words(&mut self, reports: &mpsc::Sender<Report>) {
        for _ in 0..LAST_CHUNKS_MAX {
            let chunk = self.stdout.rest().or_else(|| self.stderr.rest());
            let Some(chunk) = chunk else { return };
            if reports.send(chunk).await.is_err() {
                return;
            }
        }
    }

    /// Gives the process between an order; one that has ended needs none.
    async fn tell(&mut self, order: u8) {
        drop(self.control.write_all(&[order]).await);
    }

    /// Returns when nothing of the task is left. What a process writes that outlives its task is read and dropped: it
    /// would die of a closed pipe.
    async fn gone(&mut self) {
        loop {
            tokio::select! {
                _chunk = self.stdout.next() => {}
                _chunk = self.stderr.next() => {}
                line = self.lines.next_line() => if !matches!(line, Ok(Some(_))) { return },
            }
        }
    }
}

impl Stream {
    fn new(pipe: pipe::Receiver, wrap: fn(Vec<u8>) -> Report) -> Self {
        let pipe = Some(pipe);
        Self { pipe, wrap }
    }

    /// The next chunk; never, once the stream is closed.
    async fn next(&mut self) -> Report {
        if let Some(pipe) = &mut self.pipe {
            let mut bytes = Vec::with_capacity(CHUNK_BYTES);
            if let Ok(1..) = pipe.read_buf(&mut bytes).await {
                return (self.wrap)(bytes);
            }
            self.pipe = None;
        }
        std::future::pending().await
    }

    /// What is there now, by the kernel's word: the runtime may not have heard of it yet.
    fn rest(&mut self) -> Option<Report> {
        let mut bytes = vec![0; CHUNK_BYTES];
        let count = read(self.pipe.as_ref()?.as_fd(), &mut bytes).unwrap_or_default();
        bytes.truncate(count);
        (count > 0).then(|| (self.wrap)(bytes))
    }
}
