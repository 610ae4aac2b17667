//! The Scheduler service: one method per call of a client. Who calls is the kernel's word; what is asked is read into
//! the core's words; what is answered is read from the latest snapshot. Decides nothing.

mod asking;
mod deleting;
mod entering;
mod examining;
mod explaining;
mod identity;
mod listing;
mod managing;
mod orders;
mod refusal;
mod reporting;
mod reserving;
mod rights;
mod selecting;
mod signals;
mod submission;
mod submitting;
mod terminal;
mod traffic;

use std::sync::Arc;

use capstan_core::{Caller, Event, HoldOrder, Holds, NodeOrder, Reply};
use capstan_proto::wire::{self, scheduler_server};
use capstan_proto::{Refusal, wire::alter_node_request::Admin};
use capstan_store::PayloadReader;
use capstan_types::{AccessList, NodeName, Pbse};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};
use tracing::Instrument;

use crate::clock;
use crate::engine::EngineHandle;
use crate::link::line::Lines;
use crate::snapshot::Latest;
use crate::telemetry::Telemetry;
use crate::view::{self, Scene};

use identity::{People, Person};
use refusal::{edge_status, status};
use rights::{is_manager, is_operator};
use traffic::Traffic;

pub(crate) use submission::VARIABLES_BYTES_MAX;

/// Longest note on a node, bytes.
const NOTE_BYTES_MAX: usize = 4096;

/// What the edge works with.
pub(crate) struct Door {
    pub(crate) engine: EngineHandle,
    pub(crate) latest: Arc<Latest>,
    pub(crate) telemetry: Arc<Telemetry>,
    pub(crate) payloads: Arc<dyn PayloadReader>,
    pub(crate) root_may_submit: bool,
    /// Where agents are asked.
    pub(crate) lines: Arc<Lines>,
    readers: asking::Readers,
    seats: terminal::Seats,
    examinations: examining::Examinations,
    reports: reporting::Reports,
    /// Cancelled when somebody who may has asked the server to end.
    pub(crate) asked_to_stop: CancellationToken,
    traffic: Traffic,
    people: People,
}

impl Door {
    /// A door on `host`.
    pub(crate) fn new(
        engine: EngineHandle,
        latest: Arc<Latest>,
        telemetry: Arc<Telemetry>,
        payloads: Arc<dyn PayloadReader>,
        settings: &crate::settings::Settings,
    ) -> Self {
        Self {
            engine,
            latest,
            telemetry,
            payloads,
            root_may_submit: settings.root_may_submit,
            lines: Arc::default(),
            readers: asking::Readers::default(),
            seats: terminal::Seats::default(),
            examinations: examining::Examinations::default(),
            reports: reporting::Reports::of(settings.state_dir.clone()),
            asked_to_stop: CancellationToken::new(),
            traffic: Traffic::default(),
            people: People::on(&settings.host),
        }
    }

    /// Who calls, and whether the server's own access lists (`acl_users`, `acl_hosts`) let him; managers always may, or
    /// nobody could correct a list.
    async fn caller<T>(&self, request: &Request<T>) -> Result<Arc<Person>, Status> {
        self.traffic.count();
        let person = self.people.caller(request).await?;
        let snapshot = self.latest.get();
        let settings = snapshot.settings();
        if is_manager(&snapshot, &person) {
            return Ok(person);
        }
        let list = |name| AccessList(settings.attributes.list(name));
        if settings.is("acl_host_enable") && !list("acl_hosts").allows_host(&person.host) {
            let detail = format!("request not authorized from host {}", person.host);
            return Err(edge_status(Refusal::new(Pbse::Badhost, detail)));
        }
        let users = list("acl_users");
        if settings.is("acl_user_enable") && !users.allows_user(&person.user, &person.host) {
            let detail = "request not authorized";
            return Err(edge_status(Refusal::new(Pbse::Perm, detail)));
        }
        Ok(person)
    }

    async fn decide(&self, event: Event, caller: &Caller) -> Result<Reply, Status> {
        let decided = self.engine.ask(event).await;
        decided.map_err(|refused| status(&refused, caller))
    }

    /// Decides something that has no answer but that it is done.
    async fn order(&self, event: Event, caller: &Caller) -> Result<Response<wire::Done>, Status> {
        self.decide(event, caller).await?;
        Ok(Response::new(wire::Done {}))
    }
}

