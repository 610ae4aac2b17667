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
    check("managers = ['al@i ce']", Err("managers"));
    check("host = 'a b'", Err("host = \"a b\""));
    check("script_bytes_max = 0", Err("script_bytes_max"));
}

/// What `qmgr` would print of a queue.
fn printed(settings: &capstan_core::Settings, queue: &str) -> Vec<String> {
    let lines = settings.queues[queue].attributes.lines();
    let lines = lines.iter().map(|line| match line.resource {
        "" => format!("{} = {}", line.definition.name, line.value),
        resource => format!("{}.{resource} = {}", line.definition.name, line.value),
    });
    lines.collect()
}

fn read(text: &str) -> Settings {
    resolve(&toml::from_str(text).unwrap(), "hn1").unwrap()
}

#[test]
fn queue_batch_is_there_and_a_week_is_the_default_walltime() {
    let settings = read("[queues.mcc]\nstarted = false\npriority = 5").core;
    assert_eq!((settings.server.as_str(), &*settings.host), ("hn1", "hn1"));
    assert_eq!(settings.default_queue(), Some("batch".into()));
    let order = settings.queues_in_order();
    let names: Vec<&str> = order.iter().map(|queue| queue.name.as_str()).collect();
    assert_eq!(names, ["batch", "mcc"]);
    let mcc = [
        "queue_type = Execution",
        "Priority = 5",
        "resources_default.walltime = 168:00:00",
        "enabled = True",
        "started = False",
    ];
    assert_eq!(printed(&settings, "mcc"), mcc);
}

#[test]
fn an_empty_table_of_queues_is_no_queue_at_all() {
    let settings = read("[queues]").core;
    assert!(settings.queues.is_empty());
    assert_eq!(settings.default_queue(), None);
    check(
        "default_queue = 'batch'\n[queues]",
        Err("no such queue; add a table [queues.batch]"),
    );
}

#[test]
fn a_queue_of_shorter_jobs_gives_its_limit_as_the_default_walltime() {
    let settings = read("[queues.debug]\nresources_max = {walltime = '00:15:00'}").core;
    let debug = &settings.queues["debug"];
    assert_eq!(debug.resources_default().get("walltime"), Some("00:15:00"));
}

#[test]
fn what_is_written_wins_over_what_is_built_in() {
    let text = "server_name = 'c1'\nhost = 'head'\nkeep_completed_secs = 7\n\
                managers = ['ann', 'bob@head']\n[queues.batch]\n\
                resources_default = {walltime = '01:00:00'}\n[nodes.node01]\nproperties = ['S']\nnp = 4";
    let settings = read(text);
    assert_eq!(settings.host, "head");
    let settings = settings.core;
    let keep = settings.keep_completed_secs("batch");
    assert_eq!(
        (settings.server.as_str(), &*settings.host, keep),
        ("c1", "head", 7)
    );
    assert_eq!(settings.managers(), ["ann@*".into(), "bob@head".into()]);
    let batch = &settings.queues["batch"];
    assert_eq!(batch.resources_default().get("walltime"), Some("01:00:00"));
    let node = &settings.nodes["node01"];
    assert_eq!(node.integer("np"), Some(4));
    assert_eq!(node.list("properties"), ["S".into()]);
}

#[test]
fn qmgr_rules_over_the_file_once_a_server_has_started() {
    let text = "keep_completed_secs = 7\nnode_lost_after_secs = 99\n[queues.mcc]\npriority = 5\n[nodes.n1]\nnp = 2";
    let first = read(text);
    let (core, differences) = first.in_force(None);
    assert_eq!((&core, differences), (&first.core, Vec::new()));

    let mut stored = (*core).clone();
    stored.set("keep_completed", "60");
    stored.queues.remove("mcc");
    stored.node_lost_after_secs = 1;
    let (core, differences) = first.in_force(Some(&stored));
    assert_eq!(core.keep_completed_secs("batch"), 60);
    assert!(!core.queues.contains_key("mcc"));
    // What only the file says is always as the file says.
    assert_eq!(core.node_lost_after_secs, 99);
    let told: Vec<_> = differences
        .iter()
        .map(|Difference { key, remedy, .. }| (&**key, &**remedy))
        .collect();
    let expected = [
        (
            "keep_completed_secs",
            "qmgr -c 'set server keep_completed = 7'",
        ),
        (
            "queues.mcc.priority",
            "qmgr -c 'set queue mcc Priority = 5'",
        ),
    ];
    assert_eq!(told, expected);

    stored.is_seeded = false;
    let (core, differences) = first.in_force(Some(&stored));
    assert_eq!((&core, differences), (&first.core, Vec::new()));
}
