//! Commands that order something of jobs: what they ask of the server, what they say, how they end. Texts and exit
//! statuses are those of sessions E01, E02, E04, E06 to E08 and H07.

use super::*;

const DENIED: &str = "operation not permitted";
const COMPLETE: &str = "invalid state for job - COMPLETE";

fn stage() -> Stage {
    let stage = Stage::new();
    for name in ["qmove", "qrerun", "qrun", "qorder", "qchkpt"] {
        let link = stage.folder.path().join(name);
        if !link.exists() {
            symlink("capstan", link).unwrap();
        }
    }
    stage.refuse("99999", Pbse::Unkjobid, "cannot locate job");
    stage
}

fn asked(heard: &str) -> String {
    let parts = heard.split(['{', '}', ',']).map(str::trim);
    let parts: Vec<&str> = parts.filter(|part| !part.is_empty()).collect();
    parts.join(" ")
}

#[test]
fn qmove_takes_a_destination_and_jobs() {
    let stage = stage();
    let usage = "usage: qmove destination job_identifier...\n";
    for line in ["qmove", "qmove batch"] {
        assert_eq!(stage.run(line), outcome("", usage, 2));
    }
    let bad = "qmove: illegally formed destination: batch@\n";
    assert_eq!(stage.run("qmove batch@ 304.hn1"), outcome("", bad, 2));
    assert_eq!(stage.run("qmove batch@hn1 304.hn1 305"), outcome("", "", 0));
    let heard: Vec<String> = stage.heard().iter().map(|heard| asked(heard)).collect();
    assert_eq!(
        heard,
        [
            "MoveJobRequest job_id: \"304.hn1\" destination: \"batch\"",
            "MoveJobRequest job_id: \"305\" destination: \"batch\"",
        ]
    );
    assert_eq!(stage.run("qmove batch 99999"), outcome("", "", 153));
    stage.refuse(
        "304.hn1",
        Pbse::JobAlreadyInQueue,
        "Job 304.hn1 already in queue batch",
    );
    let there = "qmove: Job is already in destination queue. MSG=Job 304.hn1 already in queue \
                 batch 304.hn1\n";
    assert_eq!(stage.run("qmove batch 304.hn1"), outcome("", there, 23));
    stage.refuse("305.hn1", Pbse::Unkque, "");
    let unknown = "qmove: Unknown queue 305.hn1\n";
    assert_eq!(stage.run("qmove nosuch 305.hn1"), outcome("", unknown, 172));
}

/// Session H07: each operand for itself, the last one decides.
#[test]
fn the_last_operand_decides_how_it_ends() {
    let stage = stage();
    stage.refuse("7.hn1", Pbse::Badstate, COMPLETE);
    let malformed = "qhold: illegally formed job identifier: abc\n";
    assert_eq!(
        stage.run("qhold abc 99999 1.hn1"),
        outcome("", malformed, 0)
    );
    assert_eq!(stage.run("qrls 1.hn1 99999"), outcome("", "", 153));
    let ended = format!("qmove: Request invalid for state of job MSG={COMPLETE} 7.hn1\n");
    assert_eq!(stage.run("qmove batch 7.hn1 1.hn1"), outcome("", &ended, 0));
    assert_eq!(
        stage.run("qmove batch 1.hn1 7.hn1"),
        outcome("", &ended, 170)
    );
}

/// However many members `-t` names, one line tells of them, with the array's id; members that are not there are passed
/// over.
#[test]
fn a_range_of_an_array_is_one_operand() {
    let stage = stage();
    for member in ["8[1].hn1", "8[2].hn1"] {
        stage.refuse(member, Pbse::Perm, DENIED);
    }
    stage.refuse("8[99].hn1", Pbse::Unkjobid, "");
    for command in ["qdel", "qhold", "qrls"] {
        let denied = format!("{command}: Unauthorized Request  MSG={DENIED} 8[].hn1\n");
        assert_eq!(
            stage.run(&format!("{command} -t 0-2,99 8[].hn1")),
            outcome("", &denied, 159)
        );
        assert_eq!(
            stage.run(&format!("{command} -t 99 8[].hn1")),
            outcome("", "", 0)
        );
    }
    let whole = "qdel: Error: job id '352' isn't a job array but -t was specified.\n";
    assert_eq!(stage.run("qdel -t 1 352"), outcome("", whole, 1));
    let usage = "usage: qrls [-h {uos}] [-t array_range] job_identifier...\n";
    assert_eq!(stage.run("qrls"), outcome("", usage, 2));
}

#[test]
fn qrerun_is_told_who_may_not_and_why() {
    let stage = stage();
    let usage = "usage: qrerun [-f] <JOBID>[ <JOBID>]...\n";
    for line in ["qrerun", "qrerun -f", "qrerun -f -m why 1"] {
        assert_eq!(stage.run(line), outcome("", usage, 2));
    }
    assert_eq!(stage.run("qrerun -f 309.hn1"), outcome("", "", 0));
    assert_eq!(
        asked(&stage.heard()[0]),
        "RerunJobRequest job_id: \"309.hn1\" force: true message: \"\""
    );
    let unknown = "qrerun: Unknown Job Id Error MSG=cannot locate job 99999.hn1\n";
    assert_eq!(stage.run("qrerun 99999"), outcome("", unknown, 153));
    let detail = "additional permissions required (ATR_DFLAG_MGWR | ATR_DFLAG_OPWR)";
    stage.refuse("309.hn1", Pbse::Perm, detail);
    let denied = format!("qrerun: Unauthorized Request  MSG={detail} 309.hn1\n");
    assert_eq!(stage.run("qrerun 309.hn1"), outcome("", &denied, 159));
    stage.refuse("310.hn1", Pbse::Norerun, "job 310.hn1 not rerunnable");
    let fixed = "qrerun: job is not rerunnable MSG=job 310.hn1 not rerunnable 310.hn1\n";
    assert_eq!(stage.run("qrerun 310.hn1"), outcome("", fixed, 192));
}

