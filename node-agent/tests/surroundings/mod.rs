//! What a job finds around it and leaves behind: output that cannot be delivered, the login shell's words, staged files,
//! folders of its own.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};

use capstan_proto::wire::{StagedFile, attempt_ended::Outcome};

use crate::harness::{Node, is_skipped_without_root};

/// The recorded session D07: the job runs, and what it writes is kept where its user may read it.
#[tokio::test]
async fn output_that_cannot_be_delivered_is_kept() {
    let mut node = Node::start("").await;
    let mut spec = node.spec(5, "echo o; exit 3");
    spec.output.as_mut().unwrap().stdout = "/proc/none/x".into();
    node.run(spec).await;
    let ended = node.ended(5).await;
    assert_eq!(ended.outcome, Some(Outcome::ExitStatus(3)));
    let kept = node.state_folder().join("undelivered/5.srv.OU");
    assert_eq!(fs::read_to_string(&kept).unwrap(), "o\n");
    let file = fs::metadata(&kept).unwrap();
    assert_eq!(
        (file.uid(), file.mode() & 0o777),
        (node.user.uid.as_raw(), 0o600)
    );
    let message = ended.messages.concat();
    let expected = format!(
        "Unable to copy file {} to /proc/none/x, error 1\n",
        kept.display()
    );
    assert!(message.starts_with(&expected), "{message}");
}

#[tokio::test]
async fn output_opens_with_the_users_rights_only() {
    if is_skipped_without_root() {
        return;
    }
    let mut node = Node::start("").await;
    let secret = node.folder.path().join("secret");
    fs::write(&secret, "kept").unwrap();
    std::os::unix::fs::symlink(&secret, node.work("link")).unwrap();
    let mut spec = node.spec(1, "true");
    spec.output.as_mut().unwrap().stdout = node.work("link").to_string_lossy().into_owned();
    node.run(spec).await;
    let ended = node.ended(1).await;
    assert_eq!(ended.outcome, Some(Outcome::ExitStatus(0)));
    assert!(ended.messages.concat().contains("denied"), "{ended:?}");
    assert_eq!(fs::read_to_string(secret).unwrap(), "kept");
}

/// The recorded session D08: the login shell says what became of the script.
#[tokio::test]
async fn the_login_shell_says_what_killed_a_script() {
    let mut node = Node::start("").await;
    let mut spec = node.spec(1, "kill -9 $$");
    spec.shell = "/bin/bash".into();
    assert_eq!(node.outcome(spec).await, Outcome::ExitStatus(137));
    let said = node.read("err");
    assert!(said.starts_with("-bash: line 1: "), "{said}");
    assert!(
        said.contains(" Killed ") && said.ends_with("/spool/1.srv15003.SC\n"),
        "{said}"
    );

    let mut spec = node.spec(2, "nosuchcommand");
    spec.shell = "/bin/bash".into();
    assert_eq!(node.outcome(spec).await, Outcome::ExitStatus(127));
    let said = node.read("err");
    assert!(
        said.ends_with("/spool/2.srv15003.SC: line 1: nosuchcommand: command not found\n"),
        "{said}"
    );
}

/// The recorded session D11: the shell dies at once, the script may still tidy up.
#[tokio::test]
async fn a_deleted_script_has_the_time_it_was_given() {
    let mut node = Node::start("").await;
    let script = format!(
        "trap 'sleep 0.3; echo got TERM; exit 7' TERM; echo x > {}; sleep 300 & wait",
        node.work("ready").display()
    );
    node.run(node.spec(1, &script)).await;
    node.made("ready").await;
    node.stop(1, 20).await;
    assert_eq!(node.ended(1).await.outcome, Some(Outcome::ExitStatus(271)));
    assert_eq!(
        (node.read("out"), node.read("err")),
        ("got TERM\n".into(), String::new())
    );
}

fn staged(local: &std::path::Path, remote: &std::path::Path) -> StagedFile {
    StagedFile {
        local: local.to_string_lossy().into_owned(),
        host: "srv".into(),
        remote: remote.to_string_lossy().into_owned(),
    }
}

