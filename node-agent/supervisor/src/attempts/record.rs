//! What the ledger writes down: the entry of an attempt, the mark of its shim, its end; and how records are sealed one
//! behind the other so that a torn one is known.

use capstan_proto::wire;
use capstan_types::AttemptId;
use prost::Message;

/// Nobody listens there; Torque's own port, for programs that want it in the variable, and in the names of scripts.
pub(super) const PBS_MOMPORT: &str = "15003";
/// First bytes of every record, before its kind.
const MAGIC: &[u8; 3] = b"CAP";
/// Magic, kind, length of the body, checksum of kind, length and body.
const HEADER: usize = MAGIC.len() + 1 + 4 + 4;

/// What a record holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// An [`Entry`]; the first record.
    Entry = b'E' as isize,
    /// A [`ShimRecord`]; the last one counts.
    Shim = b'S' as isize,
    /// A [`wire::AttemptEnded`]; the last one counts.
    Ended = b'X' as isize,
}

impl Kind {
    const ALL: [Self; 3] = [Self::Entry, Self::Shim, Self::Ended];
}

/// A record is not whole: torn by a crash, or damaged.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Damaged {
    /// Shorter than it says, or without a header.
    #[error("a record is cut off: {length} bytes are left of it")]
    Cut {
        /// Bytes that are there.
        length: usize,
    },
    /// The checksum disagrees.
    #[error("the checksum of a record does not fit its content")]
    Checksum,
    /// The bytes are those written, but mean nothing to this version.
    #[error("a record cannot be read by this version")]
    Content,
}

/// `message` as a record.
pub(super) fn seal(kind: Kind, message: &impl Message) -> Vec<u8> {
    let body = message.encode_to_vec();
    let mut record = Vec::with_capacity(HEADER + body.len());
    record.extend_from_slice(MAGIC);
    record.push(kind as u8);
    // A body over 4 GiB cannot come from a gRPC message of bounded size; a wrong length would read as damage.
    record.extend_from_slice(&(body.len() as u32).to_le_bytes());
    let checksum = checksum(&record[MAGIC.len()..], &body);
    record.extend_from_slice(&checksum.to_le_bytes());
    record.extend_from_slice(&body);
    record
}

/// A record split from the bytes behind it.
pub(super) struct Unsealed<'a> {
    pub(super) kind: Kind,
    pub(super) body: &'a [u8],
    pub(super) rest: &'a [u8],
}

/// Reads the first record of `bytes`.
pub(super) fn unseal(bytes: &[u8]) -> Result<Unsealed<'_>, Damaged> {
    let cut = Damaged::Cut {
        length: bytes.len(),
    };
    let Some((header, rest)) = bytes.split_at_checked(HEADER) else {
        return Err(cut);
    };
    let (magic, sealed) = header.split_at(MAGIC.len());
    if magic != MAGIC {
        return Err(Damaged::Content);
    }
    let number = |at: usize| {
        let bytes = sealed[at..at + 4].try_into();
        u32::from_le_bytes(bytes.expect("a slice of four bytes"))
    };
    let Some((body, rest)) = rest.split_at_checked(number(1) as usize) else {
        return Err(cut);
    };
    if checksum(&sealed[..5], body) != number(5) {
        return Err(Damaged::Checksum);
    }
    let kind = Kind::ALL.into_iter().find(|kind| *kind as u8 == sealed[0]);
    let kind = kind.ok_or(Damaged::Content)?;
    Ok(Unsealed { kind, body, rest })
}

fn checksum(head: &[u8], body: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(head), body)
}

