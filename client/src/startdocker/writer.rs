//! Writes to stdout and stderr without holding up signals: a thread of its own waits for a slow reader.

use std::io::{self, Write};

use tokio::sync::mpsc;

/// Pieces that wait for a slow reader.
const QUEUE: usize = 4;

/// Where a piece goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum To {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// The way to our stdout and stderr.
pub(super) struct Writer {
    queue: mpsc::Sender<(To, Vec<u8>)>,
    thread: std::thread::JoinHandle<io::Result<()>>,
}

/// Nobody reads our output any more.
#[derive(Debug)]
pub(super) struct Closed;

impl Writer {
    /// Starts the thread.
    pub(super) fn start() -> Self {
        let (queue, mut waiting) = mpsc::channel::<(To, Vec<u8>)>(QUEUE);
        let thread = std::thread::spawn(move || {
            while let Some((to, bytes)) = waiting.blocking_recv() {
                match to {
                    To::Stdout => write(&mut io::stdout().lock(), &bytes)?,
                    // A log that is closed does not end a program.
                    To::Stderr => drop(write(&mut io::stderr().lock(), &bytes)),
                }
            }
            Ok(())
        });
        Self { queue, thread }
    }

    pub(super) async fn write(&self, to: To, bytes: Vec<u8>) -> Result<(), Closed> {
        self.queue.send((to, bytes)).await.map_err(|_| Closed)
    }

    /// Waits until all is written.
    pub(super) fn finish(self) -> Result<(), Closed> {
        drop(self.queue);
        match self.thread.join() {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) | Err(_) => Err(Closed),
        }
    }
}

fn write(to: &mut impl Write, bytes: &[u8]) -> io::Result<()> {
    let mut rest = bytes;
    while !rest.is_empty() {
        match to.write(rest) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => rest = &rest[written..],
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            // Another program made the shared file non-blocking.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => wait_for_room()?,
            Err(error) => return Err(error),
        }
    }
    // A prompt has no line end.
    match to.flush() {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(()),
        other => other,
    }
}

fn wait_for_room() -> io::Result<()> {
    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
    use std::os::fd::AsFd;
    let stdout = io::stdout();
    let mut file = [PollFd::new(stdout.as_fd(), PollFlags::POLLOUT)];
    poll(&mut file, PollTimeout::from(100u16))?;
    Ok(())
}

/// Says something to the person, also while the terminal is raw.
pub(super) fn line(text: &str) {
    let text = format!("{}\r\n", text.replace('\n', "\r\n"));
    let text = if io::IsTerminal::is_terminal(&io::stderr()) {
        text
    } else {
        text.replace('\r', "")
    };
    // Nobody is left to be told when stderr is closed.
    drop(io::stderr().lock().write_all(text.as_bytes()));
}
