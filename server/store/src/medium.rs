//! Files as the journal and the snapshots need them: few operations, each of which a disk can fail. Tests put disks
//! here that are full, that fail, or that lose what was not synced.

use std::fmt;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// A folder of plain files.
pub(crate) trait Folder: fmt::Debug + Send + Sync {
    /// For messages.
    fn path(&self) -> &Path;
    /// The files in it, in any order.
    fn names(&self) -> io::Result<Vec<String>>;
    /// An empty file of this name, in place of an older one.
    fn create(&self, name: &str) -> io::Result<Box<dyn Medium>>;
    /// The file of this name.
    fn open(&self, name: &str) -> io::Result<Box<dyn Medium>>;
    /// Takes a file away.
    fn remove(&self, name: &str) -> io::Result<()>;
    /// Gives a file another name, in place of an older one of that name.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;
    /// Makes names durable; contents are each file's own [`Medium::sync`].
    fn sync(&self) -> io::Result<()>;
}

/// One file.
pub(crate) trait Medium: fmt::Debug + Send {
    /// Its length in bytes.
    fn size(&self) -> io::Result<u64>;
    /// Reads some bytes; 0 at the end.
    fn read_at(&self, at: u64, buffer: &mut [u8]) -> io::Result<usize>;
    /// Writes all bytes.
    fn write_at(&self, at: u64, bytes: &[u8]) -> io::Result<()>;
    /// Makes contents and length durable.
    fn sync(&self) -> io::Result<()>;
    /// Cuts it to `size` bytes.
    fn truncate(&self, size: u64) -> io::Result<()>;
}

/// Reads a medium from `at` on.
pub(crate) struct MediumReader {
    pub(crate) medium: Box<dyn Medium>,
    pub(crate) at: u64,
}

impl Read for MediumReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.medium.read_at(self.at, buffer)?;
        self.at += count as u64;
        Ok(count)
    }
}

/// A folder of the system's, readable by its owner only.
#[derive(Debug)]
pub(crate) struct DiskFolder {
    path: PathBuf,
    /// Files are opened to be read, and nothing else.
    is_read_only: bool,
}

impl DiskFolder {
    /// The folder at `path`, made durably when it is not there.
    pub(crate) fn make(path: &Path) -> io::Result<Self> {
        match DirBuilder::new().mode(0o700).create(path) {
            Ok(()) => path.parent().map_or(Ok(()), sync_folder)?,
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
        fs::set_permissions(path, fs::Permissions::from_mode(0o700))?;
        Ok(Self {
            path: path.to_path_buf(),
            is_read_only: false,
        })
    }

    /// The folder at `path`, to read: a server may have it open.
    pub(crate) fn at(path: &Path) -> Self {
        Self {
            path: path.to_path_buf(),
            is_read_only: true,
        }
    }
}

/// Makes the names in a folder durable.
pub(crate) fn sync_folder(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

impl Folder for DiskFolder {
    fn path(&self) -> &Path {
        &self.path
    }

    fn names(&self) -> io::Result<Vec<String>> {
        let entries = fs::read_dir(&self.path)?;
        let names = entries.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()));
        names.collect()
    }

    fn create(&self, name: &str) -> io::Result<Box<dyn Medium>> {
        let mut options = OpenOptions::new();
        options
            .read(true)
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600);
        Ok(Box::new(options.open(self.path.join(name))?))
    }

    fn open(&self, name: &str) -> io::Result<Box<dyn Medium>> {
        let path = self.path.join(name);
        let mut options = OpenOptions::new();
        options.read(true).write(!self.is_read_only);
        Ok(Box::new(options.open(path)?))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        fs::remove_file(self.path.join(name))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        fs::rename(self.path.join(from), self.path.join(to))
    }

    fn sync(&self) -> io::Result<()> {
        sync_folder(&self.path)
    }
}

impl Medium for File {
    fn size(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }

    fn read_at(&self, at: u64, buffer: &mut [u8]) -> io::Result<usize> {
        FileExt::read_at(self, buffer, at)
    }

    fn write_at(&self, at: u64, bytes: &[u8]) -> io::Result<()> {
        FileExt::write_all_at(self, bytes, at)
    }

    fn sync(&self) -> io::Result<()> {
        self.sync_data()
    }

    fn truncate(&self, size: u64) -> io::Result<()> {
        self.set_len(size)
    }
}
