//! Ids. Users meet job ids (`123.server`, `123[4].server`); attempts and agents are ours.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::names::name;
use crate::{ParseError, ServerName};

name!(/// One GPU, by the UUID that NVML reports (`GPU-…`), which survives reboots; indices do not.
    CardId);
name!(/// One agent installation, made once per state folder; tells two agents of one node name apart.
    AgentId);

/// One run of a job; a requeued job gets a new one. Never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct AttemptId(pub u64);

impl fmt::Display for AttemptId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "att-{}", self.0)
    }
}

/// Which part of a submission an id names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum JobPart {
    /// A plain job: `123`.
    Whole,
    /// A job array as a whole: `123[]`.
    Array,
    /// A member of a job array: `123[4]`.
    Member(u32),
}

/// A submitted job, for its whole life: `123`, `123[]` or `123[4]` with the server's name behind a dot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct JobId {
    /// Number of the submission, from 1.
    pub seq: u64,
    /// The whole job, the array, or one member of it.
    pub part: JobPart,
}

impl JobId {
    /// The id of a plain job.
    #[must_use]
    pub const fn whole(seq: u64) -> Self {
        Self {
            seq,
            part: JobPart::Whole,
        }
    }

    /// The id of a job array.
    #[must_use]
    pub const fn array(seq: u64) -> Self {
        Self {
            seq,
            part: JobPart::Array,
        }
    }

    /// The id of a member of a job array.
    #[must_use]
    pub const fn member(seq: u64, index: u32) -> Self {
        Self {
            seq,
            part: JobPart::Member(index),
        }
    }

    /// As users see it: `123.server`, `123[].server`, `123[4].server`.
    #[must_use]
    pub fn on(self, server: &ServerName) -> String {
        format!("{self}.{server}")
    }
}

/// Without the server's name: `123`, `123[]`, `123[4]`.
impl fmt::Display for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.part {
            JobPart::Whole => write!(f, "{}", self.seq),
            JobPart::Array => write!(f, "{}[]", self.seq),
            JobPart::Member(index) => write!(f, "{}[{index}]", self.seq),
        }
    }
}

/// A job id as a person types it: `SEQ[PART][.SERVER][@AT]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobReference {
    /// The job.
    pub id: JobId,
    /// Behind the dot, when given.
    pub server: Option<ServerName>,
    /// Behind the `@`: the server to ask, when given.
    pub at: Option<ServerName>,
}

impl FromStr for JobReference {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        let fail = |at, expected| ParseError::new(text, at, expected);
        let digits = text.bytes().take_while(u8::is_ascii_digit).count();
        let seq = text[..digits]
            .parse()
            .map_err(|_| fail(0, "a job number"))?;
        let mut at = digits;
        let mut part = JobPart::Whole;
        if text[at..].starts_with('[') {
            let close = text[at..].find(']').ok_or(fail(text.len(), "`]`"))? + at;
            part = match &text[at + 1..close] {
                "" => JobPart::Array,
                index if index.bytes().all(|b| b.is_ascii_digit()) => {
                    let index = index.parse();
                    JobPart::Member(index.map_err(|_| fail(at + 1, "an array index"))?)
                }
                _ => return Err(fail(at + 1, "an array index")),
            };
            at = close + 1;
        }
        // A name that cannot be a host's is no server's, and is not repeated on a terminal or in a log.
        let is_name = |b: u8| b.is_ascii_alphanumeric() || b"-._:".contains(&b);
        if let Some(bad) = text[at..].bytes().position(|b| !is_name(b) && b != b'@') {
            return Err(fail(at + bad, "`.server`, `[` or the end"));
        }
        let (name, host) = match text[at..].split_once('@') {
            Some((name, host)) => (name, Some(host)),
            None => (&text[at..], None),
        };
        let server = match name.strip_prefix('.') {
            Some("") => return Err(fail(at + 1, "a server name")),
            Some(server) => Some(ServerName::from(server)),
            None if name.is_empty() => None,
            None => return Err(fail(at, "`.server`, `[` or the end")),
        };
        if let Some(host) = host.filter(|host| host.is_empty() || host.contains('@')) {
            return Err(fail(text.len() - host.len(), "a server name"));
        }
        Ok(Self {
            id: JobId { seq, part },
            server,
            at: host.map(ServerName::from),
        })
    }
}

impl JobReference {
    /// What stands behind the id: `.server@at`.
    pub(crate) fn fmt_place(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(server) = &self.server {
            write!(f, ".{server}")?;
        }
        if let Some(at) = &self.at {
            write!(f, "@{at}")?;
        }
        Ok(())
    }
}

/// As it was typed, but for leading zeros.
impl fmt::Display for JobReference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.id)?;
        self.fmt_place(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: Option<JobId>) {
        assert_eq!(
            text.parse::<JobReference>().ok().map(|r| r.id),
            expected,
            "{text}"
        );
    }

    #[test]
    fn all_forms_of_torque_are_read() {
        check("12", Some(JobId::whole(12)));
        check("12.hn1", Some(JobId::whole(12)));
        check("12.hn1.example.org@hn2", Some(JobId::whole(12)));
        check("12[]", Some(JobId::array(12)));
        check("12[].hn1", Some(JobId::array(12)));
        check("12[3].hn1", Some(JobId::member(12, 3)));
        for bad in [
            "", "x", "12x", "12[", "12[x]", "12[-1]", "12.", "12@", ".hn1", "12[3", "12.a b",
            "12@a@b", "12.\n",
        ] {
            check(bad, None);
        }
    }
}
