//! The "alternate" tables of `qstat` (`-a -i -r -u -n -s -G -M -R`).

use capstan_proto::wire::{JobRow, WideRow, WideUse};
use capstan_types::Size;

use super::pad::{self, NONE};
use super::rows::clock;

/// What the wide table shows besides its columns.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Layout {
    /// `-n`: where each job runs.
    pub(crate) with_nodes: bool,
    /// `-1`: on the same line.
    pub(crate) on_one_line: bool,
    /// `-s`: each job's comment.
    pub(crate) with_comment: bool,
    /// `-R`: other columns.
    pub(crate) with_disks: bool,
    /// `-w` of PBS Pro: wider columns.
    pub(crate) has_wide_columns: bool,
    /// `-T` of PBS Pro: when jobs are expected to start.
    pub(crate) with_estimates: bool,
    /// `-G` or `-M`: memory in this unit.
    pub(crate) memory: MemoryUnit,
    /// With columns of how busy jobs are: `-G`, where the server tells it.
    pub(crate) with_use: bool,
}

impl Layout {
    /// The layout for a table whose first row is `row`: what the server does not tell has no columns.
    pub(crate) fn for_rows_like(self, row: &JobRow) -> Self {
        let is_told = row.wide.as_ref().is_some_and(|wide| wide.r#use.is_some());
        Self {
            with_use: is_told && self.memory == MemoryUnit::Gigabytes && !self.with_disks,
            ..self
        }
    }
}

/// How memory is shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum MemoryUnit {
    /// As it was asked for.
    #[default]
    Typed,
    /// Whole gigabytes, rounded up.
    Gigabytes,
    /// Millions of 8-byte words, rounded up.
    Megawords,
}

const HEADER: &str = "                                                                                  Req'd       Req'd       Elap
Job ID                  Username    Queue    Jobname          SessID  NDS   TSK   Memory      Time    S   Time
----------------------- ----------- -------- ---------------- ------ ----- ------ --------- --------- - ---------
";

const DISKS_HEADER: &str = "                                                          Req'd     Req'd       Elap
Job ID                  Username    Queue    NDS   TSK    Memory    Time      S Time       BIG  FAST   PFS
----   ---------------- ----------- -------- ----- ------ --------- --------- - --------- ----- ----- -----
";

/// Behind the lines of [`HEADER`].
const USE_HEADER: [&str; 3] = [
    "      Card   Card  Card   Core   Host",
    " Cards  Use    Mem Power    Use    Mem",
    " ----- ---- ------ ----- ------ ------",
];

/// Columns of the line of nodes under a job before it is folded.
pub(crate) const NODES_WIDTH: usize = 76;

/// Appends an empty line, the server's name and comment, and the column heads.
pub(crate) fn header(out: &mut Vec<u8>, layout: Layout, server: &str, comment: &str) {
    for text in ["\n", server, ": ", comment, "\n"] {
        out.extend_from_slice(text.as_bytes());
    }
    let heads = if layout.with_disks {
        DISKS_HEADER
    } else {
        HEADER
    };
    if !layout.with_use {
        return out.extend_from_slice(heads.as_bytes());
    }
    for (line, more) in heads.lines().zip(USE_HEADER) {
        out.extend_from_slice(line.as_bytes());
        // The first line of the heads is shorter than the others.
        let width = heads.lines().last().map_or(0, str::len);
        out.resize(out.len() + width.saturating_sub(line.len()), b' ');
        out.extend_from_slice(more.as_bytes());
        out.push(b'\n');
    }
}

