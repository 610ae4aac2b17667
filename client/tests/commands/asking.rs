//! Commands that ask something of running jobs and of nodes: what they ask of the server, what they say, how they end.
//! Texts and exit statuses are those of sessions E05 and E08, and of Torque's own sources where nothing was recorded.

use super::*;

fn stage() -> Stage {
    let stage = Stage::new();
    for name in [
        "qsig",
        "qmsg",
        "qpeek",
        "qlog",
        "momctl",
        "qgpumode",
        "qgpureset",
    ] {
        let link = stage.folder.path().join(name);
        if !link.exists() {
            symlink("capstan", link).unwrap();
        }
    }
    stage.refuse("99999", Pbse::Unkjobid, "cannot locate job");
    stage
}

fn heard(stage: &Stage) -> Vec<String> {
    stage.heard().iter().map(ToString::to_string).collect()
}

#[test]
fn qsig_sends_a_signal_to_each_operand() {
    let stage = stage();
    let usage = "usage: qsig [-a] [-s signal] job_identifier...\n";
    assert_eq!(stage.run("qsig"), outcome("", usage, 2));
    let unknown = format!("qsig: invalid option -- 'Z'\n{usage}");
    assert_eq!(stage.run("qsig -Z 1.hn1"), outcome("", &unknown, 2));
    assert_eq!(stage.run("qsig -a -s USR1 1.hn1 2"), outcome("", "", 0));
    let asked = heard(&stage);
    assert!(
        asked[0].contains("\"1.hn1\", signal: \"USR1\", asynchronous: true"),
        "{asked:?}"
    );
    assert!(asked[1].contains("\"2\", signal: \"USR1\""), "{asked:?}");
    let lost = "qsig: Unknown Job Id Error MSG=cannot locate job 99999.hn1\n";
    assert_eq!(stage.run("qsig 99999"), outcome("", lost, 153));
    // Each operand for itself; the last one decides.
    assert_eq!(stage.run("qsig 99999 1.hn1"), outcome("", lost, 0));
    let malformed = "qsig: illegally formed job identifier: abc\n";
    assert_eq!(stage.run("qsig abc 1.hn1"), outcome("", malformed, 0));
    assert_eq!(stage.run("qsig 1.hn1 abc"), outcome("", malformed, 1));
    stage.refuse("7.hn1", Pbse::Unksig, "");
    let signal = "qsig: Unknown/illegal signal name 7.hn1\n";
    assert_eq!(stage.run("qsig -s FROB 7.hn1"), outcome("", signal, 167));
    stage.refuse("8.hn1", Pbse::Badstate, "");
    let waits = "qsig: Request invalid for state of job 8.hn1\n";
    assert_eq!(stage.run("qsig 8.hn1"), outcome("", waits, 170));
}

#[test]
fn qmsg_needs_a_message_and_a_job() {
    let stage = stage();
    let usage = "usage: qmsg [-O] [-E] msg_string job_identifier...\n";
    assert_eq!(stage.run("qmsg hi"), outcome("", usage, 2));
    assert_eq!(stage.run("qmsg -O hello 1.hn1"), outcome("", "", 0));
    let asked = heard(&stage);
    assert!(
        asked[0].contains("text: \"hello\", to_stdout: true, to_stderr: false"),
        "{asked:?}"
    );
    let lost = "qmsg: Unknown Job Id Error MSG=cannot locate job 99999.hn1\n";
    assert_eq!(stage.run("qmsg hi 99999"), outcome("", lost, 153));
}

#[test]
fn qpeek_shows_what_the_job_wrote() {
    let stage = stage();
    let wrote = "what it wrote\n";
    assert_eq!(stage.run("qpeek 1.hn1"), outcome(wrote, "", 0));
    let both = format!("{wrote}{wrote}");
    assert_eq!(stage.run("qpeek -e -o 1.hn1"), outcome(&both, "", 0));
    stage.refuse("8.hn1", Pbse::Badstate, "");
    let waits = "Job 8 is not running!\n";
    assert_eq!(stage.run("qpeek 8.hn1"), outcome("", waits, 255));
    assert_eq!(stage.run("qlog 1.hn1"), outcome(wrote, "", 0));
    assert_eq!(stage.run("qlog -e -o 1.hn1"), outcome(&both, "", 0));
    assert_eq!(stage.run("qpeek"), outcome("", "No job id given!\n", 255));
    stage.refuse("9.hn1", Pbse::Perm, "operation not permitted");
    let denied = "qpeek: Unauthorized Request  MSG=operation not permitted 9.hn1\n";
    assert_eq!(stage.run("qpeek 9.hn1"), outcome("", denied, 159));
}

#[test]
fn cards_are_set_on_a_named_node() {
    let stage = stage();
    let usage = "usage: qgpumode -H host -g gpuid -m mode\n";
    assert_eq!(stage.run("qgpumode -H gpu01 -g 0"), outcome("", usage, 2));
    assert_eq!(stage.run("qgpumode -H gpu01 -g 0 -m 1"), outcome("", "", 0));
    assert_eq!(stage.run("qgpureset -H gpu01 -g 0 -v"), outcome("", "", 0));
    let neither = "-p or -v is required\n";
    assert_eq!(
        stage.run("qgpureset -H gpu01 -g 0"),
        outcome("", neither, 2)
    );
    stage.refuse("gpu02", Pbse::Unkreq, "Not allowed for virtual gpus");
    let virtual_one = "qgpumode: Unknown request MSG=Not allowed for virtual gpus \n";
    assert_eq!(
        stage.run("qgpumode -H gpu02 -g 0 -m 1"),
        outcome("", virtual_one, 2)
    );
    let virtual_one = format!(" {}", virtual_one.replace("mode", "reset"));
    assert_eq!(
        stage.run("qgpureset -H gpu02 -g 0 -p"),
        outcome("", &virtual_one, 2)
    );
}

/// The stage runs commands as an ordinary user.
#[test]
fn momctl_is_for_root() {
    let stage = stage();
    let refused = "ERROR:  must be root to run this command\n";
    assert_eq!(stage.run("momctl -d 0 -h gpu01"), outcome("", refused, 1));
    assert!(stage.heard().is_empty());
}
