//! Maintenance, dedicated time and active hours: no job runs where and when it must not, and says so.

use capstan_core::{Event, Queue, ReserveOrder, ReserveProblem, ReserveWish, Settings};
use capstan_types::{JobId, QueueName, Reason, ServerName, Timestamp, Zone};

use crate::harness::{World, inventory, submission};
use crate::reservations::{at, order, reason, reserve};

fn maintenance(hosts: &[&str], times: &[(u64, u64)]) -> ReserveOrder {
    let hosts = hosts.iter().map(|host| (*host).into()).collect();
    order(ReserveWish::Maintenance { hosts }, times)
}

fn in_queue(world: &mut World, queue: &str, resources: &str) -> JobId {
    let mut job = submission(resources);
    job.queue = Some(QueueName::from(queue));
    world.submit(job).unwrap()
}

#[test]
fn nobody_runs_into_maintenance_and_other_nodes_go_on() {
    let mut world = World::with_nodes(&[("a", 8, 4), ("b", 8, 4)]);
    let id = reserve(&mut world, maintenance(&["a"], &[(1000, 5000)])).unwrap();
    assert_eq!(id.to_string(), "M1");
    let one = world.queue("nodes=1:gpus=4 walltime=2000");
    let two = world.queue("nodes=1:gpus=4 walltime=2000");
    world.place();
    assert_eq!(world.node_of(one).as_str(), "b");
    assert_eq!(
        reason(&world, two),
        Some(Reason::Window {
            reservation: id,
            name: "course".into(),
            starts: at(1000),
            fits_secs: 1000
        })
    );
    let named = world.queue("nodes=a:gpus=1 walltime=2000");
    assert!(matches!(reason(&world, named), Some(Reason::Window { .. })));
    // In the middle of it no walltime would do.
    world.pass(1500);
    let named = world.queue("nodes=a:gpus=1 walltime=1");
    let Some(Reason::Window {
        fits_secs, starts, ..
    }) = reason(&world, named)
    else {
        panic!("it waits for the window: {:?}", reason(&world, named));
    };
    assert_eq!((fits_secs, starts), (0, at(1000)));
    world.pass(3500);
    world.place();
    assert_eq!(world.letter(named), 'R');
}

#[test]
fn a_job_without_a_walltime_does_not_start_before_a_window() {
    let mut settings = Settings::new(ServerName::from("hn1"));
    let queue = settings.queues.get_mut("batch").unwrap();
    queue.attributes.put("resources_default", None);
    let mut world = World::new(settings);
    world.attach("a", inventory("a", 8, 4), Vec::new());
    reserve(&mut world, maintenance(&[], &[(100_000, 200_000)])).unwrap();
    let endless = world.queue("nodes=1");
    assert!(matches!(
        reason(&world, endless),
        Some(Reason::Window { .. })
    ));
}

#[test]
fn maintenance_over_running_jobs_is_refused_unless_forced_and_then_begins_when_they_end() {
    let mut world = World::with_nodes(&[("a", 8, 4), ("b", 8, 4)]);
    let running = world.queue("nodes=a:gpus=1 walltime=3000");
    world.place();
    world.started(running);
    let refused = reserve(&mut world, maintenance(&[], &[(1000, 5000)])).unwrap_err();
    let expected = ReserveProblem::JobsRun {
        jobs: 1,
        job: running,
        node: "a".into(),
        until: at(3000),
    };
    assert_eq!(refused, expected.into());
    reserve(&mut world, maintenance(&["b"], &[(1000, 5000)])).unwrap();
    let refused = reserve(&mut world, maintenance(&["b"], &[(4000, 6000)])).unwrap_err();
    assert!(
        refused.to_string().starts_with("M2 has b in that time"),
        "{refused}"
    );
    let mut forced = maintenance(&["a"], &[(1000, 5000)]);
    forced.is_forced = true;
    reserve(&mut world, forced).unwrap();
    world.pass(1000);
    assert_eq!(world.letter(running), 'R');
    let next = world.queue("nodes=a walltime=10");
    world.place();
    assert_eq!(world.letter(next), 'Q');
    let unknown = reserve(&mut world, maintenance(&["nosuch"], &[(9000, 9001)])).unwrap_err();
    assert_eq!(unknown, ReserveProblem::UnknownHost("nosuch".into()).into());
}

