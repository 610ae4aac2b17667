//! Rows of `qstat` and its kin.

use capstan_core::{Job, Measured, Series};
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
    let walltime = asked.seconds("walltime");
    let requested = cput.or(walltime).map(|seconds| seconds.0);
    let elapsed = match letter {
        _ if cput.is_some() => scene.usage(job).map(|usage| usage.cput_secs),
        'R' | 'E' | 'S' => run.map(|run| scene.now.secs_since(start_time(run))),
        // As in Torque, which takes what remains of a job that does not run for nothing.
        'W' | 'T' => Some(walltime.map_or(0, |seconds| seconds.0)),
        _ => None,
    };
    let size = size(job);
    // Of several, Torque shows the one whose name is last in the alphabet.
    let memory = ["vmem", "pvmem", "pmem", "mem", "dmem"]
        .iter()
        .find_map(|name| asked.get(name));
    wire::WideRow {
        session: run.and_then(|run| run.started).map(|(_, session)| session),
        nodes: size.nodes,
        tasks: size.tasks,
        memory: memory.unwrap_or_default().to_owned(),
        requested_secs: requested,
        elapsed_secs: elapsed,
        exec_host: run
            .map(|run| words::exec_host(&run.shares))
            .unwrap_or_default(),
        comment: scene.comment(job).unwrap_or_default(),
        r#use: scene
            .snapshot
            .settings()
            .tells("job_samples")
            .then(|| how_busy(scene, job)),
    }
}

/// The last look at what runs, the means of what is over.
fn how_busy(scene: Scene<'_>, job: &Job) -> wire::WideUse {
    let shares = last_run(job).map(|run| &run.shares);
    let cards = shares.map_or(0, |shares| {
        shares.iter().map(|share| share.cards.len()).sum()
    });
    let measured = scene.usage(job).and_then(|usage| usage.measured);
    let value = |series: fn(&Measured) -> Series| {
        let series = measured.as_ref().map(series)?;
        Some(if job.has_ended() {
            series.mean
        } else {
            series.last
        })
    };
    let of_cards = |series| value(series).filter(|_| cards > 0);
    let is_seen = measured.as_ref().is_some_and(|it| !it.is_load_unknown);
    wire::WideUse {
        cards: cards as u32,
        card_percent: of_cards(|measured| measured.card_percent).filter(|_| is_seen),
        card_memory_mib: of_cards(|measured| measured.card_memory_mib),
        power_watts: of_cards(|measured| measured.power_watts).filter(|_| is_seen),
        cpu_percent: value(|measured| measured.cpu_percent),
        memory_mib: value(|measured| measured.memory_mib),
    }
}

/// What the columns NDS and TSK say.
#[derive(Default)]
struct Size {
    nodes: Option<u32>,
    tasks: Option<u32>,
}

/// Reads the resources in their order, as Torque does: a later one may stand back behind an earlier one or not.
fn size(job: &Job) -> Size {
    let mut size = Size::default();
    let (mut width, mut per_node) = (None, None);
    for (name, value) in job.spec.resources.iter() {
        let number = || value.parse::<u32>().ok();
        let counted = || number().filter(|count| *count > 0);
        match name {
            "nodect" => size.nodes = number(),
            "nodes" => {
                let nodes = job.spec.nodes.as_ref();
                let slots =
                    nodes.map(|nodes| u32::try_from(nodes.slot_count()).unwrap_or(u32::MAX));
                size.tasks = slots.filter(|slots| *slots > 0).or(size.tasks);
            }
            "procs" | "ncpus" => size.tasks = size.tasks.or_else(counted),
            "mppe" | "size" => size.tasks = counted().or(size.tasks),
            "mppwidth" => width = width.or_else(counted),
            "mppnppn" => per_node = per_node.or_else(counted),
            _ => {}
        }
    }
    if let Some(width) = width {
        size.tasks = Some(width);
        size.nodes = per_node.map_or(size.nodes, |per_node| Some(width.div_ceil(per_node)));
    }
    size
}
