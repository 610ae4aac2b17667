//! What the manual says beside the options, which it takes from the tables that the commands themselves read.

use super::{administrators, reservations, users};

/// The words of one command's page.
pub(crate) struct Page {
    /// The command.
    pub(crate) name: &'static str,
    /// 1 for what users run, 8 for what administrators run.
    pub(crate) section: u8,
    /// What stands behind the options.
    pub(crate) operands: &'static str,
    /// What it does, paragraph by paragraph.
    pub(crate) text: &'static [&'static str],
    /// More, behind the options.
    pub(crate) parts: &'static [Part],
    /// How it ends.
    pub(crate) exit: &'static str,
    /// Whom it asks.
    pub(crate) reach: Reach,
    /// Variables that it looks at beside those of `reach`, and what they say.
    pub(crate) environment: &'static [Term],
    /// Related commands.
    pub(crate) see_also: &'static [&'static str],
}

/// A word and what it means.
pub(crate) type Term = (&'static str, &'static str);

/// A part of a page with a title of its own.
pub(crate) struct Part {
    /// In capitals.
    pub(crate) title: &'static str,
    /// Paragraphs.
    pub(crate) text: &'static [&'static str],
    /// What is explained below them.
    pub(crate) terms: &'static [Term],
}

/// Whom a command asks, which decides the variables that it looks at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reach {
    /// The server, for as long as the caller or the site has patience.
    Server,
    /// The server, once.
    ServerOnce,
    /// The agent of the node.
    Agent,
    /// Nobody.
    Nobody,
}

const SOCKET: Term = (
    "CAPSTAN_SERVER_SOCKET",
    "The server's socket, instead of that of the installation or of this host.",
);
const DEFAULT: Term = (
    "PBS_DEFAULT, PBS_SERVER",
    "Name of the server that is meant when none is named; the first counts.",
);
const RETRY: Term = (
    "PBS_CLIENTRETRY",
    "For so many seconds it is tried to reach the server, if torque.cfg does not say (CLIENTRETRY).",
);
const AGENT: Term = (
    "CAPSTAN_AGENT_SOCKET",
    "The agent's socket, instead of that of the job's node.",
);

impl Reach {
    /// The variables.
    pub(crate) const fn variables(self) -> &'static [Term] {
        match self {
            Self::Server => &[SOCKET, DEFAULT, RETRY],
            Self::ServerOnce => &[SOCKET, DEFAULT],
            Self::Agent => &[AGENT],
            Self::Nobody => &[],
        }
    }
}

/// Of most commands for jobs.
const EXIT: &str = "0 when all was done, 2 when the command was misused. When the server refused, the error number of PBS \
    modulo 256: 153 unknown job, 159 not allowed, 170 the job is in a state in which this cannot be done, 172 unknown \
    queue. Of several jobs the last one decides.";
/// Of commands that tell refusals from misuse only.
pub(super) const EXIT_QUEUES: &str =
    "0 when all was done, 1 when the command was misused, 2 when something was not done.";

impl Page {
    pub(super) const fn user(
        name: &'static str,
        operands: &'static str,
        text: &'static [&'static str],
        see_also: &'static [&'static str],
    ) -> Self {
        Self {
            name,
            section: 1,
            operands,
            text,
            parts: &[],
            exit: EXIT,
            reach: Reach::Server,
            environment: &[],
            see_also,
        }
    }

    pub(super) const fn admin(
        name: &'static str,
        operands: &'static str,
        text: &'static [&'static str],
        see_also: &'static [&'static str],
    ) -> Self {
        Self {
            section: 8,
            ..Self::user(name, operands, text, see_also)
        }
    }

    pub(super) const fn with(self, parts: &'static [Part]) -> Self {
        Self { parts, ..self }
    }

    pub(super) const fn ends(self, exit: &'static str) -> Self {
        Self { exit, ..self }
    }

    pub(super) const fn asks(self, reach: Reach) -> Self {
        Self { reach, ..self }
    }

    pub(super) const fn heeds(self, environment: &'static [Term]) -> Self {
        Self {
            environment,
            ..self
        }
    }
}

/// The dialect, for the commands that understand two.
pub(super) const DIALECT: Term = (
    "CAPSTAN_DIALECT",
    "torque or pbspro: whose word counts where the two contradict. Else the server decides.",
);

/// Every page.
pub(crate) fn pages() -> impl Iterator<Item = &'static Page> {
    users::PAGES
        .iter()
        .chain(administrators::PAGES)
        .chain(reservations::PAGES)
}

/// The page of this command.
pub(crate) fn page(name: &str) -> Option<&'static Page> {
    pages().find(|page| page.name == name)
}
