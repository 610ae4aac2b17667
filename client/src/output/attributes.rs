//! `name = value` listings: `qstat -f`, `qstat -Qf`, `qstat -Bf`. Long values are folded as Torque folds them, because
//! programs unfold them again: a line break and a tab belong to the value before.

use std::borrow::Cow;

use capstan_proto::wire::Attribute;
use jiff::tz::TimeZone;

/// Job attributes that are points in time: epoch seconds on the wire, a date for people.
pub(crate) const TIMES: &[&str] = &[
    "ctime",
    "etime",
    "estimated_start",
    "mtime",
    "qtime",
    "start_time",
    "comp_time",
    "checkpoint_time",
    "Execution_Time",
    // PBS Pro's names of some of them.
    "stime",
    "obittime",
    "estimated",
];
/// Where lines are folded, a tab counting as eight columns.
const LINE_WIDTH: usize = 77;
const TAB_WIDTH: usize = 8;

/// How a listing is printed.
#[derive(Debug)]
pub(crate) struct Style {
    /// `-1`: no folding.
    pub(crate) on_one_line: bool,
    /// The zone in which times are shown; `None` leaves them numbers, as for queues and servers.
    pub(crate) zone: Option<TimeZone>,
}

/// Appends a block: the head line, the attributes, an empty line.
pub(crate) fn block(out: &mut Vec<u8>, style: &Style, head: &str, attributes: &[Attribute]) {
    out.extend_from_slice(head.as_bytes());
    out.push(b'\n');
    for attribute in attributes {
        line(out, style, attribute);
    }
    out.push(b'\n');
}

fn line(out: &mut Vec<u8>, style: &Style, attribute: &Attribute) {
    let Attribute {
        name,
        resource,
        value,
    } = attribute;
    let start = out.len();
    out.extend_from_slice(b"    ");
    out.extend_from_slice(name.as_bytes());
    if !resource.is_empty() {
        out.push(b'.');
        out.extend_from_slice(resource.as_bytes());
    }
    out.extend_from_slice(b" = ");
    let width = out.len() - start;
    let time = style
        .zone
        .as_ref()
        .filter(|_| TIMES.contains(&name.as_str()))
        .and_then(|zone| date(value, zone));
    match time {
        Some(date) => out.extend_from_slice(date.as_bytes()),
        None if style.on_one_line => out.extend_from_slice(harmless(value).as_bytes()),
        None => {
            for (at, line) in value.split('\n').enumerate() {
                let start = if at == 0 { width } else { TAB_WIDTH };
                if at > 0 {
                    fold(out);
                }
                folded(out, start, &harmless(line));
            }
        }
    }
    out.push(b'\n');
}

/// A value as a terminal may be given it. Variables and arguments of a job may hold anything, and whoever lists jobs is
/// to see neither lines of a job that is not there nor what the terminal would take for orders.
pub(crate) fn harmless(text: &str) -> Cow<'_, str> {
    let is_order = |c: char| c.is_control() && c != '\t';
    match text.contains(is_order) {
        true => text.replace('\n', " ").replace(is_order, "?").into(),
        false => text.into(),
    }
}

/// `Sun Nov 22 03:55:50 2026`, as ctime(3) has it.
pub(crate) fn date(epoch_secs: &str, zone: &TimeZone) -> Option<String> {
    let at = jiff::Timestamp::from_second(epoch_secs.parse().ok()?).ok()?;
    Some(
        at.to_zoned(zone.clone())
            .strftime("%a %b %e %H:%M:%S %Y")
            .to_string(),
    )
}

/// Appends `value` behind a head of `start` columns. A piece between commas goes to the next line when it does not fit
/// on this one, and is cut at the edge when it is longer than a line. Commas are not counted, and a line that begins
/// with a piece is one column shorter than one that begins in the middle of it: so it is in Torque.
fn folded(out: &mut Vec<u8>, mut start: usize, value: &str) {
    for (at, piece) in value.split(',').enumerate() {
        if at > 0 {
            out.push(b',');
        }
        let width = piece.chars().count();
        if start + width < LINE_WIDTH {
            out.extend_from_slice(piece.as_bytes());
            start += width;
            continue;
        }
        if at > 0 {
            fold(out);
            start = TAB_WIDTH + 1;
        }
        for c in piece.chars() {
            out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
            start += 1;
            // As in Torque also behind the last letter: what follows is unfolded all the same.
            if start > LINE_WIDTH {
                fold(out);
                start = TAB_WIDTH;
            }
        }
    }
}

