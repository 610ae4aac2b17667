//! The way to the server: which socket, how long to try, and what to say when nobody answers.

use std::path::{Path, PathBuf};
use std::time::Duration;

use capstan_proto::wire::StatServerRequest;
use capstan_proto::wire::scheduler_client::SchedulerClient;
use capstan_proto::{ConnectError, connect_unix};
use capstan_types::Pbse;
use tokio::time::{Instant, sleep};
use tonic::Status;
use tonic::transport::Channel;

use crate::command::{Call, Environment, Failure};

/// The server, as a client sees it.
pub(crate) type Server = SchedulerClient<Channel>;

const SOCKET_VARIABLE: &str = "CAPSTAN_SERVER_SOCKET";
const SOCKET_DEFAULT: &str = "/run/capstan/server.sock";
/// Where a whole installation under one folder has its socket, from the folder of its programs. Programs that clean the
/// environment of the commands they run find the server by this.
const SOCKET_BESIDE: &str = "../run/server.sock";
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
    socket.exists().then_some(socket)
}

/// How long to keep trying: `-b SEC`, else `PBS_CLIENTRETRY`, else not at all.
pub(crate) fn patience(option: Option<&str>, env: &Environment) -> Duration {
    let typed = option.or_else(|| env.get("PBS_CLIENTRETRY"));
    let secs = typed.and_then(|text| text.trim().parse().ok());
    Duration::from_secs(secs.unwrap_or(0))
}

/// Connects to the server, trying again for as long as `patience` says.
///
/// # Errors
/// In the words of Torque, with a hint; the exit status is the kernel's error number.
pub(crate) async fn open(call: &Call, patience: Duration) -> Result<Server, Failure> {
    let socket = socket(&call.env);
    let give_up = Instant::now().checked_add(patience);
    loop {
        match connect_unix(&socket).await {
            Ok(channel) => {
                return Ok(
                    SchedulerClient::new(channel).max_decoding_message_size(ANSWER_BYTES_MAX)
                );
            }
            Err(error) if give_up.is_none_or(|end| Instant::now() < end) && may_come_up(&error) => {
                sleep(RETRY_PAUSE).await;
            }
            Err(error) => return Err(unreachable(call.program, &socket, &error.source)),
        }
    }
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

/// Torque's sentence, the socket in the place of the server's name, and what to do about it.
fn unreachable(program: &str, socket: &Path, error: &std::io::Error) -> Failure {
    let number = error.raw_os_error().unwrap_or(libc::EIO);
    let what = std::io::Error::from_raw_os_error(number).to_string();
    // The kernel's text alone: the standard library adds ` (os error 111)`.
    let what = what.split(" (os error").next().unwrap_or(&what);
    let socket = socket.display();
    let (status, shape) = match program {
        "pbsnodes" => (1, format!("error={number} ({what})")),
        _ => (
            u8::try_from(number).unwrap_or(1),
            format!("(errno={number}) {what}"),
        ),
    };
    let comma = if program == "pbsnodes" { "," } else { "" };
    let hint = match number {
        libc::EACCES | libc::EPERM => {
            format!("you may not open {socket}: ask an administrator who may submit from this host")
        }
        libc::ENOENT | libc::ENOTDIR => {
            format!(
                "no server listens at {socket}: is capstan-server running on this host? {SOCKET_VARIABLE} names another socket"
            )
        }
        _ => format!(
            "nobody answers at {socket}: is capstan-server running on this host? {SOCKET_VARIABLE} names another socket"
        ),
    };
    Failure::new(
        status,
        format!("{program}: cannot connect to server {socket}{comma} {shape}\nhint: {hint}"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unreachable_server_is_named_with_what_to_do() {
        let refused = std::io::Error::from_raw_os_error(libc::ECONNREFUSED);
        let failure = unreachable("qsub", Path::new("/run/x.sock"), &refused);
        assert_eq!(failure.status, 111);
        let (first, hint) = failure.text.split_once('\n').unwrap();
        assert_eq!(
            first,
            "qsub: cannot connect to server /run/x.sock (errno=111) Connection refused"
        );
        assert!(
            hint.starts_with("hint: nobody answers at /run/x.sock: is capstan-server running"),
            "{hint}"
        );
        let failure = unreachable("pbsnodes", Path::new("/run/x.sock"), &refused);
        assert_eq!(failure.status, 1);
        assert!(failure.text.starts_with(
            "pbsnodes: cannot connect to server /run/x.sock, error=111 (Connection refused)\n"
        ));
    }

    #[test]
    fn the_option_wins_over_the_environment() {
        let env = Environment(vec![("PBS_CLIENTRETRY".into(), "7".into())]);
        assert_eq!(patience(None, &env), Duration::from_secs(7));
        assert_eq!(patience(Some("2"), &env), Duration::from_secs(2));
        assert_eq!(patience(Some("x"), &env), Duration::ZERO);
    }
}
