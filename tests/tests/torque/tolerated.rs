//! The list of differences from Torque that are wanted, each with its reason.

use std::fs;
use std::path::Path;

use crate::transcript::{Difference, masked};

/// One wanted difference.
#[derive(Clone, Debug)]
struct Entry {
    case: String,
    command: String,
    /// It depends on the moment: it may also agree.
    is_sometimes: bool,
}

/// The list. A line without indent is a reason; the indented lines below it are `CASE user$ command`. A reason that
/// begins with `sometimes:` is about commands that may also agree.
pub(crate) struct Tolerated(Vec<Entry>);

impl Tolerated {
    /// Reads it.
    #[track_caller]
    pub(crate) fn read(file: &Path) -> Self {
        let text = fs::read_to_string(file).unwrap();
        let mut reason = "";
        let mut entries = Vec::new();
        for line in text
            .lines()
            .filter(|line| !line.trim().is_empty() && !line.starts_with('#'))
        {
            let Some(entry) = line.strip_prefix("    ") else {
                reason = line;
                continue;
            };
            assert!(!reason.is_empty(), "{line:?} has no reason");
            let (case, command) = entry.split_once(' ').unwrap();
            entries.push(Entry {
                case: case.to_owned(),
                command: masked(command),
                is_sometimes: reason.starts_with("sometimes:"),
            });
        }
        Self(entries)
    }

    /// Whether `one` is wanted.
    pub(crate) fn has(&self, one: &Difference) -> bool {
        self.0.iter().any(|entry| entry.is(one))
    }

    /// Entries that none of `differing` is, but for those that only sometimes differ.
    pub(crate) fn without(&self, differing: &[Difference]) -> Vec<String> {
        let stale = self
            .0
            .iter()
            .filter(|entry| !entry.is_sometimes && !differing.iter().any(|one| entry.is(one)));
        stale
            .map(|entry| format!("{} {}", entry.case, entry.command))
            .collect()
    }
}

impl Entry {
    fn is(&self, one: &Difference) -> bool {
        self.case == one.case && self.command == one.command
    }
}
