//! The keys that are for the command and not for the job: `~` at the beginning of a line and one letter, as remote shells
//! have them. Pure.

/// What is typed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Typed {
    /// For the job.
    Keys(Vec<u8>),
    /// `~.`: end the job, or the program in it.
    End,
    /// `~d`: leave the session, which goes on.
    Detach,
    /// `~^Z`: stop this command for now.
    Suspend,
    /// `~?`: say which keys there are.
    Help,
}

/// What was typed last.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Last {
    #[default]
    LineEnd,
    Tilde,
    Other,
}

/// Finds them, also when they come one by one.
#[derive(Debug, Default)]
pub(crate) struct Escapes(Last);

const SUSPEND: u8 = 0x1a;

impl Escapes {
    /// What the bytes mean.
    pub(crate) fn read(&mut self, bytes: &[u8]) -> Vec<Typed> {
        let mut typed = Vec::new();
        let mut keys = Vec::new();
        for &byte in bytes {
            let order = match (self.0, byte) {
                (Last::LineEnd, b'~') => {
                    self.0 = Last::Tilde;
                    continue;
                }
                (Last::Tilde, b'.') => Some(Typed::End),
                (Last::Tilde, b'd') => Some(Typed::Detach),
                (Last::Tilde, SUSPEND) => Some(Typed::Suspend),
                (Last::Tilde, b'?') => Some(Typed::Help),
                (Last::Tilde, b'~') => {
                    keys.push(b'~');
                    self.0 = Last::Other;
                    continue;
                }
                (Last::Tilde, _) => {
                    keys.push(b'~');
                    None
                }
                (Last::LineEnd | Last::Other, _) => None,
            };
            match order {
                Some(order) => {
                    if !keys.is_empty() {
                        typed.push(Typed::Keys(std::mem::take(&mut keys)));
                    }
                    typed.push(order);
                    self.0 = Last::LineEnd;
                }
                None => {
                    keys.push(byte);
                    // Enter; and what abandons a line begins a new one.
                    self.0 = match byte {
                        b'\r' | b'\n' | 0x03 | 0x04 => Last::LineEnd,
                        _ => Last::Other,
                    };
                }
            }
        }
        if !keys.is_empty() {
            typed.push(Typed::Keys(keys));
        }
        typed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(typed: &[&str], expected: &[Typed]) {
        let mut escapes = Escapes::default();
        let seen: Vec<Typed> = typed
            .iter()
            .flat_map(|part| escapes.read(part.as_bytes()))
            .collect();
        assert_eq!(seen, expected, "{typed:?}");
    }

    fn keys(text: &str) -> Typed {
        Typed::Keys(text.as_bytes().to_vec())
    }

    #[test]
    fn a_tilde_at_the_beginning_of_a_line_is_for_the_command() {
        check(&["~."], &[Typed::End]);
        check(&["ls\r~d"], &[keys("ls\r"), Typed::Detach]);
        check(&["ls\r", "~", "?"], &[keys("ls\r"), Typed::Help]);
        check(&["\u{3}~\u{1a}"], &[keys("\u{3}"), Typed::Suspend]);
    }

    #[test]
    fn any_other_tilde_is_for_the_job() {
        check(&["cd ~.\r"], &[keys("cd ~.\r")]);
        check(&["~~.\r"], &[keys("~.\r")]);
        check(&["~/bin/x\r"], &[keys("~/bin/x\r")]);
        check(&["~", "/x"], &[keys("~/x")]);
    }
}