#[test]
fn qrerun_of_all_asks_first_and_means_those_that_run() {
    let stage = stage();
    stage.server.world().rows = vec![
        row("1.hn1", "a", "alice", "R"),
        row("2.hn1", "b", "bob", "Q"),
        row("3.hn1", "c", "bob", "S"),
    ];
    let question = "This will requeue all jobs without contact moms. Continue? (y/n)\n";
    let no = format!("{question}Operation cancelled.\n");
    assert_eq!(stage.run("qrerun all"), outcome(&no, "", 0));
    assert_eq!(stage.heard(), [""; 0]);
    let yes = format!("{question}Operation confirmed, continuing.\n");
    assert_eq!(stage.run_with("qrerun ALL", b"y\n"), outcome(&yes, "", 0));
    let heard: Vec<String> = stage.heard().iter().map(|heard| asked(heard)).collect();
    assert_eq!(
        heard[1..],
        [
            "RerunJobRequest job_id: \"1.hn1\" force: true message: \"\"",
            "RerunJobRequest job_id: \"3.hn1\" force: true message: \"\"",
        ]
    );
}

/// Session E07.
#[test]
fn qrun_ends_with_2_whatever_is_refused() {
    let stage = stage();
    let usage = "Usage: qrun [-a] [-H host] job_id ...\n";
    assert_eq!(stage.run("qrun"), outcome("", usage, 1));
    assert_eq!(
        stage.run("qrun -a -H gpu01+gpu02 312.hn1"),
        outcome("", "", 0)
    );
    assert_eq!(
        asked(&stage.heard()[0]),
        "RunJobRequest job_id: \"312.hn1\" hosts: \"gpu01+gpu02\" asynchronous: true"
    );
    let unknown = "qrun: Unknown Job Id Error MSG=cannot locate job 99999.hn1\n";
    assert_eq!(stage.run("qrun 99999 312.hn1"), outcome("", unknown, 2));
    stage.refuse("313.hn1", Pbse::Unknode, "");
    let host = "qrun: Unknown node in hostlist 'nosuchhost...' for job 313.hn1\n";
    assert_eq!(
        stage.run("qrun -H nosuchhost 313.hn1"),
        outcome("", host, 2)
    );
    let long = "qrun: Unknown node in hostlist 'a-very-long-name...' for job 313.hn1\n";
    assert_eq!(
        stage.run("qrun -H a-very-long-name-of-a-host 313.hn1"),
        outcome("", long, 2)
    );
    stage.refuse("314.hn1", Pbse::Badstate, "job already running");
    let running = "qrun: Request invalid for state of job MSG=job already running 314.hn1\n";
    assert_eq!(stage.run("qrun 314.hn1"), outcome("", running, 2));
    let malformed = "qrun: illegally formed job identifier: x\n";
    assert_eq!(stage.run("qrun x"), outcome("", malformed, 1));
}

#[test]
fn qorder_swaps_two_jobs() {
    let stage = stage();
    let usage = "usage: qorder job_identifier job_identifier\n";
    for line in ["qorder", "qorder 1", "qorder 1 2 3"] {
        assert_eq!(stage.run(line), outcome("", usage, 2));
    }
    assert_eq!(stage.run("qorder 1.hn1 2"), outcome("", "", 0));
    assert_eq!(
        asked(&stage.heard()[0]),
        "OrderJobsRequest first: \"1.hn1\" second: \"2\""
    );
    let malformed = "qorder: illegally formed job identifier: -x\n";
    assert_eq!(stage.run("qorder -x 1"), outcome("", malformed, 1));
    stage.refuse("3.hn1", Pbse::Perm, DENIED);
    let denied = format!("qorder: Unauthorized Request  MSG={DENIED} \n");
    assert_eq!(stage.run("qorder 3.hn1 1"), outcome("", &denied, 159));
    let servers = "qorder: both jobs ids must specify the same server\n";
    assert_eq!(stage.run("qorder 1@hn1 2"), outcome("", servers, 1));
}

/// Session E08.
#[test]
fn no_job_is_checkpointable() {
    let stage = stage();
    assert_eq!(
        stage.run("qchkpt"),
        outcome("", "Usage: qchkpt job_id ...\n", 1)
    );
    stage.refuse("318.hn1", Pbse::Ivalreq, "job is not checkpointable");
    let fixed = "qchkpt: Invalid request MSG=job is not checkpointable 318.hn1\n";
    assert_eq!(stage.run("qchkpt 318.hn1"), outcome("", fixed, 156));
    let unknown = "qchkpt: Unknown Job Id Error MSG=cannot locate job 99999.hn1\n";
    assert_eq!(stage.run("qchkpt 99999"), outcome("", unknown, 153));
}
