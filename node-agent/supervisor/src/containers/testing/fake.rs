//! An engine in memory. It keeps the same rules as a real one (the contract suite says which) and can be told to go
//! away, to lose its containers, and to lack cards.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use bytes::Bytes;
use capstan_types::AgentId;
use futures_util::Stream;
use futures_util::stream::unfold;
use tokio::io::AsyncWrite;
use tokio::sync::{mpsc, watch};

use super::super::engine::{
    Attached, Cards, CgroupDriver, ContainerEngine, ContainerId, ContainerSpec, EngineError,
    EngineFacts, EnterSpec, Entered, EnteredState, ImageId, Output, OwnedContainer, Seen, Signal,
    TerminalSize,
};
use crate::images::{Credentials, ImageStore, Progress, PullProblem, StoredImage, problem_of};

use super::input::Input;
use super::program::{Exec, Running, exec};

const KILLED: i32 = 128 + libc::SIGKILL;

/// An engine in memory. Clones are the same engine.
#[derive(Clone, Default)]
pub struct FakeEngine {
    inner: Arc<Inner>,
}

#[derive(Default)]
struct Inner {
    containers: Mutex<BTreeMap<String, Container>>,
    images: Mutex<BTreeMap<String, BTreeMap<String, Vec<u8>>>>,
    pullable: Mutex<BTreeSet<String>>,
    next: AtomicU64,
    calls: AtomicU64,
    /// Counts up when the engine goes away or comes back; odd is away.
    era: watch::Sender<u64>,
}

struct Container {
    spec: ContainerSpec,
    created: SystemTime,
    output: watch::Receiver<Vec<Output>>,
    code: watch::Sender<Option<i32>>,
    size: watch::Sender<Option<TerminalSize>>,
    stdin: Arc<Mutex<Option<mpsc::Sender<Bytes>>>>,
}

impl FakeEngine {
    /// An engine with one image, which has `files`.
    #[must_use]
    pub fn with_image(name: &str, files: &[(&str, &str)]) -> Self {
        let engine = Self::default();
        let files = files
            .iter()
            .map(|&(path, text)| (path.to_owned(), text.as_bytes().to_vec()));
        lock(&engine.inner.images).insert(name.to_owned(), files.collect());
        engine
    }

    /// Makes an image known to the registry only.
    pub fn offer(&self, name: &str) {
        lock(&self.inner.pullable).insert(name.to_owned());
    }

    /// Breaks all connections and answers nobody until [`FakeEngine::come_back`]; with `keeping` containers run on,
    /// else all are killed, as by an engine that is restarted without its live restore.
    pub fn go_away(&self, keeping: bool) {
        if !keeping {
            for container in lock(&self.inner.containers).values() {
                end(container, KILLED);
            }
        }
        self.inner.era.send_modify(|era| *era |= 1);
    }

    /// Answers again.
    pub fn come_back(&self) {
        self.inner.era.send_modify(|era| *era += *era & 1);
    }

    /// The specification of each container there is.
    #[must_use]
    pub fn specs(&self) -> Vec<ContainerSpec> {
        lock(&self.inner.containers)
            .values()
            .map(|container| container.spec.clone())
            .collect()
    }

    /// How often it was called, by any call.
    #[must_use]
    pub fn calls(&self) -> u64 {
        self.inner.calls.load(Ordering::Relaxed)
    }

    fn answer(&self) -> Result<(), EngineError> {
        self.inner.calls.fetch_add(1, Ordering::Relaxed);
        match *self.inner.era.borrow() & 1 {
            0 => Ok(()),
            _ => Err(away()),
        }
    }

    fn with<T>(
        &self,
        id: &ContainerId,
        then: impl FnOnce(&Container) -> T,
    ) -> Result<T, EngineError> {
        self.answer()?;
        let containers = lock(&self.inner.containers);
        containers
            .get(&id.0)
            .map(then)
            .ok_or_else(|| EngineError::NoContainer { id: id.clone() })
    }

    fn attached(
        &self,
        id: &ContainerId,
        seen: Seen,
        with_input: bool,
    ) -> Result<Attached, EngineError> {
        let era = self.inner.era.subscribe();
        self.with(id, |container| {
            let input: Option<Pin<Box<dyn AsyncWrite + Send>>> = match with_input {
                true => Some(Box::pin(Input(Arc::clone(&container.stdin)))),
                false => None,
            };
            Attached {
                id: id.clone(),
                output: output(
                    container.output.clone(),
                    container.code.subscribe(),
                    era,
                    seen,
                ),
                input,
            }
        })
    }

