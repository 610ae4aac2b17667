//! What `pbsnodes` shows of this host: sessions and users, memory and swap, network, idle time. One look at `/proc` per
//! heartbeat, one small file per source.

use std::collections::BTreeSet;
use std::fs;
use std::net::IpAddr;
use std::os::unix::fs::MetadataExt;
use std::time::SystemTime;

use capstan_proto::wire::HostStatus;
use capstan_supervisor::kernel_file;

/// Sessions that are listed one by one; all of them are counted.
const SESSIONS_LISTED_MAX: usize = 256;
/// Users below this are the system's own.
const FIRST_USER: u32 = 1000;
/// uid of nobody, who has no sessions.
const NOBODY: u32 = 65_534;

/// Looks at the host, whose server is at `server` (`host:port`). Reads `/proc`: blocks for a moment.
pub(crate) fn status(server: &str) -> HostStatus {
    let memory = kernel_file::text("/proc/meminfo").unwrap_or_default();
    let kb = |name| field_kb(&memory, name);
    let interfaces = kernel_file::text("/proc/net/dev").unwrap_or_default();
    let (sessions, users) = sessions();
    HostStatus {
        session_count: sessions.len() as u32,
        sessions: sessions.into_iter().take(SESSIONS_LISTED_MAX).collect(),
        user_count: users.len() as u32,
        idle_secs: idle_secs(),
        total_kb: kb("MemTotal:") + kb("SwapTotal:"),
        available_kb: kb("MemAvailable:") + kb("SwapFree:"),
        physical_kb: kb("MemTotal:"),
        cpus: cpus(),
        network_bytes: network_bytes(&interfaces),
        // A node that is known by loopback has no hardware address, as in Torque.
        mac_address: match is_loopback(server) {
            true => String::new(),
            false => mac_address(),
        },
        system: "linux".to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
    }
}

fn cpus() -> u32 {
    let online = nix::unistd::sysconf(nix::unistd::SysconfVar::_NPROCESSORS_ONLN);
    online.ok().flatten().map_or(1, |count| count as u32)
}

fn field_kb(text: &str, name: &str) -> u64 {
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    let number = line.and_then(|line| line.split_ascii_whitespace().next());
    number.and_then(|number| number.parse().ok()).unwrap_or(0)
}

/// Sessions with a process of an ordinary user, and those users.
fn sessions() -> (BTreeSet<u32>, BTreeSet<u32>) {
    let (mut sessions, mut users) = (BTreeSet::new(), BTreeSet::new());
    let folders = fs::read_dir("/proc").into_iter().flatten();
    for folder in folders.filter_map(Result::ok) {
        let is_process = folder
            .file_name()
            .as_encoded_bytes()
            .iter()
            .all(u8::is_ascii_digit);
        // The owner first: most processes are the system's, and need no second file.
        let Some(uid) = is_process.then(|| folder.metadata().ok()).flatten() else {
            continue;
        };
        let uid = uid.uid();
        if !(FIRST_USER..NOBODY).contains(&uid) {
            continue;
        }
        let stat = kernel_file::text(folder.path().join("stat")).unwrap_or_default();
        if let Some(session) = session_of(&stat) {
            sessions.insert(session);
            users.insert(uid);
        }
    }
    (sessions, users)
}

/// The session in the text of `/proc/PID/stat`; the command before it may hold anything.
fn session_of(stat: &str) -> Option<u32> {
    let (_, rest) = stat.rsplit_once(')')?;
    rest.split_ascii_whitespace().nth(3)?.parse().ok()
}

/// Bytes received and sent by all interfaces but loopback, from the text of `/proc/net/dev`.
fn network_bytes(interfaces: &str) -> u64 {
    let lines = interfaces.lines().filter_map(|line| line.split_once(':'));
    let real = lines.filter(|(name, _)| name.trim() != "lo");
    let bytes = real.map(|(_, numbers)| {
        let numbers: Vec<u64> = numbers
            .split_ascii_whitespace()
            .map(|number| number.parse().unwrap_or(0))
            .collect();
        numbers.first().unwrap_or(&0) + numbers.get(8).unwrap_or(&0)
    });
    bytes.sum()
}

fn is_loopback(server: &str) -> bool {
    let host = server.rsplit_once(':').map_or(server, |(host, _)| host);
    let address = host.trim_matches(['[', ']']).parse::<IpAddr>();
    host == "localhost" || address.is_ok_and(|address| address.is_loopback())
}

/// Of the first interface in the order of names that is hardware and no bridge of a container engine.
fn mac_address() -> String {
    let folders = fs::read_dir("/sys/class/net").into_iter().flatten();
    let mut paths: Vec<_> = folders
        .filter_map(|folder| Some(folder.ok()?.path()))
        .collect();
    paths.retain(|path| path.join("device").exists());
    paths.sort();
    let addresses = paths
        .into_iter()
        .filter_map(|path| fs::read_to_string(path.join("address")).ok());
    let mut real = addresses
        .map(|address| address.trim().to_owned())
        .filter(|address| {
            !address.is_empty() && address.bytes().any(|byte| !b"0:".contains(&byte))
        });
    real.next().unwrap_or_default()
}

/// Seconds since the terminal that was touched last was touched; since boot when there is none.
fn idle_secs() -> u64 {
    let terminals = fs::read_dir("/dev/pts").into_iter().flatten();
    let touched = terminals.filter_map(|terminal| {
        let terminal = terminal.ok()?;
        let is_terminal = terminal.file_name() != "ptmx";
        is_terminal.then(|| terminal.metadata().ok()?.accessed().ok())?
    });
    let now = SystemTime::now();
    let idle = touched
        .filter_map(|touched| now.duration_since(touched).ok())
        .min();
    idle.map_or_else(uptime_secs, |idle| idle.as_secs())
}

pub(crate) fn uptime_secs() -> u64 {
    let text = kernel_file::text("/proc/uptime").unwrap_or_default();
    let seconds = text.split('.').next();
    seconds
        .and_then(|seconds| seconds.parse().ok())
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_is_no_network() {
        let text = "Inter-|   Receive\n face |bytes    packets\n    lo: 100 1 0 0 0 0 0 0 100 1 0 0 0 0 0 0\n\
                      eth0: 70 1 0 0 0 0 0 0 5 1 0 0 0 0 0 0\n";
        assert_eq!(network_bytes(text), 75);
    }

    #[test]
    fn a_server_on_this_host_is_known_by_its_address() {
        for server in ["127.0.0.1:7000", "[::1]:7000", "localhost:7000"] {
            assert!(is_loopback(server), "{server}");
            assert_eq!(status(server).mac_address, "");
        }
        assert!(!is_loopback("hn1:7000") && !is_loopback("10.0.0.1:7000"));
    }

    #[test]
    fn a_command_with_brackets_does_not_hide_the_session() {
        assert_eq!(session_of("42 (a) b) S 1 2 77 0 -1"), Some(77));
        assert_eq!(session_of("42"), None);
    }

    #[test]
    fn this_host_has_memory_and_processors() {
        let status = status("hn1:7000");
        assert!(status.physical_kb > 0 && status.total_kb >= status.physical_kb && status.cpus > 0);
    }
}
