//! The library as its callers see it: loaded by nvml-wrapper from a folder with its scenario beside it.

#![expect(
    clippy::unwrap_used,
    reason = "a test that cannot prepare its folder has failed"
)]

use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;

use nvml_wrapper::Nvml;
use nvml_wrapper::bitmasks::event::EventTypes;
use nvml_wrapper::enum_wrappers::device::{EccCounter, MemoryError, TemperatureSensor};
use nvml_wrapper::error::NvmlError;
use tempfile::TempDir;

/// A node's folder: the library under its real name, and a scenario.
struct Node(TempDir);

impl Node {
    fn new(scenario: &str) -> Self {
        let node = Self(tempfile::tempdir().unwrap());
        // A copy, as the loader takes a second link to one file for the library that it has already.
        fs::copy(
            fake_nvml::built_library().expect("cargo built the cdylib"),
            node.library(),
        )
        .unwrap();
        node.set(scenario);
        node
    }

    fn library(&self) -> PathBuf {
        self.0.path().join("libnvidia-ml.so.1")
    }

    fn set(&self, scenario: &str) {
        let new = self.0.path().join("new");
        fs::write(&new, scenario).unwrap();
        fs::rename(new, self.0.path().join("fake-nvml.toml")).unwrap();
    }

    fn open(&self) -> Result<Nvml, NvmlError> {
        Nvml::builder().lib_path(self.library().as_os_str()).init()
    }
}

const EXAMPLE: &str = include_str!("../example/fake-nvml.toml");

#[test]
fn answers_what_the_example_says() {
    let node = Node::new(EXAMPLE);
    let nvml = node.open().unwrap();
    assert_eq!(nvml.sys_driver_version().unwrap(), "simulated 570.86.15");
    assert_eq!(nvml.sys_cuda_driver_version().unwrap(), 12080);
    assert_eq!(nvml.device_count().unwrap(), 2);

    let card = nvml.device_by_index(0).unwrap();
    assert_eq!(
        card.uuid().unwrap(),
        "GPU-5f0c1a2b-0000-4000-8000-000000000001"
    );
    assert_eq!(card.name().unwrap(), "Simulated A100-SXM4-40GB");
    assert_eq!(card.index().unwrap(), 0);
    assert_eq!(card.minor_number().unwrap(), 0);
    let pci = card.pci_info().unwrap();
    assert_eq!(
        (pci.bus_id.as_str(), pci.domain, pci.bus, pci.device),
        ("00000000:3B:00.0", 0, 0x3B, 0)
    );
    let memory = card.memory_info().unwrap();
    assert_eq!(
        (memory.total >> 20, memory.used >> 20, memory.free >> 20),
        (40960, 12000, 28960)
    );
    let load = card.utilization_rates().unwrap();
    assert_eq!((load.gpu, load.memory), (97, 61));
    assert_eq!(card.temperature(TemperatureSensor::Gpu).unwrap(), 71);
    assert_eq!(card.power_usage().unwrap(), 289_000);
    assert_eq!(card.enforced_power_limit().unwrap(), 400_000);
    assert_eq!(
        card.total_ecc_errors(MemoryError::Corrected, EccCounter::Volatile)
            .unwrap(),
        3
    );
    let processes = card.running_compute_processes().unwrap();
    assert_eq!(
        processes
            .iter()
            .map(|process| process.pid)
            .collect::<Vec<_>>(),
        [4242]
    );
    assert_eq!(card.mig_mode().unwrap().current, 0);
    assert!(card.cuda_compute_capability().is_ok());

    let idle = nvml
        .device_by_uuid("GPU-5f0c1a2b-0000-4000-8000-000000000002")
        .unwrap();
    assert_eq!(idle.index().unwrap(), 1);
    assert!(idle.running_compute_processes().unwrap().is_empty());
    assert!(matches!(nvml.device_by_index(2), Err(NvmlError::NotFound)));
}

