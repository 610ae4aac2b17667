//! What every command gets and gives: its arguments, the environment, the screen, and how it ends.

use std::fmt;
use std::io::IsTerminal;

use capstan_proto::Refusal;
use capstan_types::Pbse;
use tonic::Status;

use crate::getopt::{self, Opt, Parsed};

/// The call of one command, as pure data: nothing below asks the process for it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Call {
    /// Under which name: `qsub`, `qstat` …
    pub(crate) program: &'static str,
    /// What stands behind the name.
    pub(crate) args: Vec<String>,
    /// The environment in order. Variables that are no UTF-8 are left out: PBS has no way to name them.
    pub(crate) env: Environment,
}

/// Environment variables in the order in which the process has them. `Debug` prints names only: values may be secrets.
#[derive(Clone, Default)]
pub(crate) struct Environment(pub(crate) Vec<(String, String)>);

impl Environment {
    /// The value of `name`.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        let found = self.0.iter().find(|(key, _)| key == name);
        found.map(|(_, value)| value.as_str())
    }
}

impl fmt::Debug for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set()
            .entries(self.0.iter().map(|(name, _)| name))
            .finish()
    }
}

impl Call {
    /// Reads the arguments by a table of options.
    pub(crate) fn parse(&self, options: &[Opt]) -> Parsed {
        getopt::parse(self.program, options, &self.args)
    }

    /// Whether the long option `--word` stands anywhere before a `--`.
    pub(crate) fn asks_for(&self, word: &str) -> bool {
        let options = self.args.iter().take_while(|arg| *arg != "--");
        options
            .into_iter()
            .any(|arg| arg.strip_prefix("--") == Some(word))
    }
}

/// The end of a command that did not do what it was asked: what it says on stderr, and its exit status.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    /// The exit status.
    pub(crate) status: u8,
    /// Printed as it is, with a line feed behind; nothing is printed when empty.
    pub(crate) text: String,
}

impl Failure {
    /// A failure that says `text`.
    pub(crate) fn new(status: u8, text: impl Into<String>) -> Self {
        Self {
            status,
            text: text.into(),
        }
    }

    /// What a shell sees when a program dies of SIGPIPE: whoever read our output has gone, and there is nothing to say.
    pub(crate) const BROKEN_PIPE: Self = Self {
        status: 141,
        text: String::new(),
    };
}

impl From<std::io::Error> for Failure {
    /// A failure to write our output.
    fn from(error: std::io::Error) -> Self {
        match error.kind() == std::io::ErrorKind::BrokenPipe {
            true => Self::BROKEN_PIPE,
            false => Self::new(1, format!("cannot write the output: {error}")),
        }
    }
}

/// What the server said no to, or why it could not be asked. The second kind is told apart by its error number,
/// `Batch protocol error`, which the server itself never sends.
pub(crate) fn refusal(status: &Status) -> Refusal {
    Refusal::from_status(status).unwrap_or_else(|| {
        Refusal::new(
            Pbse::Protocol,
            format!("no answer from the server: {}", status.message()),
        )
    })
}

/// The text with the server's hint below it, on a terminal only: programs compare what they read.
pub(crate) fn with_hint(text: String, refusal: &Refusal) -> String {
    match refusal.hint.as_str() {
        "" => text,
        hint if std::io::stderr().is_terminal() => format!("{text}\nhint: {hint}"),
        _ => text,
    }
}

/// The exit status for a PBS error. A few numbers are multiples of 256, which a shell would take for success.
pub(crate) fn exit_status(error: Pbse) -> u8 {
    error.exit_status().max(1)
}
