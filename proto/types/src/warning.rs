//! A signal some time before the walltime ends: `-W signal=USR1@300` of a job, `warning_signal` of a queue.

use std::fmt;

use crate::{ErrorClass, ParseError};

/// Which signal, and how long before the end of the walltime. Prints as it is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WarningSignal {
    /// Linux's number; never one that no program can catch.
    pub number: i32,
    /// Seconds before the end of the walltime, at least 1.
    pub secs: u64,
}

/// Signals with names that a program may catch, by Linux's numbers, which are those of every machine that runs GPUs.
/// Those that tell of a program's own mistake are left out: nobody would know the warning from the mistake.
const NAMES: [(&str, i32); 14] = [
    ("HUP", 1),
    ("INT", 2),
    ("QUIT", 3),
    ("USR1", 10),
    ("USR2", 12),
    ("ALRM", 14),
    ("TERM", 15),
    ("CONT", 18),
    ("URG", 23),
    ("VTALRM", 26),
    ("PROF", 27),
    ("WINCH", 28),
    ("IO", 29),
    ("PWR", 30),
];

impl WarningSignal {
    /// The longest warning: a week, in seconds.
    pub const SECS_MAX: u64 = 7 * 24 * 3600;

    /// Reads `NAME@SECONDS`: a name with or without `SIG`, or a number.
    ///
    /// # Errors
    /// Without `@`, an unknown signal, one that nobody can catch, and 0 or more than a week of seconds.
    pub fn parse(text: &str) -> Result<Self, ParseError> {
        let fail = |at, expected| {
            let error = ParseError::new(text, at, expected);
            Err(error.in_class(ErrorClass::IllegalValue))
        };
        let Some((signal, secs)) = text.split_once('@') else {
            return fail(text.len(), "`@SECONDS`");
        };
        let Some(number) = number(signal) else {
            return fail(
                0,
                "a signal that a program can catch (USR1, USR2, TERM, INT, HUP …)",
            );
        };
        let is_number = !secs.is_empty() && secs.bytes().all(|byte| byte.is_ascii_digit());
        match secs.parse().ok().filter(|_| is_number) {
            Some(secs @ 1..=Self::SECS_MAX) => Ok(Self { number, secs }),
            Some(_) | None => fail(signal.len() + 1, "seconds from 1 to 604800"),
        }
    }
}

fn number(signal: &str) -> Option<i32> {
    let upper = signal.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    let named = NAMES.iter().find(|(known, _)| *known == name);
    if let Some((_, number)) = named {
        return Some(*number);
    }
    let is_number = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_digit());
    let number: i32 = name.parse().ok().filter(|_| is_number)?;
    NAMES
        .iter()
        .any(|(_, known)| *known == number)
        .then_some(number)
}

impl fmt::Display for WarningSignal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { number, secs } = self;
        match NAMES.iter().find(|(_, known)| known == number) {
            Some((name, _)) => write!(f, "{name}@{secs}"),
            None => write!(f, "{number}@{secs}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers_mean_the_same_signal() {
        for text in ["USR1@300", "SIGUSR1@300", "usr1@300", "10@300"] {
            let read = WarningSignal::parse(text).unwrap();
            assert_eq!((read.number, read.secs), (10, 300), "{text}");
            assert_eq!(read.to_string(), "USR1@300");
        }
    }

    #[test]
    fn what_nobody_can_catch_or_means_is_no_warning() {
        for bad in [
            "",
            "USR1",
            "USR1@",
            "@300",
            "KILL@9",
            "9@9",
            "STOP@9",
            "SEGV@9",
            "USR1@0",
            "USR1@-1",
            "USR1@+5",
            "USR1@604801",
            "USR3@5",
            "33@5",
            "40@5",
            "USR1@5@5",
            "USR1@5\n",
        ] {
            assert!(WarningSignal::parse(bad).is_err(), "{bad:?}");
        }
    }
}
