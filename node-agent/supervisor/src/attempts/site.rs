//! What all attempts of this node share, and the step from an order to an entry in the ledger.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use capstan_proto::wire::{AttemptEnded, LaunchSpec, attempt_ended::Outcome};
use capstan_types::AttemptId;
use nix::sys::signal::Signal;

use super::cgroup::{Cgroup, CgroupTree, HostCores};
use super::checks::Checks;
use super::fence::{CardNodes, DeviceCgroup};
use super::identity::{Identities, IdentityProblem};
use super::interface::Interfaces;
use super::ledger::{AttemptFile, Ledger, LedgerError};
use super::record::{Entry, MappedFolder};
use super::shim::sweep_scratch;
use super::spawner::Spawner;
use super::table::Supervisor;
use super::{aimed, live, proc};
use crate::ports::GpuCard;

/// How long the shim of an attempt with a damaged entry may take to end.
const DAMAGED_WAIT: Duration = Duration::from_secs(30);
const DAMAGED_PAUSE: Duration = Duration::from_millis(20);

/// The name of the door in the state folder.
const DOOR: &str = "agent.sock";

/// What the agent's settings say about attempts.
#[derive(Clone, Debug)]
pub struct SiteSettings {
    /// The name of this node.
    pub node: String,
    /// Where the ledger lies.
    pub state_folder: PathBuf,
    /// The agent's door.
    pub agent_socket: PathBuf,
    /// Folder put at the front of PATH of jobs.
    pub commands_folder: Option<PathBuf>,
    /// Our own uid when we are not root: then jobs of others are refused.
    pub only_uid: Option<u32>,
    /// Our own binary, which is also the shim's.
    pub program: PathBuf,
    /// What surrounds attempts.
    pub surroundings: Surroundings,
}

/// What surrounds every attempt on this node: the site's scripts, scratch space, and what of the cores it gets.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Surroundings {
    /// Where prologues and epilogues are, by Torque's names.
    pub hooks_folder: Option<PathBuf>,
    /// Seconds that one of them may take.
    pub hook_secs: u32,
    /// Where attempts get a folder each for their scratch files.
    pub scratch_folder: Option<PathBuf>,
    /// Seconds that such a folder is kept after a failure.
    pub scratch_keep_secs: u64,
    /// What attempts may use of the cores.
    pub cores: HostCores,
    /// The network interface that programs of several nodes are to use; found by the routes to those nodes when not set.
    pub network_interface: Option<String>,
    /// Bytes that a scratch folder may hold, of attempts that ask for no amount.
    pub scratch_bytes: Option<u64>,
    /// How cards are kept from processes that they are not lent to.
    pub device_cgroup: DeviceCgroup,
    /// Folders of other hosts that this node has itself: output for them is written in place.
    pub mapped_folders: Vec<MappedFolder>,
    /// What copies files to and from other hosts, with its options; two names come behind them. Empty for scp.
    pub copy_program: Vec<String>,
}

/// What all attempts of this node share.
#[derive(Debug)]
pub struct Site {
    settings: SiteSettings,
    boot_id: String,
    pub(super) cgroups: CgroupTree,
    pub(super) ledger: Ledger,
    pub(super) spawner: Spawner,
    pub(super) checks: Checks,
    interfaces: Interfaces,
    identities: Identities,
    nodes: CardNodes,
}

/// Why an attempt has no entry and will not get one.
#[derive(Debug, thiserror::Error)]
pub(super) enum Refused {
    #[error(transparent)]
    Identity(#[from] IdentityProblem),
    #[error("the agent cannot remember the attempt: {}", chain(.0))]
    Ledger(#[from] LedgerError),
    #[error(
        "cards are for containers only in this queue, and {node} cannot keep them from other processes (`capstan doctor` there says why)"
    )]
    NoFence { node: String },
    #[error("{problem} on {node}")]
    Unwell { problem: String, node: String },
    #[error("card {card} of {node} is not clean: {what}")]
    Unclean {
        card: String,
        node: String,
        what: String,
    },
}

impl Refused {
    pub(super) fn outcome(&self) -> Outcome {
        match self {
            // Another node may do; this one may be mended.
            Self::NoFence { .. } | Self::Unwell { .. } | Self::Unclean { .. } => {
                Outcome::PrologueFailed(self.to_string())
            }
            Self::Ledger(_) => Outcome::PrologueFailed(self.to_string()),
            Self::Identity(_) => Outcome::Unstartable(self.to_string()),
        }
    }
}

