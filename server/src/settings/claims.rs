//! What the settings file says that `qmgr` says as well: each key as one attribute of the server, a queue or a node. A
//! fresh server gets them all; of a later one they are compared with what `qmgr` has made of it.

use capstan_core::{Queue, Settings as CoreSettings};
use capstan_types::{AttributeObject, Attributes, NodeName, QueueName, Seconds, resource_kind};

use super::file::{QueueFile, SettingsFile};
use super::{BATCH, NAME_MAX, QUEUE_NAME_MAX, SLOTS_MAX, SettingError, refuse, word};

/// Walltime of a job that says nothing in a queue that says nothing: one week.
const DEFAULT_WALLTIME: &str = "168:00:00";

/// One key of the file and the attribute that it means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Claim {
    /// The key, with its table.
    key: String,
    place: Place,
    /// The attribute, and a resource behind a dot.
    attribute: String,
    value: String,
    /// Whether it is written in the file, or made up for what is not.
    is_written: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Place {
    Server,
    Queue(String),
    Node(String),
}

/// Everything that the file says and that `qmgr` says as well, in the order in which it is to be set.
///
/// # Errors
/// A name that cannot be.
pub(super) fn claims(file: &SettingsFile) -> Result<Vec<Claim>, SettingError> {
    let mut claims = Vec::new();
    let mut server = |key: &str, attribute: &str, value: Option<String>| {
        claims.extend(value.map(|value| Claim {
            key: key.to_owned(),
            place: Place::Server,
            attribute: attribute.to_owned(),
            value,
            is_written: true,
        }));
    };
    let users = |key: &str, list: &Option<Vec<String>>| match list {
        Some(list) if !list.is_empty() => Ok(Some(users(key, list)?)),
        Some(_) | None => Ok(None),
    };
    server("managers", "managers", users("managers", &file.managers)?);
    server(
        "operators",
        "operators",
        users("operators", &file.operators)?,
    );
    let keep = file.keep_completed_secs.map(|secs| secs.to_string());
    server("keep_completed_secs", "keep_completed", keep);
    let delay = file.kill_delay_secs.map(|secs| secs.to_string());
    server("kill_delay_secs", "kill_delay", delay);
    server("default_queue", "default_queue", file.default_queue.clone());
    queues(file, &mut claims)?;
    nodes(file, &mut claims)?;
    Ok(claims)
}

/// A plain name is a user of any host: the nodes and this host know the same users.
fn users(key: &str, list: &[String]) -> Result<String, SettingError> {
    let full = list.iter().map(|user| {
        let (name, on) = user.split_once('@').unwrap_or((user, "*"));
        word(key, name, NAME_MAX)?;
        if on != "*" {
            word(key, on.trim_start_matches("*."), NAME_MAX)?;
        }
        Ok(format!("{name}@{on}"))
    });
    Ok(full.collect::<Result<Vec<_>, _>>()?.join(","))
}

fn queues(file: &SettingsFile, claims: &mut Vec<Claim>) -> Result<(), SettingError> {
    let batch = [(BATCH.to_owned(), QueueFile::default())];
    let written = file.queues.clone();
    let all: std::collections::BTreeMap<String, QueueFile> = match written {
        Some(queues) if queues.is_empty() => return Ok(()),
        Some(queues) => batch.into_iter().chain(queues).collect(),
        None => batch.into_iter().collect(),
    };
    if file.default_queue.is_none() {
        claims.push(Claim {
            key: "default_queue".to_owned(),
            place: Place::Server,
            attribute: "default_queue".to_owned(),
            value: BATCH.to_owned(),
            is_written: false,
        });
    }
    for (name, queue) in &all {
        let key = format!("queues.{name}");
        word(&key, name, QUEUE_NAME_MAX)?;
        queue_claims(&key, name, queue, claims)?;
    }
    Ok(())
}

fn queue_claims(
    key: &str,
    name: &str,
    queue: &QueueFile,
    claims: &mut Vec<Claim>,
) -> Result<(), SettingError> {
    let mut claim = |attribute: &str, value: String, is_written: bool| {
        claims.push(Claim {
            key: format!("{key}.{}", attribute.to_ascii_lowercase()),
            place: Place::Queue(name.to_owned()),
            attribute: attribute.to_owned(),
            value,
            is_written,
        });
    };
    claim("queue_type", "Execution".to_owned(), false);
    if let Some(priority) = queue.priority {
        claim("Priority", priority.to_string(), true);
    }
    let tables = [
        ("resources_max", &queue.resources_max),
        ("resources_default", &queue.resources_default),
    ];
    for (table, resources) in tables {
        for (resource, value) in resources {
            if resource_kind(resource).is_none() {
                let key = format!("{key}.{table}.{resource}");
                return Err(refuse(key, value, "no such resource"));
            }
            claim(&format!("{table}.{resource}"), value.to_string(), true);
        }
    }
    if !queue.resources_default.contains_key("walltime") {
        // A queue of shorter jobs would otherwise refuse every job that does not name a walltime.
        let limit = queue.resources_max.get("walltime").map(ToString::to_string);
        let walltime = default_walltime(limit.as_deref());
        claim("resources_default.walltime", walltime, false);
    }
    let flag = |flag: Option<bool>| (flag.unwrap_or(true).to_string(), flag.is_some());
    for (attribute, written) in [("enabled", queue.enabled), ("started", queue.started)] {
        let (value, is_written) = flag(written);
        claim(attribute, value, is_written);
    }
    Ok(())
}

