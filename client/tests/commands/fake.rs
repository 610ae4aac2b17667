//! A server that answers as the test says and remembers what it was asked.

use std::collections::BTreeMap;
use std::path::Path;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};

use capstan_proto::Refusal;
use capstan_proto::wire::scheduler_server::{Scheduler, SchedulerServer};
use capstan_proto::wire::terminal_input::Input;
use capstan_proto::wire::terminal_output::Output;
use capstan_proto::wire::*;
use capstan_types::Pbse;
use tokio_stream::Stream;
use tokio_stream::wrappers::UnixListenerStream;
use tonic::{Code, Request, Response, Status};

/// What the server knows and has heard.
#[derive(Default)]
pub(crate) struct World {
    /// Rows of every listing; an operand lists the row of its id.
    pub rows: Vec<JobRow>,
    /// Jobs of every full listing.
    pub jobs: Vec<JobAttributes>,
    /// All queues.
    pub queues: Vec<QueueRow>,
    /// All nodes.
    pub nodes: Vec<NodeRow>,
    /// What the server says of itself; `server_state` alone when empty.
    pub server_attributes: Vec<Attribute>,
    /// Refusals by what they are about: a job's id, a queue, a node, or `submit`.
    pub refusals: BTreeMap<String, Refusal>,
    /// Submissions.
    pub submitted: Vec<SubmitRequest>,
    /// What is answered to whoever asks what would become of a submission.
    pub examination: ExamineReply,
    /// Such questions.
    pub examined: Vec<SubmitRequest>,
    /// What is answered to whoever asks why.
    pub why: WhyReply,
    /// All reservations.
    pub reservations: Vec<ReservationRow>,
    /// Every other request, in short.
    pub heard: Vec<String>,
}

/// A handle on the server; it ends with the test's process.
#[derive(Clone, Default)]
pub(crate) struct Fake(Arc<Mutex<World>>);

impl Fake {
    /// Starts answering at `socket`, which everybody may use.
    pub(crate) fn listen(&self, socket: &Path) {
        let service = SchedulerServer::new(self.clone());
        let listener = std::os::unix::net::UnixListener::bind(socket).unwrap();
        listener.set_nonblocking(true).unwrap();
        let everybody = std::os::unix::fs::PermissionsExt::from_mode(0o666);
        std::fs::set_permissions(socket, everybody).unwrap();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(async {
                let incoming =
                    UnixListenerStream::new(tokio::net::UnixListener::from_std(listener).unwrap());
                let server = tonic::transport::Server::builder();
                server.serve_with_incoming(service, incoming).await.unwrap();
            });
        });
    }

    /// The world, to look at or to change.
    pub(crate) fn world(&self) -> MutexGuard<'_, World> {
        self.0.lock().unwrap()
    }

    fn judge(&self, about: &str, heard: String) -> Result<(), Status> {
        let mut world = self.world();
        world.heard.push(heard);
        match world.refusals.get(about) {
            Some(refusal) => Err(refusal.clone().into_status(Code::FailedPrecondition)),
            None => Ok(()),
        }
    }
}

type Answer<T> = Result<Response<T>, Status>;

#[tonic::async_trait]
impl Scheduler for Fake {
    type StatJobsStream = Pin<Box<dyn Stream<Item = Result<StatJobsReply, Status>> + Send>>;
    type SelectJobsStream = Pin<Box<dyn Stream<Item = Result<SelectJobsReply, Status>> + Send>>;
    type PeekJobStream = Pin<Box<dyn Stream<Item = Result<PeekJobReply, Status>> + Send>>;
    type TerminalStream = Pin<Box<dyn Stream<Item = Result<TerminalOutput, Status>> + Send>>;

    async fn submit(&self, request: Request<SubmitRequest>) -> Answer<SubmitReply> {
        self.judge("submit", "submit".to_owned())?;
        let mut world = self.world();
        world.submitted.push(request.into_inner());
        let job_id = format!("{}.hn1", world.submitted.len());
        Ok(Response::new(SubmitReply { job_id }))
    }

