//! Keeps the containers of this agent: starts them, removes them, and answers for them when an attempt ends. The
//! engine's labels and a mark per attempt on disk are its memory, so a restart forgets nothing.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use capstan_types::{AttemptId, CardId};
use tokio::sync::{Mutex, Semaphore};
use tokio_util::sync::CancellationToken;

use super::engine::{
    Attached, Bind, ContainerEngine, ContainerId, ContainerSpec, EngineError, EngineFacts, ImageId,
    OwnedContainer, Owner, Wishes,
};
use super::getting::Waits;
use super::identity::{FILE_BYTES_MAX, Files, ImageUsers};
use super::looking::Looked;
use super::marks::Marks;
use super::plan::{self, Asked};
use super::preparing::Pulling;
use super::reach::Rights;
use super::refusal::Refused;
use super::refusals::Refusals;
use super::registry::Registry;
use super::session::Talk;
use super::settings::ContainerSettings;
use super::stage::Stage;
use super::used::Used;
use crate::attempts::remove_tree;
use crate::images::Stock;
use crate::ports::{AttemptContext, Containers, ContainersError};

/// How long a container that lost its agent waits for its client to come back.
const ADOPTION: Duration = Duration::from_secs(60);
/// Tries to reach an engine that is away: for about three minutes, which is longer than any restart of it.
const TRIES_MAX: u32 = 90;
/// Longest pause between two tries to reach the engine.
const PAUSE_MAX: Duration = Duration::from_secs(2);

/// A file system that does not answer within this time is given up on.
const LOOK_TIME: Duration = Duration::from_secs(30);
/// Threads that look at the files of one user at a time.
const LOOKS_PER_USER_MAX: usize = 8;

/// The containers of one agent.
pub struct Keeper<E> {
    /// The engine.
    pub(super) engine: E,
    pub(super) settings: ContainerSettings,
    pub(super) registry: Registry,
    /// Set when the agent stops: sessions end, containers run on.
    pub(super) letting_go: CancellationToken,
    pub(super) stock: Stock,
    pub(super) waits: Waits,
    pub(super) pulling: Pulling,
    used: Used,
    stage: Stage,
    files: Files,
    marks: Marks,
    facts: Mutex<Option<Arc<EngineFacts>>>,
    /// Containers created before are an earlier process's.
    opened: SystemTime,
    said_no_cgroup: AtomicBool,
    looks: Looks,
    pub(super) refusals: Refusals,
}

impl<E: ContainerEngine> Keeper<E> {
    /// Opens the agent's folders for containers. The engine is not asked anything yet: it may be down.
    ///
    /// # Errors
    /// A folder cannot be made.
    pub fn open(engine: E, settings: ContainerSettings) -> io::Result<Self> {
        let files = Files::open(&settings.state_dir)?;
        files.forget_old();
        Ok(Self {
            engine,
            registry: Registry::default(),
            letting_go: CancellationToken::new(),
            stock: Stock::open(
                settings.images.clone(),
                &settings.state_dir.join("containers").join("images"),
            )?,
            waits: Waits::default(),
            pulling: Pulling::default(),
            used: Used::open(settings.state_dir.join("containers").join("used"))?,
            stage: Stage::open(&settings.stage_dir)?,
            files,
            marks: Marks::open(settings.state_dir.join("containers").join("attempts"))?,
            facts: Mutex::default(),
            opened: SystemTime::now(),
            said_no_cgroup: AtomicBool::new(false),
            looks: Looks::default(),
            refusals: Refusals::default(),
            settings,
        })
    }

    /// What the engine is and can, asked anew. To be asked now and then beside the containers: their starts use the
    /// last answer, because asking takes as long as some of their own steps.
    ///
    /// # Errors
    /// It does not answer.
    pub async fn facts(&self) -> Result<Arc<EngineFacts>, EngineError> {
        let facts = Arc::new(self.engine.facts().await?);
        *self.facts.lock().await = Some(Arc::clone(&facts));
        Ok(facts)
    }

