//! Command lines of `pbsnodes` and what is understood, by session I01 and by the source of 6.1.3.

use super::*;
use crate::getopt;
use proptest::prelude::*;

fn read(args: &[&str]) -> Result<Wish, Misuse> {
    let args: Vec<String> = args.iter().map(|&arg| arg.to_owned()).collect();
    Wish::read(&getopt::parse("pbsnodes", OPTIONS, &args))
}

fn check_list(args: &[&str], expected: List, nodes: &[&str]) {
    let wish = read(args)
        .map_err(|Misuse(lines)| lines.join("\n"))
        .unwrap();
    let Action::List(list) = wish.action else {
        panic!("{args:?} lists")
    };
    assert_eq!(
        (list, wish.nodes),
        (expected, nodes.iter().map(|&n| n.to_owned()).collect()),
        "{args:?}"
    );
}

#[test]
fn a_state_word_behind_l_is_no_node() {
    let lines = |state| List::Lines {
        state,
        with_notes: false,
    };
    check_list(&["-l"], lines(State::Trouble), &[]);
    check_list(&["-l", "all"], lines(State::All), &[]);
    check_list(
        &["-l", "FREE", "gpu01"],
        lines(State::Word("free")),
        &["gpu01"],
    );
    check_list(&["-l", "banana"], lines(State::Trouble), &["banana"]);
    check_list(&["gpu01", "cpu01"], List::Blocks, &["gpu01", "cpu01"]);
    check_list(&["-a", "gpu01"], List::Blocks, &["gpu01"]);
    check_list(&[":fast"], List::Blocks, &[":fast"]);
}

#[test]
fn the_last_choice_wins() {
    check_list(&["-o", "-a"], List::Blocks, &[]);
    check_list(&["-l", "-x"], List::Xml, &[]);
    let change = |args: &[&str]| match read(args).unwrap().action {
        Action::Change(change) => (change.admin, change.note, change.appended),
        Action::List(_) | Action::Nothing => panic!("{args:?} changes"),
    };
    let text = |text: &str| Some(text.to_owned());
    assert_eq!(
        change(&["-o", "-N", "broken", "gpu01"]),
        (Admin::Offline, text("broken"), None)
    );
    assert_eq!(
        change(&["-c", "-N", "n", "gpu01"]),
        (Admin::Clear, text(""), None)
    );
    assert_eq!(
        change(&["-A", "more", "gpu01"]),
        (Admin::Keep, None, text("more"))
    );
    assert!(matches!(
        read(&["-d", "nosuch"]).unwrap().action,
        Action::Nothing
    ));
}

#[test]
fn formats_of_other_tongues_are_understood() {
    check_list(&["--json"], List::Json, &[]);
    check_list(&["-av", "-F", "json"], List::ProJson, &[]);
    check_list(&["-a", "-Fdsv:;"], List::Dsv(";".into()), &[]);
}

#[test]
fn misuse_is_told_as_torque_tells_it() {
    let lines = |args: &[&str]| read(args).err().map(|Misuse(lines)| lines.join("\n"));
    assert_eq!(lines(&["-n"]).as_deref(), Some("Error: -n requires -l"));
    assert_eq!(
        lines(&["-Z"]).as_deref(),
        Some("pbsnodes: invalid option -- 'Z'")
    );
    assert_eq!(
        lines(&["-F", "yaml"]).as_deref(),
        Some("pbsnodes: invalid option -- 'F'")
    );
    assert_eq!(lines(&["--nosuch"]).as_deref(), Some(""));
    assert_eq!(lines(&[""]).as_deref(), Some(""));
    assert_eq!(lines(&["-m", "off", "gpu01"]).as_deref(), Some(""));
    assert_eq!(lines(&["-o"]), None);
}

#[test]
fn states_are_words_of_a_list() {
    assert!(State::Trouble.fits("offline,job-exclusive"));
    assert!(!State::Up.fits("offline,job-exclusive"));
    assert!(State::Active.fits("offline,job-exclusive"));
    assert!(State::Word("free").fits("free") && !State::Word("free").fits("down"));
    assert!(State::Word("down").fits("state-unknown"));
}

proptest! {
    #[test]
    fn any_command_line_is_understood_or_refused(
        args in proptest::collection::vec("-[aAcdFlmnNopqrsvx-]{1,4}|[ -~]{0,8}", 0..6),
    ) {
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        prop_assert!(matches!(read(&args), Ok(_) | Err(_)));
    }
}
