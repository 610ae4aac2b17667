//! `capstan`: one program behind all commands. Which one it is, its own name says (`qsub`, `qstat` … are links to it)
//! or its first argument (`capstan qsub …`). Decides only which command runs and how it ends.

mod capstan;
mod chk;
mod command;
mod complete;
mod dialect;
mod doctor;
mod door;
mod get_report;
mod getopt;
mod k_log;
mod manual;
mod migrate;
mod momctl;
mod node_door;
mod operand;
mod output;
mod pbs_track;
mod pbsdsh;
mod pbsnodes;
mod qalter;
mod qattach;
mod qchkpt;
mod qdel;
mod qenable;
mod qexec;
mod qfair;
mod qgpumode;
mod qgpureset;
mod qhold;
mod qimages;
mod qmgr;
mod qmove;
mod qmsg;
mod qorder;
mod qpeek;
mod qrerun;
mod qrun;
mod qselect;
mod qsig;
mod qstat;
mod qsub;
mod qterm;
mod qwhy;
mod replay;
mod reserve;
mod sim;
mod startdocker;
mod terminal;
mod torque_cfg;
mod tracejob;

use std::ffi::OsString;
use std::io::Write;
use std::process::ExitCode;

use command::{Call, Environment, Failure};
use output::screen::Screen;

fn main() -> ExitCode {
    let mut args = std::env::args_os().map(text);
    let name = args.next().unwrap_or_default();
    let name = name.rsplit('/').next().unwrap_or_default().to_owned();
    let mut args: Vec<String> = args.collect();
    let program = match capstan::command(&name) {
        Some(command) => command.name,
        None => match args.first().and_then(|first| capstan::command(first)) {
            Some(command) => {
                args.remove(0);
                command.name
            }
            None => "capstan",
        },
    };
    if program == "startdocker" {
        // Before stdout and stderr are locked: it writes to them from a thread of its own.
        return startdocker::run(args);
    }
    let env = Environment(std::env::vars_os().filter_map(variable).collect());
    // What stands behind a program of theirs is not for us: `pbsdsh ls --help`.
    match program {
        "pbsdsh" if !asks_for_help(&args) => return pbsdsh::run(&args, &env),
        "pbs_track" if !asks_for_help(&args) => return pbs_track::run(&args),
        _ => {}
    }
    end(&Call { program, args, env })
}

/// `--help` and `--version` in the first place.
fn asks_for_help(args: &[String]) -> bool {
    let first = args.first().map(String::as_str);
    matches!(first, Some("--help" | "--version" | "--about"))
}

/// Runs the command, writes what it has to say, and ends.
fn end(call: &Call) -> ExitCode {
    let mut screen = Screen::new(std::io::stdout().lock());
    let mut stderr = std::io::stderr().lock();
    let outcome = run(call, &mut screen);
    let written = screen.finish(&mut stderr);
    let status = match outcome.and_then(|status| written.map(|()| status)) {
        Ok(status) => status,
        Err(Failure { status, text }) => {
            // Nobody is left to be told when stderr is closed.
            if !text.is_empty() && writeln!(stderr, "{text}").is_err() {
                return ExitCode::from(status);
            }
            status
        }
    };
    ExitCode::from(status)
}

fn run<W: Write>(call: &Call, screen: &mut Screen<W>) -> Result<u8, Failure> {
    if let Some(status) = capstan::answer(call, screen)? {
        return Ok(status);
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::new(1, format!("{}: cannot start: {error}", call.program)))?;
    let outcome = runtime.block_on(async {
        match call.program {
            "qsub" => qsub::run(call, screen).await,
            "qalter" => qalter::run(call, screen).await,
            "capstan" => complete::answer(call, screen).await.map(|()| 0),
            "tracejob" => tracejob::run(call, screen),
            "qstat" => qstat::run(call, screen).await,
            "qwhy" => qwhy::run(call, screen).await,
            "qselect" => qselect::run(call, screen).await,
            "qdel" => qdel::run(call, screen).await,
            "pbsnodes" => pbsnodes::run(call, screen).await,
            "qmove" => qmove::run(call, screen).await,
            "qrerun" => qrerun::run(call, screen).await,
            "qrun" => qrun::run(call, screen).await,
            "qorder" => qorder::run(call, screen).await,
            "qchkpt" => qchkpt::run(call, screen).await,
            "qmgr" => qmgr::run(call, screen).await,
            "migrate" => migrate::run(call, screen).await,
            "doctor" => doctor::run(call),
            "sim" => sim::run(call, screen),
            "replay" => replay::run(call),
            "qterm" => qterm::run(call, screen).await,
            "pbs_rsub" => reserve::submit(call, screen).await,
            "pbs_rstat" => reserve::list(call, screen).await,
            "pbs_rdel" => reserve::cancel(call, screen).await,
            "qenable" | "qdisable" | "qstart" | "qstop" => qenable::run(call, screen).await,
            "qsig" => qsig::run(call, screen).await,
            "qmsg" => qmsg::run(call, screen).await,
            "qfair" => qfair::run(call, screen).await,
            "chk_gpu" | "qgpu" => chk::gpu(call, screen).await,
            "chk_gpuused" => chk::gpu_used(call, screen).await,
            "chk_res" => chk::resources(call, screen).await,
            "k_log" => k_log::run(call, screen).await,
            "get_report" | "qreport" => get_report::run(call, screen).await,
            "qimages" | "getallreposimages" => qimages::run(call, screen).await,
            "qpeek" => qpeek::run(call, screen).await,
            "qattach" => qattach::run(call, screen).await,
            "qexec" => qexec::run(call).await,
            "qlog" | "dockerlog" => qpeek::log(call, screen).await,
            "momctl" => momctl::run(call, screen).await,
            "qgpumode" => qgpumode::run(call, screen).await,
            "qgpureset" => qgpureset::run(call, screen).await,
            // `qhold` and `qrls`; `capstan::answer` has dealt with any other name.
            _ => qhold::run(call, screen).await,
        }
    });
    // The process ends now: closing the connection is the kernel's work, which is faster than tearing it down here.
    std::mem::forget(runtime);
    outcome
}

/// An argument as text. One that is no UTF-8 names nothing that PBS can name; it is shown with replacement characters.
fn text(argument: OsString) -> String {
    argument
        .into_string()
        .unwrap_or_else(|raw| raw.to_string_lossy().into_owned())
}

fn variable((name, value): (OsString, OsString)) -> Option<(String, String)> {
    Some((name.into_string().ok()?, value.into_string().ok()?))
}