/// The recorded session H05: copied before and after, and what was only copied is taken away.
#[tokio::test]
async fn staged_files_are_copied_and_taken_away() {
    let mut node = Node::start("").await;
    fs::write(node.work("source"), "content\n").unwrap();
    let (inside, result) = (node.work("in"), node.work("result"));
    let script = format!(
        "cat {}; mkdir {1}; echo r > {1}/file; exit 3",
        inside.display(),
        result.display()
    );
    let mut spec = node.spec(1, &script);
    spec.stage_in = vec![staged(&inside, &node.work("source"))];
    spec.stage_out = vec![
        staged(&result, &node.work("back")),
        staged(&node.work("nothing"), &node.work("nowhere")),
    ];
    node.run(spec).await;
    let ended = node.ended(1).await;
    assert_eq!(ended.outcome, Some(Outcome::ExitStatus(3)), "{ended:?}");
    assert_eq!(node.read("out"), "content\n");
    assert_eq!(node.read("back/file"), "r\n");
    assert!(!inside.exists(), "only copied");
    assert!(node.work("source").exists());
    // Removed only where it lies in the home folder, which this test's does not.
    assert!(result.exists());
    let message = ended.messages.concat();
    assert!(
        message.contains("*** error from copy\n/bin/cp: "),
        "{message}"
    );
    assert!(node.read("err").ends_with(&message));
}

#[tokio::test]
async fn a_file_that_cannot_be_copied_keeps_the_script_from_starting() {
    let mut node = Node::start("").await;
    let mut spec = node.spec(1, &format!("echo x > {}", node.work("ran").display()));
    spec.stage_in = vec![staged(
        &node.work("in"),
        std::path::Path::new("/nosuch/file"),
    )];
    node.run(spec).await;
    let ended = node.ended(1).await;
    let Some(Outcome::StageInFailed(why)) = &ended.outcome else {
        panic!("{ended:?}");
    };
    assert!(why.contains("/nosuch/file"), "{why}");
    assert!(
        ended.messages[0].contains("/bin/cp: cannot stat '/nosuch/file'"),
        "{ended:?}"
    );
    assert!(!node.work("ran").exists());
}

/// A link in the user's folder leads to what only root may read: the copy is the user's, and fails.
#[tokio::test]
async fn files_are_copied_with_the_users_rights_only() {
    if is_skipped_without_root() {
        return;
    }
    let mut node = Node::start("").await;
    let secret = node.folder.path().join("secret");
    fs::write(&secret, "kept").unwrap();
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o600)).unwrap();
    std::os::unix::fs::symlink(&secret, node.work("link")).unwrap();
    let mut spec = node.spec(1, "true");
    spec.stage_in = vec![staged(&node.work("in"), &node.work("link"))];
    let outcome = node.outcome(spec).await;
    assert!(
        matches!(&outcome, Outcome::StageInFailed(why) if why.contains("denied")),
        "{outcome:?}"
    );

    let mut spec = node.spec(2, "echo changed > mine");
    spec.initial_folder = node
        .folder
        .path()
        .join("work")
        .to_string_lossy()
        .into_owned();
    spec.stage_out = vec![staged(&node.work("mine"), &secret)];
    node.run(spec).await;
    let ended = node.ended(2).await;
    assert!(ended.messages.concat().contains("denied"), "{ended:?}");
    assert_eq!(fs::read_to_string(secret).unwrap(), "kept");
    assert_eq!(node.read("mine"), "changed\n", "what was not copied stays");
}

#[tokio::test]
async fn a_job_of_pbs_pro_has_a_folder_of_its_own_while_it_runs() {
    let mut node = Node::start("").await;
    let mut spec = node.spec(
        1,
        "cd $TMPDIR; touch x; stat -c '%a %u' .; pwd; echo $PBS_JOBDIR",
    );
    spec.pro_dialect = true;
    assert_eq!(
        node.outcome(spec).await,
        Outcome::ExitStatus(0),
        "{}",
        node.read("err")
    );
    let out = node.read("out");
    let lines: Vec<&str> = out.lines().collect();
    assert_eq!(lines[0], format!("700 {}", node.user.uid));
    assert!(!fs::exists(lines[1]).unwrap());
    assert_eq!(lines[2], node.user.dir.to_string_lossy());
}
