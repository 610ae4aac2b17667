//! Attempts to get out of a container, or into somebody else's, each refused with its reason, and told to the log. The
//! door is called as an ordinary user; the engine in memory sees none of them. What needs a kernel to be proved is in
//! `tests/tests/e2e/escapes.rs`.

use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;
use std::sync::{Arc, Mutex};

use capstan_proto::wire::ContainerRequest;
use capstan_proto::wire::container_input::Input;
use tracing::field::{Field, Visit};
use tracing::span;

use super::testing::{Call, FakeEngine, Heard, TestSite, UID, request};

const IMAGE: &str = "busybox:1";
const OTHER: u32 = UID + 1;

/// What the log was told about refusals.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<String>>>);

impl Log {
    fn lines(&self) -> Vec<String> {
        self.0.lock().expect("not poisoned").clone()
    }
}

impl tracing::Subscriber for Log {
    fn enabled(&self, about: &tracing::Metadata<'_>) -> bool {
        about.is_event() && about.target().contains("refusals")
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}

    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn event(&self, event: &tracing::Event<'_>) {
        struct Reason(String);
        impl Visit for Reason {
            fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
                if field.name() == "reason" {
                    self.0 = format!("{value:?}");
                }
            }
        }
        let mut reason = Reason(String::new());
        event.record(&mut reason);
        self.0.lock().expect("not poisoned").push(reason.0);
    }

    fn enter(&self, _: &span::Id) {}

    fn exit(&self, _: &span::Id) {}
}

/// A site with somebody else in it, and ways that lead to them.
fn site() -> Option<TestSite> {
    let test = TestSite::make()?;
    test.make_folder("home/bob", OTHER, 0o755);
    test.make_folder("data/bob", OTHER, 0o755);
    test.make_folder("data/ann/sub", UID, 0o755);
    test.make_file("data/ann/variables", "A=b\n", 0o644);
    for (link, to) in [
        ("to-bob", test.text("data/bob")),
        ("to-root", "/".into()),
        ("to-etc", "/etc".into()),
        ("to-proc", "/proc/self/root/etc".into()),
        ("to-docker", "/var/run/docker.sock".into()),
        ("loop", test.text("data/ann/loop")),
        ("to-shadow", "/etc/shadow".into()),
    ] {
        symlink(to, test.path("data/ann").join(link)).expect("link");
    }
    UnixListener::bind(test.path("data/ann/socket")).expect("socket");
    nix::unistd::mkfifo(&test.path("data/ann/pipe"), nix::sys::stat::Mode::S_IRWXU).expect("pipe");
    Some(test)
}

/// Asks, and checks that nothing was started, why, and that the log knows.
async fn check(test: &TestSite, name: &str, asked: ContainerRequest, said: &str) {
    let engine = FakeEngine::with_image(IMAGE, &[]);
    let log = Log::default();
    let told = tracing::subscriber::set_default(log.clone());
    let (_keeper, served) = test.serve(engine.clone());
    let call = Call::open(&test.socket(), UID, Input::Request(asked)).await;
    let heard: Heard = call.end().await;
    let refused = heard
        .refused
        .unwrap_or_else(|| panic!("{name}: it got through"));
    let message = &refused.message;
    assert!(message.contains(said), "{name}: {message}");
    assert!(!message.contains(char::is_control), "{name}: {message:?}");
    assert_eq!(engine.specs(), [], "{name}");
    let lines = log.lines();
    assert_eq!(lines.len(), 1, "{name}: {lines:?}");
    assert!(!lines[0].contains(char::is_control), "{name}: {lines:?}");
    served.abort();
    drop(told);
}

const ROOT: &str = "root on this node";
const OTHERS: &str = "belongs to others";
const LIMITS: &str = "limits of your job";

