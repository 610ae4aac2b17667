//! The lines of a file, one after another, none of them longer than a bound: what is read is not trusted.

use std::io::{BufRead, Read};
use std::path::Path;

use crate::SimError;

/// Gives each line to `take`, without its end; a line of more than `bytes_max` bytes is an error, as is what `take` says
/// of one.
///
/// # Errors
/// The file cannot be read, or a line is wrong: the error names it.
pub(crate) fn for_each(
    path: &Path,
    mut from: impl BufRead,
    bytes_max: usize,
    mut take: impl FnMut(&[u8]) -> Result<(), String>,
) -> Result<(), SimError> {
    let mut line = Vec::new();
    for number in 1.. {
        line.clear();
        let limited = &mut Read::take(&mut from, bytes_max as u64 + 1);
        let read = limited.read_until(b'\n', &mut line);
        let read = read.map_err(|source| SimError::Read {
            path: path.into(),
            source,
        })?;
        if read == 0 {
            break;
        }
        let taken = match line.len() > bytes_max {
            true => Err(format!("a line of more than {bytes_max} bytes")),
            false => take(&line),
        };
        taken.map_err(|what| SimError::Line {
            path: path.into(),
            line: number,
            what: what.into(),
        })?;
    }
    Ok(())
}