    async fn examine_job(&self, request: Request<ExamineRequest>) -> Answer<ExamineReply> {
        self.judge("submit", "examine".to_owned())?;
        let mut world = self.world();
        world.examined.extend(request.into_inner().submission);
        Ok(Response::new(world.examination.clone()))
    }

    async fn why(&self, request: Request<WhyRequest>) -> Answer<WhyReply> {
        let WhyRequest { job_id } = request.into_inner();
        self.judge(&job_id, format!("why {job_id}"))?;
        let why = self.world().why.clone();
        Ok(Response::new(why))
    }

    async fn stat_images(&self, request: Request<StatImagesRequest>) -> Answer<StatImagesReply> {
        let StatImagesRequest { part } = request.into_inner();
        self.judge("images", format!("images {part}"))?;
        Ok(Response::new(StatImagesReply::default()))
    }

    async fn stat_use(&self, request: Request<StatUseRequest>) -> Answer<StatUseReply> {
        let StatUseRequest { month, user } = request.into_inner();
        self.judge("use", format!("use {month} {user}"))?;
        Ok(Response::new(StatUseReply::default()))
    }

    async fn stat_jobs(&self, request: Request<StatJobsRequest>) -> Answer<Self::StatJobsStream> {
        let request = request.into_inner();
        let StatJobsRequest {
            operand,
            detail,
            expand_arrays,
            users,
            hide_completed,
            exec_only,
            dialect,
            include_finished,
            arrays_only,
        } = &request;
        let mut heard = format!(
            "stat {operand} {detail} {expand_arrays} {} {hide_completed}",
            users.join("+")
        );
        for (is_so, word) in [
            (exec_only, "exec"),
            (include_finished, "finished"),
            (arrays_only, "arrays"),
        ] {
            if *is_so {
                heard.extend([" ", word]);
            }
        }
        if !dialect.is_empty() {
            heard.extend([" ", dialect]);
        }
        self.judge(operand, heard)?;
        let world = self.world();
        let is_asked = |id: &str| {
            operand.is_empty()
                || id == operand
                || !operand.starts_with(|c: char| c.is_ascii_digit())
        };
        let is_theirs =
            |row: &&JobRow| request.users.is_empty() || request.users.contains(&row.owner);
        let rows: Vec<JobRow> = world
            .rows
            .iter()
            .filter(|row| is_asked(&row.id))
            .filter(is_theirs)
            .cloned()
            .collect();
        let jobs: Vec<JobAttributes> = world
            .jobs
            .iter()
            .filter(|job| is_asked(&job.id))
            .cloned()
            .collect();
        let batches: Vec<Result<StatJobsReply, Status>> = match request.detail() {
            stat_jobs_request::Detail::Full => vec![Ok(StatJobsReply {
                jobs,
                ..StatJobsReply::default()
            })],
            stat_jobs_request::Detail::Row | stat_jobs_request::Detail::Wide => rows
                .chunks(500)
                .map(|rows| {
                    Ok(StatJobsReply {
                        rows: rows.to_vec(),
                        head: Some(ListingHead {
                            server: "hn1".into(),
                            ..ListingHead::default()
                        }),
                        ..StatJobsReply::default()
                    })
                })
                .collect(),
        };
        Ok(Response::new(Box::pin(tokio_stream::iter(batches))))
    }

    async fn stat_queues(&self, request: Request<StatQueuesRequest>) -> Answer<StatQueuesReply> {
        let queue = request.into_inner().queue;
        self.judge(&queue, format!("queues {queue}"))?;
        let mut queues = self.world().queues.clone();
        queues.retain(|row| queue.is_empty() || row.name == queue);
        Ok(Response::new(StatQueuesReply { queues }))
    }

