//! Clusters as text. A line begins with a word, its entries are parted by two blanks or more:
//!
//! ```text
//! nodes  a: 8 gpu   b: 8 gpu 4 slots offline S
//! run    j1 on a: 6 gpu
//! queue  j2: 8 gpu   j3: nodes=2:ppn=4:S prio 5
//! =>     j3 on a/0 gpu 6,7
//!        j2 waits: wants 8 cards on 1 node; a has 2 free
//! ```
//!
//! Of nodes: `N gpu`, `N slots` (8), `N gb` (64), `offline`, `down`, `unclean INDEX`, `only UID`, `model NAME` of its
//! cards, `of MODEL/GB/CC/CUDA` of the cards named last (`4 gpu of RTX_3090/24 2 gpu of A40/48/8.6/12.4`), `islands 0011`
//! and `numa 0011` card by card, `image NAME`, `engine`, `away` (it does not answer), else a property.
//! Of jobs: `N gpu`, `N slots`, `NAME=VALUE` for `-l`, `prio N`, `in QUEUE` (`high`, `stopped`), `held`, `uid N`,
//! `array LIST`, `select=CHUNKS`, `place=HOW`, `exclusive`, `inside IMAGE`, `by USER`, `of GROUP`, `fixed` (may not run twice). A line `pass` lets so many seconds pass. A line `qmgr` is one for `qmgr`. A line `fifo` wants Torque's scheduler. Jobs are numbered as they come, so `j2` is the second. What is expected is the whole plan.

use capstan_core::{
    Event, Holds, Inventory, NodeOrder, NumaNode, Plan, PreemptionRight, Queue, Scheduler,
    Settings, Submission,
};
use capstan_types::{NodeName, Place, QueueName, Select, ServerName, Version};

use crate::harness::{World, caller, card, inventory, submission};

pub(crate) fn check(text: &str) {
    let (mut world, expected) = build(text);
    let plan = world.place();
    assert_eq!(print(&plan), expected, "in{text}");
}

/// The cluster of `text` before its plan, and what is expected of that.
pub(crate) fn build(text: &str) -> (World, Vec<String>) {
    let mut world = World::new(settings());
    let mut expected = Vec::new();
    let mut verb = "";
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let word = line.split_whitespace().next().unwrap();
        let is_verb = ["nodes", "run", "queue", "fifo", "qmgr", "pass", "=>"].contains(&word);
        let rest = if is_verb {
            line[word.len()..].trim()
        } else {
            line
        };
        verb = if is_verb { word } else { verb };
        let entries = rest
            .split("  ")
            .map(str::trim)
            .filter(|entry| !entry.is_empty());
        match verb {
            "qmgr" => {
                world.must(&crate::managing::order("root", rest));
                world.settings = (**world.state.settings().unwrap()).clone();
            }
            "pass" => {
                world.pass(rest.parse().unwrap());
            }
            "fifo" => world.settings.scheduler = Scheduler::Fifo,
            "nodes" => entries.for_each(|entry| add_node(&mut world, entry)),
            "run" => entries.for_each(|entry| run_job(&mut world, entry)),
            "queue" => entries.for_each(|entry| queue_job(&mut world, entry)),
            "=>" => expected.extend((!rest.is_empty()).then(|| rest.to_owned())),
            other => panic!("{other} is no word of a text cluster"),
        }
    }
    (world, expected)
}

fn settings() -> Settings {
    let mut settings = Settings::new(ServerName::from("hn1"));
    let mut add = |name: &str, priority, is_started| {
        let mut queue = Queue::new(QueueName::from(name));
        queue.set("Priority", priority);
        queue.set("started", is_started);
        settings.add_queue(queue);
    };
    add("high", "10", "True");
    add("stopped", "0", "False");
    settings
}

