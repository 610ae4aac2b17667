//! From requests to plans: the form of a request, and the decisions that need no file.

use super::*;

fn from_wire(request: wire::ContainerRequest) -> Result<Asked, Refused> {
    Asked::from_wire(request, &Allowed::default())
}

fn asked(options: &str, terminal: bool) -> Asked {
    from_wire(wire::ContainerRequest {
        image: "i".to_owned(),
        command_line: Some("x".to_owned()),
        engine_options: options.to_owned(),
        terminal: terminal.then_some(wire::WindowSize {
            rows: 40,
            columns: 100,
        }),
        key: "ab".to_owned(),
        ..wire::ContainerRequest::default()
    })
    .expect(options)
}

#[test]
fn a_request_says_one_thing() {
    let request = |line: Option<&str>, script: Option<&str>, key: &str| {
        from_wire(wire::ContainerRequest {
            image: "i".to_owned(),
            command_line: line.map(str::to_owned),
            script: script.map(str::to_owned),
            key: key.to_owned(),
            ..wire::ContainerRequest::default()
        })
    };
    assert!(request(Some("x"), None, "0f").is_ok());
    assert!(request(None, Some("x"), "0f").is_ok());
    assert!(request(Some("x"), Some("x"), "0f").is_err());
    assert!(request(None, None, "0f").is_err());
    for key in ["", "x", "../a", "00000000000000000000000000000000f"] {
        assert!(request(Some("x"), None, key).is_err(), "{key}");
    }
}

#[test]
fn shared_memory_is_a_share_of_the_jobs() {
    const GIB: u64 = 1 << 30;
    assert_eq!(shm(&asked("", false), Some(8 * GIB), 64 * GIB).0, 4 * GIB);
    assert_eq!(shm(&asked("", false), None, 64 * GIB).0, 32 * GIB);
    assert_eq!(
        shm(&asked("", false), Some(1 << 20), 64 * GIB).0,
        SHM_BYTES_MIN
    );
    assert_eq!(
        shm(&asked("--shm-size 8G", false), Some(GIB), 64 * GIB),
        (8 * GIB, None)
    );
    let (bytes, notice) = shm(&asked("--ipc=host", false), Some(8 * GIB), 64 * GIB);
    assert_eq!(bytes, 4 * GIB);
    assert!(notice.is_some_and(|notice| notice.contains("4096 MiB")));
}

#[test]
fn a_terminal_is_given_where_there_is_one() {
    let window = TerminalSize {
        rows: 40,
        columns: 100,
    };
    assert_eq!(streams(&asked("", true)), (false, None, None));
    assert_eq!(streams(&asked("-i", true)), (true, None, None));
    assert_eq!(streams(&asked("-it", true)), (true, Some(window), None));
    assert_eq!(
        streams(&asked("-t", false)),
        (
            false,
            Some(TerminalSize {
                rows: 24,
                columns: 80
            }),
            None
        )
    );
    let (interactive, terminal, notice) = streams(&asked("-it", false));
    assert!(interactive && terminal.is_none() && notice.is_some());
    assert_eq!(
        terminal_size(wire::WindowSize {
            rows: 0,
            columns: 80
        }),
        None
    );
    assert_eq!(
        terminal_size(wire::WindowSize {
            rows: 70_000,
            columns: 80
        }),
        None
    );
}

#[test]
fn cards_go_the_way_that_the_engine_knows() {
    use crate::containers::engine::Cards;
    let one = vec![CardId::from("GPU-a")];
    let facts = |runtimes: &[&str], has_cdi| EngineFacts {
        runtimes: runtimes.iter().map(|&name| name.to_owned()).collect(),
        has_cdi,
        ..EngineFacts::default()
    };
    let auto = |facts: EngineFacts| cards(one.clone(), CardsInContainers::Auto, &facts);
    assert_eq!(auto(facts(&["runc"], false)), Cards::Nvidia(one.clone()));
    assert_eq!(
        auto(facts(&["runc", "nvidia"], true)),
        Cards::Nvidia(one.clone())
    );
    assert_eq!(auto(facts(&["runc"], true)), Cards::Cdi(one.clone()));
    let none = cards(
        Vec::new(),
        CardsInContainers::Nvidia,
        &facts(&["nvidia"], true),
    );
    assert_eq!(none, Cards::ByEnvironment);
    assert_eq!(
        cards(
            one,
            CardsInContainers::Environment,
            &facts(&["nvidia"], true)
        ),
        Cards::ByEnvironment
    );
}
