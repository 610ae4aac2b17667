//! Cards as jobs and operators meet them, with a driver whose answers change: what a job made of its cards, what happens
//! to a card that fails or stays dirty, and how it comes back.

use std::fs;
use std::path::PathBuf;

use capstan_tests::{Cluster, User, wait_until};

use crate::is_root;

/// The simulated driver of `node01`.
pub(crate) struct Driver(PathBuf);

impl Driver {
    pub(crate) fn of(cluster: &Cluster) -> Self {
        Self::of_node(cluster, "node01")
    }

    pub(crate) fn of_node(cluster: &Cluster, node: &str) -> Self {
        Self(
            cluster
                .path()
                .join(format!("nodes/{node}/nvml/fake-nvml.toml")),
        )
    }

    /// Puts these lines into the table of each card, by index; what was put there before is gone.
    pub(crate) fn set(&self, cards: &[&str]) {
        let plain = self.0.with_extension("plain");
        if !plain.exists() {
            fs::copy(&self.0, &plain).unwrap();
        }
        let text = fs::read_to_string(&plain).unwrap();
        let mut parts = text.split("[[cards]]");
        let mut whole = parts.next().unwrap().to_owned();
        for (index, part) in parts.enumerate() {
            let more = cards.get(index).unwrap_or(&"");
            whole.push_str(&format!("[[cards]]{part}\n{more}\n"));
        }
        let new = self.0.with_extension("next");
        fs::write(&new, whole).unwrap();
        fs::rename(new, &self.0).unwrap();
    }
}

fn up() -> Cluster {
    let cluster = Cluster::up(&["--nodes", "1", "--cores", "4", "--cards", "2", "--debug"]);
    cluster.root("qmgr -c 'set server job_footer = True'").ok();
    cluster
}

/// Waits until `pbsnodes` says `text`, or does not.
pub(crate) fn node_says(cluster: &Cluster, text: &str, is_wanted: bool) {
    wait_until(&format!("pbsnodes says {text}: {is_wanted}"), || {
        let ran = cluster.root("pbsnodes node01");
        match ran.stdout.contains(text) == is_wanted {
            true => Ok(()),
            false => Err(ran.stdout),
        }
    });
}

const WAITS: &str = "while [ ! -e go ]; do sleep 0.1; done";

/// Goal: while a job runs `qstat -f` and `qstat -G` tell how busy its cards are; afterwards it is kept with the job, in the
/// accounting log and at the end of its output.
#[test]
fn a_jobs_cards_are_told_of_while_it_runs_and_afterwards() {
    if !is_root() {
        return;
    }
    let cluster = up();
    let alice = User::alice();
    let folder = alice.folder("sampled");
    Driver::of(&cluster).set(&["utilization_percent = 80", "utilization_percent = 80"]);
    let script = format!("echo work; {WAITS}");
    let job = cluster.submit(
        &alice,
        &folder,
        "-l nodes=1:gpus=1 -d . -j oe -o out",
        &script,
    );
    cluster.wait_state(&job, "R");
    wait_until("samples are shown", || {
        let load = cluster.attribute(&job, "resources_used.gpu_util_last");
        match load.as_deref() {
            Some("80") => Ok(()),
            _ => Err(load),
        }
    });
    let wide = cluster.root("qstat -a -G").stdout;
    assert!(wide.contains(" 80%"), "{wide}");
    let plain = cluster.root("qstat -a").stdout;
    assert!(!plain.contains(" 80%"), "{plain}");
    fs::write(folder.join("go"), "").unwrap();
    cluster.wait_state(&job, "C");
    assert_eq!(
        cluster
            .attribute(&job, "resources_used.gpu_util_mean")
            .as_deref(),
        Some("80")
    );
    let out = wait_until("the footer is written", || {
        let text = fs::read_to_string(folder.join("out")).unwrap_or_default();
        match text.contains("\nexit     0: ended well\n") {
            true => Ok(text),
            false => Err(text),
        }
    });
    assert!(
        out.starts_with(&format!("work\n---- job {job} attempt ")),
        "{out}"
    );
    assert!(
        out.contains("\ngpu      mean 80 %, peak 80 % busy; "),
        "{out}"
    );
    wait_until("the accounting log has it", || {
        let line = format!(
            "grep -h ';E;{job};' {}/accounting/*",
            cluster.server_state().display()
        );
        let ran = cluster.root(&line);
        match ran.stdout.contains(" resources_used.gpu_util_peak=80 ") {
            true => Ok(()),
            false => Err(ran),
        }
    });
}