/// What is tried, the options, and a part of the reason.
const OPTIONS: &[(&str, &str, &str)] = &[
    ("privileged", "--privileged", ROOT),
    (
        "privileged, in other words",
        "-it --privileged=1 --rm",
        ROOT,
    ),
    ("all capabilities", "--cap-add ALL", ROOT),
    ("one capability", "--cap-add=SYS_ADMIN", ROOT),
    ("a disk", "--device /dev/sda", OTHERS),
    ("somebody's card", "--device=/dev/nvidia1", OTHERS),
    ("all devices", "--device-cgroup-rule 'c *:* rwm'", OTHERS),
    ("the host's processes", "--pid=host", OTHERS),
    ("a container's processes", "--pid container:x", OTHERS),
    ("the host's name", "--uts=host", OTHERS),
    ("the host's users", "--userns=host", ROOT),
    ("the host's cgroups", "--cgroupns=host", OTHERS),
    ("a container's memory", "--ipc=container:x", "only private"),
    ("the host's network", "--network=host", "does not allow"),
    (
        "the host's network by another name",
        "--net host",
        "does not allow",
    ),
    (
        "a container's network",
        "--network container:x",
        "name of a network",
    ),
    ("no seccomp", "--security-opt seccomp=unconfined", ROOT),
    ("no apparmor", "--security-opt=apparmor=unconfined", ROOT),
    (
        "new privileges",
        "--security-opt no-new-privileges=false",
        ROOT,
    ),
    ("another cgroup", "--cgroup-parent=/", LIMITS),
    ("the cgroup above", "--cgroup-parent ../..", LIMITS),
    ("another's mounts", "--volumes-from other", OTHERS),
    ("a volume driver", "--volume-driver local", OTHERS),
    ("for ever", "--restart=always", "ends with its startdocker"),
    ("in the background", "-d", "ends with its startdocker"),
    (
        "in the background, hidden",
        "-itd",
        "ends with its startdocker",
    ),
    ("another runtime", "--runtime=/tmp/mine", ROOT),
    ("a kernel setting", "--sysctl kernel.msgmax=1", OTHERS),
    ("a port", "-p 22:22", OTHERS),
    ("all ports", "-P", OTHERS),
    ("no kill", "--oom-kill-disable", LIMITS),
    ("killed last", "--oom-score-adj=-1000", LIMITS),
    ("more memory", "-m 2g", "more than the job was given"),
    ("swap", "--memory-swap=-1", LIMITS),
    ("more cores by shares", "-c 100000", LIMITS),
    ("cores by number", "--cpuset-cpus 0", LIMITS),
    ("more processes", "--pids-limit=-1", LIMITS),
    ("root", "-u root", "it is not you"),
    ("root by number", "-u0:0", "it is not you"),
    ("another user", "--user 61235", "it is not you"),
    ("own user, root's group", "-u 61234:0", "it is not you"),
    (
        "the docker group",
        "--group-add docker",
        "not in this group",
    ),
    ("root's group", "--group-add 0", "not in this group"),
    (
        "another attempt's label",
        "-l capstan.attempt=8",
        "Capstan's",
    ),
    (
        "another agent's label",
        "--label Capstan.Agent=x",
        "Capstan's",
    ),
    ("the engine's label", "--label com.docker.x=y", "Capstan's"),
    ("a path as a name", "--name ../../etc", "letters, digits"),
    ("a shell as a name", "--name '$(id)'", "letters, digits"),
    ("a shell as a host", "-h 'a;reboot'", "letters, digits"),
    (
        "a host file line",
        "--add-host 'a:1.2.3.4 b'",
        "NAME:ADDRESS",
    ),
    ("set-uid in memory", "--tmpfs /t:suid", "of its settings"),
    ("devices in memory", "--tmpfs /t:dev", "of its settings"),
    (
        "a set-uid folder",
        "--tmpfs /t:mode=4777",
        "of its settings",
    ),
    (
        "memory over the kernel's",
        "--tmpfs /proc/x",
        "kernel or the engine",
    ),
    ("memory over the users", "--tmpfs /etc", "Capstan fills it"),
    (
        "shared mounts",
        "-v /gdata/ann:/x:rshared",
        "only ro and rw",
    ),
    (
        "new labels of files",
        "-v /gdata/ann:/x:Z",
        "only ro and rw",
    ),
    ("a named volume", "-v volume:/x", "absolute"),
    (
        "a volume as a mount",
        "--mount type=volume,source=x,target=/x",
        "only type=bind",
    ),
    (
        "shared mounts, in other words",
        "--mount type=bind,source=/a,target=/x,bind-propagation=shared",
        "of its parts",
    ),
    ("a stranger's link", "--link other", OTHERS),
    (
        "an annotation of the runtime",
        "--annotation run.oci.x=y",
        "Capstan decides",
    ),
    (
        "a file of the engine's",
        "--cidfile /etc/x",
        "Capstan decides",
    ),
    ("a log elsewhere", "--log-driver syslog", "Capstan decides"),
    ("what nobody knows", "--no-such-option", "not on the list"),
    ("an image in the options", "busybox", "only options"),
    ("the end of options", "-- --privileged", "only options"),
];

