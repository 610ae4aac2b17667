//! Why a `startdocker` starts nothing: each refusal with its values, what to do next, and the exit code that the
//! caller's shell sees.

use std::io::ErrorKind::{NotFound, PermissionDenied};
use std::path::PathBuf;

use super::engine::EngineError;
use super::words::OpenQuote;
use crate::images::PullProblem;

/// A path that may not be mounted, by rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Forbidden {
    /// The root folder.
    Root,
    /// `/etc`, `/proc` and their kind.
    System,
    /// The container engine's or the agent's own files.
    Engine,
    /// Under no volume of the site.
    OutsideVolumes,
    /// A volume as a whole.
    VolumeRoot,
    /// Belongs to somebody else.
    AnotherUser,
    /// Neither a folder nor a plain file: a socket, a device, a pipe.
    Special,
}

impl Forbidden {
    const fn reason(self) -> &'static str {
        match self {
            Self::Root => "it is the root folder",
            Self::System => "it is a system folder",
            Self::Engine => "it belongs to the container engine",
            Self::OutsideVolumes => "it lies under no volume of this site",
            Self::VolumeRoot => "it is a whole volume, not a folder in it",
            Self::AnotherUser => "it is another user's folder",
            Self::Special => "it is neither a folder nor a plain file",
        }
    }
}

/// Why nothing was started.
#[derive(Debug, thiserror::Error)]
pub(super) enum Refused {
    /// The caller is in no attempt.
    #[error("process {pid} runs in no job on this node")]
    NoAttempt {
        /// The caller, by the kernel's word.
        pid: i32,
    },
    /// The caller is not the attempt's user.
    #[error("uid {uid} is not the user of this job")]
    NotTheUser {
        /// The caller's uid, by the kernel's word.
        uid: u32,
    },
    /// The attempt is being ended.
    #[error("this job is ending")]
    Ending,
    /// Too many containers in one attempt.
    #[error("this job already runs {running} containers, which is the limit")]
    TooMany {
        /// Containers now.
        running: usize,
    },
    /// The request itself is wrong.
    #[error("{what}")]
    Request {
        /// In words.
        what: &'static str,
    },
    /// `-u` cannot be split.
    #[error("options '{options}': {source}")]
    OptionsQuote {
        /// As typed.
        options: String,
        /// Which quote.
        #[source]
        source: OpenQuote,
    },
    /// An option that is not accepted.
    #[error("option {option} is refused: {reason}")]
    Option {
        /// As typed.
        option: String,
        /// Why.
        reason: &'static str,
    },
    /// An accepted option with a value that is not.
    #[error("option {option} '{value}': {problem}")]
    OptionValue {
        /// The option.
        option: &'static str,
        /// As typed.
        value: String,
        /// What is wrong.
        problem: &'static str,
    },
    /// A name that is no image name.
    #[error("'{image}' is no image name")]
    ImageName {
        /// As typed.
        image: String,
    },
    /// A path that cannot be reached by the user.
    #[error("cannot mount {}: {source}", path.display())]
    Unreachable {
        /// As asked.
        path: PathBuf,
        /// The kernel's word, with the user's rights.
        #[source]
        source: std::io::Error,
    },
    /// A path that may not be mounted.
    #[error("cannot mount {}{}: {}", asked.display(), resolved_as(asked, resolved), rule.reason())]
    Mount {
        /// As asked.
        asked: PathBuf,
        /// After all symbolic links.
        resolved: PathBuf,
        /// The rule it breaks.
        rule: Forbidden,
    },
    /// A place inside the container that cannot take a mount.
    #[error("cannot mount at {target}: {problem}")]
    Target {
        /// As asked.
        target: String,
        /// What is wrong.
        problem: &'static str,
    },
    /// `-w` names a folder that is not mounted or not there.
    #[error("working folder {}: {problem}", path.display())]
    Workdir {
        /// As asked.
        path: PathBuf,
        /// What is wrong.
        problem: &'static str,
    },
    /// The script is nowhere.
    #[error("script '{script}' not found: looked at {}", list(looked))]
    NoScript {
        /// As typed.
        script: String,
        /// In order.
        looked: Vec<PathBuf>,
    },
    /// The script cannot be run.
    #[error("script {}: {problem}", path.display())]
    Script {
        /// Where it lies.
        path: PathBuf,
        /// What is wrong.
        problem: &'static str,
    },
    /// The agent could not prepare the container on its own side.
    #[error("the agent could not {doing}: {source}")]
    Agent {
        /// What it was doing.
        doing: &'static str,
        /// The kernel's word.
        #[source]
        source: std::io::Error,
    },
    /// The image could not be got.
    #[error("{0}")]
    Pull(PullProblem),
    /// The engine's word.
    #[error("{}", chain(.0))]
    Engine(#[source] EngineError),
}

/// How dockerd words what is wrong with its host, and not with what it was asked for: its containerd is gone or does not
/// answer, it is being stopped, its disk is full.
const NODES_WORDS: [&str; 5] = [
    "containerd.sock",
    "transport: Error while dialing",
    "context deadline exceeded",
    "the client connection is closing",
    "no space left on device",
];

impl Refused {
    /// What a shell sees: 126 and 127 as a shell gives them, 125 for all that never got so far.
    #[must_use]
    pub(super) fn exit_code(&self) -> i32 {
        match self {
            Self::Engine(EngineError::ProgramNotFound { .. }) | Self::NoScript { .. } => 127,
            Self::Engine(EngineError::ProgramNotExecutable { .. }) | Self::Script { .. } => 126,
            Self::Engine(
                EngineError::Unreachable { .. }
                | EngineError::ImageMissing { .. }
                | EngineError::CardsUnavailable { .. }
                | EngineError::NoContainer { .. }
                | EngineError::Refused { .. },
            )
            | Self::Pull(_)
            | Self::NoAttempt { .. }
            | Self::NotTheUser { .. }
            | Self::Ending
            | Self::TooMany { .. }
            | Self::Request { .. }
            | Self::OptionsQuote { .. }
            | Self::Option { .. }
            | Self::OptionValue { .. }
            | Self::ImageName { .. }
            | Self::Unreachable { .. }
            | Self::Mount { .. }
            | Self::Target { .. }
            | Self::Workdir { .. }
            | Self::Agent { .. } => 125,
        }
    }

