//! Images leave a disk that is too full: those that nobody used for longest, and none that is pinned or in use.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use capstan_tests::engine::{self, IMAGE};
use capstan_tests::{Cluster, OwnEngine, User, wait_until};

use crate::is_root;

/// An image that is nowhere: whoever wants it has the agent make room first.
const NOWHERE: &str = "127.0.0.1:9/none:1";

fn cluster_on(engine: &Path) -> Cluster {
    let mut cluster = Cluster::up(&["--nodes", "1", "--cores", "2", "--debug"]);
    let path = cluster.path().join("nodes/node01/agent.toml");
    let mut settings: toml::Table = fs::read_to_string(&path).unwrap().parse().unwrap();
    let socket = OwnEngine::socket(engine).display().to_string();
    settings.insert("docker_socket".into(), socket.into());
    // Every disk that has anything on it is too full.
    let images = "disk_high_percent = 2\ndisk_low_percent = 1\npinned = ['site/base-*']\n";
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
    let cluster = cluster_on(place.path());
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
