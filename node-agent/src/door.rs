//! The agent's door: a Unix socket that everybody on the node may open. Who calls is the kernel's word.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use anyhow::Context;
use capstan_supervisor::containers::{ContainerEngine, Door, guests};
use capstan_supervisor::ports::Attempts;
use tokio::net::UnixListener;

/// A `startdocker` makes one call.
const CALLS_PER_CONNECTION_MAX: u32 = 4;

/// Opens the door at `path`. The caller holds the state folder's lock, so a socket that is there is a dead agent's.
pub(crate) fn open(path: &Path) -> anyhow::Result<UnixListener> {
    let folder = path.parent().context("the door has no folder")?;
    fs::create_dir_all(folder).with_context(|| format!("making {}", folder.display()))?;
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

/// Serves callers for ever.
pub(crate) async fn serve<E: ContainerEngine, A: Attempts>(
    listener: UnixListener,
    door: Door<E, A>,
) -> anyhow::Result<()> {
    tonic::transport::Server::builder()
        .max_concurrent_streams(CALLS_PER_CONNECTION_MAX)
        .serve_with_incoming(door.into_service(), guests(listener))
        .await
        .context("serving the door")
}
