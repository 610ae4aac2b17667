//! Tells the log who was refused what. Bounded per user: who is refused all day must not fill the disk with it.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::refusal::Refused;

/// Lines that one user may cause in [`SPAN`].
const LINES_MAX: u32 = 30;
/// Then they are told of again.
const SPAN: Duration = Duration::from_secs(60);
/// Users that are counted; beyond, all are counted anew.
const USERS_MAX: usize = 4096;

/// Who was refused how often lately.
#[derive(Debug, Default)]
pub(super) struct Refusals(Mutex<HashMap<u32, Count>>);

#[derive(Debug)]
struct Count {
    since: Instant,
    lines: u32,
    unsaid: u64,
}

impl Refusals {
    /// Writes a line about a refusal, unless the user has had enough of them.
    pub(super) fn tell(&self, uid: u32, pid: i32, refused: &Refused) {
        if let Some(unsaid) = self.count(uid, Instant::now()) {
            // Quoted, because it holds words of the user's.
            let reason = refused.to_string();
            tracing::warn!(uid, pid, reason = ?reason, unsaid, "container refused");
        }
    }

    /// How many lines were left out before this one; none when it is to be left out, too.
    fn count(&self, uid: u32, now: Instant) -> Option<u64> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if all.len() >= USERS_MAX && !all.contains_key(&uid) {
            all.clear();
        }
        let count = all.entry(uid).or_insert(Count {
            since: now,
            lines: 0,
            unsaid: 0,
        });
        if now.duration_since(count.since) >= SPAN {
            (count.since, count.lines) = (now, 0);
        }
        if count.lines >= LINES_MAX {
            count.unsaid += 1;
            return None;
        }
        count.lines += 1;
        Some(std::mem::take(&mut count.unsaid))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_user_fills_no_log_and_hides_nobody() {
        let refusals = Refusals::default();
        let start = Instant::now();
        let told = (0..1000)
            .filter(|_| refusals.count(7, start).is_some())
            .count();
        assert_eq!(told, LINES_MAX as usize);
        assert_eq!(refusals.count(8, start), Some(0));
        assert_eq!(
            refusals.count(7, start + SPAN),
            Some(1000 - u64::from(LINES_MAX))
        );
    }
}
