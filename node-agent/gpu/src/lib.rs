//! The cards of this node, through NVML. This is the only crate that names nvml-wrapper.
//!
//! Nothing that a driver does is an error to our callers: without a driver, a library or an answer there are fewer
//! cards, and a sentence that says why. It decides which cards may be lent; what happens with them is decided elsewhere.

mod card;
mod control;
mod events;
mod near;
mod part;
mod problem;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::time::Duration;

use capstan_supervisor::ports::{GpuInventory, GpuListener, GpuUse, Gpus};
use nvml_wrapper::Nvml;
use nvml_wrapper::error::NvmlError;

use crate::card::Depth;
use crate::problem::Problem;

/// The loader's name of the library when the settings name none.
const LIBRARY: &str = "libnvidia-ml.so.1";

/// Cards that a node can have: far more than any machine has, and few enough for a driver that answers nonsense.
const CARDS_MAX: u32 = 256;

/// How the driver of the simulated library begins its version.
const SIMULATED: &str = "simulated";

/// How long a question waits. Opening a real driver may take seconds; one that hangs never answers.
const PATIENCE: Duration = Duration::from_secs(10);

/// Questions that may hang in the driver at once; further ones are answered without it.
const QUESTIONS_MAX: usize = 4;

/// This node's cards. Asks the driver anew at each call, and opens it again after it failed.
pub struct NvmlGpus {
    library: PathBuf,
    /// This node is meant to have no cards: nobody is asked.
    has_none: bool,
    patience: Duration,
    driver: Arc<Asked>,
}

/// The driver, and how many questions are on their way to it.
#[derive(Default)]
struct Asked {
    /// One question at a time: NVML takes several, but two of ours have nothing to gain.
    open: Mutex<Option<Driver>>,
    questions: AtomicUsize,
}

impl NvmlGpus {
    /// Cards behind `library`, by default `libnvidia-ml.so.1` of the loader's path. Never fails: the first question
    /// opens the driver, and says what is wrong with it.
    #[must_use]
    pub fn open(library: Option<&Path>) -> Self {
        let library = library.unwrap_or(Path::new(LIBRARY)).to_owned();
        Self {
            library,
            has_none: false,
            patience: PATIENCE,
            driver: Arc::default(),
        }
    }

    /// No cards, which is as it should be.
    #[must_use]
    pub fn none() -> Self {
        Self {
            has_none: true,
            ..Self::open(None)
        }
    }

    /// Waits so long for an answer before the driver counts as hanging; 10 seconds unless said otherwise.
    #[must_use]
    pub fn with_patience(self, patience: Duration) -> Self {
        Self { patience, ..self }
    }

    /// Asks the driver on a thread of its own: a call into a driver that hangs cannot be taken back, and must not
    /// hang the agent. The thread stays until the driver answers; then questions get through again.
    fn ask<T: Send + 'static>(
        &self,
        question: impl FnOnce(&mut Option<Driver>, &Path) -> T + Send + 'static,
    ) -> Result<T, Problem> {
        let silent = || Problem::Silent {
            patience: self.patience,
        };
        let asked = Arc::clone(&self.driver);
        if asked.questions.fetch_add(1, Ordering::Relaxed) >= QUESTIONS_MAX {
            asked.questions.fetch_sub(1, Ordering::Relaxed);
            return Err(silent());
        }
        let library = self.library.clone();
        let (answer, answered) = mpsc::sync_channel(1);
        let thread = std::thread::Builder::new()
            .name("nvml".to_owned())
            .spawn(move || {
                let told = question(
                    &mut asked.open.lock().unwrap_or_else(PoisonError::into_inner),
                    &library,
                );
                asked.questions.fetch_sub(1, Ordering::Relaxed);
                answer.send(told).ok() // Nobody waits for an answer that came too late.
            });
        if let Err(error) = thread {
            self.driver.questions.fetch_sub(1, Ordering::Relaxed);
            return Err(Problem::NoThread { error });
        }
        answered.recv_timeout(self.patience).map_err(|_| silent())
    }
}

