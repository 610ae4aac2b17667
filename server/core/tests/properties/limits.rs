//! No plan exceeds a limit: what runs after it is counted once more, without the plan's own counting.

use capstan_core::{Event, ManageCommand, ManageOrder, State};
use capstan_types::{AttributeObject, SetOperator};
use proptest::prelude::*;

use crate::harness::{World, caller, submission};

/// Attributes with a limit each: what they count, and for whom.
const NUMBERS: [(&str, Of, Per); 9] = [
    ("max_running", Of::Jobs, Per::All),
    ("max_user_run", Of::Jobs, Per::User),
    ("max_group_run", Of::Jobs, Per::Group),
    ("max_cards", Of::Cards, Per::All),
    ("max_user_cards", Of::Cards, Per::User),
    ("max_group_cards", Of::Cards, Per::Group),
    ("max_cores", Of::Cores, Per::All),
    ("max_user_cores", Of::Cores, Per::User),
    ("max_user_cards_of", Of::CardsOfNode, Per::User),
];
/// Cards of this node are of another model.
const OTHER_NODE: &str = "node03";
const USERS: [(&str, &str); 3] = [("alice", "vision"), ("bob", "vision"), ("carol", "nlp")];

#[derive(Clone, Copy, Debug)]
enum Of {
    Jobs,
    Cards,
    Cores,
    CardsOfNode,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Per {
    All,
    User,
    Group,
}

/// A limit: which, of the server or the queue, how much, and of whom another number holds.
type Limit = (usize, bool, u64, Option<(usize, u64)>);
/// A job: whose, cards, slots.
type Wish = (usize, u32, u32);

pub(crate) fn limits() -> impl Strategy<Value = Vec<Limit>> {
    let exception = proptest::option::of((0..USERS.len(), 0..7_u64));
    let limit = (0..NUMBERS.len(), any::<bool>(), 0..7_u64, exception);
    proptest::collection::vec(limit, 1..5)
}

pub(crate) fn wishes() -> impl Strategy<Value = Vec<Wish>> {
    proptest::collection::vec((0..USERS.len(), 0..4_u32, 1..5_u32), 1..25)
}

pub(crate) fn hold(limits: &[Limit], wishes: &[Wish]) {
    let mut world = World::with_nodes(&[("node01", 8, 4), ("node02", 8, 2), (OTHER_NODE, 6, 3)]);
    let mut inventory = crate::harness::inventory(OTHER_NODE, 6, 3);
    for card in &mut inventory.cards {
        card.model = "A100".into();
    }
    world.attach(OTHER_NODE, inventory, Vec::new());
    for limit in limits {
        set(&mut world, limit);
    }
    for (user, cards, slots) in wishes {
        let mut job = submission(&format!("nodes=1:ppn={slots}:gpus={cards}"));
        let (user, group) = USERS[*user];
        (job.spec.owner.user, job.spec.owner.group) = (user.into(), group.into());
        // What could never run is refused.
        drop(world.submit(job));
    }
    for _ in 0..4 {
        let plan = world.place();
        check(&world.state, limits);
        let Some(first) = plan.placements.first() else {
            break;
        };
        world.exits(first.job, 0);
    }
}

fn set(world: &mut World, (at, is_queues, most, exception): &Limit) {
    let (attribute, of, per) = NUMBERS[*at];
    let value = |most: &u64| match of {
        Of::CardsOfNode => format!("a100={most}"),
        Of::Jobs | Of::Cards | Of::Cores => most.to_string(),
    };
    order(
        world,
        *is_queues,
        (attribute, SetOperator::Assign, value(most)),
    );
    // The last entry for somebody is the one that holds.
    if let Some((user, most)) = exception {
        let who = match per {
            Per::All => return,
            Per::User => USERS[*user].0,
            Per::Group => USERS[*user].1,
        };
        let entry = format!("{who}:{attribute}={}", value(most));
        order(
            world,
            *is_queues,
            ("limit_exceptions", SetOperator::Add, entry),
        );
    }
}

fn order(
    world: &mut World,
    is_queues: bool,
    (attribute, operator, value): (&str, SetOperator, String),
) {
    let (object, name) = match is_queues {
        true => (AttributeObject::Queue, "batch"),
        false => (AttributeObject::Server, ""),
    };
    world.must(&Event::Manage(Box::new(ManageOrder {
        by: caller("root"),
        command: ManageCommand::Set,
        object,
        name: name.into(),
        directives: vec![capstan_core::Directive {
            name: attribute.into(),
            resource: "".into(),
            operator,
            value: value.into(),
        }],
    })));
}

/// All jobs are in one queue, so that a limit of the queue and one of the server count the same. The last that was set
/// of each holds.
fn check(state: &State, limits: &[Limit]) {
    for (at, (which, is_queues, most, _)) in limits.iter().enumerate() {
        let is_later = |later: &Limit| later.0 == *which && later.1 == *is_queues;
        if limits[at + 1..].iter().any(is_later) {
            continue;
        }
        let (attribute, of, per) = NUMBERS[*which];
        let exceptions: Vec<(&str, u64)> = limits
            .iter()
            .filter(|other| other.0 == *which && other.1 == *is_queues)
            .filter_map(|(.., exception)| *exception)
            .map(|(user, most)| match per {
                Per::All => ("", most),
                Per::User => (USERS[user].0, most),
                Per::Group => (USERS[user].1, most),
            })
            .collect();
        for (user, group) in USERS {
            let own = exceptions.iter().rfind(|(who, _)| match per {
                Per::All => false,
                Per::User => *who == user,
                Per::Group => *who == group,
            });
            let most = own.map_or(*most, |(_, most)| *most);
            let used: u64 = state
                .running()
                .filter(|(_, job)| match per {
                    Per::All => true,
                    Per::User => *job.spec.owner.user == *user,
                    Per::Group => *job.spec.owner.group == *group,
                })
                .flat_map(|(_, job)| job.state.run().unwrap().shares.to_vec())
                .map(|share| match of {
                    Of::Jobs => 1,
                    Of::Cards => share.cards.len() as u64,
                    Of::Cores => share.slots.len() as u64,
                    Of::CardsOfNode if share.node.as_str() == OTHER_NODE => {
                        share.cards.len() as u64
                    }
                    Of::CardsOfNode => 0,
                })
                .sum();
            assert!(
                used <= most,
                "{attribute} = {most}, and {user} of {group} has {used}"
            );
        }
    }
}
