//! The fence against the kernel of this host, in each way that it has: what may be opened from inside, and that nothing is
//! left.

use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};

use nix::sys::stat::{Mode, SFlag, makedev, mknod};

use super::super::cgroup::{Bounds, Cgroup};
use super::*;
use crate::attempts::record::Entry;
use crate::ports::CardDevice;

/// The driver's device nodes need no driver to be refused: what is closed answers "not permitted", what is open and not
/// there "no such device".
const CLOSED: &str = "Operation not permitted";
const OPEN: &str = "No such device";

/// What an attempt to open `node` from within `group` (as it is entered) says.
fn opened(cgroup: Option<&Cgroup>, fence: &Fence, node: &Path) -> String {
    let shell = format!("read go; LC_ALL=C cat {}", node.display());
    let mut child = Command::new("sh")
        .args(["-c", &shell])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let none = Path::new(&fence.root).join(NO_CARDS).join("cgroup.procs");
    match cgroup {
        Some(cgroup) => cgroup.adopt(child.id()).unwrap(),
        None => fs::write(none, child.id().to_string()).unwrap(),
    }
    drop(child.stdin.take());
    String::from_utf8(child.wait_with_output().unwrap().stderr).unwrap()
}

#[test]
#[expect(clippy::print_stderr, reason = "says aloud what it skips")]
fn a_process_opens_the_nodes_of_its_own_cards_and_no_others() {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("skipped: not root");
        return;
    }
    for setting in [DeviceCgroup::Auto, DeviceCgroup::Program] {
        let mut tree = CgroupTree::find(&format!("capstan/fence-{}", std::process::id()));
        match tree.fence_cards(setting) {
            Ok(()) => check_fence(&tree),
            Err(problem) => eprintln!("skipped: {setting:?}: {problem}: {problem:?}"),
        }
        tree.remove();
    }
}

fn check_fence(tree: &CgroupTree) {
    let folder = tempfile::tempdir().unwrap();
    let node = |minor: u32| {
        let path = folder.path().join(format!("nvidia{minor}"));
        let mode = Mode::from_bits_truncate(0o666);
        mknod(&path, SFlag::S_IFCHR, mode, makedev(195, minor.into())).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o666)).unwrap();
        path
    };
    let (own, other, control) = (node(1), node(0), node(255));
    let nodes = CardNodes::default();
    let device = CardDevice {
        minor: 1,
        part: None,
    };
    let uuid = CardId::from("GPU-1");
    nodes.0.lock().unwrap().insert(
        uuid,
        OwnCard {
            device,
            pci_address: String::new(),
        },
    );
    let card = Card {
        uuid: "GPU-1".into(),
        ..Card::default()
    };
    let spec = |attempt, cards: &[Card], only| LaunchSpec {
        attempt,
        cards: cards.to_vec(),
        cards_in_containers_only: only,
        ..LaunchSpec::default()
    };
    let check = |spec: LaunchSpec, expected: [&str; 3]| {
        let fence = tree.fence(&spec, &nodes).unwrap();
        let entry = Entry {
            cgroups: tree.folders(capstan_types::AttemptId(spec.attempt)),
            fence: Some(fence.clone()),
            spec,
            ..Entry::default()
        };
        let cgroup = Cgroup::at(&entry.cgroups).unwrap();
        // Made twice, as when an attempt enters its other groups later.
        cgroup.create(&Bounds::of(&entry)).unwrap();
        cgroup.create(&Bounds::of(&entry)).unwrap();
        for (path, expected) in [&own, &other, &control].into_iter().zip(expected) {
            let said = opened(Some(&cgroup), &fence, path);
            assert!(said.contains(expected), "{path:?}: {said}, not {expected}");
        }
        let said = opened(Some(&cgroup), &fence, Path::new("/dev/null"));
        assert_eq!(said, "", "other devices are left alone");
        assert!(cgroup.remove());
        fence
    };
    check(
        spec(1, std::slice::from_ref(&card), false),
        [OPEN, CLOSED, OPEN],
    );
    check(spec(2, &[], false), [CLOSED; 3]);
    let fence = check(spec(3, &[card], true), [CLOSED; 3]);
    assert!(opened(None, &fence, &own).contains(CLOSED));
    let site = Cgroup::at(&[fence.site()]).unwrap();
    assert!(opened(Some(&site), &fence, &own).contains(OPEN));
}

#[test]
fn a_group_is_known_by_the_end_of_its_path() {
    let group = Path::new("/sys/fs/cgroup/devices/capstan/1a2b/no-cards");
    assert!(is_group("5:devices:/capstan/1a2b/no-cards", group));
    assert!(!is_group("5:devices:/capstan/1a2c/no-cards", group));
    assert!(!is_group("5:devices:/no-cards", group));
    assert!(!is_group("5:devices:/", group));
    assert!(!is_group("0::/capstan/1a2b/no-cards/x", group));
}