/// A week, or the queue's limit when that is shorter.
fn default_walltime(limit: Option<&str>) -> String {
    let week = Seconds::parse(DEFAULT_WALLTIME).unwrap_or_default();
    let shorter = limit.and_then(|limit| Seconds::parse(limit).ok());
    match shorter.filter(|limit| *limit < week) {
        Some(limit) => limit.to_string(),
        None => DEFAULT_WALLTIME.to_owned(),
    }
}

fn nodes(file: &SettingsFile, claims: &mut Vec<Claim>) -> Result<(), SettingError> {
    for (name, node) in &file.nodes {
        let node = node.get_ref();
        let key = format!("nodes.{name}");
        word(&key, name, NAME_MAX)?;
        for property in &node.properties {
            word(&format!("{key}.properties"), property, NAME_MAX)?;
        }
        let mut claim = |attribute: &str, value: String| {
            claims.push(Claim {
                key: format!("{key}.{attribute}"),
                place: Place::Node(name.clone()),
                attribute: attribute.to_owned(),
                is_written: !value.is_empty(),
                value,
            });
        };
        // The node is there even when nothing is said of it.
        claim("properties", node.properties.join(","));
        if let Some(np) = node.np {
            if !(1..=SLOTS_MAX).contains(&np) {
                let problem = format!("from 1 to {SLOTS_MAX}");
                return Err(refuse(format!("{key}.np"), np, problem));
            }
            claim("np", np.to_string());
        }
    }
    Ok(())
}

/// Sets what is claimed.
///
/// # Errors
/// A value that cannot be.
pub(super) fn seed(settings: &mut CoreSettings, claims: &[Claim]) -> Result<(), SettingError> {
    for claim in claims {
        let set = claim
            .attributes_mut(settings)
            .set(&claim.attribute, &claim.value);
        set.map_err(|error| refuse(claim.key.as_str(), &claim.value, error))?;
    }
    Ok(())
}

/// The claims of the file that do not hold: each key with what it says, and what `qmgr` would have to be told.
pub(super) fn differences(settings: &CoreSettings, claims: &[Claim]) -> Vec<Difference> {
    let written = claims.iter().filter(|claim| claim.is_written);
    let differing = written.filter(|claim| !claim.holds(settings));
    let told = differing.map(|claim| Difference {
        key: claim.key.clone(),
        value: claim.value.clone(),
        remedy: claim.remedy(),
    });
    told.collect()
}

/// A key of the settings file that has no effect because `qmgr` has said otherwise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// The key.
    pub key: String,
    /// What the file says.
    pub value: String,
    /// The command that would make it so.
    pub remedy: String,
}

impl Claim {
    fn attributes_mut<'a>(&self, settings: &'a mut CoreSettings) -> &'a mut Attributes {
        match &self.place {
            Place::Server => &mut settings.attributes,
            Place::Queue(name) => {
                let name = QueueName::from(name.as_str());
                let ordinal = settings.next_ordinal();
                let made = || Queue::created(name.clone(), ordinal, capstan_types::Timestamp(0));
                &mut settings
                    .queues
                    .entry(name.clone())
                    .or_insert_with(made)
                    .attributes
            }
            Place::Node(name) => settings.node_mut(&NodeName::from(name.as_str())),
        }
    }

    fn holds(&self, settings: &CoreSettings) -> bool {
        let none = Attributes::new(AttributeObject::Node);
        let stored = match &self.place {
            Place::Server => Some(&settings.attributes),
            Place::Queue(name) => settings.queues.get(name.as_str()).map(|q| &q.attributes),
            Place::Node(name) => Some(settings.nodes.get(name.as_str()).unwrap_or(&none)),
        };
        let Some(stored) = stored else {
            return false;
        };
        let mut claimed = stored.clone();
        claimed.set(&self.attribute, &self.value).is_ok() && claimed == *stored
    }

    fn remedy(&self) -> String {
        let object = match &self.place {
            Place::Server => "server".to_owned(),
            Place::Queue(name) => format!("queue {name}"),
            Place::Node(name) => format!("node {name}"),
        };
        let Self {
            attribute, value, ..
        } = self;
        format!("qmgr -c 'set {object} {attribute} = {value}'")
    }
}
