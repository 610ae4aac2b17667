//! Reaching a server or an agent through its Unix socket.

use std::path::{Path, PathBuf};

use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tonic::transport::{Channel, Endpoint, Uri};
use tower::service_fn;

/// The socket could not be reached.
#[derive(Debug, thiserror::Error)]
#[error("no answer at {socket}")]
pub struct ConnectError {
    /// The socket that was tried.
    pub socket: PathBuf,
    /// What the kernel said.
    #[source]
    pub source: std::io::Error,
}

/// Connects to the Unix socket at `socket`.
///
/// The first connection is made here and not by tonic, so that "nobody listens" arrives as the kernel's own
/// error (`ENOENT`, `ECONNREFUSED`, `EACCES`) and not as a chain of transport errors.
///
/// # Errors
/// When nobody listens there, or the caller may not reach it.
pub async fn connect_unix(socket: &Path) -> Result<Channel, ConnectError> {
    let failed = |source| ConnectError {
        socket: socket.to_owned(),
        source,
    };
    let first = UnixStream::connect(socket).await.map_err(failed)?;
    let mut first = Some(first);
    let path = socket.to_owned();
    // The name only fills the Host header; the connector ignores it.
    Endpoint::from_static("http://capstan.invalid")
        .connect_with_connector(service_fn(move |_: Uri| {
            let ready = first.take();
            let path = path.clone();
            async move {
                let stream = match ready {
                    Some(stream) => stream,
                    None => UnixStream::connect(path).await?,
                };
                Ok::<_, std::io::Error>(TokioIo::new(stream))
            }
        }))
        .await
        .map_err(|error| failed(std::io::Error::other(error)))
}

#[cfg(test)]
mod tests {
    use std::io::ErrorKind;

    use super::connect_unix;

    #[tokio::test]
    async fn nobody_listening_is_told_in_the_kernels_words() {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("server.sock");
        let error = connect_unix(&socket).await.unwrap_err();
        assert_eq!(error.source.kind(), ErrorKind::NotFound);
        assert_eq!(
            error.to_string(),
            format!("no answer at {}", socket.display())
        );

        drop(std::os::unix::net::UnixListener::bind(&socket).unwrap());
        let error = connect_unix(&socket).await.unwrap_err();
        assert_eq!(error.source.kind(), ErrorKind::ConnectionRefused);
        assert_eq!(error.socket, socket);
    }
}
