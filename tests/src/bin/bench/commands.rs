//! What a person at a terminal waits for: whole processes, timed from outside.

use std::fs;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};
use capstan_tests::{Cluster, User, wait_until};

use crate::load;
use crate::report::{Report, spread};

/// `program` as `user` without a shell in between: what is timed is the command itself.
fn command(cluster: &Cluster, user: &User, program: &str) -> Command {
    let mut command = Command::new(cluster.path().join("bin").join(program));
    command
        .env_clear()
        .env("HOME", &user.home)
        .env("LOGNAME", user.name)
        .env("SHELL", "/bin/bash");
    command
        .env("PATH", "/usr/local/bin:/usr/bin:/bin")
        .env("LANG", "C.UTF-8");
    if let Some(socket) = cluster.variable("CAPSTAN_SERVER_SOCKET") {
        command.env("CAPSTAN_SERVER_SOCKET", socket);
    }
    command
        .current_dir(&user.home)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::inherit());
    std::os::unix::process::CommandExt::gid(&mut command, user.gid);
    std::os::unix::process::CommandExt::uid(&mut command, user.uid);
    command
}

fn script(user: &User) -> Result<String> {
    let folder = user.folder("bench");
    let path = folder.join("noop.pbs");
    fs::write(&path, "#!/bin/sh\n#PBS -N noop\ntrue\n")?;
    Ok(path.to_string_lossy().into_owned())
}

/// One `qsub` after another, and eight loops of it side by side.
pub(crate) fn submissions(cluster: &Cluster, user: &User, report: &mut Report) -> Result<()> {
    let path = script(user)?;
    let (seconds, mut times) = load::processes(cluster, user, &["500", "1", &path])?;
    let (middle, range) = spread(&mut times);
    report.figure(
        "durable submissions, one after another",
        &format!("{:.0}/s", 500.0 / seconds),
        ">= 329/s",
        "500 qsub processes, held jobs",
    );
    report.figure(
        "qsub as a whole process",
        &format!("{middle:.1} ms"),
        "< 3 ms",
        &range,
    );
    let (seconds, _) = load::processes(cluster, user, &["1000", "8", &path])?;
    report.figure(
        "durable submissions, 8 at once",
        &format!("{:.0}/s", 1000.0 / seconds),
        ">= 818/s",
        "8 loops of 125 qsub processes",
    );
    Ok(())
}

/// From before `qsub` starts to the first line of the script.
pub(crate) fn first_line(cluster: &Cluster, user: &User, report: &mut Report) -> Result<()> {
    let folder = user.folder("bench-start");
    let path = folder.join("stamp.pbs");
    fs::write(&path, "echo $EPOCHREALTIME > stamp.$PBS_JOBID\n")?;
    user.own(&path);
    let mut times = Vec::new();
    for round in 0..40 {
        let mut command = command(cluster, user, "qsub");
        command
            .args([
                "-d",
                &folder.to_string_lossy(),
                "-o",
                "/dev/null",
                "-e",
                "/dev/null",
            ])
            .arg(&path);
        let start = SystemTime::now().duration_since(UNIX_EPOCH)?;
        let output = command.stdout(Stdio::piped()).output()?;
        let job = String::from_utf8(output.stdout)?;
        let stamp = folder.join(format!("stamp.{}", job.trim()));
        let text = wait_until("the script has begun", || {
            match fs::read_to_string(&stamp) {
                Ok(text) if text.ends_with('\n') => Ok(text),
                other => Err(other),
            }
        });
        let (secs, micros) = text
            .trim()
            .split_once('.')
            .context("bash prints seconds.micros")?;
        let begun = Duration::from_secs(secs.parse()?) + Duration::from_micros(micros.parse()?);
        cluster.wait_state(job.trim(), "C");
        // The first rounds load pages and caches.
        if round >= 5 {
            times.push(begun.saturating_sub(start));
        }
    }
    let (middle, range) = spread(&mut times);
    report.figure(
        "submit to first line of the script",
        &format!("{middle:.1} ms"),
        "< 15 ms",
        &range,
    );
    Ok(())
}

/// `qsub -t` of ten thousand members.
pub(crate) fn large_array(cluster: &Cluster, user: &User, report: &mut Report) -> Result<()> {
    let path = script(user)?;
    let mut times = Vec::new();
    for _ in 0..5 {
        let mut command = command(cluster, user, "qsub");
        command.args(["-h", "-t", "0-9999", &path]);
        let start = Instant::now();
        ensure!(command.status()?.success(), "qsub -t failed");
        times.push(start.elapsed());
    }
    let (middle, range) = spread(&mut times);
    report.figure(
        "array of 10,000 accepted",
        &format!("{middle:.1} ms"),
        "< 20 ms",
        &range,
    );
    Ok(())
}

/// `qstat` of everything.
pub(crate) fn list(cluster: &Cluster, user: &User, report: &mut Report) -> Result<()> {
    let mut times = Vec::new();
    for _ in 0..15 {
        let mut command = command(cluster, user, "qstat");
        let start = Instant::now();
        ensure!(command.status()?.success(), "qstat failed");
        times.push(start.elapsed());
    }
    let (middle, range) = spread(&mut times);
    report.figure(
        "qstat of 10,000 jobs",
        &format!("{middle:.1} ms"),
        "< 40 ms",
        &range,
    );
    Ok(())
}

/// From the start of a killed server to its first answer.
pub(crate) fn restart(cluster: &mut Cluster, report: &mut Report) {
    let mut times = Vec::new();
    for _ in 0..5 {
        cluster.kill("server");
        let socket = cluster
            .variable("CAPSTAN_SERVER_SOCKET")
            .unwrap_or_default()
            .to_owned();
        fs::remove_file(&socket).ok();
        let start = Instant::now();
        cluster.start("server");
        while std::os::unix::net::UnixStream::connect(&socket).is_err()
            && start.elapsed().as_secs() < 60
        {
            std::thread::yield_now();
        }
        times.push(start.elapsed());
        cluster.wait_server();
    }
    let (middle, range) = spread(&mut times);
    report.figure(
        "restart with 10,000 jobs (after kill -9)",
        &format!("{middle:.0} ms"),
        "< 100 ms",
        &range,
    );
}
