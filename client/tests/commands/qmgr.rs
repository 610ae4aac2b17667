//! `qmgr`, `qenable`, `qdisable`, `qstart`, `qstop`, `qterm` and `capstan migrate` as whole programs: recorded sessions of
//! Torque 6.1.3, and what they ask of the server.

use std::fs;
use std::io::Write;
use std::os::unix::fs::symlink;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use capstan_proto::wire::{Attribute, QueueRow};
use capstan_types::Pbse;

use super::{NOBODY, Outcome, Stage, attribute, outcome};

/// Sessions as they were recorded: case, user, command, stdout, stderr, exit status.
const RECORDED: &str = include_str!("recorded_qmgr.txt");

/// One command of a session.
struct Session {
    case: &'static str,
    user: &'static str,
    command: &'static str,
    outcome: Outcome,
}

fn sessions() -> Vec<Session> {
    let session = |text: &'static str| {
        let (case, rest) = text.split_once("\n[").unwrap();
        let (user, rest) = rest.split_once("]$ ").unwrap();
        let (command, rest) = rest.split_once("\n--- stdout\n").unwrap();
        let (stdout, rest) = rest.split_once("--- stderr\n").unwrap();
        let (stderr, status) = rest.split_once("--- exit ").unwrap();
        let outcome = outcome(stdout, stderr, status.trim().parse().unwrap());
        Session {
            case,
            user,
            command,
            outcome,
        }
    };
    RECORDED
        .split("=== ")
        .filter(|text| !text.is_empty())
        .map(session)
        .collect()
}

fn recorded(case: &str, command: &str) -> String {
    let found = sessions()
        .into_iter()
        .find(|s| s.case == case && s.command == command);
    found.unwrap().outcome.stdout
}

/// The attributes of a recorded `list`.
fn listed(text: &str) -> Vec<Attribute> {
    let pairs = text
        .lines()
        .filter_map(|line| line.strip_prefix('\t')?.split_once(" = "));
    let value = |name: &str, value: &str| match name {
        "mtime" => "1795319098".to_owned(),
        _ => value.to_owned(),
    };
    pairs
        .map(|(name, shown)| attribute(name, &value(name, shown)))
        .collect()
}

fn queue(name: &str, attributes: Vec<Attribute>) -> QueueRow {
    QueueRow {
        name: name.into(),
        attributes,
        ..QueueRow::default()
    }
}

/// The queues of a recorded `print`.
fn printed(text: &str) -> Vec<QueueRow> {
    let mut queues: Vec<QueueRow> = Vec::new();
    for line in text.lines() {
        let words: Vec<&str> = line.splitn(6, ' ').collect();
        match words.as_slice() {
            ["create", "queue", name] => queues.push(queue(name, Vec::new())),
            ["set", "queue", _, name, "=", value] => {
                queues
                    .last_mut()
                    .unwrap()
                    .attributes
                    .push(attribute(name, value));
            }
            ["set", "queue", _, _, "+=", value] => {
                let attributes = &mut queues.last_mut().unwrap().attributes;
                let last = attributes.last_mut().unwrap();
                last.value = format!("{},{value}", last.value);
            }
            _ => {}
        }
    }
    queues
}

/// A stage with the administrator's commands and the server that was recorded.
fn stage(user: &str, case: &str) -> Stage {
    let stage = Stage::new();
    for name in ["qmgr", "qenable", "qdisable", "qstart", "qstop", "qterm"] {
        symlink("capstan", stage.folder.path().join(name)).unwrap();
    }
    {
        let mut world = stage.server.world();
        world.queues = printed(&recorded("A02", "qmgr -c 'p s'"));
        let limitq = listed(&recorded("A04", "qmgr -c 'l q limitq'"));
        world
            .queues
            .iter_mut()
            .find(|row| row.name == "limitq")
            .unwrap()
            .attributes = limitq;
        if case == "A08" {
            let made = ["queue_type=Execution", "enabled=True", "started=True"];
            let made = made.map(|pair| pair.split_once('=').unwrap());
            let made = made
                .iter()
                .map(|(name, value)| attribute(name, value))
                .collect();
            world.queues.push(queue("tmpq", made));
        }
        world.server_attributes = listed(&recorded("A03", "qmgr -c 'list server'"));
    }
    stage.refuse("nosuch", Pbse::Unkque, "cannot locate queue nosuch");
    stage.refuse("manage nosuch", Pbse::Unkque, "");
    if user != "root" {
        let manager = "error in permissions (PERM_MANAGER)";
        let operator = "error in permissions (PERM_OPorMGR)";
        let about_batch = if case == "A07" { manager } else { operator };
        stage.refuse("manage ", Pbse::Perm, operator);
        stage.refuse("manage mine", Pbse::Perm, manager);
        stage.refuse("manage batch", Pbse::Perm, about_batch);
        stage.refuse("manage gpu01", Pbse::Perm, operator);
    }
    stage
}

