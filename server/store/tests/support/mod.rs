//! What the tests of the store share: samples of what is stored, and ways to look at it.

#![allow(dead_code, reason = "each test file uses its own part of this")]

use std::sync::Arc;
use std::time::{Duration, Instant};

use capstan_core::{
    Change, Event, Holds, Job, JobSpec, JobState, Owner, Payload, State, Submission, Ties, Tries,
};
use capstan_store::{DiskStore, OpenReport, Options, PayloadReader, Record, Store};
use capstan_types::{Env, JobId, QueueName, Timestamp};

/// Small sizes, so that a few records are enough for segments and snapshots.
pub(crate) const SMALL: Options = Options {
    segment_bytes: 4 << 10,
    snapshot_after_bytes: 16 << 10,
    index_cache_bytes: 1 << 20,
    history_secs: 0,
    history_bytes_max: 0,
};

/// A specification as a small script's would be.
pub(crate) fn spec(seq: u64) -> JobSpec {
    JobSpec {
        name: format!("job{seq}").into(),
        owner: Owner {
            user: "alice".into(),
            uid: 1000,
            group: "users".into(),
            host: "node01".into(),
            groups: Vec::new(),
        },
        is_rerunnable: true,
        stdout_path: "/ghome/alice/$PBS_JOBID.out".into(),
        stderr_path: "/ghome/alice/$PBS_JOBID.err".into(),
        work_folder: "/ghome/alice".into(),
        shown: vec![("submit_args".into(), "-q mcc job.pbs".into())],
        ..JobSpec::default()
    }
}

/// A pending job.
pub(crate) fn job(seq: u64) -> Job {
    Job {
        id: JobId::whole(seq),
        spec: Arc::new(spec(seq)),
        queue: QueueName::from("mcc"),
        priority: 0,
        holds: Holds::default(),
        waits_for: Vec::new(),
        ties: Ties::default(),
        not_before: None,
        state: JobState::Pending,
        created: Timestamp(seq),
        queued: Timestamp(seq),
        eligible: Some(Timestamp(seq)),
        changed: Timestamp(seq),
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

/// A script and variables of about the usual size.
pub(crate) fn payload(seq: u64) -> Arc<Payload> {
    let script = format!("#!/bin/sh\n#PBS -N job{seq}\necho {seq}\n").into_bytes();
    let variables = [("PBS_O_HOME", "/ghome/alice"), ("NUMBER", &seq.to_string())];
    let variables = variables.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let variables = Env::from_iter(variables);
    Arc::new(Payload { script, variables })
}

/// The record of a submission.
pub(crate) fn submitted(seq: u64) -> Record {
    let submission = Submission {
        spec: spec(seq),
        payload: Arc::default(),
        queue: None,
        priority: 0,
        holds: Holds::default(),
        not_before: None,
        depends: Vec::new(),
        ties: Vec::new(),
    };
    Record {
        at: Timestamp(seq * 1000),
        event: Event::Submit(Box::new(submission)),
        changes: vec![
            Change::SetNextSeq(seq + 1),
            Change::PutJob(Arc::new(job(seq))),
            Change::PutPayload(JobId::whole(seq), payload(seq)),
        ],
    }
}

/// The record of a job that changes.
pub(crate) fn touched(seq: u64, comment: &str) -> Record {
    let mut job = job(seq);
    job.comment = Some(comment.into());
    Record {
        at: Timestamp(seq * 1000 + 1),
        event: Event::Tick,
        changes: vec![Change::PutJob(Arc::new(job))],
    }
}

/// The record of a job that is forgotten.
pub(crate) fn forgotten(seq: u64) -> Record {
    Record {
        at: Timestamp(seq * 1000 + 2),
        event: Event::Tick,
        changes: vec![Change::RemoveJob(JobId::whole(seq))],
    }
}

/// Commits each record as a group of its own.
pub(crate) fn commit_each(store: &mut dyn Store, records: impl IntoIterator<Item = Record>) {
    for record in records {
        store.commit(&[record]).expect("the disk is good");
    }
}

/// A state as the changes that make it, which can be compared.
pub(crate) fn contents(state: &State) -> Vec<Change> {
    state.as_changes().collect()
}

/// The numbers of all jobs.
pub(crate) fn seqs(state: &State) -> Vec<u64> {
    state.jobs().map(|job| job.id.seq).collect()
}

/// Opens the store in `dir`.
pub(crate) fn open(dir: &std::path::Path) -> (Box<DiskStore>, State, OpenReport) {
    let (store, state, report) = DiskStore::open(dir, SMALL).expect("the store opens");
    (Box::new(store), state, report)
}

/// The jobs of these numbers have their payloads.
pub(crate) fn check_payloads(reader: &dyn PayloadReader, seqs: impl IntoIterator<Item = u64>) {
    for seq in seqs {
        let found = reader
            .payload(JobId::whole(seq))
            .expect("payloads can be read");
        assert_eq!(found, Some(payload(seq)), "payload of job {seq}");
    }
}

/// Waits until `is_so`, at most ten seconds.
pub(crate) fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !is_so() {
        assert!(Instant::now() < deadline, "waited in vain until {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}
