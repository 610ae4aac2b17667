//! What to change so that a job starts now. Each change is made, by the very code of `qalter` and `qmove`, on a copy of
//! the state, and the changed job is brought to the desk in its turn: only what starts there is suggested.

use std::sync::Arc;

use capstan_types::{
    CardWish, Chunk, ChunkTarget, JobId, NodeSpec, QueueName, Reason, ResourceList, Seconds,
    Select, is_model,
};

use super::outlook::Reckoner;
use super::sooner::Start;
use super::standing::{Place, Places, desk, desk_behind};
use super::{Asked, ExpectedStart, Sooner, Suggestion, sooner, subject};
use crate::apply::apply;
use crate::model::Pending;
use crate::plan::desk::Desk;
use crate::{
    AlterOrder, Altered, Caller, Event, Holds, JobSpec, MoveOrder, Policy, State, Submission,
};

/// Most changes of one kind that are tried.
const TRIES_MAX: usize = 16;
/// The longest line that is planned anew to see whether a change helps.
pub(super) const LINE_MAX: usize = 1000;
/// Most suggestions.
const SUGGESTIONS_MAX: usize = 5;
/// Shorter walltimes are no use to anybody, seconds.
const WALLTIME_LEAST_SECS: u64 = 60;

/// A change, and the job as it would be.
pub(super) struct Candidate {
    pub(super) suggestion: Suggestion,
    pub(super) job: Pending,
    /// The state with the change.
    pub(super) state: State,
}

/// Changes with which the job would start now, the mildest of each kind, and milder ones with which it would start sooner
/// than it will. `desk` is one that was asked in vain, if there is one.
pub(super) fn that_help<'a>(
    asked: &Asked<'a>,
    desk: Option<Desk<'a>>,
    (start, reckoner): (Option<ExpectedStart>, &mut Reckoner<'_>),
) -> (Vec<Suggestion>, Vec<Sooner>) {
    let Some(settings) = asked.state.settings() else {
        return Default::default();
    };
    let policy = Policy::of(settings);
    let stands_in_line = asked.place.is_some();
    // Who stands aside for something else than his queue starts with no other request either.
    let reason = asked.reason;
    if !stands_in_line && !matches!(reason, Some(Reason::QueueStopped(_))) {
        return Default::default();
    }
    let mut kinds: Vec<Vec<Candidate>> = Vec::new();
    if stands_in_line {
        kinds.push(shorter(asked, reason));
        kinds.extend(smaller(asked));
        kinds.push(other_cards(asked));
    }
    kinds.push(other_queues(asked));
    let (mut now, desk) = first_of_each((asked, &policy), &kinds, desk);
    let helping = start.map_or_else(Vec::new, |start| {
        let milder = kinds.iter().zip(&now);
        // What starts it now is not told again, nor what changes more.
        let milder = milder.map(|(kind, now)| &kind[..now.unwrap_or(kind.len())]);
        sooner::that_help((asked, &policy), (start, reckoner), milder, desk)
    });
    let mut later = Vec::new();
    for helps in helping {
        let (kind, place) = helps.place;
        match helps.start {
            Start::Now => now[kind] = Some(place),
            Start::At(at, confidence) => later.push(Sooner {
                suggestion: kinds[kind][place].suggestion.clone(),
                at,
                confidence,
            }),
        }
    }
    let now = kinds.iter().zip(now);
    let now = now.filter_map(|(kind, place)| Some(kind[place?].suggestion.clone()));
    (now.take(SUGGESTIONS_MAX).collect(), later)
}

/// The place, in each kind, of the first change with which the job starts, and a desk that was asked in vain.
fn first_of_each<'a, 'k: 'a>(
    (asked, policy): (&Asked<'a>, &Policy),
    kinds: &'k [Vec<Candidate>],
    mut fresh: Option<Desk<'a>>,
) -> (Vec<Option<usize>>, Option<Desk<'a>>) {
    let mut places = Places::of(asked.state, policy, asked.now);
    let own = asked.place.map(|_| places.place(asked.subject));
    let mut found = vec![None; kinds.len()];
    for (kind, found) in kinds.iter().zip(&mut found) {
        for (at, candidate) in kind.iter().enumerate() {
            let Some(mut desk) = fresh.take().or_else(|| asking(asked, policy)) else {
                break;
            };
            if desk.ask(&candidate.job).is_some() {
                // Who gets nothing leaves the desk as it was.
                fresh = Some(desk);
                continue;
            }
            let new = places.place(&candidate.job);
            if is_sure(asked, policy, (&mut places, own, new), candidate) {
                *found = Some(at);
                break;
            }
        }
    }
    (found, fresh)
}