/// Goal: what tasks use on a node where the script does not run counts with the job, while it runs and afterwards: processor
/// time is added up, the load of cards is the mean over all of them.
#[test]
fn what_a_job_uses_on_its_other_nodes_is_the_jobs() {
    if !is_root() {
        return;
    }
    let cluster = Cluster::up(&["--nodes", "2", "--cores", "4", "--cards", "1", "--debug"]);
    Driver::of_node(&cluster, "node02").set(&["utilization_percent = 80"]);
    let alice = User::alice();
    let folder = alice.folder("sisters-sampled");
    let script = "pbsdsh -n 1 /bin/sh -c 'while [ ! -e go ]; do :; done'";
    let options = format!(
        "-l nodes=node01:gpus=1+node02:gpus=1 -d {}",
        folder.display()
    );
    let job = cluster.submit(&alice, &folder, &options, script);
    let used = |name: &str| {
        let value = cluster.attribute(&job, &format!("resources_used.{name}"));
        value.and_then(|value| value.parse::<u32>().ok())
    };
    wait_until("the other node's load is shown", || {
        match (used("gpu_util_last"), used("cpupercent_last")) {
            (Some(40), Some(30..)) => Ok(()),
            other => Err(other),
        }
    });
    fs::write(folder.join("go"), "").unwrap();
    cluster.wait_state(&job, "C");
    assert_eq!(used("gpu_util_peak"), Some(80));
    let cput = cluster.attribute(&job, "resources_used.cput").unwrap();
    assert_ne!(cput, "00:00:00");
}

/// Goal: nothing of it where the site wants none.
#[test]
fn a_site_that_wants_no_footer_and_no_samples_has_none() {
    if !is_root() {
        return;
    }
    let cluster = up();
    cluster.root("qmgr -c 'set server job_footer = False'").ok();
    cluster
        .root("qmgr -c 'set server job_samples = False'")
        .ok();
    let alice = User::alice();
    let folder = alice.folder("untold");
    let script = format!("echo work; {WAITS}");
    let job = cluster.submit(
        &alice,
        &folder,
        "-l nodes=1:gpus=1 -d . -j oe -o out",
        &script,
    );
    cluster.wait_state(&job, "R");
    wait_until("usage is shown", || {
        let used = cluster.attribute(&job, "resources_used.mem");
        used.map(|_| ()).ok_or("none")
    });
    let full = cluster.root(&format!("qstat -f {job}")).stdout;
    assert!(
        !full.contains("gpu_util") && !full.contains("cpupercent"),
        "{full}"
    );
    fs::write(folder.join("go"), "").unwrap();
    cluster.wait_state(&job, "C");
    assert_eq!(fs::read_to_string(folder.join("out")).unwrap(), "work\n");
    let full = cluster.root(&format!("qstat -f {job}")).stdout;
    assert!(!full.contains("cpupercent"), "{full}");
}

/// Goal: an error of the program costs no card and is told to its job; a failed card is drained, its job is put back and
/// runs on the other one, the administrator sees why, and `pbsnodes -r` brings the card back.
#[test]
fn a_failed_card_is_drained_and_its_job_runs_elsewhere() {
    if !is_root() {
        return;
    }
    let cluster = up();
    let alice = User::alice();
    let folder = alice.folder("failed-card");
    let driver = Driver::of(&cluster);
    let script = format!("echo $CUDA_VISIBLE_DEVICES >> cards; {WAITS}");
    let job = cluster.submit(
        &alice,
        &folder,
        "-l nodes=1:gpus=1 -d . -e err -r y",
        &script,
    );
    let lent = || fs::read_to_string(folder.join("cards")).unwrap_or_default();
    let first = wait_until("the job runs", || match lent().lines().next() {
        Some(card) => Ok(card.to_owned()),
        None => Err("not yet"),
    });
    let text = fs::read_to_string(&driver.0).unwrap();
    let is_first_card = text.find(&first) < text.rfind("[[cards]]");
    let with = |xids: &str| {
        let line = format!("xid_events = {xids}");
        match is_first_card {
            true => driver.set(&[&line]),
            false => driver.set(&["", &line]),
        }
    };
    // The agent listens a moment after its start; repeated until it has heard.
    let mut xids = Vec::new();
    wait_until("the job is told of an error of its program", || {
        if xids.len() < 200 {
            xids.push("31");
        }
        with(&format!("[{}]", xids.join(",")));
        let said = fs::read_to_string(folder.join("err")).unwrap_or_default();
        match said.contains("XID 31 (memory page fault)") {
            true => Ok(()),
            false => Err(said),
        }
    });
    node_says(&cluster, "drained", false);
    xids.push("79");
    with(&format!("[{}]", xids.join(",")));
    node_says(
        &cluster,
        "drained: XID 79: the card has fallen off the bus",
        true,
    );
    let second = wait_until("the job runs again", || match lent().lines().nth(1) {
        Some(card) => Ok(card.to_owned()),
        None => Err(lent()),
    });
    assert_ne!(first, second, "a drained card was lent");
    let both = cluster.submit(&alice, &folder, "-l nodes=1:gpus=2 -d .", "true");
    fs::write(folder.join("go"), "").unwrap();
    cluster.wait_state(&job, "C");
    cluster.wait_state(&both, "Q");
    cluster.root("pbsnodes -r node01").ok();
    cluster.wait_state(&both, "C");
    node_says(&cluster, "drained", false);
}

