//! How the agent and the process that holds a terminal talk: the words of the protocol, each behind its length.

use std::io;

use prost::Message;

/// Longest word: a piece of output and what stands around it.
pub(in crate::attempts) const FRAME_BYTES_MAX: usize = 16 << 10;
const LENGTH_BYTES: usize = 4;

/// Puts a word behind others.
pub(in crate::attempts) fn put(word: &impl Message, into: &mut Vec<u8>) {
    let length = u32::try_from(word.encoded_len()).unwrap_or(u32::MAX);
    into.extend_from_slice(&length.to_le_bytes());
    into.extend_from_slice(&word.encode_to_vec());
}

/// Takes the first word off `from`; none while it is not whole.
///
/// # Errors
/// What is there is no word.
pub(in crate::attempts) fn take<M: Message + Default>(from: &mut Vec<u8>) -> io::Result<Option<M>> {
    let Some((length, rest)) = from.split_first_chunk::<LENGTH_BYTES>() else {
        return Ok(None);
    };
    let length = u32::from_le_bytes(*length) as usize;
    if length > FRAME_BYTES_MAX {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let Some(body) = rest.get(..length) else {
        return Ok(None);
    };
    let word = M::decode(body).map_err(io::Error::other)?;
    from.drain(..LENGTH_BYTES + length);
    Ok(Some(word))
}

#[cfg(test)]
mod tests {
    use capstan_proto::wire::{TerminalInput, terminal_input::Input};

    use super::*;

    #[test]
    fn words_are_taken_whole_however_they_arrive() {
        let word = |text: &str| TerminalInput {
            input: Some(Input::Keys(text.as_bytes().to_vec())),
        };
        let mut bytes = Vec::new();
        put(&word("one"), &mut bytes);
        put(&word("two"), &mut bytes);
        let mut arrived = Vec::new();
        let mut seen = Vec::new();
        for byte in bytes {
            arrived.push(byte);
            seen.extend(take::<TerminalInput>(&mut arrived).expect("words"));
        }
        assert_eq!(seen, [word("one"), word("two")]);
        assert!(arrived.is_empty());
    }

    #[test]
    fn a_length_that_no_word_has_is_an_error() {
        let mut bytes = u32::MAX.to_le_bytes().to_vec();
        assert!(take::<TerminalInput>(&mut bytes).is_err());
    }
}
