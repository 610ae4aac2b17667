//! From a command line to a request, and what is refused on the way: texts and exit statuses are the recorded ones.

use super::*;
use proptest::prelude::*;

fn environment() -> Environment {
    let pairs = [
        ("HOME", "/home/alice"),
        ("LOGNAME", "alice"),
        ("PATH", "/usr/bin:/bin"),
        ("SHELL", "/bin/bash"),
        ("LANG", "C"),
        ("SECRET", "s"),
    ];
    Environment(
        pairs
            .iter()
            .map(|&(name, value)| (name.to_owned(), value.to_owned()))
            .collect(),
    )
}

fn place() -> Place {
    Place {
        host: "hn1".to_owned(),
        folder: "/home/alice".to_owned(),
    }
}

/// What becomes of `qsub ARGS` with this script in the operand's place, where the site says this.
fn submit_at(
    site: &str,
    script: &[u8],
    args: &[&str],
) -> Result<capstan_proto::wire::SubmitRequest, Failure> {
    let env = environment();
    let dialect = dialect::from_environment(&env).unwrap_or_default();
    submit_in(&env, dialect, site, script, args)
}

fn submit_in(
    env: &Environment,
    dialect: Dialect,
    site: &str,
    script: &[u8],
    args: &[&str],
) -> Result<capstan_proto::wire::SubmitRequest, Failure> {
    let call = Call {
        program: "qsub",
        args: args.iter().map(|&arg| arg.to_owned()).collect(),
        env: env.clone(),
    };
    let parsed = call.parse(OPTIONS);
    let site = SiteFile::parse(site);
    let submission = Submission {
        parsed: &parsed,
        call: &call,
        site: &site,
        script: Script {
            bytes: script.to_vec(),
            default_name: "job.sh".to_owned(),
        },
        is_command: false,
        added: Vec::new(),
    };
    let draft = submission.draft(dialect)?;
    let place = place().named_by(&site);
    let around = Surroundings {
        place: &place,
        env,
        site: &site,
        has_terminal: false,
    };
    whole::initial_folder(&draft, &place, &site)?;
    whole::check(&draft, &around)?;
    request::build(draft, submission.script, &around, &call.args)
}

fn submit(script: &[u8], args: &[&str]) -> Result<capstan_proto::wire::SubmitRequest, Failure> {
    submit_at("", script, args)
}

fn attribute(request: &capstan_proto::wire::SubmitRequest, name: &str) -> String {
    let found = request.attributes.iter().filter(|a| a.name == name);
    let shown = found.map(|a| {
        if a.resource.is_empty() {
            a.value.clone()
        } else {
            format!("{}={}", a.resource, a.value)
        }
    });
    shown.collect::<Vec<_>>().join(",")
}

fn check(args: &[&str], name: &str, expected: &str) {
    let request = submit(b"true\n", args)
        .map_err(|failure| failure.text)
        .unwrap();
    assert_eq!(attribute(&request, name), expected, "{args:?}");
}

fn check_refused(args: &[&str], status: u8, first_line: &str) {
    let failure = submit(b"true\n", args).expect_err("it is refused");
    assert_eq!(
        (failure.status, failure.text.lines().next().unwrap_or("")),
        (status, first_line),
        "{args:?}"
    );
}

