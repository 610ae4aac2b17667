//! What a submission becomes, or the words with which it is refused: sessions B05, B07, B08, B10, B13, F03 and G03 of
//! Torque.

use capstan_core::MembersWait;
use capstan_proto::wire::{Attribute, SubmitRequest, Variable};
use proptest::prelude::*;

use super::*;

fn person(uid: u32) -> Person {
    Person {
        user: "alice".into(),
        uid,
        group: "alice".into(),
        host: "hn1".into(),
    }
}

fn read_as(request: SubmitRequest, uid: u32, is_manager: bool) -> Result<Submission, Refusal> {
    let server = ServerName::from("hn1");
    let rules = Rules {
        server: &server,
        root_may_submit: false,
        is_operator: is_manager,
        is_manager,
        dialect: Dialect::Torque,
        person: &|user| {
            (user == "bob").then(|| Person {
                user: user.into(),
                uid: 1001,
                group: "bob".into(),
                host: "elsewhere".into(),
            })
        },
        membership: &|_, group| match group {
            "physics" => Membership::Member,
            "root" => Membership::Stranger,
            _ => Membership::NoGroup,
        },
    };
    read(request, &person(uid), &rules)
}

fn request(attributes: &[(&str, &str)]) -> SubmitRequest {
    let attributes = attributes.iter().map(|(name, value)| {
        let (name, resource) = name.split_once('.').unwrap_or((name, ""));
        Attribute {
            name: name.to_owned(),
            resource: resource.to_owned(),
            value: (*value).to_owned(),
        }
    });
    let variable = Variable {
        name: "PBS_O_WORKDIR".to_owned(),
        value: "/home/alice".to_owned(),
    };
    SubmitRequest {
        script: b"true\n".to_vec(),
        attributes: attributes.collect(),
        variables: vec![variable],
        destination: String::new(),
    }
}

#[test]
fn a_folder_whose_name_holds_a_line_is_not_shown_as_the_jobs() {
    let mut request = request(&[]);
    for (name, value) in [
        ("PBS_O_WORKDIR", "/tmp/\n    job_state = R\u{1b}[2J"),
        ("PBS_O_INITDIR", "/\u{9b}2J"),
        ("PBS_O_HOME", "/home/alice"),
    ] {
        request.variables.retain(|known| known.name != name);
        request.variables.push(Variable {
            name: name.to_owned(),
            value: value.to_owned(),
        });
    }
    let spec = read_as(request, 1000, false).unwrap().spec;
    assert_eq!(
        (&*spec.work_folder, &*spec.initial_folder),
        ("/home/alice", "")
    );
}

fn taken(attributes: &[(&str, &str)]) -> Submission {
    read_as(request(attributes), 1000, false).unwrap()
}

/// The exit status of `qsub` and the text in its brackets.
fn check(name: &str, value: &str, exit: u8, text: &str) {
    let refusal = read_as(request(&[(name, value)]), 1000, false).expect_err(value);
    let seen = (refusal.error.exit_status(), refusal.text());
    assert_eq!(seen, (exit, text.to_owned()), "{name}={value}");
}

#[test]
fn bad_resources_are_refused_in_the_words_of_torque() {
    let bad = |name: &str, value: &str| {
        let full = format!("Resource_List.{name}");
        check(
            &full,
            value,
            168,
            &format!("Illegal attribute or resource value for {full}"),
        );
    };
    check(
        "Resource_List.nosuchres",
        "1",
        189,
        "Unknown resource type  Resource_List.nosuchres",
    );
    for value in ["abc", "1:2:3:4:5", "-5"] {
        bad("walltime", value);
    }
    for value in ["4zb", "abc"] {
        bad("mem", value);
    }
    bad("ncpus", "abc");
    bad("procs", "abc");
    bad("nice", "abc");
    bad("file", "x");
    bad("cput", "1:xx");
    for value in ["", "2x", "1 :ppn=2", "1+", ":ppn=1", "cpu01/0"] {
        bad("nodes", value);
    }
    for value in ["0", "1:ppn=0", "1:ppn=x", "1:ppn=", "1:gpus=x", "1:foo=bar"] {
        let text = "Command syntax invalid MSG=Invalid Syntax";
        check("Resource_List.nodes", value, 27, text);
    }
    check(
        "Resource_List.nodes",
        "1:gpus=1:prohibited",
        68,
        "Invalid gpu mode requested. Prohibited mode is not allowed. Check the spelling of the \
         mode request for errors",
    );
    check(
        "Resource_List.nodect",
        "3",
        155,
        "Cannot set attribute, read only or insufficient permission  Resource_List.nodect",
    );
}