    async fn stat_nodes(&self, request: Request<StatNodesRequest>) -> Answer<StatNodesReply> {
        let node = request.into_inner().node;
        self.judge(&node, format!("nodes {node}"))?;
        let world = self.world();
        let nodes = world
            .nodes
            .iter()
            .filter(|row| node.is_empty() || row.name == node)
            .cloned()
            .collect();
        Ok(Response::new(StatNodesReply { nodes }))
    }

    async fn stat_server(&self, _: Request<StatServerRequest>) -> Answer<StatServerReply> {
        let attribute = Attribute {
            name: "server_state".into(),
            resource: String::new(),
            value: "Active".into(),
        };
        let reply = StatServerReply {
            name: "hn1".into(),
            version: "0".into(),
            attributes: match self.world().server_attributes.as_slice() {
                [] => vec![attribute],
                known => known.to_vec(),
            },
            ..StatServerReply::default()
        };
        Ok(Response::new(reply))
    }

    async fn delete_job(&self, request: Request<DeleteJobRequest>) -> Answer<Done> {
        let DeleteJobRequest {
            job_id,
            grace_secs,
            message,
            purge,
        } = request.into_inner();
        self.judge(
            &job_id,
            format!("delete {job_id} {grace_secs:?} {message} {purge}"),
        )?;
        Ok(Response::new(Done {}))
    }

    async fn hold_job(&self, request: Request<HoldJobRequest>) -> Answer<Done> {
        let HoldJobRequest { job_id, kinds } = request.into_inner();
        self.judge(&job_id, format!("hold {job_id} {kinds}"))?;
        Ok(Response::new(Done {}))
    }

    async fn release_job(&self, request: Request<HoldJobRequest>) -> Answer<Done> {
        let HoldJobRequest { job_id, kinds } = request.into_inner();
        self.judge(&job_id, format!("release {job_id} {kinds}"))?;
        Ok(Response::new(Done {}))
    }

    async fn reserve(&self, request: Request<ReserveRequest>) -> Answer<ReserveReply> {
        let request = request.into_inner();
        self.judge("reserve", format!("{request:?}"))?;
        Ok(Response::new(ReserveReply {
            reservation_id: "R12.hn1".to_owned(),
            occurrences: 1,
        }))
    }

    async fn stat_shares(&self, request: Request<StatSharesRequest>) -> Answer<StatSharesReply> {
        let StatSharesRequest { user } = request.into_inner();
        self.judge(&user, format!("stat shares {user}"))?;
        Ok(Response::new(StatSharesReply::default()))
    }

    async fn stat_reservations(
        &self,
        request: Request<StatReservationsRequest>,
    ) -> Answer<StatReservationsReply> {
        let StatReservationsRequest { reservation } = request.into_inner();
        self.judge(&reservation, format!("stat reservation {reservation}"))?;
        let reservations = self.world().reservations.clone();
        Ok(Response::new(StatReservationsReply { reservations }))
    }

    async fn cancel_reservation(&self, request: Request<CancelReservationRequest>) -> Answer<Done> {
        let CancelReservationRequest { reservation } = request.into_inner();
        self.judge(&reservation, format!("cancel {reservation}"))?;
        Ok(Response::new(Done {}))
    }

    async fn alter_node(&self, request: Request<AlterNodeRequest>) -> Answer<Done> {
        let AlterNodeRequest { node, admin, note } = request.into_inner();
        self.judge(&node, format!("node {node} {admin} {note:?}"))?;
        Ok(Response::new(Done {}))
    }

    async fn alter_job(&self, request: Request<AlterJobRequest>) -> Answer<Done> {
        let request = request.into_inner();
        self.judge(&request.job_id, format!("{request:?}"))?;
        Ok(Response::new(Done {}))
    }

    async fn move_job(&self, request: Request<MoveJobRequest>) -> Answer<Done> {
        let request = request.into_inner();
        self.judge(&request.job_id, format!("{request:?}"))?;
        Ok(Response::new(Done {}))
    }

