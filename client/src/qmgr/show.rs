//! How `list` and `print` show attributes. What `print` writes reads back as the same attributes.

use capstan_proto::wire::Attribute;
use jiff::tz::TimeZone;

use super::grammar::{Directive, Object, quoted};
use super::tables;

/// A line of `list` is folded at a comma when it would pass this column, a tab counting as eight.
const LINE_WIDTH: usize = 80;
const TAB_WIDTH: usize = 8;

/// An object and its attributes in order.
#[derive(Clone, Debug, Default)]
pub(crate) struct Shown {
    /// Its name.
    pub(crate) name: String,
    /// As the server gave them.
    pub(crate) attributes: Vec<Attribute>,
}

/// Appends what `list` shows of an object.
pub(crate) fn list(out: &mut Vec<u8>, object: Object, shown: &Shown, zone: &TimeZone) {
    let kind = match object {
        Object::Server => "Server",
        Object::Queue => "Queue",
        Object::Node => "Node",
    };
    line(out, &[kind, " ", &shown.name]);
    for attribute in &shown.attributes {
        let key = key(attribute);
        let date = (attribute.name == "mtime")
            .then(|| date(&attribute.value, zone))
            .flatten();
        let value = match date {
            Some(date) => date,
            None => folded(key.len() + TAB_WIDTH + " = ".len(), &attribute.value),
        };
        line(out, &["\t", &key, " = ", &value]);
    }
    line(out, &[]);
}

/// Appends what `print` shows before the first object.
pub(crate) fn print_head(out: &mut Vec<u8>, object: Object) {
    let what = match object {
        Object::Server => "Set server attributes.",
        Object::Queue => "Create queues and set their attributes.",
        Object::Node => "Create nodes and set their properties.",
    };
    line(out, &["#\n# ", what, "\n#"]);
}

/// Appends what `print` shows of an object.
pub(crate) fn print(out: &mut Vec<u8>, object: Object, shown: &Shown) {
    let Shown { name, attributes } = shown;
    let kind = object.word();
    let subject = match object {
        Object::Server => kind.to_owned(),
        Object::Queue | Object::Node => {
            line(out, &["#\n# Create and define ", kind, " ", name, "\n#"]);
            line(out, &["create ", kind, " ", name]);
            format!("{kind} {name}")
        }
    };
    for attribute in attributes
        .iter()
        .filter(|known| tables::is_printed(object, &known.name))
    {
        let key = key(attribute);
        let values: Vec<&str> = match tables::is_list(object, &attribute.name) {
            true => attribute.value.split(',').collect(),
            false => vec![&attribute.value],
        };
        for (at, value) in values.into_iter().enumerate() {
            let sign = if at == 0 { " = " } else { " += " };
            line(
                out,
                &[
                    "set ",
                    &subject,
                    " ",
                    &key,
                    sign,
                    &written(object, &attribute.name, value),
                ],
            );
        }
    }
}

/// A value as `print` writes it. Prose is written without quotes, as in Torque, wherever it reads back so.
fn written(object: Object, name: &str, value: &str) -> String {
    let is_report = object == Object::Node && name == "status";
    let reads_back = match is_report {
        // It is not worth being right to the last sign: the next report replaces what is read back.
        true => !value.contains(';') && !value.starts_with(['"', '\'']),
        false => value.trim() == value && !value.contains(|c| ",#;\"'\\".contains(c)),
    };
    match tables::is_prose(object, name) && reads_back && !value.is_empty() {
        true => value.to_owned(),
        false => quoted(value),
    }
}

fn key(attribute: &Attribute) -> String {
    match attribute.resource.as_str() {
        "" => attribute.name.clone(),
        resource => format!("{}.{resource}", attribute.name),
    }
}

/// Folds a value behind a head of `indent` columns, between items. Torque counts a comma for the last item, too.
fn folded(indent: usize, value: &str) -> String {
    let mut text = String::with_capacity(value.len());
    let mut column = indent;
    for (at, item) in value.split(',').enumerate() {
        if at > 0 {
            text.push(',');
        }
        column += item.len() + 1;
        if at > 0 && column >= LINE_WIDTH {
            text.push('\n');
            text.push_str(&" ".repeat(indent));
            column = indent + item.len();
            text.push_str(item.trim_start());
        } else {
            text.push_str(item);
        }
    }
    text
}

/// As ctime(3) has it.
fn date(epoch_secs: &str, zone: &TimeZone) -> Option<String> {
    let at = jiff::Timestamp::from_second(epoch_secs.parse().ok()?).ok()?;
    Some(
        at.to_zoned(zone.clone())
            .strftime("%a %b %e %H:%M:%S %Y")
            .to_string(),
    )
}

/// Appends a line.
fn line(out: &mut Vec<u8>, parts: &[&str]) {
    for part in parts {
        out.extend_from_slice(part.as_bytes());
    }
    out.push(b'\n');
}

/// Control characters shown as `?`: the server takes none, and a terminal shall see none.
fn clean(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { '?' } else { c })
        .collect()
}

impl Shown {
    /// An object as a server told it, fit for a terminal.
    pub(crate) fn new(name: &str, attributes: Vec<Attribute>) -> Self {
        let attributes = attributes.into_iter().map(|attribute| Attribute {
            name: clean(&attribute.name),
            resource: clean(&attribute.resource),
            value: clean(&attribute.value),
        });
        Self {
            name: clean(name),
            attributes: attributes.collect(),
        }
    }

    /// With only the attributes that are asked for, in that order and with all their resources, as Torque's server answers.
    ///
    /// # Errors
    /// The first one that is no attribute.
    pub(crate) fn only(self, object: Object, wanted: &[&Directive]) -> Result<Self, String> {
        if wanted.is_empty() {
            return Ok(self);
        }
        let mut attributes = Vec::new();
        for directive in wanted {
            let known = tables::of(object)
                .attribute(&directive.name)
                .ok_or_else(|| directive.key())?;
            let found = self
                .attributes
                .iter()
                .filter(|found| found.name == known.name);
            attributes.extend(found.cloned());
        }
        Ok(Self {
            name: self.name,
            attributes,
        })
    }
}

#[cfg(test)]
mod tests;
