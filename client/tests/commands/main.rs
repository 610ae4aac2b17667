//! The built commands against a fake server: what they ask, what they print, how they end. Texts and exit statuses are
//! those recorded from Torque.

#![expect(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod asking;
mod control;
mod examining;
mod fake;
mod qmgr;
mod reserving;
mod submitting;
mod viewing;
mod why;

use std::fs;
use std::io::Write;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use capstan_proto::wire::{Attribute, JobAttributes, JobRow, NodeRow, QueueRow, WideRow};
use capstan_types::Pbse;
use fake::{Fake, no};
use tempfile::TempDir;

/// `nobody`: jobs of root are refused, so commands run as this user when the tests run as root.
const NOBODY: u32 = 65534;

/// A folder with the commands in it, a user's files, and a server's socket.
struct Stage {
    folder: TempDir,
    server: Fake,
}

/// What a command left behind.
#[derive(Debug, PartialEq, Eq)]
struct Outcome {
    stdout: String,
    stderr: String,
    status: Option<i32>,
}

fn outcome(stdout: &str, stderr: &str, status: i32) -> Outcome {
    Outcome {
        stdout: stdout.to_owned(),
        stderr: stderr.to_owned(),
        status: Some(status),
    }
}

impl Stage {
    /// A stage whose server answers.
    fn new() -> Self {
        let stage = Self::without_server();
        stage.server.listen(&stage.socket());
        stage
    }

