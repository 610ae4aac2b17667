//! The way to the server: which server is meant, which socket is its, how long to try, and what to say when nobody
//! answers. This client speaks to local sockets only: a server of another name is looked for as Torque looks for it,
//! so that its texts and exit statuses are the same.

use std::net::{IpAddr, Ipv4Addr, ToSocketAddrs, UdpSocket};
use std::path::{Path, PathBuf};
use std::time::Duration;

use capstan_proto::wire::StatServerRequest;
use capstan_proto::wire::scheduler_client::SchedulerClient;
use capstan_proto::{ConnectError, connect_unix};
use tokio::time::{Instant, sleep};
use tonic::Status;
use tonic::transport::Channel;

use crate::command::{Call, Environment, Failure};
use crate::torque_cfg;

mod absence;

use absence::{Absence, Unanswered};
pub(crate) use absence::{unresolved, unresolved_connection};

/// The server, as a client sees it.
pub(crate) type Server = SchedulerClient<Channel>;

const SOCKET_VARIABLE: &str = "CAPSTAN_SERVER_SOCKET";
const SOCKET_DEFAULT: &str = "/run/capstan/server.sock";
/// Where a whole installation under one folder has its socket, from the folder of its programs. Programs that clean the
/// environment of the commands they run find the server by this.
const SOCKET_BESIDE: &str = "../run/server.sock";
/// The server writes its name here, beside its socket, and leaves it there when it ends.
const NAME_FILE: &str = "server_name";
/// And here the name by which it knows callers on its host.
const HOST_FILE: &str = "host_name";
/// Where an administrator may write the name.
const NAME_FILE_DEFAULT: &str = "/etc/capstan/server_name";
/// Variables that name the server to speak to, the first one first.
const SERVER_VARIABLES: [&str; 2] = ["PBS_DEFAULT", "PBS_SERVER"];
/// Longest name of a server that is read from a file, bytes.
const NAME_BYTES_MAX: usize = 255;
/// Pause between two attempts of `-b`.
const RETRY_PAUSE: Duration = Duration::from_millis(200);
/// One answer may be as large as this. The server sends listings in batches far below it.
const ANSWER_BYTES_MAX: usize = 64 << 20;

/// The socket that the environment names, else the one of the installation that this program belongs to, else the
/// host's.
pub(crate) fn socket(env: &Environment) -> PathBuf {
    match env.get(SOCKET_VARIABLE).filter(|path| !path.is_empty()) {
        Some(named) => PathBuf::from(named),
        None => beside_program().unwrap_or_else(|| PathBuf::from(SOCKET_DEFAULT)),
    }
}

fn beside_program() -> Option<PathBuf> {
    let program = std::env::current_exe().ok()?;
    let socket = program.parent()?.join(SOCKET_BESIDE);
    // The folder, not the socket: when the server is down, its name is still to be found there.
    socket.parent()?.is_dir().then_some(socket)
}

/// How long to keep trying: `-b SEC`, else `CLIENTRETRY` of the site's file, else `PBS_CLIENTRETRY`, else not at all.
pub(crate) fn patience(option: Option<&str>, env: &Environment) -> Duration {
    let site = || {
        torque_cfg::load(env)
            .get("CLIENTRETRY")
            .map(ToOwned::to_owned)
    };
    let typed = option.map(ToOwned::to_owned).or_else(site);
    let typed = typed.or_else(|| env.get("PBS_CLIENTRETRY").map(ToOwned::to_owned));
    let secs = typed.and_then(|text| text.trim().parse().ok());
    Duration::from_secs(secs.unwrap_or(0))
}

/// Connects to the default server, trying again for as long as `patience` says.
///
/// # Errors
/// In the words of Torque; the exit status is the error number.
pub(crate) async fn open(call: &Call, patience: Duration) -> Result<Server, Failure> {
    open_at(call, "", patience).await
}