/// Everything a shim needs; written durably before it starts. Numbers are never reused.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Entry {
    /// What the server ordered.
    #[prost(message, required, tag = "1")]
    pub(super) spec: wire::LaunchSpec,
    /// The user on this host; absent when the attempt could not be started for want of it.
    #[prost(message, optional, tag = "2")]
    pub(super) identity: Option<Identity>,
    /// The kernel's boot id when this was written: after a reboot no shim can be alive.
    #[prost(string, tag = "3")]
    pub(super) boot_id: String,
    /// 32 hex digits, known to the attempt's processes and to us (PBS_JOBCOOKIE).
    #[prost(string, tag = "4")]
    pub(super) cookie: String,
    /// The folder that holds `spool` and `aux`.
    #[prost(string, tag = "5")]
    pub(super) state_folder: String,
    /// The agent's door.
    #[prost(string, tag = "6")]
    pub(super) agent_socket: String,
    /// Folder put at the front of PATH; empty for none.
    #[prost(string, tag = "7")]
    pub(super) commands_folder: String,
    /// The attempt's cgroup in every hierarchy that is used; empty without rights for cgroups.
    #[prost(message, repeated, tag = "8")]
    pub(super) cgroups: Vec<CgroupFolder>,
    /// The name of this node.
    #[prost(string, tag = "9")]
    pub(super) node: String,
    /// Relative to the root of every hierarchy: `/capstan/1a2b3c4d/att-57`; empty without rights for cgroups.
    #[prost(string, tag = "10")]
    pub(super) cgroup: String,
    /// Time on cores, in hundredths of one; 0 for any amount.
    #[prost(uint32, tag = "20")]
    pub(super) core_percent: u32,
    /// The cores that it may run on, `0,3`; empty for all.
    #[prost(string, tag = "21")]
    pub(super) cpus: String,
    /// Where the site's prologues and epilogues are; empty for none.
    #[prost(string, tag = "22")]
    pub(super) hooks_folder: String,
    /// Seconds that one of them may take.
    #[prost(uint32, tag = "23")]
    pub(super) hook_secs: u32,
    /// Where attempts get a folder each for their scratch files; empty for none.
    #[prost(string, tag = "24")]
    pub(super) scratch_root: String,
    /// Seconds that such a folder is kept after a failure.
    #[prost(uint64, tag = "25")]
    pub(super) scratch_keep_secs: u64,
    /// What keeps its host processes off cards; absent where nothing does.
    #[prost(message, optional, tag = "40")]
    pub(super) fence: Option<Fence>,
    /// The network interface to the attempt's other nodes, for programs that ask for one; empty for the one they choose.
    #[prost(string, tag = "61")]
    pub(super) interface: String,
    /// Bytes that its scratch folder may hold when it asks for no amount; 0 for any.
    #[prost(uint64, tag = "62")]
    pub(super) scratch_bytes: u64,
    /// Folders of other hosts that this node has itself.
    #[prost(message, repeated, tag = "63")]
    pub(super) mapped_folders: Vec<MappedFolder>,
    /// What copies files to and from other hosts, with its options; of an older entry none, which means the usual one.
    #[prost(string, repeated, tag = "64")]
    pub(super) copy_program: Vec<String>,
}

/// A folder of other hosts that this node has under a path of its own, as Torque's `$usecp`.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct MappedFolder {
    /// A host's name, or `*` and how the names end.
    #[prost(string, tag = "1")]
    pub host: String,
    /// The path there, whole.
    #[prost(string, tag = "2")]
    pub from: String,
    /// The path here, whole.
    #[prost(string, tag = "3")]
    pub to: String,
}

/// What keeps the host processes of an attempt off cards that are not theirs.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Fence {
    /// Of the hierarchy, as [`CgroupFolder::controller`].
    #[prost(string, tag = "1")]
    pub(super) controller: String,
    /// The agent's folder in it: `/sys/fs/cgroup/devices/capstan/1a2b3c4d`.
    #[prost(string, tag = "2")]
    pub(super) root: String,
    /// What is closed to the attempt.
    #[prost(message, repeated, tag = "3")]
    pub(super) guards: Vec<Guard>,
    /// Its script may open cards, so it has to begin in the attempt's own group.
    #[prost(bool, tag = "4")]
    pub(super) opens_cards: bool,
}

/// Which device nodes of one major number may be opened.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Guard {
    #[prost(uint32, tag = "1")]
    pub(super) major: u32,
    /// Minor numbers that are open, and no others; or the other way round.
    #[prost(uint32, repeated, tag = "2")]
    pub(super) minors: Vec<u32>,
    /// These are closed, and all others open.
    #[prost(bool, tag = "3")]
    pub(super) is_closed_list: bool,
    /// The highest minor number that the driver hands out.
    #[prost(uint32, tag = "4")]
    pub(super) last: u32,
}

/// One hierarchy's folder for an attempt.
#[derive(Clone, PartialEq, Message)]
pub(super) struct CgroupFolder {
    /// `freezer`, `memory` … in version 1; empty for the unified hierarchy.
    #[prost(string, tag = "1")]
    pub(super) controller: String,
    /// `/sys/fs/cgroup/freezer/capstan/1a2b3c4d/att-57`.
    #[prost(string, tag = "2")]
    pub(super) path: String,
}

/// A user of this host, as numbers.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Identity {
    /// Login name.
    #[prost(string, tag = "1")]
    pub(super) user: String,
    /// User id.
    #[prost(uint32, tag = "2")]
    pub(super) uid: u32,
    /// Primary group, or the one asked for.
    #[prost(uint32, tag = "3")]
    pub(super) gid: u32,
    /// All groups, with the primary one.
    #[prost(uint32, repeated, tag = "4")]
    pub(super) groups: Vec<u32>,
    /// Home folder.
    #[prost(string, tag = "5")]
    pub(super) home: String,
    /// Login shell.
    #[prost(string, tag = "6")]
    pub(super) shell: String,
}

impl Entry {
    /// The attempt that this entry is for.
    #[must_use]
    pub(super) fn attempt(&self) -> AttemptId {
        AttemptId(self.spec.attempt)
    }

    /// Whether its script runs on another node, and only tasks of it here: it is in no ledger.
    #[must_use]
    pub(super) fn is_guest(&self) -> bool {
        self.boot_id.is_empty()
    }

    /// `PBS_NODEFILE`.
    #[must_use]
    pub(super) fn node_file(&self) -> String {
        format!("{}/aux/{}", self.state_folder, self.spec.job_id)
    }

