//! A node whose container engine does not answer: jobs inside images wait for it, and whoever calls startdocker is told.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use capstan_tests::engine::{self, IMAGE};
use capstan_tests::{Cluster, OwnEngine, User, wait_until};

use crate::is_root;
use crate::life::{cluster_of, hook};

/// A cluster of one node whose agent uses `own`, which lies in `folder`.
fn cluster_on(folder: &std::path::Path) -> Cluster {
    let mut cluster = Cluster::up(&["--nodes", "1", "--cores", "4", "--cards", "1", "--debug"]);
    let path = cluster.path().join("nodes/node01/agent.toml");
    let text = fs::read_to_string(&path).unwrap();
    let mut settings: toml::Table = text.parse().unwrap();
    let socket = OwnEngine::socket(folder).display().to_string();
    settings.insert("docker_socket".into(), socket.into());
    fs::write(&path, settings.to_string()).unwrap();
    cluster.kill("node01");
    cluster.start("node01");
    cluster.wait_nodes();
    cluster
}

/// Where an engine may keep what it has.
fn place() -> tempfile::TempDir {
    let place = tempfile::Builder::new()
        .prefix("capstan-engine-")
        .tempdir()
        .unwrap();
    fs::set_permissions(place.path(), PermissionsExt::from_mode(0o755)).unwrap();
    place
}

fn wait_told(cluster: &Cluster) {
    wait_until("the node tells of its engine", || {
        let said = cluster.root("pbsnodes").stdout;
        match said.contains("engine: ") {
            true => Ok(()),
            false => Err(said),
        }
    });
}

#[test]
fn a_job_inside_an_image_waits_for_the_engine_of_its_node_and_startdocker_says_that_it_is_away() {
    if !is_root() || !engine::is_there() {
        return;
    }
    let place = place();
    let mut own = OwnEngine::start(place.path());
    let cluster = cluster_on(place.path());
    let alice = User::alice();
    let folder = alice.folder("engine-away");
    let options = format!("-d . -j oe -o out -l nodes=1:gpus=1 -W image={IMAGE}");
    let job = cluster.submit(&alice, &folder, &options, "echo inside; exit 3");
    cluster.wait_state(&job, "C");
    assert_eq!(cluster.attribute(&job, "exit_status").as_deref(), Some("3"));

    // The server thinks for a while yet that all is well.
    own.kill();
    let job = cluster.submit(&alice, &folder, &options, "echo inside; exit 4");
    wait_until("the job is told why it waits", || {
        let comment = cluster.attribute(&job, "comment").unwrap_or_default();
        let state = cluster.attribute(&job, "job_state").unwrap_or_default();
        match state == "Q" && comment.contains("container engine") {
            true => Ok(()),
            false if state == "W" && comment.contains("engine") => Ok(()),
            false => Err((state, comment)),
        }
    });
    let line = format!("startdocker -c true {IMAGE}");
    let host = cluster.submit(&alice, &folder, "-d . -j oe -o host -l nodes=1", &line);
    cluster.wait_state(&host, "C");
    let said = fs::read_to_string(folder.join("host")).unwrap();
    assert_eq!(
        cluster.attribute(&host, "exit_status").as_deref(),
        Some("125"),
        "{said}"
    );
    assert!(said.contains("dockerd is down on this node"), "{said}");
    wait_told(&cluster);
    let state = cluster.attribute(&job, "job_state");
    assert!(state.as_deref().is_some_and(|state| "QW".contains(state)));
    assert_eq!(cluster.attribute(&job, "Hold_Types").as_deref(), Some("n"));

    own.start_again();
    cluster.wait_state(&job, "C");
    assert_eq!(cluster.attribute(&job, "exit_status").as_deref(), Some("4"));
    let said = fs::read_to_string(folder.join("out")).unwrap();
    assert!(said.contains("inside"), "{said}");
}

