//! The resource request of PBS Pro: `select=2:ncpus=8:ngpus=4:mem=32gb+1:ncpus=1` and what `place=` says of it.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::cards::nearest_word;
use crate::{CardWish, Chunk, ChunkTarget, ErrorClass, NodeSpec, ParseError, Size, check_models};

/// A request for chunks: each is a part of one host. Prints as it was typed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Select {
    typed: Box<str>,
    /// One per `+` part, in order; never empty.
    pub parts: Vec<SelectPart>,
}

/// So many equal chunks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SelectPart {
    /// How many; at least 1.
    pub count: u32,
    /// `ncpus=`; 1 if not given.
    pub ncpus: u32,
    /// `ngpus=`; 0 if not given.
    pub ngpus: u32,
    /// `mem=`.
    pub memory: Option<Size>,
    /// `mpiprocs=`: lines of the node file.
    pub mpiprocs: Option<u32>,
    /// `ompthreads=`.
    pub ompthreads: Option<u32>,
    /// `host=` or `vnode=`: this host and no other.
    pub host: Option<Box<str>>,
    /// `NAME=True`: a property that the host must have; `gpu_model=`: a model of its cards, `a|b` for either.
    pub properties: Vec<Box<str>>,
    /// `gpumem>=`, `cuda>=`, `cc>=`, `gpu_shared=True`: what its cards must be.
    #[serde(default)]
    pub cards: CardWish,
}

/// What all chunks together ask for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SelectTotals {
    /// Chunks: `nodect`.
    pub chunks: u32,
    /// `ncpus`.
    pub ncpus: u64,
    /// `ngpus`; `None` when no chunk says.
    pub ngpus: Option<u64>,
    /// `mem` in bytes; `None` when no chunk says.
    pub memory_bytes: Option<u64>,
    /// `mpiprocs`; `None` when no chunk says.
    pub mpiprocs: Option<u64>,
}

impl Select {
    /// The most chunks over all parts, and the most processors and cards of each.
    pub const COUNT_MAX: u32 = NodeSpec::COUNT_MAX;
    /// The longest request, in bytes.
    pub const BYTES_MAX: usize = NodeSpec::BYTES_MAX;

    /// Reads `[N:]NAME=VALUE[:NAME=VALUE…][+…]`, or `N` alone.
    ///
    /// # Errors
    /// Points at the spot: a number that is none, a name that is no resource of a host, a name given twice, 0 chunks.
    pub fn parse(text: &str) -> Result<Self, ParseError> {
        if text.len() > Self::BYTES_MAX {
            let error = ParseError::new(text, Self::BYTES_MAX, "a shorter request");
            return Err(error.in_class(ErrorClass::TooLarge));
        }
        let mut parts = Vec::new();
        let mut chunks = 0;
        let mut at = 0;
        for piece in text.split('+') {
            let part = Reader {
                text,
                seen: Vec::new(),
            }
            .part(at, piece)?;
            chunks += part.count;
            if chunks > Self::COUNT_MAX {
                return Err(too_large(text, at, "at most 1000000 chunks"));
            }
            parts.push(part);
            at += piece.len() + 1;
        }
        Ok(Self {
            typed: text.into(),
            parts,
        })
    }

    /// What all chunks together ask for.
    #[must_use]
    pub fn totals(&self) -> SelectTotals {
        let mut totals = SelectTotals::default();
        for part in &self.parts {
            let count = u64::from(part.count);
            totals.chunks = totals.chunks.saturating_add(part.count);
            totals.ncpus += count * u64::from(part.ncpus);
            if part.ngpus > 0 {
                *totals.ngpus.get_or_insert(0) += count * u64::from(part.ngpus);
            }
            if let Some(memory) = part.memory {
                let bytes = memory.bytes().saturating_mul(count);
                let sum = totals.memory_bytes.get_or_insert(0);
                *sum = sum.saturating_add(bytes);
            }
            if let Some(processes) = part.mpiprocs {
                *totals.mpiprocs.get_or_insert(0) += count * u64::from(processes);
            }
        }
        totals
    }

    /// The same as a request of Torque for as many nodes, with the memory that each chunk wants; `place=` decides
    /// whether they are different nodes. A chunk without processors still gets a slot.
    #[must_use]
    pub fn as_nodes(&self) -> NodeSpec {
        let chunk = |part: &SelectPart| Chunk {
            target: match &part.host {
                Some(host) => ChunkTarget::Named(host.clone()),
                None => ChunkTarget::Count(part.count),
            },
            ppn: part.ncpus.max(1),
            gpus: part.ngpus,
            properties: part.properties.clone(),
            memory_bytes: part.memory.map_or(0, Size::bytes),
            cards: part.cards,
            ..Chunk::one()
        };
        let chunks = self.parts.iter().flat_map(|part| {
            // Chunks of a named host are told one by one: a name stands for one node.
            let times = if part.host.is_some() { part.count } else { 1 };
            std::iter::repeat_n(chunk(part), times as usize)
        });
        NodeSpec::of(chunks.collect())
    }
}

