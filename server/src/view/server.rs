//! The server, as `qstat -B` and `qmgr` show it.

use capstan_proto::wire;

use super::attributes::Attributes;
use super::{Scene, counts};

/// The server's attributes.
pub(crate) fn server(scene: Scene<'_>) -> wire::StatServerReply {
    let settings = scene.snapshot.settings();
    let statistics = scene.snapshot.statistics;
    let counts = counts::all(scene);
    let mut list = Attributes::default();
    list.put("server_state", "Active");
    list.put("scheduling", "True");
    list.put("total_jobs", counts.total());
    list.put("state_count", counts.state_count());
    list.put("default_queue", &settings.default_queue);
    list.put_some("managers", users(&settings.managers));
    list.put_some("operators", users(&settings.operators));
    list.put("query_other_jobs", "True");
    list.put("pbs_version", env!("CARGO_PKG_VERSION"));
    list.put("kill_delay", settings.kill_delay_secs);
    list.put("keep_completed", settings.keep_completed_secs);
    list.put("next_job_number", scene.snapshot.state.next_seq());
    list.put("max_job_array_size", settings.array_members_max);
    list.put("journal_frames", statistics.groups);
    list.put("journal_records", statistics.records);
    list.put("journal_fsyncs", statistics.fsyncs);
    list.put("journal_bytes", statistics.bytes);
    list.put("journal_refused_frames", statistics.refused_groups);
    list.put("index_lag_records", statistics.index_lag_records);
    wire::StatServerReply {
        name: settings.server.to_string(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        attributes: list.0,
    }
}

fn users(names: &[Box<str>]) -> Option<String> {
    Some(names.join(",")).filter(|names| !names.is_empty())
}
