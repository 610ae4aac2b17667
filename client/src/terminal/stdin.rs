//! Our stdin, read by a thread in pieces as the protocol has them, and only once a job takes it.

use std::io::{self, Read};
use std::time::Duration;

use tokio::sync::mpsc;

/// Longest piece, as the protocol says.
const PIECE_BYTES: usize = 4 << 10;
/// Before the next try when another program has made the shared file non-blocking.
const PAUSE: Duration = Duration::from_millis(20);

/// Starts reading with the first [`Stdin::next`].
#[derive(Default)]
pub(crate) struct Stdin(Option<mpsc::Receiver<Vec<u8>>>);

impl Stdin {
    /// The next piece; none at the end of the file. May be dropped at any time: nothing that was read is lost.
    pub(crate) async fn next(&mut self) -> Option<Vec<u8>> {
        self.0.get_or_insert_with(read).recv().await
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
                    std::thread::sleep(PAUSE);
                }
                Err(_) => return,
            }
        }
    });
    pieces
}
