//! The language of `qmgr`: `COMMAND OBJECT [names] [attribute[.resource] [OP value][, …]]`. Total: any text is an order or
//! an error with the place where it stands. Decides nothing about values; of names only whether the third word is an
//! attribute of the object, because that alone tells it from the name of an object.

mod directives;

use std::fmt;

use super::tables;

pub(crate) use directives::{Directive, Operator, quoted};

/// Longest word, in bytes (Torque's own limit).
const WORD_BYTES_MAX: usize = 32_767;
/// Columns that a caret may stand behind; Torque gives up over that.
const CARET_COLUMN_MAX: usize = 1022;

/// What is done to objects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verb {
    /// Make a queue or a node.
    Create,
    /// Remove it.
    Delete,
    /// Give attributes values.
    Set,
    /// Take attributes away.
    Unset,
    /// Show attributes to people.
    List,
    /// Show attributes as orders that make them again.
    Print,
    /// Choose the objects that later orders without names mean.
    Active,
}

impl Verb {
    /// The whole word.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Delete => "delete",
            Self::Set => "set",
            Self::Unset => "unset",
            Self::List => "list",
            Self::Print => "print",
            Self::Active => "active",
        }
    }
}

/// Kinds of objects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Object {
    /// The server itself.
    Server,
    /// A queue.
    Queue,
    /// A node.
    Node,
}

impl Object {
    /// The whole word.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Server => "server",
            Self::Queue => "queue",
            Self::Node => "node",
        }
    }
}

/// At which server an object is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum At {
    /// At all active ones: no `@`, or `@active`.
    Active,
    /// At the default one: `@default`.
    Default,
    /// At this one.
    Named(String),
}

/// The name of one object: `batch`, `batch@server`, `@server` (all of them).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Name {
    /// Empty for all objects of the kind; of a server always its name, empty for the default one.
    pub(crate) object: String,
    /// At which server.
    pub(crate) at: At,
}

/// An order, read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Order {
    /// What to do.
    pub(crate) verb: Verb,
    /// To what kind of objects.
    pub(crate) object: Object,
    /// To which ones; empty for the active ones.
    pub(crate) names: Vec<Name>,
    /// With which attributes, as written.
    pub(crate) directives: Vec<Directive>,
}

/// What a line asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Request {
    /// Work on objects.
    Order(Order),
    /// Help on a topic, empty for the overview.
    Help(String),
    /// The end.
    Quit,
    /// Nothing stands there.
    Nothing,
}

/// Why a text is no order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SyntaxError {
    message: String,
    /// Where, as bytes from the start; without it the text is not shown again.
    at: Option<usize>,
}

impl SyntaxError {
    fn new(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            at: None,
        }
    }

    fn at(message: impl Into<String>, at: usize) -> Self {
        Self {
            message: message.into(),
            at: Some(at),
        }
    }

    /// What to print: the message, then the text and a caret under the place.
    pub(crate) fn shown(&self, text: &str) -> String {
        let Self { message, at } = self;
        let Some(at) = *at else {
            return message.clone();
        };
        let column = match text.get(..at) {
            Some(before) => before.chars().count(),
            None => text.chars().count() + at.saturating_sub(text.len()),
        };
        match column > CARET_COLUMN_MAX {
            true => format!("{message}\n{text}\nToo many blanks requested.\n^"),
            false => format!("{message}\n{text}\n{}^", " ".repeat(column)),
        }
    }
}

/// Reads one request.
///
/// # Errors
/// What `qmgr` of Torque refuses before it asks a server, in its words.
pub(crate) fn parse(text: &str) -> Result<Request, SyntaxError> {
    if text.is_empty() {
        return Ok(Request::Nothing);
    }
    let Words {
        command,
        object,
        name,
        end,
    } = words(text)?;
    let verb = match verb(command)? {
        Command::Verb(verb) => verb,
        Command::Help => return Ok(Request::Help(object.to_owned())),
        Command::Quit => return Ok(Request::Quit),
    };
    if object.is_empty() {
        return Err(SyntaxError::new("qmgr: No object type given"));
    }
    let kinds = [Object::Server, Object::Queue, Object::Node];
    let illegal = || SyntaxError::new(format!("qmgr: Illegal object type: {object}."));
    let object = kinds
        .into_iter()
        .find(|kind| kind.word().starts_with(object))
        .ok_or_else(illegal)?;
    let is_attribute = tables::is_attribute(object, name);
    let start = if is_attribute { end - name.len() } else { end };
    let names = match is_attribute {
        true => Vec::new(),
        false => names(object, name).map_err(|at| {
            SyntaxError::at(
                "qmgr: syntax error - checklist failed",
                end - name.len() + at - 1,
            )
        })?,
    };
    let directives = directives::parse(&text[start..], verb, object).map_err(|at| {
        SyntaxError::at("qmgr: Syntax error - cannot locate attribute", start + at)
    })?;
    let order = Order {
        verb,
        object,
        names,
        directives,
    };
    match objection(&order, text, start) {
        Some(error) => Err(error),
        None => Ok(Request::Order(order)),
    }
}

