//! What is wrong with a script, and where: a spot in a line of the script or of the command line, shown with the line and
//! a caret under the spot. Everything shown is made fit for a terminal here.

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Severity {
    /// The job would be refused.
    Error,
    /// The job would be taken, and probably not do what was meant.
    Warning,
    /// Worth knowing.
    Note,
}

impl Severity {
    /// The word for it.
    pub(super) const fn word(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warning => "warning",
            Self::Note => "note",
        }
    }
}

/// Which text a spot is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Where {
    /// The script.
    Script,
    /// The command line.
    CommandLine,
}

/// A place in a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Spot {
    /// In which text.
    pub(super) within: Where,
    /// Which line, from 0.
    pub(super) line: usize,
    /// Which byte of the line, from 0; at most its length.
    pub(super) at: usize,
}

/// One thing that is wrong or worth knowing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Finding {
    pub(super) severity: Severity,
    /// Where it is, and how many bytes of the line belong to it; `None` for the script as a whole.
    pub(super) spot: Option<(Spot, usize)>,
    /// What is wrong, without a full stop.
    pub(super) message: String,
    /// What to do about it; may be empty.
    pub(super) advice: String,
}

impl Finding {
    pub(super) fn new(severity: Severity, message: impl Into<String>) -> Self {
        Self {
            severity,
            spot: None,
            message: message.into(),
            advice: String::new(),
        }
    }

    pub(super) fn at(self, spot: Spot, bytes: usize) -> Self {
        Self {
            spot: Some((spot, bytes)),
            ..self
        }
    }

    pub(super) fn advise(self, advice: impl Into<String>) -> Self {
        Self {
            advice: advice.into(),
            ..self
        }
    }
}

/// Columns of a line that are shown at most.
const LINE_COLUMNS_MAX: usize = 120;
/// Of a longer line, so many columns before the spot.
const BEFORE_COLUMNS: usize = 40;
/// Indent of a line that is shown.
const INDENT: &str = "    ";

/// A line with the spot in it: what is shown of it, at which column the spot is, and how wide it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Shown {
    pub(super) text: String,
    pub(super) column: usize,
    pub(super) width: usize,
}

/// The line around the spot, one column a character: control characters are question marks, tabs are blanks.
pub(super) fn shown(line: &str, at: usize, bytes: usize) -> Shown {
    let count = |until: usize| {
        let starts = line.char_indices().map(|(start, _)| start);
        starts.take_while(|start| *start < until).count()
    };
    let (from, until) = (count(at), count(at.saturating_add(bytes)));
    let total = line.chars().count();
    let skipped = match total > LINE_COLUMNS_MAX {
        true => from.saturating_sub(BEFORE_COLUMNS),
        false => 0,
    };
    let rest = line.chars().skip(skipped).take(LINE_COLUMNS_MAX);
    let mut text = if skipped > 0 {
        "…".to_owned()
    } else {
        String::new()
    };
    let mark = text.chars().count();
    text.extend(rest.map(harmless));
    if total > skipped + LINE_COLUMNS_MAX {
        text.push('…');
    }
    let column = from - skipped + mark;
    let room = text.chars().count().saturating_sub(column);
    Shown {
        column,
        width: (until - from).clamp(1, room.max(1)),
        text,
    }
}

/// `column`, from 1, of the byte `at` of `line`.
pub(super) fn column(line: &str, at: usize) -> usize {
    let starts = line.char_indices().map(|(start, _)| start);
    starts.take_while(|start| *start < at).count() + 1
}

fn harmless(c: char) -> char {
    match c {
        '\t' => ' ',
        c if c.is_control() => '?',
        // Would turn the order of letters around, on terminals that know it.
        '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => '?',
        c => c,
    }
}

/// A text of somebody else's, as one line that a terminal takes no orders from.
pub(super) fn tame(text: &str) -> String {
    text.chars().map(harmless).collect()
}

/// Appends a finding: `job.pbs:4:17: error: …`, the line, the caret, the advice. `lines` are those of its text, `name` is
/// what that is called.
pub(super) fn render(out: &mut String, finding: &Finding, name: &str, lines: &[String]) {
    let Finding {
        severity,
        spot,
        message,
        advice,
    } = finding;
    let word = severity.word();
    let message = tame(message);
    match spot {
        Some((spot, bytes)) => {
            let line = lines.get(spot.line).map_or("", String::as_str);
            let place = match spot.within {
                Where::Script => format!("{name}:{}:{}", spot.line + 1, column(line, spot.at)),
                Where::CommandLine => name.to_owned(),
            };
            let Shown {
                text,
                column,
                width,
            } = shown(line, spot.at, *bytes);
            let carets = "^".repeat(width);
            out.push_str(&format!("{place}: {word}: {message}\n{INDENT}{text}\n"));
            out.push_str(&format!("{INDENT}{:column$}{carets}\n", ""));
        }
        None => out.push_str(&format!("{name}: {word}: {message}\n")),
    }
    if !advice.is_empty() {
        out.push_str(&format!("{INDENT}{}\n", tame(advice)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_caret_is_under_the_spot_whatever_stands_before_it() {
        let check = |line: &str, at: usize, bytes: usize, expected: &str| {
            let Shown {
                text,
                column,
                width,
            } = shown(line, at, bytes);
            let seen = format!("{text}\n{:column$}{}", "", "^".repeat(width));
            assert_eq!(seen, expected, "{line:?} {at} {bytes}");
        };
        check("#PBS -l gpuz=2", 8, 4, "#PBS -l gpuz=2\n        ^^^^");
        check("#PBS\t-l x", 8, 1, "#PBS -l x\n        ^");
        check("# größe x", 10, 1, "# größe x\n        ^");
        check("a\u{1b}[2Jb", 5, 1, "a?[2Jb\n     ^");
        check("end", 3, 0, "end\n   ^");
        check("end", 99, 9, "end\n   ^");
        check("", 0, 0, "\n^");
    }

    #[test]
    fn of_a_long_line_what_surrounds_the_spot_is_shown() {
        let line = format!("{}X{}", "a".repeat(500), "b".repeat(500));
        let seen = shown(&line, 500, 1);
        assert_eq!(seen.text.chars().nth(seen.column), Some('X'), "{seen:?}");
        assert!(seen.text.chars().count() <= LINE_COLUMNS_MAX + 2);
        assert!(seen.text.starts_with('…') && seen.text.ends_with('…'));
    }

    #[test]
    fn findings_name_file_line_and_column() {
        let spot = Spot {
            within: Where::Script,
            line: 1,
            at: 8,
        };
        let finding = Finding::new(Severity::Error, "there is no resource gpuz")
            .at(spot, 4)
            .advise("gpus= is meant?");
        let lines = ["#!/bin/sh".to_owned(), "#PBS -l gpuz=2".to_owned()];
        let mut out = String::new();
        render(&mut out, &finding, "job.pbs", &lines);
        let expected = "job.pbs:2:9: error: there is no resource gpuz\n    #PBS -l gpuz=2\n            ^^^^\n    gpus= is meant?\n";
        assert_eq!(out, expected);
    }
}
