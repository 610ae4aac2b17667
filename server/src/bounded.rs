//! A queue between threads with a bound that costs nothing while it is empty: the standard library's bounded channel
//! sets aside all of its places at once, megabytes for a bound that is meant for bursts.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::Duration;

/// Where things are put in.
#[derive(Debug)]
pub(crate) struct Entrance<T> {
    sender: Sender<T>,
    waiting: Arc<AtomicUsize>,
    max: usize,
}

/// Where they are taken out.
#[derive(Debug)]
pub(crate) struct Exit<T> {
    receiver: Receiver<T>,
    waiting: Arc<AtomicUsize>,
}

/// A queue of at most `max` things.
pub(crate) fn queue<T>(max: usize) -> (Entrance<T>, Exit<T>) {
    let (sender, receiver) = channel();
    let waiting = Arc::new(AtomicUsize::new(0));
    let entrance = Entrance {
        sender,
        waiting: waiting.clone(),
        max,
    };
    (entrance, Exit { receiver, waiting })
}

impl<T> Entrance<T> {
    /// Puts `thing` in.
    ///
    /// # Errors
    /// The thing, when the queue is full or nobody takes anything out any more.
    pub(crate) fn put(&self, thing: T) -> Result<(), T> {
        if self.waiting.fetch_add(1, Ordering::Relaxed) >= self.max {
            self.waiting.fetch_sub(1, Ordering::Relaxed);
            return Err(thing);
        }
        self.sender.send(thing).map_err(|error| error.0)
    }
}

impl<T> Exit<T> {
    /// Takes the next thing out, waiting for it; without patience as long as it takes.
    ///
    /// # Errors
    /// Nothing came in time, or nothing will come any more.
    pub(crate) fn take(&self, patience: Option<Duration>) -> Result<T, RecvTimeoutError> {
        let taken = match patience {
            Some(patience) => self.receiver.recv_timeout(patience),
            None => self.receiver.recv().map_err(RecvTimeoutError::from),
        };
        taken.inspect(|_| self.note_taken())
    }

    /// Takes the next thing out, if there is one.
    pub(crate) fn take_now(&self) -> Option<T> {
        let taken = self.receiver.try_recv().ok();
        taken.inspect(|_| self.note_taken())
    }

    fn note_taken(&self) {
        self.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_queue_gives_back_what_it_has_no_place_for() {
        let (entrance, exit) = queue(2);
        assert_eq!((entrance.put(1), entrance.put(2)), (Ok(()), Ok(())));
        assert_eq!(entrance.put(3), Err(3));
        assert_eq!(exit.take_now(), Some(1));
        assert_eq!(entrance.put(4), Ok(()));
        assert_eq!(exit.take(None), Ok(2));
        drop(entrance);
        assert_eq!(exit.take(None), Ok(4));
        assert_eq!(exit.take(None), Err(RecvTimeoutError::Disconnected));
    }
}
