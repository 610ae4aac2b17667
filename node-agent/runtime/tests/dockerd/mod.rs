//! The dockerd of this host, for tests, and an image made of Debian's busybox. Says aloud when there is none.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The socket of a dockerd that answers.
#[expect(clippy::print_stdout, reason = "a test that cannot run says so aloud")]
pub(crate) fn socket() -> Option<PathBuf> {
    let socket = Path::new("/var/run/docker.sock");
    let answers = Command::new("docker")
        .args(["version", "--format", "{{.Server.Version}}"])
        .output();
    if answers.is_ok_and(|answer| answer.status.success()) && Path::new("/bin/busybox").exists() {
        return Some(socket.to_owned());
    }
    println!("skipped: no docker (or no busybox-static)");
    None
}

/// Makes the image `name` of busybox, unless it is there.
#[allow(dead_code, reason = "each test binary uses some of this")]
pub(crate) fn make_image(name: &str) {
    make_image_at(Path::new("/var/run/docker.sock"), name, "ENV PATH=/bin");
}

/// The same for another dockerd, with one more change to the image.
pub(crate) fn make_image_at(socket: &Path, name: &str, change: &str) {
    let docker = || {
        let mut docker = Command::new("docker");
        docker.arg("-H").arg(format!("unix://{}", socket.display()));
        docker
    };
    let there = docker()
        .args(["image", "inspect", name])
        .output()
        .expect("docker runs");
    if there.status.success() {
        return;
    }
    let folder = tempfile::tempdir().expect("folder");
    let root = folder.path();
    for name in ["bin", "etc", "tmp", "proc", "sys", "dev"] {
        std::fs::create_dir(root.join(name)).expect("folder");
    }
    std::fs::copy("/bin/busybox", root.join("bin/busybox")).expect("busybox");
    let applets = Command::new("/bin/busybox")
        .arg("--list")
        .output()
        .expect("list");
    for applet in String::from_utf8(applets.stdout)
        .expect("text")
        .lines()
        .filter(|&applet| applet != "busybox")
    {
        std::os::unix::fs::symlink("busybox", root.join("bin").join(applet)).expect("link");
    }
    std::fs::write(root.join("etc/passwd"), "root:x:0:0:root:/:/bin/sh\n").expect("passwd");
    std::fs::write(root.join("etc/group"), "root:x:0:\n").expect("group");
    let mut tar = Command::new("tar")
        .arg("-C")
        .arg(root)
        .args(["-c", "."])
        .stdout(Stdio::piped())
        .spawn()
        .expect("tar");
    let archive = tar.stdout.take().expect("pipe");
    let import = docker()
        .args([
            "import",
            "--change",
            "ENV PATH=/bin",
            "--change",
            change,
            "-",
            name,
        ])
        .stdin(archive)
        .output();
    assert!(import.expect("import").status.success());
    assert!(tar.wait().expect("tar").success());
}
