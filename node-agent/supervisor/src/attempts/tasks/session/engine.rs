//! How an engine sends the output of a program in a container: as it is when the program has a terminal, else in frames, each
//! behind eight bytes that tell its stream and length (Docker Engine API, "Attach to a container: Stream format"). No frame
//! is ever held as a whole. Pure.

use super::record::{Record, Source};

const HEADER_BYTES: usize = 8;

#[derive(Debug)]
pub(super) enum Frames {
    /// A terminal.
    None,
    /// A header comes next, or the rest of it.
    Header(Vec<u8>),
    /// So much of a frame is still to come.
    Inside(Source, usize),
}

impl Frames {
    pub(super) const fn new(has_terminal: bool) -> Self {
        match has_terminal {
            true => Self::None,
            false => Self::Header(Vec::new()),
        }
    }

    pub(super) fn read(&mut self, bytes: &[u8], record: &mut Record) {
        let mut rest = bytes;
        while !rest.is_empty() {
            match self {
                Self::None => return record.push(Source::Stdout, rest),
                Self::Header(header) => {
                    let (part, behind) = rest.split_at(rest.len().min(HEADER_BYTES - header.len()));
                    header.extend_from_slice(part);
                    rest = behind;
                    if let [kind, _, _, _, a, b, c, d] = header[..] {
                        // 3 is an error of the engine itself, in words.
                        let source = match kind {
                            0 | 1 => Source::Stdout,
                            2.. => Source::Stderr,
                        };
                        let length = u32::from_be_bytes([a, b, c, d]) as usize;
                        *self = match length {
                            0 => Self::Header(Vec::new()),
                            length => Self::Inside(source, length),
                        };
                    }
                }
                Self::Inside(source, left) => {
                    let (part, behind) = rest.split_at(rest.len().min(*left));
                    record.push(*source, part);
                    rest = behind;
                    *left -= part.len();
                    if *left == 0 {
                        *self = Self::Header(Vec::new());
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use capstan_proto::wire::terminal_output::Output;

    use super::*;
    use crate::attempts::shim::terminal::Shown;

    #[test]
    fn frames_are_told_apart_however_they_arrive() {
        let sent =
            b"\x01\0\0\0\0\0\0\x03abc\x02\0\0\0\0\0\0\0\x02\0\0\0\0\0\0\x02de\x01\0\0\0\0\0\0\x01f";
        for step in 1..sent.len() {
            let (mut frames, mut record) = (Frames::new(false), Record::default());
            sent.chunks(step)
                .for_each(|part| frames.read(part, &mut record));
            assert_eq!(
                record.piece(0, 9).0,
                Output::Stdout(b"abc".to_vec()),
                "{step}"
            );
            assert_eq!(
                record.piece(3, 9).0,
                Output::Stderr(b"de".to_vec()),
                "{step}"
            );
            assert_eq!(
                record.piece(5, 9).0,
                Output::Stdout(b"f".to_vec()),
                "{step}"
            );
        }
    }

    #[test]
    fn a_terminal_sends_no_frames() {
        let (mut frames, mut record) = (Frames::new(true), Record::default());
        frames.read(b"\x01\0\0\0\xff\xff\xff\xff", &mut record);
        assert_eq!(record.end(), 8);
    }
}
