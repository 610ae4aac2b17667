//! The tables of `qstat` in PBS Pro's dialect: the plain one, `-p`, the wide one of `-a` and its kin, and `-w`.

use capstan_proto::wire::{JobRow, WideRow};

use super::pad::{self, NONE};
use super::pro::state;
use super::rows::clock;
use super::wide::{Layout, NODES_WIDTH, in_unit, line, nodes, or_none};

const HEADER: &str = "\
Job id            Name             User              Time Use S Queue
----------------  ---------------- ----------------  -------- - -----
";

const PERCENT_HEADER: &str = "\
Job id            Name             User               % done  S Queue
----------------  ---------------- ----------------  -------- - -----
";

/// Columns of a comment before it is cut.
const COMMENT_WIDTH: usize = 74;
const WIDE_COMMENT_WIDTH: usize = 114;

/// Appends the lines above [`row`].
pub(crate) fn header(out: &mut Vec<u8>, with_percentage: bool) {
    let text = if with_percentage {
        PERCENT_HEADER
    } else {
        HEADER
    };
    out.extend_from_slice(text.as_bytes());
}

/// Appends a job's line in the plain table.
pub(crate) fn row(out: &mut Vec<u8>, row: &JobRow, with_percentage: bool) {
    pad::left(out, &row.id, 17, 17);
    out.push(b' ');
    // A name of sixteen letters loses its last one, as in PBS Pro.
    pad::left(out, &row.name, 16, 15);
    out.push(b' ');
    pad::left(out, &row.owner, 16, 16);
    out.extend_from_slice(b"  ");
    match (with_percentage, row.cput_secs) {
        (true, _) => pad::right(out, &percentage(row), 8),
        (false, Some(secs)) => time(out, Some(secs), 8),
        (false, None) => pad::right(out, "0", 8),
    }
    out.push(b' ');
    pad::left(out, state(&row.id, &row.state), 1, 1);
    out.push(b' ');
    pad::left(out, &row.queue, 16, 16);
    out.push(b'\n');
}

/// How much of the time that it asked for a running job has used.
fn percentage(row: &JobRow) -> String {
    let letter = state(&row.id, &row.state);
    let wide = row.wide.as_ref();
    let asked = wide
        .and_then(|wide| wide.requested_secs)
        .filter(|secs| *secs > 0);
    let used = wide.and_then(|wide| wide.elapsed_secs);
    match (letter, used, asked) {
        ("X", ..) => "100".to_owned(),
        ("Q" | "T" | "W", ..) => "-- ".to_owned(),
        (_, Some(used), Some(asked)) => format!("{:3} ", used.saturating_mul(100) / asked),
        _ => "-- ".to_owned(),
    }
}

/// Appends what stands above [`wide_row`].
pub(crate) fn wide_header(out: &mut Vec<u8>, layout: Layout, server: &str, comment: &str) {
    for text in ["\n", server, ": ", comment, "\n"] {
        out.extend_from_slice(text.as_bytes());
    }
    let last = if layout.with_estimates {
        "Start"
    } else {
        "Elap"
    };
    let (left, heads) = match layout.has_wide_columns {
        true => (99, WIDE_HEADS),
        false => (60, HEADS),
    };
    if layout.with_estimates {
        pad::blanks(out, left + 15);
        out.extend_from_slice(b"Est\n");
    }
    pad::blanks(out, left);
    for text in ["Req'd  Req'd   ", last, "\n", heads] {
        out.extend_from_slice(text.as_bytes());
    }
}

const HEADS: &str = "\
Job ID          Username Queue    Jobname    SessID NDS TSK Memory Time  S Time
--------------- -------- -------- ---------- ------ --- --- ------ ----- - -----
";

const WIDE_HEADS: &str = "\
Job ID                         Username        Queue           Jobname         SessID   NDS  TSK   Memory Time  S Time
------------------------------ --------------- --------------- --------------- -------- ---- ----- ------ ----- - -----
";

