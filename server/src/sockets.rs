//! Where the server is found: the run folder with the Unix socket and the agents' address, and the lock that keeps a
//! second server from the same state.

use std::fs::{File, Permissions};
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::Context;
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use tokio::net::{TcpListener, UnixListener};

const LOCK: &str = "server.lock";
const SOCKET: &str = "server.sock";
const AGENTS_ADDR: &str = "agents.addr";
/// How this server is called; stays when the server ends, so that commands can say which one does not answer.
const SERVER_NAME: &str = "server_name";
/// How callers on this host are known; commands put it where Torque's put the submitting host.
const HOST_NAME: &str = "host_name";

/// A killed server may hold its locks and files for a moment after its parent knows of its end: so long, and asking
/// so often, does the next one wait before it takes the folder for somebody else's.
const PREDECESSOR_ENDS_WITHIN: Duration = Duration::from_secs(3);
const ASK_EVERY: Duration = Duration::from_millis(20);

/// Tries `take` until it finds nobody else in the way, or that takes too long.
///
/// # Errors
/// What the last try said.
pub(crate) async fn after_predecessor<T, E>(
    mut take: impl FnMut() -> Result<T, E>,
    is_in_use: impl Fn(&E) -> bool,
) -> Result<T, E> {
    let give_up = Instant::now() + PREDECESSOR_ENDS_WITHIN;
    loop {
        match take() {
            Err(error) if is_in_use(&error) && Instant::now() < give_up => {
                tokio::time::sleep(ASK_EVERY).await;
            }
            taken => return taken,
        }
    }
}

/// Takes the lock of a folder for as long as the value lives; the kernel gives it back when the process ends.
///
/// # Errors
/// When another server has it.
pub(crate) async fn lock(folder: &Path) -> anyhow::Result<Flock<File>> {
    let path = folder.join(LOCK);
    let open = || -> Result<Flock<File>, Errno> {
        let file = File::create(&path)
            .map_err(|error| Errno::from_raw(error.raw_os_error().unwrap_or_default()))?;
        let locked = Flock::lock(file, FlockArg::LockExclusiveNonblock);
        locked.map_err(|(_, errno)| errno)
    };
    let locked = after_predecessor(open, |errno| *errno == Errno::EWOULDBLOCK).await;
    locked.map_err(|errno| {
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
    pub(crate) async fn prepare(folder: &Path) -> anyhow::Result<Self> {
        if !folder.is_dir() {
            // Everybody must be able to reach the socket, whatever our umask.
            std::fs::create_dir_all(folder)
                .and_then(|()| std::fs::set_permissions(folder, Permissions::from_mode(0o755)))
                .with_context(|| format!("making the run folder {}", folder.display()))?;
        }
        let lock = lock(folder).await?;
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
        self.write(AGENTS_ADDR, &addr.to_string())
    }

    /// Writes how the server and its host are called, each at once and whole.
    ///
    /// # Errors
    /// When the folder cannot be written.
    pub(crate) fn write_names(&self, server: &str, host: &str) -> anyhow::Result<()> {
        self.write(SERVER_NAME, server)?;
        self.write(HOST_NAME, host)
    }

    /// Puts one line into a file that everybody may read, whatever our umask.
    fn write(&self, name: &str, line: &str) -> anyhow::Result<()> {
        let path = self.folder.join(name);
        let fresh = self.folder.join(format!("{name}.new"));
        std::fs::write(&fresh, format!("{line}\n"))
            .and_then(|()| std::fs::set_permissions(&fresh, Permissions::from_mode(0o644)))
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
