//! What agents say of images: what attempts and waiting jobs wait for, short names, what came of an order.

use std::collections::BTreeMap;

use capstan_core::{Event, ImageProblem, ImageReport, Inventory};
use capstan_proto::wire;
use capstan_types::{AttemptId, ImageAliases, NodeName};

use super::reading::{Unheard, field, text};

/// Most images on their way to one node that are shown.
const PULLS_MAX: usize = 64;

pub(super) fn waits(waits: Vec<wire::ImageWait>) -> BTreeMap<AttemptId, Box<str>> {
    let waits = waits.into_iter().map(|wait| {
        let wire::ImageWait { attempt, text } = wait;
        (AttemptId(attempt), self::text(text))
    });
    waits.collect()
}

/// # Errors
/// There are too many of them.
pub(super) fn offers(
    offers: Vec<wire::ImageOffer>,
) -> Result<BTreeMap<Box<str>, Box<str>>, Unheard> {
    if offers.len() > ImageAliases::COUNT_MAX {
        return Err(field("image_offers", "too long"));
    }
    let offers = offers.into_iter().map(|offer| {
        let wire::ImageOffer { name, image } = offer;
        (text(name), text(image))
    });
    Ok(offers.collect())
}

/// Images that only some users may use.
///
/// # Errors
/// There are too many of them, or of their users.
pub(super) fn private(
    images: Vec<wire::PrivateImage>,
) -> Result<BTreeMap<Box<str>, Vec<u32>>, Unheard> {
    if images.len() > Inventory::IMAGES_MAX {
        return Err(field("private_images", "too long"));
    }
    let images = images.into_iter().map(|image| {
        let wire::PrivateImage { name, uids } = image;
        match uids.len() > Inventory::OWNERS_MAX {
            true => Err(field("uids of a private image", "too long")),
            false => Ok((text(name), uids)),
        }
    });
    images.collect()
}

/// How far images are, by name and the user on whose terms they come.
pub(super) fn pulls(pulls: Vec<wire::ImagePull>) -> BTreeMap<(Box<str>, u32), Box<str>> {
    let pulls = pulls.into_iter().take(PULLS_MAX).map(|pull| {
        let wire::ImagePull { image, uid, text } = pull;
        ((self::text(image), uid), self::text(text))
    });
    pulls.collect()
}

/// What came of an order.
pub(super) fn report(node: &NodeName, said: wire::ImageReport) -> Event {
    let wire::ImageReport {
        image,
        uid,
        problem,
        is_lasting,
    } = said;
    let text = text(problem);
    let problem = (!text.is_empty()).then_some(ImageProblem { text, is_lasting });
    Event::ImagePrepared {
        node: node.clone(),
        report: ImageReport {
            image: self::text(image),
            uid,
            problem,
        },
    }
}
