//! What keeps jobs within bounds on this host beside their limits: whether cards can be kept from processes, whether the
//! kernel's log can be read, and the host's own security modules, as far as they get in the way of containers.

use std::fs;
use std::path::Path;

use capstan_supervisor::attempts::{CgroupTree, DeviceCgroup};

use super::judge::{Finding, Weight, finding};
use crate::settings::Settings;

/// What was seen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Confinement {
    /// Why cards cannot be kept from processes; none where they can, or where nobody wants it.
    pub(super) no_fence: Option<String>,
    /// The site has switched it off.
    pub(super) is_fence_off: bool,
    /// Why the kernel's log cannot be read.
    pub(super) no_kernel_log: Option<String>,
    /// SELinux refuses, and does not only tell.
    pub(super) is_selinux_enforcing: bool,
    /// Docker gives containers a label of SELinux.
    pub(super) has_docker_labels: bool,
    /// AppArmor is on.
    pub(super) has_apparmor: bool,
    /// The program with which Docker loads its profile is installed.
    pub(super) has_apparmor_parser: bool,
}

impl Confinement {
    /// Looks at this host. Groups are made and removed again to find out whether the kernel takes what keeps cards from
    /// processes.
    pub(super) fn look(settings: &Settings, is_root: bool) -> Self {
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let setting = settings.surroundings.device_cgroup;
        let wants_fence = is_root && !settings.has_no_cards() && setting != DeviceCgroup::Off;
        let daemon: serde_json::Value =
            serde_json::from_str(&read("/etc/docker/daemon.json")).unwrap_or_default();
        let log = settings.kernel_log.path.as_deref().filter(|_| is_root);
        Self {
            no_fence: wants_fence.then(|| try_fence(setting)).flatten(),
            is_fence_off: setting == DeviceCgroup::Off && !settings.has_no_cards(),
            no_kernel_log: log
                .and_then(|path| fs::File::open(path).err())
                .map(|error| error.to_string()),
            is_selinux_enforcing: read("/sys/fs/selinux/enforce").trim() == "1",
            has_docker_labels: daemon["selinux-enabled"].as_bool() == Some(true),
            has_apparmor: read("/sys/module/apparmor/parameters/enabled").trim() == "Y",
            has_apparmor_parser: ["/sbin", "/usr/sbin"]
                .iter()
                .any(|folder| Path::new(folder).join("apparmor_parser").exists()),
        }
    }

    /// What of it is wrong.
    pub(super) fn judge(&self, findings: &mut Vec<Finding>) {
        use Weight::{Broken, Warning};
        if let Some(problem) = &self.no_fence {
            let why = "every process of a job finds every card of this node, and jobs of queues whose cards are for containers only are not started here";
            let mend = "use a kernel with CONFIG_CGROUP_BPF (version 2) or CONFIG_CGROUP_DEVICE (version 1); or say device_cgroup = \"off\" in the agent's settings and accept it".to_owned();
            let what = format!("cards cannot be kept from processes: {problem}");
            findings.push(finding("cards-open", Broken, what, (why, mend)));
        } else if self.is_fence_off {
            let why = "every process of a job finds every card of this node";
            let mend = "take device_cgroup = \"off\" out of the agent's settings, then systemctl restart capstan-agent".to_owned();
            let what = "cards are not kept from processes: device_cgroup is off".to_owned();
            findings.push(finding("cards-open", Warning, what, (why, mend)));
        }
        if let Some(problem) = &self.no_kernel_log {
            let why = "errors of the kernel are not tied to the jobs that were there, and k_log shows nothing";
            let mend =
                "run the agent where /dev/kmsg is, or say kernel_log = \"none\" in its settings"
                    .to_owned();
            let what = format!("the kernel's log cannot be read: {problem}");
            findings.push(finding("kernel-log", Warning, what, (why, mend)));
        }
        if self.is_selinux_enforcing && self.has_docker_labels {
            let why = "containers are refused the users' folders, which bear no label for them";
            let mend = "take \"selinux-enabled\" out of /etc/docker/daemon.json and systemctl restart docker; or label the volumes: chcon -Rt container_file_t PATH, and for NFS setsebool -P virt_use_nfs 1".to_owned();
            let what = "SELinux is enforcing, and dockerd labels its containers".to_owned();
            findings.push(finding("selinux-labels", Warning, what, (why, mend)));
        }
        if self.has_apparmor && !self.has_apparmor_parser {
            let why = "dockerd cannot load its profile, and containers do not start";
            let mend = "apt-get install apparmor && systemctl restart docker".to_owned();
            let what = "AppArmor is on, and apparmor_parser is missing".to_owned();
            findings.push(finding("apparmor-parser", Broken, what, (why, mend)));
        }
    }
}

/// Why it cannot be done.
fn try_fence(setting: DeviceCgroup) -> Option<String> {
    let mut tree = CgroupTree::find(&format!("capstan/doctor-{}", std::process::id()));
    let problem = tree.fence_cards(setting).err();
    tree.remove();
    problem.map(|problem| crate::link::chain(&problem))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(change: impl Fn(&mut Confinement), expected: &[(&str, Weight)]) {
        let mut seen = Confinement {
            has_apparmor_parser: true,
            ..Confinement::default()
        };
        change(&mut seen);
        let mut findings = Vec::new();
        seen.judge(&mut findings);
        let found: Vec<_> = findings.iter().map(|it| (it.check, it.weight)).collect();
        assert_eq!(found, expected);
        assert!(
            findings
                .iter()
                .all(|it| !it.mend.is_empty() && !it.why.is_empty())
        );
    }

    #[test]
    fn what_leaves_cards_open_or_keeps_containers_away_is_found() {
        use Weight::{Broken, Warning};
        check(|_| {}, &[]);
        check(
            |seen| seen.no_fence = Some("no".into()),
            &[("cards-open", Broken)],
        );
        check(|seen| seen.is_fence_off = true, &[("cards-open", Warning)]);
        check(
            |seen| seen.no_kernel_log = Some("no".into()),
            &[("kernel-log", Warning)],
        );
        check(|seen| seen.is_selinux_enforcing = true, &[]);
        let labelled = |seen: &mut Confinement| {
            seen.is_selinux_enforcing = true;
            seen.has_docker_labels = true;
        };
        check(labelled, &[("selinux-labels", Warning)]);
        check(|seen| seen.has_apparmor = true, &[]);
        let without = |seen: &mut Confinement| {
            seen.has_apparmor = true;
            seen.has_apparmor_parser = false;
        };
        check(without, &[("apparmor-parser", Broken)]);
    }
}
