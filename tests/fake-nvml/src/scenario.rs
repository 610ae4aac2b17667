//! The TOML file that says what the simulated driver answers; `example/fake-nvml.toml` shows every key.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::code::Code;

/// Cards of one node; more than any machine has, so that a typing error cannot eat the memory of a test.
const CARDS_MAX: usize = 64;

/// Every driver version begins so. The agent knows by it that the cards are not real.
const SIMULATED: &str = "simulated";

/// A whole simulated driver.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Scenario {
    /// Shown as `simulated …`, whatever stands here.
    pub(crate) driver_version: String,
    /// CUDA version as NVML counts: 12080 is 12.8.
    pub(crate) cuda_version: i32,
    /// Milliseconds that every call takes, for drivers that hang.
    pub(crate) delay_ms: u64,
    /// What a function answers instead of success, by its exported name; `*` is every function.
    pub(crate) faults: Faults,
    /// In index order.
    pub(crate) cards: Vec<Card>,
}

/// One simulated GPU.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Card {
    /// `GPU-…`; has to differ from every other card's.
    pub(crate) uuid: String,
    #[serde(default = "model")]
    pub(crate) name: String,
    /// `00000000:3B:00.0`; by the card's index when absent.
    pub(crate) pci_address: Option<String>,
    /// N of /dev/nvidiaN; the index when absent.
    pub(crate) minor: Option<u32>,
    #[serde(default = "memory_mib")]
    pub(crate) memory_mib: u64,
    /// Memory in use; the sum over `processes` when absent.
    pub(crate) memory_used_mib: Option<u64>,
    /// 0 to 100.
    #[serde(default)]
    pub(crate) utilization_percent: u32,
    /// Loads over time, one after the other and again from the start; in place of `utilization_percent`.
    #[serde(default)]
    pub(crate) utilization_curve: Vec<u32>,
    /// Milliseconds that each value of the curve stands.
    #[serde(default = "curve_step_ms")]
    pub(crate) curve_step_ms: u64,
    /// Memory that no process holds, on top of theirs.
    #[serde(default)]
    pub(crate) leaked_mib: u64,
    /// Rows wait to be remapped.
    #[serde(default)]
    pub(crate) remap_pending: bool,
    /// No spare row was left.
    #[serde(default)]
    pub(crate) remap_failed: bool,
    /// Pages wait to be retired.
    #[serde(default)]
    pub(crate) retirement_pending: bool,
    /// The card stops at this temperature.
    #[serde(default = "shutdown_celsius")]
    pub(crate) shutdown_celsius: u32,
    /// 0 to 100.
    #[serde(default)]
    pub(crate) memory_utilization_percent: u32,
    #[serde(default = "temperature_celsius")]
    pub(crate) temperature_celsius: u32,
    #[serde(default = "power_milliwatts")]
    pub(crate) power_milliwatts: u32,
    #[serde(default = "power_limit_milliwatts")]
    pub(crate) power_limit_milliwatts: u32,
    #[serde(default)]
    pub(crate) fan_percent: u32,
    /// Errors that memory corrected and could not correct, since the last boot and over all time alike.
    #[serde(default)]
    pub(crate) ecc_corrected: u64,
    #[serde(default)]
    pub(crate) ecc_uncorrected: u64,
    /// Grows: each number added while an event set listens is delivered once, in order.
    #[serde(default)]
    pub(crate) xid_events: Vec<u64>,
    /// The place in `mig` of the instance that `xid_events` are about; the whole card when absent.
    pub(crate) xid_instance: Option<u32>,
    #[serde(default)]
    pub(crate) processes: Vec<Process>,
    /// Compute capability, `[major, minor]`.
    #[serde(default = "compute_capability")]
    pub(crate) compute_capability: [i32; 2],
    /// The memory node that it is near to.
    #[serde(default)]
    pub(crate) numa_node: u32,
    /// Cards with the same number have NVLink between them; none when absent.
    pub(crate) nvlink: Option<u32>,
    /// The card is divided into these instances (MIG); it is whole when there are none.
    #[serde(default)]
    pub(crate) mig: Vec<Instance>,
    /// As `Scenario::faults`, for calls about this card.
    #[serde(default)]
    pub(crate) faults: Faults,
}

/// A part of a divided card.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Instance {
    /// `MIG-…`.
    pub(crate) uuid: String,
    pub(crate) name: String,
    pub(crate) memory_mib: u64,
    #[serde(default)]
    pub(crate) processes: Vec<Process>,
}

/// A process that computes on a card.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Process {
    pub(crate) pid: u32,
    #[serde(default)]
    pub(crate) memory_mib: u64,
}

/// Answers in place of success, by function name.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(transparent)]
pub(crate) struct Faults(BTreeMap<String, Code>);

impl Faults {
    /// `Err` when `function` has to fail.
    pub(crate) fn check(&self, function: &str) -> Result<(), Code> {
        self.0
            .get(function)
            .or_else(|| self.0.get("*"))
            .map_or(Ok(()), |code| Err(*code))
    }
}