#[test]
fn other_bad_attributes_are_refused_in_the_words_of_torque() {
    let unknown = "Undefined attribute  MSG=detected presence of an unknown attribute";
    check("foo", "bar", 154, unknown);
    check("depend", "afterok", 208, "Invalid Job Dependency");
    check("depend", "afterok:", 208, "Invalid Job Dependency");
    for list in ["x", "5-2", "1-", "1-3:2", "a", ""] {
        check("job_array_request", list, 235, "Bad Job Array Request");
    }
    check(
        "User_List",
        "bob@hn1",
        177,
        "Bad UID for job execution MSG=ruserok failed validating alice/bob from hn1",
    );
    check(
        "proxy_user",
        "bob",
        177,
        "Bad UID for job execution MSG=User 'alice' is attempting to submit a proxy job for user \
         'bob' but is not a manager",
    );
    check(
        "group_list",
        "nosuchgrp",
        199,
        "Bad GID for job execution MSG=cannot locate group nosuchgrp in server group file",
    );
    check(
        "group_list",
        "root",
        199,
        "Bad GID for job execution MSG=user alice is not a member of group root in server \
         password file",
    );
    check("Hold_Types", "s", 159, "Unauthorized Request ");
    check(
        "comment",
        "x",
        155,
        "Cannot set attribute, read only or insufficient permission  comment",
    );
    let served = "This functionality is not yet implemented MSG=req_information";
    check("req_information", "tasks=1", 254, served);
    for (name, value) in [
        ("Job_Name", "has space"),
        ("Priority", "2000"),
        ("Rerunable", "x"),
        ("umask", "01000"),
        ("Execution_Time", "soon"),
        ("Output_Path", "/a\nb"),
        ("init_work_dir", "relative"),
        ("stagein", "foo"),
        ("stageout", "a@hn1"),
        ("Checkpoint", "x"),
        ("jobtype", "../x"),
        ("idle_slot_limit", "0"),
    ] {
        check(
            name,
            value,
            168,
            &format!("Illegal attribute or resource value for {name}"),
        );
    }
}

/// Session B13: what is taken beside the usual.
#[test]
fn rare_attributes_are_taken_and_typed() {
    let submission = taken(&[
        ("stagein", "a@hn1:/tmp/b,c@hn1:/tmp/d"),
        ("stageout", "e@hn1:/tmp/f"),
        ("jobtype", "foo"),
        ("Checkpoint", "interval=5"),
        ("checkpoint_dir", "/scratch"),
        ("job_array_request", "0-9%3"),
        ("idle_slot_limit", "2"),
        ("x", "FLAGS:ADVRES"),
        ("interactive", "False"),
    ]);
    let spec = &submission.spec;
    let stagein: Vec<String> = spec.stagein.iter().map(ToString::to_string).collect();
    assert_eq!(stagein, ["a@hn1:/tmp/b", "c@hn1:/tmp/d"]);
    assert_eq!(spec.stageout[0].to_string(), "e@hn1:/tmp/f");
    assert_eq!(&*spec.job_type, "foo");
    let array = spec.array.as_ref().unwrap();
    assert_eq!((array.slot_limit, array.idle_limit), (Some(3), Some(2)));
    assert!(!spec.shown.iter().any(|(name, _)| &**name == "interactive"));
    let interactive = taken(&[("interactive", "40123")]);
    let mut shown = interactive.spec.shown.iter();
    assert!(shown.any(|(name, value)| (&**name, &**value) == ("interactive", "True")));
    let steps = taken(&[("array_indices_submitted", "0-9:3")]);
    let indices = &steps.spec.array.unwrap().indices;
    assert_eq!(indices.to_string(), "0,3,6,9");
}

