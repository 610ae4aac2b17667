//! The rules of where output goes, and what is refused.

use super::*;
use capstan_proto::wire::OutputFiles;
use nix::sys::stat::Mode;
use nix::unistd::{geteuid, mkfifo};

/// Opens the outputs of a job named `run` with id 12, both written to; returns what the folder holds afterwards.
fn check(folder: &Path, output: OutputFiles, expected: &[(&str, &str)]) {
    let mut streams = opened(folder, output, &me(folder));
    assert_eq!(streams.messages, [""; 0]);
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

/// The streams of that job; what cannot be opened is kept in `undelivered` of the same folder.
fn opened(folder: &Path, output: OutputFiles, identity: &Identity) -> Streams {
    let mut entry = Entry {
        state_folder: folder.to_string_lossy().into_owned(),
        ..Entry::default()
    };
    entry.spec.job_id = "12.srv".into();
    entry.spec.job_name = "run".into();
    entry.spec.output = Some(output);
    let _there = fs::create_dir(folder.join("undelivered"));
    let env = [("PBS_JOBID".to_owned(), "12.srv".to_owned())];
    let mask = Mode::from_bits_truncate(0o077);
    open(&entry, identity, &env.into_iter().collect(), mask).unwrap()
}

fn me(home: &Path) -> Identity {
    Identity {
        user: "me".into(),
        uid: geteuid().as_raw(),
        home: home.to_string_lossy().into_owned(),
        ..Identity::default()
    }
}

/// What is said when stdout cannot be opened; its content is kept.
fn kept(folder: &Path, stdout: &Path, identity: &Identity) -> String {
    let output = OutputFiles {
        stdout: stdout.to_string_lossy().into_owned(),
        ..OutputFiles::default()
    };
    let mut streams = opened(folder, output, identity);
    streams.stdout.write_all(b"o").unwrap();
    let content = fs::read_to_string(folder.join("undelivered/12.srv.OU"));
    assert_eq!(content.unwrap(), "o");
    streams.messages.concat()
}

#[test]
fn files_are_opened_where_they_were_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).to_string_lossy().into_owned();
    let separate = OutputFiles {
        stdout: at("x"),
        stderr: format!("localhost:{}", at("y")),
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
fn a_pipe_without_a_reader_does_not_block() {
    let folder = tempfile::tempdir().unwrap();
    let pipe = folder.path().join("pipe");
    mkfifo(&pipe, Mode::S_IRWXU).unwrap();
    assert!(kept(folder.path(), &pipe, &me(folder.path())).contains("pipe"));
}

/// The recorded session D07.
#[test]
fn output_that_cannot_be_delivered_is_kept() {
    let folder = tempfile::tempdir().unwrap();
    let message = kept(folder.path(), Path::new("/proc/none/x"), &me(folder.path()));
    let kept = folder.path().join("undelivered/12.srv.OU");
    let expected = format!(
        "Unable to copy file {} to /proc/none/x, error 1\n",
        kept.display()
    );
    assert!(message.starts_with(&expected), "{message}");
    assert!(message.ends_with(&format!("in: {}\n", kept.display())));
}

#[test]
fn output_is_written_anew_and_appended_to() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x");
    fs::write(&path, "old content").unwrap();
    let output = OutputFiles {
        stdout: path.to_string_lossy().into_owned(),
        ..OutputFiles::default()
    };
    let mut streams = opened(folder.path(), output, &me(folder.path()));
    streams.stdout.write_all(b"a").unwrap();
    let mut other = OpenOptions::new().append(true).open(&path).unwrap();
    other.write_all(b"b").unwrap();
    streams.stdout.write_all(b"c").unwrap();
    assert_eq!(fs::read_to_string(&path).unwrap(), "abc");
}

#[test]
fn the_null_device_takes_output_and_keeps_nothing_whatever_host_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let output = OutputFiles {
        stdout: "/dev/null".into(),
        stderr: "192.0.2.7:/dev/null".into(),
        ..OutputFiles::default()
    };
    check(folder.path(), output, &[]);
}

#[test]
fn members_of_an_array_have_files_of_their_own_in_a_folder() {
    let folder = tempfile::tempdir().unwrap();
    let mut entry = Entry {
        state_folder: folder.path().to_string_lossy().into_owned(),
        ..Entry::default()
    };
    entry.spec.job_id = "12[3].srv".into();
    entry.spec.job_name = "run-3".into();
    entry.spec.array_index = Some(3);
    entry.spec.output = Some(OutputFiles {
        stdout: format!("localhost:{}/", folder.path().display()),
        keep: "e".into(),
        ..OutputFiles::default()
    });
    let streams = open(
        &entry,
        &me(folder.path()),
        &Env::default(),
        Mode::from_bits_truncate(0o077),
    );
    assert!(streams.unwrap().outgoing.is_empty());
    for name in ["run.o12-3", "run.e12-3"] {
        assert!(folder.path().join(name).is_file(), "{name}");
    }
}

/// For a host whose files are not here both are written beside the spool, and are one file when they go to one path.
#[test]
fn output_for_another_host_is_kept_by_its_user_until_it_is_copied() {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("spool")).unwrap();
    let count = |stdout: &str, stderr: &str| {
        let output = OutputFiles {
            stdout: stdout.into(),
            stderr: stderr.into(),
            ..OutputFiles::default()
        };
        let mut streams = opened(folder.path(), output, &me(folder.path()));
        streams.stdout.write_all(b"o").unwrap();
        streams.stderr.write_all(b"e").unwrap();
        let kept = folder.path().join("spool/12.srv.0.o/run.o12");
        (streams.outgoing.len(), fs::read_to_string(kept).unwrap())
    };
    let (one, other) = ("192.0.2.7:/none/x", "192.0.2.7:/none/y");
    assert_eq!(count(one, other), (2, "o".to_owned()));
    assert_eq!(count(one, one), (1, "oe".to_owned()));
    // In a folder they have names of their own.
    let folder = "192.0.2.7:/none/";
    assert_eq!(count(folder, folder), (2, "o".to_owned()));
}
