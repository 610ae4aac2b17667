//! What this node has, as the server hears it, and how busy it is.

use std::fs;
use std::path::Path;

use capstan_proto::wire;
use capstan_supervisor::cards::{CardLook, Trouble, TroubleKind};
use capstan_supervisor::ports::{GpuDetail, GpuInventory, GpuUse};

/// Facts of the host that do not change while the agent runs.
#[derive(Clone, Debug)]
pub(crate) struct Host {
    pub(crate) cores: u32,
    pub(crate) memory_bytes: u64,
    pub(crate) uname: String,
    pub(crate) only_uid: Option<u32>,
    pub(crate) numa_nodes: Vec<wire::NumaNode>,
}

/// The container engine, as far as an inventory tells.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Engine {
    pub(crate) version: String,
    pub(crate) problem: String,
    /// Names of its images, in order, as many as the server hears of.
    pub(crate) images: Vec<String>,
    /// Those of them that only some users may use, and which.
    pub(crate) private_images: Vec<(String, Vec<u32>)>,
}

impl Host {
    /// Asks the kernel.
    pub(crate) fn ask(cores: u32) -> Self {
        let uname = nix::sys::utsname::uname().map(|name| {
            let parts = [
                name.sysname(),
                name.nodename(),
                name.release(),
                name.version(),
                name.machine(),
            ];
            parts
                .map(|part| part.to_string_lossy().into_owned())
                .join(" ")
        });
        let uid = nix::unistd::geteuid();
        Self {
            cores,
            memory_bytes: memory_kb("MemTotal:") * 1024,
            uname: uname.unwrap_or_default(),
            only_uid: (!uid.is_root()).then_some(uid.as_raw()),
            numa_nodes: numa_nodes(Path::new("/sys/devices/system/node")),
        }
    }
}

/// The inventory of a hello or a heartbeat.
pub(crate) fn inventory(host: &Host, gpus: GpuInventory, engine: Engine) -> wire::Inventory {
    let GpuInventory {
        cards,
        driver,
        cuda_version,
        problem,
        simulated,
    } = gpus;
    let card = |card: capstan_supervisor::ports::GpuCard| wire::Card {
        uuid: card.uuid.to_string(),
        index: card.index,
        model: card.model,
        memory_bytes: card.memory_bytes,
        pci_address: card.pci_address,
        driver: driver.clone(),
        compute_major: card.compute.map_or(0, |(major, _)| major),
        compute_minor: card.compute.map_or(0, |(_, minor)| minor),
        cuda_version,
        numa_node: card.numa_node,
        island: card.island,
    };
    let private = engine.private_images.into_iter();
    let private = private.map(|(name, uids)| wire::PrivateImage { name, uids });
    wire::Inventory {
        cores: host.cores,
        memory_bytes: host.memory_bytes,
        cards: cards.into_iter().map(card).collect(),
        gpu_problem: problem.unwrap_or_default(),
        engine: engine.version,
        engine_problem: engine.problem,
        uname: host.uname.clone(),
        only_uid: host.only_uid,
        simulated,
        numa_nodes: host.numa_nodes.clone(),
        images: engine.images,
        health_problem: String::new(),
        image_aliases: Vec::new(),
        private_images: private.collect(),
    }
}

/// Memory nodes of a host that are looked at; more than any has.
const NUMA_NODES_MAX: u32 = 1024;

/// Which cores are near to which memory, by `node0/cpulist` (`0-15,32-47`) and the like in `folder`; nothing on a host
/// with but one memory, where all is equally near.
fn numa_nodes(folder: &Path) -> Vec<wire::NumaNode> {
    let ids = fs::read_to_string(folder.join("online")).unwrap_or_default();
    let ids = numbers(&ids).filter(|id| *id < NUMA_NODES_MAX);
    let nodes = ids.filter_map(|id| {
        let list = fs::read_to_string(folder.join(format!("node{id}/cpulist"))).ok()?;
        let cores = numbers(&list).collect();
        Some(wire::NumaNode { id, cores })
    });
    let nodes: Vec<_> = nodes.collect();
    if nodes.len() > 1 { nodes } else { Vec::new() }
}

/// The numbers of a list of the kernel's: `0-3,8`. What is none is left out.
fn numbers(list: &str) -> impl Iterator<Item = u32> {
    let ranges = list.trim().split(',').filter_map(|range| {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let first: u32 = first.trim().parse().ok()?;
        let last: u32 = last.trim().parse().ok()?;
        Some(first..=last.min(u32::from(u16::MAX)))
    });
    ranges.flatten()
}

