//! Resource lists: what `-l` takes, what queues limit and default, what `Resource_List.*` shows.

use serde::{Deserialize, Serialize};

use crate::{ErrorClass, NodeSpec, ParseError, Seconds, Size, resource};

/// How the value of a resource is read and printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResourceKind {
    /// `[[DD:]HH:]MM:]SS`, printed as `HH:MM:SS`.
    Time,
    /// `1gb`.
    Size,
    /// A whole number from 0 to `u32::MAX`.
    Count,
    /// A whole number that may be negative (`nice`).
    Integer,
    /// `True` or `False`.
    Boolean,
    /// A node request.
    Nodes,
    /// Any text.
    Text,
}

/// The kind of a resource known to the server; `None` for an unknown name.
#[must_use]
pub fn resource_kind(name: &str) -> Option<ResourceKind> {
    resource(name).map(|resource| resource.kind)
}

/// An element of a `-l` argument without a value. Reads as Torque's `qsub` says it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("Cannot find an attr=value pair in comma separated value '{element}'")]
pub struct NoResourceValue {
    /// The element.
    pub element: String,
}

/// Splits one `-l` argument (`nodes=2:ppn=4,walltime=1:00`) into names and values, in order. Blanks around both are
/// dropped; a value in quotes may contain commas.
///
/// # Errors
/// An element without `=`, or without a name before it.
pub fn split_resources(argument: &str) -> Result<Vec<(&str, &str)>, NoResourceValue> {
    let mut pairs = Vec::new();
    let mut rest = argument;
    loop {
        let end = element_end(rest);
        let (name, value) = rest[..end].split_once('=').unwrap_or_default();
        if name.trim().is_empty() {
            return Err(NoResourceValue {
                element: rest[..end].to_owned(),
            });
        }
        let value = value.trim();
        pairs.push((name.trim(), quoted(value).unwrap_or(value)));
        match rest.get(end + 1..) {
            Some(next) => rest = next,
            None => return Ok(pairs),
        }
    }
}

/// Where the first element of a comma list ends; a comma inside a quoted value does not end it.
fn element_end(list: &str) -> usize {
    let comma = |from: usize| list[from..].find(',').map_or(list.len(), |at| from + at);
    let first = comma(0);
    let Some(equals) = list[..first].find('=') else {
        return first;
    };
    let value = list[equals + 1..].trim_start();
    let start = list.len() - value.len();
    match value.chars().next() {
        Some(quote @ ('"' | '\'')) => match value[1..].find(quote) {
            Some(close) => comma(start + 1 + close),
            None => first,
        },
        Some(_) | None => first,
    }
}

/// The inside of a value that is quoted as a whole.
fn quoted(value: &str) -> Option<&str> {
    let inside = |quote| value.strip_prefix(quote)?.strip_suffix(quote);
    inside('"').or_else(|| inside('\''))
}

/// Resources by name in the order given; values in normal form (`01:00:00`, `1gb`, `2:ppn=4`).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ResourceList(Vec<(Box<str>, Box<str>)>);

impl ResourceList {
    /// The longest value of a text resource, in bytes.
    pub const TEXT_BYTES_MAX: usize = 64 << 10;

    /// Sets `name` to `value`, checked and normalised by its kind; the later of two wins, in the earlier's place.
    /// An empty value unsets, except for a node request, where it is an error.
    ///
    /// # Errors
    /// A value that its kind does not take; [`ParseError::class`] says which PBS error that is. Unknown names are
    /// the caller's to refuse ([`resource_kind`]) and count as text here.
    pub fn set(&mut self, name: &str, value: &str) -> Result<(), ParseError> {
        let kind = resource_kind(name).unwrap_or(ResourceKind::Text);
        if value.is_empty() && kind != ResourceKind::Nodes {
            self.remove(name);
            return Ok(());
        }
        let value = normalise(kind, value)?.into_boxed_str();
        match self.0.iter_mut().find(|(key, _)| &**key == name) {
            Some(entry) => entry.1 = value,
            None => self.0.push((name.into(), value)),
        }
        Ok(())
    }

    /// Takes `name` out; returns its value if it was there.
    pub fn remove(&mut self, name: &str) -> Option<Box<str>> {
        let at = self.0.iter().position(|(key, _)| &**key == name)?;
        Some(self.0.remove(at).1)
    }

    /// Adds what is missing. A default of `nodes` is left out when `ncpus`, `procs` or `size` ask for slots.
    pub fn merge_defaults(&mut self, defaults: &Self) {
        let asks_otherwise = ["ncpus", "procs", "size"]
            .iter()
            .any(|name| self.get(name).is_some());
        for (name, value) in &defaults.0 {
            let is_unwanted = &**name == "nodes" && asks_otherwise;
            if self.get(name).is_none() && !is_unwanted {
                self.0.push((name.clone(), value.clone()));
            }
        }
    }

    /// The value of `name` in normal form.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        let found = self.0.iter().find(|(key, _)| &**key == name);
        found.map(|(_, value)| &**value)
    }

    /// The value of a time resource.
    #[must_use]
    pub fn seconds(&self, name: &str) -> Option<Seconds> {
        Seconds::parse(self.get(name)?).ok()
    }

    /// The value of a size resource.
    #[must_use]
    pub fn size(&self, name: &str) -> Option<Size> {
        Size::parse(self.get(name)?).ok()
    }

    /// The value of a count resource.
    #[must_use]
    pub fn count(&self, name: &str) -> Option<u32> {
        self.get(name)?.parse().ok()
    }

    /// The node request.
    #[must_use]
    pub fn nodes(&self) -> Option<NodeSpec> {
        NodeSpec::parse(self.get("nodes")?).ok()
    }

    /// Names and values in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (&**name, &**value))
    }

    /// Whether nothing is asked for.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

fn normalise(kind: ResourceKind, value: &str) -> Result<String, ParseError> {
    match kind {
        ResourceKind::Time => Ok(Seconds::parse(value)?.to_string()),
        ResourceKind::Size => Ok(Size::parse(value)?.to_string()),
        ResourceKind::Count => {
            let number: u32 = whole_number(value, "a whole number, 0 or more")?;
            Ok(number.to_string())
        }
        ResourceKind::Integer => {
            let number: i64 = whole_number(value, "a whole number")?;
            Ok(number.to_string())
        }
        ResourceKind::Boolean => match value.to_ascii_lowercase().as_str() {
            "true" | "t" | "yes" | "y" | "1" => Ok("True".to_owned()),
            "false" | "f" | "no" | "n" | "0" => Ok("False".to_owned()),
            _ => Err(ParseError::new(value, 0, "True or False")),
        },
        ResourceKind::Nodes => Ok(NodeSpec::parse(value)?.to_string()),
        ResourceKind::Text if value.len() > ResourceList::TEXT_BYTES_MAX => {
            let error = ParseError::new(value, ResourceList::TEXT_BYTES_MAX, "a shorter text");
            Err(error.in_class(ErrorClass::TooLarge))
        }
        ResourceKind::Text => Ok(value.to_owned()),
    }
}

fn whole_number<N: std::str::FromStr>(
    value: &str,
    expected: &'static str,
) -> Result<N, ParseError> {
    let digits = value.strip_prefix(['-', '+']).unwrap_or(value);
    let wrong = digits.bytes().position(|b| !b.is_ascii_digit());
    let at = wrong.map_or(0, |at| value.len() - digits.len() + at);
    value
        .parse()
        .map_err(|_| ParseError::new(value, at, expected))
}

#[cfg(test)]
mod tests;
