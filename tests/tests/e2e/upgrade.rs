//! Another version is installed over the one that runs, as a package does it: new files are renamed over the old ones, then the
//! daemons are restarted. What runs goes on, and what comes later runs by the new files.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use capstan_tests::engine::{self, IMAGE};
use capstan_tests::{Cluster, Terminal, User, wait_until};

use crate::is_root;

/// Puts another file in the place of a program: the same with a byte more, which counts for nothing.
fn install_another(path: &Path) {
    let new = path.with_extension("new");
    fs::copy(path, &new).unwrap();
    File::options()
        .append(true)
        .open(&new)
        .unwrap()
        .write_all(b"\n")
        .unwrap();
    fs::set_permissions(&new, fs::Permissions::from_mode(0o755)).unwrap();
    fs::rename(&new, path).unwrap();
}

/// Whether a process runs the file that lies at `path` now.
fn runs_file(cluster: &Cluster, name: &str, path: &Path) -> bool {
    let exe = fs::metadata(format!("/proc/{}/exe", cluster.pid(name))).unwrap();
    let file = fs::metadata(path).unwrap();
    (exe.dev(), exe.ino()) == (file.dev(), file.ino())
}

/// Counts aloud until the file `go-NAME` is there, and tells to what it counted in `NAME.last`; as a script it ends with 6.
fn counting(folder: &Path, name: &str) -> String {
    let place = folder.display();
    format!(
        "i=0; until [ -e {place}/go-{name} ]; do i=$((i+1)); echo {name}-$i; echo $i >{place}/{name}.at; sleep 0.02; done; \
         echo $i >{place}/{name}.last; echo {name}-en''d"
    )
}

fn number(path: &Path) -> Option<u32> {
    let text = fs::read_to_string(path).ok()?;
    text.trim().parse().ok()
}

/// Every line that was counted is there, once and in order.
fn check_counted(folder: &Path, name: &str, text: &str) {
    let last = number(&folder.join(format!("{name}.last"))).unwrap();
    let start = format!("{name}-");
    let lines = text.lines().map(str::trim);
    let seen: Vec<&str> = lines
        .filter_map(|line| line.strip_prefix(&start))
        .filter(|rest| *rest != "end")
        .collect();
    let expected: Vec<String> = (1..=last).map(|number| number.to_string()).collect();
    assert_eq!(seen, expected, "{name}");
}

/// The four things that count: a script, a container, a session and a program that was brought into the job.
const COUNTING: [&str; 4] = ["script", "inside", "session", "program"];

fn wait_all_go_on(folder: &Path) {
    let at = || COUNTING.map(|name| number(&folder.join(format!("{name}.at"))));
    let before = at();
    wait_until("all of them go on", || {
        let now = at();
        let mut pairs = before.iter().zip(&now);
        match pairs.all(|(before, now)| now.is_some() && now > before) {
            true => Ok(()),
            false => Err((before, now)),
        }
    });
}

/// A job that ends well, by whichever files there are.
fn check_a_job_runs(cluster: &Cluster, user: &User, folder: &Path, when: &str) {
    let script = format!("startdocker -c 'echo inside {when}' {IMAGE}");
    let job = cluster.submit(user, folder, "-d . -j oe -o small", &script);
    cluster.wait_state(&job, "C");
    let text = fs::read_to_string(folder.join("small")).unwrap_or_default();
    assert_eq!(text, format!("inside {when}\n"));
    let status = cluster.attribute(&job, "exit_status");
    assert_eq!(status.as_deref(), Some("0"), "{when}");
}

#[test]
fn what_runs_goes_on_when_another_version_is_installed_over_it() {
    if !is_root() || !engine::is_there() {
        return;
    }
    let mut cluster = Cluster::up(&["--nodes", "1", "--cores", "8", "--debug"]);
    let alice = User::alice();
    let folder = alice.folder("upgrade");
    let inner = folder.join("inner.sh");
    fs::write(&inner, counting(&folder, "inside")).unwrap();
    alice.own(&inner);
    let batch = "-d . -l walltime=600 -j oe";
    let script = format!("{}; exit 6", counting(&folder, "script"));
    let script = cluster.submit(&alice, &folder, &format!("{batch} -o script.out"), &script);
    let inside = format!("startdocker -s {} {IMAGE}; exit 6", inner.display());
    let inside = cluster.submit(&alice, &folder, &format!("{batch} -o inside.out"), &inside);
    let line = "exec qsub -I -l walltime=600";
    let mut session = Terminal::run(&cluster, &alice, &folder, line);
    session.wait_for(" ready");
    session.line("stty -echo; PS1=; echo qui''et");
    session.wait_for("quiet");
    session.line(&counting(&folder, "session"));
    cluster.wait_state(&script, "R");
    let program = format!("exec qexec {script} sh -c \"$0\"");
    let program = cluster
        .shell(&alice, &folder, &program)
        .arg(format!("{}; exit 5", counting(&folder, "program")))
        .stdout(File::create(folder.join("program.out")).unwrap())
        .spawn();
    let mut program = program.unwrap();
    wait_all_go_on(&folder);

    let place = cluster.path().join("libexec");
    let files: [PathBuf; 3] =
        ["capstan-agent", "capstan-server", "capstan"].map(|name| place.join(name));
    for file in &files {
        install_another(file);
    }
    // The old daemons serve on until they are restarted, though their files are gone.
    check_a_job_runs(&cluster, &alice, &folder, "between");
    wait_all_go_on(&folder);
    for (name, file) in [("node01", &files[0]), ("server", &files[1])] {
        assert!(!runs_file(&cluster, name, file), "{name} is the old one");
        cluster.kill(name);
        cluster.start(name);
        cluster.wait_server();
        cluster.wait_nodes();
        assert!(runs_file(&cluster, name, file), "{name} is the new one");
        wait_all_go_on(&folder);
    }
    check_a_job_runs(&cluster, &alice, &folder, "afterwards");

    // The program ends with its job, so it is the first to go.
    fs::write(folder.join("go-program"), "").unwrap();
    let ended = wait_until("the program ends", || program.try_wait().unwrap().ok_or(()));
    assert_eq!(ended.code(), Some(5));
    for name in ["script", "inside", "session"] {
        fs::write(folder.join(format!("go-{name}")), "").unwrap();
    }
    session.wait_for("session-end");
    session.line("exit");
    session.wait_for(" completed");
    assert_eq!(session.end(), 0);
    let shown = session.shown().to_owned();
    check_counted(&folder, "session", &shown);
    for (job, name) in [(&script, "script"), (&inside, "inside")] {
        cluster.wait_state(job, "C");
        let status = cluster.attribute(job, "exit_status");
        assert_eq!(status.as_deref(), Some("6"), "{name}");
    }
    for name in ["script", "inside", "program"] {
        let text = fs::read_to_string(folder.join(format!("{name}.out"))).unwrap();
        check_counted(&folder, name, &text);
    }
}
