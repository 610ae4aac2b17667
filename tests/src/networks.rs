//! Hosts of one network, played by network namespaces of this host: each node has an address of its own, a cable that can be
//! pulled, and a file of hosts' names. A switch is a namespace too, so that all of it goes when that goes, and no packet filter
//! of this host (Docker's) looks at what its nodes say to each other.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Networks that one process of tests has made: each has names and a range of its own.
static MADE: AtomicUsize = AtomicUsize::new(0);
/// How names of namespaces begin; then come the pid and the number of the network.
const PREFIX: &str = "capstan-test-";
/// The interface of each node, as on a machine.
pub const INTERFACE: &str = "eth0";
/// Last number of the server's address. Nodes follow behind it.
const SERVER: usize = 1;

/// A network with a server's host (this one) and some nodes; taken down when dropped, and by the next one when its process was
/// killed.
#[derive(Debug)]
pub struct Networks {
    /// `capstan-test-PID-NUMBER`.
    name: String,
    /// Third number of the addresses 10.213.x.y.
    range: usize,
    nodes: Vec<String>,
    hosts: PathBuf,
}

impl Networks {
    /// Connects these nodes with this host, and writes their names into a file in `folder`.
    ///
    /// # Panics
    /// When the kernel refuses.
    #[must_use]
    pub fn connect(folder: &Path, nodes: &[&str]) -> Self {
        take_down_of_dead();
        let number = MADE.fetch_add(1, Ordering::Relaxed);
        let pid = std::process::id();
        let network = Self {
            name: format!("{PREFIX}{pid}-{number}"),
            range: free_range(),
            nodes: nodes.iter().map(|node| (*node).to_owned()).collect(),
            hosts: folder.join("hosts"),
        };
        let switch = network.namespace("switch");
        ip(&format!("netns add {switch}"));
        ip(&format!("-n {switch} link add name switch type bridge"));
        ip(&format!("-n {switch} link set switch up"));
        // The kernel has room for 15 bytes; the other end goes with the switch.
        let ours = format!("cap{pid}n{number}");
        ip(&format!(
            "link add name {ours} type veth peer name server netns {switch}"
        ));
        network.plug("server");
        ip(&format!("addr add {}/24 dev {ours}", network.server()));
        ip(&format!("link set {ours} up"));
        let mut names = "127.0.0.1 localhost\n".to_owned();
        for node in nodes {
            let space = network.namespace(node);
            ip(&format!("netns add {space}"));
            ip(&format!("-n {space} link set lo up"));
            ip(&format!(
                "-n {space} link add name {INTERFACE} type veth peer name {node} netns {switch}"
            ));
            network.plug(node);
            let address = network.address(node);
            ip(&format!("-n {space} addr add {address}/24 dev {INTERFACE}"));
            ip(&format!("-n {space} link set {INTERFACE} up"));
            names.push_str(&format!("{address} {node}\n"));
        }
        fs::write(&network.hosts, names).expect("the folder is ours");
        network
    }

    fn namespace(&self, of: &str) -> String {
        format!("{}-{of}", self.name)
    }

    fn plug(&self, port: &str) {
        let switch = self.namespace("switch");
        ip(&format!("-n {switch} link set {port} master switch up"));
    }

    /// The address of this host, which all nodes reach.
    #[must_use]
    pub fn server(&self) -> String {
        format!("10.213.{}.{SERVER}", self.range)
    }

    /// The address of a node.
    ///
    /// # Panics
    /// When there is no such node.
    #[must_use]
    pub fn address(&self, node: &str) -> String {
        let place = self.nodes.iter().position(|it| it == node);
        let place = place.expect("one of the nodes that were connected");
        format!("10.213.{}.{}", self.range, SERVER + 1 + place)
    }

    /// What has to stand before a command so that it runs on that node: in its network, and with names that are its.
    #[must_use]
    pub fn entering(&self, node: &str) -> Vec<String> {
        let net = format!("--net=/run/netns/{}", self.namespace(node));
        let line = "mount --bind \"$0\" /etc/hosts && exec \"$@\"";
        let words = [
            "nsenter",
            &net,
            "unshare",
            "--mount",
            "--propagation",
            "slave",
            "sh",
            "-c",
            line,
            &self.hosts.display().to_string(),
        ];
        words.map(str::to_owned).to_vec()
    }

    /// Pulls a node's cable out of the switch.
    pub fn pull(&self, node: &str) {
        ip(&format!(
            "-n {} link set {node} down",
            self.namespace("switch")
        ));
    }

    /// Puts it back.
    pub fn put_back(&self, node: &str) {
        ip(&format!(
            "-n {} link set {node} up",
            self.namespace("switch")
        ));
    }
}

impl Drop for Networks {
    fn drop(&mut self) {
        for name in names_beginning(&format!("{}-", self.name)) {
            delete(&name);
        }
    }
}

/// Runs `ip`.
#[track_caller]
fn ip(line: &str) {
    let words = line.split_ascii_whitespace();
    let ran = Command::new("ip").args(words).output();
    let ran = ran.expect("iproute2 is installed");
    let said = String::from_utf8_lossy(&ran.stderr).into_owned();
    assert!(ran.status.success(), "ip {line}: {said}");
}

fn delete(namespace: &str) {
    // Somebody else may be taking down what is left, too.
    let words = ["netns", "del", namespace];
    Command::new("ip").args(words).output().ok();
}

/// What killed tests have left. Ends of cables go with the switch that they are in.
fn take_down_of_dead() {
    for name in names_beginning(PREFIX) {
        let pid = name[PREFIX.len()..].split('-').next().unwrap_or_default();
        if !Path::new("/proc").join(pid).exists() {
            delete(&name);
        }
    }
}

fn names_beginning(prefix: &str) -> Vec<String> {
    let found = fs::read_dir("/run/netns").into_iter().flatten().flatten();
    let names = found.filter_map(|entry| entry.file_name().into_string().ok());
    names.filter(|name| name.starts_with(prefix)).collect()
}

/// A range of addresses that no interface of this host has, other for each process and network where it can.
fn free_range() -> usize {
    let ran = Command::new("ip").args(["-4", "-o", "addr"]).output();
    let text = ran.expect("iproute2 is installed").stdout;
    let text = String::from_utf8_lossy(&text).into_owned();
    let pid = usize::try_from(std::process::id()).unwrap_or_default();
    let first = pid + MADE.load(Ordering::Relaxed);
    (first..first + 256)
        .map(|number| number % 256)
        .find(|number| !text.contains(&format!(" 10.213.{number}.")))
        .expect("one of 256 ranges is free")
}
