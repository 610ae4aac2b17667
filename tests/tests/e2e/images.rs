//! Images from a real registry: by their short names, on whose account, one pull for all, and each refusal in one sentence.

use std::fs;
use std::path::{Path, PathBuf};

use capstan_tests::registry::{ACCOUNT, Registry};
use capstan_tests::{Cluster, User, engine, wait_until};

use crate::is_root;

/// A cluster of one node whose agent has these settings of images.
fn cluster(images: &str) -> Cluster {
    let usual = ["--nodes", "1", "--cores", "8", "--cards", "1", "--debug"];
    let mut cluster = Cluster::up(&usual);
    let settings = cluster.path().join("nodes/node01/agent.toml");
    let text = fs::read_to_string(&settings).unwrap();
    cluster.kill("node01");
    fs::write(&settings, format!("{text}\n{images}")).unwrap();
    cluster.start("node01");
    cluster.wait_nodes();
    cluster
}

/// Runs `script` as a job and answers with what it wrote, both streams in one.
fn run(cluster: &Cluster, user: &User, name: &str, script: &str) -> String {
    let (job, out) = submit(cluster, user, name, script);
    cluster.wait_state(&job, "C");
    wait_until("the output is there", || fs::read_to_string(&out))
}

fn submit(cluster: &Cluster, user: &User, name: &str, script: &str) -> (String, PathBuf) {
    let folder = user.folder(name);
    let out = folder.join("out");
    let options = format!("-d . -j oe -o {}", out.display());
    (cluster.submit(user, &folder, &options, script), out)
}

fn agent_log(cluster: &Cluster) -> String {
    fs::read_to_string(cluster.path().join("log/node01.log")).unwrap()
}

#[test]
fn an_image_comes_by_its_short_name_and_its_job_hears_of_it() {
    if !is_root() {
        return;
    }
    let Some(registry) = Registry::start(false) else {
        return;
    };
    let image = registry.offer("tools:1");
    let address = registry.address();
    let names = format!("[images.aliases]\n'@site/' = '{address}/'\ntools = '{image}'\n");
    let cluster = cluster(&names);
    let alice = User::alice();
    let script = "startdocker -c 'cat /etc/offered' @site/tools:1\necho code=$?\nstartdocker -c 'cat /etc/offered' tools\n";
    let out = run(&cluster, &alice, "images-alias", script);
    assert_eq!(out.matches(&image).count(), 2 + said(&out, &image), "{out}");
    assert!(out.contains("code=0"), "{out}");
    let told = format!("image {image} is not on this node: getting it from its registry");
    assert_eq!(
        out.matches(&told).count(),
        1,
        "the second finds it here: {out}"
    );

    let listed = cluster.sh(&alice, "qimages tools").ok();
    let line = listed.lines().find(|line| line.starts_with(&image));
    assert!(line.is_some_and(|line| line.contains("tools")), "{listed}");
    assert!(
        !listed.contains("busybox"),
        "only what was asked for: {listed}"
    );
    let all = cluster.sh(&alice, "qimages --json").ok();
    assert!(
        all.contains("@site/") && all.contains("capstan-test:busybox"),
        "{all}"
    );
    registry.forget(&image);
}

/// How often the node itself named `image` to the job.
fn said(out: &str, image: &str) -> usize {
    let notices = out
        .lines()
        .filter(|line| line.contains("image ") && line.contains(image));
    notices.count()
}

#[test]
fn an_image_that_cannot_be_got_is_refused_in_one_sentence_that_says_why() {
    if !is_root() {
        return;
    }
    let Some(registry) = Registry::start(false) else {
        return;
    };
    let cluster = cluster("");
    let address = registry.address();
    let script = format!(
        "for image in {address}/no/such:1 127.0.0.1:1/x:1 'a b' 'x;id' UPPER; do\n\
         startdocker -c 'echo GOT THROUGH' \"$image\"; echo code=$?\ndone\n"
    );
    let out = run(&cluster, &User::alice(), "images-refused", &script);
    for sentence in [
        format!("image {address}/no/such:1 is neither on this node nor in its registry {address}"),
        "registry 127.0.0.1:1 of image 127.0.0.1:1/x:1 does not answer: ".to_owned(),
        "'a b' is no image name".to_owned(),
        "'x;id' is no image name".to_owned(),
    ] {
        let lines = out.lines().filter(|line| line.contains(&sentence)).count();
        assert_eq!(lines, 1, "{sentence}\n{out}");
    }
    assert!(!out.contains("GOT THROUGH"), "{out}");
    assert_eq!(out.matches("code=125").count(), 5, "{out}");
}

