//! What a power cut leaves. Each test runs a few file operations in a process of its own with the library preloaded,
//! which then kills itself, and compares the platter with what must be there.
#![expect(
    clippy::unwrap_used,
    reason = "a test that cannot prepare its folder has failed"
)]

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

/// Names the operations for the child; the child is this test binary.
const OPERATIONS: &str = "POWER_CUT_TEST_OPERATIONS";

struct Disk(TempDir);

impl Disk {
    fn new() -> Self {
        let disk = Self(tempfile::tempdir().unwrap());
        fs::create_dir(disk.watched()).unwrap();
        disk
    }

    fn watched(&self) -> PathBuf {
        self.0.path().join("state")
    }

    fn platter(&self) -> PathBuf {
        self.0.path().join("platter")
    }

    /// Runs `operations` (see `perform`), then kills the process.
    fn run(&self, operations: &str) {
        let child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "in_the_child", "--nocapture"])
            .env("LD_PRELOAD", library())
            .env("POWER_CUT_WATCH", self.watched())
            .env("POWER_CUT_PLATTER", self.platter())
            .env(OPERATIONS, operations)
            .current_dir(self.watched())
            .output()
            .unwrap();
        use std::os::unix::process::ExitStatusExt;
        assert_eq!(
            child.status.signal(),
            Some(9),
            "{}",
            String::from_utf8_lossy(&child.stderr)
        );
    }

    /// The folder becomes what was durable.
    fn cut(&self) {
        fs::remove_dir_all(self.watched()).unwrap();
        fs::remove_dir_all(self.0.path().join("platter.inodes")).unwrap();
        fs::rename(self.platter(), self.watched()).unwrap();
    }
}

/// Everything on the platter, as `path=content` in order.
fn listing(folder: &Path) -> String {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(&next).unwrap() {
            let path = entry.unwrap().path();
            let name = path.strip_prefix(folder).unwrap().display().to_string();
            if path.is_dir() {
                found.push(format!("{name}/"));
                folders.push(path);
            } else {
                found.push(format!("{name}={}", fs::read_to_string(&path).unwrap()));
            }
        }
    }
    found.sort();
    found.join(" ")
}

fn check(operations: &str, expected: &str) {
    let disk = Disk::new();
    disk.run(operations);
    assert_eq!(listing(&disk.platter()), expected, "after {operations}");
}

fn library() -> PathBuf {
    static BUILT: std::sync::OnceLock<PathBuf> = std::sync::OnceLock::new();
    BUILT.get_or_init(build).clone()
}

/// cargo builds no cdylib for the tests of its own package, so we ask it to.
fn build() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let profile = test.parent().and_then(Path::parent).unwrap();
    let mut cargo = Command::new(env!("CARGO"));
    cargo
        .args(["build", "--quiet", "--package", "power-cut", "--target-dir"])
        .arg(profile.parent().unwrap());
    if profile.ends_with("release") {
        cargo.arg("--release");
    }
    assert!(
        cargo
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .status()
            .unwrap()
            .success()
    );
    profile.join("libpower_cut.so")
}

/// Not a test of its own: where `Disk::run` arrives. Does nothing in an ordinary run.
#[test]
fn in_the_child() {
    let Ok(operations) = std::env::var(OPERATIONS) else {
        return;
    };
    operations
        .split(';')
        .for_each(|operation| perform(operation.trim()));
    Command::new("kill")
        .args(["-9", &std::process::id().to_string()])
        .status()
        .unwrap();
    std::thread::park();
}

fn perform(operation: &str) {
    let words: Vec<_> = operation.split_whitespace().collect();
    match words[..] {
        ["write", file, text] => fs::write(file, text).unwrap(),
        ["append", file, text] => {
            OpenOptions::new()
                .append(true)
                .create(true)
                .open(file)
                .unwrap()
                .write_all(text.as_bytes())
                .unwrap();
        }
        ["log", file, text] => {
            // As a journal does: append, and sync through the same descriptor.
            let mut log = OpenOptions::new()
                .append(true)
                .create(true)
                .open(file)
                .unwrap();
            log.write_all(text.as_bytes()).unwrap();
            log.sync_data().unwrap();
        }
        ["patch", file, offset, text] => {
            let file = OpenOptions::new().write(true).open(file).unwrap();
            file.write_all_at(text.as_bytes(), offset.parse().unwrap())
                .unwrap();
        }
        ["cut", file, length] => {
            OpenOptions::new()
                .write(true)
                .open(file)
                .unwrap()
                .set_len(length.parse().unwrap())
                .unwrap();
        }
        ["sync", path] => File::open(path).unwrap().sync_all().unwrap(),
        ["rename", from, to] => fs::rename(from, to).unwrap(),
        ["remove", file] => fs::remove_file(file).unwrap(),
        ["mkdir", folder] => fs::create_dir(folder).unwrap(),
        _ => panic!("unknown operation {operation}"),
    }
}