#[test]
fn every_kind_of_dependency_is_read() {
    let job = |seq| JobId::whole(seq);
    let members = |condition, count| {
        let array = JobId::array(7);
        Tie::Members(MembersWait {
            condition,
            array,
            count,
        })
    };
    let check = |text: &str, depends: &[(Condition, JobId)], ties: &[Tie]| {
        let submission = taken(&[("depend", text)]);
        assert_eq!(
            (&*submission.depends, &*submission.ties),
            (depends, ties),
            "{text}"
        );
    };
    check("after:1", &[(Condition::After, job(1))], &[]);
    check(
        "beforeok:1:2",
        &[],
        &[
            Tie::Before(Condition::AfterOk, job(1)),
            Tie::Before(Condition::AfterOk, job(2)),
        ],
    );
    check(
        "on:2,afterany:3",
        &[(Condition::AfterAny, job(3))],
        &[Tie::On(2)],
    );
    check("synccount:1", &[], &[Tie::SyncCount(1)]);
    check("syncwith:5.hn1", &[], &[Tie::SyncWith(job(5))]);
    check(
        "afterokarray:7[]",
        &[],
        &[members(Condition::AfterOk, None)],
    );
    check(
        "afterstartarray:7[][3]",
        &[],
        &[members(Condition::After, Some(3))],
    );
    let before = Tie::Before(Condition::AfterAny, JobId::array(7));
    check("beforeanyarray:7[][3]", &[], &[before]);
}

#[test]
fn chunks_of_pbs_pro_are_understood_and_other_texts_are_torques() {
    let submission = taken(&[
        ("Resource_List.select", "2:ncpus=8:ngpus=4:mem=32gb"),
        ("Resource_List.place", "scatter:excl"),
        ("Resource_List.walltime", "60"),
    ]);
    let spec = &submission.spec;
    assert_eq!(spec.select.as_ref().unwrap().totals().ncpus, 16);
    assert_eq!(spec.placing.as_ref().unwrap().to_string(), "scatter:excl");
    let opaque = taken(&[("Resource_List.select", "whatever it is")]);
    assert_eq!(opaque.spec.select, None);
    assert_eq!(opaque.spec.resources.get("select"), Some("whatever it is"));
    let refused = |attributes: &[(&str, &str)]| {
        let refusal = read_as(request(attributes), 1000, false).unwrap_err();
        (refusal.error, refusal.detail)
    };
    let place = ("Resource_List.place", "pack");
    assert_eq!(
        refused(&[place]),
        (Pbse::Unkresc, "Resource_List.place".into())
    );
    let mixed = [
        ("Resource_List.select", "1:ncpus=1"),
        ("Resource_List.mem", "1gb"),
    ];
    let text = "\"-lresource=\" cannot be used with \"select\" or \"place\", resource is: mem";
    assert_eq!(refused(&mixed), (Pbse::Ivalreq, text.into()));
    let gpus = taken(&[("Resource_List.gpus", "2")]);
    assert_eq!(gpus.spec.resources.get("gres"), Some("gpus:2"));
}

#[test]
fn what_minus_l_says_of_cards_is_kept_in_one_form() {
    let keeps = |name: &str, value: &str, kept: &str, shown: &str| {
        let spec = taken(&[(&format!("Resource_List.{name}"), value)]).spec;
        assert_eq!(spec.resources.get(kept), Some(shown), "{name}={value}");
    };
    keeps("gpus", "1:rtx4090", "gres", "gpus:1:rtx4090");
    keeps(
        "ngpus",
        "2:3090|a40:gpumem>=24gb",
        "gres",
        "gpus:2:3090|a40:gpumem>=24gb",
    );
    keeps("gpumem>", "24gb", "gpumem", "24gb");
    keeps("cuda>", "12.1", "cuda", "12.1");
    keeps("cc", "8", "cc", "8.0");
    keeps("gpu_model", "a100-80gb|h100", "gpu_model", "a100-80gb|h100");
    let bad = |name: &str| format!("Illegal attribute or resource value for Resource_List.{name}");
    check("Resource_List.gpus", "1:a|", 168, &bad("gpus"));
    check("Resource_List.gpus", "1:a+1", 168, &bad("gpus"));
    check("Resource_List.gpus", "x", 168, &bad("gpus"));
    check("Resource_List.cuda>", "new", 168, &bad("cuda"));
    check("Resource_List.gpu_model", "a b", 168, &bad("gpu_model"));
    check(
        "Resource_List.nosuch>",
        "1",
        189,
        "Unknown resource type  Resource_List.nosuch>",
    );
}