impl Scenario {
    /// Reads `text`; a file that is torn, misspelt or describes no possible machine is an error in words.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let mut scenario: Self = toml::from_str(text).map_err(|error| error.to_string())?;
        if scenario.cards.len() > CARDS_MAX {
            return Err(format!(
                "{} cards are more than {CARDS_MAX}",
                scenario.cards.len()
            ));
        }
        for (index, card) in scenario.cards.iter().enumerate() {
            if scenario.cards[..index]
                .iter()
                .any(|other| other.uuid == card.uuid)
            {
                return Err(format!("two cards have the UUID {}", card.uuid));
            }
        }
        if !scenario.driver_version.starts_with(SIMULATED) {
            scenario.driver_version = format!("{SIMULATED} {}", scenario.driver_version);
        }
        Ok(scenario)
    }
}

impl Card {
    /// In bytes.
    pub(crate) fn memory_total(&self) -> u64 {
        self.memory_mib << 20
    }

    /// In bytes; never more than there is.
    pub(crate) fn memory_used(&self) -> u64 {
        let by_processes = || {
            self.processes
                .iter()
                .map(|process| process.memory_mib)
                .sum()
        };
        self.memory_used_mib
            .unwrap_or_else(by_processes)
            .saturating_add(self.leaked_mib)
            .min(self.memory_mib)
            << 20
    }
}

impl Card {
    /// An instance, as calls about its own handle see it.
    pub(crate) fn instance(&self, instance: &Instance) -> Self {
        Self {
            uuid: instance.uuid.clone(),
            name: instance.name.clone(),
            memory_mib: instance.memory_mib,
            memory_used_mib: None,
            leaked_mib: 0,
            processes: instance.processes.clone(),
            mig: Vec::new(),
            ..self.clone()
        }
    }

    /// The load at this many milliseconds of any clock.
    pub(crate) fn utilization_at(&self, at_ms: u64) -> u32 {
        let steps = self.utilization_curve.len() as u64;
        if steps == 0 {
            return self.utilization_percent;
        }
        let step = at_ms / self.curve_step_ms.max(1) % steps;
        self.utilization_curve[step as usize]
    }
}

fn curve_step_ms() -> u64 {
    1000
}

fn shutdown_celsius() -> u32 {
    95
}

/// An A100's.
fn compute_capability() -> [i32; 2] {
    [8, 0]
}

fn model() -> String {
    "Simulated GPU".to_owned()
}

fn memory_mib() -> u64 {
    40_960
}

fn temperature_celsius() -> u32 {
    35
}

fn power_milliwatts() -> u32 {
    50_000
}

fn power_limit_milliwatts() -> u32 {
    300_000
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_is_valid_and_simulated() {
        let scenario = Scenario::parse(include_str!("../example/fake-nvml.toml")).expect("example");
        assert_eq!(scenario.cards.len(), 2);
        assert!(
            scenario.driver_version.starts_with(SIMULATED),
            "{}",
            scenario.driver_version
        );
    }

    #[test]
    fn every_driver_version_is_labelled() {
        let scenario = Scenario::parse("driver_version = '570.86'").expect("valid");
        assert_eq!(scenario.driver_version, "simulated 570.86");
    }

    #[test]
    fn impossible_machines_are_refused() {
        check_refused(
            "[[cards]]\nuuid = 'GPU-1'\n[[cards]]\nuuid = 'GPU-1'\n",
            "two cards",
        );
        check_refused("[[cards]]\nuuid = 'GPU-1'\ncolour = 'red'\n", "colour");
        check_refused("[[cards]]\nuu", "TOML");
        check_refused(
            &(0..65)
                .map(|n| format!("[[cards]]\nuuid = 'GPU-{n}'\n"))
                .collect::<String>(),
            "65 cards",
        );
    }

    fn check_refused(text: &str, word: &str) {
        let refusal = Scenario::parse(text).expect_err(text);
        assert!(refusal.contains(word), "{refusal}");
    }

    #[test]
    fn a_curve_is_gone_through_again_and_again() {
        let text = "[[cards]]\nuuid = 'GPU-1'\nutilization_curve = [10, 90]\ncurve_step_ms = 500\n";
        let card = Scenario::parse(text).expect("valid").cards.remove(0);
        let seen = [0, 499, 500, 999, 1000, 1500].map(|at_ms| card.utilization_at(at_ms));
        assert_eq!(seen, [10, 10, 90, 90, 10, 90]);
    }

    #[test]
    fn memory_in_use_is_what_processes_hold_unless_said_otherwise() {
        let card = |extra: &str| {
            let text = format!("[[cards]]\nuuid = 'GPU-1'\nmemory_mib = 100\n{extra}");
            Scenario::parse(&text)
                .expect("valid")
                .cards
                .remove(0)
                .memory_used()
                >> 20
        };
        assert_eq!(
            card("processes = [{ pid = 1, memory_mib = 30 }, { pid = 2, memory_mib = 40 }]"),
            70
        );
        assert_eq!(
            card("memory_used_mib = 5\nprocesses = [{ pid = 1, memory_mib = 30 }]"),
            5
        );
        assert_eq!(card("memory_used_mib = 500"), 100);
        assert_eq!(
            card("leaked_mib = 20\nprocesses = [{ pid = 1, memory_mib = 30 }]"),
            50
        );
    }
}