/// A desk at which nothing is promised any more.
pub(super) fn asking<'a>(asked: &Asked<'a>, policy: &Policy) -> Option<Desk<'a>> {
    let mut desk = desk(asked, policy)?;
    desk.promise_nothing_more();
    Some(desk)
}

/// Whether the changed job starts also if the change puts it further back in line.
fn is_sure<'a>(
    asked: &Asked<'a>,
    policy: &Policy,
    (places, own, new): (&mut Places<'a>, Option<Place>, Place),
    candidate: &'a Candidate,
) -> bool {
    let Some(own) = own else {
        return true;
    };
    // Where users take turns, what a job costs decides who is next, and every change may change the whole line.
    if places.has_turns() {
        let is_short = asked.plan.line.len() <= LINE_MAX;
        return is_short && starts_in(&candidate.state, asked);
    }
    if new <= own {
        return true;
    }
    let Some(mut desk) = desk_behind(asked, policy, (places, new)) else {
        return false;
    };
    desk.promise_nothing_more();
    desk.ask(&candidate.job).is_none()
}

/// Whether a whole plan of the changed state starts it.
fn starts_in(state: &State, asked: &Asked<'_>) -> bool {
    let again = crate::plan::plan(state, asked.now);
    let mut placed = again.placements.iter();
    placed.any(|placement| asked.is_own(placement.job))
}

/// With less walltime: so that it ends before something begins.
fn shorter(asked: &Asked<'_>, reason: Option<&Reason>) -> Vec<Candidate> {
    let now = asked.now;
    let promised = asked.plan.promises.iter().map(|promise| promise.start);
    let reservations = asked.state.reservations();
    let reserved = reservations.flat_map(|made| made.spans.iter().map(|span| span.from));
    let begins = promised.chain(reserved).filter(|at| *at > now);
    let mut secs: Vec<u64> = begins.map(|at| at.secs_since(now)).collect();
    secs.extend(reason.and_then(fits_secs));
    let mut secs: Vec<u64> = secs.into_iter().map(in_whole_minutes).collect();
    secs.retain(|secs| (WALLTIME_LEAST_SECS..asked.subject.walltime_secs).contains(secs));
    secs.sort_unstable_by(|one, other| other.cmp(one));
    secs.dedup();
    let tried = secs.into_iter().take(TRIES_MAX);
    tried
        .filter_map(|secs| {
            let value = Seconds(secs).to_string();
            let change = format!("walltime<={value}");
            resource(asked, "walltime", &value, change)
        })
        .collect()
}

const fn in_whole_minutes(secs: u64) -> u64 {
    match secs {
        0..120 => secs,
        _ => secs - secs % 60,
    }
}

/// What the reason itself says would fit.
const fn fits_secs(reason: &Reason) -> Option<u64> {
    if let Reason::Window { fits_secs, .. }
    | Reason::ReservationEnds { fits_secs, .. }
    | Reason::QueueCloses { fits_secs, .. } = reason
    {
        return Some(*fits_secs);
    }
    None
}

