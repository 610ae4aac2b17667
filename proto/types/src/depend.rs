//! Dependencies between jobs: `afterok:1:2,afterany:3`. The whole grammar of Torque is read here; which of it a server
//! serves is the server's to say.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{ErrorClass, JobPart, JobReference, ParseError};

/// What must have become of a job before one that waits for it may run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Condition {
    /// It has started.
    After,
    /// It has ended with exit status 0.
    AfterOk,
    /// It has ended with another exit status.
    AfterNotOk,
    /// It has ended.
    AfterAny,
}

impl Condition {
    /// As in `depend = afterok:123.server`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::After => "after",
            Self::AfterOk => "afterok",
            Self::AfterNotOk => "afternotok",
            Self::AfterAny => "afterany",
        }
    }

    /// As the job waited for shows it: `depend = beforeok:124.server`.
    #[must_use]
    pub const fn mirrored(self) -> &'static str {
        match self {
            Self::After => "before",
            Self::AfterOk => "beforeok",
            Self::AfterNotOk => "beforenotok",
            Self::AfterAny => "beforeany",
        }
    }

    /// As in `depend = afterokarray:123[].server`.
    #[must_use]
    pub const fn name_of_array(self) -> &'static str {
        self.of_array().0
    }

    /// As the array waited for shows it: `depend = beforeokarray:124.server`.
    #[must_use]
    pub const fn mirrored_of_array(self) -> &'static str {
        self.of_array().1
    }

    const fn of_array(self) -> (&'static str, &'static str) {
        match self {
            Self::After => ("afterstartarray", "beforestartarray"),
            Self::AfterOk => ("afterokarray", "beforeokarray"),
            Self::AfterNotOk => ("afternotokarray", "beforenotokarray"),
            Self::AfterAny => ("afteranyarray", "beforeanyarray"),
        }
    }
}

impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// One element of `-W depend=`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Dependency {
    /// `afterok:JOB`: this job waits for that one.
    After {
        /// What must have become of it.
        condition: Condition,
        /// The job waited for.
        job: JobReference,
    },
    /// `beforeok:JOB`: that job waits for this one.
    Before {
        /// What must have become of this job.
        condition: Condition,
        /// The job that waits.
        job: JobReference,
    },
    /// `afterokarray:ARRAY[][COUNT]`: this job waits for members of an array.
    AfterArray {
        /// What must have become of them.
        condition: Condition,
        /// The array.
        array: JobReference,
        /// How many members; `None` for all.
        members: Option<u32>,
    },
    /// `beforeokarray:ARRAY[][COUNT]`: that array waits for this job.
    BeforeArray {
        /// What must have become of this job.
        condition: Condition,
        /// The array that waits.
        array: JobReference,
        /// How many members; `None` for all.
        members: Option<u32>,
    },
    /// `on:N`: this job waits until so many others that name it in a `before…` let it go.
    On(u32),
    /// `synccount:N`: this job starts together with so many that name it in `syncwith`.
    SyncCount(u32),
    /// `syncwith:JOB`: this job starts together with that one.
    SyncWith(JobReference),
}

/// A dependency list as typed in `-W depend=`, in order; `afterok:1:2` is two elements.
pub type Dependencies = Vec<Dependency>;

impl Dependency {
    /// The most elements of one list: a job that gathers the results of 10,000 others.
    pub const COUNT_MAX: usize = 10_000;

    /// Reads `TYPE:ARG[:ARG…][,TYPE:ARG…]`; the whole may stand in quotes.
    ///
    /// # Errors
    /// An unknown type or a malformed argument; a type without argument is in its own class, because Torque's `qsub`
    /// refuses the former and its server the latter.
    pub fn parse_list(text: &str) -> Result<Dependencies, ParseError> {
        let list = unquoted(text);
        let mut at = if list.len() == text.len() { 0 } else { 1 };
        let mut found = Vec::new();
        for element in list.split(',') {
            let start = at + element.len() - element.trim_start().len();
            parse_element(text, start, element.trim(), &mut found)?;
            at += element.len() + 1;
        }
        Ok(found)
    }
}