    /// The last answer, or the first one.
    pub(super) async fn known_facts(&self) -> Result<Arc<EngineFacts>, EngineError> {
        let known = self.facts.lock().await.clone();
        match known {
            Some(facts) => Ok(facts),
            None => self.facts().await,
        }
    }

    /// Ends all sessions and leaves their containers running, for the agent that comes after this one.
    pub fn let_go(&self) {
        self.letting_go.cancel();
    }

    /// Takes over the containers that an earlier process of this agent left: those whose client comes back in time
    /// are served again, the others end. Returns when that is done; run it beside the door.
    pub async fn adopt(&self) {
        let Ok(left) = self
            .patiently("list containers", || {
                self.engine.owned(&self.settings.agent)
            })
            .await
        else {
            return;
        };
        let left: Vec<_> = left
            .into_iter()
            .filter(|container| container.created < self.opened)
            .collect();
        tokio::time::sleep(ADOPTION).await;
        for container in left.iter().filter(|container| !container.never_started) {
            if !self.registry.serves(&container.id) {
                tracing::info!(container = %container.id.0, attempt = %container.owner.attempt, "client did not come back");
                self.remove(&container.id).await;
            }
        }
    }

    /// Finds the image, gets it from its registry if need be (the client hears of it), and the users it defines.
    pub(super) async fn image(
        &self,
        name: &str,
        context: &AttemptContext,
        talk: &Talk,
    ) -> Result<ImageUsers, Refused> {
        let id = self.ensure_image(name, context, talk).await?;
        self.note_used(context.attempt, name, &id).await;
        if let Some(users) = self.files.image_users(&id) {
            return Ok(users);
        }
        let users = ImageUsers {
            passwd: self.text_of_image(&id, "/etc/passwd").await?,
            group: self.text_of_image(&id, "/etc/group").await?,
        };
        self.files
            .keep_image_users(&id, &users)
            .map_err(|source| Refused::Agent {
                doing: "remember the users of the image",
                source,
            })?;
        Ok(users)
    }

    /// For the footer; of an engine that does not say the id has to do.
    async fn note_used(&self, attempt: AttemptId, name: &str, id: &ImageId) {
        let digests = self.engine.repo_digests(id).await.unwrap_or_default();
        self.used.note(attempt, name, (id, &digests));
    }

    async fn text_of_image(&self, id: &ImageId, path: &str) -> Result<String, Refused> {
        let bytes = self
            .engine
            .file_of_image(id, path, FILE_BYTES_MAX)
            .await
            .map_err(Refused::Engine)?;
        Ok(String::from_utf8_lossy(&bytes.unwrap_or_default()).into_owned())
    }

    /// Runs `look` with the rights of a user. A file system that does not answer is given up on; the thread that hangs
    /// in it goes on counting against the user, whose doing it may be.
    pub(super) async fn look<T: Send + 'static>(
        &self,
        rights: Rights,
        look: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Refused> {
        let looks = self.looks.of(rights.uid);
        let seen = async {
            // Never closed.
            let place = looks.acquire_owned().await.map_err(io::Error::other)?;
            let look = move || {
                let seen = look();
                drop(place);
                seen
            };
            rights.look(look).await
        };
        let seen = tokio::time::timeout(LOOK_TIME, seen).await;
        let seen = seen.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
        seen.map_err(|source| Refused::Agent {
            doing: "look at your folders",
            source,
        })
    }

