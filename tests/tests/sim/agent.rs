//! A simulated agent: a ledger that survives its process, attempts that survive it too, and a connection that
//! breaks. It does what the protocol asks of real agents, no more.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use capstan_core::{
    AttemptReport, Card, CardTraits, Hello, ImageReport, Inventory, Job, NodeShare, ReportedPhase,
    Usage,
};
use capstan_types::{AgentId, AttemptId, CardId, NodeName, Timestamp};

use crate::images::Images;
use crate::rng::Rng;
use crate::truth::Truth;

/// Killed processes take their time to go: containers are ended, memory of cards is freed.
const DYING_MS_MAX: u64 = 3000;

/// What the server sends.
#[derive(Clone, Debug)]
pub(crate) enum Order {
    Welcome(Vec<AttemptId>),
    Start(Arc<Job>),
    Stop(AttemptId, u32),
    Forget(AttemptId),
    GetImage(Box<str>, u32),
    DropImage(Box<str>, u32),
}

/// What an agent sends.
#[derive(Clone, Debug)]
pub(crate) enum Word {
    Hello(Box<Hello>),
    Report(AttemptReport),
    Image(ImageReport),
    Clean,
}

/// A connection: messages arrive in order, each at its time, or never when it breaks.
#[derive(Default)]
pub(crate) struct Link {
    pub(crate) to_agent: VecDeque<(Timestamp, Order)>,
    pub(crate) to_server: VecDeque<(Timestamp, Word)>,
}

pub(crate) struct Agent {
    pub(crate) name: NodeName,
    pub(crate) id: AgentId,
    pub(crate) inventory: Inventory,
    pub(crate) link: Option<Link>,
    ledger: BTreeMap<AttemptId, Entry>,
    /// Disks lost so far; makes new agent ids.
    lives: u32,
    has_unclean: bool,
    pub(crate) images: Images,
}

struct Entry {
    job: Arc<Job>,
    phase: Phase,
}

enum Phase {
    Starting {
        begins: Timestamp,
    },
    Running {
        since: Timestamp,
        until: Timestamp,
        exit_status: i32,
    },
    Over(ReportedPhase),
}

impl Agent {
    pub(crate) fn new(name: &str, cores: u16, cards: u32) -> Self {
        let cards = (0..cards).map(|index| Card {
            uuid: CardId::from(format!("GPU-{name}-{index}")),
            index,
            model: "H200".into(),
            memory_bytes: 139 << 30,
            pci_address: "00000000:3B:00.0".into(),
            driver: "570.1".into(),
            traits: CardTraits::default(),
        });
        Self {
            name: name.into(),
            id: AgentId::from(format!("{name}-0")),
            inventory: Inventory {
                cores,
                memory_bytes: 64 << 30,
                cards: cards.collect(),
                engine: "29.1".into(),
                ..Inventory::default()
            },
            link: None,
            ledger: BTreeMap::new(),
            lives: 0,
            has_unclean: false,
            images: Images::default(),
        }
    }

    pub(crate) fn connect(&mut self, now: Timestamp) {
        self.link = Some(Link::default());
        let attempts = self
            .ledger
            .iter()
            .map(|(attempt, entry)| entry.report(*attempt));
        let hello = Hello {
            node: self.name.clone(),
            agent: self.id.clone(),
            inventory: self.inventory.clone(),
            attempts: attempts.collect(),
            unclean: Vec::new(),
        };
        self.say(now, Word::Hello(Box::new(hello)));
    }

    fn say(&mut self, now: Timestamp, word: Word) {
        if let Some(link) = &mut self.link {
            link.to_server.push_back((now, word));
        }
    }

    pub(crate) fn obey(&mut self, order: Order, now: Timestamp, rng: &mut Rng, truth: &mut Truth) {
        match order {
            Order::Welcome(expected) => {
                let known: Vec<AttemptId> = self.ledger.keys().copied().collect();
                for attempt in known
                    .into_iter()
                    .filter(|attempt| !expected.contains(attempt))
                {
                    let patience = rng.below(DYING_MS_MAX);
                    self.stop(attempt, now, patience, truth);
                }
            }
            Order::Start(job) => {
                let attempt = job
                    .state
                    .run()
                    .expect("an order to start names an attempt")
                    .attempt;
                let image = job.spec.own_image();
                assert!(
                    image.is_none_or(|image| self.images.has(image)),
                    "{} starts where its image is",
                    job.id
                );
                self.ledger.entry(attempt).or_insert_with(|| {
                    truth.known(attempt, &job);
                    let begins = Timestamp(now.0 + rng.below(200));
                    let phase = Phase::Starting { begins };
                    Entry { job, phase }
                });
            }
            Order::Stop(attempt, grace_secs) => {
                let patience = rng.below(u64::from(grace_secs) * 1000 + DYING_MS_MAX);
                self.stop(attempt, now, patience, truth);
            }
            Order::GetImage(image, uid) => self.images.get(&image, uid, now, rng),
            Order::DropImage(image, uid) => self.images.drop_order(&image, uid),
            Order::Forget(attempt) => {
                let is_over = |entry: &Entry| matches!(entry.phase, Phase::Over(_));
                if self.ledger.get(&attempt).is_some_and(is_over) {
                    self.ledger.remove(&attempt);
                }
            }
        }
    }