#[test]
fn options_become_attributes_in_pbs_spelling() {
    check(&["-N", "9start"], "Job_Name", "9start");
    check(&[], "Job_Name", "job.sh");
    check(&["-p", "-1024"], "Priority", "-1024");
    check(&["-p", "+7"], "Priority", "7");
    check(&["-r", "n"], "Rerunable", "False");
    check(&["-h"], "Hold_Types", "u");
    check(&["-j", "oe"], "Join_Path", "oe");
    check(&["-k", "oe"], "Keep_Files", "oe");
    check(&["-m", "abe"], "Mail_Points", "abe");
    check(&["-M", "bob@hn1,carol"], "Mail_Users", "bob@hn1,carol");
    check(
        &["-S", "/bin/sh@gpu01,/bin/bash"],
        "Shell_Path_List",
        "/bin/sh@gpu01,/bin/bash",
    );
    check(&["-A", "myacct"], "Account_Name", "myacct");
    check(&["-F", "a b c"], "job_arguments", "a b c");
    check(&["-K", "5"], "user_kill_delay", "5");
    check(&["-t", "0-2%"], "job_array_request", "0-2%");
    check(&["-c", "interval=5"], "Checkpoint", "interval=5");
    check(&["-W", "depend=afterok:1"], "depend", "afterok:1");
    check(&["-a", "200001010000.00"], "submit_host", "hn1");
    check(
        &["-l", "nodes=1:ppn=2,mem=1gb", "-l", "mem=2gb"],
        "Resource_List",
        "nodes=1:ppn=2,mem=2gb",
    );
    check(
        &["-N", "named", "-h", "x.sh"],
        "submit_args",
        "-N named -h x.sh",
    );
}

#[test]
fn output_paths_become_absolute_and_name_the_host() {
    check(&["-o", "my.out"], "Output_Path", "hn1:/home/alice/my.out");
    check(&["-o", "out/"], "Output_Path", "hn1:/home/alice/out/");
    check(
        &["-o", "/ghome/alice/$PBS_JOBID.out"],
        "Output_Path",
        "hn1:/ghome/alice/$PBS_JOBID.out",
    );
    check(&["-o", "other:rel"], "Output_Path", "other:rel");
    check(&["-o", "/a:b"], "Output_Path", "hn1:/a:b");
    check(&["-w", "/tmp", "-e", "x"], "Error_Path", "hn1:/tmp/x");
    check(&["-d", "/usr", "-e", "x"], "Error_Path", "hn1:/usr/x");
    check(&["-e", "/tmp"], "Error_Path", "hn1:/tmp/");
    check(&["-j", "oe", "-o", "x"], "Error_Path", "hn1:/home/alice/x");
    check(&[], "Output_Path", "");
    check(&["-o", "$HOME/x"], "Output_Path", "hn1:/home/alice/x");
    check(
        &["-w", "/tmp", "-o", "${PBS_O_WORKDIR}/x"],
        "Output_Path",
        "hn1:/tmp/x",
    );
    check(
        &["-o", "$PBS_JOBID.out"],
        "Output_Path",
        "hn1:/home/alice/$PBS_JOBID.out",
    );
    check(
        &["-o", "$HOMER/x"],
        "Output_Path",
        "hn1:/home/alice/$HOMER/x",
    );
}

#[test]
fn variables_come_in_the_order_of_torque() {
    let names = |args: &[&str]| {
        let request = submit(b"true\n", args).unwrap();
        let shown: Vec<_> = request
            .variables
            .iter()
            .map(|v| format!("{}={}", v.name, v.value))
            .collect();
        shown.join(",")
    };
    let before = "PBS_O_HOME=/home/alice,PBS_O_LOGNAME=alice,PBS_O_PATH=/usr/bin:/bin,PBS_O_SHELL=/bin/bash,PBS_O_LANG=C";
    assert_eq!(
        names(&["-v", "FOO=bar"]),
        format!("{before},FOO=bar,PBS_O_WORKDIR=/home/alice,PBS_O_HOST=hn1")
    );
    assert_eq!(
        names(&["-V", "-v", "HOME=/x", "-d", "/tmp"]),
        format!(
            "{before},HOME=/x,LOGNAME=alice,PATH=/usr/bin:/bin,SHELL=/bin/bash,LANG=C,SECRET=s,\
             PBS_O_INITDIR=/tmp,PBS_O_WORKDIR=/tmp,PBS_O_HOST=hn1"
        )
    );
}

