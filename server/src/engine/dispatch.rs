//! What is done in the world once a group is stored: answers, orders to agents, what is told of jobs.

use std::sync::Arc;

use capstan_core::{
    Account, AttemptReport, Effect, Event, Job, JobState, Rejection, ReportedPhase, State,
};
use capstan_proto::wire::{self, server_message::Message};
use capstan_store::PayloadReader;
use capstan_types::{AgentId, AttemptId, JobId, JobPart, NodeName, Timestamp};
use prost::Message as _;
use tokio::sync::oneshot;

use super::inbox::{Answer, Refused, Request};
use super::links::{Link, Links, Sent};
use crate::clerk::Clerk;
use crate::link::launch;
use crate::telemetry::Telemetry;

/// Linux's SIGTERM: what an attempt is told first.
const SIGTERM: i32 = 15;

/// Largest launch order, bytes: an agent's stream breaks at gRPC's 4 MiB, and the next hello would break it again.
const LAUNCH_BYTES_MAX: usize = (4 << 20) - 1024;

/// The engine's hands.
pub(super) struct Dispatch {
    pub(super) links: Links,
    payloads: Arc<dyn PayloadReader>,
    clerk: Clerk,
    telemetry: Arc<Telemetry>,
    heartbeat_secs: u32,
    followups: Vec<Event>,
}

/// Who is to hear what became of an event.
pub(super) enum Answerer {
    /// Nobody.
    Nobody,
    /// Whoever asked.
    Caller(oneshot::Sender<Answer>),
    /// An agent that said hello; its link counts from the answer on.
    Hello {
        node: NodeName,
        link: Link,
        answer: oneshot::Sender<Answer>,
    },
    /// An agent that said something; of an attempt, when it did, and whether that has ended.
    Node {
        node: NodeName,
        report: Option<(AttemptId, bool)>,
    },
}

impl Dispatch {
    pub(super) fn new(
        payloads: Arc<dyn PayloadReader>,
        clerk: Clerk,
        telemetry: Arc<Telemetry>,
        heartbeat_secs: u32,
    ) -> Self {
        Self {
            links: Links::default(),
            payloads,
            clerk,
            telemetry,
            heartbeat_secs,
            followups: Vec::new(),
        }
    }

    /// The event of a request, and who is to hear of it; `None` for news of a link that was replaced.
    pub(super) fn admit(&mut self, request: Request) -> Option<(Event, Answerer)> {
        match request {
            Request::Event { event, answer } => {
                let answerer = answer.map_or(Answerer::Nobody, Answerer::Caller);
                Some((event, answerer))
            }
            Request::Attach {
                hello,
                node,
                link,
                answer,
            } => Some((hello, Answerer::Hello { node, link, answer })),
            Request::Detach { node, connection } => {
                if !self.links.is_current(&node, connection) {
                    return None;
                }
                let agent = self.end_link(&node)?;
                Some((Event::NodeDetached { node, agent }, Answerer::Nobody))
            }
            Request::FromNode {
                node,
                connection,
                event,
            } => {
                if !self.links.is_current(&node, connection) {
                    return None;
                }
                let mut report = None;
                if let Event::Reported { report: said, .. } = &event {
                    report = Some((said.attempt, has_ended(said)));
                }
                Some((event, Answerer::Node { node, report }))
            }
            Request::Stop => None,
        }
    }

    /// Tells whoever asked what became of it.
    pub(super) fn answer(&mut self, answerer: Answerer, result: Answer) {
        match answerer {
            Answerer::Nobody => {}
            // A caller that has gone away does not want to know.
            Answerer::Caller(answer) => drop(answer.send(result)),
            Answerer::Hello { node, link, answer } => {
                if result.is_ok() {
                    self.links.replace(node, link);
                }
                drop(answer.send(result));
            }
            Answerer::Node { node, report } => match (result, report) {
                (Ok(_), _) => {}
                // The agent says everything again at its next hello.
                (Err(Refused::NotStored(_)), _) => self.cut_off(&node),
                (Err(Refused::Rejected(Rejection::StaleAttempt(_))), Some((attempt, ended))) => {
                    let message = match ended {
                        true => Message::Forget(attempt.0),
                        false => stop(attempt, 0),
                    };
                    self.send(&node, message);
                }
                (Err(error), _) => tracing::warn!(%node, %error, "what an agent said was refused"),
            },
        }
    }

    /// Has what somebody did written down.
    pub(super) fn note(&mut self, at: Timestamp, event: &Event, state: &State) {
        self.clerk.note(at, event, state.settings());
    }

