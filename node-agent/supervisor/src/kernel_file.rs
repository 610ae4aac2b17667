//! Files that the kernel writes as they are read (`/proc`, `/sys`, groups), with as few calls as they need: they have no
//! size, so the standard library asks for it and then reads in steps that begin at 32 bytes; hundreds are read in each look.

use std::fs::File;
use std::io::{self, ErrorKind, Read};
use std::path::Path;

/// What is asked for at once: a page, as which the kernel writes such files.
const PAGE: usize = 4096;
/// An answer up to this is the whole file: the kernel ends an answer before the page is full only where its next record
/// would not fit, and no record is as long as the rest.
const SHORT: usize = PAGE / 2;

/// The whole text of a file of the kernel. A process may call itself anything: what is no UTF-8 is replaced, so that nobody
/// hides behind his name.
///
/// # Errors
///
/// The file cannot be opened or read.
pub fn text(path: impl AsRef<Path>) -> io::Result<String> {
    let mut file = File::open(path)?;
    let mut bytes = vec![0; PAGE];
    let mut filled = 0;
    loop {
        if filled == bytes.len() {
            bytes.resize(2 * filled, 0);
        }
        let count = match file.read(&mut bytes[filled..]) {
            Ok(count) => count,
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        filled += count;
        if count == 0 || filled <= SHORT {
            break;
        }
    }
    bytes.truncate(filled);
    Ok(match String::from_utf8(bytes) {
        Ok(text) => text,
        Err(error) => String::from_utf8_lossy(error.as_bytes()).into_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_any_length_are_read_whole() {
        // `/proc/self/mounts` is longer than a page on most hosts, `maps` has records of many lengths.
        for path in ["/proc/self/stat", "/proc/self/mounts", "/proc/meminfo"] {
            let ours = text(path).unwrap();
            assert!(ours.ends_with('\n'), "{path}: {ours}");
            let lines = std::fs::read_to_string(path).unwrap().lines().count();
            assert_eq!(ours.lines().count(), lines, "{path}");
        }
        let folder = tempfile::tempdir().unwrap();
        for length in [0, 1, SHORT, SHORT + 1, PAGE - 1, PAGE, PAGE + 1, 5 * PAGE] {
            let path = folder.path().join(length.to_string());
            let long = "x".repeat(length);
            std::fs::write(&path, &long).unwrap();
            assert!(text(&path).unwrap() == long, "{length}");
        }
    }

    #[test]
    fn what_is_not_there_is_an_error() {
        assert_eq!(
            text("/proc/0/stat").unwrap_err().kind(),
            ErrorKind::NotFound
        );
    }
}
