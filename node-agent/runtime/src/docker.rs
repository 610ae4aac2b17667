//! Docker, behind the supervisor's port. Connections are made as they are needed, so a restart of the engine needs no
//! care here; what a call found broken is the port's `Unreachable`.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;

use bollard::errors::Error;
use bollard::models::{ContainerSummary, SystemInfoCgroupDriverEnum};
use bollard::query_parameters as query;
use bollard::{API_DEFAULT_VERSION, Docker};
use capstan_supervisor::containers::{
    Attached, CgroupDriver, ContainerEngine, ContainerId, ContainerSpec, EngineError, EngineFacts,
    EnterSpec, Entered, EnteredState, ImageId, OwnedContainer, Seen, Signal, TerminalSize,
};
use capstan_types::AgentId;
use futures_util::StreamExt;
use tokio::sync::RwLock;

use crate::attach::{self, Answer};
use crate::limits::Limits;
use crate::{entering, said, spec};

/// Bytes of a tar archive around a file in it: header, padding, end.
const TAR_BYTES: usize = 4096;

/// Whose container a create found.
enum Created {
    Now(ContainerId),
    Before(OwnedContainer),
}

/// The Docker engine behind a Unix socket.
#[derive(Debug)]
pub struct DockerEngine {
    socket: PathBuf,
    /// With the API version negotiated; forgotten when the engine went away, for it may come back as another.
    docker: RwLock<Option<Docker>>,
    pub(crate) limits: Limits,
}

impl DockerEngine {
    /// The engine at `socket`; it is not asked anything yet.
    #[must_use]
    pub fn at(socket: impl Into<PathBuf>) -> Self {
        Self {
            socket: socket.into(),
            docker: RwLock::default(),
            limits: Limits::default(),
        }
    }

    /// The same with less, or more, patience.
    #[must_use]
    pub fn with_limits(self, limits: Limits) -> Self {
        Self { limits, ..self }
    }

    pub(crate) async fn docker(&self) -> Result<Docker, EngineError> {
        if let Some(docker) = self.docker.read().await.as_ref() {
            return Ok(docker.clone());
        }
        let path = self.socket.to_string_lossy();
        let head_secs = self.limits.work.as_secs().max(1);
        let connected = Docker::connect_with_unix(&path, head_secs, API_DEFAULT_VERSION);
        let docker = async { connected?.negotiate_version().await };
        let docker = self.limits.hello(docker).await;
        let docker = docker.map_err(|error| self.said(error))?;
        *self.docker.write().await = Some(docker.clone());
        Ok(docker)
    }

    pub(crate) fn said(&self, error: Error) -> EngineError {
        self.noted(said::error(&self.socket, error))
    }

    /// The same of our own streams.
    pub(crate) fn no_stream(&self, error: attach::NoStream) -> EngineError {
        self.noted(said::no_stream(&self.socket, error))
    }

    fn noted(&self, error: EngineError) -> EngineError {
        if error.is_transient()
            && let Ok(mut docker) = self.docker.try_write()
        {
            *docker = None;
        }
        error
    }

    pub(crate) fn about(&self, id: &ContainerId, error: Error) -> EngineError {
        match said::status(&error) {
            Some(404) => EngineError::NoContainer { id: id.clone() },
            _ => self.said(error),
        }
    }

    async fn create(&self, docker: &Docker, spec: &ContainerSpec) -> Result<Created, EngineError> {
        let options = query::CreateContainerOptionsBuilder::new()
            .name(&spec.name)
            .build();
        let created = docker.create_container(Some(options), spec::body(spec));
        match self.limits.work(created).await {
            Ok(created) => Ok(Created::Now(ContainerId(created.id))),
            // The name is the request's alone: this container was created for it before, and the answer was lost.
            Err(error) if said::status(&error) == Some(409) => {
                let ours = self.owned(&spec.owner.agent).await?;
                let found = ours
                    .into_iter()
                    .find(|container| container.name == spec.name && container.owner == spec.owner);
                found.map(Created::Before).ok_or_else(|| self.said(error))
            }
            Err(error) if said::status(&error) == Some(404) => Err(EngineError::ImageMissing {
                image: spec.image.clone(),
                said: "it was removed just now".to_owned(),
            }),
            Err(error) => Err(said::start_error(self.said(error))),
        }
    }

    async fn attach_and_start(
        &self,
        docker: &Docker,
        id: &ContainerId,
        spec: &ContainerSpec,
    ) -> Result<Attached, EngineError> {
        let raw = self.attach(docker, id, (spec.interactive, true)).await?;
        let (output, input) = raw.split(spec.terminal.is_some());
        self.start(docker, id, spec).await?;
        Ok(Attached {
            id: id.clone(),
            output,
            input: spec.interactive.then_some(input),
        })
    }