    /// A stage whose server is yet to come.
    fn without_server() -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let capstan = folder.path().join("capstan");
        let built = env!("CARGO_BIN_EXE_capstan");
        if fs::hard_link(built, &capstan).is_err() {
            fs::copy(built, &capstan).unwrap();
        }
        for name in [
            "qsub", "qalter", "qstat", "qwhy", "qdel", "qhold", "qrls", "qselect", "pbsnodes",
        ] {
            symlink("capstan", folder.path().join(name)).unwrap();
        }
        Self {
            folder,
            server: Fake::default(),
        }
    }

    fn socket(&self) -> PathBuf {
        self.folder.path().join("server.sock")
    }

    fn file(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.folder.path().join(name);
        fs::write(&path, bytes).unwrap();
        path
    }

    fn command(&self, line: &str) -> Command {
        let mut words = line.split(' ').filter(|word| !word.is_empty());
        let mut command = Command::new(self.folder.path().join(words.next().unwrap()));
        command
            .args(words)
            .current_dir(self.folder.path())
            .env_clear();
        command
            .env("CAPSTAN_SERVER_SOCKET", self.socket())
            .env("HOME", "/home/alice")
            .env("LANG", "C");
        command
            .env("TZ", "UTC")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    /// Runs a command as an ordinary user.
    fn run(&self, line: &str) -> Outcome {
        self.run_with(line, b"")
    }

    fn run_with(&self, line: &str, stdin: &[u8]) -> Outcome {
        let mut command = self.command(line);
        if nix::unistd::geteuid().is_root() {
            command.uid(NOBODY).gid(NOBODY);
        }
        let mut child = command.stdin(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(stdin).unwrap();
        let output = child.wait_with_output().unwrap();
        Outcome {
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
            status: output.status.code(),
        }
    }

    fn refuse(&self, about: &str, error: Pbse, detail: &str) {
        self.server
            .world()
            .refusals
            .insert(about.to_owned(), no(error, detail));
    }

    fn heard(&self) -> Vec<String> {
        std::mem::take(&mut self.server.world().heard)
    }
}

fn row(id: &str, name: &str, owner: &str, state: &str) -> JobRow {
    JobRow {
        id: id.into(),
        name: name.into(),
        owner: owner.into(),
        state: state.into(),
        queue: "batch".into(),
        cput_secs: None,
        wide: Some(WideRow {
            tasks: Some(1),
            nodes: Some(1),
            requested_secs: Some(3600),
            ..WideRow::default()
        }),
    }
}

fn attribute(name: &str, value: &str) -> Attribute {
    let (name, resource) = name.split_once('.').unwrap_or((name, ""));
    Attribute {
        name: name.into(),
        resource: resource.into(),
        value: value.into(),
    }
}

#[test]
fn qsub_prints_the_id_and_nothing_else() {
    let stage = Stage::new();
    stage.file(
        "job.sh",
        b"#!/bin/sh\n#PBS -N fromscript -p 7\n#PBS -l nodes=1:gpus=1,walltime=60\ntrue\n",
    );
    assert_eq!(stage.run("qsub job.sh"), outcome("1.hn1\n", "", 0));
    assert_eq!(
        stage.run("qsub job.sh -N late -l walltime=30 -q mcc"),
        outcome("2.hn1\n", "", 0)
    );
    assert_eq!(stage.run_with("qsub -z", b"true\n"), outcome("", "", 0));
    assert_eq!(
        stage.run_with("qsub -N named -h -", b"true\n"),
        outcome("4.hn1\n", "", 0)
    );
    assert_eq!(
        stage.run("capstan qsub -N through job.sh"),
        outcome("5.hn1\n", "", 0)
    );

    let world = stage.server.world();
    let shown = |at: usize| {
        let shown = world.submitted[at]
            .attributes
            .iter()
            .map(|a| format!("{}.{}={}", a.name, a.resource, a.value));
        shown.collect::<Vec<_>>()
    };
    assert!(shown(0).contains(&"Job_Name.=fromscript".to_owned()));
    assert!(shown(1).contains(&"Job_Name.=late".to_owned()));
    assert!(shown(1).contains(&"Resource_List.walltime=30".to_owned()));
    assert!(shown(1).contains(&"Resource_List.nodes=1:gpus=1".to_owned()));
    assert!(shown(1).contains(&"submit_args.=job.sh -N late -l walltime=30 -q mcc".to_owned()));
    assert_eq!(world.submitted[1].destination, "mcc");
    assert!(shown(2).contains(&"Job_Name.=STDIN".to_owned()));
    assert_eq!(world.submitted[2].script, b"true\n");
    assert!(shown(3).contains(&"Hold_Types.=u".to_owned()));
    let folder = stage.folder.path().to_str().unwrap();
    let work = world.submitted[0]
        .variables
        .iter()
        .find(|v| v.name == "PBS_O_WORKDIR")
        .unwrap();
    assert_eq!(work.value, folder);
}

#[test]
fn qsub_refuses_scripts_that_are_none() {
    let stage = Stage::new();
    fs::create_dir(stage.folder.path().join("adir")).unwrap();
    stage.file("bin.sh", b"\x7fELF\x01\x02\x03");
    stage.file("dos.sh", b"#!/bin/sh\r\n#PBS -N dos\r\ntrue\r\n");
    stage.file("quote.sh", b"#PBS -N 'open\n");
    let unreadable = stage.file("unreadable.sh", b"true\n");
    fs::set_permissions(unreadable, fs::Permissions::from_mode(0o000)).unwrap();
    let missing = "qsub: script file 'nosuch.sh' cannot be loaded - No such file or directory\n";
    assert_eq!(stage.run("qsub nosuch.sh"), outcome("", missing, 1));
    assert_eq!(
        stage.run("qsub adir"),
        outcome("", "qsub: script not a file\n", 1)
    );
    assert_eq!(
        stage.run("qsub bin.sh"),
        outcome("", "qsub:  file must be an ascii script\n", 1)
    );
    let dos = "qsub:  script is written in DOS/Windows text format\n";
    assert_eq!(stage.run("qsub -h dos.sh"), outcome("", dos, 1));
    let unreadable = stage.run("qsub unreadable.sh");
    assert_eq!(unreadable.status, Some(2));
    assert!(
        unreadable
            .stderr
            .starts_with("[qsub: opening script file:]\n\nusage: qsub [-a date_time]")
    );
    assert!(
        unreadable
            .stderr
            .ends_with("[-V ] [-x] [-X] [-z] [script]\n\n")
    );
    assert_eq!(stage.run("qsub dos.sh extra args").status, Some(1));
    assert_eq!(stage.run("qsub quote.sh").status, Some(1));
    assert!(stage.server.world().submitted.is_empty());
}

#[test]
fn a_refusal_has_the_text_and_the_number_of_torque() {
    let stage = Stage::new();
    let check = |error, detail: &str, text: &str, status| {
        stage.refuse("submit", error, detail);
        assert_eq!(
            stage.run("qsub"),
            outcome("", &format!("qsub: submit error ({text})\n"), status)
        );
    };
    check(
        Pbse::Unkque,
        "requested queue not found",
        "Unknown queue MSG=requested queue not found",
        172,
    );
    check(Pbse::Baddepend, "", "Invalid Job Dependency", 208);
    check(
        Pbse::Badatval,
        "Resource_List.walltime",
        "Illegal attribute or resource value for Resource_List.walltime",
        168,
    );
    check(
        Pbse::Unkresc,
        "Resource_List.x",
        "Unknown resource type  Resource_List.x",
        189,
    );
    check(Pbse::Tmpdiffowner, "", "tmpdir owned by another user", 1);
}

#[test]
fn a_server_of_another_name_has_no_address() {
    let stage = Stage::new();
    stage.refuse("submit", Pbse::Badhost, "");
    let resolve = "Can not resolve name for server nosuchhost. (rc = -2 - )\nCannot resolve specified server host 'nosuchhost'.\n";
    let cannot = "cannot connect to server nosuchhost (errno=15010) Access from host not allowed, or unknown host\n";
    assert_eq!(
        stage.run("qsub -q batch@nosuchhost"),
        outcome("", &format!("{resolve}qsub: {cannot}"), 162)
    );
    let error = "qstat: Error (15010 - Access from host not allowed, or unknown host) \n";
    let text = format!("{resolve}{resolve}{resolve}qstat: {cannot}{error}");
    assert_eq!(
        stage.run("qstat 248.hn1@nosuchhost"),
        outcome("", &text, 162)
    );
    let text = format!(
        "{resolve}pbsnodes: cannot connect to server nosuchhost, error=15010 (Access from host not allowed, or unknown host)\n"
    );
    assert_eq!(stage.run("pbsnodes -s nosuchhost"), outcome("", &text, 1));
}

#[test]
fn root_may_not_submit() {
    if !nix::unistd::geteuid().is_root() {
        return;
    }
    let stage = Stage::new();
    stage.refuse("submit", Pbse::Baduser, "root user root not allowed");
    let output = stage.command("qsub").output().unwrap();
    assert_eq!(
        String::from_utf8_lossy(&output.stderr),
        "qsub can not be run as root\n"
    );
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn b_waits_for_a_server_that_comes_up() {
    let stage = Stage::without_server();
    let mut command = stage.command("qsub -b 60");
    if nix::unistd::geteuid().is_root() {
        command.uid(NOBODY).gid(NOBODY);
    }
    let child = command.spawn().unwrap();
    stage.server.listen(&stage.socket());
    let output = child.wait_with_output().unwrap();
    assert_eq!(
        String::from_utf8_lossy(&output.stdout),
        "1.hn1\n",
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

#[test]
fn qstat_lists_jobs_and_then_what_is_wrong() {
    let stage = Stage::new();
    assert_eq!(stage.run("qstat"), outcome("", "", 0));
    assert_eq!(stage.run("qstat -a"), outcome("", "", 0));
    assert_eq!(
        stage.run("qstat -x"),
        outcome("<?xml version=\"1.0\"?>\n<Data></Data>\n", "", 0)
    );
    assert_eq!(stage.run("qstat --json"), outcome("{\"jobs\":[]}\n", "", 0));

    stage.server.world().rows = vec![
        row("248.hn1", "run1", "alice", "R"),
        row("251.hn1", "heldjob", "bob", "H"),
    ];
    stage.refuse("99999", Pbse::Unkjobid, "");
    stage.refuse("nosuchq", Pbse::Unkque, "");
    let header = "Job ID                    Name             User            Time Use S Queue\n\
        ------------------------- ---------------- --------------- -------- - -----\n";
    let one =
        "248.hn1                    run1             alice                  0 R batch          \n";
    let two =
        "251.hn1                    heldjob          bob                    0 H batch          \n";
    assert_eq!(
        stage.run("qstat"),
        outcome(&format!("{header}{one}{two}"), "", 0)
    );
    assert_eq!(
        stage.run("qstat batch@hn1"),
        outcome(&format!("{header}{one}{two}"), "", 0)
    );
    let unknown = "qstat: Unknown Job Id Error 99999.hn1\n";
    assert_eq!(
        stage.run("qstat 248.hn1 99999"),
        outcome(&format!("{header}{one}"), unknown, 153)
    );
    assert_eq!(
        stage.run("qstat nosuchq"),
        outcome("", "qstat: Unknown queue destination nosuchq\n", 172)
    );
    let malformed =
        "qstat: illegally formed job identifier: 1x\nqstat: Error (1 - Operation not permitted) \n";
    assert_eq!(
        stage.run("qstat 1x 99999"),
        outcome("", &format!("{malformed}{unknown}"), 1)
    );

    let wide = stage.run("qstat -u bob").stdout;
    assert!(wide.starts_with("\nhn1: \n    "), "{wide}");
    assert!(
        wide.contains("\n251.hn1                 bob         batch    heldjob "),
        "{wide}"
    );
    assert!(!wide.contains("alice"), "{wide}");
    assert_eq!(stage.run("qstat -r").stdout.lines().count(), 6);
    let misused = stage.run("qstat -n -f");
    assert!(misused.stderr.starts_with("qstat: conflicting options.\n -f incompatible with one or more options. Read qstat man page\nusage: \n"));
    assert_eq!(misused.status, Some(2));
}

#[test]
fn qstat_in_full_shows_every_attribute() {
    let stage = Stage::new();
    let attributes = vec![
        attribute("Job_Name", "run1"),
        attribute("ctime", "1795319750"),
        attribute("Resource_List.nodes", "2:ppn=2"),
        attribute("Resource_List.walltime", "00:20:00"),
    ];
    stage.server.world().jobs = vec![JobAttributes {
        reason: String::new(),
        id: "248.hn1".into(),
        attributes,
    }];
    let full = "Job Id: 248.hn1\n    Job_Name = run1\n    ctime = Sun Nov 22 03:55:50 2026\n    Resource_List.nodes = 2:ppn=2\n    \
        Resource_List.walltime = 00:20:00\n\n";
    assert_eq!(stage.run("qstat -f 248.hn1"), outcome(full, "", 0));
    let xml = "<?xml version=\"1.0\"?>\n<Data><Job><Job_Id>248.hn1</Job_Id><Job_Name>run1</Job_Name><ctime>1795319750</ctime>\
        <Resource_List><nodes>2:ppn=2</nodes><walltime>00:20:00</walltime></Resource_List></Job></Data>\n";
    assert_eq!(stage.run("qstat -x"), outcome(xml, "", 0));
    let json = "{\"jobs\":[{\"id\":\"248.hn1\",\"attributes\":{\"Job_Name\":\"run1\",\"ctime\":\"1795319750\",\
        \"Resource_List\":{\"nodes\":\"2:ppn=2\",\"walltime\":\"00:20:00\"}}}]}\n";
    assert_eq!(stage.run("qstat --json"), outcome(json, "", 0));
}

#[test]
fn qstat_lists_queues() {
    let stage = Stage::new();
    stage.refuse("nosuch", Pbse::Unkque, "cannot locate queue nosuch");
    stage.server.world().queues = vec![QueueRow {
        name: "batch".into(),
        enabled: true,
        started: true,
        jobs: [
            ("R".to_owned(), 2),
            ("H".to_owned(), 5),
            ("W".to_owned(), 1),
        ]
        .into(),
        attributes: vec![
            attribute("queue_type", "Execution"),
            attribute("mtime", "1795319677"),
        ],
        ..QueueRow::default()
    }];
    let table = "Queue              Max    Tot   Ena   Str   Que   Run   Hld   Wat   Trn   Ext T   Cpt\n\
        ----------------   ---   ----    --    --   ---   ---   ---   ---   ---   --- -   ---\n\
        batch                0      8   yes   yes     0     2     5     1     0     0 E     0\n";
    assert_eq!(stage.run("qstat -Q"), outcome(table, "", 0));
    let full = "Queue: batch\n    queue_type = Execution\n    mtime = 1795319677\n\n";
    assert_eq!(stage.run("qstat -Qf batch"), outcome(full, "", 0));
    assert_eq!(
        stage.run("qstat -Q nosuch"),
        outcome(
            "",
            "qstat: Unknown queue MSG=cannot locate queue nosuch \n",
            172
        )
    );
    assert!(
        stage
            .run("qstat -q")
            .stdout
            .starts_with("\nserver: hn1\n\nQueue            Memory")
    );
    assert!(stage.run("qstat -B").stdout.ends_with(
        "\nhn1                  0           0     0     0     0     0     0     0 Active    \n"
    ));
}

#[test]
fn a_reader_that_goes_away_ends_a_listing_quietly() {
    let stage = Stage::new();
    stage.server.world().rows = (0..20_000)
        .map(|n| row(&format!("{n}.hn1"), "name", "alice", "R"))
        .collect();
    let mut child = stage.command("qstat").spawn().unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!(
        (
            output.status.code(),
            String::from_utf8_lossy(&output.stderr).as_ref()
        ),
        (Some(141), "")
    );
}

#[test]
fn qdel_ends_with_the_last_failure() {
    let stage = Stage::new();
    stage.refuse("99999", Pbse::Unkjobid, "");
    stage.refuse("292.hn1", Pbse::Perm, "operation not permitted");
    stage.refuse("7", Pbse::Badstate, "invalid state for job - COMPLETE");
    assert_eq!(stage.run("qdel 1.hn1"), outcome("", "", 0));
    assert_eq!(stage.run("qdel -W 2 -b 1 1.hn1 2"), outcome("", "", 0));
    assert_eq!(
        stage.heard(),
        [
            "delete 1.hn1 None  false",
            "delete 1.hn1 Some(2)  false",
            "delete 2 Some(2)  false"
        ]
    );
    assert_eq!(
        stage.run("qdel 99999 293.hn1"),
        outcome("", "qdel: nonexistent job id: 99999\n", 153)
    );
    let denied = "qdel: Unauthorized Request  MSG=operation not permitted 292.hn1\n";
    assert_eq!(stage.run("qdel 292.hn1"), outcome("", denied, 159));
    let ended =
        "qdel: Request invalid for state of job MSG=invalid state for job - COMPLETE 7.hn1\n";
    assert_eq!(
        stage.run("qdel 292.hn1 7"),
        outcome("", &format!("{denied}{ended}"), 170)
    );
    stage.heard();
    assert_eq!(
        stage.run("qdel abc 1.hn1"),
        outcome("", "qdel: illegally formed job identifier: abc\n", 1)
    );
    assert_eq!(stage.heard(), [""; 0]);
    let all = "qdel: Unauthorized Request  MSG=operation not permitted all\n";
    stage.server.world().rows = vec![
        row("291.hn1", "a", "alice", "R"),
        row("292.hn1", "b", "bob", "R"),
    ];
    assert_eq!(stage.run("qdel ALL"), outcome("", all, 159));
    let mut heard = stage.heard();
    heard.sort();
    assert_eq!(
        heard,
        [
            "delete 291.hn1 None  false",
            "delete 292.hn1 None  false",
            "stat  0 false  true"
        ]
    );
    assert_eq!(stage.run("qdel -p -m why").status, Some(2));
    stage.refuse("8[99]", Pbse::Unkjobid, "");
    assert_eq!(stage.run("qdel -t 99 8[]"), outcome("", "", 0));
}

#[test]
fn holds_are_silent_about_unknown_jobs() {
    let stage = Stage::new();
    stage.refuse("99999", Pbse::Unkjobid, "");
    stage.refuse("300.hn1", Pbse::Perm, "");
    assert_eq!(stage.run("qhold 1.hn1"), outcome("", "", 0));
    assert_eq!(stage.run("qrls -h os 1.hn1"), outcome("", "", 0));
    assert_eq!(stage.heard(), ["hold 1.hn1 u", "release 1.hn1 os"]);
    assert_eq!(stage.run("qhold -t 1-2 7[].hn1"), outcome("", "", 0));
    assert_eq!(stage.heard(), ["hold 7[1].hn1 u", "hold 7[2].hn1 u"]);
    let malformed = "qhold: illegally formed job identifier: abc\n";
    assert_eq!(stage.run("qhold abc"), outcome("", malformed, 1));
    assert_eq!(stage.run("qhold 99999"), outcome("", "", 153));
    assert_eq!(stage.run("qrls 99999"), outcome("", "", 153));
    assert_eq!(
        stage.run("qhold -h o 300.hn1"),
        outcome("", "qhold: Unauthorized Request  300.hn1\n", 159)
    );
}

#[test]
fn pbsnodes_lists_and_changes_nodes() {
    let stage = Stage::new();
    let node = |name: &str, state: &str| NodeRow {
        name: name.into(),
        state: state.into(),
        note: "old".into(),
        attributes: vec![attribute("state", state), attribute("np", "4")],
        simulated: true,
        facts: Vec::new(),
    };
    stage.server.world().nodes = vec![
        node("gpu01", "free"),
        node("gpu02", "offline,job-exclusive"),
    ];
    stage.refuse("nosuch", Pbse::Unknode, "cannot locate specified node");
    let one = "gpu01\n     state = free\n     np = 4\n\n";
    let two = "gpu02\n     state = offline,job-exclusive\n     np = 4\n\n";
    assert_eq!(
        stage.run("pbsnodes"),
        outcome(&format!("{one}{two}"), "", 0)
    );
    assert_eq!(
        stage.run("pbsnodes -a"),
        outcome(&format!("{one}{two}"), "", 0)
    );
    let unknown = "pbsnodes: Unknown node  MSG=cannot locate specified node\n";
    assert_eq!(stage.run("pbsnodes gpu01 nosuch"), outcome(one, unknown, 1));
    assert_eq!(stage.run("pbsnodes -q nosuch"), outcome("", "", 1));
    assert_eq!(
        stage.run("pbsnodes -l"),
        outcome("gpu02                offline,job-exclusive\n", "", 0)
    );
    assert_eq!(
        stage.run("pbsnodes -l up"),
        outcome("gpu01                free\n", "", 0)
    );
    assert_eq!(stage.run("pbsnodes -d"), outcome("", "", 0));
    let xml = "<Data><Node><name>gpu01</name><state>free</state><np>4</np></Node></Data>\n";
    assert_eq!(stage.run("pbsnodes -x gpu01"), outcome(xml, "", 0));
    assert!(
        stage
            .run("pbsnodes --json")
            .stdout
            .contains("\"simulated\":true")
    );
    stage.heard();
    assert_eq!(stage.run("pbsnodes -o -N broken gpu01"), outcome("", "", 0));
    assert_eq!(stage.run("pbsnodes -c -A again gpu01"), outcome("", "", 0));
    let heard = [
        "node gpu01 1 Some(\"broken\")",
        "nodes gpu01",
        "node gpu01 2 Some(\"old again\")",
    ];
    assert_eq!(stage.heard(), heard);
    stage.refuse("gpu02", Pbse::Perm, "");
    assert_eq!(
        stage.run("pbsnodes -N x gpu02"),
        outcome(
            "",
            "Error setting note attribute for gpu02 - Unauthorized Request \n",
            0
        )
    );
}

#[test]
fn versions_and_help_need_no_server() {
    let stage = Stage::without_server();
    for command in [
        "qsub", "qstat", "qwhy", "qdel", "qhold", "qrls", "qselect", "pbsnodes",
    ] {
        let seen = stage.run(&format!("{command} --version"));
        let commit = seen
            .stdout
            .strip_prefix("Version: 6.1.3.h5\nCommit: ")
            .map(|commit| commit.trim_end().len());
        assert_eq!(
            (commit, seen.status),
            (Some(40), Some(0)),
            "{command}: {}",
            seen.stdout
        );
    }
    assert!(stage.run("capstan help").stdout.contains("\n    qsub "));
    assert_eq!(stage.run("capstan frobnicate").status, Some(2));
}
