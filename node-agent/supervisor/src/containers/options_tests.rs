//! The table of `-u`: what is accepted, what is refused, and in which spellings.

use super::*;

fn parse(text: &str) -> Result<Options, Refused> {
    super::parse(text, &Allowed::default())
}

fn accepted(text: &str) -> Options {
    parse(text).unwrap_or_else(|error| panic!("{text}: {error}"))
}

fn check_refused(text: &str, said: &str) {
    let error = parse(text).expect_err(text).to_string();
    assert!(error.contains(said), "{text}: {error}");
}

fn bind(source: &str, target: &str, read_only: bool) -> AskedBind {
    AskedBind {
        source: source.into(),
        target: target.into(),
        read_only,
    }
}

#[test]
fn lines_of_real_users_are_accepted() {
    let options = accepted("-it -v /gdata/u:/gdata/u -v /gpub/ImageNet-Caffe:/gpub/ImageNet-Caffe");
    assert!(options.interactive && options.terminal);
    assert_eq!(options.binds[1].target, "/gpub/ImageNet-Caffe");
    let options = accepted(
        "--ipc=host -v /gpub/leftImg8bit_sequence:/gpub/leftImg8bit_sequence --shm-size 8G",
    );
    assert!(options.ipc_host);
    assert_eq!(options.shm_bytes, Some(8 << 30));
    let options = accepted("-v /gdata/u:/gdata/u -w /ghome/u");
    assert_eq!(options.workdir.as_deref(), Some("/ghome/u"));
    let options = accepted("-e PYTHONPATH=/data/pylib -v /gdata/u/pylib:/data/pylib");
    assert_eq!(
        options.environment,
        [("PYTHONPATH".into(), Some("/data/pylib".into()))]
    );
}

#[test]
fn every_spelling_of_docker_is_the_same_option() {
    for text in [
        "-v /a/b:/c",
        "-v=/a/b:/c",
        "-v/a/b:/c",
        "--volume /a/b:/c",
        "--volume=/a/b:/c",
        "-v '/a/b:/c'",
    ] {
        assert_eq!(accepted(text).binds, [bind("/a/b", "/c", false)], "{text}");
    }
    for text in [
        "-it",
        "-ti",
        "-i -t",
        "--interactive --tty",
        "--interactive=true -t=1",
        "-it --rm",
        "-it --rm=false",
    ] {
        let options = accepted(text);
        assert!(options.interactive && options.terminal, "{text}");
    }
    assert_eq!(
        accepted("-itv /a/b:/c:ro").binds,
        [bind("/a/b", "/c", true)]
    );
    assert!(!accepted("-it=false").terminal);
    assert_eq!(
        accepted("-eA=b=c").environment,
        [("A".into(), Some("b=c".into()))]
    );
    assert_eq!(accepted("-e A").environment, [("A".into(), None)]);
    assert_eq!(
        accepted("-e 'A=b c'").environment,
        [("A".into(), Some("b c".into()))]
    );
    assert_eq!(accepted("").binds, []);
}

#[test]
fn sizes_are_read_as_docker_reads_them() {
    for (text, bytes) in [
        ("1024", 1024),
        ("512m", 512 << 20),
        ("8G", 8 << 30),
        ("8gb", 8 << 30),
        ("8GiB", 8 << 30),
        ("1.5g", 3 << 29),
        ("192G", 192 << 30),
    ] {
        assert_eq!(
            accepted(&format!("--shm-size={text}")).shm_bytes,
            Some(bytes),
            "{text}"
        );
    }
    for text in ["0", "", "-1", "x", "8x", "g", "1e99", "99999999p"] {
        assert!(parse(&format!("--shm-size={text}")).is_err(), "{text}");
    }
}

#[test]
fn what_would_reach_others_is_refused_with_the_reason() {
    for text in [
        "--privileged",
        "--privileged=true",
        "--cap-add ALL",
        "--cap-add=SYS_ADMIN",
        "--device /dev/sda",
        "--pid=host",
        "--pid host",
        "--uts=host",
        "--userns=host",
        "--cgroupns=host",
        "--security-opt seccomp=unconfined",
        "--cgroup-parent=/",
        "--volumes-from x",
        "--restart=always",
        "--runtime=nvidia",
        "-d",
        "-itd",
        "-di",
        "--detach",
        "--sysctl a=b",
        "-p 80:80",
        "-p80:80",
        "-P",
        "--oom-kill-disable",
        "--oom-score-adj=-1000",
        "--link a",
        "--device-cgroup-rule 'c *:* rwm'",
    ] {
        check_refused(text, "is refused: ");
    }
    check_refused("--privileged", "root on this node");
    check_refused("--no-such-thing", "not on the list");
    check_refused("-Z", "not on the list");
    check_refused("--", "only options");
    check_refused("-", "only options");
    check_refused("image", "only options");
    check_refused("-i image -t", "only options");
    check_refused("-v '/a:/b", "not closed");
}

