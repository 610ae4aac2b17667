//! The exit status of a job, as PBS numbers it. Pure.

use nix::sys::signal::Signal;

/// Why a job was ended by us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cause {
    /// It ran longer than its walltime.
    Walltime,
    /// It used more CPU time than it asked for.
    CpuTime,
    /// The kernel killed processes of it for want of memory.
    Memory,
    /// Somebody deleted it.
    Stopped(Signal),
}

/// How the script's process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Exit {
    Code(i32),
    Signal(i32),
}

/// The exit status of a job that was out of memory.
pub(super) const OUT_OF_MEMORY: i32 = -10;
const OUT_OF_WALLTIME: i32 = -11;
const OUT_OF_CPU_TIME: i32 = -12;
/// What PBS adds to the signal that ended a job.
const STOPPED: i32 = 256;

/// The status to report. A job that was deleted has that status even if it caught the signal and ended well; one
/// that survived the loss of a child to memory has its own.
pub(super) fn exit_status(cause: Option<Cause>, exit: Exit) -> i32 {
    match (cause, exit) {
        (Some(Cause::Walltime), _) => OUT_OF_WALLTIME,
        (Some(Cause::CpuTime), _) => OUT_OF_CPU_TIME,
        // PBS kills with KILL in the end, but what it reports is the TERM it began with.
        (Some(Cause::Stopped(Signal::SIGKILL)), _) => STOPPED + Signal::SIGTERM as i32,
        (Some(Cause::Stopped(signal)), _) => STOPPED + signal as i32,
        (None | Some(Cause::Memory), Exit::Code(0)) => 0,
        (Some(Cause::Memory), _) => OUT_OF_MEMORY,
        (None, Exit::Code(code)) => code,
        // It hit the login shell itself; of a script that is killed the shell says 128 and the signal.
        (None, Exit::Signal(signal)) => STOPPED + signal,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_are_those_of_torque() {
        let check = |cause, exit, expected| assert_eq!(exit_status(cause, exit), expected);
        check(None, Exit::Code(0), 0);
        check(None, Exit::Code(3), 3);
        check(None, Exit::Code(255), 255);
        check(None, Exit::Code(137), 137);
        check(None, Exit::Signal(9), 265);
        check(None, Exit::Signal(10), 266);
        check(Some(Cause::Walltime), Exit::Code(7), -11);
        check(Some(Cause::CpuTime), Exit::Signal(9), -12);
        check(Some(Cause::Stopped(Signal::SIGTERM)), Exit::Code(7), 271);
        check(Some(Cause::Stopped(Signal::SIGKILL)), Exit::Signal(9), 271);
        check(Some(Cause::Stopped(Signal::SIGUSR1)), Exit::Signal(10), 266);
        check(Some(Cause::Memory), Exit::Signal(9), -10);
        check(Some(Cause::Memory), Exit::Code(137), -10);
        check(Some(Cause::Memory), Exit::Code(0), 0);
    }
}