/// What cannot be asked for although it is well formed.
fn objection(order: &Order, text: &str, start: usize) -> Option<SyntaxError> {
    let Order {
        verb,
        object,
        directives,
        ..
    } = order;
    let problem = |what: &str, at| SyntaxError::at(format!("qmgr: Syntax error - {what}"), at);
    match (verb, directives.last()) {
        (Verb::Set | Verb::Unset, None) => Some(problem("attribute required for operation", start)),
        (Verb::Active, Some(_)) => Some(problem("operation does not allow attribute", start)),
        // The last one alone is looked at: so it is in Torque.
        (Verb::Set, Some(last)) if *object == Object::Queue && !last.counts_nodes_in_digits() => {
            let what = format!(
                "attribute value for {}.{} must be a number",
                last.name, last.resource
            );
            Some(problem(&what, text.find('=').map_or(start, |at| at + 1)))
        }
        _ => None,
    }
}

struct Words<'a> {
    command: &'a str,
    object: &'a str,
    name: &'a str,
    /// Where the third word ends.
    end: usize,
}

/// The first three words. An operator ends a word as a blank does.
fn words(text: &str) -> Result<Words<'_>, SyntaxError> {
    let mut found = [""; 3];
    let mut end = 0;
    for word in &mut found {
        if end == text.len() {
            break;
        }
        let start = end + directives::blanks(&text[end..]);
        end = start + directives::run(&text[start..], |_| false);
        if end - start > WORD_BYTES_MAX {
            return Err(SyntaxError::at("qmgr: max word length exceeded", end));
        }
        *word = &text[start..end];
    }
    let [command, object, name] = found;
    Ok(Words {
        command,
        object,
        name,
        end,
    })
}

enum Command {
    Verb(Verb),
    Help,
    Quit,
}

/// The command that a word abbreviates; where it could be two, the first of this order.
fn verb(word: &str) -> Result<Command, SyntaxError> {
    let verbs = [
        Verb::Create,
        Verb::Delete,
        Verb::Set,
        Verb::Unset,
        Verb::List,
        Verb::Print,
        Verb::Active,
    ];
    if let Some(verb) = verbs.into_iter().find(|verb| verb.word().starts_with(word)) {
        return Ok(Command::Verb(verb));
    }
    if "help".starts_with(word) || word == "?" {
        return Ok(Command::Help);
    }
    match "quit".starts_with(word) || "exit".starts_with(word) {
        true => Ok(Command::Quit),
        false => Err(SyntaxError::new(format!(
            "qmgr: Illegal operation: {word}\nTry 'help' if you are having trouble."
        ))),
    }
}

/// Reads a list of names. The error is a place in it, counted from one.
fn names(object: Object, list: &str) -> Result<Vec<Name>, usize> {
    let mut names = Vec::new();
    let mut at = 0;
    while at < list.len() {
        let rest = &list[at..];
        let item = rest.split(',').next().unwrap_or(rest);
        if !item.starts_with(|c: char| c.is_ascii_alphabetic() || c == '@' || c == ':') {
            return Err(at.max(1));
        }
        let (own, server) = match item.split_once('@') {
            Some((own, "")) => return Err(at + own.len() + 1),
            Some((own, server)) => (own, Some(server)),
            None => (item, None),
        };
        names.push(name(object, own, server));
        at += item.len();
        if at < list.len() {
            at += 1;
            if at == list.len() {
                return Err(at);
            }
        }
    }
    Ok(names)
}

fn name(object: Object, own: &str, server: Option<&str>) -> Name {
    let own = match (object, server) {
        (Object::Server, None) if own == "default" => "",
        _ => own,
    };
    let at = match (object, server) {
        (Object::Server, None) if own.is_empty() => At::Default,
        (Object::Server, None) => At::Named(own.to_owned()),
        (Object::Queue | Object::Node, None) => At::Active,
        (_, Some(server)) if "default".starts_with(server) => At::Default,
        (_, Some(server)) if "active".starts_with(server) => At::Active,
        (_, Some(server)) => At::Named(server.to_owned()),
    };
    Name {
        object: own.to_owned(),
        at,
    }
}

impl fmt::Display for Order {
    /// As a text that reads back as this order.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            verb,
            object,
            names,
            directives,
        } = self;
        write!(f, "{} {}", verb.word(), object.word())?;
        for (
            at,
            Name {
                object: own,
                at: server,
            },
        ) in names.iter().enumerate()
        {
            write!(f, "{}", if at == 0 { " " } else { "," })?;
            match (object, server) {
                (Object::Server, At::Default) if own.is_empty() => f.write_str("default")?,
                (Object::Server, At::Named(server)) if server == own => f.write_str(own)?,
                (_, At::Default) => write!(f, "{own}@default")?,
                (_, At::Named(server)) => write!(f, "{own}@{server}")?,
                // A bare name is that of an attribute where there is one.
                (_, At::Active) if own.is_empty() || tables::is_attribute(*object, own) => {
                    write!(f, "{own}@active")?;
                }
                (_, At::Active) => f.write_str(own)?,
            }
        }
        for (at, directive) in directives.iter().enumerate() {
            f.write_str(if at == 0 { " " } else { ", " })?;
            match verb {
                Verb::Create | Verb::Set => write!(f, "{directive}")?,
                Verb::Delete | Verb::Unset | Verb::List | Verb::Print | Verb::Active => {
                    f.write_str(&directive.key())?;
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
