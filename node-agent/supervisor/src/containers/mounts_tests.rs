//! Which folders may be mounted, on real folders, looked at as an ordinary user; and the ways around that must not be.

use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;

use super::*;
use crate::containers::stage::Stage;
use crate::containers::testing::{GROUP, TestSite, UID, USER};

const OTHER: u32 = UID + 1;

fn site(test: &TestSite) -> Site {
    let context = test.context.clone().expect("context");
    Site {
        volumes: test.volumes(),
        user: USER.to_owned(),
        rights: Rights {
            uid: context.uid,
            gid: context.gid,
            groups: context.groups,
        },
        home: context.home,
        forbidden: vec![test.path("data/common/engine"), test.path("state")],
        taken: vec!["/etc/passwd".into(), test.path("aux/nodes")],
    }
}

fn furnish(test: &TestSite) {
    test.make_folder("data/ann/sub", UID, 0o755);
    test.make_file("data/ann/file", "mine\n", 0o644);
    test.make_folder("data/bob", OTHER, 0o755);
    test.make_file("data/bob/file", "bob's\n", 0o644);
    test.make_folder("data/daemon", 0, 0o755);
    test.make_folder("data/closed", 0, 0o700);
    test.make_folder("data/commons", 0, 0o755);
    test.make_folder("data/common", 0, 0o755);
    test.make_folder("data/common/engine", 0, 0o755);
    test.make_folder("data/vision", OTHER, 0o770);
    std::os::unix::fs::chown(test.path("data/vision"), None, Some(GROUP)).expect("group");
    test.make_folder("data/theirs", OTHER, 0o770);
    test.make_folder("home/bob", OTHER, 0o755);
    for (link, to) in [
        ("to-bob", test.text("data/bob")),
        ("to-root", "/".into()),
        ("to-etc", "/etc".into()),
        ("to-sub", test.text("data/ann/sub")),
        ("to-set", test.text("pub/set")),
        ("loop", test.text("data/ann/loop")),
        ("to-proc", "/proc/self/root".into()),
        ("dangling", "/no/such".into()),
        ("up", "../bob".into()),
    ] {
        symlink(to, test.path("data/ann").join(link)).expect("link");
    }
    UnixListener::bind(test.path("data/ann/socket")).expect("socket");
    nix::unistd::mkfifo(&test.path("data/ann/pipe"), nix::sys::stat::Mode::S_IRWXU).expect("pipe");
}

/// What came of asking for one folder: read-only or not, or the rule, or the kernel's word.
async fn ask(test: &TestSite, source: &str, target: &str) -> Result<bool, Refused> {
    let site = site(test);
    let bind = AskedBind {
        source: source.to_owned(),
        target: target.to_owned(),
        read_only: false,
    };
    let rights = site.rights.clone();
    let mounts = rights
        .look(move || decide(&site, &[bind]))
        .await
        .expect("look")?;
    let mount = mounts
        .list
        .iter()
        .find(|mount| mount.target == Path::new(target).components().collect::<PathBuf>());
    Ok(mount.expect("mounted").read_only)
}

async fn check(test: &TestSite, source: &str, expected: Result<bool, Forbidden>) {
    let seen = match ask(test, source, "/x").await {
        Ok(read_only) => Ok(read_only),
        Err(Refused::Mount { rule, .. }) => Err(rule),
        Err(other) => panic!("{source}: {other}"),
    };
    assert_eq!(seen, expected, "{source}");
}

#[tokio::test]
async fn only_folders_of_the_site_that_are_the_users_or_everybodys() {
    let Some(test) = TestSite::make() else { return };
    furnish(&test);
    let at = |name: &str| test.text(name);
    for writable in [
        "home/ann",
        "data/ann",
        "data/ann/sub",
        "data/ann/file",
        "data/ann/to-sub",
        "data/vision",
        "data/commons",
    ] {
        check(&test, &at(writable), Ok(false)).await;
    }
    for public in ["pub", "pub/set", "pub/set/a", "data/ann/to-set"] {
        check(&test, &at(public), Ok(true)).await;
    }
    for (source, rule) in [
        ("data", Forbidden::VolumeRoot),
        ("home", Forbidden::VolumeRoot),
        ("data/bob", Forbidden::AnotherUser),
        ("data/bob/file", Forbidden::AnotherUser),
        ("home/bob", Forbidden::AnotherUser),
        ("data/daemon", Forbidden::AnotherUser),
        ("data/ann/to-bob", Forbidden::AnotherUser),
        ("data/ann/to-bob/file", Forbidden::AnotherUser),
        ("data/ann/up", Forbidden::AnotherUser),
        ("data/ann/to-root", Forbidden::Root),
        ("data/ann/to-etc", Forbidden::System),
        ("data/ann/to-etc/passwd", Forbidden::System),
        ("data/ann/socket", Forbidden::Special),
        ("data/ann/pipe", Forbidden::Special),
        ("data/common/engine", Forbidden::Engine),
        ("data/common", Forbidden::Engine),
        ("", Forbidden::OutsideVolumes),
    ] {
        check(&test, &at(source), Err(rule)).await;
    }
}

