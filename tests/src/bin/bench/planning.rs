//! One plan() over many waiting jobs, in this process.

use std::sync::Arc;
use std::time::Instant;

use capstan_core::{
    Card, Change, Event, Inventory, Job, JobSpec, JobState, Link, Node, Owner, PlanOrder, Settings,
    State, Ties, Tries, apply, decide, explain, plan,
};
use capstan_types::{CardId, JobId, NodeSpec, ResourceList, Timestamp};

use crate::report::Report;

const NODES: u32 = 1000;
const CARDS: u32 = 8;
/// When it is planned, milliseconds since 1970.
const NOW: u64 = 1_000_000_000;

/// How many jobs wait, and the goal where there is one. Largest last: it takes a minute to make a million.
const WAITING: [(u64, &str); 4] = [
    (1_000, ""),
    (10_000, "< 50 ms"),
    (100_000, "< 300 ms"),
    (1_000_000, ""),
];

/// Plans many waiting jobs on 1,000 nodes of 8 cards, idle and full, and weighs a waiting job.
pub(crate) fn measure(report: &mut Report) {
    for (jobs, goal) in WAITING {
        let before = resident_bytes();
        let state = waiting(jobs);
        let each = resident_bytes().saturating_sub(before) / jobs;
        figure(report, &state, (jobs, "idle", goal));
        let full = full(state);
        figure(report, &full, (jobs, "full", goal));
        if jobs == 10_000 || jobs == 100_000 {
            explaining(report, &full, jobs);
        }
        if jobs == 100_000 {
            let conditions = "with its place in every index, of 100,000";
            report.figure(
                "memory of a waiting job",
                &format!("{each} bytes"),
                "",
                conditions,
            );
        }
    }
}

fn figure(report: &mut Report, state: &State, (jobs, load, goal): (u64, &str, &str)) {
    let mut best = f64::MAX;
    let mut placed = 0;
    let times = if jobs > 100_000 { 2 } else { 5 };
    for _ in 0..times {
        let start = Instant::now();
        let decided = plan(state, Timestamp(NOW));
        best = best.min(start.elapsed().as_secs_f64() * 1000.0);
        placed = decided.placements.len();
    }
    let conditions =
        format!("{NODES} {load} nodes of {CARDS} cards; {placed} placed; best of {times}");
    let name = format!("plan of {jobs} waiting jobs, {load} cluster");
    report.figure(&name, &format!("{best:.1} ms"), goal, &conditions);
    let mut best = f64::MAX;
    for _ in 0..times {
        let start = Instant::now();
        let decided = decide(state, Timestamp(NOW));
        best = best.min(start.elapsed().as_secs_f64() * 1000.0);
        assert_eq!(decided.placements.len(), placed, "the same decisions");
    }
    let name = format!("the same without reasons, {jobs} waiting, {load}");
    report.figure(
        &name,
        &format!("{best:.1} ms"),
        "",
        "as the simulator decides",
    );
}

/// Why one of them waits, beside the plan that left it waiting: of the first, one in the middle and the last in line.
fn explaining(report: &mut Report, state: &State, jobs: u64) {
    let start = Instant::now();
    let decided = plan(state, Timestamp(NOW));
    let planned = start.elapsed().as_secs_f64() * 1000.0;
    let line = &decided.line;
    let mut slowest = 0.0_f64;
    for asked in [line.first(), line.get(line.len() / 2), line.last()] {
        let Some(job) = asked else { continue };
        let mut best = f64::MAX;
        for _ in 0..5 {
            let start = Instant::now();
            let explained = explain(state, &decided, *job, Timestamp(NOW));
            assert!(explained.is_some(), "who stands in line is explained");
            best = best.min(start.elapsed().as_secs_f64() * 1000.0);
        }
        slowest = slowest.max(best);
    }
    let conditions = format!(
        "full cluster; slowest of the first, the middle and the last in line; a plan takes {planned:.1} ms"
    );
    let name = format!("explanation of one of {jobs} waiting jobs");
    report.figure(&name, &format!("{slowest:.1} ms"), "< 20 ms", &conditions);
}

