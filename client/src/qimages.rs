//! `qimages`: which images nodes hold, and the short names that the site offers.

use std::io::Write;

use capstan_proto::wire::{ImageRow, StatImagesReply, StatImagesRequest};

use crate::command::{Call, Failure, exit_status, refusal};
use crate::door::{self, Doors};
use crate::getopt::Opt;
use crate::output::json;
use crate::output::screen::Screen;

/// The options of `qimages`.
pub(crate) const OPTIONS: &[Opt] = &[Opt::value('-', "json", "As JSON")];

const USAGE: &str = "usage: qimages [--json] [part of a name]";
/// Nodes that are named one by one; of more only the number is told.
const NODES_NAMED_MAX: usize = 4;

/// Lists images.
///
/// # Errors
/// Misuse, a server that is not there.
pub(crate) async fn run<W: Write>(call: &Call, screen: &mut Screen<W>) -> Result<u8, Failure> {
    let parsed = call.parse(OPTIONS);
    let long = parsed.value('-');
    let misused = parsed.problems().next().is_some()
        || parsed.operands.len() > 1
        || long.is_some_and(|word| word != "json");
    if misused {
        return Err(Failure::new(2, USAGE));
    }
    let part = parsed.operands.first().cloned().unwrap_or_default();
    let mut doors = Doors::new(call, door::patience(None, &call.env));
    let request = StatImagesRequest { part };
    let reply = match doors.to("").await?.stat_images(request).await {
        Ok(reply) => reply.into_inner(),
        Err(status) => {
            let refusal = refusal(&status);
            let text = format!("qimages: {}", refusal.text());
            return Err(Failure::new(exit_status(refusal.error), text));
        }
    };
    match long {
        Some(_) => as_json(screen.out(), &reply),
        None => as_table(screen.out(), &reply),
    }
    if reply.truncated {
        screen.complain("qimages: there are more; name a part of what you look for");
    }
    Ok(0)
}

fn as_table(out: &mut Vec<u8>, reply: &StatImagesReply) {
    let engines = reply.engines;
    if reply.rows.is_empty() {
        let text = match engines {
            0 => "No node has a container engine that answers.\n",
            _ => "No node holds such an image, and no short name stands for one.\n",
        };
        return out.extend_from_slice(text.as_bytes());
    }
    let widest = |text: fn(&ImageRow) -> usize| reply.rows.iter().map(text).max().unwrap_or(0);
    let image_columns = widest(|row| row.image.chars().count()).max("Image".len());
    let name_columns = widest(|row| names(row).chars().count()).max("Short name".len());
    let mut line = |image: &str, name: &str, nodes: &str| {
        let line = format!("{image:<image_columns$}  {name:<name_columns$}  {nodes}");
        out.extend_from_slice(line.trim_end().as_bytes());
        out.push(b'\n');
    };
    line("Image", "Short name", "Nodes");
    line(
        &"-".repeat(image_columns),
        &"-".repeat(name_columns),
        "-----",
    );
    for row in &reply.rows {
        line(&row.image, &names(row), &nodes(row, engines));
    }
}

fn names(row: &ImageRow) -> String {
    row.names.join(", ")
}

fn nodes(row: &ImageRow, engines: u32) -> String {
    // A beginning of names is held by nobody.
    let is_beginning = row.image.ends_with('/');
    match row.nodes.len() {
        0 if is_beginning => String::new(),
        0 => "none (got when it is wanted)".to_owned(),
        count if count > NODES_NAMED_MAX => format!("{count} of {engines}"),
        _ => row.nodes.join(", "),
    }
}

fn as_json(out: &mut Vec<u8>, reply: &StatImagesReply) {
    let StatImagesReply { engines, rows, .. } = reply;
    out.extend_from_slice(format!("{{\"engines\":{engines},\"images\":[").as_bytes());
    for (at, row) in rows.iter().enumerate() {
        if at > 0 {
            out.push(b',');
        }
        out.extend_from_slice(b"{\"image\":");
        json::string(out, &row.image);
        out.extend_from_slice(b",\"names\":");
        list(out, &row.names);
        out.extend_from_slice(b",\"nodes\":");
        list(out, &row.nodes);
        out.push(b'}');
    }
    out.extend_from_slice(b"]}\n");
}

fn list(out: &mut Vec<u8>, words: &[String]) {
    out.push(b'[');
    for (at, word) in words.iter().enumerate() {
        if at > 0 {
            out.push(b',');
        }
        json::string(out, word);
    }
    out.push(b']');
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reply() -> StatImagesReply {
        let row = |image: &str, names: &[&str], nodes: &[&str]| ImageRow {
            image: image.to_owned(),
            names: names.iter().map(|&name| name.to_owned()).collect(),
            nodes: nodes.iter().map(|&node| node.to_owned()).collect(),
        };
        StatImagesReply {
            engines: 6,
            rows: vec![
                row("bit:5000/", &["@site/"], &[]),
                row("bit:5000/deepo:9", &["deepo", "dl"], &["n1", "n2"]),
                row("bit:5000/rare:1", &["rare"], &[]),
                row("busybox:latest", &[], &["n1", "n2", "n3", "n4", "n5"]),
            ],
            truncated: false,
        }
    }

    #[test]
    fn images_stand_with_their_short_names_and_their_nodes() {
        let mut out = Vec::new();
        as_table(&mut out, &reply());
        let expected = "\
Image             Short name  Nodes
----------------  ----------  -----
bit:5000/         @site/
bit:5000/deepo:9  deepo, dl   n1, n2
bit:5000/rare:1   rare        none (got when it is wanted)
busybox:latest                5 of 6
";
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }

    #[test]
    fn an_empty_list_says_why() {
        for (engines, word) in [(0, "container engine"), (3, "such an image")] {
            let mut out = Vec::new();
            let reply = StatImagesReply {
                engines,
                ..StatImagesReply::default()
            };
            as_table(&mut out, &reply);
            assert!(String::from_utf8(out).unwrap().contains(word));
        }
    }

    #[test]
    fn json_is_whole() {
        let mut out = Vec::new();
        as_json(&mut out, &reply());
        let value: serde_json::Value = serde_json::from_slice(&out).unwrap();
        assert_eq!(value["engines"], 6);
        assert_eq!(value["images"][1]["names"][1], "dl");
        assert_eq!(value["images"][3]["nodes"][4], "n5");
    }
}
