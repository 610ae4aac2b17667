//! The images of this node as the agent sees them: gets what is missing, remembers what was used when and whose account
//! got it, and lets go what nobody has used for longest when the disk is full.
//!
//! An image that came by somebody's own account is that user's: who else asks for it must be let have it by its registry as
//! well. What the site's account or nobody's account got is everybody's.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::credentials::Keyring;
use super::eviction::{Disk, Held, leaving};
use super::problem::PullProblem;
use super::progress::Progress;
use super::pulls::{Asker, Pulls};
use super::settings::ImageSettings;
use super::store::ImageStore;
use crate::containers::ImageId;

/// Users who have shown their right to one image; who comes later shows it again each time.
const OWNERS_MAX: usize = 1000;

/// The images of this node.
#[derive(Debug)]
pub struct Stock {
    settings: ImageSettings,
    pulls: Pulls,
    /// An empty file per image, whose time is that of its last use.
    used: PathBuf,
    /// A file per image that came by users' own accounts, with their uids.
    private: PathBuf,
}

impl Stock {
    /// Owners of one image that are told of.
    pub const OWNERS_TOLD_MAX: usize = 32;

    /// Opens the agent's memory of images in `folder`.
    ///
    /// # Errors
    /// The folder cannot be made.
    pub fn open(settings: ImageSettings, folder: &Path) -> io::Result<Self> {
        let (used, private) = (folder.join("used"), folder.join("private"));
        fs::create_dir_all(&used)?;
        fs::create_dir_all(&private)?;
        Ok(Self {
            settings,
            pulls: Pulls::default(),
            used,
            private,
        })
    }

    /// What the site means by a name.
    #[must_use]
    pub fn resolve(&self, typed: &str) -> String {
        self.settings.aliases.resolve(typed)
    }

    /// On whose terms `image` is asked for: by the user's own account when they have one there, else by the site's, else
    /// by nobody's.
    #[must_use]
    pub fn asker(&self, image: &str, uid: u32, own: &Keyring) -> Asker {
        if let Some(credentials) = own.for_image(image) {
            return Asker {
                by: uid,
                uid: Some(uid),
                credentials: Some(credentials.clone()),
            };
        }
        let site = self.site_keyring();
        match site.for_image(image) {
            Some(credentials) => Asker {
                by: uid,
                uid: None,
                credentials: Some(credentials.clone()),
            },
            None => Asker {
                by: uid,
                ..Asker::default()
            },
        }
    }

    /// Read anew each time: a changed password needs no restart.
    fn site_keyring(&self) -> Keyring {
        let Some(path) = &self.settings.credentials_file else {
            return Keyring::default();
        };
        match read_private(path) {
            Ok(keyring) => keyring,
            Err(problem) => {
                tracing::warn!(file = %path.display(), problem, "accounts for registries cannot be used");
                Keyring::default()
            }
        }
    }

    /// Whether `uid` may use an image that is here without asking its registry.
    #[must_use]
    pub fn is_open_to(&self, id: &ImageId, uid: u32) -> bool {
        let Some(name) = file_name(id) else {
            return true;
        };
        match fs::read_to_string(self.private.join(name)) {
            Ok(owners) => owners.lines().any(|owner| owner.parse() == Ok(uid)),
            Err(error) => error.kind() == io::ErrorKind::NotFound,
        }
    }

    /// Whose alone an image is that is here, the first [`Self::OWNERS_TOLD_MAX`] of them; none when it is everybody's.
    #[must_use]
    pub fn owners(&self, id: &ImageId) -> Option<Vec<u32>> {
        match fs::read_to_string(self.private.join(file_name(id)?)) {
            Ok(owners) => {
                let owners = owners.lines().filter_map(|owner| owner.parse().ok());
                Some(owners.take(Self::OWNERS_TOLD_MAX).collect())
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            // Whose it is is not known: nobody hears of it.
            Err(_) => Some(Vec::new()),
        }
    }

    /// Gets the image from its registry; one pull for all who ask on the same terms.
    ///
    /// # Errors
    /// The cause, in one sentence.
    pub async fn pull<S: ImageStore>(
        &self,
        store: &S,
        image: &str,
        asker: &Asker,
        told: &(dyn Fn(Progress) + Send + Sync),
    ) -> Result<(), PullProblem> {
        tracing::info!(image, own_account = asker.uid.is_some(), "getting an image");
        let pulled = self.pulls.ensure(store, image, asker, told).await;
        pulled.inspect_err(|problem| tracing::warn!(image, %problem, "image could not be got"))
    }

    /// Remembers on whose terms an image came that was not here before, or that somebody showed their right to.
    ///
    /// # Errors
    /// It cannot be remembered; then it must not be used either.
    pub fn came(&self, id: &ImageId, asker: &Asker, was_here: bool) -> io::Result<()> {
        let Some(name) = file_name(id) else {
            return Ok(());
        };
        let path = self.private.join(name);
        let Some(uid) = asker.uid else {
            // Everybody's account gets it.
            return match fs::remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
                _ => Ok(()),
            };
        };
        let owners = match fs::read_to_string(&path) {
            Ok(owners) => owners,
            // It was everybody's before this user asked for it.
            Err(error) if error.kind() == io::ErrorKind::NotFound && was_here => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
            Err(error) => return Err(error),
        };
        let mut owners: BTreeSet<u32> = owners.lines().filter_map(|uid| uid.parse().ok()).collect();
        if owners.len() < OWNERS_MAX && owners.insert(uid) {
            let lines: String = owners.iter().map(|uid| format!("{uid}\n")).collect();
            let new = path.with_extension("new");
            fs::write(&new, lines)?;
            fs::rename(new, path)?;
        }
        Ok(())
    }

