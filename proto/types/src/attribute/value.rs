//! One value of an attribute: read totally, printed as Torque prints it.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::acl;
use super::definition::{AttributeDefinition, AttributeKind};
use crate::{ResourceKind, ResourceList, Seconds, Size, resource_kind};

/// Longest value that is kept, bytes.
const VALUE_BYTES_MAX: usize = 64 << 10;

/// The value of an attribute.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum AttributeValue {
    /// True or false.
    Boolean(bool),
    /// A number; a time is one.
    Integer(i64),
    /// A text.
    Text(Box<str>),
    /// A list.
    List(Vec<Box<str>>),
    /// Values by resource.
    Resources(ResourceList),
    /// Numbers by resource.
    Costs(Vec<(Box<str>, i64)>),
}

/// What a directive does with the value that is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum SetOperator {
    /// `=`: it is replaced.
    Assign,
    /// `+=`: numbers and times are added, texts and lists go on.
    Add,
    /// `-=`: numbers and times are subtracted, items are taken out of lists, an end is taken off a text.
    Remove,
}

/// Why an attribute cannot be set.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AttributeError {
    /// There is no such attribute.
    #[error("there is no attribute {attribute}")]
    UnknownAttribute {
        /// Its name as given.
        attribute: Box<str>,
    },
    /// There is no such resource, or the attribute takes none, or wants one.
    #[error("there is no resource {attribute}")]
    UnknownResource {
        /// The attribute and the resource, with a dot between them.
        attribute: Box<str>,
    },
    /// The value is not of the attribute's kind.
    #[error("{value:?} is no value for {attribute}")]
    BadValue {
        /// The attribute, and the resource behind a dot.
        attribute: Box<str>,
        /// What was given.
        value: Box<str>,
    },
    /// An entry of an access list is there already.
    #[error("{attribute} has an entry twice")]
    Duplicate {
        /// The attribute.
        attribute: Box<str>,
    },
}

impl AttributeValue {
    /// `old`, as `operator` and `text` make it. `None` when nothing is left: an empty text unsets, as in Torque.
    ///
    /// # Errors
    /// A value that is not of the attribute's kind, or that cannot be combined with the old one.
    pub(super) fn changed(
        old: Option<&Self>,
        definition: &AttributeDefinition,
        resource: &str,
        operator: SetOperator,
        text: &str,
    ) -> Result<Option<Self>, AttributeError> {
        let change = Change {
            definition,
            resource,
            operator,
            text,
        };
        change.check()?;
        match definition.kind {
            AttributeKind::Resources => change.resources(old),
            AttributeKind::Costs => change.costs(old),
            _ if !resource.is_empty() => Err(change.unknown_resource()),
            AttributeKind::List
            | AttributeKind::Users
            | AttributeKind::Hosts
            | AttributeKind::NodeState => change.list(old),
            AttributeKind::Boolean
            | AttributeKind::Integer
            | AttributeKind::Time
            | AttributeKind::Text
            | AttributeKind::QueueType
            | AttributeKind::NodeType
            | AttributeKind::Holds
            | AttributeKind::Dependencies
            | AttributeKind::Computed => change.scalar(old),
        }
    }
}

impl fmt::Display for AttributeValue {
    /// As listings print it; of values by resource, as `name=value` with commas between them.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Boolean(true) => f.write_str("True"),
            Self::Boolean(false) => f.write_str("False"),
            Self::Integer(number) => write!(f, "{number}"),
            Self::Text(text) => f.write_str(text),
            Self::List(items) => f.write_str(&items.join(",")),
            Self::Resources(list) => {
                let pairs = list.iter().map(|(name, value)| format!("{name}={value}"));
                f.write_str(&pairs.collect::<Vec<_>>().join(","))
            }
            Self::Costs(costs) => {
                let pairs = costs.iter().map(|(name, cost)| format!("{name}={cost}"));
                f.write_str(&pairs.collect::<Vec<_>>().join(","))
            }
        }
    }
}

/// Reads a boolean as Torque does: `t`, `true`, `y`, `yes`, `1` and their opposites, in any case.
#[must_use]
pub fn parse_boolean(text: &str) -> Option<bool> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "t" | "yes" | "y" | "1" => Some(true),
        "false" | "f" | "no" | "n" | "0" => Some(false),
        _ => None,
    }
}

/// One directive under way.
struct Change<'a> {
    definition: &'a AttributeDefinition,
    resource: &'a str,
    operator: SetOperator,
    text: &'a str,
}

type Changed = Result<Option<AttributeValue>, AttributeError>;

