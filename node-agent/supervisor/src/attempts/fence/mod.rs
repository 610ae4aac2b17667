//! Keeps host processes of jobs off cards that are not theirs, by the devices of cgroups: the controller of version 1, or
//! a program of the kernel's in version 2. Everything that an agent starts begins in a group without any card, and an
//! attempt with cards moves into one that opens its own. Containers are not below these groups: their engine decides for
//! them. What is closed here never opens anything: file modes and groups above hold as before.

mod program;
mod rules;

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use capstan_proto::wire::{Card, LaunchSpec};
use capstan_types::CardId;
use serde::Deserialize;

use super::cgroup::{CgroupTree, LEAF, make};
use super::record::{CgroupFolder, Fence, Guard};
use crate::ports::GpuCard;
use rules::{Devices, OwnCard};

/// The hierarchy of version 1 that closes devices.
pub(super) const DEVICES: &str = "devices";
/// A hierarchy of version 2 beside those of version 1, in which only our programs are used.
pub(super) const PROGRAMS: &str = "programs";
/// A group that is entered as it is: it has no leaf for processes.
pub(super) const PLAIN: &str = "plain";
/// The group of all processes of ours that have no card, and that of the site's own scripts, to which nothing is closed.
const NO_CARDS: &str = "no-cards";
const SITE: &str = "site";

/// How a site wants cards to be kept from processes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DeviceCgroup {
    /// As this host can: by the controller where there is one, else by programs.
    #[default]
    Auto,
    /// By programs, also where there is the controller of version 1.
    Program,
    /// Not at all.
    Off,
}

/// Why cards cannot be kept from processes.
#[derive(Debug, thiserror::Error)]
pub enum NoFence {
    /// Nothing to do it with.
    #[error("this host has no cgroups that may be written")]
    NoCgroups,
    /// Neither of the two ways.
    #[error("neither the devices controller nor a hierarchy of version 2 is mounted")]
    NoHierarchy,
    /// The kernel does not take it.
    #[error("{path} cannot be made to close devices", path = path.display())]
    Refused {
        /// The group.
        path: PathBuf,
        /// What the kernel said: no such call or argument where it was built without such programs.
        #[source]
        source: io::Error,
    },
}

/// Where the groups of an agent are that close devices.
#[derive(Clone, Debug)]
pub(super) struct Ground {
    /// As [`CgroupFolder::controller`].
    controller: String,
    /// `/sys/fs/cgroup/devices/capstan/1a2b3c4d`.
    root: PathBuf,
}

/// The nodes of this host's cards, as the driver last told.
#[derive(Debug, Default)]
pub(super) struct CardNodes(Mutex<BTreeMap<CardId, OwnCard>>);

impl CardNodes {
    /// Takes in an inventory. What is not in it is remembered: a card that does not answer now has kept its node.
    pub(super) fn note(&self, cards: &[GpuCard]) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for card in cards {
            if let Some(device) = card.device {
                let pci_address = card.pci_address.clone();
                known.insert(
                    card.uuid.clone(),
                    OwnCard {
                        device,
                        pci_address,
                    },
                );
            }
        }
    }

    /// Those of `cards` whose nodes are known.
    fn of(&self, cards: &[Card]) -> Vec<OwnCard> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let own = cards
            .iter()
            .filter_map(|card| known.get(&CardId::from(card.uuid.as_str())).cloned());
        own.collect()
    }
}

impl CgroupTree {
    /// Makes the groups that keep cards from processes; does nothing where the site wants none.
    ///
    /// # Errors
    /// When this host cannot: then nothing is changed.
    pub fn fence_cards(&mut self, setting: DeviceCgroup) -> Result<(), NoFence> {
        if setting == DeviceCgroup::Off {
            return Ok(());
        }
        let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
        let (controller, mount) = self.fence_hierarchy(setting, &mounts)?;
        let ground = Ground {
            root: mount.join(&self.base),
            controller,
        };
        let guards = look().guards(&[]);
        for (name, guards) in [(NO_CARDS, &guards[..]), (SITE, &[])] {
            let path = ground.root.join(name);
            let made = fs::create_dir_all(&path).and_then(|()| match guards {
                [] => Ok(()),
                guards => close(&path, &ground.controller, guards),
            });
            made.map_err(|source| NoFence::Refused { path, source })?;
        }
        if !self
            .mounts
            .iter()
            .any(|(name, _)| *name == ground.controller)
        {
            self.mounts.push((ground.controller.clone(), mount));
        }
        self.fence = Some(ground);
        Ok(())
    }

    /// Whether anything keeps cards from processes.
    pub(super) const fn has_fence(&self) -> bool {
        self.fence.is_some()
    }

    fn fence_hierarchy(
        &self,
        setting: DeviceCgroup,
        mounts: &str,
    ) -> Result<(String, PathBuf), NoFence> {
        if self.mounts.is_empty() {
            return Err(NoFence::NoCgroups);
        }
        if let Some((name, mount)) = self.mounts.iter().find(|(name, _)| name.is_empty()) {
            return Ok((name.clone(), mount.clone()));
        }
        let controller = super::cgroup::mount_of(mounts, DEVICES);
        if let Some(mount) = controller.filter(|_| setting == DeviceCgroup::Auto) {
            return Ok((DEVICES.to_owned(), mount));
        }
        let unified = mounts.lines().find_map(|line| {
            let mut fields = line.split_ascii_whitespace().skip(1);
            let (mount, kind) = (fields.next()?, fields.next()?);
            (kind == "cgroup2").then(|| PathBuf::from(mount))
        });
        let mount = unified.ok_or(NoFence::NoHierarchy)?;
        Ok((PROGRAMS.to_owned(), mount))
    }

