//! The agent's settings: the file as written, and the settings in force. Resolving is pure.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use capstan_supervisor::attempts::Surroundings;
use capstan_supervisor::containers::{
    CardsInContainers, DEFAULT_NETWORKS, Exception, ExceptionFile, Volume, VolumeFile,
    resolve_exceptions, resolve_volumes,
};
use capstan_supervisor::images::{ImageSettings, ImagesFile};
use capstan_types::NodeName;
use serde::Deserialize;

use crate::health::HealthCheck;
use crate::kernel_log::{KernelLogSettings, OnKernelErrors};

/// The file as written: everything may be missing but the server.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct SettingsFile {
    node_name: Option<String>,
    server: Option<String>,
    state_dir: Option<PathBuf>,
    run_dir: Option<PathBuf>,
    nvml_library: Option<PathBuf>,
    cores: Option<u32>,
    commands_dir: Option<PathBuf>,
    docker_socket: Option<PathBuf>,
    cards_in_containers: Option<CardsInContainers>,
    container_networks: Option<Vec<String>>,
    intruders_on_cards: Option<OnIntruders>,
    kernel_log: Option<PathBuf>,
    kernel_errors: Option<OnKernelErrors>,
    #[serde(default)]
    container_exceptions: Vec<ExceptionFile>,
    #[serde(default)]
    volumes: BTreeMap<String, VolumeFile>,
    #[serde(default)]
    images: ImagesFile,
    #[serde(flatten)]
    around: crate::surroundings::SurroundingsFile,
}

/// What becomes of a process on a card that belongs to no job there.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
enum OnIntruders {
    /// It is told of.
    Report,
    /// It is ended as well.
    End,
}

/// The settings in force.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Settings {
    /// The name under which the server knows this node.
    pub(crate) node: NodeName,
    /// Host and port of the server.
    pub(crate) server: String,
    /// The ledger and the files of running jobs.
    pub(crate) state_folder: PathBuf,
    /// Holds the door.
    pub(crate) run_folder: PathBuf,
    /// Another NVML than the loader's.
    pub(crate) nvml_library: Option<PathBuf>,
    /// Slots of this node.
    pub(crate) cores: u32,
    /// Put at the front of PATH of jobs.
    pub(crate) commands_folder: Option<PathBuf>,
    /// The container engine's socket.
    pub(crate) docker_socket: PathBuf,
    /// How cards reach a container.
    pub(crate) cards: CardsInContainers,
    /// Whether processes on cards that belong to no job there are ended, and not only told of.
    pub(crate) ends_intruders: bool,
    /// Networks that containers may ask for.
    pub(crate) networks: Vec<String>,
    /// Who may have what everybody else is refused.
    pub(crate) exceptions: Vec<Exception>,
    /// Folders that containers may mount.
    pub(crate) volumes: Vec<Volume>,
    /// Names of images, accounts for them, and when they leave.
    pub(crate) images: ImageSettings,
    /// What surrounds every attempt.
    pub(crate) surroundings: Surroundings,
    /// The health script, if there is one.
    pub(crate) health: Option<HealthCheck>,
    /// The kernel's log.
    pub(crate) kernel_log: KernelLogSettings,
}

/// What this host says about itself where the file says nothing.
struct Host {
    name: String,
    cores: u32,
}

/// What `nvml_library` says of a node that is meant to have no cards, and `kernel_log` of one that reads none.
const NO_LIBRARY: &str = "none";
/// Where the kernel writes its log.
const KERNEL_LOG: &str = "/dev/kmsg";

impl Settings {
    /// Whether this node is meant to have no cards.
    pub(crate) fn has_no_cards(&self) -> bool {
        self.nvml_library.as_deref() == Some(Path::new(NO_LIBRARY))
    }

    /// Reads the file at `path`.
    pub(crate) fn read(path: &Path) -> anyhow::Result<Self> {
        let text = std::fs::read_to_string(path)
            .with_context(|| format!("reading the settings {}", path.display()))?;
        let host = Host {
            name: nix::unistd::gethostname()
                .context("asking for the host's name")?
                .to_string_lossy()
                .into_owned(),
            cores: std::thread::available_parallelism().map_or(1, |cores| cores.get() as u32),
        };
        resolve(&text, host).with_context(|| format!("in the settings {}", path.display()))
    }
}

fn server_address(server: Option<String>) -> anyhow::Result<String> {
    let server =
        server.context("server is missing: the host and port where agents are expected")?;
    ensure!(
        server
            .rsplit_once(':')
            .is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok()),
        "server must be HOST:PORT, not `{server}`"
    );
    Ok(server)
}