/// Connects to the server called `name` (`host[:port]`), the default one when empty.
///
/// # Errors
/// In the words of Torque: a name without an address, or a server that does not answer.
pub(crate) async fn open_at(
    call: &Call,
    name: &str,
    patience: Duration,
) -> Result<Server, Failure> {
    let socket = socket(&call.env);
    let variable = || SERVER_VARIABLES.iter().find_map(|name| call.env.get(name));
    let named = match name {
        "" => variable().filter(|name| !name.is_empty()),
        name => Some(name),
    };
    let missing = |shown: &str, absence| {
        Unanswered {
            server: shown,
            is_default: named.is_none(),
            tried: patience,
            absence,
        }
        .told_by(call.program)
    };
    if let Some(named) = named.map(without_port) {
        match place_of(named, &socket).await {
            Place::Here => {}
            Place::Nowhere => return Err(missing(named, Absence::Unresolved)),
            Place::Elsewhere(address) => {
                let absence = Absence::down(libc::ECONNREFUSED, address);
                return Err(missing(named, absence));
            }
        }
    }
    let tried = connect(&socket, patience).await;
    tried.map_err(|error| {
        let name = named.map(without_port).map(ToOwned::to_owned);
        let name = name.unwrap_or_else(|| local_name(&socket));
        let number = error.source.raw_os_error().unwrap_or(libc::EIO);
        let address = addresses(&name).into_iter().next();
        let absence = Absence::down(number, address.unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST)));
        missing(&name, absence.at(&socket))
    })
}

async fn connect(socket: &Path, patience: Duration) -> Result<Server, ConnectError> {
    let give_up = Instant::now().checked_add(patience);
    loop {
        match connect_unix(socket).await {
            Ok(channel) => {
                return Ok(
                    SchedulerClient::new(channel).max_decoding_message_size(ANSWER_BYTES_MAX)
                );
            }
            Err(error) if give_up.is_none_or(|end| Instant::now() < end) && may_come_up(&error) => {
                sleep(RETRY_PAUSE).await;
            }
            Err(error) => return Err(error),
        }
    }
}

/// The connections of one command whose operands may name servers (`12@server`): one is enough, because every name
/// that leads anywhere leads to the same socket.
pub(crate) struct Doors<'a> {
    call: &'a Call,
    patience: Duration,
    server: Option<Server>,
}

impl<'a> Doors<'a> {
    /// No connection yet.
    pub(crate) fn new(call: &'a Call, patience: Duration) -> Self {
        Self {
            call,
            patience,
            server: None,
        }
    }

    /// The server called `name`, the default one when empty.
    ///
    /// # Errors
    /// As for [`open_at`].
    pub(crate) async fn to(&mut self, name: &str) -> Result<Server, Failure> {
        if let Some(server) = self.server.as_ref().filter(|_| name.is_empty()) {
            return Ok(server.clone());
        }
        let server = open_at(self.call, name, self.patience).await?;
        self.server = Some(server.clone());
        Ok(server)
    }
}

/// Where a name leads.
enum Place {
    /// To the server of this host.
    Here,
    /// To another host, where this client cannot go.
    Elsewhere(IpAddr),
    /// It has no address.
    Nowhere,
}

async fn place_of(name: &str, socket: &Path) -> Place {
    let known = stored_name(socket);
    let is_ours = |ours: &str| is_name_of(name, ours);
    if known.as_deref().is_some_and(is_ours) || name == "localhost" || is_ours(&host_name()) {
        return Place::Here;
    }
    if known.is_none() {
        // A server that does not write its name down: it is asked.
        if let Ok(mut server) = connect(socket, Duration::ZERO).await
            && server_name(&mut server)
                .await
                .is_ok_and(|ours| is_ours(&ours))
        {
            return Place::Here;
        }
    }
    let addresses = addresses(name);
    match addresses.first() {
        None => Place::Nowhere,
        Some(_) if addresses.iter().any(is_of_this_host) => Place::Here,
        Some(first) => Place::Elsewhere(*first),
    }
}

/// `queue@server` without the server, when that is the one of this host: it need not know every name of its host.
pub(crate) async fn without_own_name(env: &Environment, destination: &str) -> String {
    let Some((queue, host)) = destination
        .split_once('@')
        .filter(|(_, host)| !host.is_empty())
    else {
        return destination.to_owned();
    };
    match place_of(without_port(host), &socket(env)).await {
        Place::Here => queue.to_owned(),
        Place::Elsewhere(_) | Place::Nowhere => destination.to_owned(),
    }
}

fn without_port(name: &str) -> &str {
    name.split_once(':').map_or(name, |(host, _)| host)
}

fn addresses(name: &str) -> Vec<IpAddr> {
    let found = (name, 0).to_socket_addrs();
    found
        .map(|found| found.map(|address| address.ip()).collect())
        .unwrap_or_default()
}

/// A host can open a socket at its own addresses only.
fn is_of_this_host(address: &IpAddr) -> bool {
    address.is_loopback() || UdpSocket::bind((*address, 0)).is_ok()
}

/// The name by which the server knows this host, else the kernel's.
pub(crate) fn known_host_name(env: &Environment) -> String {
    let socket = socket(env);
    let file = socket.parent().map(|folder| folder.join(HOST_FILE));
    let known = file.and_then(|file| read_name(&file));
    known.unwrap_or_else(host_name)
}