#[tokio::test]
async fn ways_around_are_no_ways() {
    let Some(test) = TestSite::make() else { return };
    furnish(&test);
    let data = test.text("data");
    check(
        &test,
        &format!("{data}/ann/../bob"),
        Err(Forbidden::AnotherUser),
    )
    .await;
    check(&test, &format!("{data}/ann/.."), Err(Forbidden::VolumeRoot)).await;
    check(&test, &format!("{data}//ann///./sub/"), Ok(false)).await;
    check(&test, &format!("{data}/."), Err(Forbidden::VolumeRoot)).await;
    for (source, rule) in [
        ("/", Forbidden::Root),
        ("//", Forbidden::Root),
        ("/..", Forbidden::Root),
        ("/etc", Forbidden::System),
        ("/etc/passwd", Forbidden::System),
        ("/proc", Forbidden::System),
        ("/usr/bin", Forbidden::System),
        ("/dev/null", Forbidden::Special),
        ("/tmp", Forbidden::OutsideVolumes),
        ("/var", Forbidden::System),
    ] {
        check(&test, source, Err(rule)).await;
    }
}

#[tokio::test]
async fn what_the_user_cannot_reach_is_not_reached_for_them() {
    let Some(test) = TestSite::make() else { return };
    furnish(&test);
    let data = test.text("data");
    let in_home = format!("{data}/ann");
    for unreachable in [
        "/proc/self/root",
        "/proc/1/root/etc",
        "/proc/self/cwd",
        "/proc/self/fd/0",
        "/no/such/path",
        "/tmp\n",
        "/tmp\0",
        "relative",
        "",
    ] {
        let refused = ask(&test, unreachable, "/x").await.expect_err(unreachable);
        assert!(
            matches!(refused, Refused::Unreachable { .. }),
            "{unreachable:?}: {refused}"
        );
    }
    for unreachable in [
        "to-proc",
        "to-proc/etc",
        "loop",
        "dangling",
        "missing",
        "file/x",
    ] {
        let refused = ask(&test, &format!("{in_home}/{unreachable}"), "/x")
            .await
            .expect_err(unreachable);
        assert!(
            matches!(refused, Refused::Unreachable { .. }),
            "{unreachable}: {refused}"
        );
    }
    for closed in ["closed", "theirs"] {
        let refused = ask(&test, &format!("{data}/{closed}"), "/x")
            .await
            .expect_err(closed);
        let Refused::Unreachable { source, .. } = refused else {
            panic!("{refused}")
        };
        assert_eq!(
            source.kind(),
            io::ErrorKind::PermissionDenied,
            "looked at with the user's rights"
        );
    }
}

#[tokio::test]
async fn a_refusal_names_the_path_as_resolved() {
    let Some(test) = TestSite::make() else { return };
    furnish(&test);
    let asked = test.text("data/ann/to-bob");
    let refused = ask(&test, &asked, "/x")
        .await
        .expect_err("refused")
        .to_string();
    assert_eq!(
        refused,
        format!(
            "cannot mount {asked} ({}): it is another user's folder",
            test.text("data/bob")
        )
    );
}

#[tokio::test]
async fn targets_that_are_the_containers_own_are_refused() {
    let Some(test) = TestSite::make() else { return };
    let source = test.text("data/ann");
    for target in ["/USER", "/data/pylib", "/opt//x/", "/home/ann/./x"] {
        assert!(!ask(&test, &source, target).await.expect(target));
    }
    let nodes = test.text("aux/nodes");
    for target in [
        "/",
        "//",
        "/.",
        "/x/..",
        "/../etc",
        "/proc",
        "/proc/1",
        "/sys/x",
        "/dev",
        "/dev/shm",
        "/etc",
        "/etc/passwd",
        "/etc//passwd",
        "/var/run/nvidia-container-devices/all",
        "/run/nvidia-container-devices/0",
        "/x\ny",
        "/x\0y",
        "/sbin/docker-init",
        nodes.as_str(),
    ] {
        let refused = ask(&test, &source, target).await.expect_err(target);
        assert!(
            matches!(refused, Refused::Target { .. }),
            "{target:?}: {refused}"
        );
    }
}

