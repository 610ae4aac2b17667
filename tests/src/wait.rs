//! Waiting on a state, never on a time.

use std::fmt::Debug;
use std::time::{Duration, Instant};

/// Longest wait for anything; generous, because the machine may be busy with other tests.
const DEADLINE: Duration = Duration::from_secs(60);
/// Between two looks.
const INTERVAL: Duration = Duration::from_millis(20);

/// Looks until `look` gives `Ok`, and returns what it gave.
///
/// # Panics
/// At the deadline, with what was awaited and the last thing seen.
pub fn wait_until<T, E: Debug>(what: &str, mut look: impl FnMut() -> Result<T, E>) -> T {
    let start = Instant::now();
    loop {
        match look() {
            Ok(value) => return value,
            Err(seen) if start.elapsed() > DEADLINE => {
                panic!("waited {DEADLINE:?} in vain until {what}; last seen: {seen:?}")
            }
            Err(_) => std::thread::park_timeout(INTERVAL),
        }
    }
}