/// An error with its causes, for a sentence to a person.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

impl Site {
    /// Where the agent keeps what it must remember.
    pub(super) fn state_folder(&self) -> &std::path::Path {
        &self.settings.state_folder
    }

    /// The name of this node.
    pub(super) fn node(&self) -> &str {
        &self.settings.node
    }

    /// Opens the ledger. Attempts get cgroups in `cgroups`, which is empty when there are no rights for them.
    ///
    /// # Errors
    /// When the ledger's folders cannot be made.
    pub fn open(settings: SiteSettings, cgroups: CgroupTree) -> Result<Self, LedgerError> {
        let ledger = Ledger::open(&settings.state_folder)?;
        point_to_door(&settings);
        Ok(Self {
            boot_id: proc::boot_id(),
            ledger,
            spawner: Spawner::new(settings.program.clone(), cgroups.clone()),
            identities: Identities::default(),
            checks: Checks::default(),
            interfaces: Interfaces::default(),
            nodes: CardNodes::default(),
            cgroups,
            settings,
        })
    }

    /// Writes the attempt into the ledger, durably. Blocks.
    pub(super) fn record(&self, spec: LaunchSpec) -> Result<Entry, Refused> {
        let settings = &self.settings;
        self.check_fence(&spec)?;
        let identity = self
            .identities
            .resolve(&spec, &settings.node, settings.only_uid)?;
        let mut entry = self.entry(spec);
        entry.identity = Some(identity);
        self.ledger.record(&entry)?;
        Ok(entry)
    }

    /// Cards that are for containers only need something that keeps other processes off; a site that switched that off
    /// knows what it does.
    fn check_fence(&self, spec: &LaunchSpec) -> Result<(), Refused> {
        let is_wanted = spec.cards_in_containers_only && !spec.cards.is_empty();
        let is_off = self.settings.surroundings.device_cgroup == DeviceCgroup::Off;
        if is_wanted && !is_off && !self.cgroups.has_fence() {
            let node = self.settings.node.clone();
            return Err(Refused::NoFence { node });
        }
        Ok(())
    }

    /// The entry of an attempt whose script runs on another node, for a task of it here; written nowhere. Blocks.
    pub(super) fn guest(&self, spec: LaunchSpec) -> Result<Entry, IdentityProblem> {
        let settings = &self.settings;
        let identity = self
            .identities
            .resolve(&spec, &settings.node, settings.only_uid)?;
        let mut entry = self.entry(spec);
        entry.identity = Some(identity);
        entry.boot_id.clear();
        Ok(entry)
    }

    /// Writes down an attempt that cannot be started, so that a restarted agent still knows.
    pub(super) fn record_refused(
        &self,
        spec: LaunchSpec,
        refused: &Refused,
    ) -> Result<AttemptEnded, LedgerError> {
        let ended = live::ended(spec.attempt, refused.outcome());
        self.ledger.record(&self.entry(spec))?.write_end(&ended)?;
        Ok(ended)
    }

    fn entry(&self, spec: LaunchSpec) -> Entry {
        let attempt = AttemptId(spec.attempt);
        let settings = &self.settings;
        let text = |path: &PathBuf| path.to_string_lossy().into_owned();
        let around = &settings.surroundings;
        let maybe = |path: &Option<PathBuf>| path.as_ref().map(text).unwrap_or_default();
        let cores = around.cores.bound(&spec);
        let fence = self.cgroups.fence(&spec, &self.nodes);
        let interface = self.interface(&spec);
        Entry {
            spec,
            identity: None,
            boot_id: self.boot_id.clone(),
            cookie: proc::cookie(),
            state_folder: text(&settings.state_folder),
            agent_socket: text(&settings.agent_socket),
            commands_folder: maybe(&settings.commands_folder),
            cgroups: self.cgroups.folders(attempt),
            node: settings.node.clone(),
            cgroup: self.cgroups.relative(attempt),
            core_percent: cores.percent,
            cpus: cores.cpus,
            // Without root there is nobody to become the user, or to own the scripts.
            hooks_folder: match settings.only_uid {
                None => maybe(&around.hooks_folder),
                Some(_) => String::new(),
            },
            hook_secs: around.hook_secs,
            scratch_root: maybe(&around.scratch_folder),
            scratch_keep_secs: around.scratch_keep_secs,
            fence,
            interface,
            scratch_bytes: around.scratch_bytes.unwrap_or_default(),
            mapped_folders: around.mapped_folders.clone(),
            copy_program: around.copy_program.clone(),
        }
    }

