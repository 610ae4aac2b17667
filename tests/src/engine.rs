//! The container engine for tests: is there one, and an image made without any registry.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;
use std::sync::OnceLock;

/// The image of the tests: Debian's `busybox-static` and nothing else.
pub const IMAGE: &str = "capstan-test:busybox";

const APPLETS: &[&str] = &[
    "sh", "cat", "chown", "cut", "date", "dd", "df", "echo", "env", "false", "grep", "head", "id",
    "kill", "ls", "mkdir", "mknod", "nsenter", "su", "umount", "unshare", "mount", "printf", "ps",
    "pwd", "rm", "sed", "seq", "setsid", "sleep", "stat", "stty", "sync", "tee", "test", "touch",
    "tr", "true", "tty", "wc", "which", "whoami",
];

/// Whether a container engine answers; the image is then there. Says aloud when there is none.
#[must_use]
pub fn is_there() -> bool {
    static ANSWER: OnceLock<bool> = OnceLock::new();
    *ANSWER.get_or_init(|| {
        let answers = docker(&["version", "--format", "{{.Server.Version}}"]);
        if answers.is_none() {
            let text = b"skipped: no container engine answers (scripts/test starts one)\n";
            std::io::Write::write_all(&mut std::io::stderr(), text).ok();
            return false;
        }
        make_image("docker", IMAGE);
        true
    })
}

/// Makes the test image on the engine that the command line `docker` (with options) reaches.
///
/// # Panics
/// When it cannot be made.
pub fn make_image(docker: &str, image: &str) {
    let root = tempfile::tempdir().expect("a temporary folder can be made");
    lay_out(root.path());
    let line = format!("tar -C \"$1\" -c . | {docker} import - {image}");
    let made = Command::new("sh")
        .args(["-c", &line, "sh"])
        .arg(root.path())
        .output();
    let made = made.expect("sh is there");
    assert!(
        made.status.success(),
        "{line}: {}",
        String::from_utf8_lossy(&made.stderr)
    );
}

/// Writes the files of the test image into `root`.
///
/// # Panics
/// When they cannot be written.
pub fn lay_out(root: &Path) {
    let bin = root.join("bin");
    for folder in ["bin", "etc", "tmp", "proc", "sys", "dev", "root"] {
        fs::create_dir_all(root.join(folder)).expect("the folder is ours");
    }
    fs::copy("/bin/busybox", bin.join("busybox")).expect("busybox-static is installed");
    for applet in APPLETS {
        symlink("busybox", bin.join(applet)).expect("the folder is ours");
    }
    write(&root.join("etc/passwd"), "root:x:0:0:root:/root:/bin/sh\n");
    write(&root.join("etc/group"), "root:x:0:\n");
}

/// The output of a docker command; `None` when it failed.
#[must_use]
pub fn docker(arguments: &[&str]) -> Option<String> {
    let output = Command::new("docker").args(arguments).output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    output.status.success().then_some(text)
}

fn write(path: &Path, text: &str) {
    fs::write(path, text).expect("the folder is ours");
}
