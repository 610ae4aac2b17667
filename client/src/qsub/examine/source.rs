//! Where in the script, or on the command line, each word of an option stands. Lines count and words part by the rules of
//! `capstan_types::directives` and of the command line; a test holds the two together.

use crate::getopt::{Item, Opt, lacks_value, long_with_value};

use super::finding::{Spot, Where};

/// A word, and where each of its bytes stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Word {
    pub(super) text: String,
    /// One for each byte of the text, and one for its end.
    spots: Vec<Spot>,
}

impl Word {
    /// Where its byte `at` stands.
    pub(super) fn spot(&self, at: usize) -> Option<Spot> {
        self.spots.get(at.min(self.text.len())).copied()
    }

    /// The part from byte `at` on.
    fn from(&self, at: usize) -> Self {
        Self {
            text: self.text.get(at..).unwrap_or_default().to_owned(),
            spots: self.spots.get(at..).unwrap_or_default().to_vec(),
        }
    }

    fn push(&mut self, c: char, spot: Spot) {
        self.text.push(c);
        self.spots.extend((0..c.len_utf8()).map(|_| spot));
    }

    fn end(&mut self, spot: Spot) {
        self.spots.push(spot);
    }

    fn append(&mut self, other: &Self) {
        self.spots.truncate(self.text.len());
        self.text.push_str(&other.text);
        self.spots.extend_from_slice(&other.spots);
    }
}

/// The words of a line of directives; or where a quote stands that is not closed.
type Directive = Result<Vec<Word>, Spot>;

/// A script, looked through.
#[derive(Clone, Debug, Default)]
pub(super) struct Scanned {
    /// Its lines, without their ends.
    pub(super) lines: Vec<String>,
    pub(super) directives: Vec<Directive>,
    /// The first line that a shell runs, from 0: directives behind it are ignored.
    pub(super) body: Option<usize>,
}

/// Looks through a script whose directives begin with `prefix`.
pub(super) fn scan(script: &[u8], prefix: &str) -> Scanned {
    let script = script.strip_prefix(b"\xef\xbb\xbf").unwrap_or(script);
    let lines = script.split(|byte| *byte == b'\n');
    let lines = lines.map(|line| line.strip_suffix(b"\r").unwrap_or(line));
    let lines: Vec<String> = lines
        .map(|line| String::from_utf8_lossy(line).into_owned())
        .collect();
    let mut scanned = Scanned::default();
    let mut next = 0;
    while let Some(text) = lines.get(next) {
        let line = next;
        next += 1;
        let blank = text.len() - trimmed(text).len();
        let arguments = text[blank..].strip_prefix(prefix);
        let Some(arguments) = arguments.filter(|_| !prefix.is_empty()) else {
            if is_executable(text) {
                scanned.body = Some(line);
                break;
            }
            continue;
        };
        let mut typed = Typed::default();
        typed.add(arguments, line, text.len() - arguments.len());
        while typed.drop_backslash() {
            let Some(text) = lines.get(next) else { break };
            typed.add(text, next, 0);
            next += 1;
        }
        scanned.directives.push(typed.words().map(glued));
    }
    scanned.lines = lines;
    scanned
}

fn trimmed(text: &str) -> &str {
    text.trim_start_matches(|c: char| c.is_ascii_whitespace())
}

/// Whether a shell would run this line; one that starts with `:` counts as a comment, as in Torque.
pub(super) fn is_executable(line: &str) -> bool {
    let text = trimmed(line);
    !text.is_empty() && !text.starts_with('#') && !line.starts_with(':')
}

/// Letters, each with its place.
#[derive(Debug, Default)]
struct Typed(Vec<(char, Spot)>, Option<Spot>);

impl Typed {
    fn add(&mut self, text: &str, line: usize, from: usize) {
        let spot = |at: usize| Spot {
            within: Where::Script,
            line,
            at: from + at,
        };
        self.0
            .extend(text.char_indices().map(|(at, c)| (c, spot(at))));
        self.1 = Some(spot(text.len()));
    }

    /// Takes a backslash at the end away; whether there was one.
    fn drop_backslash(&mut self) -> bool {
        match self.0.last() {
            Some(('\\', spot)) => {
                self.1 = Some(*spot);
                self.0.pop();
                true
            }
            Some(_) | None => false,
        }
    }

