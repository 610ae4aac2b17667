//! The XML that Torque 6 writes, as a small tree with line numbers. Attributes of elements are not used there.

use quick_xml::Reader;
use quick_xml::events::Event;

use super::finding::{Damage, Place};

/// Torque nests four deep; more is not Torque's.
const DEPTH_MAX: usize = 8;
/// Elements of one file.
const ELEMENTS_MAX: usize = 100_000;

/// An element.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Element {
    /// Its tag.
    pub(super) name: String,
    /// Where it begins, counted from one.
    pub(super) line: usize,
    /// Its own text without blanks around it.
    pub(super) text: String,
    /// The elements in it.
    pub(super) children: Vec<Element>,
}

/// Reads a document of one element.
///
/// # Errors
/// Where it is no XML, goes too deep, or ends too early.
pub(super) fn read(file: &str, text: &str) -> Result<Element, Damage> {
    let mut reader = Reader::from_str(text);
    // What is open, the outermost first.
    let mut open: Vec<Element> = Vec::new();
    let mut lines = Lines {
        text,
        at: 0,
        line: 1,
    };
    let mut elements = 0;
    loop {
        let event = reader.read_event();
        let line = lines.at(reader.buffer_position());
        let damage = |what: String| Damage::new(Place::line(file, line), what);
        match event.map_err(|error| damage(format!("is no XML: {error}")))? {
            Event::Start(start) => {
                elements += 1;
                if open.len() == DEPTH_MAX || elements > ELEMENTS_MAX {
                    return Err(damage("this is not how Torque writes its files".to_owned()));
                }
                open.push(Element {
                    name: start.name().0.to_owned(),
                    line,
                    ..Element::default()
                });
            }
            Event::Empty(empty) => {
                let element = Element {
                    name: empty.name().0.to_owned(),
                    line,
                    ..Element::default()
                };
                match open.last_mut() {
                    Some(parent) => parent.children.push(element),
                    None => return Ok(element),
                }
            }
            Event::Text(part) => add(&mut open, &part.xml10_content()),
            Event::CData(part) => add(&mut open, &part.xml10_content()),
            Event::GeneralRef(name) => {
                let character = match name.resolve_char_ref() {
                    Ok(Some(character)) => character.to_string(),
                    Ok(None) => named(&name).map_err(damage)?.to_owned(),
                    Err(error) => return Err(damage(format!("is no XML: {error}"))),
                };
                add(&mut open, &character);
            }
            Event::End(_) => {
                let Some(mut element) = open.pop() else {
                    return Err(damage("an element ends that has not begun".to_owned()));
                };
                element.text = element.text.trim().to_owned();
                match open.last_mut() {
                    Some(parent) => parent.children.push(element),
                    None => return Ok(element),
                }
            }
            Event::Eof => {
                let what = open.last().map_or("is empty".to_owned(), |last| {
                    format!(
                        "ends within <{}>, which begins in line {}",
                        last.name, last.line
                    )
                });
                return Err(damage(what));
            }
            Event::Comment(_) | Event::Decl(_) | Event::PI(_) | Event::DocType(_) => {}
        }
    }
}

fn add(open: &mut [Element], text: &str) {
    if let Some(element) = open.last_mut() {
        element.text.push_str(text);
    }
}

fn named(name: &str) -> Result<&'static str, String> {
    match name {
        "lt" => Ok("<"),
        "gt" => Ok(">"),
        "amp" => Ok("&"),
        "quot" => Ok("\""),
        "apos" => Ok("'"),
        _ => Err(format!(
            "is no XML: there is no entity &{};",
            name.escape_debug()
        )),
    }
}

/// Counts lines as the reader goes on.
struct Lines<'a> {
    text: &'a str,
    at: usize,
    line: usize,
}

impl Lines<'_> {
    fn at(&mut self, position: u64) -> usize {
        let end = usize::try_from(position)
            .unwrap_or(self.text.len())
            .min(self.text.len());
        let passed = self.text.as_bytes().get(self.at..end).unwrap_or_default();
        // A line's end behind what was read last belongs to the line that it ends.
        let ends = passed.iter().filter(|&&byte| byte == b'\n').count();
        (self.at, self.line) = (end.max(self.at), self.line + ends);
        self.line
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn elements_have_lines_texts_and_children() {
        let text =
            "<?xml version=\"1.0\"?>\n<a>\n<b> x &lt;&amp;&#65; </b>\n<c>\n\t<d>1</d>\n</c>\n</a>";
        let tree = read("f", text).unwrap();
        let told: Vec<_> = tree
            .children
            .iter()
            .map(|e| (e.name.as_str(), e.line, e.text.as_str()))
            .collect();
        assert_eq!((tree.name.as_str(), tree.line), ("a", 2));
        assert_eq!(told, [("b", 3, "x <&A"), ("c", 4, "")]);
        assert_eq!(tree.children[1].children[0].text, "1");
    }

    #[test]
    fn damage_is_named_with_its_line() {
        let check = |text: &str, line: usize, what: &str| {
            let damage = read("f", text).unwrap_err();
            assert_eq!(damage.place, Place::line("f", line), "{text:?}");
            assert!(damage.what.contains(what), "{}", damage.what);
        };
        check("<a>\n<b>\n</a>", 3, "is no XML");
        check(
            "<a>\n<b>1</b>\n",
            3,
            "ends within <a>, which begins in line 1",
        );
        check("<a>\n&nosuch;</a>", 2, "no entity");
        check("", 1, "is empty");
        check(&"<a>".repeat(9), 1, "not how Torque writes");
    }

    proptest! {
        #[test]
        fn any_text_is_a_tree_or_damage(text in "(</?[ab]>|<|&|&lt;|[a-z\n ]|\\PC){0,40}") {
            let damage = read("f", &text).err();
            prop_assert!(damage.is_none_or(|damage| !damage.what.is_empty()));
        }
    }
}
