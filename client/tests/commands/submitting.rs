//! `qsub` and `qalter` as whole programs: the recorded options, the submit filter, servers by name, waiting for the end.

use std::fs;
use std::os::unix::process::CommandExt;
use std::process::{Output, Stdio};
use std::time::{Duration, Instant};

use capstan_proto::wire::{JobAttributes, SubmitRequest};
use capstan_types::Pbse;

use super::{NOBODY, Stage, attribute, outcome};

/// Options, exit status and first line on stderr, as recorded from Torque 6.1.3 (`echo true | qsub OPTIONS`). What its server
/// refused ends with 0 here, because the fake one takes everything.
const RECORDED: &str = include_str!("recorded_options.tsv");

/// Runs a line of shell as an ordinary user, with the commands in the path.
fn shell(stage: &Stage, line: &str, env: &[(&str, &str)]) -> Output {
    let mut command = stage.command("capstan");
    let path = format!("{}:/usr/bin:/bin", stage.folder.path().display());
    // The same environment for another program.
    let mut shell = std::process::Command::new("/bin/sh");
    shell.env_clear();
    for (name, value) in command.get_envs() {
        if let Some(value) = value {
            shell.env(name, value);
        }
    }
    shell
        .args(["-c", line])
        .env("PATH", path)
        .envs(env.iter().copied())
        .current_dir(stage.folder.path())
        .stdin(Stdio::null());
    if nix::unistd::geteuid().is_root() {
        shell.uid(NOBODY).gid(NOBODY);
    }
    command.env_clear();
    shell.output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn value(request: &SubmitRequest, name: &str) -> String {
    let found = request.attributes.iter().find(|found| found.name == name);
    found.map(|found| found.value.clone()).unwrap_or_default()
}

#[test]
fn recorded_options_end_as_recorded() {
    let stage = Stage::new();
    for line in RECORDED.lines() {
        let mut fields = line.split('\t');
        let options = fields.next().unwrap();
        let status: i32 = fields.next().unwrap().parse().unwrap();
        let said = fields.collect::<Vec<_>>().join("\t");
        let output = shell(&stage, &format!("echo true | qsub {options}"), &[]);
        let stderr = text(&output.stderr);
        let first = stderr.lines().next().unwrap_or("");
        assert_eq!(
            (output.status.code(), first),
            (Some(status), said.as_str()),
            "{options}"
        );
        assert_eq!(output.stdout.is_empty(), status != 0, "{options}");
    }
}

#[test]
fn a_command_is_submitted_instead_of_a_script() {
    let stage = Stage::new();
    let output = shell(&stage, "qsub -N named -- /bin/echo \"it's\" -n", &[]);
    assert_eq!(text(&output.stdout), "1.hn1\n", "{}", text(&output.stderr));
    let output = shell(&stage, "qsub -- /bin/sleep 10", &[]);
    assert_eq!(text(&output.stdout), "2.hn1\n", "{}", text(&output.stderr));
    let world = stage.server.world();
    assert_eq!(
        text(&world.submitted[0].script),
        "exec '/bin/echo' 'it'\\''s' '-n'\n"
    );
    assert_eq!(value(&world.submitted[0], "Job_Name"), "named");
    assert_eq!(value(&world.submitted[1], "Job_Name"), "sleep");
}

#[test]
fn stdin_may_be_anything_and_is_asked_of_nobody_twice() {
    let stage = Stage::new();
    let output = stage.run_with("qsub", b"\x7fELF\x01\0\xff");
    assert_eq!(output, outcome("1.hn1\n", "", 0));
    assert_eq!(
        stage.server.world().submitted[0].script,
        b"\x7fELF\x01\0\xff"
    );
}

/// A site's file and filter in a stage; both belong to whoever owns the program there.
fn site(stage: &Stage, filter: &str) -> String {
    let path = stage.folder.path().join("filter");
    let make = format!("cat > '{0}' && chmod 755 '{0}'", path.display());
    let mut writer = std::process::Command::new("/bin/sh")
        .args(["-c", &make])
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    std::io::Write::write_all(&mut writer.stdin.take().unwrap(), filter.as_bytes()).unwrap();
    assert!(writer.wait().unwrap().success());
    let cfg = format!("SUBMITFILTER {}\nCLIENTRETRY 0\n", path.display());
    let cfg = stage.file("torque.cfg", cfg.as_bytes());
    cfg.display().to_string()
}

#[test]
fn the_sites_filter_changes_and_refuses_jobs() {
    let stage = Stage::new();
    let filter = "#!/bin/sh\necho '#PBS -A filtered'\necho '#PBS -N filtered'\ncat\n\
        for a; do [ \"$a\" = -h ] && { echo 'no holds' >&2; exit 255; }; done\nexit 0\n";
    let cfg = site(&stage, filter);
    let env = [("CAPSTAN_TORQUE_CFG", cfg.as_str())];
    let output = shell(&stage, "echo true | qsub -N typed", &env);
    assert_eq!(text(&output.stdout), "1.hn1\n", "{}", text(&output.stderr));
    {
        let world = stage.server.world();
        assert_eq!(
            text(&world.submitted[0].script),
            "#PBS -A filtered\n#PBS -N filtered\ntrue\n"
        );
        assert_eq!(value(&world.submitted[0], "Account_Name"), "filtered");
        assert_eq!(value(&world.submitted[0], "Job_Name"), "typed");
    }
    let output = shell(&stage, "echo true | qsub -h", &env);
    let said = "no holds\nqsub: Your job has been administratively rejected by the queueing system.\n\
        qsub: There may be a more detailed explanation prior to this notice.\n";
    assert_eq!(
        (text(&output.stderr).as_str(), output.status.code()),
        (said, Some(1))
    );
    fs::remove_file(stage.folder.path().join("filter")).unwrap();
    let output = shell(&stage, "echo true | qsub", &env);
    assert!(text(&output.stderr).starts_with("qsub: invalid submit filter: \""));
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(stage.server.world().submitted.len(), 1);
}

#[test]
fn a_file_that_a_user_wrote_sets_no_filter() {
    if !nix::unistd::geteuid().is_root() {
        // The program here belongs to this user, who may then say what counts.
        return;
    }
    let stage = Stage::new();
    let cfg = site(&stage, "#!/bin/sh\nexit 255\n");
    std::os::unix::fs::chown(&cfg, Some(NOBODY), Some(NOBODY)).unwrap();
    let output = shell(&stage, "echo true | qsub", &[("CAPSTAN_TORQUE_CFG", &cfg)]);
    assert_eq!(text(&output.stdout), "1.hn1\n", "{}", text(&output.stderr));
}

const ONCE: &str =
    "\nUnable to communicate with hn1(127.0.0.1)\nCannot connect to specified server host 'hn1'.\n";

/// A stage whose server is down, and whose name no resolver of the host knows.
fn deserted() -> Stage {
    let stage = Stage::without_server();
    stage.file("server_name", b"hn1\n");
    stage
}

#[test]
fn a_server_that_is_down_is_told_by_every_command() {
    let stage = deserted();
    let down = "(errno=111) Connection refused\n";
    for line in [
        "qsub",
        "qdel 1",
        "qhold 1",
        "qrls 1",
        "qalter -N x 1",
        "qsub -q batch@hn1",
    ] {
        let name = line.split(' ').next().unwrap();
        let text = format!("{ONCE}{name}: cannot connect to server hn1 {down}");
        let seen = stage.run(line);
        assert!(
            seen.stderr.contains("Unable to communicate with hn1("),
            "{seen:?}"
        );
        let seen_text = seen.stderr.replace(&address(&seen.stderr), "127.0.0.1");
        assert_eq!((seen_text, seen.status), (text, Some(111)), "{line}");
    }
    let seen = stage.run("pbsnodes");
    assert!(
        seen.stderr.ends_with(
            "\npbsnodes: cannot connect to server hn1, error=111 (Connection refused)\n"
        ),
        "{seen:?}"
    );
    assert_eq!(seen.status, Some(1));
    let seen = stage.run("qstat");
    let end = format!(
        "qstat: cannot connect to server hn1 {down}qstat: Error (-111 - Unknown error -111) \n"
    );
    assert!(seen.stderr.ends_with(&end), "{seen:?}");
    assert_eq!(seen.stderr.matches("Unable to communicate").count(), 3);
}

/// What stands in the brackets behind the server's name.
fn address(text: &str) -> String {
    let inside = text
        .split("hn1(")
        .nth(1)
        .and_then(|rest| rest.split(')').next());
    inside.unwrap_or("").to_owned()
}

#[test]
fn the_server_is_found_by_its_names() {
    let stage = Stage::new();
    stage.file("server_name", b"hn1.example.org\n");
    for name in ["hn1", "hn1.example.org", "hn1:15001", "localhost"] {
        let env = [("PBS_DEFAULT", name)];
        let output = shell(&stage, "echo true | qsub -z", &env);
        assert_eq!(
            output.status.code(),
            Some(0),
            "{name}: {}",
            text(&output.stderr)
        );
    }
    assert_eq!(stage.run("qsub -z -q @hn1").status, Some(0));
    assert_eq!(stage.run("qalter -N x 1.hn1@hn1").status, Some(0));
    let nowhere = "Can not resolve name for server nosuch.invalid. (rc = -2 - )\n\
        Cannot resolve specified server host 'nosuch.invalid'.\n";
    let what = "cannot connect to server nosuch.invalid (errno=15010) Access from host not allowed, or unknown host\n";
    for variable in ["PBS_DEFAULT", "PBS_SERVER"] {
        let output = shell(&stage, "echo true | qsub", &[(variable, "nosuch.invalid")]);
        assert_eq!(
            text(&output.stderr),
            format!("{nowhere}qsub: {what}"),
            "{variable}"
        );
        assert_eq!(output.status.code(), Some(162));
    }
    assert_eq!(
        stage.run("qalter -N x 1@nosuch.invalid"),
        outcome("", &format!("{nowhere}qalter: {what}"), 162)
    );
}

#[test]
fn block_waits_for_the_end_and_ends_like_the_job() {
    let stage = Stage::new();
    let job = |state: &str| JobAttributes {
        id: "1.hn1".into(),
        attributes: vec![attribute("job_state", state), attribute("exit_status", "3")],
        ..JobAttributes::default()
    };
    stage.server.world().jobs = vec![job("R")];
    let mut command = stage.command("qsub -W block=true");
    if nix::unistd::geteuid().is_root() {
        command.uid(NOBODY).gid(NOBODY);
    }
    let child = command.spawn().unwrap();
    let patience = Instant::now() + Duration::from_secs(30);
    while !stage
        .server
        .world()
        .heard
        .iter()
        .any(|heard| heard.starts_with("stat 1.hn1"))
    {
        assert!(Instant::now() < patience, "it never looks at its job");
        std::thread::yield_now();
    }
    stage.server.world().jobs = vec![job("C")];
    let output = child.wait_with_output().unwrap();
    assert_eq!(
        (text(&output.stdout).as_str(), output.status.code()),
        ("1.hn1\n", Some(3))
    );
}

#[test]
fn the_server_settles_contradictions_when_the_user_does_not() {
    let stage = Stage::new();
    let account = |env: &[(&str, &str)]| {
        let output = shell(&stage, "echo true | qsub -P physics", env);
        assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
        let world = stage.server.world();
        let last = world.submitted.last().unwrap();
        (value(last, "Account_Name"), value(last, "proxy_user"))
    };
    let (torque, pro) = (
        (String::new(), "physics".to_owned()),
        ("physics".to_owned(), String::new()),
    );
    assert_eq!(account(&[]), torque);
    assert_eq!(account(&[("CAPSTAN_DIALECT", "pbspro")]), pro);
    assert_eq!(account(&[("CAPSTAN_DIALECT", "torque")]), torque);
}

const ALTER_USAGE: &str = "\
usage: qalter                           [-a date_time] [-A account_string] [-c interval] [-e path] 
                          [-h hold_list] [-j y|n] [-k keep] [-l resource_list] [-m mail_options] 
                          [-M user_list] [-N jobname] [-o path] [-p priority] [-q] [-r y|n] [-S path] 
                          [-t [array_range[%slot_limit]] [-u user_list] [-v variable_list] 
                          [-W additional_attributes] [-x exec_host] job_identifier...
";

#[test]
fn qalter_sends_what_it_was_told() {
    let stage = Stage::new();
    let quiet = outcome("", "", 0);
    assert_eq!(
        stage.run("qalter -N new -l walltime=60 -v A=1 12.hn1"),
        quiet
    );
    assert_eq!(stage.run("qalter -t 1-2%4 -p 5 13[].hn1"), quiet);
    let heard = stage.heard();
    for part in [
        "job_id: \"12.hn1\"",
        "Job_Name",
        "replace_variables: true",
        "walltime",
    ] {
        assert!(heard[0].contains(part), "{heard:?}");
    }
    assert!(heard[1].contains("array_range: \"1-2%4\""), "{heard:?}");
}

#[test]
fn qalter_says_what_torque_says() {
    let stage = Stage::new();
    let misused = |first: &str| outcome("", &format!("{first}{ALTER_USAGE}"), 2);
    assert_eq!(stage.run("qalter"), misused(""));
    assert_eq!(stage.run("qalter -N x"), misused(""));
    assert_eq!(
        stage.run("qalter -W depend= 343.hn1"),
        misused("qalter: illegal -W value\n")
    );
    assert_eq!(
        stage.run("qalter -p x -N 9 -Z 1"),
        misused(
            "qalter: illegal -p value\nqalter: illegal -N value\nqalter: invalid option -- 'Z'\n"
        )
    );
    stage.refuse("99999", Pbse::Unkjobid, "");
    stage.refuse("12", Pbse::Perm, "");
    stage.refuse("13", Pbse::Modatrrun, "");
    assert_eq!(stage.run("qalter -N x 99999"), outcome("", "", 153));
    assert_eq!(
        stage.run("qalter -N x 12 99999 abc 13"),
        outcome(
            "",
            "qalter: Unauthorized Request  12.hn1\n\
             qalter: illegally formed job identifier: abc\n\
             qalter: Cannot modify attribute while job running  13.hn1\n",
            169
        )
    );
    // The last operand decides.
    assert_eq!(stage.run("qalter -N x 99999 14").status, Some(0));
}