/// Runs a line of shell as an ordinary user, with the commands in the path.
fn shell(stage: &Stage, line: &str, input: &str) -> Outcome {
    let folder = stage.folder.path();
    let mut shell = Command::new("/bin/sh");
    shell
        .args(["-c", line])
        .env_clear()
        .env("PATH", format!("{}:/usr/bin:/bin", folder.display()))
        .env("CAPSTAN_SERVER_SOCKET", stage.socket())
        .env("TZ", "UTC")
        .env("LANG", "C")
        .current_dir(folder)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    if nix::unistd::geteuid().is_root() {
        shell.uid(NOBODY).gid(NOBODY);
    }
    let mut child = shell.spawn().unwrap();
    // A command that needs no input may have ended before it is written.
    let written = child.stdin.take().unwrap().write_all(input.as_bytes());
    let output = child.wait_with_output().unwrap();
    assert!(written.is_ok() || input.is_empty() || output.status.code().is_some());
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Outcome {
        stdout: text(output.stdout),
        stderr: text(output.stderr),
        status: output.status.code(),
    }
}

#[test]
fn recorded_sessions_are_answered_to_the_letter() {
    let sessions = sessions();
    assert!(sessions.len() > 30, "{}", sessions.len());
    for Session {
        case,
        user,
        command,
        outcome,
    } in sessions
    {
        let seen = shell(&stage(user, case), command, "");
        assert_eq!(seen, outcome, "{case} [{user}]$ {command}");
    }
}

/// What the server heard of one `qmgr -c`, without the words that every request has.
fn asked(command: &str) -> Vec<String> {
    let stage = stage("root", "");
    let seen = shell(&stage, &format!("qmgr -c '{command}'"), "");
    assert_eq!(seen, outcome("", "", 0), "{command}");
    stage.heard()
}

#[test]
fn an_order_is_one_request_for_each_object() {
    let heard =
        asked("set queue batch,limitq acl_users = bob, acl_users += \"a@b,c\", enabled = t");
    assert_eq!(heard.len(), 2, "{heard:?}");
    for (name, request) in ["batch", "limitq"].iter().zip(&heard) {
        assert!(request.contains(&format!("name: \"{name}\"")), "{request}");
        let at = |text: &str| {
            request
                .find(text)
                .unwrap_or_else(|| panic!("{text} in {request}"))
        };
        // The attribute that was typed last goes first, what is added goes behind what is set.
        assert!(
            at("\"enabled\"") < at("\"bob\"") && at("\"bob\"") < at("\"a@b,c\""),
            "{request}"
        );
        assert!(
            at("operator: Assign, value: \"bob\"") < at("operator: Add"),
            "{request}"
        );
    }
    assert!(
        asked("unset server max_running")[0].contains("command: Unset, object: Server, name: \"\"")
    );
    assert!(
        asked("create node n1 np=8,gpus=4")[0]
            .contains("command: Create, object: Node, name: \"n1\"")
    );
}

#[test]
fn active_objects_are_meant_by_orders_without_names() {
    let stage = stage("root", "");
    let input = "active queue batch@default,limitq\nset queue max_running = 3\nactive queue\nactive queue nosuch@default\nset node np = 1\nactive server\n";
    let seen = shell(&stage, "qmgr", input);
    let stdout: Vec<&str> = seen
        .stdout
        .lines()
        .filter(|line| !input.lines().any(|typed| typed == *line))
        .collect();
    assert_eq!(
        stdout,
        [
            "Max open servers: 9",
            "Active queues:",
            "batch@default",
            "limitq@active",
            "Active servers:",
            "default"
        ]
    );
    let stderr = "qmgr: Unknown queue MSG=cannot locate queue nosuch.\nQueue does not exist: nosuch.\nNo Active Nodes, nothing done.\n";
    assert_eq!((seen.stderr.as_str(), seen.status), (stderr, Some(0)));
    let heard = stage.heard();
    let managed: Vec<&String> = heard
        .iter()
        .filter(|heard| heard.contains("max_running"))
        .collect();
    assert!(
        managed.len() == 2 && managed[0].contains("\"batch\"") && managed[1].contains("\"limitq\""),
        "{heard:?}"
    );
}

