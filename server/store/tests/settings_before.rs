//! Settings as they were stored before `qmgr` ruled over them: they still read, and mean the same.

#![allow(clippy::unwrap_used, reason = "a test may stop at any failure")]

use std::collections::BTreeMap;

use capstan_core::Settings;
use serde::Serialize;

/// The fields of that time.
#[derive(Serialize)]
struct Before {
    server: &'static str,
    default_queue: &'static str,
    queues: BTreeMap<&'static str, QueueBefore>,
    node_properties: BTreeMap<&'static str, Vec<&'static str>>,
    node_slots: BTreeMap<&'static str, u16>,
    managers: Vec<&'static str>,
    operators: Vec<&'static str>,
    keep_completed_secs: u64,
    kill_delay_secs: u32,
    node_down_after_secs: u64,
    node_lost_after_secs: u64,
    script_bytes_max: u64,
    array_members_max: u64,
    live_jobs_max: u64,
}

#[derive(Serialize)]
struct QueueBefore {
    name: &'static str,
    is_enabled: bool,
    is_started: bool,
    priority: i32,
    resources_default: Vec<(&'static str, &'static str)>,
    resources_max: Vec<(&'static str, &'static str)>,
}

fn before() -> Before {
    let mcc = QueueBefore {
        name: "mcc",
        is_enabled: true,
        is_started: false,
        priority: 5,
        resources_default: vec![("walltime", "168:00:00")],
        resources_max: Vec::new(),
    };
    Before {
        server: "hn1",
        default_queue: "mcc",
        queues: BTreeMap::from([("mcc", mcc)]),
        node_properties: BTreeMap::from([("node01", vec!["S", "fast"])]),
        node_slots: BTreeMap::from([("node01", 16)]),
        managers: vec!["ann"],
        operators: Vec::new(),
        keep_completed_secs: 60,
        kill_delay_secs: 9,
        node_down_after_secs: 15,
        node_lost_after_secs: 300,
        script_bytes_max: 1 << 20,
        array_members_max: 100_000,
        live_jobs_max: 1_000_000,
    }
}

fn read_again<T: Serialize>(value: &T) -> Settings {
    let mut bytes = Vec::new();
    let mut serializer = rmp_serde::Serializer::new(&mut bytes).with_struct_map();
    value.serialize(&mut serializer).unwrap();
    rmp_serde::from_slice(&bytes).unwrap()
}

#[test]
fn settings_of_before_qmgr_read_and_mean_the_same() {
    let settings = read_again(&before());
    assert!(!settings.is_seeded, "the file ruled then, at every start");
    assert_eq!(settings.default_queue(), Some("mcc".into()));
    assert!(settings.is_manager(1000, "ann", "anywhere") && settings.is_scheduling());
    assert_eq!(settings.keep_completed_secs("mcc"), 60);
    assert_eq!(settings.kill_delay_secs("mcc"), 9);
    let mcc = &settings.queues["mcc"];
    assert_eq!(
        (mcc.is_enabled(), mcc.is_started(), mcc.priority()),
        (true, false, 5)
    );
    assert_eq!(mcc.resources_default().get("walltime"), Some("168:00:00"));
    let node = &settings.nodes["node01"];
    assert_eq!(node.integer("np"), Some(16));
    assert_eq!(node.list("properties"), ["S".into(), "fast".into()]);
}

#[test]
fn settings_of_now_read_as_they_were_written() {
    let mut settings = Settings::new("hn1".into());
    settings.set("resources_cost.mem", "5");
    settings.set("acl_hosts", "hn1,hn2");
    settings.node_mut(&"node01".into()).set("np", "4").unwrap();
    assert_eq!(read_again(&settings), settings);
    assert_eq!(read_again(&read_again(&before())), read_again(&before()));
}
