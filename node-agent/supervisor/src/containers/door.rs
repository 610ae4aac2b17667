//! The agent's door: who calls is the kernel's word, which attempt they belong to is the attempts' word, and one
//! session serves one container or one task.

use std::sync::Arc;
use std::time::Duration;

use capstan_proto::wire::container_input::Input;
use capstan_proto::wire::container_output::Output as Said;
use capstan_proto::wire::node_door_server::{NodeDoor, NodeDoorServer};
use capstan_proto::wire::{
    AdoptProcessRequest, ContainerInput, ContainerOutput, ContainerRefused, ContainerRequest,
    ContainerResume, Done, ListPlacesReply, ListPlacesRequest, RunTaskRequest,
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::server::UdsConnectInfo;
use tonic::{Request, Response, Status, Streaming};

use super::engine::{Attached, ContainerEngine, ContainerId, ContainerSpec, Seen};
use super::exceptions::Allowed;
use super::keeper::Keeper;
use super::looking::{self, Looked};
use super::plan::{self, Asked};
use super::refusal::{Refused, plain};
use super::session::{self, Served, Stop, Talk};
use super::tasks::{self, TaskStream};
use crate::ports::{AdoptRefused, AttemptContext, Attempts, TaskAsked, Tasks};

/// Messages that wait for a slow client, of at most a chunk each.
const OUTPUT_QUEUE: usize = 8;
/// Largest message of a client: a request with its environment.
const MESSAGE_BYTES_MAX: usize = 1024 * 1024;
/// A client says what it wants within this time.
const REQUEST_TIME: Duration = Duration::from_secs(10);

/// The service behind the agent's socket. Clones are the same door.
pub struct Door<E, A> {
    keeper: Arc<Keeper<E>>,
    attempts: Arc<A>,
}

impl<E, A> Clone for Door<E, A> {
    fn clone(&self) -> Self {
        Self {
            keeper: Arc::clone(&self.keeper),
            attempts: Arc::clone(&self.attempts),
        }
    }
}

/// Who calls, by the kernel's word.
#[derive(Clone, Copy, Debug)]
struct Caller {
    pid: i32,
    uid: u32,
}

impl<E: ContainerEngine, A: Attempts + Tasks> Door<E, A> {
    /// A door to the containers of `keeper`, for processes of `attempts`.
    pub fn new(keeper: Arc<Keeper<E>>, attempts: Arc<A>) -> Self {
        Self { keeper, attempts }
    }

    /// The tonic service, with its message sizes bounded. To be served on a Unix socket.
    #[must_use]
    pub fn into_service(self) -> NodeDoorServer<Self> {
        NodeDoorServer::new(self).max_decoding_message_size(MESSAGE_BYTES_MAX)
    }

    /// The live attempt of the caller, if it is the caller's.
    fn context(&self, caller: Caller) -> Result<AttemptContext, Refused> {
        let pid = u32::try_from(caller.pid).ok().filter(|&pid| pid > 0);
        let context = pid.and_then(|pid| self.attempts.attempt_of(pid));
        let context = context.ok_or(Refused::NoAttempt { pid: caller.pid })?;
        match context.uid == caller.uid && caller.uid != 0 {
            true => Ok(context),
            false => Err(Refused::NotTheUser { uid: caller.uid }),
        }
    }

    async fn serve(self, caller: Caller, mut input: Streaming<ContainerInput>, talk: Talk) {
        let first = tokio::time::timeout(REQUEST_TIME, input.message()).await;
        let first = match first {
            Ok(Ok(Some(ContainerInput { input: Some(first) }))) => first,
            // Gone, or nothing sensible said: there is nobody to answer.
            Ok(Ok(_) | Err(_)) | Err(_) => return,
        };
        let served = match first {
            Input::Request(request) => self.run(caller, request, input, &talk).await,
            Input::Resume(resume) => self.resume(caller, resume, input, &talk).await,
            Input::Stdin(_) | Input::StdinClosed(_) | Input::Resize(_) | Input::Signal(_) => {
                Err(Refused::Request {
                    what: "the first message must be a request",
                })
            }
        };
        if let Err(refused) = served {
            self.keeper.refusals.tell(caller.uid, caller.pid, &refused);
            talk.say(Said::Refused(ContainerRefused {
                exit_code: refused.exit_code(),
                message: plain(&refused.to_string()),
                hint: refused.hint().to_owned(),
            }))
            .await;
        }
    }

    async fn run(
        &self,
        caller: Caller,
        request: ContainerRequest,
        input: Streaming<ContainerInput>,
        talk: &Talk,
    ) -> Result<(), Refused> {
        let context = self.context(caller)?;
        let mut session = self.keeper.registry.admit(context.attempt)?;
        let asked = Arc::new(self.asked(request, &context)?);
        let stop = session::stop(&self.keeper, &session, talk);
        let prepared = tokio::select! {
            prepared = self.prepare(&asked, (&context, caller.pid), talk) => prepared,
            stop = stop => return stopped_early(stop, talk).await,
        };
        // From here on a container may exist: this is never cancelled.
        let begun = match prepared {
            Ok((looked, users)) => self.begin(&asked, &context, looked, &users).await,
            Err(refused) => Err(refused),
        };
        if asked.is_job() {
            let problem = begun.as_ref().err().filter(|refused| refused.is_nodes());
            let problem = problem.map(|refused| plain(&refused.to_string()));
            self.attempts.note_beginning(context.attempt, problem);
        }
        let (attached, spec, notices) = begun?;
        for notice in notices {
            talk.say(Said::Notice(notice)).await;
        }
        tracing::info!(attempt = %context.attempt, container = %attached.id.0, image = %spec.image, "container started");
        if !session.serve(&attached.id) {
            return Err(Refused::Ending);
        }
        let served = Served {
            attached,
            terminal: spec.terminal.is_some(),
            seen: Seen::default(),
        };
        session::stream(&self.keeper, session, served, input, talk).await;
        Ok(())
    }

    /// Starts the container; what is to be told of it besides.
    async fn begin(
        &self,
        asked: &Asked,
        context: &AttemptContext,
        looked: Looked,
        users: &super::identity::ImageUsers,
    ) -> Result<(Attached, ContainerSpec, Vec<String>), Refused> {
        let mut notices = looked.mounts.notices.clone();
        notices.extend(looked.program.notice.clone());
        let (attached, spec, more) = self.keeper.start(asked, context, looked, users).await?;
        notices.extend(more);
        Ok((attached, spec, notices))
    }

    /// The request in its right form, with what the site excepts for this user.
    fn asked(
        &self,
        mut request: ContainerRequest,
        context: &AttemptContext,
    ) -> Result<Asked, Refused> {
        let spec = &context.spec;
        if request.job_script {
            // Whatever the caller says: the job's image is the server's word.
            request.image.clone_from(&spec.image);
            if request.image.is_empty() {
                return Err(Refused::Request {
                    what: "this job is no container: it was submitted without an image",
                });
            }
        }
        request.image = self.keeper.image_meant(&request.image);
        let exceptions = &self.keeper.settings.exceptions;
        let allowed = Allowed::to(exceptions, &spec.user, &context.groups, &spec.queue);
        Asked::from_wire(request, &allowed)
    }

    /// What can be known before a container exists, the slow parts at the same time.
    async fn prepare(
        &self,
        asked: &Arc<Asked>,
        (context, pid): (&AttemptContext, i32),
        talk: &Talk,
    ) -> Result<(Looked, super::identity::ImageUsers), Refused> {
        let facts = self.keeper.known_facts().await.map_err(Refused::Engine)?;
        let site = looking::site(&self.keeper.settings, &facts, context);
        let rights = site.rights.clone();
        let limits = std::fs::read_to_string(format!("/proc/{pid}/limits")).unwrap_or_default();
        let bounds = looking::bounds(&self.keeper.settings, context, &limits);
        let (asked_too, of) = (Arc::clone(asked), context.clone());
        let look = async {
            let look = move || looking::look(&asked_too, (&site, &bounds), &of);
            self.keeper.look(rights, look).await?
        };
        let image = self.keeper.image(&asked.image, context, talk);
        tokio::try_join!(look, image)
    }

    async fn resume(
        &self,
        caller: Caller,
        resume: ContainerResume,
        input: Streaming<ContainerInput>,
        talk: &Talk,
    ) -> Result<(), Refused> {
        let ContainerResume {
            container,
            stdout_bytes,
            stderr_bytes,
            terminal,
        } = resume;
        let context = self.context(caller)?;
        let mut session = self.keeper.registry.admit(context.attempt)?;
        let id = ContainerId(container);
        let gone = || Refused::Engine(super::engine::EngineError::NoContainer { id: id.clone() });
        let container = self.keeper.find(&id).await.map_err(Refused::Engine)?;
        // Somebody else's container is as good as none.
        if container.owner.attempt != context.attempt || !session.serve(&id) {
            return Err(gone());
        }
        let seen = Seen {
            stdout: stdout_bytes,
            stderr: stderr_bytes,
        };
        let attached = self
            .keeper
            .engine
            .resume(&container, seen)
            .await
            .map_err(Refused::Engine)?;
        if let Some(size) = terminal
            .and_then(plan::terminal_size)
            .filter(|_| container.terminal)
        {
            drop(self.keeper.engine.resize(&id, size).await);
        }
        tracing::info!(attempt = %context.attempt, container = %id.0, "container resumed");
        let served = Served {
            attached,
            terminal: container.terminal,
            seen,
        };
        session::stream(&self.keeper, session, served, input, talk).await;
        Ok(())
    }
}

async fn stopped_early(stop: Stop, talk: &Talk) -> Result<(), Refused> {
    match stop {
        Stop::ClientGone => Ok(()),
        Stop::AttemptEnded => Err(Refused::Ending),
        Stop::LettingGo => {
            talk.leave().await;
            Ok(())
        }
    }
}

#[tonic::async_trait]
impl<E: ContainerEngine, A: Attempts + Tasks> NodeDoor for Door<E, A> {
    type RunContainerStream = ReceiverStream<Result<ContainerOutput, Status>>;
    type RunTaskStream = TaskStream;

    async fn run_container(
        &self,
        request: Request<Streaming<ContainerInput>>,
    ) -> Result<Response<Self::RunContainerStream>, Status> {
        let caller = caller(&request)?;
        let (talk, heard) = mpsc::channel(OUTPUT_QUEUE);
        // Not the handler's own task: that one ends with the client, and a container must still be removed then.
        tokio::spawn(
            self.clone()
                .serve(caller, request.into_inner(), Talk::new(talk)),
        );
        Ok(Response::new(ReceiverStream::new(heard)))
    }

    async fn list_places(
        &self,
        request: Request<ListPlacesRequest>,
    ) -> Result<Response<ListPlacesReply>, Status> {
        let context = self.context(caller(&request)?).map_err(refused)?;
        let ListPlacesRequest {} = request.into_inner();
        let nodes = context.spec.node_file.clone();
        Ok(Response::new(ListPlacesReply { nodes }))
    }

    async fn run_task(
        &self,
        request: Request<Streaming<RunTaskRequest>>,
    ) -> Result<Response<TaskStream>, Status> {
        let context = self.context(caller(&request)?).map_err(refused)?;
        let mut input = request.into_inner();
        let first = tokio::time::timeout(REQUEST_TIME, input.message()).await;
        let first = first.map_err(|_| Status::deadline_exceeded("no task was asked for"))?;
        let RunTaskRequest {
            place,
            arguments,
            environment,
            rank,
            is_gang,
            key,
            from_byte,
            seen_bytes: _,
            is_over: _,
        } = first?.ok_or_else(|| Status::invalid_argument("no task is asked for"))?;
        let has_key = !key.is_empty();
        let asked = TaskAsked {
            rank,
            is_gang,
            place,
            arguments,
            environment,
            key,
            from_byte,
        };
        match self.attempts.run_task(context.attempt, asked) {
            Ok(started) => {
                let letting_go = self.keeper.letting_go.clone();
                let input = has_key.then_some(input);
                Ok(Response::new(tasks::said(started, input, letting_go)))
            }
            Err(why) if has_key && why.is_passing() => {
                Ok(Response::new(tasks::away(why.to_string())))
            }
            Err(why) => Err(Status::failed_precondition(why.to_string())),
        }
    }

    async fn adopt_process(
        &self,
        request: Request<AdoptProcessRequest>,
    ) -> Result<Response<Done>, Status> {
        let caller = caller(&request)?;
        let AdoptProcessRequest { job_id, pid } = request.into_inner();
        let attempts = Arc::clone(&self.attempts);
        let adopting =
            tokio::task::spawn_blocking(move || attempts.adopt(caller.uid, &job_id, pid));
        let adopted = adopting.await;
        let adopted = adopted.map_err(|_| Status::internal("the agent failed to do it"))?;
        adopted.map_err(adopt_refused)?;
        Ok(Response::new(Done {}))
    }
}

fn refused(why: Refused) -> Status {
    Status::permission_denied(why.to_string())
}

fn adopt_refused(why: AdoptRefused) -> Status {
    let text = why.to_string();
    match why {
        AdoptRefused::NoJob { .. } => Status::not_found(text),
        AdoptRefused::NotYours { .. } | AdoptRefused::Belongs { .. } => {
            Status::permission_denied(text)
        }
        AdoptRefused::NoCgroups | AdoptRefused::Refused { .. } => Status::failed_precondition(text),
    }
}

/// Who calls, by the kernel's word.
fn caller<T>(request: &Request<T>) -> Result<Caller, Status> {
    let peer = request.extensions().get::<UdsConnectInfo>();
    let peer = peer.and_then(|info| info.peer_cred);
    let caller = peer.and_then(|peer| {
        let pid = peer.pid()?;
        Some(Caller {
            pid,
            uid: peer.uid(),
        })
    });
    caller.ok_or_else(|| Status::permission_denied("the kernel does not say who calls"))
}

#[cfg(test)]
#[path = "door_tests.rs"]
mod tests;
