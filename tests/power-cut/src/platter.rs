//! The simulated disk: a folder tree of durable names, and a store of durable contents.
//!
//! Contents live in `PLATTER.inodes`, one file for each inode; a durable name is a hard link to it. A folder whose own
//! name is not durable yet waits there as well. Names are added before others are removed, so that a kill in the
//! middle of a folder's sync cannot lose a renamed file.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};

use crate::inode::{BLOCK, Inode, update};

pub(crate) struct Platter {
    watched: PathBuf,
    platter: PathBuf,
    store: PathBuf,
    /// Durable length of files that only grow.
    lengths: BTreeMap<Inode, u64>,
    /// Folders that have a durable side, and where it is: on the platter, or waiting in the store.
    folders: BTreeMap<Inode, PathBuf>,
}

impl Platter {
    /// Follows `watched`. A platter that exists is continued (the program was killed, the power stayed on); without
    /// one, everything that is there now is durable.
    pub(crate) fn open(watched: PathBuf, platter: PathBuf) -> io::Result<Self> {
        let mut store = platter.clone().into_os_string();
        store.push(".inodes");
        let (lengths, folders) = (BTreeMap::new(), BTreeMap::new());
        let mut this = Self {
            watched,
            platter,
            store: store.into(),
            lengths,
            folders,
        };
        if this.platter.exists() {
            this.find_folders(&this.watched.clone(), &this.platter.clone())?;
        } else {
            if this.store.exists() {
                fs::remove_dir_all(&this.store)?;
            }
            fs::create_dir_all(&this.store)?;
            fs::create_dir_all(&this.platter)?;
            this.sync_everything()?;
        }
        Ok(this)
    }

    pub(crate) fn watched(&self) -> &Path {
        &self.watched
    }

    /// Makes the content of an open file durable, not its name.
    pub(crate) fn sync_file(&mut self, open: &Path, is_append_only: bool) -> io::Result<()> {
        let original = File::open(open)?;
        let inode = Inode::of(&original.metadata()?);
        let copy = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(self.store.join(inode.as_name()))?;
        let durable = self.lengths.get(&inode).copied().unwrap_or(0);
        let has_grown = is_append_only && original.metadata()?.len() >= durable;
        // One block back: a log that was cut and has grown again since differs there.
        let start = if has_grown {
            durable.saturating_sub(BLOCK as u64)
        } else {
            0
        };
        let length = update(&original, &copy, start)?;
        self.lengths.insert(inode, length);
        Ok(())
    }

