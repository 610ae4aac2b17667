//! What a command says about a server that is not there, and how it ends: Torque's texts, which programs know.

use std::io::IsTerminal;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use capstan_types::Pbse;

use crate::command::Failure;

use super::SOCKET_VARIABLE;

/// Why nobody answered.
#[derive(Clone, Debug)]
pub(super) enum Absence {
    /// The name has no address.
    Unresolved,
    /// Nobody listens.
    Down {
        /// The kernel's number; a socket that is missing counts as one that refuses.
        number: i32,
        address: IpAddr,
        /// The socket that was tried, if any.
        socket: Option<PathBuf>,
    },
}

impl Absence {
    /// A server at `address` that did not answer, by the kernel's error `number`.
    pub(super) fn down(number: i32, address: IpAddr) -> Self {
        let number = match number {
            libc::ENOENT | libc::ENOTDIR => libc::ECONNREFUSED,
            number => number,
        };
        Self::Down {
            number,
            address,
            socket: None,
        }
    }

    /// With the socket that was tried.
    pub(super) fn at(mut self, tried: &Path) -> Self {
        if let Self::Down { socket, .. } = &mut self {
            *socket = Some(tried.to_owned());
        }
        self
    }

    fn number(&self) -> i64 {
        match self {
            Self::Unresolved => i64::from(Pbse::Badhost.number()),
            Self::Down { number, .. } => i64::from(*number),
        }
    }

    fn text(&self) -> String {
        match self {
            Self::Unresolved => Pbse::Badhost.text().to_owned(),
            Self::Down { number, .. } => kernel_text(*number),
        }
    }
}

/// A server that was wanted and not reached.
pub(super) struct Unanswered<'a> {
    /// Its name.
    pub(super) server: &'a str,
    /// Whether nobody named it.
    pub(super) is_default: bool,
    /// How long it was tried.
    pub(super) tried: Duration,
    /// Why there was no answer.
    pub(super) absence: Absence,
}

impl Unanswered<'_> {
    /// What `program` says, and how it ends.
    pub(super) fn told_by(&self, program: &str) -> Failure {
        let (number, text) = (self.absence.number(), self.absence.text());
        let once = self.once();
        let server = self.server;
        let low_byte = |number: i64| u8::try_from(number.rem_euclid(256)).unwrap_or(1).max(1);
        let (status, mut said) = match program {
            "pbsnodes" => {
                let what = format!("cannot connect to server {server}, error={number} ({text})");
                (1, format!("{once}\npbsnodes: {what}"))
            }
            "qmgr" => {
                let shown = if self.is_default { "" } else { server };
                let what = format!("cannot connect to server {shown} (errno={number}) {text}");
                (2, format!("{once}\nqmgr: {what}"))
            }
            "qenable" | "qdisable" | "qstart" | "qstop" | "qterm" => {
                let shown = if self.is_default { "" } else { server };
                let quote = if program == "qterm" { "'" } else { "" };
                let what = format!("could not connect to server {quote}{shown}{quote}");
                (2, format!("{once}\n{program}: {what} ({number}) {text}"))
            }
            // It tries three times, and says at the end what it ends with.
            "qstat" => {
                let what = format!("cannot connect to server {server} (errno={number}) {text}");
                let (end, why) = match &self.absence {
                    Absence::Unresolved => (number, text),
                    Absence::Down { .. } => (-number, format!("Unknown error -{number}")),
                };
                let error = format!("qstat: Error ({end} - {why}) ");
                let thrice = format!("{once}\n{once}\n{once}");
                (low_byte(end), format!("{thrice}\nqstat: {what}\n{error}"))
            }
            _ => {
                let what = format!("cannot connect to server {server} (errno={number}) {text}");
                (low_byte(number), format!("{once}\n{program}: {what}"))
            }
        };
        // Programs compare the text; a person at a terminal gets more.
        if std::io::stderr().is_terminal()
            && let Some(hint) = self.hint()
        {
            said = format!("{said}\n{hint}");
        }
        Failure::new(status, said)
    }

    /// What one attempt says.
    fn once(&self) -> String {
        let server = self.server;
        match &self.absence {
            Absence::Unresolved => unresolved(server),
            Absence::Down {
                number: libc::ECONNREFUSED,
                address,
                ..
            } => {
                let retry = match self.tried.as_secs() {
                    0 => String::new(),
                    secs => format!("\nRetrying for {secs} seconds"),
                };
                let what = format!("Cannot connect to specified server host '{server}'.");
                format!("\nUnable to communicate with {server}({address})\n{what}{retry}")
            }
            Absence::Down { number, .. } => kernel_text(*number),
        }
    }

    fn hint(&self) -> Option<String> {
        let Absence::Down {
            number,
            socket: Some(socket),
            ..
        } = &self.absence
        else {
            return None;
        };
        let socket = socket.display();
        Some(match *number {
            libc::EACCES | libc::EPERM => format!(
                "hint: you may not open {socket}: ask an administrator who may submit from this host"
            ),
            _ => format!(
                "hint: nobody answers at {socket}: is capstan-server running on this host? {SOCKET_VARIABLE} names another socket"
            ),
        })
    }
}

