//! How long a session lives: after its terminal was lost, and while nobody uses it. Pure.

use std::time::{Duration, Instant};

use capstan_proto::wire::Interactive;

/// So long before the end of an idle session it is warned; half its time when that is shorter.
const WARNING: Duration = Duration::from_secs(300);
/// So long what a lost client has not seen is kept for it though programs have to wait for that.
const HELD_FOR: Duration = Duration::from_secs(120);

/// Why a session is ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::attempts::shim) struct Over(pub(in crate::attempts::shim) String);

#[derive(Debug)]
pub(super) struct Times {
    keep: Duration,
    /// None for ever.
    idle: Option<Duration>,
    used_at: Instant,
    lost_at: Option<Instant>,
    is_warned: bool,
    has_begun: bool,
}

impl Times {
    pub(super) fn new(wanted: Interactive, now: Instant) -> Self {
        let Interactive {
            keep_secs,
            idle_secs,
        } = wanted;
        Self {
            keep: Duration::from_secs(keep_secs.into()),
            idle: (idle_secs > 0).then(|| Duration::from_secs(idle_secs.into())),
            used_at: now,
            lost_at: None,
            is_warned: false,
            has_begun: false,
        }
    }

    /// The shell starts.
    pub(super) fn begin(&mut self, now: Instant) {
        self.has_begun = true;
        self.used_at = now;
    }

    /// A key was typed, or a card worked.
    pub(super) fn used(&mut self, now: Instant) {
        self.used_at = now;
        self.is_warned = false;
    }

    /// The terminal is gone.
    pub(super) fn lost(&mut self, now: Instant) {
        self.lost_at = Some(now);
    }

    /// Somebody has come.
    pub(super) fn found(&mut self) {
        self.lost_at = None;
    }

    pub(super) fn lost_within(&self, now: Instant, span: Duration) -> bool {
        self.lost_at
            .is_some_and(|at| now.saturating_duration_since(at) < span)
    }

    /// Whether the client that was lost may still come back for what it has not seen.
    pub(super) fn is_coming_back(&self, now: Instant) -> bool {
        self.lost_within(now, HELD_FOR)
    }

    fn warns_before(idle: Duration) -> Duration {
        WARNING.min(idle / 2)
    }

    /// When something changes by itself.
    pub(super) fn next(&self) -> Option<Instant> {
        if !self.has_begun {
            return None;
        }
        let kept = self.lost_at.map(|at| at + self.keep);
        let held = self.lost_at.map(|at| at + HELD_FOR);
        let held = held.filter(|at| *at > Instant::now());
        let idle = self.idle.map(|idle| {
            let before = match self.is_warned {
                true => Duration::ZERO,
                false => Self::warns_before(idle),
            };
            self.used_at + idle - before
        });
        [kept, held, idle].into_iter().flatten().min()
    }

    /// What to say now to whoever sits there, once.
    pub(super) fn warning(&mut self, now: Instant) -> Option<String> {
        let idle = self.idle.filter(|_| self.has_begun && !self.is_warned)?;
        let before = Self::warns_before(idle);
        if now < self.used_at + idle - before {
            return None;
        }
        self.is_warned = true;
        let (quiet, left) = ((idle - before).as_secs(), before.as_secs());
        Some(format!(
            "no key was typed and no card worked for {quiet} s: this session ends in {left} s unless a key is typed"
        ))
    }

    pub(super) fn over(&self, now: Instant) -> Option<Over> {
        if !self.has_begun {
            return None;
        }
        if let Some(lost) = self.lost_at
            && now >= lost + self.keep
        {
            let secs = self.keep.as_secs();
            return Some(Over(format!(
                "nobody came back to the session for {secs} s after its terminal was lost"
            )));
        }
        let idle = self.idle.filter(|idle| now >= self.used_at + *idle)?;
        let secs = idle.as_secs();
        Some(Over(format!(
            "the session was idle for {secs} s: no key was typed and no card worked"
        )))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn times(keep_secs: u32, idle_secs: u32) -> (Times, Instant) {
        let now = Instant::now();
        let wanted = Interactive {
            keep_secs,
            idle_secs,
        };
        let mut times = Times::new(wanted, now);
        times.begin(now);
        (times, now)
    }

    const fn secs(secs: u64) -> Duration {
        Duration::from_secs(secs)
    }

    #[test]
    fn a_session_without_a_terminal_lives_for_its_time() {
        let (mut times, now) = times(60, 0);
        assert_eq!(times.over(now + secs(9999)), None);
        times.lost(now + secs(10));
        assert_eq!(times.over(now + secs(69)), None);
        assert!(times.over(now + secs(70)).is_some());
        times.found();
        assert_eq!(times.over(now + secs(70)), None);
    }

    #[test]
    fn an_idle_session_is_warned_once_and_ended() {
        let (mut times, now) = times(60, 1000);
        assert_eq!(times.warning(now + secs(699)), None);
        let warning = times.warning(now + secs(700)).expect("a warning");
        assert!(warning.contains("ends in 300 s"), "{warning}");
        assert_eq!(times.warning(now + secs(701)), None);
        assert_eq!(times.over(now + secs(999)), None);
        assert!(times.over(now + secs(1000)).is_some());
        times.used(now + secs(900));
        assert_eq!(times.over(now + secs(1000)), None);
        assert!(times.warning(now + secs(1600)).is_some(), "warned anew");
    }

    #[test]
    fn nothing_is_over_before_the_shell_has_started() {
        let now = Instant::now();
        let wanted = Interactive {
            keep_secs: 1,
            idle_secs: 1,
        };
        let mut times = Times::new(wanted, now);
        times.lost(now);
        assert_eq!(times.over(now + secs(99)), None);
        assert_eq!(times.warning(now + secs(99)), None);
    }
}
