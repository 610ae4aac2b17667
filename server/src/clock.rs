//! The server's clock: wall time in milliseconds that never goes back. The one place that reads the time.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use capstan_types::Timestamp;

/// Hands out times. When somebody sets the wall clock back, it goes on from where it was, at the pace of the
/// monotonic clock, until the wall clock has caught up: no event gets a time before an earlier event.
#[derive(Debug)]
pub(crate) struct Clock {
    last: Timestamp,
    last_read: Instant,
}

impl Clock {
    /// A clock that never says a time before `earliest` (the last time known from before a restart).
    #[must_use]
    pub(crate) fn starting_at(earliest: Timestamp) -> Self {
        Self {
            last: earliest.max(wall()),
            last_read: Instant::now(),
        }
    }

    /// The time.
    pub(crate) fn now(&mut self) -> Timestamp {
        let read = Instant::now();
        let passed = read.saturating_duration_since(self.last_read).as_millis() as u64;
        let steady = Timestamp(self.last.0.saturating_add(passed));
        let now = next(self.last, steady, wall());
        // Without a whole millisecond passed the fraction must not be lost, or a busy clock would stand still.
        if now > self.last {
            self.last_read = read;
        }
        self.last = now;
        now
    }
}

/// The wall clock, for readers that only display.
#[must_use]
pub(crate) fn wall() -> Timestamp {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    Timestamp(since.as_millis() as u64)
}

fn next(last: Timestamp, steady: Timestamp, wall: Timestamp) -> Timestamp {
    if wall >= last { wall } else { steady }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_follows_the_wall_but_never_goes_back() {
        let at = Timestamp;
        assert_eq!(next(at(100), at(105), at(106)), at(106));
        assert_eq!(
            next(at(100), at(105), at(40)),
            at(105),
            "set back: goes on at its own pace"
        );
        assert_eq!(next(at(100), at(100), at(99)), at(100));
        let mut clock = Clock::starting_at(at(u64::MAX / 2));
        assert!(clock.now() >= at(u64::MAX / 2));
    }
}