    /// The words; or the quote that is not closed.
    fn words(&self) -> Result<Vec<Word>, Spot> {
        let mut words = Vec::new();
        let mut current: Option<Word> = None;
        let mut letters = self.0.iter().copied();
        while let Some((c, spot)) = letters.next() {
            match c {
                '\'' | '"' => {
                    let word = current.get_or_insert_default();
                    loop {
                        match letters.next() {
                            Some((inside, _)) if inside == c => break,
                            Some((inside, at)) => word.push(inside, at),
                            None => return Err(spot),
                        }
                    }
                }
                '\\' => {
                    let (c, at) = letters.next().unwrap_or(('\\', spot));
                    current.get_or_insert_default().push(c, at);
                }
                ' ' | '\t' | '\n' | '\r' | '\u{b}' | '\u{c}' => {
                    if let Some(mut word) = current.take() {
                        word.end(spot);
                        words.push(word);
                    }
                }
                c => current.get_or_insert_default().push(c, spot),
            }
        }
        if let (Some(mut word), Some(end)) = (current, self.1) {
            word.end(end);
            words.push(word);
        }
        Ok(words)
    }
}

/// A lone `=` joins its neighbours, in directives.
fn glued(words: Vec<Word>) -> Vec<Word> {
    let mut glued: Vec<Word> = Vec::with_capacity(words.len());
    let mut is_open = false;
    for word in words {
        let is_joint = word.text == "=" && !glued.is_empty();
        match glued.last_mut() {
            Some(last) if is_joint || is_open => last.append(&word),
            _ => glued.push(word),
        }
        is_open = is_joint;
    }
    glued
}

/// The command line as somebody would type it, and its words in it.
pub(super) fn command_line(program: &str, arguments: &[String]) -> (String, Vec<Word>) {
    let mut line = program.to_owned();
    let mut words = Vec::with_capacity(arguments.len());
    let is_plain = |c: char| c.is_alphanumeric() || "/._-+,:@%=#[]".contains(c);
    for argument in arguments {
        line.push(' ');
        let quote = match !argument.is_empty() && argument.chars().all(is_plain) {
            true => "",
            false => "'",
        };
        line.push_str(quote);
        let mut word = Word::default();
        let spot = |line: &str| Spot {
            within: Where::CommandLine,
            line: 0,
            at: line.len(),
        };
        for c in argument.chars() {
            word.push(c, spot(&line));
            line.push(c);
        }
        word.end(spot(&line));
        line.push_str(quote);
        words.push(word);
    }
    (line, words)
}

/// An option, and where it stands.
#[derive(Clone, Debug)]
pub(super) struct Placed {
    pub(super) item: Item,
    /// The word that it begins in.
    pub(super) word: Word,
    /// Where in that word its letter is.
    pub(super) letter_at: usize,
    /// Its argument.
    pub(super) value: Option<Word>,
}

impl Placed {
    /// Its letter; of what is no option, the letter that is none.
    pub(super) fn letter(&self) -> Option<char> {
        match &self.item {
            Item::Flag(letter) | Item::Value(letter, _) => Some(*letter),
            Item::Problem(_) => self.word.text.get(self.letter_at..)?.chars().next(),
        }
    }

    /// Where it begins, and how long it is: its argument if it has one.
    pub(super) fn spot(&self) -> Option<(Spot, usize)> {
        match &self.value {
            Some(value) => Some((value.spot(0)?, value.text.len().max(1))),
            None => Some((self.word.spot(self.letter_at)?, 1)),
        }
    }
}

