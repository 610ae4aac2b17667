//! A script while it runs: waits for its end, takes orders, holds it to its limits, warns it before its walltime is over,
//! and clears up behind it.

use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use capstan_proto::wire;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::Signal;

use super::control::{Control, Limits, Order, Stop};
use super::hooks::Hooks;
use super::kill::Processes;
use super::launch::{Kept, Launched};
use super::terminal::{Over, Terminal};
use super::told;
use super::verdict::{self, Cause, Exit};
use super::{oom, warning};
use crate::attempts::cgroup::{Bounds, Cgroup};
use crate::attempts::record::Entry;

/// CPU time is looked at so often when it is limited.
const CPU_POLL: Duration = Duration::from_secs(2);
/// A job that lives so long gets a cgroup; shorter ones, by the thousand, would pay for it more than they cost.
const CGROUP_AFTER: Duration = Duration::from_millis(100);
/// The longest that one `poll` sleeps.
const POLL_MAX: Duration = Duration::from_secs(3600);

/// How a script ran.
#[derive(Debug, Default)]
pub(super) struct Ran {
    pub(super) exit_status: i32,
    /// Why it ended, when it was not by itself.
    pub(super) cause: String,
    pub(super) usage: wire::Usage,
    /// For the log.
    pub(super) messages: Vec<String>,
}

/// An order to end that is under way: the first signal is sent, the last one is due.
struct Ending {
    cause: Cause,
    kill_at: Instant,
}

pub(super) struct Shim<'a> {
    entry: &'a Entry,
    hooks: &'a Hooks<'a>,
    processes: Processes,
    streams: Kept,
    session: u32,
    started: Instant,
    walltime_secs: Option<u64>,
    cput_secs: Option<u64>,
    /// The walltime before whose end the warning was sent.
    warned: Option<u64>,
    ending: Option<Ending>,
    cause: String,
    messages: Vec<String>,
    terminal: Option<Terminal>,
}

impl<'a> Shim<'a> {
    pub(super) fn new(launched: Launched, hooks: &'a Hooks<'a>) -> Self {
        let Launched {
            child,
            streams,
            is_inside,
            messages,
            terminal,
        } = launched;
        let entry = hooks.entry;
        let cgroup = Cgroup::at(&entry.cgroups);
        Self {
            entry,
            hooks,
            processes: Processes::new(child, cgroup, is_inside),
            streams,
            session: child.as_raw() as u32,
            started: Instant::now(),
            walltime_secs: entry.spec.walltime_secs,
            cput_secs: entry.spec.cput_secs,
            warned: None,
            ending: None,
            cause: String::new(),
            messages,
            terminal,
        }
    }

    /// Waits for the end of the script, enforcing limits and taking orders; then clears up. `limits` were ordered before
    /// it began.
    pub(super) fn attend(mut self, control: &mut Control, limits: &[Limits]) -> Ran {
        limits.iter().for_each(|limits| self.limit(*limits));
        while !self.is_over() {
            self.wait(control);
            for order in control.orders() {
                match order {
                    Order::Stop(stop) => self.stop(stop),
                    Order::Limits(limits) => self.limit(limits),
                    // An answer that came after it was waited for.
                    Order::Sisters(_) => {}
                    Order::Fail(status, words) => self.fail(status, words),
                }
            }
            self.attend_terminal(control);
            self.warn();
            self.check_limits();
            if self.processes.is_outside() && self.started.elapsed() >= CGROUP_AFTER {
                self.processes.enter_cgroup(&Bounds::of(self.entry));
            }
            let is_due = |ending: &Ending| ending.kill_at <= Instant::now();
            if self.ending.as_ref().is_some_and(is_due) {
                break;
            }
        }
        self.processes.end();
        let usage = self.processes.usage(self.started.elapsed());
        let exit_status = self.judge(&usage);
        if let Some(terminal) = self.terminal.take() {
            terminal.finish(exit_status);
        }
        Ran {
            exit_status,
            cause: self.cause,
            usage,
            messages: self.messages,
        }
    }

