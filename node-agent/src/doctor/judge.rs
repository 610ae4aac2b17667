//! What the doctor makes of what it saw. Pure: each finding is a rule over facts, with its remedy as a line to type.

use capstan_supervisor::containers::{CardsInContainers, CgroupDriver, EngineFacts};

use super::facts::{Engine, Facts, Folder, Nvidia, VolumeSeen};

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Weight {
    /// Jobs run; something is not as it should be.
    Warning,
    /// Jobs, or jobs of some kind, do not run here.
    Broken,
}

/// Something that is wrong with a host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Finding {
    /// Short and stable, for scripts: `docker-silent`.
    pub(super) check: &'static str,
    pub(super) weight: Weight,
    /// What is wrong.
    pub(super) what: String,
    /// Why that matters.
    pub(super) why: &'static str,
    /// The line that mends it.
    pub(super) mend: String,
}

/// The oldest engine that is supported, by its first two numbers.
const ENGINE_OLDEST: (u32, u32) = (20, 10);
/// The oldest kernel that has all the calls that mounts are pinned with (openat2 of 5.6, mount_setattr of 5.12).
const KERNEL_OLDEST: (u32, u32) = (5, 6);
const KERNEL_WHOLE: (u32, u32) = (5, 12);
/// A disk above this is about to stop work.
const DISK_FULL_PERCENT: u32 = 97;
/// A disk above this wants a look.
const DISK_HIGH_PERCENT: u32 = 85;
/// A disk of images smaller than this holds no two images of a framework.
const IMAGE_DISK_BYTES: u64 = 40 << 30;
/// Clocks further apart spoil walltimes and logs.
pub(super) const CLOCK_MS: u64 = 2000;

/// All that is wrong, the worst first, else in the order of what depends on what.
pub(super) fn judge(facts: &Facts) -> Vec<Finding> {
    let mut findings = Vec::new();
    host(facts, &mut findings);
    engine(&facts.engine, &mut findings);
    nvidia(facts, &mut findings);
    facts.confinement.judge(&mut findings);
    for volume in &facts.volumes {
        findings.extend(volume_of(volume));
    }
    clock(facts, &mut findings);
    names(facts, &mut findings);
    disks(facts, &mut findings);
    findings.sort_by_key(|finding| std::cmp::Reverse(finding.weight));
    findings
}