#[test]
fn managers_submit_for_others() {
    let attributes = [("proxy_user", "bob:physics"), ("group_list", "physics")];
    let submission = read_as(request(&attributes), 0, true).unwrap();
    let owner = &submission.spec.owner;
    assert_eq!(
        (&*owner.user, owner.uid, &*owner.host),
        ("bob", 1001, "hn1")
    );
    assert_eq!(&*owner.group, "physics");
    let refused = read_as(request(&[("proxy_user", "nobody")]), 0, true).unwrap_err();
    assert_eq!(refused.error, Pbse::Baduser);
}

#[test]
fn root_and_foreign_servers_are_refused() {
    let refusal = read_as(request(&[]), 0, true).unwrap_err();
    assert_eq!(refusal.error, Pbse::Baduser);
    let check = |destination: &str, expected: Result<Option<&str>, Pbse>| {
        let seen = queue(destination, &ServerName::from("hn1.example.org"));
        let seen = seen.map_err(|refusal| refusal.error);
        assert_eq!(
            seen,
            expected.map(|queue| queue.map(QueueName::from)),
            "{destination}"
        );
    };
    check("", Ok(None));
    check("mcc", Ok(Some("mcc")));
    check("mcc@hn1", Ok(Some("mcc")));
    check("@hn1.example.org", Ok(None));
    check("mcc@hn2", Err(Pbse::Badhost));
}

/// The seed cluster's own script.
#[test]
fn the_demo_job_becomes_what_it_says() {
    let submission = taken(&[
        ("Job_Name", "testjob"),
        ("Output_Path", "hn1:/ghome/alice/$PBS_JOBID.out"),
        ("Error_Path", "/ghome/alice/$PBS_JOBID.err"),
        ("Rerunable", "True"),
        ("init_work_dir", "/home/alice/work"),
        ("Resource_List.nodes", "1:gpus=1:S"),
    ]);
    let spec = &submission.spec;
    assert_eq!(&*spec.name, "testjob");
    assert_eq!(&*spec.stdout_path, "/ghome/alice/$PBS_JOBID.out");
    assert_eq!(&*spec.stderr_path, "/ghome/alice/$PBS_JOBID.err");
    assert_eq!(&*spec.work_folder, "/home/alice/work");
    assert!(spec.is_rerunnable);
    let chunk = &spec.nodes.as_ref().unwrap().chunks[0];
    assert_eq!((chunk.ppn, chunk.gpus), (1, 1));
    assert_eq!(&*chunk.properties, ["S".into()]);
    let list: Vec<_> = spec.resources.iter().collect();
    assert_eq!(list, [("nodes", "1:gpus=1:S"), ("nodect", "1")]);
    assert_eq!(submission.payload.script, b"true\n");
}

#[test]
fn what_is_not_said_has_torques_defaults() {
    let submission = taken(&[]);
    let spec = &submission.spec;
    assert_eq!((&*spec.name, &*spec.work_folder), ("STDIN", "/home/alice"));
    assert!(spec.is_rerunnable && spec.stdout_path.is_empty() && spec.nodes.is_none());
    assert_eq!(
        (submission.priority, submission.holds),
        (0, Holds::default())
    );
    assert_eq!((spec.umask, submission.queue), (None, None));
}

