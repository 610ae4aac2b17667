//! Who the user is inside: the image's own passwd and group entries, with the user and their groups added, so that
//! `whoami`, `getpass.getuser()` and the shell's prompt know the name.

use std::collections::BTreeMap;
use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

use super::engine::ImageId;

/// Largest passwd or group file of an image that is read.
pub(super) const FILE_BYTES_MAX: usize = 1024 * 1024;

/// A user as the container should know them.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Person {
    /// Login name.
    pub(super) name: String,
    /// User id.
    pub(super) uid: u32,
    /// Primary group.
    pub(super) gid: u32,
    /// Home folder, the same inside and outside.
    pub(super) home: String,
    /// Login shell.
    pub(super) shell: String,
    /// Names of all groups by id, as this host knows them.
    pub(super) groups: BTreeMap<u32, String>,
}

/// What an image says about users by itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct ImageUsers {
    /// `/etc/passwd`.
    pub(super) passwd: String,
    /// `/etc/group`.
    pub(super) group: String,
}

/// The image's passwd with the person in place of any entry of the same name or id.
#[must_use]
pub(super) fn passwd(image: &str, person: &Person) -> String {
    let Person {
        name,
        uid,
        gid,
        home,
        shell,
        ..
    } = person;
    let kept = lines(image).filter(|line| {
        let fields: Vec<_> = line.split(':').collect();
        fields.first() != Some(&name.as_str()) && fields.get(2) != Some(&uid.to_string().as_str())
    });
    let own = format!("{name}:x:{uid}:{gid}::{home}:{shell}");
    join(kept.map(str::to_owned).chain([own]))
}

/// The image's groups with the person's in place of any entry of the same name or id.
#[must_use]
pub(super) fn group(image: &str, person: &Person) -> String {
    let groups = &person.groups;
    let kept = lines(image).filter(|line| {
        let fields: Vec<_> = line.split(':').collect();
        let id = fields.get(2).and_then(|id| id.parse().ok());
        !id.is_some_and(|id| groups.contains_key(&id))
            && !fields
                .first()
                .is_some_and(|name| groups.values().any(|own| own == name))
    });
    let own = groups.iter().map(|(id, name)| match *id == person.gid {
        true => format!("{name}:x:{id}:"),
        false => format!("{name}:x:{id}:{}", person.name),
    });
    join(kept.map(str::to_owned).chain(own))
}

fn lines(text: &str) -> impl Iterator<Item = &str> {
    text.lines().filter(|line| !line.trim().is_empty())
}

fn join(lines: impl Iterator<Item = String>) -> String {
    lines.map(|line| line + "\n").collect()
}

/// A folder of generated files, each written once and never changed: containers hold on to them.
#[derive(Debug)]
pub(super) struct Files {
    folder: PathBuf,
}

impl Files {
    /// In `state_dir`.
    ///
    /// # Errors
    /// The folder cannot be made.
    pub(super) fn open(state_dir: &Path) -> io::Result<Self> {
        let folder = state_dir.join("containers");
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&folder)?;
        Ok(Self { folder })
    }

    /// The users of an image, if they were looked up before, by this process or an earlier one.
    #[must_use]
    pub(super) fn image_users(&self, image: &ImageId) -> Option<ImageUsers> {
        let folder = self.image_folder(image);
        Some(ImageUsers {
            passwd: fs::read_to_string(folder.join("passwd")).ok()?,
            group: fs::read_to_string(folder.join("group")).ok()?,
        })
    }

    /// Remembers the users of an image.
    ///
    /// # Errors
    /// The kernel's.
    pub(super) fn keep_image_users(&self, image: &ImageId, users: &ImageUsers) -> io::Result<()> {
        let folder = self.image_folder(image);
        fs::create_dir_all(&folder)?;
        write_whole(&folder.join("passwd"), users.passwd.as_bytes(), 0o600)?;
        write_whole(&folder.join("group"), users.group.as_bytes(), 0o600)
    }

    fn image_folder(&self, ImageId(id): &ImageId) -> PathBuf {
        let name: String = id.chars().filter(char::is_ascii_alphanumeric).collect();
        self.folder.join("images").join(name)
    }

    /// The two files for `person` in containers of an image, made if they are not there yet.
    ///
    /// # Errors
    /// The kernel's.
    pub(super) fn of_person(
        &self,
        users: &ImageUsers,
        person: &Person,
    ) -> io::Result<[PathBuf; 2]> {
        let texts = [
            ("passwd", passwd(&users.passwd, person)),
            ("group", group(&users.group, person)),
        ];
        let mut hasher = DefaultHasher::new();
        texts.hash(&mut hasher);
        let folder =
            self.folder
                .join("people")
                .join(format!("{}-{:016x}", person.uid, hasher.finish()));
        fs::create_dir_all(&folder)?;
        let mut paths = [PathBuf::new(), PathBuf::new()];
        for (path, (name, text)) in paths.iter_mut().zip(&texts) {
            *path = folder.join(name);
            // The name is a hash of the content: compared, because a hash of 64 bits may meet its like.
            if fs::read(&path).ok().as_deref() != Some(text.as_bytes()) {
                write_whole(path, text.as_bytes(), 0o644)?;
            }
        }
        Ok(paths)
    }

    /// A file for one container, to be removed with it.
    ///
    /// # Errors
    /// The kernel's.
    pub(super) fn for_one(
        &self,
        name: &str,
        bytes: &[u8],
        owner: (u32, u32),
    ) -> io::Result<OwnFile> {
        let folder = self.folder.join("scripts");
        fs::create_dir_all(&folder)?;
        let file = OwnFile(folder.join(name));
        write_whole(&file.0, bytes, 0o500)?;
        std::os::unix::fs::chown(&file.0, Some(owner.0), Some(owner.1))?;
        Ok(file)
    }

    /// Takes away files of containers that an earlier process started; their containers hold on to them.
    pub(super) fn forget_old(&self) {
        drop(fs::remove_dir_all(self.folder.join("scripts")));
    }
}

