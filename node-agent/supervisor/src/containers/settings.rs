//! What a site decides about containers: its volumes and how cards reach a container. Two shapes: as written in the
//! settings file, and in force.

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};

use capstan_types::AgentId;
use serde::Deserialize;

use super::mounts::is_system;

/// A volume as the settings file has it: `[volumes.NAME]`.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct VolumeFile {
    /// Absolute path of its root on every node.
    pub path: Option<PathBuf>,
    /// Nobody writes to it from a container.
    pub read_only: Option<bool>,
    /// All of it is everybody's to read, from its root on; then it is read-only as well.
    pub public: Option<bool>,
    /// Mounted without being asked for: the user's own folder, or all of it when it is public.
    pub default_mount: Option<bool>,
}

/// A volume in force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Volume {
    /// Its name in the settings: `home`, `data`, `pub` …
    pub name: String,
    /// Absolute path of its root.
    pub path: PathBuf,
    /// Mounted read-only whatever the option says.
    pub read_only: bool,
    /// All of it may be mounted by everybody.
    pub public: bool,
    /// Mounted without being asked for.
    pub default_mount: bool,
}

/// A volume that cannot be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadVolume {
    /// A volume of the site's own without a path.
    #[error("volume {name} has no path")]
    NoPath {
        /// Its name.
        name: String,
    },
    /// Not absolute, the root folder, a system folder, or with `..` in it.
    #[error("volume {name}: {} cannot be a volume", path.display())]
    BadPath {
        /// Its name.
        name: String,
        /// As written.
        path: PathBuf,
    },
}

/// The volumes in force: the three that a site has by default (`home` at `/ghome`, `data` at `/gdata`, `pub` at
/// `/gpub`), each changed by what is written, and the site's own.
///
/// # Errors
/// A volume without a path, or with one that may not be mounted.
pub fn resolve_volumes(written: &BTreeMap<String, VolumeFile>) -> Result<Vec<Volume>, BadVolume> {
    let mut all: BTreeMap<&str, VolumeFile> = BTreeMap::new();
    for (name, path) in [("home", "/ghome"), ("data", "/gdata"), ("pub", "/gpub")] {
        let default = VolumeFile {
            path: Some(path.into()),
            public: Some(name == "pub"),
            default_mount: Some(name != "data"),
            read_only: None,
        };
        all.insert(name, default);
    }
    for (name, file) in written {
        let volume = all.entry(name).or_default();
        volume.path = file.path.clone().or(volume.path.take());
        volume.read_only = file.read_only.or(volume.read_only);
        volume.public = file.public.or(volume.public);
        volume.default_mount = file.default_mount.or(volume.default_mount);
    }
    let in_force = all.into_iter().map(|(name, file)| {
        let name = name.to_owned();
        let Some(path) = file.path else {
            return Err(BadVolume::NoPath { name });
        };
        if !may_be_volume(&path) {
            return Err(BadVolume::BadPath { name, path });
        }
        let public = file.public.unwrap_or(false);
        Ok(Volume {
            name,
            path,
            read_only: public || file.read_only.unwrap_or(false),
            public,
            default_mount: file.default_mount.unwrap_or(public),
        })
    });
    in_force.collect()
}

fn may_be_volume(path: &Path) -> bool {
    let plain = path
        .components()
        .all(|part| matches!(part, Component::RootDir | Component::Normal(_)));
    path.is_absolute() && plain && path.components().count() > 1 && !is_system(path)
}

/// How granted cards reach a container.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum CardsInContainers {
    /// CDI when the engine resolves it and knows no NVIDIA runtime, else the engine's NVIDIA device request.
    #[default]
    Auto,
    /// The engine's NVIDIA device request.
    Nvidia,
    /// CDI device names.
    Cdi,
    /// Only variables: the cards are simulated.
    Environment,
}

/// All that the containers of one agent are subject to.
#[derive(Clone, Debug)]
pub struct ContainerSettings {
    /// Labels every container; unique per state folder.
    pub agent: AgentId,
    /// The agent's state folder; `containers` in it is ours.
    pub state_dir: PathBuf,
    /// Where checked folders are pinned while their container starts. On no account below a folder that somebody
    /// may delete recursively: users' folders appear in it. [`DEFAULT_STAGE`] except in tests.
    pub stage_dir: PathBuf,
    /// The site's volumes.
    pub volumes: Vec<Volume>,
    /// How cards reach a container.
    pub cards: CardsInContainers,
    /// Their names, accounts for them, and when they leave.
    pub images: crate::images::ImageSettings,
    /// Networks that `--network` may name; [`DEFAULT_NETWORKS`] unless the site says otherwise.
    pub networks: Vec<String>,
    /// Who may have what everybody else is refused.
    pub exceptions: Vec<super::exceptions::Exception>,
}

/// The host's own network is not among them: what listens on its loopback would be reached.
pub const DEFAULT_NETWORKS: [&str; 2] = ["bridge", "none"];

/// Outside of every state folder, gone at a reboot.
pub const DEFAULT_STAGE: &str = "/run/capstan-stage";

#[cfg(test)]
mod tests {
    use super::*;

    fn written(text: &str) -> BTreeMap<String, VolumeFile> {
        let values: serde_json::Value = serde_json::from_str(text).expect("json");
        serde_json::from_value(values).expect("volumes")
    }

    #[test]
    fn a_site_has_home_data_and_pub_unless_it_says_otherwise() {
        let volumes = resolve_volumes(&BTreeMap::new()).expect("defaults");
        let seen: Vec<_> = volumes
            .iter()
            .map(|v| {
                (
                    v.name.as_str(),
                    v.path.to_str(),
                    v.read_only,
                    v.default_mount,
                )
            })
            .collect();
        assert_eq!(
            seen,
            [
                ("data", Some("/gdata"), false, false),
                ("home", Some("/ghome"), false, true),
                ("pub", Some("/gpub"), true, true),
            ]
        );
    }

    #[test]
    fn a_public_volume_is_read_only_even_when_written_otherwise() {
        let file = written(
            r#"{"pub": {"path": "/srv/pub", "read_only": false}, "scratch": {"path": "/scratch"}}"#,
        );
        let volumes = resolve_volumes(&file).expect("volumes");
        assert!(
            volumes
                .iter()
                .any(|v| v.path == Path::new("/srv/pub") && v.read_only)
        );
        assert!(
            volumes
                .iter()
                .any(|v| v.name == "scratch" && !v.default_mount)
        );
    }

    #[test]
    fn system_folders_are_no_volumes() {
        for path in ["/", "/etc", "/proc/x", "relative", "/a/../etc", "/usr/lib"] {
            let file = BTreeMap::from([(
                "x".to_owned(),
                VolumeFile {
                    path: Some(path.into()),
                    ..VolumeFile::default()
                },
            )]);
            assert!(resolve_volumes(&file).is_err(), "{path}");
        }
        let no_path = BTreeMap::from([("x".to_owned(), VolumeFile::default())]);
        assert!(resolve_volumes(&no_path).is_err());
    }
}
