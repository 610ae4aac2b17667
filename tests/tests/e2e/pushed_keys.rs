//! Keys that a program pushes into its terminal (`TIOCSTI`, where the kernel still lets it): never into the one at which the
//! command was typed that runs it, or its owner's shell would run what the program wrote.

use std::fs;
use std::path::Path;

use capstan_tests::images::{self, DEBIAN};
use capstan_tests::{Cluster, Terminal, User, wait_until};

use crate::{is_root, skipped};

/// Whether the kernel takes pushed keys from anybody (`dev.tty.legacy_tiocsti`; before 6.2 it always did).
fn is_possible() -> bool {
    let setting = fs::read_to_string("/proc/sys/dev/tty/legacy_tiocsti");
    let is_possible = setting.is_err() || setting.is_ok_and(|text| text.trim() == "1");
    if !is_possible {
        skipped("this kernel pushes no keys for anybody");
    }
    is_possible
}

/// Pushes a line into every terminal that it can reach, and says so. The line makes a file whose name is given.
const PUSH: &str = "import fcntl, os, sys, termios
line = 'touch %s\\n' % sys.argv[1]
for open_one in (lambda: 0, lambda: 1, lambda: 2, lambda: os.open('/dev/tty', os.O_RDWR)):
    try:
        at = open_one()
        for key in line:
            fcntl.ioctl(at, termios.TIOCSTI, key.encode())
    except OSError:
        pass
sys.stdout.write('all-' + 'sent\\n')
";

/// A shell at a terminal which would run what is pushed into it.
fn shell(cluster: &Cluster, user: &User, folder: &Path) -> Terminal {
    let line = "PS1='$ ' exec bash --norc --noprofile -i";
    let mut terminal = Terminal::run(cluster, user, folder, line);
    terminal.line("echo rea''dy");
    terminal.wait_for("ready");
    terminal
}

/// Has what was pushed run, if it went to this shell: it takes one line after the other.
fn settle(terminal: &mut Terminal) {
    for word in ["one", "two"] {
        terminal.line(&format!("echo settled-''{word}"));
        terminal.wait_for(&format!("settled-{word}"));
    }
}

#[test]
fn no_program_of_a_job_types_at_the_terminal_from_which_it_was_called() {
    if !is_root() || !is_possible() {
        return;
    }
    let cluster = Cluster::up(&["--nodes", "1", "--cores", "4", "--debug"]);
    let alice = User::alice();
    let folder = alice.folder("pushed-keys");
    fs::write(folder.join("push.py"), PUSH).unwrap();
    alice.own(&folder.join("push.py"));
    let push = |name: &str| format!("python3 {0}/push.py {0}/{name}", folder.display());
    let is_made = |name: &str| folder.join(name).exists();
    let mut terminal = shell(&cluster, &alice, &folder);

    // Without a job in between it does reach the shell.
    terminal.line(&push("plain"));
    terminal.wait_for("all-sent");
    wait_until("the shell runs what was pushed", || {
        is_made("plain").then_some(()).ok_or(())
    });

    let script = format!(
        "{}; touch begun; until [ -e go ]; do sleep 0.1; done",
        push("script")
    );
    let job = cluster.submit(
        &alice,
        &folder,
        "-l nodes=1,walltime=600 -d . -j oe -o out",
        &script,
    );
    wait_until("the script has pushed", || {
        is_made("begun").then_some(()).ok_or(())
    });
    settle(&mut terminal);
    for (name, more) in [("qexec", ""), ("piped", " </dev/null | cat")] {
        terminal.line(&format!("qexec {job} {}{more}; echo ba''ck", push(name)));
        terminal.wait_for("all-sent");
        terminal.wait_for("back");
        settle(&mut terminal);
    }
    for name in ["script", "qexec", "piped"] {
        assert!(!is_made(name), "{name}: {}", terminal.shown());
    }

    // What it pushes at the end of a session is nobody's: the shell that read there is gone.
    terminal.line(&format!("qsub -I -l walltime=600 -x {}", push("session")));
    terminal.wait_for("all-sent");
    terminal.wait_for(" completed");
    settle(&mut terminal);
    assert!(!is_made("session"), "{}", terminal.shown());
    fs::write(folder.join("go"), "").unwrap();
    cluster.wait_state(&job, "C");
}

#[test]
fn no_program_in_a_container_types_at_the_terminal_of_the_job() {
    if !is_root() || !is_possible() {
        return;
    }
    if !images::matrix().is_some_and(|all| all.contains(&DEBIAN)) {
        return;
    }
    let cluster = Cluster::up(&["--nodes", "1", "--cores", "4", "--debug"]);
    let alice = User::alice();
    let folder = alice.folder("pushed-inside");
    fs::write(folder.join("push.py"), PUSH).unwrap();
    alice.own(&folder.join("push.py"));
    let mut terminal = shell(&cluster, &alice, &folder);
    terminal.line("qsub -I -l walltime=600");
    terminal.wait_for(" ready");
    for (name, options) in [("inside", "-u '-it'"), ("plain", "")] {
        let push = format!("python3 {0}/push.py {0}/{name}", folder.display());
        let (image, commands) = (DEBIAN.name, cluster.path().join("bin"));
        let commands = commands.display();
        terminal.line(&format!(
            "{commands}/startdocker {options} -c '{push}' {image}; echo ba''ck"
        ));
        terminal.wait_for("all-sent");
        terminal.wait_for("back");
        settle(&mut terminal);
        let made = folder.join(name).exists();
        assert!(!made, "{name}: {}", terminal.shown());
    }
    terminal.line("exit");
    terminal.wait_for(" completed");
    settle(&mut terminal);
}
