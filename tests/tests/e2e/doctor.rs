//! The doctor: what it finds on a host, which line mends it, and that agents look with its eyes when they start.

use std::fs;
use std::path::Path;

use capstan_tests::{Cluster, wait_until};
use serde_json::Value;

use crate::disk::Disk;
use crate::is_root;

struct Seen {
    status: i32,
    findings: Vec<Value>,
}

impl Seen {
    fn of(&self, check: &str) -> Vec<&Value> {
        let of = |finding: &&Value| finding["check"] == check;
        self.findings.iter().filter(of).collect()
    }
}

/// What the doctor says with `settings`, as a script hears it; a person is told the same.
fn ask(cluster: &Cluster, settings: &Path) -> Seen {
    let line = format!("capstan doctor -s {}", settings.display());
    let told = cluster.root(&line);
    let ran = cluster.root(&format!("{line} --json"));
    assert_eq!(told.status, ran.status, "{told:?}");
    let report: Value = serde_json::from_str(&ran.stdout).unwrap();
    let findings = report["findings"].as_array().unwrap().clone();
    for finding in &findings {
        for part in ["check", "what", "why", "mend"] {
            let text = finding[part].as_str().unwrap();
            assert!(!text.is_empty() && told.stdout.contains(text), "{finding}");
        }
    }
    Seen {
        status: ran.status,
        findings,
    }
}

/// Writes the node's settings with changes; where.
fn changed(
    cluster: &Cluster,
    name: &str,
    change: impl FnOnce(&mut toml::Table),
) -> std::path::PathBuf {
    let path = cluster.path().join("nodes/node01/agent.toml");
    let mut table: toml::Table = fs::read_to_string(path).unwrap().parse().unwrap();
    change(&mut table);
    let path = cluster.path().join(name);
    fs::write(&path, table.to_string()).unwrap();
    path
}

#[test]
fn the_doctor_says_what_is_wrong_and_how_to_mend_it_and_agents_look_when_they_start() {
    if !is_root() {
        return;
    }
    let mut cluster = Cluster::up(&["--nodes", "1", "--cores", "1", "--cards", "1", "--debug"]);
    let home = cluster.path().join("no-such-home");
    let missing = changed(&cluster, "missing.toml", |table| {
        table["volumes"]["home"]["path"] = home.display().to_string().into();
    });
    let seen = ask(&cluster, &missing);
    let text = home.display().to_string();
    let of_home = |finding: &&&Value| finding["what"].as_str().unwrap().contains(&text);
    let volumes = seen.of("volume-missing");
    let found = volumes.iter().find(of_home).unwrap();
    assert_eq!(found["weight"], "warning");
    assert!(found["mend"].as_str().unwrap().contains(&text), "{found}");

    let silent = changed(&cluster, "silent.toml", |table| {
        table.insert("docker_socket".into(), "/none/docker.sock".into());
    });
    let seen = ask(&cluster, &silent);
    assert_eq!(seen.status, 2, "no container runs here");
    let found = seen.of("docker-silent");
    assert_eq!(found.len(), 1);
    assert_eq!(found[0]["weight"], "broken");
    assert!(
        found[0]["what"]
            .as_str()
            .unwrap()
            .contains("/none/docker.sock")
    );

    let nowhere = cluster.root("capstan doctor -s /none/agent.toml");
    assert_ne!(nowhere.status, 0);
    assert!(nowhere.stderr.contains("/none/agent.toml"), "{nowhere:?}");

    // The agent of a host that is ill says so where administrators look.
    let disk = Disk::mount(&cluster.path().join("small"), "32m");
    fs::write(disk.0.join("filler"), vec![1; 32 << 20]).ok();
    fs::File::options()
        .write(true)
        .open(disk.0.join("filler"))
        .unwrap()
        .set_len((32 << 20) - (400 << 10))
        .unwrap();
    let full = changed(&cluster, "full.toml", |table| {
        table.insert("state_dir".into(), disk.0.display().to_string().into());
    });
    let seen = ask(&cluster, &full);
    assert_eq!(seen.status, 2, "nothing can be started");
    assert_eq!(seen.of("state-full").len(), 1);
    cluster.kill("node01");
    fs::copy(&full, cluster.path().join("nodes/node01/agent.toml")).unwrap();
    cluster.start("node01");
    wait_until("the node tells of it", || {
        let said = cluster.root("pbsnodes").stdout;
        match said.contains("doctor: ") && said.contains("state-full") {
            true => Ok(()),
            false => Err(said),
        }
    });
    cluster.kill("node01");
}
