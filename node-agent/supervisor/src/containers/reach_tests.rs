//! Looking with somebody's rights.

use super::*;
use crate::containers::testing::{GROUP, TestSite, UID};

fn rights(uid: u32, groups: &[u32]) -> Rights {
    Rights {
        uid,
        gid: uid,
        groups: groups.to_vec(),
    }
}

#[tokio::test]
async fn a_look_has_the_users_rights_and_leaves_ours_alone() {
    let Some(site) = TestSite::make() else { return };
    site.make_folder("closed", 0, 0o700);
    site.make_folder("group", 0, 0o750);
    std::os::unix::fs::chown(site.path("group"), None, Some(GROUP)).expect("group");
    let look = |name: &str, rights: Rights| {
        let path = site.path(name);
        async move {
            rights
                .look(move || reach(&path).map(|seen| seen.facts.path))
                .await
                .expect("look")
        }
    };
    assert!(look("closed", rights(0, &[])).await.is_ok());
    assert_eq!(
        look("closed", rights(UID, &[]))
            .await
            .expect_err("no")
            .kind(),
        io::ErrorKind::PermissionDenied
    );
    assert!(look("group", rights(UID, &[])).await.is_err());
    assert!(look("group", rights(UID, &[GROUP])).await.is_ok());
    assert!(
        reach(&site.path("closed")).is_ok(),
        "this thread is still root's"
    );
    let groups = nix::unistd::getgroups().expect("groups");
    assert!(!groups.contains(&Gid::from_raw(GROUP)));
}

#[tokio::test]
async fn a_file_is_read_with_the_users_rights() {
    let Some(site) = TestSite::make() else { return };
    site.make_file("secret", "text", 0o600);
    let path = site.path("secret");
    let stranger = rights(UID + 1, &[]);
    let seen = stranger
        .look(move || reach(&path).and_then(|file| file.read(10)))
        .await
        .expect("look");
    assert_eq!(
        seen.expect_err("not theirs").kind(),
        io::ErrorKind::PermissionDenied
    );
    let path = site.path("secret");
    let seen = rights(UID, &[])
        .look(move || reach(&path).and_then(|file| file.read(2)))
        .await
        .expect("look");
    assert_eq!(seen.expect("theirs"), b"te");
}
