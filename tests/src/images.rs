//! The images that real users bring, made on this host without any registry: a small one, one of a Debian with bash and
//! python, one with an entry point, one with a user of its own, and one with a single program and nothing else.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use crate::engine::{self, docker};

/// One of the images.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Image {
    /// Its name on the engine.
    pub name: &'static str,
    /// What stands before a tool (`id`, `cat` …) on a command line.
    pub tool: &'static str,
    /// It has `/bin/sh`.
    pub has_shell: bool,
    /// It has bash and python.
    pub is_large: bool,
}

/// BusyBox, as Alpine has it.
pub const SMALL: Image = Image {
    name: engine::IMAGE,
    tool: "",
    has_shell: true,
    is_large: false,
};
/// The host's own bash, python and their libraries.
pub const DEBIAN: Image = Image {
    name: "capstan-test:debian",
    is_large: true,
    ..SMALL
};
/// An entry point that sets a variable and goes on.
pub const ENTRYPOINT: Image = Image {
    name: "capstan-test:entrypoint",
    ..SMALL
};
/// `USER`, `WORKDIR`, `VOLUME` and `ENV` that would do harm if they counted.
pub const USER: Image = Image {
    name: "capstan-test:user",
    ..SMALL
};
/// No shell, no passwd, no folder but the root.
pub const BARE: Image = Image {
    name: "capstan-test:bare",
    tool: "/busybox ",
    has_shell: false,
    is_large: false,
};

/// All of them, made at the first call; `None`, said aloud, without an engine.
///
/// # Panics
/// When one cannot be made.
#[must_use]
pub fn matrix() -> Option<&'static [Image]> {
    static MADE: OnceLock<Option<Vec<Image>>> = OnceLock::new();
    let made = MADE.get_or_init(|| {
        if !engine::is_there() {
            return None;
        }
        make_entrypoint();
        make_user();
        make_bare();
        let mut all = vec![SMALL, ENTRYPOINT, USER, BARE];
        if make_debian() {
            all.push(DEBIAN);
        }
        Some(all)
    });
    made.as_deref()
}

fn make_entrypoint() {
    let root = small();
    let script = "#!/bin/sh\nexport ENTRY=was-here\nexec \"$@\"\n";
    put(&root.path().join("entry.sh"), script, 0o755);
    import(
        root.path(),
        ENTRYPOINT.name,
        &["ENTRYPOINT [\"/entry.sh\"]"],
    );
}

fn make_user() {
    let root = small();
    let changes = [
        "USER 0:0",
        "WORKDIR /nowhere",
        "VOLUME /vol",
        "ENV NVIDIA_VISIBLE_DEVICES=all CUDA_VISIBLE_DEVICES=0,1,2,3 HOME=/root USER=root",
    ];
    import(root.path(), USER.name, &changes);
}

fn make_bare() {
    let root = tempfile::tempdir().expect("a temporary folder can be made");
    fs::copy("/bin/busybox", root.path().join("busybox")).expect("busybox-static is installed");
    import(root.path(), BARE.name, &[]);
}

