//! The settings of what surrounds attempts: the site's scripts, scratch space, cores, and the node's health script. As
//! written and in force; resolving is pure but for the question which cores there are.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{anyhow, ensure};
use capstan_supervisor::attempts::{
    CoreLimit, DeviceCgroup, HostCores, MappedFolder, Surroundings,
};
use capstan_types::Size;
use serde::Deserialize;

use crate::health::HealthCheck;

/// Where prologues and epilogues are looked for; a folder that is not there has none.
const HOOKS_DIR: &str = "/etc/capstan/hooks";
/// What Torque's `$prologalarm` is when nobody sets it.
const PROLOGUE_SECS: u32 = 300;
/// How long scratch files are kept after a failure, hours.
const SCRATCH_KEEP_HOURS: u32 = 24;
/// Between two runs of the health script: one of Torque's intervals.
const HEALTH_SECS: u32 = 45;
/// How long the health script may take.
const HEALTH_TIMEOUT_SECS: u32 = 60;
/// The longest of any of these times, in seconds: a year.
const SECS_MAX: u64 = 366 * 24 * 3600;

/// Part of the agent's file: everything may be missing.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct SurroundingsFile {
    hooks_dir: Option<PathBuf>,
    prologue_timeout_secs: Option<u32>,
    scratch_dir: Option<PathBuf>,
    scratch_keep_hours: Option<u32>,
    core_limit: Option<CoreLimit>,
    device_cgroup: Option<DeviceCgroup>,
    network_interface: Option<String>,
    scratch_limit: Option<String>,
    #[serde(default)]
    usecp: Vec<String>,
    rcpcmd: Option<String>,
    node_check_script: Option<PathBuf>,
    node_check_interval_secs: Option<u32>,
    node_check_timeout_secs: Option<u32>,
    #[serde(default)]
    node_check_on_job_start: bool,
    #[serde(default)]
    node_check_on_job_end: bool,
}

impl SurroundingsFile {
    /// The health script, if there is one.
    pub(crate) fn health(&self) -> anyhow::Result<Option<HealthCheck>> {
        let Some(script) = self.node_check_script.clone() else {
            return Ok(None);
        };
        absolute("node_check_script", &script)?;
        let secs = |name, given: Option<u32>, default| {
            bounded(name, given.unwrap_or(default).into()).map(Duration::from_secs)
        };
        Ok(Some(HealthCheck {
            script,
            interval: secs(
                "node_check_interval_secs",
                self.node_check_interval_secs,
                HEALTH_SECS,
            )?,
            timeout: secs(
                "node_check_timeout_secs",
                self.node_check_timeout_secs,
                HEALTH_TIMEOUT_SECS,
            )?,
            on_job_start: self.node_check_on_job_start,
            on_job_end: self.node_check_on_job_end,
        }))
    }

    /// What surrounds attempts. `are_counted`: the slots of this node are the cores of this host.
    pub(crate) fn resolve(self, are_counted: bool) -> anyhow::Result<Surroundings> {
        let hooks = self.hooks_dir.unwrap_or_else(|| HOOKS_DIR.into());
        absolute("hooks_dir", &hooks)?;
        if let Some(scratch) = &self.scratch_dir {
            absolute("scratch_dir", scratch)?;
        }
        if let Some(name) = &self.network_interface {
            ensure!(
                is_interface_name(name),
                "network_interface must be a name as `ip link` shows it, not `{name}`"
            );
        }
        let limit = self.scratch_limit.as_deref().map(|text| {
            let size = Size::parse(text);
            size.map_err(|error| anyhow!("scratch_limit must be a size like 200gb: {error}"))
        });
        let hours = self.scratch_keep_hours.unwrap_or(SCRATCH_KEEP_HOURS);
        let keep_secs = u64::from(hours) * 3600;
        ensure!(
            keep_secs <= SECS_MAX,
            "scratch_keep_hours must be at most 8784, not {hours}"
        );
        let alarm = self.prologue_timeout_secs.unwrap_or(PROLOGUE_SECS);
        bounded("prologue_timeout_secs", alarm.into())?;
        let cores = HostCores::ask(self.core_limit.unwrap_or_default(), are_counted);
        Ok(Surroundings {
            hooks_folder: Some(hooks),
            hook_secs: alarm,
            scratch_folder: self.scratch_dir,
            scratch_keep_secs: keep_secs,
            cores,
            device_cgroup: self.device_cgroup.unwrap_or_default(),
            network_interface: self.network_interface,
            scratch_bytes: limit.transpose()?.map(|size| size.bytes()),
            mapped_folders: mapped_folders(&self.usecp)?,
            copy_program: copy_program(self.rcpcmd.as_deref())?,
        })
    }
}