    /// Remembers that a container is made of it now. Its loss costs an image its age, no more.
    pub fn note_use(&self, id: &ImageId) {
        if let Some(name) = file_name(id) {
            drop(fs::write(self.used.join(name), b""));
        }
    }

    /// Lets images go when the disk at `root` is fuller than the site wants it to be. Costs nothing unless the site has
    /// set a mark.
    pub async fn make_room<S: ImageStore>(&self, store: &S, root: &Path) {
        let Some(marks) = self.settings.watermarks else {
            return;
        };
        let path = root.to_owned();
        let disk = tokio::task::spawn_blocking(move || Disk::at(&path)).await;
        let Ok(Ok(disk)) = disk else {
            return;
        };
        if disk.percent() <= marks.high_percent {
            return;
        }
        let Ok(stored) = store.stored_images().await else {
            return;
        };
        let held = self.held(stored);
        let leaving = leaving(&held, disk, marks, &self.settings.pinned, SystemTime::now());
        if leaving.is_empty() {
            tracing::warn!(
                percent = disk.percent(),
                "disk for images is full, and none may leave"
            );
        }
        for image in leaving {
            self.remove(store, image).await;
        }
    }

    async fn remove<S: ImageStore>(&self, store: &S, image: &Held) {
        let by_id = [image.id.clone()];
        let names = match image.names.is_empty() {
            true => &by_id[..],
            false => &image.names,
        };
        for name in names {
            if let Err(error) = store.remove_image(name).await {
                // Somebody began to use it just now.
                tracing::info!(image = name, error = %error, "image stays");
                return;
            }
            tracing::info!(
                image = name,
                "image left: it was unused for longest and the disk is full"
            );
        }
        if let Some(name) = file_name(&ImageId(image.id.clone())) {
            drop(fs::remove_file(self.used.join(name)));
            drop(fs::remove_file(self.private.join(name)));
        }
    }

    fn held(&self, stored: Vec<super::StoredImage>) -> Vec<Held> {
        let held = stored.into_iter().map(|image| {
            let super::StoredImage {
                id,
                names,
                bytes,
                in_use,
            } = image;
            let used = self.used_at(&ImageId(id.clone()));
            Held {
                id,
                names,
                bytes,
                in_use,
                used,
            }
        });
        held.collect()
    }

    /// An image that is seen for the first time is as young as one can be: nobody knows who is about to use it.
    fn used_at(&self, id: &ImageId) -> SystemTime {
        let known = file_name(id).and_then(|name| {
            let about = fs::metadata(self.used.join(name)).ok()?;
            about.modified().ok()
        });
        known.unwrap_or_else(|| {
            self.note_use(id);
            SystemTime::now()
        })
    }
}

/// The hex digits of `sha256:…`: nothing else may become the name of a file.
fn file_name(id: &ImageId) -> Option<&str> {
    let hex = id.0.strip_prefix("sha256:")?;
    (hex.len() == 64 && hex.bytes().all(|byte| byte.is_ascii_hexdigit())).then_some(hex)
}

impl Disk {
    /// The disk at `path`. Blocks as long as its file system does.
    ///
    /// # Errors
    /// There is no such path, or its file system does not say.
    pub fn at(path: &Path) -> io::Result<Self> {
        let about = nix::sys::statvfs::statvfs(path)?;
        let unit = about.fragment_size();
        let all = about.blocks().saturating_mul(unit);
        let free = about.blocks_available().saturating_mul(unit);
        Ok(Self {
            bytes: all,
            used_bytes: all.saturating_sub(free),
        })
    }
}

/// Reads a file of accounts that only root may read.
fn read_private(path: &Path) -> Result<Keyring, String> {
    use io::Read;
    let mut file = fs::File::open(path).map_err(|error| error.to_string())?;
    let about = file.metadata().map_err(|error| error.to_string())?;
    let mode = about.permissions().mode() & 0o777;
    let own = nix::unistd::geteuid().as_raw();
    if mode & 0o077 != 0 || about.uid() != own {
        return Err(format!(
            "its mode is {mode:03o}, and others might read it: chown root:root and chmod 600"
        ));
    }
    let mut text = String::new();
    let read = (&mut file)
        .take(Keyring::BYTES_MAX)
        .read_to_string(&mut text);
    read.map_err(|error| error.to_string())?;
    Keyring::parse(&text).map_err(|error| error.to_string())
}

#[cfg(test)]
#[path = "stock_tests.rs"]
mod tests;
