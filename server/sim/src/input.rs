//! What is simulated, by its name: `FILE[:FIRST:COUNT]`, packed or not, SWF or accounting log, or a folder of logs.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use flate2::bufread::MultiGzDecoder;

use crate::{SimError, Trace, accounting, swf};

/// What a gzip file begins with (RFC 1952).
const GZIP: [u8; 2] = [0x1f, 0x8b];

/// Most bytes of one file, unpacked: a trace of ten million jobs has about one gigabyte.
const UNPACKED_BYTES_MAX: u64 = 8 << 30;

/// A file and which of its jobs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slice {
    /// The file, or a folder of accounting logs.
    pub path: PathBuf,
    /// The first job, from 0, of those that ran.
    pub first: usize,
    /// How many; `None` for all that follow.
    pub count: Option<usize>,
}

impl Slice {
    /// Reads `FILE[:FIRST:COUNT]`.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let numbers = || {
            let (rest, count) = text.rsplit_once(':')?;
            let (path, first) = rest.rsplit_once(':')?;
            let is_path = !path.is_empty();
            is_path.then_some(())?;
            Some((path, first.parse().ok()?, count.parse().ok()?))
        };
        match numbers() {
            Some((path, first, count)) => Self {
                path: path.into(),
                first,
                count: Some(count),
            },
            None => Self {
                path: text.into(),
                first: 0,
                count: None,
            },
        }
    }

    fn name(&self) -> String {
        let file = self.path.file_name().unwrap_or(self.path.as_os_str());
        let file = file.to_string_lossy();
        match self.count {
            Some(count) => format!("{file}:{}:{count}", self.first),
            None => file.into_owned(),
        }
    }
}

/// Reads one SWF file, or one or several accounting logs or folders of them. A slice counts the jobs that ran, from 0,
/// in the order in which they came.
///
/// # Errors
/// A file that cannot be read or means nothing; no job at all.
pub fn load(slices: &[Slice]) -> Result<Trace, SimError> {
    let Some(one) = slices.first() else {
        return Err(SimError::NoJobs {
            path: PathBuf::new(),
            skipped: 0,
        });
    };
    let mut logs = accounting::Logs::default();
    let mut swf = None;
    for path in files(slices)? {
        let mut from = open(&path)?;
        if accounting::is_one(&path, &mut from)? {
            logs.read(&path, from)?;
        } else if slices.len() == 1 {
            swf = Some(swf::read(&path, from)?);
        } else {
            let what = "is no accounting log: several files are simulated together only where all of them are";
            return Err(SimError::Line {
                path,
                line: 1,
                what: what.into(),
            });
        }
    }
    let mut trace = swf.map_or_else(|| logs.finish(), Ok)?;
    let names: Vec<String> = slices.iter().map(Slice::name).collect();
    trace.name = names.join(" ");
    let path = || one.path.clone();
    if trace.jobs.is_empty() {
        let skipped = trace.left_out;
        return Err(SimError::NoJobs {
            path: path(),
            skipped,
        });
    }
    let (first, jobs) = (one.first, trace.jobs.len());
    if first >= jobs || one.count == Some(0) {
        return Err(SimError::EmptySlice {
            path: path(),
            first,
            jobs,
        });
    }
    trace.jobs.drain(..first);
    trace.jobs.truncate(one.count.unwrap_or(usize::MAX));
    Ok(trace)
}

/// The files meant; of a folder those in it, in the order of their names, which for accounting logs is that of days.
fn files(slices: &[Slice]) -> Result<Vec<PathBuf>, SimError> {
    let mut files = Vec::new();
    for Slice { path, .. } in slices {
        if !path.is_dir() {
            files.push(path.clone());
            continue;
        }
        let failed = |source| SimError::Read {
            path: path.clone(),
            source,
        };
        let mut found = Vec::new();
        for entry in path.read_dir().map_err(failed)? {
            let path = entry.map_err(failed)?.path();
            if path.is_file() {
                found.push(path);
            }
        }
        found.sort();
        files.extend(found);
    }
    Ok(files)
}

/// A reader of what the file holds, unpacked.
fn open(path: &Path) -> Result<Box<dyn BufRead>, SimError> {
    let failed = |source| SimError::Read {
        path: path.into(),
        source,
    };
    let mut file = BufReader::with_capacity(1 << 18, File::open(path).map_err(failed)?);
    let is_packed = file.fill_buf().map_err(failed)?.starts_with(&GZIP);
    Ok(if is_packed {
        let unpacked = MultiGzDecoder::new(file).take(UNPACKED_BYTES_MAX);
        Box::new(BufReader::with_capacity(1 << 18, unpacked))
    } else {
        Box::new(file)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, path: &str, first: usize, count: Option<usize>) {
        let path = path.into();
        assert_eq!(Slice::parse(text), Slice { path, first, count }, "{text}");
    }

    #[test]
    fn a_slice_stands_behind_the_file() {
        check("a.swf", "a.swf", 0, None);
        check("a.swf.gz:12000:6000", "a.swf.gz", 12000, Some(6000));
        check("/x:y/a:1:2", "/x:y/a", 1, Some(2));
        check("a:1", "a:1", 0, None);
        check("a:x:2", "a:x:2", 0, None);
        check(":1:2", ":1:2", 0, None);
    }
}
