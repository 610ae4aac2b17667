//! Loads made by gRPC callers in one process of an ordinary user: this program again, as that user.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use capstan_proto::connect_unix;
use capstan_proto::wire::scheduler_client::SchedulerClient;
use capstan_proto::wire::{
    Attribute, HoldJobRequest, QueueRow, StatServerRequest, SubmitRequest, Variable,
};
use capstan_tests::{Cluster, User};
use tonic::transport::Channel;

use crate::report::Report;

/// `load submit COUNT CALLERS`, `load drain COUNT SHELL` or `load qsub COUNT LOOPS SCRIPT`: prints seconds, and for
/// `qsub` those of each process as well.
pub(crate) fn main(words: &[&str]) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let seconds = match words {
        ["submit", count, callers] => {
            let all = submit_all(count.parse()?, callers.parse()?, request(""));
            vec![runtime.block_on(all)?.0]
        }
        ["drain", count, shell] => vec![runtime.block_on(drain_all(count.parse()?, shell))?],
        ["qsub", count, loops, script] => qsub_loops(count.parse()?, loops.parse()?, script)?,
        other => bail!("unknown load {other:?}"),
    };
    let text: String = seconds.iter().map(|each| format!("{each}\n")).collect();
    std::io::Write::write_all(&mut std::io::stdout(), text.as_bytes())?;
    Ok(())
}

/// Seconds in all, then of each process.
fn qsub_loops(count: usize, loops: usize, script: &str) -> Result<Vec<f64>> {
    let one = || -> Result<f64> {
        let start = Instant::now();
        let mut qsub = Command::new("qsub");
        let status = qsub.args(["-h", script]).stdout(Stdio::null()).status()?;
        ensure!(status.success(), "qsub failed: {status}");
        Ok(start.elapsed().as_secs_f64())
    };
    let start = Instant::now();
    let each = std::thread::scope(|scope| {
        let running: Vec<_> = (0..loops)
            .map(|_| {
                scope.spawn(|| {
                    (0..count / loops)
                        .map(|_| one())
                        .collect::<Result<Vec<_>>>()
                })
            })
            .collect();
        let ended = running
            .into_iter()
            .map(|each| each.join().expect("a loop does not panic"));
        ended.collect::<Result<Vec<_>>>()
    })?;
    let total = start.elapsed().as_secs_f64();
    Ok(std::iter::once(total)
        .chain(each.into_iter().flatten())
        .collect())
}

/// Loops of `qsub` processes, started by a process of the user's own: seconds in all, and the times of each.
pub(crate) fn processes(
    cluster: &Cluster,
    user: &User,
    words: &[&str],
) -> Result<(f64, Vec<Duration>)> {
    let words = [&["qsub"], words].concat();
    let seconds = as_user(cluster, user, &words)?;
    let (total, each) = seconds.split_first().context("the load printed nothing")?;
    let each = each.iter().map(|secs| Duration::from_secs_f64(*secs));
    Ok((*total, each.collect()))
}

/// fsyncs for a thousand submissions by so many callers at once.
pub(crate) fn group_commit(cluster: &Cluster, user: &User, report: &mut Report) -> Result<()> {
    for callers in [1, 8, 64] {
        let before = fsyncs(cluster)?;
        let seconds = as_user(cluster, user, &["submit", "1000", &callers.to_string()])?[0];
        let fsyncs = fsyncs(cluster)? - before;
        let goal = if callers == 64 { "< 100" } else { "" };
        let conditions = format!("{:.0} submissions/s over gRPC", 1000.0 / seconds);
        report.figure(
            &format!("fsyncs per 1,000 submissions, {callers} callers"),
            &fsyncs.to_string(),
            goal,
            &conditions,
        );
    }
    Ok(())
}

/// A thousand jobs that do nothing, released at once on 64 slots.
pub(crate) fn drain(cluster: &Cluster, user: &User, report: &mut Report) -> Result<()> {
    for (shell, goal) in [("", ">= 400/s"), ("/bin/sh", "")] {
        let seconds = as_user(cluster, user, &["drain", "1000", shell])?[0];
        let name = match shell {
            "" => "1,000 no-op jobs drained on 64 slots".to_owned(),
            shell => format!("the same with -S {shell}"),
        };
        let conditions = match shell {
            "" => "first release to last end; bash is the login shell and reads /etc/profile",
            _ => "as a login shell too",
        };
        report.figure(
            &name,
            &format!("{:.0}/s", 1000.0 / seconds),
            goal,
            conditions,
        );
    }
    Ok(())
}

/// Fills the queue with held jobs.
pub(crate) fn fill(cluster: &Cluster, user: &User, count: u32) -> Result<()> {
    as_user(cluster, user, &["submit", &count.to_string(), "16"]).map(drop)
}