#[test]
fn a_job_is_given_back_when_the_engine_of_its_node_hangs_and_one_that_runs_goes_on() {
    if !is_root() || !engine::is_there() {
        return;
    }
    let place = place();
    let own = OwnEngine::start(place.path());
    let cluster = cluster_on(place.path());
    let alice = User::alice();
    let folder = alice.folder("engine-hangs");
    let options = |wants: &str| format!("-d . -j oe {wants} -W image={IMAGE}");
    let script = "echo begun; while [ ! -e go ]; do sleep 0.1; done; echo gone on";
    let running = cluster.submit(&alice, &folder, &options("-o running -l nodes=1"), script);
    wait_until("its container runs", || {
        let said = fs::read_to_string(folder.join("running")).unwrap_or_default();
        (said == "begun\n").then_some(()).ok_or(said)
    });

    // The server thinks for a while yet that all is well.
    own.hang();
    let options = options("-o out -l nodes=1:gpus=1");
    let job = cluster.submit(&alice, &folder, &options, "echo inside; exit 4");
    let line = format!("startdocker -c true {IMAGE}");
    let host = cluster.submit(&alice, &folder, "-d . -j oe -o host -l nodes=1", &line);
    wait_until("the job is given back and told why", || {
        let comment = cluster.attribute(&job, "comment").unwrap_or_default();
        let state = cluster.attribute(&job, "job_state").unwrap_or_default();
        match "QW".contains(&state) && comment.contains("container engine") {
            true => Ok(()),
            false => Err((state, comment)),
        }
    });
    cluster.wait_state(&host, "C");
    let said = fs::read_to_string(folder.join("host")).unwrap();
    assert_eq!(
        cluster.attribute(&host, "exit_status").as_deref(),
        Some("125"),
        "{said}"
    );
    assert!(
        said.contains("does not answer") && said.contains("hangs"),
        "{said}"
    );
    wait_told(&cluster);
    assert_eq!(
        cluster.attribute(&running, "job_state").as_deref(),
        Some("R")
    );

    own.go_on();
    cluster.wait_state(&job, "C");
    assert_eq!(cluster.attribute(&job, "exit_status").as_deref(), Some("4"));
    fs::write(folder.join("go"), "").unwrap();
    cluster.wait_state(&running, "C");
    let said = fs::read_to_string(folder.join("running")).unwrap();
    assert_eq!(said, "begun\ngone on\n");
    assert_eq!(
        cluster.attribute(&running, "exit_status").as_deref(),
        Some("0")
    );
    wait_until("no container is left", || {
        match own.docker(&["ps", "-aq"]).unwrap_or_default() {
            left if left.trim().is_empty() => Ok(()),
            left => Err(left),
        }
    });
}

#[test]
fn a_container_that_could_not_begin_is_tried_again_also_when_the_agent_that_knew_why_is_killed() {
    if !is_root() || !engine::is_there() {
        return;
    }
    engine::make_image("docker", IMAGE);
    let mut cluster = cluster_of(1, &["--cores", "2"], "hooks_dir = 'DIR/hooks'");
    let alice = User::alice();
    let folder = alice.folder("engine-forgotten");
    let at = |name: &str| folder.join(name).display().to_string();
    let wait = format!(
        "touch {}; until [ -e {} ]; do sleep 0.1; done",
        at("waits"),
        at("go")
    );
    hook(&cluster, "epilogue", 0o700, &wait);
    // As a disk does it that is full: the agent cannot write what the container's users are.
    let settings = fs::read_to_string(cluster.path().join("nodes/node01/agent.toml")).unwrap();
    let settings: toml::Table = settings.parse().unwrap();
    let state = std::path::Path::new(settings["state_dir"].as_str().unwrap());
    let people = state.join("containers/people");
    fs::create_dir_all(people.parent().unwrap()).unwrap();
    fs::write(&people, "").unwrap();
    let options = format!("-d . -j oe -o out -l nodes=1 -W image={IMAGE}");
    let job = cluster.submit(&alice, &folder, &options, "echo inside; exit 4");
    wait_until("its epilogue runs", || {
        folder.join("waits").exists().then_some(()).ok_or(())
    });
    cluster.kill("node01");
    fs::remove_file(&people).unwrap();
    cluster.start("node01");
    cluster.wait_nodes();
    fs::write(folder.join("go"), "").unwrap();
    cluster.wait_state(&job, "C");
    let said = fs::read_to_string(folder.join("out")).unwrap();
    assert_eq!(
        cluster.attribute(&job, "exit_status").as_deref(),
        Some("4"),
        "{said}"
    );
    assert!(said.contains("inside"), "{said}");
}
