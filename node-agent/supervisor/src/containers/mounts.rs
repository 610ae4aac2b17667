//! Which folders a container sees, and which of them it may write: the site's volumes, the user's own folders in
//! them, and nothing else. Decides on what was opened ([`Reached`]), never on a name.

use std::collections::BTreeMap;
use std::io;
use std::path::{Component, Path, PathBuf};

use super::options::AskedBind;
use super::reach::{Facts, Kind, Reached, Rights, reach};
use super::refusal::{Forbidden, Refused};
use super::settings::Volume;

/// Whose container, on what site.
#[derive(Clone, Debug)]
pub(super) struct Site {
    /// In any order.
    pub(super) volumes: Vec<Volume>,
    /// The user's name: the name of their own folder in each volume.
    pub(super) user: String,
    /// Their ids.
    pub(super) rights: Rights,
    /// Home folder of the passwd entry.
    pub(super) home: PathBuf,
    /// The engine's and the agent's own folders.
    pub(super) forbidden: Vec<PathBuf>,
    /// Targets that the agent fills itself.
    pub(super) taken: Vec<PathBuf>,
}

/// A mount, decided.
#[derive(Debug)]
pub(super) struct Mount {
    /// What is mounted.
    pub(super) source: Reached,
    /// Where, inside.
    pub(super) target: PathBuf,
    /// Nobody inside may write.
    pub(super) read_only: bool,
}

/// The mounts of one container.
#[derive(Debug, Default)]
pub(super) struct Mounts {
    /// By target.
    pub(super) list: Vec<Mount>,
    /// What the person should know.
    pub(super) notices: Vec<String>,
}

/// Folders of the system: never a source, never a volume.
pub(super) fn is_system(path: &Path) -> bool {
    const SYSTEM: &[&str] = &[
        "/bin",
        "/boot",
        "/dev",
        "/etc",
        "/lib",
        "/lib32",
        "/lib64",
        "/libx32",
        "/proc",
        "/root",
        "/run",
        "/sbin",
        "/sys",
        "/usr",
        "/var/cache",
        "/var/lib/containerd",
        "/var/lib/docker",
        "/var/log",
        "/var/run",
        "/var/spool",
    ];
    path == Path::new("/var")
        || path == Path::new("/var/lib")
        || SYSTEM.iter().any(|system| path.starts_with(system))
}

/// Decides all mounts: the default ones, then what is `asked`. To be run with the user's rights.
///
/// # Errors
/// The first asked mount that may not be. A default mount that cannot be is left out, with a notice.
pub(super) fn decide(site: &Site, asked: &[AskedBind]) -> Result<Mounts, Refused> {
    let grounds = Grounds::of(site);
    let mut mounts = Mounts::default();
    let mut by_target: BTreeMap<PathBuf, Mount> = BTreeMap::new();
    for (path, is_expected) in site.defaults() {
        match grounds.admit(&path) {
            Ok((source, read_only)) => {
                let target = path.clone();
                by_target.insert(
                    path,
                    Mount {
                        source,
                        target,
                        read_only,
                    },
                );
            }
            Err(refused) if is_expected => {
                mounts
                    .notices
                    .push(format!("home folder is not there: {refused}"));
            }
            // A volume that this node does not have, or where the user has no folder.
            Err(_) => {}
        }
    }
    let mut seen: BTreeMap<PathBuf, (u64, u64)> = BTreeMap::new();
    for bind in asked {
        let target = site.target(&bind.target)?;
        let (source, read_only) = grounds.admit(Path::new(&bind.source))?;
        let identity = source.facts.identity;
        if seen
            .insert(target.clone(), identity)
            .is_some_and(|before| before != identity)
        {
            return Err(Refused::Target {
                target: bind.target.clone(),
                problem: "two folders are asked for there",
            });
        }
        let read_only = read_only || bind.read_only;
        by_target.insert(
            target.clone(),
            Mount {
                source,
                target,
                read_only,
            },
        );
    }
    mounts.list = by_target.into_values().collect();
    Ok(mounts)
}

/// Checks a place inside where something else than a folder of the host is to be.
///
/// # Errors
/// It is taken, or would hide what is mounted.
pub(super) fn check_target(site: &Site, mounts: &Mounts, asked: &str) -> Result<(), Refused> {
    let target = site.target(asked)?;
    if mounts
        .list
        .iter()
        .any(|mount| mount.target.starts_with(&target))
    {
        return Err(Refused::Target {
            target: asked.to_owned(),
            problem: "a folder is mounted there",
        });
    }
    Ok(())
}

