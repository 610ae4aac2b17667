//! What the doctor looks at. Nothing is changed, nothing is judged, and whatever may hang is given up on.

use std::fs;
use std::net::{IpAddr, TcpStream, ToSocketAddrs};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use capstan_gpu::NvmlGpus;
use capstan_supervisor::containers::{CardsInContainers, ContainerEngine, EngineFacts};
use capstan_supervisor::images::Disk;
use capstan_supervisor::ports::{GpuInventory, Gpus};

use super::confinement::Confinement;
use crate::settings::Settings;

/// A file system, a name service or a server that takes longer hangs.
const PATIENCE: Duration = Duration::from_secs(5);

/// What was seen of a host. What could not be seen is empty or none.
#[derive(Clone, Debug)]
pub(super) struct Facts {
    pub(super) node: String,
    pub(super) is_root: bool,
    /// `6.1.0-18-amd64`.
    pub(super) kernel: String,
    pub(super) cgroups: Cgroups,
    pub(super) engine: Engine,
    pub(super) nvidia: Nvidia,
    pub(super) confinement: Confinement,
    pub(super) volumes: Vec<VolumeSeen>,
    pub(super) clock: Clock,
    pub(super) names: Names,
    pub(super) disks: Disks,
}

/// How processes are grouped.
#[derive(Clone, Debug, Default)]
pub(super) struct Cgroups {
    /// The unified hierarchy stands at `/sys/fs/cgroup`.
    pub(super) is_v2: bool,
    /// There is any hierarchy at all.
    pub(super) is_mounted: bool,
    /// `cgroup.controllers` of the root, or the hierarchies of version 1.
    pub(super) controllers: Vec<String>,
}

/// The container engine.
#[derive(Clone, Debug)]
pub(super) struct Engine {
    pub(super) socket: PathBuf,
    pub(super) has_socket: bool,
    /// `dockerd` is installed.
    pub(super) has_program: bool,
    /// What it says of itself, or why it does not.
    pub(super) facts: Result<EngineFacts, String>,
    pub(super) cards: CardsInContainers,
}

/// NVIDIA's cards and what they need.
#[derive(Clone, Debug, Default)]
pub(super) struct Nvidia {
    /// The settings want none.
    pub(super) is_unwanted: bool,
    /// Cards on the PCI bus.
    pub(super) on_bus: usize,
    /// Version of the loaded module.
    pub(super) module: Option<String>,
    /// The free driver holds the cards.
    pub(super) has_nouveau: bool,
    /// What a module is built with, for this kernel.
    pub(super) has_headers: bool,
    /// Some version of the module is installed, for whatever kernel.
    pub(super) has_dkms: bool,
    /// `nvidia-smi`, or the library, of a driver.
    pub(super) has_driver_files: bool,
    /// `nvidia-ctk` or the hook.
    pub(super) has_toolkit: bool,
    /// Cards that the driver names.
    pub(super) cards: usize,
    /// Why there are none, or not all of them.
    pub(super) problem: Option<String>,
    pub(super) is_simulated: bool,
}

/// A configured volume.
#[derive(Clone, Debug)]
pub(super) struct VolumeSeen {
    pub(super) name: String,
    pub(super) path: PathBuf,
    pub(super) state: Folder,
    /// `/etc/fstab` means it to be a mount.
    pub(super) in_fstab: bool,
}

/// What stands at a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Folder {
    Missing,
    /// Something else than a folder.
    Other,
    /// Its file system does not answer.
    Silent,
    /// Of the file system of the folder above it.
    Plain,
    Mounted,
}

/// The time.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Clock {
    /// Something keeps it right; none when that cannot be told.
    pub(super) is_kept: Option<bool>,
    /// How far the server's clock is ahead, as the agent saw it when it last attached.
    pub(super) server_ahead_ms: Option<i64>,
}

