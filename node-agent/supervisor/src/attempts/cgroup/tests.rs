//! The rules of finding hierarchies, and attempts in them.

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
