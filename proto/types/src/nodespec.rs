//! The `nodes=` request of Torque: `2:ppn=4:gpus=1:S+gpu01:ppn=8#shared`.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::ParseError;

/// A request for nodes, all of them or none. Prints as it was typed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeSpec {
    typed: Box<str>,
    /// One per `+` part, in order; never empty.
    pub chunks: Vec<Chunk>,
}

/// One part of a request: so many nodes, each with so much.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Chunk {
    /// A number of nodes, or a name that is a node if there is one of that name, else a property.
    pub target: ChunkTarget,
    /// Slots on each node; `ppn=`, 1 if not given. At least 1.
    pub ppn: u32,
    /// Cards on each node; `gpus=`, 0 if not given.
    pub gpus: u32,
    /// Properties that each node must have, in order typed.
    pub properties: Vec<Box<str>>,
}

/// What a part of a request begins with.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum ChunkTarget {
    /// So many nodes, at least 1.
    Count(u32),
    /// One node of this name, or with this property.
    Named(Box<str>),
}

impl NodeSpec {
    /// Reads a request.
    ///
    /// # Errors
    /// Anything that is not in the grammar; points at the spot.
    pub fn parse(text: &str) -> Result<Self, ParseError> {
        Err(ParseError::new(text, 0, "a node request"))
    }

    /// Nodes asked for, over all parts.
    #[must_use]
    pub fn node_count(&self) -> u32 {
        let counts = self.chunks.iter().map(Chunk::node_count);
        counts.fold(0, u32::saturating_add)
    }
}

impl Chunk {
    /// Nodes that this part asks for.
    #[must_use]
    pub const fn node_count(&self) -> u32 {
        match self.target {
            ChunkTarget::Count(count) => count,
            ChunkTarget::Named(_) => 1,
        }
    }
}

impl fmt::Display for NodeSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.typed)
    }
}
