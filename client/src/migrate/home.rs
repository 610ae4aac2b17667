//! The files of a Torque's home: which are read, in which order, and when one takes the place of another.

use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

use super::finding::{Damage, Finding, Findings, Place, is_name};
use super::{database, dump, mom, nodes};
use crate::qmgr::Object;

/// No file of a Torque's is larger, in bytes.
const FILE_BYTES_MAX: u64 = 64 << 20;
/// Queues that one Torque may have.
const QUEUES_MAX: usize = 10_000;
/// A dump of `qmgr` that lies in the home.
const DUMP: &str = "qmgr.dump";
/// Access lists of the server, a file each.
const SERVER_LISTS: &str = "server_priv/acl_svr";
/// Access lists of queues: the folder, which has a file for each queue, and the attribute.
const QUEUE_LISTS: &[(&str, &str)] = &[
    ("server_priv/acl_users", "acl_users"),
    ("server_priv/acl_groups", "acl_groups"),
    ("server_priv/acl_hosts", "acl_hosts"),
];

/// What there is in a home.
#[derive(Debug)]
pub(super) struct Home {
    folder: PathBuf,
    dump: Option<PathBuf>,
}

impl Home {
    /// A Torque's home, and the dump that was named.
    pub(super) fn new(folder: &Path, dump: Option<&Path>) -> Self {
        let beside = folder.join(DUMP);
        let dump = dump
            .map(Path::to_owned)
            .or_else(|| beside.exists().then_some(beside));
        Self {
            folder: folder.to_owned(),
            dump,
        }
    }

    /// Reads everything.
    ///
    /// # Errors
    /// The first file that is damaged or cannot be read, or a folder that is no home of a Torque.
    pub(super) fn read(&self) -> Result<Vec<Finding>, Damage> {
        let mut findings = Vec::new();
        match &self.dump {
            Some(dump) => {
                let shown = self.shown(dump);
                let text = read(dump, &shown)?.ok_or_else(|| missing(&shown))?;
                findings.extend(dump::read(&shown, &text)?.0);
                self.tell_what_the_dump_replaces(&mut findings);
            }
            None => self.read_database(&mut findings)?,
        }
        self.read_nodes(&mut findings)?;
        if let Some((file, text)) = self.file("mom_priv/config")? {
            findings.extend(mom::read(&file, &text).0);
        }
        self.tell_of_jobs(&mut findings);
        match findings.is_empty() {
            true => Err(Damage::new(
                Place::file(&self.folder.display().to_string()),
                "has nothing that a Torque has in its home (server_priv/serverdb, server_priv/nodes …): is it the folder that Torque calls PBS_HOME, usually /var/spool/torque?",
            )),
            false => Ok(findings),
        }
    }

    fn read_database(&self, findings: &mut Vec<Finding>) -> Result<(), Damage> {
        let queues = self.names_in("server_priv/queues")?;
        for queue in &queues {
            let file = format!("server_priv/queues/{queue}");
            if !is_name(queue) {
                return Err(Damage::new(
                    Place::file(&file),
                    "has no name that a queue can have",
                ));
            }
            if let Some((file, text)) = self.file(&file)? {
                findings.extend(database::read_queue(&file, queue, &text)?.0);
            }
        }
        if let Some((file, text)) = self.file("server_priv/serverdb")? {
            findings.extend(database::read_server(&file, &text)?.0);
        }
        for attribute in self.names_in(SERVER_LISTS)? {
            self.read_list(
                findings,
                SERVER_LISTS,
                (Object::Server, ""),
                (&attribute, &attribute),
            )?;
        }
        for (folder, attribute) in QUEUE_LISTS {
            for queue in self.names_in(folder)? {
                self.read_list(
                    findings,
                    folder,
                    (Object::Queue, &queue),
                    (&queue, attribute),
                )?;
            }
        }
        Ok(())
    }

    /// Reads the access list in the file `name` of a folder, unless the database has the attribute.
    fn read_list(
        &self,
        findings: &mut Vec<Finding>,
        folder: &str,
        of: (Object, &str),
        (name, attribute): (&str, &str),
    ) -> Result<(), Damage> {
        let Some((file, text)) = self.file(&format!("{folder}/{name}"))? else {
            return Ok(());
        };
        let mut list = database::read_access_list(&file, of, attribute, &text);
        if findings
            .iter()
            .any(|finding| finding.is_about(of, attribute))
        {
            list = Findings::default();
            list.left(
                &Place::file(&file),
                attribute,
                "the database has it, too, and counts",
            );
        }
        findings.extend(list.0);
        Ok(())
    }

