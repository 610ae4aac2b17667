//! Values as PBS spells them: names of array members, slots and cards of an attempt, local times.

use std::borrow::Cow;
use std::fmt::Write;

use capstan_core::{Job, NodeShare};
use capstan_types::{Env, JobPart, ServerName, Timestamp};

/// `name`, or `name-3` for member 3 of an array.
pub(crate) fn job_name(job: &Job) -> Cow<'_, str> {
    match job.id.part {
        JobPart::Whole | JobPart::Array => Cow::Borrowed(&*job.spec.name),
        JobPart::Member(index) => Cow::Owned(format!("{}-{index}", job.spec.name)),
    }
}

/// `Variable_List`: what the server knows stands before and behind what the client sent.
pub(crate) fn variable_list<'a>(
    job: &'a Job,
    server: &'a ServerName,
    sent: &'a Env,
) -> impl Iterator<Item = (Cow<'a, str>, Cow<'a, str>)> {
    const OURS: [&str; 3] = ["PBS_ARRAYID", "PBS_O_QUEUE", "PBS_O_SERVER"];
    let index = match job.id.part {
        JobPart::Member(index) => Some((OURS[0].into(), index.to_string().into())),
        JobPart::Whole | JobPart::Array => None,
    };
    let is_whole = !job.spec.has_own_variables;
    let queue = is_whole.then(|| (OURS[1].into(), job.queue.as_str().into()));
    let sent = sent.iter().filter(|(name, _)| !OURS.contains(name));
    let sent = sent.map(|(name, value)| (name.into(), value.into()));
    let server = is_whole.then(|| (OURS[2].into(), server.as_str().into()));
    index.into_iter().chain(queue).chain(sent).chain(server)
}

/// `gpu02/0-1+gpu01/0-1`.
pub(crate) fn exec_host(shares: &[NodeShare]) -> String {
    let mut text = String::new();
    for share in shares {
        let plus = if text.is_empty() { "" } else { "+" };
        put(&mut text, format_args!("{plus}{}/", share.node));
        slot_ranges(&mut text, &share.slots);
    }
    text
}

/// `gpu01-gpu/1+gpu01-gpu/0`; empty without cards.
pub(crate) fn exec_gpus(shares: &[NodeShare]) -> String {
    let mut text = String::new();
    // Torque puts each card that it lends before those it has lent.
    for share in shares.iter().rev() {
        for card in share.cards.iter().rev() {
            let plus = if text.is_empty() { "" } else { "+" };
            put(
                &mut text,
                format_args!("{plus}{}-gpu/{}", share.node, card.index),
            );
        }
    }
    text
}

/// `0-1,3`.
pub(crate) fn slot_ranges(text: &mut String, slots: &[u16]) {
    let mut rest = slots;
    while let Some((&first, _)) = rest.split_first() {
        let run = rest
            .iter()
            .zip(first..)
            .take_while(|(slot, at)| *slot == at);
        let length = run.count().max(1);
        let comma = if rest.len() == slots.len() { "" } else { "," };
        match length {
            1 => put(text, format_args!("{comma}{first}")),
            _ => put(text, format_args!("{comma}{first}-{}", rest[length - 1])),
        }
        rest = &rest[length..];
    }
}

/// The comment of Torque's scheduler: `Job started on Sun Nov 22 at 03:55`.
pub(crate) fn started_on(at: Timestamp) -> String {
    local(at)
        .strftime("Job started on %a %b %d at %H:%M")
        .to_string()
}

/// As `ctime(3)` prints it: `Sun Nov 22 03:55:50 2026`.
pub(crate) fn ctime(at: Timestamp) -> String {
    local(at).strftime("%a %b %e %H:%M:%S %Y").to_string()
}

/// In the time zone of the server's host.
pub(crate) fn local(at: Timestamp) -> jiff::Zoned {
    let seconds = i64::try_from(at.secs()).unwrap_or(i64::MAX);
    let time = jiff::Timestamp::from_second(seconds).unwrap_or(jiff::Timestamp::MAX);
    time.to_zoned(jiff::tz::TimeZone::system())
}

/// `True` or `False`.
pub(crate) const fn boolean(is_so: bool) -> &'static str {
    if is_so { "True" } else { "False" }
}

fn put(text: &mut String, what: std::fmt::Arguments<'_>) {
    text.write_fmt(what).expect("a String takes everything");
}
