//! What tells one file from another, whatever its name, and how its durable copy is brought up to date.

use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};

/// A file or folder, for as long as it exists. The time of birth tells a reused inode number from its former owner.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Inode(String);

impl Inode {
    pub(crate) fn of(meta: &std::fs::Metadata) -> Self {
        let born = meta
            .created()
            .ok()
            .and_then(|time| time.duration_since(std::time::UNIX_EPOCH).ok());
        Self(format!(
            "{}-{}",
            meta.ino(),
            born.map_or(0, |since| since.as_nanos())
        ))
    }

    /// A file name that belongs to this inode alone.
    pub(crate) fn as_name(&self) -> &str {
        &self.0
    }
}

/// Granularity of changes. Also the most that a torn sync can mix within one block.
pub(crate) const BLOCK: usize = 64 * 1024;

/// Makes `copy` equal to `original` from `start` on, writing only blocks that differ: a kill in the middle leaves old
/// and new blocks, which is what an interrupted sync leaves, and never loses what was durable before.
pub(crate) fn update(original: &File, copy: &File, start: u64) -> io::Result<u64> {
    let (mut new, mut old) = (vec![0; BLOCK], vec![0; BLOCK]);
    let mut offset = start;
    loop {
        let got = read_full(original, &mut new, offset)?;
        let had = read_full(copy, &mut old, offset)?;
        if new[..got] != old[..had.min(got)] {
            copy.write_all_at(&new[..got], offset)?;
        }
        offset += got as u64;
        if got < BLOCK {
            copy.set_len(offset)?;
            return Ok(offset);
        }
    }
}

fn read_full(file: &File, block: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut filled = 0;
    while filled < block.len() {
        match file.read_at(&mut block[filled..], offset + filled as u64) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}