#[tokio::test]
async fn two_folders_at_one_place_are_refused_and_one_twice_is_not() {
    let Some(test) = TestSite::make() else { return };
    test.make_folder("data/ann/sub", UID, 0o755);
    let site = site(&test);
    let bind = |source: &str, read_only| AskedBind {
        source: test.text(source),
        target: "/x".to_owned(),
        read_only,
    };
    let twice = [bind("data/ann", false), bind("data/ann", true)];
    let two = [bind("data/ann", false), bind("data/ann/sub", false)];
    let rights = site.rights.clone();
    let (twice, two) = rights
        .look(move || (decide(&site, &twice), decide(&site, &two)))
        .await
        .expect("look");
    let twice = twice.expect("the same folder");
    assert!(
        twice
            .list
            .iter()
            .any(|mount| mount.target == Path::new("/x") && mount.read_only)
    );
    assert!(matches!(two, Err(Refused::Target { .. })));
}

#[tokio::test]
async fn a_home_that_is_not_the_users_is_not_mounted() {
    let Some(test) = TestSite::make() else { return };
    furnish(&test);
    for home in [
        test.path("home/bob"),
        "/".into(),
        "/nonexistent".into(),
        "/etc".into(),
        test.path("data"),
    ] {
        let mut site = site(&test);
        site.home = home.clone();
        let rights = site.rights.clone();
        let mounts = rights
            .look(move || decide(&site, &[]))
            .await
            .expect("look")
            .expect("decided");
        assert!(
            mounts.list.iter().all(|mount| mount.target != home),
            "{}",
            home.display()
        );
        assert_eq!(mounts.notices.len(), 1, "{}", home.display());
    }
}

#[tokio::test]
async fn a_folder_that_is_swapped_after_the_check_is_mounted_as_it_was_checked() {
    let Some(test) = TestSite::make() else { return };
    furnish(&test);
    let site = site(&test);
    let bind = AskedBind {
        source: test.text("data/ann/sub"),
        target: "/x".to_owned(),
        read_only: true,
    };
    test.make_file("data/ann/sub/whose", "ann's\n", 0o644);
    let mounts = site
        .rights
        .clone()
        .look(move || decide(&site, &[bind]))
        .await
        .expect("look")
        .expect("decided");
    std::fs::rename(test.path("data/ann/sub"), test.path("data/ann/gone")).expect("moved");
    symlink(test.path("data/bob"), test.path("data/ann/sub")).expect("swapped");

    let stage = Stage::open(&test.path("stage")).expect("stage");
    let pinned = stage.pin(&mounts.list).expect("pinned");
    let at = mounts
        .list
        .iter()
        .position(|mount| mount.target == Path::new("/x"))
        .expect("there");
    let place = pinned.sources[at].clone();
    assert_eq!(
        std::fs::read_to_string(place.join("whose")).expect("the checked folder"),
        "ann's\n"
    );
    let written = std::fs::write(place.join("new"), "");
    assert_eq!(
        written.expect_err("read-only").kind(),
        io::ErrorKind::ReadOnlyFilesystem
    );
    drop(pinned);
    assert!(!place.exists());
    assert_eq!(
        std::fs::read_to_string(test.path("data/ann/gone/whose")).expect("still there"),
        "ann's\n"
    );
}

#[test]
fn what_a_killed_agent_left_on_the_stage_is_taken_away() {
    let Some(test) = TestSite::make() else { return };
    drop(Stage::open(&test.path("stage")).expect("stage"));
    let left = test.path("stage").join("999999999-1").join("0").join("0");
    std::fs::create_dir_all(&left).expect("left");
    let none: Option<&str> = None;
    let bind = nix::mount::MsFlags::MS_BIND;
    nix::mount::mount(Some(&test.path("data/ann")), &left, none, bind, none).expect("mounted");
    test.make_file("data/ann/precious", "", 0o600);
    let _stage = Stage::open(&test.path("stage")).expect("stage");
    assert!(!test.path("stage").join("999999999-1").exists());
    assert!(
        test.path("data/ann/precious").exists(),
        "what was mounted there is untouched"
    );
}
