//! How many requests came lately: `net_counter`.

use std::sync::{Mutex, PoisonError};
use std::time::Instant;

/// Seconds that are remembered.
const SECONDS: u64 = 60;
/// The three numbers are of so many seconds each.
const SPANS: [u64; 3] = [5, 30, 60];

/// Requests of the last minute.
#[derive(Debug)]
pub(super) struct Traffic {
    since: Instant,
    seconds: Mutex<[(u64, u64); SECONDS as usize]>,
}

impl Default for Traffic {
    fn default() -> Self {
        Self {
            since: Instant::now(),
            seconds: Mutex::new([(0, 0); SECONDS as usize]),
        }
    }
}

impl Traffic {
    /// A request came.
    pub(super) fn count(&self) {
        self.count_at(self.since.elapsed().as_secs());
    }

    /// How many came in the last 5 seconds, and in 5 seconds of the last 30 and 60 on average.
    pub(super) fn numbers(&self) -> [u64; 3] {
        self.numbers_at(self.since.elapsed().as_secs())
    }

    fn count_at(&self, second: u64) {
        let mut seconds = self.seconds.lock().unwrap_or_else(PoisonError::into_inner);
        let slot = &mut seconds[(second % SECONDS) as usize];
        match slot.0 == second {
            true => slot.1 += 1,
            false => *slot = (second, 1),
        }
    }

    fn numbers_at(&self, second: u64) -> [u64; 3] {
        let seconds = self.seconds.lock().unwrap_or_else(PoisonError::into_inner);
        SPANS.map(|span| {
            let is_in = |at: u64| at <= second && second - at < span;
            let counted = seconds.iter().filter(|(at, _)| is_in(*at));
            let sum: u64 = counted.map(|(_, count)| count).sum();
            sum / (span / SPANS[0])
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_forgotten_after_a_minute() {
        let traffic = Traffic::default();
        for _ in 0..12 {
            traffic.count_at(3);
        }
        assert_eq!(traffic.numbers_at(3), [12, 2, 1]);
        assert_eq!(traffic.numbers_at(10), [0, 2, 1]);
        assert_eq!(traffic.numbers_at(40), [0, 0, 1]);
        assert_eq!(traffic.numbers_at(63), [0, 0, 0]);
        traffic.count_at(63);
        assert_eq!(traffic.numbers_at(63), [1, 0, 0]);
    }
}
