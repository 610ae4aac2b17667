//! The `nodes=` request of Torque: `2:ppn=4:gpus=1:S+gpu01:ppn=8#shared`.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::cards::{ALTERNATIVES_MAX, alternatives, nearest_word};
use crate::{CardWish, ErrorClass, GpuMode, ParseError};

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
    /// Properties that each node must have, or models that its cards must be, in order typed; of `a|b` either will do.
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
    /// What its cards must be beside their model.
    #[serde(default)]
    pub cards: CardWish,
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
    /// counts, and a suffix counts as if it were typed behind every part. What Torque does not have: behind `gpus=` a
    /// model (`rtx4090`, also `3090`), minimums (`gpumem>=24gb`, `cuda>=12.1`, `cc>=8.0`), and `a|b` for either.
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
            typed.push_str(&chunk.cards.to_string());
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
            cards: CardWish::ANY,
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
            Some((name, value)) => {
                let read = self.chunk.cards.read(name, value);
                let error = match read {
                    Some(Ok(())) => return Ok(()),
                    Some(Err(error)) => (at + name.len() + 1 + error.at, error.expected),
                    None => (at, nearest(name).unwrap_or("ppn=, gpus= or a property")),
                };
                let error = ParseError::new(self.text, error.0, error.1);
                return Err(error.in_class(ErrorClass::InvalidSyntax));
            }
            None if self.has_gpus && item.eq_ignore_ascii_case("reseterr") => {
                self.chunk.resets_errors = true;
            }
            None if self.has_gpus && GpuMode::from_word(item).is_some() => {
                self.chunk.gpu_mode = GpuMode::from_word(item);
                // The other word for this mode, `default`, says nothing of others.
                self.chunk.cards.is_shared = item.eq_ignore_ascii_case("shared");
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
/// are names; a name begins with a letter and goes on with letters, digits and `-.=_`. Ours goes on with `|` and
/// another name, with `>=` behind a word of cards, and begins with a digit when it can be the model of a card.
fn check_characters(text: &str) -> Result<(), ParseError> {
    let mut item = Item::default();
    let mut is_behind_parts = false;
    let bytes = text.as_bytes();
    for at in 0..=bytes.len() {
        let Some(byte) = bytes.get(at) else {
            return check_item(text, &item, at);
        };
        match byte {
            b':' | b'+' | b'#' => {
                check_item(text, &item, at)?;
                if *byte == b'+' && is_behind_parts {
                    return Err(ParseError::new(text, at, "`:`, `#` or the end"));
                }
                is_behind_parts |= *byte == b'#';
                let own = &text[item.start..at];
                item = Item {
                    start: at + 1,
                    is_first: *byte == b'+',
                    // A suffix counts for every part, so that some part may have cards.
                    has_gpus: *byte != b'+' && (item.has_gpus || own.starts_with("gpus=")),
                };
            }
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'=' | b'_' => {}
            b'>' if text[at..].starts_with(">=") && !item.is_first => {
                let name = &text[item.start..at];
                if !["gpumem", "cuda", "cc"].contains(&name) {
                    let expected = nearest(name).unwrap_or("gpumem>=, cuda>= or cc>=");
                    return Err(ParseError::new(text, at, expected));
                }
            }
            b'|' if !item.is_first && !text[item.start..at].contains('=') => {}
            _ => return Err(ParseError::new(text, at, "letters, digits, `:`, `+`, `=`")),
        }
    }
    Ok(())
}

/// The item of a request at which the check of characters is.
struct Item {
    start: usize,
    is_first: bool,
    /// Behind a `gpus=`.
    has_gpus: bool,
}

impl Default for Item {
    fn default() -> Self {
        Self {
            start: 0,
            is_first: true,
            has_gpus: false,
        }
    }
}

fn check_item(text: &str, item: &Item, end: usize) -> Result<(), ParseError> {
    let start = item.start;
    let fail = |at, expected| Err(ParseError::new(text, at, expected));
    let own = &text[start..end];
    if item.is_first {
        return match own.as_bytes().first() {
            Some(letter) if letter.is_ascii_alphabetic() => Ok(()),
            Some(digit) if digit.is_ascii_digit() => {
                match own.bytes().position(|b| !b.is_ascii_digit()) {
                    Some(at) => fail(start + at, "`:`, `+` or the end"),
                    None => Ok(()),
                }
            }
            Some(_) | None => fail(start, "a number of nodes, a node or a property"),
        };
    }
    let mut at = start;
    for (nth, word) in alternatives(own).enumerate() {
        let is_word = match word.as_bytes().first() {
            Some(letter) if letter.is_ascii_alphabetic() => true,
            Some(digit) => item.has_gpus && digit.is_ascii_digit() && word.len() >= MODEL_BYTES_MIN,
            None => false,
        };
        if !is_word {
            return fail(at, "ppn=, gpus= or a property");
        }
        if nth == ALTERNATIVES_MAX {
            return fail(at, "at most 16 alternatives");
        }
        at += word.len() + 1;
    }
    Ok(())
}

/// The shortest model that begins with a digit: `3090`. A shorter number is a slip.
const MODEL_BYTES_MIN: usize = 3;

/// The word of this grammar that is most like what was typed.
fn nearest(name: &str) -> Option<&'static str> {
    nearest_word(name, &["ppn=", "gpus=", "gpumem>=", "cuda>=", "cc>="])
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
mod tests;