/// The same with what its plan starts running: hardly a card is free.
fn full(mut state: State) -> State {
    let order = PlanOrder {
        at: Timestamp(NOW),
        placements: plan(&state, Timestamp(NOW)).placements,
        ..PlanOrder::default()
    };
    // What cannot start all the same goes on waiting.
    apply(&mut state, &Event::Planned(order), Timestamp(NOW)).ok();
    state
}

/// Bytes of this process in memory; 0 where the kernel does not say.
fn resident_bytes() -> u64 {
    let text = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages = text.split(' ').nth(1).and_then(|pages| pages.parse().ok());
    pages.unwrap_or(0u64) * 4096
}

fn waiting(jobs: u64) -> State {
    let mut state = State::default();
    state.absorb(&Change::PutSettings(Arc::new(settings())));
    for number in 0..NODES {
        state.absorb(&Change::PutNode(Arc::new(node(number))));
    }
    for seq in 1..=jobs {
        state.absorb(&Change::PutJob(Arc::new(job(seq))));
    }
    state
}

fn settings() -> Settings {
    Settings::new("bench".into())
}

fn node(number: u32) -> Node {
    let card = |index| Card {
        uuid: CardId::from(format!("GPU-{number}-{index}")),
        index,
        model: "bench".into(),
        memory_bytes: 24 << 30,
        pci_address: "".into(),
        driver: "".into(),
        traits: capstan_core::CardTraits::default(),
    };
    Node {
        name: format!("node{number:04}").into(),
        agent: format!("agent{number}").into(),
        inventory: Inventory {
            cores: 64,
            memory_bytes: 512 << 30,
            cards: (0..CARDS).map(card).collect(),
            ..Inventory::default()
        },
        slots: 64,
        properties: vec![if number.is_multiple_of(2) {
            "S".into()
        } else {
            "D".into()
        }],
        link: Link::Up(Timestamp(0)),
        is_offline: false,
        note: "".into(),
        unclean: Vec::new(),
        strays: Vec::new(),
        is_unwell: false,
        preparing: Vec::new(),
        ordinal: u64::from(number),
    }
}

/// A mix of requests as a university has them: mostly one card, some two, four and eight, a few over two nodes.
fn job(seq: u64) -> Job {
    let request = match seq % 20 {
        0..=9 => "1:ppn=4:gpus=1:S",
        10..=13 => "1:ppn=8:gpus=2:D",
        14..=15 => "1:ppn=16:gpus=4",
        16..=17 => "1:ppn=32:gpus=8",
        18 => "2:ppn=8:gpus=8",
        _ => "1:ppn=2",
    };
    let mut resources = ResourceList::default();
    let walltime = ["01:00:00", "04:00:00", "24:00:00", "72:00:00"][(seq / 7 % 4) as usize];
    for (name, value) in [("nodes", request), ("walltime", walltime)] {
        resources.set(name, value).expect("they are written here");
    }
    let user = seq * 7919 % 200;
    let spec = JobSpec {
        name: format!("train{}", seq % 5).into(),
        owner: Owner {
            user: format!("user{user:03}").into(),
            uid: 10_000 + u32::try_from(user).unwrap_or(0),
            group: format!("group{:02}", user % 20).into(),
            ..Owner::default()
        },
        resources,
        nodes: NodeSpec::parse(request).ok(),
        is_rerunnable: true,
        ..JobSpec::default()
    };
    Job {
        id: JobId::whole(seq),
        spec: Arc::new(spec),
        queue: "batch".into(),
        priority: (seq % 3) as i32,
        holds: Default::default(),
        waits_for: Vec::new(),
        ties: Ties::default(),
        not_before: None,
        state: JobState::Pending,
        created: Timestamp(seq),
        queued: Timestamp(seq),
        eligible: Some(Timestamp(seq)),
        changed: Timestamp(seq),
        run_count: 0,
        comment: None,
        array: None,
        place: None,
        preempted: None,
        first_until: None,
        forced: None,
        forced_members: Vec::new(),
        tries: Tries::default(),
        forecast: None,
        waits: Vec::new(),
    }
}
