//! The tail of an order: `attribute[.resource] [OP value][, …]`, with quotes, and how to write it so that it reads back.

use std::fmt;

use super::super::tables;
use super::{Object, Verb};

/// How a value goes into an attribute.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Operator {
    /// `=`
    #[default]
    Assign,
    /// `+=`
    Add,
    /// `-=`
    Remove,
}

impl Operator {
    /// As it is written.
    pub(crate) fn sign(self) -> &'static str {
        match self {
            Self::Assign => "=",
            Self::Add => "+=",
            Self::Remove => "-=",
        }
    }
}

/// One attribute with what is to become of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Directive {
    /// The attribute's name.
    pub(crate) name: String,
    /// The resource; empty when there is none.
    pub(crate) resource: String,
    /// What to do with the value.
    pub(crate) operator: Operator,
    /// The value without quotes; empty where none is wanted.
    pub(crate) value: String,
}

impl Directive {
    /// `attribute` or `attribute.resource`.
    pub(crate) fn key(&self) -> String {
        match self.resource.as_str() {
            "" => self.name.clone(),
            resource => format!("{}.{resource}", self.name),
        }
    }

    /// Limits of queues on nodes are plain numbers when they are assigned: Torque checks that before it asks the server.
    pub(super) fn counts_nodes_in_digits(&self) -> bool {
        let is_limit = ["resources_max", "resources_min"]
            .iter()
            .any(|limit| self.name.starts_with(limit));
        let counts_nodes = ["nodes", "nodect", "procct"]
            .iter()
            .any(|name| self.resource.starts_with(name));
        let is_number = self.value.bytes().all(|b| b.is_ascii_digit());
        self.operator != Operator::Assign || !is_limit || !counts_nodes || is_number
    }
}

impl fmt::Display for Directive {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} {} {}",
            self.key(),
            self.operator.sign(),
            quoted(&self.value)
        )
    }
}

/// A value in quotes where the language, or the reader of lines, would end it too early. Where both kinds of quotes are in
/// it, it is written as several quoted pieces without anything between them, which Torque would refuse.
pub(crate) fn quoted(value: &str) -> String {
    let is_plain = |c: char| !c.is_ascii_whitespace() && c != '\u{b}' && !",#;\"'\\".contains(c);
    if !value.is_empty() && value.chars().all(is_plain) {
        return value.to_owned();
    }
    let piece = |piece: &str| {
        let quote = if piece.contains('"') { '\'' } else { '"' };
        format!("{quote}{piece}{quote}")
    };
    pieces(value).into_iter().map(piece).collect()
}

/// Cuts a text into pieces of which each has one kind of quotes at most.
fn pieces(value: &str) -> Vec<&str> {
    let mut pieces = Vec::new();
    let (mut start, mut seen) = (0, None);
    for (at, quote) in value
        .char_indices()
        .filter(|(_, c)| matches!(c, '"' | '\''))
    {
        if seen.is_some_and(|seen| seen != quote) {
            pieces.push(&value[start..at]);
            start = at;
        }
        seen = Some(quote);
    }
    pieces.push(&value[start..]);
    pieces
}

/// White space of the C locale.
fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t'..=b'\r')
}

/// Bytes of white space at the start.
pub(super) fn blanks(text: &str) -> usize {
    text.bytes().take_while(|&byte| is_blank(byte)).count()
}

/// Bytes before white space, an operator, or what `ends` says.
pub(super) fn run(text: &str, ends: impl Fn(u8) -> bool) -> usize {
    let bytes = text.as_bytes();
    let is_end = |at: &usize| {
        let byte = bytes[*at];
        is_blank(byte) || is_operator(&bytes[*at..]) || ends(byte)
    };
    (0..bytes.len()).find(is_end).unwrap_or(bytes.len())
}

fn is_operator(bytes: &[u8]) -> bool {
    matches!(bytes, [b'=', ..] | [b'+' | b'-', b'=', ..])
}