fn resolve(text: &str, host: Host) -> anyhow::Result<Settings> {
    let SettingsFile {
        node_name,
        server,
        state_dir,
        run_dir,
        nvml_library,
        cores,
        commands_dir,
        docker_socket,
        cards_in_containers,
        container_networks,
        intruders_on_cards,
        kernel_log,
        kernel_errors,
        container_exceptions,
        volumes,
        images,
        around,
    } = toml::from_str(text)?;
    let server = server_address(server)?;
    let node = node_name.unwrap_or(host.name);
    ensure!(
        !node.is_empty()
            && !node.contains(|c: char| c.is_whitespace() || c.is_control() || c == '/'),
        "node_name `{node}` cannot name a node"
    );
    let are_counted = cores.is_none();
    let cores = cores.unwrap_or(host.cores);
    ensure!(cores > 0, "cores must be at least 1");
    let absolute = |name: &str, path: PathBuf| {
        ensure!(
            path.is_absolute(),
            "{name} must be an absolute path, not {}",
            path.display()
        );
        Ok(path)
    };
    let optional =
        |name: &str, path: Option<PathBuf>| path.map(|path| absolute(name, path)).transpose();
    Ok(Settings {
        node: NodeName::from(node.as_str()),
        server,
        state_folder: absolute(
            "state_dir",
            state_dir.unwrap_or("/var/lib/capstan-agent".into()),
        )?,
        run_folder: absolute("run_dir", run_dir.unwrap_or("/run/capstan".into()))?,
        // A bare name is the loader's to find.
        nvml_library,
        cores,
        commands_folder: optional("commands_dir", commands_dir)?,
        docker_socket: absolute(
            "docker_socket",
            docker_socket.unwrap_or("/var/run/docker.sock".into()),
        )?,
        cards: cards_in_containers.unwrap_or_default(),
        networks: container_networks.unwrap_or_else(|| DEFAULT_NETWORKS.map(str::to_owned).into()),
        exceptions: resolve_exceptions(container_exceptions)?,
        kernel_log: KernelLogSettings {
            path: match kernel_log == Some(NO_LIBRARY.into()) {
                true => None,
                false => optional("kernel_log", kernel_log.or(Some(KERNEL_LOG.into())))?,
            },
            on_errors: kernel_errors.unwrap_or_default(),
        },
        ends_intruders: intruders_on_cards == Some(OnIntruders::End),
        volumes: resolve_volumes(&volumes)?,
        images: images.resolve()?,
        health: around.health()?,
        surroundings: around.resolve(are_counted)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str) -> Result<Settings, String> {
        let host = Host {
            name: "gpu01".into(),
            cores: 8,
        };
        resolve(text, host).map_err(|error| format!("{error:#}"))
    }

    #[test]
    fn the_host_fills_what_the_file_leaves_out() {
        let settings = check("server = '127.0.0.1:7000'").unwrap();
        assert_eq!(settings.node.to_string(), "gpu01");
        assert_eq!(settings.cores, 8);
        assert_eq!(settings.state_folder, Path::new("/var/lib/capstan-agent"));
    }

    #[test]
    fn what_is_written_counts() {
        let settings = check(
            "server = 'hn1:7000'\nnode_name = 'node01'\ncores = 2\nstate_dir = '/s'\nrun_dir = '/r'\n\
             commands_dir = '/c'\n[volumes.home]\npath = '/ghome'\ndefault_mount = true\n",
        )
        .unwrap();
        assert_eq!(settings.node.to_string(), "node01");
        assert_eq!(settings.cores, 2);
        assert_eq!(settings.commands_folder.as_deref(), Some(Path::new("/c")));
    }

    #[test]
    fn mistakes_are_named() {
        let refused = |text: &str, word: &str| {
            let problem = check(text).unwrap_err();
            assert!(problem.contains(word), "{text}: {problem}");
        };
        refused("", "server");
        refused("server = 'x'", "HOST:PORT");
        refused("server = 'h:1'\nsate_dir = '/x'", "sate_dir");
        refused("server = 'h:1'\nstate_dir = 'x'", "state_dir");
        refused("server = 'h:1'\ncores = 0", "cores");
        refused("server = 'h:1'\nnode_name = 'a b'", "a b");
        refused(
            "server = 'h:1'\n[images]\ndisk_low_percent = 5",
            "disk_high",
        );
        refused("server = 'h:1'\n[images.aliases]\n'@site/' = 'x'", "@site/");
        refused("server = 'h:1'\n[volumes.home]\npat = '/x'", "pat");
        refused(
            "server = 'h:1'\n[[container_exceptions]]\noptions = ['volumes-from']\nusers = ['a']",
            "volumes-from",
        );
    }
}
