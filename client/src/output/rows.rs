//! The plain table of `qstat`. The id column is one wider than its header and rows end in blanks, as recorded.

use capstan_proto::wire::JobRow;

use super::pad;

/// The two lines above the first row.
pub(crate) const HEADER: &str = "\
Job ID                    Name             User            Time Use S Queue
------------------------- ---------------- --------------- -------- - -----
";

/// Names longer than this show their end.
const NAME_WIDTH: usize = 16;
/// Ids longer than this are cut.
const ID_MAX: usize = 29;

/// Appends the line of one job.
pub(crate) fn row(out: &mut Vec<u8>, row: &JobRow) {
    pad::left(out, &row.id, 26, ID_MAX);
    out.push(b' ');
    name(out, &row.name);
    out.push(b' ');
    pad::left(out, &row.owner, 15, 15);
    out.push(b' ');
    match row.cput_secs {
        // Longer times lose their end, as in Torque: the column may not move.
        Some(secs) => {
            let mut time = Vec::with_capacity(16);
            clock(&mut time, secs, 8);
            out.extend_from_slice(&time[..8]);
        }
        None => pad::right(out, "0", 8),
    }
    out.push(b' ');
    pad::left(out, &row.state, 1, 1);
    out.push(b' ');
    pad::left(out, &row.queue, 15, 15);
    out.push(b'\n');
}

/// A long name is three dots and its last characters, so that numbered names stay apart; of a name with slashes, what
/// begins with the first slash among those.
fn name(out: &mut Vec<u8>, name: &str) {
    const DOTS: &str = "...";
    let count = name.chars().count();
    if count <= NAME_WIDTH {
        return pad::left(out, name, NAME_WIDTH, NAME_WIDTH);
    }
    let end = name.char_indices().nth(count - (NAME_WIDTH - DOTS.len()));
    let end = end.map_or(name, |(at, _)| &name[at..]);
    let end = end.find('/').map_or(end, |slash| &end[slash..]);
    out.extend_from_slice(DOTS.as_bytes());
    pad::left(out, end, NAME_WIDTH - DOTS.len(), usize::MAX);
}

/// Appends a span as `HH:MM:SS` on the right of a column; hours are not folded into days.
pub(crate) fn clock(out: &mut Vec<u8>, secs: u64, width: usize) {
    let hours = secs / 3600;
    let digits = if hours < 100 {
        2
    } else {
        hours.ilog10() as usize + 1
    };
    pad::blanks(out, width.saturating_sub(digits + ":MM:SS".len()));
    if hours < 10 {
        out.push(b'0');
    }
    pad::number(out, hours, 1);
    for part in [secs / 60 % 60, secs % 60] {
        out.extend_from_slice(&[b':', b'0' + (part / 10) as u8, b'0' + (part % 10) as u8]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_the_recorded_one() {
        let job = |id: &str, name: &str, owner: &str, cput_secs, state: &str, queue: &str| JobRow {
            id: id.into(),
            name: name.into(),
            owner: owner.into(),
            state: state.into(),
            queue: queue.into(),
            cput_secs,
            wide: None,
        };
        let mut out = HEADER.as_bytes().to_vec();
        row(
            &mut out,
            &job("248.hn1", "run1", "alice", None, "R", "batch"),
        );
        row(
            &mut out,
            &job(
                "249.hn1",
                "averylongjobnamethatislong",
                "alice",
                None,
                "R",
                "batch",
            ),
        );
        row(
            &mut out,
            &job("292.hn1", "sleep.sh", "alice", Some(0), "C", "batch"),
        );
        row(
            &mut out,
            &job(
                "253[].hn1",
                "arr",
                "alice",
                Some(360_061),
                "Q",
                "a_queue_with_long_name",
            ),
        );
        let expected = "\
Job ID                    Name             User            Time Use S Queue
------------------------- ---------------- --------------- -------- - -----
248.hn1                    run1             alice                  0 R batch          
249.hn1                    ...amethatislong alice                  0 R batch          
292.hn1                    sleep.sh         alice           00:00:00 C batch          
253[].hn1                  arr              alice           100:01:0 Q a_queue_with_lo
";
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }

    #[test]
    fn a_name_of_sixteen_characters_is_whole() {
        let mut out = Vec::new();
        name(&mut out, "sixteen-letters!");
        assert_eq!(out, b"sixteen-letters!");
        out.clear();
        name(&mut out, "a/very/long/path/of/names");
        assert_eq!(out, b".../of/names    ");
    }
}
