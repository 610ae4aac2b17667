//! The two streams of a command. Listings are gathered in one buffer that is reused, so that ten thousand rows are
//! a few writes; errors wait until the listing is out, because Torque prints them last.

use std::io::Write;

use crate::command::Failure;

/// The buffer is written when it holds so many bytes.
const FLUSH_BYTES: usize = 64 << 10;

/// Stdout, buffered, and what is to be said on stderr in the end.
pub(crate) struct Screen<W: Write> {
    stdout: W,
    buffer: Vec<u8>,
    complaints: String,
}

impl<W: Write> Screen<W> {
    /// A screen that writes to `stdout`.
    pub(crate) fn new(stdout: W) -> Self {
        Self {
            stdout,
            buffer: Vec::new(),
            complaints: String::new(),
        }
    }

    /// Where listings are written. Call [`Screen::pass_on`] between rows.
    pub(crate) fn out(&mut self) -> &mut Vec<u8> {
        &mut self.buffer
    }

    /// Writes the buffer out when it is full.
    ///
    /// # Errors
    /// The reader has gone, or the disk behind a redirection is full.
    pub(crate) fn pass_on(&mut self) -> Result<(), Failure> {
        if self.buffer.len() >= FLUSH_BYTES {
            self.flush()?;
        }
        Ok(())
    }

    /// Adds a line to what is said on stderr when the listing is out.
    pub(crate) fn complain(&mut self, line: &str) {
        self.complaints.push_str(line);
        self.complaints.push('\n');
    }

    /// Says on stderr, when the listing is out, what a failure says, if anything.
    pub(crate) fn complain_of(&mut self, failure: &Failure) {
        if !failure.text.is_empty() {
            self.complain(&failure.text);
        }
    }

    /// Writes everything: the listing, then the complaints into `stderr`.
    ///
    /// # Errors
    /// As for [`Screen::pass_on`]; nobody can be told when stderr is closed.
    pub(crate) fn finish(&mut self, stderr: &mut impl Write) -> Result<(), Failure> {
        let written = self.flush();
        let complaints = std::mem::take(&mut self.complaints);
        if !complaints.is_empty() {
            stderr.write_all(complaints.as_bytes())?;
        }
        written
    }

    /// Writes what there is so far.
    ///
    /// # Errors
    /// As for [`Screen::pass_on`].
    pub(crate) fn flush(&mut self) -> Result<(), Failure> {
        let written = self
            .stdout
            .write_all(&self.buffer)
            .and_then(|()| self.stdout.flush());
        self.buffer.clear();
        Ok(written?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Closed;

    impl Write for Closed {
        fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
            Err(std::io::ErrorKind::BrokenPipe.into())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn complaints_come_after_the_listing() {
        let mut both = Vec::new();
        let mut screen = Screen::new(Vec::new());
        screen.complain("qstat: no");
        screen.out().extend_from_slice(b"row\n");
        screen.finish(&mut both).unwrap();
        assert_eq!(
            (screen.stdout.as_slice(), both.as_slice()),
            (&b"row\n"[..], &b"qstat: no\n"[..])
        );
    }

    #[test]
    fn a_reader_that_has_gone_ends_the_command_quietly() {
        let mut screen = Screen::new(Closed);
        screen.out().extend_from_slice(&vec![b'x'; FLUSH_BYTES]);
        assert_eq!(screen.pass_on(), Err(Failure::BROKEN_PIPE));
    }
}