impl Site {
    /// What is mounted without being asked for, and whether the person counts on it.
    fn defaults(&self) -> Vec<(PathBuf, bool)> {
        let mut paths = vec![(self.home.clone(), true)];
        for volume in self.volumes.iter().filter(|volume| volume.default_mount) {
            let path = match volume.public {
                true => volume.path.clone(),
                false => volume.path.join(&self.user),
            };
            if path != self.home {
                paths.push((path, false));
            }
        }
        paths
    }

    /// The place inside, without `//` and `.`.
    fn target(&self, asked: &str) -> Result<PathBuf, Refused> {
        const KERNEL: &[&str] = &[
            "/proc",
            "/sys",
            "/dev",
            "/.dockerenv",
            "/sbin/docker-init",
            super::script::JOB_FOLDER,
        ];
        // The NVIDIA hook reads the names of mounts there as a list of cards.
        const CARDS: &[&str] = &[
            "/var/run/nvidia-container-devices",
            "/run/nvidia-container-devices",
        ];
        let fail = |problem| Refused::Target {
            target: asked.to_owned(),
            problem,
        };
        let path = Path::new(asked);
        if asked.chars().any(char::is_control) {
            return Err(fail(
                "the path has a line break, a NUL or another control character in it",
            ));
        }
        if path.components().any(|part| part == Component::ParentDir) {
            return Err(fail("write it without '..'"));
        }
        let path: PathBuf = path.components().collect();
        if path == Path::new("/") {
            return Err(fail("it is the root folder of the container"));
        }
        if KERNEL
            .iter()
            .chain(CARDS)
            .any(|taken| path.starts_with(taken))
        {
            return Err(fail("it belongs to the kernel or the engine"));
        }
        // Over a file of ours, or over a folder above one.
        if self
            .taken
            .iter()
            .any(|taken| path.starts_with(taken) || taken == &path)
            || path == Path::new("/etc")
        {
            return Err(fail("Capstan fills it"));
        }
        Ok(path)
    }
}

/// The grounds on which a container may stand: volumes and home with their real places.
struct Grounds<'a> {
    site: &'a Site,
    /// With the root after all links; those that are not on this node are left out.
    volumes: Vec<(&'a Volume, PathBuf)>,
    /// The home folder, when it is really the user's.
    home: Option<PathBuf>,
    forbidden: Vec<PathBuf>,
}

impl<'a> Grounds<'a> {
    fn of(site: &'a Site) -> Self {
        let volumes = site.volumes.iter().filter_map(|volume| {
            let root = reach(&volume.path).ok()?.facts.path;
            Some((volume, root))
        });
        let forbidden = site.forbidden.iter().map(|path| {
            // Most are closed to users, so their names are taken as they stand where they cannot be resolved.
            std::fs::canonicalize(path).unwrap_or_else(|_| path.clone())
        });
        let home = reach(&site.home)
            .ok()
            .map(|home| home.facts)
            .filter(|home| {
                home.uid == site.rights.uid
                    && home.kind == Kind::Folder
                    && home.path.components().count() > 2
                    && !is_system(&home.path)
            });
        Self {
            site,
            volumes: volumes.collect(),
            home: home.map(|home| home.path),
            forbidden: forbidden.collect(),
        }
    }

    /// Opens `asked` and decides on what it is; also says whether it is read-only in any case.
    fn admit(&self, asked: &Path) -> Result<(Reached, bool), Refused> {
        let source = reach(asked).map_err(|source| Refused::Unreachable {
            path: asked.to_owned(),
            source,
        })?;
        let read_only = self.judge(&source.facts).map_err(|rule| Refused::Mount {
            asked: asked.to_owned(),
            resolved: source.facts.path.clone(),
            rule,
        })?;
        Ok((source, read_only))
    }

    fn judge(&self, facts: &Facts) -> Result<bool, Forbidden> {
        let path = &facts.path;
        if path == Path::new("/") {
            return Err(Forbidden::Root);
        }
        if facts.kind == Kind::Special {
            return Err(Forbidden::Special);
        }
        if self.forbidden.iter().any(|taken| path.starts_with(taken)) {
            return Err(Forbidden::Engine);
        }
        let read_only = self.judge_place(path)?;
        // A folder above the engine's holds it as well.
        match self.forbidden.iter().any(|taken| taken.starts_with(path)) {
            true => Err(Forbidden::Engine),
            false => Ok(read_only),
        }
    }

