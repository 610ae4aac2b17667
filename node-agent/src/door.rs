//! The agent's door: a Unix socket that everybody on the node may open, a bounded number of times. Who calls is the
//! kernel's word.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context as TaskContext, Poll};
use std::time::Duration;

use anyhow::Context;
use capstan_supervisor::containers::{ContainerEngine, Door};
use capstan_supervisor::ports::{Attempts, Tasks};
use futures_util::{Stream, stream};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{UnixListener, UnixStream};
use tonic::transport::server::{Connected, UdsConnectInfo};

/// Connections that one user, and all together, may hold. One container is one connection.
const PER_USER_MAX: usize = 256;
const ALL_MAX: usize = 2048;
/// Before the next try when the kernel has no descriptors left for callers.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Opens the door at `path`. The caller holds the state folder's lock, so a socket that is there is a dead agent's.
pub(crate) fn open(path: &Path) -> anyhow::Result<UnixListener> {
    let folder = path.parent().context("the door has no folder")?;
    make_folder(folder).with_context(|| format!("making {}", folder.display()))?;
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(error).with_context(|| format!("removing the old {}", path.display()));
        }
        Ok(()) | Err(_) => {}
    }
    let listener =
        UnixListener::bind(path).with_context(|| format!("opening {}", path.display()))?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o666))
        .with_context(|| format!("opening {} to everybody", path.display()))?;
    Ok(listener)
}

/// Makes the folder one that everybody may pass through, whatever umask we were started with; one that is there
/// already is the operator's.
fn make_folder(folder: &Path) -> io::Result<()> {
    if folder.is_dir() {
        return Ok(());
    }
    fs::create_dir_all(folder)?;
    fs::set_permissions(folder, fs::Permissions::from_mode(0o755))
}

/// Serves callers for ever.
pub(crate) async fn serve<E: ContainerEngine, A: Attempts + Tasks>(
    listener: UnixListener,
    door: Door<E, A>,
) -> anyhow::Result<()> {
    tonic::transport::Server::builder()
        .serve_with_incoming(door.into_service(), callers(listener))
        .await
        .context("serving the door")
}

fn callers(listener: UnixListener) -> impl Stream<Item = io::Result<Caller>> {
    let counts = Counts::default();
    stream::unfold((listener, counts), |(listener, counts)| async {
        let caller = next(&listener, &counts).await;
        Some((Ok(caller), (listener, counts)))
    })
}

/// The next caller who may come in; the others are hung up on.
async fn next(listener: &UnixListener, counts: &Counts) -> Caller {
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "a caller at the door could not be let in");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let Ok(peer) = stream.peer_cred() else {
            continue;
        };
        match counts.admit(peer.uid()) {
            Some(place) => {
                return Caller {
                    stream,
                    _place: place,
                };
            }
            None => tracing::warn!(uid = peer.uid(), "too many connections to the door"),
        }
    }
}

/// Who holds how many connections.
#[derive(Clone, Debug, Default)]
struct Counts(Arc<Mutex<HashMap<u32, usize>>>);

/// A connection that counts; given back when it closes.
#[derive(Debug)]
struct Place {
    counts: Counts,
    uid: u32,
}

impl Counts {
    fn admit(&self, uid: u32) -> Option<Place> {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let all: usize = counts.values().sum();
        let own = counts.get(&uid).copied().unwrap_or(0);
        if own >= PER_USER_MAX || all >= ALL_MAX {
            return None;
        }
        counts.insert(uid, own + 1);
        Some(Place {
            counts: self.clone(),
            uid,
        })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut counts = self.counts.0.lock().unwrap_or_else(PoisonError::into_inner);
        let left = counts.get(&self.uid).map_or(0, |own| own.saturating_sub(1));
        if left == 0 {
            counts.remove(&self.uid);
        } else {
            counts.insert(self.uid, left);
        }
    }
}

/// An admitted connection.
struct Caller {
    stream: UnixStream,
    _place: Place,
}

impl Connected for Caller {
    type ConnectInfo = UdsConnectInfo;

    fn connect_info(&self) -> Self::ConnectInfo {
        self.stream.connect_info()
    }
}

impl AsyncRead for Caller {
    fn poll_read(
        mut self: Pin<&mut Self>,
        task: &mut TaskContext<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(task, into)
    }
}

impl AsyncWrite for Caller {
    fn poll_write(
        mut self: Pin<&mut Self>,
        task: &mut TaskContext<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(task, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, task: &mut TaskContext<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(task)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, task: &mut TaskContext<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(task)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_user_cannot_take_all_places() {
        let counts = Counts::default();
        let mut greedy: Vec<Place> = (0..PER_USER_MAX).filter_map(|_| counts.admit(7)).collect();
        assert_eq!(greedy.len(), PER_USER_MAX);
        assert!(counts.admit(7).is_none());
        assert!(counts.admit(8).is_some());
        greedy.pop();
        assert!(counts.admit(7).is_some());
    }

    #[test]
    fn all_together_are_bounded() {
        let counts = Counts::default();
        let places: Vec<Place> = (0..100_000).filter_map(|uid| counts.admit(uid)).collect();
        assert_eq!(places.len(), ALL_MAX);
        drop(places);
        assert!(counts.0.lock().unwrap().is_empty());
    }
}
