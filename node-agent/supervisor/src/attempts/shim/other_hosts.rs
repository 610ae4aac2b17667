//! Which files of other hosts this node has itself, and under which path: its own, those of the server's host, whose names
//! are those of the whole cluster, folders that the site maps, and what lies on a shared file system.

use std::fs;
use std::io;
use std::net::{IpAddr, ToSocketAddrs, UdpSocket};
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

use nix::sys::statfs::{self, FsType, statfs};

use crate::attempts::record::{Entry, MappedFolder};

/// File systems that several hosts have at once, where a path means the same file on all of them; those that the C library
/// has no names for by the numbers of their drivers (`statfs(2)`, `linux/magic.h`, and the drivers' own sources).
const SHARED: [i64; 14] = [
    0x6969,      // NFS
    0x517b,      // SMB
    0xff53_4d42, // CIFS
    0xfe53_4d42, // SMB 2
    0x00c3_6400, // Ceph
    0x0bd0_0bd0, // Lustre
    0x4750_4653, // GPFS
    0x1983_0326, // BeeGFS
    0x0116_1970, // GFS2
    0x7461_636f, // OCFS2
    0x5346_414f, // AFS
    0x6b41_4653, // kAFS
    0x0102_1997, // 9p
    0x6573_5546, // FUSE: GlusterFS, JuiceFS, sshfs
];
/// Folders that may be missing above one that is there.
const FOLDERS_MAX: usize = 64;

/// The path by which this node has `path` of `host`; `None` when it has to be copied.
pub(super) fn local_path(entry: &Entry, host: &str, path: &str) -> Option<PathBuf> {
    named_here(entry, host, path).or_else(|| is_address_here(entry, host).then(|| path.into()))
}

/// As [`local_path`], for output: what lies on a shared file system need not be copied either. To be called with the user's
/// rights.
pub(super) fn writable_path(entry: &Entry, host: &str, path: &str) -> Option<PathBuf> {
    let here = named_here(entry, host, path);
    here.or_else(|| is_shared(Path::new(path)).then(|| path.into()))
        // Last, for it may ask other hosts.
        .or_else(|| is_address_here(entry, host).then(|| path.into()))
}

/// By names alone: nobody is asked.
fn named_here(entry: &Entry, host: &str, path: &str) -> Option<PathBuf> {
    let own = nix::unistd::gethostname().unwrap_or_default();
    let own = own.to_string_lossy();
    let names = ["localhost", &own, &entry.node, &entry.spec.server];
    if names.iter().any(|name| is_same_name(host, name)) {
        return Some(path.into());
    }
    let mut mapped = entry.mapped_folders.iter();
    mapped.find_map(|folder| on_map(folder, host, path))
}

/// As Torque's `$usecp`: what lies in a folder of these hosts is in another one here.
fn on_map(folder: &MappedFolder, host: &str, path: &str) -> Option<PathBuf> {
    let MappedFolder {
        host: pattern,
        from,
        to,
    } = folder;
    let host = host.to_ascii_lowercase();
    let is_meant = match pattern.to_ascii_lowercase().strip_prefix('*') {
        Some(end) => host.ends_with(end),
        None => is_same_name(pattern, &host),
    };
    if !is_meant {
        return None;
    }
    // Whole names only: `/home` is not the beginning of `/homes`.
    let rest = Path::new(path).strip_prefix(from).ok()?;
    Some(match rest.as_os_str().is_empty() {
        true => PathBuf::from(to),
        // The slash of a folder is kept.
        false if path.ends_with('/') => Path::new(to).join(rest).join(""),
        false => Path::new(to).join(rest),
    })
}

fn is_same_name(one: &str, other: &str) -> bool {
    let short = |name: &str| name.split('.').next().unwrap_or_default().to_owned();
    let is_whole = one.contains('.') && other.contains('.');
    one.eq_ignore_ascii_case(other) || (!is_whole && short(one).eq_ignore_ascii_case(&short(other)))
}

