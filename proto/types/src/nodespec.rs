//! The `nodes=` request of Torque: `2:ppn=4:gpus=1:S+gpu01:ppn=8#shared`.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{ErrorClass, GpuMode, ParseError};

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
    /// Memory on each node, bytes; 0 when this part does not say (`nodes=` has no word for it, `select=` has `mem=`).
    #[serde(default)]
    pub memory_bytes: u64,
    /// The mode that its cards are to be in, when it says.
    #[serde(default)]
    pub gpu_mode: Option<GpuMode>,
    /// `reseterr`: the counters of memory errors are to be reset before the job starts.
    #[serde(default)]
    pub resets_errors: bool,
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
    /// The most nodes over all parts, and the most slots and cards on each; no cluster comes near.
    pub const COUNT_MAX: u32 = 1_000_000;
    /// The longest request, in bytes: room for 4,000 named nodes.
    pub const BYTES_MAX: usize = 64 << 10;

    /// Reads `REQ[+REQ…][#SUFFIX…]`, REQ being `NUMBER|NAME[:ppn=N][:gpus=N][:PROPERTY…]`; of two `ppn=` the last
    /// counts, and a suffix counts as if it were typed behind every part.
    ///
    /// # Errors
    /// Points at the spot. As in Torque, characters are judged before meanings: an illegal character anywhere is
    /// [`ErrorClass::IllegalValue`]; a count of 0, `ppn=x` or `foo=bar` is [`ErrorClass::InvalidSyntax`].
    pub fn parse(text: &str) -> Result<Self, ParseError> {
        if text.len() > Self::BYTES_MAX {
            let error = ParseError::new(text, Self::BYTES_MAX, "a shorter node request");
            return Err(error.in_class(ErrorClass::TooLarge));
        }
        check_characters(text)?;
        let (parts, suffixes) = match text.find('#') {
            Some(at) => (&text[..at], Some((at + 1, &text[at + 1..]))),
            None => (text, None),
        };
        let mut chunks = Vec::new();
        let mut nodes = 0;
        for (at, part) in pieces(parts, 0, '+') {
            let mut reader = Reader::new(text);
            let mut items = pieces(part, at, ':');
            if let Some((at, first)) = items.next() {
                reader.first(at, first)?;
            }
            for (at, item) in items {
                reader.item(at, item)?;
            }
            for (at, suffix) in suffixes
                .into_iter()
                .flat_map(|(at, all)| pieces(all, at, '#'))
            {
                for (at, item) in pieces(suffix, at, ':') {
                    reader.item(at, item)?;
                }
            }
            nodes += reader.chunk.node_count();
            if nodes > Self::COUNT_MAX {
                return Err(too_large(text, at, "at most 1000000 nodes"));
            }
            chunks.push(reader.chunk);
        }
        Ok(Self {
            typed: text.into(),
            chunks,
        })
    }

    /// A request of these parts, printed as somebody would type it.
    #[must_use]
    pub fn of(chunks: Vec<Chunk>) -> Self {
        let mut typed = String::new();
        for chunk in &chunks {
            let plus = if typed.is_empty() { "" } else { "+" };
            let target = match &chunk.target {
                ChunkTarget::Count(count) => count.to_string(),
                ChunkTarget::Named(name) => name.to_string(),
            };
            typed.push_str(&format!("{plus}{target}:ppn={}", chunk.ppn));
            if chunk.gpus > 0 {
                typed.push_str(&format!(":gpus={}", chunk.gpus));
            }
            for property in &chunk.properties {
                typed.extend([":", property]);
            }
        }
        Self {
            typed: typed.into(),
            chunks,
        }
    }

    /// Nodes asked for, over all parts; at most [`Self::COUNT_MAX`].
    #[must_use]
    pub fn node_count(&self) -> u32 {
        let counts = self.chunks.iter().map(Chunk::node_count);
        counts.fold(0, u32::saturating_add)
    }

    /// Slots asked for, over all nodes.
    #[must_use]
    pub fn slot_count(&self) -> u64 {
        let slots = |chunk: &Chunk| u64::from(chunk.node_count()) * u64::from(chunk.ppn);
        self.chunks.iter().map(slots).sum()
    }

    /// The job attribute `gpu_flags`: the number of the last mode asked for, 1000 more when error counters are to be
    /// reset; `None` when no part asks for cards.
    #[must_use]
    pub fn gpu_flags(&self, default: GpuMode) -> Option<u32> {
        let with_cards = || self.chunks.iter().filter(|chunk| chunk.gpus > 0);
        with_cards().next()?;
        let mode = with_cards().filter_map(|chunk| chunk.gpu_mode).next_back();
        let resets = with_cards().any(|chunk| chunk.resets_errors);
        let reset = if resets { GpuMode::RESET_ERRORS } else { 0 };
        Some(mode.unwrap_or(default).number() + reset)
    }

    /// Cards asked for, over all nodes.
    #[must_use]
    pub fn card_count(&self) -> u64 {
        let cards = |chunk: &Chunk| u64::from(chunk.node_count()) * u64::from(chunk.gpus);
        self.chunks.iter().map(cards).sum()
    }
}