/// What Torque says when a server's name has no address.
pub(crate) fn unresolved(name: &str) -> String {
    format!(
        "Can not resolve name for server {name}. (rc = -2 - )\nCannot resolve specified server host '{name}'."
    )
}

/// How Torque goes on after [`unresolved`], behind the command's name.
pub(crate) fn unresolved_connection(name: &str) -> String {
    let error = Pbse::Badhost;
    format!(
        "cannot connect to server {name} (errno={}) {}",
        error.number(),
        error.text()
    )
}

/// The kernel's text alone: the standard library adds ` (os error 111)`.
fn kernel_text(number: i32) -> String {
    let text = std::io::Error::from_raw_os_error(number).to_string();
    text.split(" (os error").next().unwrap_or(&text).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    fn told(program: &str, number: i32, is_default: bool) -> Failure {
        let absence = Absence::down(number, IpAddr::V4(Ipv4Addr::LOCALHOST));
        let unanswered = Unanswered {
            server: "hn1",
            is_default,
            tried: Duration::ZERO,
            absence,
        };
        // A test may run on a terminal, where a hint follows.
        let Failure { status, text } = unanswered.told_by(program);
        let text = text.split("\nhint: ").next().unwrap_or("").to_owned();
        Failure { status, text }
    }

    const ONCE: &str = "\nUnable to communicate with hn1(127.0.0.1)\nCannot connect to specified server host 'hn1'.";

    #[test]
    fn a_server_that_is_down_is_told_in_the_words_of_torque() {
        let refused = "(errno=111) Connection refused";
        for number in [libc::ECONNREFUSED, libc::ENOENT] {
            let text = format!("{ONCE}\nqsub: cannot connect to server hn1 {refused}");
            assert_eq!(told("qsub", number, true), Failure::new(111, text));
            let text = format!(
                "{ONCE}\n{ONCE}\n{ONCE}\nqstat: cannot connect to server hn1 {refused}\nqstat: Error (-111 - Unknown error -111) "
            );
            assert_eq!(told("qstat", number, true), Failure::new(145, text));
            let text = format!(
                "{ONCE}\npbsnodes: cannot connect to server hn1, error=111 (Connection refused)"
            );
            assert_eq!(told("pbsnodes", number, true), Failure::new(1, text));
            let text = format!("{ONCE}\nqmgr: cannot connect to server  {refused}");
            assert_eq!(told("qmgr", number, true), Failure::new(2, text));
        }
        let text =
            "Permission denied\nqdel: cannot connect to server hn1 (errno=13) Permission denied";
        assert_eq!(told("qdel", libc::EACCES, false), Failure::new(13, text));
    }

    #[test]
    fn a_server_without_address_is_told_in_the_words_of_torque() {
        let unanswered = Unanswered {
            server: "nosuchhost",
            is_default: false,
            tried: Duration::ZERO,
            absence: Absence::Unresolved,
        };
        let once = "Can not resolve name for server nosuchhost. (rc = -2 - )\nCannot resolve specified server host 'nosuchhost'.";
        let what = "cannot connect to server nosuchhost (errno=15010) Access from host not allowed, or unknown host";
        let text = format!("{once}\nqsub: {what}");
        assert_eq!(unanswered.told_by("qsub"), Failure::new(162, text));
        let error = "qstat: Error (15010 - Access from host not allowed, or unknown host) ";
        let text = format!("{once}\n{once}\n{once}\nqstat: {what}\n{error}");
        assert_eq!(unanswered.told_by("qstat"), Failure::new(162, text));
    }
}
