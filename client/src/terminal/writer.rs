//! Writes to stdout and stderr without holding up signals: a thread of its own waits for a slow reader.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsFd;

use tokio::sync::mpsc;

/// Pieces that wait for a slow reader.
const QUEUE: usize = 4;

/// Where a piece goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum To {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// The way to our stdout and stderr.
pub(crate) struct Writer {
    queue: mpsc::Sender<(To, Vec<u8>)>,
    thread: std::thread::JoinHandle<io::Result<()>>,
}

/// Nobody reads our output any more.
#[derive(Debug)]
pub(crate) struct Closed;

impl Writer {
    /// Starts the thread.
    pub(crate) fn start() -> Self {
        let (queue, mut waiting) = mpsc::channel::<(To, Vec<u8>)>(QUEUE);
        // Not the program's own streams, which its main thread may have locked.
        let (stdout, stderr) = (again(&io::stdout()), again(&io::stderr()));
        let thread = std::thread::spawn(move || {
            let (mut stdout, stderr) = (stdout?, stderr);
            while let Some((to, bytes)) = waiting.blocking_recv() {
                match to {
                    To::Stdout => write(&mut stdout, &bytes)?,
                    // A log that is closed does not end a program.
                    To::Stderr => {
                        let written = stderr.as_ref().map(|mut stderr| write(&mut stderr, &bytes));
                        drop(written);
                    }
                }
            }
            Ok(())
        });
        Self { queue, thread }
    }

    pub(crate) async fn write(&self, to: To, bytes: Vec<u8>) -> Result<(), Closed> {
        self.queue.send((to, bytes)).await.map_err(|_| Closed)
    }

    /// Waits until all is written.
    pub(crate) fn finish(self) -> Result<(), Closed> {
        drop(self.queue);
        match self.thread.join() {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) | Err(_) => Err(Closed),
        }
    }
}

/// The same stream, by a descriptor of its own.
fn again(stream: &impl AsFd) -> io::Result<File> {
    stream.as_fd().try_clone_to_owned().map(File::from)
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
    let stdout = io::stdout();
    let mut file = [PollFd::new(stdout.as_fd(), PollFlags::POLLOUT)];
    poll(&mut file, PollTimeout::from(100u16))?;
    Ok(())
}

/// Says something to the person, also while the terminal is raw.
pub(crate) fn line(text: &str) {
    let text = format!("{}\r\n", text.replace('\n', "\r\n"));
    let text = if io::IsTerminal::is_terminal(&io::stderr()) {
        text
    } else {
        text.replace('\r', "")
    };
    // Nobody is left to be told when stderr is closed.
    drop(io::stderr().lock().write_all(text.as_bytes()));
}