impl Chunk {
    /// One node with one slot.
    #[must_use]
    pub const fn one() -> Self {
        Self {
            target: ChunkTarget::Count(1),
            ppn: 1,
            gpus: 0,
            properties: Vec::new(),
            memory_bytes: 0,
            gpu_mode: None,
            resets_errors: false,
        }
    }

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

/// Reads one part of a request, item by item.
struct Reader<'a> {
    text: &'a str,
    chunk: Chunk,
    /// A `gpus=` was seen: GPU words are words from here on, and were properties before.
    has_gpus: bool,
}

impl<'a> Reader<'a> {
    fn new(text: &'a str) -> Self {
        Self {
            text,
            chunk: Chunk::one(),
            has_gpus: false,
        }
    }

    fn first(&mut self, at: usize, item: &str) -> Result<(), ParseError> {
        if item.starts_with(|c: char| c.is_ascii_digit()) {
            self.chunk.target =
                ChunkTarget::Count(self.number(at, item, "a number of nodes", 1)?);
        } else if item.contains('=') {
            // `nodes=ppn=4`: one node, as Torque takes it.
            self.item(at, item)?;
        } else {
            self.chunk.target = ChunkTarget::Named(item.into());
        }
        Ok(())
    }

    fn item(&mut self, at: usize, item: &str) -> Result<(), ParseError> {
        match item.split_once('=') {
            Some(("ppn", value)) => {
                self.chunk.ppn = self.number(at + 4, value, "a number of slots, at least 1", 1)?;
            }
            Some(("gpus", value)) => {
                self.chunk.gpus = self.number(at + 5, value, "a number of cards", 0)?;
                self.has_gpus = true;
            }
            Some(("mics", value)) => {
                // Nobody has these coprocessors any more: the request is read, and fits no node.
                if self.number(at + 5, value, "a number of coprocessors", 0)? > 0 {
                    self.chunk.properties.push(item.into());
                }
            }
            Some(_) => {
                let error = ParseError::new(self.text, at, "ppn=, gpus= or a property");
                return Err(error.in_class(ErrorClass::InvalidSyntax));
            }
            None if self.has_gpus && item.eq_ignore_ascii_case("reseterr") => {
                self.chunk.resets_errors = true;
            }
            None if self.has_gpus && GpuMode::from_word(item).is_some() => {
                self.chunk.gpu_mode = GpuMode::from_word(item);
            }
            None if self.has_gpus && item.eq_ignore_ascii_case("prohibited") => {
                let error = ParseError::new(self.text, at, "another GPU mode");
                return Err(error.in_class(ErrorClass::ProhibitedGpuMode));
            }
            None => self.chunk.properties.push(item.into()),
        }
        Ok(())
    }

