//! Jobs as they were on the recorded Torque, for tests.

use std::sync::Arc;

use capstan_core::{
    Change, Ended, Holds, Job, JobSpec, JobState, NodeShare, Owner, Run, ShareCard, State, Ties,
    Tries, Usage,
};
use capstan_types::{AttemptId, JobId, Timestamp};

use crate::settings::{SettingsFile, resolve};

/// 2026-11-22 03:45:58 UTC: the first second of the recorded accounting log.
pub(crate) const BEGIN: u64 = 1_795_319_158;

/// A job of alice in queue batch that asked for these resources.
pub(crate) fn job(id: JobId, name: &str, resources: &[(&str, &str)]) -> Job {
    let mut spec = JobSpec {
        name: name.into(),
        owner: Owner {
            user: "alice".into(),
            uid: 3001,
            group: "alice".into(),
            host: "hn1".into(),
            groups: Vec::new(),
        },
        is_rerunnable: true,
        work_folder: "/home/alice".into(),
        ..JobSpec::default()
    };
    for (name, value) in resources {
        spec.resources.set(name, value).unwrap();
    }
    spec.nodes = spec.resources.nodes();
    let at = seconds(0);
    Job {
        id,
        spec: Arc::new(spec),
        queue: "batch".into(),
        priority: 0,
        holds: Holds::default(),
        waits_for: Vec::new(),
        ties: Ties::default(),
        not_before: None,
        state: JobState::Pending,
        created: at,
        queued: at,
        eligible: Some(at),
        changed: at,
        run_count: 0,
        comment: None,
        array: None,
        place: None,
        preempted: None,
        first_until: None,
        forced: None,
        forced_members: Vec::new(),
        tries: Tries::default(),
        forecast: None,
        waits: Vec::new(),
    }
}

/// `secs` after [`BEGIN`].
pub(crate) fn seconds(secs: u64) -> Timestamp {
    Timestamp((BEGIN + secs) * 1000)
}

/// An attempt on these nodes (name, slots, cards) that started `started` seconds after [`BEGIN`].
pub(crate) fn run(shares: &[(&str, &[u16], &[u32])], started: u64, session: u32) -> Run {
    let shares = shares.iter().map(|(node, slots, cards)| NodeShare {
        node: (*node).into(),
        slots: slots.to_vec(),
        cards: cards
            .iter()
            .map(|index| ShareCard {
                share: capstan_types::CardWish::WHOLE,
                uuid: format!("GPU-{node}-{index}").into(),
                index: *index,
            })
            .collect(),
        memory_bytes: 0,
    });
    Run {
        attempt: AttemptId(1),
        shares: shares.collect(),
        placed: seconds(started),
        started: Some((seconds(started), session)),
        usage: Usage::default(),
        is_suspended: false,
        is_altered: false,
        images: Vec::new(),
    }
}

/// The job as it ended.
pub(crate) fn ended(mut job: Job, run: Run, end: u64, exit_status: i32) -> Job {
    job.run_count = 1;
    job.changed = seconds(end);
    job.state = JobState::Ended(Ended {
        at: seconds(end),
        exit_status: Some(exit_status),
        run: Some(run),
        cause: Box::default(),
    });
    job
}

/// A state of these jobs on server hn1.
pub(crate) fn state(jobs: impl IntoIterator<Item = Job>) -> State {
    let mut state = State::default();
    let file = SettingsFile::default();
    let settings = resolve(&file, "hn1").unwrap().core;
    state.absorb(&Change::PutSettings(settings));
    for job in jobs {
        state.absorb(&Change::PutJob(Arc::new(job)));
    }
    state
}