fn as_user(cluster: &Cluster, user: &User, words: &[&str]) -> Result<Vec<f64>> {
    // The target folder may be root's alone: the user runs a copy that it can reach.
    let copy = cluster.path().join("bench-load");
    if !copy.exists() {
        std::fs::copy(std::env::current_exe()?, &copy)?;
    }
    let socket = cluster
        .variable("CAPSTAN_SERVER_SOCKET")
        .context("DIR/env names the socket")?;
    let mut command = Command::new(copy);
    command
        .arg("load")
        .args(words)
        .env_clear()
        .env("CAPSTAN_SERVER_SOCKET", socket)
        .env(
            "PATH",
            format!("{}/bin:/usr/bin:/bin", cluster.path().display()),
        )
        .env("LOGNAME", user.name)
        .env("SHELL", "/bin/bash")
        .env("HOME", &user.home);
    command
        .current_dir(&user.home)
        .stdin(Stdio::null())
        .stderr(Stdio::inherit());
    std::os::unix::process::CommandExt::gid(&mut command, user.gid);
    std::os::unix::process::CommandExt::uid(&mut command, user.uid);
    let output = command.output()?;
    ensure!(
        output.status.success(),
        "load {words:?} failed: {}",
        output.status
    );
    let text = String::from_utf8(output.stdout)?;
    text.lines().map(|line| Ok(line.parse()?)).collect()
}

fn fsyncs(cluster: &Cluster) -> Result<u64> {
    let socket = cluster
        .variable("CAPSTAN_SERVER_SOCKET")
        .context("DIR/env names the socket")?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let channel = connect_unix(Path::new(socket)).await?;
        let reply = SchedulerClient::new(channel)
            .stat_server(StatServerRequest {})
            .await?
            .into_inner();
        let found = reply
            .statistics
            .iter()
            .find(|attribute| attribute.name == "journal_fsyncs");
        Ok(found
            .context("the server counts its fsyncs")?
            .value
            .parse()?)
    })
}

async fn client() -> Result<SchedulerClient<Channel>> {
    let socket = std::env::var("CAPSTAN_SERVER_SOCKET")?;
    Ok(SchedulerClient::new(
        connect_unix(Path::new(&socket)).await?,
    ))
}

/// A held job that does nothing; its shell, or "" for the login shell.
fn request(shell: &str) -> SubmitRequest {
    let attribute = |name: &str, value: &str| Attribute {
        name: name.into(),
        resource: String::new(),
        value: value.into(),
    };
    let home = std::env::var("HOME").unwrap_or_default();
    let variable = |name: &str, value: &str| Variable {
        name: name.into(),
        value: value.into(),
    };
    let mut request = SubmitRequest {
        script: b"#!/bin/sh\ntrue\n".to_vec(),
        attributes: vec![
            attribute("Job_Name", "noop"),
            attribute("Hold_Types", "u"),
            attribute("Output_Path", "/dev/null"),
            attribute("Error_Path", "/dev/null"),
            attribute("init_work_dir", &home),
        ],
        variables: vec![
            variable("PBS_O_WORKDIR", &home),
            variable("PBS_O_HOME", &home),
            variable("PADDING", &"x".repeat(1000)),
        ],
        destination: String::new(),
    };
    if !shell.is_empty() {
        request.attributes.push(attribute("Shell_Path_List", shell));
    }
    request
}

async fn submit_all(
    count: u32,
    callers: u32,
    request: SubmitRequest,
) -> Result<(f64, Vec<String>)> {
    let mut clients = Vec::new();
    for _ in 0..callers {
        clients.push(client().await?);
    }
    let start = Instant::now();
    let mut tasks = tokio::task::JoinSet::new();
    for (number, mut client) in clients.into_iter().enumerate() {
        let share = count / callers + u32::from((number as u32) < count % callers);
        let request = request.clone();
        tasks.spawn(async move {
            let mut ids = Vec::new();
            for _ in 0..share {
                ids.push(client.submit(request.clone()).await?.into_inner().job_id);
            }
            Ok::<_, tonic::Status>(ids)
        });
    }
    let mut ids = Vec::new();
    while let Some(done) = tasks.join_next().await {
        ids.extend(done??);
    }
    Ok((start.elapsed().as_secs_f64(), ids))
}

async fn drain_all(count: u32, shell: &str) -> Result<f64> {
    let completed_before = completed(&mut client().await?).await?;
    let (_, ids) = submit_all(count, 16, request(shell)).await?;
    let start = Instant::now();
    let mut tasks = tokio::task::JoinSet::new();
    for part in ids.chunks(ids.len().div_ceil(16)) {
        let (part, mut client) = (part.to_vec(), client().await?);
        tasks.spawn(async move {
            for job_id in part {
                let kinds = "u".to_owned();
                client.release_job(HoldJobRequest { job_id, kinds }).await?;
            }
            Ok::<_, tonic::Status>(())
        });
    }
    while let Some(done) = tasks.join_next().await {
        done??;
    }
    let mut client = client().await?;
    loop {
        let completed = completed(&mut client).await? - completed_before;
        if completed >= count {
            return Ok(start.elapsed().as_secs_f64());
        }
        ensure!(
            start.elapsed() < Duration::from_secs(120),
            "only {completed} of {count} ended"
        );
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

async fn completed(client: &mut SchedulerClient<Channel>) -> Result<u32> {
    let request = capstan_proto::wire::StatQueuesRequest {
        queue: "batch".into(),
    };
    let reply = client.stat_queues(request).await?.into_inner();
    let completed = |queue: &QueueRow| queue.jobs.get("C").copied().unwrap_or(0);
    Ok(reply.queues.iter().map(completed).sum())
}