/// What a heartbeat says of cards: of those that answered, and of those that are out of use and did not.
pub(crate) fn card_uses(seen: &[GpuUse], looks: Vec<CardLook>) -> Vec<wire::CardUse> {
    let look = |look: CardLook| {
        let use_of = seen.iter().find(|seen| seen.uuid == look.card);
        let CardLook {
            card,
            dirt,
            trouble,
        } = look;
        let is_foreign = !dirt.is_empty();
        wire::CardUse {
            uuid: card.to_string(),
            utilization_percent: use_of.map_or(0, |seen| seen.utilization_percent),
            memory_used_bytes: use_of.map_or(0, |seen| seen.memory_used_bytes),
            temperature_celsius: use_of.map_or(0, |seen| seen.temperature_celsius),
            power_milliwatts: use_of.map_or(0, |seen| seen.power_milliwatts),
            foreign_process: is_foreign,
            detail: use_of.map(|seen| card_detail(seen.detail)),
            dirt,
            trouble: trouble.map(card_trouble),
        }
    };
    looks.into_iter().map(look).collect()
}

fn card_trouble(trouble: Trouble) -> wire::CardTrouble {
    let Trouble {
        kind,
        reason,
        since_ms,
        may_mend: _, // The agent's own affair.
    } = trouble;
    let kind = match kind {
        TroubleKind::Quarantined => wire::card_trouble::Kind::Quarantined,
        TroubleKind::Drained => wire::card_trouble::Kind::Drained,
    };
    wire::CardTrouble {
        kind: kind.into(),
        reason,
        since_ms,
    }
}

fn card_detail(detail: GpuDetail) -> wire::CardDetail {
    let GpuDetail {
        memory_utilization_percent,
        fan_percent,
        compute_mode,
        display,
        ecc,
        single_bit_errors,
        double_bit_errors,
        pci_device_id,
    } = detail;
    wire::CardDetail {
        memory_utilization_percent,
        fan_percent,
        compute_mode,
        display,
        ecc,
        single_bit_errors,
        double_bit_errors,
        pci_device_id,
    }
}

/// The load average of the last minute.
pub(crate) fn load_average() -> f64 {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let first = text.split(' ').next().and_then(|load| load.parse().ok());
    first.unwrap_or(0.0)
}

/// Memory that a new job could have.
pub(crate) fn memory_available_bytes() -> u64 {
    memory_kb("MemAvailable:") * 1024
}

fn memory_kb(name: &str) -> u64 {
    let text = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    let number = line.and_then(|line| line.split_ascii_whitespace().next());
    number.and_then(|number| number.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use capstan_types::CardId;

    #[test]
    fn a_card_that_is_not_clean_is_told_of_although_it_does_not_answer() {
        let look = |dirt: &str, trouble| CardLook {
            card: CardId::from("GPU-1"),
            dirt: dirt.to_owned(),
            trouble,
        };
        let told = |look| card_uses(&[], vec![look]).remove(0);
        assert!(!told(look("", None)).foreign_process);
        assert!(told(look("process 7", None)).foreign_process);
        let trouble = Trouble {
            kind: TroubleKind::Drained,
            reason: "XID 79".to_owned(),
            since_ms: 5,
            may_mend: false,
        };
        let told = told(look("", Some(trouble))).trouble.unwrap();
        assert_eq!(told.kind(), wire::card_trouble::Kind::Drained);
        assert_eq!((told.reason.as_str(), told.since_ms), ("XID 79", 5));
    }

    #[test]
    fn cores_are_told_by_memory_node_where_there_are_several() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        write("online", "0\n");
        write("node0/cpulist", "0-3\n");
        assert!(numa_nodes(folder.path()).is_empty());
        write("online", "0-1\n");
        write("node0/cpulist", "0-1,4\n");
        write("node1/cpulist", "2-3,x,5\n");
        let nodes = numa_nodes(folder.path());
        let seen: Vec<_> = nodes
            .iter()
            .map(|node| (node.id, &node.cores[..]))
            .collect();
        assert_eq!(seen, [(0, &[0, 1, 4][..]), (1, &[2, 3, 5][..])]);
    }

    #[test]
    fn this_host_has_memory() {
        assert!(Host::ask(1).memory_bytes > 0);
        assert!(memory_available_bytes() > 0);
    }
}
