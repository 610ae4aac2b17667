//! The settings in force: made once, at start, from the file and the host's name; nothing optional, immutable.
//! [`resolve`] is pure and refuses by key and value.

mod claims;
mod file;
#[cfg(test)]
mod tests;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use capstan_core::Scheduler;
use capstan_types::{AttributeObject, Attributes, Dialect, NodeName, ServerName};

use claims::Claim;
pub use claims::Difference;
pub use file::{NodeFile, QueueFile, SettingsFile, Value};

/// The settings in force.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// What decisions depend on, as a server that starts for the first time has it. What holds is
    /// [`Settings::in_force`].
    pub core: Arc<capstan_core::Settings>,
    /// What the file says that `qmgr` says as well.
    claims: Arc<[Claim]>,
    /// Journal, state and accounting log.
    pub state_dir: PathBuf,
    /// The socket and `agents.addr`.
    pub run_dir: PathBuf,
    /// Where agents dial.
    pub agents_listen: SocketAddr,
    /// How often an agent says that it lives.
    pub heartbeat: Duration,
    /// How the store keeps what it keeps.
    pub store: capstan_store::Options,
    /// Whether root may submit jobs.
    pub root_may_submit: bool,
    /// The host that the server runs on, as callers on it are known (`alice@host`).
    pub host: String,
}

/// A setting that cannot be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("setting {key} = {value:?}: {problem}")]
pub struct SettingError {
    /// The key, with its table.
    pub key: String,
    /// What was written.
    pub value: String,
    /// What is wrong with it.
    pub problem: String,
}

/// The queue that exists when the file has no word about queues.
const BATCH: &str = "batch";
/// Longest name of a queue, as in PBS.
const QUEUE_NAME_MAX: usize = 15;
/// Longest name of a server, node or property.
const NAME_MAX: usize = 255;
/// Largest script that a site may allow, bytes: with its variables it must fit into one message to an agent, and gRPC
/// takes 4 MiB.
const SCRIPT_BYTES_MAX: u64 = 2 << 20;
const DAY_SECS: u64 = 24 * 3600;
/// Longest history that a site may ask for.
const HISTORY_DAYS_MAX: u64 = 3650;
/// Most slots of a node.
const SLOTS_MAX: u16 = 4096;

/// Reads the file at `path` and resolves it.
///
/// # Errors
/// A file that cannot be read, is no TOML, has unknown keys, or values that cannot be.
pub fn load(path: &Path, host: &str) -> anyhow::Result<Settings> {
    let text = std::fs::read_to_string(path)
        .with_context(|| format!("reading settings {}", path.display()))?;
    let file =
        toml::from_str(&text).with_context(|| format!("reading settings {}", path.display()))?;
    resolve(&file, host).with_context(|| format!("in settings {}", path.display()))
}

/// The settings in force for `file` on the machine called `host`.
///
/// # Errors
/// A value that cannot be.
pub fn resolve(file: &SettingsFile, host: &str) -> Result<Settings, SettingError> {
    let listen = file.agents_listen.as_deref().unwrap_or("127.0.0.1:15003");
    let agents_listen = listen.parse().map_err(|_| {
        refuse(
            "agents_listen",
            listen,
            "not an address and port such as 127.0.0.1:15003",
        )
    })?;
    let heartbeat_secs = file.heartbeat_secs.unwrap_or(5);
    if heartbeat_secs == 0 {
        return Err(refuse("heartbeat_secs", "0", "at least 1"));
    }
    let host = file.host.as_deref().unwrap_or(host);
    word("host", host, NAME_MAX)?;
    let claims = claims::claims(file)?;
    Ok(Settings {
        core: Arc::new(core_settings(file, host, &claims)?),
        claims: claims.into(),
        state_dir: path(
            "state_dir",
            file.state_dir.as_deref(),
            "/var/lib/capstan/server",
        )?,
        run_dir: path("run_dir", file.run_dir.as_deref(), "/run/capstan")?,
        agents_listen,
        heartbeat: Duration::from_secs(heartbeat_secs.into()),
        store: store_options(file)?,
        root_may_submit: file.root_may_submit.unwrap_or(false),
        host: host.to_owned(),
    })
}