#[test]
fn only_what_was_synced_stays() {
    check("write a 1; sync a; sync .; append a 2", "a=1");
    check(
        "write a 1; sync a; sync .; append a 2; sync a; append a 3",
        "a=12",
    );
    check("write a 1", "");
}

#[test]
fn a_name_is_durable_with_its_folder_and_content_with_its_file() {
    check("write a 1; sync a", "");
    check("write a 1; sync .", "a=");
    check("write a 1; sync .; sync a", "a=1");
    check("write a 1; sync a; sync .", "a=1");
}

#[test]
fn logs_keep_every_synced_byte() {
    check("log a 1; sync .; log a 2; log a 3; append a 4", "a=123");
    check("log a 123; sync .; cut a 1; log a 9", "a=19");
    check("log a 123; sync .; cut a 1", "a=123");
    check("log a 123; sync .; cut a 1; log a 99999", "a=199999");
}

#[test]
fn changes_in_the_middle_are_seen() {
    check(
        "write a 12345; sync a; sync .; patch a 1 xx; sync a",
        "a=1xx45",
    );
    check("write a 12345; sync a; sync .; patch a 1 xx", "a=12345");
}

#[test]
fn renames_and_removals_are_durable_with_their_folder() {
    let replaced = "write a old; sync a; sync .; write b new; sync b; rename b a";
    check(replaced, "a=old");
    check(&format!("{replaced}; sync ."), "a=new");
    check(
        "write a old; sync a; sync .; write b new; rename b a; sync .",
        "a=",
    );
    check("write a 1; sync a; sync .; remove a", "a=1");
    check("write a 1; sync a; sync .; remove a; sync .", "");
    check("write a 1; sync a; sync .; rename a b; sync .", "b=1");
}

#[test]
fn folders_need_their_own_name_and_listing() {
    check("mkdir d; write d/a 1; sync d/a; sync d", "");
    check("mkdir d; write d/a 1; sync d/a; sync d; sync .", "d/ d/a=1");
    check("mkdir d; write d/a 1; sync d/a; sync .", "d/");
    check("mkdir d; sync .; write d/a 1; sync d/a; sync d", "d/ d/a=1");
    check(
        "mkdir d; mkdir d/e; sync .; sync d/e; sync d; write d/e/a 1; sync d/e/a; sync d/e",
        "d/ d/e/ d/e/a=1",
    );
}

#[test]
fn a_folder_moved_aside_keeps_its_files() {
    let made = "mkdir d; write d/a 1; sync d/a; sync d; sync .";
    check(
        &format!("{made}; rename d e; mkdir d; write d/b 2"),
        "d/ d/a=1",
    );
    check(
        &format!("{made}; rename d e; mkdir d; write d/b 2; sync ."),
        "d/ e/ e/a=1",
    );
    check(
        &format!("{made}; rename d e; mkdir d; write d/b 2; sync d/b; sync d; sync ."),
        "d/ d/b=2 e/ e/a=1",
    );
}

#[test]
fn a_new_file_does_not_inherit_from_a_removed_one() {
    check(
        "write a secret; sync a; sync .; remove a; write a new; sync .",
        "a=",
    );
}

#[test]
fn what_is_there_at_the_start_is_durable() {
    let disk = Disk::new();
    fs::create_dir(disk.watched().join("d")).unwrap();
    fs::write(disk.watched().join("d/a"), "1").unwrap();
    disk.run("append d/a 2");
    assert_eq!(listing(&disk.platter()), "d/ d/a=1");
}

#[test]
fn a_kill_alone_loses_nothing_and_adds_nothing() {
    let disk = Disk::new();
    disk.run("mkdir d; sync .; write d/a 1; sync d/a; sync d; append d/a 2");
    disk.run("append d/a 3");
    assert_eq!(listing(&disk.platter()), "d/ d/a=1");
    disk.run("sync d/a");
    assert_eq!(listing(&disk.platter()), "d/ d/a=123");
}

#[test]
fn the_power_can_be_cut_again() {
    let disk = Disk::new();
    disk.run("write a 1; sync a; sync .; append a 2");
    disk.cut();
    assert_eq!(listing(&disk.watched()), "a=1");
    disk.run("append a 3; sync a; append a 4");
    disk.cut();
    assert_eq!(listing(&disk.watched()), "a=13");
}

#[test]
fn large_files_are_followed_block_by_block() {
    let disk = Disk::new();
    let large = "x".repeat(200_000);
    fs::write(disk.watched().join("a"), &large).unwrap();
    disk.run("patch a 150000 yy; sync a; log a end");
    let mut expected = large;
    expected.replace_range(150_000..150_002, "yy");
    assert_eq!(
        fs::read_to_string(disk.platter().join("a")).unwrap(),
        expected + "end"
    );
}
