//! A shim's asking of its agent, for what other nodes do or for the footer, and its waiting for the answer: orders are heard
//! meanwhile, and an agent that is restarted is asked again.

use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signalfd::SignalFd;

use super::control::{Control, Limits, Order, Stop};
use crate::attempts::farewell::Farewell;
use crate::attempts::sisters::{Answer, Wanted};

/// The longest that one `poll` sleeps.
const POLL_MAX: Duration = Duration::from_secs(60);

/// What came of it.
pub(super) enum Asked {
    Answered(Answer),
    /// An order to end the attempt came first.
    Stopped(Stop),
}

/// What is asked for.
pub(super) enum Question {
    /// The scripts of the other nodes.
    Sisters(Wanted),
    /// The footer, in output that is about to leave.
    Footer(Farewell),
}

impl Question {
    fn line(&self) -> String {
        match self {
            Self::Sisters(wanted) => wanted.line(),
            Self::Footer(farewell) => farewell.line(),
        }
    }

    /// Orders to end count: the script has not begun.
    fn is_before(&self) -> bool {
        match self {
            Self::Sisters(wanted) => *wanted == Wanted::Before,
            Self::Footer(_) => false,
        }
    }

    fn late(&self, secs: u64) -> String {
        match self {
            Self::Sisters(_) => format!("the other nodes did not answer within {secs} s"),
            Self::Footer(_) => format!("the agent did not answer within {secs} s"),
        }
    }
}

/// Asks, and waits for the answer for so long. Orders to end are heard before the job's own
/// script only; behind it, it ends anyway.
pub(super) fn ask(
    control: &mut Control,
    signals: &SignalFd,
    question: &Question,
    within: Duration,
    limits: &mut Vec<Limits>,
) -> Asked {
    let deadline = Instant::now() + within;
    control.ask(question.line());
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
        if let Some(stop) = stopped.filter(|_| question.is_before()) {
            break Asked::Stopped(stop);
        }
        if let Some(answer) = answer {
            break Asked::Answered(answer);
        }
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            break Asked::Answered(Err(question.late(within.as_secs())));
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
