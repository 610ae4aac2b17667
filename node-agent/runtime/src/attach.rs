//! The streams of a container, read from the engine's socket by ourselves.
//!
//! bollard's decoder guesses from the first byte of each piece whether it is a frame header. A program with a
//! terminal that prints the byte 1 makes it wait for up to 4 GiB in memory, in the agent, as root. We know whether
//! the container has a terminal, so nothing needs guessing, and no frame is ever held as a whole.

use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::pin::Pin;

use bytes::{Buf, Bytes, BytesMut};
use capstan_supervisor::containers::{CHUNK_BYTES_MAX, Output, Seen};
use futures_util::Stream;
use futures_util::stream::unfold;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

/// Longest answer head of the engine.
const HEAD_BYTES_MAX: usize = 16 * 1024;

/// What the engine answered instead of a stream.
#[derive(Debug)]
pub(crate) enum NoStream {
    /// The transport failed.
    Io(io::Error),
    /// An HTTP status that is no success, with the engine's words.
    Status(u16, String),
}

impl From<io::Error> for NoStream {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// A stream of the engine, its head read.
pub(crate) struct Raw {
    /// What came behind the head already.
    first: BytesMut,
    socket: UnixStream,
}

/// How a request wants its answer.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Answer {
    /// Both directions, until either ends.
    Upgrade,
    /// The body, as it comes, until the engine closes.
    Body,
}

/// Asks for a stream. `path` is made of our own words and engine ids only.
pub(crate) async fn open(
    socket: &Path,
    (method, path): (&str, &str),
    answer: Answer,
) -> Result<Raw, NoStream> {
    let request = match answer {
        Answer::Upgrade => format!(
            "{method} {path} HTTP/1.1\r\nHost: docker\r\nConnection: Upgrade\r\nUpgrade: tcp\r\nContent-Length: 0\r\n\r\n"
        ),
        // 1.0, so that the body comes without chunk headers in it.
        Answer::Body => format!("{method} {path} HTTP/1.0\r\nHost: docker\r\n\r\n"),
    };
    ask(socket, &request, answer).await
}

/// Starts a program in a container, and asks for its streams. `path` and `body` are made of our own words.
pub(crate) async fn start(socket: &Path, path: &str, body: &str) -> Result<Raw, NoStream> {
    let request = format!(
        "POST {path} HTTP/1.1\r\nHost: docker\r\nConnection: Upgrade\r\nUpgrade: tcp\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    );
    ask(socket, &request, Answer::Upgrade).await
}

async fn ask(socket: &Path, request: &str, answer: Answer) -> Result<Raw, NoStream> {
    let mut socket = UnixStream::connect(socket).await?;
    socket.write_all(request.as_bytes()).await?;
    let mut first = BytesMut::new();
    let end = loop {
        if let Some(end) = first.windows(4).position(|four| four == b"\r\n\r\n") {
            break end;
        }
        if first.len() > HEAD_BYTES_MAX || socket.read_buf(&mut first).await? == 0 {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
        }
    };
    let head = first.split_to(end + 4);
    let status = status(&head)
        .ok_or(io::ErrorKind::InvalidData)
        .map_err(io::Error::from)?;
    if matches!(status, 101 | 200) {
        return Ok(Raw { first, socket });
    }
    let mut words = socket.take(HEAD_BYTES_MAX as u64);
    if answer == Answer::Body {
        while words.read_buf(&mut first).await? > 0 {}
    }
    Err(NoStream::Status(
        status,
        String::from_utf8_lossy(&first).trim().to_owned(),
    ))
}

fn status(head: &[u8]) -> Option<u16> {
    let line = head.split(|&b| b == b'\r').next()?;
    std::str::from_utf8(line)
        .ok()?
        .split(' ')
        .nth(1)?
        .parse()
        .ok()
}

impl Raw {
    /// Output and input of an upgraded stream.
    pub(crate) fn split(
        self,
        has_terminal: bool,
    ) -> (OutputStream, Pin<Box<dyn tokio::io::AsyncWrite + Send>>) {
        let (read, write) = self.socket.into_split();
        (
            output(self.first, read, has_terminal, Seen::default()),
            Box::pin(write),
        )
    }

    /// The connection, for somebody else to read and write, and what was read on it already.
    pub(crate) fn hand_over(self) -> io::Result<(OwnedFd, Vec<u8>)> {
        Ok((self.socket.into_std()?.into(), self.first.to_vec()))
    }

    /// Output from the log, without what was `seen`.
    pub(crate) fn behind(self, has_terminal: bool, seen: Seen) -> OutputStream {
        output(self.first, self.socket, has_terminal, seen)
    }
}

pub(crate) type OutputStream = Pin<Box<dyn Stream<Item = io::Result<Output>> + Send>>;

/// Reads only when asked, and gives pieces of at most [`CHUNK_BYTES_MAX`].
fn output(
    first: BytesMut,
    from: impl AsyncRead + Send + Unpin + 'static,
    has_terminal: bool,
    seen: Seen,
) -> OutputStream {
    let frames = if has_terminal {
        Frames::Raw
    } else {
        Frames::Header
    };
    let state = (from, first, Decoder { frames, seen });
    Box::pin(unfold(
        state,
        |(mut from, mut buffer, mut decoder)| async move {
            loop {
                if let Some(piece) = decoder.next(&mut buffer) {
                    return Some((Ok(piece), (from, buffer, decoder)));
                }
                buffer.reserve(CHUNK_BYTES_MAX);
                match from.read_buf(&mut buffer).await {
                    Ok(0) => return None,
                    Ok(_) => {}
                    Err(error) => return Some((Err(error), (from, buffer, decoder))),
                }
            }
        },
    ))
}

/// Where in the stream we are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Frames {
    /// A terminal: no frames at all.
    Raw,
    /// A header of eight bytes comes next.
    Header,
    /// So much of a frame is still to come.
    Inside { is_stderr: bool, left: usize },
}

