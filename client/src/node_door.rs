//! The way from a program in a job to the agent of its node, for the commands that are called there.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

/// Where the door is named when it is not where it should be.
const VARIABLE: &str = "CAPSTAN_AGENT_SOCKET";
/// The host's agent.
const DEFAULT: &str = "/run/capstan/agent.sock";
/// Its name in the agent's folder.
const NAME: &str = "agent.sock";

/// The socket that the environment names, else that of the agent whose PBS_NODEFILE this is, which on a host with
/// several is the one that runs the job, else the host's.
pub(crate) fn socket(variable: impl Fn(&str) -> Option<OsString>) -> PathBuf {
    let named = variable(VARIABLE).filter(|path| !path.is_empty());
    if let Some(named) = named {
        return PathBuf::from(named);
    }
    let beside = variable("PBS_NODEFILE").and_then(|file| beside(Path::new(&file)));
    beside.unwrap_or_else(|| PathBuf::from(DEFAULT))
}

/// `/var/spool/capstan/agent.sock`, or where that leads to: the path of a socket must be short.
fn beside(node_file: &Path) -> Option<PathBuf> {
    let link = node_file.parent()?.parent()?.join(NAME);
    match fs::read_link(&link) {
        Ok(door) if door.is_absolute() => Some(door),
        Ok(_) | Err(_) => link.exists().then_some(link),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(variables: &[(&str, &str)], expected: &str) {
        let found = socket(|name| {
            let found = variables.iter().find(|(key, _)| *key == name);
            found.map(|(_, value)| OsString::from(value))
        });
        assert_eq!(found, PathBuf::from(expected));
    }

    #[test]
    fn the_door_is_that_of_the_jobs_own_agent() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("aux/1.hn1");
        let file = file.to_str().unwrap();
        check(&[], DEFAULT);
        check(&[("PBS_NODEFILE", file)], DEFAULT);
        check(&[("PBS_NODEFILE", "")], DEFAULT);
        std::os::unix::fs::symlink("/run/x.sock", folder.path().join(NAME)).unwrap();
        check(&[("PBS_NODEFILE", file)], "/run/x.sock");
        check(&[("PBS_NODEFILE", file), (VARIABLE, "/y")], "/y");
    }
}
