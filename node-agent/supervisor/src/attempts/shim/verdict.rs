//! The exit status of a job, as PBS numbers it. Pure.

use capstan_proto::wire::LaunchSpec;
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
    /// The agent found something: a rank that failed, too much in its scratch folder. With the status that it ends with.
    Failed(i32),
    /// Somebody deleted it.
    Stopped(Signal),
}

/// How the script's process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Exit {
    Code(i32),
    Signal(i32),
}

/// The exit status of a job whose prologue said that it is to end: Torque's JOB_EXEC_FAIL2.
pub(super) const PROLOGUE_ABORTED: i32 = -2;
/// What epilogues are told when a prologue failed otherwise: Torque's JOB_EXEC_RETRY_PROLOGUE.
pub(super) const PROLOGUE_FAILED: i32 = -14;
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
        (Some(Cause::Failed(status)), _) => status,
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

/// Whether something of the job was killed that nobody here ordered: the script itself, or what it waited for.
pub(super) fn is_kill(exit: Exit) -> bool {
    is_signal(exit, Signal::SIGKILL)
}

/// Why a job ended whose process went beyond a limit that the kernel holds it to by a signal.
pub(super) fn limit_words(exit: Exit, spec: &LaunchSpec) -> Option<String> {
    let of_file = spec.file_bytes.filter(|_| is_signal(exit, Signal::SIGXFSZ));
    let of_file = of_file.map(|limit| {
        let kb = limit / 1024;
        format!("a process wrote to a file beyond the job's limit of file={kb}kb")
    });
    let of_time = spec.pcput_secs.filter(|_| is_signal(exit, Signal::SIGXCPU));
    let of_time = of_time.map(|limit| {
        format!("a process used more CPU time than the job's limit of pcput={limit} s")
    });
    of_file.or(of_time)
}

/// Of a command that dies of a signal the shell says 128 and its number.
fn is_signal(exit: Exit, signal: Signal) -> bool {
    let number = signal as i32;
    exit == Exit::Signal(number) || exit == Exit::Code(128 + number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_that_the_kernel_holds_is_told_only_when_there_is_one() {
        let check = |exit, file_bytes, pcput_secs, part: Option<&str>| {
            let spec = LaunchSpec {
                file_bytes,
                pcput_secs,
                ..LaunchSpec::default()
            };
            let words = limit_words(exit, &spec);
            assert_eq!(words.is_some(), part.is_some(), "{exit:?}");
            assert!(words.unwrap_or_default().contains(part.unwrap_or_default()));
        };
        check(Exit::Code(153), Some(2048), None, Some("file=2kb"));
        check(Exit::Signal(25), Some(2048), None, Some("file=2kb"));
        check(Exit::Code(153), None, None, None);
        check(Exit::Code(152), None, Some(3), Some("pcput=3 s"));
        check(Exit::Code(1), Some(2048), Some(3), None);
        assert!(is_kill(Exit::Code(137)) && is_kill(Exit::Signal(9)) && !is_kill(Exit::Code(9)));
    }

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
