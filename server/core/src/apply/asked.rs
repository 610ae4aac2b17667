//! What a job asks for when its queue's defaults are added, as `Resource_List.*` shows it and as placement reads it.
//!
//! Order as recorded (sessions B08, C02, D01): what was typed, `nodect` if nodes were typed, defaults, `nodect` if nodes
//! came with them. A job that asks for nothing shows nothing, and gets a slot.

use capstan_types::{
    Arrangement, CardWish, Chunk, NodeSpec, ParseError, Place, QueueName, ResourceList, Select,
    SelectTotals, Size, Version,
};

use crate::plan::{can_run_user, feasible};
use crate::{JobSpec, Queue, Rejection, Settings, State};

/// The ways to say how much of which nodes; a default for one is not added where another was asked for.
const SHAPES: [&str; 5] = ["nodes", "ncpus", "procs", "size", "select"];

/// What follows from the rest and is never asked for.
const DERIVED: [&str; 2] = ["nodect", "procct"];

/// Adds the queue's defaults and makes of it all what placement reads.
pub(super) fn fill_in(spec: &mut JobSpec, defaults: &ResourceList) -> Result<(), Rejection> {
    spec.defaulted.clear();
    let asked =
        |resources: &ResourceList| SHAPES.iter().any(|shape| resources.get(shape).is_some());
    let has_shape = asked(&spec.resources);
    let mut resources = ResourceList::default();
    for (name, value) in spec
        .resources
        .iter()
        .filter(|(name, _)| !DERIVED.contains(name))
    {
        put(&mut resources, name, value)?;
    }
    let has_nodes = resources.get("nodes").is_some();
    if has_nodes {
        put_node_count(&mut resources)?;
    }
    for (name, value) in defaults.iter().filter(|(name, _)| !DERIVED.contains(name)) {
        let is_other_shape = has_shape && SHAPES.contains(&name);
        if resources.get(name).is_none() && !is_other_shape {
            put(&mut resources, name, value)?;
            spec.defaulted.push(name.into());
        }
    }
    if !has_nodes && resources.get("nodes").is_some() {
        put_node_count(&mut resources)?;
    }
    spec.resources = resources;
    shape(spec)
}

/// Adds to what a job asks for itself what follows from it, which limits look at as well.
pub(super) fn derive(spec: &mut JobSpec) -> Result<(), Rejection> {
    if let Some(select) = spec.select.clone() {
        return show_chunks(spec, &select);
    }
    match spec.resources.get("nodes") {
        Some(_) => put_node_count(&mut spec.resources),
        None => Ok(()),
    }
}

/// Makes what placement reads.
fn shape(spec: &mut JobSpec) -> Result<(), Rejection> {
    let resources = &spec.resources;
    spec.loose_slots = None;
    spec.memory_bytes = resources
        .size("mem")
        .map(Size::bytes)
        .filter(|bytes| *bytes > 0);
    let image = resources.get("image").filter(|image| !image.is_empty());
    let own = spec.own_image();
    spec.image = own.or(image).map(Into::into);
    if let Some(select) = &spec.select {
        let mut nodes = select.as_nodes();
        loose_wishes(&mut nodes, resources);
        spec.nodes = Some(nodes);
        // Each chunk says for itself how much memory it wants.
        spec.memory_bytes = None;
        let select = select.clone();
        return show_chunks(spec, &select);
    }
    let cards = loose_cards(resources);
    let count = cards.as_ref().map_or(0, |cards| cards.gpus);
    let slots = resources.count("ncpus").or(resources.count("procs"));
    let nodes = match (resources.get("nodes"), resources.count("procs"), slots) {
        (Some(nodes), _, _) => parse(nodes)?,
        (None, Some(procs), _) if count == 0 => {
            spec.loose_slots = Some(procs.max(1));
            spec.nodes = None;
            return Ok(());
        }
        (None, _, Some(slots)) => on_host(resources, slots)?,
        (None, _, None) => on_host(resources, 1)?,
    };
    let has_own_cards = nodes.chunks.iter().any(|chunk| chunk.gpus > 0);
    let mut nodes = match cards.filter(|cards| cards.gpus > 0 && !has_own_cards) {
        None => nodes,
        Some(cards) => {
            let chunks = nodes.chunks.into_iter();
            let with_cards = |mut chunk: Chunk| {
                chunk.gpus = cards.gpus;
                chunk.gpu_mode = cards.gpu_mode;
                chunk.cards = chunk.cards.or(&cards.cards);
                chunk.properties.extend(cards.properties.iter().cloned());
                chunk
            };
            NodeSpec::of(chunks.map(with_cards).collect())
        }
    };
    loose_wishes(&mut nodes, &spec.resources);
    spec.nodes = Some(nodes);
    Ok(())
}