    /// Makes the names in `folder` durable, not what they name.
    pub(crate) fn sync_folder(&mut self, folder: &Path) -> io::Result<()> {
        let durable = self.durable_side(folder)?;
        let mut names = BTreeSet::new();
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            // A name may vanish between the listing and our look at it; then it is not durable either.
            let Ok(meta) = entry.path().symlink_metadata() else {
                continue;
            };
            if self.put_name(&entry.path(), &meta, &durable.join(entry.file_name()))? {
                names.insert(entry.file_name());
            }
        }
        self.remove_others(&durable, &names)
    }

    /// Makes everything durable.
    pub(crate) fn sync_everything(&mut self) -> io::Result<()> {
        let mut folders = vec![self.watched.clone()];
        while let Some(folder) = folders.pop() {
            if !folder.is_dir() {
                continue;
            }
            for entry in fs::read_dir(&folder)? {
                let (path, kind) =
                    entry.and_then(|entry| Ok((entry.path(), entry.file_type()?)))?;
                if kind.is_dir() {
                    folders.push(path);
                } else if kind.is_file() {
                    self.sync_file(&path, false)?;
                }
            }
            self.sync_folder(&folder)?;
        }
        Ok(())
    }

    /// Where the durable names of `folder` are kept.
    fn durable_side(&mut self, folder: &Path) -> io::Result<PathBuf> {
        if folder == self.watched {
            return Ok(self.platter.clone());
        }
        let inode = Inode::of(&fs::metadata(folder)?);
        if let Some(side) = self.folders.get(&inode) {
            return Ok(side.clone());
        }
        let waiting = self.store.join(inode.as_name());
        fs::create_dir_all(&waiting)?;
        self.folders.insert(inode, waiting.clone());
        Ok(waiting)
    }

    /// Gives `path` its durable name `place`. False for what no disk keeps (sockets, pipes).
    fn put_name(&mut self, path: &Path, meta: &fs::Metadata, place: &Path) -> io::Result<bool> {
        let kind = meta.file_type();
        if kind.is_dir() {
            let side = self.durable_side(path)?;
            if side != place {
                self.clear(place)?;
                fs::rename(&side, place)?;
                self.moved(&side, place);
            }
        } else if kind.is_file() {
            let content = self.store.join(Inode::of(meta).as_name());
            OpenOptions::new()
                .create(true)
                .append(true)
                .open(&content)?; // Empty, when it was never synced.
            self.replace(place, |new| fs::hard_link(&content, new))?;
        } else if kind.is_symlink() {
            let target = fs::read_link(path)?;
            self.replace(place, |new| std::os::unix::fs::symlink(&target, new))?;
        } else {
            return Ok(false);
        }
        Ok(true)
    }

    /// Puts what `make` makes at `place`, in one step.
    fn replace(
        &mut self,
        place: &Path,
        make: impl FnOnce(&Path) -> io::Result<()>,
    ) -> io::Result<()> {
        if place.is_dir() && !place.is_symlink() {
            self.clear(place)?;
        }
        let new = self.store.join("new");
        if new.symlink_metadata().is_ok() {
            fs::remove_file(&new)?; // Left by a kill.
        }
        make(&new)?;
        fs::rename(&new, place)?;
        // A rename between two links of one file does nothing, and leaves the first.
        if new.symlink_metadata().is_ok() {
            fs::remove_file(&new)
        } else {
            Ok(())
        }
    }

    fn remove_others(&mut self, durable: &Path, names: &BTreeSet<OsString>) -> io::Result<()> {
        for entry in fs::read_dir(durable)? {
            let entry = entry?;
            if !names.contains(&entry.file_name()) {
                self.clear(&entry.path())?;
            }
        }
        Ok(())
    }

    /// Frees a durable name. A folder goes back to the store: it may have been renamed, and get its new name yet.
    fn clear(&mut self, place: &Path) -> io::Result<()> {
        let Ok(meta) = place.symlink_metadata() else {
            return Ok(());
        };
        if !meta.is_dir() {
            return fs::remove_file(place);
        }
        let owner = self
            .folders
            .iter()
            .find(|(_, side)| *side == place)
            .map(|(inode, _)| inode.clone());
        match owner {
            Some(inode) => {
                let waiting = self.store.join(inode.as_name());
                fs::rename(place, &waiting)?;
                self.moved(place, &waiting);
                Ok(())
            }
            None => fs::remove_dir_all(place),
        }
    }

    /// A folder's durable side moved, and with it all below.
    fn moved(&mut self, from: &Path, to: &Path) {
        for side in self.folders.values_mut() {
            if let Ok(below) = side.strip_prefix(from) {
                *side = if below.as_os_str().is_empty() {
                    to.to_owned()
                } else {
                    to.join(below)
                };
            }
        }
    }

    /// Matches the folders of a platter that exists with those that have the same names now.
    fn find_folders(&mut self, now: &Path, side: &Path) -> io::Result<()> {
        for entry in fs::read_dir(side)? {
            let entry = entry?;
            let twin = now.join(entry.file_name());
            if entry.file_type()?.is_dir() && twin.is_dir() {
                self.folders
                    .insert(Inode::of(&fs::metadata(&twin)?), entry.path());
                self.find_folders(&twin, &entry.path())?;
            }
        }
        Ok(())
    }
}
