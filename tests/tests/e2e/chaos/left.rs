//! What is left on the host of a cluster's jobs: processes, cgroups, mounts, files of attempts.

use std::fs;
use std::path::Path;

use nix::unistd::Pid;

use super::torment::{Torment, is_job_below};

pub(super) fn left(torment: &Torment, nodes: &[&str]) -> Vec<String> {
    let cluster = torment.cluster.path();
    let mut found = processes(cluster);
    for node in nodes {
        found.extend(groups(Path::new("/sys/fs/cgroup"), &torment.agent(node)));
        found.extend(files(&torment.state(node)));
    }
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let marker = format!("{}/", cluster.display());
    let ours = mounts.lines().filter(|line| line.contains(&marker));
    found.extend(ours.map(|line| format!("mount {line}")));
    let containers = ["ps", "-aq", "--filter", "label=capstan.agent"];
    let containers = torment.engine.docker(&containers).unwrap_or_default();
    found.extend(containers.lines().map(|id| format!("container {id}")));
    found
}

pub(super) fn processes(cluster: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let name = entry.file_name();
        let pid = name.to_str().and_then(|name| name.parse::<i32>().ok());
        if let Some(pid) = pid.filter(|pid| is_job_below(Pid::from_raw(*pid), cluster)) {
            let line = fs::read_to_string(entry.path().join("cmdline")).unwrap_or_default();
            found.push(format!("process {pid}: {}", line.replace('\0', " ")));
        }
    }
    found
}

/// Groups of attempts in every hierarchy there is below where they are mounted.
pub(super) fn groups(mounted: &Path, agent: &str) -> Vec<String> {
    let mut roots = vec![mounted.to_owned()];
    let hierarchies = fs::read_dir(mounted).unwrap().flatten();
    roots.extend(hierarchies.map(|entry| entry.path()));
    let mut found = Vec::new();
    for root in roots {
        let groups = fs::read_dir(root.join("capstan").join(agent));
        let groups = groups.into_iter().flatten().flatten();
        let of_attempts =
            groups.filter(|group| group.file_name().to_string_lossy().starts_with("att-"));
        found.extend(of_attempts.map(|group| format!("cgroup {}", group.path().display())));
    }
    found
}

/// What the agent keeps of attempts and their containers while they last.
pub(super) fn files(state: &Path) -> Vec<String> {
    let folders = [
        "attempts",
        "spool",
        "undelivered",
        "tmp",
        "aux",
        "containers/attempts",
        "containers/scripts",
    ];
    let entries = folders.iter().flat_map(|folder| {
        let entries = fs::read_dir(state.join(folder));
        entries.into_iter().flatten().flatten()
    });
    let paths = entries.map(|entry| format!("file {}", entry.path().display()));
    paths.collect()
}
