//! Names of signals as `qsig` takes them. Pure.

/// What `qsig` wants a job to hear.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wanted {
    /// Linux's number; 0 only asks whether the job lives.
    Signal(i32),
    /// Stop as a whole (operators).
    Suspend,
    /// Go on (operators).
    Resume,
}

/// Highest number of a signal on Linux.
const SIGNAL_MAX: i32 = 64;

/// Linux's numbers, which are those of every machine that runs GPUs.
const SIGNALS: [(&str, i32); 35] = [
    ("NULL", 0),
    ("HUP", 1),
    ("INT", 2),
    ("QUIT", 3),
    ("ILL", 4),
    ("TRAP", 5),
    ("ABRT", 6),
    ("IOT", 6),
    ("BUS", 7),
    ("FPE", 8),
    ("KILL", 9),
    ("USR1", 10),
    ("SEGV", 11),
    ("USR2", 12),
    ("PIPE", 13),
    ("ALRM", 14),
    ("TERM", 15),
    ("STKFLT", 16),
    ("CHLD", 17),
    ("CLD", 17),
    ("CONT", 18),
    ("STOP", 19),
    ("TSTP", 20),
    ("TTIN", 21),
    ("TTOU", 22),
    ("URG", 23),
    ("XCPU", 24),
    ("XFSZ", 25),
    ("VTALRM", 26),
    ("PROF", 27),
    ("WINCH", 28),
    ("IO", 29),
    ("POLL", 29),
    ("PWR", 30),
    ("SYS", 31),
];

/// Reads what stands behind `-s`: a number, a name with or without SIG, `suspend` or `resume`; `None` for anything else.
pub(super) fn parse(typed: &str) -> Option<Wanted> {
    match typed {
        "suspend" => return Some(Wanted::Suspend),
        "resume" => return Some(Wanted::Resume),
        _ => {}
    }
    if typed.starts_with(|first: char| first.is_ascii_digit()) {
        let number = typed.parse().ok()?;
        return (0..=SIGNAL_MAX)
            .contains(&number)
            .then_some(Wanted::Signal(number));
    }
    let name = typed.strip_prefix("SIG").unwrap_or(typed);
    let found = SIGNALS.iter().find(|(known, _)| *known == name);
    found.map(|(_, number)| Wanted::Signal(*number))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_are_named_with_and_without_sig_and_numbered() {
        let check = |typed, expected| assert_eq!(parse(typed), expected, "{typed}");
        check("SIGTERM", Some(Wanted::Signal(15)));
        check("TERM", Some(Wanted::Signal(15)));
        check("15", Some(Wanted::Signal(15)));
        check("NULL", Some(Wanted::Signal(0)));
        check("SIGNULL", Some(Wanted::Signal(0)));
        check("0", Some(Wanted::Signal(0)));
        check("suspend", Some(Wanted::Suspend));
        check("resume", Some(Wanted::Resume));
        for wrong in [
            "",
            "SIG",
            "term",
            "SUSPEND",
            "65",
            "-9",
            "9x",
            "SIGSIGTERM",
            "FROB",
        ] {
            check(wrong, None);
        }
    }
}
