//! What `pbsnodes` gets to print, against session I01 and the keys that Torque makes of NVML's answers.

use std::sync::Arc;

use capstan_core::{Card, Change, Inventory, JobState, Link, Node};
use capstan_proto::wire::{self, HostStatus};
use capstan_types::{CardId, JobId};

use super::*;
use crate::snapshot::Snapshot;
use crate::telemetry::{CardDetail, CardTelemetry, NodeTelemetry, Telemetry, Unfit, UnfitKind};
use crate::testing::{job, run, seconds, state};

const UUID: &str = "GPU-gpu01-1";

fn node(name: &str, ordinal: u64, driver: &str) -> Node {
    let card = Card {
        uuid: CardId::from(UUID),
        index: 1,
        model: "Tesla V100, SXM2".into(),
        memory_bytes: 16 << 30,
        pci_address: "00000000:3B:00.0".into(),
        driver: driver.into(),
        traits: capstan_core::CardTraits::default(),
    };
    Node {
        name: name.into(),
        agent: "a1".into(),
        inventory: Inventory {
            cores: 4,
            memory_bytes: 1 << 30,
            cards: vec![card],
            uname: "Linux hn1 6.1, SMP".into(),
            ..Inventory::default()
        },
        slots: 4,
        properties: vec!["gpu".into(), "fast".into()],
        link: Link::Up(seconds(0)),
        is_offline: false,
        note: "".into(),
        unclean: Vec::new(),
        ordinal,
        strays: Vec::new(),
        is_unwell: false,
        preparing: Vec::new(),
    }
}

fn heartbeat() -> NodeTelemetry {
    let card = CardTelemetry {
        utilization_percent: 97,
        memory_used_bytes: 1 << 30,
        temperature_celsius: 41,
        power_milliwatts: 0,
        unfit: None,
        detail: CardDetail {
            memory_utilization_percent: Some(12),
            fan_percent: None,
            compute_mode: Some(3),
            display: Some(false),
            ecc: Some(true),
            single_bit_errors: Some(0),
            double_bit_errors: Some(0),
            pci_device_id: Some(0x1DB5_10DE),
        },
    };
    NodeTelemetry {
        at: seconds(5),
        load_average: 1.366,
        cards: [(CardId::from(UUID), card)].into(),
        host: Some(HostStatus {
            sessions: vec![4438, 20936],
            session_count: 2,
            user_count: 1,
            idle_secs: 208_495,
            total_kb: 300,
            available_kb: 200,
            physical_kb: 100,
            cpus: 2,
            network_bytes: 7,
            mac_address: String::new(),
            system: "linux".into(),
            version: "0.3.0".into(),
        }),
        ..NodeTelemetry::default()
    }
}

fn listed(nodes: impl IntoIterator<Item = Node>, wanted: &str) -> Vec<wire::NodeRow> {
    let mut running = job(JobId::whole(374), "a", &[("nodes", "1:ppn=2")]);
    running.state = JobState::Running(run(&[("gpu01", &[0, 1], &[1])], 0, 7));
    let mut state = state([running]);
    for node in nodes {
        state.absorb(&Change::PutNode(Arc::new(node)));
    }
    let snapshot = Snapshot {
        state,
        ..Snapshot::default()
    };
    let telemetry = Telemetry::default();
    telemetry.put(&"gpu01".into(), heartbeat());
    let scene = Scene {
        snapshot: &snapshot,
        telemetry: &telemetry,
        now: seconds(6),
    };
    super::nodes(scene, wanted).unwrap().nodes
}

fn lines(row: &wire::NodeRow) -> Vec<String> {
    let line = |a: &wire::Attribute| format!("{} = {}", a.name, a.value);
    row.attributes.iter().map(line).collect()
}

