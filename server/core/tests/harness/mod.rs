//! A world for tests of the core: a state, a clock that the test turns, and the events of everyday life. After every
//! event the invariants of STYLE are checked, and a second state made of the stored changes alone must be the same.
#![allow(dead_code, reason = "each test binary uses its own part of this")]

mod invariants;

use std::sync::Arc;

use capstan_core::{
    AttemptReport, Caller, Card, Change, DeleteOrder, Effect, Event, Hello, HoldOrder, Holds,
    Inventory, Job, JobSpec, JobState, Outcome, Owner, Payload, Plan, PlanOrder, Rejection, Reply,
    ReportedPhase, Settings, State, Submission, Usage, apply, plan,
};
use capstan_types::{
    AgentId, AttemptId, CardId, Condition, JobId, NodeName, ServerName, Timestamp,
};

pub(crate) use invariants::{check_invariants, slot_limits_hold};

/// Where the clock of every test begins.
pub(crate) const DAWN: Timestamp = Timestamp(1_800_000_000_000);

pub(crate) struct World {
    pub(crate) state: State,
    /// Made of the changes alone, as after a restart.
    pub(crate) replayed: State,
    pub(crate) now: Timestamp,
    pub(crate) settings: Settings,
    /// All effects so far.
    pub(crate) effects: Vec<Effect>,
}

impl World {
    pub(crate) fn new(settings: Settings) -> Self {
        let mut world = Self {
            state: State::default(),
            replayed: State::default(),
            now: DAWN,
            settings: settings.clone(),
            effects: Vec::new(),
        };
        world.must(&Event::ServerStarted(Arc::new(settings)));
        world
    }

    pub(crate) fn with_nodes(nodes: &[(&str, u16, u32)]) -> Self {
        let mut world = Self::new(Settings::new(ServerName::from("hn1")));
        for (name, slots, cards) in nodes {
            world.attach(name, inventory(name, *slots, *cards), Vec::new());
        }
        world
    }

    /// Applies an event, checks what always holds, and returns what it did.
    pub(crate) fn apply(&mut self, event: &Event) -> Result<Outcome, Rejection> {
        let before: Vec<Change> = self.state.as_changes().collect();
        let outcome = apply(&mut self.state, event, self.now);
        match &outcome {
            Ok(outcome) => {
                outcome
                    .changes
                    .iter()
                    .for_each(|change| self.replayed.absorb(change));
                self.effects.extend(outcome.effects.iter().cloned());
            }
            Err(_) => assert_eq!(
                before,
                changes(&self.state),
                "a refusal changes nothing: {event:?}"
            ),
        }
        assert_eq!(
            changes(&self.state),
            changes(&self.replayed),
            "changes make the same state: {event:?}"
        );
        check_invariants(&self.state);
        if let Event::Placed(_) | Event::Planned(_) | Event::Run(_) = event {
            slot_limits_hold(&before, &self.state);
        }
        outcome
    }

    pub(crate) fn must(&mut self, event: &Event) -> Outcome {
        match self.apply(event) {
            Ok(outcome) => outcome,
            Err(rejection) => panic!("{event:?} refused: {rejection}"),
        }
    }

    pub(crate) fn pass(&mut self, secs: u64) -> Outcome {
        self.now = self.now.plus_secs(secs);
        self.must(&Event::Tick)
    }

    pub(crate) fn attach(
        &mut self,
        name: &str,
        inventory: Inventory,
        attempts: Vec<AttemptReport>,
    ) -> Outcome {
        self.must(&hello(name, inventory, attempts))
    }

    pub(crate) fn detach(&mut self, name: &str) {
        let (node, agent) = (
            NodeName::from(name),
            AgentId::from(format!("agent-of-{name}")),
        );
        self.must(&Event::NodeDetached { node, agent });
    }

    pub(crate) fn submit(&mut self, job: Submission) -> Result<JobId, Rejection> {
        let outcome = self.apply(&Event::Submit(Box::new(job)))?;
        match outcome.reply {
            Reply::Submitted(id) => Ok(id),
            Reply::Done | Reply::SomeUnchanged | Reply::Reserved(_) => {
                panic!("a submission is answered with an id")
            }
        }
    }

    pub(crate) fn queue(&mut self, resources: &str) -> JobId {
        self.submit(submission(resources)).unwrap()
    }

    pub(crate) fn plan(&self) -> Plan {
        let made = plan(&self.state, self.now);
        assert_eq!(
            made,
            plan(&self.state, self.now),
            "planning twice gives one plan"
        );
        let mut restarted = State::default();
        let snapshot = self.state.as_changes();
        snapshot.for_each(|change| restarted.absorb(&change));
        assert_eq!(
            made,
            plan(&restarted, self.now),
            "a restart changes no decision"
        );
        assert!(restarted.held().eq(self.state.held()));
        assert!(restarted.running().eq(self.state.running()));
        made
    }

    /// Plans, and places what was planned: all of it must hold.
    pub(crate) fn place(&mut self) -> Plan {
        let made = self.plan();
        let live = self.state.running().count();
        self.must(&Event::Planned(PlanOrder {
            at: self.now,
            placements: made.placements.clone(),
            preemptions: made.preemptions.clone(),
            waits: Vec::new(),
            preparations: made.preparations.clone(),
        }));
        assert_eq!(
            self.state.running().count(),
            live + made.placements.len(),
            "a fresh plan holds"
        );
        for told in &made.preemptions {
            let job = self.job(told.job);
            let is_told = matches!(&job.state, JobState::Exiting(_, order) if order.for_job == Some(told.for_job));
            assert!(is_told, "job {} is told to stop", job.id);
        }
        made
    }