fn add_node(world: &mut World, entry: &str) {
    let (name, words) = entry.split_once(':').unwrap();
    let mut node = inventory(name, 8, 0);
    let mut properties: Vec<&str> = Vec::new();
    let (mut is_offline, mut is_down, mut unclean) = (false, false, Vec::new());
    let mut words = words.split_whitespace();
    while let Some(word) = words.next() {
        match word {
            "offline" => is_offline = true,
            "down" => is_down = true,
            "unclean" => unclean.push(card(name, words.next().unwrap().parse().unwrap())),
            "model" => {
                let model = words.next().unwrap();
                node.cards
                    .iter_mut()
                    .for_each(|card| card.model = model.into());
            }
            "of" => of_kind(&mut node, words.next().unwrap()),
            "islands" | "numa" => near(&mut node, word, words.next().unwrap()),
            "image" => node.images.push(words.next().unwrap().into()),
            "engine" => node.engine = "29.1".into(),
            "away" => node.engine_problem = "dockerd is down".into(),
            "only" => node.only_uid = Some(words.next().unwrap().parse().unwrap()),
            number if number.parse::<u32>().is_ok() => {
                size(&mut node, name, number, words.next().unwrap())
            }
            property => properties.push(property),
        }
    }
    let config = world.settings.node_mut(&NodeName::from(name));
    config.set("properties", &properties.join(",")).unwrap();
    let settings = world.settings.clone();
    let others: Vec<_> = world
        .state
        .nodes()
        .filter(|node| node.is_up())
        .cloned()
        .collect();
    world.must(&Event::ServerStarted(std::sync::Arc::new(settings)));
    for other in others {
        world.attach(other.name.as_str(), other.inventory.clone(), Vec::new());
    }
    world.attach(name, node, Vec::new());
    let node = NodeName::from(name);
    world.must(&Event::CardsUnclean {
        node: node.clone(),
        cards: unclean,
    });
    if is_down {
        world.detach(name);
    }
    if is_offline {
        let order = NodeOrder {
            node,
            offline: Some(true),
            note: None,
            by: caller("root"),
        };
        world.must(&Event::AlterNode(order));
    }
}

/// What the cards are whose model was not said yet.
fn of_kind(node: &mut Inventory, text: &str) {
    let mut parts = text.split('/');
    let model = parts.next().unwrap().replace('_', " ");
    let memory = parts.next().map(|gb| gb.parse::<u64>().unwrap() << 30);
    let version = |text: &str| Version::parse(text).unwrap();
    let (compute, cuda) = (parts.next().map(version), parts.next().map(version));
    for card in node.cards.iter_mut().filter(|card| &*card.model == "H200") {
        card.model = model.as_str().into();
        card.memory_bytes = memory.unwrap_or(card.memory_bytes);
        card.traits.compute = compute.unwrap_or_default();
        card.traits.cuda = cuda.unwrap_or_default();
    }
}

/// Where the cards are, a digit each; the cores are shared out evenly over the memory nodes.
fn near(node: &mut Inventory, what: &str, digits: &str) {
    let numbers = digits.bytes().map(|digit| u16::from(digit - b'0'));
    for (card, number) in node.cards.iter_mut().zip(numbers.clone()) {
        match what {
            "islands" => card.traits.island = number,
            _ => card.traits.numa_node = Some(number),
        }
    }
    if what == "numa" {
        let count = numbers.max().unwrap() + 1;
        let cores = node.cores / count;
        node.numa_nodes = (0..count)
            .map(|id| NumaNode {
                id,
                cores: (id * cores..(id + 1) * cores).collect(),
            })
            .collect();
    }
}

fn size(node: &mut Inventory, name: &str, number: &str, unit: &str) {
    let number: u64 = number.parse().unwrap();
    match unit {
        "gpu" => {
            let all = node.cards.len() as u32 + number as u32;
            let more = inventory(name, 0, all).cards;
            node.cards.extend(more.into_iter().skip(node.cards.len()));
        }
        "slots" => node.cores = number as u16,
        "gb" => node.memory_bytes = number << 30,
        other => panic!("{other} is no size of a node"),
    }
}

fn run_job(world: &mut World, entry: &str) {
    let (head, words) = entry.split_once(':').unwrap();
    let (name, node) = head.split_once(" on ").unwrap();
    let job = parse_job(words, node);
    let id = world.submit(job).unwrap();
    assert_eq!(format!("j{id}"), name);
    world.place();
    world.started(id);
}