impl fmt::Display for Select {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.typed)
    }
}

/// Reads one part.
struct Reader<'a> {
    text: &'a str,
    seen: Vec<&'a str>,
}

impl<'a> Reader<'a> {
    fn part(mut self, at: usize, piece: &'a str) -> Result<SelectPart, ParseError> {
        let mut part = SelectPart {
            count: 1,
            ncpus: 1,
            ngpus: 0,
            memory: None,
            mpiprocs: None,
            ompthreads: None,
            host: None,
            properties: Vec::new(),
            cards: CardWish::ANY,
        };
        let mut here = at;
        for (nth, item) in piece.split(':').enumerate() {
            match item.split_once('=') {
                Some((name, value)) => self.item(&mut part, here, (name, value))?,
                None if nth == 0 => part.count = self.number(here, item, 1)?,
                None => return Err(self.fail(here, "name=value")),
            }
            here += item.len() + 1;
        }
        if part.host.is_some() && part.count > HOST_CHUNKS_MAX {
            return Err(too_large(self.text, at, "at most 1000 chunks of one host"));
        }
        Ok(part)
    }

    fn item(
        &mut self,
        part: &mut SelectPart,
        at: usize,
        (name, value): (&'a str, &'a str),
    ) -> Result<(), ParseError> {
        let typed = name;
        let name = same_as(name);
        if self.seen.contains(&name) {
            return Err(self.fail(at, "each resource once"));
        }
        self.seen.push(name);
        let value_at = at + typed.len() + 1;
        match name {
            "ncpus" => part.ncpus = self.number(value_at, value, 0)?,
            "ngpus" => part.ngpus = self.number(value_at, value, 0)?,
            "mpiprocs" => part.mpiprocs = Some(self.number(value_at, value, 0)?),
            "ompthreads" => part.ompthreads = Some(self.number(value_at, value, 0)?),
            "mem" => {
                let size = Size::parse(value);
                let size = size.map_err(|error| self.fail(value_at + error.at, error.expected))?;
                part.memory = Some(size);
            }
            "gpu_model" => {
                check_models(value)
                    .map_err(|error| self.fail(value_at + error.at, error.expected))?;
                part.properties.push(value.into());
            }
            "gpu_shared" => part.cards.is_shared = is_true(value),
            "host" | "vnode" => part.host = Some(self.name(value_at, value)?.into()),
            _ => return self.rare(part, at, (name, value)),
        }
        Ok(())
    }

    /// What cards must be, and features.
    fn rare(
        &self,
        part: &mut SelectPart,
        at: usize,
        (name, value): (&'a str, &'a str),
    ) -> Result<(), ParseError> {
        match part.cards.read(name, value) {
            Some(Ok(())) => Ok(()),
            Some(Err(error)) => {
                let behind = self.text[at..].find('=').map_or(0, |equals| equals + 1);
                Err(self.fail(at + behind + error.at, error.expected))
            }
            // What a site calls its hosts' features, as booleans.
            None if is_true(value) => {
                part.properties.push(self.name(at, name)?.into());
                Ok(())
            }
            None => Err(self.fail(at, nearest_word(name, WORDS).unwrap_or(EXPECTED))),
        }
    }

    fn name(&self, at: usize, name: &'a str) -> Result<&'a str, ParseError> {
        let is_name = name.starts_with(|c: char| c.is_ascii_alphabetic())
            && name
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"-._".contains(&b));
        is_name
            .then_some(name)
            .ok_or_else(|| self.fail(at, "a name"))
    }

    fn number(&self, at: usize, digits: &str, least: u32) -> Result<u32, ParseError> {
        if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
            return Err(self.fail(at, "a number"));
        }
        match digits.parse() {
            Ok(number) if number < least => Err(self.fail(at, "at least 1")),
            Ok(number) if number <= Select::COUNT_MAX => Ok(number),
            Ok(_) | Err(_) => Err(too_large(self.text, at, "a number up to 1000000")),
        }
    }

    fn fail(&self, at: usize, expected: &'static str) -> ParseError {
        ParseError::new(self.text, at, expected)
    }
}

const EXPECTED: &str = "ncpus, ngpus, mem, mpiprocs, ompthreads, host or NAME=True";