/// Whether the deepest folder of `path` that is there is one that all hosts have; a device (`/dev/null`) is everywhere.
fn is_shared(path: &Path) -> bool {
    if !path.is_absolute() {
        return false;
    }
    let mut existing = path;
    for _ in 0..FOLDERS_MAX {
        match fs::metadata(existing) {
            Ok(found) if found.file_type().is_char_device() => return true,
            Ok(_) => {
                return statfs(existing).is_ok_and(|found| is_network(found.filesystem_type()));
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(_) => return false,
        }
        match existing.parent() {
            Some(parent) => existing = parent,
            None => return false,
        }
    }
    false
}

fn is_network(kind: FsType) -> bool {
    let statfs::FsType(number) = kind;
    // Some of the numbers come with their sign drawn out.
    SHARED.contains(&(number & 0xffff_ffff))
}

fn is_address_here(entry: &Entry, host: &str) -> bool {
    let addresses = addresses(host);
    // An address that a socket can be bound to is one of ours.
    let is_ours = |address: &IpAddr| UdpSocket::bind((*address, 0)).is_ok();
    addresses.iter().any(is_ours)
        || addresses
            .iter()
            .any(|address| self::addresses(&entry.spec.server).contains(address))
}

/// The addresses of a host; none when nobody knows it.
fn addresses(host: &str) -> Vec<IpAddr> {
    let found = (host, 0).to_socket_addrs();
    found
        .map(|found| found.map(|address| address.ip()).collect())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry() -> Entry {
        let mut entry = Entry {
            node: "gpu01".into(),
            ..Entry::default()
        };
        entry.spec.server = "hn1.example.org".into();
        entry
    }

    #[test]
    fn the_node_and_the_servers_host_are_here() {
        let entry = entry();
        for host in [
            "gpu01",
            "GPU01",
            "gpu01.example.org",
            "hn1",
            "localhost",
            "127.0.0.1",
        ] {
            let found = local_path(&entry, host, "/x");
            assert_eq!(found.as_deref(), Some(Path::new("/x")), "{host}");
        }
        for host in ["hn1.example.com", "192.0.2.1"] {
            assert_eq!(local_path(&entry, host, "/x"), None, "{host}");
        }
    }

    #[test]
    fn a_mapped_folder_is_found_under_the_path_that_it_has_here() {
        let mut entry = entry();
        let mapped = |host: &str, from: &str, to: &str| MappedFolder {
            host: host.into(),
            from: from.into(),
            to: to.into(),
        };
        entry.mapped_folders = vec![
            mapped("*.cluster.example", "/home", "/ghome"),
            mapped("login", "/data/", "/gdata"),
        ];
        let check = |host: &str, path: &str, expected: Option<&str>| {
            let found = named_here(&entry, host, path);
            let found = found.map(|path| path.to_string_lossy().into_owned());
            assert_eq!(found.as_deref(), expected, "{host}:{path}");
        };
        check("a.cluster.example", "/home/x/o", Some("/ghome/x/o"));
        check("A.Cluster.Example", "/home/x/", Some("/ghome/x/"));
        check("a.cluster.example", "/home", Some("/ghome"));
        check("a.cluster.example", "/homes/x", None);
        check("cluster.example", "/home/x", None);
        check("login.cluster", "/data/x", Some("/gdata/x"));
        check("login2", "/data/x", None);
    }

    #[test]
    fn what_is_shared_is_told_by_its_file_system_and_devices_are_everywhere() {
        assert!(is_shared(Path::new("/dev/null")));
        assert!(!is_shared(Path::new("/proc/none/x")));
        assert!(!is_shared(Path::new("rel")));
        for number in SHARED {
            assert!(is_network(FsType(number as _)), "{number:x}");
        }
        // ext4, tmpfs, overlay.
        for number in [0xef53, 0x0102_1994, 0x794c_7630] {
            assert!(!is_network(FsType(number)), "{number:x}");
        }
    }
}