    fn stop(&mut self, attempt: AttemptId, now: Timestamp, patience_ms: u64, truth: &mut Truth) {
        let Some(entry) = self.ledger.get_mut(&attempt) else {
            return;
        };
        match &mut entry.phase {
            Phase::Starting { .. } => {
                truth.ends(&self.name, attempt, &[], Some(271));
                entry.phase = Phase::Over(exited(now, now, 271));
                let word = Word::Report(entry.report(attempt));
                self.say(now, word);
            }
            Phase::Running {
                until, exit_status, ..
            } => {
                let end = Timestamp(now.0 + patience_ms);
                if *until > end {
                    (*until, *exit_status) = (end, 271);
                }
            }
            Phase::Over(_) => {}
        }
    }

    /// What time does on the node.
    pub(crate) fn pass(&mut self, now: Timestamp, rng: &mut Rng, truth: &mut Truth) {
        let mut words = Vec::new();
        for (attempt, entry) in &mut self.ledger {
            if let Some(phase) = entry.next(*attempt, now, rng, truth) {
                entry.phase = phase;
                words.push(Word::Report(entry.report(*attempt)));
            }
        }
        for report in self.images.pass(now, rng) {
            self.say(now, Word::Image(report));
        }
        for mut word in words {
            self.soil(&mut word, rng);
            self.say(now, word);
        }
        if self.has_unclean && rng.chance(30) {
            self.has_unclean = self.link.is_none();
            self.say(now, Word::Clean);
        }
    }

    /// Now and then a card is not clean when its attempt is over.
    fn soil(&mut self, word: &mut Word, rng: &mut Rng) {
        if let Word::Report(report) = word
            && let ReportedPhase::Exited { unclean, .. } = &mut report.phase
            && let Some(card) = self.inventory.cards.first()
            && rng.chance(20)
        {
            unclean.push(card.uuid.clone());
            self.has_unclean = true;
        }
    }

    /// Says again what the server may have missed, in no order that it could count on.
    pub(crate) fn repeat(&mut self, now: Timestamp, rng: &mut Rng) {
        let known: Vec<Word> = self
            .ledger
            .iter()
            .map(|(attempt, entry)| Word::Report(entry.report(*attempt)))
            .collect();
        if let Some(word) = rng.pick(&known) {
            self.say(now, word.clone());
        }
    }

    /// The machine dies: no process is left. With its disk the ledger goes, and what comes back is another agent.
    pub(crate) fn crash(&mut self, now: Timestamp, with_disk: bool, truth: &mut Truth) {
        self.link = None;
        self.images.lose();
        for (attempt, entry) in &mut self.ledger {
            if let Phase::Running { .. } = entry.phase {
                truth.ends(&self.name, *attempt, &entry.cards(), None);
                let (at, reason) = (now, "the node was restarted".into());
                entry.phase = Phase::Over(ReportedPhase::Lost { at, reason });
            }
            if with_disk {
                truth.forgets(*attempt);
            }
        }
        if with_disk {
            self.ledger.clear();
            self.lives += 1;
            self.id = AgentId::from(format!("{}-{}", self.name, self.lives));
        }
    }

    pub(crate) fn is_idle(&self) -> bool {
        self.ledger.is_empty() && !self.has_unclean
    }
}

impl Entry {
    /// Only nodes of the script know an attempt.
    fn share(&self) -> &NodeShare {
        let run = self.job.state.run();
        &run.expect("an order to start names an attempt").shares[0]
    }

    fn node(&self) -> &NodeName {
        &self.share().node
    }

    fn cards(&self) -> Vec<CardId> {
        let cards = self.share().cards.iter();
        cards.map(|card| card.uuid.clone()).collect()
    }

    fn next(
        &self,
        attempt: AttemptId,
        now: Timestamp,
        rng: &mut Rng,
        truth: &mut Truth,
    ) -> Option<Phase> {
        match self.phase {
            Phase::Starting { begins } if begins <= now => {
                if rng.chance(3) {
                    let (at, reason) = (now, "no such folder".into());
                    truth.ends(self.node(), attempt, &[], None);
                    return Some(Phase::Over(ReportedPhase::Unstartable { at, reason }));
                }
                truth.begins(self.node(), attempt, &self.cards());
                let long = if rng.chance(25) { 600_000 } else { 20_000 };
                let exit_status = if rng.chance(70) {
                    0
                } else {
                    1 + rng.below(3) as i32
                };
                Some(Phase::Running {
                    since: now,
                    until: Timestamp(now.0 + rng.below(long)),
                    exit_status,
                })
            }
            Phase::Running {
                since,
                until,
                exit_status,
            } if until <= now => {
                truth.ends(self.node(), attempt, &self.cards(), Some(exit_status));
                Some(Phase::Over(exited(since, now, exit_status)))
            }
            Phase::Starting { .. } | Phase::Running { .. } | Phase::Over(_) => None,
        }
    }

    fn report(&self, attempt: AttemptId) -> AttemptReport {
        let phase = match &self.phase {
            Phase::Starting { .. } => ReportedPhase::Starting,
            Phase::Running { since, .. } => ReportedPhase::Running {
                at: *since,
                session: 7,
            },
            Phase::Over(word) => word.clone(),
        };
        AttemptReport { attempt, phase }
    }
}

fn exited(since: Timestamp, at: Timestamp, exit_status: i32) -> ReportedPhase {
    let usage = Usage {
        walltime_secs: at.secs_since(since),
        ..Usage::default()
    };
    ReportedPhase::Exited {
        at,
        exit_status,
        usage,
        unclean: Vec::new(),
        cause: Box::default(),
        images: Vec::new(),
        undelivered: Box::default(),
    }
}
