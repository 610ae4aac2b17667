//! Attempts to get out that only a kernel and a real engine can refuse: an ordinary user, in a job, against the agent,
//! and then in a container, against the host. What the agent decides by itself is in the supervisor's `escape_tests`.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use capstan_tests::engine::{self, IMAGE, docker};
use capstan_tests::{Cluster, User, images, wait_until};

use crate::is_root;

/// A cluster with volumes of its own, and two users with folders in them.
struct Site {
    cluster: Cluster,
    volumes: tempfile::TempDir,
    alice: User,
    bob: User,
}

impl Site {
    fn up() -> Option<Self> {
        if !is_root() || !engine::is_there() {
            return None;
        }
        let volumes = tempfile::Builder::new()
            .prefix("capstan-volumes-")
            .tempdir();
        let volumes = volumes.unwrap();
        let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        fs::set_permissions(volumes.path(), open).unwrap();
        let (alice, bob) = (User::alice(), User::bob());
        for volume in ["ghome", "gdata"] {
            for user in [&alice, &bob] {
                let folder = volumes.path().join(volume).join(user.name);
                fs::create_dir_all(&folder).unwrap();
                user.own(&folder);
            }
        }
        fs::create_dir_all(volumes.path().join("gpub/set")).unwrap();
        let root = volumes.path().to_string_lossy().into_owned();
        let cluster = Cluster::up(&[
            "--nodes",
            "1",
            "--cores",
            "4",
            "--cards",
            "2",
            "--debug",
            "--volumes",
            &root,
        ]);
        Some(Self {
            cluster,
            volumes,
            alice,
            bob,
        })
    }

    fn data(&self, user: &User) -> PathBuf {
        self.volumes.path().join("gdata").join(user.name)
    }

    /// Runs a script as a job of alice's to its end; its output and errors.
    fn job(&self, name: &str, options: &str, script: &str) -> String {
        let folder = self.alice.folder(name);
        let options = format!("-d . -j oe -o {}/out {options}", folder.display());
        let job = self.cluster.submit(&self.alice, &folder, &options, script);
        self.cluster.wait_state(&job, "C");
        wait_until("the output is there", || {
            fs::read_to_string(folder.join("out"))
        })
    }

    fn log(&self) -> String {
        fs::read_to_string(self.cluster.path().join("log/node01.log")).unwrap_or_default()
    }
}

/// The lines between `== NAME` and the next such line.
fn part<'a>(output: &'a str, name: &str) -> &'a str {
    let start = format!("== {name}\n");
    let (_, rest) = output
        .split_once(&start)
        .unwrap_or_else(|| panic!("no {name:?} in {output}"));
    rest.split("\n== ").next().unwrap_or(rest)
}

/// What is tried, the words of startdocker, and a part of the reason.
const REFUSED: &[(&str, &str, &str)] = &[
    ("privileged", "-u --privileged", "root on this node"),
    (
        "capability",
        "-u '--cap-add SYS_ADMIN'",
        "root on this node",
    ),
    ("disk", "-u '--device /dev/vda'", "belongs to others"),
    ("processes", "-u --pid=host", "belongs to others"),
    ("host name", "-u --uts=host", "belongs to others"),
    ("users", "-u --userns=host", "root on this node"),
    ("network", "-u --network=host", "does not allow"),
    ("cgroup", "-u --cgroup-parent=/", "limits of your job"),
    ("volumes-from", "-u '--volumes-from x'", "belongs to others"),
    ("root user", "-u '-u 0'", "it is not you"),
    ("label", "-u '-l capstan.attempt=1'", "Capstan's"),
    ("root folder", "-u '-v /:/x'", "the root folder"),
    ("proc", "-u '-v /proc:/x'", "system folder"),
    ("sys", "-u '-v /sys:/x'", "system folder"),
    (
        "socket",
        "-u '-v /var/run/docker.sock:/x'",
        "neither a folder nor a plain file",
    ),
    (
        "socket by its place",
        "-u '-v /run/docker.sock:/x'",
        "neither a folder nor a plain file",
    ),
    (
        "socket by a link",
        "-u '-v OWN/docker:/x'",
        "neither a folder nor a plain file",
    ),
    (
        "socket by the root",
        "-u '-v /proc/self/root/run/docker.sock:/x'",
        "cannot mount",
    ),
    ("engine", "-u '-v /var/lib/docker:/x'", "cannot mount"),
    ("bob", "-D BOBS", "another user"),
    ("bob by dots", "-u '-v OWN/../BOB:/x'", "another user"),
    ("bob by a link", "-D OWN/bob", "another user"),
    ("shell in the image", "'a;id'", "no image name"),
    ("shell in the name", "-u '--name $(id)'", "letters, digits"),
];