    fn run(&self, spec: &ContainerSpec) -> ContainerId {
        let id = format!("fake{}", self.inner.next.fetch_add(1, Ordering::Relaxed));
        let (send_input, stdin) = mpsc::channel(4);
        let (send_output, output) = watch::channel(Vec::new());
        let (send_size, size) = watch::channel(spec.terminal);
        let code = watch::Sender::new(None);
        let running = Running {
            spec: spec.clone(),
            stdin,
            output: send_output,
            size,
        };
        let mut killed = code.subscribe();
        let ended = code.clone();
        tokio::spawn(async move {
            tokio::select! {
                code = running.run() => drop(ended.send_replace(Some(code))),
                _ = killed.wait_for(Option::is_some) => {}
            }
        });
        let container = Container {
            spec: spec.clone(),
            created: SystemTime::now(),
            output,
            code,
            size: send_size,
            stdin: Arc::new(Mutex::new(spec.interactive.then_some(send_input))),
        };
        lock(&self.inner.containers).insert(id.clone(), container);
        ContainerId(id)
    }
}

fn end(container: &Container, code: i32) {
    container
        .code
        .send_if_modified(|now| now.is_none() && now.replace(code).is_none());
}

fn away() -> EngineError {
    EngineError::Unreachable {
        socket: PathBuf::from("/fake/docker.sock"),
        source: "it is away".into(),
    }
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// All output from the beginning but what was seen, until the program has ended or the engine goes away.
fn output(
    all: watch::Receiver<Vec<Output>>,
    code: watch::Receiver<Option<i32>>,
    era: watch::Receiver<u64>,
    seen: Seen,
) -> Pin<Box<dyn Stream<Item = std::io::Result<Output>> + Send>> {
    Box::pin(unfold(
        (all, code, era, seen, 0),
        |(mut all, mut code, mut era, mut seen, at)| async move {
            let mut at = at;
            loop {
                let piece = all.borrow_and_update().get(at).cloned();
                if let Some(piece) = piece {
                    at += 1;
                    if let Some(rest) = unseen(piece, &mut seen) {
                        return Some((Ok(rest), (all, code, era, seen, at)));
                    }
                    continue;
                }
                if code.borrow_and_update().is_some() && all.borrow().len() == at {
                    return None;
                }
                tokio::select! {
                    // Its sender ends with the program; then the code tells.
                    changed = all.changed() => if changed.is_err() {
                        drop(code.wait_for(Option::is_some).await);
                    },
                    _ = code.changed() => {}
                    _ = era.changed() => return None,
                }
            }
        },
    ))
}

fn unseen(piece: Output, seen: &mut Seen) -> Option<Output> {
    let (bytes, seen) = match &piece {
        Output::Stdout(bytes) => (bytes, &mut seen.stdout),
        Output::Stderr(bytes) => (bytes, &mut seen.stderr),
    };
    let skip = (*seen).min(bytes.len() as u64);
    *seen -= skip;
    let rest = bytes.slice(skip as usize..);
    (!rest.is_empty()).then(|| match piece {
        Output::Stdout(_) => Output::Stdout(rest),
        Output::Stderr(_) => Output::Stderr(rest),
    })
}

impl ImageStore for FakeEngine {
    async fn pull_image(
        &self,
        name: &str,
        _: Option<&Credentials>,
        told: &(dyn Fn(Progress) + Send + Sync),
    ) -> Result<(), PullProblem> {
        self.answer().map_err(|_| PullProblem::EngineAway)?;
        told(Progress {
            layers: 1,
            bytes: 1,
            bytes_total: 2,
            ..Progress::default()
        });
        // Offered without the tag that is meant by none.
        let bare = name.strip_suffix(":latest").unwrap_or(name);
        let offered = lock(&self.inner.pullable);
        let Some(name) = [name, bare]
            .into_iter()
            .find(|name| offered.contains(*name))
        else {
            return Err(problem_of(name, "", "manifest unknown"));
        };
        lock(&self.inner.images).insert(name.to_owned(), BTreeMap::new());
        Ok(())
    }

    async fn stored_images(&self) -> Result<Vec<StoredImage>, EngineError> {
        self.answer()?;
        let images = lock(&self.inner.images);
        let stored = images.keys().map(|name| StoredImage {
            id: name.clone(),
            names: vec![name.clone()],
            ..StoredImage::default()
        });
        Ok(stored.collect())
    }

    async fn remove_image(&self, name: &str) -> Result<(), EngineError> {
        self.answer()?;
        lock(&self.inner.images).remove(name);
        Ok(())
    }
}

impl ContainerEngine for FakeEngine {
    async fn facts(&self) -> Result<EngineFacts, EngineError> {
        self.answer()?;
        Ok(EngineFacts {
            version: "0.fake".to_owned(),
            cgroups: CgroupDriver::Cgroupfs,
            has_init: true,
            root: PathBuf::from("/var/lib/docker"),
            shares_mounts: true,
            images: EngineFacts::named(
                lock(&self.inner.images)
                    .keys()
                    .map(|name| (name.clone(), ImageId(name.clone()))),
            ),
            ..EngineFacts::default()
        })
    }

    async fn image(&self, name: &str) -> Result<ImageId, EngineError> {
        self.answer()?;
        match lock(&self.inner.images).contains_key(name) {
            true => Ok(ImageId(name.to_owned())),
            false => Err(EngineError::ImageMissing {
                image: name.to_owned(),
                said: "no such image".to_owned(),
            }),
        }
    }

    async fn repo_digests(&self, _image: &ImageId) -> Result<Vec<String>, EngineError> {
        self.answer()?;
        Ok(Vec::new())
    }

    async fn file_of_image(
        &self,
        image: &ImageId,
        path: &str,
        bytes_max: usize,
    ) -> Result<Option<Vec<u8>>, EngineError> {
        self.answer()?;
        let images = lock(&self.inner.images);
        let file = images.get(&image.0).and_then(|files| files.get(path));
        Ok(file.filter(|bytes| bytes.len() <= bytes_max).cloned())
    }

    async fn ensure_started(&self, spec: &ContainerSpec) -> Result<Attached, EngineError> {
        self.image(&spec.image).await?;
        if spec.cards != Cards::ByEnvironment {
            let said = "could not select device driver".to_owned();
            return Err(EngineError::CardsUnavailable { said });
        }
        let found = {
            let containers = lock(&self.inner.containers);
            let named = containers
                .iter()
                .find(|(_, container)| container.spec.name == spec.name);
            named.map(|(id, _)| ContainerId(id.clone()))
        };
        if let Some(id) = found {
            return self.attached(&id, Seen::default(), spec.terminal.is_some());
        }
        let said = spec.command.first().cloned().unwrap_or_default();
        match exec(&spec.command) {
            // Under an init it is the init that finds out.
            Exec::NotFound if !spec.init => return Err(EngineError::ProgramNotFound { said }),
            Exec::NotExecutable if !spec.init => {
                return Err(EngineError::ProgramNotExecutable { said });
            }
            Exec::Found | Exec::NotFound | Exec::NotExecutable => {}
        }
        let id = self.run(spec);
        let code = match exec(&spec.command) {
            Exec::Found => None,
            Exec::NotFound => Some(127),
            Exec::NotExecutable => Some(126),
        };
        if let Some(code) = code {
            self.with(&id, |container| end(container, code))?;
        }
        self.attached(&id, Seen::default(), spec.interactive)
    }

    async fn resume(
        &self,
        container: &OwnedContainer,
        seen: Seen,
    ) -> Result<Attached, EngineError> {
        self.attached(&container.id, seen, container.terminal)
    }

    async fn wait(&self, id: &ContainerId) -> Result<i32, EngineError> {
        let mut era = self.inner.era.subscribe();
        let mut code = self.with(id, |container| container.code.subscribe())?;
        tokio::select! {
            biased;
            _ = era.changed() => Err(away()),
            code = code.wait_for(Option::is_some) => match code {
                Ok(code) => Ok(code.unwrap_or_default()),
                Err(_) => Err(EngineError::NoContainer { id: id.clone() }),
            },
        }
    }

    async fn signal(&self, id: &ContainerId, signal: Signal) -> Result<(), EngineError> {
        match self.with(id, |container| end(container, 128 + signal.0)) {
            Err(EngineError::NoContainer { .. }) => Ok(()),
            other => other,
        }
    }

    async fn resize(&self, id: &ContainerId, size: TerminalSize) -> Result<(), EngineError> {
        match self
            .with(id, |container| {
                container.size.send_replace(Some(size)).is_some()
            })
            .map(|_| ())
        {
            Err(EngineError::NoContainer { .. }) => Ok(()),
            other => other,
        }
    }

    async fn create_entered(
        &self,
        id: &ContainerId,
        _spec: &EnterSpec,
    ) -> Result<String, EngineError> {
        // A container of words has no inside.
        Err(EngineError::NoContainer { id: id.clone() })
    }

    async fn enter(
        &self,
        id: &str,
        _terminal: Option<TerminalSize>,
    ) -> Result<Entered, EngineError> {
        let id = ContainerId(id.to_owned());
        Err(EngineError::NoContainer { id })
    }

    async fn resize_entered(&self, id: &str, _size: TerminalSize) -> Result<(), EngineError> {
        let id = ContainerId(id.to_owned());
        Err(EngineError::NoContainer { id })
    }

    async fn entered(&self, id: &str) -> Result<EnteredState, EngineError> {
        let id = ContainerId(id.to_owned());
        Err(EngineError::NoContainer { id })
    }

    async fn ensure_removed(&self, id: &ContainerId) -> Result<(), EngineError> {
        self.answer()?;
        if let Some(container) = lock(&self.inner.containers).remove(&id.0) {
            end(&container, KILLED);
        }
        Ok(())
    }

    async fn owned(&self, agent: &AgentId) -> Result<Vec<OwnedContainer>, EngineError> {
        self.answer()?;
        let containers = lock(&self.inner.containers);
        let owned = containers
            .iter()
            .filter(|(_, container)| container.spec.owner.agent == *agent);
        let owned = owned.map(|(id, container)| OwnedContainer {
            id: ContainerId(id.clone()),
            name: container.spec.name.clone(),
            owner: container.spec.owner.clone(),
            terminal: container.spec.terminal.is_some(),
            created: container.created,
            never_started: false,
        });
        Ok(owned.collect())
    }
}