#[test]
fn the_demo_script_is_understood() {
    let script = b"#PBS    -N  testjob\n#PBS    -o  /ghome/alice/$PBS_JOBID.out\n#PBS\t-e  /ghome/alice/$PBS_JOBID.err\n\
        #PBS    -l nodes=1:gpus=1:S\n#PBS    -r y\n#PBS    -q mcc\n#PBS \ncd $PBS_O_WORKDIR\n#PBS -N late\n";
    let request = submit(script, &[]).unwrap();
    assert_eq!(request.destination, "mcc");
    assert_eq!(request.script, script);
    assert_eq!(attribute(&request, "Job_Name"), "testjob");
    assert_eq!(
        attribute(&request, "Error_Path"),
        "hn1:/ghome/alice/$PBS_JOBID.err"
    );
    assert_eq!(attribute(&request, "Resource_List"), "nodes=1:gpus=1:S");
    assert_eq!(attribute(&request, "Rerunable"), "True");
}

#[test]
fn another_prefix_reads_other_directives() {
    let script = b"#PBS -N pbsname\n#XX -N xxname\ntrue\n";
    let name = |args: &[&str]| attribute(&submit(script, args).unwrap(), "Job_Name");
    assert_eq!(name(&[]), "pbsname");
    assert_eq!(name(&["-C", "#XX"]), "xxname");
    assert_eq!(name(&["-C", ""]), "job.sh");
}

#[test]
fn bad_values_are_refused_in_the_words_of_torque() {
    for (option, value) in [
        ('p', "2000"),
        ('p', "-1025"),
        ('p', "abc"),
        ('a', "9999"),
        ('a', "abc"),
        ('a', "2530"),
        ('j', "xx"),
        ('k', "x"),
        ('m', "x"),
        ('M', "@"),
        ('S', "bash"),
        ('S', "/bin/sh,/bin/bash"),
        ('c', "x"),
        ('N', "has space"),
        ('d', "/nosuchdir"),
        ('K', "x"),
        ('K', "0"),
        ('o', ""),
        ('o', "a b"),
        ('R', "x"),
        ('l', "nodes=1,procs=2"),
        ('l', "nodes=1,"),
    ] {
        check_refused(
            &[&format!("-{option}"), value],
            2,
            &format!("[qsub: illegal -{option} value]"),
        );
    }
    check_refused(&["-r", "x"], 2, "[qsub: illegal -r value (y/n)]");
    check_refused(&["-i", "x"], 2, "[qsub: illegal -i value 'x']");
    check_refused(&["-P", "root"], 1, "qsub can not be run as root");
    check_refused(&["-x"], 2, "[qsub: '-x' invalid on non-interactive job]");
    check_refused(&["-X"], 2, "[qsub: DISPLAY not set]");
    check_refused(
        &["-J", "5"],
        2,
        "[The -J option can only be used in conjunction with -P]",
    );
    check_refused(&["--nosuch"], 2, "[a single - is not a valid option]");
    check_refused(&["-Z"], 2, "qsub: invalid option -- 'Z'");
    check_refused(&["-l"], 2, "qsub: option requires an argument -- 'l'");
    check_refused(&["-q", "@"], 2, "qsub: illegally formed destination: @");
    check_refused(
        &["-q", "bad queue"],
        2,
        "qsub: illegally formed destination: bad queue",
    );
}

#[test]
fn what_does_not_go_together_is_refused_in_the_words_of_torque() {
    check_refused(
        &["-w", "/nosuchdir"],
        3,
        "qsub: Requested working directory '/nosuchdir' is not a valid directory",
    );
    check_refused(
        &["-l", "nodes=1,ncpus=2"],
        4,
        "qsub: Jobs may not mix -l nodes with -l size or -l ncpus",
    );
    for (args, name) in [
        (["-l", "nodes=1", "-l", "mppwidth=2"], "nodes"),
        (["-l", "size=1", "-l", "mppwidth=2"], "size"),
        (["-l", "ncpus=1", "-l", "mppwidth=2"], "ncpus"),
    ] {
        let text =
            format!("qsub: Specifying -l {name} is incompatible with specifying -l mppwidth");
        check_refused(&args, 4, &text);
    }
    check_refused(
        &["-L", "tasks=1", "-l", "nodes=1"],
        4,
        "qsub: resource requests cannot combine -L with -l nodes, size, or mppwidth",
    );
    check_refused(
        &["-L", "tasks=1", "-l", "mem=1gb"],
        4,
        "qsub: resource requests cannot combine -L with -l memory, gres, geometry, opsys, reqattr, hostlist, or proc count requests",
    );
    check_refused(
        &["-i", "3"],
        4,
        "qsub: the idle array slot limit (-i) can only be applied to array jobs (-t)",
    );
    check_refused(
        &["-I", "-t", "0-1"],
        2,
        "qsub: interactive job can not be job array.",
    );
    check_refused(
        &["-W", "interactive=true"],
        1,
        "qsub:\tstandard input and output must be a terminal for ",
    );
}