/// With fewer cards, fewer slots, fewer nodes.
fn smaller(asked: &Asked<'_>) -> Vec<Vec<Candidate>> {
    let spec = &asked.job().spec;
    if let Some(slots) = spec.loose_slots {
        return vec![fewer(asked, slots, |slots| ("procs", slots.to_string()))];
    }
    if let Some(select) = &spec.select {
        return fewer_of_select(asked, select);
    }
    let Some(chunk) = only_chunk(spec) else {
        return Vec::new();
    };
    let with = |change: &dyn Fn(&mut Chunk)| {
        let mut chunk = chunk.clone();
        change(&mut chunk);
        NodeSpec::of(vec![chunk]).to_string()
    };
    let tries = |most: u32, word: &str, change: &dyn Fn(&mut Chunk, u32)| {
        let fewer = (1..most).rev().take(TRIES_MAX);
        let tried = fewer.filter_map(|count| {
            let value = with(&|chunk| change(chunk, count));
            resource(asked, "nodes", &value, format!("{word}={count}"))
        });
        tried.collect::<Vec<_>>()
    };
    let nodes = match chunk.target {
        ChunkTarget::Count(nodes) => nodes,
        ChunkTarget::Named(_) => 1,
    };
    vec![
        tries(chunk.gpus, "gpus", &|chunk, count| chunk.gpus = count),
        tries(nodes, "nodes", &|chunk, count| {
            chunk.target = ChunkTarget::Count(count);
        }),
        tries(chunk.ppn, "ppn", &|chunk, count| chunk.ppn = count),
    ]
}

/// The same of the only part of a `select=`: its chunks, and what each has, as typed but for one number.
fn fewer_of_select(asked: &Asked<'_>, select: &Select) -> Vec<Vec<Candidate>> {
    let ([part], Some(typed)) = (&select.parts[..], asked.job().spec.resources.get("select"))
    else {
        return Vec::new();
    };
    let is_count = |field: &str| field.bytes().all(|byte| byte.is_ascii_digit());
    // The number before the first colon may be left out for 1, of which there are no fewer.
    let chunks = |count: u32| {
        let rest = typed
            .split_once(':')
            .map(|(first, rest)| (is_count(first), rest));
        match rest {
            Some((true, rest)) => format!("{count}:{rest}"),
            Some((false, _)) => typed.to_owned(),
            None => count.to_string(),
        }
    };
    let each = |name: &str, count: u32| {
        let fields = typed.split(':').map(|field| match field.split_once('=') {
            Some((own, _)) if own == name => format!("{name}={count}"),
            Some(_) | None => field.to_owned(),
        });
        fields.collect::<Vec<_>>().join(":")
    };
    let tries = |most: u32, word: &str, value: &dyn Fn(u32) -> String| {
        let fewer = (1..most).rev().take(TRIES_MAX);
        let tried = fewer.filter_map(|count| {
            resource(asked, "select", &value(count), format!("{word}={count}"))
        });
        tried.collect::<Vec<_>>()
    };
    vec![
        tries(part.ngpus, "ngpus", &|count| each("ngpus", count)),
        tries(part.count, "chunks", &chunks),
        tries(part.ncpus, "ncpus", &|count| each("ncpus", count)),
    ]
}

