//! `qwhy` as a whole program: what it asks, what people and programs read, how it ends.

use capstan_proto::Refusal;
use capstan_proto::wire::job_why::{
    Amount, Blocker, Change, ExpectedStart, Factor, Holder, Lack, NearNode, SoonerWith, WaitedFor,
};
use capstan_proto::wire::{JobWhy, WhyReply};
use capstan_types::Pbse;
use serde_json::Value;

use super::{Stage, outcome};

/// 2026-11-22 12:00:00 UTC.
const NOW: u64 = 1_795_348_800;

const fn cards(cards: u32) -> Option<Amount> {
    Some(Amount {
        cards,
        slots: 4,
        memory_bytes: 0,
    })
}

fn waiting() -> JobWhy {
    let text = "wants 4 cards on 1 node; gpu01 has 2 free";
    let holder = |job: &str, until: Option<u64>| Holder {
        job_id: job.into(),
        user: if job.is_empty() { "" } else { "bob" }.into(),
        node: "gpu01".into(),
        held: cards(2),
        until_secs: until,
    };
    JobWhy {
        id: "7.hn1".into(),
        name: "train".into(),
        owner: "alice".into(),
        queue: "batch".into(),
        state: "Q".into(),
        reason: text.into(),
        blockers: vec![Blocker {
            kind: "resources".into(),
            text: text.into(),
            remedy: String::new(),
        }],
        lack: Some(Lack {
            wanted: Some(Amount {
                cards: 4,
                slots: 1,
                memory_bytes: 0,
            }),
            nodes: 1,
            ready: 0,
            nearest: vec![NearNode {
                node: "gpu01".into(),
                free: cards(2),
                unclean: 0,
            }],
            holders: vec![
                holder("5.hn1", Some(NOW + 7500)),
                holder("", Some(NOW + 90_000)),
                holder("6.hn1", None),
            ],
        }),
        before: Some(3),
        in_line: 12,
        factors: vec![Factor {
            name: "age".into(),
            milli_points: 12_345,
        }],
        start: Some(ExpectedStart {
            at_secs: NOW + 7500,
            confidence: "likely".into(),
            likely_by_secs: NOW + 10_800,
            overdue: false,
        }),
        changes: vec![Change {
            text: "gpus=2".into(),
            command: "qalter -l nodes=1:ppn=1:gpus=2 7".into(),
        }],
        sooner: vec![SoonerWith {
            change: Some(Change {
                text: "gpus=3".into(),
                command: "qalter -l nodes=1:ppn=1:gpus=3 7".into(),
            }),
            at_secs: NOW + 3600,
            confidence: "firm".into(),
        }],
        ..JobWhy::default()
    }
}

fn stage(jobs: Vec<JobWhy>) -> Stage {
    let stage = Stage::new();
    stage.server.world().why = WhyReply {
        jobs,
        left_out: 0,
        now_secs: NOW,
    };
    stage
}

#[test]
fn a_person_reads_what_lacks_who_has_it_when_it_starts_and_what_to_change() {
    let stage = stage(vec![waiting()]);
    let text = "\
7.hn1 (train) waits: wants 4 cards on 1 node; gpu01 has 2 free.
  It needs 4 cards on a node.
    gpu01 has 2 cards free
    5.hn1 of bob holds 2 cards of gpu01 until 14:05 (in 2 h 5 min) at the latest
    another user's job holds 2 cards of gpu01 until Mon 23 Nov 13:00 (in 1 d 1 h) at the latest
    6.hn1 of bob holds 2 cards of gpu01 for as long as it runs: it has no walltime
  Place: 3 jobs before it, 12 in line.
  Points: age 12.3.
  Start: likely about 14:05 (in 2 h 5 min); 80 % likely by 15:00.
  It would start now with gpus=2:
    qalter -l nodes=1:ppn=1:gpus=2 7
  It would start 13:00 (in 1 h) at the latest with gpus=3:
    qalter -l nodes=1:ppn=1:gpus=3 7
";
    assert_eq!(stage.run("qwhy 7"), outcome(text, "", 0));
    assert!(stage.server.world().heard.contains(&"why 7".to_owned()));
}

#[test]
fn own_jobs_are_a_line_each() {
    let mut held = waiting();
    held.id = "8.hn1".into();
    held.state = "H".into();
    held.reason = "hold types u".into();
    held.before = None;
    held.start = None;
    let listed = stage(vec![waiting(), held]);
    let text = "\
7.hn1 Q train  place 4 of 12  80 % likely by 14:05  wants 4 cards on 1 node; gpu01 has 2 free
8.hn1 H train  hold types u
";
    assert_eq!(listed.run("qwhy"), outcome(text, "", 0));
    let none = stage(Vec::new());
    assert_eq!(
        none.run("qwhy"),
        outcome("None of your jobs waits.\n", "", 0)
    );
}

#[test]
fn programs_read_the_same_as_json() {
    let stage = stage(vec![waiting()]);
    let found = stage.run("qwhy --json 7 7");
    let found: Value = serde_json::from_str(&found.stdout).unwrap();
    assert_eq!(found["now"], NOW);
    assert_eq!(found["jobs"].as_array().unwrap().len(), 2);
    let job = &found["jobs"][0];
    assert_eq!(job["lack"]["holders"][0]["job"], "5.hn1");
    assert_eq!(job["lack"]["holders"][1].get("user"), None);
    assert_eq!(job["line"]["points"]["age"], 12.345);
    assert_eq!(job["estimated_start"]["confidence"], "likely");
    assert_eq!(job["changes"][0]["change"], "gpus=2");
    assert_eq!(
        job["sooner"][0]["command"],
        "qalter -l nodes=1:ppn=1:gpus=3 7"
    );
    assert_eq!(job["sooner"][0]["at"], NOW + 3600);
}

#[test]
fn a_job_that_is_over_says_what_it_waited_for() {
    let ended = JobWhy {
        id: "7.hn1".into(),
        name: "train".into(),
        state: "C".into(),
        waited: vec![
            WaitedFor {
                what: "resources".into(),
                secs: 3900,
            },
            WaitedFor {
                what: "hold".into(),
                secs: 40,
            },
        ],
        started_secs: Some(NOW - 60),
        ..JobWhy::default()
    };
    let stage = stage(vec![ended]);
    let text = "\
7.hn1 (train) is over; it started at 11:59.
  Before that it waited 1 h 5 min for cards, cores or memory, 40 s for a hold.
";
    assert_eq!(stage.run("qwhy 7"), outcome(text, "", 0));
}

#[test]
fn misuse_and_unknown_jobs_end_as_everywhere() {
    let stage = stage(Vec::new());
    let usage = "usage: qwhy [--json] [job_identifier...]\n";
    assert_eq!(stage.run("qwhy -z"), outcome("", usage, 2));
    let refusal = Refusal::new(Pbse::Unkjobid, "");
    stage.server.world().refusals.insert("9".into(), refusal);
    let found = stage.run("qwhy 9");
    assert_eq!(found.status, Some(153));
    assert!(found.stderr.starts_with("qwhy: "), "{}", found.stderr);
}

#[test]
fn names_of_jobs_give_no_orders_to_the_terminal() {
    let mut job = waiting();
    job.name = "a\u{1b}[2Jb\nc".into();
    let stage = stage(vec![job]);
    let found = stage.run("qwhy 7");
    assert!(
        found.stdout.starts_with("7.hn1 (a?[2Jb c) waits"),
        "{}",
        found.stdout
    );
}