impl Settings {
    /// The settings that hold for a server with these stored ones, and the keys of the file that have no effect on it:
    /// what `qmgr` rules is as it is stored, the rest as the file has it. A server that has stored none, or whose version
    /// knew no `qmgr`, gets all from the file.
    #[must_use]
    pub fn in_force(
        &self,
        stored: Option<&capstan_core::Settings>,
    ) -> (Arc<capstan_core::Settings>, Vec<Difference>) {
        let Some(stored) = stored.filter(|stored| stored.is_seeded) else {
            return (self.core.clone(), Vec::new());
        };
        let core = capstan_core::Settings {
            attributes: stored.attributes.clone(),
            queues: stored.queues.clone(),
            nodes: stored.nodes.clone(),
            ..(*self.core).clone()
        };
        let differences = claims::differences(&core, &self.claims);
        (Arc::new(core), differences)
    }
}

/// The history that the store keeps; all else of it is as it is.
fn store_options(file: &SettingsFile) -> Result<capstan_store::Options, SettingError> {
    let kept = capstan_store::Options::default();
    let days = file.history_days.unwrap_or(kept.history_secs / DAY_SECS);
    if days > HISTORY_DAYS_MAX {
        let problem = format!("at most {HISTORY_DAYS_MAX}");
        return Err(refuse("history_days", days, problem));
    }
    Ok(capstan_store::Options {
        history_secs: days * DAY_SECS,
        history_bytes_max: file.history_bytes_max.unwrap_or(kept.history_bytes_max),
        ..kept
    })
}

/// One of a few words, or what is taken when there is none.
fn chosen<T: Default>(
    name: &'static str,
    word: Option<&str>,
    parse: impl Fn(&str) -> Option<T>,
) -> Result<T, SettingError> {
    let Some(word) = word else {
        return Ok(T::default());
    };
    parse(word).ok_or_else(|| refuse(name, word, "one of the words in the manual".to_owned()))
}

fn core_settings(
    file: &SettingsFile,
    host: &str,
    claims: &[Claim],
) -> Result<capstan_core::Settings, SettingError> {
    let server = file.server_name.as_deref().unwrap_or(host);
    word("server_name", server, NAME_MAX)?;
    let down = file.node_down_after_secs.unwrap_or(15);
    let lost = file.node_lost_after_secs.unwrap_or(300);
    if lost < down {
        let problem = format!("at least node_down_after_secs ({down})");
        return Err(refuse("node_lost_after_secs", lost, problem));
    }
    let script_bytes_max = file.script_bytes_max.unwrap_or(1 << 20);
    if !(1..=SCRIPT_BYTES_MAX).contains(&script_bytes_max) {
        let problem = format!("from 1 to {SCRIPT_BYTES_MAX}");
        return Err(refuse("script_bytes_max", script_bytes_max, problem));
    }
    let mut settings = capstan_core::Settings {
        host: host.into(),
        is_seeded: true,
        attributes: Attributes::new(AttributeObject::Server),
        queues: std::collections::BTreeMap::new(),
        node_down_after_secs: down,
        node_lost_after_secs: lost,
        script_bytes_max,
        array_members_max: file.array_members_max.unwrap_or(100_000),
        live_jobs_max: file.live_jobs_max.unwrap_or(1_000_000),
        declared: file
            .nodes_in_order()
            .into_iter()
            .map(NodeName::from)
            .collect(),
        scheduler: chosen("scheduler", file.scheduler.as_deref(), Scheduler::parse)?,
        dialect: chosen("dialect", file.dialect.as_deref(), Dialect::parse)?,
        ..capstan_core::Settings::new(ServerName::from(server))
    };
    settings.set_fresh();
    claims::seed(&mut settings, claims)?;
    match settings.default_queue() {
        Some(queue) if !settings.queues.contains_key(&queue) => {
            let problem = format!("no such queue; add a table [queues.{queue}]");
            Err(refuse("default_queue", queue, problem))
        }
        Some(_) | None => Ok(settings),
    }
}

fn path(key: &str, written: Option<&Path>, default: &str) -> Result<PathBuf, SettingError> {
    let path = written.unwrap_or(Path::new(default));
    match path.is_absolute() {
        true => Ok(path.to_owned()),
        false => Err(refuse(key, path.display(), "not an absolute path")),
    }
}

/// Names appear in ids, files and comma lists, so they are plain words.
fn word(key: &str, name: &str, longest: usize) -> Result<(), SettingError> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
    if name.is_empty() || !name.bytes().all(is_plain) {
        return Err(refuse(key, name, "letters, digits, '-', '.' and '_' only"));
    }
    if name.len() > longest {
        return Err(refuse(key, name, format!("at most {longest} characters")));
    }
    Ok(())
}

fn refuse(key: impl Into<String>, value: impl ToString, problem: impl ToString) -> SettingError {
    SettingError {
        key: key.into(),
        value: value.to_string(),
        problem: problem.to_string(),
    }
}