#[test]
fn several_commands_of_a_line_are_done_one_by_one() {
    let stage = stage("root", "");
    let seen = shell(
        &stage,
        "qmgr",
        "list server scheduling; list queue batch started # both\nlist queue nosuch",
    );
    let stdout = "Max open servers: 9\nlist server scheduling; list queue batch started # both\nServer hn1\n\tscheduling = True\n\nQueue batch\n\tstarted = True\n\nlist queue nosuch\n";
    let stderr = "qmgr obj=nosuch svr=default: Unknown queue MSG=cannot locate queue nosuch\n";
    // The last command's outcome is the exit status.
    assert_eq!(seen, outcome(stdout, stderr, 2));
}

#[test]
fn errors_of_listings_and_of_names_are_told() {
    let stage = stage("root", "");
    let check = |command: &str, stderr: &str, status: i32| {
        let seen = shell(&stage, &format!("qmgr -c '{command}'"), "");
        assert_eq!(seen, outcome("", stderr, status), "{command}");
    };
    check(
        "list queue batch enabled,nosuch",
        "qmgr obj=batch svr=default: Undefined attribute  nosuch\n",
        2,
    );
    stage.refuse("manage batch", Pbse::Noattr, "nosuch");
    check(
        "set queue batch nosuch = 1",
        "qmgr obj=batch svr=default: Undefined attribute  nosuch\n",
        2,
    );
    check("list queue", "No Active Queues, nothing done.\n", 0);
    check("print node @default", "qmgr: Error from server\n", 2);
    let nowhere = "Can not resolve name for server no.such.host.invalid. (rc = -2 - )\nCannot resolve specified server host 'no.such.host.invalid'.\nqmgr: cannot connect to server no.such.host.invalid (errno=15010) Access from host not allowed, or unknown host\n";
    check("list queue batch@no.such.host.invalid", nowhere, 2);
    let seen = shell(
        &stage,
        "qmgr -a -c 'list server scheduling' no.such.host.invalid",
        "",
    );
    assert_eq!(seen, outcome("", nowhere, 3));
    let seen = shell(&stage, "qmgr -c 'list server scheduling' hn1", "");
    assert_eq!(seen, outcome("Server hn1\n\tscheduling = True\n\n", "", 0));
    assert_eq!(
        shell(&stage, "qmgr -a -c 'frobnicate x'", "").status,
        Some(1)
    );
    assert_eq!(
        shell(&stage, "qmgr -z -c 'list queue nosuch'", ""),
        outcome("", "", 2)
    );
}

#[test]
fn without_a_server_qmgr_says_what_torque_says() {
    let stage = Stage::without_server();
    symlink("capstan", stage.folder.path().join("qmgr")).unwrap();
    for line in ["qmgr -c 'list server'", "echo list server | qmgr"] {
        let seen = shell(&stage, line, "");
        assert!(
            seen.stderr.contains("\nUnable to communicate with "),
            "{}",
            seen.stderr
        );
        assert!(
            seen.stderr
                .ends_with("qmgr: cannot connect to server  (errno=111) Connection refused\n"),
            "{}",
            seen.stderr
        );
        assert_eq!(seen.status, Some(3), "{line}");
    }
}

#[test]
fn a_command_of_any_bytes_has_an_answer() {
    let stage = stage("root", "");
    let input = "\0\u{1}set queue \u{fffd} x=\n'\n\"\n;;;#\n\\\nset \\";
    assert!(shell(&stage, "qmgr", input).status.is_some());
    assert!(
        shell(
            &stage,
            "head -c 3000 /dev/urandom | qmgr -n > /dev/null 2>&1",
            ""
        )
        .status
        .is_some()
    );
    let long = shell(&stage, "head -c 1100000 /dev/zero | tr '\\0' a | qmgr", "");
    assert_eq!(
        (long.stderr.as_str(), long.status),
        ("qmgr: a command is longer than 1048576 bytes\n", Some(1))
    );
}

