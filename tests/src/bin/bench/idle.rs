//! What a cluster costs that does nothing, and what ten thousand jobs cost.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use capstan_tests::Cluster;
use nix::unistd::Pid;

use crate::report::Report;

/// Processor time and memory of an idle server and agent.
pub(crate) fn measure(cluster: &Cluster, report: &mut Report) -> Result<()> {
    let span = Duration::from_secs(10);
    for name in ["server", "node01"] {
        let pid = cluster.pid(name);
        let before = cpu_ms(pid)?;
        let start = Instant::now();
        while start.elapsed() < span {
            std::thread::park_timeout(span.saturating_sub(start.elapsed()));
        }
        let used = cpu_ms(pid)? - before;
        let share = used / (start.elapsed().as_secs_f64() * 1000.0) * 100.0;
        report.figure(
            &format!("idle processor use, {name}"),
            &format!("{share:.2} %"),
            "near 0",
            &format!("{used:.0} ms in 10 s"),
        );
        report.figure(
            &format!("idle memory, {name}"),
            &format!("{:.1} MB", rss_mb(pid)?),
            "< 15 MB",
            "VmRSS",
        );
    }
    Ok(())
}

/// Memory of a server with ten thousand jobs.
pub(crate) fn memory_with_jobs(cluster: &Cluster, report: &mut Report) -> Result<()> {
    let megabytes = rss_mb(cluster.pid("server"))?;
    report.figure(
        "server memory at 10,000 jobs",
        &format!("{megabytes:.1} MB"),
        "< 35 MB",
        "VmRSS, each job with 1 kB of variables",
    );
    Ok(())
}

/// Processor time of all threads of a process.
pub(crate) fn cpu_ms(pid: Pid) -> Result<f64> {
    // All threads: nanoseconds on the processor, the first field of schedstat.
    let mut total = 0.0;
    for task in std::fs::read_dir(format!("/proc/{pid}/task"))? {
        let text = std::fs::read_to_string(task?.path().join("schedstat"))?;
        let first = text
            .split(' ')
            .next()
            .context("schedstat has three fields")?;
        total += first.parse::<f64>()? / 1e6;
    }
    Ok(total)
}

fn rss_mb(pid: Pid) -> Result<f64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .context("VmRSS")?;
    Ok(line.trim().trim_end_matches(" kB").parse::<f64>()? / 1024.0)
}