    /// Whether only the node's administrators can mend it, or time: another node, or a later try, may do better.
    #[must_use]
    pub(super) fn is_nodes(&self) -> bool {
        match self {
            // An image that was there when the job was sent here has gone since.
            Self::Engine(
                EngineError::Unreachable { .. }
                | EngineError::CardsUnavailable { .. }
                | EngineError::ImageMissing { .. },
            )
            | Self::Agent { .. } => true,
            Self::Pull(problem) => !problem.is_lasting(),
            Self::Engine(EngineError::Refused { status, said }) => {
                *status == 503 || NODES_WORDS.iter().any(|word| said.contains(word))
            }
            Self::Engine(
                EngineError::ProgramNotFound { .. }
                | EngineError::ProgramNotExecutable { .. }
                | EngineError::NoContainer { .. },
            )
            | Self::NoAttempt { .. }
            | Self::NotTheUser { .. }
            | Self::Ending
            | Self::TooMany { .. }
            | Self::Request { .. }
            | Self::OptionsQuote { .. }
            | Self::Option { .. }
            | Self::OptionValue { .. }
            | Self::ImageName { .. }
            | Self::Unreachable { .. }
            | Self::Mount { .. }
            | Self::Target { .. }
            | Self::Workdir { .. }
            | Self::NoScript { .. }
            | Self::Script { .. } => false,
        }
    }

