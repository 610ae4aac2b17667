//! Jobs that run in an image of a real registry: the image comes while they wait and hold nothing, once for all of them,
//! whoever dies meanwhile; and what their owners read when it cannot be had.

use std::fs;
use std::path::PathBuf;

use capstan_tests::registry::{ACCOUNT, Registry};
use capstan_tests::{Cluster, User, engine, wait_until};

use crate::is_root;

fn cluster(nodes: &str) -> Cluster {
    Cluster::up(&["--nodes", nodes, "--cores", "8", "--cards", "1", "--debug"])
}

/// A registry with one image that gives nothing before it is opened, beside a cluster.
fn shut(name: &str) -> Option<(Registry, String)> {
    if !is_root() {
        return None;
    }
    let registry = Registry::start(false)?;
    let image = registry.offer(name);
    registry.shut();
    Some((registry, image))
}

/// A job of a card inside `image`; its id, and where it writes.
fn submit(cluster: &Cluster, user: &User, name: &str, image: &str) -> (String, PathBuf) {
    let folder = user.folder(name);
    let out = folder.join("out");
    fs::remove_file(&out).ok();
    let options = format!(
        "-d . -j oe -o {} -l nodes=1:gpus=1 -W image={image}",
        out.display()
    );
    let script = "cat /etc/offered; echo; echo cards=$CUDA_VISIBLE_DEVICES\n";
    (cluster.submit(user, &folder, &options, script), out)
}

fn wait_comment(cluster: &Cluster, job: &str, wanted: &str) -> String {
    wait_until(&format!("{job} says {wanted}"), || {
        match cluster.attribute(job, "comment") {
            Some(comment) if comment.contains(wanted) => Ok(comment),
            other => Err(other),
        }
    })
}

const PULLED: &str = "is being pulled on node01";

/// Requests for a manifest that were answered.
fn asked_for(registry: &Registry, path: &str) -> usize {
    let log = registry.log();
    let asked = |line: &&str| {
        line.contains("http.request.method=HEAD")
            && line.contains(path)
            && line.contains("response completed")
    };
    log.lines().filter(asked).count()
}

fn ran(cluster: &Cluster, (job, out): &(String, PathBuf), image: &str) {
    cluster.wait_state(job, "C");
    let said = wait_until("the output is there", || fs::read_to_string(out));
    assert!(said.contains(image), "{said}");
    assert!(said.contains("cards=0"), "{said}");
    assert_eq!(cluster.attribute(job, "exit_status").as_deref(), Some("0"));
}

#[test]
fn an_image_comes_once_for_many_jobs_that_hold_no_card_while_others_use_it() {
    let Some((registry, image)) = shut("early:1") else {
        return;
    };
    let before = asked_for(&registry, "early/manifests/1");
    let cluster = cluster("1");
    cluster.root("qmgr -c 'set server job_footer = True'").ok();
    let alice = User::alice();
    let jobs: Vec<_> = (0..4)
        .map(|nth| submit(&cluster, &alice, &format!("early{nth}"), &image))
        .collect();
    for (job, _) in &jobs {
        let comment = wait_comment(&cluster, job, PULLED);
        assert!(comment.contains(&format!("image {image} is")), "{comment}");
        assert_eq!(cluster.attribute(job, "job_state").as_deref(), Some("Q"));
        assert_eq!(cluster.attribute(job, "exec_host"), None);
    }
    wait_until("qstat -f tells how far it is", || {
        match cluster.attribute(&jobs[0].0, "image_state") {
            Some(state) if state.contains(" layers") => Ok(()),
            other => Err(other),
        }
    });
    let why = cluster.sh(&alice, &format!("qwhy {}", jobs[0].0)).ok();
    assert!(why.contains("being pulled"), "{why}");
    // The card is nobody's: a short job gets it.
    let folder = alice.folder("early-other");
    let options = "-d . -j oe -o out -l nodes=1:gpus=1,walltime=20";
    let other = cluster.submit(&alice, &folder, options, "true\n");
    cluster.wait_state(&other, "C");
    registry.open();
    for job in &jobs {
        ran(&cluster, job, &image);
    }
    let (job, out) = &jobs[0];
    let inspect = ["image", "inspect", "-f", "{{index .RepoDigests 0}}", &image];
    let known = engine::docker(&inspect).unwrap();
    let digest = format!("{image} {}", known.trim().split_once('@').unwrap().1);
    let out = wait_until("the footer is written", || {
        let text = fs::read_to_string(out).unwrap_or_default();
        if text.contains("---- job") {
            Ok(text)
        } else {
            Err(text)
        }
    });
    assert!(out.contains(&format!("image    {digest}")), "{out}");
    let told = cluster.attribute(job, "image_digests").unwrap_or_default();
    assert!(told.starts_with(&digest), "{told}");
    let pulls = asked_for(&registry, "early/manifests/1") - before;
    assert_eq!(pulls, 1, "{}", registry.log());
    registry.forget(&image);
}

