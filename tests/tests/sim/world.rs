//! One history: server, agents, people and faults, step by step, then peace, in which everything must come to its
//! end.

use capstan_core::{Effect, Event, JobState, Link as NodeLink, Outcome, Rejection, Settings};
use capstan_types::{NodeName, ServerName, Timestamp};

use crate::agent::{Agent, Order, Word};
use crate::rng::Rng;
use crate::server::{Answer, Server, target};
use crate::truth::Truth;
use crate::{client, faults};

const STEPS: u64 = 120;
/// Steps of peace in which all must end; each is seconds of simulated time.
const PEACE_MAX: u64 = 3000;

pub(crate) struct World {
    pub(crate) rng: Rng,
    pub(crate) now: Timestamp,
    pub(crate) server: Server,
    pub(crate) agents: Vec<Agent>,
    pub(crate) truth: Truth,
    pub(crate) submitted: u64,
    pub(crate) jobs_max: u64,
    fault_percent: u64,
    is_told: bool,
}

impl World {
    pub(crate) fn new(seed: u64, is_told: bool) -> Self {
        let mut rng = Rng::new(seed);
        let mut settings = Settings::new(ServerName::from("hn1"));
        settings.set("keep_completed", &(5 + rng.below(100)).to_string());
        settings.node_lost_after_secs = 10 + rng.below(60);
        let (jobs_max, fault_percent) = (1 + rng.below(16), rng.below(16));
        Self {
            rng,
            now: Timestamp(1_800_000_000_000),
            server: Server::new(settings),
            agents: vec![
                Agent::new("node01", 4, 2),
                Agent::new("node02", 3, 1),
                Agent::new("node03", 2, 2),
            ],
            truth: Truth::default(),
            submitted: 0,
            jobs_max,
            fault_percent,
            is_told,
        }
    }

    pub(crate) fn live(mut self) {
        self.restart_server();
        for agent in &mut self.agents {
            agent.connect(self.now);
        }
        for _ in 0..STEPS {
            self.step();
            self.server.check();
        }
        self.make_peace();
    }

    fn step(&mut self) {
        if self.rng.chance(self.fault_percent) {
            faults::strike(self);
        }
        match self.rng.below(10) {
            0..3 => client::act(self),
            3 => self.event(&Event::Tick),
            4 => {
                let at = self.rng.below(self.agents.len() as u64) as usize;
                let now = self.now;
                if self.agents[at].link.is_none() {
                    self.agents[at].connect(now);
                } else {
                    self.agents[at].repeat(now, &mut self.rng);
                }
            }
            5 | 6 => {
                let placed = self.server.plan(self.now);
                if self.rng.chance(10) {
                    // Things happen between a plan and its placements.
                    client::act(self);
                    self.exchange();
                }
                self.event(&placed);
            }
            _ => {}
        }
        self.now.0 += self.rng.below(2000);
        self.exchange();
    }

    /// Messages arrive, and agents do what is due.
    fn exchange(&mut self) {
        for at in 0..self.agents.len() {
            self.agents[at].pass(self.now, &mut self.rng, &mut self.truth);
            self.hear(at);
            self.deliver(at);
        }
    }

    fn hear(&mut self, at: usize) {
        let now = self.now;
        loop {
            let agent = &mut self.agents[at];
            let Some(link) = &mut agent.link else { return };
            if link.to_server.front().is_none_or(|(due, _)| *due > now) {
                return;
            }
            let (_, word) = link.to_server.pop_front().expect("one is due");
            let node = agent.name.clone();
            self.tell(|| format!("{node} says {word:?}"));
            match word {
                Word::Hello(hello) => self.greet(at, &Event::NodeAttached(hello)),
                Word::Report(report) => self.insist(at, &Event::Reported { node, report }),
                Word::Image(report) => self.insist(at, &Event::ImagePrepared { node, report }),
                Word::Clean => {
                    let cards = Vec::new();
                    self.insist(at, &Event::CardsUnclean { node, cards });
                }
            }
        }
    }

    /// A hello that is not taken in ends the connection; the agent tries again later.
    fn greet(&mut self, at: usize, hello: &Event) {
        match self.answer(hello) {
            Answer::Stored(_) => {}
            Answer::Refused(Rejection::NodeNameTaken(_)) => {
                // The connection of the agent that was there before is noticed to be dead, in the end.
                self.agents[at].link = None;
                self.server_notices(at);
            }
            Answer::Refused(other) => panic!("a hello is refused: {other}"),
            Answer::NotStored => self.agents[at].link = None,
        }
    }

    /// A report that could not be stored must come again: the server ends the connection over it.
    fn insist(&mut self, at: usize, event: &Event) {
        match self.answer(event) {
            Answer::Stored(_) => {}
            Answer::Refused(rejection) => panic!("{event:?} is refused: {rejection}"),
            Answer::NotStored => self.agents[at].link = None,
        }
    }

    fn deliver(&mut self, at: usize) {
        let now = self.now;
        loop {
            let agent = &mut self.agents[at];
            let Some(link) = &mut agent.link else { return };
            if link.to_agent.front().is_none_or(|(due, _)| *due > now) {
                return;
            }
            let (_, order) = link.to_agent.pop_front().expect("one is due");
            agent.obey(order, now, &mut self.rng, &mut self.truth);
        }
    }

    /// The server learns that the node's connection is gone.
    pub(crate) fn server_notices(&mut self, at: usize) {
        let node = self.agents[at].name.clone();
        let agent = self.server.state.node(&node).map(|node| node.agent.clone());
        if let Some(agent) = agent {
            self.event(&Event::NodeDetached { node, agent });
        }
    }

