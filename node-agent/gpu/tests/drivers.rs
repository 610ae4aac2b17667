//! Well and broken drivers. The well ones are the simulated library; the broken ones, which no scenario can describe,
//! are compiled here by the C compiler that Rust links with.
#![expect(
    clippy::unwrap_used,
    reason = "a test that cannot prepare its folder has failed"
)]

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use capstan_gpu::NvmlGpus;
use capstan_supervisor::ports::{
    CardControl, CardProcess, CardRefused, GpuDetail, GpuEvent, GpuHealth, GpuInventory, Gpus,
};
use capstan_types::CardId;
use tempfile::TempDir;

struct Node(TempDir);

impl Node {
    fn with(scenario: &str) -> Self {
        let node = Self::empty();
        fs::copy(
            fake_nvml::built_library().expect("cargo built the cdylib"),
            node.library(),
        )
        .unwrap();
        node.set(scenario);
        node
    }

    fn empty() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    /// A library made of C.
    fn compiled(source: &str) -> Self {
        let node = Self::empty();
        let file = node.0.path().join("nvml.c");
        fs::write(&file, source).unwrap();
        let mut compiler = Command::new("cc");
        compiler
            .args(["-shared", "-fPIC", "-w", "-o"])
            .arg(node.library())
            .arg(&file);
        assert!(compiler.status().unwrap().success());
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

    fn gpus(&self) -> NvmlGpus {
        NvmlGpus::open(Some(&self.library()))
    }
}

/// A node without cards says why, in a sentence with `word`.
fn check_none(gpus: &NvmlGpus, word: &str) -> GpuInventory {
    let inventory = gpus.inventory();
    assert!(inventory.cards.is_empty(), "{inventory:?}");
    let problem = inventory.problem.clone().expect("a reason");
    assert!(problem.contains(word), "{problem}");
    assert!(gpus.usage().is_empty());
    inventory
}

const TWO: &str = "driver_version = '570.86'\n\
    [[cards]]\nuuid = 'GPU-1'\nname = 'A100'\nmemory_mib = 1024\npci_address = '00000000:3B:00.0'\n\
    [[cards]]\nuuid = 'GPU-2'\nutilization_percent = 97\ntemperature_celsius = 71\npower_milliwatts = 289000\n\
    processes = [{ pid = 42, memory_mib = 100 }]\n";

#[test]
fn cards_are_described_in_index_order() {
    let inventory = Node::with(TWO).gpus().inventory();
    assert_eq!(inventory.problem, None);
    assert_eq!(inventory.driver, "simulated 570.86");
    assert!(inventory.simulated);
    let [one, other] = &inventory.cards[..] else {
        panic!("{inventory:?}")
    };
    assert_eq!(
        (one.uuid.as_str(), one.index, one.model.as_str()),
        ("GPU-1", 0, "A100")
    );
    assert_eq!(
        (one.memory_bytes, one.pci_address.as_str()),
        (1 << 30, "00000000:3B:00.0")
    );
    assert_eq!((other.uuid.as_str(), other.index), ("GPU-2", 1));
}

#[test]
fn cards_say_what_they_can_and_which_are_near() {
    let card = |uuid: &str, more: &str| format!("[[cards]]\nuuid = 'GPU-{uuid}'\n{more}\n");
    let check = |cards: &[String], islands: &[u32], nodes: &[u32]| {
        let text = format!("cuda_version = 12040\n{}", cards.concat());
        let inventory = Node::with(&text).gpus().inventory();
        assert_eq!(inventory.cuda_version, 12_040);
        let seen: Vec<u32> = inventory.cards.iter().map(|card| card.island).collect();
        assert_eq!(seen, islands, "{text}");
        let seen: Vec<u32> = inventory
            .cards
            .iter()
            .filter_map(|card| card.numa_node)
            .collect();
        assert_eq!(seen, nodes, "{text}");
    };
    check(
        &[
            card("1", "numa_node = 0"),
            card("2", "numa_node = 1"),
            card("3", "numa_node = 0"),
        ],
        &[0, 1, 0],
        &[0, 1, 0],
    );
    check(
        &[
            card("1", "nvlink = 7"),
            card("2", "nvlink = 8"),
            card("3", "nvlink = 7"),
            card("4", "nvlink = 8"),
        ],
        &[0, 1, 0, 1],
        &[0, 0, 0, 0],
    );
    // NVLink counts before the memory node; a card without it is no part of such an island.
    check(
        &[
            card("1", "nvlink = 7"),
            card("2", "nvlink = 7\nnuma_node = 1"),
            card("3", ""),
        ],
        &[0, 0, 1],
        &[0, 1, 0],
    );
    // A driver that does not say.
    check(
        &[
            card(
                "1",
                "faults = { nvmlDeviceGetMemoryAffinity = 'not_supported' }",
            ),
            card(
                "2",
                "faults = { nvmlDeviceGetMemoryAffinity = 'not_supported' }",
            ),
        ],
        &[0, 0],
        &[],
    );
    let node = Node::with(&card("1", "compute_capability = [8, 9]"));
    assert_eq!(node.gpus().inventory().cards[0].compute, Some((8, 9)));
}

#[test]
fn usage_says_what_each_card_does() {
    let usage = Node::with(TWO).gpus().usage();
    let [idle, busy] = &usage[..] else {
        panic!("{usage:?}")
    };
    assert_eq!(
        (
            idle.uuid.as_str(),
            idle.utilization_percent,
            idle.memory_used_bytes
        ),
        ("GPU-1", 0, 0)
    );
    assert!(idle.processes.is_empty());
    assert_eq!(
        (busy.utilization_percent, busy.memory_used_bytes),
        (97, 100 << 20)
    );
    assert_eq!(
        (busy.temperature_celsius, busy.power_milliwatts),
        (71, 289_000)
    );
    let expected = [CardProcess {
        pid: 42,
        memory_bytes: 100 << 20,
    }];
    assert_eq!(busy.processes, expected);
}

#[test]
fn changes_are_seen_by_the_next_question() {
    let node = Node::with(TWO);
    let gpus = node.gpus();
    assert_eq!(gpus.inventory().cards.len(), 2);
    node.set(&TWO.replace("97", "3"));
    assert_eq!(gpus.usage()[1].utilization_percent, 3);
    node.set("[[cards]]\nuuid = 'GPU-2'\n");
    assert_eq!(gpus.inventory().cards.len(), 1);
}

#[test]
fn a_lost_card_is_left_out_and_comes_back() {
    let node = Node::with(TWO);
    let gpus = node.gpus();
    assert_eq!(gpus.inventory().cards.len(), 2);
    node.set(&format!("{TWO}faults = {{ '*' = 'gpu_is_lost' }}\n"));
    let inventory = gpus.inventory();
    assert_eq!(inventory.cards.len(), 1);
    assert!(
        inventory
            .problem
            .unwrap()
            .starts_with("card 1 does not answer")
    );
    assert_eq!(gpus.usage().len(), 1);
    node.set(TWO);
    assert_eq!(gpus.usage().len(), 2);
    assert_eq!(gpus.inventory().problem, None);
}

#[test]
fn what_a_card_cannot_say_does_not_cost_the_card() {
    let node = Node::with(
        "[[cards]]\nuuid = 'GPU-1'\n[cards.faults]\n\
         nvmlDeviceGetName = 'not_supported'\nnvmlDeviceGetMemoryInfo_v2 = 'not_supported'\n\
         nvmlDeviceGetPciInfo_v3 = 'not_supported'\nnvmlDeviceGetMigMode = 'not_supported'\n\
         nvmlDeviceGetPowerUsage = 'not_supported'\nnvmlDeviceGetTemperature = 'not_supported'\n\
         nvmlDeviceGetUtilizationRates = 'not_supported'\n",
    );
    let gpus = node.gpus();
    let inventory = gpus.inventory();
    assert_eq!((inventory.problem, inventory.cards.len()), (None, 1));
    assert_eq!(
        (
            inventory.cards[0].model.as_str(),
            inventory.cards[0].memory_bytes
        ),
        ("unknown", 0)
    );
    assert_eq!(gpus.usage().len(), 1);
}

#[test]
fn a_card_that_does_not_name_its_processes_has_no_usage() {
    let fault = "faults = { nvmlDeviceGetComputeRunningProcesses_v3 = 'unknown' }\n";
    let usage = Node::with(&format!("{TWO}{fault}")).gpus().usage();
    assert_eq!(
        usage
            .iter()
            .map(|card| card.uuid.as_str())
            .collect::<Vec<_>>(),
        ["GPU-1"]
    );
}

#[test]
fn a_host_without_driver_has_no_cards_until_it_gets_one() {
    let node = Node::empty();
    let gpus = node.gpus();
    check_none(&gpus, "is not on this host");
    fs::copy(fake_nvml::built_library().unwrap(), node.library()).unwrap();
    check_none(&gpus, "driver is not loaded");
    node.set(TWO);
    assert_eq!(gpus.usage().len(), 2);
    assert_eq!(gpus.inventory().cards.len(), 2);
}

#[test]
fn the_default_library_is_the_loaders() {
    // Whatever this host has: an answer, with cards or with a reason.
    let inventory = NvmlGpus::open(None).inventory();
    assert_eq!(
        inventory.cards.is_empty(),
        inventory.problem.is_some(),
        "{inventory:?}"
    );
}

#[test]
fn a_driver_that_refuses_is_a_reason() {
    for (fault, word) in [
        (
            "nvmlInit_v2 = 'lib_rm_version_mismatch'",
            "different versions",
        ),
        ("nvmlInit_v2 = 'unknown'", "does not start"),
        ("nvmlDeviceGetCount_v2 = 'unknown'", "how many cards"),
        (
            "nvmlDeviceGetHandleByIndex_v2 = 'unknown'",
            "card 0 does not answer",
        ),
        ("nvmlDeviceGetUUID = 'unknown'", "card 0 does not answer"),
    ] {
        check_none(
            &Node::with(&format!(
                "[faults]\n{fault}\n{}",
                TWO.replacen("driver_version = '570.86'\n", "", 1)
            ))
            .gpus(),
            word,
        );
    }
    check_none(&Node::with("").gpus(), "finds no card");
    check_none(
        &Node::with("[[cards]]\nuuid = 'bad, uuid'\n").gpus(),
        "no UUID",
    );
}

#[test]
fn a_driver_that_hangs_does_not_hang_its_caller() {
    let node = Node::with(&format!("delay_ms = 600000\n{TWO}"));
    let gpus = node.gpus().with_patience(Duration::from_millis(50));
    let began = Instant::now();
    for _ in 0..20 {
        check_none(&gpus, "did not answer within 50 ms");
    }
    assert!(
        began.elapsed() < Duration::from_secs(5),
        "questions pile up: {:?}",
        began.elapsed()
    );
}

#[test]
fn a_driver_that_was_slow_is_asked_again() {
    let node = Node::with(&format!("delay_ms = 200\n{TWO}"));
    let gpus = node.gpus().with_patience(Duration::from_millis(20));
    check_none(&gpus, "did not answer");
    node.set(TWO);
    let deadline = Instant::now() + Duration::from_secs(20);
    while gpus.inventory().cards.len() < 2 {
        assert!(Instant::now() < deadline, "{:?}", gpus.inventory());
    }
    assert_eq!(gpus.usage().len(), 2);
}

#[test]
fn files_that_are_no_library_are_a_reason() {
    let node = Node::empty();
    fs::write(node.library(), "not an ELF file").unwrap();
    check_none(&node.gpus(), "cannot be loaded");
    fs::write(node.library(), "").unwrap();
    check_none(&node.gpus(), "cannot be loaded");
    let torn = Node::with(TWO);
    let whole = fs::read(torn.library()).unwrap();
    fs::write(torn.library(), &whole[..100]).unwrap();
    check_none(&torn.gpus(), "cannot be loaded");
}

#[test]
fn a_library_with_missing_functions_is_a_reason() {
    check_none(
        &Node::compiled("int unrelated;").gpus(),
        "no NVIDIA management library",
    );
    // Without nvmlShutdown, too, which its closing must survive.
    check_none(
        &Node::compiled("int nvmlInit_v2() { return 0; }").gpus(),
        "how many cards",
    );
    let counts =
        "int nvmlInit_v2() { return 0; } int nvmlDeviceGetCount_v2(int *n) { *n = 1; return 0; }";
    check_none(&Node::compiled(counts).gpus(), "card 0 does not answer");
}

#[test]
fn a_library_that_answers_nonsense_is_a_reason() {
    let nonsense = |answers: &str| {
        Node::compiled(&format!(
            "#include <string.h>\nint nvmlInit_v2() {{ return 0; }} int nvmlShutdown() {{ return 0; }}\n\
             int nvmlDeviceGetHandleByIndex_v2(int i, void **h) {{ *h = (void *)1; return 0; }}\n{answers}"
        ))
    };
    let uuid = "int nvmlDeviceGetCount_v2(int *n) { *n = 1; return 0; }\n\
                int nvmlDeviceGetUUID(void *h, char *s, int n) { strcpy(s, \"\\xff\\xfe\"); return 0; }";
    check_none(&nonsense(uuid).gpus(), "card 0 does not answer");

    let endless = "int nvmlDeviceGetCount_v2(unsigned *n) { *n = ~0u; return 0; }\n\
                   int nvmlDeviceGetUUID(void *h, char *s, int n) { strcpy(s, \"GPU-1\"); return 0; }";
    let node = nonsense(endless);
    let inventory = node.gpus().inventory();
    assert_eq!(inventory.cards.len(), 1, "one UUID is one card");
    let problem = inventory.problem.unwrap();
    assert!(
        problem.contains("4294967295 cards") && problem.contains("twice"),
        "{problem}"
    );
    assert!(node.gpus().usage().len() <= 256);
}

#[test]
fn an_operator_sets_modes_and_resets_counts_of_one_card() {
    let scenario = format!("{TWO}ecc_corrected = 3\n");
    let node = Node::with(&scenario);
    let gpus = node.gpus();
    let second = CardId::from("GPU-2");
    let seen = || {
        let detail = gpus.usage().into_iter().map(|card| card.detail);
        detail
            .map(|detail| (detail.compute_mode, detail.single_bit_errors))
            .collect::<Vec<_>>()
    };
    assert_eq!(seen(), [(Some(0), Some(0)), (Some(0), Some(3))]);
    gpus.set_compute_mode(&second, 3).unwrap();
    gpus.reset_errors(&second, false).unwrap();
    assert_eq!(seen(), [(Some(0), Some(0)), (Some(3), Some(0))]);
    let refused = gpus.set_compute_mode(&second, 4);
    assert_eq!(refused, Err(CardRefused::NoMode(4)));
    let unknown = gpus.reset_errors(&CardId::from("GPU-9"), true);
    assert!(
        matches!(unknown, Err(CardRefused::Driver { .. })),
        "{unknown:?}"
    );
}

#[test]
fn loads_are_usage_without_what_costs_more_to_ask() {
    let node = Node::with(&format!("{TWO}ecc_corrected = 3\nremap_failed = true\n"));
    let gpus = node.gpus();
    let (whole, loads) = (gpus.usage(), gpus.loads());
    for (whole, load) in whole.into_iter().zip(loads) {
        let plain = capstan_supervisor::ports::GpuUse {
            detail: GpuDetail::default(),
            health: GpuHealth::default(),
            ..whole
        };
        assert_eq!(plain, load);
    }
}

#[test]
fn a_card_says_how_its_memory_is_mended_and_how_hot_it_may_be() {
    let node = Node::with(TWO);
    let gpus = node.gpus();
    let second = || gpus.usage()[1].health;
    let well = GpuHealth {
        shutdown_celsius: Some(95),
        ..GpuHealth::default()
    };
    assert_eq!(second(), well);
    for line in ["remap_pending = true", "retirement_pending = true"] {
        node.set(&format!("{TWO}{line}\n"));
        assert!(second().is_repair_pending, "{line}");
        assert!(!second().has_repair_failed, "{line}");
    }
    node.set(&format!(
        "{TWO}remap_failed = true\nshutdown_celsius = 80\n"
    ));
    assert!(second().has_repair_failed);
    assert_eq!(second().shutdown_celsius, Some(80));
    // What a card does not have, it does not suffer from.
    let faults = "faults = { nvmlDeviceGetFieldValues = 'not_supported', \
                  nvmlDeviceGetRetiredPagesPendingStatus = 'not_supported', \
                  nvmlDeviceGetTemperatureThreshold = 'not_supported' }\n";
    node.set(&format!("{TWO}remap_failed = true\n{faults}"));
    assert_eq!(second(), GpuHealth::default());
}

#[test]
fn errors_are_heard_with_the_card_that_had_them() {
    let node = Node::with(TWO);
    assert_eq!(heard(&node, ""), ["GPU-2"]);
}

/// An error in a part of a divided card is told of that part, one of the whole card of all its parts.
#[test]
fn errors_of_a_divided_card_are_heard_of_the_parts_that_had_them() {
    let instance = |at: u32| format!("{{ uuid = 'MIG-{at}', name = 'part', memory_mib = 64 }}");
    let mig = format!("mig = [{}, {}]\n", instance(0), instance(1));
    let node = Node::with(&format!("{TWO}{mig}"));
    assert_eq!(heard(&node, &format!("{mig}xid_instance = 1\n")), ["MIG-1"]);
    assert_eq!(heard(&node, &mig), ["MIG-0", "MIG-1"]);
}

/// Of whom is heard when the second card has an error; `more` is said of that card.
fn heard(node: &Node, more: &str) -> Vec<String> {
    let (tell, told) = std::sync::mpsc::channel();
    node.gpus()
        .listen(Box::new(move |event| tell.send(event).is_ok()));
    // Listening begins a moment later; what was before it is not heard.
    let deadline = Instant::now() + Duration::from_secs(20);
    let mut xids = vec!["31"];
    let mut next = told.recv_timeout(Duration::from_millis(200));
    while next.is_err() {
        assert!(Instant::now() < deadline, "nothing was heard");
        node.set(&format!("{TWO}{more}xid_events = [{}]\n", xids.join(", ")));
        next = told.recv_timeout(Duration::from_millis(200));
        xids.push("31");
    }
    let mut cards = Vec::new();
    // All that one error says comes at once.
    while let Ok(event) = next {
        let GpuEvent::Xid { card, xid: 31 } = event else {
            panic!("{event:?}");
        };
        let card = card.unwrap().to_string();
        if !cards.contains(&card) {
            cards.push(card);
        }
        next = told.recv_timeout(Duration::from_millis(200));
    }
    cards
}

/// Instances have a type and memory of their own and are known by their own UUIDs; the card itself is not lent beside them.
#[test]
fn instances_of_a_divided_card_are_cards_of_their_own() {
    let instance = |at: u32, processes: &str| {
        format!(
            "{{ uuid = 'MIG-{at}', name = 'A100 MIG 1g.5gb', memory_mib = 4864, processes = {processes} }}"
        )
    };
    let mig = format!(
        "mig = [{}, {}]\n",
        instance(0, "[]"),
        instance(1, "[{ pid = 7, memory_mib = 9 }]")
    );
    let node = Node::with(&format!("{TWO}{mig}"));
    let gpus = node.gpus();
    let inventory = gpus.inventory();
    assert_eq!(inventory.problem, None);
    let seen: Vec<_> = inventory
        .cards
        .iter()
        .map(|card| {
            (
                card.uuid.as_str(),
                card.index,
                card.model.as_str(),
                card.memory_bytes >> 20,
            )
        })
        .collect();
    let expected = [
        ("GPU-1", 0, "A100", 1024),
        ("MIG-0", 200, "A100 MIG 1g.5gb", 4864),
        ("MIG-1", 201, "A100 MIG 1g.5gb", 4864),
    ];
    assert_eq!(seen, expected);
    let devices: Vec<_> = inventory
        .cards
        .iter()
        .map(|card| card.device.map(|device| (device.minor, device.part)))
        .collect();
    let part = |number| Some((1, Some((number, 0))));
    assert_eq!(devices, [Some((0, None)), part(1), part(2)]);
    let usage = gpus.usage();
    let used: Vec<_> = usage
        .iter()
        .map(|card| {
            (
                card.uuid.as_str(),
                card.memory_used_bytes >> 20,
                card.processes.len(),
            )
        })
        .collect();
    assert_eq!(used, [("GPU-1", 0, 0), ("MIG-0", 0, 0), ("MIG-1", 9, 1)]);
}