/// The service; a newtype, because the trait cannot be implemented for an `Arc`.
#[derive(Clone)]
pub(crate) struct SchedulerService(pub(crate) Arc<Door>);

impl SchedulerService {
    async fn hold_order(
        &self,
        request: Request<wire::HoldJobRequest>,
    ) -> Result<(HoldOrder, Caller), Status> {
        let person = self.0.caller(&request).await?;
        let wire::HoldJobRequest { job_id, kinds } = request.into_inner();
        let snapshot = self.0.latest.get();
        let job = view::selection::job_id(&snapshot, &job_id).map_err(edge_status)?;
        let holds = match kinds.as_str() {
            "" => Some(Holds::USER),
            letters => Holds::parse(letters).ok(),
        };
        let holds = holds.filter(|holds| !holds.is_empty());
        let holds = holds.ok_or_else(|| edge_status(Refusal::new(Pbse::Badatval, "Hold_Types")))?;
        let by = person.as_caller();
        let order = HoldOrder {
            job,
            holds,
            by: by.clone(),
        };
        Ok((order, by))
    }

    /// Makes a view of the latest snapshot.
    fn seen<T>(&self, view: impl FnOnce(Scene<'_>) -> Result<T, Refusal>) -> Result<T, Status> {
        let snapshot = self.0.latest.get();
        let scene = Scene {
            snapshot: &snapshot,
            telemetry: &self.0.telemetry,
            now: clock::wall(),
        };
        view(scene).map_err(edge_status)
    }
}

#[tonic::async_trait]
impl scheduler_server::Scheduler for SchedulerService {
    async fn submit(
        &self,
        request: Request<wire::SubmitRequest>,
    ) -> Result<Response<wire::SubmitReply>, Status> {
        let person = self.0.caller(&request).await?;
        let span = tracing::info_span!("rpc", call = "submit", user = &*person.user);
        let submitting = submitting::submit(&self.0, person, request.into_inner());
        submitting.instrument(span).await.map(Response::new)
    }

    async fn examine_job(
        &self,
        request: Request<wire::ExamineRequest>,
    ) -> Result<Response<wire::ExamineReply>, Status> {
        let person = self.0.caller(&request).await?;
        let span = tracing::info_span!("rpc", call = "examine_job", user = &*person.user);
        let examining = examining::examine(&self.0, person, request.into_inner());
        examining.instrument(span).await.map(Response::new)
    }

    async fn why(
        &self,
        request: Request<wire::WhyRequest>,
    ) -> Result<Response<wire::WhyReply>, Status> {
        let person = self.0.caller(&request).await?;
        let span = tracing::info_span!("rpc", call = "why", user = &*person.user);
        let explaining = explaining::explain(&self.0, person, request.into_inner());
        explaining.instrument(span).await.map(Response::new)
    }

    type StatJobsStream = listing::JobStream;

    async fn stat_jobs(
        &self,
        request: Request<wire::StatJobsRequest>,
    ) -> Result<Response<Self::StatJobsStream>, Status> {
        let person = self.0.caller(&request).await?;
        listing::jobs(&self.0, &person, request.into_inner()).map(Response::new)
    }

    async fn stat_queues(
        &self,
        request: Request<wire::StatQueuesRequest>,
    ) -> Result<Response<wire::StatQueuesReply>, Status> {
        self.0.caller(&request).await?;
        let wire::StatQueuesRequest { queue } = request.into_inner();
        let reply = self.seen(|scene| view::queues::queues(scene, &queue))?;
        Ok(Response::new(reply))
    }

    async fn stat_nodes(
        &self,
        request: Request<wire::StatNodesRequest>,
    ) -> Result<Response<wire::StatNodesReply>, Status> {
        self.0.caller(&request).await?;
        let wire::StatNodesRequest { node } = request.into_inner();
        let reply = self.seen(|scene| view::nodes::nodes(scene, &node))?;
        Ok(Response::new(reply))
    }

    async fn stat_server(
        &self,
        request: Request<wire::StatServerRequest>,
    ) -> Result<Response<wire::StatServerReply>, Status> {
        self.0.caller(&request).await?;
        let reply = self.seen(|scene| Ok(view::server::server(scene, self.0.traffic.numbers())))?;
        Ok(Response::new(reply))
    }

