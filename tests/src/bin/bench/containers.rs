//! `startdocker` against `docker run --rm` of the same command, one after the other inside one job.

use std::fs;
use std::process::Command;

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