/// Goal: a card whose memory stays in use after its job is not lent, and says why; it is lent again when it is clean.
#[test]
fn a_card_that_stays_dirty_is_quarantined_with_evidence() {
    if !is_root() {
        return;
    }
    let cluster = up();
    let alice = User::alice();
    let folder = alice.folder("dirty-card");
    let driver = Driver::of(&cluster);
    let job = cluster.submit(&alice, &folder, "-l nodes=1:gpus=2 -d .", WAITS);
    cluster.wait_state(&job, "R");
    driver.set(&["leaked_mib = 9000", ""]);
    fs::write(folder.join("go"), "").unwrap();
    cluster.wait_state(&job, "C");
    let number = job.split('.').next().unwrap();
    node_says(&cluster, &format!("quarantined: after job {number}."), true);
    node_says(&cluster, "9000 MiB are in use by no process", true);
    let one = cluster.submit(&alice, &folder, "-l nodes=1:gpus=1 -d .", "true");
    cluster.wait_state(&one, "C");
    let both = cluster.submit(&alice, &folder, "-l nodes=1:gpus=2 -d .", "true");
    cluster.wait_state(&both, "Q");
    // Released too early it is found dirty again.
    cluster.root("pbsnodes -r node01").ok();
    node_says(&cluster, "in use by no job: 9000 MiB", true);
    cluster.wait_state(&both, "Q");
    driver.set(&["", ""]);
    cluster.wait_state(&both, "C");
    node_says(&cluster, "message=card", false);
}

/// Goal: of a load that goes up and down its mean, its peak and its last value are told, of power, memory and disks as well,
/// while the job runs, afterwards and in the accounting log.
#[test]
fn a_load_that_goes_up_and_down_is_told_as_mean_peak_and_last() {
    if !is_root() {
        return;
    }
    let cluster = up();
    let alice = User::alice();
    let folder = alice.folder("curve");
    let curve = "utilization_curve = [10, 90]\ncurve_step_ms = 1300\npower_milliwatts = 123000";
    Driver::of(&cluster).set(&[curve, curve]);
    let options = "-l nodes=1:gpus=2 -d . -j oe -o out";
    let job = cluster.submit(&alice, &folder, options, WAITS);
    let used = |name: &str| {
        let value = cluster.attribute(&job, &format!("resources_used.{name}"));
        value.unwrap_or_default()
    };
    let load = |name: &str| used(&format!("gpu_util_{name}")).parse::<u32>().ok();
    wait_until("both ends of the curve are in the samples", || {
        match (load("mean"), load("peak"), load("last")) {
            (Some(11..90), Some(90), Some(10 | 90)) => Ok(()),
            other => Err(other),
        }
    });
    // Of both cards together.
    assert_eq!(used("gpu_power_last"), "246");
    let wide = cluster.root("qstat -a -G").stdout;
    assert!(wide.contains(" 246W"), "{wide}");
    fs::write(folder.join("go"), "").unwrap();
    cluster.wait_state(&job, "C");
    assert_eq!(load("peak"), Some(90));
    let line = format!(
        "grep -h ';E;{job};' {}/accounting/*",
        cluster.server_state().display()
    );
    let record = wait_until("the accounting log has it", || {
        let ran = cluster.root(&line);
        match ran.stdout.contains(";E;") {
            true => Ok(ran.stdout),
            false => Err(ran),
        }
    });
    for word in [
        "gpu_util_peak=90",
        "gpu_power_mean=246",
        "gpu_mem_peak=",
        "cpupercent_mean=",
        "mem_peak=",
        "io_write=",
    ] {
        let word = format!(" resources_used.{word}");
        assert!(record.contains(&word), "{word}: {record}");
    }
}