/// Names and addresses.
#[derive(Clone, Debug)]
pub(super) struct Names {
    /// Of the settings: `HOST:PORT`.
    pub(super) server: String,
    /// Addresses of this node's name, or why there are none.
    pub(super) own: Result<Vec<IpAddr>, String>,
    /// Addresses of the server's name.
    pub(super) of_server: Result<Vec<IpAddr>, String>,
    /// Whether the server's port takes a connection.
    pub(super) port: Result<(), String>,
}

/// Disks that fill up.
#[derive(Clone, Debug, Default)]
pub(super) struct Disks {
    pub(super) images: Option<(PathBuf, Disk)>,
    pub(super) state: Option<(PathBuf, Disk)>,
    /// The image store is on the disk of `/`.
    pub(super) images_on_root: bool,
}

impl Facts {
    /// Looks at everything; takes no longer than the slowest of what hangs.
    pub(super) async fn gather<E: ContainerEngine>(
        settings: &Settings,
        engine: &E,
        gpus: Arc<NvmlGpus>,
    ) -> Self {
        let facts = match tokio::time::timeout(PATIENCE, engine.facts()).await {
            Ok(Ok(facts)) => Ok(facts),
            Ok(Err(error)) => Err(crate::link::chain(&error)),
            Err(_) => Err(format!("no answer within {PATIENCE:?}")),
        };
        let root = facts.as_ref().ok().map(|facts| facts.root.clone());
        let engine = Engine {
            has_socket: fs::metadata(&settings.docker_socket)
                .is_ok_and(|about| about.file_type().is_socket()),
            socket: settings.docker_socket.clone(),
            has_program: has_program("dockerd"),
            facts,
            cards: settings.cards,
        };
        let nvidia = patiently(move || gpus.inventory());
        let names = patiently({
            let (node, server) = (settings.node.to_string(), settings.server.clone());
            move || names(&node, server)
        });
        let disks = patiently({
            let state = settings.state_folder.clone();
            move || disks(root, state)
        });
        let (inventory, names, disks) = tokio::join!(nvidia, names, disks);
        let mut volumes = Vec::new();
        for volume in &settings.volumes {
            let (name, path) = (volume.name.clone(), volume.path.clone());
            let seen = patiently(move || folder(&path)).await;
            volumes.push(VolumeSeen {
                name,
                state: seen.unwrap_or(Folder::Silent),
                in_fstab: in_fstab(&volume.path),
                path: volume.path.clone(),
            });
        }
        Self {
            node: settings.node.to_string(),
            is_root: nix::unistd::geteuid().is_root(),
            kernel: kernel(),
            cgroups: cgroups(Path::new("/sys/fs/cgroup")),
            engine,
            nvidia: nvidia_of(settings.has_no_cards(), inventory.unwrap_or_default()),
            confinement: Confinement::look(settings, nix::unistd::geteuid().is_root()),
            volumes,
            clock: Clock {
                is_kept: clock_is_kept(),
                server_ahead_ms: server_ahead_ms(&settings.run_folder),
            },
            names: names.unwrap_or_else(|| Names {
                server: settings.server.clone(),
                own: Err(format!("no answer within {PATIENCE:?}")),
                of_server: Err(format!("no answer within {PATIENCE:?}")),
                port: Err("its name is not known".to_owned()),
            }),
            disks: disks.unwrap_or_default(),
        }
    }
}

/// The answer of something that may hang.
async fn patiently<T: Send + 'static>(look: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    let looking = tokio::task::spawn_blocking(look);
    // Twice as long as what is inside may wait by itself.
    tokio::time::timeout(PATIENCE * 2, looking).await.ok()?.ok()
}

fn kernel() -> String {
    let name = nix::sys::utsname::uname();
    name.map(|name| name.release().to_string_lossy().into_owned())
        .unwrap_or_default()
}