impl fmt::Display for Dependency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::After { condition, job } => write!(f, "{condition}:{job}"),
            Self::Before { condition, job } => write!(f, "{}:{job}", condition.mirrored()),
            Self::AfterArray {
                condition,
                array,
                members,
            } => write!(f, "{}:{}", condition.of_array().0, Members(array, *members)),
            Self::BeforeArray {
                condition,
                array,
                members,
            } => write!(f, "{}:{}", condition.of_array().1, Members(array, *members)),
            Self::On(count) => write!(f, "on:{count}"),
            Self::SyncCount(count) => write!(f, "synccount:{count}"),
            Self::SyncWith(job) => write!(f, "syncwith:{job}"),
        }
    }
}

struct Members<'a>(&'a JobReference, Option<u32>);

impl fmt::Display for Members<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(array, members) = self;
        write!(f, "{}", array.id)?;
        if let Some(members) = members {
            write!(f, "[{members}]")?;
        }
        array.fmt_place(f)
    }
}

/// The type of an element, as its arguments are read.
#[derive(Clone, Copy)]
enum Kind {
    After(Condition),
    Before(Condition),
    AfterArray(Condition),
    BeforeArray(Condition),
    On,
    SyncCount,
    SyncWith,
}

impl Kind {
    fn of(name: &str) -> Option<Self> {
        use Condition::{After, AfterAny, AfterNotOk, AfterOk};
        match name {
            "on" => return Some(Self::On),
            "synccount" => return Some(Self::SyncCount),
            "syncwith" => return Some(Self::SyncWith),
            _ => {}
        }
        let conditions = [After, AfterOk, AfterNotOk, AfterAny].into_iter();
        conditions.into_iter().find_map(|condition| {
            let (after, before) = condition.of_array();
            match name {
                _ if name == condition.name() => Some(Self::After(condition)),
                _ if name == condition.mirrored() => Some(Self::Before(condition)),
                _ if name == after => Some(Self::AfterArray(condition)),
                _ if name == before => Some(Self::BeforeArray(condition)),
                _ => None,
            }
        })
    }

    fn with(self, argument: &str) -> Result<Dependency, ParseError> {
        Ok(match self {
            Self::After(condition) => Dependency::After {
                condition,
                job: argument.parse()?,
            },
            Self::Before(condition) => Dependency::Before {
                condition,
                job: argument.parse()?,
            },
            Self::AfterArray(condition) => {
                let (array, members) = array_members(argument)?;
                Dependency::AfterArray {
                    condition,
                    array,
                    members,
                }
            }
            Self::BeforeArray(condition) => {
                let (array, members) = array_members(argument)?;
                Dependency::BeforeArray {
                    condition,
                    array,
                    members,
                }
            }
            Self::On => Dependency::On(count(argument, 0, argument)?),
            Self::SyncCount => Dependency::SyncCount(count(argument, 0, argument)?),
            Self::SyncWith => Dependency::SyncWith(argument.parse()?),
        })
    }
}

fn parse_element(
    text: &str,
    start: usize,
    element: &str,
    found: &mut Dependencies,
) -> Result<(), ParseError> {
    let (name, arguments) = match element.split_once(':') {
        Some((name, arguments)) => (name, arguments),
        None => (element, ""),
    };
    let unknown = || ParseError::new(text, start, "a dependency type (afterok, afterany …)");
    let kind = Kind::of(name).ok_or_else(unknown)?;
    if arguments.is_empty() {
        let error = ParseError::new(text, start + element.len(), "`:` and a job id");
        return Err(error.in_class(ErrorClass::InvalidDependency));
    }
    let mut at = start + name.len() + 1;
    for argument in arguments.split(':') {
        if found.len() == Dependency::COUNT_MAX {
            let error = ParseError::new(text, at, "at most 10000 dependencies");
            return Err(error.in_class(ErrorClass::TooLarge));
        }
        let here = |error: ParseError| ParseError::new(text, at + error.at, error.expected);
        found.push(kind.with(argument).map_err(here)?);
        at += argument.len() + 1;
    }
    Ok(())
}

