//! Reasons in the words of Torque, and in ours.

use super::*;

fn check(reason: &Reason, expected: &str) {
    assert_eq!(reason.to_string(), expected);
}

#[test]
fn the_sentence_of_torque_comes_first_then_what_is_missing() {
    let head = "Not Running: Not enough of the right type of nodes are available";
    let cards = |on| Reason::NotEnoughCards {
        wanted: 2,
        nodes: 1,
        free_most: 1,
        on,
    };
    check(
        &cards(Some("node01".into())),
        &format!("{head} (wants 2 cards on 1 node; node01 has 1 free)"),
    );
    check(
        &cards(None),
        &format!("{head} (wants 2 cards on 1 node; no such node is up)"),
    );
    let memory = Reason::NotEnoughMemory {
        wanted_bytes: 3 << 30,
        nodes: 2,
        free_most_bytes: 5 << 20,
        on: Some("node02".into()),
    };
    check(
        &memory,
        &format!("{head} (wants 3072mb of memory on 2 nodes; node02 has 5mb of memory free)"),
    );
    check(
        &Reason::BehindJob(JobId::member(7, 3)),
        &format!("{head} (its nodes are kept for job 7[3])"),
    );
}

#[test]
fn other_causes_have_their_own_sentence() {
    check(
        &Reason::QueueStopped("mcc".into()),
        "Not Running: Queue not started. (queue mcc is stopped)",
    );
    check(
        &Reason::Held(Holds::USER.with(Holds::SYSTEM)),
        "Not Running: Job is held (hold types su)",
    );
    check(
        &Reason::WaitingUntil(Timestamp(1_795_391_940_000)),
        "Not Running: Job waits for its execution time (not before 2026-11-22 23:59:00 UTC)",
    );
    check(
        &Reason::Window {
            reservation: "M12".parse().unwrap(),
            name: "cooling".into(),
            starts: Timestamp(1_795_391_940_000),
            fits_secs: 11_400,
        },
        "Not Running: Job would conflict with a reservation (M12 cooling begins at \
         2026-11-22 23:59:00 UTC; walltime<=03:10:00 would start now)",
    );
    let stopping = |others| Reason::Preempting {
        job: JobId::whole(7),
        others,
        since: Timestamp(1_795_391_940_000),
        grace_secs: 60,
    };
    check(
        &stopping(0),
        "Not Running: Other jobs are being stopped for it (waits for job 7 to stop, preempted at \
         2026-11-22 23:59:00 UTC, grace 60 s)",
    );
    check(
        &stopping(2),
        "Not Running: Other jobs are being stopped for it (waits for job 7 and 2 others to stop, \
         preempted at 2026-11-22 23:59:00 UTC, grace 60 s)",
    );
    check(
        &Reason::ArraySlotLimit(3),
        "Not Running: Array slot limit has been reached (3 members may run at once)",
    );
}
