//! `qstat`, `qselect` and `pbsnodes` against the fake server: what they ask for, and what they print in every form.

use std::io::Read;

use capstan_proto::wire::{JobAttributes, NodeRow, QueueRow};
use capstan_types::Pbse;

use super::{Stage, attribute, outcome, row};

fn job(id: &str, lines: &[&str]) -> JobAttributes {
    let pair = |line: &&str| {
        let (name, value) = line.split_once(" = ").unwrap();
        attribute(name, value)
    };
    JobAttributes {
        id: id.into(),
        attributes: lines.iter().map(pair).collect(),
        reason: String::new(),
    }
}

#[test]
fn what_is_asked_for_follows_the_options() {
    let stage = Stage::new();
    let asked = |line: &str| {
        stage.run(line);
        stage.heard().join("; ")
    };
    assert_eq!(asked("qstat"), "stat  0 false  false");
    assert_eq!(asked("qstat -e batch"), "stat batch 0 true  false exec");
    // `-E` means something else in PBS Pro, so the server was asked for its dialect.
    assert_eq!(asked("qstat -E x"), "stat  0 true  false torque");
    // Where a queue or a user chooses, arrays stay together.
    assert_eq!(
        asked("qstat -E x batch"),
        "stat batch 0 false  false torque"
    );
    assert_eq!(asked("qstat -c"), "stat  0 false  true");
    assert_eq!(
        asked("qstat -f -u alice,bob@h"),
        "stat  2 false alice+bob false"
    );
    assert_eq!(asked("qstat -u bob 7"), "stat 7 1 false  false");
    assert_eq!(asked("qstat -J"), "stat  0 false  false arrays");
    assert_eq!(asked("qstat -W a -l -C"), "stat  0 false  false");
    // Who asks for PBS Pro's formats speaks its dialect.
    assert_eq!(asked("qstat -f -F json"), "stat  2 false  false pbspro");
    assert_eq!(
        asked("qstat -x -f -F json 7"),
        "stat 7 2 false  false finished pbspro"
    );
}

#[test]
fn jobs_named_by_their_ids_are_shown_whatever_their_state() {
    let stage = Stage::new();
    stage.server.world().rows = vec![row("251.hn1", "heldjob", "bob", "H")];
    assert_eq!(stage.run("qstat -r").stdout, "");
    assert!(stage.run("qstat -r 251.hn1").stdout.contains("\n251.hn1 "));
}

#[test]
fn destinations_that_are_none_are_told() {
    let stage = Stage::new();
    let said = "qstat: illegally formed destination: @\nqstat: Error (15004 - Invalid request) \n";
    assert_eq!(stage.run("qstat @"), outcome("", said, 156));
    let unresolved = "Can not resolve name for server nosuchhost. (rc = -2 - )\n\
        Cannot resolve specified server host 'nosuchhost'.\n";
    let connection = "qstat: cannot connect to server nosuchhost (errno=15010) \
        Access from host not allowed, or unknown host\n\
        qstat: Error (15010 - Access from host not allowed, or unknown host) \n";
    let said = format!("{}{connection}", unresolved.repeat(3));
    assert_eq!(
        stage.run("qstat 248.hn1@nosuchhost"),
        outcome("", &said, 162)
    );
}

#[test]
fn other_peoples_jobs_may_be_hidden() {
    let stage = Stage::new();
    stage.refuse("248.hn1", Pbse::Perm, "");
    let said = "qstat: Unauthorized Request  248.hn1\n";
    assert_eq!(stage.run("qstat 248.hn1"), outcome("", said, 159));
}

#[test]
fn a_format_that_is_none_is_misuse() {
    let stage = Stage::new();
    for line in ["qstat -F", "qstat -F yaml"] {
        let seen = stage.run(line);
        assert!(
            seen.stderr
                .starts_with("qstat: invalid option -- 'F'\nusage: \n"),
            "{seen:?}"
        );
        assert_eq!(seen.status, Some(2));
    }
}

/// PBS Pro's tools ask in its formats; who sets the dialect gets its tables as well.
#[test]
fn formats_and_tables_of_pbs_pro_are_written() {
    let stage = Stage::new();
    let lines = [
        "Job_Name = run1",
        "Job_Owner = alice@hn1",
        "job_state = C",
        "ctime = 1795319750",
        "exec_host = gpu01/0-1",
        "Resource_List.nodes = 1:ppn=2",
        "exit_status = 3",
        "Variable_List = PBS_O_HOME=/home/alice,A=1",
    ];
    stage.server.world().jobs = vec![job("248.hn1", &lines)];
    let json: serde_json::Value =
        serde_json::from_str(&stage.run("qstat -x -f -F json").stdout).unwrap();
    assert_eq!(json["pbs_server"], "hn1");
    let seen = &json["Jobs"]["248.hn1"];
    assert_eq!(seen["job_state"], "F");
    assert_eq!(seen["Exit_status"], 3);
    assert_eq!(seen["ctime"], "Sun Nov 22 03:55:50 2026");
    assert_eq!(seen["Resource_List"]["ncpus"], 2);
    assert_eq!(seen["Variable_List"]["A"], "1");
    assert_eq!(seen["exec_vnode"], "(gpu01:ncpus=2)");
    let dsv = stage.run("qstat -f -F dsv").stdout;
    assert!(
        dsv.starts_with("Job Id: 248.hn1|Job_Name=run1|Job_Owner=alice@hn1|job_state=F|"),
        "{dsv}"
    );
    stage.server.world().rows = vec![row("248.hn1", "run1", "alice", "C")];
    stage.heard();
    let mut command = stage.command("qstat -x");
    command.env("CAPSTAN_DIALECT", "pbspro");
    let output = command.output().unwrap();
    let table = String::from_utf8(output.stdout).unwrap();
    assert!(table.starts_with("Job id            Name "), "{table}");
    assert!(table.contains(" F batch"), "{table}");
    assert_eq!(stage.heard(), ["stat  0 false  false finished pbspro"]);
}

