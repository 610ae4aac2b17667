//! Everything about a job, in the order in which `qstat -f` prints it. Times are epoch seconds.

use capstan_core::{Confidence, Ended, Job, JobState, Scheduler, Usage};
use capstan_proto::wire::{Attribute, JobAttributes};
use capstan_types::{Env, JobPart, Seconds, Timestamp};

use super::samples::measured_words;
use super::{Scene, last_run, paths, start_time, words};

/// A list of attributes under way.
#[derive(Default)]
pub(crate) struct Attributes(pub(crate) Vec<Attribute>);

impl Attributes {
    pub(crate) fn put(&mut self, name: &str, value: impl ToString) {
        self.put_resource(name, "", value);
    }

    pub(crate) fn put_resource(&mut self, name: &str, resource: &str, value: impl ToString) {
        self.0.push(Attribute {
            name: name.to_owned(),
            resource: resource.to_owned(),
            value: value.to_string(),
        });
    }

    pub(crate) fn put_some(&mut self, name: &str, value: Option<impl ToString>) {
        if let Some(value) = value {
            self.put(name, value);
        }
    }

    fn put_time(&mut self, name: &str, at: Option<Timestamp>) {
        self.put_some(name, at.map(Timestamp::secs));
    }
}

/// All attributes of `job`, in the order of Torque's table of job attributes; with `Variable_List` when the caller may
/// see it. What a submission gave and this server only keeps ([`capstan_core::JobSpec::shown`]) stands among the others.
pub(crate) fn attributes(scene: Scene<'_>, job: &Job, variables: Option<&Env>) -> JobAttributes {
    let mut list = Attributes::default();
    identity(&mut list, scene, job);
    placement(&mut list, scene, job);
    wishes(&mut list, job);
    list.put_some(
        "session_id",
        last_run(job)
            .and_then(|run| run.started)
            .map(|(_, session)| session),
    );
    if !job.spec.shell.is_empty() {
        list.put("Shell_Path_List", &job.spec.shell);
    }
    for (name, files) in [
        ("stagein", &job.spec.stagein),
        ("stageout", &job.spec.stageout),
    ] {
        if !files.is_empty() {
            let files: Vec<String> = files.iter().map(ToString::to_string).collect();
            list.put(name, files.join(","));
        }
    }
    shown(&mut list, job, &["User_List"]);
    if let Some(variables) = variables {
        list.put("Variable_List", variable_list(scene, job, variables));
    }
    course(&mut list, scene, job);
    times(&mut list, scene, job);
    rest(&mut list, job);
    JobAttributes {
        id: job.id.on(scene.server()),
        attributes: list.0,
        reason: scene.explanation(job).unwrap_or_default(),
    }
}

/// Name, owner, usage, state and place.
fn identity(list: &mut Attributes, scene: Scene<'_>, job: &Job) {
    let owner = &job.spec.owner;
    list.put("Job_Name", words::job_name(job));
    list.put("Job_Owner", format!("{}@{}", owner.user, owner.host));
    if let Some(usage) = scene.usage(job) {
        let mut used = |name, value: String| list.put_resource("resources_used", name, value);
        used("cput", Seconds(usage.cput_secs).to_string());
        used("vmem", format!("{}kb", usage.vmem_kb));
        used("walltime", Seconds(usage.walltime_secs).to_string());
        used("mem", format!("{}kb", usage.mem_kb));
        used("energy_used", "0".to_owned());
        if scene.snapshot.settings().tells("job_samples") {
            samples(list, job, &usage);
        }
    }
    list.put("job_state", job.letter(scene.now));
    list.put("queue", &job.queue);
    list.put("server", scene.server());
    shown(list, job, &["Account_Name"]);
    list.put("Checkpoint", shown_value(job, "Checkpoint").unwrap_or("u"));
}

/// What its node's samples said, where Torque has no names: mean, highest and last.
fn samples(list: &mut Attributes, job: &Job, usage: &Usage) {
    let Some(measured) = &usage.measured else {
        return;
    };
    for (name, value) in measured_words(measured, has_cards(job)) {
        list.put_resource("resources_used", name, value);
    }
}

fn has_cards(job: &Job) -> bool {
    let run = last_run(job);
    run.is_some_and(|run| run.shares.iter().any(|share| !share.cards.is_empty()))
}

