//! Lines of PBS's logs: which job they are about, when, and what they say.

/// A log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    /// The server's.
    Server,
    /// The scheduler's.
    Scheduler,
    /// The node daemons'.
    Mom,
    /// The accounting log.
    Accounting,
}

/// A line about the job that was looked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Line {
    pub(super) kind: Kind,
    /// As written: `11/22/2026 04:16:39.216`.
    pub(super) when: String,
    /// `2026/11/22`, to sort by.
    pub(super) day: String,
    /// `04:16:39`.
    pub(super) second: String,
    /// The whole job id.
    pub(super) job: String,
    /// Number of its event; 0 in the accounting log.
    pub(super) event: u32,
    pub(super) text: String,
}

impl Kind {
    pub(super) const ALL: [Self; 4] = [Self::Server, Self::Scheduler, Self::Mom, Self::Accounting];

    /// The option that leaves it out.
    pub(super) const fn option(self) -> char {
        match self {
            Self::Server => 's',
            Self::Scheduler => 'l',
            Self::Mom => 'm',
            Self::Accounting => 'a',
        }
    }

    /// By which it is shown.
    pub(super) const fn letter(self) -> char {
        match self {
            Self::Server => 'S',
            Self::Scheduler => 'L',
            Self::Mom => 'M',
            Self::Accounting => 'A',
        }
    }

    /// Where it lies under a server's home: ours, and Torque's.
    pub(super) const fn folders(self) -> &'static [&'static str] {
        match self {
            Self::Server => &["server_logs"],
            Self::Scheduler => &["sched_logs"],
            Self::Mom => &["mom_logs"],
            Self::Accounting => &["accounting", "server_priv/accounting"],
        }
    }

    /// The line, when it is about the job `id`.
    pub(super) fn read(self, line: &str, id: &str) -> Option<Line> {
        let (when, rest) = line.split_once(';')?;
        let (event, job, text) = match self {
            Self::Accounting => {
                let mut parts = rest.splitn(3, ';');
                let (_letter, job, text) = (parts.next()?, parts.next()?, parts.next()?);
                (0, job, text)
            }
            Self::Server | Self::Scheduler | Self::Mom => {
                let mut parts = rest.splitn(5, ';');
                let event = parts.next()?.trim().parse().ok()?;
                let (_daemon, class) = (parts.next()?, parts.next()?);
                let (job, text) = (parts.next()?, parts.next()?);
                if class != "Job" {
                    return None;
                }
                (event, job, text)
            }
        };
        let (date, time) = when.split_once(' ')?;
        let mut date = date.split('/');
        let (month, day, year) = (date.next()?, date.next()?, date.next()?);
        is_job(job, id).then(|| Line {
            kind: self,
            when: if time.contains('.') {
                when.to_owned()
            } else {
                // As Torque prints a time without fraction: one blank more.
                format!("{when} ")
            },
            day: format!("{year}/{month}/{day}"),
            second: time.split('.').next().unwrap_or_default().to_owned(),
            job: job.to_owned(),
            event,
            text: text.to_owned(),
        })
    }
}

/// Whether `job` of a log is what `id` names, with or without the server.
fn is_job(job: &str, id: &str) -> bool {
    job == id || job.split_once('.').is_some_and(|(short, _)| short == id)
}

/// The event number of a type's name or of a hexadecimal number.
pub(super) fn event(name: &str) -> Option<u32> {
    Some(match name {
        "error" => 0x001,
        "system" => 0x002,
        "admin" => 0x004,
        "job" => 0x008,
        "job_usage" => 0x010,
        "security" => 0x020,
        "sched" => 0x040,
        "debug" => 0x080,
        "debug2" => 0x100,
        hex => u32::from_str_radix(hex.strip_prefix("0x").unwrap_or(hex), 16).ok()?,
    })
}

/// The text in lines of at most `columns`, `indent` of which the lines before the first word have already.
pub(super) fn folded(text: &str, columns: Option<usize>, indent: usize) -> String {
    let Some(width) = columns
        .and_then(|columns| columns.checked_sub(indent))
        .filter(|width| *width > 0)
    else {
        return text.to_owned();
    };
    let mut folded = String::new();
    let mut used = 0;
    for letter in text.chars() {
        if used == width {
            folded.push('\n');
            folded.extend(std::iter::repeat_n(' ', indent));
            used = 0;
        }
        folded.push(letter);
        used += 1;
    }
    folded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_is_found_by_its_number_and_not_by_a_longer_one() {
        assert!(is_job("435.hn1", "435"));
        assert!(is_job("435[2].hn1", "435[2]"));
        assert!(is_job("435.hn1", "435.hn1"));
        assert!(!is_job("4350.hn1", "435"));
    }

    #[test]
    fn long_lines_fold_under_their_text() {
        assert_eq!(folded("abcdef", Some(5), 2), "abc\n  def");
        assert_eq!(folded("abc", Some(2), 2), "abc");
        assert_eq!(folded("abc", None, 2), "abc");
    }

    #[test]
    fn what_is_no_line_of_a_log_is_passed_over() {
        for line in ["", ";", "x;y;z", "11/22/2026;Q;1.hn1;a", "a b;Q;1.hn1;a"] {
            assert_eq!(Kind::Accounting.read(line, "1"), None, "{line}");
        }
    }
}
