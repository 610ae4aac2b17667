//! Checksummed frames in a file with a header: how journal segments and snapshots look on disk. All numbers are
//! little endian.
//!
//! ```text
//! file   header, frames …
//! header magic 8 · format 2 · zero 2 · first 8 · salt 8 · crc32c of these 4
//! frame  length of body 4 · crc32c 4 · (number of its first item XOR salt) 8 · items 4 · body
//! ```
//!
//! The salt is drawn for each file and goes into every checksum: what a user puts into a script can not pass for a
//! frame, and neither can an old block of another file.

use std::hash::{BuildHasher, RandomState};
use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};

use crate::StoreError;
use crate::medium::{Medium, MediumReader};

/// Format of files that this version writes; it reads all up to this.
pub(crate) const FORMAT: u16 = 1;
/// Length of a file's header.
pub(crate) const FILE_HEADER_BYTES: u64 = 32;
/// Length of a frame's header.
pub(crate) const FRAME_HEADER_BYTES: usize = 20;
/// Largest body of a frame.
pub(crate) const BODY_BYTES_MAX: u64 = 256 << 20;

/// A file's header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FileHeader {
    /// Number of the first item that belongs in the file.
    pub(crate) first: u64,
    salt: u64,
}

impl FileHeader {
    /// The header of a new file.
    pub(crate) fn new(first: u64) -> Self {
        let salt = RandomState::new().hash_one(first);
        Self { first, salt }
    }

    /// As it is written.
    pub(crate) fn to_bytes(self, magic: [u8; 8]) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(FILE_HEADER_BYTES as usize);
        bytes.extend_from_slice(&magic);
        bytes.extend_from_slice(&FORMAT.to_le_bytes());
        bytes.extend_from_slice(&[0; 2]);
        bytes.extend_from_slice(&self.first.to_le_bytes());
        bytes.extend_from_slice(&self.salt.to_le_bytes());
        let crc = crc32c::crc32c(&bytes);
        bytes.extend_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// Reads the header of the file at `path`; `None` when there is no whole header.
    pub(crate) fn read(
        medium: &dyn Medium,
        magic: [u8; 8],
        path: &Path,
    ) -> Result<Option<Self>, StoreError> {
        let mut bytes = [0; FILE_HEADER_BYTES as usize];
        let mut have = 0;
        while have < bytes.len() {
            let count = medium.read_at(have as u64, &mut bytes[have..]);
            match count.map_err(StoreError::io("read", path))? {
                0 => return Ok(None),
                count => have += count,
            }
        }
        let (body, crc) = bytes.split_at(28);
        if crc32c::crc32c(body).to_le_bytes() != *crc || body[..8] != magic {
            return Ok(None);
        }
        let found = u16::from_le_bytes(array(&body[8..10]));
        if found > FORMAT {
            return Err(StoreError::Format {
                path: path.to_path_buf(),
                found,
                known: FORMAT,
            });
        }
        Ok(Some(Self {
            first: u64::from_le_bytes(array(&body[12..20])),
            salt: u64::from_le_bytes(array(&body[20..28])),
        }))
    }

    /// Begins a frame in `buffer`: its body is to be appended, then [`Self::finish`]ed.
    pub(crate) fn begin(buffer: &mut Vec<u8>) {
        buffer.clear();
        buffer.resize(FRAME_HEADER_BYTES, 0);
    }

    /// Completes the frame in `buffer`, which holds `items` items from number `first` on.
    pub(crate) fn finish(
        self,
        buffer: &mut [u8],
        first: u64,
        items: u32,
    ) -> Result<(), StoreError> {
        let bytes = (buffer.len() - FRAME_HEADER_BYTES) as u64;
        if bytes > BODY_BYTES_MAX {
            return Err(StoreError::TooLarge {
                bytes,
                bytes_max: BODY_BYTES_MAX,
            });
        }
        buffer[..4].copy_from_slice(&(bytes as u32).to_le_bytes());
        buffer[8..16].copy_from_slice(&(first ^ self.salt).to_le_bytes());
        buffer[16..20].copy_from_slice(&items.to_le_bytes());
        let crc = self.checksum(buffer);
        buffer[4..8].copy_from_slice(&crc.to_le_bytes());
        Ok(())
    }

    /// The checksum of a whole frame, in which the checksum itself is left out.
    fn checksum(self, frame: &[u8]) -> u32 {
        let crc = crc32c::crc32c(&self.salt.to_le_bytes());
        let crc = crc32c::crc32c_append(crc, &frame[..4]);
        crc32c::crc32c_append(crc, &frame[8..])
    }