/// `HOST:FOLDER FOLDER`, as Torque's `$usecp` has it: the first is here under the second path.
fn mapped_folders(lines: &[String]) -> anyhow::Result<Vec<MappedFolder>> {
    let read = |line: &String| {
        let words: Vec<&str> = line.split_ascii_whitespace().collect();
        let [there, to] = words[..] else { return None };
        let (host, from) = there.split_once(':')?;
        let name = host.strip_prefix('*').unwrap_or(host);
        let is_host = |c: char| c.is_ascii_alphanumeric() || "-._".contains(c);
        let is_good = !host.is_empty() && name.chars().all(is_host);
        let are_whole = from.starts_with('/') && to.starts_with('/');
        (is_good && are_whole).then(|| MappedFolder {
            host: host.to_owned(),
            from: from.to_owned(),
            to: to.to_owned(),
        })
    };
    let all = lines.iter().map(|line| {
        let mapped = read(line);
        mapped.ok_or_else(|| {
            anyhow!("usecp has lines like \"*.example.org:/home /home\", not `{line}`")
        })
    });
    all.collect()
}

/// The words of `rcpcmd`; none for the usual program.
fn copy_program(line: Option<&str>) -> anyhow::Result<Vec<String>> {
    let Some(line) = line else {
        return Ok(Vec::new());
    };
    let words: Vec<String> = line.split_ascii_whitespace().map(str::to_owned).collect();
    let is_whole = words
        .first()
        .is_some_and(|program| program.starts_with('/'));
    ensure!(
        is_whole,
        "rcpcmd must be the whole path of a program and its options, like /usr/bin/scp -Brp, not `{line}`"
    );
    Ok(words)
}

/// As the kernel takes it, `IFNAMSIZ` with its end in mind; with `=`, `^` and commas NCCL's lists are allowed too.
fn is_interface_name(name: &str) -> bool {
    let is_good = |c: char| c.is_ascii_alphanumeric() || "._-:@=^,".contains(c);
    !name.is_empty() && name.len() <= 128 && name.chars().all(is_good)
}

fn absolute(name: &str, path: &std::path::Path) -> anyhow::Result<()> {
    ensure!(
        path.is_absolute() && path.parent().is_some(),
        "{name} must be an absolute path, not {}",
        path.display()
    );
    Ok(())
}

fn bounded(name: &str, secs: u64) -> anyhow::Result<u64> {
    ensure!(
        (1..=SECS_MAX).contains(&secs),
        "{name} must be from 1 to {SECS_MAX} seconds, not {secs}"
    );
    Ok(secs)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> SurroundingsFile {
        toml::from_str(text).unwrap()
    }

    #[test]
    fn what_is_not_written_is_as_torque_has_it() {
        let around = read("").resolve(true).unwrap();
        assert_eq!(around.hook_secs, 300);
        assert_eq!(around.hooks_folder, Some(HOOKS_DIR.into()));
        assert_eq!(around.scratch_folder, None);
        assert!(around.cores.are_counted && !around.cores.cores.is_empty());
        assert_eq!(read("").health().unwrap(), None);
        let health = read("node_check_script = '/c'").health().unwrap().unwrap();
        assert_eq!(health.interval, Duration::from_secs(45));
    }

    #[test]
    fn folders_of_other_hosts_and_what_copies_to_them_are_as_written() {
        let text = "usecp = ['*.example.org:/home /ghome']\nrcpcmd = '/usr/bin/rsync -a'";
        let around = read(text).resolve(true).unwrap();
        let MappedFolder { host, from, to } = &around.mapped_folders[0];
        assert_eq!(
            (&**host, &**from, &**to),
            ("*.example.org", "/home", "/ghome")
        );
        assert_eq!(around.copy_program, ["/usr/bin/rsync", "-a"]);
    }

    #[test]
    fn mistakes_are_named() {
        let refused = |text: &str, word: &str| {
            let file = read(text);
            let problem = file
                .health()
                .err()
                .or_else(|| file.resolve(true).err())
                .unwrap();
            assert!(problem.to_string().contains(word), "{text}: {problem}");
        };
        refused("hooks_dir = 'x'", "hooks_dir");
        refused("scratch_dir = '/'", "scratch_dir");
        refused("scratch_keep_hours = 100000", "scratch_keep_hours");
        refused("prologue_timeout_secs = 0", "prologue_timeout_secs");
        refused("node_check_script = 'x'", "node_check_script");
        refused("network_interface = 'a b'", "network_interface");
        refused("scratch_limit = 'much'", "scratch_limit");
        for bad in [
            "/home /home",
            "h:home /home",
            "h:/home",
            "a b:/x /x",
            "-h;:/x /x",
        ] {
            refused(&format!("usecp = ['{bad}']"), "usecp");
        }
        refused("rcpcmd = 'scp -B'", "rcpcmd");
        refused("rcpcmd = ''", "rcpcmd");
        refused(
            "node_check_script = '/x'\nnode_check_interval_secs = 0",
            "node_check_interval_secs",
        );
        assert!(toml::from_str::<SurroundingsFile>("core_limit = 'all'").is_err());
    }
}