    /// Starts a container of which nobody knows whether its first start is still under way: what it prints is taken from
    /// its log, for it may have begun before anybody listens.
    async fn start_again(
        &self,
        docker: &Docker,
        container: &OwnedContainer,
        spec: &ContainerSpec,
    ) -> Result<Attached, EngineError> {
        let mut input = None;
        if spec.interactive {
            let raw = self.attach(docker, &container.id, (true, false)).await?;
            input = Some(raw.split(spec.terminal.is_some()).1);
        }
        self.start(docker, &container.id, spec).await?;
        let attached = self.resume(container, Seen::default()).await?;
        Ok(Attached {
            input: input.or(attached.input),
            ..attached
        })
    }

    async fn attach(
        &self,
        docker: &Docker,
        id: &ContainerId,
        (stdin, output): (bool, bool),
    ) -> Result<attach::Raw, EngineError> {
        let version = docker.client_version().to_string();
        let path = attach::attach_path(&version, &id.0, stdin, output);
        let raw = attach::open(&self.socket, ("POST", &path), Answer::Upgrade);
        let raw = self.limits.stream(raw).await;
        raw.map_err(|error| self.no_stream(error))
    }

    async fn start(
        &self,
        docker: &Docker,
        id: &ContainerId,
        spec: &ContainerSpec,
    ) -> Result<(), EngineError> {
        let started = self.limits.work(docker.start_container(&id.0, None));
        started
            .await
            .map_err(|error| said::start_error(self.about(id, error)))?;
        if let Some(size) = spec.terminal {
            // It may have ended already; then nobody needs the size.
            drop(self.resize(id, size).await);
        }
        Ok(())
    }

    /// Names of the images that the engine holds. An engine that does not say has none: a preference is all that is lost.
    async fn images(&self, docker: &Docker) -> BTreeMap<String, ImageId> {
        let listed = docker.list_images(None::<query::ListImagesOptions>);
        let listed = self.limits.answer(listed).await;
        let listed = listed.inspect_err(|error| tracing::debug!(%error, "images cannot be listed"));
        let images = listed.unwrap_or_default().into_iter();
        EngineFacts::named(images.flat_map(|image| {
            let id = ImageId(image.id);
            image
                .repo_tags
                .into_iter()
                .map(move |name| (name, id.clone()))
        }))
    }
}

impl ContainerEngine for DockerEngine {
    async fn facts(&self) -> Result<EngineFacts, EngineError> {
        let docker = self.docker().await?;
        let info = self.limits.answer(docker.info()).await;
        let info = info.map_err(|error| self.said(error))?;
        let socket = self.socket.clone();
        Ok(EngineFacts {
            version: info.server_version.unwrap_or_default(),
            cgroups: match info.cgroup_driver {
                Some(SystemInfoCgroupDriverEnum::SYSTEMD) => CgroupDriver::Systemd,
                Some(SystemInfoCgroupDriverEnum::NONE) => CgroupDriver::Nobody,
                Some(SystemInfoCgroupDriverEnum::CGROUPFS | SystemInfoCgroupDriverEnum::EMPTY)
                | None => CgroupDriver::Cgroupfs,
            },
            runtimes: info.runtimes.unwrap_or_default().into_keys().collect(),
            has_cdi: info
                .cdi_spec_dirs
                .is_some_and(|folders| !folders.is_empty()),
            has_init: info.init_binary.is_some_and(|init| !init.is_empty()),
            root: info.docker_root_dir.unwrap_or_default().into(),
            keeps_containers: info.live_restore_enabled.unwrap_or(false),
            shares_mounts: tokio::task::spawn_blocking(move || attach::shares_mounts(&socket))
                .await
                .unwrap_or(true),
            images: self.images(&docker).await,
        })
    }

    async fn image(&self, name: &str) -> Result<ImageId, EngineError> {
        let docker = self.docker().await?;
        let missing = |said| EngineError::ImageMissing {
            image: name.to_owned(),
            said,
        };
        match self.limits.answer(docker.inspect_image(name)).await {
            Ok(image) => image
                .id
                .map(ImageId)
                .ok_or_else(|| missing("it has no id".to_owned())),
            Err(Error::DockerResponseServerError {
                status_code: 404,
                message,
            }) => Err(missing(message)),
            Err(error) => Err(self.said(error)),
        }
    }

