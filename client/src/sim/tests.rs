//! `capstan sim` from its command line to what it prints.

use super::*;

fn call(args: &[&str]) -> Call {
    Call {
        program: "sim",
        args: args.iter().map(|&arg| arg.to_owned()).collect(),
        ..Call::default()
    }
}

/// What is printed and what is said on stderr, or how it fails.
fn said(args: &[&str]) -> Result<(String, String), Failure> {
    let mut screen = Screen::new(Vec::new());
    run(&call(args), &mut screen)?;
    let out = String::from_utf8(screen.out().clone()).unwrap();
    let mut complaints = Vec::new();
    screen.finish(&mut complaints).unwrap();
    Ok((out, String::from_utf8(complaints).unwrap()))
}

fn trace(text: &str) -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), text).unwrap();
    file
}

/// Jobs of `submit runtime cards walltime user` on two nodes of four cards.
fn swf(jobs: &[[i64; 5]]) -> String {
    let mut text = String::from("; X-Nodes: 2\n; X-SlotsPerNode: 4\n");
    for (number, [submit, runtime, cards, walltime, user]) in (1..).zip(jobs) {
        text.push_str(&format!(
            "{number} {submit} -1 {runtime} {cards} -1 -1 {cards} {walltime} -1 1 {user} 1 -1 -1 -1 -1 -1\n"
        ));
    }
    text
}

fn path(file: &tempfile::NamedTempFile) -> &str {
    file.path().to_str().unwrap()
}

#[test]
fn figures_are_those_counted_by_hand() {
    // 8 cards: two jobs of 4 start at once, one of 8 waits 100 s for both, one of 1 waits behind it until 200.
    let file = trace(&swf(&[
        [0, 100, 4, 100, 1],
        [0, 100, 4, 100, 1],
        [0, 100, 8, 100, 2],
        [50, 50, 1, 60, 2],
    ]));
    let (out, complaints) = said(&[path(&file), "--policy", "fifo", "--json"]).unwrap();
    assert_eq!(complaints, "");
    let value: serde_json::Value = serde_json::from_str(&out).unwrap();
    let number = |name: &str| value[name].as_f64().unwrap();
    assert_eq!(number("jobs"), 4.0);
    assert_eq!(number("mean_wait_s"), 62.5);
    assert_eq!(number("median_wait_s"), 50.0);
    assert_eq!(number("max_wait_s"), 150.0);
    assert_eq!(number("makespan_s"), 250.0);
    // 1, 1, 200 / 100, 200 / 50.
    assert_eq!(number("bounded_slowdown"), 2.0);
    assert_eq!(number("utilisation"), 1.0);
    assert_eq!(number("large_job_wait_s"), 100.0);
    assert_eq!(number("head_blocked_by_nodes"), 0.0);
    assert_eq!(value["users"][0]["name"], "u2");
    assert_eq!(value["users"][0]["mean_wait_s"], 125.0);
}

#[test]
fn both_policies_are_compared() {
    let file = trace(&swf(&[
        [0, 100, 8, 100, 1],
        [1, 100, 4, 100, 1],
        [2, 10, 4, 20, 2],
    ]));
    let args = [path(&file), "--policy", "fifo", "--against", "easy"];
    let (text, _) = said(&args).unwrap();
    for word in [
        "before: policy fifo",
        "after:  policy easy",
        "by size",
        "sooner",
        "u2",
    ] {
        assert!(text.contains(word), "{word}: {text}");
    }
    let (json, _) = said(&[&args[..], &["--json"]].concat()).unwrap();
    let value: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(value["changes"]["all"]["jobs"], 3);
    assert!(value["after"]["mean_wait_s"].is_number());
}

