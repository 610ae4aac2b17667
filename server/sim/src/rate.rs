//! How much time the simulation itself takes: by the clock for each part, by the processor for the whole.

use std::time::{Duration, Instant};

use nix::sys::resource::{UsageWho, getrusage};

/// How often something was done, and how long it took.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Rate {
    pub(crate) count: u64,
    pub(crate) total: Duration,
    pub(crate) longest: Duration,
}

impl Rate {
    pub(crate) fn timed<T>(&mut self, work: impl FnOnce() -> T) -> T {
        let start = Instant::now();
        let done = work();
        let took = start.elapsed();
        self.count += 1;
        self.total += took;
        self.longest = self.longest.max(took);
        done
    }

    /// Seconds each time, on the average.
    pub(crate) fn mean_s(&self) -> f64 {
        self.total.as_secs_f64() / self.count.max(1) as f64
    }
}

/// Processor time of this thread so far, seconds; a kernel that cannot say counts none.
pub(crate) fn cpu_s() -> f64 {
    getrusage(UsageWho::RUSAGE_THREAD).map_or(0.0, |usage| {
        let secs =
            |time: nix::sys::time::TimeVal| time.tv_sec() as f64 + time.tv_usec() as f64 / 1e6;
        secs(usage.user_time()) + secs(usage.system_time())
    })
}