fn queue_job(world: &mut World, entry: &str) {
    let (name, words) = entry.split_once(':').unwrap();
    let job = parse_job(words, "1");
    match world.submit(job) {
        Ok(id) => assert_eq!(format!("j{}", id.seq), name),
        Err(rejection) => panic!("{entry}: {rejection}"),
    }
}

fn parse_job(text: &str, target: &str) -> Submission {
    let mut job = submission("");
    let mut shape = target.to_owned();
    let mut words = text.split_whitespace();
    while let Some(word) = words.next() {
        let mut next = || words.next().unwrap();
        match word {
            "prio" => job.priority = next().parse().unwrap(),
            "by" => job.spec.owner.user = next().into(),
            "of" => job.spec.owner.group = next().into(),
            "in" => job.queue = Some(QueueName::from(next())),
            "uid" => job.spec.owner.uid = next().parse().unwrap(),
            "array" => job.spec.array = Some(capstan_types::ArrayRequest::parse(next()).unwrap()),
            "fixed" => job.spec.is_rerunnable = false,
            "held" => job.holds = Holds::USER,
            "inside" => {
                let image = next();
                job.spec.image = Some(image.into());
                job.spec.shown.push(("image".into(), image.into()));
            }
            "exclusive" => job
                .spec
                .shown
                .push(("node_exclusive".into(), "True".into())),
            number if number.parse::<u32>().is_ok() => match next() {
                "gpu" => shape += &format!(":gpus={number}"),
                "slots" => shape += &format!(":ppn={number}"),
                other => panic!("{other} is nothing a job asks for"),
            },
            resource => {
                let (name, value) = resource.split_once('=').unwrap();
                match name {
                    "place" => job.spec.placing = Some(Place::parse(value).unwrap()),
                    "select" => job.spec.select = Some(Select::parse(value).unwrap()),
                    _ => {}
                }
                if name != "place" {
                    job.spec.resources.set(name, value).unwrap();
                }
            }
        }
    }
    if ["nodes", "procs", "ncpus", "select"]
        .iter()
        .all(|name| job.spec.resources.get(name).is_none())
    {
        job.spec.resources.set("nodes", &shape).unwrap();
    }
    job
}

fn print(plan: &Plan) -> Vec<String> {
    let numbers = |numbers: Vec<String>| numbers.join(",");
    let placed = plan.placements.iter().map(|placement| {
        let shares = placement.shares.iter().map(|share| {
            let slots = numbers(share.slots.iter().map(ToString::to_string).collect());
            let cards = numbers(
                share
                    .cards
                    .iter()
                    .map(|card| match card.is_whole() {
                        true => card.index.to_string(),
                        false => format!("{}~{}", card.index, card.share),
                    })
                    .collect(),
            );
            let gpu = if cards.is_empty() { "" } else { " gpu " };
            format!("{}/{slots}{gpu}{cards}", share.node)
        });
        format!(
            "j{} on {}",
            placement.job,
            shares.collect::<Vec<_>>().join(" + ")
        )
    });
    let waiting = plan.reasons.iter().map(|(job, reason)| {
        let text = reason.to_string();
        let (_, detail) = text.split_once(" (").unwrap();
        format!("j{job} waits: {}", detail.trim_end_matches(')'))
    });
    let stopped = plan.preemptions.iter().map(|told| {
        let end = if told.requeue { "requeued" } else { "canceled" };
        let right = match told.right {
            PreemptionRight::Priority => "",
            PreemptionRight::Guarantee => " called back",
        };
        let (by, victim, grace) = (told.for_job, told.job, told.grace_secs);
        format!("j{by} stops j{victim}:{right} {end} after {grace} s")
    });
    let coming = plan.preparations.iter().map(|order| {
        let (node, image, job) = (&order.node, &order.image, order.job);
        format!("{node} gets {image} for j{job}")
    });
    placed.chain(stopped).chain(coming).chain(waiting).collect()
}