fn fewer(
    asked: &Asked<'_>,
    most: u32,
    value: impl Fn(u32) -> (&'static str, String),
) -> Vec<Candidate> {
    let tried = (1..most).rev().take(TRIES_MAX);
    tried
        .filter_map(|count| {
            let (name, value) = value(count);
            resource(asked, name, &value, format!("{name}={value}"))
        })
        .collect()
}

/// The one part of its request, if it has but one; chunks of `select=` are not the server's to rewrite.
fn only_chunk(spec: &JobSpec) -> Option<&Chunk> {
    let nodes = spec.nodes.as_ref().filter(|_| spec.select.is_none())?;
    match &nodes.chunks[..] {
        [chunk] if chunk.gpu_mode.is_none() && !chunk.resets_errors => Some(chunk),
        _ => None,
    }
}

/// On cards of another model as well, and on lesser ones.
fn other_cards(asked: &Asked<'_>) -> Vec<Candidate> {
    let Some(chunk) = only_chunk(&asked.job().spec).filter(|chunk| chunk.gpus > 0) else {
        return Vec::new();
    };
    let mut models: Vec<&str> = Vec::new();
    for node in asked.state.nodes().filter(|node| node.is_usable()) {
        for card in &node.inventory.cards {
            if models.len() < TRIES_MAX && !models.contains(&&*card.model) {
                models.push(&card.model);
            }
        }
    }
    let mut found = Vec::new();
    for (at, words) in chunk.properties.iter().enumerate() {
        let means = |model: &str| words.split('|').any(|word| is_model(model, word));
        if !models.iter().any(|model| means(model)) {
            continue; // It is a property of nodes.
        }
        for model in models.iter().filter(|model| !means(model)) {
            let Some(word) = short_name(model) else {
                continue;
            };
            let either = format!("{words}|{word}");
            let mut chunk = chunk.clone();
            chunk.properties[at] = either.as_str().into();
            let value = NodeSpec::of(vec![chunk]).to_string();
            found.extend(resource(asked, "nodes", &value, format!("any {either}")));
        }
    }
    let wish = chunk.cards;
    let lesser = CardWish {
        memory_bytes: 0,
        cuda: CardWish::ANY.cuda,
        compute: CardWish::ANY.compute,
        ..wish
    };
    if lesser != wish {
        let mut chunk = chunk.clone();
        chunk.cards = lesser;
        let value = NodeSpec::of(vec![chunk]).to_string();
        let without = wish.to_string();
        let change = format!("without {}", without.trim_start_matches(':'));
        found.extend(resource(asked, "nodes", &value, change));
    }
    found
}

/// A word by which people ask for a model: "3090" of "NVIDIA GeForce RTX 3090".
fn short_name(model: &str) -> Option<String> {
    let words = model.split(|letter: char| !letter.is_ascii_alphanumeric());
    let mut words: Vec<String> = words.map(str::to_ascii_lowercase).collect();
    words
        .retain(|word| word.chars().any(|letter| letter.is_ascii_digit()) && is_model(model, word));
    words.into_iter().next()
}

/// In another queue.
fn other_queues(asked: &Asked<'_>) -> Vec<Candidate> {
    let Some(settings) = asked.state.settings() else {
        return Vec::new();
    };
    let others = settings.queues.values();
    let others = others.filter(|queue| queue.name != asked.job().queue && queue.is_started());
    others
        .filter(|queue| !queue.is_routing())
        .take(TRIES_MAX)
        .filter_map(|queue| moved(asked, &queue.name))
        .collect()
}

fn moved(asked: &Asked<'_>, queue: &QueueName) -> Option<Candidate> {
    let event = Event::Move(MoveOrder {
        job: asked.in_line,
        queue: Some(queue.clone()),
        by: owner(asked),
    });
    candidate(asked, &event, Suggestion::Queue(queue.clone()))
}

/// The job with another value of a resource, if it may have that.
fn resource(asked: &Asked<'_>, name: &str, value: &str, change: String) -> Option<Candidate> {
    let mut resources = ResourceList::default();
    resources.set(name, value).ok()?;
    let select = match name {
        "select" => Some(Select::parse(value).ok()?),
        _ => None,
    };
    let wish = Submission {
        spec: JobSpec {
            resources,
            select,
            ..JobSpec::default()
        },
        payload: Arc::default(),
        queue: None,
        priority: 0,
        holds: Holds::default(),
        not_before: None,
        depends: Vec::new(),
        ties: Vec::new(),
    };
    let event = Event::Alter(Box::new(AlterOrder {
        job: asked.in_line,
        members: None,
        by: owner(asked),
        altered: vec![Altered::Resource(name.into())],
        wish: Box::new(wish),
        slot_limit: None,
        comment: Box::default(),
    }));
    let suggestion = Suggestion::Resource {
        name: name.into(),
        value: value.into(),
        change: change.into(),
    };
    candidate(asked, &event, suggestion)
}

fn owner(asked: &Asked<'_>) -> Caller {
    let owner = &asked.job().spec.owner;
    Caller {
        user: owner.user.clone(),
        uid: owner.uid,
        host: owner.host.clone(),
    }
}

fn candidate(asked: &Asked<'_>, event: &Event, suggestion: Suggestion) -> Option<Candidate> {
    let mut state = asked.state.clone();
    apply(&mut state, event, asked.now).ok()?;
    let id: JobId = asked.in_line;
    let job = subject(state.job(id)?)?;
    Some(Candidate {
        suggestion,
        job,
        state,
    })
}
