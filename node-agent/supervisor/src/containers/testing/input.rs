//! Stdin of a container of the engine in memory.

use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use bytes::Bytes;
use tokio::io::AsyncWrite;
use tokio::sync::mpsc;

use super::fake::lock;

/// Stdin of a container; shutting it down ends it.
pub(super) struct Input(pub(super) Arc<Mutex<Option<mpsc::Sender<Bytes>>>>);

impl AsyncWrite for Input {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        let stdin = lock(&self.0);
        let Some(send) = stdin.as_ref() else {
            return Poll::Ready(Err(std::io::ErrorKind::BrokenPipe.into()));
        };
        match send.try_send(Bytes::copy_from_slice(bytes)) {
            Ok(()) => Poll::Ready(Ok(bytes.len())),
            Err(mpsc::error::TrySendError::Closed(_)) => {
                Poll::Ready(Err(std::io::ErrorKind::BrokenPipe.into()))
            }
            Err(mpsc::error::TrySendError::Full(_)) => {
                // Asked again at once: this is a test's engine.
                context.waker().wake_by_ref();
                Poll::Pending
            }
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        lock(&self.0).take();
        Poll::Ready(Ok(()))
    }
}
