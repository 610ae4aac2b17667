//! Images leave a disk that is too full: those that nobody used for longest, and none that is pinned or in use.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use capstan_tests::engine::{self, IMAGE};
use capstan_tests::{Cluster, OwnEngine, User, wait_until};

use crate::disk::Disk;
use crate::is_root;

/// An image that is nowhere: whoever wants it has the agent make room first.
const NOWHERE: &str = "127.0.0.1:9/none:1";

/// Every disk that has anything on it is too full.
const ALWAYS: [u32; 2] = [2, 1];

/// A cluster with the engine of that folder, whose disk is too full above the first of `marks` and good below the second,
/// in parts of a hundred.
fn cluster_on(engine: &Path, marks: [u32; 2]) -> Cluster {
    let mut cluster = Cluster::up(&["--nodes", "1", "--cores", "2", "--debug"]);
    let path = cluster.path().join("nodes/node01/agent.toml");
    let mut settings: toml::Table = fs::read_to_string(&path).unwrap().parse().unwrap();
    let socket = OwnEngine::socket(engine).display().to_string();
    settings.insert("docker_socket".into(), socket.into());
    let [high, low] = marks;
    let images =
        format!("disk_high_percent = {high}\ndisk_low_percent = {low}\npinned = ['site/base-*']\n");
    let images: toml::Table = images.parse().unwrap();
    settings.insert("images".into(), images.into());
    fs::write(&path, settings.to_string()).unwrap();
    cluster.kill("node01");
    cluster.start("node01");
    cluster.wait_nodes();
    cluster
}

#[test]
fn unused_images_leave_a_full_disk_and_those_that_are_pinned_or_in_use_stay() {
    if !is_root() || !engine::is_there() {
        return;
    }
    let place = tempfile::Builder::new()
        .prefix("capstan-eviction-")
        .tempdir()
        .unwrap();
    fs::set_permissions(place.path(), PermissionsExt::from_mode(0o755)).unwrap();
    let own = OwnEngine::start(place.path());
    let docker = format!(
        "docker -H unix://{}",
        OwnEngine::socket(place.path()).display()
    );
    for name in ["old:1", "fresh:1", "site/base-cuda:1"] {
        engine::make_image(&docker, name);
    }
    own.docker(&["create", IMAGE, "true"]).unwrap();
    let names = || {
        let listed = own.docker(&["images", "--format", "{{.Repository}}:{{.Tag}}"]);
        listed.unwrap_or_default()
    };
    let cluster = cluster_on(place.path(), ALWAYS);
    let alice = User::alice();
    let folder = alice.folder("eviction");
    let wanted = || {
        let line = format!("startdocker -c true {NOWHERE}");
        let job = cluster.submit(&alice, &folder, "-d . -j oe -o out", &line);
        cluster.wait_state(&job, "C");
    };
    // Whatever the agent sees for the first time counts as used just now.
    wanted();
    for name in ["old:1", "fresh:1", "site/base-cuda:1", IMAGE] {
        assert!(names().contains(name), "{name}: {}", names());
    }
    let id = |name: &str| {
        let id = own
            .docker(&["inspect", "--format", "{{.Id}}", name])
            .unwrap();
        id.trim_start_matches("sha256:").to_owned()
    };
    let used = cluster
        .path()
        .join("nodes/node01/state/containers/images/used");
    let long_ago = std::time::SystemTime::now() - std::time::Duration::from_secs(7200);
    for name in ["old:1", "site/base-cuda:1", IMAGE] {
        let file = used.join(id(name));
        let file = fs::File::options().write(true).open(&file);
        file.unwrap().set_modified(long_ago).unwrap();
    }
    wanted();
    wait_until("what nobody used leaves", || {
        match names().contains("old:1") {
            true => Err(names()),
            false => Ok(()),
        }
    });
    for name in ["fresh:1", "site/base-cuda:1", IMAGE] {
        assert!(names().contains(name), "{name}: {}", names());
    }
}

/// An image with so many MiB that no other shares and no compression makes smaller.
fn make_large(own: &OwnEngine, folder: &Path, name: &str, mib: usize) {
    let root = tempfile::tempdir().unwrap();
    engine::lay_out(root.path());
    let mut large = vec![0; mib << 20];
    let mut random = fs::File::open("/dev/urandom").unwrap();
    std::io::Read::read_exact(&mut random, &mut large).unwrap();
    fs::write(root.path().join("large"), large).unwrap();
    let archive = folder.join("image.tar");
    let packed = std::process::Command::new("tar")
        .args(["-C", &root.path().to_string_lossy(), "-cf"])
        .args([&archive, Path::new(".")])
        .status();
    assert!(packed.unwrap().success(), "tar {name}");
    let made = own.docker(&["import", &archive.to_string_lossy(), name]);
    assert!(made.is_some(), "import {name}");
    fs::remove_file(archive).unwrap();
}

/// How full the disk of that folder is, in parts of a hundred.
fn percent_used(folder: &Path) -> u32 {
    let disk = nix::sys::statvfs::statvfs(folder).unwrap();
    let (all, free) = (disk.blocks(), disk.blocks_available());
    u32::try_from((all - free) * 100 / all).unwrap()
}

/// Goal: of several images that nobody uses only the one leaves that was not used for longest, because then there is room.
#[test]
fn the_image_that_was_not_used_for_longest_leaves_first_and_no_more_than_must() {
    if !is_root() || !engine::is_there() {
        return;
    }
    let place = tempfile::Builder::new()
        .prefix("capstan-oldest-")
        .tempdir()
        .unwrap();
    fs::set_permissions(place.path(), PermissionsExt::from_mode(0o755)).unwrap();
    let disk = Disk::mount(&place.path().join("data"), "256m");
    let own = OwnEngine::start(place.path());
    let ages = [("older:1", 3), ("oldest:1", 4), ("old:1", 2)];
    for (name, _) in ages {
        make_large(&own, place.path(), name, 24);
    }
    let full = percent_used(&disk.0);
    assert!(full > 20, "{full} % of the engine's disk are used");
    let cluster = cluster_on(place.path(), [full - 2, full - 5]);
    let alice = User::alice();
    let folder = alice.folder("eviction-oldest");
    let wanted = || {
        let line = format!("startdocker -c true {NOWHERE}");
        let job = cluster.submit(&alice, &folder, "-d . -j oe -o out", &line);
        cluster.wait_state(&job, "C");
    };
    let names = || {
        let listed = own.docker(&["images", "--format", "{{.Repository}}:{{.Tag}}"]);
        listed.unwrap_or_default()
    };
    // Whatever the agent sees for the first time counts as used just now.
    wanted();
    let used = cluster
        .path()
        .join("nodes/node01/state/containers/images/used");
    for (name, hours) in ages {
        assert!(names().contains(name), "{name}: {}", names());
        let id = own
            .docker(&["inspect", "--format", "{{.Id}}", name])
            .unwrap();
        let file = used.join(id.trim().trim_start_matches("sha256:"));
        let age = std::time::Duration::from_secs(hours * 3600);
        let file = fs::File::options().write(true).open(&file);
        let time = std::time::SystemTime::now() - age;
        file.unwrap().set_modified(time).unwrap();
    }
    wanted();
    wait_until("the oldest leaves", || match names().contains("oldest:1") {
        true => Err(names()),
        false => Ok(()),
    });
    // Whoever wants room again finds that there is.
    wanted();
    for name in ["older:1", "old:1"] {
        assert!(names().lines().any(|it| it == name), "{name}: {}", names());
    }
}
