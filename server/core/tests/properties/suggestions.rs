//! What is suggested comes true: a job that is changed as it was told starts in the next plan.

use capstan_core::{
    AlterOrder, Altered, Confidence, Directive, Event, Explanation, Holds, JobSpec, ManageCommand,
    ManageOrder, MoveOrder, Queue, Settings, Submission, Suggestion, apply, explain, plan,
};
use capstan_types::{AttributeObject, JobId, QueueName, ResourceList, ServerName, SetOperator};

use crate::harness::{World, array, caller, inventory, submission};

/// Numbers that look thrown (Knuth's multiplier).
struct Dice(u64);

impl Dice {
    fn throw(&mut self, sides: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % sides
    }
}

/// `set OBJECT [NAME] ATTRIBUTE = VALUE`, of root.
fn managing_order(line: &str) -> Event {
    let words: Vec<&str> = line.split_whitespace().collect();
    let (object, name, rest) = match words[1] {
        "server" => (AttributeObject::Server, "", &words[2..]),
        _ => (AttributeObject::Queue, words[2], &words[3..]),
    };
    Event::Manage(Box::new(ManageOrder {
        by: caller("root"),
        command: ManageCommand::Set,
        object,
        name: name.into(),
        directives: vec![Directive {
            name: rest[0].into(),
            resource: "".into(),
            operator: SetOperator::Assign,
            value: rest[2].into(),
        }],
    }))
}

fn cluster(dice: &mut Dice) -> World {
    let mut settings = Settings::new(ServerName::from("hn1"));
    let policies = ["default", "fair", "easy", "fifo"];
    let policy = policies[dice.throw(4) as usize];
    let mut high = Queue::new(QueueName::from("high"));
    high.set("Priority", "1");
    settings.add_queue(high);
    let mut world = World::new(settings);
    let order = format!("set server policy = {policy}");
    world.must(&managing_order(&order));
    if dice.throw(2) == 0 {
        let depth = dice.throw(4);
        world.must(&managing_order(&format!(
            "set server backfill_depth = {depth}"
        )));
    }
    if dice.throw(3) == 0 {
        world.must(&managing_order("set queue batch max_user_run = 3"));
    }
    for name in ["a", "b", "c"] {
        let cards = [2, 4, 8][dice.throw(3) as usize];
        let mut found = inventory(name, 8, cards);
        if dice.throw(2) == 0 {
            for card in &mut found.cards {
                card.model = "NVIDIA GeForce RTX 3090".into();
            }
        }
        world.attach(name, found, Vec::new());
    }
    world
}

fn queue(world: &mut World, dice: &mut Dice) {
    let gpus = dice.throw(9);
    let nodes = 1 + dice.throw(8) / 5;
    let ppn = 1 + dice.throw(4);
    let model = if gpus > 0 && dice.throw(4) == 0 {
        ":3090"
    } else {
        ""
    };
    let walltime = 600 * (1 + dice.throw(40));
    let request = format!("nodes={nodes}:ppn={ppn}:gpus={gpus}{model} walltime={walltime}");
    let mut job: Submission = match dice.throw(6) {
        0 => array("0-2", &request),
        _ => submission(&request),
    };
    job.spec.name = format!("job{}", dice.throw(3)).into();
    job.spec.owner.user = ["alice", "bob"][dice.throw(2) as usize].into();
    // Who asks for more than there is is refused, and that is that.
    world.submit(job).ok();
}

fn changed(world: &World, job: JobId, suggestion: &Suggestion) -> Event {
    let owner = world.job(job).spec.owner.user.clone();
    let by = caller(&owner);
    match suggestion {
        Suggestion::Queue(queue) => Event::Move(MoveOrder {
            job,
            queue: Some(queue.clone()),
            by,
        }),
        Suggestion::Resource { name, value, .. } => {
            let mut resources = ResourceList::default();
            resources.set(name, value).unwrap();
            let spec = JobSpec {
                resources,
                ..JobSpec::default()
            };
            let wish = Submission {
                spec,
                holds: Holds::default(),
                ..submission("")
            };
            Event::Alter(Box::new(AlterOrder {
                job,
                members: None,
                by,
                altered: vec![Altered::Resource(name.clone())],
                wish: Box::new(wish),
                slot_limit: None,
                comment: Box::default(),
            }))
        }
    }
}

fn check_all(world: &World, seed: u64) -> usize {
    let made = plan(&world.state, world.now);
    let mut checked = 0;
    for (job, _) in &made.reasons {
        let Explanation { suggestions, .. } =
            explain(&world.state, &made, *job, world.now).unwrap();
        for suggestion in suggestions {
            let mut state = world.state.clone();
            let event = changed(world, *job, &suggestion);
            apply(&mut state, &event, world.now).unwrap();
            let again = plan(&state, world.now);
            let starts = again
                .placements
                .iter()
                .any(|placed| placed.job.seq == job.seq);
            assert!(
                starts,
                "seed {seed}: {job} {suggestion:?}\nbefore {:?} {:?}\nafter {:?} {:?}\n{:?} {:?}",
                made.line,
                made.promises,
                again.line,
                again.promises,
                state.settings().unwrap().attributes.text("policy"),
                again.reasons
            );
            checked += 1;
        }
    }
    checked
}

/// What is said of a later start comes true too: who has nodes reserved has them by then, and others are told that time.
fn check_sooner(world: &World, seed: u64) -> [usize; 2] {
    let made = plan(&world.state, world.now);
    let mut checked = [0, 0];
    for (job, _) in &made.reasons {
        let found = explain(&world.state, &made, *job, world.now).unwrap();
        let Some(start) = found.start else {
            continue;
        };
        for sooner in found.sooner {
            let mut state = world.state.clone();
            let event = changed(world, *job, &sooner.suggestion);
            apply(&mut state, &event, world.now).unwrap();
            let again = plan(&state, world.now);
            let told = explain(&state, &again, *job, world.now).unwrap().start;
            let case = format!(
                "seed {seed}: {job} {start:?} {sooner:?} then {told:?}\nbefore {:?} {:?}\nafter {:?} {:?}\n{:?}",
                made.line, made.promises, again.line, again.promises, again.reasons
            );
            assert!(sooner.at < start.at, "{case}");
            let told = told.expect(&case);
            assert!(told.at <= sooner.at, "{case}");
            let is_firm = sooner.confidence == Confidence::Firm;
            assert!(!is_firm || told.confidence == Confidence::Firm, "{case}");
            checked[usize::from(!is_firm)] += 1;
        }
    }
    checked
}

fn for_many_clusters(mut check: impl FnMut(&World, u64)) {
    for seed in 0..150 {
        let mut dice = Dice(seed);
        let mut world = cluster(&mut dice);
        for _ in 0..4 {
            for _ in 0..4 {
                queue(&mut world, &mut dice);
            }
            let placed = world.place();
            for placement in placed.placements {
                world.started(placement.job);
            }
            check(&world, seed);
            world.pass(300 * (1 + dice.throw(5)));
        }
    }
}

#[test]
fn suggestions_come_true() {
    let mut checked = 0;
    for_many_clusters(|world, seed| checked += check_all(world, seed));
    assert!(checked > 500, "{checked} suggestions");
}

#[test]
fn changes_that_are_said_to_start_a_job_sooner_do() {
    let mut checked = [0, 0];
    for_many_clusters(|world, seed| {
        let [firm, likely] = check_sooner(world, seed);
        checked = [checked[0] + firm, checked[1] + likely];
    });
    assert!(checked.iter().all(|count| *count > 50), "{checked:?}");
}