    /// `PBS_GPUFILE`; written only when the attempt has cards.
    #[must_use]
    pub(super) fn gpu_file(&self) -> String {
        format!("{}gpu", self.node_file())
    }

    /// Where the script lies while it runs. Named as Torque names it, with the port of the node's daemon, and a member
    /// of an array without brackets, which a shell would take for a pattern.
    #[must_use]
    pub(super) fn script_file(&self) -> String {
        let name = file_name(&self.spec.job_id);
        format!("{}/spool/{name}{PBS_MOMPORT}.SC", self.state_folder)
    }

    /// Where output is kept that cannot be written where it was asked for: `O` or `E`.
    #[must_use]
    pub(super) fn undelivered_file(&self, letter: char) -> String {
        let name = file_name(&self.spec.job_id);
        let letter = letter.to_ascii_uppercase();
        format!(
            "{}/undelivered/{name}.{letter}{}",
            self.state_folder,
            if letter == 'O' { 'U' } else { 'R' }
        )
    }

    /// Where output (`o` or `e`) is written that goes to another host when the job is over.
    #[must_use]
    pub(super) fn outgoing_folder(&self, letter: char) -> String {
        let name = file_name(&self.spec.job_id);
        let attempt = self.spec.attempt;
        format!("{}/spool/{name}.{attempt}.{letter}", self.state_folder)
    }

    /// `PBS_SCRATCH`, when the site has scratch space: named by the job for its user, and by the attempt, so that nobody
    /// else can have made it.
    #[must_use]
    pub(super) fn scratch_folder(&self) -> Option<String> {
        let name = file_name(&self.spec.job_id);
        let folder = || format!("{}/{name}.{}", self.scratch_root, self.spec.attempt);
        (!self.scratch_root.is_empty()).then(folder)
    }

    /// `TMPDIR` of a job that gets a folder of its own, which is gone after it.
    #[must_use]
    pub(super) fn tmp_folder(&self) -> Option<String> {
        let folder = || format!("{}/tmp/{}", self.state_folder, self.spec.attempt);
        self.spec.pro_dialect.then(folder)
    }
}

/// The mark of a shim that has begun. Not synced: after a power cut the boot id already tells that it is gone.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub(super) struct ShimRecord {
    /// Process id of the shim.
    #[prost(uint32, tag = "1")]
    pub(super) pid: u32,
    /// Its start time in clock ticks since boot, which tells a reused pid.
    #[prost(uint64, tag = "2")]
    pub(super) start_ticks: u64,
    /// Session of the job's first process; 0 until it runs.
    #[prost(uint32, tag = "3")]
    pub(super) session: u32,
    /// When the script was started, milliseconds since 1970.
    #[prost(uint64, tag = "4")]
    pub(super) started_ms: u64,
    /// Which words it knows at its terminal; 0 for one of a time before there were numbers.
    #[prost(uint32, tag = "5")]
    pub(super) version: u32,
}

/// `263[3].hn1` as `263-3.hn1`.
fn file_name(job_id: &str) -> String {
    job_id.replace('[', "-").replace(']', "")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_a_job_are_named_as_torque_names_them() {
        let mut entry = Entry {
            state_folder: "/s".into(),
            ..Entry::default()
        };
        entry.spec.job_id = "259.hn1".into();
        assert_eq!(entry.script_file(), "/s/spool/259.hn115003.SC");
        assert_eq!(entry.undelivered_file('o'), "/s/undelivered/259.hn1.OU");
        assert_eq!(entry.undelivered_file('e'), "/s/undelivered/259.hn1.ER");
        entry.spec.job_id = "263[3].hn1".into();
        assert_eq!(entry.script_file(), "/s/spool/263-3.hn115003.SC");
    }

    fn sealed() -> Vec<u8> {
        let record = ShimRecord {
            pid: 7,
            start_ticks: 9,
            session: 8,
            started_ms: 1 << 40,
            version: 1,
        };
        seal(Kind::Shim, &record)
    }

    #[test]
    fn records_are_split_one_from_the_next() {
        let mut two = sealed();
        two.extend_from_slice(&seal(Kind::Ended, &wire::AttemptEnded::default()));
        let first = unseal(&two).unwrap();
        assert_eq!(first.kind, Kind::Shim);
        assert_eq!(ShimRecord::decode(first.body).unwrap().pid, 7);
        let second = unseal(first.rest).unwrap();
        assert_eq!(second.kind, Kind::Ended);
        assert!(second.rest.is_empty());
    }

    #[test]
    fn a_record_torn_at_any_byte_is_known() {
        let whole = sealed();
        for length in 0..whole.len() {
            assert!(unseal(&whole[..length]).is_err(), "{length}");
        }
    }

    #[test]
    fn a_flipped_bit_is_known() {
        let whole = sealed();
        for bit in 0..whole.len() * 8 {
            let mut record = whole.clone();
            record[bit / 8] ^= 1 << (bit % 8);
            assert!(unseal(&record).is_err(), "bit {bit}");
        }
    }
}