    async fn repo_digests(&self, image: &ImageId) -> Result<Vec<String>, EngineError> {
        let docker = self.docker().await?;
        let seen = self.limits.answer(docker.inspect_image(&image.0)).await;
        let seen = seen.map_err(|error| self.said(error))?;
        Ok(seen.repo_digests.unwrap_or_default())
    }

    async fn file_of_image(
        &self,
        image: &ImageId,
        path: &str,
        bytes_max: usize,
    ) -> Result<Option<Vec<u8>>, EngineError> {
        let docker = self.docker().await?;
        // A container that never runs: the only way into an image that the engine offers.
        let body = bollard::models::ContainerCreateBody {
            image: Some(image.0.clone()),
            cmd: Some(vec!["/".to_owned()]),
            ..Default::default()
        };
        let created = self.limits.work(docker.create_container(None, body)).await;
        let created = created.map_err(|error| self.said(error))?;
        let id = ContainerId(created.id);
        let read = read_file(&docker, &id, path, bytes_max + TAR_BYTES);
        let read = self.limits.work(read).await;
        self.ensure_removed(&id).await?;
        match read {
            Ok(archive) => Ok(first_file(&archive).map(<[u8]>::to_vec)),
            Err(error) if said::status(&error) == Some(404) => Ok(None),
            Err(error) => Err(self.said(error)),
        }
    }

    async fn ensure_started(&self, spec: &ContainerSpec) -> Result<Attached, EngineError> {
        let docker = self.docker().await?;
        let mut created = self.create(&docker, spec).await?;
        if let Created::Before(container) = &created
            && container.never_started
        {
            // It may be about to start after all: starting waits for that. Else what it was to mount was pinned for
            // the call that was interrupted, and is gone; then it cannot start, and has not run.
            match self.start_again(&docker, container, spec).await {
                Err(error) if !error.is_transient() => {}
                attached => return attached,
            }
            self.ensure_removed(&container.id).await?;
            created = self.create(&docker, spec).await?;
        }
        let id = match created {
            Created::Before(container) => return self.resume(&container, Seen::default()).await,
            Created::Now(id) => id,
        };
        match self.attach_and_start(&docker, &id, spec).await {
            Ok(attached) => Ok(attached),
            Err(error) => {
                // A start that was refused leaves the container behind.
                if let Err(removal) = self.ensure_removed(&id).await {
                    tracing::warn!(container = %id.0, error = %removal, "container that did not start is still there");
                }
                Err(error)
            }
        }
    }

    async fn resume(
        &self,
        container: &OwnedContainer,
        seen: Seen,
    ) -> Result<Attached, EngineError> {
        let docker = self.docker().await?;
        let version = docker.client_version().to_string();
        let OwnedContainer { id, terminal, .. } = container;
        let failed = |error| {
            if matches!(error, attach::NoStream::Status(404, _)) {
                return EngineError::NoContainer { id: id.clone() };
            }
            self.no_stream(error)
        };
        let path = attach::logs_path(&version, &id.0);
        let log = attach::open(&self.socket, ("GET", &path), Answer::Body);
        let log = self.limits.stream(log).await.map_err(failed)?;
        let output = log.behind(*terminal, seen);
        // A program without a terminal saw the end of its stdin when our connection broke.
        let mut input = None;
        if *terminal && let Ok(raw) = self.attach(&docker, id, (true, false)).await {
            input = Some(raw.split(true).1);
        }
        Ok(Attached {
            id: id.clone(),
            output,
            input,
        })
    }

    async fn wait(&self, id: &ContainerId) -> Result<i32, EngineError> {
        let docker = self.docker().await?;
        let options = query::WaitContainerOptionsBuilder::new()
            .condition("not-running")
            .build();
        let mut ended = std::pin::pin!(docker.wait_container(&id.0, Some(options)));
        match ended.next().await {
            Some(Ok(response)) => Ok(response.status_code as i32),
            // bollard makes an error of every code but 0.
            Some(Err(Error::DockerContainerWaitError { code, .. })) => Ok(code as i32),
            Some(Err(error)) => Err(self.about(id, error)),
            None => Err(EngineError::Unreachable {
                socket: self.socket.clone(),
                source: "it closed the connection".into(),
            }),
        }
    }

    async fn signal(&self, id: &ContainerId, signal: Signal) -> Result<(), EngineError> {
        let docker = self.docker().await?;
        let options = query::KillContainerOptionsBuilder::new()
            .signal(&signal.0.to_string())
            .build();
        let killed = docker.kill_container(&id.0, Some(options));
        match self.limits.answer(killed).await {
            Ok(()) => Ok(()),
            Err(error) if matches!(said::status(&error), Some(404 | 409)) => Ok(()),
            Err(error) => Err(self.said(error)),
        }
    }