    async fn delete_job(
        &self,
        request: Request<wire::DeleteJobRequest>,
    ) -> Result<Response<wire::Done>, Status> {
        let person = self.0.caller(&request).await?;
        deleting::delete_job(&self.0, &person, request.into_inner()).await
    }

    async fn hold_job(
        &self,
        request: Request<wire::HoldJobRequest>,
    ) -> Result<Response<wire::Done>, Status> {
        let (order, by) = self.hold_order(request).await?;
        let span =
            tracing::info_span!("rpc", call = "hold_job", job = %order.job, user = &*by.user);
        self.0.order(Event::Hold(order), &by).instrument(span).await
    }

    async fn release_job(
        &self,
        request: Request<wire::HoldJobRequest>,
    ) -> Result<Response<wire::Done>, Status> {
        let (order, by) = self.hold_order(request).await?;
        let span =
            tracing::info_span!("rpc", call = "release_job", job = %order.job, user = &*by.user);
        self.0
            .order(Event::Release(order), &by)
            .instrument(span)
            .await
    }

    async fn alter_node(
        &self,
        request: Request<wire::AlterNodeRequest>,
    ) -> Result<Response<wire::Done>, Status> {
        let person = self.0.caller(&request).await?;
        let by = person.as_caller();
        let admin = request.get_ref().admin();
        let wire::AlterNodeRequest {
            node,
            admin: _,
            note,
        } = request.into_inner();
        let is_fit =
            |note: &String| note.len() <= NOTE_BYTES_MAX && !note.chars().any(char::is_control);
        if !note.as_ref().is_none_or(is_fit) {
            return Err(edge_status(Refusal::new(Pbse::Badatval, "note")));
        }
        let order = NodeOrder {
            node: NodeName::from(node),
            offline: match admin {
                Admin::Keep => None,
                Admin::Offline => Some(true),
                Admin::Clear => Some(false),
            },
            note: note.map(Into::into),
            by: by.clone(),
        };
        let span =
            tracing::info_span!("rpc", call = "alter_node", node = %order.node, user = &*by.user);
        asking::alter_node(&self.0, order, &by)
            .instrument(span)
            .await
    }

    async fn alter_job(
        &self,
        request: Request<wire::AlterJobRequest>,
    ) -> Result<Response<wire::Done>, Status> {
        let person = self.0.caller(&request).await?;
        orders::alter_job(&self.0, &person, request.into_inner()).await
    }

    async fn move_job(
        &self,
        request: Request<wire::MoveJobRequest>,
    ) -> Result<Response<wire::Done>, Status> {
        let person = self.0.caller(&request).await?;
        orders::move_job(&self.0, &person, request.into_inner()).await
    }

    async fn rerun_job(
        &self,
        request: Request<wire::RerunJobRequest>,
    ) -> Result<Response<wire::Done>, Status> {
        let person = self.0.caller(&request).await?;
        orders::rerun_job(&self.0, &person, request.into_inner()).await
    }

    async fn run_job(
        &self,
        request: Request<wire::RunJobRequest>,
    ) -> Result<Response<wire::Done>, Status> {
        let person = self.0.caller(&request).await?;
        orders::run_job(&self.0, &person, request.into_inner()).await
    }

    async fn order_jobs(
        &self,
        request: Request<wire::OrderJobsRequest>,
    ) -> Result<Response<wire::Done>, Status> {
        let person = self.0.caller(&request).await?;
        orders::order_jobs(&self.0, &person, request.into_inner()).await
    }

    async fn checkpoint_job(
        &self,
        request: Request<wire::CheckpointJobRequest>,
    ) -> Result<Response<wire::Done>, Status> {
        let person = self.0.caller(&request).await?;
        orders::checkpoint_job(&self.0, &person, request.into_inner()).await
    }

    async fn signal_job(
        &self,
        request: Request<wire::SignalJobRequest>,
    ) -> Result<Response<wire::Done>, Status> {
        let person = self.0.caller(&request).await?;
        asking::signal_job(&self.0, &person, request.into_inner()).await
    }

    async fn message_job(
        &self,
        request: Request<wire::MessageJobRequest>,
    ) -> Result<Response<wire::Done>, Status> {
        let person = self.0.caller(&request).await?;
        asking::message_job(&self.0, &person, request.into_inner()).await
    }

    async fn manage(
        &self,
        request: Request<wire::ManageRequest>,
    ) -> Result<Response<wire::Done>, Status> {
        let person = self.0.caller(&request).await?;
        managing::manage(&self.0, &person, request.into_inner()).await
    }