impl Change<'_> {
    fn label(&self) -> Box<str> {
        label(self.definition.name, self.resource)
    }

    fn bad(&self) -> AttributeError {
        AttributeError::BadValue {
            attribute: self.label(),
            value: self.text.into(),
        }
    }

    fn unknown_resource(&self) -> AttributeError {
        AttributeError::UnknownResource {
            attribute: self.label(),
        }
    }

    /// Values are printed in lines that are read again, and on terminals.
    fn check(&self) -> Result<(), AttributeError> {
        let is_fit = self.text.len() <= VALUE_BYTES_MAX && !self.text.chars().any(char::is_control);
        is_fit.then_some(()).ok_or_else(|| self.bad())
    }

    fn scalar(&self, old: Option<&AttributeValue>) -> Changed {
        if self.text.is_empty() {
            return Ok(None);
        }
        let value = match self.definition.kind {
            AttributeKind::Boolean => {
                let new = parse_boolean(self.text).ok_or_else(|| self.bad())?;
                let old = matches!(old, Some(AttributeValue::Boolean(true)));
                AttributeValue::Boolean(match self.operator {
                    SetOperator::Assign => new,
                    SetOperator::Add => old || new,
                    SetOperator::Remove => old && !new,
                })
            }
            AttributeKind::Integer | AttributeKind::Time => {
                let old = match old {
                    Some(AttributeValue::Integer(number)) => *number,
                    Some(_) | None => 0,
                };
                AttributeValue::Integer(self.number(old)?)
            }
            AttributeKind::QueueType => AttributeValue::Text(self.queue_type()?.into()),
            AttributeKind::NodeType if self.text == "cluster" => {
                AttributeValue::Text(self.text.into())
            }
            AttributeKind::NodeType => return Err(self.bad()),
            AttributeKind::Text
            | AttributeKind::Holds
            | AttributeKind::Dependencies
            | AttributeKind::Computed
            | AttributeKind::List
            | AttributeKind::Users
            | AttributeKind::Hosts
            | AttributeKind::NodeState
            | AttributeKind::Resources
            | AttributeKind::Costs => match self.joined(old) {
                text if text.is_empty() => return Ok(None),
                text => AttributeValue::Text(text.into()),
            },
        };
        Ok(Some(value))
    }

    fn number(&self, old: i64) -> Result<i64, AttributeError> {
        let number: i64 = self.text.parse().map_err(|_| self.bad())?;
        let sum = match self.operator {
            SetOperator::Assign => Some(number),
            SetOperator::Add => old.checked_add(number),
            SetOperator::Remove => old.checked_sub(number),
        };
        sum.ok_or_else(|| self.bad())
    }

    fn queue_type(&self) -> Result<&'static str, AttributeError> {
        let begins = |name: &&str| {
            let start = name.get(..self.text.len());
            start.is_some_and(|start| start.eq_ignore_ascii_case(self.text))
        };
        let mut names = ["Execution", "Route"].into_iter();
        names.find(begins).ok_or_else(|| self.bad())
    }

    fn joined(&self, old: Option<&AttributeValue>) -> String {
        let old = match old {
            Some(AttributeValue::Text(text)) => text,
            Some(_) | None => "",
        };
        match self.operator {
            SetOperator::Assign => self.text.to_owned(),
            SetOperator::Add => format!("{old}{}", self.text),
            SetOperator::Remove => old.strip_suffix(self.text).unwrap_or(old).to_owned(),
        }
    }

    fn list(&self, old: Option<&AttributeValue>) -> Changed {
        let items = self.text.split(',').map(str::trim);
        let items: Vec<Box<str>> = items
            .filter(|item| !item.is_empty())
            .map(Into::into)
            .collect();
        let mut list = match (old, self.operator) {
            (Some(AttributeValue::List(list)), SetOperator::Add | SetOperator::Remove) => {
                list.clone()
            }
            (Some(_) | None, _) => Vec::new(),
        };
        match self.operator {
            SetOperator::Assign | SetOperator::Add => {
                for item in items {
                    self.insert(&mut list, item)?;
                }
            }
            SetOperator::Remove => list.retain(|item| !items.contains(item)),
        }
        let bytes: usize = list.iter().map(|item| item.len() + 1).sum();
        if bytes > VALUE_BYTES_MAX {
            return Err(self.bad());
        }
        Ok((!list.is_empty()).then_some(AttributeValue::List(list)))
    }

    fn insert(&self, list: &mut Vec<Box<str>>, item: Box<str>) -> Result<(), AttributeError> {
        use AttributeKind as K;
        let is_twice = list.contains(&item);
        match self.definition.kind {
            K::Users | K::Hosts if is_twice => {
                return Err(AttributeError::Duplicate {
                    attribute: self.label(),
                });
            }
            K::Users => acl::insert(list, item, acl::user_order),
            K::Hosts => acl::insert(list, item, acl::host_order),
            kind if kind.is_list() && !is_twice => list.push(item),
            // What is there already need not be there twice; nothing else is a list.
            K::List
            | K::NodeState
            | K::Boolean
            | K::Integer
            | K::Text
            | K::Resources
            | K::Costs
            | K::Time
            | K::QueueType
            | K::NodeType
            | K::Holds
            | K::Dependencies
            | K::Computed => {}
        }
        Ok(())
    }

    fn resources(&self, old: Option<&AttributeValue>) -> Changed {
        let kind = resource_kind(self.resource).ok_or_else(|| self.unknown_resource())?;
        let mut list = match old {
            Some(AttributeValue::Resources(list)) => list.clone(),
            Some(_) | None => ResourceList::default(),
        };
        if self.text.is_empty() {
            list.remove(self.resource);
        } else {
            let value = match (list.get(self.resource), self.operator) {
                (None, SetOperator::Assign | SetOperator::Add) | (Some(_), SetOperator::Assign) => {
                    self.text.to_owned()
                }
                (None, SetOperator::Remove) => return Err(self.bad()),
                (Some(old), SetOperator::Add | SetOperator::Remove) => self.combined(kind, old)?,
            };
            let set = list.set(self.resource, &value);
            set.map_err(|_| self.bad())?;
        }
        Ok((!list.is_empty()).then_some(AttributeValue::Resources(list)))
    }

    /// The sum or the difference of two values of a resource.
    fn combined(&self, kind: ResourceKind, old: &str) -> Result<String, AttributeError> {
        let combine = |old: u64, new: u64| match self.operator {
            SetOperator::Remove => old.checked_sub(new),
            SetOperator::Assign | SetOperator::Add => old.checked_add(new),
        };
        let combined = match kind {
            ResourceKind::Time => {
                let both = (Seconds::parse(old).ok(), Seconds::parse(self.text).ok());
                let sum = both
                    .0
                    .zip(both.1)
                    .and_then(|(old, new)| combine(old.0, new.0));
                sum.map(|sum| sum.to_string())
            }
            ResourceKind::Size => {
                let both = (Size::parse(old).ok(), Size::parse(self.text).ok());
                let sum = both.0.zip(both.1);
                let sum = sum.and_then(|(old, new)| combine(old.bytes(), new.bytes()));
                sum.map(|bytes| sized(bytes, old))
            }
            ResourceKind::Count => {
                let both = (old.parse().ok(), self.text.parse().ok());
                let sum = both.0.zip(both.1).and_then(|(old, new)| combine(old, new));
                sum.map(|sum| sum.to_string())
            }
            ResourceKind::Integer => old.parse().ok().and_then(|old| {
                let sum = self.number(old).ok()?;
                Some(sum.to_string())
            }),
            ResourceKind::Boolean => Some(self.text.to_owned()),
            ResourceKind::Nodes | ResourceKind::Text => {
                let old = AttributeValue::Text(old.into());
                Some(self.joined(Some(&old)))
            }
        };
        combined.ok_or_else(|| self.bad())
    }

    fn costs(&self, old: Option<&AttributeValue>) -> Changed {
        resource_kind(self.resource).ok_or_else(|| self.unknown_resource())?;
        let mut costs = match old {
            Some(AttributeValue::Costs(costs)) => costs.clone(),
            Some(_) | None => Vec::new(),
        };
        let at = costs.iter().position(|(name, _)| **name == *self.resource);
        match (at, self.text.is_empty()) {
            (Some(at), true) => {
                costs.remove(at);
            }
            (None, true) => {}
            (Some(at), false) => costs[at].1 = self.number(costs[at].1)?,
            (None, false) => costs.push((self.resource.into(), self.number(0)?)),
        }
        Ok((!costs.is_empty()).then_some(AttributeValue::Costs(costs)))
    }
}

/// An attribute, and a resource behind a dot.
pub(super) fn label(attribute: &str, resource: &str) -> Box<str> {
    match resource {
        "" => attribute.into(),
        _ => format!("{attribute}.{resource}").into(),
    }
}

/// So many bytes, in the unit of `like` where they come out even.
fn sized(bytes: u64, like: &str) -> String {
    let unit = like.trim_start_matches(|c: char| c.is_ascii_digit());
    let one = Size::parse(&format!("1{unit}")).map_or(1, Size::bytes);
    match bytes % one {
        0 => format!("{}{unit}", bytes / one),
        _ => format!("{bytes}b"),
    }
}
