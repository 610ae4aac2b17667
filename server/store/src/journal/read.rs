//! The journal's reader: which segments there are, and the groups in them. Decides what is a torn end and what is
//! damage: the end of the last segment may be half a group that nobody was told of; anything else that is bad was
//! once acknowledged, and is an error that names the place.

use std::sync::Arc;

use super::{End, MAGIC};
use crate::StoreError;
use crate::codec::{self, Place, PlaceFile, Placed};
use crate::frame::{FILE_HEADER_BYTES, FRAME_HEADER_BYTES, FileHeader, FrameReader, Next};
use crate::medium::Folder;

const RESTORE: &str =
    "restore this file from a backup, or move the whole store aside to begin anew";

/// A segment of the journal.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Segment {
    /// Its number, from 1.
    pub(crate) number: u64,
    /// Its header.
    pub(crate) header: FileHeader,
    /// Its length in bytes when it was listed.
    pub(crate) size: u64,
}

/// The file name of a segment.
pub(crate) fn name(number: u64) -> String {
    format!("{number:08}.log")
}

/// All segments in order. A last one that has no whole header yet holds nothing and is left out.
///
/// # Errors
/// When one between the first and the last is missing, or its header is damaged.
pub(crate) fn segments(folder: &dyn Folder) -> Result<Vec<Segment>, StoreError> {
    let names = folder
        .names()
        .map_err(StoreError::io("list", folder.path()))?;
    let number = |name: &String| name.strip_suffix(".log")?.parse::<u64>().ok();
    let mut numbers: Vec<u64> = names.iter().filter_map(number).collect();
    numbers.sort_unstable();
    let mut found: Vec<Segment> = Vec::with_capacity(numbers.len());
    for &number in &numbers {
        let path = folder.path().join(name(number));
        if let Some(before) = found.last()
            && before.number + 1 != number
        {
            let path = folder.path().join(name(before.number + 1));
            return Err(StoreError::Missing { path });
        }
        let medium = folder
            .open(&name(number))
            .map_err(StoreError::io("open", &path))?;
        let size = medium.size().map_err(StoreError::io("read", &path))?;
        match FileHeader::read(&*medium, MAGIC, &path)? {
            Some(header) => found.push(Segment {
                number,
                header,
                size,
            }),
            // The header is synced before the first group is written: what holds groups had a header once.
            None if size <= FILE_HEADER_BYTES && numbers.last() == Some(&number) => {}
            None => return Err(damaged(path, 0, "its header is damaged")),
        }
    }
    Ok(found)
}

/// What a bad frame at the end of the last segment means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum EndRule {
    /// The end, after a look at what follows: whole groups behind a bad one mean damage.
    Judge,
    /// The end: a server may be writing there just now.
    Trust,
}

/// Groups of records in order, from a given record on.
pub(crate) struct Groups {
    folder: Arc<dyn Folder>,
    segments: std::vec::IntoIter<Segment>,
    end_rule: EndRule,
    from: u64,
    until: u64,
    reader: Option<(u64, FrameReader)>,
    next: u64,
    torn_bytes: u64,
}

/// One group: the number of its first record, and the frame's body.
pub(crate) struct Group<'a> {
    pub(crate) first: u64,
    pub(crate) body: &'a [u8],
    /// The segment it is in, and where in that its body begins.
    pub(crate) segment: u64,
    pub(crate) at: u64,
}

impl Group<'_> {
    /// The changes of each record, payloads' with their places.
    pub(crate) fn placed(&self) -> Result<Vec<Vec<Placed>>, StoreError> {
        let file = PlaceFile::Segment(self.segment);
        let place = |range: std::ops::Range<usize>| {
            Place::of(file, self.at + range.start as u64, &self.body[range])
        };
        let records = codec::decode_ranged(self.body)?.into_iter();
        let records = records.map(|changes| {
            changes
                .into_iter()
                .map(|(change, range)| (change, range.map(place)))
        });
        Ok(records.map(Iterator::collect).collect())
    }
}