    fn read_nodes(&self, findings: &mut Vec<Finding>) -> Result<(), Damage> {
        if let Some((file, text)) = self.file("server_priv/nodes")? {
            findings.extend(nodes::read(&file, &text)?.0);
        }
        if let Some((file, text)) = self.file("server_priv/node_status")? {
            findings.extend(nodes::read_states(&file, &text)?.0);
        }
        if let Some((file, text)) = self.file("server_priv/node_note")? {
            findings.extend(nodes::read_notes(&file, &text)?.0);
        }
        Ok(())
    }

    fn tell_what_the_dump_replaces(&self, findings: &mut Vec<Finding>) {
        for file in ["server_priv/serverdb", "server_priv/queues"] {
            if self.folder.join(file).exists() {
                let mut told = Findings::default();
                told.left(&Place::file(file), "all of it", "the dump takes its place");
                findings.extend(told.0);
            }
        }
    }

    fn tell_of_jobs(&self, findings: &mut Vec<Finding>) {
        let folder = "server_priv/jobs";
        let entries = fs::read_dir(self.folder.join(folder))
            .map(Iterator::count)
            .unwrap_or(0);
        if entries > 0 {
            let mut told = Findings::default();
            told.left(
                &Place::file(folder),
                format!("{entries} files of jobs"),
                "jobs are not moved: let them end there, or submit them again",
            );
            findings.extend(told.0);
        }
    }

    /// The text of a file of the home; none when there is no such file.
    fn file(&self, name: &str) -> Result<Option<(String, String)>, Damage> {
        let text = read(&self.folder.join(name), name)?;
        Ok(text.map(|text| (name.to_owned(), text)))
    }

    /// The names in a folder of the home, in order; none when there is no such folder. What Torque was about to write
    /// when it ended (`.new`) is no file of its.
    fn names_in(&self, folder: &str) -> Result<Vec<String>, Damage> {
        let damage = |what: String| Damage::new(Place::file(folder), what);
        let entries = match fs::read_dir(self.folder.join(folder)) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(damage(format!("cannot be read: {error}"))),
        };
        let mut names = Vec::new();
        for entry in entries {
            let entry = entry.map_err(|error| damage(format!("cannot be read: {error}")))?;
            let name = entry.file_name().into_string().map_err(|name| {
                damage(format!(
                    "has a file whose name is no text: {}",
                    name.display()
                ))
            })?;
            if !name.starts_with('.') && !name.ends_with(".new") {
                names.push(name);
            }
            if names.len() > QUEUES_MAX {
                return Err(damage(format!("has more than {QUEUES_MAX} files")));
            }
        }
        names.sort();
        Ok(names)
    }

    /// A path as messages name it: from the home when it lies there.
    fn shown(&self, path: &Path) -> String {
        path.strip_prefix(&self.folder)
            .unwrap_or(path)
            .display()
            .to_string()
    }
}

fn missing(file: &str) -> Damage {
    Damage::new(Place::file(file), "is not there")
}

/// The text of a file; none when there is no such file.
fn read(path: &Path, shown: &str) -> Result<Option<String>, Damage> {
    let damage = |what: String| Damage::new(Place::file(shown), what);
    let cannot = |error: std::io::Error| damage(format!("cannot be read: {error}"));
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(cannot(error)),
    };
    if !file.metadata().map_err(cannot)?.is_file() {
        return Err(damage("is no file".to_owned()));
    }
    let mut bytes = Vec::new();
    file.take(FILE_BYTES_MAX + 1)
        .read_to_end(&mut bytes)
        .map_err(cannot)?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(damage(format!(
            "is larger than {} MiB",
            FILE_BYTES_MAX >> 20
        )));
    }
    let text = String::from_utf8(bytes).map_err(|error| {
        let before = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        let line = before.iter().filter(|&&byte| byte == b'\n').count() + 1;
        Damage::new(Place::line(shown, line), "is no text (Torque before release 4 keeps its database in binary: give a dump of `qmgr -c 'print server'` with --dump)")
    })?;
    Ok(Some(text))
}
