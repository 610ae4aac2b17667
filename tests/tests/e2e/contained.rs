//! Jobs that are containers: the script runs inside the image, as any job would, and where a site wants it, only so.

use std::fs;

use capstan_tests::engine::{self, IMAGE};
use capstan_tests::{Cluster, User, images, wait_until};

use crate::is_root;

fn cluster(more: &[&str]) -> Option<Cluster> {
    if !is_root() || !engine::is_there() {
        return None;
    }
    let usual = ["--nodes", "1", "--cores", "4", "--cards", "2", "--debug"];
    Some(Cluster::up(&[&usual[..], more].concat()))
}

fn read(path: &std::path::Path) -> String {
    wait_until("the output is there", || fs::read_to_string(path))
}

const SCRIPT: &str = "#PBS -N inside
echo user=`whoami` uid=`id -u` home=$HOME folder=$PWD
echo cards=$CUDA_VISIBLE_DEVICES nodes=`cat $PBS_NODEFILE` job=$PBS_JOBID given=$GIVEN
ls /bin/busybox && ls /usr/bin/perl
echo to-stderr >&2
exit 7
";

#[test]
fn the_script_of_a_job_with_an_image_runs_inside_it_as_its_user() {
    let Some(cluster) = cluster(&[]) else { return };
    let Some(images) = images::matrix() else {
        return;
    };
    let alice = User::alice();
    for image in images.iter().filter(|image| image.has_shell) {
        let folder = alice.folder("contained");
        let options = format!(
            "-d {0} -o {0}/out -e {0}/err -l nodes=1:gpus=1 -v GIVEN=yes,PATH=/nowhere --image {1}",
            folder.display(),
            image.name
        );
        let job = cluster.submit(&alice, &folder, &options, SCRIPT);
        cluster.wait_state(&job, "C");
        let (out, err) = (read(&folder.join("out")), read(&folder.join("err")));
        let said = format!("{}: {out}\n{err}", image.name);
        assert!(
            out.contains(&format!(
                "user={0} uid={1} home=/home/{0}",
                alice.name, alice.uid
            )),
            "{said}"
        );
        assert!(
            out.contains(&format!("folder={}", folder.display())),
            "{said}"
        );
        assert!(
            out.contains(&format!("cards=0 nodes=node01 job={job} given=yes")),
            "{said}"
        );
        assert!(!out.contains("/usr/bin/perl"), "it ran on the host: {said}");
        assert!(err.contains("to-stderr"), "{said}");
        assert_eq!(
            cluster.attribute(&job, "exit_status").as_deref(),
            Some("7"),
            "{said}"
        );
        assert_eq!(
            cluster.attribute(&job, "image").as_deref(),
            Some(image.name)
        );
        assert_eq!(cluster.containers_of(&job), "", "{said}");
    }
}

#[test]
fn a_script_inside_hears_signals_and_ends_with_its_walltime() {
    let Some(cluster) = cluster(&[]) else { return };
    let alice = User::alice();
    let folder = alice.folder("contained-signals");
    let options = format!("-d . -j oe -o {}/out -W image={IMAGE}", folder.display());
    let script = "trap 'echo heard usr1' USR1; trap 'echo heard term; exit 3' TERM; touch ready\nwhile :; do sleep 1; done\n";
    let job = cluster.submit(&alice, &folder, &options, script);
    let ready = |what: &str| {
        wait_until(what, || match folder.join("ready").exists() {
            true => Ok(()),
            false => Err(cluster.attribute(&job, "job_state")),
        });
    };
    ready("the script runs");
    cluster.sh(&alice, &format!("qsig -s USR1 {job}")).ok();
    wait_until("the script hears", || {
        let out = fs::read_to_string(folder.join("out")).unwrap_or_default();
        match out.contains("heard usr1") {
            true => Ok(()),
            false => Err(out),
        }
    });
    cluster.sh(&alice, &format!("qdel {job}")).ok();
    cluster.wait_state(&job, "C");
    let out = read(&folder.join("out"));
    assert!(out.contains("heard term"), "{out}");

    let options = format!(
        "-d . -j oe -o {}/late -l walltime=2 -W image={IMAGE}",
        folder.display()
    );
    let job = cluster.submit(&alice, &folder, &options, "exec sleep 600");
    cluster.wait_state(&job, "C");
    assert_eq!(cluster.containers_of(&job), "");
    assert!(read(&folder.join("late")).contains("walltime"), "told why");
}