#[test]
fn nodes_of_one_host_have_their_own_cards() {
    let one = Node::new("[[cards]]\nuuid = 'GPU-one'\n");
    let other = Node::new("[[cards]]\nuuid = 'GPU-other'\n[[cards]]\nuuid = 'GPU-third'\n");
    let (one, other) = (one.open().unwrap(), other.open().unwrap());
    assert_eq!(one.device_by_index(0).unwrap().uuid().unwrap(), "GPU-one");
    assert_eq!(other.device_count().unwrap(), 2);
}

#[test]
fn a_link_is_as_good_as_a_copy() {
    let node = tempfile::tempdir().unwrap();
    let library = node.path().join("libnvidia-ml.so.1");
    symlink(fake_nvml::built_library().unwrap(), &library).unwrap();
    fs::write(
        node.path().join("fake-nvml.toml"),
        "[[cards]]\nuuid = 'GPU-linked'\n",
    )
    .unwrap();
    let nvml = Nvml::builder()
        .lib_path(library.as_os_str())
        .init()
        .unwrap();
    assert_eq!(
        nvml.device_by_index(0).unwrap().uuid().unwrap(),
        "GPU-linked"
    );
}

#[test]
fn changes_are_seen_while_running_and_torn_files_are_not() {
    let node = Node::new("[[cards]]\nuuid = 'GPU-1'\nutilization_percent = 1\n");
    let nvml = node.open().unwrap();
    let load = || {
        nvml.device_by_index(0)
            .unwrap()
            .utilization_rates()
            .unwrap()
            .gpu
    };
    assert_eq!(load(), 1);
    node.set("[[cards]]\nuuid = 'GPU-1'\nutilization_percent = 88\n");
    assert_eq!(load(), 88);
    node.set("[[cards]]\nuuid = 'GPU-1'\nutilization_per");
    assert_eq!(load(), 88);
    node.set("[[cards]]\nuuid = 'GPU-1'\nutilization_percent = 2\n");
    assert_eq!(load(), 2);
}

#[test]
fn no_scenario_is_no_driver() {
    let node = Node::new("");
    let nvml = node.open().unwrap();
    assert_eq!(nvml.device_count().unwrap(), 0);
    fs::remove_file(node.0.path().join("fake-nvml.toml")).unwrap();
    assert!(matches!(
        nvml.device_count(),
        Err(NvmlError::DriverNotLoaded)
    ));
    assert!(matches!(node.open(), Err(NvmlError::DriverNotLoaded)));
}

#[test]
fn faults_hit_the_named_function_or_card() {
    let node = Node::new(
        "[faults]\nnvmlSystemGetCudaDriverVersion_v2 = 'no_permission'\n\
         [[cards]]\nuuid = 'GPU-1'\nfaults = { nvmlDeviceGetPowerUsage = 'not_supported' }\n\
         [[cards]]\nuuid = 'GPU-2'\nfaults = { '*' = 'gpu_is_lost' }\n",
    );
    let nvml = node.open().unwrap();
    assert!(matches!(
        nvml.sys_cuda_driver_version(),
        Err(NvmlError::NoPermission)
    ));
    let card = nvml.device_by_index(0).unwrap();
    assert!(matches!(card.power_usage(), Err(NvmlError::NotSupported)));
    assert!(card.uuid().is_ok());
    assert!(matches!(nvml.device_by_index(1), Err(NvmlError::GpuLost)));
}

#[test]
fn each_xid_is_delivered_once() {
    let node = Node::new("[[cards]]\nuuid = 'GPU-1'\nxid_events = [13]\n");
    let nvml = node.open().unwrap();
    let set = nvml.create_event_set().unwrap();
    let card = nvml.device_by_index(0).unwrap();
    let set = card
        .register_events(EventTypes::CRITICAL_XID_ERROR, set)
        .unwrap();
    assert!(
        matches!(set.wait(20), Err(NvmlError::Timeout)),
        "the past is not delivered"
    );
    node.set("[[cards]]\nuuid = 'GPU-1'\nxid_events = [13, 79]\n");
    let event = set.wait(5_000).unwrap();
    assert_eq!(
        event.event_data,
        Some(nvml_wrapper::enums::event::XidError::Value(79))
    );
    assert!(matches!(set.wait(20), Err(NvmlError::Timeout)));
}
