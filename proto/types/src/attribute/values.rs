//! The attributes that something has: by name, listed in Torque's order.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::definition::{AttributeDefinition, AttributeObject};
use super::value::{AttributeError, AttributeValue, SetOperator};
use crate::ResourceList;

/// What is set of an object's attributes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attributes {
    object: AttributeObject,
    values: BTreeMap<Box<str>, AttributeValue>,
}

/// One line of a listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AttributeLine<'a> {
    /// What is known of the attribute.
    pub definition: &'static AttributeDefinition,
    /// The resource; empty when the attribute has none.
    pub resource: &'a str,
    /// The value as listings print it.
    pub value: String,
}

impl Attributes {
    /// Nothing is set.
    #[must_use]
    pub const fn new(object: AttributeObject) -> Self {
        Self {
            object,
            values: BTreeMap::new(),
        }
    }

    /// What has them.
    #[must_use]
    pub const fn object(&self) -> AttributeObject {
        self.object
    }

    /// Whether nothing is set.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// A value; `None` when it is not set.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&AttributeValue> {
        self.values.get(name)
    }

    /// A boolean; `None` when it is not set.
    #[must_use]
    pub fn boolean(&self, name: &str) -> Option<bool> {
        match self.get(name) {
            Some(AttributeValue::Boolean(value)) => Some(*value),
            Some(_) | None => None,
        }
    }

    /// A number; `None` when it is not set.
    #[must_use]
    pub fn integer(&self, name: &str) -> Option<i64> {
        match self.get(name) {
            Some(AttributeValue::Integer(value)) => Some(*value),
            Some(_) | None => None,
        }
    }

    /// A number that limits something: a negative one limits nothing, as in Torque.
    #[must_use]
    pub fn limit(&self, name: &str) -> Option<u64> {
        u64::try_from(self.integer(name)?).ok()
    }

    /// A text; `None` when it is not set.
    #[must_use]
    pub fn text(&self, name: &str) -> Option<&str> {
        match self.get(name) {
            Some(AttributeValue::Text(value)) => Some(value),
            Some(_) | None => None,
        }
    }

    /// A list; empty when it is not set.
    #[must_use]
    pub fn list(&self, name: &str) -> &[Box<str>] {
        match self.get(name) {
            Some(AttributeValue::List(items)) => items,
            Some(_) | None => &[],
        }
    }

    /// Values by resource; `None` when none is set.
    #[must_use]
    pub fn resources(&self, name: &str) -> Option<&ResourceList> {
        match self.get(name) {
            Some(AttributeValue::Resources(list)) => Some(list),
            Some(_) | None => None,
        }
    }

    /// Does what one directive of `qmgr` says. On an error nothing has changed. Who may do so is the caller's to know.
    ///
    /// # Errors
    /// An unknown attribute or resource, or a value that is not of its kind.
    pub fn change(
        &mut self,
        name: &str,
        resource: &str,
        operator: SetOperator,
        value: &str,
    ) -> Result<(), AttributeError> {
        let definition = self.definition(name)?;
        let old = self.values.get(definition.name);
        let changed = AttributeValue::changed(old, definition, resource, operator, value)?;
        self.put(definition.name, changed);
        Ok(())
    }

    /// Sets `name`, or one resource of it (`resources_max.walltime`).
    ///
    /// # Errors
    /// As [`Attributes::change`].
    pub fn set(&mut self, name: &str, value: &str) -> Result<(), AttributeError> {
        let (name, resource) = name.split_once('.').unwrap_or((name, ""));
        self.change(name, resource, SetOperator::Assign, value)
    }

    /// Unsets an attribute, or one resource of it.
    ///
    /// # Errors
    /// An unknown attribute or resource.
    pub fn unset(&mut self, name: &str, resource: &str) -> Result<(), AttributeError> {
        let definition = self.definition(name)?;
        if resource.is_empty() {
            self.values.remove(definition.name);
            return Ok(());
        }
        self.change(name, resource, SetOperator::Assign, "")
    }

    /// Puts a value that is already of the attribute's kind; `None` unsets.
    pub fn put(&mut self, name: &'static str, value: Option<AttributeValue>) {
        match value {
            Some(value) => self.values.insert(name.into(), value),
            None => self.values.remove(name),
        };
    }

    /// All lines of a listing, in Torque's order; values by resource have a line each, in the order in which they were
    /// set.
    #[must_use]
    pub fn lines(&self) -> Vec<AttributeLine<'_>> {
        let known = self.object.attributes().iter();
        let set = known.filter_map(|definition| Some((definition, self.get(definition.name)?)));
        set.flat_map(|(definition, value)| lines_of(definition, value))
            .collect()
    }

    /// The lines of one attribute; none when it is not set.
    #[must_use]
    pub fn lines_of(&self, name: &str) -> Vec<AttributeLine<'_>> {
        let found = self.object.attribute(name);
        let found = found.and_then(|known| Some((known, self.get(known.name)?)));
        found.map_or_else(Vec::new, |(known, value)| lines_of(known, value))
    }

    fn definition(&self, name: &str) -> Result<&'static AttributeDefinition, AttributeError> {
        let known = self.object.attribute(name);
        known.ok_or_else(|| AttributeError::UnknownAttribute {
            attribute: name.into(),
        })
    }
}

fn lines_of<'a>(
    definition: &'static AttributeDefinition,
    value: &'a AttributeValue,
) -> Vec<AttributeLine<'a>> {
    let line = |resource: &'a str, value: String| AttributeLine {
        definition,
        resource,
        value,
    };
    match value {
        AttributeValue::Resources(list) => list
            .iter()
            .map(|(resource, value)| line(resource, value.to_owned()))
            .collect(),
        AttributeValue::Costs(costs) => costs
            .iter()
            .map(|(resource, cost)| line(resource, cost.to_string()))
            .collect(),
        AttributeValue::Boolean(_)
        | AttributeValue::Integer(_)
        | AttributeValue::Text(_)
        | AttributeValue::List(_) => vec![line("", value.to_string())],
    }
}
