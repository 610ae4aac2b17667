//! Where a stream of a job goes: a path of this node, or one of another host, to which it is copied when the job is over.

use std::path::{Path, PathBuf};

use capstan_types::{Env, expand_path};

use super::other_hosts;
use crate::attempts::environment::{JobVariables, default_output_name};
use crate::attempts::record::{Entry, Identity};

/// Where one goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Destination {
    Here(PathBuf),
    There(There),
}

/// A path of a host whose files this node does not have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct There {
    pub(super) host: String,
    /// As the host's own programs see it; relative to the home folder there, or a folder.
    pub(super) path: String,
    /// The name that it gets in a folder.
    pub(super) name: String,
}

/// Where stdout (`o`) or stderr (`e`) goes. To be asked with the user's rights: what is a folder, and what is there at all,
/// depends on them.
pub(super) fn destination(
    entry: &Entry,
    identity: &Identity,
    env: &Env,
    letter: char,
) -> Destination {
    let output = entry.spec.output.clone().unwrap_or_default();
    let typed = match letter {
        'e' => &output.stderr,
        _ => &output.stdout,
    };
    let name = default_output_name(&entry.spec, letter);
    let home = Path::new(&identity.home);
    if output.keep.contains(letter) || typed.is_empty() {
        return Destination::Here(home.join(name));
    }
    let (host, path) = split_host(typed);
    let path = expand_path(path, &JobVariables(env));
    let Some(host) = host else {
        return Destination::Here(named(PathBuf::from(path), name));
    };
    match other_hosts::writable_path(entry, host, &path) {
        // As a program that copies sees it.
        Some(here) => Destination::Here(named(home.join(here), name)),
        None => Destination::There(There {
            host: host.to_owned(),
            path,
            name,
        }),
    }
}

/// The path, or the default name in it when it is a folder.
fn named(path: PathBuf, name: String) -> PathBuf {
    let is_folder = path.as_os_str().as_encoded_bytes().ends_with(b"/") || path.is_dir();
    match is_folder {
        true => path.join(name),
        false => path,
    }
}

/// Torque's `host:path`. What cannot be a host's name is part of the path.
fn split_host(typed: &str) -> (Option<&str>, &str) {
    let is_host = |host: &str| {
        let is_plain = |c: char| c.is_ascii_alphanumeric() || "-._".contains(c);
        host.starts_with(|c: char| c.is_ascii_alphanumeric()) && host.chars().all(is_plain)
    };
    match typed.split_once(':') {
        Some((host, path)) if is_host(host) => (Some(host), path),
        Some(_) | None => (None, typed),
    }
}

#[cfg(test)]
mod tests {
    use capstan_proto::wire::OutputFiles;

    use super::*;

    fn check(stdout: &str, keep: &str, expected: Destination) {
        let mut entry = Entry {
            node: "gpu01".into(),
            ..Entry::default()
        };
        entry.spec.job_id = "12.srv".into();
        entry.spec.job_name = "run".into();
        entry.spec.output = Some(OutputFiles {
            stdout: stdout.into(),
            keep: keep.into(),
            ..OutputFiles::default()
        });
        let identity = Identity {
            home: "/none/home".into(),
            ..Identity::default()
        };
        let env = [("PBS_JOBID".to_owned(), "12.srv".to_owned())];
        let found = destination(&entry, &identity, &env.into_iter().collect(), 'o');
        assert_eq!(found, expected, "{stdout}");
    }

    #[test]
    fn a_path_is_this_nodes_unless_another_host_is_named() {
        let here = |path: &str| Destination::Here(path.into());
        let there = |path: &str| {
            Destination::There(There {
                host: "192.0.2.7".into(),
                path: path.into(),
                name: "run.o12".into(),
            })
        };
        check("", "", here("/none/home/run.o12"));
        check("/none/x", "", here("/none/x"));
        check("/none/x/", "", here("/none/x/run.o12"));
        check("/proc", "", here("/proc/run.o12"));
        check("gpu01:/none/$PBS_JOBID", "", here("/none/12.srv"));
        check("gpu01:rel", "", here("/none/home/rel"));
        check("/none/a:b", "", here("/none/a:b"));
        check("192.0.2.7:/none/$PBS_JOBID", "", there("/none/12.srv"));
        check("192.0.2.7:rel/", "", there("rel/"));
        check("192.0.2.7:/dev/null", "", here("/dev/null"));
        check("192.0.2.7:/none/x", "o", here("/none/home/run.o12"));
        // No host's name, and nothing that a program would take for an option.
        check("-oProxy:/x", "", here("-oProxy:/x"));
    }
}
