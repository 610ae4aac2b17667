//! Command lines of `qstat` and what is understood, by session C02 and by the source of 6.1.3.

use super::*;
use crate::command::Environment;
use proptest::prelude::*;

fn read_in(dialect: Option<Dialect>, args: &[&str]) -> Result<Wish, Failure> {
    let args = args.iter().map(|&arg| arg.to_owned()).collect();
    let call = Call {
        program: "qstat",
        args,
        ..Call::default()
    };
    Wish::read(&call, dialect)
}

fn read(args: &[&str]) -> Result<Wish, Failure> {
    read_in(None, args)
}

fn check(args: &[&str], expected: Result<View, &[&str]>) {
    let seen = read(args).map(|wish| wish.view);
    let said = |lines: &[&str]| {
        let lines: Vec<String> = lines.iter().map(|&line| line.to_owned()).collect();
        misuse(&lines, false)
    };
    assert_eq!(seen, expected.map_err(said), "{args:?}");
}

#[test]
fn options_choose_the_view() {
    check(&[], Ok(View::Rows));
    check(&["-an1u", "alice"], Ok(View::Wide));
    check(&["-u", "alice", "-f"], Ok(View::Full));
    check(&["-f", "-u", "alice"], Ok(View::Full));
    // Torque minds only what stands before -f, and then the table wins.
    check(&["-f", "-a"], Ok(View::Wide));
    check(&["-f", "-1"], Ok(View::Full));
    check(&["-Qf"], Ok(View::Queues { in_full: true }));
    check(&["-Q", "-a"], Ok(View::Queues { in_full: false }));
    check(&["-B"], Ok(View::Server { in_full: false }));
    check(&["-q"], Ok(View::Limits));
    check(&["-Q", "-q"], Ok(View::Limits));
    check(&["--json"], Ok(View::Full));
    check(&["-W", "a", "-l", "-p"], Ok(View::Rows));
    assert_eq!(
        read(&["-u", "alice@h,bob"]).unwrap().users,
        ["alice", "bob"]
    );
}

/// qtoolkit, and with it jobflow-remote, polls by `qstat -f -w ID...` and `qstat -f -w -u USER`.
#[test]
fn all_attributes_in_wide_columns_are_those_of_pbs_pro_unfolded() {
    for args in [
        &["-f", "-w", "4"][..],
        &["-fw"],
        &["-wf"],
        &["-f", "-w", "-u", "alice"],
        &["-w", "-u", "alice", "-f"],
        &["-xfw", "4"],
    ] {
        let wish = read(args).unwrap();
        let seen = (wish.view, &wish.format, wish.dialect, wish.on_one_line);
        let expected = (View::Full, &Format::Text, Some(Dialect::Pro), true);
        assert_eq!(seen, expected, "{args:?}");
        assert_eq!(wish.include_finished, args.contains(&"-xfw"));
    }
    check(&["-w", "-u", "alice"], Ok(View::Wide));
    check(&["-w", "-r"], Ok(View::Wide));
    assert!(read(&["-w"]).is_err());
}

#[test]
fn options_choose_the_format() {
    let format = |args: &[&str]| read(args).unwrap().format;
    assert_eq!(format(&["-x"]), Format::Xml);
    assert_eq!(format(&["--xml"]), Format::Xml);
    assert_eq!(format(&["-x", "-Q"]), Format::Text);
    assert_eq!(format(&["--json", "-Q"]), Format::Json);
    assert_eq!(format(&["-x", "-f", "-F", "json"]), Format::ProJson);
    assert_eq!(format(&["-f", "-F", "dsv"]), Format::Dsv("|".into()));
    assert_eq!(format(&["-f", "-Fdsv:%%"]), Format::Dsv("%%".into()));
    let pro = read_in(Some(Dialect::Pro), &["-x", "-f"]).unwrap();
    assert_eq!((pro.format, pro.include_finished), (Format::Text, true));
    assert!(read(&["-x", "-f", "-F", "json"]).unwrap().include_finished);
}

#[test]
fn options_that_exclude_each_other_are_refused_in_the_words_of_torque() {
    let before = |letter| {
        format!("{CONFLICT}\n -{letter} incompatible with one or more options. Read qstat man page")
    };
    check(&["-1"], Err(&[CONFLICT]));
    check(&["-a", "-i"], Err(&[CONFLICT]));
    check(&["-a", "-i", "-G", "-M"], Err(&[CONFLICT, CONFLICT]));
    check(&["-G", "-M"], Err(&[CONFLICT]));
    check(&["-f", "-q"], Err(&[CONFLICT]));
    check(&["-n", "-f"], Err(&[&before('f')]));
    check(&["-1", "-f"], Err(&[&before('f')]));
    check(&["-q", "-f"], Err(&[&before('f')]));
    check(&["-a", "-Q"], Err(&[&before('Q')]));
    check(&["-B", "-Q"], Err(&[&before('Q')]));
    check(&["-Q", "-B"], Err(&[&before('B')]));
    check(&["-u", "alice", "-B"], Err(&[&before('B')]));
    check(&["-B", "-q"], Err(&["cannot combine -B with -q option"]));
    check(&["-q", "-B"], Err(&[&before('B')]));
    check(&["-Z"], Err(&["qstat: invalid option -- 'Z'"]));
    check(
        &["-Z", "-1"],
        Err(&["qstat: invalid option -- 'Z'", CONFLICT]),
    );
    check(&["--nosuch"], Err(&[]));
}

#[test]
fn a_format_that_is_none_is_an_unknown_option_as_in_torque() {
    check(&["-F"], Err(&["qstat: invalid option -- 'F'"]));
    check(&["-F", "yaml"], Err(&["qstat: invalid option -- 'F'"]));
    check(&["-F", "json:x"], Err(&["qstat: invalid option -- 'F'"]));
}

#[test]
fn the_environment_asks_for_execution_queues_and_hides_what_is_over() {
    let env = |name: &str| Environment(vec![(name.into(), String::new())]);
    let call = |name| Call {
        program: "qstat",
        args: Vec::new(),
        env: env(name),
    };
    let wish = Wish::read(&call("PBS_QSTAT_EXECONLY"), None).unwrap();
    assert!(wish.exec_only && wish.expand_arrays);
    assert!(
        Wish::read(&call("PBS_QSTAT_NO_COMPLETE"), None)
            .unwrap()
            .hide_completed
    );
    // The wide table shows them all the same.
    assert!(!read(&["-c", "-a"]).unwrap().hide_completed);
}

#[test]
fn only_what_the_dialects_dispute_needs_the_server_to_decide() {
    let contested = |args: &[&str]| {
        let args = args.iter().map(|&arg| arg.to_owned()).collect();
        is_contested(&Call {
            program: "qstat",
            args,
            ..Call::default()
        })
    };
    assert!(contested(&["-x"]) && contested(&["-fx"]) && contested(&["-p"]));
    assert!(!contested(&["-f", "1.x"]) && !contested(&["--xml"]) && !contested(&["-an1"]));
}

proptest! {
    #[test]
    fn any_command_line_is_understood_or_refused_with_usage(
        args in proptest::collection::vec("-[acCeEfFHilJnpqrstTuwxGMQRBW1-]{1,4}|[ -~]{0,8}", 0..6),
    ) {
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        for dialect in [None, Some(Dialect::Pro)] {
            if let Err(Failure { status, text }) = read_in(dialect, &args) {
                prop_assert_eq!((status, text.contains("usage: \n")), (2, true));
            }
        }
    }
}
