//! A registry of images on loopback (Debian's docker-registry), with accounts if wanted, behind a gate that a test holds
//! shut for as long as it looks at who waits. dockerd speaks plain HTTP to registries in 127.0.0.0/8.

use std::fs;
use std::io;
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;

use crate::engine::{self, docker};
use crate::wait::wait_until;

/// The account of a registry that asks for one, and its password.
pub const ACCOUNT: (&str, &str) = ("librarian", "open-sesame-73");

/// A registry that runs; ended when dropped.
pub struct Registry {
    folder: tempfile::TempDir,
    process: Child,
    port: u16,
    gate: Arc<Gate>,
}

/// Lets connections through, or has them wait.
struct Gate {
    is_open: Mutex<bool>,
    changed: Condvar,
    over: AtomicBool,
}

impl Registry {
    /// Starts one with an open gate; `None`, said aloud, without a container engine or without the program.
    ///
    /// # Panics
    /// When it does not start.
    #[must_use]
    pub fn start(has_accounts: bool) -> Option<Self> {
        if !engine::is_there() {
            return None;
        }
        let program = "/usr/bin/docker-registry";
        if !std::path::Path::new(program).exists() {
            let text = b"skipped: no docker-registry (scripts/test installs it)\n";
            io::Write::write_all(&mut io::stderr(), text).ok();
            return None;
        }
        let folder = tempfile::tempdir().expect("a temporary folder can be made");
        let behind = free_port();
        let settings = settings(folder.path(), behind, has_accounts);
        let file = folder.path().join("config.yml");
        fs::write(&file, settings).expect("the folder is ours");
        let log = fs::File::create(folder.path().join("log")).expect("the folder is ours");
        let process = Command::new(program)
            .arg("serve")
            .arg(&file)
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a file can be shared"))
            .stderr(log)
            .spawn()
            .expect("docker-registry can be started");
        let target = SocketAddr::from((Ipv4Addr::LOCALHOST, behind));
        wait_until("the registry takes connections", || {
            TcpStream::connect(target).map(drop)
        });
        let gate = Arc::new(Gate {
            is_open: Mutex::new(true),
            changed: Condvar::new(),
            over: AtomicBool::new(false),
        });
        let port = serve(&gate, target);
        Some(Self {
            folder,
            process,
            port,
            gate,
        })
    }

    /// `127.0.0.1:40000`.
    #[must_use]
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Puts the test image there as `NAME:TAG`, with one file more so that no other image has its layers, and takes it
    /// off this host again. Answers its full name.
    ///
    /// # Panics
    /// When it cannot be put there.
    #[must_use]
    pub fn offer(&self, name: &str) -> String {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let full = format!("{}/{name}", self.address());
        let nth = NEXT.fetch_add(1, Ordering::Relaxed);
        let root = self.folder.path().join(format!("root{nth}"));
        fs::create_dir(&root).expect("the folder is ours");
        engine::lay_out(&root);
        fs::write(root.join("etc/offered"), &full).expect("the folder is ours");
        let line = "tar --owner=0 --group=0 -C \"$1\" -c . | docker import - \"$2\"";
        let made = Command::new("sh")
            .args(["-c", line, "sh"])
            .arg(&root)
            .arg(&full)
            .output()
            .expect("sh is there");
        assert!(made.status.success(), "{made:?}");
        let (account, password) = ACCOUNT;
        // The account is written to a folder of ours, not to root's own.
        let folder = self.folder.path().display().to_string();
        let login = ["--config", &folder, "login", "-u", account, "-p", password];
        // Refused by one without accounts, which needs none.
        drop(docker(&[&login[..], &[&self.address()]].concat()));
        let pushed = docker(&["--config", &folder, "push", "-q", &full]);
        assert!(pushed.is_some(), "{full}: {}", self.log());
        self.forget(&full);
        full
    }

    /// Takes an image off this host.
    pub fn forget(&self, full: &str) {
        drop(docker(&["rmi", "-f", full]));
    }

    /// Who comes from now on waits …
    pub fn shut(&self) {
        self.gate.set(false);
    }

    /// … until this.
    pub fn open(&self) {
        self.gate.set(true);
    }

    /// What it has written: a line for each request.
    #[must_use]
    pub fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        self.gate.over.store(true, Ordering::Relaxed);
        self.gate.set(true);
        // Wakes the listener, which then ends.
        drop(TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)));
        self.process.kill().ok();
        self.process.wait().ok();
    }
}

impl Gate {
    fn set(&self, open: bool) {
        *self.is_open.lock().unwrap_or_else(PoisonError::into_inner) = open;
        self.changed.notify_all();
    }

    fn pass(&self) {
        let open = self.is_open.lock().unwrap_or_else(PoisonError::into_inner);
        let passed = self.changed.wait_while(open, |open| !*open);
        drop(passed.unwrap_or_else(PoisonError::into_inner));
    }
}

/// Carries connections through the gate to `target`; answers the port.
fn serve(gate: &Arc<Gate>, target: SocketAddr) -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port of loopback");
    let port = listener.local_addr().expect("it is bound").port();
    let gate = Arc::clone(gate);
    thread::spawn(move || {
        for client in listener.incoming().map_while(Result::ok) {
            if gate.over.load(Ordering::Relaxed) {
                return;
            }
            let gate = Arc::clone(&gate);
            thread::spawn(move || {
                gate.pass();
                carry(&client, target).ok();
            });
        }
    });
    port
}

fn carry(client: &TcpStream, target: SocketAddr) -> io::Result<()> {
    let server = TcpStream::connect(target)?;
    let (mut up, mut to) = (client.try_clone()?, server.try_clone()?);
    let upward = thread::spawn(move || {
        io::copy(&mut up, &mut to).ok();
        to.shutdown(Shutdown::Write).ok();
    });
    io::copy(&mut &server, &mut &*client)?;
    client.shutdown(Shutdown::Write)?;
    upward.join().ok();
    Ok(())
}

fn free_port() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port of loopback");
    listener.local_addr().expect("it is bound").port()
}

fn settings(folder: &std::path::Path, port: u16, has_accounts: bool) -> String {
    let folder = folder.display();
    let mut text = format!(
        "version: 0.1\nstorage:\n  filesystem:\n    rootdirectory: {folder}/store\nhttp:\n  addr: 127.0.0.1:{port}\n"
    );
    if has_accounts {
        let (account, password) = ACCOUNT;
        let made = Command::new("htpasswd")
            .args(["-Bbn", account, password])
            .output()
            .expect("htpasswd is installed (apache2-utils)");
        fs::write(format!("{folder}/accounts"), made.stdout).expect("the folder is ours");
        text.push_str(&format!(
            "auth:\n  htpasswd:\n    realm: test\n    path: {folder}/accounts\n"
        ));
    }
    text
}
