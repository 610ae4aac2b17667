//! Our stdin, read by a thread, and only once a container takes it: a shell loop around us may need the rest.

use std::io::{self, Read};

use tokio::sync::{Semaphore, mpsc};

/// Largest piece that is read at once; smaller than the agent's window, which must have room for it.
const PIECE_BYTES: usize = 32 * 1024;

/// Starts reading with the first [`Stdin::next`].
#[derive(Default)]
pub(super) struct Stdin {
    pieces: Option<mpsc::Receiver<Vec<u8>>>,
    /// Read, and waiting for credit.
    held: Option<Vec<u8>>,
}

impl Stdin {
    /// The next piece, when there is credit for it; none at the end of the file. May be dropped at any time: nothing
    /// that was read is lost.
    pub(super) async fn next(&mut self, credit: &Semaphore) -> Option<Vec<u8>> {
        if self.held.is_none() {
            self.held = self.pieces.get_or_insert_with(read).recv().await;
        }
        let length = self.held.as_ref()?.len();
        // The semaphore is never closed.
        credit.acquire_many(length as u32).await.ok()?.forget();
        self.held.take()
    }
}

fn read() -> mpsc::Receiver<Vec<u8>> {
    let (send, pieces) = mpsc::channel(1);
    std::thread::spawn(move || {
        let mut buffer = vec![0; PIECE_BYTES];
        loop {
            match io::stdin().lock().read(&mut buffer) {
                Ok(0) => return,
                Ok(length) => {
                    if send.blocking_send(buffer[..length].to_vec()).is_err() {
                        return;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    std::thread::sleep(std::time::Duration::from_millis(20));
                }
                Err(_) => return,
            }
        }
    });
    pieces
}
