//! The agent's life: one at a time on its state folder, adopting what its predecessor left, until a signal. Jobs go
//! on when it stops.

use std::fs::{self, DirBuilder, File, TryLockError};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use capstan_gpu::NvmlGpus;
use capstan_runtime::DockerEngine;
use capstan_supervisor::attempts::{CgroupTree, DeviceCgroup, Site, SiteSettings, Supervisor};
use capstan_supervisor::containers::{ContainerSettings, DEFAULT_STAGE, Door, Keeper};
use capstan_types::AgentId;
use tokio::signal::unix::{SignalKind, signal};

use crate::asked::Sources;
use crate::diagnosis::Diagnosis;
use crate::health::{AroundJobs, Health};
use crate::inventory::Host;
use crate::link::Link;
use crate::notes::Notes;
use crate::preparing::Preparer;
use crate::settings::Settings;

/// Our own binary, even after its file was replaced by a newer one: agent and shims then agree.
const OWN_BINARY: &str = "/proc/self/exe";
/// A predecessor that was killed a moment ago may still be on its way out.
const LOCK_WAIT: Duration = Duration::from_secs(2);
const LOCK_PAUSE: Duration = Duration::from_millis(20);
/// Kept scratch folders are looked at so often.
const SWEEP_PERIOD: Duration = Duration::from_secs(600);

/// Runs the agent until SIGTERM or SIGINT.
pub(crate) async fn serve(settings: Settings) -> anyhow::Result<()> {
    let _lock = lock_state(&settings.state_folder).await?;
    let agent_id = agent_id(&settings.state_folder)?;
    let host = Host::ask(settings.cores);
    make_scratch(&settings)?;
    let mut cgroups = find_cgroups(&agent_id, &host, settings.surroundings.cores.may_pin());
    fence_cards(&mut cgroups, &settings);
    let gpus = Arc::new(match settings.has_no_cards() {
        true => NvmlGpus::none(),
        false => NvmlGpus::open(settings.nvml_library.as_deref()),
    });
    let containers = Arc::new(containers(&settings, &agent_id)?);
    let door = settings.run_folder.join("agent.sock");
    let site = site(&settings, &door, host.only_uid);
    let site = Site::open(site, cgroups.clone()).context("opening the ledger")?;
    let (supervisor, table) =
        Supervisor::start(site, containers.clone(), gpus.clone()).context("reading the ledger")?;
    containers.end_orphans(&supervisor);
    let listener = crate::door::open(&door)?;
    let door_service = Door::new(containers.clone(), Arc::new(supervisor.clone()));
    let adopting = containers.clone();
    tokio::spawn(async move { adopting.adopt().await });
    let diagnosis = Arc::new(Diagnosis::new(
        settings.node.to_string(),
        settings.server.clone(),
        settings.state_folder.clone(),
        host.uname.clone(),
    ));
    let sources = watch(&settings, supervisor.clone(), gpus.clone(), diagnosis);
    let health = watch_over(&settings, &supervisor, &sources.diagnosis).await;
    let notes = sources.notes.clone();
    tokio::spawn(crate::doctor::tell(settings.clone(), gpus.clone(), notes));
    let link = Link {
        server: settings.server.clone(),
        node: settings.node.to_string(),
        agent_id,
        host,
        gpus,
        engine: containers.clone(),
        supervisor: supervisor.clone(),
        health,
        run_folder: settings.run_folder.clone(),
        preparer: Preparer::default(),
        intruders: settings.ends_intruders.then(Arc::default),
        sources: Arc::new(sources),
    };
    tracing::info!(node = %settings.node, server = settings.server, "agent started");
    let serving = crate::door::serve(listener, door_service);
    let stopped = until_stopped(link.run(), serving, table).await;
    containers.let_go();
    supervisor.end_spawner();
    // Attempts that run keep their groups.
    cgroups.remove();
    // A door that stays would refuse callers more slowly than none.
    let _absent = fs::remove_file(&door);
    stopped
}