/// When it was made, what it waits for, where it runs.
fn placement(list: &mut Attributes, scene: Scene<'_>, job: &Job) {
    list.put_time("ctime", Some(job.created));
    let depend = capstan_core::depend_shown(&scene.snapshot.state, job);
    list.put_some("depend", Some(depend).filter(|depend| !depend.is_empty()));
    list.put("Error_Path", paths::stderr_path(job));
    if let Some(run) = last_run(job) {
        list.put("exec_host", words::exec_host(&run.shares));
        let cards = words::exec_gpus(&run.shares);
        list.put_some("exec_gpus", Some(cards).filter(|cards| !cards.is_empty()));
        if job.spec.select.is_some() {
            list.put_some("exec_vnode", job.exec_vnode());
        }
    }
    list.put_time("Execution_Time", job.not_before);
    shown(list, job, &["group_list"]);
}

/// What was asked for.
fn wishes(list: &mut Attributes, job: &Job) {
    let keep = &*job.spec.keep;
    let holds = job.effective_holds();
    // A member has the attribute only while it is held (recorded sessions C02 and G01).
    let is_member = matches!(job.id.part, JobPart::Member(_));
    if !(is_member && holds.is_empty()) {
        list.put("Hold_Types", holds);
    }
    shown(list, job, &["interactive"]);
    list.put("Join_Path", job.spec.join.as_str());
    list.put("Keep_Files", if keep.is_empty() { "n" } else { keep });
    list.put(
        "Mail_Points",
        shown_value(job, "Mail_Points").unwrap_or("a"),
    );
    shown(list, job, &["Mail_Users"]);
    list.put_time("mtime", Some(job.changed));
    list.put("Output_Path", paths::stdout_path(job));
    list.put("Priority", job.priority);
    // Of an array only its members enter a queue.
    list.put_time("qtime", Some(job.queued).filter(|_| !job.is_array()));
    list.put("Rerunable", words::boolean(job.spec.is_rerunnable));
    for (name, value) in job.spec.resources.iter() {
        list.put_resource("Resource_List", name, value);
    }
}

/// Who it runs as, and how it went.
fn course(list: &mut Attributes, scene: Scene<'_>, job: &Job) {
    list.put("euser", &job.spec.owner.user);
    list.put("egroup", &job.spec.owner.group);
    list.put("queue_type", scene.queue_type(&job.queue));
    shown(list, job, &["sched_hint"]);
    list.put_some("comment", scene.comment(job));
    list.put_some("image_state", scene.image_state(job));
    if scene.snapshot.settings().scheduler == Scheduler::Packing {
        // Torque has no such attribute; programs that were written for it do not mind one more.
        let start = expected_start(scene, job);
        list.put_time("estimated_start", start.map(|(at, _)| at));
    }
    // An array as a whole has been eligible in Torque's eyes even when it was submitted held (recorded session C02).
    let eligible = job.eligible.or(job.is_array().then_some(job.queued));
    list.put_time("etime", eligible);
    let exit_status = ended(job).and_then(|ended| ended.exit_status);
    // Of a job that was put back in its queue Torque shows that its last attempt ended (recorded session E06).
    let was_put_back =
        !job.has_ended() && !job.is_array() && job.run_count > u32::from(job.state.run().is_some());
    list.put_some("exit_status", exit_status.or(was_put_back.then_some(0)));
    shown(list, job, &["forward_x11", "submit_args"]);
    match (job.id.part, &job.spec.array) {
        (JobPart::Member(index), _) => list.put("job_array_id", index),
        (JobPart::Array, Some(request)) => list.put("job_array_request", request),
        (JobPart::Whole | JobPart::Array, _) => {}
    }
    list.put_some("umask", job.spec.umask);
}