fn host_name() -> String {
    let name = nix::unistd::gethostname().map(|name| name.to_string_lossy().into_owned());
    name.unwrap_or_else(|_| "localhost".to_owned())
}

/// The name of the server of this host when it cannot be asked.
fn local_name(socket: &Path) -> String {
    stored_name(socket).unwrap_or_else(host_name)
}

/// The name in the file beside the socket, else in the administrator's.
fn stored_name(socket: &Path) -> Option<String> {
    let beside = socket.parent().map(|folder| folder.join(NAME_FILE));
    let beside = beside.and_then(|path| read_name(&path));
    beside.or_else(|| read_name(Path::new(NAME_FILE_DEFAULT)))
}

/// The name on the first line of a file, if it is one.
fn read_name(path: &Path) -> Option<String> {
    let is_part = |b: u8| b.is_ascii_alphanumeric() || b"-._".contains(&b);
    let text = std::fs::read_to_string(path).ok()?;
    let name = without_port(text.lines().next()?.trim());
    let is_name = !name.is_empty() && name.len() <= NAME_BYTES_MAX && name.bytes().all(is_part);
    is_name.then(|| name.to_owned())
}

/// The name of the server, which ends job ids.
///
/// # Errors
/// The server's refusal, or the loss of the connection.
pub(crate) async fn server_name(server: &mut Server) -> Result<String, Status> {
    Ok(server
        .stat_server(StatServerRequest {})
        .await?
        .into_inner()
        .name)
}

/// The id as error lines show it: with the server's name when it was typed without one. Asks the server for its name
/// only then, because only a failed request needs it.
pub(crate) async fn full_id(server: &mut Server, typed: &str) -> String {
    let (id, host) = typed.split_once('@').unwrap_or((typed, ""));
    if id.contains('.') {
        return id.to_owned();
    }
    match server_name(server).await {
        Ok(name) => format!("{id}.{name}"),
        Err(_) if host.is_empty() => id.to_owned(),
        Err(_) => format!("{id}.{host}"),
    }
}

/// Whether a person who types `typed` means the server called `name`: all of it, or one of them without its domain.
pub(crate) fn is_name_of(typed: &str, name: &str) -> bool {
    let short = |name: &str| name.split('.').next().unwrap_or("").to_owned();
    typed == name || typed == short(name) || short(typed) == name
}

/// Whether waiting can help: a server that is being started has no socket yet, or one that nobody listens on.
fn may_come_up(error: &ConnectError) -> bool {
    use std::io::ErrorKind as E;
    let kind = error.source.kind();
    [
        E::NotFound,
        E::ConnectionRefused,
        E::WouldBlock,
        E::ConnectionReset,
    ]
    .contains(&kind)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_option_wins_over_the_environment() {
        let env = Environment(vec![("PBS_CLIENTRETRY".into(), "7".into())]);
        assert_eq!(patience(None, &env), Duration::from_secs(7));
        assert_eq!(patience(Some("2"), &env), Duration::from_secs(2));
        assert_eq!(patience(Some("x"), &env), Duration::ZERO);
    }

    #[test]
    fn a_name_is_read_from_beside_the_socket_and_no_other_text_is() {
        let folder = tempfile::tempdir().unwrap();
        let check = |text: &str, expected: Option<&str>| {
            std::fs::write(folder.path().join(NAME_FILE), text).unwrap();
            let seen = read_name(&folder.path().join(NAME_FILE));
            assert_eq!(seen.as_deref(), expected, "{text:?}");
        };
        check("hn1\n", Some("hn1"));
        check(
            "  head.example.org:15001 \nmore\n",
            Some("head.example.org"),
        );
        check("a\u{1b}[2Jb\n", None);
        check("two words\n", None);
        check("", None);
    }

    #[tokio::test]
    async fn a_name_leads_here_elsewhere_or_nowhere() {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("server.sock");
        std::fs::write(folder.path().join(NAME_FILE), "hn1.example.org\n").unwrap();
        for ours in ["hn1", "hn1.example.org", "localhost", "127.0.0.1"] {
            assert!(
                matches!(place_of(ours, &socket).await, Place::Here),
                "{ours}"
            );
        }
        // An address kept for documentation, which no host has.
        let there = place_of("192.0.2.7", &socket).await;
        assert!(matches!(there, Place::Elsewhere(_)));
        let nowhere = place_of("nosuchhost.invalid", &socket).await;
        assert!(matches!(nowhere, Place::Nowhere));
    }
}
