//! Images, as `qimages` shows them: which nodes hold which, and the short names that the site offers.

use std::collections::{BTreeMap, BTreeSet};

use capstan_core::Node;
use capstan_proto::wire;
use capstan_types::image_name;

use super::Scene;

/// The most rows of an answer.
const ROWS_MAX: usize = 5000;

/// What is known of one image.
#[derive(Default)]
struct Known<'a> {
    names: BTreeSet<Box<str>>,
    nodes: BTreeSet<&'a str>,
}

/// Who looks at images.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Looker {
    pub(crate) uid: u32,
    /// Managers and operators see those that came by anybody's own account.
    pub(crate) sees_all: bool,
}

/// Images that nodes hold or the site offers, with `part` in their name or in a short name, as far as the looker may know
/// of them: who works on what is told by names too.
pub(crate) fn images(scene: Scene<'_>, looker: Looker, part: &str) -> wire::StatImagesReply {
    let nodes: Vec<&Node> = scene.snapshot.state.nodes().map(AsRef::as_ref).collect();
    let mut known: BTreeMap<Box<str>, Known<'_>> = BTreeMap::new();
    for node in &nodes {
        let offers = scene.telemetry.of(&node.name);
        let offers = offers.iter().flat_map(|heard| &heard.image_offers);
        for (name, image) in offers {
            // The beginning of names stays as it is; an image is listed with the tag that is meant by none.
            let image = match image.ends_with('/') {
                true => image.clone(),
                false => image_name(image).into(),
            };
            known.entry(image).or_default().names.insert(name.clone());
        }
        for image in &node.inventory.images {
            if !looker.sees_all && !node.inventory.shows_image(image, looker.uid) {
                continue;
            }
            let holders = &mut known.entry(image.clone()).or_default().nodes;
            holders.insert(node.name.as_str());
        }
    }
    let has_part = |image: &str, known: &Known<'_>| {
        image.contains(part) || known.names.iter().any(|name| name.contains(part))
    };
    known.retain(|image, known| has_part(image, known));
    let truncated = known.len() > ROWS_MAX;
    let rows = known.into_iter().take(ROWS_MAX).map(|(image, known)| {
        let Known { names, nodes } = known;
        wire::ImageRow {
            image: image.into(),
            names: names.into_iter().map(String::from).collect(),
            nodes: nodes.into_iter().map(str::to_owned).collect(),
        }
    });
    let has_engine = |node: &&&Node| !node.inventory.engine.is_empty();
    wire::StatImagesReply {
        engines: u32::try_from(nodes.iter().filter(has_engine).count()).unwrap_or(u32::MAX),
        rows: rows.collect(),
        truncated,
    }
}