    pub(crate) fn job(&self, id: JobId) -> Arc<Job> {
        self.state
            .resolve(id)
            .unwrap_or_else(|| panic!("job {id} is there"))
    }

    pub(crate) fn attempt(&self, id: JobId) -> AttemptId {
        let job = self.job(id);
        job.state
            .run()
            .unwrap_or_else(|| panic!("{id} has an attempt: {:?}", job.state))
            .attempt
    }

    pub(crate) fn node_of(&self, id: JobId) -> NodeName {
        self.job(id).state.run().unwrap().shares[0].node.clone()
    }

    pub(crate) fn report(&mut self, id: JobId, phase: ReportedPhase) -> Outcome {
        let (attempt, node) = (self.attempt(id), self.node_of(id));
        let report = AttemptReport { attempt, phase };
        self.must(&Event::Reported { node, report })
    }

    pub(crate) fn started(&mut self, id: JobId) {
        let (at, session) = (self.now, 4242);
        self.report(id, ReportedPhase::Running { at, session });
    }

    pub(crate) fn exits(&mut self, id: JobId, exit_status: i32) -> Outcome {
        self.report(id, exited(exit_status))
    }

    pub(crate) fn delete(&mut self, job: JobId) -> Result<Outcome, Rejection> {
        self.apply(&Event::Delete(deletion(job, "alice")))
    }

    pub(crate) fn hold(&mut self, job: JobId, letters: &str) -> Result<Outcome, Rejection> {
        self.apply(&Event::Hold(hold_order(job, letters, "alice")))
    }

    pub(crate) fn release(&mut self, job: JobId, letters: &str) -> Result<Outcome, Rejection> {
        self.apply(&Event::Release(hold_order(job, letters, "alice")))
    }

    pub(crate) fn exit_status(&self, id: JobId) -> Option<i32> {
        let job = self.job(id);
        let capstan_core::JobState::Ended(ended) = &job.state else {
            panic!("{id} is {}", job.state.name());
        };
        ended.exit_status
    }

    pub(crate) fn letter(&self, id: JobId) -> char {
        self.job(id).letter(self.now)
    }
}

pub(crate) fn changes(state: &State) -> Vec<Change> {
    state.as_changes().collect()
}

pub(crate) fn caller(user: &str) -> Caller {
    let uid = if user == "root" { 0 } else { 1000 };
    let (user, host) = (user.into(), "hn1".into());
    Caller { user, uid, host }
}

pub(crate) fn deletion(job: JobId, user: &str) -> DeleteOrder {
    DeleteOrder {
        job,
        by: caller(user),
        grace_secs: None,
        purge: false,
        message: Box::default(),
    }
}

pub(crate) fn hold_order(job: JobId, letters: &str, user: &str) -> HoldOrder {
    HoldOrder {
        job,
        holds: Holds::parse(letters).unwrap(),
        by: caller(user),
    }
}

pub(crate) fn exited(exit_status: i32) -> ReportedPhase {
    ReportedPhase::Exited {
        at: DAWN,
        exit_status,
        usage: Usage {
            walltime_secs: 7,
            ..Usage::default()
        },
        unclean: Vec::new(),
        cause: Box::default(),
        images: Vec::new(),
        undelivered: Box::default(),
    }
}

pub(crate) fn hello(name: &str, inventory: Inventory, attempts: Vec<AttemptReport>) -> Event {
    Event::NodeAttached(Box::new(Hello {
        node: NodeName::from(name),
        agent: AgentId::from(format!("agent-of-{name}")),
        inventory,
        attempts,
        unclean: Vec::new(),
    }))
}

pub(crate) fn card(node: &str, index: u32) -> CardId {
    CardId::from(format!("GPU-{node}-{index}"))
}

pub(crate) fn inventory(node: &str, cores: u16, cards: u32) -> Inventory {
    let cards = (0..cards).map(|index| Card {
        uuid: card(node, index),
        index,
        model: "H200".into(),
        memory_bytes: 139 << 30,
        pci_address: format!("00000000:{index:02X}:00.0").into(),
        driver: "570.1".into(),
        traits: capstan_core::CardTraits::default(),
    });
    Inventory {
        cores,
        memory_bytes: 64 << 30,
        cards: cards.collect(),
        ..Inventory::default()
    }
}

/// A rerunnable job of alice with these `-l` resources, separated by blanks.
pub(crate) fn submission(resources: &str) -> Submission {
    let mut spec = JobSpec {
        name: "job".into(),
        owner: Owner {
            user: "alice".into(),
            uid: 1000,
            group: "users".into(),
            host: "hn1".into(),
            groups: Vec::new(),
        },
        is_rerunnable: true,
        ..JobSpec::default()
    };
    for resource in resources.split_whitespace() {
        let (name, value) = resource.split_once('=').unwrap();
        spec.resources.set(name, value).unwrap();
    }
    Submission {
        spec,
        payload: Arc::new(Payload {
            script: b"#!/bin/sh\ntrue\n".to_vec(),
            ..Payload::default()
        }),
        queue: None,
        priority: 0,
        holds: Holds::default(),
        not_before: None,
        depends: Vec::new(),
        ties: Vec::new(),
    }
}

pub(crate) fn after(condition: Condition, job: JobId) -> Submission {
    Submission {
        depends: vec![(condition, job)],
        ..submission("")
    }
}

pub(crate) fn array(list: &str, resources: &str) -> Submission {
    let mut submission = submission(resources);
    submission.spec.array = Some(capstan_types::ArrayRequest::parse(list).unwrap());
    submission
}