    fn judge_place(&self, path: &Path) -> Result<bool, Forbidden> {
        if self
            .home
            .as_ref()
            .is_some_and(|home| path.starts_with(home))
        {
            return Ok(false);
        }
        if is_system(path) {
            return Err(Forbidden::System);
        }
        let inside = self
            .volumes
            .iter()
            .filter(|(_, root)| path.starts_with(root));
        // A volume may lie in another one: the inner one decides.
        let inner = inside.max_by_key(|(_, root)| root.components().count());
        let (volume, root) = inner.ok_or(Forbidden::OutsideVolumes)?;
        if volume.public {
            return Ok(true);
        }
        let below = path
            .strip_prefix(root)
            .ok()
            .and_then(|rest| rest.components().next());
        let Some(Component::Normal(top)) = below else {
            return Err(Forbidden::VolumeRoot);
        };
        // The engine mounts a folder with all that is mounted in it: a volume inside must be asked for by itself.
        let holds_another = self
            .volumes
            .iter()
            .any(|(_, root)| root != path && root.starts_with(path));
        if holds_another {
            return Err(Forbidden::VolumeRoot);
        }
        if top == self.site.user.as_str() {
            return Ok(volume.read_only);
        }
        match self.is_shared(&root.join(top)) {
            true => Ok(volume.read_only),
            false => Err(Forbidden::AnotherUser),
        }
    }

    /// Whether a folder directly below a volume's root is for more than one person: it bears nobody's name, and
    /// belongs to root or to a group of the user's that may enter it.
    fn is_shared(&self, top: &Path) -> bool {
        let Ok(Reached { facts, .. }) = reach(top) else {
            return false;
        };
        let name = top.file_name().and_then(|name| name.to_str()).unwrap_or("");
        // A name service that does not answer must not open a folder.
        let bears_a_name = !matches!(nix::unistd::User::from_name(name), Ok(None));
        let rights = &self.site.rights;
        let through_group = rights.groups.contains(&facts.gid) && facts.mode & 0o050 == 0o050;
        !bears_a_name && (facts.uid == 0 || facts.uid == rights.uid || through_group)
    }
}

impl Mounts {
    /// Where a path of the host appears inside: under the mount whose target is its own name if that leads to the
    /// same file, else under a mount that holds the file.
    ///
    /// # Errors
    /// The kernel's, when the path cannot be reached.
    pub(super) fn inside(&self, path: &Path) -> io::Result<Option<(PathBuf, Reached)>> {
        let reached = reach(path)?;
        let by_name = self.list.iter().filter_map(|mount| {
            let rest = path.strip_prefix(&mount.target).ok()?;
            Some((mount, rest.to_owned()))
        });
        if let Some((mount, rest)) = deepest(by_name) {
            let there = join(&mount.source.facts.path, &rest);
            if reach(&there).is_ok_and(|there| there.facts.identity == reached.facts.identity) {
                return Ok(Some((join(&mount.target, &rest), reached)));
            }
        }
        let by_source = self.list.iter().filter_map(|mount| {
            let rest = reached
                .facts
                .path
                .strip_prefix(&mount.source.facts.path)
                .ok()?;
            Some((mount, rest.to_owned()))
        });
        let inside = deepest(by_source).map(|(mount, rest)| join(&mount.target, &rest));
        Ok(inside.map(|inside| (inside, reached)))
    }

    /// The folder of the host that a folder inside comes from, when it lies in a mount.
    #[must_use]
    pub(super) fn outside(&self, target: &Path) -> Option<PathBuf> {
        let mounts = self
            .list
            .iter()
            .filter(|mount| target.starts_with(&mount.target));
        let mount = mounts.max_by_key(|mount| mount.target.components().count())?;
        let rest = target.strip_prefix(&mount.target).ok()?;
        Some(join(&mount.source.facts.path, rest))
    }
}

fn deepest<'m>(mounts: impl Iterator<Item = (&'m Mount, PathBuf)>) -> Option<(&'m Mount, PathBuf)> {
    mounts.max_by_key(|(mount, _)| mount.target.components().count())
}

/// Like `join`, but joining nothing adds no slash at the end (a file with one is no file).
fn join(base: &Path, rest: &Path) -> PathBuf {
    match rest.as_os_str().is_empty() {
        true => base.to_owned(),
        false => base.join(rest),
    }
}

#[cfg(test)]
#[path = "mounts_tests.rs"]
mod tests;
