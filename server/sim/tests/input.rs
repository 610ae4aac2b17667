//! What is read of traces and logs, and what is said of those that mean nothing. No input may end in a panic.

#![allow(
    clippy::unwrap_used,
    reason = "what cannot be unwrapped is what the test would fail for"
)]

use std::io::Write;
use std::path::Path;

use capstan_sim::{Ask, Slice, Trace, load};
use proptest::prelude::*;

/// A job's line with these first columns and −1 for the rest.
fn line(columns: &[&str]) -> String {
    let mut words = columns.to_vec();
    words.resize(18, "-1");
    words.join(" ") + "\n"
}

fn read(bytes: &[u8]) -> Result<Trace, String> {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(bytes).unwrap();
    of(file.path())
}

/// The name of the file, which is another one each time, is left out of messages.
fn of(path: &Path) -> Result<Trace, String> {
    let slice = Slice::parse(path.to_str().unwrap());
    load(&[slice]).map_err(|error| error.to_string().replace(path.to_str().unwrap(), "FILE"))
}

fn packed(text: &str) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(text.as_bytes()).unwrap();
    encoder.finish().unwrap()
}

#[test]
fn columns_mean_what_the_format_says() {
    let text = format!(
        "; X-Nodes: 3\n;X-SlotsPerNode: 4 (cards)\n; UnixStartTime: 1000000\n; For people: yes\n\n{}{}{}",
        line(&[
            "7", "30", "5", "100", "2", "-1", "-1", "6", "60", "-1", "1", "3", "4", "5", "6"
        ]),
        line(&["8", "10.5", "0", "50", "-1", "-1", "-1", "1"]),
        line(&["9", "20", "0", "0", "1", "-1", "-1", "1"]),
    );
    for bytes in [text.clone().into_bytes(), packed(&text)] {
        let trace = read(&bytes).unwrap();
        assert_eq!(trace.own_cluster(), Some((3, 4)));
        assert_eq!(trace.left_out, 1, "the one that never ran");
        let [first, second] = &trace.jobs[..] else {
            panic!("{trace:?}")
        };
        assert_eq!((&*first.label, first.submit_secs), ("8", 1_000_010));
        assert_eq!(
            (first.runtime_secs, first.walltime_secs),
            (50, 50),
            "no walltime"
        );
        assert_eq!(first.queue, None);
        assert_eq!((second.runtime_secs, second.walltime_secs), (60, 60), "cut");
        assert_eq!(second.ask, Ask::Slots(6));
        let names = (
            &*second.user,
            &*second.group,
            &*second.name,
            second.queue.as_deref(),
        );
        assert_eq!(names, ("u3", "g4", "e5", Some("q6")));
    }
}

#[test]
fn a_log_without_requests_says_what_was_given() {
    let trace = read(line(&["1", "0", "0", "5", "3"]).as_bytes()).unwrap();
    assert_eq!(trace.jobs[0].ask, Ask::Slots(3));
    let both =
        line(&["1", "0", "0", "5", "3"]) + &line(&["2", "0", "0", "5", "3", "-1", "-1", "2"]);
    assert_eq!(
        read(both.as_bytes()).unwrap().jobs.len(),
        1,
        "column 8 counts where it is used"
    );
}

#[test]
fn damaged_traces_are_told_of_with_their_line() {
    let good = line(&["1", "0", "0", "5", "1", "-1", "-1", "1"]);
    let check = |text: &str, expected: &str| {
        let error = read(text.as_bytes()).unwrap_err();
        assert!(error.contains(expected), "{text:?}: {error}");
    };
    check("", "FILE: no job of these records ended (0 came)");
    check("; only a comment\n", "FILE: none of its 0 jobs ever ran");
    check(
        "1 2 3\n",
        "FILE:1: 3 columns where the Standard Workload Format has 18",
    );
    check(
        &format!("{good}\n{}", line(&["2", "x"])),
        "FILE:3: column 2 is no number: 'x'",
    );
    check(
        &line(&["1", "-5", "0", "5"]),
        "FILE:1: column 2 is -5: seconds from 0",
    );
    check(
        &line(&["1", "0", "0", "99999999999"]),
        "column 4 is 99999999999",
    );
    check(
        &line(&["1", "0", "0", "5", "1", "1", "1", "1", "1e15"]),
        "column 9 is 1000000000000000",
    );
    check(
        &line(&["1", "0", "0", "nan"]),
        "column 4 is no number: 'nan'",
    );
    check(&line(&["1", "0", "0", "1e300"]), "column 4 is no number");
    check(
        &line(&["1", "0", "0", "\u{1b}[2J"]),
        "column 4 is no number: '\\u{1b}[2J'",
    );
    check(
        "; X-Nodes: many\n",
        "FILE:1: X-Nodes is a number from 1 to 65535, not 'many'",
    );
    check("; X-SlotsPerNode: 0\n", "X-SlotsPerNode is a number from 1");
    check(
        &line(&["1", "0", "0", "0", "1"]),
        "FILE: none of its 1 jobs ever ran",
    );
}