/// All names of resources that a chunk has.
const WORDS: &[&str] = &[
    "ncpus",
    "ngpus",
    "mem",
    "mpiprocs",
    "ompthreads",
    "host",
    "vnode",
    "gpu_model",
    "gpumem>=",
    "gpu_shared",
    "cuda>=",
    "cc>=",
];

/// Our name of what PBS Pro itself or many of its sites call otherwise.
fn same_as(name: &str) -> &str {
    match name {
        "naccelerators" => "ngpus",
        "accelerator_model" | "gpu_type" => "gpu_model",
        "accelerator_memory" | "gpu_mem" => "gpumem",
        "accelerator_memory>" | "gpu_mem>" => "gpumem>",
        other => other,
    }
}

/// The most chunks of one named host: no host has more processors.
const HOST_CHUNKS_MAX: u32 = 1000;

fn is_true(value: &str) -> bool {
    ["true", "t", "yes", "y", "1"]
        .iter()
        .any(|word| value.eq_ignore_ascii_case(word))
}

fn too_large(text: &str, at: usize, expected: &'static str) -> ParseError {
    ParseError::new(text, at, expected).in_class(ErrorClass::TooLarge)
}

/// Where chunks go: `place=scatter:excl:group=rack`. Prints in this order.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// On one host, on different ones, or as it comes.
    pub arrangement: Arrangement,
    /// Whether others may be on its hosts.
    pub sharing: Option<Sharing>,
    /// `group=`: all hosts have the same value of this resource.
    pub group: Option<Box<str>>,
}

/// How chunks are spread over hosts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Arrangement {
    /// On any hosts; several of them on one or not.
    #[default]
    Free,
    /// All on one host.
    Pack,
    /// Each on a host of its own.
    Scatter,
    /// Each on a part of a host of its own; our hosts have one part.
    VScatter,
}

/// Whether a host may be shared with other jobs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Sharing {
    /// Others may be there.
    Shared,
    /// The parts of hosts that it gets are its own.
    Excl,
    /// The whole hosts are.
    ExclHost,
}

impl Place {
    /// Reads `[pack|scatter|free|vscatter][:excl|:exclhost|:shared][:group=NAME]`, in any order, each at most once.
    ///
    /// # Errors
    /// Another word, or two of a kind.
    pub fn parse(text: &str) -> Result<Self, ParseError> {
        let (mut arrangement, mut sharing, mut group) = (None, None, None);
        let mut at = 0;
        for word in text.split(':') {
            let is_new = match word {
                "free" => arrangement.replace(Arrangement::Free).is_none(),
                "pack" => arrangement.replace(Arrangement::Pack).is_none(),
                "scatter" => arrangement.replace(Arrangement::Scatter).is_none(),
                "vscatter" => arrangement.replace(Arrangement::VScatter).is_none(),
                "shared" => sharing.replace(Sharing::Shared).is_none(),
                "excl" => sharing.replace(Sharing::Excl).is_none(),
                "exclhost" => sharing.replace(Sharing::ExclHost).is_none(),
                _ => match word.strip_prefix("group=").filter(|name| is_resource(name)) {
                    Some(name) => group.replace(Box::from(name)).is_none(),
                    None => {
                        let expected =
                            "free, pack, scatter, vscatter, excl, exclhost, shared or group=";
                        return Err(ParseError::new(text, at, expected));
                    }
                },
            };
            if !is_new {
                return Err(ParseError::new(text, at, "one word of each kind"));
            }
            at += word.len() + 1;
        }
        Ok(Self {
            arrangement: arrangement.unwrap_or_default(),
            sharing,
            group,
        })
    }

    /// Whether its hosts are its own.
    #[must_use]
    pub const fn is_exclusive(&self) -> bool {
        matches!(self.sharing, Some(Sharing::Excl | Sharing::ExclHost))
    }
}

fn is_resource(name: &str) -> bool {
    let is_name = |b: u8| b.is_ascii_alphanumeric() || b"-_".contains(&b);
    name.starts_with(|c: char| c.is_ascii_alphabetic()) && name.bytes().all(is_name)
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.arrangement {
            Arrangement::Free => "free",
            Arrangement::Pack => "pack",
            Arrangement::Scatter => "scatter",
            Arrangement::VScatter => "vscatter",
        })?;
        f.write_str(match self.sharing {
            None => "",
            Some(Sharing::Shared) => ":shared",
            Some(Sharing::Excl) => ":excl",
            Some(Sharing::ExclHost) => ":exclhost",
        })?;
        match &self.group {
            Some(group) => write!(f, ":group={group}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests;
