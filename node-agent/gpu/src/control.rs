//! Settings of cards that operators change: the compute mode, and the counts of memory errors.

use capstan_supervisor::ports::{CardControl, CardRefused};
use capstan_types::CardId;
use nvml_wrapper::Device;
use nvml_wrapper::enum_wrappers::device::{ComputeMode, EccCounter};
use nvml_wrapper::error::NvmlError;

use crate::{Driver, NvmlGpus};

impl CardControl for NvmlGpus {
    fn set_compute_mode(&self, card: &CardId, mode: u32) -> Result<(), CardRefused> {
        let mode = match mode {
            0 => ComputeMode::Default,
            1 => ComputeMode::ExclusiveThread,
            2 => ComputeMode::Prohibited,
            3 => ComputeMode::ExclusiveProcess,
            other => return Err(CardRefused::NoMode(other)),
        };
        control(self, card, move |card| card.set_compute_mode(mode))
    }

    fn reset_errors(&self, card: &CardId, is_permanent: bool) -> Result<(), CardRefused> {
        let counter = match is_permanent {
            true => EccCounter::Aggregate,
            false => EccCounter::Volatile,
        };
        control(self, card, move |card| card.clear_ecc_error_counts(counter))
    }
}

fn control(
    gpus: &NvmlGpus,
    card: &CardId,
    order: impl FnOnce(&mut Device<'_>) -> Result<(), NvmlError> + Send + 'static,
) -> Result<(), CardRefused> {
    let uuid = card.to_string();
    let told = gpus.ask(move |open, library| {
        let driver = open.take().map_or_else(|| Driver::load(library), Ok);
        let driver = driver.map_err(|problem| problem.to_string())?;
        let card = driver.nvml().device_by_uuid(uuid.as_str());
        let done = card.and_then(|mut card| order(&mut card));
        *open = Some(driver);
        done.map_err(|error| error.to_string())
    });
    let done = told.map_err(|problem| problem.to_string());
    done.and_then(|done| done)
        .map_err(|said| CardRefused::Driver { said })
}
