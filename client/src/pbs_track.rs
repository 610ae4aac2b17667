//! `pbs_track`: makes a process one of a job's that did not descend from it. The agent of the node checks whose both are.

use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};

use capstan_proto::connect_unix;
use capstan_proto::wire::AdoptProcessRequest;
use capstan_proto::wire::node_door_client::NodeDoorClient;
use tonic::Code;

use crate::getopt::{self, Opt, Parsed};
use crate::{node_door, pbsdsh};

/// The options of `pbs_track`.
pub(crate) const OPTIONS: &[Opt] = &[
    Opt::value('j', "JOBID", "The job, which runs on this node"),
    Opt::value(
        'a',
        "PID",
        "Adopt this process instead of starting a program",
    ),
    Opt::flag('b', "Start the program in the background"),
];

const USAGE: &str = "USAGE: pbs_track -j <JOBID> [-b] -- a.out arg1 arg2 ... argN
 OR    pbs_track -j <JOBID> -a <PID>";
/// Our own binary, whatever it is called.
const OWN_BINARY: &str = "/proc/self/exe";
/// What a shell sees of the -1 that Torque's program ends with.
const FAILED: u8 = 255;

/// What is to become the job's.
#[derive(Debug, PartialEq, Eq)]
enum Wanted {
    /// A process that runs.
    Process(u32),
    /// A program, in our place.
    Program(Vec<String>),
    /// A program, and we do not wait for it.
    Background(Vec<String>),
}

/// Runs `pbs_track` with the words behind its name.
pub(crate) fn run(words: &[String]) -> ExitCode {
    let (job, wanted) = match read(&getopt::parse("pbs_track", OPTIONS, words)) {
        Ok(wish) => wish,
        Err((status, text)) => return fail(status, &text),
    };
    match wanted {
        Wanted::Process(pid) => match adopt(&job, pid) {
            Ok(()) => {
                pbsdsh::say("Success!");
                ExitCode::SUCCESS
            }
            Err(problem) => fail(FAILED, &problem),
        },
        Wanted::Program(program) => match adopt(&job, std::process::id()) {
            Ok(()) => become_program(&program),
            Err(problem) => fail(FAILED, &problem),
        },
        Wanted::Background(program) => {
            let mut own = Command::new(OWN_BINARY);
            own.arg0("pbs_track").args(["-j", &job, "--"]).args(program);
            match own.spawn() {
                Ok(_child) => ExitCode::SUCCESS,
                Err(error) => fail(FAILED, &format!("pbs_track: could not fork ({error})")),
            }
        }
    }
}

/// The job and what is to be done; else the exit status and what to say.
fn read(parsed: &Parsed) -> Result<(String, Wanted), (u8, String)> {
    let usage = || {
        let mut text: Vec<&str> = parsed.problems().collect();
        text.push(USAGE);
        Err((2, text.join("\n")))
    };
    let (job, pid) = (parsed.value('j'), parsed.value('a'));
    let Some(job) = job.filter(|job| !job.is_empty()) else {
        return usage();
    };
    let program = parsed.operands.clone();
    let wanted = match (pid, parsed.has('b')) {
        (Some(_), true) => return usage(),
        (Some(pid), false) => match pid.parse() {
            Ok(pid) => Wanted::Process(pid),
            Err(_) => return Err((1, format!("Invalid PID to adopt: {pid}"))),
        },
        (None, _) if program.is_empty() => return usage(),
        (None, false) => Wanted::Program(program),
        (None, true) => Wanted::Background(program),
    };
    if parsed.problems().next().is_some() {
        return usage();
    }
    if !job.starts_with(|first: char| first.is_ascii_digit()) {
        let text = format!("pbs_track: illegally formed job identifier: '{job}'");
        return Err((1, text));
    }
    Ok((job.to_owned(), wanted))
}

/// Asks the node's agent to take process `pid` into the job.
fn adopt(job: &str, pid: u32) -> Result<(), String> {
    let lost = |problem: String| {
        format!("pbs_track: error occurred while trying to communication with pbs_mom: {problem}")
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let runtime = runtime.map_err(|error| lost(error.to_string()))?;
    runtime.block_on(async {
        let socket = node_door::socket(|name| std::env::var_os(name));
        let channel = connect_unix(&socket).await;
        let channel = channel.map_err(|error| lost(format!("{error}: {}", error.source)))?;
        let request = AdoptProcessRequest {
            job_id: job.to_owned(),
            pid,
        };
        let Err(status) = NodeDoorClient::new(channel).adopt_process(request).await else {
            return Ok(());
        };
        let text = status.message();
        Err(match status.code() {
            Code::NotFound => format!("pbs_track: MOM could not find job {job}"),
            Code::PermissionDenied => format!("pbs_track: permission denied: {text}"),
            Code::FailedPrecondition => format!("pbs_track: unexpected error {text} occurred"),
            Code::Ok
            | Code::Cancelled
            | Code::Unknown
            | Code::InvalidArgument
            | Code::DeadlineExceeded
            | Code::AlreadyExists
            | Code::ResourceExhausted
            | Code::Aborted
            | Code::OutOfRange
            | Code::Unimplemented
            | Code::Internal
            | Code::Unavailable
            | Code::DataLoss
            | Code::Unauthenticated => lost(text.to_owned()),
        })
    })
}

fn become_program(program: &[String]) -> ExitCode {
    let Some((name, arguments)) = program.split_first() else {
        return fail(2, USAGE);
    };
    let error = Command::new(name).args(arguments).exec();
    let number = error.raw_os_error().unwrap_or(libc::EIO);
    let text = error.to_string();
    // The kernel's text alone: the standard library adds ` (os error 2)`.
    let text = text.split(" (os error").next().unwrap_or(&text);
    let status = u8::try_from(number).unwrap_or(FAILED);
    fail(
        status,
        &format!("execvp failed with error {number}, message:\n{text}"),
    )
}

fn fail(status: u8, text: &str) -> ExitCode {
    pbsdsh::say(text);
    ExitCode::from(status)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reading(line: &str) -> Result<(String, Wanted), (u8, String)> {
        let words: Vec<String> = line.split_ascii_whitespace().map(str::to_owned).collect();
        read(&getopt::parse("pbs_track", OPTIONS, &words))
    }

    #[test]
    fn a_process_or_a_program_is_named() {
        let check = |line: &str, wanted: Wanted| {
            assert_eq!(reading(line), Ok(("12.hn1".to_owned(), wanted)), "{line}");
        };
        let program = || ["a", "-x"].map(str::to_owned).to_vec();
        check("-j 12.hn1 -a 7", Wanted::Process(7));
        check("-j 12.hn1 -- a -x", Wanted::Program(program()));
        check("-b -j 12.hn1 -- a -x", Wanted::Background(program()));
    }

    #[test]
    fn misuse_is_answered_as_torque_answers_it() {
        for line in [
            "",
            "-j 1",
            "a",
            "-j",
            "-a 7",
            "-j 1 -b -a 7",
            "-Z -j 1 -- a",
        ] {
            let (status, text) = reading(line).unwrap_err();
            assert_eq!(status, 2, "{line}");
            assert!(text.ends_with(USAGE), "{line}: {text}");
        }
        let refused = |status: u8, text: &str| Err((status, text.to_owned()));
        assert_eq!(reading("-j 1 -a x"), refused(1, "Invalid PID to adopt: x"));
        assert_eq!(
            reading("-j 1 -a -7"),
            refused(1, "Invalid PID to adopt: -7")
        );
        let text = "pbs_track: illegally formed job identifier: 'abc'";
        assert_eq!(reading("-j abc -a 7"), refused(1, text));
    }
}
