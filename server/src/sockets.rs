//! Where the server is found: the run folder with the Unix socket and the agents' address, and the lock that keeps a
//! second server from the same state.

use std::fs::{File, Permissions};
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::Context;
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use tokio::net::{TcpListener, UnixListener};

const LOCK: &str = "server.lock";
const SOCKET: &str = "server.sock";
const AGENTS_ADDR: &str = "agents.addr";

/// Takes the lock of a folder for as long as the value lives; the kernel gives it back when the process ends.
///
/// # Errors
/// When another server has it.
pub(crate) fn lock(folder: &Path) -> anyhow::Result<Flock<File>> {
    let path = folder.join(LOCK);
    let file = File::create(&path).with_context(|| format!("opening {}", path.display()))?;
    let locked = Flock::lock(file, FlockArg::LockExclusiveNonblock);
    locked.map_err(|(_, errno)| {
        if errno == Errno::EWOULDBLOCK {
            return anyhow::anyhow!(
                "another server runs on {}: stop it first, or choose another state_dir and run_dir",
                folder.display()
            );
        }
        anyhow::Error::new(errno).context(format!("locking {}", path.display()))
    })
}

/// The folder in which clients and agents on this host find the server.
pub(crate) struct RunFolder {
    folder: PathBuf,
    _lock: Flock<File>,
}

impl RunFolder {
    /// Makes the folder, and makes sure that no other server uses it.
    ///
    /// # Errors
    /// When it cannot be made or another server has it.
    pub(crate) fn prepare(folder: &Path) -> anyhow::Result<Self> {
        std::fs::create_dir_all(folder)
            .with_context(|| format!("making the run folder {}", folder.display()))?;
        let lock = lock(folder)?;
        // Left by a server that was killed: who waits for ours must not find these.
        for name in [SOCKET, AGENTS_ADDR] {
            let path = folder.join(name);
            match std::fs::remove_file(&path) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(error).with_context(|| format!("removing {}", path.display()));
                }
                Ok(()) | Err(_) => {}
            }
        }
        Ok(Self {
            folder: folder.to_owned(),
            _lock: lock,
        })
    }

    /// The Unix socket's path.
    pub(crate) fn socket(&self) -> PathBuf {
        self.folder.join(SOCKET)
    }

    /// Opens the Unix socket. Anybody may connect: the kernel tells who it is, and the server what they may.
    ///
    /// # Errors
    /// When the path is too long for a socket or cannot be written.
    pub(crate) fn listen(&self) -> anyhow::Result<UnixListener> {
        let path = self.socket();
        let socket = UnixListener::bind(&path);
        let socket = socket.with_context(|| format!("listening on {}", path.display()))?;
        std::fs::set_permissions(&path, Permissions::from_mode(0o666))
            .with_context(|| format!("opening {} to all users", path.display()))?;
        Ok(socket)
    }

    /// Writes where agents reach the server, at once and whole.
    ///
    /// # Errors
    /// When the folder cannot be written.
    pub(crate) fn write_agents_addr(&self, addr: SocketAddr) -> anyhow::Result<()> {
        let path = self.folder.join(AGENTS_ADDR);
        let fresh = self.folder.join(format!("{AGENTS_ADDR}.new"));
        std::fs::write(&fresh, format!("{addr}\n"))
            .and_then(|()| std::fs::rename(&fresh, &path))
            .with_context(|| format!("writing {}", path.display()))
    }
}

/// Opens the agents' TCP socket.
///
/// # Errors
/// When the address is not this host's or is in use.
pub(crate) async fn listen_for_agents(addr: SocketAddr) -> anyhow::Result<TcpListener> {
    let socket = TcpListener::bind(addr).await;
    socket.with_context(|| format!("listening for agents on {addr} (setting agents_listen)"))
}
