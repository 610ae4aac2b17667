//! `qsub --explain` and `qsub --dry-run` as whole programs: what they point at, how they end, and that nothing is
//! submitted.

use capstan_proto::wire::examine_reply::Outlook;
use capstan_proto::wire::start::Part;
use capstan_proto::wire::wait::SoonerWith;
use capstan_proto::wire::{
    Attribute, DefaultResource, ExamineReply, JobAttributes, QueueRow, Start, Wait,
};
use capstan_types::Pbse;
use serde_json::Value;

use super::Stage;

const GOOD: &[u8] =
    b"#!/bin/sh\n#PBS -N good\n#PBS -l nodes=1:ppn=2:gpus=2,walltime=01:00:00\ntrue\n";

fn attribute(name: &str, resource: &str, value: &str) -> Attribute {
    Attribute {
        name: name.into(),
        resource: resource.into(),
        value: value.into(),
    }
}

fn queue_row(name: &str) -> QueueRow {
    QueueRow {
        name: name.into(),
        ..QueueRow::default()
    }
}

/// A stage whose server says that the job would start on node03 with two cards.
fn startable() -> Stage {
    let stage = Stage::new();
    stage.server.world().examination = ExamineReply {
        job: Some(JobAttributes {
            id: "7.hn1".into(),
            attributes: vec![
                attribute("Job_Name", "", "good"),
                attribute("Resource_List", "walltime", "01:00:00"),
            ],
            ..JobAttributes::default()
        }),
        defaults: vec![DefaultResource {
            name: "mem".into(),
            value: "4gb".into(),
            of: "queue batch".into(),
        }],
        outlook: Some(Outlook::Starts(Start {
            parts: vec![Part {
                job_id: "7.hn1".into(),
                node: "node03".into(),
                slots: vec![0, 1],
                cards: vec![0, 3],
                memory_bytes: 0,
            }],
            jobs: 1,
            jobs_in_all: 1,
        })),
    };
    stage
}

#[test]
fn all_errors_of_a_script_are_pointed_at_and_nothing_is_asked() {
    let stage = Stage::new();
    let script =
        b"#!/bin/sh\n#PBS -N a b\n#PBS -p 9999\n#PBS -l nodes=1:gpuz=2\n#PBS --walltme=1:00\n\
        # PBS -j oe\ntrue\n#PBS -m abe\n";
    stage.file("job.pbs", script);
    let plain = stage.run("qsub job.pbs");
    let explained = stage.run("qsub --explain job.pbs");
    let expected = "\
It would be refused: see the 3 errors (exit status 2).

job.pbs:2:11: warning: this is no option, and is ignored
    #PBS -N a b
              ^
job.pbs:3:9: error: illegal -p value
    #PBS -p 9999
            ^^^^
job.pbs:4:17: error: nodes= cannot be read: expected gpus=
    #PBS -l nodes=1:gpuz=2
                    ^^^^^^
    gpus= is meant?
job.pbs:5:6: error: there is no option --walltme
    #PBS --walltme=1:00
         ^^^^^^^^^
    -l walltime=HH:MM:SS is meant?
job.pbs:6:1: warning: this is a comment: directives begin with #PBS
    # PBS -j oe
    ^^^^^^^^^^^
    #PBS -j oe is meant?
job.pbs:8:1: warning: this is ignored: it stands behind the first command (line 7)
    #PBS -m abe
    ^^^^^^^^^^^
    move it above all commands
";
    assert_eq!(explained.stdout, expected, "{}", explained.stderr);
    assert_eq!(
        (explained.stderr.as_str(), explained.status),
        ("", plain.status)
    );
    let world = stage.server.world();
    assert!(world.examined.is_empty() && world.submitted.is_empty());
}

