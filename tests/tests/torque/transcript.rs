//! Transcripts: bringing two of them together, and reading what `compare.py` says of them.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

/// What was compared.
pub(crate) struct Numbers {
    /// Recorded commands, those that hung left out.
    pub(crate) commands: usize,
}

/// A command that differs.
#[derive(Clone, Debug)]
pub(crate) struct Difference {
    /// File name of its case, without `.txt`.
    pub(crate) case: String,
    /// `user$ command`, its job numbers masked.
    pub(crate) command: String,
    /// What `compare.py` shows of it.
    pub(crate) text: String,
}

/// Copies the recorded cases to `wanted` with the job numbers of our commands in place of theirs: the comparer pairs
/// commands by their text, and `$(qsub …)` gave them other numbers. Commands are paired in their order.
pub(crate) fn align(recorded: &Path, ours: &Path, wanted: &Path, filter: &str) -> Numbers {
    fs::create_dir_all(wanted).unwrap();
    let mut numbers = Numbers { commands: 0 };
    for entry in fs::read_dir(recorded).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        if !name.starts_with(filter) {
            continue;
        }
        let theirs = fs::read_to_string(recorded.join(&name)).unwrap();
        let is_done = |line: &&str| line.starts_with("--- exit ") && *line != "--- exit 124";
        numbers.commands += theirs.lines().filter(is_done).count();
        let mine = fs::read(ours.join(&name)).unwrap_or_default();
        let mine = String::from_utf8_lossy(&mine).into_owned();
        let mut commands = mine.lines().filter(|line| is_command(line)).peekable();
        let mut text = String::new();
        for line in theirs.lines() {
            let ours = is_command(line)
                .then(|| commands.find(|ours| masked(ours) == masked(line)))
                .flatten();
            writeln!(text, "{}", ours.unwrap_or(line)).unwrap();
        }
        fs::write(wanted.join(&name), text).unwrap();
    }
    numbers
}

/// `[user]$ command`.
fn is_command(line: &str) -> bool {
    line.strip_prefix('[')
        .and_then(|line| line.split_once("]$ "))
        .is_some_and(|(user, _)| user.bytes().all(|byte| byte.is_ascii_alphanumeric()))
}

/// The line with every number of a job id as `N`.
pub(crate) fn masked(line: &str) -> String {
    let mut text = String::new();
    let mut digits = 0;
    let mut last = ' ';
    for letter in line.chars() {
        let is_number = letter.is_ascii_digit() && (digits > 0 || !last.is_alphanumeric());
        digits = if is_number { digits + 1 } else { 0 };
        match (is_number, digits) {
            (true, 1) => text.push('N'),
            (true, _) => {}
            (false, _) => text.push(letter),
        }
        last = letter;
    }
    text
}

/// The differences that the report of `compare.py --show` tells of.
pub(crate) fn differing(report: &str) -> Vec<Difference> {
    let mut found: Vec<Difference> = Vec::new();
    for line in report.lines() {
        let head = line
            .strip_prefix("--- ")
            .and_then(|line| line.split_once(".txt: "));
        match (head, found.last_mut()) {
            (Some((case, rest)), _) => {
                let command = rest
                    .rsplit_once("  (exit ")
                    .map_or(rest, |(command, _)| command);
                found.push(Difference {
                    case: case.to_owned(),
                    command: masked(command),
                    text: line.to_owned(),
                });
            }
            (None, Some(last)) if line.starts_with("   ") => {
                last.text.push('\n');
                last.text.push_str(line);
            }
            (None, _) => {}
        }
    }
    found
}

#[test]
fn job_numbers_do_not_tell_commands_apart() {
    assert_eq!(
        masked("[alice]$ qstat -f 352[].hn1"),
        "[alice]$ qstat -f N[].hn1"
    );
    assert_eq!(
        masked("[bob]$ qdel -W 2 1.hn1"),
        masked("[bob]$ qdel -W 2 4711.hn1")
    );
    assert_eq!(
        masked("qsub -l nodes=gpu01:ppn=2"),
        "qsub -l nodes=gpu01:ppn=N"
    );
}