#[test]
fn the_usage_is_the_recorded_one() {
    let text = submit(b"true\n", &["-Z"]).unwrap_err().text;
    let expected = "\
qsub: invalid option -- 'Z'
[exiting]

usage: qsub [-a date_time] [-A account_string] [-b secs]
    [-c [ none | { enabled | periodic | shutdown |
    depth=<int> | dir=<path> | interval=<minutes>}... ]
    [-C directive_prefix] [-d path] [-D path]
    [-e path] [-h] [-I] [-j oe|eo|n] [-k {oe}] [-K <kill delay seconds>] 
    [-l resource_list] [-m n|{abe}] [-M user_list] [-N jobname] [-o path] 
    [-p priority] [-P proxy_user [-J <jobid]] [-q queue] [-r y|n] 
    [-S path] [-t number_to_submit] [-T type]  [-u user_list] [-w] path
    [-W additional_attributes] [-v variable_list] [-V ] [-x] [-X] [-z] [script]
";
    assert_eq!(text, expected);
}

#[test]
fn the_site_sets_defaults_that_options_override() {
    let site = "DEFAULTCKPT periodic\nRERUNNABLEBYDEFAULT false\nFAULTTOLERANTBYDEFAULT true\nQSUBHOST login\n\
        HOST_NAME_SUFFIX .example.org\nVALIDATEPATH false\nQSUBSENDUID true\n";
    let request = submit_at(site, b"true\n", &["-o", "x", "-d", "/nosuchdir"]).unwrap();
    let value = |name: &str| attribute(&request, name);
    assert_eq!(value("Checkpoint"), "periodic");
    assert_eq!(value("Rerunable"), "False");
    assert_eq!(value("fault_tolerant"), "True");
    assert_eq!(value("submit_host"), "login.example.org");
    assert_eq!(value("Output_Path"), "login.example.org:/nosuchdir/x");
    let uid = nix::unistd::getuid().to_string();
    let sent = request.variables.iter().find(|v| v.name == "PBS_O_UID");
    assert_eq!(sent.map(|v| v.value.as_str()), Some(uid.as_str()));
    let request = submit_at(site, b"true\n", &["-c", "n", "-r", "y"]).unwrap();
    assert_eq!(attribute(&request, "Checkpoint"), "n");
    assert_eq!(attribute(&request, "Rerunable"), "True");
}

#[test]
fn what_only_pbs_pro_knows_is_always_understood() {
    check(&["-J", "0-9:3"], "array_indices_submitted", "0-9:3");
    check(
        &["-J", "1-4%2", "-i", "1"],
        "array_indices_submitted",
        "1-4%2",
    );
    check(&["-k", "oed"], "Keep_Files", "n");
    check(&["-R", "o"], "Output_Path", "hn1:/dev/null");
    check(&["-R", "o"], "Error_Path", "");
    check(&["-R", "oe", "-e", "x"], "Error_Path", "hn1:/dev/null");
    let select = "select=2:ncpus=8:ngpus=4:mem=32gb,place=scatter:excl";
    check(
        &[
            "-l",
            "select=2:ncpus=8:ngpus=4:mem=32gb",
            "-l",
            "place=scatter:excl",
        ],
        "Resource_List",
        select,
    );
    check(&["-W", "block=true"], "block", "");
}

#[test]
fn contradictions_are_settled_by_the_dialect() {
    let env = environment();
    let said = |dialect, args: &[&str], name: &str| {
        attribute(
            &submit_in(&env, dialect, "", b"true\n", args).unwrap(),
            name,
        )
    };
    use Dialect::{Pro, Torque};
    assert_eq!(said(Torque, &["-P", "bob"], "proxy_user"), "bob");
    assert_eq!(said(Pro, &["-P", "physics"], "Account_Name"), "physics");
    assert_eq!(said(Torque, &["-W", "umask=33"], "umask"), "33");
    assert_eq!(said(Pro, &["-W", "umask=33"], "umask"), "27");
    assert_eq!(said(Torque, &["-f"], "fault_tolerant"), "True");
    assert_eq!(said(Pro, &["-f"], "fault_tolerant"), "");
    assert_eq!(
        said(Torque, &["-P", "bob", "-J", "1-2"], "job_array_request"),
        ""
    );

    let mut env = environment();
    env.0.push(("PBS_DPREFIX".to_owned(), "#XX".to_owned()));
    let name = |dialect, args: &[&str]| {
        let script = b"#PBS -N pbsname\n#XX -N xxname\ntrue\n";
        let request = submit_in(&env, dialect, "", script, args).unwrap();
        attribute(&request, "Job_Name")
    };
    assert_eq!(name(Torque, &[]), "pbsname");
    assert_eq!(name(Pro, &[]), "xxname");
    assert_eq!(name(Pro, &["-C", "#PBS"]), "pbsname");
}

#[test]
fn root_is_refused_in_the_words_of_torque() {
    let no = Refusal::new(Pbse::Baduser, "root user root not allowed");
    let root = refused(&no, "", true);
    assert_eq!(root, Failure::new(1, "qsub can not be run as root"));
    let text = "qsub: submit error (Bad UID for job execution MSG=root user root not allowed)";
    assert_eq!(refused(&no, "", false), Failure::new(177, text));
}

proptest! {
    #[test]
    fn any_bytes_as_a_script_are_read(script in proptest::collection::vec(any::<u8>(), 0..200)) {
        prop_assert!(matches!(submit(&script, &[]), Ok(_) | Err(_)));
        let mut directive = b"#PBS ".to_vec();
        directive.extend(script);
        prop_assert!(matches!(submit(&directive, &[]), Ok(_) | Err(_)));
    }

    #[test]
    fn what_is_printed_as_a_directive_is_read_as_it_was(words in proptest::collection::vec("[ -~]{0,12}", 1..6)) {
        let quoted = |word: &String| match word.contains('\'') {
            // Quotes do not nest: an apostrophe leaves them for a moment.
            true => format!("'{}'", word.replace('\'', "'\\''")),
            false => format!("'{word}'"),
        };
        let line = words.iter().map(quoted).collect::<Vec<_>>().join(" ");
        let script = format!("#PBS {line}\ntrue\n");
        let read = capstan_types::directives(script.as_bytes(), "#PBS").unwrap();
        prop_assert_eq!(&read[0].arguments, &words);
    }

    #[test]
    fn any_arguments_and_any_script_are_read(
        args in proptest::collection::vec("(-[a-zA-Z-]{0,3})?[\\PC]{0,12}", 0..6),
        script in "(#PBS[ -~\t]{0,30}\r?\n|[\\PC\n]{0,20}){0,5}",
    ) {
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        // Only whether it ends matters here; what it says is for the tests above.
        prop_assert!(matches!(submit(script.as_bytes(), &args), Ok(_) | Err(_)));
    }

    #[test]
    fn any_argument_of_a_known_option_is_read(option in "[aAcdDeFiIjJkKlLmMNopPqrRStTuvwWxX]", value in "[ -~]{0,20}") {
        let option = format!("-{option}");
        prop_assert!(matches!(submit(b"true\n", &[&option, &value]), Ok(_) | Err(_)));
    }
}