    async fn reserve(
        &self,
        request: Request<wire::ReserveRequest>,
    ) -> Result<Response<wire::ReserveReply>, Status> {
        let person = self.0.caller(&request).await?;
        reserving::reserve(&self.0, &person, request.into_inner()).await
    }

    async fn stat_reservations(
        &self,
        request: Request<wire::StatReservationsRequest>,
    ) -> Result<Response<wire::StatReservationsReply>, Status> {
        self.0.caller(&request).await?;
        let wire::StatReservationsRequest { reservation } = request.into_inner();
        let reply = self.seen(|scene| {
            let wanted = (!reservation.is_empty()).then(|| reserving::id(&reservation));
            view::reservations::reservations(scene, wanted.transpose()?)
        })?;
        Ok(Response::new(reply))
    }

    async fn stat_shares(
        &self,
        request: Request<wire::StatSharesRequest>,
    ) -> Result<Response<wire::StatSharesReply>, Status> {
        let person = self.0.caller(&request).await?;
        let wire::StatSharesRequest { user } = request.into_inner();
        let reply = self.seen(|scene| {
            let viewer = listing::viewer(scene.snapshot, &person);
            Ok(view::shares::shares(scene, viewer, &user))
        })?;
        Ok(Response::new(reply))
    }

    async fn stat_use(
        &self,
        request: Request<wire::StatUseRequest>,
    ) -> Result<Response<wire::StatUseReply>, Status> {
        let person = self.0.caller(&request).await?;
        let snapshot = self.0.latest.get();
        let viewer = listing::viewer(&snapshot, &person);
        let sees_all = snapshot.settings().query_other_jobs();
        let running = reporting::running(&snapshot.state, crate::clock::wall());
        drop(snapshot);
        let reports = &self.0.reports;
        let reply = reports.report(request.into_inner(), (viewer, sees_all), running);
        Ok(Response::new(reply.await?))
    }

    async fn stat_images(
        &self,
        request: Request<wire::StatImagesRequest>,
    ) -> Result<Response<wire::StatImagesReply>, Status> {
        let person = self.0.caller(&request).await?;
        let wire::StatImagesRequest { part } = request.into_inner();
        let reply = self.seen(|scene| Ok(listing::images(scene, &person, &part)))?;
        Ok(Response::new(reply))
    }

    async fn cancel_reservation(
        &self,
        request: Request<wire::CancelReservationRequest>,
    ) -> Result<Response<wire::Done>, Status> {
        let person = self.0.caller(&request).await?;
        reserving::cancel(&self.0, &person, request.into_inner()).await
    }

    async fn shutdown(
        &self,
        request: Request<wire::ShutdownRequest>,
    ) -> Result<Response<wire::Done>, Status> {
        let person = self.0.caller(&request).await?;
        managing::shutdown(&self.0, &person, request.into_inner()).await
    }

    type SelectJobsStream = selecting::IdStream;

    async fn select_jobs(
        &self,
        request: Request<wire::SelectJobsRequest>,
    ) -> Result<Response<Self::SelectJobsStream>, Status> {
        let person = self.0.caller(&request).await?;
        selecting::select_jobs(&self.0, &person, request.into_inner()).map(Response::new)
    }

    type TerminalStream = terminal::TerminalStream;

    async fn terminal(
        &self,
        request: Request<tonic::Streaming<wire::TerminalInput>>,
    ) -> Result<Response<Self::TerminalStream>, Status> {
        let person = self.0.caller(&request).await?;
        let shown = terminal::open(&self.0, person, request.into_inner()).await?;
        Ok(Response::new(shown))
    }

    type PeekJobStream = asking::OutputStream;

    async fn peek_job(
        &self,
        request: Request<wire::PeekJobRequest>,
    ) -> Result<Response<Self::PeekJobStream>, Status> {
        let person = self.0.caller(&request).await?;
        let output = asking::peek_job(&self.0, &person, request.into_inner()).await?;
        Ok(Response::new(output))
    }

    async fn ask_node(
        &self,
        request: Request<wire::AskNodeRequest>,
    ) -> Result<Response<wire::AskNodeReply>, Status> {
        let person = self.0.caller(&request).await?;
        let reply = asking::ask_node(&self.0, &person, request.into_inner()).await?;
        Ok(Response::new(reply))
    }
}
