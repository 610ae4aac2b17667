//! What a node needs for the life of attempts: to end one of many processes, to give a card to the next, to sample many.

use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use capstan_tests::{Cluster, User, wait_until};

use crate::idle::cpu_ms;
use crate::report::{Report, spread};

const PROCESSES: usize = 1000;
const CHAIN: usize = 20;

/// From `qdel` to the last of a thousand processes being gone.
pub(crate) fn kill(user: &User, report: &mut Report) -> Result<()> {
    let cluster = Cluster::up(&["--nodes", "1", "--cores", "2", "--release"]);
    let folder = user.folder("bench-kill");
    let mut times = Vec::new();
    for round in 0..3 {
        let seconds = format!("40{round}7");
        let script = format!(
            "for i in $(seq {PROCESSES}); do sleep {seconds} & done; touch ready.{round}; wait"
        );
        let job = cluster.submit(user, &folder, "-d . -o /dev/null -e /dev/null", &script);
        wait_until("all of them run", || {
            let is_ready = folder.join(format!("ready.{round}")).exists();
            is_ready.then_some(()).ok_or(())
        });
        let start = Instant::now();
        cluster.sh(user, &format!("qdel {job}")).ok();
        wait_until("all of them are gone", || match running(&seconds) {
            0 => Ok(()),
            left => Err(left),
        });
        times.push(start.elapsed());
        cluster.wait_state(&job, "C");
    }
    let (middle, range) = spread(&mut times);
    report.figure(
        "end of an attempt with 1,000 processes",
        &format!("{middle:.0} ms"),
        "",
        &format!("from qdel to the last of them being gone, {range}"),
    );
    Ok(())
}

/// How many processes sleep for just so long.
fn running(seconds: &str) -> usize {
    let line = format!("sleep\0{seconds}\0");
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    let lines = processes.filter_map(|process| fs::read(process.path().join("cmdline")).ok());
    lines.filter(|own| own == line.as_bytes()).count()
}

/// From the last act of a script to the first of the next one on the same card.
pub(crate) fn free(user: &User, report: &mut Report) -> Result<()> {
    let cluster = Cluster::up(&["--nodes", "1", "--cards", "1", "--cores", "2", "--release"]);
    let folder = user.folder("bench-free");
    let script = "first=$EPOCHREALTIME; sleep 0.2; echo $first $EPOCHREALTIME >> times";
    let options = "-d . -o /dev/null -e /dev/null -l nodes=1:gpus=1";
    for _ in 0..CHAIN {
        drop(cluster.submit(user, &folder, options, script));
    }
    cluster.wait_all_completed();
    let text = fs::read_to_string(folder.join("times"))?;
    let mut spans: Vec<(f64, f64)> = Vec::new();
    for line in text.lines() {
        let (first, last) = line.split_once(' ').context("two times")?;
        spans.push((first.parse()?, last.parse()?));
    }
    spans.sort_by(|one, other| one.0.total_cmp(&other.0));
    let gaps = spans.windows(2).map(|pair| pair[1].0 - pair[0].1);
    let mut gaps: Vec<Duration> = gaps
        .map(|gap| Duration::from_secs_f64(gap.max(0.0)))
        .collect();
    let (middle, range) = spread(&mut gaps);
    report.figure(
        "end of a script to the next one on its card",
        &format!("{middle:.1} ms"),
        "",
        &format!("card looked at in between, {range}"),
    );
    Ok(())
}

/// Processor time of an agent that samples 64 attempts on a node of eight cards.
pub(crate) fn sampling(user: &User, report: &mut Report) -> Result<()> {
    const SPAN: Duration = Duration::from_secs(30);
    let cluster = Cluster::up(&["--nodes", "1", "--cards", "8", "--cores", "64", "--release"]);
    let folder = user.folder("bench-sampling");
    let script = "touch running.$PBS_JOBID; sleep 600";
    for (request, jobs) in [("nodes=1:ppn=1:gpus=1", 8), ("nodes=1:ppn=1", 56)] {
        for _ in 0..jobs {
            let options = format!("-d . -o /dev/null -e /dev/null -l {request}");
            drop(cluster.submit(user, &folder, &options, script));
        }
    }
    wait_until("all of them run", || {
        let running = fs::read_dir(&folder).into_iter().flatten().count();
        // Beside the scripts that were submitted.
        match running >= 64 {
            true => Ok(()),
            false => Err(running),
        }
    });
    let pid = cluster.pid("node01");
    let before = cpu_ms(pid)?;
    let start = Instant::now();
    while start.elapsed() < SPAN {
        std::thread::park_timeout(SPAN.saturating_sub(start.elapsed()));
    }
    let used = cpu_ms(pid)? - before;
    let share = used / (start.elapsed().as_secs_f64() * 1000.0) * 100.0;
    report.figure(
        "processor use of an agent with 64 attempts",
        &format!("{share:.2} %"),
        "< 0.5 %",
        &format!("8 simulated cards, {used:.0} ms in 30 s"),
    );
    cluster.sh(user, "qdel all").ok();
    Ok(())
}