#[test]
fn what_cannot_be_simulated_is_said_with_what_to_do() {
    let good = trace(&swf(&[[0, 1, 1, 1, 1]]));
    let bare = trace("1 0 -1 1 1 -1 -1 1 1 -1 1 1 1 -1 -1 -1 -1 -1\n");
    let broken = trace("; X-Nodes: 1\n1 0 -1 1 x -1 -1 1 1 -1 1 1 1 -1 -1 -1 -1 -1\n");
    let large = trace(&swf(&[[0, 1, 9, 1, 1]]));
    let dump = trace("set server policy\n");
    let check = |args: &[&str], status: u8, expected: &str| {
        let failure = said(args).unwrap_err();
        assert_eq!(failure.status, status, "{args:?} {failure:?}");
        assert!(
            failure.text.contains(expected),
            "{args:?}: {}",
            failure.text
        );
    };
    check(&[], 2, "which trace?");
    check(&["--nope", path(&good)], 2, "there is no option --nope");
    check(&["-x", path(&good)], 2, "there is no option -x");
    check(
        &["--policy", "best", path(&good)],
        2,
        "no policy 'best', there is default, fair, easy, fifo",
    );
    check(&[path(&good), "--set"], 2, "--set wants a value");
    check(&[path(&good), "--set", "x"], 2, "'x' is no NAME=VALUE");
    check(&[path(&good), "--nodes", "0"], 2, "no number above 0");
    check(&[path(&good), "--plot", "x.png"], 2, "should end in .svg");
    check(&[path(&good), "--set", "nosuch=1"], 1, "nosuch=1: ");
    check(&[path(&good), "--qmgr", path(&dump)], 1, ":1: ");
    check(&[path(&bare)], 1, "give --nodes and --slots");
    check(&[path(&broken)], 1, ":2: column 5 is no number: 'x'");
    check(&[path(&large)], 1, "no job of the trace fits");
    check(&["/nonexistent.swf"], 1, "cannot read /nonexistent.swf");
    check(
        &[&format!("{}:5:1", path(&good))],
        1,
        "there is no job number 5",
    );
}

#[test]
fn a_dump_of_qmgr_sets_the_server_up() {
    let file = trace(&swf(&[[0, 100, 1, 100, 1], [0, 100, 1, 100, 1]]));
    let dump = trace(
        "#\n# Create queues and set their attributes.\n#\ncreate queue q7\nset queue q7 queue_type = Execution\n\
         set queue q7 max_user_run = 1\nset queue q7 enabled = True\nset queue q7 started = True\n\
         set server scheduling = False\nset server default_queue = q7\n",
    );
    let args = [path(&file), "--qmgr", path(&dump), "--json"];
    let value: serde_json::Value = serde_json::from_str(&said(&args).unwrap().0).unwrap();
    assert_eq!(value["max_wait_s"], 100.0, "one at a time");
    assert_eq!(value["policy"], "as configured");
}

#[test]
fn runs_and_pictures_are_written() {
    let file = trace(&swf(&[[0, 100, 8, 100, 1], [1, 100, 4, 100, 1]]));
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let (svg, runs) = (at("a.svg"), at("a.txt"));
    said(&[
        path(&file),
        "--policy=fifo",
        "--plot",
        &svg,
        "--trace-out",
        &runs,
    ])
    .unwrap();
    let svg = std::fs::read_to_string(svg).unwrap();
    assert!(svg.starts_with("<svg ") && svg.ends_with("</svg>\n"));
    let runs = std::fs::read_to_string(runs).unwrap();
    let lines: Vec<&str> = runs.lines().collect();
    assert!(
        lines[1].starts_with("1 1704067200 1704067200 1704067300 8 node"),
        "{runs}"
    );
    assert!(
        lines[2].starts_with("2 1704067201 1704067300 1704067400 4 node"),
        "{runs}"
    );
}

/// Two jobs want the one node of their class, while the other one, of the same cards, stands idle.
#[test]
fn joined_classes_show_what_the_classes_cost() {
    let line = |id: u32| {
        format!(
            "11/22/2026 05:16:40;E;{id}.hn1;user=alice group=users jobname=train queue=batch ctime=100 qtime=100 etime=100 \
             start=200 owner=alice@hn1 exec_host=gpu01/0 Resource_List.nodes=1:gpus=2:S Resource_List.walltime=01:00:00 \
             Resource_List.nodect=1 session=1 end=3800 Exit_status=0 resources_used.cput=0 \
             resources_used.walltime=01:00:00\n"
        )
    };
    let log = trace(&format!("{}{}", line(1), line(2)));
    let nodes = trace(
        "a cores=4 cards=2:GTX1080Ti:11gb properties=S\nb cores=4 cards=2:GTX1080Ti:11gb properties=E\n",
    );
    let words = [path(&log), "--cluster", path(&nodes), "--json"];
    let (out, _) = said(&words).unwrap();
    let value: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!(value["mean_wait_s"], 1800.0, "{out}");
    let (out, _) = said(&[&words[..], &["--join", "S,E"]].concat()).unwrap();
    let value: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!(value["mean_wait_s"], 1800.0, "{out}");
    assert_eq!(value["after"]["mean_wait_s"], 0.0, "{out}");
}
