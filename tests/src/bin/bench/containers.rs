//! `startdocker` against `docker run --rm` of the same command, one after the other inside one job.

use std::fs;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use capstan_tests::engine::{self, IMAGE};
use capstan_tests::{Cluster, User};

use crate::report::Report;

const ROUNDS: usize = 15;

/// Times both, interleaved, as one user in one job; that user is lent the docker group for the time.
pub(crate) fn measure(user: &User, report: &mut Report) -> Result<()> {
    if !engine::is_there() {
        report.figure(
            "startdocker against docker run --rm",
            "-",
            "<= 1.05",
            "skipped: no container engine",
        );
        return Ok(());
    }
    let cluster = Cluster::up(&["--nodes", "1", "--cores", "2", "--release"]);
    let folder = user.folder("bench-containers");
    let group = |verb: &str| {
        Command::new("gpasswd")
            .args([verb, user.name, "docker"])
            .output()
    };
    ensure!(group("-a")?.status.success(), "gpasswd -a failed");
    let script = format!(
        "now() {{ echo ${{EPOCHREALTIME/./}}; }}
for i in $(seq {ROUNDS}); do
  a=$(now); startdocker -c true {IMAGE}; b=$(now)
  docker run --rm -u $(id -u):$(id -g) {IMAGE} true; c=$(now)
  echo $((b-a)) $((c-b))
done"
    );
    let job = cluster.submit(user, &folder, "-j oe -o times -N times", &script);
    cluster.wait_state(&job, "C");
    group("-d")?;
    let text = fs::read_to_string(folder.join("times"))?;
    let mut pairs = Vec::new();
    for line in text.lines() {
        let (ours, theirs) = line.split_once(' ').with_context(|| text.clone())?;
        pairs.push((
            ours.parse::<f64>()? / 1000.0,
            theirs.parse::<f64>()? / 1000.0,
        ));
    }
    ensure!(pairs.len() == ROUNDS, "{text}");
    // The first pair loads caches.
    let middle = |pick: fn(&(f64, f64)) -> f64| {
        let mut values: Vec<f64> = pairs[1..].iter().map(pick).collect();
        values.sort_by(f64::total_cmp);
        values[values.len() / 2]
    };
    let ratio = middle(|(ours, theirs)| ours / theirs);
    let conditions = format!(
        "medians {:.0} and {:.0} ms, {} pairs interleaved",
        middle(|p| p.0),
        middle(|p| p.1),
        ROUNDS - 1
    );
    report.figure(
        "startdocker against docker run --rm",
        &format!("{ratio:.2}"),
        "<= 1.05",
        &conditions,
    );
    Ok(())
}

const SHORT_JOBS: u32 = 200;
const BARE_RUNS: u32 = 40;

/// Short jobs inside an image, through one node, against a bare loop of `docker run`.
pub(crate) fn short_jobs(user: &User, report: &mut Report) -> Result<()> {
    if !engine::is_there() {
        let conditions = "skipped: no container engine";
        report.figure("short container jobs through one node", "-", "", conditions);
        return Ok(());
    }
    let start = Instant::now();
    for _ in 0..BARE_RUNS {
        let mut bare = Command::new("docker");
        let ran = bare.args(["run", "--rm", IMAGE, "true"]).output()?;
        ensure!(ran.status.success(), "{ran:?}");
    }
    let bare = f64::from(BARE_RUNS) * 60.0 / start.elapsed().as_secs_f64();
    let cluster = Cluster::up(&["--nodes", "1", "--cores", "2", "--release"]);
    let folder = user.folder("bench-short");
    let last = SHORT_JOBS - 1;
    let options = format!("-o /dev/null -e /dev/null -W image={IMAGE} -t 0-{last}");
    let start = Instant::now();
    let array = cluster.submit(user, &folder, &options, "true");
    let end = Instant::now() + Duration::from_secs(600);
    while !cluster
        .sh(user, &format!("qstat -t -f {array}"))
        .stdout
        .matches("exit_status = 0")
        .count()
        .eq(&(SHORT_JOBS as usize))
    {
        ensure!(Instant::now() < end, "the jobs of {array} take too long");
        std::thread::park_timeout(Duration::from_millis(200));
    }
    let ours = f64::from(SHORT_JOBS) * 60.0 / start.elapsed().as_secs_f64();
    report.figure(
        "short container jobs through one node",
        &format!("{ours:.0}/min"),
        "",
        &format!(
            "{SHORT_JOBS} of them on two slots; a loop of docker run --rm makes {bare:.0}/min"
        ),
    );
    Ok(())
}
