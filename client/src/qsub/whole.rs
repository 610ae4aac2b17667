//! What can be judged only when all options are known, in the order in which Torque's qsub judges it.

use std::path::Path;
use std::process::{Command, Stdio};

use crate::command::{Environment, Failure};
use crate::torque_cfg::SiteFile;

use super::draft::Draft;
use super::options::misuse;
use super::request::Place;

/// What qsub finds around it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Surroundings<'a> {
    /// From where the job is submitted.
    pub(crate) place: &'a Place,
    /// The caller's variables.
    pub(crate) env: &'a Environment,
    /// The site's settings.
    pub(crate) site: &'a SiteFile,
    /// Whether stdin and stdout are a terminal.
    pub(crate) has_terminal: bool,
}

/// Checks the draft as a whole.
///
/// # Errors
/// The first thing that Torque's qsub refuses, in its words; what this server does not do yet, in ours.
pub(crate) fn check(draft: &Draft, around: &Surroundings<'_>) -> Result<(), Failure> {
    folders(draft, around.place, |folder| Path::new(folder).is_dir())?;
    resources(draft)?;
    if draft.get("idle_slot_limit").is_some() && !draft.is_array() {
        let text = "qsub: the idle array slot limit (-i) can only be applied to array jobs (-t)";
        return Err(Failure::new(4, text));
    }
    // Whoever sits at a terminal is told the whole of it below, not what he would mend in vain.
    if draft.forwards_x11 && !(draft.is_interactive && around.has_terminal) {
        x11(around)?;
    }
    interactive(draft, around.has_terminal)?;
    destination(&draft.destination)?;
    if draft.get("proxy_user") == Some("root") {
        return Err(Failure::new(1, "qsub can not be run as root"));
    }
    Ok(())
}

/// The folder of `-w`, which must exist here. (That of `-d` is checked when it is read, unless the site says otherwise.)
fn folders(draft: &Draft, place: &Place, is_folder: impl Fn(&str) -> bool) -> Result<(), Failure> {
    let is_missing = |folder: &&String| !is_folder(&place.absolute(folder));
    match draft.work_folder.as_ref().filter(is_missing) {
        Some(folder) => {
            let what =
                format!("qsub: Requested working directory '{folder}' is not a valid directory");
            let text = format!("{what}\nPlease specify a valid working directory.");
            Err(Failure::new(3, text))
        }
        None => Ok(()),
    }
}

/// Checks the folder of `-d`, which must exist here unless the site sets `VALIDATEPATH false`.
///
/// # Errors
/// It is no folder.
pub(crate) fn initial_folder(draft: &Draft, place: &Place, site: &SiteFile) -> Result<(), Failure> {
    let is_missing = |folder: &String| !Path::new(&place.absolute(folder)).is_dir();
    match draft.initial_folder.as_ref() {
        Some(folder) if is_missing(folder) && !site.is("VALIDATEPATH", "false") => {
            Err(misuse("qsub: illegal -d value"))
        }
        Some(_) | None => Ok(()),
    }
}

/// Mixes of resources that Torque refuses.
fn resources(draft: &Draft) -> Result<(), Failure> {
    const WITH_TASKS: [&str; 13] = [
        "mem", "hostlist", "ncpus", "procs", "pvmem", "pmem", "vmem", "reqattr", "software",
        "geometry", "opsys", "tpn", "trl",
    ];
    let refuse = |text: &str| Err(Failure::new(4, format!("qsub: {text}")));
    let [nodes, size, ncpus, mpp] = ["nodes", "size", "ncpus", "mppwidth"].map(|n| draft.asks(n));
    if (nodes && (size || ncpus)) || (size && ncpus) {
        return refuse("Jobs may not mix -l nodes with -l size or -l ncpus");
    }
    if mpp && (nodes || size || ncpus) {
        let name = match (nodes, size) {
            (true, _) => "nodes",
            (_, true) => "size",
            (false, false) => "ncpus",
        };
        return refuse(&format!(
            "Specifying -l {name} is incompatible with specifying -l mppwidth"
        ));
    }
    if draft.tasks.is_empty() {
        return Ok(());
    }
    if nodes || size || mpp {
        return refuse("resource requests cannot combine -L with -l nodes, size, or mppwidth");
    }
    if WITH_TASKS.iter().any(|name| draft.asks(name)) {
        return refuse(
            "resource requests cannot combine -L with -l memory, gres, geometry, opsys, reqattr, hostlist, or proc count requests",
        );
    }
    Ok(())
}

/// `-X` needs what X11 would be forwarded with. Of a job that is not interactive nothing is forwarded, as in Torque, and
/// so the secret stays here.
fn x11(around: &Surroundings<'_>) -> Result<(), Failure> {
    const DEFAULT: &str = "/usr/bin/xauth";
    let path = around.site.get("XAUTHPATH").unwrap_or(DEFAULT);
    let failed = misuse("qsub: Failed to get xauth data (check $DISPLAY variable)");
    if let Err(error) = std::fs::metadata(path) {
        let what = error.to_string();
        let what = what.split(" (os error").next().unwrap_or(&what).to_owned();
        let text = format!("qsub: xauth: : {what}\n{}", failed.text);
        return Err(Failure::new(failed.status, text));
    }
    let display = around.env.get("DISPLAY").unwrap_or("");
    let display = match display.strip_prefix("localhost:") {
        Some(number) => format!("unix:{number}"),
        None => display.to_owned(),
    };
    let asked = Command::new(path)
        .arg("list")
        .arg(display)
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output();
    let answer = asked.map(|output| output.stdout).unwrap_or_default();
    let first = answer.split(|&b| b == b'\n').next().unwrap_or(&[]);
    let words = String::from_utf8_lossy(first).split_whitespace().count();
    if words < 3 {
        return Err(failed);
    }
    Ok(())
}

fn interactive(draft: &Draft, has_terminal: bool) -> Result<(), Failure> {
    if !draft.is_interactive {
        return Ok(());
    }
    if draft.is_array() {
        let text = "qsub: interactive job can not be job array.";
        return Err(Failure::new(2, text));
    }
    if !has_terminal && !draft.runs_script {
        let text = "qsub:\tstandard input and output must be a terminal for \n\tinteractive job submission";
        return Err(Failure::new(1, text));
    }
    if draft.forwards_x11 {
        let why = "qsub: X11 is not forwarded (-X): the connection to a job carries its terminal and nothing else";
        let remedy = "leave -X out; for a window of a program, run it where the display is, or pass the display of a host \
                      that the node can reach with -v DISPLAY=HOST:N";
        return Err(Failure::new(1, format!("{why}\nqsub: {remedy}")));
    }
    Ok(())
}

/// `queue`, `@server`, `queue@server` or nothing.
fn destination(text: &str) -> Result<(), Failure> {
    let name = text.trim_start();
    let (queue, server) = match name.split_once('@') {
        Some((queue, server)) => (queue, Some(server)),
        None => (name, None),
    };
    let is_odd = |c: char| c.is_whitespace() || c.is_control();
    let is_malformed = queue.contains(is_odd)
        || server.is_some_and(|server| {
            server.is_empty() || server.contains(|c: char| is_odd(c) || c == '@')
        });
    match is_malformed {
        true => {
            let text = format!("qsub: illegally formed destination: {text}");
            Err(Failure::new(2, text))
        }
        false => Ok(()),
    }
}