#[tokio::test]
async fn options_that_lead_out_are_refused() {
    let Some(test) = site() else { return };
    for (name, options, said) in OPTIONS.iter().copied() {
        check(&test, name, request(IMAGE, "id", options), said).await;
    }
}

const SYSTEM: &str = "system folder";
const CANNOT: &str = "cannot mount";

/// What is tried, the folder (below the user's own, or the site's), and a part of the reason.
const FOLDERS: &[(&str, &str, &str)] = &[
    ("everything", "/", "the root folder"),
    ("everything, with dots", "/../..", "the root folder"),
    ("everything, by a link", "OWN/to-root", "the root folder"),
    ("processes", "/proc", SYSTEM),
    ("the first process's root", "/proc/1/root", CANNOT),
    ("the agent's root", "/proc/self/root", CANNOT),
    (
        "a folder by the agent's root",
        "/proc/self/root/etc",
        CANNOT,
    ),
    ("the agent's files", "/proc/self/fd/0", CANNOT),
    ("the agent's folder", "/proc/self/cwd", CANNOT),
    ("devices of the kernel", "/sys", SYSTEM),
    ("cgroups", "/sys/fs/cgroup", SYSTEM),
    ("devices", "/dev", SYSTEM),
    ("memory of others", "/dev/shm", SYSTEM),
    ("settings", "/etc", SYSTEM),
    ("settings, twice slashed", "//etc//", SYSTEM),
    ("users", "/etc/passwd", SYSTEM),
    ("passwords", "/etc/shadow", SYSTEM),
    ("root's home", "/root", CANNOT),
    ("programs", "/usr/bin", SYSTEM),
    ("the kernel", "/boot", SYSTEM),
    ("the engine's socket", "/var/run/docker.sock", CANNOT),
    (
        "the engine's socket by its place",
        "/run/docker.sock",
        CANNOT,
    ),
    ("the engine's socket by a link", "OWN/to-docker", CANNOT),
    (
        "the engine's socket by the root",
        "/proc/self/root/run/docker.sock",
        CANNOT,
    ),
    ("the folder of sockets", "/var/run", SYSTEM),
    ("containerd's sockets", "/run/containerd", CANNOT),
    ("the engine's images", "/var/lib/docker", CANNOT),
    ("above the engine's images", "/var/lib", SYSTEM),
    ("the agent's state", "SITE/state", CANNOT),
    ("another's home", "SITE/home/bob", "another user"),
    ("another's data", "SITE/data/bob", "another user"),
    ("another's data, with dots", "OWN/../bob", "another user"),
    ("another's data, by a link", "OWN/to-bob", "another user"),
    ("all homes", "SITE/home", "whole volume"),
    ("all data, with dots", "OWN/..", "whole volume"),
    ("the site's folder", "SITE/aux", "under no volume"),
    ("settings by a link", "OWN/to-etc", SYSTEM),
    ("settings by two links", "OWN/to-proc", CANNOT),
    ("a link to itself", "OWN/loop", CANNOT),
    (
        "a socket of one's own",
        "OWN/socket",
        "neither a folder nor a plain file",
    ),
    (
        "a pipe of one's own",
        "OWN/pipe",
        "neither a folder nor a plain file",
    ),
    ("what is not there", "OWN/nowhere", CANNOT),
];

