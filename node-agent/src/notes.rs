//! What an administrator should know of this node beside its inventory, in a few words each: it goes with every
//! heartbeat and stands in the node's message in `pbsnodes`.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Longest note, characters.
const NOTE_CHARS_MAX: usize = 300;

/// The notes, by whose they are.
#[derive(Debug, Default)]
pub(crate) struct Notes(Mutex<BTreeMap<&'static str, Note>>);

#[derive(Debug)]
struct Note {
    text: String,
    /// Nothing may be started here while it holds.
    is_complaint: bool,
    until: Option<Instant>,
}

impl Notes {
    /// Puts a note in the place of an earlier one of the same author, for so long; an empty one takes it away.
    pub(crate) fn put(&self, author: &'static str, text: &str, time: Option<Duration>) {
        self.keep(author, text, (time, false));
    }

    /// As [`Self::put`]; while it holds nothing is started on this node.
    pub(crate) fn complain(&self, author: &'static str, text: &str, time: Option<Duration>) {
        self.keep(author, text, (time, true));
    }

    fn keep(
        &self,
        author: &'static str,
        text: &str,
        (time, is_complaint): (Option<Duration>, bool),
    ) {
        let mut notes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if text.is_empty() {
            notes.remove(author);
            return;
        }
        // A comma would begin another item in the list of which a message is one.
        let plain = text
            .chars()
            .map(|c| if c.is_control() || c == ',' { ' ' } else { c });
        let note = Note {
            text: plain.take(NOTE_CHARS_MAX).collect(),
            is_complaint,
            until: time.map(|time| Instant::now() + time),
        };
        notes.insert(author, note);
    }

    /// What an author complained of is a plain note from now on: it stands there, and keeps nothing from starting.
    pub(crate) fn forgive(&self, author: &'static str) {
        let mut notes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(note) = notes.get_mut(author) {
            note.is_complaint = false;
        }
    }

    /// All that hold, each with its author.
    pub(crate) fn all(&self) -> Vec<String> {
        let mut notes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        notes.retain(|_, note| note.holds());
        // A complaint goes its own way.
        let all = notes.iter().filter(|(_, note)| !note.is_complaint);
        all.map(|(author, note)| format!("{author}: {}", note.text))
            .collect()
    }

    /// The first complaint, in the form of a health script's; empty when there is none.
    pub(crate) fn complaint(&self) -> String {
        let notes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut all = notes.iter();
        let first = all.find(|(_, note)| note.is_complaint && note.holds());
        first.map_or_else(String::new, |(author, note)| {
            format!("ERROR {author}: {}", note.text)
        })
    }
}

impl Note {
    fn holds(&self) -> bool {
        self.until.is_none_or(|until| until > Instant::now())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_stands_in_one_line_until_its_time_is_over() {
        let notes = Notes::default();
        notes.put("kernel", "BUG: a, b\nc", None);
        notes.put("doctor", "old", Some(Duration::ZERO));
        assert_eq!(notes.all(), ["kernel: BUG: a  b c"]);
        assert_eq!(notes.complaint(), "");
        notes.complain("kernel", "BUG", Some(Duration::from_secs(99)));
        assert_eq!(notes.complaint(), "ERROR kernel: BUG");
        assert!(notes.all().is_empty());
        notes.forgive("doctor");
        assert_eq!(notes.complaint(), "ERROR kernel: BUG");
        notes.forgive("kernel");
        assert_eq!(notes.complaint(), "");
        assert_eq!(notes.all(), ["kernel: BUG"]);
        notes.put("kernel", "", None);
        assert!(notes.all().is_empty());
        notes.put("kernel", &"x".repeat(999), None);
        assert_eq!(notes.all()[0].len(), "kernel: ".len() + NOTE_CHARS_MAX);
    }
}