    /// Does what `effect` orders.
    pub(super) fn carry_out(&mut self, effect: Effect, state: &State) {
        match effect {
            Effect::StartAttempt { node, job } => self.start_attempt(&node, &job, state),
            Effect::StopAttempt {
                node,
                attempt,
                grace_secs,
            } => {
                tracing::info!(%node, %attempt, grace_secs, "stopping an attempt");
                self.send(&node, stop(attempt, grace_secs));
            }
            Effect::AdjustAttempt {
                node,
                attempt,
                walltime_secs,
                cput_secs,
                memory_bytes,
            } => {
                tracing::info!(%node, %attempt, walltime_secs, cput_secs, memory_bytes, "adjusting an attempt");
                let adjust = wire::AdjustAttempt {
                    attempt: attempt.0,
                    walltime_secs,
                    cput_secs,
                    memory_bytes,
                };
                self.send(&node, Message::Adjust(adjust));
            }
            Effect::ForgetAttempt { node, attempt } => {
                self.send(&node, Message::Forget(attempt.0));
            }
            Effect::WelcomeNode {
                node,
                agent,
                attempts,
            } => {
                tracing::info!(%node, attempts = attempts.len(), "node attached");
                let server = state.settings().map(|settings| settings.server.to_string());
                let guests = guests(state, &node, &attempts);
                let welcome = Message::Welcome(wire::Welcome {
                    server: server.unwrap_or_default(),
                    attempts: attempts.into_iter().map(|attempt| attempt.0).collect(),
                    heartbeat_secs: self.heartbeat_secs,
                    now_ms: crate::clock::wall().0,
                    guests: Some(guests),
                });
                if self.links.welcome(&node, &agent, welcome) == Sent::CutOff {
                    self.cut_off(&node);
                }
            }
            Effect::PrepareImage { node, image, job } => {
                tracing::info!(%node, image = &*image, job = %job.id, "having an image fetched");
                let owner = &job.spec.owner;
                let order = wire::PrepareImage {
                    image: image.into(),
                    user: owner.user.to_string(),
                    uid: owner.uid,
                    group: owner.group.to_string(),
                };
                self.send(&node, Message::PrepareImage(order));
            }
            Effect::DropImage { node, image, uid } => {
                let image = image.into();
                self.send(&node, Message::DropImage(wire::DropImage { image, uid }));
            }
            Effect::Account { at, job, record } => {
                if let (Account::Ended, JobState::Ended(ended)) = (&record, &job.state) {
                    tracing::info!(job = %job.id, exit_status = ended.exit_status, "job ended");
                }
                self.clerk.tell(at, job, record, state.settings());
            }
        }
    }

    /// Events that came of orders that could not be given.
    pub(super) fn take_followups(&mut self) -> Vec<Event> {
        std::mem::take(&mut self.followups)
    }

    /// Whether an event that could not be stored then is still to be stored now.
    pub(super) fn is_still_true(&self, event: &Event) -> bool {
        let Event::NodeDetached { node, .. } = event else {
            return true;
        };
        !self.links.is_connected(node)
    }

    fn start_attempt(&mut self, node: &NodeName, job: &Arc<Job>, state: &State) {
        let Some(run) = job.state.run() else {
            return;
        };
        tracing::info!(job = %job.id, attempt = %run.attempt, %node, "starting an attempt");
        let problem = match self.payloads.payload(payload_id(job.id)) {
            Ok(Some(payload)) => match launch::spec(state, job, node, &payload) {
                Some(spec) if spec.encoded_len() <= LAUNCH_BYTES_MAX => {
                    let spec = Some(spec);
                    self.send(node, Message::Start(wire::StartAttempt { spec }));
                    return;
                }
                Some(_) => {
                    format!("script, variables and paths are over {LAUNCH_BYTES_MAX} bytes")
                }
                None => return,
            },
            Ok(None) => "the script is not in the server's store".to_owned(),
            Err(error) => format!("the script cannot be read from the server's store: {error}"),
        };
        tracing::error!(job = %job.id, problem, "an attempt cannot be started");
        self.followups.push(Event::Reported {
            node: node.clone(),
            report: AttemptReport {
                attempt: run.attempt,
                phase: ReportedPhase::Unstartable {
                    at: Timestamp(run.placed.0),
                    reason: problem.into(),
                },
            },
        });
    }

    fn send(&mut self, node: &NodeName, message: Message) {
        match self.links.send(node, message) {
            Sent::Yes => {}
            Sent::NotConnected => {
                tracing::debug!(%node, "an order waits for the node's next hello")
            }
            Sent::CutOff => self.cut_off(node),
        }
    }

    /// Ends the node's link from our side.
    fn cut_off(&mut self, node: &NodeName) {
        if let Some(agent) = self.end_link(node) {
            tracing::warn!(%node, "node cut off: it says hello again and is reconciled");
            let node = node.clone();
            self.followups.push(Event::NodeDetached { node, agent });
        }
    }

    fn end_link(&mut self, node: &NodeName) -> Option<AgentId> {
        self.telemetry.forget(node);
        self.links.remove(node)
    }
}

/// Under which id the payload of a job is stored: an array's for all its members.
pub(crate) const fn payload_id(job: JobId) -> JobId {
    match job.part {
        JobPart::Whole => job,
        JobPart::Array | JobPart::Member(_) => JobId::array(job.seq),
    }
}

/// Attempts that have a share of the node and whose script runs on another one.
fn guests(state: &State, node: &NodeName, own: &[AttemptId]) -> wire::Guests {
    let held = state.held_on(node).map(|(attempt, _)| attempt);
    let guests = held.filter(|attempt| !own.contains(attempt));
    wire::Guests {
        attempts: guests.map(|attempt| attempt.0).collect(),
    }
}

const fn stop(attempt: AttemptId, grace_secs: u32) -> Message {
    Message::Stop(wire::StopAttempt {
        attempt: attempt.0,
        signal: SIGTERM,
        grace_secs,
    })
}

const fn has_ended(report: &AttemptReport) -> bool {
    match report.phase {
        ReportedPhase::Starting | ReportedPhase::Running { .. } | ReportedPhase::Using(_) => false,
        ReportedPhase::Exited { .. }
        | ReportedPhase::Unstartable { .. }
        | ReportedPhase::Lost { .. }
        | ReportedPhase::StageInFailed { .. }
        | ReportedPhase::PrologueFailed { .. } => true,
    }
}
