//! Signals to a command that has connected its terminal with a job.

use std::io;
use std::task::Poll;

use tokio::signal::unix::{Signal, SignalKind, signal};

/// Those that are caught; the others do what they always do.
pub(crate) struct Signals(Vec<(i32, Signal)>);

impl Signals {
    /// Catches these.
    ///
    /// # Errors
    /// The kernel refuses.
    pub(crate) fn catch(numbers: &[i32]) -> io::Result<Self> {
        let signals = numbers
            .iter()
            .map(|&number| Ok((number, signal(SignalKind::from_raw(number))?)));
        Ok(Self(signals.collect::<io::Result<_>>()?))
    }

    /// The next one.
    pub(crate) async fn next(&mut self) -> i32 {
        std::future::poll_fn(|context| {
            for (number, signal) in &mut self.0 {
                if signal.poll_recv(context).is_ready() {
                    return Poll::Ready(*number);
                }
            }
            Poll::Pending
        })
        .await
    }
}
