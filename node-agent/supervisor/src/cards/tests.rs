//! The warden as its callers use it: who is a tenant, what is remembered, what is forgotten.

use super::*;
use crate::ports::{GpuDetail, GpuHealth};

/// Cards that are lent, each with the process of its tenant.
struct Lent(Vec<(&'static str, u32)>);

impl Tenants for Lent {
    fn is_lent(&self, card: &CardId) -> bool {
        self.0.iter().any(|(own, _)| *own == card.as_str())
    }
    fn is_tenant(&self, card: &CardId, pid: u32) -> bool {
        self.0.contains(
            &match self.0.iter().find(|(own, _)| *own == card.as_str()) {
                Some((own, _)) => (*own, pid),
                None => return false,
            },
        )
    }
}

fn seen(card: &str, memory_mib: u64, pids: &[u32]) -> GpuUse {
    GpuUse {
        uuid: CardId::from(card),
        utilization_percent: 0,
        memory_used_bytes: memory_mib << 20,
        temperature_celsius: 0,
        power_milliwatts: 0,
        processes: pids
            .iter()
            .map(|&pid| CardProcess {
                pid,
                memory_bytes: 0,
            })
            .collect(),
        detail: GpuDetail::default(),
        health: GpuHealth::default(),
    }
}

fn unclean(looks: &[CardLook]) -> Vec<&str> {
    let unclean = looks
        .iter()
        .filter(|look| !look.dirt.is_empty() || look.trouble.is_some());
    unclean.map(|look| look.card.as_str()).collect()
}

#[test]
fn a_tenant_may_be_on_its_card_and_on_no_other() {
    let folder = tempfile::tempdir().unwrap();
    let warden = Warden::open(folder.path(), "boot");
    let tenants = Lent(vec![("GPU-1", 7)]);
    let looks = warden.look(
        &[seen("GPU-1", 9000, &[7]), seen("GPU-2", 0, &[])],
        &tenants,
        0,
    );
    assert!(unclean(&looks).is_empty(), "{looks:?}");
    let looks = warden.look(
        &[seen("GPU-1", 0, &[7, 8]), seen("GPU-2", 0, &[7])],
        &tenants,
        1,
    );
    assert_eq!(unclean(&looks), ["GPU-1", "GPU-2"]);
}

#[test]
fn an_end_is_judged_by_its_keeper_alone() {
    let folder = tempfile::tempdir().unwrap();
    let warden = Warden::open(folder.path(), "boot");
    let nobody = Lent(Vec::new());
    let left = [seen("GPU-1", 9000, &[7])];
    let cards: BTreeSet<CardId> = [CardId::from("GPU-1")].into();
    warden.look(&[seen("GPU-1", 100, &[])], &nobody, 0);
    warden.settling(&cards);
    assert!(unclean(&warden.look(&left, &nobody, 1)).is_empty());
    assert!(!warden.is_clean(&left[0], &nobody));
    assert!(!warden.is_clean(&seen("GPU-1", 9000, &[]), &nobody));
    assert!(warden.is_clean(&seen("GPU-1", 200, &[]), &nobody));
    warden.settled(&cards);
    assert_eq!(unclean(&warden.look(&left, &nobody, 2)), ["GPU-1"]);
}

#[test]
fn what_is_out_of_use_stays_so_over_restarts_and_not_over_reboots() {
    let folder = tempfile::tempdir().unwrap();
    let nobody = Lent(Vec::new());
    let clean = [seen("GPU-1", 0, &[]), seen("GPU-2", 0, &[])];
    let warden = Warden::open(folder.path(), "boot");
    warden.look(&clean, &nobody, 0);
    assert!(!warden.hear_xid(&CardId::from("GPU-1"), 31, 1));
    assert!(warden.hear_xid(&CardId::from("GPU-2"), 79, 1));
    // The indices of the cards have changed.
    let other_way_round = [clean[1].clone(), clean[0].clone()];
    let warden = Warden::open(folder.path(), "boot");
    let looks = warden.look(&other_way_round, &nobody, 100_000);
    assert_eq!(unclean(&looks), ["GPU-2"]);
    let reason = looks[0].trouble.clone().unwrap().reason;
    assert_eq!(reason, "XID 79: the card has fallen off the bus");
    let rebooted = Warden::open(folder.path(), "other boot");
    assert!(unclean(&rebooted.look(&clean, &nobody, 100_001)).is_empty());
}

#[test]
fn an_operator_releases_cards_and_what_still_holds_is_found_again() {
    let folder = tempfile::tempdir().unwrap();
    let nobody = Lent(Vec::new());
    let warden = Warden::open(folder.path(), "boot");
    let mut broken = seen("GPU-1", 0, &[]);
    broken.health.has_repair_failed = true;
    let cards = [broken, seen("GPU-2", 0, &[])];
    warden.look(&cards, &nobody, 0);
    warden.quarantine(&CardId::from("GPU-2"), "left\nbehind", 1);
    assert_eq!(
        unclean(&warden.look(&cards, &nobody, 2)),
        ["GPU-1", "GPU-2"]
    );
    assert_eq!(warden.release(), 2);
    assert_eq!(unclean(&warden.look(&cards, &nobody, 3)), ["GPU-1"]);
    assert_eq!(warden.release(), 1);
}

#[test]
fn a_lost_card_is_told_of_and_a_removed_instance_is_not() {
    let folder = tempfile::tempdir().unwrap();
    let nobody = Lent(Vec::new());
    let warden = Warden::open(folder.path(), "boot");
    let other = seen("GPU-2", 0, &[]);
    warden.look(
        &[seen("GPU-1", 0, &[]), seen("MIG-1", 0, &[]), other.clone()],
        &nobody,
        0,
    );
    let mut looks = Vec::new();
    for now_ms in 1..=3 {
        looks = warden.look(std::slice::from_ref(&other), &nobody, now_ms);
    }
    assert_eq!(unclean(&looks), ["GPU-1"]);
    let reason = looks
        .iter()
        .find_map(|look| look.trouble.clone())
        .unwrap()
        .reason;
    assert!(reason.starts_with("the card does not answer"), "{reason}");
    // A torn file is as none.
    fs::write(folder.path().join(FILE), "{").unwrap();
    assert!(unclean(&Warden::open(folder.path(), "boot").look(&[other], &nobody, 9)).is_empty());
}
