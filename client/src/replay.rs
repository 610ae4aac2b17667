//! `capstan replay`: hands over to the server's own program beside this one. What is replayed must be decided by the code
//! of the server, version for version, and the store's format is nobody's business but the server's.

use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::command::{Call, Failure};
use crate::getopt::Opt;

/// The server's program, and what it calls the command.
const SERVER: &str = "capstan-server";
const COMMAND: &str = "replay";
/// Where it may be, from the folder of this program.
const FOLDERS: [&str; 2] = [".", "../sbin"];

/// Options, for help and completion: the server's program reads them.
pub(crate) const OPTIONS: &[Opt] = &[
    Opt::value('-', "at TIME", "The cycle in force at this time"),
    Opt::value(
        '-',
        "job JOB",
        "The cycle in which this job was placed last",
    ),
    Opt::value('-', "list", "List the cycles that placed something"),
    Opt::value('-', "check", "Make every stored cycle again and compare"),
    Opt::value(
        '-',
        "from TIME",
        "With --list and --check: from this time on",
    ),
    Opt::value('-', "to TIME", "With --list and --check: until this time"),
    Opt::value(
        '-',
        "store FOLDER",
        "The store of the server, if not /var/lib/capstan/server/store",
    ),
    Opt::value('-', "json", "Print JSON"),
];

/// Becomes the server's program; returns only when that fails.
///
/// # Errors
/// It is not there.
pub(crate) fn run(call: &Call) -> Result<u8, Failure> {
    let own = std::env::current_exe().unwrap_or_default();
    let program = beside(&own).unwrap_or_else(|| PathBuf::from(SERVER));
    let mut command = Command::new(&program);
    command
        .arg(COMMAND)
        .args(call.args.iter().map(OsString::from));
    let error = command.exec();
    let text = format!(
        "capstan replay: {} cannot be run: {error}\nhint: the past is replayed on the host of the server",
        program.display()
    );
    Err(Failure::new(1, text))
}

/// The program beside `own`, links followed.
fn beside(own: &Path) -> Option<PathBuf> {
    let folder = own.parent()?;
    let places = FOLDERS.iter().map(|place| folder.join(place).join(SERVER));
    places.into_iter().find(|place| place.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_servers_program_is_looked_for_beside_this_one() {
        let folder = tempfile::tempdir().unwrap();
        let (bin, sbin) = (folder.path().join("bin"), folder.path().join("sbin"));
        std::fs::create_dir_all(&bin).unwrap();
        std::fs::create_dir_all(&sbin).unwrap();
        let own = bin.join("capstan");
        assert_eq!(beside(&own), None);
        std::fs::write(sbin.join(SERVER), "").unwrap();
        let found = beside(&own).unwrap();
        assert!(found.ends_with("../sbin/capstan-server"), "{found:?}");
        std::fs::write(bin.join(SERVER), "").unwrap();
        let found = beside(&own).unwrap();
        assert!(found.starts_with(&bin) && !found.to_string_lossy().contains(".."));
    }
}