fn cgroups(root: &Path) -> Cgroups {
    let words = |text: String| text.split_whitespace().map(str::to_owned).collect();
    if let Ok(text) = fs::read_to_string(root.join("cgroup.controllers")) {
        return Cgroups {
            is_v2: true,
            is_mounted: true,
            controllers: words(text),
        };
    }
    let hierarchies = fs::read_dir(root).into_iter().flatten().flatten();
    let names = hierarchies
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        .filter_map(|entry| entry.file_name().into_string().ok());
    // `cpu,cpuacct` is both.
    let mut controllers: Vec<String> = names
        .flat_map(|name| name.split(',').map(str::to_owned).collect::<Vec<_>>())
        .collect();
    controllers.sort();
    Cgroups {
        is_v2: false,
        is_mounted: !controllers.is_empty(),
        controllers,
    }
}

fn nvidia_of(is_unwanted: bool, inventory: GpuInventory) -> Nvidia {
    let release = kernel();
    let module = fs::read_to_string("/sys/module/nvidia/version");
    Nvidia {
        is_unwanted,
        on_bus: cards_on_bus(Path::new("/sys/bus/pci/devices")),
        module: module.ok().map(|text| text.trim().to_owned()),
        has_nouveau: Path::new("/sys/module/nouveau").exists(),
        has_headers: Path::new("/lib/modules")
            .join(&release)
            .join("build")
            .exists(),
        has_dkms: fs::read_dir("/var/lib/dkms/nvidia").is_ok_and(|mut all| all.next().is_some()),
        has_driver_files: has_program("nvidia-smi"),
        has_toolkit: has_program("nvidia-ctk") || has_program("nvidia-container-runtime-hook"),
        cards: inventory.cards.len(),
        problem: inventory.problem,
        is_simulated: inventory.simulated,
    }
}

/// Display controllers (class 03) of NVIDIA (vendor 10de).
fn cards_on_bus(devices: &Path) -> usize {
    let read = |path: PathBuf| fs::read_to_string(path).unwrap_or_default();
    let devices = fs::read_dir(devices).into_iter().flatten().flatten();
    devices
        .map(|entry| entry.path())
        .filter(|path| read(path.join("vendor")).trim() == "0x10de")
        .filter(|path| read(path.join("class")).starts_with("0x03"))
        .count()
}

fn has_program(name: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let usual = ["/usr/sbin", "/usr/bin", "/sbin", "/bin", "/usr/local/bin"].map(PathBuf::from);
    std::env::split_paths(&path)
        .chain(usual)
        .any(|folder| folder.join(name).is_file())
}

fn folder(path: &Path) -> Folder {
    let Ok(about) = fs::metadata(path) else {
        return Folder::Missing;
    };
    if !about.is_dir() {
        return Folder::Other;
    }
    let above = path.parent().and_then(|above| fs::metadata(above).ok());
    match above.is_some_and(|above| above.dev() == about.dev()) {
        true => Folder::Plain,
        false => Folder::Mounted,
    }
}

fn in_fstab(path: &Path) -> bool {
    let text = fs::read_to_string("/etc/fstab").unwrap_or_default();
    let lines = text
        .lines()
        .filter(|line| !line.trim_start().starts_with('#'));
    let mut targets = lines.filter_map(|line| line.split_whitespace().nth(1));
    targets.any(|target| Path::new(target) == path)
}

/// systemd-timesyncd leaves a file when it is in step; chrony and ntpd are there or not.
fn clock_is_kept() -> Option<bool> {
    if Path::new("/run/systemd/timesync/synchronized").exists() {
        return Some(true);
    }
    let is_keeper = |name: &str| {
        [
            "chronyd",
            "ntpd",
            "systemd-timesyn",
            "ntpsec",
            "phc2sys",
            "openntpd",
        ]
        .contains(&name)
    };
    let processes = fs::read_dir("/proc").ok()?.flatten();
    let mut names =
        processes.filter_map(|entry| fs::read_to_string(entry.path().join("comm")).ok());
    if names.any(|name| is_keeper(name.trim())) {
        return Some(true);
    }
    // In a container it is the host that keeps the time.
    let in_container =
        Path::new("/.dockerenv").exists() || !Path::new("/run/systemd/system").exists();
    (!in_container).then_some(false)
}

/// Left by the agent beside its door when it attached.
pub(super) const CLOCK_FILE: &str = "server-clock";