    /// What closes cards to the host processes of an attempt; none where nothing does.
    pub(super) fn fence(&self, spec: &LaunchSpec, nodes: &CardNodes) -> Option<Fence> {
        let ground = self.fence.as_ref()?;
        let own = match spec.cards_in_containers_only {
            true => Vec::new(),
            false => nodes.of(&spec.cards),
        };
        if !spec.cards_in_containers_only && own.len() < spec.cards.len() {
            tracing::warn!(
                attempt = spec.attempt,
                "the driver does not say which device nodes its cards have; its processes outside of containers get none"
            );
        }
        Some(Fence {
            controller: ground.controller.clone(),
            root: ground.root.to_string_lossy().into_owned(),
            guards: look().guards(&own),
            // The carrier of a container needs no card.
            opens_cards: !own.is_empty() && spec.image.is_empty(),
        })
    }

    /// Has process `pid`, and all that it starts, begin without cards.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub(super) fn keep_from_cards(&self, pid: u32) -> io::Result<()> {
        match &self.fence {
            Some(ground) => fs::write(
                ground.root.join(NO_CARDS).join("cgroup.procs"),
                pid.to_string(),
            ),
            None => Ok(()),
        }
    }

    /// Removes the groups that are everybody's, as far as nobody is in them.
    pub(super) fn remove_fence(&self) {
        if let Some(ground) = &self.fence {
            for name in [NO_CARDS, SITE] {
                // Attempts outlive us on purpose.
                let _busy = fs::remove_dir(ground.root.join(name));
            }
        }
    }
}

impl Fence {
    /// Moves the calling process out of reach of all cards, unless it is there already.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub(super) fn enter(&self) -> io::Result<()> {
        let root = Path::new(&self.root);
        let group = root.join(NO_CARDS);
        let own = fs::read_to_string("/proc/self/cgroup")?;
        if own.lines().any(|line| is_group(line, &group)) {
            return Ok(());
        }
        if make(&group)? {
            close(&group, &self.controller, &look().guards(&[]))?;
        }
        fs::write(group.join("cgroup.procs"), "0")
    }

    /// The group of the site's own scripts, to which nothing is closed.
    pub(super) fn site(&self) -> CgroupFolder {
        CgroupFolder {
            controller: PLAIN.to_owned(),
            path: Path::new(&self.root)
                .join(SITE)
                .to_string_lossy()
                .into_owned(),
        }
    }
}

/// Makes the leaf of an attempt's group at `path`, and closes to it what is to be closed.
///
/// # Errors
/// When the group cannot be made or the kernel does not take it.
pub(super) fn close_leaf(path: &Path, controller: &str, guards: &[Guard]) -> io::Result<()> {
    let leaf = path.join(LEAF);
    make(&leaf)?;
    match guards {
        [] => Ok(()),
        guards => close(&leaf, controller, guards),
    }
}

fn close(group: &Path, controller: &str, guards: &[Guard]) -> io::Result<()> {
    if controller != DEVICES {
        return program::attach(group, guards);
    }
    let file = group.join("devices.deny");
    let mut denials = guards.iter().flat_map(Guard::denials);
    denials.try_for_each(|line| fs::write(&file, line))
}

/// Whether a line of `/proc/self/cgroup` names `group`, whose path begins with a mount point.
fn is_group(line: &str, group: &Path) -> bool {
    let path = line.splitn(3, ':').nth(2).map(Path::new);
    // `capstan/1a2b3c4d/no-cards` is one of ours alone, wherever the hierarchy is mounted.
    path.and_then(|path| path.strip_prefix("/").ok())
        .is_some_and(|path| path.components().count() >= 3 && group.ends_with(path))
}

/// Asks the kernel which devices there are.
fn look() -> Devices {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    Devices::parse(
        &read("/proc/devices"),
        &read("/proc/driver/nvidia-caps/mig-minors"),
        drm_nodes(Path::new("/sys/class/drm")),
    )
}

/// NVIDIA's among the DRM nodes, by minor number, with the PCI address of the card.
fn drm_nodes(class: &Path) -> Vec<(u32, String)> {
    let entries = fs::read_dir(class).into_iter().flatten().flatten();
    let nodes = entries.filter_map(|entry| {
        let folder = entry.path();
        let vendor = fs::read_to_string(folder.join("device/vendor")).ok()?;
        if vendor.trim() != "0x10de" {
            return None;
        }
        let numbers = fs::read_to_string(folder.join("dev")).ok()?;
        let minor = numbers.trim().split_once(':')?.1.parse().ok()?;
        let card = fs::canonicalize(folder.join("device")).ok()?;
        Some((minor, card.file_name()?.to_str()?.to_owned()))
    });
    nodes.collect()
}

#[cfg(test)]
mod tests;