    /// The interface to the attempt's other nodes, for attempts with cards. Blocks, for a bounded time.
    fn interface(&self, spec: &LaunchSpec) -> String {
        if spec.gpu_file.is_empty() {
            return String::new();
        }
        let settings = &self.settings;
        let set = settings.surroundings.network_interface.clone();
        let others = || {
            let nodes: BTreeSet<&str> = spec.node_file.iter().map(String::as_str).collect();
            let others = nodes.into_iter().filter(|node| *node != settings.node);
            self.interfaces.to_all(others)
        };
        set.or_else(others).unwrap_or_default()
    }

    /// What became of an attempt whose shim no longer answers. Blocks.
    pub(super) fn aftermath(&self, entry: &Entry) -> Result<Aftermath, LedgerError> {
        let file = self.file(entry);
        if let Some(ended) = file.read()?.ended {
            return Ok(Aftermath::Ended(Box::new(ended)));
        }
        if file.is_live()? {
            return Ok(Aftermath::Live);
        }
        // It may have written its end and gone between the two looks.
        let contents = file.read()?;
        if let Some(ended) = contents.ended {
            return Ok(Aftermath::Ended(Box::new(ended)));
        }
        let has_begun = contents.shim.is_some();
        if entry.boot_id != self.boot_id {
            // The mark of a beginning is not synced; after a power cut, missing it proves nothing.
            return Ok(Aftermath::Lost("the node was restarted while the job ran"));
        }
        Ok(if has_begun {
            Aftermath::Lost("the job's shim was killed")
        } else {
            Aftermath::NeverBegan
        })
    }

    /// Drops an attempt whose shim our predecessor did not come to start; false when there is more to it. The server
    /// finds it missing in our hello and orders the start again, if it still wants one: meanwhile the job may have
    /// gone to another node.
    pub(super) fn drop_unbegun(&self, entry: &Entry) -> Result<bool, LedgerError> {
        let file = self.file(entry);
        // A shim that comes late finds the lock taken, and then no file.
        let Some(_lock) = file.lock()? else {
            return Ok(false);
        };
        let contents = file.read()?;
        if contents.shim.is_some() || contents.ended.is_some() || entry.boot_id != self.boot_id {
            return Ok(false);
        }
        self.ledger.remove(entry.attempt())?;
        Ok(true)
    }

    /// Ends an attempt of which only the number is known; false when something of it may be left. Blocks.
    ///
    /// Its shim may live, and knows better than we: without its script it ends by itself, and clears up.
    pub(super) fn end_damaged(&self, attempt: AttemptId) -> bool {
        let file = self.ledger.file(attempt);
        let deadline = Instant::now() + DAMAGED_WAIT;
        loop {
            let shim = file.salvaged_shim().unwrap_or_default();
            let family = || {
                let found = proc::family(shim.pid);
                let stat = proc::stat(shim.pid);
                // Looked at afterwards: then it was the shim's family.
                let is_shim = stat.is_some_and(|it| it.start_ticks == shim.start_ticks);
                if is_shim { found } else { BTreeSet::new() }
            };
            // Some may have ended since.
            let _killed = aimed::send(&family(), Signal::SIGKILL, family);
            if matches!(file.is_live(), Ok(false)) {
                break;
            }
            if Instant::now() > deadline {
                return false;
            }
            std::thread::sleep(DAMAGED_PAUSE);
        }
        let cgroup = Cgroup::at(&self.cgroups.folders(attempt));
        cgroup.is_none_or(|cgroup| cgroup.kill_all(|| {}) && cgroup.remove())
    }

    /// Removes scratch folders that were kept after a failure and whose time is over; how many. Blocks.
    fn sweep_scratch(&self) -> usize {
        let root = self.settings.surroundings.scratch_folder.as_ref();
        root.map_or(0, |root| sweep_scratch(&self.settings.state_folder, root))
    }

    /// The attempt's file.
    pub(super) fn file(&self, entry: &Entry) -> AttemptFile {
        self.ledger.file(entry.attempt())
    }
}