/// What `-l gpu_model=`, `gpumem=`, `cuda=` and `cc=` say of all cards of the job: where no part has cards, its nodes
/// must have such cards all the same.
fn loose_wishes(nodes: &mut NodeSpec, resources: &ResourceList) {
    let version = |name| {
        resources
            .get(name)
            .and_then(|text| Version::parse(text).ok())
    };
    let wish = CardWish {
        memory_bytes: resources.size("gpumem").map_or(0, Size::bytes),
        cuda: version("cuda"),
        compute: version("cc"),
        ..CardWish::ANY
    };
    let model = resources.get("gpu_model");
    if wish.is_any() && model.is_none() {
        return;
    }
    let has_cards = nodes.card_count() > 0;
    let chunks = nodes.chunks.iter_mut();
    for chunk in chunks.filter(|chunk| chunk.gpus > 0 || !has_cards) {
        chunk.cards = chunk.cards.or(&wish);
        chunk.properties.extend(model.map(Into::into));
    }
}

/// `ncpus=` and the like are slots of one node: of the one named by `host=`, if it is.
fn on_host(resources: &ResourceList, slots: u32) -> Result<NodeSpec, Rejection> {
    let target = resources.get("host").unwrap_or("1");
    parse(&format!("{target}:ppn={}", slots.max(1)))
}

/// Cards of `-l gpus=N[:KIND…]`, which Torque shows as `gres = gpus:N` and forgets; here each node of the job gets so
/// many.
fn loose_cards(resources: &ResourceList) -> Option<Chunk> {
    let gres = resources.get("gres").unwrap_or_default();
    let mut items = gres.split([',', '+', '%']);
    let cards = items.find_map(|item| match item.trim().split_once([':', '=']) {
        Some(("gpus", cards)) => Some(cards),
        Some(_) | None => (item.trim() == "gpus").then_some("1"),
    })?;
    let nodes = NodeSpec::parse(&format!("1:gpus={cards}")).ok()?;
    nodes.chunks.into_iter().next()
}

/// What PBS Pro derives from chunks, in its order: by name.
fn show_chunks(spec: &mut JobSpec, select: &Select) -> Result<(), Rejection> {
    let SelectTotals {
        chunks,
        ncpus,
        ngpus,
        memory_bytes,
        mpiprocs,
    } = select.totals();
    let place = spec.placing.get_or_insert_with(Place::default);
    let derived = [
        ("mem", memory_bytes.map(size)),
        ("mpiprocs", mpiprocs.map(|count| count.to_string())),
        ("ncpus", Some(ncpus.to_string())),
        ("ngpus", ngpus.map(|count| count.to_string())),
        ("nodect", Some(chunks.to_string())),
        ("place", Some(place.to_string())),
        ("select", Some(select.to_string())),
    ];
    let mut values: Vec<(String, String)> = Vec::new();
    for (name, value) in spec.resources.iter() {
        if !derived.iter().any(|(own, _)| *own == name) {
            values.push((name.to_owned(), value.to_owned()));
        }
    }
    for (name, value) in derived {
        values.extend(value.map(|value| (name.to_owned(), value)));
    }
    values.sort();
    let mut resources = ResourceList::default();
    for (name, value) in &values {
        put(&mut resources, name, value)?;
    }
    spec.resources = resources;
    Ok(())
}