#[test]
fn slices_are_counted_over_jobs_that_ran() {
    let rows: String = (0..10)
        .map(|number| {
            let (label, runtime) = (number.to_string(), if number % 2 == 0 { "0" } else { "9" });
            line(&[&label, &label, "0", runtime, "1", "-1", "-1", "1"])
        })
        .collect();
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(rows.as_bytes()).unwrap();
    let labels = |slice: &str| {
        let slice = Slice::parse(&format!("{}{slice}", file.path().display()));
        let jobs = load(&[slice]).map(|trace| trace.jobs);
        jobs.map(|jobs| {
            jobs.iter()
                .map(|job| job.label.to_string())
                .collect::<Vec<_>>()
        })
    };
    assert_eq!(labels("").unwrap(), ["1", "3", "5", "7", "9"]);
    assert_eq!(labels(":1:2").unwrap(), ["3", "5"]);
    assert_eq!(labels(":4:100").unwrap(), ["9"]);
    assert!(labels(":5:1").is_err());
    assert!(labels(":0:0").is_err());
}

const LOG: &str = "\
11/22/2026 04:16:39;Q;1.hn1;queue=batch
11/22/2026 04:16:40;S;1.hn1;user=alice group=users jobname=train queue=batch
11/22/2026 04:16:40;Q;2[7].hn1;queue=batch
11/22/2026 04:16:41;D;3.hn1;requestor=root@hn1
11/22/2026 05:16:40;E;1.hn1;user=alice group=users jobname=train queue=batch ctime=100 qtime=100 etime=160 start_count=1 \
start=200 owner=alice@hn1 exec_host=gpu01/0 Resource_List.nodes=1:ppn=2:gpus=2 Resource_List.walltime=01:00:00 \
Resource_List.nodect=1 Resource_List.neednodes=1:ppn=2:gpus=2 session=1 end=3900 Exit_status=0 resources_used.cput=0
11/22/2026 05:16:40;E;4.hn1;user=bob group=users jobname=x queue=long ctime=50 qtime=50 etime=900 start_count=2 start=1000 \
end=1000 Exit_status=0
11/22/2026 05:16:40;E;5.hn1;user=bob group=users ctime=50 qtime=50 etime=50 end=90 Exit_status=271
";

#[test]
fn accounting_logs_are_read_by_their_ends() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("20261122"), LOG).unwrap();
    std::fs::write(folder.path().join("20261123"), "").unwrap();
    let trace = of(folder.path()).unwrap();
    assert_eq!(trace.left_out, 2, "one did not end, one never started");
    let [second, first] = &trace.jobs[..] else {
        panic!("{trace:?}")
    };
    assert_eq!(
        (&*first.label, first.submit_secs),
        ("1.hn1", 160),
        "held until then"
    );
    assert_eq!((first.runtime_secs, first.walltime_secs), (3600, 3600));
    let Ask::Resources(asked) = &first.ask else {
        panic!("{first:?}")
    };
    let asked: Vec<(&str, &str)> = asked
        .iter()
        .map(|(name, value)| (&**name, &**value))
        .collect();
    assert_eq!(asked, [("nodes", "1:ppn=2:gpus=2")]);
    assert_eq!(
        (&*second.label, second.submit_secs),
        ("4.hn1", 50),
        "put back since"
    );
    assert_eq!(second.runtime_secs, 1);
    assert_eq!(second.queue.as_deref(), Some("long"));
}

#[test]
fn damaged_logs_are_told_of_with_their_line() {
    let check = |text: &str, expected: &str| {
        let error = read(text.as_bytes()).unwrap_err();
        assert!(error.contains(expected), "{text:?}: {error}");
    };
    check(
        "11/22/2026 04:16:39;Q;1.hn1;queue=batch\n",
        "FILE: no job of these records ended (1 came)",
    );
    check("11/22/2026 04:16:39;Q\n", "FILE:1: no accounting record");
    check(
        "11/22/2026 04:16:39;E;1.hn1;start=x end=2\n",
        "FILE:1: start is no number of seconds",
    );
    check(&format!("{LOG}1 2 3\n"), "FILE:8: no accounting record");
}

proptest! {
    #[test]
    fn any_bytes_are_a_trace_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        read(&bytes).ok();
    }

    #[test]
    fn any_words_are_a_trace_or_an_error(text in "((;|-?[0-9]{1,20}|[a-zA-Z:.=]{1,9}|\\PC)[ \n]){0,60}") {
        read(text.as_bytes()).ok();
        read(format!("11/22/2026 04:16:39;E;1;{text}").as_bytes()).ok();
        read(&packed(&text)).ok();
    }

    #[test]
    fn any_numbers_are_a_trace_or_an_error(columns in prop::collection::vec(any::<i64>(), 18)) {
        let words: Vec<String> = columns.iter().map(ToString::to_string).collect();
        read(words.join(" ").as_bytes()).ok();
    }
}