impl Supervisor {
    /// Learns where the device nodes of cards are.
    pub fn note_cards(&self, cards: &[GpuCard]) {
        self.site.nodes.note(cards);
    }

    /// Ends the process from which shims are forked; attempts go on. When no attempt runs, nothing of ours is left.
    pub fn end_spawner(&self) {
        self.site.spawner.end();
    }

    /// Removes scratch folders that were kept after a failure and whose time is over; how many. Blocks.
    #[must_use]
    pub fn sweep_scratch(&self) -> usize {
        self.site.sweep_scratch()
    }
}

/// Names the door beside the folder of PBS_NODEFILE: programs in jobs find it by that variable, on a host with several
/// agents too, and need none of ours.
fn point_to_door(settings: &SiteSettings) {
    let link = settings.state_folder.join(DOOR);
    if link == settings.agent_socket {
        return;
    }
    let _absent = std::fs::remove_file(&link);
    if let Err(error) = std::os::unix::fs::symlink(&settings.agent_socket, &link) {
        tracing::warn!(link = %link.display(), %error, "programs in jobs must find the door by themselves");
    }
}

/// What became of an attempt.
#[derive(Debug, PartialEq)]
pub(super) enum Aftermath {
    /// A shim is alive after all.
    Live,
    Ended(Box<AttemptEnded>),
    /// No shim began: it may be started (again).
    NeverBegan,
    /// A shim began and is gone without a word.
    Lost(&'static str),
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::attempts::record::ShimRecord;

    fn site(state: &std::path::Path) -> Site {
        let settings = SiteSettings {
            node: "n1".into(),
            state_folder: state.into(),
            agent_socket: "/run/agent.sock".into(),
            commands_folder: None,
            only_uid: None,
            program: "/proc/self/exe".into(),
            surroundings: Surroundings::default(),
        };
        Site::open(settings, CgroupTree::default()).unwrap()
    }

    /// `prepare` leaves the file as a crash would; then the aftermath is as expected.
    fn check(is_same_boot: bool, prepare: impl Fn(&AttemptFile), expected: &Aftermath) {
        let state = tempfile::tempdir().unwrap();
        let site = site(state.path());
        let mut entry = site.entry(LaunchSpec {
            attempt: 1,
            ..LaunchSpec::default()
        });
        if !is_same_boot {
            entry.boot_id = "another".into();
        }
        let file = site.ledger.record(&entry).unwrap();
        prepare(&file);
        assert_eq!(&site.aftermath(&entry).unwrap(), expected);
    }

    #[test]
    fn only_an_attempt_that_never_began_is_dropped() {
        let state = tempfile::tempdir().unwrap();
        let site = site(state.path());
        let entry = site.entry(LaunchSpec {
            attempt: 1,
            ..LaunchSpec::default()
        });
        let file = site.ledger.record(&entry).unwrap();
        let lock = file.lock().unwrap();
        assert!(
            !site.drop_unbegun(&entry).unwrap(),
            "a shim is about to begin"
        );
        drop(lock);
        assert!(site.drop_unbegun(&entry).unwrap());
        assert!(site.ledger.read_all().unwrap().is_empty());

        let file = site.ledger.record(&entry).unwrap();
        let mut locked = file.lock().unwrap().unwrap();
        locked.mark(&ShimRecord::default()).unwrap();
        drop(locked);
        assert!(!site.drop_unbegun(&entry).unwrap());
        assert!(file.read().is_ok());
    }

    #[test]
    fn a_silent_shim_is_judged_by_what_it_left() {
        let ended = live::ended(1, Outcome::ExitStatus(3));
        let began = |file: &AttemptFile| {
            let mut locked = file.lock().unwrap().unwrap();
            locked.mark(&ShimRecord::default()).unwrap();
        };
        let done = |file: &AttemptFile| {
            began(file);
            file.lock().unwrap().unwrap().end(&ended).unwrap();
        };
        check(true, |_| {}, &Aftermath::NeverBegan);
        check(true, began, &Aftermath::Lost("the job's shim was killed"));
        let restarted = Aftermath::Lost("the node was restarted while the job ran");
        check(false, began, &restarted);
        check(false, |_| {}, &restarted);
        check(true, done, &Aftermath::Ended(Box::new(ended.clone())));
        check(false, done, &Aftermath::Ended(Box::new(ended.clone())));
    }
}