#[test]
fn a_job_that_would_start_says_where() {
    let stage = startable();
    stage.file("job.pbs", GOOD);
    let explained = stage.run("qsub --explain -o /dev/null -e /dev/null job.pbs");
    let expected = "It would start now on node03 with 2 cards.\n\
        It asks for no mem and gets 4gb, the default of queue batch.\n";
    assert_eq!(explained.stdout, expected, "{}", explained.stderr);
    assert_eq!((explained.stderr.as_str(), explained.status), ("", Some(0)));
    let world = stage.server.world();
    assert!(world.submitted.is_empty());
    let request = &world.examined[0];
    let args = request
        .attributes
        .iter()
        .find(|one| one.name == "submit_args");
    assert_eq!(args.unwrap().value, "-o /dev/null -e /dev/null job.pbs");
}

#[test]
fn a_dry_run_shows_what_would_be_submitted_as_qstat_would() {
    let stage = startable();
    stage.file("job.pbs", GOOD);
    let shown = stage.run("qsub -o /dev/null -e /dev/null job.pbs --dry-run");
    let expected = "Job Id: 7.hn1 (nothing was submitted)\n    Job_Name = good\n    \
        Resource_List.walltime = 01:00:00\n\nIt would start now on node03 with 2 cards.\n\
        It asks for no mem and gets 4gb, the default of queue batch.\n";
    assert_eq!(shown.stdout, expected, "{}", shown.stderr);
    assert!(stage.server.world().submitted.is_empty());
}

#[test]
fn programs_get_all_of_it_as_one_object() {
    let stage = startable();
    stage.file("job.pbs", GOOD);
    for asked in ["--explain", "--dry-run"] {
        let shown = stage.run(&format!(
            "qsub {asked} --json -o /dev/null -j oe -N other job.pbs"
        ));
        let value: Value = serde_json::from_str(&shown.stdout).unwrap();
        assert_eq!(
            (&value["accepted"], &value["exit_status"]),
            (&true.into(), &0.into())
        );
        assert_eq!(value["outlook"]["parts"][0]["node"], "node03");
        assert_eq!(value["job"]["attributes"]["Job_Name"], "good");
        let finding = &value["findings"][0];
        assert_eq!(finding["severity"], "note");
        assert_eq!(
            finding["message"],
            "-N good loses to -N other of the command line"
        );
        assert_eq!(
            (&finding["place"]["line"], &finding["place"]["column"]),
            (&2.into(), &9.into())
        );
    }
    stage.refuse("submit", Pbse::Perm, "no");
    let refused = stage.run("qsub --dry-run --json job.pbs");
    let value: Value = serde_json::from_str(&refused.stdout).unwrap();
    assert_eq!(
        (&value["accepted"], &value["exit_status"]),
        (&false.into(), &159.into())
    );
    assert_eq!(refused.status, Some(159));
}

#[test]
fn a_job_that_would_wait_says_why() {
    let stage = startable();
    stage.server.world().examination.outlook = Some(Outlook::Waits(Wait {
        reason: "Not Running: Job is held (hold types u)".into(),
        place_in_line: Some(2),
        expected_start_secs: Some(1_795_391_940),
        confidence: "likely".into(),
        changes: vec!["-l nodes=1:gpus=1".into()],
        sooner: vec![SoonerWith {
            change: "-l nodes=1:gpus=2".into(),
            at_secs: 1_795_390_200,
            confidence: "firm".into(),
        }],
    }));
    stage.file("job.pbs", GOOD);
    let explained = stage.run("qsub --explain -k oe job.pbs");
    let expected = "It would wait: Not Running: Job is held (hold types u).\n\
        It would be number 2 in line.\nExpected start: Sun Nov 22 23:59:00 2026 (likely).\n\
        It would start now with -l nodes=1:gpus=1\n\
        It would start Sun Nov 22 23:30:00 2026 (firm) with -l nodes=1:gpus=2\nIt asks for no mem and gets 4gb, the default of queue batch.\n";
    assert_eq!(explained.stdout, expected, "{}", explained.stderr);
}

