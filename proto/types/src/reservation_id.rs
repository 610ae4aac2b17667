//! How reservations are called: `R12` once, `S12` again and again, `M12` for maintenance, `D12` for dedicated time. The
//! name is that of the reservation's queue as well, as in PBS Pro.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::{ParseError, QueueName, ServerName};

/// What kind of reservation an id names: its letter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum ReservationLetter {
    /// For jobs, once.
    R,
    /// For jobs, again and again (PBS Pro's standing reservation).
    S,
    /// Maintenance: for nobody.
    M,
    /// Dedicated time: for the jobs of some queues.
    D,
}

/// A reservation, for its whole life. Numbers are those of jobs, so that no two things have one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ReservationId {
    /// The number, from 1.
    pub seq: u64,
    /// The kind.
    pub letter: ReservationLetter,
}

impl ReservationId {
    /// The queue of its jobs.
    #[must_use]
    pub fn queue(self) -> QueueName {
        QueueName::from(self.to_string())
    }

    /// As users see it: `R12.server`.
    #[must_use]
    pub fn on(self, server: &ServerName) -> String {
        format!("{self}.{server}")
    }
}

/// Without the server's name: `R12`.
impl fmt::Display for ReservationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let letter = match self.letter {
            ReservationLetter::R => 'R',
            ReservationLetter::S => 'S',
            ReservationLetter::M => 'M',
            ReservationLetter::D => 'D',
        };
        write!(f, "{letter}{}", self.seq)
    }
}

/// `R12`, with or without a server's name behind a dot, which is not looked at.
impl FromStr for ReservationId {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        let fail = |at| ParseError::new(text, at, "a reservation, as in R12.server");
        let letter = match text.as_bytes().first() {
            Some(b'R') => ReservationLetter::R,
            Some(b'S') => ReservationLetter::S,
            Some(b'M') => ReservationLetter::M,
            Some(b'D') => ReservationLetter::D,
            Some(_) | None => return Err(fail(0)),
        };
        let number = text[1..].split('.').next().unwrap_or_default();
        let is_number = !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit());
        let seq = number.parse().ok().filter(|_| is_number);
        let seq = seq.ok_or_else(|| fail(1))?;
        Ok(Self { seq, letter })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_read_as_they_are_printed() {
        for text in ["R12", "S1", "M99", "D7"] {
            let id: ReservationId = text.parse().unwrap();
            assert_eq!(id.to_string(), text);
            assert_eq!(id.on(&"hn1".into()).parse(), Ok(id));
            assert_eq!(id.queue().as_str(), text);
        }
        for bad in ["", "R", "12", "X1", "R1x", "R-1", "R 1"] {
            assert!(bad.parse::<ReservationId>().is_err(), "{bad}");
        }
    }
}
