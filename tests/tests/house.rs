//! The rules of the house that a compiler does not check: what files begin with, how long they are, what they are
//! called, and which crate may know which.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// Longest file that still holds one thing; tests may be longer.
const LINES_MAX: usize = 500;
const TEST_LINES_MAX: usize = 800;

/// Which of our crates each may depend on (dev-dependencies excepted).
const GRAPH: &[(&str, &[&str])] = &[
    ("proto/types", &[]),
    ("proto", &["capstan-types"]),
    ("server/core", &["capstan-types"]),
    ("server/sim", &["capstan-core", "capstan-types"]),
    ("server/store", &["capstan-core", "capstan-types"]),
    (
        "server",
        &[
            "capstan-core",
            "capstan-proto",
            "capstan-store",
            "capstan-types",
        ],
    ),
    ("node-agent/supervisor", &["capstan-proto", "capstan-types"]),
    ("node-agent/gpu", &["capstan-supervisor", "capstan-types"]),
    (
        "node-agent/runtime",
        &["capstan-supervisor", "capstan-types"],
    ),
    (
        "node-agent",
        &[
            "capstan-gpu",
            "capstan-proto",
            "capstan-runtime",
            "capstan-supervisor",
            "capstan-types",
        ],
    ),
    ("client", &["capstan-proto", "capstan-sim", "capstan-types"]),
    (
        "tests",
        &[
            "capstan-core",
            "capstan-proto",
            "capstan-sim",
            // The journal is a witness of the chaos run.
            "capstan-store",
            "capstan-types",
        ],
    ),
];

/// Libraries that only one crate may name.
const BEHIND_A_PORT: &[(&str, &str)] = &[
    ("sled", "server/store"),
    ("nvml-wrapper", "node-agent/gpu"),
    ("bollard", "node-agent/runtime"),
];

fn root() -> PathBuf {
    capstan_tests::cluster::sources()
}

fn rust_files() -> Vec<PathBuf> {
    let mut found = Vec::new();
    for top in ["proto", "server", "node-agent", "client", "tests"] {
        collect(&root().join(top), &mut found);
    }
    found
}

fn collect(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("the folder is there") {
        let path = entry.expect("the folder can be read").path();
        if path.is_dir() {
            collect(&path, found);
        } else if path.extension().is_some_and(|end| end == "rs") {
            found.push(path);
        }
    }
}

fn is_test(path: &Path) -> bool {
    let name = path.file_stem().and_then(|name| name.to_str());
    path.components().any(|part| part.as_os_str() == "tests")
        || name.is_some_and(|name| name.ends_with("tests"))
}

#[test]
fn a_file_says_first_what_it_decides() {
    let mut silent = rust_files();
    silent.retain(|path| {
        let text = fs::read_to_string(path).expect("sources are text");
        !text.starts_with("//!")
    });
    assert!(silent.is_empty(), "no //! at the top of {silent:#?}");
}

#[test]
fn a_file_holds_one_thing() {
    let mut long = Vec::new();
    for path in rust_files() {
        let text = fs::read_to_string(&path).expect("sources are text");
        let lines = text.lines().count();
        let max = if is_test(&path) {
            TEST_LINES_MAX
        } else {
            LINES_MAX
        };
        if lines > max {
            long.push((path, lines, max));
        }
    }
    assert!(long.is_empty(), "split these by noun: {long:#?}");
}

#[test]
fn a_name_says_what_its_job_is() {
    for path in rust_files() {
        let name = path
            .file_stem()
            .and_then(|name| name.to_str())
            .unwrap_or_default();
        let vague = ["utils", "util", "helpers", "helper", "common", "misc"];
        assert!(
            !vague.contains(&name),
            "{path:?}: if it has no better name it has no clear job"
        );
    }
}

#[test]
fn crates_know_only_those_below_them() {
    for (folder, allowed) in GRAPH {
        let known = dependencies(folder);
        let ours: BTreeSet<&str> = known
            .keys()
            .map(String::as_str)
            .filter(|name| name.starts_with("capstan-"))
            .collect();
        let allowed: BTreeSet<&str> = allowed.iter().copied().collect();
        let more: Vec<_> = ours.difference(&allowed).collect();
        assert!(more.is_empty(), "{folder} may not know {more:?}");
        for (library, home) in BEHIND_A_PORT {
            assert!(
                folder == home || !known.contains_key(*library),
                "{folder} may not name {library}: {home} does"
            );
        }
    }
}

fn dependencies(folder: &str) -> BTreeMap<String, toml::Value> {
    let file = root().join(folder).join("Cargo.toml");
    let table: toml::Table = fs::read_to_string(&file)
        .expect("a crate has a Cargo.toml")
        .parse()
        .expect("it is TOML");
    let found = table
        .get("dependencies")
        .and_then(toml::Value::as_table)
        .cloned()
        .unwrap_or_default();
    found.into_iter().collect()
}