/// The options among these words, as [`crate::getopt::parse`] finds them.
pub(super) fn placed(program: &str, options: &[Opt], words: &[Word]) -> Vec<Placed> {
    let mut found = Vec::new();
    let mut rest = words.iter();
    while let Some(word) = rest.next() {
        if word.text == "--" {
            break;
        }
        if let Some(name) = long_with_value(options, &word.text) {
            let value = rest.next().cloned();
            let item = match &value {
                Some(value) => Item::Value('-', format!("{name}={}", value.text)),
                None => Item::Problem(lacks_value(program, name)),
            };
            found.push(Placed {
                item,
                word: word.clone(),
                letter_at: 1,
                value,
            });
            continue;
        }
        let Some(cluster) = word.text.strip_prefix('-').filter(|rest| !rest.is_empty()) else {
            continue;
        };
        for (at, letter) in cluster.char_indices() {
            let letter_at = at + 1;
            let one = |item: Item, value: Option<Word>| Placed {
                item,
                word: word.clone(),
                letter_at,
                value,
            };
            let Some(option) = options.iter().find(|option| option.letter == letter) else {
                let problem = format!("{program}: invalid option -- '{letter}'");
                found.push(one(Item::Problem(problem), None));
                continue;
            };
            if option.argument.is_none() {
                found.push(one(Item::Flag(letter), None));
                continue;
            }
            let behind = letter_at + letter.len_utf8();
            let value = match word.text.len() > behind {
                true => Some(word.from(behind)),
                false => rest.next().cloned(),
            };
            found.push(match value {
                Some(value) => one(Item::Value(letter, value.text.clone()), Some(value)),
                None => {
                    let problem = format!("{program}: option requires an argument -- '{letter}'");
                    one(Item::Problem(problem), None)
                }
            });
            break;
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::getopt;
    use crate::qsub::options::OPTIONS;
    use proptest::prelude::*;

    fn texts(words: &[Word]) -> Vec<String> {
        words.iter().map(|word| word.text.clone()).collect()
    }

    #[test]
    fn a_byte_of_a_word_is_found_in_its_line() {
        let scanned = scan(
            b"#!/bin/sh\n#PBS -N 'a b' \\\n -l x=\\ y\ntrue\n#PBS -h\n",
            "#PBS",
        );
        assert_eq!(scanned.body, Some(3));
        let words = scanned.directives[0].clone().unwrap();
        assert_eq!(texts(&words), ["-N", "a b", "-l", "x= y"]);
        let spot = |word: usize, at: usize| {
            let spot = words[word].spot(at).unwrap();
            (spot.line, spot.at)
        };
        assert_eq!((spot(1, 0), spot(1, 2)), ((1, 9), (1, 11)));
        assert_eq!(
            (spot(3, 0), spot(3, 2), spot(3, 3)),
            ((2, 4), (2, 7), (2, 8))
        );
        assert_eq!(spot(3, 99), (2, 9));
    }

    #[test]
    fn an_open_quote_is_found() {
        let scanned = scan(b"\n#PBS -N \"x\n", "#PBS");
        let spot = scanned.directives[0].clone().unwrap_err();
        assert_eq!((spot.line, spot.at), (1, 8));
    }

    #[test]
    fn a_command_line_is_shown_as_it_would_be_typed() {
        let arguments = ["-N", "a b", "-lnodes=1", ""].map(str::to_owned);
        let (line, words) = command_line("qsub", &arguments);
        assert_eq!(line, "qsub -N 'a b' -lnodes=1 ''");
        assert_eq!(words[1].spot(2).unwrap().at, 11);
        let placed = placed("qsub", OPTIONS, &words);
        let value = placed[1].value.clone().unwrap();
        assert_eq!(
            (value.text.as_str(), value.spot(0).unwrap().at),
            ("nodes=1", 16)
        );
    }

    proptest! {
        #[test]
        fn words_are_those_of_the_directives(
            script in "(\u{feff})?(#PBS[ -~\t]{0,30}\\\\?\r?\n|[\\PC\n]{0,20}){0,5}",
        ) {
            let scanned = scan(script.as_bytes(), "#PBS");
            match capstan_types::directives(script.as_bytes(), "#PBS") {
                Ok(expected) => {
                    prop_assert_eq!(scanned.directives.len(), expected.len());
                    for (seen, expected) in scanned.directives.iter().zip(expected) {
                        let glued = crate::qsub::script::with_glued_equals(expected.arguments);
                        prop_assert_eq!(texts(seen.as_ref().unwrap()), glued);
                    }
                }
                Err(error) => {
                    let mut open = scanned.directives.iter().filter_map(|words| words.as_ref().err());
                    prop_assert!(open.next().is_some_and(|spot| spot.line + 1 >= error.line));
                }
            }
        }

        #[test]
        fn options_are_those_of_getopt(
            arguments in proptest::collection::vec("(-|--|-[a-zA-Z-]{0,3})?\\PC{0,6}", 0..8),
        ) {
            let (_, words) = command_line("qsub", &arguments);
            let expected = getopt::parse("qsub", OPTIONS, &arguments).items;
            let seen: Vec<Item> = placed("qsub", OPTIONS, &words).into_iter().map(|one| one.item).collect();
            prop_assert_eq!(seen, expected);
        }
    }
}