fn site(settings: &Settings, door: &Path, only_uid: Option<u32>) -> SiteSettings {
    SiteSettings {
        node: settings.node.to_string(),
        state_folder: settings.state_folder.clone(),
        agent_socket: door.to_owned(),
        commands_folder: settings.commands_folder.clone(),
        only_uid,
        program: OWN_BINARY.into(),
        surroundings: settings.surroundings.clone(),
    }
}

/// Looks at jobs, cards and the kernel's log for as long as the agent lives; without that jobs run as well.
fn watch(
    settings: &Settings,
    supervisor: Supervisor,
    gpus: Arc<NvmlGpus>,
    diagnosis: Arc<Diagnosis>,
) -> Sources<NvmlGpus> {
    tokio::spawn(supervisor.clone().keep_sampling(gpus.clone()));
    tokio::spawn(crate::events::watch(
        gpus.clone(),
        supervisor.clone(),
        diagnosis.clone(),
    ));
    let notes = Arc::new(Notes::default());
    let news = diagnosis.clone();
    let kernel_log = crate::kernel_log::watch(
        (settings.kernel_log.clone(), &settings.state_folder),
        supervisor.clone(),
        notes.clone(),
        move || news.beat.notify_one(),
    );
    Sources {
        supervisor,
        gpus,
        diagnosis,
        kernel_log,
        notes,
    }
}

async fn until_stopped(
    link: impl Future<Output = ()>,
    door: impl Future<Output = anyhow::Result<()>>,
    table: tokio::task::JoinHandle<()>,
) -> anyhow::Result<()> {
    let mut terminated = signal(SignalKind::terminate()).context("watching for SIGTERM")?;
    let mut interrupted = signal(SignalKind::interrupt()).context("watching for SIGINT")?;
    tokio::select! {
        _ = terminated.recv() => {}
        _ = interrupted.recv() => {}
        served = door => {
            served?;
            bail!("the door closed by itself");
        }
        () = link => bail!("the link to the server ended by itself"),
        ended = table => {
            ended.context("the table of attempts failed")?;
            bail!("the table of attempts ended by itself");
        }
    }
    tracing::info!("stopped; running jobs go on");
    Ok(())
}

fn containers(settings: &Settings, agent_id: &str) -> anyhow::Result<Keeper<DockerEngine>> {
    let engine = DockerEngine::at(&settings.docker_socket);
    let settings = ContainerSettings {
        agent: AgentId::from(agent_id),
        state_dir: settings.state_folder.clone(),
        stage_dir: DEFAULT_STAGE.into(),
        volumes: settings.volumes.clone(),
        cards: settings.cards,
        images: settings.images.clone(),
        networks: settings.networks.clone(),
        exceptions: settings.exceptions.clone(),
    };
    Keeper::open(engine, settings).context("making the folders for containers")
}

fn find_cgroups(agent_id: &str, host: &Host, pins_cores: bool) -> CgroupTree {
    if host.only_uid.is_some() {
        return CgroupTree::default();
    }
    let short: String = agent_id.chars().take(8).collect();
    let cgroups = CgroupTree::find(&format!("capstan/{short}"));
    let cgroups = match pins_cores {
        true => cgroups.with_cores_pinned(),
        false => cgroups,
    };
    if !cgroups.is_usable() {
        tracing::warn!("no cgroups on this host; attempts are followed by descent");
    }
    cgroups
}

/// Keeps cards from processes that they are not lent to, where there may be cards; says so when this host cannot.
fn fence_cards(cgroups: &mut CgroupTree, settings: &Settings) {
    if settings.has_no_cards() {
        return;
    }
    let setting = settings.surroundings.device_cgroup;
    if setting == DeviceCgroup::Off {
        tracing::info!(
            "device_cgroup is off: every process of a job finds every card of this node"
        );
    } else if let Err(problem) = cgroups.fence_cards(setting) {
        tracing::warn!(
            problem = crate::link::chain(&problem),
            "every process of a job finds every card of this node, and jobs of queues whose cards are for containers only are not started here"
        );
    }
}