#[test]
fn a_job_inside_an_image_that_is_not_there_says_so_and_never_starts() {
    let Some(cluster) = cluster(&[]) else { return };
    let alice = User::alice();
    let folder = alice.folder("contained-missing");
    let out = folder.join("out");
    fs::remove_file(&out).ok();
    let options = format!(
        "-d . -j oe -o {} --image localhost:1/no/such:1",
        out.display()
    );
    let job = cluster.submit(&alice, &folder, &options, "echo GOT THROUGH");
    let sentence = "registry localhost:1 of image localhost:1/no/such:1 does not answer";
    wait_until("it says why it waits", || {
        match cluster.attribute(&job, "comment") {
            Some(comment) if comment.contains(sentence) => Ok(()),
            other => Err(other),
        }
    });
    assert_eq!(cluster.attribute(&job, "job_state").as_deref(), Some("Q"));
    assert_eq!(
        cluster.attribute(&job, "exec_host"),
        None,
        "it holds nothing"
    );
    assert!(!out.exists(), "nothing of it ran");
    let refused = cluster.sh(&alice, "echo true | qsub --image 'a;id'");
    assert_ne!(refused.status, 0);
    assert!(refused.stderr.contains("no image name"), "{refused:?}");
}

#[test]
fn where_containers_are_required_a_job_is_one_or_is_refused() {
    let Some(cluster) = cluster(&["--queue", "boxes"]) else {
        return;
    };
    let alice = User::alice();
    let folder = alice.folder("contained-required");
    cluster
        .root("qmgr -c 'set queue boxes containers = required'")
        .ok();
    let refused = cluster.sh_in(&alice, &folder, "echo true | qsub -q boxes");
    assert_ne!(refused.status, 0, "{refused:?}");
    assert!(refused.stderr.contains("-W image="), "{refused:?}");
    let bad = cluster.root("qmgr -c 'set queue boxes containers = sometimes'");
    assert_ne!(bad.status, 0, "{bad:?}");

    cluster
        .root(&format!(
            "qmgr -c 'set queue boxes default_image = {IMAGE}'"
        ))
        .ok();
    let options = format!("-q boxes -d . -j oe -o {}/out", folder.display());
    let job = cluster.submit(
        &alice,
        &folder,
        &options,
        "ls /usr/bin/perl; ls /bin/busybox",
    );
    cluster.wait_state(&job, "C");
    let out = read(&folder.join("out"));
    assert!(
        out.contains("/bin/busybox\n") && !out.contains("/usr/bin/perl\n"),
        "{out}"
    );
    // Elsewhere it is as ever.
    let options = format!("-q batch -d . -j oe -o {}/host", folder.display());
    let job = cluster.submit(&alice, &folder, &options, "echo on the host");
    cluster.wait_state(&job, "C");
    assert!(read(&folder.join("host")).contains("on the host"));
}

/// Settings of ssh that a user has for a moment.
struct Settings(std::path::PathBuf);

impl Settings {
    fn of(user: &User, text: &str) -> Self {
        let folder = std::path::Path::new("/home").join(user.name).join(".ssh");
        fs::create_dir_all(&folder).unwrap();
        // Root's is as good as his own: ssh refuses what is anybody else's.
        let file = folder.join("config");
        assert!(!file.exists(), "{file:?} is somebody's");
        fs::write(&file, text).unwrap();
        Self(file)
    }
}

impl Drop for Settings {
    fn drop(&mut self) {
        drop(fs::remove_file(&self.0));
        drop(self.0.parent().map(fs::remove_dir));
    }
}

/// Where only images may run, what copies a job's files runs no program that its user names in his settings of ssh.
#[test]
fn what_copies_for_a_job_that_must_be_a_container_runs_no_program_of_its_user() {
    const FAR: &str = "capstan-far.invalid";
    let Some(cluster) = cluster(&["--queue", "boxes"]) else {
        return;
    };
    cluster
        .root("qmgr -c 'set queue boxes containers = required'")
        .ok();
    let alice = User::alice();
    let folder = alice.folder("contained-copies");
    let ran = folder.join("ran");
    let command = format!("/usr/bin/touch {}", ran.display());
    let settings = format!("Host {FAR}\nProxyCommand {command}\nMatch exec \"{command}\"\n");
    let _settings = Settings::of(&alice, &settings);
    let is_run = |queue: &str| {
        let stage = format!("stageout=left@{FAR}:/far");
        let options = format!("-q {queue} -W image={IMAGE},{stage} -d . -j oe -o {FAR}:/out");
        fs::write(folder.join("left"), "x").unwrap();
        let job = cluster.submit(&alice, &folder, &options, "echo inside");
        cluster.wait_state(&job, "C");
        let was_run = ran.exists();
        drop(fs::remove_file(&ran));
        was_run
    };
    assert!(is_run("batch"), "it would be seen if it ran");
    assert!(!is_run("boxes"));
}