/// Appends the line or lines of one job.
pub(crate) fn row(out: &mut Vec<u8>, layout: Layout, row: &JobRow) {
    let empty = WideRow::default();
    let wide = row.wide.as_ref().unwrap_or(&empty);
    pad::left(out, &row.id, 23, 22);
    out.push(b' ');
    pad::left(out, &row.owner, 11, 11);
    out.push(b' ');
    pad::left(out, &row.queue, 8, 8);
    out.push(b' ');
    if !layout.with_disks {
        pad::left(out, &row.name, 16, 16);
        out.push(b' ');
        count(out, wide.session, 6);
        out.push(b' ');
    }
    count(out, wide.nodes, 5);
    out.push(b' ');
    count(out, wide.tasks, 6);
    out.push(b' ');
    memory(out, layout.memory, &wide.memory);
    out.push(b' ');
    span(out, wide.requested_secs);
    out.push(b' ');
    pad::right(out, &row.state, 1);
    out.push(b' ');
    span(out, wide.elapsed_secs);
    if layout.with_disks {
        for _ in ["BIG", "FAST", "PFS"] {
            out.push(b' ');
            pad::right(out, NONE, 5);
        }
    }
    if layout.with_use {
        let empty = WideUse::default();
        how_busy(out, wide.r#use.as_ref().unwrap_or(&empty));
    }
    // With -1 the first of the two goes on behind the row; `qstat` takes -1 with -n only, but both may be asked for.
    let mut is_open = layout.on_one_line;
    if !is_open {
        out.push(b'\n');
    }
    if layout.with_nodes {
        let width = if is_open { usize::MAX } else { NODES_WIDTH };
        nodes(out, &wide.exec_host, width);
        is_open = false;
    }
    if layout.with_comment {
        line(out, or_none(&wide.comment));
        is_open = false;
    }
    if is_open {
        out.push(b'\n');
    }
}

fn how_busy(out: &mut Vec<u8>, busy: &WideUse) {
    let WideUse {
        cards,
        card_percent,
        card_memory_mib,
        power_watts,
        cpu_percent,
        memory_mib,
    } = *busy;
    let gigabytes = |mib: Option<u32>| mib.map(|mib| format!("{:.1}g", f64::from(mib) / 1024.0));
    let with = |value: Option<u32>, unit: &str| value.map(|value| format!("{value}{unit}"));
    let cards = (cards > 0).then(|| cards.to_string());
    let columns = [
        (cards, 5),
        (with(card_percent, "%"), 4),
        (gigabytes(card_memory_mib), 6),
        (with(power_watts, "W"), 5),
        (with(cpu_percent, "%"), 6),
        (gigabytes(memory_mib), 6),
    ];
    for (value, width) in columns {
        out.push(b' ');
        pad::right(out, value.as_deref().unwrap_or(NONE), width);
    }
}

pub(crate) fn or_none(text: &str) -> &str {
    if text.is_empty() { NONE } else { text }
}

fn count(out: &mut Vec<u8>, value: Option<u32>, width: usize) {
    match value {
        Some(value) => pad::number(out, value.into(), width),
        None => pad::right(out, NONE, width),
    }
}

fn span(out: &mut Vec<u8>, secs: Option<u64>) {
    match secs {
        Some(secs) => clock(out, secs, 9),
        None => pad::right(out, NONE, 9),
    }
}

fn memory(out: &mut Vec<u8>, unit: MemoryUnit, typed: &str) {
    pad::right(out, or_none(&in_unit(unit, typed)), 9);
}

/// A size as typed, in another unit; text that is no size stays as it is.
pub(crate) fn in_unit(unit: MemoryUnit, typed: &str) -> String {
    let (divisor, suffix) = match unit {
        MemoryUnit::Typed => return typed.to_owned(),
        MemoryUnit::Gigabytes => (1 << 30, "gb"),
        MemoryUnit::Megawords => (8 << 20, "mw"),
    };
    match Size::parse(typed) {
        Ok(size) => format!("{}{suffix}", size.bytes().div_ceil(divisor)),
        Err(_) => typed.to_owned(),
    }
}

/// Where a job runs, folded in front of a `+`. Domains are left out of host names, as in Torque.
pub(crate) fn nodes(out: &mut Vec<u8>, exec_host: &str, width_max: usize) {
    if exec_host.is_empty() {
        return line(out, NONE);
    }
    let mut text = String::new();
    for (at, part) in exec_host.split('+').enumerate() {
        let (host, slots) = part.split_once('/').unwrap_or((part, ""));
        let host = host.split('.').next().unwrap_or(host);
        let plus = if at == 0 { "" } else { "+" };
        let slash = if part.contains('/') { "/" } else { "" };
        let width = plus.len() + host.len() + slash.len() + slots.len();
        if !text.is_empty() && text.len() + width > width_max {
            line(out, &text);
            text.clear();
        }
        text.extend([plus, host, slash, slots]);
    }
    line(out, &text);
}

pub(crate) fn line(out: &mut Vec<u8>, text: &str) {
    out.extend_from_slice(b"   ");
    out.extend_from_slice(text.as_bytes());
    out.push(b'\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    fn jobs() -> Vec<JobRow> {
        let job = |id: &str, name: &str, owner: &str, state: &str, queue: &str, wide| JobRow {
            id: id.into(),
            name: name.into(),
            owner: owner.into(),
            state: state.into(),
            queue: queue.into(),
            cput_secs: None,
            wide: Some(wide),
        };
        let running = WideRow {
            session: Some(0),
            nodes: Some(2),
            tasks: Some(4),
            memory: "200mb".into(),
            requested_secs: Some(1200),
            elapsed_secs: Some(4),
            exec_host: "gpu02/0-1+gpu01/0-1".into(),
            comment: "Job started on Sun Nov 22 at 03:55".into(),
            r#use: None,
        };
        let long = WideRow {
            session: Some(14162),
            nodes: Some(1),
            tasks: Some(1),
            requested_secs: Some(3600),
            elapsed_secs: Some(3),
            exec_host: "gpu01/2".into(),
            ..WideRow::default()
        };
        let held = WideRow {
            tasks: Some(2),
            requested_secs: Some(1800),
            ..WideRow::default()
        };
        vec![
            job("248.hn1", "run1", "alice", "R", "batch", running),
            job(
                "249.hn1",
                "averylongjobnamethatislong",
                "alice",
                "R",
                "batch",
                long,
            ),
            job("251.hn1", "heldjob", "bob", "H", "batch", held),
            job(
                "254.hn1",
                "stopped",
                "alice",
                "Q",
                "stoppedq",
                WideRow::default(),
            ),
        ]
    }

    fn shown(layout: Layout) -> String {
        let mut out = Vec::new();
        header(&mut out, layout, "hn1", "");
        for job in jobs() {
            row(&mut out, layout, &job);
        }
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn the_wide_table_is_the_recorded_one() {
        let expected = "
hn1: 
                                                                                  Req'd       Req'd       Elap
Job ID                  Username    Queue    Jobname          SessID  NDS   TSK   Memory      Time    S   Time
----------------------- ----------- -------- ---------------- ------ ----- ------ --------- --------- - ---------
248.hn1                 alice       batch    run1                  0     2      4     200mb  00:20:00 R  00:00:04
249.hn1                 alice       batch    averylongjobname  14162     1      1       --   01:00:00 R  00:00:03
251.hn1                 bob         batch    heldjob             --    --       2       --   00:30:00 H       -- 
254.hn1                 alice       stoppedq stopped             --    --     --        --        --  Q       -- 
";
        assert_eq!(shown(Layout::default()), expected);
    }

    #[test]
    fn nodes_and_comments_stand_under_a_job_or_beside_it() {
        let under = shown(Layout {
            with_nodes: true,
            ..Layout::default()
        });
        assert!(
            under.contains("R  00:00:04\n   gpu02/0-1+gpu01/0-1\n249.hn1 "),
            "{under}"
        );
        assert!(under.ends_with("H       -- \n    -- \n254.hn1                 alice       stoppedq stopped             --    --     --        --        --  Q       -- \n    -- \n"));
        let beside = shown(Layout {
            with_nodes: true,
            on_one_line: true,
            ..Layout::default()
        });
        assert!(beside.contains("R  00:00:03   gpu01/2\n"), "{beside}");
        assert!(beside.ends_with("Q       --     -- \n"), "{beside}");
        let comments = shown(Layout {
            with_comment: true,
            ..Layout::default()
        });
        assert!(
            comments.contains("00:00:04\n   Job started on Sun Nov 22 at 03:55\n"),
            "{comments}"
        );
    }

    #[test]
    fn memory_is_shown_in_the_unit_asked_for() {
        let units = |unit| {
            shown(Layout {
                memory: unit,
                ..Layout::default()
            })
        };
        assert!(units(MemoryUnit::Gigabytes).contains("     4       1gb  00:20:00 R"));
        assert!(units(MemoryUnit::Megawords).contains("     4      25mw  00:20:00 R"));
    }

    #[test]
    fn how_busy_jobs_are_stands_behind_where_the_server_tells_it() {
        let mut rows = jobs();
        let gigabytes = Layout {
            memory: MemoryUnit::Gigabytes,
            ..Layout::default()
        };
        assert!(!gigabytes.for_rows_like(&rows[0]).with_use);
        let busy = WideUse {
            cards: 2,
            card_percent: Some(97),
            card_memory_mib: Some(39_000),
            power_watts: Some(540),
            cpu_percent: Some(1250),
            memory_mib: Some(512),
        };
        rows[0].wide.as_mut().unwrap().r#use = Some(busy);
        rows[2].wide.as_mut().unwrap().r#use = Some(WideUse::default());
        assert!(!Layout::default().for_rows_like(&rows[0]).with_use);
        let layout = gigabytes.for_rows_like(&rows[0]);
        let mut out = Vec::new();
        header(&mut out, layout, "hn1", "");
        row(&mut out, layout, &rows[0]);
        row(&mut out, layout, &rows[2]);
        let text = String::from_utf8(out).unwrap();
        let lines: Vec<&str> = text.lines().skip(2).collect();
        let width = lines[2].len();
        assert!(lines.iter().all(|line| line.len() <= width), "{text}");
        assert!(
            lines[3].ends_with("R  00:00:04     2  97%  38.1g  540W  1250%   0.5g"),
            "{text}"
        );
        assert!(
            lines[4].ends_with("H       --    --   --     --    --     --     -- "),
            "{text}"
        );
    }

    #[test]
    fn disk_columns_are_the_recorded_ones() {
        let expected = "
hn1: 
                                                          Req'd     Req'd       Elap
Job ID                  Username    Queue    NDS   TSK    Memory    Time      S Time       BIG  FAST   PFS
----   ---------------- ----------- -------- ----- ------ --------- --------- - --------- ----- ----- -----
248.hn1                 alice       batch        2      4     200mb  00:20:00 R  00:00:04   --    --    -- 
";
        let seen = shown(Layout {
            with_disks: true,
            ..Layout::default()
        });
        assert!(seen.starts_with(expected), "{seen}");
    }

    #[test]
    fn many_nodes_are_folded_in_front_of_a_plus() {
        let mut out = Vec::new();
        let hosts: Vec<String> = (10..30)
            .map(|n| format!("node{n}.example.org/0-3"))
            .collect();
        nodes(&mut out, &hosts.join("+"), NODES_WIDTH);
        let text = String::from_utf8(out).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        assert!(
            lines.len() > 1 && lines[1].starts_with("   +node"),
            "{text}"
        );
        assert!(
            lines.iter().all(|line| line.len() <= NODES_WIDTH + 3),
            "{text}"
        );
        assert!(!text.contains("example"), "{text}");
    }
}