#[test]
fn dedicated_time_is_for_the_jobs_of_its_queues() {
    let mut settings = Settings::new(ServerName::from("hn1"));
    settings.add_queue(Queue::new(QueueName::from("exam")));
    let mut world = World::new(settings);
    world.attach("a", inventory("a", 8, 4), Vec::new());
    let wish = |queue: &str| ReserveWish::Dedicated {
        queues: vec![QueueName::from(queue)],
        hosts: Vec::new(),
    };
    let unknown = reserve(&mut world, order(wish("nosuch"), &[(1000, 5000)])).unwrap_err();
    assert_eq!(
        unknown,
        ReserveProblem::UnknownQueue("nosuch".into()).into()
    );
    let id = reserve(&mut world, order(wish("exam"), &[(1000, 5000)])).unwrap();
    assert_eq!(id.to_string(), "D1");
    let batch = in_queue(&mut world, "batch", "nodes=1:gpus=1 walltime=2000");
    let exam = in_queue(&mut world, "exam", "nodes=1:gpus=1 walltime=2000");
    world.place();
    assert_eq!((world.letter(batch), world.letter(exam)), ('Q', 'R'));
    assert!(
        matches!(reason(&world, batch), Some(Reason::Window { reservation, .. }) if reservation == id)
    );
}

/// Dawn is Friday, 15 January 2027, 08:00 UTC.
#[test]
fn a_queue_starts_its_jobs_in_its_hours_only() {
    let mut settings = Settings::new(ServerName::from("hn1"));
    let mut night = Queue::new(QueueName::from("night"));
    night.set("active_hours", "Mon-Fri 18:00-08:00,Sat,Sun");
    settings.add_queue(night.clone());
    night.name = QueueName::from("strict");
    night.set("active_hours", "07:00-09:00");
    night.set("finish_in_hours", "True");
    settings.add_queue(night);
    settings.zone = Zone::new("Asia/Shanghai", [(Timestamp(0), 28_800)]);
    let mut world = World::new(settings);
    world.attach("a", inventory("a", 8, 4), Vec::new());
    // In Shanghai it is 16:00: two hours to go.
    let job = in_queue(&mut world, "night", "nodes=1 walltime=100:00:00");
    assert_eq!(
        reason(&world, job),
        Some(Reason::QueueClosed {
            queue: "night".into(),
            opens: at(7200)
        })
    );
    assert_eq!(world.plan().look_again, Some(at(7200)));
    world.pass(7200);
    world.place();
    assert_eq!(world.letter(job), 'R');
    // 18:00 there, thirteen hours until the other queue opens.
    world.pass(13 * 3600);
    let long = in_queue(&mut world, "strict", "nodes=1 walltime=2:00:01");
    assert_eq!(
        reason(&world, long),
        Some(Reason::QueueCloses {
            queue: "strict".into(),
            closes: at(17 * 3600),
            fits_secs: 7200
        })
    );
    let short = in_queue(&mut world, "strict", "nodes=1 walltime=2:00:00");
    world.place();
    assert_eq!(world.letter(short), 'R');
}

#[test]
fn hours_that_are_none_are_refused_by_qmgr() {
    use capstan_core::{Directive, ManageCommand, ManageOrder};
    use capstan_types::{AttributeObject, SetOperator};
    let mut world = World::with_nodes(&[]);
    let set = |value: &str| {
        Event::Manage(Box::new(ManageOrder {
            by: crate::harness::caller("root"),
            command: ManageCommand::Set,
            object: AttributeObject::Queue,
            name: "batch".into(),
            directives: vec![Directive {
                name: "active_hours".into(),
                resource: "".into(),
                operator: SetOperator::Assign,
                value: value.into(),
            }],
        }))
    };
    world.must(&set("Mon-Fri 18:00-08:00,Sat,Sun"));
    let refused = world.apply(&set("at night")).unwrap_err();
    assert!(refused.to_string().contains("active_hours"), "{refused}");
}