#[test]
fn queues_are_named_with_or_without_their_server() {
    let stage = stage("root", "");
    assert_eq!(
        shell(&stage, "qstop batch limitq@hn1 @hn1", ""),
        outcome("", "", 0)
    );
    let heard = stage.heard();
    let named: Vec<bool> = ["\"batch\"", "\"limitq\"", "name: \"\""]
        .iter()
        .zip(&heard)
        .map(|(name, heard)| {
            heard.contains(name)
                && heard.contains("name: \"started\"")
                && heard.contains("\"FALSE\"")
        })
        .collect();
    assert_eq!(named, [true; 3], "{heard:?}");
    let seen = shell(&stage, "qenable nosuch batch@ batch", "");
    assert_eq!(
        seen,
        outcome(
            "",
            "qenable: Unknown queue nosuch\nqenable: illegally formed destination: batch@\n",
            1
        )
    );
}

#[test]
fn the_server_is_ended_quickly_or_not_at_all() {
    let stage = stage("root", "");
    assert_eq!(shell(&stage, "qterm", ""), outcome("", "", 0));
    assert_eq!(shell(&stage, "qterm -t QUICK hn1", ""), outcome("", "", 0));
    assert_eq!(stage.heard().len(), 2);
    let usage = "Usage: qterm [-t quick] [server ...]\n";
    assert_eq!(
        shell(&stage, "qterm -t immediate", ""),
        outcome("", usage, 1)
    );
    assert_eq!(
        shell(&stage, "qterm -x", ""),
        outcome("", &format!("qterm: invalid option -- 'x'\n{usage}"), 1)
    );
    stage.refuse("quick", Pbse::Perm, "");
    assert_eq!(
        shell(&stage, "qterm", ""),
        outcome("", "qterm: Unauthorized Request \n", 2)
    );
}

/// A Torque's home with two nodes and a dump.
fn home(stage: &Stage, dump: &str) {
    let folder = stage.folder.path().join("torque/server_priv");
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join("nodes"), "gpu01 np=4 gpus=2 fast\n").unwrap();
    fs::write(stage.folder.path().join("torque/qmgr.dump"), dump).unwrap();
}

const DUMP: &str =
    "create queue batch\nset queue batch queue_type = Execution\nset server scheduling = True\n";

#[test]
fn a_torque_is_printed_first_and_applied_when_asked() {
    let stage = stage("root", "");
    home(&stage, DUMP);
    let seen = shell(&stage, "capstan migrate --from-torque torque", "");
    assert!(
        seen.stdout
            .contains("create queue batch\nset queue batch queue_type = Execution\n"),
        "{seen:?}"
    );
    assert!(
        seen.stderr.contains("taken over (")
            && seen.stderr.contains("server_priv/nodes:1: node gpu01"),
        "{seen:?}"
    );
    assert_eq!((seen.status, stage.heard().len()), (Some(0), 0));
    stage.refuse("manage batch", Pbse::Ivalreq, "");
    let refused = shell(&stage, "capstan migrate --from-torque torque --apply", "");
    assert_eq!(refused.status, Some(1), "{refused:?}");
    // The recorded server has a queue of this name.
    assert!(
        refused.stderr.contains("queue batch is there already"),
        "{refused:?}"
    );
    let end = "capstan migrate: the server refused order 2 of 7:\n  set queue batch queue_type = Execution\n  Invalid request\nOrders 1 to 1 are carried out, none after it.\nhint: the same command may be run again when the reason is gone\n";
    assert!(refused.stderr.ends_with(end), "{refused:?}");
    stage.server.world().refusals.clear();
    stage.heard();
    let applied = shell(&stage, "capstan migrate --from-torque torque --apply", "");
    assert_eq!(
        (applied.stdout.as_str(), applied.status),
        ("", Some(0)),
        "{applied:?}"
    );
    assert!(
        applied.stderr.ends_with("7 orders were carried out.\n"),
        "{applied:?}"
    );
    let heard = stage.heard();
    let managed = heard.iter().filter(|heard| heard.contains("directives"));
    assert_eq!(managed.count(), 6, "{heard:?}");
}

#[test]
fn a_damaged_torque_is_not_applied_at_all() {
    let stage = stage("root", "");
    home(&stage, &format!("{DUMP}set queue batch\n"));
    let seen = shell(&stage, "capstan migrate --from-torque torque --apply", "");
    let stderr = "capstan migrate: qmgr.dump:4 is no order of qmgr:\nqmgr: Syntax error - attribute required for operation\nset queue batch\n               ^\nNothing was taken over.\n";
    assert_eq!(seen, outcome("", stderr, 1));
    assert_eq!(stage.heard().len(), 0);
    assert_eq!(shell(&stage, "capstan migrate", "").status, Some(2));
}
