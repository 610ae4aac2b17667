//! Files to be copied before and after a job: `-W stagein=LOCAL@HOST:REMOTE[,…]`, `stageout=` likewise.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{ErrorClass, ParseError};

/// One file to be copied: between `local` on the node of the job and `remote` on `host`. Prints as Torque shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StagedFile {
    /// On the node; relative to the home folder.
    pub local: Box<str>,
    /// Where the other file is.
    pub host: Box<str>,
    /// The other file, on `host`.
    pub remote: Box<str>,
}

impl StagedFile {
    /// The most files of one list.
    pub const COUNT_MAX: usize = 1000;
    /// The longest path or host name, in bytes.
    pub const PATH_BYTES_MAX: usize = 4096;

    /// Reads `LOCAL@HOST:REMOTE[,LOCAL@HOST:REMOTE…]`; blanks around elements are dropped.
    ///
    /// # Errors
    /// An element without `@` or `:` or with nothing on one of their sides, control characters, and lists or paths
    /// beyond the bounds. Paths are not looked at: whether they may be read is for the node to say, as their owner.
    pub fn parse_list(text: &str) -> Result<Vec<Self>, ParseError> {
        let mut files = Vec::new();
        let mut at = 0;
        for element in text.split(',') {
            let start = at + element.len() - element.trim_start().len();
            files.push(Self::parse(text, start, element.trim())?);
            if files.len() > Self::COUNT_MAX {
                let error = ParseError::new(text, start, "at most 1000 files");
                return Err(error.in_class(ErrorClass::TooLarge));
            }
            at += element.len() + 1;
        }
        Ok(files)
    }

    fn parse(text: &str, at: usize, element: &str) -> Result<Self, ParseError> {
        let fail = |skip: usize, expected| Err(ParseError::new(text, at + skip, expected));
        if let Some(bad) = element.find(char::is_control) {
            return fail(bad, "a printable character");
        }
        let Some((local, rest)) = element.split_once('@') else {
            return fail(element.len(), "`@host:path`");
        };
        let Some((host, remote)) = rest.split_once(':') else {
            return fail(element.len(), "`:path`");
        };
        let host_at = local.len() + 1;
        let is_host = |c: char| c.is_ascii_alphanumeric() || "-._".contains(c);
        if local.is_empty() {
            return fail(0, "a file on the node");
        }
        if host.is_empty() || !host.chars().all(is_host) {
            return fail(host_at, "a host name");
        }
        if remote.is_empty() {
            return fail(element.len(), "a path");
        }
        if [local, host, remote]
            .iter()
            .any(|part| part.len() > Self::PATH_BYTES_MAX)
        {
            let error = ParseError::new(text, at, "a shorter path");
            return Err(error.in_class(ErrorClass::TooLarge));
        }
        Ok(Self {
            local: local.into(),
            host: host.into(),
            remote: remote.into(),
        })
    }
}

impl fmt::Display for StagedFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            local,
            host,
            remote,
        } = self;
        write!(f, "{local}@{host}:{remote}")
    }
}

#[cfg(test)]
mod tests {
    use super::StagedFile;

    fn check(text: &str, expected: Result<&str, usize>) {
        let seen = StagedFile::parse_list(text);
        let seen = seen.map(|files| {
            let shown: Vec<_> = files.iter().map(StagedFile::to_string).collect();
            shown.join(",")
        });
        let expected = expected.map(str::to_owned);
        assert_eq!(seen.map_err(|error| error.at), expected, "{text}");
    }

    /// The recorded sessions B13 and H05.
    #[test]
    fn files_are_read_as_torque_reads_them() {
        check("a@hn1:/tmp/b", Ok("a@hn1:/tmp/b"));
        check("a@h:/b, c/d@h.x:e@f:g", Ok("a@h:/b,c/d@h.x:e@f:g"));
        check("foo", Err(3));
        check("a@hn1", Err(5));
        check("@hn1:/b", Err(0));
        check("a@:/b", Err(2));
        check("a@h o:/b", Err(2));
        check("a@h:", Err(4));
        check("a@h:/b,", Err(7));
        check("", Err(0));
    }
}