impl Gpus for NvmlGpus {
    fn inventory(&self) -> GpuInventory {
        if self.has_none {
            return GpuInventory::default();
        }
        let told = self.ask(|open, library| {
            let driver = open.take().map_or_else(|| Driver::load(library), Ok)?;
            let (inventory, is_whole) = driver.inventory();
            // A card that fell off stays off until the driver is opened anew, so we keep only a driver that is well.
            *open = is_whole.then_some(driver);
            Ok(inventory)
        });
        told.and_then(|answer| answer)
            .unwrap_or_else(|problem: Problem| GpuInventory {
                problem: Some(problem.to_string()),
                ..GpuInventory::default()
            })
    }

    fn usage(&self) -> Vec<GpuUse> {
        self.look(Depth::Whole)
    }

    fn loads(&self) -> Vec<GpuUse> {
        self.look(Depth::Load)
    }

    fn listen(&self, listener: GpuListener) {
        if !self.has_none {
            events::listen(self.library.clone(), listener);
        }
    }
}

impl NvmlGpus {
    fn look(&self, depth: Depth) -> Vec<GpuUse> {
        if self.has_none {
            return Vec::new();
        }
        let told = self.ask(move |open, library| {
            let driver = open.take().map_or_else(|| Driver::load(library), Ok).ok()?;
            let usage = driver.usage(depth);
            // Kept, even with a card missing: opening a real driver can take seconds, and the inventory does it often
            // enough.
            *open = Some(driver);
            Some(usage)
        });
        told.ok().flatten().unwrap_or_default() // The inventory says why.
    }
}

/// An open library. Always `Some` until dropped.
struct Driver(Option<Nvml>);

impl Drop for Driver {
    fn drop(&mut self) {
        // nvml-wrapper panics here when the library has no nvmlShutdown; then the library just stays loaded.
        let nvml = self.0.take();
        if catch_unwind(AssertUnwindSafe(|| drop(nvml))).is_err() {
            tracing::warn!("NVML library has no nvmlShutdown; it stays loaded");
        }
    }
}

impl Driver {
    fn load(library: &Path) -> Result<Self, Problem> {
        Nvml::builder()
            .lib_path(library.as_os_str())
            .init()
            .map(|nvml| Self(Some(nvml)))
            .map_err(|error| Problem::NoDriver {
                library: library.to_owned(),
                error,
            })
    }

    fn nvml(&self) -> &Nvml {
        self.0.as_ref().expect("only drop takes it")
    }

    /// The cards, and whether every one of them answered.
    fn inventory(&self) -> (GpuInventory, bool) {
        let driver = self.nvml().sys_driver_version().unwrap_or_default();
        let cuda = self.nvml().sys_cuda_driver_version().unwrap_or_default();
        let mut inventory = GpuInventory {
            cuda_version: u32::try_from(cuda).unwrap_or_default(),
            simulated: driver.starts_with(SIMULATED),
            driver,
            ..GpuInventory::default()
        };
        let (count, mut problems) = match self.count() {
            Ok(count) => (count.min(CARDS_MAX), Problem::of_count(count, CARDS_MAX)),
            Err(error) => (0, vec![Problem::NoCount { error }]),
        };
        for index in 0..count {
            let cards = card::behind(self.nvml(), index).unwrap_or_else(|problem| {
                problems.push(problem);
                Vec::new()
            });
            for card in cards {
                match inventory.cards.iter().any(|other| other.uuid == card.uuid) {
                    true => problems.push(Problem::Twice { uuid: card.uuid }),
                    false => inventory.cards.push(card),
                }
            }
        }
        near::number_islands(self.nvml(), &mut inventory.cards);
        inventory.problem = problem::sentence(&problems);
        (inventory, problems.is_empty())
    }

    fn usage(&self, depth: Depth) -> Vec<GpuUse> {
        let count = self.count().unwrap_or_default().min(CARDS_MAX);
        let answers = (0..count).map(|index| card::usage(self.nvml(), index, depth));
        answers
            .filter_map(|answer| {
                answer
                    .inspect_err(
                        |problem| tracing::debug!(%problem, "card does not say what it does"),
                    )
                    .ok()
            })
            .flatten()
            .collect()
    }

    fn count(&self) -> Result<u32, NvmlError> {
        self.nvml().device_count()
    }
}