#[test]
fn a_job_cannot_have_a_container_that_leads_out_of_it() {
    let Some(site) = Site::up() else { return };
    let (own, bobs) = (site.data(&site.alice), site.data(&site.bob));
    let (own, bobs) = (own.display().to_string(), bobs.display().to_string());
    let of_site = |text: &str| {
        let text = text.replace("OWN", &own).replace("BOBS", &bobs);
        text.replace("BOB", site.bob.name)
    };
    let mut script = format!("ln -s /var/run/docker.sock {own}/docker; ln -s {bobs} {own}/bob\n");
    for (name, words, _) in REFUSED {
        let words = of_site(words);
        let image = if *name == "shell in the image" {
            ""
        } else {
            IMAGE
        };
        script += &format!(
            "echo \"== {name}\"; startdocker -c 'echo GOT THROUGH' {words} {image} 2>&1; echo \"rc=$?\"\n"
        );
    }
    let output = site.job("escape-options", "-l nodes=1:gpus=1", &script);
    let log = site.log();
    for (name, _, said) in REFUSED {
        let part = part(&output, name);
        assert!(part.contains(said), "{name}: {part}");
        assert!(part.contains("rc=125"), "{name}: {part}");
        assert!(!part.contains("GOT THROUGH"), "{name}: {part}");
        assert!(log.contains(said), "{name} is not in the log");
    }
}

/// What is tried inside, the line, and what must come of it.
const INSIDE: &[(&str, &str, &str)] = &[
    ("identity", "id -u", "UID"),
    (
        "capabilities",
        "grep CapEff /proc/self/status",
        "0000000000000000",
    ),
    (
        "capabilities to come",
        "grep CapBnd /proc/self/status",
        "0000000000000000",
    ),
    (
        "no new privileges",
        "grep NoNewPrivs /proc/self/status",
        "NoNewPrivs:\t1",
    ),
    ("seccomp", "grep Seccomp: /proc/self/status", "Seccomp:\t2"),
    ("first process", "cat /proc/1/comm", "init"),
    ("mount", "mount -t tmpfs x /tmp || echo refused", "refused"),
    ("unmount", "umount /etc/passwd || echo refused", "refused"),
    (
        "device file",
        "mknod /tmp/disk b 8 0 || echo refused",
        "refused",
    ),
    (
        "user namespace",
        "unshare -U true || echo refused",
        "refused",
    ),
    (
        "mount namespace",
        "unshare -m true || echo refused",
        "refused",
    ),
    (
        "another namespace",
        "nsenter -t 1 -m true || echo refused",
        "refused",
    ),
    (
        "kernel setting",
        "(echo 1 > /proc/sys/kernel/sysrq) 2>&1 || echo refused",
        "refused",
    ),
    (
        "cgroup",
        "(echo 1 > /sys/fs/cgroup/cgroup.procs) 2>&1 || echo refused",
        "refused",
    ),
    (
        "memory limit",
        "(echo -1 > /sys/fs/cgroup/memory/memory.limit_in_bytes) 2>&1 || echo refused",
        "refused",
    ),
    (
        "users file",
        "(echo x >> /etc/passwd) 2>&1 || echo refused",
        "refused",
    ),
    (
        "node list",
        "(echo x >> $PBS_NODEFILE) 2>&1 || echo refused",
        "refused",
    ),
    (
        "public area",
        "touch VOLUMES/gpub/x || echo refused",
        "refused",
    ),
    ("own file", "touch HOME/mine; stat -c %u HOME/mine", "UID"),
    (
        "another's file",
        "chown 0 HOME/mine || echo refused",
        "refused",
    ),
    (
        "engine's socket",
        "ls /var/run/docker.sock /run/docker.sock || echo refused",
        "refused",
    ),
    (
        "agent's door",
        "ls /run/capstan* || echo refused",
        "refused",
    ),
    ("host's processes", "ls /proc | grep -c '^[0-9]'", ""),
    (
        "cards of others",
        "echo cards=$NVIDIA_VISIBLE_DEVICES=$CUDA_VISIBLE_DEVICES",
        "=0",
    ),
];