#[test]
fn the_servers_refusal_points_at_the_option_that_it_is_about() {
    let stage = Stage::new();
    stage.server.world().queues = vec![queue_row("batch"), queue_row("long")];
    stage.refuse("submit", Pbse::Unkque, "");
    stage.file("job.pbs", b"#PBS -q lnog\ntrue\n");
    let plain = stage.run("qsub job.pbs");
    let explained = stage.run("qsub --explain -k oe job.pbs");
    let expected = "It would be refused: see the error (exit status 170).\n\n\
        job.pbs:1:9: error: Unknown queue\n    #PBS -q lnog\n            ^^^^\n    -q long is meant?\n";
    assert_eq!(explained.status, plain.status);
    let status = format!("{}", plain.status.unwrap());
    assert_eq!(explained.stdout, expected.replace("170", &status));
}

#[test]
fn a_script_of_windows_is_still_looked_through() {
    let stage = Stage::new();
    stage.file("dos.pbs", b"#!/bin/sh\r\n#PBS -l walltme=1\r\ntrue\r\n");
    let explained = stage.run("qsub --explain dos.pbs");
    for part in [
        "It would be refused: see the 2 errors (exit status 1).\n",
        "dos.pbs:1:10: error: this line ends as on Windows (CR LF), as 3 lines do\n",
        "    sed -i 's/\\r$//' dos.pbs makes it a script\n",
        "dos.pbs:2:9: error: there is no resource walltme\n",
    ] {
        assert!(
            explained.stdout.contains(part),
            "{part}\n{}",
            explained.stdout
        );
    }
    assert_eq!(explained.status, stage.run("qsub dos.pbs").status);
}

#[test]
fn output_that_cannot_be_written_and_a_missing_walltime_are_told() {
    let stage = startable();
    stage.server.world().examination.defaults = vec![DefaultResource {
        name: "walltime".into(),
        value: "168:00:00".into(),
        of: "queue batch".into(),
    }];
    stage.file("job.pbs", b"#PBS -o /nosuch/place/out\n#PBS -e /dev/null\n#PBS -l nodes=1:gpus=4\ntorchrun --nproc_per_node=1 x.py\n");
    let explained = stage.run("qsub --explain job.pbs");
    for part in [
        "job.pbs:1:9: warning: stdout of the job cannot be written: /nosuch/place is not there, and / may not be written by you\n",
        "job.pbs:4:1: warning: one process on a node, of a job that asks for 4 cards there\n",
        "job.pbs: warning: no walltime: queue batch gives it 168:00:00\n",
    ] {
        assert!(
            explained.stdout.contains(part),
            "{part}\n{}",
            explained.stdout
        );
    }
    assert_eq!(explained.status, Some(0), "warnings refuse nothing");
}

#[test]
fn our_options_alone_are_none_as_before() {
    let stage = Stage::new();
    stage.file("job.pbs", GOOD);
    let refused = stage.run("qsub --json job.pbs");
    assert!(
        refused
            .stderr
            .starts_with("[a single - is not a valid option]")
    );
    let stdin = stage.run_with("qsub --explain -p 5000", b"true\n");
    assert!(
        stdin
            .stdout
            .contains("command line: error: illegal -p value\n    qsub -p 5000\n"),
        "{}",
        stdin.stdout
    );
    let missing = stage.run("qsub --explain nosuch.pbs");
    assert_eq!(missing.status, Some(1));
    assert!(
        missing.stdout.contains("cannot be loaded - No such file"),
        "{}",
        missing.stdout
    );
}

#[test]
fn a_server_that_is_busy_refuses_to_examine_and_says_nothing_of_the_job() {
    let stage = Stage::new();
    stage.file("job.pbs", GOOD);
    stage.refuse(
        "submit",
        Pbse::ServerBusy,
        "as many scripts as there may be",
    );
    let busy = stage.run("qsub --explain job.pbs");
    assert_eq!((busy.stdout.as_str(), busy.status), ("", Some(1)));
    assert!(
        busy.stderr
            .starts_with("qsub: this cannot be examined now: "),
        "{}",
        busy.stderr
    );
}