#[tokio::test]
async fn folders_that_are_others_are_refused() {
    let Some(test) = site() else { return };
    let own = test.text("data/ann");
    for (name, source, said) in FOLDERS.iter().copied() {
        let source = source.replace("OWN", &own).replace("SITE", &test.text(""));
        let options = format!("-v '{source}:/x'");
        check(&test, name, request(IMAGE, "id", &options), said).await;
        let mut by_folder = request(IMAGE, "id", "");
        by_folder.data_folder = source.clone();
        check(&test, &format!("{name} by -D"), by_folder, "cannot mount").await;
    }
}

#[tokio::test]
async fn places_inside_that_decide_what_a_container_is_are_refused() {
    let Some(test) = site() else { return };
    let own = test.text("data/ann");
    let nodes = test.text("aux/nodes");
    for (name, target, said) in [
        ("the root", "/", "root folder"),
        ("processes", "/proc/1", "kernel or the engine"),
        ("kernel settings", "/sys/x", "kernel or the engine"),
        ("devices", "/dev/nvidia0", "kernel or the engine"),
        ("the init", "/sbin/docker-init", "kernel or the engine"),
        (
            "the list of cards",
            "/var/run/nvidia-container-devices/all",
            "kernel or the engine",
        ),
        (
            "the list of cards by its place",
            "/run/nvidia-container-devices/all",
            "kernel or the engine",
        ),
        ("the job's script", "/.capstan/1.SC", "kernel or the engine"),
        ("users", "/etc/passwd", "Capstan fills it"),
        ("groups", "/etc/group", "Capstan fills it"),
        ("above users", "/etc", "Capstan fills it"),
        ("the list of nodes", nodes.as_str(), "Capstan fills it"),
        ("users, with dots", "/x/../etc/passwd", "without '..'"),
    ] {
        let options = format!("-v '{own}:{target}'");
        check(&test, name, request(IMAGE, "id", &options), said).await;
    }
}

#[tokio::test]
async fn words_that_mean_more_than_they_say_are_refused() {
    let Some(test) = site() else { return };
    for image in [
        "$(id)",
        "a;reboot",
        "a b",
        "a|b",
        "`id`",
        "a&&b",
        "../../containers/x",
        "a?b=c",
        "a\nb",
        "a\0b",
        "a\rb",
        "-v",
        "--privileged",
        "",
        "a\u{1b}[2Jb",
        "a\u{202e}b",
    ] {
        let asked = request(image, "id", "");
        check(&test, &format!("image {image:?}"), asked, "no image name").await;
    }
    type Change = fn(&mut ContainerRequest, &str);
    let changes: [(&str, Change); 6] = [
        ("-P", |asked, bad| {
            asked.proc_folder = format!("/gdata{bad}")
        }),
        ("-D", |asked, bad| {
            asked.data_folder = format!("/gdata{bad}")
        }),
        ("current folder", |asked, bad| {
            asked.current_folder = format!("/x{bad}")
        }),
        ("key", |asked, bad| asked.key = format!("ab{bad}")),
        ("name", |asked, bad| {
            asked.engine_options = format!("--name 'a{bad}'")
        }),
        ("host", |asked, bad| {
            asked.engine_options = format!("-h 'a{bad}'")
        }),
    ];
    for (what, change) in changes {
        for bad in ["\n", "\0", "\r", "\u{1b}"] {
            let mut asked = request(IMAGE, "id", "");
            change(&mut asked, bad);
            check(&test, &format!("{what} with {bad:?}"), asked, "").await;
        }
    }
    words_in_options(&test).await;
}

async fn words_in_options(test: &TestSite) {
    let own = test.text("data/ann");
    for (name, options) in [
        ("a mount's source", format!("-v '{own}\n:/x'")),
        ("a mount's source, NUL", format!("-v '{own}\0:/x'")),
        ("a mount's target", format!("-v '{own}:/x\ny'")),
        ("a label", "-l 'a=b\nc'".to_owned()),
        ("a variable's name", "-e 'A\nB=c'".to_owned()),
        ("a variable, NUL", "-e 'A=b\0c'".to_owned()),
        ("a folder", "-w '/x\ny'".to_owned()),
        ("an entry point", "--entrypoint 'a\0b'".to_owned()),
        ("an open quote", "-e 'A=b".to_owned()),
        ("no end of options", "-v /a:/b ".repeat(10_000)),
    ] {
        check(test, name, request(IMAGE, "id", &options), "").await;
    }
    check(test, "a command, NUL", request(IMAGE, "id\0", ""), "NUL").await;
    check(
        test,
        "an endless command",
        request(IMAGE, &"x".repeat(200_000), ""),
        "too long",
    )
    .await;
}

