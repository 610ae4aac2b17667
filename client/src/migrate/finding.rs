//! What is found in the files of a Torque, and where: the words in which their readers speak to the rest.

use std::fmt;

use crate::qmgr::{Directive, Object};

/// A line of a file.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    /// The file, from Torque's home when it lies there.
    pub(super) file: String,
    /// Counted from one; none for the whole file.
    pub(super) line: Option<usize>,
}

impl Place {
    /// A whole file.
    pub(super) fn file(file: &str) -> Self {
        Self {
            file: file.to_owned(),
            line: None,
        }
    }

    /// A line of a file, counted from one.
    pub(super) fn line(file: &str, line: usize) -> Self {
        Self {
            file: file.to_owned(),
            line: Some(line),
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file)?;
        self.line.map_or(Ok(()), |line| write!(f, ":{line}"))
    }
}

/// A file that is not what it should be. Nothing is taken over from a Torque with such a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Damage {
    /// Where.
    pub(super) place: Place,
    /// What is wrong there.
    pub(super) what: String,
}

impl Damage {
    /// Something wrong at a place.
    pub(super) fn new(place: Place, what: impl Into<String>) -> Self {
        Self {
            place,
            what: what.into(),
        }
    }
}

/// One thing that is found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Finding {
    /// Where.
    pub(super) place: Place,
    /// What.
    pub(super) what: What,
}

/// What a file can say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum What {
    /// An object exists.
    Exists(Object, String),
    /// An attribute of an object; its name is empty for the server.
    Attribute(Object, String, Directive),
    /// Something that has no place here: what and why.
    Left(String, String),
}

/// What a reader has found, in the order of its file.
#[derive(Debug, Default)]
pub(super) struct Findings(pub(super) Vec<Finding>);

impl Findings {
    /// An object.
    pub(super) fn exists(&mut self, place: &Place, object: Object, name: &str) {
        self.push(place, What::Exists(object, name.to_owned()));
    }

    /// An attribute that is set to a value.
    pub(super) fn set(&mut self, place: &Place, of: (Object, &str), name: &str, value: &str) {
        let directive = Directive {
            name: name.to_owned(),
            value: value.to_owned(),
            ..Directive::default()
        };
        self.attribute(place, of, directive);
    }

    /// An attribute.
    pub(super) fn attribute(&mut self, place: &Place, of: (Object, &str), directive: Directive) {
        self.push(place, What::Attribute(of.0, of.1.to_owned(), directive));
    }

    /// Something that has no place here.
    pub(super) fn left(&mut self, place: &Place, what: impl Into<String>, why: impl Into<String>) {
        self.push(place, What::Left(what.into(), why.into()));
    }

    fn push(&mut self, place: &Place, what: What) {
        self.0.push(Finding {
            place: place.clone(),
            what,
        });
    }
}

impl Finding {
    /// Whether it sets this attribute of this object.
    pub(super) fn is_about(&self, of: (Object, &str), attribute: &str) -> bool {
        match &self.what {
            What::Attribute(object, name, directive) => {
                (*object, name.as_str()) == of && directive.name == attribute
            }
            What::Exists(..) | What::Left(..) => false,
        }
    }
}

/// Longest name of a node, as of a host, in bytes.
const NAME_BYTES_MAX: usize = 255;

/// Whether `qmgr` can name an object so: a letter, then letters, digits, `-`, `_` and `.`.
pub(super) fn is_name(name: &str) -> bool {
    let is_part = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    let begins = name.starts_with(|first: char| first.is_ascii_alphabetic());
    begins && name.len() <= NAME_BYTES_MAX && name.bytes().all(is_part)
}
