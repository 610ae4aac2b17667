//! The rules of the stock: whose an image is, on whose terms it is asked for, and that marks on disk survive.

use super::*;
use crate::images::ImagesFile;

fn id(digit: char) -> ImageId {
    ImageId(format!("sha256:{}", digit.to_string().repeat(64)))
}

fn stock(folder: &Path, credentials: Option<&Path>) -> Stock {
    let file = ImagesFile {
        credentials_file: credentials.map(Path::to_owned),
        ..ImagesFile::default()
    };
    Stock::open(file.resolve().unwrap(), folder).unwrap()
}

fn of(uid: Option<u32>) -> Asker {
    Asker {
        uid,
        ..Asker::default()
    }
}

#[test]
fn what_came_by_an_own_account_is_open_to_those_who_showed_their_right_only() {
    let folder = tempfile::tempdir().unwrap();
    let image = id('a');
    let stock = stock(folder.path(), None);
    assert!(stock.is_open_to(&image, 1002), "the admin put it there");
    stock.came(&image, &of(Some(1001)), false).unwrap();
    assert!(stock.is_open_to(&image, 1001) && !stock.is_open_to(&image, 1002));
    stock.came(&image, &of(Some(1002)), true).unwrap();
    let again = self::stock(folder.path(), None);
    assert!(again.is_open_to(&image, 1001) && again.is_open_to(&image, 1002));
    assert!(!again.is_open_to(&image, 1003));
    again.came(&image, &of(None), true).unwrap();
    assert!(
        again.is_open_to(&image, 1003),
        "its registry shows it to anybody"
    );
}

#[test]
fn an_image_that_was_everybodys_stays_so() {
    let folder = tempfile::tempdir().unwrap();
    let stock = stock(folder.path(), None);
    stock.came(&id('b'), &of(Some(1001)), true).unwrap();
    assert!(stock.is_open_to(&id('b'), 1002));
}

#[test]
fn an_own_account_comes_before_the_sites() {
    let folder = tempfile::tempdir().unwrap();
    let site = folder.path().join("site.json");
    let write = |mode| {
        fs::write(
            &site,
            r#"{"auths": {"r:1": {"username": "site", "password": "p"}}}"#,
        )
        .unwrap();
        fs::set_permissions(&site, fs::Permissions::from_mode(mode)).unwrap();
    };
    write(0o600);
    let stock = stock(folder.path(), Some(&site));
    let own = r#"{"auths": {"r:1": {"username": "alice", "password": "p"}}}"#;
    let own = Keyring::parse(own).unwrap();
    let account = |asker: Asker| asker.credentials.map(|credentials| credentials.account);
    let asker = stock.asker("r:1/x", 1001, &own);
    assert_eq!(asker.uid, Some(1001));
    assert_eq!(account(asker).as_deref(), Some("alice"));
    let asker = stock.asker("r:1/x", 1001, &Keyring::default());
    assert_eq!(asker.uid, None);
    assert_eq!(account(asker).as_deref(), Some("site"));
    let nobodys = Asker {
        by: 1001,
        ..Asker::default()
    };
    assert_eq!(stock.asker("other/x", 1001, &own), nobodys);
    write(0o644);
    let asker = stock.asker("r:1/x", 1001, &Keyring::default());
    assert_eq!(
        account(asker),
        None,
        "a file that others may read is not used"
    );
}

#[test]
fn an_image_that_is_seen_first_is_young_and_keeps_its_age_from_then_on() {
    let folder = tempfile::tempdir().unwrap();
    let stock = stock(folder.path(), None);
    let first = stock.used_at(&id('c'));
    assert!(first.elapsed().unwrap().as_secs() < 60);
    let kept = stock.used_at(&id('c'));
    assert_eq!(kept, stock.used_at(&id('c')));
}

#[test]
fn owners_of_an_image_are_told_unless_it_is_everybodys() {
    let folder = tempfile::tempdir().unwrap();
    let (image, stock) = (id('a'), stock(folder.path(), None));
    assert_eq!(stock.owners(&image), None);
    stock.came(&image, &of(Some(1002)), false).unwrap();
    stock.came(&image, &of(Some(1001)), true).unwrap();
    assert_eq!(stock.owners(&image), Some(vec![1001, 1002]));
    assert_eq!(stock.owners(&id('b')), None);
    stock.came(&image, &of(None), true).unwrap();
    assert_eq!(stock.owners(&image), None);
}

#[test]
fn only_digests_become_names_of_files() {
    for bad in ["../../etc/passwd", "sha256:../../x", "sha256:", "fake"] {
        assert_eq!(file_name(&ImageId(bad.to_owned())), None, "{bad}");
    }
}