/// The folder of scratch files: ours alone to write, or users could take the names of others' folders.
fn make_scratch(settings: &Settings) -> anyhow::Result<()> {
    let Some(folder) = &settings.surroundings.scratch_folder else {
        return Ok(());
    };
    DirBuilder::new()
        .recursive(true)
        .mode(0o711)
        .create(folder)
        .with_context(|| format!("making the scratch folder {}", folder.display()))?;
    let found = fs::metadata(folder).context("looking at the scratch folder")?;
    ensure!(
        found.uid() == nix::unistd::geteuid().as_raw() && found.mode() & 0o022 == 0,
        "scratch_dir {} must be owned by the agent's user and writable by nobody else: name a folder below it",
        folder.display()
    );
    Ok(())
}

/// What is looked at for ever, as far as this site has it: kept scratch folders, and the node's health.
async fn watch_over(
    settings: &Settings,
    supervisor: &Supervisor,
    diagnosis: &Arc<Diagnosis>,
) -> Arc<Health> {
    if settings.surroundings.scratch_folder.is_some() {
        sweep_scratch(supervisor);
        tokio::spawn(supervisor.clone().keep_watching_scratch());
    }
    let told = diagnosis.clone();
    let news = move || told.beat.notify_one();
    let health = crate::health::watch(settings.health.clone(), news.clone()).await;
    if let Some(check) = AroundJobs::wanted(settings.health.as_ref(), &health, news) {
        supervisor.attach_check(Arc::new(check));
    }
    health
}

/// Scratch folders that were kept after a failure go when their time is over.
fn sweep_scratch(supervisor: &Supervisor) {
    let supervisor = supervisor.clone();
    tokio::spawn(async move {
        loop {
            let sweeping = supervisor.clone();
            let swept = tokio::task::spawn_blocking(move || sweeping.sweep_scratch()).await;
            if let Ok(count @ 1..) = swept {
                tracing::info!(count, "scratch folders whose time is over are removed");
            }
            tokio::time::sleep(SWEEP_PERIOD).await;
        }
    });
}

/// One agent at a time on a state folder.
async fn lock_state(folder: &Path) -> anyhow::Result<File> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o711)
        .create(folder)
        .with_context(|| format!("making the state folder {}", folder.display()))?;
    let path = folder.join("lock");
    let file = File::options()
        .write(true)
        .create(true)
        .truncate(false)
        .open(&path)
        .with_context(|| format!("opening {}", path.display()))?;
    let deadline = Instant::now() + LOCK_WAIT;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::WouldBlock) if Instant::now() < deadline => {}
            Err(TryLockError::WouldBlock) => bail!(
                "another agent runs on {}; stop it, or give this one a state_dir of its own",
                folder.display()
            ),
            Err(TryLockError::Error(error)) => {
                return Err(error).with_context(|| format!("locking {}", path.display()));
            }
        }
        tokio::time::sleep(LOCK_PAUSE).await;
    }
}

/// The id of this installation, made once.
fn agent_id(folder: &Path) -> anyhow::Result<String> {
    let path = folder.join("agent-id");
    if let Ok(id) = fs::read_to_string(&path)
        && uuid::Uuid::parse_str(id.trim()).is_ok()
    {
        return Ok(id.trim().to_owned());
    }
    let id = uuid::Uuid::new_v4().to_string();
    let new = folder.join("agent-id.new");
    let write = || -> std::io::Result<()> {
        let mut file = File::create(&new)?;
        file.write_all(id.as_bytes())?;
        file.sync_all()?;
        fs::rename(&new, &path)?;
        File::open(folder)?.sync_all()
    };
    write().with_context(|| format!("writing {}", path.display()))?;
    Ok(id)
}