    fn number(
        &self,
        at: usize,
        digits: &str,
        expected: &'static str,
        least: u32,
    ) -> Result<u32, ParseError> {
        let syntax =
            || ParseError::new(self.text, at, expected).in_class(ErrorClass::InvalidSyntax);
        if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
            return Err(syntax());
        }
        match digits.parse() {
            Ok(number) if number < least => Err(syntax()),
            Ok(number) if number <= NodeSpec::COUNT_MAX => Ok(number),
            Ok(_) | Err(_) => Err(too_large(self.text, at, "a number up to 1000000")),
        }
    }
}

fn too_large(text: &str, at: usize, expected: &'static str) -> ParseError {
    ParseError::new(text, at, expected).in_class(ErrorClass::TooLarge)
}

/// The first of Torque's two checks: items are not empty; the first of a part is digits only or a name, the others
/// are names; a name begins with a letter and goes on with letters, digits and `-.=_`.
fn check_characters(text: &str) -> Result<(), ParseError> {
    let mut is_first = true;
    let mut start = 0;
    let mut is_behind_parts = false;
    let bytes = text.as_bytes();
    for at in 0..=bytes.len() {
        let Some(byte) = bytes.get(at) else {
            return check_item(text, start, at, is_first);
        };
        match byte {
            b':' | b'+' | b'#' => {
                check_item(text, start, at, is_first)?;
                if *byte == b'+' && is_behind_parts {
                    return Err(ParseError::new(text, at, "`:`, `#` or the end"));
                }
                is_behind_parts |= *byte == b'#';
                is_first = *byte == b'+';
                start = at + 1;
            }
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'=' | b'_' => {}
            _ => return Err(ParseError::new(text, at, "letters, digits, `:`, `+`, `=`")),
        }
    }
    Ok(())
}

fn check_item(text: &str, start: usize, end: usize, is_first: bool) -> Result<(), ParseError> {
    let item = &text.as_bytes()[start..end];
    match item.first() {
        Some(letter) if letter.is_ascii_alphabetic() => Ok(()),
        Some(digit) if digit.is_ascii_digit() && is_first => {
            match item.iter().position(|b| !b.is_ascii_digit()) {
                Some(at) => Err(ParseError::new(text, start + at, "`:`, `+` or the end")),
                None => Ok(()),
            }
        }
        Some(_) | None if is_first => Err(ParseError::new(
            text,
            start,
            "a number of nodes, a node or a property",
        )),
        Some(_) | None => Err(ParseError::new(text, start, "ppn=, gpus= or a property")),
    }
}

