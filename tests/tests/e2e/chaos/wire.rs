//! A wire between agents and their server that can be cut: every connection passes through here, and all end at once.

use std::io;
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

pub(super) struct Wire {
    port: u16,
    lines: Arc<Mutex<Vec<TcpStream>>>,
}

impl Wire {
    /// A wire to `server` (`host:port`); it lives as long as the test's process.
    pub(super) fn to(server: &str) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let lines = Arc::new(Mutex::new(Vec::new()));
        let (server, kept) = (server.to_owned(), Arc::clone(&lines));
        thread::spawn(move || {
            for near in listener.incoming().flatten() {
                // A server that is dead refuses; the agent sees its connection end.
                let Ok(far) = TcpStream::connect(&server) else {
                    continue;
                };
                if let (Ok(a), Ok(b)) = (near.try_clone(), far.try_clone()) {
                    kept.lock().unwrap().push(near.try_clone().unwrap());
                    thread::spawn(move || Self::pass(a, b));
                    thread::spawn(move || Self::pass(far, near));
                }
            }
        });
        Self { port, lines }
    }

    fn pass(mut from: TcpStream, mut to: TcpStream) {
        io::copy(&mut from, &mut to).ok();
        to.shutdown(Shutdown::Both).ok();
        from.shutdown(Shutdown::Both).ok();
    }

    pub(super) fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Ends every connection.
    pub(super) fn cut(&self) {
        for line in self.lines.lock().unwrap().drain(..) {
            line.shutdown(Shutdown::Both).ok();
        }
    }
}
