//! Environment variables of a job, which may hold secrets.

use std::fmt;

use serde::{Deserialize, Serialize};

/// An ordered list of variables. `Debug` prints the names only, so that no secret reaches a log.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Env(Vec<(String, String)>);

impl Env {
    /// The value of `name`, if set.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        let found = self.0.iter().find(|(key, _)| key == name);
        found.map(|(_, value)| value.as_str())
    }

    /// Sets `name`, in its old place when it is already set.
    pub fn set(&mut self, name: impl Into<String>, value: impl Into<String>) {
        let (name, value) = (name.into(), value.into());
        match self.0.iter_mut().find(|(key, _)| *key == name) {
            Some(entry) => entry.1 = value,
            None => self.0.push((name, value)),
        }
    }

    /// The variables in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl FromIterator<(String, String)> for Env {
    /// Keeps the order; of two with one name the later value wins. Linear in the number of variables.
    fn from_iter<I: IntoIterator<Item = (String, String)>>(variables: I) -> Self {
        let mut place = std::collections::BTreeMap::new();
        let mut list: Vec<(String, String)> = Vec::new();
        for (name, value) in variables {
            match place.get(&name) {
                Some(&at) => list[at] = (name, value),
                None => {
                    place.insert(name.clone(), list.len());
                    list.push((name, value));
                }
            }
        }
        Self(list)
    }
}

impl fmt::Debug for Env {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set()
            .entries(self.0.iter().map(|(name, _)| name))
            .finish()
    }
}