    /// Starts the container; its pinned mounts are let go as soon as it runs. Never cancelled half-way by its caller.
    pub(super) async fn start(
        &self,
        asked: &Asked,
        context: &AttemptContext,
        looked: Looked,
        users: &ImageUsers,
    ) -> Result<(Attached, ContainerSpec, Vec<String>), Refused> {
        let facts = self.known_facts().await.map_err(Refused::Engine)?;
        if !facts.shares_mounts && self.stage.is_pinning() {
            // Its view of the paths is not ours, so nothing that we checked would hold.
            return Err(Refused::Request {
                what: "the container engine of this node lives in a mount namespace of its own",
            });
        }
        let agent = |doing| move |source| Refused::Agent { doing, source };
        let identity = self
            .files
            .of_person(users, &looked.person)
            .map_err(agent("write passwd and group"))?;
        let (mut spec, notices) = self.spec(asked, context, &looked, &facts);
        spec.binds.extend(plan::fixed_binds(context, &identity));
        let pinned = self
            .stage
            .pin(&looked.mounts.list)
            .map_err(agent("pin the mounts"))?;
        for (mount, source) in looked.mounts.list.iter().zip(&pinned.sources) {
            spec.binds.push(Bind {
                source: source.clone(),
                target: mount.target.clone(),
                read_only: mount.read_only,
            });
        }
        let mut copy_of_script = None;
        if let Some(copy) = &looked.program.copy {
            let owner = (context.uid, context.gid);
            let file = self
                .files
                .for_one(&spec.name, &copy.bytes, owner)
                .map_err(agent("copy the script"))?;
            spec.binds.push(Bind {
                source: file.0.clone(),
                target: copy.target.clone(),
                read_only: true,
            });
            copy_of_script = Some(file);
        }
        let cgroup = spec.cgroup_parent.as_deref();
        self.marks
            .set(context.attempt, cgroup)
            .map_err(agent("write the mark of the attempt"))?;
        let attached = self
            .engine
            .ensure_started(&spec)
            .await
            .map_err(Refused::Engine)?;
        drop((pinned, copy_of_script));
        Ok((attached, spec, notices))
    }

    fn spec(
        &self,
        asked: &Asked,
        context: &AttemptContext,
        looked: &Looked,
        facts: &EngineFacts,
    ) -> (ContainerSpec, Vec<String>) {
        let order = &context.spec;
        let granted: Vec<_> = order
            .cards
            .iter()
            .map(|card| CardId::from(card.uuid.as_str()))
            .collect();
        let (environment, mut notices) = plan::environment(asked, looked, context, &granted);
        notices.extend(looked.bounded.notices.iter().cloned());
        let (shm_bytes, about_shm) = plan::shm(asked, order.memory_bytes, plan::host_memory());
        let (interactive, terminal, about_terminal) = plan::streams(asked);
        notices.extend(about_shm);
        notices.extend(about_terminal);
        let cgroup_parent = plan::cgroup_parent(context, facts.cgroups);
        if cgroup_parent.is_none() && !self.said_no_cgroup.swap(true, Ordering::Relaxed) {
            tracing::warn!(driver = ?facts.cgroups, "containers run outside of their attempts' cgroups");
        }
        // Under the attempt's cgroup its limit holds already.
        let of_job = order.memory_bytes.filter(|_| cgroup_parent.is_none());
        let memory_bytes = looked.bounded.memory_bytes.or(of_job);
        let number = order.job_id.split('.').next().unwrap_or("job");
        let number: String = number.chars().filter(char::is_ascii_alphanumeric).collect();
        let spec = ContainerSpec {
            name: format!("capstan-{number}-{}-{}", context.attempt, asked.name()),
            image: asked.image.clone(),
            command: looked.program.command.clone(),
            environment,
            workdir: looked.workdir.clone(),
            user: (context.uid, looked.bounded.gid),
            groups: context.groups.clone(),
            binds: Vec::new(),
            cards: plan::cards(granted, self.settings.cards, facts),
            shm_bytes,
            cgroup_parent,
            memory_bytes,
            pids_max: plan::PIDS_MAX,
            init: facts.has_init,
            interactive,
            terminal,
            wishes: wishes(asked, &looked.bounded.wishes),
            grants: asked.grants().clone(),
            owner: Owner {
                agent: self.settings.agent.clone(),
                attempt: context.attempt,
                job: order.job_id.clone(),
                user: order.user.clone(),
            },
        };
        (spec, notices)
    }

    /// Kills and removes; while the engine is away this waits for it, but not for ever: the end of the attempt asks
    /// again.
    pub(super) async fn remove(&self, id: &ContainerId) {
        let removed = self
            .patiently("remove a container", || self.engine.ensure_removed(id))
            .await;
        if let Err(error) = removed {
            tracing::warn!(container = %id.0, error = super::refusal::chain(&error), "container is still there");
        }
    }