    /// The exit status, and why, for the user.
    fn judge(&mut self, usage: &wire::Usage) -> i32 {
        let spec = &self.entry.spec;
        let exit = self.processes.exit();
        let memory_kills = self.processes.memory_kills();
        let cause = self.ending.take().map(|ending| ending.cause);
        let is_ours = cause.is_some();
        let cause = cause.or((memory_kills > 0).then_some(Cause::Memory));
        let status = verdict::exit_status(cause, exit);
        if status == verdict::OUT_OF_MEMORY {
            let limit_kb = spec.memory_bytes.unwrap_or(0) / 1024;
            let used = usage.mem_kb;
            self.streams
                .say(&format!("job killed: mem {used} exceeded limit {limit_kb}"));
        }
        if is_ours {
            return status;
        }
        let limit_kb = spec.memory_bytes.map(|bytes| bytes / 1024);
        let killed = (memory_kills > 0 || verdict::is_kill(exit))
            .then(|| oom::last_killed(&self.entry.cgroup))
            .flatten();
        let words = match killed {
            Some(killed) => Some(killed.words(limit_kb)),
            None if memory_kills > 0 => Some(oom::words_of_many(memory_kills, limit_kb)),
            None => verdict::limit_words(exit, spec),
        };
        if let Some(words) = words {
            self.streams.say(&words);
            // A job that lives on after the loss of a child has ended by itself.
            if exit != Exit::Code(0) {
                self.cause = words;
            }
        }
        status
    }

    /// The script ended. When that was our doing, the others who heard of it may take the time they were given: the
    /// login shell dies of a signal at once, while the script that it waited for catches it and tidies up.
    fn is_over(&mut self) -> bool {
        self.processes.reap().is_some() && (self.ending.is_none() || self.processes.are_gone())
    }

    fn wait(&self, control: &Control) {
        let timeout = self.next_deadline().map_or(POLL_MAX, |deadline| {
            deadline.saturating_duration_since(Instant::now())
        });
        // Rounded up: waking a moment too early would spin until the deadline.
        let millis = timeout.min(POLL_MAX).as_micros().div_ceil(1000) as i32;
        let mut watched = vec![PollFd::new(self.hooks.signals.as_fd(), PollFlags::POLLIN)];
        watched.extend(control.watched());
        watched.extend(self.terminal.iter().flat_map(Terminal::watched));
        // Interrupted or not, the caller looks at everything.
        let _ready = poll(
            &mut watched,
            PollTimeout::try_from(millis).unwrap_or(PollTimeout::MAX),
        );
        while let Ok(Some(_child)) = self.hooks.signals.read_signal() {}
    }

    fn next_deadline(&self) -> Option<Instant> {
        if let Some(ending) = &self.ending {
            return Some(ending.kill_at);
        }
        let walltime = self.walltime_secs.map(Duration::from_secs);
        // A limit beyond what a clock can show is no limit.
        let walltime = walltime.and_then(|limit| self.started.checked_add(limit));
        let warning = self.warns_after();
        let warning = warning.and_then(|(_, after)| self.started.checked_add(after));
        let is_polled = self.cput_secs.is_some() || self.entry.spec.vmem_bytes.is_some();
        let cpu = is_polled.then(|| Instant::now() + CPU_POLL);
        let is_outside = self.processes.is_outside();
        let cgroup = is_outside.then(|| self.started + CGROUP_AFTER);
        let terminal = self.terminal.as_ref().and_then(Terminal::next_deadline);
        let all = [walltime, warning, cpu, cgroup, terminal];
        all.into_iter().flatten().min()
    }

    /// The signal that is still to come, and how long after the start: so long before the end of the walltime as was
    /// asked for, and never in its first half, where a script may not have set its traps.
    fn warns_after(&self) -> Option<(Signal, Duration)> {
        let wire::Warning { signal, secs } = self.entry.spec.warning?;
        let walltime = self
            .walltime_secs
            .filter(|limit| self.warned != Some(*limit))?;
        let before = secs.min(walltime / 2);
        let after = Duration::from_secs(walltime - before);
        Some((Signal::try_from(signal).ok()?, after))
    }

    fn warn(&mut self) {
        let Some((signal, after)) = self.warns_after().filter(|_| self.ending.is_none()) else {
            return;
        };
        if self.started.elapsed() < after {
            return;
        }
        self.warned = self.walltime_secs;
        let cgroup = Cgroup::at(&self.entry.cgroups).filter(|_| !self.processes.is_outside());
        let heard = warning::warn(signal, cgroup.as_ref());
        let limit = self.walltime_secs.unwrap_or_default();
        let left = limit.saturating_sub(self.started.elapsed().as_secs());
        let who = match heard {
            0 => "no process of the job catches it".to_owned(),
            1 => "sent to 1 process".to_owned(),
            count => format!("sent to {count} processes"),
        };
        let text = format!("warning: walltime {limit} ends in {left} s; {signal} {who}");
        self.streams.say(&text);
    }

