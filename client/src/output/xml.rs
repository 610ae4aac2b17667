//! The XML of `qstat -x` and `pbsnodes -x`: everything on one line, resources nested in their list.

use std::borrow::Cow;

use capstan_proto::wire::Attribute;
use quick_xml::escape::escape;

/// What `qstat -x` begins with; `pbsnodes -x` has no such line.
pub(crate) const DECLARATION: &str = "<?xml version=\"1.0\"?>\n";

/// Appends `<TAG>…</TAG>` with the text escaped.
pub(crate) fn element(out: &mut Vec<u8>, tag: &str, text: &str) {
    open(out, tag);
    escaped(out, text);
    close(out, tag);
}

/// Appends attributes in order; neighbours of one name with resources share one element.
pub(crate) fn attributes(out: &mut Vec<u8>, attributes: &[Attribute]) {
    let mut list = "";
    for Attribute {
        name,
        resource,
        value,
    } in attributes
    {
        let nested = if resource.is_empty() {
            ""
        } else {
            name.as_str()
        };
        if nested != list {
            if !list.is_empty() {
                close(out, list);
            }
            if !nested.is_empty() {
                open(out, nested);
            }
            list = nested;
        }
        element(
            out,
            if resource.is_empty() { name } else { resource },
            value,
        );
    }
    if !list.is_empty() {
        close(out, list);
    }
}

/// Appends `<TAG>`.
pub(crate) fn open(out: &mut Vec<u8>, tag: &str) {
    for text in ["<", tag, ">"] {
        out.extend_from_slice(text.as_bytes());
    }
}

/// Appends `</TAG>`.
pub(crate) fn close(out: &mut Vec<u8>, tag: &str) {
    for text in ["</", tag, ">"] {
        out.extend_from_slice(text.as_bytes());
    }
}

fn escaped(out: &mut Vec<u8>, text: &str) {
    // XML 1.0 has no way to write other control characters, escaped or not.
    let is_writable = |c: char| !c.is_control() || matches!(c, '\t' | '\n' | '\r');
    let writable: Cow<'_, str> = match text.chars().all(is_writable) {
        true => text.into(),
        false => text.replace(|c| !is_writable(c), " ").into(),
    };
    out.extend_from_slice(escape(&*writable).as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resources_nest_and_text_is_escaped() {
        let attribute = |name: &str, resource: &str, value: &str| Attribute {
            name: name.into(),
            resource: resource.into(),
            value: value.into(),
        };
        let mut out = Vec::new();
        attributes(
            &mut out,
            &[
                attribute("Rerunable", "", "True"),
                attribute("Resource_List", "nodes", "1"),
                attribute("Resource_List", "walltime", "01:00:00"),
                attribute("submit_args", "", "-v A=<b>&\"'\u{1b}"),
                attribute("Walltime", "Remaining", "9"),
            ],
        );
        let expected = "<Rerunable>True</Rerunable><Resource_List><nodes>1</nodes><walltime>01:00:00</walltime></Resource_List>\
            <submit_args>-v A=&lt;b&gt;&amp;&quot;&apos; </submit_args><Walltime><Remaining>9</Remaining></Walltime>";
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }
}