fn fold(out: &mut Vec<u8>) {
    out.extend_from_slice(b"\n\t");
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn attribute(line: &str) -> Attribute {
        let (name, value) = line.split_once(" = ").unwrap();
        let (name, resource) = name.split_once('.').unwrap_or((name, ""));
        Attribute {
            name: name.into(),
            resource: resource.into(),
            value: value.into(),
        }
    }

    fn shown(on_one_line: bool, lines: &[&str]) -> String {
        let style = Style {
            on_one_line,
            zone: Some(TimeZone::UTC),
        };
        let attributes: Vec<Attribute> = lines.iter().map(|line| attribute(line)).collect();
        let mut out = Vec::new();
        block(&mut out, &style, "Job Id: 248.hn1", &attributes);
        String::from_utf8(out).unwrap()
    }

    const VARIABLES: &str = "Variable_List = PBS_O_QUEUE=batch,PBS_O_HOME=/home/alice,PBS_O_LOGNAME=alice,PBS_O_LANG=C,\
        PBS_O_WORKDIR=/home/alice,PBS_O_HOST=hn1,PBS_O_SERVER=hn1";

    #[test]
    fn values_are_folded_where_torque_folds_them() {
        let seen = shown(
            false,
            &[
                "ctime = 1795319750",
                "Resource_List.nodes = 2:ppn=2",
                VARIABLES,
                "submit_args = -N run1 -l nodes=2:ppn=2,walltime=00:20:00,mem=200mb sleep.sh",
                "submit_args = -N stg -W stagein=stage_in.txt@hn1:/home/alice/stage_src.txt -W stageout=stage_res.txt@hn1:/home/alice/stage_back.txt",
                "state_count = Transit:0 Queued:0 Held:0 Waiting:0 Running:0 Exiting:0 Complete:0 ",
            ],
        );
        let expected = "\
Job Id: 248.hn1
    ctime = Sun Nov 22 03:55:50 2026
    Resource_List.nodes = 2:ppn=2
    Variable_List = PBS_O_QUEUE=batch,PBS_O_HOME=/home/alice,
\tPBS_O_LOGNAME=alice,PBS_O_LANG=C,PBS_O_WORKDIR=/home/alice,
\tPBS_O_HOST=hn1,PBS_O_SERVER=hn1
    submit_args = -N run1 -l nodes=2:ppn=2,walltime=00:20:00,
\tmem=200mb sleep.sh
    submit_args = -N stg -W stagein=stage_in.txt@hn1:/home/alice/stage_src.txt
\t -W stageout=stage_res.txt@hn1:/home/alice/stage_back.txt
    state_count = Transit:0 Queued:0 Held:0 Waiting:0 Running:0 Exiting:0 Comp
\tlete:0 

";
        assert_eq!(seen, expected);
    }

    /// Nobody's variable is a job, an attribute or an order to the terminal of who lists jobs.
    #[test]
    fn what_a_job_holds_stays_behind_its_attribute() {
        let hostile = "Variable_List = A=x\n    job_state = R\n\nJob Id: 1.hn1\r\u{1b}[2J\u{9b}2J";
        let folded = "Job Id: 248.hn1\n    Variable_List = A=x\n\t    job_state = R\n\t\n\tJob Id: 1.hn1??[2J?2J\n\n";
        assert_eq!(shown(false, &[hostile]), folded);
        let whole =
            "Job Id: 248.hn1\n    Variable_List = A=x     job_state = R  Job Id: 1.hn1??[2J?2J\n\n";
        assert_eq!(shown(true, &[hostile]), whole);
    }

    #[test]
    fn a_line_may_be_filled_to_its_last_column() {
        let mut out = Vec::new();
        folded(
            &mut out,
            TAB_WIDTH + 1,
            "PBS_O_LANG=C,PBS_O_WORKDIR=/home/alice,PBS_O_HOST=hn1,PBS_O_SERVER=hn1",
        );
        assert!(!out.contains(&b'\n'));
    }

    /// `a/b/c…` of 100 letters: the source's rule, of which the recordings have no case with the path unmasked.
    #[test]
    fn a_piece_longer_than_a_line_is_cut_at_the_edge() {
        let long = format!("PBS_O_PATH={}", "x".repeat(140));
        let seen = shown(false, &[&format!("Variable_List = A=b,{long},C=d")]);
        let lines: Vec<&str> = seen.lines().collect();
        assert_eq!(lines[1], "    Variable_List = A=b,");
        assert_eq!(lines[2].len(), "\t".len() + 69);
        assert_eq!(lines[3].len(), "\t".len() + 70);
        assert_eq!(lines[4], "\txxxxxxxxxxxx,C=d");
    }

    #[test]
    fn one_line_means_one_line() {
        assert!(shown(true, &[VARIABLES]).contains(&format!("    {VARIABLES}\n")));
    }

    proptest! {
        #[test]
        fn unfolding_gives_the_value_back(value in "[a-z,:= ]{0,300}") {
            let mut out = Vec::new();
            folded(&mut out, 20, &value);
            let text = String::from_utf8(out).unwrap();
            prop_assert_eq!(text.replace("\n\t", ""), value);
            prop_assert!(text.lines().all(|line| line.replace(',', "").len() <= LINE_WIDTH));
        }
    }
}