#[test]
fn every_wish_finds_its_place() {
    let submission = taken(&[
        ("Resource_List.ncpus", "3"),
        ("Resource_List.mem", "1GB"),
        ("Resource_List.walltime", "300"),
        ("Resource_List.walltime", "90"),
        ("Priority", "-5"),
        ("Hold_Types", "u"),
        ("Execution_Time", "1795391940"),
        ("depend", "afterok:342.hn1:343,afterany:5[]"),
        ("umask", "18"),
        ("user_kill_delay", "7"),
        ("Keep_Files", "oe"),
        ("Join_Path", "eo"),
        ("Output_Path", "out/x"),
        ("group_list", "physics"),
        ("Mail_Points", "eab"),
        ("submit_args", "-F 'a\nb'"),
        ("job_array_request", "0-3%2"),
    ]);
    let spec = &submission.spec;
    assert_eq!(spec.nodes.as_ref().unwrap().to_string(), "1:ppn=3");
    assert_eq!(spec.memory_bytes, Some(1 << 30));
    let list: Vec<_> = spec.resources.iter().collect();
    assert_eq!(
        list,
        [("ncpus", "3"), ("mem", "1gb"), ("walltime", "00:01:30")]
    );
    assert_eq!((submission.priority, submission.holds), (-5, Holds::USER));
    assert_eq!(submission.not_before, Some(Timestamp(1_795_391_940_000)));
    let on = [
        (Condition::AfterOk, JobId::whole(342)),
        (Condition::AfterOk, JobId::whole(343)),
        (Condition::AfterAny, JobId::array(5)),
    ];
    assert_eq!(submission.depends, on);
    assert_eq!((spec.umask, spec.kill_delay_secs), (Some(0o22), Some(7)));
    assert_eq!((&*spec.keep, spec.join.as_str()), ("oe", "eo"));
    assert_eq!(&*spec.stdout_path, "/home/alice/out/x");
    assert_eq!(&*spec.owner.group, "physics");
    let shown: Vec<_> = spec
        .shown
        .iter()
        .map(|(name, value)| (&**name, &**value))
        .collect();
    let expected = [
        ("group_list", "physics"),
        ("Mail_Points", "abe"),
        ("submit_args", "-F 'a b'"),
    ];
    assert_eq!(shown, expected);
    assert_eq!(spec.array.as_ref().unwrap().slot_limit, Some(2));
    assert_eq!(
        taken(&[("Resource_List.procs", "9")]).spec.loose_slots,
        Some(9)
    );
}

#[test]
fn of_two_variables_with_one_name_the_first_counts_and_all_are_bounded() {
    let variable = |name: &str, value: &str| Variable {
        name: name.to_owned(),
        value: value.to_owned(),
    };
    let env = variables_of(vec![
        variable("A", "1"),
        variable("B", "2"),
        variable("A", "3"),
    ]);
    let env = env.unwrap();
    assert_eq!(env.iter().collect::<Vec<_>>(), [("A", "1"), ("B", "2")]);
    for bad in [
        variable("", "x"),
        variable("A=B", "x"),
        variable("A", "x\0"),
    ] {
        let error = variables_of(vec![bad]).unwrap_err();
        assert_eq!(error.error, Pbse::Badatval);
    }
    let many = vec![variable("A", "1"); VARIABLES_MAX + 1];
    assert_eq!(variables_of(many).unwrap_err().error, Pbse::Ivalreq);
    let large = vec![variable("A", &"x".repeat(VARIABLES_BYTES_MAX))];
    assert_eq!(variables_of(large).unwrap_err().error, Pbse::Ivalreq);
}

fn name() -> impl Strategy<Value = String> {
    prop_oneof![
        prop::sample::select(vec![
            "Resource_List.nodes",
            "Resource_List.walltime",
            "Resource_List.host",
            "Resource_List.ncpus",
            "Resource_List.select",
            "Resource_List.place",
            "Resource_List.gpus",
            "stagein",
            "Checkpoint",
            "jobtype",
            "interactive",
            "idle_slot_limit",
            "array_indices_submitted",
            "proxy_user",
            "Job_Name",
            "Output_Path",
            "depend",
            "job_array_request",
            "group_list",
            "User_List",
            "umask",
            "Hold_Types",
            "Priority",
            "Shell_Path_List",
        ])
        .prop_map(str::to_owned),
        "\\PC{0,12}",
    ]
}

proptest! {
    /// Reading is total, whatever a client sends; what is taken has paths that are absolute.
    #[test]
    fn any_request_is_taken_or_refused(
        attributes in prop::collection::vec((name(), "\\PC{0,20}|[0-9:+a-z=]{0,12}"), 0..6),
        destination in "\\PC{0,12}",
        uid in 0u32..3,
    ) {
        let pairs: Vec<(&str, &str)> =
            attributes.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let request = SubmitRequest { destination, ..request(&pairs) };
        if let Ok(submission) = read_as(request, uid, uid == 1) {
            let spec = submission.spec;
            for path in [&spec.stdout_path, &spec.stderr_path] {
                let is_absolute = path.is_empty() || path.starts_with(['/', '$']);
                let other = crate::view::paths::split_host(path);
                prop_assert!(is_absolute || other.is_some_and(|(host, _)| host != &*spec.owner.host));
            }
            prop_assert!(spec.work_folder.starts_with('/'));
            prop_assert!(uid != 0);
        }
    }
}