/// A size in the largest unit that it is a whole number of.
fn size(bytes: u64) -> String {
    let units = [(30, "gb"), (20, "mb"), (10, "kb")];
    let whole = units
        .into_iter()
        .find(|(bits, _)| bytes > 0 && bytes.trailing_zeros() >= *bits);
    match whole {
        Some((bits, unit)) => format!("{}{unit}", bytes >> bits),
        None => format!("{bytes}b"),
    }
}

/// `nodect`, as Torque derives it.
fn put_node_count(resources: &mut ResourceList) -> Result<(), Rejection> {
    let count = match resources.get("nodes") {
        Some(nodes) => parse(nodes)?.node_count(),
        None => 1,
    };
    put(resources, "nodect", &count.to_string())
}

/// What a job gets that does not say: of its queue, then of the server.
pub(super) fn defaults(settings: Option<&Settings>, queue: &Queue) -> ResourceList {
    let mut defaults = queue.resources_default().clone();
    let all = settings.and_then(|settings| settings.attributes.resources("resources_default"));
    for (name, value) in all.iter().flat_map(|all| all.iter()) {
        if defaults.get(name).is_none() && defaults.set(name, value).is_err() {
            // It was checked when it was set, so that this is no loss.
            continue;
        }
    }
    defaults
}

/// Every node of a job in this queue must have the properties of `features_required`, asked for or not.
pub(super) fn require_features(spec: &mut JobSpec, queue: &Queue) {
    let features = queue.attributes.text("features_required").unwrap_or("");
    let features = features.split([',', ':', ' ']).filter(|f| !f.is_empty());
    let chunks = spec.nodes.iter_mut().flat_map(|nodes| &mut nodes.chunks);
    for chunk in chunks {
        for feature in features.clone() {
            if !chunk.properties.iter().any(|own| **own == *feature) {
                chunk.properties.push(feature.into());
            }
        }
    }
}

/// Whether the nodes that it asks for exist, as far as is known: those of `nodes=`, cards, and chunks. Slots (`procs=`,
/// `ncpus=`) and memory are not checked, as in Torque: they may come with the next node.
///
/// # Errors
/// When no nodes that ever joined could run it, however idle.
pub(super) fn check_nodes(
    state: &State,
    spec: &JobSpec,
    queue: Option<&QueueName>,
) -> Result<(), Rejection> {
    let has_cards = spec
        .nodes
        .as_ref()
        .is_some_and(|nodes| nodes.card_count() > 0);
    if has_cards || spec.select.is_some() || spec.resources.get("nodes").is_some() {
        return feasible(state, spec, queue).map_err(Rejection::NeverFits);
    }
    can_run_user(state, spec).map_err(Rejection::NeverFits)
}

/// Values were checked where they came in; one that is refused here all the same can never be met.
fn put(resources: &mut ResourceList, name: &str, value: &str) -> Result<(), Rejection> {
    let set = resources.set(name, value);
    set.map_err(|error| never(name, &error))
}

fn parse(nodes: &str) -> Result<NodeSpec, Rejection> {
    NodeSpec::parse(nodes).map_err(|error| never("nodes", &error))
}

fn never(name: &str, error: &ParseError) -> Rejection {
    Rejection::NeverFits(format!("{name}: {error}").into())
}

/// Whether several chunks may be on one node.
pub(crate) fn arrangement(spec: &JobSpec) -> Arrangement {
    let placing = spec.placing.as_ref();
    match placing.map(|place| (place.arrangement, place.group.as_deref())) {
        // All of one host: there is but one way.
        Some((Arrangement::Free, Some("host" | "vnode"))) => Arrangement::Pack,
        Some((arrangement, _)) => arrangement,
        None => Arrangement::Scatter,
    }
}
