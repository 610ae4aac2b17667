//! Attributes of queues and the server whose text has a grammar of its own: lists of shares, weights and limits, spans of
//! time, numbers with a point. What cannot be read is refused when it is set, so that nobody wonders later.

use capstan_types::{AttributeError, Attributes, Hours, WarningSignal, is_image_name};

use super::ManageProblem;
use crate::model::limit::{EXCEPTIONS, LimitException};
use crate::model::share_policy::{read_entry, read_secs, read_thousandths};
use crate::plan::OWNING_QUEUES_MAX;
use crate::{Preemptable, Settings};

/// Comma lists of `NAME=NUMBER`.
const ENTRIES: [&str; 6] = [
    "guaranteed_cards",
    "fairshare_shares",
    "fairshare_card_weights",
    "max_cards_of",
    "max_user_cards_of",
    "max_group_cards_of",
];
/// Seconds, or `[DD:]HH:MM:SS`.
const SPANS: [&str; 2] = ["fairshare_half_life", "card_hours_window"];
/// Hours of the week.
const HOURS: [&str; 1] = ["active_hours"];
/// Numbers with at most three digits behind the point.
const NUMBERS: [&str; 1] = ["fairshare_core_weight"];

/// Seconds, which are not negative.
const SECONDS: [&str; 5] = [
    "preempt_grace",
    "preempt_after",
    "preempt_again_after",
    "interactive_keep",
    "interactive_idle",
];

/// Whether no more queues have nodes of their own than plans tell apart.
pub(super) fn check_owners(settings: &Settings) -> Result<(), ManageProblem> {
    let queues = settings.queues.values();
    let owning = queues.filter(|queue| !queue.attributes.list("own_nodes").is_empty());
    match owning.count() > OWNING_QUEUES_MAX {
        true => Err(ManageProblem::TooLarge {
            attribute: "own_nodes".into(),
        }),
        false => Ok(()),
    }
}

/// Whether all of them can be read.
pub(super) fn check(attributes: &Attributes) -> Result<(), ManageProblem> {
    let bad = |attribute: &str, value: &str| {
        let (attribute, value) = (attribute.into(), value.into());
        ManageProblem::from(AttributeError::BadValue { attribute, value })
    };
    for name in ENTRIES {
        let mut entries = attributes.list(name).iter();
        if let Some(entry) = entries.find(|entry| read_entry(entry).is_none()) {
            return Err(bad(name, entry));
        }
    }
    let mut exceptions = attributes.list(EXCEPTIONS).iter();
    if let Some(entry) = exceptions.find(|entry| LimitException::read(entry).is_none()) {
        return Err(bad(EXCEPTIONS, entry));
    }
    for name in SECONDS {
        if let Some(secs) = attributes.integer(name).filter(|secs| *secs < 0) {
            return Err(bad(name, &secs.to_string()));
        }
    }
    for (names, is_good) in [
        (
            &SPANS[..],
            (|text| read_secs(text).is_some()) as fn(&str) -> bool,
        ),
        (&HOURS[..], |text| Hours::parse(text).is_ok()),
        (&NUMBERS[..], |text| read_thousandths(text).is_some()),
        (&["preemptable"], |text| Preemptable::parse(text).is_some()),
        (&["warning_signal"], |text| {
            WarningSignal::parse(text).is_ok()
        }),
        (&["containers"], |text| {
            matches!(text, "required" | "optional")
        }),
        (&["default_image"], is_image_name),
    ] {
        for name in names {
            if let Some(text) = attributes.text(name).filter(|text| !is_good(text)) {
                return Err(bad(name, text));
            }
        }
    }
    Ok(())
}
