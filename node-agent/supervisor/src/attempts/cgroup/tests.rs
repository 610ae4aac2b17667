//! The rules of finding hierarchies, and attempts in them.

use super::bounds::CoreBound;
use super::*;

const HYBRID: &str = "tmpfs /sys/fs/cgroup tmpfs rw 0 0
cgroup /sys/fs/cgroup/cpu,cpuacct cgroup rw,relatime,cpu,cpuacct 0 0
cgroup /sys/fs/cgroup/memory cgroup rw,relatime,memory 0 0
cgroup /sys/fs/cgroup/freezer cgroup rw,relatime,freezer 0 0
cgroup2 /sys/fs/cgroup/unified cgroup2 rw,relatime 0 0
";

#[test]
fn version_1_with_a_freezer_wins_over_an_empty_version_2() {
    let found = hierarchies(HYBRID);
    let names: Vec<&str> = found.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["freezer", "memory", "cpu", "cpuacct"]);
    let unified = hierarchies("cgroup2 /sys/fs/cgroup cgroup2 rw 0 0\n");
    assert_eq!(unified, [(String::new(), PathBuf::from("/sys/fs/cgroup"))]);
    assert!(hierarchies("proc /proc proc rw 0 0\n").is_empty());
}

fn check(groups: &str, decisive: &str, expected: Option<u64>) {
    let seen = attempt_in(groups, decisive, "capstan/ab");
    assert_eq!(seen, expected.map(AttemptId), "{groups}");
}

#[test]
fn only_the_decisive_hierarchy_tells_the_attempt() {
    check("6:freezer:/capstan/ab/att-57\n0::/\n", "freezer", Some(57));
    check(
        "6:freezer:/capstan/ab/att-57/docker-1\n",
        "freezer",
        Some(57),
    );
    check(
        "2:cpu,cpuacct:/capstan/ab/att-57\n6:freezer:/\n",
        "freezer",
        None,
    );
    check("0::/capstan/ab/att-9/job\n", "", Some(9));
    check("0::/capstan/abc/att-9\n", "", None);
    check("0::/user/capstan/ab/att-9\n", "", None);
    check("0::/capstan/ab/att-x\n", "", None);
    check("", "", None);
}

/// In each version that this host has: a family that forks is gathered, attributed, killed to the last one with those
/// below its group, and leaves no folder.
#[test]
#[expect(clippy::print_stderr, reason = "says aloud what it skips")]
fn every_version_gathers_and_kills_a_family() {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("skipped: not root");
        return;
    }
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
    let unified = mounts.lines().filter_map(|line| {
        let fields: Vec<&str> = line.split(' ').collect();
        (fields[2] == "cgroup2").then(|| vec![(String::new(), PathBuf::from(fields[1]))])
    });
    let first = hierarchies(&mounts);
    let versions: Vec<_> = unified
        .chain([first])
        .filter(|found| !found.is_empty())
        .collect();
    if versions.is_empty() {
        eprintln!("skipped: no cgroups");
    }
    for mounts in versions {
        check_family(mounts);
    }
}

fn check_family(mounts: Vec<(String, PathBuf)>) {
    let tree = CgroupTree {
        base: format!("capstan/test-{}", std::process::id()),
        mounts,
        fence: None,
    };
    tree.hand_down_controllers();
    let attempt = AttemptId(1);
    let cgroup = Cgroup::at(&tree.folders(attempt)).unwrap();
    let cores = CoreBound {
        percent: 150,
        cpus: String::new(),
    };
    let bounds = Bounds::new(2, cores, Some(64 << 20));
    cgroup.create(&bounds).unwrap();
    let script = "setsid sleep 300 & setsid bash -c 'sleep 300; :' & wait";
    let mut parent = std::process::Command::new("bash")
        .args(["-c", script])
        .spawn()
        .unwrap();
    let pid = parent.id();
    let family = || {
        let mut family = crate::attempts::proc::family(pid);
        family.insert(pid);
        family
    };
    let deadline = Instant::now() + Duration::from_secs(10);
    while family().len() < 4 {
        assert!(Instant::now() < deadline, "the family is not complete");
        std::thread::yield_now();
    }
    cgroup.gather(family).unwrap();
    assert_eq!(tree.attempt_of(pid), Some(attempt));
    assert_eq!(tree.attempts(), [attempt]);
    assert!(cgroup.processes().len() >= 4);
    assert!(!cgroup.is_empty());
    let below = Path::new(&cgroup.folders[0].path).join("container");
    fs::create_dir(&below).unwrap();
    let mut stray = std::process::Command::new("sleep")
        .arg("300")
        .spawn()
        .unwrap();
    fs::write(below.join("cgroup.procs"), stray.id().to_string()).unwrap();
    assert_eq!(tree.attempt_of(stray.id()), Some(attempt));
    assert!(cgroup.kill_all(|| {}));
    assert!(!parent.wait().unwrap().success());
    assert!(!stray.wait().unwrap().success());
    assert!(cgroup.is_empty() && cgroup.remove() && !cgroup.exists());
    tree.remove();
}
