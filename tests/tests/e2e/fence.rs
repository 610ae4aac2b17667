//! Cards against processes that they are not lent to: what a job's processes can open, by the kernel's word, and what
//! becomes of a process on a card that belongs to no job.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};

use capstan_tests::engine::{self, IMAGE};
use capstan_tests::{Cluster, User, wait_until};
use nix::sys::stat::{Mode, SFlag, makedev, mknod};

use crate::cards::{Driver, node_says};
use crate::is_root;
use crate::life::{cluster_of, hook};

/// The driver's nodes need no driver to be refused: what is closed is "not permitted", what is open and has no driver is
/// "no such device".
const CLOSED: &str = "Operation not permitted";
const OPEN: &str = "No such device or address";

/// Nodes of two cards, and the one that belongs to all.
const MINORS: [u32; 3] = [0, 1, 255];

fn card_nodes(cluster: &Cluster) {
    let folder = cluster.path().join("dev");
    fs::create_dir(&folder).unwrap();
    for minor in MINORS {
        let path = folder.join(format!("nvidia{minor}"));
        let kind = SFlag::S_IFCHR;
        mknod(&path, kind, Mode::all(), makedev(195, minor.into())).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o666)).unwrap();
    }
}

/// A shell line that tries all nodes, a line each.
fn tries(cluster: &Cluster) -> String {
    let folder = cluster.path().join("dev");
    format!(
        "for n in 0 1 255; do LC_ALL=C cat {}/nvidia$n 2>&1; done",
        folder.display()
    )
}

/// What was seen of the three nodes, in order.
#[track_caller]
fn check(file: &Path, expected: [&str; 3]) {
    let text = wait_until("all nodes were tried", || {
        let text = fs::read_to_string(file).unwrap_or_default();
        match text.lines().count() {
            3 => Ok(text),
            _ => Err(text),
        }
    });
    for (line, expected) in text.lines().zip(expected) {
        assert!(line.ends_with(expected), "{}: {text}", file.display());
    }
}

/// What a job with the card of this index may open.
fn own(index: &str) -> [&'static str; 3] {
    match index {
        "0" => [OPEN, CLOSED, OPEN],
        "1" => [CLOSED, OPEN, OPEN],
        other => panic!("no such card: {other}"),
    }
}

/// Goal: whichever way of the kernel's is used, the script, its tasks and the user's prologue open the job's own cards
/// only, without a card none, and the site's prologue all; a restart of the agent changes nothing.
#[test]
fn a_job_opens_its_own_cards_and_no_others() {
    if !is_root() {
        return;
    }
    for setting in ["auto", "program"] {
        let settings = format!("device_cgroup = '{setting}'\nhooks_dir = 'DIR/hooks'");
        let mut cluster = cluster_of(1, &["--cores", "4", "--cards", "2"], &settings);
        card_nodes(&cluster);
        let alice = User::alice();
        let folder = alice.folder(&format!("fence-{setting}"));
        let tries = tries(&cluster);
        let whole = folder.display();
        let into = |name: &str| {
            format!("({tries}) >{whole}/$1.{name}.new; mv {whole}/$1.{name}.new {whole}/$1.{name}")
        };
        hook(&cluster, "prologue", 0o500, &into("site"));
        hook(&cluster, "prologue.user", 0o555, &into("prologue"));
        let script = format!(
            "set -- $PBS_JOBID; ({tries}) >first; sed 's/.*-gpu//' $PBS_GPUFILE >card; pbsdsh -n 0 /bin/sh -c \"({}) >{whole}/task\"; while [ ! -e go ]; do sleep 0.1; done; ({tries}) >again",
            tries.replace('$', "\\$")
        );
        let job = cluster.submit(&alice, &folder, "-l nodes=1:gpus=1 -d .", &script);
        let card = wait_until("the card is told", || {
            let card = fs::read_to_string(folder.join("card")).unwrap_or_default();
            match card.trim() {
                "" => Err(()),
                card => Ok(card.to_owned()),
            }
        });
        check(&folder.join("first"), own(&card));
        check(&folder.join("task"), own(&card));
        check(&folder.join(format!("{job}.prologue")), own(&card));
        check(&folder.join(format!("{job}.site")), [OPEN; 3]);
        cluster.kill("node01");
        cluster.start("node01");
        cluster.wait_nodes();
        fs::write(folder.join("go"), "").unwrap();
        check(&folder.join("again"), own(&card));
        cluster.wait_state(&job, "C");
        // At once, and again when it has moved into the rest of its groups.
        let script = format!(
            "({tries}) >at-once; until grep -q att- /proc/self/cgroup; do sleep 0.1; done; ({tries}) >later"
        );
        let job = cluster.submit(&alice, &folder, "-d .", &script);
        cluster.wait_state(&job, "C");
        check(&folder.join("at-once"), [CLOSED; 3]);
        check(&folder.join("later"), [CLOSED; 3]);
    }
}