/// The pieces of `text` between `separator`s, each with its offset in the whole, of which `text` begins at `base`.
fn pieces(text: &str, base: usize, separator: char) -> impl Iterator<Item = (usize, &str)> {
    let mut at = base;
    text.split(separator).map(move |piece| {
        let here = at;
        at += piece.len() + separator.len_utf8();
        (here, piece)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: &str) {
        let spec = NodeSpec::parse(text).unwrap();
        let shown = |chunk: &Chunk| {
            let target = match &chunk.target {
                ChunkTarget::Count(count) => count.to_string(),
                ChunkTarget::Named(name) => name.to_string(),
            };
            let Chunk {
                ppn,
                gpus,
                properties,
                ..
            } = chunk;
            format!("{target} ppn {ppn} gpus {gpus} {}", properties.join(","))
        };
        let seen: Vec<_> = spec.chunks.iter().map(shown).collect();
        assert_eq!(seen.join(" + ").trim_end(), expected, "{text}");
        assert_eq!(spec.to_string(), text);
    }

    fn refuse(text: &str, class: ErrorClass, at: usize) {
        let error = NodeSpec::parse(text).unwrap_err();
        assert_eq!((error.class, error.at), (class, at), "{text}: {error}");
    }

    #[test]
    fn every_form_of_torque_is_read() {
        check("1", "1 ppn 1 gpus 0");
        check("2:ppn=4:gpus=2", "2 ppn 4 gpus 2");
        check("1:gpus=1:S", "1 ppn 1 gpus 1 S");
        check("1:ppn=2:gpus=2:exclusive_process", "1 ppn 2 gpus 2");
        check("1:gpus=1:ReSetErr", "1 ppn 1 gpus 1");
        check("1:shared:gpus=1", "1 ppn 1 gpus 1 shared");
        check("1:gpu:fast", "1 ppn 1 gpus 0 gpu,fast");
        check(
            "1:bigmem+2:gpu:ppn=2",
            "1 ppn 1 gpus 0 bigmem + 2 ppn 2 gpus 0 gpu",
        );
        check(
            "gpu-01.x_y:ppn=2+b",
            "gpu-01.x_y ppn 2 gpus 0  + b ppn 1 gpus 0",
        );
        check("1:ppn=2#shared", "1 ppn 2 gpus 0 shared");
        check("2+x#ppn=3:a#b", "2 ppn 3 gpus 0 a,b + x ppn 3 gpus 0 a,b");
        check("1:ppn=2:ppn=3", "1 ppn 3 gpus 0");
        check("ppn=4", "1 ppn 4 gpus 0");
        check("1:mics=0", "1 ppn 1 gpus 0");
        check("1:mics=2", "1 ppn 1 gpus 0 mics=2");
    }

    #[test]
    fn illegal_characters_and_invalid_syntax_are_two_errors() {
        use ErrorClass::{IllegalValue, InvalidSyntax, ProhibitedGpuMode, TooLarge};
        refuse("", IllegalValue, 0);
        refuse("2x", IllegalValue, 1);
        refuse("1 :ppn=2", IllegalValue, 1);
        refuse("1+", IllegalValue, 2);
        refuse(":ppn=1", IllegalValue, 0);
        refuse("cpu01/0", IllegalValue, 5);
        refuse("1:ppn=2:", IllegalValue, 8);
        refuse("1#", IllegalValue, 2);
        refuse("1#a+2", IllegalValue, 3);
        refuse("-1", IllegalValue, 0);
        refuse("1:ppn=0+2x", IllegalValue, 9);
        refuse("1:é", IllegalValue, 2);
        refuse("0", InvalidSyntax, 0);
        refuse("1:ppn=0", InvalidSyntax, 6);
        refuse("1:ppn=x", InvalidSyntax, 6);
        refuse("1:ppn=", InvalidSyntax, 6);
        refuse("a+1:gpus=x", InvalidSyntax, 9);
        refuse("1:foo=bar", InvalidSyntax, 2);
        refuse("1:ppn=1=1", InvalidSyntax, 6);
        refuse("1:gpus=1:prohibited", ProhibitedGpuMode, 9);
        refuse("1000001", TooLarge, 0);
        refuse("4294967295:ppn=4294967295", TooLarge, 0);
        refuse("1:ppn=99999999999999999999999", TooLarge, 6);
        refuse("999999+2", TooLarge, 7);
    }

    #[test]
    fn gpu_words_are_remembered() {
        let flags = |text: &str| {
            let spec = NodeSpec::parse(text).unwrap();
            spec.gpu_flags(GpuMode::ExclusiveThread)
        };
        assert_eq!(flags("1:ppn=2"), None);
        assert_eq!(flags("1:gpus=1"), Some(1));
        assert_eq!(flags("1:gpus=1:shared"), Some(0));
        assert_eq!(flags("1:gpus=1:Exclusive_Process:reseterr"), Some(1003));
        assert_eq!(flags("1:gpus=1:default+1:gpus=1:exclusive"), Some(1));
    }

    #[test]
    fn sums_do_not_overflow() {
        let spec = NodeSpec::parse("1000000:ppn=1000000:gpus=1000000").unwrap();
        assert_eq!(spec.node_count(), 1_000_000);
        assert_eq!(spec.slot_count(), 1_000_000_000_000);
        assert_eq!(spec.card_count(), 1_000_000_000_000);
        let long = "x+".repeat(NodeSpec::BYTES_MAX);
        assert_eq!(
            NodeSpec::parse(&long).unwrap_err().class,
            ErrorClass::TooLarge
        );
    }
}