    async fn rerun_job(&self, request: Request<RerunJobRequest>) -> Answer<Done> {
        let request = request.into_inner();
        self.judge(&request.job_id, format!("{request:?}"))?;
        Ok(Response::new(Done {}))
    }

    async fn run_job(&self, request: Request<RunJobRequest>) -> Answer<Done> {
        let request = request.into_inner();
        self.judge(&request.job_id, format!("{request:?}"))?;
        Ok(Response::new(Done {}))
    }

    async fn order_jobs(&self, request: Request<OrderJobsRequest>) -> Answer<Done> {
        let request = request.into_inner();
        self.judge(&request.first, format!("{request:?}"))?;
        Ok(Response::new(Done {}))
    }

    async fn signal_job(&self, request: Request<SignalJobRequest>) -> Answer<Done> {
        let request = request.into_inner();
        self.judge(&request.job_id, format!("{request:?}"))?;
        Ok(Response::new(Done {}))
    }

    async fn message_job(&self, request: Request<MessageJobRequest>) -> Answer<Done> {
        let request = request.into_inner();
        self.judge(&request.job_id, format!("{request:?}"))?;
        Ok(Response::new(Done {}))
    }

    async fn checkpoint_job(&self, request: Request<CheckpointJobRequest>) -> Answer<Done> {
        let request = request.into_inner();
        self.judge(&request.job_id, format!("{request:?}"))?;
        Ok(Response::new(Done {}))
    }

    async fn manage(&self, request: Request<ManageRequest>) -> Answer<Done> {
        let request = request.into_inner();
        self.judge(&format!("manage {}", request.name), format!("{request:?}"))?;
        Ok(Response::new(Done {}))
    }

    async fn shutdown(&self, request: Request<ShutdownRequest>) -> Answer<Done> {
        let request = request.into_inner();
        self.judge(&request.kind, format!("{request:?}"))?;
        Ok(Response::new(Done {}))
    }

    async fn select_jobs(
        &self,
        request: Request<SelectJobsRequest>,
    ) -> Answer<Self::SelectJobsStream> {
        let request = request.into_inner();
        self.judge(&request.destination, format!("{request:?}"))?;
        let job_ids = self.world().rows.iter().map(|row| row.id.clone()).collect();
        let reply = SelectJobsReply { job_ids };
        Ok(Response::new(Box::pin(tokio_stream::iter([Ok(reply)]))))
    }

    async fn terminal(
        &self,
        request: Request<tonic::Streaming<TerminalInput>>,
    ) -> Answer<Self::TerminalStream> {
        let first = request.into_inner().message().await?;
        let Some(Input::Open(open)) = first.and_then(|first| first.input) else {
            return Err(Status::invalid_argument("the first word opens a terminal"));
        };
        self.judge(&open.job_id, format!("terminal {}", open.job_id))?;
        let words = [
            Output::Ready(TerminalReady::default()),
            Output::Stdout(b"what it shows\n".to_vec()),
            Output::ExitStatus(3),
        ];
        let words = words.map(|output| {
            Ok(TerminalOutput {
                output: Some(output),
            })
        });
        Ok(Response::new(Box::pin(tokio_stream::iter(words))))
    }

    async fn peek_job(&self, request: Request<PeekJobRequest>) -> Answer<Self::PeekJobStream> {
        let request = request.into_inner();
        self.judge(&request.job_id, format!("{request:?}"))?;
        let data = b"what it wrote\n".to_vec();
        let reply = PeekJobReply { data };
        Ok(Response::new(Box::pin(tokio_stream::iter([Ok(reply)]))))
    }

    async fn ask_node(&self, request: Request<AskNodeRequest>) -> Answer<AskNodeReply> {
        let request = request.into_inner();
        self.judge(&request.node, format!("{request:?}"))?;
        let text = format!("{} is well\n", request.node);
        Ok(Response::new(AskNodeReply { text }))
    }
}

/// The server's no.
pub(crate) fn no(error: Pbse, detail: &str) -> Refusal {
    Refusal::new(error, detail)
}