#[test]
fn where_jobs_must_be_containers_no_process_of_the_host_opens_a_card() {
    if !is_root() || !engine::is_there() {
        return;
    }
    let cluster = cluster_of(1, &["--cards", "2"], "hooks_dir = 'DIR/hooks'");
    card_nodes(&cluster);
    cluster
        .root("qmgr -c 'set queue batch containers = required'")
        .ok();
    let alice = User::alice();
    let folder = alice.folder("fence-contained");
    let whole = folder.display();
    let line = format!("({}) >{whole}/prologue; true", tries(&cluster));
    hook(&cluster, "prologue.user", 0o555, &line);
    let options = format!("-l nodes=1:gpus=2 -d {whole} -W image={IMAGE} -j oe -o {whole}/out");
    let job = cluster.submit(
        &alice,
        &folder,
        &options,
        "echo cards=$CUDA_VISIBLE_DEVICES",
    );
    cluster.wait_state(&job, "C");
    check(&folder.join("prologue"), [CLOSED; 3]);
    let out = fs::read_to_string(folder.join("out")).unwrap();
    let how = cluster.root(&format!("qstat -f {job}")).stdout;
    assert!(
        out.contains("cards=0,1"),
        "the container has them: {out} {how}"
    );
}

/// A process that is ended when dropped.
struct Stranger(Child);

impl Stranger {
    fn of(user: &str) -> Self {
        let mut command = Command::new("runuser");
        command.args(["-u", user, "--", "sleep", "600"]);
        Self(command.spawn().unwrap())
    }

    /// The process itself, and not what became another user for it.
    fn pid(&self) -> u32 {
        let own = self.0.id();
        wait_until("the stranger runs", || {
            let children = format!("/proc/{own}/task/{own}/children");
            let children = fs::read_to_string(children).unwrap_or_default();
            let child = children.split_whitespace().next().map(str::to_owned);
            let pid: u32 = child.ok_or("no child")?.parse().map_err(|_| "no number")?;
            let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
            match name.trim() {
                "sleep" => Ok(pid),
                _ => Err("not yet"),
            }
        })
    }
}