#[test]
fn a_program_in_a_container_cannot_leave_it() {
    let Some(site) = Site::up() else { return };
    if images::matrix().is_none() {
        return;
    }
    let image = images::USER.name;
    let home = site.volumes.path().join("ghome").join(site.alice.name);
    let uid = site.alice.uid;
    let mount = format!("-v {}:/data", site.data(&site.alice).display());
    // Each line must fail, or say what a user may know.
    let of_site = |text: &str| {
        let volumes = site.volumes.path().display().to_string();
        let text = text.replace("HOME/", &format!("{}/", home.display()));
        text.replace("VOLUMES", &volumes)
            .replace("UID", &uid.to_string())
    };
    let mut script = String::new();
    for (name, line, _) in INSIDE {
        let line = of_site(line);
        script += &format!(
            "echo \"== {name}\"; startdocker -u '{mount}' -c \"{}\" {image} 2>&1\n",
            line.replace('$', "\\$")
        );
    }
    let output = site.job("escape-inside", "-l nodes=1:gpus=1", &script);
    for (name, _, said) in INSIDE {
        let said = of_site(said);
        let part = part(&output, name);
        assert!(part.contains(said.as_str()), "{name}: {part}");
        assert!(!part.contains("root:"), "{name}: {part}");
    }
    let line = "rootbash -p -c 'echo euid=$EUID'; rootbash -p -c 'cat /etc/shadow'";
    let debian = images::DEBIAN.name;
    let of_debian = docker(&["image", "inspect", debian]).is_some();
    let output_of_set_uid = site.job(
        "escape-set-uid",
        "",
        &format!(
            "startdocker -c \"{}\" {debian} 2>&1",
            line.replace('$', "\\$")
        ),
    );
    assert!(
        !of_debian || output_of_set_uid.contains(&format!("euid={uid}")),
        "set-uid: {output_of_set_uid}"
    );
    let processes = part(&output, "host's processes").trim();
    assert!(
        processes.parse::<u32>().is_ok_and(|count| count < 20),
        "{processes}"
    );
    assert!(
        !part(&output, "cards of others").contains("all"),
        "{output}"
    );
    let owner = fs::metadata(home.join("mine")).unwrap().uid();
    assert_eq!(owner, uid, "written as the user, not as root");
}

#[test]
fn a_folder_that_is_swapped_while_it_is_checked_shows_nothing_of_anybody_else() {
    let Some(site) = Site::up() else { return };
    let bobs = site.data(&site.bob);
    fs::write(bobs.join("secret"), "bob's secret\n").unwrap();
    let own = site.data(&site.alice);
    let script = format!(
        "cd {}\nmkdir mine; echo mine > mine/secret\n\
         (while :; do ln -sfn mine swap 2>/dev/null; ln -sfn {} swap; ln -sfn / swap; done) & racer=$!\n\
         for i in `seq 25`; do startdocker -u \"-v $PWD/swap:/x\" -c 'cat /x/secret /x/etc/shadow' {IMAGE} 2>/dev/null; done\n\
         kill $racer; echo '== end'\n",
        own.display(),
        bobs.display()
    );
    let output = site.job("escape-race", "", &script);
    assert!(output.contains("== end"), "{output}");
    assert!(!output.contains("bob's secret"), "{output}");
    assert!(!output.contains("root:"), "{output}");
}