    /// What to do next; empty when there is nothing to add.
    #[must_use]
    pub(super) fn hint(&self) -> &'static str {
        match self {
            Self::NoAttempt { .. } => {
                "startdocker works inside a job: put the line into a script and `qsub` it"
            }
            Self::NotTheUser { .. } => "call startdocker as the user who submitted the job",
            Self::TooMany { .. } => "wait for some of them to end",
            Self::Option { .. } => {
                "the site's administrators may except users, groups or queues from some of this: container_exceptions in the settings of the node's agent"
            }
            Self::ImageName { .. } => "write NAME, NAME:TAG or REGISTRY/NAME:TAG, in small letters",
            Self::Unreachable { source, .. } if source.kind() == NotFound => {
                "the folder must exist before it is mounted"
            }
            Self::Unreachable { source, .. } if source.kind() == PermissionDenied => {
                "you have no right to reach it"
            }
            Self::Mount { rule, .. } => match rule {
                Forbidden::VolumeRoot => "name your own folder in it",
                Forbidden::OutsideVolumes | Forbidden::Root | Forbidden::System => {
                    "mount folders of the site's volumes: your home, your data, the public area"
                }
                Forbidden::Engine | Forbidden::AnotherUser | Forbidden::Special => "",
            },
            Self::Workdir { .. } => "mount it with -v, -D or -P, or leave -w out",
            Self::NoScript { .. } => {
                "give an absolute path, or one relative to -P, the home folder or the current folder"
            }
            Self::Script { .. } => "",
            Self::Pull(problem) => problem.hint(),
            Self::Engine(error) => match error {
                EngineError::Unreachable { .. } => {
                    "tell the administrators that dockerd is down on this node"
                }
                EngineError::ImageMissing { .. } => {
                    "check the name; the image must be on this node or in a registry it can reach"
                }
                EngineError::CardsUnavailable { .. } => {
                    "tell the administrators that the NVIDIA container toolkit is missing on this node"
                }
                EngineError::ProgramNotFound { .. }
                | EngineError::ProgramNotExecutable { .. }
                | EngineError::NoContainer { .. }
                | EngineError::Refused { .. } => "",
            },
            Self::Ending
            | Self::Request { .. }
            | Self::OptionsQuote { .. }
            | Self::OptionValue { .. }
            | Self::Unreachable { .. }
            | Self::Target { .. }
            | Self::Agent { .. } => "",
        }
    }
}

fn resolved_as(asked: &PathBuf, resolved: &PathBuf) -> String {
    if asked == resolved {
        String::new()
    } else {
        format!(" ({})", resolved.display())
    }
}

fn list(paths: &[PathBuf]) -> String {
    let paths: Vec<_> = paths
        .iter()
        .map(|path| path.display().to_string())
        .collect();
    paths.join(", ")
}

/// Text for somebody's terminal: what would move its cursor or change its colours is shown and not done.
#[must_use]
pub(super) fn plain(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            c if c.is_control() => shown.extend(c.escape_default()),
            // Marks that turn the direction of writing hide what is written.
            '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => {
                shown.extend(c.escape_unicode());
            }
            c => shown.push(c),
        }
    }
    shown
}

/// An error with its causes on one line: the person at the other end has no log to look into.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.ends_with(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(status: u16, said: &str, expected: bool) {
        let said = said.to_owned();
        let refused = Refused::Engine(EngineError::Refused { status, said });
        assert_eq!(refused.is_nodes(), expected, "{refused}");
        assert_eq!(refused.exit_code(), 125);
    }

    #[test]
    fn only_what_the_host_is_to_blame_for_puts_a_job_back() {
        check(
            500,
            "connection error: desc = \"transport: Error while dialing: dial unix:///run/containerd/containerd.sock: connect: connection refused\": unavailable",
            true,
        );
        check(500, "context deadline exceeded", true);
        check(503, "this daemon is stopping", true);
        check(
            500,
            "mkdir /var/lib/docker/overlay2/ab-init: no space left on device",
            true,
        );
        check(400, "invalid mount config for type \"bind\"", false);
        check(500, "OCI runtime create failed: exit status 1", false);
    }
}