impl Drop for Stranger {
    fn drop(&mut self) {
        // The process itself would outlive what became another user for it.
        let own = self.0.id();
        let children = fs::read_to_string(format!("/proc/{own}/task/{own}/children"));
        for child in children.unwrap_or_default().split_whitespace() {
            Command::new("kill").args(["-KILL", child]).status().ok();
        }
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

fn is_alive(pid: u32) -> bool {
    PathBuf::from(format!("/proc/{pid}")).exists()
}

/// Goal: a process on a card that belongs to no job is told of with its user, and the card is not lent; where the site
/// wants it, it is ended, but never one of root's.
#[test]
fn a_stranger_on_a_card_is_told_of_and_ended_by_setting() {
    if !is_root() {
        return;
    }
    for (settings, is_ended) in [("", false), ("intruders_on_cards = 'end'", true)] {
        let cluster = cluster_of(1, &["--cards", "2"], settings);
        let bob = User::bob();
        let (of_bob, of_root) = (Stranger::of(bob.name), Stranger::of("root"));
        let (pid, roots) = (of_bob.pid(), of_root.pid());
        let on = |pid: u32| format!("processes = [{{ pid = {pid}, memory_mib = 700 }}]");
        Driver::of(&cluster).set(&[&on(pid), &on(roots)]);
        node_says(
            &cluster,
            &format!("in use by no job: process {roots} (sleep of root) holds 700 MiB"),
            true,
        );
        if is_ended {
            wait_until("the stranger is ended", || match is_alive(pid) {
                true => Err("alive"),
                false => Ok(()),
            });
            Driver::of(&cluster).set(&["", &on(roots)]);
            node_says(&cluster, &format!("process {pid}"), false);
        } else {
            let text = format!(
                "in use by no job: process {pid} (sleep of {}) holds 700 MiB",
                bob.name
            );
            node_says(&cluster, &text, true);
            assert!(is_alive(pid));
        }
        assert!(is_alive(roots), "root's are the site's own");
        let alice = User::alice();
        let folder = alice.folder("strangers");
        let both = cluster.submit(&alice, &folder, "-l nodes=1:gpus=2 -d .", "true");
        cluster.wait_state(&both, "Q");
        Driver::of(&cluster).set(&[]);
        cluster.wait_state(&both, "C");
    }
}

/// The kernel's own record of this priority; the number counts records, and the time is the kernel's clock.
fn kernel_says(cluster: &Cluster, texts: &[String]) {
    let uptime = fs::read_to_string("/proc/uptime").unwrap();
    let secs: f64 = uptime.split(' ').next().unwrap().parse().unwrap();
    let lines = texts
        .iter()
        .map(|text| format!("3,1,{},-;{text}\n", (secs * 1e6) as u64));
    let mut file = fs::File::options()
        .append(true)
        .open(cluster.path().join("kmsg"))
        .unwrap();
    let text: String = lines.collect();
    std::io::Write::write_all(&mut file, text.as_bytes()).unwrap();
}

/// A node that reads the kernel's log from a file, and takes no work when the kernel complains of it.
fn with_kernel_log() -> Cluster {
    let mut cluster = Cluster::up(&["--nodes", "1", "--cards", "2", "--cores", "4", "--debug"]);
    fs::write(cluster.path().join("kmsg"), "").unwrap();
    cluster.kill("node01");
    let path = cluster.path().join("nodes/node01/agent.toml");
    let before = fs::read_to_string(&path).unwrap();
    let log = cluster.path().join("kmsg");
    let settings = format!(
        "kernel_log = '{}'\nkernel_errors = 'drain'\n{before}",
        log.display()
    );
    fs::write(&path, settings).unwrap();
    cluster.start("node01");
    cluster.wait_nodes();
    cluster
}

/// What `k_log` shows a user, once that has a text.
fn log_with(cluster: &Cluster, user: &User, text: &str) -> String {
    wait_until(&format!("{} sees {text}", user.name), || {
        let ran = cluster.sh(user, "k_log node01");
        match ran.status == 0 && ran.stdout.contains(text) {
            true => Ok(ran.stdout),
            false => Err(ran),
        }
    })
}

/// Goal (S2-102): what the kernel complains of is tied to the job that was there, shown without rights to its owner and to
/// nobody else, told to the job and in the node's message, and nothing is started on such a node where the site wants
/// that.
#[test]
fn a_kernel_error_is_tied_to_its_job_and_shown_without_rights_s2_102() {
    if !is_root() {
        return;
    }
    let mut cluster = with_kernel_log();
    let (alice, bob) = (User::alice(), User::bob());
    let folder = alice.folder("klog");
    let script = "until grep -q att- /proc/self/cgroup; do sleep 0.05; done; grep -m1 att- /proc/self/cgroup | cut -d: -f3 >group; echo $$ >pid; while [ ! -e go ]; do sleep 0.1; done";
    let job = cluster.submit(&alice, &folder, "-d . -e err -l nodes=1:gpus=1", script);
    let told = |name: &str| {
        wait_until("the job tells", || {
            let text = fs::read_to_string(folder.join(name)).unwrap_or_default();
            match text.trim() {
                "" => Err(()),
                text => Ok(text.to_owned()),
            }
        })
    };
    let (pid, group) = (told("pid"), told("group"));
    let of_job = format!("[job {job} of {}]", alice.name);
    kernel_says(
        &cluster,
        &[
            format!(
                "oom-kill:constraint=CONSTRAINT_MEMCG,task_memcg={group},task=tail,pid=999999,uid=1"
            ),
            "Memory cgroup out of memory: Killed process 999999 (tail) total-vm:1kB".to_owned(),
            "nfs: server nas1 not responding, still trying".to_owned(),
        ],
    );
    let seen = |user: &User, text: &str| log_with(&cluster, user, text);
    let own = seen(&alice, "nas1");
    assert_eq!(own.matches(&of_job).count(), 2, "{own}");
    let others = seen(
        &bob,
        "nas1 not responding, still trying [while there: another user's job]",
    );
    assert!(
        !others.contains("oom-kill") && !others.contains("tail"),
        "{others}"
    );
    node_says(&cluster, "kernel: nfs: server nas1 not responding", true);
    // The kernel says behind an error who was running.
    kernel_says(
        &cluster,
        &[
            "SLUB: Unable to allocate memory on node -1".to_owned(),
            format!("CPU: 1 UID: 1000 PID: {pid} Comm: python Tainted: P"),
        ],
    );
    let own = seen(&alice, "SLUB");
    assert!(own.contains(&format!("on node -1 {of_job}")), "{own}");
    let others = seen(&bob, "SLUB");
    assert!(others.contains("SLUB [another user's job]"), "{others}");
    node_says(
        &cluster,
        "ERROR kernel: SLUB: Unable to allocate memory on node -1",
        true,
    );
    let err = told("err");
    assert!(
        err.contains("the kernel complains of this job: SLUB:"),
        "{err}"
    );
    until_somebody_looks(&cluster, &bob);
    let none = cluster.sh(&bob, "k_log nowhere");
    assert_ne!(none.status, 0, "{none:?}");
    read_again(&mut cluster, &bob);
    assert_eq!(told("err"), err);
    hears_on(&cluster);
    fs::write(folder.join("go"), "").unwrap();
    cluster.wait_state(&job, "C");
}

/// An agent that reads the log again neither drains its node anew nor repeats itself to the job.
fn read_again(cluster: &mut Cluster, user: &User) {
    cluster.kill("node01");
    cluster.start("node01");
    cluster.wait_nodes();
    node_says(cluster, "kernel: SLUB: Unable to allocate memory", true);
    let next = cluster.submit(user, &user.folder("klog"), "-d .", "true");
    cluster.wait_state(&next, "C");
}

fn hears_on(cluster: &Cluster) {
    kernel_says(cluster, &["BUG: the next one".to_owned()]);
    node_says(cluster, "ERROR kernel: BUG: the next one", true);
}

/// Nothing is started until an administrator has looked at it: then work comes back, and the words stay for their hour.
fn until_somebody_looks(cluster: &Cluster, user: &User) {
    let next = cluster.submit(user, &user.folder("klog"), "-d .", "true");
    cluster.wait_state(&next, "Q");
    cluster.root("pbsnodes -r node01").ok();
    cluster.wait_state(&next, "C");
    node_says(cluster, "message=ERROR kernel", false);
    node_says(cluster, "kernel: SLUB: Unable to allocate memory", true);
}

/// Goal: who used what this month is told by the accounting log, to everybody or to each of his own.
#[test]
fn a_month_is_reported_by_user() {
    if !is_root() {
        return;
    }
    let cluster = Cluster::up(&["--nodes", "1", "--cards", "2", "--cores", "4", "--debug"]);
    let (alice, bob) = (User::alice(), User::bob());
    for (user, script) in [(&alice, "sleep 1.2"), (&alice, "exit 3"), (&bob, "true")] {
        let folder = user.folder("report");
        let job = cluster.submit(user, &folder, "-d . -l nodes=1:gpus=2", script);
        cluster.wait_state(&job, "C");
    }
    let row = |text: &str, name: &str| {
        let line = text
            .lines()
            .find(|line| line.split_whitespace().nth(1) == Some(name));
        line.map(|line| {
            line.split_whitespace()
                .map(str::to_owned)
                .collect::<Vec<_>>()
        })
    };
    // The log is written by a thread of its own, and sums are good for a minute: each look is at another month's sums.
    let log = format!("cat {}/accounting/*", cluster.server_state().display());
    wait_until("the log has all", || {
        let text = cluster.root(&log).stdout;
        match text.matches(";E;").count() {
            3 => Ok(()),
            _ => Err(text),
        }
    });
    let all = cluster.sh(&bob, "get_report").ok();
    let of_alice = row(&all, alice.name).unwrap_or_else(|| panic!("{all}"));
    assert_eq!(of_alice[2..4], ["2", "1"], "{all}");
    assert!(row(&all, bob.name).is_some(), "{all}");
    cluster
        .root("qmgr -c 'set server query_other_jobs = False'")
        .ok();
    let own = cluster.sh(&bob, "get_report").ok();
    assert!(
        row(&own, bob.name).is_some() && row(&own, alice.name).is_none(),
        "{own}"
    );
    let none = cluster.sh(&bob, "get_report -m 199901").ok();
    assert!(none.ends_with("No job has ended."), "{none}");
    let wrong = cluster.sh(&bob, "get_report -m November");
    assert!(
        wrong.status != 0 && wrong.stderr.contains("YYYYMM"),
        "{wrong:?}"
    );
}