    /// Looks up a container of this agent, waiting for an engine that restarts.
    pub(super) async fn find(&self, id: &ContainerId) -> Result<OwnedContainer, EngineError> {
        let all = self
            .patiently("look up a container", || {
                self.engine.owned(&self.settings.agent)
            })
            .await?;
        let found = all.into_iter().find(|container| container.id == *id);
        found.ok_or_else(|| EngineError::NoContainer { id: id.clone() })
    }

    /// Whether the attempt may have a container.
    pub(super) fn has_had(&self, attempt: AttemptId) -> bool {
        self.marks.get(attempt).is_some()
    }

    async fn patiently<T, F: Future<Output = Result<T, EngineError>>>(
        &self,
        doing: &'static str,
        call: impl Fn() -> F,
    ) -> Result<T, EngineError> {
        let mut pause = Duration::from_millis(50);
        for _ in 0..TRIES_MAX {
            match call().await {
                Err(error) if error.is_transient() => {
                    tracing::debug!(
                        doing,
                        error = super::refusal::chain(&error),
                        "engine is away"
                    );
                    tokio::time::sleep(pause).await;
                    pause = PAUSE_MAX.min(pause * 2);
                }
                other => return other,
            }
        }
        call().await
    }

    async fn remove_all(&self, attempt: AttemptId) -> Result<(), EngineError> {
        for container in self.engine.owned(&self.settings.agent).await? {
            if container.owner.attempt == attempt {
                self.engine.ensure_removed(&container.id).await?;
            }
        }
        Ok(())
    }
}

impl<E: ContainerEngine> Containers for Keeper<E> {
    async fn end_attempt(&self, attempt: AttemptId) -> Result<(), ContainersError> {
        self.registry.end(attempt).await;
        // Most attempts never had a container: their end must not wait for the engine.
        let Some(cgroup) = self.marks.get(attempt) else {
            return Ok(());
        };
        self.remove_all(attempt)
            .await
            .map_err(|error| ContainersError {
                attempt: Some(attempt),
                wanted: "ended",
                source: error.into(),
            })?;
        remove_cgroup(&cgroup);
        self.marks.clear(attempt);
        Ok(())
    }

    async fn attempts_with_containers(&self) -> Result<Vec<AttemptId>, ContainersError> {
        // A mark stands before its first container, so the engine need not be asked.
        Ok(self.marks.all())
    }

    fn images_of(&self, attempt: AttemptId) -> Vec<String> {
        self.used.of(attempt)
    }
}

/// The engine makes the parent in hierarchies that the shim does not use, and leaves it there; one that was killed leaves the
/// groups of its containers as well.
fn remove_cgroup(parent: &str) {
    let parent = parent.trim_start_matches('/');
    if parent.is_empty() || parent.split('/').any(|part| part == "..") {
        return;
    }
    let root = PathBuf::from("/sys/fs/cgroup");
    let hierarchies = std::fs::read_dir(&root)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path());
    for hierarchy in hierarchies.chain([root.clone()]) {
        // A cgroup with processes in it stays: the kernel refuses.
        let _busy = remove_tree(&hierarchy.join(parent));
    }
}

/// A job's script is what its container runs, whatever the image would put in front of it.
fn wishes(asked: &Asked, bounded: &Wishes) -> Wishes {
    let mut wishes = bounded.clone();
    if asked.is_job() {
        wishes.entrypoint = Some(vec![String::new()]);
    }
    wishes
}

/// Who looks how often just now, by uid.
#[derive(Default)]
struct Looks(std::sync::Mutex<BTreeMap<u32, Arc<Semaphore>>>);

impl Looks {
    fn of(&self, uid: u32) -> Arc<Semaphore> {
        let mut all = self
            .0
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        let semaphore = all
            .entry(uid)
            .or_insert_with(|| Arc::new(Semaphore::new(LOOKS_PER_USER_MAX)));
        Arc::clone(semaphore)
    }
}