    pub(crate) fn restart_server(&mut self) {
        self.tell(|| "the server is restarted".to_owned());
        self.agents.iter_mut().for_each(|agent| agent.link = None);
        self.server.restart(self.now, &mut self.truth);
    }

    /// An event of the server's own.
    fn event(&mut self, event: &Event) {
        if let Answer::Refused(rejection) = self.answer(event) {
            panic!("{event:?} is refused: {rejection}");
        }
    }

    pub(crate) fn client_event(&mut self, event: &Event) -> Option<Outcome> {
        match self.client_answer(event) {
            Answer::Stored(outcome) => Some(outcome),
            Answer::Refused(_) | Answer::NotStored => None,
        }
    }

    pub(crate) fn client_answer(&mut self, event: &Event) -> Answer {
        self.answer(event)
    }

    /// Persist, then act; now and then the server dies between the two.
    fn answer(&mut self, event: &Event) -> Answer {
        self.tell(|| format!("event {event:?}"));
        let answer = self.server.decide(event, self.now, &mut self.truth);
        if let Answer::Stored(outcome) = &answer {
            if self.rng.chance(self.fault_percent) && self.rng.chance(10) {
                self.restart_server();
                return answer;
            }
            for effect in &outcome.effects {
                self.carry_out(effect);
            }
        }
        answer
    }

    fn carry_out(&mut self, effect: &Effect) {
        let Some(node) = target(effect) else { return };
        let order = match effect {
            Effect::StartAttempt { job, .. } => Order::Start(job.clone()),
            Effect::StopAttempt {
                attempt,
                grace_secs,
                ..
            } => Order::Stop(*attempt, *grace_secs),
            Effect::ForgetAttempt { attempt, .. } => Order::Forget(*attempt),
            Effect::WelcomeNode { attempts, .. } => Order::Welcome(attempts.clone()),
            Effect::PrepareImage { image, job, .. } => {
                Order::GetImage(image.clone(), job.spec.owner.uid)
            }
            Effect::DropImage { image, uid, .. } => Order::DropImage(image.clone(), *uid),
            Effect::AdjustAttempt { .. } | Effect::Account { .. } => return,
        };
        self.tell(|| format!("to {node}: {effect:?}"));
        let is_repeated = self.rng.chance(5);
        let due = Timestamp(self.now.0 + self.rng.below(300));
        let agent = self
            .agents
            .iter_mut()
            .find(|agent| agent.name == *node)
            .expect("a known node");
        if let Some(link) = &mut agent.link {
            // Every effect may be repeated.
            for _ in 0..=usize::from(is_repeated) {
                let last = link.to_agent.back().map_or(due, |(last, _)| due.max(*last));
                link.to_agent.push_back((last, order.clone()));
            }
        }
    }

    /// No more faults, nobody submits, everything that waits for a person is let go.
    fn make_peace(&mut self) {
        self.server.is_disk_full = false;
        self.fault_percent = 0;
        for step in 0..PEACE_MAX {
            for at in 0..self.agents.len() {
                let is_up = |link: NodeLink| matches!(link, NodeLink::Up(_));
                let name: NodeName = self.agents[at].name.clone();
                let is_seen = self
                    .server
                    .state
                    .node(&name)
                    .is_some_and(|node| is_up(node.link));
                let is_linked = self.agents[at].link.is_some();
                if is_seen && !is_linked {
                    self.server_notices(at);
                }
                if !is_linked {
                    self.agents[at].connect(self.now);
                }
            }
            if step % 8 == 0 {
                client::let_everything_go(self);
            }
            let placed = self.server.plan(self.now);
            self.event(&placed);
            self.now = self.now.plus_secs(1 + self.rng.below(20));
            self.exchange();
            self.event(&Event::Tick);
            self.server.check();
            let is_over =
                self.server.state.live_count() == 0 && self.agents.iter().all(Agent::is_idle);
            if is_over {
                break;
            }
        }
        self.check_all_ended();
    }

    fn check_all_ended(&self) {
        let left: Vec<String> = self
            .server
            .state
            .jobs()
            .filter(|job| !matches!(job.state, JobState::Ended(_)))
            .map(|job| format!("{} {}", job.id, job.state.name()))
            .collect();
        let strays: Vec<_> = self
            .server
            .state
            .nodes()
            .filter(|node| !node.strays.is_empty())
            .map(|node| (&node.name, &node.strays))
            .collect();
        let plan = capstan_core::plan(&self.server.state, self.now);
        assert!(
            left.is_empty(),
            "never ended: {left:?}; astray {strays:?}; {:?}",
            plan.reasons
        );
        assert!(strays.is_empty(), "astray for ever: {strays:?}");
        assert!(
            self.agents.iter().all(Agent::is_idle),
            "ledgers are empty in the end"
        );
        for job in &self.truth.promised {
            assert!(
                self.truth.ends.contains_key(job),
                "{job} was promised and never ended"
            );
        }
    }

    fn tell(&self, what: impl Fn() -> String) {
        if self.is_told {
            tell(self.now, &what());
        }
    }
}

#[expect(
    clippy::print_stderr,
    reason = "the history of a seed is for the person who debugs it"
)]
fn tell(now: Timestamp, what: &str) {
    let clock = now.0 - 1_700_000_000_000;
    eprintln!("{clock}: {what}");
}