/// `12[]`, `12[][3]`, `12[][3].server` or `12[].server[3]`.
fn array_members(argument: &str) -> Result<(JobReference, Option<u32>), ParseError> {
    let fail = |at, expected| ParseError::new(argument, at, expected);
    let brackets = argument.find("[]").ok_or(fail(0, "an array id (12[])"))? + 2;
    let (array, members) = match argument[brackets..].find('[') {
        Some(at) => {
            let open = brackets + at;
            let close = argument[open..]
                .find(']')
                .ok_or(fail(argument.len(), "`]`"))?
                + open;
            let members = count(argument, open + 1, &argument[open + 1..close])?;
            let rest = format!("{}{}", &argument[..open], &argument[close + 1..]);
            (rest, Some(members))
        }
        None => (argument.to_owned(), None),
    };
    let reference: JobReference = array.parse().map_err(|error: ParseError| {
        let moved = if members.is_some() { 0 } else { error.at };
        fail(moved, error.expected)
    })?;
    match reference.id.part {
        JobPart::Array => Ok((reference, members)),
        JobPart::Whole | JobPart::Member(_) => Err(fail(0, "an array id (12[])")),
    }
}

fn count(text: &str, at: usize, digits: &str) -> Result<u32, ParseError> {
    let is_number = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
    let number = digits.parse().ok().filter(|_| is_number);
    number.ok_or_else(|| ParseError::new(text, at, "a number"))
}

/// The inside of a text that stands in quotes as a whole.
fn unquoted(text: &str) -> &str {
    let inside = |quote| text.strip_prefix(quote)?.strip_suffix(quote);
    inside('"').or_else(|| inside('\'')).unwrap_or(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: &str) {
        let list = Dependency::parse_list(text).unwrap();
        let seen: Vec<_> = list.iter().map(Dependency::to_string).collect();
        assert_eq!(seen.join(" "), expected, "{text}");
    }

    fn refuse(text: &str, class: ErrorClass, at: usize) {
        let error = Dependency::parse_list(text).unwrap_err();
        assert_eq!((error.class, error.at), (class, at), "{text}: {error}");
    }

    #[test]
    fn every_type_of_torque_is_read() {
        check("afterok:332.hn1", "afterok:332.hn1");
        check(
            "afterok:342.hn1:343.hn1,afterany:342.hn1",
            "afterok:342.hn1 afterok:343.hn1 afterany:342.hn1",
        );
        check("beforeok:338.hn1, after:1@a", "beforeok:338.hn1 after:1@a");
        check("\"afternotok:5[3].hn1\"", "afternotok:5[3].hn1");
        check(
            "'before:1,beforeany:2,beforenotok:3'",
            "before:1 beforeany:2 beforenotok:3",
        );
        check(
            "on:3,synccount:1,syncwith:345.hn1",
            "on:3 synccount:1 syncwith:345.hn1",
        );
        check(
            "afterstartarray:1[]:2[].hn1",
            "afterstartarray:1[] afterstartarray:2[].hn1",
        );
        check("afterokarray:1[][5]", "afterokarray:1[][5]");
        check("afteranyarray:1[].hn1[5]", "afteranyarray:1[][5].hn1");
        check("beforenotokarray:1[][5].hn1", "beforenotokarray:1[][5].hn1");
    }

    #[test]
    fn errors_point_at_the_spot() {
        use ErrorClass::{IllegalValue, InvalidDependency};
        refuse("afterok", InvalidDependency, 7);
        refuse("afterok:", InvalidDependency, 8);
        refuse("", IllegalValue, 0);
        refuse("afterok:1,", IllegalValue, 10);
        refuse("whenever:1", IllegalValue, 0);
        refuse("AFTEROK:1", IllegalValue, 0);
        refuse("afterok:1, never:2", IllegalValue, 11);
        refuse("afterok:1:x", IllegalValue, 10);
        refuse("\"afterok:x\"", IllegalValue, 9);
        refuse("afterok:1::2", IllegalValue, 10);
        refuse("on:x", IllegalValue, 3);
        refuse("on:-1", IllegalValue, 3);
        refuse("afterokarray:1", IllegalValue, 13);
        refuse("afterokarray:1[][", IllegalValue, 17);
        refuse("afterokarray:1[][x]", IllegalValue, 17);
    }

    #[test]
    fn a_list_has_a_bound() {
        let list = |count: usize| format!("afterok{}", ":1".repeat(count));
        let count = |text: &str| Dependency::parse_list(text).map(|list| list.len());
        assert_eq!(
            count(&list(Dependency::COUNT_MAX)),
            Ok(Dependency::COUNT_MAX)
        );
        let error = count(&list(Dependency::COUNT_MAX + 1)).unwrap_err();
        assert_eq!(error.class, ErrorClass::TooLarge);
    }
}
