//! Against the real thing: the recorded sessions of Torque, and unmodified programs that were made for it. Needs root.

#![expect(
    clippy::unwrap_used,
    reason = "a failed unwrap in a test's own helper is a failed test"
)]

mod site;
mod tolerated;
mod transcript;

use std::process::Command;

use capstan_tests::cluster::sources;

use site::{Site, is_root};
use tolerated::Tolerated;

/// Share of the recorded commands that have to agree whole, the tolerated ones counted as differing.
const SHARE_MIN: f64 = 0.97;

/// `TORQUE_CASES=E02` runs the cases whose names begin so, and no count is taken of the rest.
#[test]
fn recorded_sessions_of_torque_agree_but_for_the_tolerated_differences() {
    if !is_root() {
        return;
    }
    let filter = std::env::var("TORQUE_CASES").unwrap_or_default();
    let site = Site::up(&[]);
    let folder = sources().join("tests/torque");
    let (recorded, ours) = (folder.join("cases"), site.path().join("transcripts"));
    let ran = site.run(
        Command::new(folder.join("run_cases.sh"))
            .arg(&ours)
            .arg(&filter),
    );
    assert!(ran.status.success(), "{ran:?}");
    let wanted = site.path().join("recorded");
    let numbers = transcript::align(&recorded, &ours, &wanted, &filter);
    let compared = site.run(
        Command::new("python3")
            .arg(folder.join("compare.py"))
            .args([&wanted, &ours])
            .args(["--show", "100000"]),
    );
    let report = String::from_utf8_lossy(&compared.stdout).into_owned();
    let differing = transcript::differing(&report);
    let tolerated = Tolerated::read(&folder.join("tolerated.txt"));
    let intolerable: Vec<_> = differing
        .iter()
        .filter(|one| !tolerated.has(one))
        .map(|one| one.text.as_str())
        .collect();
    let summary = report.lines().last().unwrap_or_default();
    assert!(
        intolerable.is_empty(),
        "{} commands differ from Torque's and are not tolerated; {summary}\n{}",
        intolerable.len(),
        intolerable.join("\n")
    );
    if filter.is_empty() {
        let share = 1.0 - differing.len() as f64 / numbers.commands as f64;
        assert!(
            share >= SHARE_MIN,
            "{share:.4} of the commands agree; {summary}"
        );
        let stale = tolerated.without(&differing);
        assert!(stale.is_empty(), "these do not differ any more: {stale:#?}");
    }
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
        assert!(ran.status.success(), "{program}: {ran:?}");
    }
}