    async fn resize(&self, id: &ContainerId, size: TerminalSize) -> Result<(), EngineError> {
        let docker = self.docker().await?;
        let options = query::ResizeContainerTTYOptionsBuilder::new()
            .h(size.rows.into())
            .w(size.columns.into())
            .build();
        let resized = docker.resize_container_tty(&id.0, options);
        match self.limits.answer(resized).await {
            Ok(()) => Ok(()),
            Err(error) if matches!(said::status(&error), Some(404 | 409)) => Ok(()),
            Err(error) => Err(self.said(error)),
        }
    }

    async fn create_entered(
        &self,
        id: &ContainerId,
        spec: &EnterSpec,
    ) -> Result<String, EngineError> {
        entering::create(self, id, spec).await
    }

    async fn enter(
        &self,
        id: &str,
        terminal: Option<TerminalSize>,
    ) -> Result<Entered, EngineError> {
        entering::enter(self, &self.socket, id, terminal).await
    }

    async fn resize_entered(&self, id: &str, size: TerminalSize) -> Result<(), EngineError> {
        entering::resize(self, id, size).await
    }

    async fn entered(&self, id: &str) -> Result<EnteredState, EngineError> {
        entering::state(self, id).await
    }

    async fn ensure_removed(&self, id: &ContainerId) -> Result<(), EngineError> {
        let docker = self.docker().await?;
        let options = query::RemoveContainerOptionsBuilder::new()
            .force(true)
            .v(true)
            .build();
        let removed = docker.remove_container(&id.0, Some(options));
        match self.limits.work(removed).await {
            Ok(()) => Ok(()),
            Err(error) if said::status(&error) == Some(404) => Ok(()),
            // Somebody else removes it already: done when it is gone.
            Err(error) if said::status(&error) == Some(409) => {
                let options = query::WaitContainerOptionsBuilder::new()
                    .condition("removed")
                    .build();
                let mut gone = std::pin::pin!(docker.wait_container(&id.0, Some(options)));
                match tokio::time::timeout(self.limits.work, gone.next()).await {
                    Ok(_) => Ok(()),
                    Err(_) => Err(self.said(error)),
                }
            }
            Err(error) => Err(self.said(error)),
        }
    }

    async fn owned(&self, agent: &AgentId) -> Result<Vec<OwnedContainer>, EngineError> {
        let docker = self.docker().await?;
        let filters = HashMap::from([("label", vec![spec::label_of(agent)])]);
        let options = query::ListContainersOptionsBuilder::new()
            .all(true)
            .filters(&filters)
            .build();
        let all = self.limits.answer(docker.list_containers(Some(options)));
        let all: Vec<ContainerSummary> = all.await.map_err(|error| self.said(error))?;
        Ok(all.into_iter().filter_map(spec::owned).collect())
    }
}

async fn read_file(
    docker: &Docker,
    id: &ContainerId,
    path: &str,
    bytes_max: usize,
) -> Result<Vec<u8>, Error> {
    let options = query::DownloadFromContainerOptionsBuilder::new()
        .path(path)
        .build();
    let mut pieces = std::pin::pin!(docker.download_from_container(&id.0, Some(options)));
    let mut archive = Vec::new();
    while let Some(piece) = pieces.next().await {
        archive.extend_from_slice(&piece?);
        if archive.len() > bytes_max {
            // An image may hold anything, and we keep what we read: too much is as good as nothing.
            return Ok(Vec::new());
        }
    }
    Ok(archive)
}

/// The content of the first entry of a tar archive, when that is a plain file.
fn first_file(archive: &[u8]) -> Option<&[u8]> {
    let header = archive.get(..512)?;
    let is_plain = matches!(header[156], b'0' | 0);
    let size = std::str::from_utf8(&header[124..135]).ok()?;
    let size = usize::from_str_radix(size.trim_matches(['\0', ' ']), 8).ok()?;
    archive.get(512..512 + size).filter(|_| is_plain)
}

#[cfg(test)]
mod tests {
    use super::first_file;

    #[test]
    fn the_first_file_of_an_archive_is_found() {
        let mut archive = vec![0; 1024];
        archive[124..136].copy_from_slice(b"00000000005\0");
        archive[156] = b'0';
        archive[512..517].copy_from_slice(b"hello");
        assert_eq!(first_file(&archive), Some(&b"hello"[..]));
        archive[156] = b'2';
        assert_eq!(first_file(&archive), None, "a link");
        assert_eq!(first_file(b""), None);
        archive[156] = b'0';
        archive[124..136].copy_from_slice(b"77777777777\0");
        assert_eq!(first_file(&archive), None, "cut short");
    }
}