#[test]
fn an_account_opens_an_image_to_its_user_alone_and_is_written_nowhere() {
    if !is_root() {
        return;
    }
    let Some(registry) = Registry::start(true) else {
        return;
    };
    let image = registry.offer("secret:1");
    let address = registry.address();
    let mut cluster = cluster("");
    let (alice, bob) = (User::alice(), User::bob());
    let script = format!("startdocker -c 'cat /etc/offered' {image}\necho code=$?\n");
    let denied = |out: &str| {
        let sentence = format!("registry {address} does not let");
        out.contains(&sentence) && out.contains("code=125")
    };
    let out = run(&cluster, &bob, "images-denied", &script);
    assert!(denied(&out), "{out}");

    let keys = alice.folder(".docker");
    let (account, password) = ACCOUNT;
    let line = format!(
        "{{\"auths\": {{\"{address}\": {{\"username\": \"{account}\", \"password\": \"{password}\"}}}}}}"
    );
    let file = keys.join("config.json");
    fs::write(&file, line).unwrap();
    alice.own(&file);
    fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let out = run(&cluster, &alice, "images-account", &script);
    fs::remove_dir_all(&keys).unwrap();
    assert!(out.contains("code=0"), "{out}");

    let out = run(&cluster, &bob, "images-denied", &script);
    assert!(denied(&out), "it lies on the node, and is not bob's: {out}");
    check_listed(&mut cluster, &image);
    let log = agent_log(&cluster);
    let encoded = "bGlicmFyaWFuOm9wZW4tc2VzYW1lLTcz";
    for secret in [password, encoded] {
        assert!(!log.contains(secret), "a password is in the log");
        let found = holders(cluster.path(), secret);
        assert!(found.is_empty(), "a password lies in {found:?}");
    }
    registry.forget(&image);
}

/// Alice, whose account got it, and managers see that the image is there; bob does not.
fn check_listed(cluster: &mut Cluster, image: &str) {
    // Else its list of images is a minute old.
    cluster.kill("node01");
    cluster.start("node01");
    wait_until("alice sees her image", || {
        let listed = cluster.sh(&User::alice(), "qimages").ok();
        match listed.contains(image) {
            true => Ok(()),
            false => Err(listed),
        }
    });
    let listed = cluster.sh(&User::bob(), "qimages").ok();
    assert!(listed.contains(engine::IMAGE), "{listed}");
    assert!(!listed.contains(image), "{listed}");
    let listed = cluster.root("qimages").stdout;
    assert!(listed.contains(image), "{listed}");
}

/// Files below `folder` with `secret` in them.
fn holders(folder: &Path, secret: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        let Ok(kind) = entry.file_type() else {
            continue;
        };
        if kind.is_dir() {
            found.extend(holders(&path, secret));
        } else if kind.is_file() {
            let bytes = fs::read(&path).unwrap_or_default();
            let has = bytes
                .windows(secret.len())
                .any(|part| part == secret.as_bytes());
            found.extend(has.then_some(path));
        }
    }
    found
}

#[test]
fn many_who_wait_for_an_image_share_one_pull_and_qstat_shows_how_far_it_is() {
    if !is_root() {
        return;
    }
    let Some(registry) = Registry::start(false) else {
        return;
    };
    let image = registry.offer("shared:1");
    let cluster = cluster("");
    let alice = User::alice();
    let before = asked_for(&registry.log(), "shared/manifests/1");
    registry.shut();
    let script = format!("startdocker -c 'cat /etc/offered' {image}\n");
    let jobs: Vec<_> = (0..6)
        .map(|nth| submit(&cluster, &alice, &format!("images-many{nth}"), &script))
        .collect();
    for (job, _) in &jobs {
        wait_until("qstat -f tells what the job waits for", || {
            match cluster.attribute(job, "image_state") {
                Some(state) if state.starts_with("getting image") => Ok(()),
                other => Err(other),
            }
        });
    }
    registry.open();
    for (job, out) in &jobs {
        cluster.wait_state(job, "C");
        let out = wait_until("the output is there", || fs::read_to_string(out));
        assert!(
            out.contains(&format!("\n{image}")) || out.ends_with(&image),
            "{out}"
        );
        assert_eq!(cluster.attribute(job, "image_state"), None);
    }
    let pulls = asked_for(&registry.log(), "shared/manifests/1") - before;
    assert_eq!(pulls, 1, "{}", registry.log());
    registry.forget(&image);
}

/// Requests that were answered for `path`, in the registry's log.
fn asked_for(log: &str, path: &str) -> usize {
    let asked = |line: &&str| {
        line.contains("http.request.method=HEAD")
            && line.contains(path)
            && line.contains("response completed")
    };
    log.lines().filter(asked).count()
}
