//! Rows of `qstat` and its kin.

use capstan_core::Job;
use capstan_proto::wire;

use super::{Scene, last_run, start_time, words};

/// The row of a job; with its wide part, or without.
pub(crate) fn row(scene: Scene<'_>, job: &Job, is_wide: bool) -> wire::JobRow {
    let letter = job.letter(scene.now);
    wire::JobRow {
        id: job.id.on(scene.server()),
        name: words::job_name(job).into_owned(),
        owner: job.spec.owner.user.to_string(),
        state: letter.to_string(),
        queue: job.queue.to_string(),
        cput_secs: scene.usage(job).map(|usage| usage.cput_secs),
        wide: is_wide.then(|| wide(scene, job, letter)),
    }
}

fn wide(scene: Scene<'_>, job: &Job, letter: char) -> wire::WideRow {
    let asked = &job.spec.resources;
    let run = last_run(job);
    let cput = asked.seconds("cput");
    let requested = cput
        .or_else(|| asked.seconds("walltime"))
        .map(|seconds| seconds.0);
    let elapsed = match letter {
        'R' | 'E' if cput.is_some() => scene.usage(job).map(|usage| usage.cput_secs),
        'R' | 'E' => run.map(|run| scene.now.secs_since(start_time(run))),
        // As in Torque, which takes what remains of a job that does not run for nothing.
        'W' => requested,
        _ => None,
    };
    let nodes = job.spec.nodes.as_ref();
    let tasks = nodes.map(|nodes| u32::try_from(nodes.slot_count()).unwrap_or(u32::MAX));
    // Of several, Torque shows the one whose name is last in the alphabet.
    let memory = ["vmem", "pvmem", "pmem", "mem", "dmem"]
        .iter()
        .find_map(|name| asked.get(name));
    wire::WideRow {
        session: run.and_then(|run| run.started).map(|(_, session)| session),
        nodes: asked.count("nodect"),
        tasks: tasks
            .or_else(|| asked.count("procs"))
            .or_else(|| asked.count("ncpus")),
        memory: memory.unwrap_or_default().to_owned(),
        requested_secs: requested,
        elapsed_secs: elapsed,
        exec_host: run
            .map(|run| words::exec_host(&run.shares))
            .unwrap_or_default(),
        comment: scene.comment(job).unwrap_or_default(),
    }
}
