//! A shim's asking of its agent for what other nodes do, and its waiting for the answer: orders are heard meanwhile, and an
//! agent that is restarted is asked again.

use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signalfd::SignalFd;

use super::control::{Control, Limits, Order, Stop};
use crate::attempts::sisters::{Answer, Wanted};

/// The longest that one `poll` sleeps.
const POLL_MAX: Duration = Duration::from_secs(60);

/// What came of it.
pub(super) enum Asked {
    Answered(Answer),
    /// An order to end the attempt came first.
    Stopped(Stop),
}

/// Asks for the scripts of the other nodes, and waits for them for so long. Orders to end are heard before the job's own
/// script only; behind it, it ends anyway.
pub(super) fn ask(
    control: &mut Control,
    signals: &SignalFd,
    wanted: Wanted,
    within: Duration,
    limits: &mut Vec<Limits>,
) -> Asked {
    let deadline = Instant::now() + within;
    control.ask(&wanted);
    let asked = loop {
        let mut stopped = None;
        let mut answer = None;
        for order in control.orders() {
            match order {
                Order::Stop(stop) => stopped = Some(stop),
                Order::Limits(new) => limits.push(new),
                Order::Sisters(new) => answer = Some(new),
                // It is found in jobs that run.
                Order::Fail(..) => {}
            }
        }
        if let Some(stop) = stopped.filter(|_| wanted == Wanted::Before) {
            break Asked::Stopped(stop);
        }
        if let Some(answer) = answer {
            break Asked::Answered(answer);
        }
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            let secs = within.as_secs();
            let problem = format!("the other nodes did not answer within {secs} s");
            break Asked::Answered(Err(problem));
        }
        let mut watched = vec![PollFd::new(signals.as_fd(), PollFlags::POLLIN)];
        watched.extend(control.watched());
        // Interrupted or not, everything is looked at again.
        let _ready = poll(
            &mut watched,
            PollTimeout::try_from(left.min(POLL_MAX)).unwrap_or(PollTimeout::ZERO),
        );
        drop(watched);
        while let Ok(Some(_child)) = signals.read_signal() {}
    };
    control.asked_enough();
    asked
}