#[tokio::test]
async fn files_that_only_root_may_read_are_not_read_for_anybody() {
    let Some(test) = site() else { return };
    let own = test.text("data/ann");
    for file in [
        "/etc/shadow".to_owned(),
        format!("{own}/to-shadow"),
        format!("{own}/loop"),
        format!("{own}/nowhere"),
    ] {
        let options = format!("--env-file {file}");
        check(
            &test,
            &format!("variables in {file}"),
            request(IMAGE, "id", &options),
            "",
        )
        .await;
        let script = ContainerRequest {
            command_line: None,
            script: Some(file.clone()),
            ..request(IMAGE, "", "")
        };
        check(&test, &format!("script {file}"), script, "").await;
    }
    let folder = format!("--env-file {own}");
    check(
        &test,
        "variables in a folder",
        request(IMAGE, "id", &folder),
        "not a plain file",
    )
    .await;
    let pipe = format!("--env-file {own}/pipe");
    check(
        &test,
        "variables in a pipe",
        request(IMAGE, "id", &pipe),
        "not a plain file",
    )
    .await;
    let job = ContainerRequest {
        command_line: None,
        job_script: true,
        ..request(IMAGE, "", "")
    };
    check(
        &test,
        "the script of a job that is no container",
        job.clone(),
        "is no container",
    )
    .await;
    let both = ContainerRequest {
        command_line: Some("id".to_owned()),
        ..job
    };
    check(&test, "a job's script and a command", both, "").await;
}

/// Not refused, but answered by what the job was given.
#[tokio::test]
async fn cards_and_identity_are_the_jobs_whatever_is_asked() {
    let Some(test) = site() else { return };
    let engine = FakeEngine::with_image(IMAGE, &[]);
    let (_keeper, _served) = test.serve(engine.clone());
    std::fs::write(
        test.path("data/ann/variables"),
        "NVIDIA_VISIBLE_DEVICES=all\nCUDA_VISIBLE_DEVICES=0,1,2,3\n",
    )
    .expect("file");
    let file = test.text("data/ann/variables");
    let options = format!(
        "--gpus all --ipc=host -e NVIDIA_VISIBLE_DEVICES=all -e CUDA_VISIBLE_DEVICES=7 -e NVIDIA_MIG_MONITOR_DEVICES=all \
         --env-file {file} -u {UID} --name capstan-1-1-1"
    );
    let mut call = Call::open(
        &test.socket(),
        UID,
        Input::Request(request(IMAGE, "sleep 1000", &options)),
    )
    .await;
    call.until(|heard| heard.started.is_some()).await;
    let spec = engine.specs().remove(0);
    let variables = |name: &str| {
        let with = |line: &&String| line.starts_with(&format!("{name}="));
        spec.environment
            .iter()
            .filter(with)
            .cloned()
            .collect::<Vec<_>>()
    };
    assert_eq!(
        variables("NVIDIA_VISIBLE_DEVICES"),
        ["NVIDIA_VISIBLE_DEVICES=GPU-11111111-2222-3333-4444-555555555555"]
    );
    assert_eq!(
        variables("CUDA_VISIBLE_DEVICES"),
        ["CUDA_VISIBLE_DEVICES=0"]
    );
    assert_eq!(
        variables("NVIDIA_MIG_MONITOR_DEVICES"),
        Vec::<String>::new()
    );
    assert_eq!(spec.user, (UID, UID));
    assert_eq!(spec.grants, super::engine::Grants::default());
    assert!(spec.name.starts_with("capstan-7-att-7-"), "{}", spec.name);
    assert!(call.heard.notices.len() >= 5, "{:?}", call.heard.notices);
}