impl Groups {
    /// Reads groups that have records from `from` to `until`, both included.
    ///
    /// # Errors
    /// When the journal begins after `from`.
    pub(crate) fn new(
        folder: Arc<dyn Folder>,
        from: u64,
        until: u64,
        end_rule: EndRule,
    ) -> Result<Self, StoreError> {
        let mut all = segments(&*folder)?;
        if all.first().is_none_or(|oldest| oldest.header.first > from) {
            let number = all
                .first()
                .map_or(1, |oldest| oldest.number.saturating_sub(1));
            let path = folder.path().join(name(number));
            return Err(StoreError::Missing { path });
        }
        let begin = all.partition_point(|segment| segment.header.first <= from) - 1;
        let next = all[begin].header.first;
        Ok(Self {
            folder,
            segments: all.split_off(begin).into_iter(),
            end_rule,
            from,
            until,
            reader: None,
            next,
            torn_bytes: 0,
        })
    }

    /// The next group.
    pub(crate) fn next(&mut self) -> Result<Option<Group<'_>>, StoreError> {
        loop {
            if self.next > self.until {
                return Ok(None);
            }
            let Some((number, mut reader)) = self.reader.take() else {
                match self.segments.next() {
                    Some(segment) => self.reader = Some(self.enter(segment)?),
                    None => return Ok(None),
                }
                continue;
            };
            let at = reader.at();
            let problem = match reader.next()? {
                Next::Frame(first, items) if first == self.next && items > 0 => {
                    self.next += u64::from(items);
                    // Put back before the frame is lent out: it stays in the reader's buffer.
                    let at = at + FRAME_HEADER_BYTES as u64;
                    self.reader = Some((number, reader));
                    if self.next <= self.from {
                        continue;
                    }
                    let body = self
                        .reader
                        .as_ref()
                        .map_or(&[][..], |(_, reader)| reader.body());
                    return Ok(Some(Group {
                        first,
                        body,
                        segment: number,
                        at,
                    }));
                }
                Next::Frame(..) => {
                    let path = reader.path().to_path_buf();
                    return Err(damaged(path, at, "a group has the wrong number"));
                }
                Next::Bad(problem) => Some(problem),
                Next::End => None,
            };
            let is_last = self.segments.len() == 0;
            match problem {
                None if is_last => {
                    self.reader = Some((number, reader));
                    return Ok(None);
                }
                None => {}
                Some(problem) if is_last && self.is_torn(&mut reader)? => {
                    tracing::debug!(file = %reader.path().display(), at, problem, "torn end");
                    self.torn_bytes = reader.size() - at;
                    self.reader = Some((number, reader));
                    self.until = 0;
                    return Ok(None);
                }
                Some(problem) => return Err(damaged(reader.path().to_path_buf(), at, problem)),
            }
        }
    }

    /// After the last group: where writing goes on, and how many torn bytes lie behind.
    pub(crate) fn end(&self) -> Option<(End, u64)> {
        let (segment, reader) = self.reader.as_ref()?;
        let end = End {
            segment: *segment,
            size: reader.at(),
            next: self.next,
        };
        Some((end, self.torn_bytes))
    }

    fn enter(&self, segment: Segment) -> Result<(u64, FrameReader), StoreError> {
        let name = name(segment.number);
        let path = self.folder.path().join(&name);
        if segment.header.first != self.next {
            return Err(damaged(
                path,
                0,
                "it does not go on where the file before it ends",
            ));
        }
        let medium = self
            .folder
            .open(&name)
            .map_err(StoreError::io("open", &path))?;
        Ok((
            segment.number,
            FrameReader::new(medium, segment.header, path)?,
        ))
    }

    fn is_torn(&self, reader: &mut FrameReader) -> Result<bool, StoreError> {
        match self.end_rule {
            EndRule::Trust => Ok(true),
            EndRule::Judge => Ok(!reader.has_frames_behind(self.next)?),
        }
    }
}

fn damaged(path: std::path::PathBuf, offset: u64, problem: &'static str) -> StoreError {
    StoreError::Damaged {
        path,
        offset,
        problem,
        remedy: RESTORE,
    }
}
