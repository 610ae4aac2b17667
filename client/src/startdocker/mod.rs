//! `startdocker`: runs a program in a container of the job it is called from. The agent of the node decides what the
//! container may be; this side carries streams, signals and the exit code.

mod arguments;
mod session;
mod stdin;

use std::process::ExitCode;

use capstan_proto::connect_unix;
use capstan_proto::wire::{ContainerRequest, Variable};
use capstan_types::is_gang_variable;

use arguments::{Arguments, BadArguments, USAGE};
use session::Session;

use crate::node_door;
use crate::terminal::{tty as terminal, writer};

/// What a shell sees when no container was started, as with docker.
const NOT_STARTED: u8 = 125;
/// The caller's environment is sent for `-e NAME` only, up to this size.
const ENVIRONMENT_BYTES_MAX: usize = 512 * 1024;

/// Runs `startdocker` with the words behind its name, to its end.
pub(crate) fn run(words: Vec<String>) -> ExitCode {
    let line = as_typed(&words);
    let arguments = match arguments::parse(words) {
        Ok(arguments) => arguments,
        Err(BadArguments::Help) => {
            writer::line(USAGE);
            return ExitCode::SUCCESS;
        }
        Err(error) => {
            writer::line(&format!("startdocker: {error}\n{USAGE}"));
            return ExitCode::from(NOT_STARTED);
        }
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let code = match runtime {
        Ok(runtime) => runtime.block_on(start(arguments)),
        Err(error) => {
            writer::line(&format!("startdocker: cannot start: {error}"));
            NOT_STARTED
        }
    };
    if code == NOT_STARTED && std::env::var_os("PBS_JOBID").is_none() {
        writer::line(&format!("to run it as a job: echo {line} | qsub"));
    }
    ExitCode::from(code)
}

/// The line as a shell would take it again, quoted as a whole.
fn as_typed(words: &[String]) -> String {
    let quote = |word: &str| {
        let is_plain = |c: char| c.is_ascii_alphanumeric() || "/._-+,:@%=".contains(c);
        match !word.is_empty() && word.chars().all(is_plain) {
            true => word.to_owned(),
            false => format!("'{}'", word.replace('\'', r"'\''")),
        }
    };
    let words = words.iter().map(|word| quote(word));
    let line: Vec<String> = ["startdocker".to_owned()]
        .into_iter()
        .chain(words)
        .collect();
    quote(&line.join(" "))
}

async fn start(arguments: Arguments) -> u8 {
    let socket = node_door::socket(|name| std::env::var_os(name));
    let channel = match connect_unix(&socket).await {
        Ok(channel) => channel,
        Err(error) => {
            let socket = socket.display();
            let cause = &error.source;
            writer::line(&format!(
                "startdocker: no agent answers at {socket}: {cause}\n\
                 hint: startdocker works inside a job: put the line into a script and `qsub` it"
            ));
            return NOT_STARTED;
        }
    };
    let request = match request(arguments) {
        Ok(request) => request,
        Err(error) => {
            writer::line(&format!("startdocker: cannot read /dev/urandom: {error}"));
            return NOT_STARTED;
        }
    };
    Session::new(socket, request).run(channel).await
}

fn request(arguments: Arguments) -> std::io::Result<ContainerRequest> {
    let Arguments {
        engine_options,
        data_folder,
        proc_folder,
        script,
        command_line,
        image,
        job_script,
    } = arguments;
    let current = std::env::current_dir().ok();
    Ok(ContainerRequest {
        image,
        command_line,
        script,
        proc_folder,
        data_folder,
        current_folder: current
            .and_then(|folder| folder.into_os_string().into_string().ok())
            .unwrap_or_default(),
        environment: environment(!engine_options.is_empty()),
        engine_options,
        terminal: terminal::size(),
        key: key()?,
        job_script,
    })
}

/// Variables that are text, as many as fit: all, or what tells a process its place in a distributed program.
fn environment(all: bool) -> Vec<Variable> {
    let mut left = ENVIRONMENT_BYTES_MAX;
    let variables = std::env::vars_os().filter_map(|(name, value)| {
        let (name, value) = (name.into_string().ok()?, value.into_string().ok()?);
        if !all && !is_gang_variable(&name) {
            return None;
        }
        left = left.checked_sub(name.len() + value.len())?;
        Some(Variable { name, value })
    });
    variables.collect()
}

/// Twice as long, for what is named among all programs and clients of a job.
pub(crate) fn long_key() -> std::io::Result<String> {
    Ok(key()? + &key()?)
}

/// Names this request for ever, so that repeating it after a restart of the agent does not start it twice.
pub(crate) fn key() -> std::io::Result<String> {
    use std::io::Read;
    let mut bytes = [0; 8];
    std::fs::File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}
