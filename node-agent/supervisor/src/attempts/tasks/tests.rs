//! What may run as a task, and how many.

use super::places::{PROGRAMS_MAX, PROGRAMS_PER_ATTEMPT_MAX, TASKS_MAX, TASKS_PER_ATTEMPT_MAX};
use super::*;

fn asked(arguments: &[&str], environment: &[(&str, &str)]) -> TaskAsked {
    TaskAsked {
        place: 0,
        rank: 0,
        is_gang: false,
        arguments: arguments.iter().map(|word| (*word).to_owned()).collect(),
        environment: environment
            .iter()
            .map(|(name, value)| Variable {
                name: (*name).to_owned(),
                value: (*value).to_owned(),
            })
            .collect(),
        key: String::new(),
        from_byte: None,
    }
}

#[test]
fn words_that_no_program_can_be_given_are_refused() {
    let refusal = |arguments: &[&str], environment: &[(&str, &str)]| {
        check(&asked(arguments, environment)).err()
    };
    assert_eq!(refusal(&["env", "a\nb", ""], &[("A", "b\nc=d")]), None);
    assert_eq!(refusal(&[], &[]), Some(TaskRefused::NoProgram));
    assert_eq!(refusal(&[""], &[]), Some(TaskRefused::NoProgram));
    assert_eq!(refusal(&["env", "a\0b"], &[]), Some(TaskRefused::Nul));
    for bad in [("", "x"), ("A=B", "x"), ("A\0", "x"), ("A", "x\0")] {
        assert_eq!(refusal(&["env"], &[bad]), Some(TaskRefused::Nul), "{bad:?}");
    }
    let long = "x".repeat(BYTES_MAX);
    assert!(matches!(
        refusal(&["env", &long], &[]),
        Some(TaskRefused::TooLong { .. })
    ));
    let many = vec!["x"; WORDS_MAX + 1];
    assert!(matches!(
        refusal(&many, &[]),
        Some(TaskRefused::TooLong { .. })
    ));
}

#[test]
fn an_attempt_has_a_bounded_number_of_tasks() {
    let table = TaskTable::default();
    let (one, other) = (AttemptId(1), AttemptId(2));
    let mut places: Vec<_> = (0..TASKS_PER_ATTEMPT_MAX)
        .map(|_| table.admit(one, None).unwrap())
        .collect();
    assert!(matches!(
        table.admit(one, None),
        Err(TaskRefused::TooMany { running }) if running == TASKS_PER_ATTEMPT_MAX
    ));
    assert!(table.admit(other, None).is_ok());
    places.pop();
    assert!(table.admit(one, None).is_ok());
    drop(places);
    assert!(!table.has(one));
}

#[test]
fn people_run_a_bounded_number_of_programs_in_an_attempt_and_in_all() {
    let table = TaskTable::default();
    let admit = |attempt: u64| table.admit_program(AttemptId(attempt), Some(attempt as u32));
    let mut own: Vec<_> = (0..999).map_while(|_| admit(1).ok()).collect();
    assert_eq!(own.len(), PROGRAMS_PER_ATTEMPT_MAX);
    assert!(
        table.admit(AttemptId(1), None).is_ok(),
        "its tasks are not fewer"
    );
    own.pop();
    own.extend(admit(1));
    assert_eq!(own.len(), PROGRAMS_PER_ATTEMPT_MAX);
    let others = (2..999).flat_map(|attempt| (0..9).map_while(move |_| admit(attempt).ok()));
    let others: Vec<_> = others.collect();
    assert_eq!(own.len() + others.len(), PROGRAMS_MAX);
    drop((own, others));
    assert!(!table.has(AttemptId(1)));
}

/// However many jobs he has: half of the places is left, and of that half for the next.
#[test]
fn one_user_cannot_take_all_places_of_a_node() {
    let table = TaskTable::default();
    let fill = |uid: u32, range: std::ops::Range<u64>| -> Vec<_> {
        let admit = |attempt| table.admit_program(AttemptId(attempt), Some(uid));
        range
            .flat_map(|attempt| (0..99).map_while(move |_| admit(attempt).ok()))
            .collect()
    };
    let first = fill(7, 0..99);
    assert_eq!(first.len(), PROGRAMS_MAX / 2);
    let refused = table.admit_program(AttemptId(200), Some(7)).err();
    let running = PROGRAMS_MAX / 2;
    assert_eq!(refused, Some(TaskRefused::Share { running }));
    assert!(!table.has(AttemptId(200)), "nothing is left of a refusal");
    let second = fill(8, 100..199);
    assert_eq!(second.len(), PROGRAMS_MAX / 4);
    assert!(table.admit_program(AttemptId(300), Some(9)).is_ok());
    // What runs already is taken up again whosever it is.
    assert!(table.admit_program(AttemptId(300), None).is_ok());
    drop((first, second));
    assert!(table.admit_program(AttemptId(0), Some(7)).is_ok());

    let admit = |attempt| table.admit(AttemptId(attempt), Some(7));
    let tasks = (0..99).flat_map(|attempt| (0..2000).map_while(move |_| admit(attempt).ok()));
    assert_eq!(tasks.collect::<Vec<_>>().len(), TASKS_MAX / 2);
}

#[tokio::test]
async fn the_end_of_an_attempt_waits_for_its_tasks_and_lets_no_more_in() {
    let table = TaskTable::default();
    let attempt = AttemptId(1);
    let place = table.admit(attempt, None).unwrap();
    let (ending, other) = (place.ending.clone(), table.clone());
    let ended = tokio::spawn(async move { other.end_attempt(attempt).await });
    ending.cancelled().await;
    assert!(matches!(
        table.admit(attempt, None),
        Err(TaskRefused::Ending)
    ));
    assert!(!ended.is_finished());
    drop(place);
    ended.await.unwrap();
}

#[test]
fn nodes_of_an_attempt_are_counted_in_their_order() {
    let spec = LaunchSpec {
        node_file: ["b", "b", "a", "b", "c"].map(str::to_owned).to_vec(),
        ..LaunchSpec::default()
    };
    let indices: Vec<u32> = (0..6).map(|vnode| node_index(&spec, vnode)).collect();
    assert_eq!(indices, [0, 0, 1, 0, 2, 0]);
}
