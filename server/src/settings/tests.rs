//! What the settings file means.

use super::*;

fn check(text: &str, expected: Result<(), &str>) {
    let seen = toml::from_str(text).map_err(|error| error.to_string());
    let seen = seen.and_then(|file| resolve(&file, "hn1").map_err(|error| error.to_string()));
    match expected {
        Ok(()) => assert!(seen.is_ok(), "{text}: {seen:?}"),
        Err(part) => {
            let error = seen.expect_err(text);
            assert!(error.contains(part), "{text}: {error}");
        }
    }
}

#[test]
fn a_wrong_setting_is_refused_by_key_and_value() {
    check("", Ok(()));
    check("server_nam = 'x'", Err("unknown field `server_nam`"));
    check("[queues.mcc]\nenable = true", Err("unknown field `enable`"));
    check("agents_listen = 'host'", Err("agents_listen = \"host\""));
    check(
        "state_dir = 'rel'",
        Err("state_dir = \"rel\": not an absolute path"),
    );
    check("server_name = 'a b'", Err("server_name = \"a b\""));
    check("heartbeat_secs = 0", Err("heartbeat_secs"));
    check(
        "node_down_after_secs = 9\nnode_lost_after_secs = 3",
        Err("node_lost_after_secs = \"3\""),
    );
    check(
        "default_queue = 'mcc'",
        Err("default_queue = \"mcc\": no such queue; add a table [queues.mcc]"),
    );
    check("default_queue = 'mcc'\n[queues.mcc]", Ok(()));
    check("[queues.abcdefghijklmnop]", Err("at most 15 characters"));
    check(
        "[queues.q]\nresources_max = {walltme = 5}",
        Err("queues.q.resources_max.walltme"),
    );
    check("[nodes.n1]\nnp = 0", Err("nodes.n1.np = \"0\""));
    check(
        "[nodes.n1]\nproperties = ['a,b']",
        Err("nodes.n1.properties = \"a,b\""),
    );
    check("managers = ['al ice']", Err("managers"));
    check("script_bytes_max = 0", Err("script_bytes_max"));
}

#[test]
fn queue_batch_is_always_there_and_a_week_is_the_default_walltime() {
    let file = toml::from_str("[queues.mcc]\nstarted = false\npriority = 5").unwrap();
    let settings = resolve(&file, "hn1").unwrap().core;
    assert_eq!(settings.server.as_str(), "hn1");
    assert_eq!(settings.default_queue.as_str(), "batch");
    let names: Vec<&str> = settings.queues.keys().map(QueueName::as_str).collect();
    assert_eq!(names, ["batch", "mcc"]);
    let mcc = &settings.queues["mcc"];
    assert!(mcc.is_enabled && !mcc.is_started && mcc.priority == 5);
    assert_eq!(mcc.resources_default.get("walltime"), Some("168:00:00"));
}

#[test]
fn a_queue_of_shorter_jobs_gives_its_limit_as_the_default_walltime() {
    let file = toml::from_str("[queues.debug]\nresources_max = {walltime = '00:15:00'}").unwrap();
    let settings = resolve(&file, "hn1").unwrap().core;
    let debug = &settings.queues["debug"];
    assert_eq!(debug.resources_default.get("walltime"), Some("00:15:00"));
}

#[test]
fn what_is_written_wins_over_what_is_built_in() {
    let text = "server_name = 'c1'\nkeep_completed_secs = 7\n[queues.batch]\n\
                resources_default = {walltime = '01:00:00'}\n[nodes.node01]\nproperties = ['S']\nnp = 4";
    let settings = resolve(&toml::from_str(text).unwrap(), "hn1").unwrap().core;
    assert_eq!(
        (settings.server.as_str(), settings.keep_completed_secs),
        ("c1", 7)
    );
    assert_eq!(
        settings.queues["batch"].resources_default.get("walltime"),
        Some("01:00:00")
    );
    assert_eq!(settings.node_slots["node01"], 4);
    assert_eq!(settings.node_properties["node01"], ["S".into()]);
}