/// Copies what bash and Debian's python need; false, said aloud, on a host without them.
fn make_debian() -> bool {
    let python = fs::canonicalize("/usr/bin/python3").ok();
    let library = python.as_ref().and_then(|python| {
        let folder = Path::new("/usr/lib").join(python.file_name()?);
        folder.is_dir().then_some(folder)
    });
    let (Some(python), Some(library)) = (python, library) else {
        let text = b"skipped: no /usr/bin/python3 of Debian's for an image of it\n";
        std::io::Write::write_all(&mut std::io::stderr(), text).ok();
        return false;
    };
    let root = tempfile::tempdir().expect("a temporary folder can be made");
    let path = root.path();
    for folder in [
        "usr/bin",
        "usr/lib",
        "usr/lib64",
        "etc",
        "tmp",
        "proc",
        "sys",
        "dev",
        "root",
    ] {
        fs::create_dir_all(path.join(folder)).expect("the folder is ours");
    }
    fs::set_permissions(path.join("tmp"), PermissionsExt::from_mode(0o1777)).expect("ours");
    for folder in ["bin", "lib", "lib64"] {
        symlink(Path::new("usr").join(folder), path.join(folder)).expect("the folder is ours");
    }
    let extensions = files_below(&library.join("lib-dynload"));
    let mut wanted: BTreeSet<PathBuf> = [PathBuf::from("/bin/bash"), python.clone()].into();
    for program in wanted.clone().iter().chain(&extensions) {
        wanted.extend(libraries_of(program));
    }
    for file in &wanted {
        let to = path.join(file.strip_prefix("/").expect("absolute"));
        fs::create_dir_all(to.parent().expect("in a folder")).expect("the folder is ours");
        fs::copy(file, to).expect("a file of the host's");
    }
    let copied = Command::new("sh")
        .args([
            "-c",
            "tar -C / --exclude=test --exclude=idlelib --exclude=__pycache__ --exclude=lib2to3 -c \"$1\" | tar -C \"$2\" -x",
            "sh",
        ])
        .arg(library.strip_prefix("/").expect("absolute"))
        .arg(path)
        .status();
    assert!(
        copied.is_ok_and(|status| status.success()),
        "python's library"
    );
    furnish(path, &python);
    import(path, DEBIAN.name, &["ENV PATH=/usr/bin:/bin"]);
    true
}

/// Tools, shells and users beside python.
fn furnish(path: &Path, python: &Path) {
    let bin = path.join("usr/bin");
    fs::copy("/bin/busybox", bin.join("busybox")).expect("busybox-static is installed");
    let tools = [
        "cat", "date", "dd", "df", "env", "false", "id", "ls", "sleep", "touch", "whoami", "which",
        "stat", "grep", "head", "seq",
    ];
    for tool in tools {
        symlink("busybox", bin.join(tool)).expect("the folder is ours");
    }
    symlink("bash", bin.join("sh")).expect("the folder is ours");
    // A set-uid shell: in a container it must not make anybody root.
    fs::copy("/bin/bash", bin.join("rootbash")).expect("a file of the host's");
    fs::set_permissions(bin.join("rootbash"), PermissionsExt::from_mode(0o4755)).expect("ours");
    symlink(python.file_name().expect("a file"), bin.join("python3")).expect("ours");
    symlink("python3", bin.join("python")).expect("the folder is ours");
    put(
        &path.join("etc/passwd"),
        "root:x:0:0:root:/root:/bin/bash\ndaemon:x:1:1::/:/bin/false\n",
        0o644,
    );
    put(&path.join("etc/group"), "root:x:0:\nusers:x:100:\n", 0o644);
    put(&path.join("etc/os-release"), "ID=debian\n", 0o644);
}

/// What the loader finds for a program.
fn libraries_of(program: &Path) -> Vec<PathBuf> {
    let said = Command::new("ldd").arg(program).output();
    let said = said.expect("ldd belongs to the C library");
    let text = String::from_utf8_lossy(&said.stdout).into_owned();
    let paths = text.lines().filter_map(|line| {
        let path = line.split_whitespace().find(|word| word.starts_with('/'))?;
        Some(PathBuf::from(path))
    });
    paths.collect()
}

fn files_below(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).collect()
}

/// The files of the small image.
fn small() -> tempfile::TempDir {
    let root = tempfile::tempdir().expect("a temporary folder can be made");
    engine::lay_out(root.path());
    root
}

fn put(path: &Path, text: &str, mode: u32) {
    fs::write(path, text).expect("the folder is ours");
    fs::set_permissions(path, PermissionsExt::from_mode(mode)).expect("the folder is ours");
}

fn import(root: &Path, image: &str, changes: &[&str]) {
    let mut command = Command::new("sh");
    let line = "root=$1; image=$2; shift 2; tar --owner=0 --group=0 -C \"$root\" -c . | docker import \"$@\" - \"$image\"";
    command.args(["-c", line, "sh"]).arg(root).arg(image);
    for change in changes {
        command.args(["--change", change]);
    }
    let made = command.output().expect("sh is there");
    let said = String::from_utf8_lossy(&made.stderr).into_owned();
    assert!(made.status.success(), "{image}: {said}");
    assert!(docker(&["image", "inspect", image]).is_some(), "{image}");
}