    /// Whether a frame of this file begins in `bytes` whose first item comes after number `after`.
    fn is_frame_in(self, bytes: &[u8], after: u64) -> bool {
        let last = after.saturating_add(bytes.len() as u64);
        (0..bytes.len().saturating_sub(FRAME_HEADER_BYTES)).any(|at| {
            let rest = &bytes[at..];
            let head = FrameHead::of(&rest[..FRAME_HEADER_BYTES], self.salt);
            let end = FRAME_HEADER_BYTES as u64 + u64::from(head.bytes);
            let is_plausible = head.first > after && head.first <= last && end <= rest.len() as u64;
            is_plausible && self.checksum(&rest[..end as usize]) == head.crc
        })
    }
}

/// What stands before a frame's body.
struct FrameHead {
    bytes: u32,
    crc: u32,
    first: u64,
    items: u32,
}

impl FrameHead {
    fn of(header: &[u8], salt: u64) -> Self {
        Self {
            bytes: u32::from_le_bytes(array(&header[..4])),
            crc: u32::from_le_bytes(array(&header[4..8])),
            first: u64::from_le_bytes(array(&header[8..16])) ^ salt,
            items: u32::from_le_bytes(array(&header[16..20])),
        }
    }
}

fn array<const N: usize>(bytes: &[u8]) -> [u8; N] {
    bytes.try_into().expect("callers cut slices of this length")
}

/// Reads the frames of one file in order.
pub(crate) struct FrameReader {
    path: PathBuf,
    header: FileHeader,
    input: BufReader<MediumReader>,
    at: u64,
    size: u64,
    frame: Vec<u8>,
}

/// What a reader finds next.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Next {
    /// A whole frame: number of its first item, number of items; [`FrameReader::body`] has the rest.
    Frame(u64, u32),
    /// The file ends here.
    End,
    /// What is here is no whole frame.
    Bad(&'static str),
}

impl FrameReader {
    /// Reads the file whose header is `header`.
    pub(crate) fn new(
        medium: Box<dyn Medium>,
        header: FileHeader,
        path: PathBuf,
    ) -> Result<Self, StoreError> {
        let size = medium.size().map_err(StoreError::io("read", &path))?;
        let at = FILE_HEADER_BYTES;
        let input = BufReader::with_capacity(64 << 10, MediumReader { medium, at });
        Ok(Self {
            path,
            header,
            input,
            at,
            size,
            frame: Vec::new(),
        })
    }

    /// Where the next frame begins.
    pub(crate) const fn at(&self) -> u64 {
        self.at
    }

    /// The file's length when it was opened.
    pub(crate) const fn size(&self) -> u64 {
        self.size
    }

    /// The file.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Reads the next frame.
    pub(crate) fn next(&mut self) -> Result<Next, StoreError> {
        let left = self.size - self.at;
        if left == 0 {
            return Ok(Next::End);
        }
        if left < FRAME_HEADER_BYTES as u64 {
            return Ok(Next::Bad("a frame's header is cut short"));
        }
        self.frame.resize(FRAME_HEADER_BYTES, 0);
        if !self.fill(0)? {
            return Ok(Next::Bad("the file became shorter"));
        }
        let head = FrameHead::of(&self.frame, self.header.salt);
        let bytes = FRAME_HEADER_BYTES as u64 + u64::from(head.bytes);
        if bytes > left || u64::from(head.bytes) > BODY_BYTES_MAX {
            return Ok(Next::Bad("a frame reaches beyond the end of the file"));
        }
        self.frame.resize(bytes as usize, 0);
        if !self.fill(FRAME_HEADER_BYTES)? {
            return Ok(Next::Bad("the file became shorter"));
        }
        if self.header.checksum(&self.frame) != head.crc {
            return Ok(Next::Bad("a frame has a wrong checksum"));
        }
        self.at += bytes;
        Ok(Next::Frame(head.first, head.items))
    }

    /// The body of the frame that [`Self::next`] has found.
    pub(crate) fn body(&self) -> &[u8] {
        &self.frame[FRAME_HEADER_BYTES..]
    }

    /// After [`Next::Bad`] where item `after` should begin: whether whole frames of later items follow, so that what is
    /// bad is no torn end.
    pub(crate) fn has_frames_behind(&mut self, after: u64) -> Result<bool, StoreError> {
        let mut rest = Vec::new();
        let source = self.input.get_mut();
        source.at = self.at + 1;
        let limit = self.size.saturating_sub(source.at);
        let read = source.take(limit).read_to_end(&mut rest);
        read.map_err(StoreError::io("read", &self.path))?;
        Ok(self.header.is_frame_in(&rest, after))
    }

    /// Fills the frame buffer from `from` on; `false` when the file ends before.
    fn fill(&mut self, from: usize) -> Result<bool, StoreError> {
        match self.input.read_exact(&mut self.frame[from..]) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
            Err(error) => Err(StoreError::io("read", &self.path)(error)),
        }
    }
}