/// Appends the line or lines of a job in the wide table.
pub(crate) fn wide_row(out: &mut Vec<u8>, layout: Layout, row: &JobRow) {
    let empty = WideRow::default();
    let wide = row.wide.as_ref().unwrap_or(&empty);
    // Widths of id, user, queue, name, session, nodes and tasks.
    let widths: [usize; 7] = match layout.has_wide_columns {
        true => [30, 15, 15, 15, 8, 4, 5],
        false => [15, 8, 8, 10, 6, 3, 3],
    };
    let texts = [&row.id, &row.owner, &row.queue, &row.name];
    for (text, width) in texts.into_iter().zip(widths) {
        pad::left(out, text, width, width);
        out.push(b' ');
    }
    let counts = [wide.session, wide.nodes, wide.tasks];
    for (count, width) in counts.into_iter().zip(&widths[4..]) {
        let text = count.map_or_else(|| NONE.to_owned(), |count| count.to_string());
        pad::right(out, &text, *width);
        out.push(b' ');
    }
    let memory = in_unit(layout.memory, &wide.memory);
    pad::right(out, or_none(&memory), 6);
    out.push(b' ');
    time(out, wide.requested_secs, 5);
    out.push(b' ');
    pad::right(out, state(&row.id, &row.state), 1);
    out.push(b' ');
    match layout.with_estimates {
        true => pad::right(out, "--", 5),
        false => time(out, wide.elapsed_secs, 5),
    }
    let mut is_open = layout.on_one_line;
    if !is_open {
        out.push(b'\n');
    }
    if layout.with_nodes {
        let width = if is_open { usize::MAX } else { NODES_WIDTH };
        nodes(out, &wide.exec_host, width);
        is_open = false;
    }
    if layout.with_comment && !wide.comment.is_empty() {
        line(out, &comment(&wide.comment, layout.has_wide_columns));
        is_open = false;
    }
    if is_open {
        out.push(b'\n');
    }
}

fn comment(text: &str, is_wide: bool) -> String {
    let width = if is_wide {
        WIDE_COMMENT_WIDTH
    } else {
        COMMENT_WIDTH
    };
    match text.chars().count() > width {
        true => format!("{}...", pad::cut(text, width - 3)),
        false => text.to_owned(),
    }
}

/// `HH:MM:SS`, cut to the column: hours and minutes in five.
fn time(out: &mut Vec<u8>, secs: Option<u64>, width: usize) {
    match secs {
        Some(secs) => {
            let mut text = Vec::with_capacity(16);
            clock(&mut text, secs, 8);
            out.extend_from_slice(&text[..width.min(text.len())]);
        }
        None => pad::right(out, NONE, width),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job() -> JobRow {
        JobRow {
            id: "248.hn1".into(),
            name: "averylongjobnamethatislong".into(),
            owner: "alice".into(),
            state: "R".into(),
            queue: "batch".into(),
            cput_secs: None,
            wide: Some(WideRow {
                session: Some(14162),
                nodes: Some(1),
                tasks: Some(4),
                memory: "200mb".into(),
                requested_secs: Some(1200),
                elapsed_secs: Some(300),
                exec_host: "gpu01/0-3".into(),
                comment: "Job started on Sun Nov 22 at 03:55".into(),
                r#use: None,
            }),
        }
    }

    fn shown(layout: Layout) -> String {
        let mut out = Vec::new();
        wide_header(&mut out, layout, "hn1", "");
        wide_row(&mut out, layout, &job());
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn the_plain_table_has_the_columns_of_pbs_pro() {
        let mut out = Vec::new();
        header(&mut out, false);
        row(&mut out, &job(), false);
        let expected = "\
Job id            Name             User              Time Use S Queue
----------------  ---------------- ----------------  -------- - -----
248.hn1           averylongjobnam  alice                    0 R batch           
";
        assert_eq!(String::from_utf8(out).unwrap(), expected);
        let mut out = Vec::new();
        row(&mut out, &job(), true);
        assert!(String::from_utf8(out).unwrap().contains("     25  R batch"));
    }

    #[test]
    fn the_wide_table_has_the_columns_of_pbs_pro() {
        let expected = "
hn1: 
                                                            Req'd  Req'd   Elap
Job ID          Username Queue    Jobname    SessID NDS TSK Memory Time  S Time
--------------- -------- -------- ---------- ------ --- --- ------ ----- - -----
248.hn1         alice    batch    averylongj  14162   1   4  200mb 00:20 R 00:05
";
        assert_eq!(shown(Layout::default()), expected);
        let wide = shown(Layout {
            has_wide_columns: true,
            with_nodes: true,
            ..Layout::default()
        });
        assert!(wide.ends_with("R 00:05\n   gpu01/0-3\n"), "{wide}");
        let lines: Vec<&str> = wide.lines().collect();
        assert_eq!(lines[2].find("Req'd"), lines[3].find("Memory"));
    }
}
