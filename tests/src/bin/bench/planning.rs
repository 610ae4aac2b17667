//! One plan() over many waiting jobs, in this process.

use std::sync::Arc;
use std::time::Instant;

use capstan_core::{
    Card, Change, Inventory, Job, JobSpec, JobState, Link, Node, Settings, State, Ties, plan,
};
use capstan_types::{CardId, JobId, NodeSpec, Timestamp};

use crate::report::Report;

const NODES: u32 = 1000;
const CARDS: u32 = 8;

/// Plans 1,000, 10,000 and 100,000 waiting jobs on 1,000 nodes of 8 cards, empty and full.
pub(crate) fn measure(report: &mut Report) {
    for jobs in [1_000u64, 10_000, 100_000] {
        let state = waiting(jobs);
        let goal = if jobs == 10_000 { "< 50 ms" } else { "" };
        let mut best = f64::MAX;
        let mut placed = 0;
        for _ in 0..5 {
            let start = Instant::now();
            let decided = plan(&state, Timestamp(1_000_000));
            best = best.min(start.elapsed().as_secs_f64() * 1000.0);
            placed = decided.placements.len();
        }
        let conditions = format!("{NODES} idle nodes of {CARDS} cards; {placed} placed; best of 5");
        report.figure(
            &format!("plan of {jobs} waiting jobs"),
            &format!("{best:.1} ms"),
            goal,
            &conditions,
        );
    }
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
    let spec = JobSpec {
        name: "bench".into(),
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
    }
}
