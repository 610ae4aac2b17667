//! Why there are no cards, or fewer than there should be, as people read it in `pbsnodes`.

use std::path::PathBuf;
use std::time::Duration;

use capstan_types::CardId;
use nvml_wrapper::error::NvmlError;

/// Sentences of one node; the rest is counted.
const SENTENCES_MAX: usize = 4;

/// What is wrong with the driver or one card.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Problem {
    #[error("the NVIDIA driver did not answer within {} ms; see nvidia-smi and the kernel log", patience.as_millis())]
    Silent { patience: Duration },
    #[error("no thread could be started to ask the NVIDIA driver ({error})")]
    NoThread { error: std::io::Error },
    #[error("{}", no_driver(library, error))]
    NoDriver { library: PathBuf, error: NvmlError },
    #[error(
        "the NVIDIA driver does not say how many cards there are ({error}); see nvidia-smi and the kernel log"
    )]
    NoCount { error: NvmlError },
    #[error("the NVIDIA driver is loaded and finds no card; see lspci and the kernel log")]
    NoCards,
    #[error("the NVIDIA driver claims {count} cards; only the first {kept} are looked at")]
    TooMany { count: u32, kept: u32 },
    #[error("card {index} does not answer ({error}); see nvidia-smi and the kernel log")]
    Card { index: u32, error: NvmlError },
    #[error("card {index} reports no UUID by which it could be told from others")]
    NoUuid { index: u32 },
    #[error(
        "card {index} is in MIG mode and has no instance; make some with nvidia-smi mig -cgi, or switch it off with nvidia-smi -mig 0"
    )]
    Mig { index: u32 },
    #[error("the NVIDIA driver reports card {uuid} twice")]
    Twice { uuid: CardId },
}

impl Problem {
    /// What a count of cards says by itself.
    pub(crate) fn of_count(count: u32, kept: u32) -> Vec<Self> {
        match count {
            0 => vec![Self::NoCards],
            count if count > kept => vec![Self::TooMany { count, kept }],
            _ => Vec::new(),
        }
    }
}

/// All problems of a node on one line; none for a node that is well.
pub(crate) fn sentence(problems: &[Problem]) -> Option<String> {
    let shown: Vec<_> = problems
        .iter()
        .take(SENTENCES_MAX)
        .map(ToString::to_string)
        .collect();
    let rest = match problems.len() - shown.len() {
        0 => String::new(),
        more => format!("; and {more} more"),
    };
    (!shown.is_empty()).then(|| shown.join("; ") + &rest)
}

#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "the driver's errors are not ours to list; one without words of its own is quoted"
)]
fn no_driver(library: &std::path::Path, error: &NvmlError) -> String {
    let library = library.display();
    match error {
        NvmlError::LibloadingError(cause) => {
            let cause = source_text(cause);
            if cause.contains("No such file") {
                return format!("no NVIDIA driver: {library} is not on this host");
            }
            format!("the NVIDIA library {library} cannot be loaded ({cause}); reinstall the driver")
        }
        NvmlError::FailedToLoadSymbol(_) => {
            format!("{library} is no NVIDIA management library, or too old a one; reinstall the driver")
        }
        NvmlError::DriverNotLoaded => {
            "the NVIDIA library is installed, but the driver is not loaded (modprobe nvidia; see the kernel log)"
                .to_owned()
        }
        NvmlError::LibRmVersionMismatch => {
            "the NVIDIA library and the loaded driver are of different versions; reboot, or reload the driver".to_owned()
        }
        error => format!("the NVIDIA library {library} does not start ({error}); see the kernel log"),
    }
}

/// libloading keeps the loader's words in its source.
fn source_text(error: &dyn std::error::Error) -> String {
    error
        .source()
        .map_or_else(|| error.to_string(), ToString::to_string)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_problems_stay_one_line() {
        let lost = |index| Problem::Card {
            index,
            error: NvmlError::GpuLost,
        };
        let line = sentence(&(0..9).map(lost).collect::<Vec<_>>()).expect("problems");
        assert!(
            line.ends_with("; and 5 more") && !line.contains('\n'),
            "{line}"
        );
        assert_eq!(sentence(&[]), None);
    }
}