#[test]
fn everything_is_there_as_json() {
    let stage = Stage::new();
    let parsed = |line: &str| -> serde_json::Value {
        serde_json::from_str(&stage.run(line).stdout).unwrap()
    };
    stage.server.world().rows = vec![row("248.hn1", "run1", "alice", "R")];
    stage.server.world().queues = vec![QueueRow {
        name: "batch".into(),
        attributes: vec![
            attribute("queue_type", "Execution"),
            attribute("resources_max.mem", "1gb"),
        ],
        ..QueueRow::default()
    }];
    assert_eq!(parsed("qselect --json")["jobs"][0], "248.hn1");
    let queue = &parsed("qstat -Q --json")["queues"][0];
    assert_eq!(queue["name"], "batch");
    assert_eq!(queue["attributes"]["resources_max"]["mem"], "1gb");
    assert_eq!(
        parsed("qstat -Q -F json")["Queue"]["batch"]["queue_type"],
        "Execution"
    );
    let server = &parsed("qstat -B --json")["servers"][0];
    assert_eq!(server["attributes"]["server_state"], "Active");
    assert_eq!(
        parsed("qstat -B -F json")["Server"]["hn1"]["server_state"],
        "Active"
    );
    stage.server.world().nodes = vec![NodeRow {
        name: "gpu01".into(),
        state: "free".into(),
        attributes: vec![
            attribute("state", "free"),
            attribute("np", "4"),
            attribute("jobs", "0-1/374.hn1"),
        ],
        facts: vec![attribute("container_engine", "29.1")],
        ..NodeRow::default()
    }];
    let node = &parsed("pbsnodes --json")["nodes"][0];
    assert_eq!(node["container_engine"], "29.1");
    let node = &parsed("pbsnodes -av -F json")["nodes"]["gpu01"];
    assert_eq!(node["resources_available"]["ncpus"], 4);
    assert_eq!(node["jobs"][1], "374.hn1/1");
    assert!(
        stage
            .run("pbsnodes -a -F dsv")
            .stdout
            .starts_with("Name=gpu01|Mom=gpu01|")
    );
}

#[test]
fn qselect_prints_ids_and_refuses_in_the_words_of_torque() {
    let stage = Stage::new();
    assert_eq!(stage.run("qselect"), outcome("", "", 0));
    stage.server.world().rows = vec![
        row("352[0].hn1", "arr-0", "alice", "R"),
        row("352[1].hn1", "arr-1", "alice", "R"),
    ];
    assert_eq!(
        stage.run("qselect -u alice"),
        outcome("352[0].hn1\n352[1].hn1\n", "", 0)
    );
    stage.refuse("nosuchq", Pbse::Unkque, "");
    assert_eq!(
        stage.run("qselect -q nosuchq"),
        outcome("", "qselect: Unknown queue\n", 172)
    );
    assert_eq!(stage.run("qselect -s X").status, Some(2));
    assert_eq!(stage.run("qselect operand").status, Some(2));
}

#[test]
fn pbsnodes_tells_failures_and_ends_well() {
    let stage = Stage::new();
    stage.refuse("nosuch", Pbse::Unknode, "cannot locate specified node");
    stage.refuse("gpu01", Pbse::Perm, "error in permissions (PERM_OPorMGR)");
    let unknown = "Error setting note attribute for nosuch - Unknown node  MSG=cannot locate specified node\n";
    let denied = "Error setting note attribute for gpu01 - Unauthorized Request  MSG=error in permissions (PERM_OPorMGR)\n";
    assert_eq!(
        stage.run("pbsnodes -o nosuch gpu01 cpu01"),
        outcome("", &format!("{unknown}{denied}"), 0)
    );
    assert_eq!(stage.run("pbsnodes -q -c nosuch"), outcome("", "", 0));
    assert_eq!(stage.run("pbsnodes -o"), outcome("", "", 0));
    stage.heard();
    assert_eq!(stage.run("pbsnodes -r cpu01"), outcome("", "", 0));
    assert_eq!(stage.run("pbsnodes -m running cpu01"), outcome("", "", 0));
    let power = stage.run("pbsnodes -m suspend cpu01");
    assert!(
        power
            .stderr
            .starts_with("Error setting note attribute for cpu01 - "),
        "{power:?}"
    );
    assert_eq!(
        stage.run("pbsnodes -q -Z"),
        outcome("", "pbsnodes: invalid option -- 'Z'\n", 1)
    );
}

/// A listing of many jobs is written as it comes: a reader has its first lines long before the server has sent the last.
#[test]
fn long_documents_are_streamed() {
    let stage = Stage::new();
    stage.server.world().rows = (0..20_000)
        .map(|n| row(&format!("{n}.hn1"), "name", "alice", "R"))
        .collect();
    for line in ["qstat", "qselect --json"] {
        let mut child = stage.command(line).spawn().unwrap();
        let mut stdout = child.stdout.take().unwrap();
        let mut first = [0; 64];
        stdout.read_exact(&mut first).unwrap();
        let mut rest = Vec::new();
        stdout.read_to_end(&mut rest).unwrap();
        assert!(child.wait().unwrap().success());
        assert!(rest.len() > 200_000, "{line}: {}", rest.len());
    }
}