pub(super) fn finding(
    check: &'static str,
    weight: Weight,
    what: String,
    (why, mend): (&'static str, String),
) -> Finding {
    Finding {
        check,
        weight,
        what,
        why,
        mend,
    }
}

/// The first two numbers of a version.
fn version(text: &str) -> Option<(u32, u32)> {
    let mut numbers = text.split(|c: char| !c.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

fn host(facts: &Facts, findings: &mut Vec<Finding>) {
    use Weight::{Broken, Warning};
    if !facts.is_root {
        let why = "without root the agent runs jobs of its own user only, and can neither limit them nor pin mounts";
        let mend = "sudo capstan doctor; and run capstan-agent as a service of root".to_owned();
        findings.push(finding(
            "not-root",
            Warning,
            "this is not root".to_owned(),
            (why, mend),
        ));
    }
    let kernel = &facts.kernel;
    let is_older = |than| version(kernel).is_some_and(|own| own < than);
    if is_older(KERNEL_OLDEST) {
        let why = "folders cannot be opened without races (openat2), so no container can mount any";
        let mend =
            "install a kernel of 5.12 or newer and the NVIDIA driver's module for it, then reboot"
                .to_owned();
        let what = format!("kernel {kernel} is too old for containers");
        findings.push(finding("kernel-old", Broken, what, (why, mend)));
    } else if is_older(KERNEL_WHOLE) {
        let why =
            "read-only mounts are read-only at their top only, not in mounts below (mount_setattr)";
        let mend = "install a kernel of 5.12 or newer when the host is rebooted anyway".to_owned();
        let what = format!("kernel {kernel} is older than 5.12");
        findings.push(finding("kernel-old", Warning, what, (why, mend)));
    }
    let cgroups = &facts.cgroups;
    if !cgroups.is_mounted {
        let why = "limits of memory and cores are not enforced, and processes are followed by descent only";
        let mend = "mount -t cgroup2 none /sys/fs/cgroup".to_owned();
        let what = "no cgroups are mounted at /sys/fs/cgroup".to_owned();
        findings.push(finding("cgroups-missing", Broken, what, (why, mend)));
        return;
    }
    if !cgroups.is_v2 {
        let why = "cores, memory and devices are limited less exactly, and new engines will give version 1 up";
        let mend = "add systemd.unified_cgroup_hierarchy=1 to GRUB_CMDLINE_LINUX in /etc/default/grub, then update-grub && reboot".to_owned();
        let what = "cgroups are of version 1".to_owned();
        findings.push(finding("cgroups-old", Warning, what, (why, mend)));
    }
    let missing: Vec<_> = ["cpu", "cpuset", "memory", "pids"]
        .into_iter()
        .filter(|name| !cgroups.controllers.iter().any(|own| own == name))
        .collect();
    if !missing.is_empty() {
        let list = missing.join(", ");
        let why = "what they count is not limited: one job can take the whole node";
        let mend = match missing.contains(&"memory") {
            true => "add cgroup_enable=memory swapaccount=1 to GRUB_CMDLINE_LINUX in /etc/default/grub, then update-grub && reboot".to_owned(),
            false => format!("use a kernel that has them: zgrep -i cgroup /boot/config-{kernel}"),
        };
        let what = format!("cgroup controllers are missing: {list}");
        findings.push(finding("cgroups-controllers", Warning, what, (why, mend)));
    }
}

fn engine(engine: &Engine, findings: &mut Vec<Finding>) {
    use Weight::{Broken, Warning};
    let socket = engine.socket.display();
    let facts = match &engine.facts {
        Ok(facts) => facts,
        Err(_) if !engine.has_program && !engine.has_socket => {
            let why = "startdocker and jobs with an image do not run here; scripts do";
            let mend =
                "apt-get install docker.io   (or dnf install docker-ce: any Docker from 20.10 on)"
                    .to_owned();
            let what = "Docker is not installed".to_owned();
            return findings.push(finding("docker-missing", Broken, what, (why, mend)));
        }
        Err(problem) => {
            let why = "startdocker and jobs with an image do not run here";
            let mend = "systemctl enable --now docker; journalctl -u docker -n 50".to_owned();
            let what = format!("dockerd does not answer at {socket}: {problem}");
            return findings.push(finding("docker-silent", Broken, what, (why, mend)));
        }
    };
    if version(&facts.version).is_some_and(|own| own < ENGINE_OLDEST) {
        let why = "it lacks what containers are kept in with, and its API is not spoken";
        let mend = "apt-get install docker.io   (20.10 or newer)".to_owned();
        let what = format!("Docker is {}", facts.version);
        findings.push(finding("docker-old", Broken, what, (why, mend)));
    }
    engine_setup(facts, findings);
    if !facts.shares_mounts {
        let why = "paths that were checked are other paths to it, so every mount is refused";
        let mend = "apt-get install docker.io   (in place of a snap or a container with dockerd)"
            .to_owned();
        let what = "dockerd lives in a mount namespace of its own".to_owned();
        findings.push(finding("docker-namespace", Broken, what, (why, mend)));
    }
    if !facts.keeps_containers {
        let why = "a restart of dockerd, such as an upgrade, ends the containers of all jobs";
        let mend = "put {\"live-restore\": true} into /etc/docker/daemon.json (merge it by hand), then systemctl reload docker".to_owned();
        let what = "dockerd is set to end containers when it restarts".to_owned();
        findings.push(finding("docker-live-restore", Warning, what, (why, mend)));
    }
}

fn engine_setup(facts: &EngineFacts, findings: &mut Vec<Finding>) {
    match facts.cgroups {
        CgroupDriver::Cgroupfs => {}
        CgroupDriver::Systemd => {
            let why = "containers then run outside of their job's cgroup: each has the job's memory limit for itself, and not all of them together";
            let mend = "put {\"exec-opts\": [\"native.cgroupdriver=cgroupfs\"]} into /etc/docker/daemon.json (merge it by hand), then systemctl restart docker".to_owned();
            let what = "dockerd leaves cgroups to systemd".to_owned();
            findings.push(finding(
                "docker-cgroups",
                Weight::Warning,
                what,
                (why, mend),
            ));
        }
        CgroupDriver::Nobody => {
            let why = "containers have no limits";
            let mend = "mount -t cgroup2 none /sys/fs/cgroup; systemctl restart docker".to_owned();
            let what = "dockerd makes no cgroups".to_owned();
            findings.push(finding("docker-cgroups", Weight::Broken, what, (why, mend)));
        }
    }
}

fn nvidia(facts: &Facts, findings: &mut Vec<Finding>) {
    use Weight::{Broken, Warning};
    let nvidia = &facts.nvidia;
    let seen = nvidia.cards;
    if nvidia.is_unwanted || (nvidia.on_bus == 0 && seen == 0) {
        return;
    }
    if nvidia.on_bus > 0 && nvidia.module.is_none() {
        findings.push(no_module(nvidia, &facts.kernel));
    } else if let Some(problem) = &nvidia.problem {
        let why = "cards that the driver does not name are not lent";
        let mend = match problem.to_ascii_lowercase().contains("mismatch") {
            // The library was upgraded under the loaded module.
            true => "reboot   (or, with no process on any card: rmmod nvidia_uvm nvidia_drm nvidia_modeset nvidia && modprobe nvidia)".to_owned(),
            false => "nvidia-smi; dmesg | grep -i -e nvrm -e xid | tail".to_owned(),
        };
        let what = problem.clone();
        findings.push(finding("nvidia-driver", Broken, what, (why, mend)));
    } else if seen < nvidia.on_bus {
        let why = "a card that the driver cannot start is not lent";
        let mend = "dmesg | grep -i nvrm; reseat the card or its power, or take it out".to_owned();
        let what = format!(
            "the driver sees {seen} of {} cards on the bus",
            nvidia.on_bus
        );
        findings.push(finding("nvidia-cards", Warning, what, (why, mend)));
    }
    if let (false, Ok(engine)) = (nvidia.is_simulated, &facts.engine.facts) {
        let has_runtime = engine
            .runtimes
            .iter()
            .any(|name| name.starts_with("nvidia"));
        let by_cdi = engine.has_cdi && nvidia.has_toolkit;
        let is_wanted = facts.engine.cards != CardsInContainers::Environment;
        if is_wanted && !has_runtime && !by_cdi && !nvidia.has_toolkit {
            let why =
                "containers get no cards: startdocker ends with `could not select device driver`";
            let mend = "apt-get install nvidia-container-toolkit && nvidia-ctk runtime configure --runtime=docker && systemctl restart docker".to_owned();
            let what = "the NVIDIA container toolkit is missing".to_owned();
            findings.push(finding("nvidia-toolkit", Broken, what, (why, mend)));
        }
    }
}

/// There are cards, and no driver has them: from the likeliest cause to the plain one.
fn no_module(nvidia: &Nvidia, kernel: &str) -> Finding {
    let why = "the cards of this node are not lent";
    let (check, what, mend) = if nvidia.has_nouveau {
        (
            "nvidia-nouveau",
            "the nouveau driver holds the NVIDIA cards".to_owned(),
            "printf 'blacklist nouveau\\noptions nouveau modeset=0\\n' > /etc/modprobe.d/nouveau.conf && update-initramfs -u && reboot   (el: dracut -f)".to_owned(),
        )
    } else if (nvidia.has_dkms || nvidia.has_driver_files) && !nvidia.has_headers {
        (
            "nvidia-headers",
            format!(
                "a driver is installed, but not for kernel {kernel}, whose headers are missing"
            ),
            format!(
                "apt-get install linux-headers-{kernel} && dkms autoinstall && modprobe nvidia   (el: dnf install kernel-devel-{kernel})"
            ),
        )
    } else if nvidia.has_dkms || nvidia.has_driver_files {
        (
            "nvidia-module",
            format!("a driver is installed, but its module is not loaded in kernel {kernel}"),
            "dkms autoinstall && modprobe nvidia; dmesg | grep -i nvrm".to_owned(),
        )
    } else {
        (
            "nvidia-missing",
            format!(
                "{} NVIDIA cards are on the bus, and no driver is installed",
                nvidia.on_bus
            ),
            format!(
                "apt-get install linux-headers-{kernel} nvidia-driver && reboot   (Ubuntu: ubuntu-drivers install --gpgpu)"
            ),
        )
    };
    finding(check, Weight::Broken, what, (why, mend))
}

fn volume_of(volume: &VolumeSeen) -> Option<Finding> {
    let VolumeSeen {
        name,
        path,
        state,
        in_fstab,
    } = volume;
    let path = path.display();
    let mount = match in_fstab {
        true => format!("mount {path}"),
        false => format!(
            "add {path} to /etc/fstab, then mount {path}   (or another path under [volumes.{name}] in the agent's settings)"
        ),
    };
    let (check, weight, what, mend) = match state {
        Folder::Mounted => return None,
        Folder::Plain if !in_fstab => return None,
        Folder::Plain => (
            "volume-unmounted",
            Weight::Broken,
            format!("volume {name}: {path} is not mounted, though /etc/fstab has it"),
            mount,
        ),
        Folder::Missing => (
            "volume-missing",
            Weight::Warning,
            format!("volume {name}: there is no {path}"),
            mount,
        ),
        Folder::Other => (
            "volume-missing",
            Weight::Broken,
            format!("volume {name}: {path} is no folder"),
            mount,
        ),
        Folder::Silent => (
            "volume-silent",
            Weight::Broken,
            format!("volume {name}: {path} does not answer"),
            format!("umount -f -l {path} && mount {path}   (and look at its server)"),
        ),
    };
    let why =
        "jobs that want this folder fail, or write to the node's own disk what nobody finds again";
    Some(finding(check, weight, what, (why, mend)))
}

fn clock(facts: &Facts, findings: &mut Vec<Finding>) {
    if facts.clock.is_kept == Some(false) {
        let why = "clocks that drift apart spoil times in logs and on shared files (make, rsync)";
        let mend = "apt-get install chrony && systemctl enable --now chrony".to_owned();
        let what = "nothing keeps the clock of this host right".to_owned();
        findings.push(finding("clock-unkept", Weight::Warning, what, (why, mend)));
    }
    let apart = facts
        .clock
        .server_ahead_ms
        .filter(|ms| ms.unsigned_abs() > CLOCK_MS);
    if let Some(ms) = apart {
        let why = "times in the job's record and in its files contradict each other, and certificates may not hold";
        let mend =
            "chronyc makestep   (or timedatectl set-ntp true), here and on the server".to_owned();
        let secs = ms.unsigned_abs() / 1000;
        let side = if ms > 0 { "ahead of" } else { "behind" };
        let what = format!("the server's clock is {secs} s {side} this host's");
        findings.push(finding("clock-apart", Weight::Warning, what, (why, mend)));
    }
}

fn names(facts: &Facts, findings: &mut Vec<Finding>) {
    use Weight::{Broken, Warning};
    let (node, names) = (&facts.node, &facts.names);
    let server = &names.server;
    let host = server
        .rsplit_once(':')
        .map_or(server.as_str(), |(host, _)| host);
    match &names.own {
        Err(problem) => {
            let why = "programs of jobs find one another by the names of nodes (PBS_NODEFILE, MASTER_ADDR)";
            let mend = format!(
                "echo \"$(hostname -I | cut -d' ' -f1) {node}\" >> /etc/hosts   (on every node)"
            );
            let what = format!("the name of this node, {node}, has no address: {problem}");
            findings.push(finding("name-unknown", Warning, what, (why, mend)));
        }
        Ok(all)
            if !all.is_empty()
                && all.iter().all(std::net::IpAddr::is_loopback)
                && !is_local(names) =>
        {
            let why = "jobs on several nodes tell the others this address, and wait for each other for ever";
            let mend = format!(
                "sed -i 's/^127.*\\b{node}\\b.*//' /etc/hosts && echo \"$(hostname -I | cut -d' ' -f1) {node}\" >> /etc/hosts"
            );
            let what = format!("the name of this node, {node}, means loopback here");
            findings.push(finding("name-loopback", Warning, what, (why, mend)));
        }
        Ok(_) => {}
    }
    if let Err(problem) = &names.of_server {
        let why = "the agent cannot reach its server: nothing new starts here (what runs goes on)";
        let mend = format!(
            "echo 'ADDRESS {host}' >> /etc/hosts, or mend `server` in the agent's settings"
        );
        let what = format!("the server's name, {host}, has no address: {problem}");
        findings.push(finding("server-unknown", Broken, what, (why, mend)));
    } else if let Err(problem) = &names.port {
        let why = "the agent cannot reach its server: nothing new starts here (what runs goes on)";
        let mend = format!(
            "systemctl status capstan-server   (on {host}), and open its port there; nodes need no open port"
        );
        let what = format!("the server does not answer at {server}: {problem}");
        findings.push(finding("server-silent", Broken, what, (why, mend)));
    }
}

/// Server and node are one host: loopback is as it should be.
fn is_local(names: &super::facts::Names) -> bool {
    let of_server = names.of_server.as_ref();
    of_server.is_ok_and(|all| all.iter().any(std::net::IpAddr::is_loopback))
}

fn disks(facts: &Facts, findings: &mut Vec<Finding>) {
    use Weight::{Broken, Warning};
    if let Some((path, disk)) = &facts.disks.images {
        let (percent, path) = (disk.percent(), path.display());
        let why = "an image that does not fit ends its job";
        let mend = "docker image prune -a   (and set disk_high_percent under [images] in the agent's settings: the longest unused then leave by themselves)".to_owned();
        if percent > DISK_HIGH_PERCENT {
            let weight = if percent > DISK_FULL_PERCENT {
                Broken
            } else {
                Warning
            };
            let what = format!("the disk of images ({path}) is {percent} % full");
            findings.push(finding("images-full", weight, what, (why, mend)));
        }
        if facts.disks.images_on_root && disk.bytes < IMAGE_DISK_BYTES {
            let why =
                "images of frameworks have 10 GiB and more, and a full / stops the whole host";
            let mend = "put {\"data-root\": \"/BIG/DISK/docker\"} into /etc/docker/daemon.json (merge it by hand), then systemctl restart docker".to_owned();
            let what = format!(
                "images lie on the disk of /, which has {} GiB",
                disk.bytes >> 30
            );
            findings.push(finding("images-on-root", Warning, what, (why, mend)));
        }
    }
    if let Some((path, disk)) = &facts.disks.state {
        let (percent, path) = (disk.percent(), path.display());
        if percent > DISK_FULL_PERCENT {
            let why = "the agent cannot write down what it starts, and starts nothing then";
            let mend = format!("df -h {path}; make room there, or name another state_dir");
            let what = format!("the disk of the agent's state ({path}) is {percent} % full");
            findings.push(finding("state-full", Broken, what, (why, mend)));
        }
    }
}

#[cfg(test)]
#[path = "judge_tests.rs"]
mod tests;
