//! Which device nodes of NVIDIA's driver the host processes of an attempt may open: none, or those that its own cards
//! need. Pure; what the kernel says of devices is passed in. Nodes of other drivers are left to their file modes.

use std::collections::BTreeMap;

use crate::ports::CardDevice;

use super::super::record::Guard;

/// The driver's fixed major number (`Documentation/admin-guide/devices.txt` of the kernel): a card has its own minor
/// number there, and two nodes belong to all cards.
const CARDS_MAJOR: u32 = 195;
const MODESET_MINOR: u32 = 254;
const CONTROL_MINOR: u32 = 255;
/// The kernel's own nodes of graphics cards, also NVIDIA's: `/dev/dri/card0`, `/dev/dri/renderD128`.
const DRM_MAJOR: u32 = 226;
/// What a part of a divided card needs beside its card: `/dev/nvidia-caps/nvidia-capN`.
const CAPABILITIES: &str = "nvidia-caps";

/// What the kernel says of devices on this host.
#[derive(Clone, Debug, Default)]
pub(super) struct Devices {
    /// Major numbers of character devices, by name: `/proc/devices`.
    pub(super) majors: Vec<(u32, String)>,
    /// Minor numbers of capabilities, by `gpu0/gi1/access`: `/proc/driver/nvidia-caps/mig-minors`.
    pub(super) capabilities: BTreeMap<String, u32>,
    /// Minor numbers of DRM nodes of NVIDIA's cards, with the PCI address of the card.
    pub(super) drm: Vec<(u32, String)>,
}

/// A card that is lent, where its nodes are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct OwnCard {
    pub(super) device: CardDevice,
    pub(super) pci_address: String,
}

impl Devices {
    /// Reads the texts of the kernel's files; what cannot be read in them is not there.
    pub(super) fn parse(devices: &str, capabilities: &str, drm: Vec<(u32, String)>) -> Self {
        let characters = devices
            .lines()
            .skip_while(|line| !line.starts_with("Character"))
            .take_while(|line| !line.starts_with("Block"));
        let majors = characters.filter_map(|line| {
            let (number, name) = line.trim().split_once(' ')?;
            Some((number.parse().ok()?, name.trim().to_owned()))
        });
        let capabilities = capabilities.lines().filter_map(|line| {
            let (name, minor) = line.trim().split_once(' ')?;
            Some((name.to_owned(), minor.trim().parse().ok()?))
        });
        Self {
            majors: majors.collect(),
            capabilities: capabilities.collect(),
            drm,
        }
    }

    /// What processes that may use `own` may open, and no other node of the driver.
    pub(super) fn guards(&self, own: &[OwnCard]) -> Vec<Guard> {
        let mut guards = vec![self.cards(own)];
        let others = self.majors.iter().filter(|(major, name)| {
            *major != CARDS_MAJOR && *major != DRM_MAJOR && name.starts_with("nvidia")
        });
        for (major, name) in others {
            if name == CAPABILITIES {
                guards.push(self.capabilities(*major, own));
            } else if own.is_empty() {
                guards.push(Guard::only(*major, Vec::new(), 0));
            }
        }
        let foreign = self.drm.iter().filter(|(_, address)| {
            !own.iter()
                .any(|card| is_same_place(&card.pci_address, address))
        });
        let foreign: Vec<u32> = foreign.map(|(minor, _)| *minor).collect();
        if !foreign.is_empty() {
            guards.push(Guard::all_but(DRM_MAJOR, foreign));
        }
        guards
    }

    fn cards(&self, own: &[OwnCard]) -> Guard {
        let mut open: Vec<u32> = own.iter().map(|card| card.device.minor).collect();
        if !own.is_empty() {
            open.extend([MODESET_MINOR, CONTROL_MINOR]);
        }
        open.sort_unstable();
        open.dedup();
        Guard::only(CARDS_MAJOR, open, CONTROL_MINOR)
    }

    fn capabilities(&self, major: u32, own: &[OwnCard]) -> Guard {
        let names = own.iter().flat_map(|card| {
            let gpu = card.device.minor;
            let parts = card.device.part.into_iter();
            parts.flat_map(move |(instance, compute)| {
                [
                    format!("gpu{gpu}/gi{instance}/access"),
                    format!("gpu{gpu}/gi{instance}/ci{compute}/access"),
                ]
            })
        });
        let open = names.filter_map(|name| self.capabilities.get(&name).copied());
        let last = self.capabilities.values().max().copied().unwrap_or(0);
        Guard::only(major, open.collect(), last)
    }
}

impl Guard {
    /// Only these minor numbers may be opened; `last` is the highest that the driver hands out.
    fn only(major: u32, minors: Vec<u32>, last: u32) -> Self {
        Self {
            major,
            minors,
            is_closed_list: false,
            last,
        }
    }