/// A file that goes away with this value.
#[derive(Debug)]
pub(super) struct OwnFile(pub PathBuf);

impl Drop for OwnFile {
    fn drop(&mut self) {
        drop(fs::remove_file(&self.0));
    }
}

/// Writes beside and renames, so that nobody ever mounts half a file.
fn write_whole(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    static COUNT: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);
    let nth = COUNT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    let beside = path.with_extension(format!("new{}-{nth}", std::process::id()));
    let mut file = fs::File::create(&beside)?;
    file.set_permissions(fs::Permissions::from_mode(mode))?;
    file.write_all(bytes)?;
    fs::rename(&beside, path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ann() -> Person {
        Person {
            name: "ann".into(),
            uid: 1001,
            gid: 100,
            home: "/ghome/ann".into(),
            shell: "/bin/bash".into(),
            groups: BTreeMap::from([(100, "users".into()), (2000, "vision".into())]),
        }
    }

    #[test]
    fn the_person_takes_the_place_of_image_users_of_the_same_name_or_id() {
        let image = "root:x:0:0:root:/root:/bin/sh\nann:x:5:5::/:/bin/false\njupyter:x:1001:100::/:/bin/sh\n";
        assert_eq!(
            passwd(image, &ann()),
            "root:x:0:0:root:/root:/bin/sh\nann:x:1001:100::/ghome/ann:/bin/bash\n"
        );
        let image = "root:x:0:\nusers:x:99:\nold:x:2000:\nbin:x:1:ann";
        assert_eq!(
            group(image, &ann()),
            "root:x:0:\nbin:x:1:ann\nusers:x:100:\nvision:x:2000:ann\n"
        );
    }

    #[test]
    fn an_image_without_users_gets_the_person() {
        assert_eq!(passwd("", &ann()), "ann:x:1001:100::/ghome/ann:/bin/bash\n");
        assert_eq!(passwd("broken\n\n:", &ann()).lines().count(), 3);
    }

    #[test]
    fn files_of_a_person_are_made_once() {
        let folder = tempfile::tempdir().expect("folder");
        let files = Files::open(folder.path()).expect("files");
        let users = ImageUsers::default();
        let first = files.of_person(&users, &ann()).expect("made");
        let inode =
            |path: &Path| std::os::unix::fs::MetadataExt::ino(&fs::metadata(path).expect("there"));
        let inodes = first.each_ref().map(|path| inode(path));
        let second = files.of_person(&users, &ann()).expect("found");
        assert_eq!(
            (&first, inodes),
            (&second, second.each_ref().map(|path| inode(path)))
        );
        let mut bob = ann();
        bob.shell = "/bin/sh".into();
        assert_ne!(files.of_person(&users, &bob).expect("another"), first);
    }

    #[test]
    fn users_of_an_image_are_remembered() {
        let folder = tempfile::tempdir().expect("folder");
        let image = ImageId("sha256:ab/../cd".into());
        let users = ImageUsers {
            passwd: "root:x:0:0::/:/bin/sh\n".into(),
            group: String::new(),
        };
        let files = Files::open(folder.path()).expect("files");
        assert_eq!(files.image_users(&image), None);
        files.keep_image_users(&image, &users).expect("kept");
        let files = Files::open(folder.path()).expect("files");
        assert_eq!(files.image_users(&image), Some(users));
    }
}