fn server_ahead_ms(run_folder: &Path) -> Option<i64> {
    let text = fs::read_to_string(run_folder.join(CLOCK_FILE)).ok()?;
    text.trim().parse().ok()
}

fn names(node: &str, server: String) -> Names {
    let addresses = |host: &str, port: u16| -> Result<Vec<_>, String> {
        let found = (host, port).to_socket_addrs();
        found
            .map(Iterator::collect)
            .map_err(|error| error.to_string())
    };
    let (host, port) = server.rsplit_once(':').unwrap_or((&server, "0"));
    let host = host.trim_matches(['[', ']']);
    let of_server: Result<Vec<std::net::SocketAddr>, String> =
        addresses(host, port.parse().unwrap_or(0));
    let port = match &of_server {
        Err(_) => Err("its name is not known".to_owned()),
        Ok(all) => all
            .iter()
            .map(|address| TcpStream::connect_timeout(address, PATIENCE))
            .find_map(Result::ok)
            .map(drop)
            .ok_or_else(|| "nobody takes a connection there".to_owned()),
    };
    let ips = |found: Result<Vec<std::net::SocketAddr>, String>| {
        found.map(|all| all.into_iter().map(|address| address.ip()).collect())
    };
    Names {
        own: ips(addresses(node, 0)),
        of_server: ips(of_server),
        port,
        server,
    }
}

fn disks(images: Option<PathBuf>, state: PathBuf) -> Disks {
    let disk = |path: PathBuf| Disk::at(&path).ok().map(|disk| (path, disk));
    let device = |path: &Path| fs::metadata(path).ok().map(|about| about.dev());
    let images_on_root = images
        .as_deref()
        .and_then(device)
        .is_some_and(|images| device(Path::new("/")) == Some(images));
    Disks {
        images: images.filter(|path| path.is_absolute()).and_then(disk),
        state: disk(state),
        images_on_root,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cards_are_told_from_their_sound_and_from_others() {
        let bus = tempfile::tempdir().unwrap();
        for (name, vendor, class) in [
            ("0000:01:00.0", "0x10de\n", "0x030000\n"),
            ("0000:01:00.1", "0x10de\n", "0x040300\n"),
            ("0000:02:00.0", "0x10de\n", "0x030200\n"),
            ("0000:03:00.0", "0x1002\n", "0x030000\n"),
        ] {
            let device = bus.path().join(name);
            fs::create_dir(&device).unwrap();
            fs::write(device.join("vendor"), vendor).unwrap();
            fs::write(device.join("class"), class).unwrap();
        }
        assert_eq!(cards_on_bus(bus.path()), 2);
        assert_eq!(cards_on_bus(&bus.path().join("none")), 0);
    }

    #[test]
    fn both_versions_of_cgroups_are_read() {
        let root = tempfile::tempdir().unwrap();
        assert!(!cgroups(root.path()).is_mounted);
        fs::create_dir(root.path().join("cpu,cpuacct")).unwrap();
        fs::create_dir(root.path().join("memory")).unwrap();
        let old = cgroups(root.path());
        assert!(!old.is_v2 && old.is_mounted);
        assert_eq!(old.controllers, ["cpu", "cpuacct", "memory"]);
        fs::write(root.path().join("cgroup.controllers"), "cpu memory pids\n").unwrap();
        let new = cgroups(root.path());
        assert!(new.is_v2);
        assert_eq!(new.controllers, ["cpu", "memory", "pids"]);
    }

    #[test]
    fn folders_are_told_apart() {
        let place = tempfile::tempdir().unwrap();
        fs::write(place.path().join("file"), "").unwrap();
        fs::create_dir(place.path().join("folder")).unwrap();
        assert_eq!(folder(&place.path().join("none")), Folder::Missing);
        assert_eq!(folder(&place.path().join("file")), Folder::Other);
        assert_eq!(folder(&place.path().join("folder")), Folder::Plain);
        assert_eq!(folder(Path::new("/proc")), Folder::Mounted);
    }
}
