//! Figures as lines: name, value, goal, conditions.

use std::io::Write;
use std::time::Duration;

/// Prints figures as they come.
pub(crate) struct Report;

impl Report {
    /// Prints the machine first.
    pub(crate) fn start() -> Self {
        let cpus = std::thread::available_parallelism().map_or(0, usize::from);
        let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
        let load = load.split(' ').next().unwrap_or("?");
        let report = Self;
        report.print(&format!(
            "machine: {cpus} cores, load {load}, {}",
            env!("CARGO_PKG_VERSION")
        ));
        report.print(&format!(
            "{:<52} {:>14}   {:<16} conditions",
            "figure", "measured", "goal"
        ));
        report
    }

    /// One figure.
    pub(crate) fn figure(&mut self, name: &str, measured: &str, goal: &str, conditions: &str) {
        self.print(&format!(
            "{name:<52} {measured:>14}   {goal:<16} {conditions}"
        ));
    }

    fn print(&self, line: &str) {
        // Nobody reads: nothing to do about it.
        writeln!(std::io::stdout(), "{line}").ok();
    }
}

/// The middle value and the range, in milliseconds.
pub(crate) fn spread(times: &mut [Duration]) -> (f64, String) {
    times.sort_unstable();
    let ms = |at: usize| {
        times
            .get(at)
            .map_or(f64::NAN, |time| time.as_secs_f64() * 1000.0)
    };
    let middle = ms(times.len() / 2);
    let text = format!(
        "{:.1} to {:.1} ms, n={}",
        ms(0),
        ms(times.len().saturating_sub(1)),
        times.len()
    );
    (middle, text)
}