struct Decoder {
    frames: Frames,
    /// Still to be left out.
    seen: Seen,
}

impl Decoder {
    fn next(&mut self, buffer: &mut BytesMut) -> Option<Output> {
        loop {
            let (is_stderr, left) = match self.frames {
                Frames::Raw => (false, usize::MAX),
                Frames::Header if buffer.len() < 8 => return None,
                Frames::Header => {
                    let kind = buffer[0];
                    buffer.advance(4);
                    let left = buffer.get_u32() as usize;
                    // 3 is an error of the engine itself, in words.
                    let is_stderr = kind >= 2;
                    self.frames = Frames::Inside { is_stderr, left };
                    continue;
                }
                Frames::Inside { left: 0, .. } => {
                    self.frames = Frames::Header;
                    continue;
                }
                Frames::Inside { is_stderr, left } => (is_stderr, left),
            };
            if buffer.is_empty() {
                return None;
            }
            let piece = buffer
                .split_to(buffer.len().min(left).min(CHUNK_BYTES_MAX))
                .freeze();
            if self.frames != Frames::Raw {
                let left = left - piece.len();
                self.frames = Frames::Inside { is_stderr, left };
            }
            let piece = self.unseen(is_stderr, piece);
            if !piece.is_empty() {
                return Some(if is_stderr {
                    Output::Stderr(piece)
                } else {
                    Output::Stdout(piece)
                });
            }
        }
    }

    fn unseen(&mut self, is_stderr: bool, mut piece: Bytes) -> Bytes {
        let seen = if is_stderr {
            &mut self.seen.stderr
        } else {
            &mut self.seen.stdout
        };
        let skip = usize::try_from(*seen)
            .unwrap_or(usize::MAX)
            .min(piece.len());
        *seen -= skip as u64;
        piece.advance(skip);
        piece
    }
}

/// `/v1.41/containers/ID/attach?…`.
pub(crate) fn attach_path(version: &str, id: &str, stdin: bool, output: bool) -> String {
    format!(
        "/v{version}/containers/{id}/attach?stream=1&stdin={}&stdout={output}&stderr={output}",
        u8::from(stdin)
    )
}

/// `/v1.41/containers/ID/logs?…`: all of it, and on.
pub(crate) fn logs_path(version: &str, id: &str) -> String {
    format!("/v{version}/containers/{id}/logs?follow=1&stdout=1&stderr=1")
}

/// Whether the engine behind `socket` lives in our mount namespace; when the kernel does not say, it does.
pub(crate) fn shares_mounts(socket: &Path) -> bool {
    let Ok(stream) = std::os::unix::net::UnixStream::connect(socket) else {
        return true;
    };
    let peer = nix::sys::socket::getsockopt(&stream, nix::sys::socket::sockopt::PeerCredentials);
    let namespace =
        |process: String| std::fs::read_link(PathBuf::from(format!("/proc/{process}/ns/mnt")));
    match peer.map(|peer| namespace(peer.pid().to_string())) {
        Ok(Ok(theirs)) => namespace("self".to_owned()).is_ok_and(|ours| ours == theirs),
        Ok(Err(_)) | Err(_) => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decode(terminal: bool, seen: Seen, bytes: &[u8], step: usize) -> (Vec<u8>, Vec<u8>) {
        let frames = if terminal {
            Frames::Raw
        } else {
            Frames::Header
        };
        let mut decoder = Decoder { frames, seen };
        let mut buffer = BytesMut::new();
        let (mut out, mut err) = (Vec::new(), Vec::new());
        for piece in bytes.chunks(step) {
            buffer.extend_from_slice(piece);
            while let Some(piece) = decoder.next(&mut buffer) {
                match piece {
                    Output::Stdout(bytes) => out.extend_from_slice(&bytes),
                    Output::Stderr(bytes) => err.extend_from_slice(&bytes),
                }
            }
            assert!(buffer.len() < 8, "nothing but a part of a header is held");
        }
        (out, err)
    }

    fn frame(kind: u8, text: &[u8]) -> Vec<u8> {
        let mut frame = vec![kind, 0, 0, 0];
        frame.extend((text.len() as u32).to_be_bytes());
        frame.extend(text);
        frame
    }

    #[test]
    fn frames_are_taken_apart_wherever_the_stream_is_cut() {
        let stream = [
            frame(1, b"out"),
            frame(2, b"err"),
            frame(1, b""),
            frame(1, b"more"),
        ]
        .concat();
        for step in 1..stream.len() {
            let seen = decode(false, Seen::default(), &stream, step);
            assert_eq!(seen, (b"outmore".to_vec(), b"err".to_vec()));
        }
    }

    #[test]
    fn a_terminal_may_print_any_byte() {
        let bytes = b"\x01\0\0\0\xff\xff\xff\xff$ \x02";
        assert_eq!(decode(true, Seen::default(), bytes, 3).0, bytes);
    }

    #[test]
    fn what_was_seen_does_not_come_twice() {
        let stream = [frame(1, b"abc"), frame(2, b"xyz"), frame(1, b"def")].concat();
        let seen = Seen {
            stdout: 4,
            stderr: 1,
        };
        assert_eq!(
            decode(false, seen, &stream, 5),
            (b"ef".to_vec(), b"yz".to_vec())
        );
        assert_eq!(
            decode(
                true,
                Seen {
                    stdout: 2,
                    stderr: 0
                },
                b"abcd",
                1
            )
            .0,
            b"cd"
        );
    }
}
