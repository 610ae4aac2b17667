//! The server, as `qstat -B` and `qmgr list server` show it.

use capstan_proto::wire;
use capstan_types::{AttributeObject, Dialect};

use super::queues::{assigned, line, listing, set};
use super::{Scene, counts};

/// The version of Torque whose habits these are; programs read it to know what to expect.
const TORQUE_VERSION: &str = "6.1.3.h5";

/// The server's attributes. `requests` are the numbers of `net_counter`.
pub(crate) fn server(scene: Scene<'_>, requests: [u64; 3]) -> wire::StatServerReply {
    let settings = scene.snapshot.settings();
    let statistics = scene.snapshot.statistics;
    let counts = counts::all(scene);
    let found = |name: &str| match name {
        "server_state" => vec![line(name, "", state(settings.is_scheduling()))],
        "total_jobs" => vec![line(name, "", counts.total())],
        "state_count" => vec![line(name, "", counts.state_count())],
        "resources_assigned" => assigned(scene, None),
        "pbs_version" => vec![line(name, "", TORQUE_VERSION)],
        "next_job_number" => vec![line(name, "", scene.snapshot.state.next_seq_shown())],
        "net_counter" => {
            let [now, soon, long] = requests;
            vec![line(name, "", format!("{now} {soon} {long}"))]
        }
        _ => set(&settings.attributes, name),
    };
    let counters = [
        ("journal_frames", statistics.groups),
        ("journal_records", statistics.records),
        ("journal_fsyncs", statistics.fsyncs),
        ("journal_bytes", statistics.bytes),
        ("journal_refused_frames", statistics.refused_groups),
        ("index_lag_records", statistics.index_lag_records),
    ];
    let mut attributes = listing(AttributeObject::Server, found);
    if settings.dialect != Dialect::default() {
        attributes.push(line("dialect", "", settings.dialect.name()));
    }
    wire::StatServerReply {
        name: settings.server.to_string(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        attributes,
        statistics: counters
            .map(|(name, count)| line(name, "", count))
            .into_iter()
            .chain([line("dialect", "", settings.dialect.name())])
            .collect(),
    }
}

/// What the server is at: a scheduler that was switched off leaves it idle.
const fn state(is_scheduling: bool) -> &'static str {
    match is_scheduling {
        true => "Active",
        false => "Idle",
    }
}
