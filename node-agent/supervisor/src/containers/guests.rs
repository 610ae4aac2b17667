//! Who may stand in the door: each user has a bounded number of connections, so that nobody can use up the agent's
//! file descriptors, whatever they say or do not say on them.

use std::collections::HashMap;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::Stream;
use futures_util::stream::unfold;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{UnixListener, UnixStream};
use tonic::transport::server::{Connected, UdsConnectInfo};

/// Connections of one user at a time; a `startdocker` has one. Root is not counted.
pub const CONNECTIONS_PER_USER_MAX: usize = 128;
/// Pause when the kernel has no descriptor left.
const PAUSE: Duration = Duration::from_millis(50);

type Counts = Arc<Mutex<HashMap<u32, usize>>>;

/// The connections that arrive at `listener`, for ever. One too many of a user is closed at once.
pub fn guests(listener: UnixListener) -> impl Stream<Item = io::Result<Guest>> + Send {
    unfold(
        (listener, Counts::default()),
        |(listener, counts)| async move {
            loop {
                match listener.accept().await {
                    Ok((stream, _)) => {
                        if let Some(place) = Place::take(&counts, &stream) {
                            return Some((
                                Ok(Guest {
                                    stream,
                                    _place: place,
                                }),
                                (listener, counts),
                            ));
                        }
                    }
                    Err(error) => {
                        tracing::warn!(%error, "connection not accepted");
                        tokio::time::sleep(PAUSE).await;
                    }
                }
            }
        },
    )
}

/// A connection that counts.
#[derive(Debug)]
pub struct Guest {
    stream: UnixStream,
    _place: Place,
}

#[derive(Debug)]
struct Place {
    counts: Counts,
    uid: u32,
}

impl Place {
    fn take(counts: &Counts, stream: &UnixStream) -> Option<Self> {
        let uid = stream.peer_cred().ok()?.uid();
        let mut all = counts.lock().unwrap_or_else(PoisonError::into_inner);
        let count = all.entry(uid).or_default();
        if uid != 0 && *count >= CONNECTIONS_PER_USER_MAX {
            return None;
        }
        *count += 1;
        let counts = Arc::clone(counts);
        Some(Self { counts, uid })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut all = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = all.get_mut(&self.uid) {
            *count -= 1;
            if *count == 0 {
                all.remove(&self.uid);
            }
        }
    }
}

impl Connected for Guest {
    type ConnectInfo = UdsConnectInfo;

    fn connect_info(&self) -> UdsConnectInfo {
        self.stream.connect_info()
    }
}

impl AsyncRead for Guest {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Guest {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
