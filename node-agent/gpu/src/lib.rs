//! The cards of this node, through NVML. This is the only crate that names nvml-wrapper.
//!
//! Nothing that a driver does is an error to our callers: without a driver, a library or an answer there are fewer
//! cards, and a sentence that says why. It decides which cards may be lent; what happens with them is decided elsewhere.

mod card;
mod problem;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use capstan_supervisor::ports::{GpuInventory, GpuUse, Gpus};
use nvml_wrapper::Nvml;
use nvml_wrapper::error::NvmlError;

use crate::problem::Problem;

/// The loader's name of the library when the settings name none.
const LIBRARY: &str = "libnvidia-ml.so.1";

/// Cards that a node can have: far more than any machine has, and few enough for a driver that answers nonsense.
const CARDS_MAX: u32 = 256;

/// How the driver of the simulated library begins its version.
const SIMULATED: &str = "simulated";

/// This node's cards. Asks the driver anew at each call, and opens it again after it failed.
pub struct NvmlGpus {
    library: PathBuf,
    /// One caller at a time: NVML takes several, but two of ours have nothing to gain.
    driver: Mutex<Option<Driver>>,
}

impl NvmlGpus {
    /// Cards behind `library`, by default `libnvidia-ml.so.1` of the loader's path. Never fails: the first question
    /// opens the driver, and says what is wrong with it.
    #[must_use]
    pub fn open(library: Option<&Path>) -> Self {
        Self {
            library: library.unwrap_or(Path::new(LIBRARY)).to_owned(),
            driver: Mutex::new(None),
        }
    }

    fn driver(&self) -> MutexGuard<'_, Option<Driver>> {
        self.driver.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn load(&self) -> Result<Driver, Problem> {
        Nvml::builder()
            .lib_path(self.library.as_os_str())
            .init()
            .map(|nvml| Driver(Some(nvml)))
            .map_err(|error| Problem::NoDriver {
                library: self.library.clone(),
                error,
            })
    }
}

impl Gpus for NvmlGpus {
    fn inventory(&self) -> GpuInventory {
        let mut open = self.driver();
        let driver = match open.take().map_or_else(|| self.load(), Ok) {
            Ok(driver) => driver,
            Err(problem) => {
                return GpuInventory {
                    problem: Some(problem.to_string()),
                    ..GpuInventory::default()
                };
            }
        };
        let (inventory, is_whole) = driver.inventory();
        // A card that fell off stays off until the driver is opened anew, so we keep only a driver that is well.
        *open = is_whole.then_some(driver);
        inventory
    }

    fn usage(&self) -> Vec<GpuUse> {
        let mut open = self.driver();
        let Ok(driver) = open.take().map_or_else(|| self.load(), Ok) else {
            return Vec::new(); // The inventory says why.
        };
        let usage = driver.usage();
        // Kept, even with a card missing: opening a real driver can take seconds, and the inventory does it often enough.
        *open = Some(driver);
        usage
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
    fn nvml(&self) -> &Nvml {
        self.0.as_ref().expect("only drop takes it")
    }

    /// The cards, and whether every one of them answered.
    fn inventory(&self) -> (GpuInventory, bool) {
        let driver = self.nvml().sys_driver_version().unwrap_or_default();
        let mut inventory = GpuInventory {
            simulated: driver.starts_with(SIMULATED),
            driver,
            ..GpuInventory::default()
        };
        let (count, mut problems) = match self.count() {
            Ok(count) => (count.min(CARDS_MAX), Problem::of_count(count, CARDS_MAX)),
            Err(error) => (0, vec![Problem::NoCount { error }]),
        };
        for index in 0..count {
            match card::describe(self.nvml(), index) {
                Ok(card) if inventory.cards.iter().any(|other| other.uuid == card.uuid) => {
                    problems.push(Problem::Twice { uuid: card.uuid });
                }
                Ok(card) => inventory.cards.push(card),
                Err(problem) => problems.push(problem),
            }
        }
        inventory.problem = problem::sentence(&problems);
        (inventory, problems.is_empty())
    }

    fn usage(&self) -> Vec<GpuUse> {
        let count = self.count().unwrap_or_default().min(CARDS_MAX);
        let answers = (0..count).map(|index| card::usage(self.nvml(), index));
        answers
            .filter_map(|answer| {
                answer
                    .inspect_err(
                        |problem| tracing::debug!(%problem, "card does not say what it does"),
                    )
                    .ok()
            })
            .collect()
    }

    fn count(&self) -> Result<u32, NvmlError> {
        self.nvml().device_count()
    }
}