/// When it ran and for how long.
fn times(list: &mut Attributes, scene: Scene<'_>, job: &Job) {
    let ended = ended(job);
    let run = last_run(job);
    list.put_time("start_time", run.map(start_time));
    let walltime = job.spec.resources.seconds("walltime");
    if let (Some(run), Some(walltime), None) = (run, walltime, ended) {
        let used = scene.now.secs_since(start_time(run));
        list.put_resource("Walltime", "Remaining", walltime.0.saturating_sub(used));
    }
    list.put_some(
        "start_count",
        Some(job.run_count).filter(|count| *count > 0 && !job.is_array()),
    );
    const CHECKPOINT: [&str; 5] = [
        "checkpoint_dir",
        "checkpoint_name",
        "checkpoint_time",
        "checkpoint_restart_status",
        "restart_name",
    ];
    shown(list, job, &CHECKPOINT);
    list.put(
        "fault_tolerant",
        shown_value(job, "fault_tolerant").unwrap_or("False"),
    );
    list.put_time("comp_time", ended.map(|ended| ended.at));
    shown(list, job, &["jobtype", "inter_cmd"]);
    list.put("job_radix", shown_value(job, "job_radix").unwrap_or("0"));
    if let (Some(run), Some(ended)) = (run, ended) {
        let millis = ended.at.0.saturating_sub(start_time(run).0);
        list.put(
            "total_runtime",
            format!("{}.{:03}000", millis / 1000, millis % 1000),
        );
    }
}

/// What was said at submission, and what is kept for show.
fn rest(list: &mut Attributes, job: &Job) {
    shown(list, job, &["proxy_user", "node_exclusive"]);
    list.put("submit_host", &job.spec.owner.host);
    list.put("init_work_dir", &job.spec.work_folder);
    shown(list, job, &["gpu_flags"]);
    let arguments = &*job.spec.script_arguments;
    list.put_some(
        "job_arguments",
        Some(arguments).filter(|text| !text.is_empty()),
    );
    const SITE: [&str; 7] = [
        "reservation_id",
        "login_node_id",
        "login_property",
        "external_nodes",
        "multi_req_alps",
        "nppcu",
        "login_node_key",
    ];
    shown(list, job, &SITE);
    list.put(
        "request_version",
        shown_value(job, "request_version").unwrap_or("1"),
    );
    shown(list, job, &["req_information", "copy_on_rerun"]);
    list.put_some("user_kill_delay", job.spec.kill_delay_secs);
    shown(
        list,
        job,
        &[
            "idle_slot_limit",
            "L_Request",
            "x",
            "signal",
            "image",
            "gang",
        ],
    );
    let cause = ended(job).map(|ended| &ended.cause);
    let images = ended(job).and_then(|ended| ended.run.as_ref());
    let images = images.map(|run| run.images.join(","));
    list.put_some("image_digests", images.filter(|images| !images.is_empty()));
    list.put_some("exit_cause", cause.filter(|cause| !cause.is_empty()));
}

/// When a waiting job starts, as far as that is known without reckoning: at the latest when nodes are reserved for it,
/// else by when it was called likely. Nothing of one for which that time has passed: `qwhy` reckons anew.
pub(crate) fn expected_start(scene: Scene<'_>, job: &Job) -> Option<(Timestamp, Confidence)> {
    if !matches!(job.state, JobState::Pending) {
        return None;
    }
    let promises = &scene.snapshot.plan.promises;
    let promise = promises.iter().find(|promise| match job.is_array() {
        true => promise.job.seq == job.id.seq,
        false => promise.job == job.id,
    });
    if let Some(promise) = promise {
        return Some((promise.start.max(scene.now), Confidence::Firm));
    }
    let told = job.forecast.filter(|told| !told.is_of_array);
    let likely = told.filter(|told| told.likely_by > scene.now);
    likely.map(|told| (told.likely_by, Confidence::Likely))
}

fn ended(job: &Job) -> Option<&Ended> {
    match &job.state {
        JobState::Ended(ended) => Some(ended),
        JobState::Pending
        | JobState::Starting(_)
        | JobState::Running(_)
        | JobState::Exiting(..) => None,
    }
}

fn shown(list: &mut Attributes, job: &Job, names: &[&str]) {
    for name in names {
        list.put_some(name, shown_value(job, name));
    }
}

fn shown_value<'a>(job: &'a Job, name: &str) -> Option<&'a str> {
    let found = job.spec.shown.iter().find(|(known, _)| **known == *name);
    found.map(|(_, value)| &**value)
}

/// `NAME=VALUE,…`; commas inside of values are escaped, as Torque's own client does.
fn variable_list(scene: Scene<'_>, job: &Job, variables: &Env) -> String {
    let mut text = String::new();
    for (name, value) in words::variable_list(job, scene.server(), variables) {
        if !text.is_empty() {
            text.push(',');
        }
        text.extend([&*name, "=", &value.replace(',', "\\,")]);
    }
    text
}