    /// All but these may be opened.
    fn all_but(major: u32, minors: Vec<u32>) -> Self {
        Self {
            major,
            minors,
            is_closed_list: true,
            last: 0,
        }
    }

    /// What the controller of version 1 is told to deny. It knows one number or all, so the gaps between what is open are
    /// named one by one.
    pub(super) fn denials(&self) -> Vec<String> {
        let deny = |minor: u32| format!("c {}:{minor} rwm", self.major);
        if self.is_closed_list {
            return self.minors.iter().copied().map(deny).collect();
        }
        if self.minors.is_empty() {
            return vec![format!("c {}:* rwm", self.major)];
        }
        let closed = (0..=self.last).filter(|minor| !self.minors.contains(minor));
        closed.map(deny).collect()
    }
}

/// NVML writes the domain with eight digits and capitals (`00000000:3B:00.0`), the kernel with four (`0000:3b:00.0`).
fn is_same_place(one: &str, other: &str) -> bool {
    let plain = |address: &str| {
        let address = address.to_ascii_lowercase();
        let (domain, rest) = address.split_once(':')?;
        Some((u32::from_str_radix(domain, 16).ok()?, rest.to_owned()))
    };
    plain(one).is_some_and(|one| plain(other) == Some(one))
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEVICES: &str = "Character devices:\n  1 mem\n195 nvidia\n195 nvidiactl\n226 drm\n236 nvidia-caps\n511 nvidia-uvm\n\nBlock devices:\n  8 sd\n511 nvidia-fake\n";
    const CAPS: &str = "config 1\nmonitor 2\ngpu0/gi1/access 12\ngpu0/gi1/ci0/access 13\ngpu1/gi1/access 147\ngpu1/gi1/ci0/access 148\n";

    fn devices() -> Devices {
        let drm = vec![(128, "0000:3b:00.0".into()), (129, "0000:af:00.0".into())];
        Devices::parse(DEVICES, CAPS, drm)
    }

    fn card(minor: u32, address: &str, part: Option<(u32, u32)>) -> OwnCard {
        OwnCard {
            device: CardDevice { minor, part },
            pci_address: address.into(),
        }
    }

    fn opens(guards: &[Guard], major: u32, minor: u32) -> bool {
        guards
            .iter()
            .filter(|guard| guard.major == major)
            .all(|guard| guard.minors.contains(&minor) != guard.is_closed_list)
    }

    #[test]
    fn without_a_card_no_node_of_the_driver_is_open_and_no_other_is_closed() {
        let none = devices().guards(&[]);
        for (major, minor) in [(195, 0), (195, 255), (236, 1), (511, 0), (226, 128)] {
            assert!(!opens(&none, major, minor), "{major}:{minor}");
        }
        for (major, minor) in [(1, 3), (226, 0), (226, 130), (8, 0)] {
            assert!(opens(&none, major, minor), "{major}:{minor}");
        }
        assert!(!opens(&Devices::default().guards(&[]), 195, 7));
    }

    #[test]
    fn an_own_card_is_open_with_what_all_cards_share() {
        let one = devices().guards(&[card(1, "00000000:AF:00.0", None)]);
        for (major, minor) in [(195, 1), (195, 254), (195, 255), (511, 0), (226, 129)] {
            assert!(opens(&one, major, minor), "{major}:{minor}");
        }
        for (major, minor) in [(195, 0), (195, 2), (226, 128), (236, 1), (236, 148)] {
            assert!(!opens(&one, major, minor), "{major}:{minor}");
        }
    }

    #[test]
    fn a_part_of_a_card_opens_its_own_capabilities() {
        let part = devices().guards(&[card(1, "00000000:AF:00.0", Some((1, 0)))]);
        for minor in [147, 148] {
            assert!(opens(&part, 236, minor), "{minor}");
        }
        for minor in [1, 2, 12, 13] {
            assert!(!opens(&part, 236, minor), "{minor}");
        }
        assert!(opens(&part, 195, 1) && !opens(&part, 195, 0));
    }

    #[test]
    fn version_1_is_told_of_every_closed_number() {
        let one = devices().guards(&[card(0, "00000000:3B:00.0", None)]);
        let lines: Vec<String> = one.iter().flat_map(Guard::denials).collect();
        assert!(!lines.contains(&"c 195:0 rwm".to_owned()));
        for denied in [
            "c 195:1 rwm",
            "c 195:253 rwm",
            "c 236:* rwm",
            "c 226:129 rwm",
        ] {
            assert!(lines.contains(&denied.to_owned()), "{denied}: {lines:?}");
        }
        let none = devices().guards(&[]);
        assert_eq!(none[0].denials(), ["c 195:* rwm"]);
    }
}