/// Session I01: every line of a node, in its order.
#[test]
fn a_node_shows_what_its_agent_says_as_torque_shows_it() {
    let rows = listed([node("gpu01", 1, "570.86")], "");
    let at = crate::testing::BEGIN + 5;
    let status = format!(
        "opsys=linux,uname=Linux hn1 6.1; SMP,sessions=4438 20936,nsessions=2,nusers=1,idletime=208495,\
        totmem=300kb,availmem=200kb,physmem=100kb,ncpus=2,loadave=1.37,gres=,netload=7,state=free,varattr= ,\
        cpuclock=Fixed,version=6.1.3.h5,rectime={at},jobs=374.hn1"
    );
    let time = words::ctime(seconds(5));
    let gpu_status = format!(
        "gpu[1]=gpu_id=00000000:3B:00.0;gpu_pci_device_id=1DB510DE;gpu_pci_location_id=00000000:3B:00.0;\
        gpu_uuid={UUID};gpu_product_name=Tesla V100  SXM2;gpu_display=Disabled;gpu_memory_total=16384 MB;\
        gpu_memory_used=1024 MB;gpu_mode=Exclusive_Process;gpu_state=Exclusive;gpu_utilization=97%;\
        gpu_memory_utilization=12%;gpu_ecc_mode=Enabled;gpu_single_bit_ecc_errors=0;\
        gpu_double_bit_ecc_errors=0;gpu_temperature=41 C,driver_ver=570.86,timestamp={time}"
    );
    let expected = [
        "state = free".to_owned(),
        "power_state = Running".to_owned(),
        "np = 4".to_owned(),
        "properties = gpu,fast".to_owned(),
        "ntype = cluster".to_owned(),
        "jobs = 0-1/374.hn1".to_owned(),
        format!("status = {status}"),
        "mom_service_port = 15002".to_owned(),
        "mom_manager_port = 15003".to_owned(),
        "gpus = 1".to_owned(),
        format!("gpu_status = {gpu_status}"),
    ];
    assert_eq!(lines(&rows[0]), expected);
}

/// A fake driver without a version stands for cards that Torque knows from its nodes file only.
#[test]
fn cards_of_no_driver_are_only_counted() {
    let has_status = |driver: &str| {
        let rows = listed([node("gpu01", 1, driver)], "");
        let lines = lines(&rows[0]);
        assert!(lines.contains(&"gpus = 1".to_owned()), "{lines:?}");
        lines.iter().any(|line| line.starts_with("gpu_status"))
    };
    assert!(has_status("simulated 570.86"));
    assert!(!has_status("simulated "));
}

#[test]
fn nodes_stand_in_the_order_of_their_declaration() {
    let names = |wanted: &str| -> Vec<String> {
        let mut plain = node("cpu01", 3, "1");
        plain.properties.clear();
        let nodes = [plain, node("gpu02", 2, "1"), node("gpu01", 1, "1")];
        listed(nodes, wanted)
            .into_iter()
            .map(|row| row.name)
            .collect()
    };
    assert_eq!(names(""), ["gpu01", "gpu02", "cpu01"]);
    assert_eq!(names(":fast"), ["gpu01", "gpu02"]);
    assert_eq!(names("cpu01"), ["cpu01"]);
}

/// A card that is out of use says why, in place of the bare list.
#[test]
fn a_card_out_of_use_is_told_with_its_evidence() {
    let mut node = node("gpu01", 1, "570");
    node.unclean = vec![CardId::from(UUID)];
    let bare = format!("cards in use by no job: {UUID}");
    assert_eq!(messages(&node, None), std::slice::from_ref(&bare));
    let mut heard = heartbeat();
    assert_eq!(messages(&node, Some(&heard)), [bare]);
    let unfit = Unfit {
        kind: UnfitKind::Drained,
        reason: "XID 79".into(),
        since: seconds(1),
    };
    heard.cards.get_mut(&CardId::from(UUID)).unwrap().unfit = Some(Arc::new(unfit));
    let told = format!("card 1 ({UUID}) drained: XID 79");
    assert_eq!(messages(&node, Some(&heard)), [told]);
}
/// What somebody's own account got is listed for those whose it is, and for operators.
#[test]
fn images_of_somebodys_own_account_are_listed_for_that_user_and_for_operators() {
    use crate::view::images::{Looker, images};
    let mut node = node("gpu01", 0, "");
    node.inventory.engine = "29".into();
    node.inventory.images = vec!["lab/open:1".into(), "lab/secret:1".into()];
    let owners = vec![1001];
    node.inventory.private_images = [("lab/secret:1".into(), owners)].into();
    let mut state = state([]);
    state.absorb(&Change::PutNode(Arc::new(node)));
    let snapshot = Snapshot {
        state,
        ..Snapshot::default()
    };
    let telemetry = Telemetry::default();
    let scene = Scene {
        snapshot: &snapshot,
        telemetry: &telemetry,
        now: seconds(1),
    };
    for (uid, sees_all, expected) in [
        (1001, false, &["lab/open:1", "lab/secret:1"][..]),
        (1002, false, &["lab/open:1"]),
        (1002, true, &["lab/open:1", "lab/secret:1"]),
    ] {
        let reply = images(scene, Looker { uid, sees_all }, "");
        let names: Vec<&str> = reply.rows.iter().map(|row| &*row.image).collect();
        assert_eq!(names, expected, "{uid} {sees_all}");
    }
}
