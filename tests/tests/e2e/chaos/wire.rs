//! A wire between agents and their server that can be cut and can go dead: every connection passes through here. A cut one
//! ends, as when a host is switched off; a dead one keeps silent, as when a cable is pulled.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;

/// What both ends of every connection share.
#[derive(Default)]
struct Lines {
    is_dead: Mutex<bool>,
    changed: Condvar,
    open: Mutex<Vec<TcpStream>>,
}

impl Lines {
    /// Waits while nothing passes.
    fn wait(&self) {
        let dead = self.is_dead.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.changed.wait_while(dead, |dead| *dead);
        drop(waited.unwrap_or_else(PoisonError::into_inner));
    }
}

pub(super) struct Wire {
    port: u16,
    lines: Arc<Lines>,
}

impl Wire {
    /// A wire to `server` (`host:port`); it lives as long as the test's process.
    pub(super) fn to(server: &str) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let lines = Arc::new(Lines::default());
        let (server, kept) = (server.to_owned(), Arc::clone(&lines));
        thread::spawn(move || {
            for near in listener.incoming().flatten() {
                kept.wait();
                // A server that is dead refuses; the agent sees its connection end.
                let Ok(far) = TcpStream::connect(&server) else {
                    continue;
                };
                if let (Ok(a), Ok(b)) = (near.try_clone(), far.try_clone()) {
                    kept.open.lock().unwrap().push(near.try_clone().unwrap());
                    let [there, back] = [Arc::clone(&kept), Arc::clone(&kept)];
                    thread::spawn(move || Self::pass(a, b, &there));
                    thread::spawn(move || Self::pass(far, near, &back));
                }
            }
        });
        Self { port, lines }
    }

    fn pass(mut from: TcpStream, mut to: TcpStream, lines: &Lines) {
        let mut piece = [0; 16 * 1024];
        while let Ok(length @ 1..) = from.read(&mut piece) {
            lines.wait();
            if to.write_all(&piece[..length]).is_err() {
                break;
            }
        }
        to.shutdown(Shutdown::Both).ok();
        from.shutdown(Shutdown::Both).ok();
    }

    pub(super) fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Ends every connection.
    pub(super) fn cut(&self) {
        for line in self.lines.open.lock().unwrap().drain(..) {
            line.shutdown(Shutdown::Both).ok();
        }
    }

    /// From now on nothing passes, and nobody is told; or it does again.
    pub(super) fn set_dead(&self, is_dead: bool) {
        *self.lines.is_dead.lock().unwrap() = is_dead;
        self.lines.changed.notify_all();
    }
}
