//! The listings of `pbsnodes`.

use capstan_proto::wire::NodeRow;

use super::{pad, xml};

/// Appends a node's block: its name, its attributes, an empty line. Attributes that are unknown (`?`) are left out.
pub(crate) fn block(out: &mut Vec<u8>, node: &NodeRow) {
    out.extend_from_slice(node.name.as_bytes());
    out.push(b'\n');
    for attribute in node
        .attributes
        .iter()
        .filter(|attribute| !attribute.value.starts_with('?'))
    {
        out.extend_from_slice(b"     ");
        out.extend_from_slice(attribute.name.as_bytes());
        if !attribute.resource.is_empty() {
            out.push(b'.');
            out.extend_from_slice(attribute.resource.as_bytes());
        }
        for text in [" = ", &attribute.value, "\n"] {
            out.extend_from_slice(text.as_bytes());
        }
    }
    out.push(b'\n');
}

/// Appends a node's line of `pbsnodes -l`, with its note for `-n`.
pub(crate) fn line(out: &mut Vec<u8>, node: &NodeRow, with_note: bool) {
    pad::left(out, &node.name, 20, 20);
    out.push(b' ');
    match with_note {
        true => {
            pad::left(out, &node.state, 26, 26);
            out.push(b' ');
            out.extend_from_slice(node.note.as_bytes());
        }
        false => out.extend_from_slice(node.state.as_bytes()),
    }
    out.push(b'\n');
}

/// Appends all nodes as XML.
pub(crate) fn document(out: &mut Vec<u8>, nodes: &[NodeRow]) {
    xml::open(out, "Data");
    for node in nodes {
        xml::open(out, "Node");
        xml::element(out, "name", &node.name);
        xml::attributes(out, &node.attributes);
        xml::close(out, "Node");
    }
    xml::close(out, "Data");
    out.push(b'\n');
}

#[cfg(test)]
mod tests {
    use super::*;
    use capstan_proto::wire::Attribute;

    fn node() -> NodeRow {
        let attribute = |name: &str, value: &str| Attribute {
            name: name.into(),
            resource: String::new(),
            value: value.into(),
        };
        NodeRow {
            name: "gpu01".into(),
            state: "free".into(),
            note: "a note".into(),
            attributes: vec![
                attribute("state", "free"),
                attribute("np", "4"),
                attribute("properties", "gpu,fast"),
                attribute("power_state", "?"),
                attribute("jobs", "0-1/374.hn1"),
            ],
            ..NodeRow::default()
        }
    }

    #[test]
    fn a_node_is_listed_as_recorded() {
        let mut out = Vec::new();
        block(&mut out, &node());
        let expected = "gpu01\n     state = free\n     np = 4\n     properties = gpu,fast\n     jobs = 0-1/374.hn1\n\n";
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }

    #[test]
    fn lines_are_as_recorded() {
        let mut out = Vec::new();
        line(&mut out, &node(), false);
        line(&mut out, &node(), true);
        let expected =
            "gpu01                free\ngpu01                free                       a note\n";
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }
}