#[test]
fn nobody_gets_into_another_job() {
    let Some(site) = Site::up() else { return };
    let folder = site.alice.folder("escape-victim");
    let line = format!("startdocker -c 'touch in-container; sleep 600' {IMAGE}");
    let victim = site
        .cluster
        .submit(&site.alice, &folder, "-d . -l nodes=1:gpus=1", &line);
    wait_until("the victim's container runs", || {
        match folder.join("in-container").exists() {
            true => Ok(()),
            false => Err(site.cluster.attribute(&victim, "job_state")),
        }
    });
    // From outside of any job, by variables.
    let forged = format!(
        "PBS_JOBID={victim} PBS_ENVIRONMENT=PBS_BATCH startdocker -c 'echo GOT THROUGH' {IMAGE}"
    );
    let door = format!(
        "CAPSTAN_AGENT_SOCKET={}",
        door(site.cluster.path()).display()
    );
    for user in [&site.alice, &site.bob] {
        let ran = site.cluster.sh(user, &format!("{door} {forged}"));
        assert_eq!(ran.status, 125, "{ran:?}");
        assert!(ran.stderr.contains("runs in no job"), "{ran:?}");
    }
    // From a job of bob's: the container is bob's job's, whatever it says of itself.
    let bobs = site.bob.folder("escape-forger");
    let script = format!(
        "PBS_JOBID={victim} startdocker -c 'id -un; sleep 1' {IMAGE}; {forged}; pbs_track -j {victim} -b -- id"
    );
    let options = "-d . -j oe -o out -l nodes=1";
    let forger = site.cluster.submit(&site.bob, &bobs, options, &script);
    site.cluster.wait_state(&forger, "C");
    let output = wait_until("the output is there", || {
        fs::read_to_string(bobs.join("out"))
    });
    assert!(output.contains(site.bob.name), "{output}");
    assert!(!output.contains(site.alice.name), "{output}");
    let log = site.log();
    assert!(log.contains("runs in no job"), "{log}");
    let containers = site.cluster.containers_of(&victim);
    assert_eq!(containers.lines().count(), 1, "only its own");
    site.cluster
        .sh(&site.alice, &format!("qdel -W 0 {victim}"))
        .ok();
    site.cluster.wait_state(&victim, "C");
}

#[test]
fn a_flooded_door_lets_others_in_and_outlives_it() {
    let Some(site) = Site::up() else { return };
    let socket = door(site.cluster.path());
    let mut held = Vec::new();
    // As many as the kernel gives us; none says anything.
    for _ in 0..600 {
        match std::os::unix::net::UnixStream::connect(&socket) {
            Ok(stream) => held.push(stream),
            Err(_) => break,
        }
    }
    let flood = "for i in `seq 300`; do startdocker -u --privileged -c id x >/dev/null 2>&1 & done; wait; echo flooded\n";
    let flooded = site.job("escape-flood", "", flood);
    assert!(flooded.contains("flooded"), "{flooded}");
    let output = site.job(
        "escape-after",
        "",
        &format!("startdocker -c 'echo still here' {IMAGE}"),
    );
    assert!(output.contains("still here"), "{output}");
    let refusals = site.log().matches("container refused").count();
    assert!(
        refusals > 0 && refusals < 120,
        "{refusals} lines for 300 refusals"
    );
    drop(held);
}

/// The agent's door, wherever `scripts/cluster` put it.
fn door(cluster: &Path) -> PathBuf {
    cluster.join("nodes/node01/run/agent.sock")
}