/// Reads all attributes of an order. The error is the place in `text`.
pub(super) fn parse(text: &str, verb: Verb, object: Object) -> Result<Vec<Directive>, usize> {
    let mut reader = Reader { text, at: 0 };
    let mut directives = Vec::new();
    reader.skip_blanks();
    if reader.is_done() {
        return Ok(directives);
    }
    loop {
        directives.push(reader.directive(verb, object)?);
        reader.skip_blanks();
        match reader.peek() {
            None => return Ok(directives),
            Some(b',') => reader.at += 1,
            Some(_) => return Err(reader.at),
        }
    }
}

struct Reader<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Reader<'a> {
    fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    fn peek(&self) -> Option<u8> {
        self.rest().bytes().next()
    }

    fn is_done(&self) -> bool {
        self.at == self.text.len()
    }

    fn skip_blanks(&mut self) {
        self.at += blanks(self.rest());
    }

    fn take(&mut self, length: usize) -> &'a str {
        let taken = &self.rest()[..length];
        self.at += length;
        taken
    }

    fn directive(&mut self, verb: Verb, object: Object) -> Result<Directive, usize> {
        let mut directive = self.key()?;
        let wants_value = matches!(verb, Verb::Create | Verb::Set);
        self.skip_blanks();
        directive.operator = match self.rest().as_bytes() {
            [] if wants_value => return Err(self.at),
            [] | [b',', ..] => return Ok(directive),
            [b'=', ..] => Operator::Assign,
            [b'+', b'=', ..] => Operator::Add,
            [b'-', b'=', ..] => Operator::Remove,
            _ => return Err(self.at),
        };
        self.at += directive.operator.sign().len();
        if verb == Verb::Unset {
            return Err(self.at);
        }
        self.skip_blanks();
        let is_prose = tables::is_prose(object, &directive.name);
        directive.value = self.value(is_prose)?;
        Ok(directive)
    }

    /// `attribute[.resource]`
    fn key(&mut self) -> Result<Directive, usize> {
        self.skip_blanks();
        let start = self.at;
        let name = self.take(run(self.rest(), |byte| byte == b'.' || byte == b','));
        if name.is_empty() {
            // Where nothing stands at all Torque points one column further.
            let is_first = start == 0 && !self.is_done();
            return Err(if is_first { 1 } else { start });
        }
        let mut resource = "";
        if self.peek() == Some(b'.') {
            self.at += 1;
            resource = self.take(run(self.rest(), |byte| byte == b','));
            if resource.is_empty() {
                return Err(self.at);
            }
        }
        Ok(Directive {
            name: name.to_owned(),
            resource: resource.to_owned(),
            ..Directive::default()
        })
    }

    /// A value in quotes or up to a blank or comma. Prose (a comment, a note) may have blanks without quotes: what is
    /// printed has none, and must read back.
    fn value(&mut self, is_prose: bool) -> Result<String, usize> {
        let Some(first) = self.peek() else {
            return Err(self.at);
        };
        if matches!(first, b'"' | b'\'') {
            return self.quoted();
        }
        let ends = |byte: u8| byte == b',' || (is_blank(byte) && !is_prose);
        let length = self.rest().bytes().position(ends);
        let length = length.unwrap_or(self.rest().len());
        let value = self.take(length);
        Ok(value
            .trim_end_matches([' ', '\t', '\n', '\u{b}', '\u{c}', '\r'])
            .to_owned())
    }

    /// Pieces in quotes, one behind the other.
    fn quoted(&mut self) -> Result<String, usize> {
        let mut value = String::new();
        while let Some(quote @ (b'"' | b'\'')) = self.peek() {
            self.at += 1;
            let length = self.rest().find(char::from(quote)).ok_or(self.at)?;
            value.push_str(self.take(length));
            self.at += 1;
        }
        Ok(value)
    }
}
