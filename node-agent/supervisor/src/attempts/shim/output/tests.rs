//! The rules of where output goes, and what is refused.

use super::*;
use capstan_proto::wire::OutputFiles;
use nix::sys::stat::Mode;
use nix::unistd::{geteuid, mkfifo};

/// Opens the outputs of a job named `run` with id 12, both written to; returns what the folder holds afterwards.
fn check(folder: &Path, output: OutputFiles, expected: &[(&str, &str)]) {
    let spec = spec(output);
    let env = [("PBS_JOBID".to_owned(), "12.srv".to_owned())];
    let mut streams = open(&spec, &me(folder), &env.into_iter().collect()).unwrap();
    streams.stdout.write_all(b"o").unwrap();
    streams.stderr.write_all(b"e").unwrap();
    for (name, content) in expected {
        let seen = fs::read_to_string(folder.join(name));
        assert_eq!(seen.ok().as_deref(), Some(*content), "{name}");
    }
    let files = fs::read_dir(folder).unwrap().filter_map(Result::ok);
    let files = files.filter(|file| file.file_type().is_ok_and(|kind| kind.is_file()));
    let top = expected.iter().filter(|(name, _)| !name.contains('/'));
    assert_eq!(files.count(), top.count());
}

fn spec(output: OutputFiles) -> LaunchSpec {
    LaunchSpec {
        job_id: "12.srv".into(),
        job_name: "run".into(),
        output: Some(output),
        ..LaunchSpec::default()
    }
}

fn me(home: &Path) -> Identity {
    Identity {
        user: "me".into(),
        uid: geteuid().as_raw(),
        home: home.to_string_lossy().into_owned(),
        ..Identity::default()
    }
}

fn refusal(folder: &Path, stdout: &Path) -> String {
    let output = OutputFiles {
        stdout: stdout.to_string_lossy().into_owned(),
        ..OutputFiles::default()
    };
    let opened = open(&spec(output), &me(folder), &Env::default());
    opened.err().expect("must be refused").to_string()
}

#[test]
fn files_are_opened_where_they_were_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).to_string_lossy().into_owned();
    let separate = OutputFiles {
        stdout: at("x"),
        stderr: format!("host:{}", at("y")),
        ..OutputFiles::default()
    };
    check(folder.path(), separate, &[("x", "o"), ("y", "e")]);
}

#[test]
fn a_folder_gets_the_default_name_inside_it() {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("out")).unwrap();
    let at = |name: &str| folder.path().join(name).to_string_lossy().into_owned();
    let output = OutputFiles {
        stdout: at("out"),
        stderr: at("new/"),
        ..OutputFiles::default()
    };
    check(
        folder.path(),
        output,
        &[("out/run.o12", "o"), ("new/run.e12", "e")],
    );
}

#[test]
fn joined_streams_share_one_file() {
    for (join, name) in [(Join::IntoStdout, "x"), (Join::IntoStderr, "y")] {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name).to_string_lossy().into_owned();
        let mut output = OutputFiles {
            stdout: at("x"),
            stderr: at("y"),
            ..OutputFiles::default()
        };
        output.set_join(join);
        check(folder.path(), output, &[(name, "oe")]);
    }
}

#[test]
fn one_path_for_both_is_one_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("both").to_string_lossy().into_owned();
    let output = OutputFiles {
        stdout: path.clone(),
        stderr: path,
        ..OutputFiles::default()
    };
    check(folder.path(), output, &[("both", "oe")]);
}

#[test]
fn kept_streams_go_to_the_home_folder() {
    let home = tempfile::tempdir().unwrap();
    let output = OutputFiles {
        stdout: "/nowhere/x".into(),
        stderr: "/nowhere/y".into(),
        keep: "oe".into(),
        ..OutputFiles::default()
    };
    check(home.path(), output, &[("run.o12", "o"), ("run.e12", "e")]);
}

#[test]
fn a_pipe_without_a_reader_is_refused_and_does_not_block() {
    let folder = tempfile::tempdir().unwrap();
    let pipe = folder.path().join("pipe");
    mkfifo(&pipe, Mode::S_IRWXU).unwrap();
    assert!(refusal(folder.path(), &pipe).contains("pipe"));
}

#[test]
fn a_missing_folder_in_somebody_elses_is_refused_with_both_names() {
    let folder = tempfile::tempdir().unwrap();
    let mut other = me(folder.path());
    other.uid += 1;
    let output = OutputFiles {
        stdout: folder.path().join("a/b/x").to_string_lossy().into_owned(),
        ..OutputFiles::default()
    };
    let opened = open(&spec(output), &other, &Env::default());
    let refusal = opened.err().unwrap().to_string();
    assert!(refusal.contains("a/b"), "{refusal}");
    assert!(refusal.contains("does not belong to me"), "{refusal}");
}