#[test]
fn values_that_could_mean_something_else_are_refused() {
    check_refused("-v", "needs a value");
    check_refused("-v volume:/x", "absolute");
    check_refused("-v ./x:/x", "absolute");
    check_refused("-v /x", "SOURCE:TARGET");
    check_refused("-v /x:y", "absolute");
    check_refused("-v /a:/b:ro:rw", "colons");
    check_refused("-v /a:/b:rshared", "only ro and rw");
    check_refused("-v /a:/b:Z", "only ro and rw");
    check_refused("-v /a\0b:/c", "NUL");
    check_refused("-w x", "absolute");
    check_refused("-e =x", "NAME");
    check_refused("-e 'A B=x'", "NAME");
    check_refused("--ipc=container:x", "only private");
    check_refused("--ipc=shareable", "only private");
    check_refused("--rm=maybe", "switch");
    check_refused(&"-v /a:/b ".repeat(BINDS_MAX + 1), "too many");
    check_refused(&" ".repeat(OPTIONS_BYTES_MAX + 1), "too long");
}

#[test]
fn what_a_user_may_have_of_their_own_container_is_accepted() {
    let options = accepted(
        "--init --read-only --name a -h box -m 1g --cpus 1.5 --tmpfs /t:size=1m,mode=1777,exec -u 5:6 --group-add 7 \
         --ulimit nofile=10:20 --ulimit memlock=-1 --add-host a:1.2.3.4 --dns 9.9.9.9 --stop-signal INT -l a=b \
         --entrypoint '' --network none --gpus all --env-file f --mount type=bind,src=/a/b,dst=/c,readonly",
    );
    let wishes = &options.wishes;
    assert!(wishes.read_only && options.gpus);
    assert_eq!(
        (options.name.as_deref(), wishes.hostname.as_deref()),
        (Some("a"), Some("box"))
    );
    assert_eq!(
        (options.memory_bytes, options.nano_cpus),
        (Some(1 << 30), Some(1_500_000_000))
    );
    assert_eq!(
        wishes.tmpfs[0].settings,
        "nosuid,nodev,size=1048576,mode=1777,exec"
    );
    assert_eq!(
        (wishes.ulimits[0].hard, wishes.ulimits[1].soft),
        (Some(20), None)
    );
    assert_eq!(wishes.hosts, ["a:1.2.3.4"]);
    assert_eq!(
        wishes.entrypoint.as_deref(),
        Some([String::new()].as_slice())
    );
    assert_eq!(options.binds, [bind("/a/b", "/c", true)]);
    assert_eq!(
        (options.user.as_deref(), options.environment_files.len()),
        (Some("5:6"), 1)
    );
}

#[test]
fn what_the_site_excepts_is_accepted_from_whom_it_is_excepted() {
    use crate::containers::exceptions::{ExceptionFile, resolve_exceptions};
    let exception = |options: &[&str]| ExceptionFile {
        options: options.iter().map(|&option| option.to_owned()).collect(),
        users: vec!["ann".to_owned()],
        ..ExceptionFile::default()
    };
    let excepted = [
        "privileged",
        "cap-add=SYS_PTRACE",
        "device=/dev/fuse",
        "pid",
        "ipc",
        "security-opt",
    ];
    let all = resolve_exceptions(vec![exception(&excepted)]).expect("good");
    let allowed = Allowed::to(&all, "ann", &[], "batch");
    let line = "--privileged --cap-add=SYS_PTRACE --device /dev/fuse --pid=host --ipc=host \
                --security-opt seccomp=unconfined";
    let grants = super::parse(line, &allowed).expect("excepted").grants;
    assert!(grants.privileged && grants.pid_host && grants.ipc_host);
    assert_eq!(grants.capabilities, ["SYS_PTRACE"]);
    for other in ["--cap-add=SYS_ADMIN", "--device=/dev/sda", "--uts=host"] {
        assert!(super::parse(other, &allowed).is_err(), "{other}");
    }
}

proptest::proptest! {
    #[test]
    fn any_text_is_read_or_refused(text in ".{0,200}") {
        drop(parse(&text));
    }

    #[test]
    fn a_privileged_in_any_place_is_refused(before in "(-it |-e A=b |--rm ){0,3}", after in "( -i| -w /x){0,2}") {
        let text = format!("{before}--privileged{after}");
        proptest::prop_assert!(parse(&text).is_err());
    }
}