    /// Passes on what is typed and shown, and ends a session that nobody uses or returns to.
    fn attend_terminal(&mut self, control: &mut Control) {
        let Some(terminal) = &mut self.terminal else {
            return;
        };
        if control.were_cards_used() {
            terminal.cards_used();
        }
        terminal.turn();
        if self.ending.is_some() {
            return;
        }
        let Some(Over(why)) = terminal.is_over() else {
            return;
        };
        terminal.notice(&why);
        self.cause = why;
        let grace = Duration::from_secs(self.entry.spec.kill_delay_secs.into());
        self.end(Cause::Stopped(Signal::SIGTERM), Signal::SIGTERM, grace);
    }

    fn check_limits(&mut self) {
        if self.ending.is_some() {
            return;
        }
        let spec = &self.entry.spec;
        let elapsed = self.started.elapsed();
        if let Some(limit) = self.walltime_secs
            && elapsed >= Duration::from_secs(limit)
        {
            let used = elapsed.as_secs();
            let what = format!("walltime {used} exceeded limit {limit}");
            return self.exceed(Cause::Walltime, &what, " s");
        }
        if let Some(limit) = self.cput_secs {
            let used = self.processes.cpu_time().as_secs();
            if used > limit {
                let what = format!("cput {used} exceeded limit {limit}");
                return self.exceed(Cause::CpuTime, &what, " s");
            }
        }
        // One process is bounded by the kernel; all of them together are not.
        if let Some(limit) = spec.vmem_bytes {
            let used = self.processes.virtual_bytes();
            if used > limit {
                let what = format!("vmem {used} exceeded limit {limit}");
                self.exceed(Cause::Memory, &what, " bytes");
            }
        }
    }

    /// Ends the job for using more of something than it asked for, and says so in Torque's words.
    fn exceed(&mut self, cause: Cause, what: &str, unit: &str) {
        let grace = Duration::from_secs(self.entry.spec.kill_delay_secs.into());
        self.end(cause, Signal::SIGTERM, grace);
        self.streams.say(&format!("job killed: {what}"));
        self.cause = format!("{what}{unit}");
    }

    /// Ends the job for something that the agent found.
    fn fail(&mut self, status: i32, words: String) {
        if self.ending.is_some() {
            return;
        }
        let grace = Duration::from_secs(self.entry.spec.kill_delay_secs.into());
        self.end(Cause::Failed(status), Signal::SIGTERM, grace);
        self.streams.say(&format!("job killed: {words}"));
        self.cause = words;
    }

    fn limit(&mut self, limits: Limits) {
        let Limits {
            walltime_secs,
            cput_secs,
        } = limits;
        self.walltime_secs = walltime_secs.or(self.walltime_secs);
        self.cput_secs = cput_secs.or(self.cput_secs);
    }

    fn stop(&mut self, stop: Stop) {
        let signal = Signal::try_from(stop.signal).unwrap_or(Signal::SIGTERM);
        let grace = if signal == Signal::SIGKILL {
            Duration::ZERO
        } else {
            stop.grace
        };
        if let Some(ending) = &mut self.ending {
            // Already ending for its own reason, which stays the reason; but it may not take longer than ordered.
            ending.kill_at = ending.kill_at.min(Instant::now() + grace);
            return;
        }
        let usage = self.processes.usage(self.started.elapsed());
        let cause = Cause::Stopped(signal);
        let told = told::Outcome {
            session: self.session,
            usage: &usage,
            exit_status: verdict::exit_status(Some(cause), Exit::Signal(signal as i32)),
        };
        self.messages.extend(self.hooks.before_cancel(&told));
        self.end(cause, signal, grace);
    }

    fn end(&mut self, cause: Cause, signal: Signal, grace: Duration) {
        self.processes.signal(signal);
        if self.terminal.is_some() {
            // A shell at a terminal does not heed TERM; this is how it learns that its terminal goes.
            self.processes.signal(Signal::SIGHUP);
            self.processes.signal(Signal::SIGCONT);
        }
        let kill_at = Instant::now() + grace;
        self.ending = Some(Ending { cause, kill_at });
    }
}