#[test]
fn whoever_dies_during_a_pull_the_job_starts_when_its_image_is_there() {
    for dies in ["node01", "server"] {
        let Some((registry, image)) = shut(&format!("{dies}-dies:1")) else {
            return;
        };
        let mut cluster = cluster("1");
        let job = submit(&cluster, &User::alice(), dies, &image);
        wait_comment(&cluster, &job.0, PULLED);
        cluster.kill(dies);
        cluster.start(dies);
        cluster.wait_server();
        cluster.wait_nodes();
        wait_comment(&cluster, &job.0, PULLED);
        registry.open();
        ran(&cluster, &job, &image);
        registry.forget(&image);
    }
}

#[test]
fn a_job_whose_image_cannot_be_had_is_held_and_its_owner_names_another() {
    let Some((registry, image)) = shut("right:1") else {
        return;
    };
    registry.open();
    let address = registry.address();
    let cluster = cluster("2");
    let alice = User::alice();
    let wrong = format!("{address}/no/such:1");
    let job = submit(&cluster, &alice, "held", &wrong);
    cluster.wait_state(&job.0, "H");
    let sentence = format!("image {wrong} is neither on this node nor in its registry {address}");
    wait_comment(&cluster, &job.0, &sentence);
    assert_eq!(
        cluster.attribute(&job.0, "Hold_Types").as_deref(),
        Some("u")
    );
    cluster
        .sh(
            &alice,
            &format!("qalter -W image={image} {0} && qrls {0}", job.0),
        )
        .ok();
    ran(&cluster, &job, &image);
    registry.forget(&image);
}

#[test]
fn an_image_comes_on_its_owners_account_and_is_nobody_elses() {
    if !is_root() {
        return;
    }
    let Some(registry) = Registry::start(true) else {
        return;
    };
    let image = registry.offer("secret-early:1");
    let address = registry.address();
    let cluster = cluster("1");
    let (alice, bob) = (User::alice(), User::bob());
    let keys = alice.folder(".docker");
    let (account, password) = ACCOUNT;
    let line = format!(
        "{{\"auths\": {{\"{address}\": {{\"username\": \"{account}\", \"password\": \"{password}\"}}}}}}"
    );
    let file = keys.join("config.json");
    fs::write(&file, line).unwrap();
    alice.own(&file);
    let job = submit(&cluster, &alice, "own-account", &image);
    ran(&cluster, &job, &image);
    fs::remove_dir_all(&keys).unwrap();

    let (job, _) = submit(&cluster, &bob, "no-account", &image);
    let sentence = format!("registry {address} does not let");
    let comment = wait_comment(&cluster, &job, &sentence);
    assert!(
        comment.contains("could not be pulled on node01"),
        "{comment}"
    );
    assert_eq!(cluster.attribute(&job, "exec_host"), None);
    registry.forget(&image);
}

/// The operator's order is kept, and the nodes stay free, until every one of them has the image.
#[test]
fn a_job_of_two_nodes_that_is_started_by_force_has_its_image_on_both_of_them_first() {
    let Some((registry, image)) = shut("forced:1") else {
        return;
    };
    let cluster = cluster("2");
    let alice = User::alice();
    let folder = alice.folder("forced");
    let options = format!("-h -d . -j oe -o out -l nodes=2:gpus=1 -W image={image}");
    let script = "cat /etc/offered; echo; echo nodes=$PBS_NUM_NODES\n";
    let job = cluster.submit(&alice, &folder, &options, script);
    cluster.root(&format!("qrun {job}")).ok();
    let comment = wait_comment(&cluster, &job, "qrun: it starts when image");
    assert!(comment.ends_with("has come to node01, node02"), "{comment}");
    assert_eq!(cluster.attribute(&job, "exec_host"), None);
    let free = cluster.submit(
        &alice,
        &folder,
        "-d . -j oe -o free -l nodes=2:gpus=1",
        "true\n",
    );
    cluster.wait_state(&free, "C");
    registry.open();
    cluster.wait_state(&job, "C");
    let said = wait_until("the output is there", || {
        fs::read_to_string(folder.join("out"))
    });
    assert!(said.contains(&image) && said.contains("nodes=2"), "{said}");
    let hosts = cluster.attribute(&job, "exec_host").unwrap_or_default();
    assert!(
        hosts.contains("node01") && hosts.contains("node02"),
        "{hosts}"
    );
    assert_eq!(cluster.attribute(&job, "exit_status").as_deref(), Some("0"));
    registry.forget(&image);
}
