//! Against the real thing: the recorded sessions of Torque, and unmodified programs that were made for it. Needs root.

#![expect(
    clippy::unwrap_used,
    reason = "a failed unwrap in a test's own helper is a failed test"
)]

mod site;

use std::path::Path;
use std::process::{Command, Output};

use capstan_tests::cluster::sources;

use site::{Site, is_root};

#[track_caller]
fn assert_success(what: &str, ran: &Output) {
    let [stdout, stderr] = [&ran.stdout, &ran.stderr].map(|text| String::from_utf8_lossy(text));
    assert!(
        ran.status.success(),
        "{what}: {}\n{stdout}\n{stderr}",
        ran.status
    );
}

/// The recorded cases in their order, and always the one that makes the queues of the others.
fn cases(folder: &Path, filter: &str) -> Vec<String> {
    let files = std::fs::read_dir(folder).unwrap();
    let names = files.map(|file| file.unwrap().file_name().into_string().unwrap());
    let names = names.filter_map(|name| Some(name.strip_suffix(".txt")?.to_owned()));
    let mut names: Vec<String> = names
        .filter(|name| name.starts_with(filter) || name.starts_with("A01"))
        .collect();
    names.sort();
    names
}

/// `TORQUE_CASES=E02` runs the cases whose names begin so (and A01).
#[test]
fn recorded_sessions_of_torque_agree_but_for_the_tolerated_differences() {
    if !is_root() {
        return;
    }
    let filter = std::env::var("TORQUE_CASES").unwrap_or_default();
    let site = Site::up(&[]);
    let folder = sources().join("tests/torque");
    let ours = site.path().join("transcripts");
    for case in cases(&folder.join("cases"), &filter) {
        let script = folder.join("run_cases.sh");
        let ran = site.run(Command::new("bash").args([&script, &ours]).arg(&case));
        assert_success(&case, &ran);
        // Some cases leave jobs behind, of which the next knew nothing when it was recorded.
        let wiped = site.run(Command::new("sh").args(["-c", "qselect | xargs -r qdel -p"]));
        assert_success("qdel -p", &wiped);
    }
    let compared = site.run(
        Command::new("python3")
            .args([folder.join("agree.py"), folder.join("cases"), ours])
            .arg(folder.join("tolerated.txt"))
            .arg(&filter),
    );
    assert_success("agree.py", &compared);
}

#[test]
fn programs_made_for_torque_run_unmodified() {
    if !is_root() {
        return;
    }
    let site = Site::up(&["--queue", "batch"]);
    for program in ["fireworks_pbs", "aiida_torque", "batchspawner_torque"] {
        let script = sources().join("tests/clients").join(program).join("run.sh");
        let ran = site.run(
            Command::new(script)
                .env("CAPSTAN_BIN", site.path().join("bin"))
                .env("KIT_WORK", site.path().join("work"))
                .env("KIT_VENVS", site.path().join("venvs")),
        );
        assert_success(program, &ran);
    }
}
