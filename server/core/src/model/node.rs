//! A node: what its agent reports, what the administrator says, and shares of it.

use std::collections::BTreeMap;

use capstan_types::{AgentId, AttemptId, CardId, CardKind, CardWish, NodeName, Timestamp, Version};
use serde::{Deserialize, Serialize};

/// A machine with an agent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Node {
    /// Its name.
    pub name: NodeName,
    /// The agent installation that owns the name.
    pub agent: AgentId,
    /// What it has, by its last report.
    pub inventory: Inventory,
    /// Slots (`np`): the setting, else the cores.
    pub slots: u16,
    /// Properties from the settings, in order.
    pub properties: Vec<Box<str>>,
    /// Whether its agent is connected.
    pub link: Link,
    /// Set by `pbsnodes -o`: no new work.
    pub is_offline: bool,
    /// Set by `pbsnodes -N`.
    pub note: Box<str>,
    /// Cards that may not be lent: a process that is nobody's, or left over, is on them.
    pub unclean: Vec<CardId>,
    /// Its place among all nodes: they stand in the order in which they were declared or first came.
    #[serde(default)]
    pub ordinal: u64,
    /// Attempts that run there though they should not (requeued or purged meanwhile) and were told to stop. While
    /// there are any, the node gets no new work: nobody knows what they still use.
    #[serde(default)]
    pub strays: Vec<AttemptId>,
    /// Its health script complains, and the site says that nothing is started there then (`down_on_error`).
    #[serde(default)]
    pub is_unwell: bool,
    /// Images that it was told to get for waiting jobs; at most [`super::Preparation::COUNT_MAX`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub preparing: Vec<super::Preparation>,
}

/// Whether a node's agent is connected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Link {
    /// Connected, since when.
    Up(Timestamp),
    /// Not connected, since when. For a short named time this is not yet shown as `down`.
    Lost(Timestamp),
    /// It is only configured: no agent has ever come for it.
    Never,
    /// As [`Link::Never`], and it was created since the server started.
    New,
}

/// What an agent found on its host.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Inventory {
    /// Processor cores.
    pub cores: u16,
    /// Memory of the host.
    pub memory_bytes: u64,
    /// Its cards, in index order.
    pub cards: Vec<Card>,
    /// Why there are no cards, or not all; empty when all is well.
    pub gpu_problem: Box<str>,
    /// Version of the container engine; empty when there is none.
    pub engine: Box<str>,
    /// Why there is no container engine; empty when all is well.
    pub engine_problem: Box<str>,
    /// `uname -a`.
    pub uname: Box<str>,
    /// The agent can run jobs of this user only.
    pub only_uid: Option<u32>,
    /// The cards are a fake library's.
    pub simulated: bool,
    /// Which cores are near to which memory, by number of the memory node; empty when the kernel does not say.
    #[serde(default)]
    pub numa_nodes: Vec<NumaNode>,
    /// Names of the images that its container engine holds (`python:3.12`), in order; the first
    /// [`Inventory::IMAGES_MAX`] of them.
    #[serde(default)]
    pub images: Vec<Box<str>>,
    /// What its health script complains of; empty when all is well.
    #[serde(default)]
    pub health_problem: Box<str>,
    /// Short names of images by its own settings, in order, and what each stands for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub aliases: Vec<(Box<str>, Box<str>)>,
    /// Those of its images that came by users' own accounts, and whose they are; at most [`Inventory::OWNERS_MAX`] each.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub private_images: BTreeMap<Box<str>, Vec<u32>>,
}

impl Inventory {
    /// The most images of a node that are known.
    pub const IMAGES_MAX: usize = 200;
    /// The most users of one image that are known.
    pub const OWNERS_MAX: usize = 32;

    /// Whether `uid` may know that `image` is here.
    #[must_use]
    pub fn shows_image(&self, image: &str, uid: u32) -> bool {
        let owners = self.private_images.get(image);
        owners.is_none_or(|owners| owners.contains(&uid))
    }
}

/// Cores and the memory that is near to them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NumaNode {
    /// The kernel's number.
    pub id: u16,
    /// Numbers of its cores, ascending.
    pub cores: Vec<u16>,
}

/// One GPU of a node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Card {
    /// Its UUID.
    pub uuid: CardId,
    /// NVML's index, by which users know it.
    pub index: u32,
    /// Product name.
    pub model: Box<str>,
    /// Its memory.
    pub memory_bytes: u64,
    /// PCI address.
    pub pci_address: Box<str>,
    /// Driver version.
    pub driver: Box<str>,
    /// What it can, and what it is near to.
    #[serde(default)]
    pub traits: CardTraits,
}

/// What a card can, and what it is near to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(default)]
pub struct CardTraits {
    /// Compute capability; 0.0 when unknown.
    pub compute: Version,
    /// The newest CUDA that its driver serves; 0.0 when unknown.
    pub cuda: Version,
    /// The memory node that it is near to.
    pub numa_node: Option<u16>,
    /// Cards of one island reach one another fastest: over NVLink, else without leaving their memory node.
    pub island: u16,
}

impl Card {
    /// What a request can ask of it.
    #[must_use]
    pub fn kind(&self) -> CardKind<'_> {
        CardKind {
            model: &self.model,
            memory_bytes: self.memory_bytes,
            cuda: self.traits.cuda,
            compute: self.traits.compute,
        }
    }
}

/// What an attempt holds on one node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeShare {
    /// The node.
    pub node: NodeName,
    /// Slot numbers, ascending (`exec_host` prints them as ranges).
    pub slots: Vec<u16>,
    /// Cards.
    pub cards: Vec<ShareCard>,
    /// Memory set aside; 0 when none was asked for.
    pub memory_bytes: u64,
}

/// A card in a share, with the index it had when it was lent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShareCard {
    /// The card.
    pub uuid: CardId,
    /// NVML's index then.
    pub index: u32,
    /// Thousandths of it that the attempt has; less than [`CardWish::WHOLE`] only of a card that was declared shared.
    #[serde(default = "whole")]
    pub share: u16,
}

const fn whole() -> u16 {
    CardWish::WHOLE
}

impl ShareCard {
    /// Whether nobody else may have any of it.
    #[must_use]
    pub const fn is_whole(&self) -> bool {
        self.share >= CardWish::WHOLE
    }
}

impl Node {
    /// Whether its agent is connected.
    #[must_use]
    pub const fn is_up(&self) -> bool {
        matches!(self.link, Link::Up(_))
    }

    /// Whether an agent has ever come for it, so that what it has is known.
    #[must_use]
    pub const fn has_joined(&self) -> bool {
        matches!(self.link, Link::Up(_) | Link::Lost(_))
    }

    /// Whether it may get new work, as far as its link, its operator and its health are concerned.
    #[must_use]
    pub const fn is_usable(&self) -> bool {
        self.is_up() && !self.is_offline && !self.is_unwell
    }

    /// Whether it has `property`.
    #[must_use]
    pub fn has_property(&self, property: &str) -> bool {
        self.properties.iter().any(|own| **own == *property)
    }
}
