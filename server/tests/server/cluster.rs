//! A server in a temporary folder, and what a client asks of it.

use std::ops::{Deref, DerefMut};
use std::path::Path;
use std::time::Duration;

use capstan_proto::wire::scheduler_client::SchedulerClient;
use capstan_proto::wire::stat_jobs_request::Detail;
use capstan_proto::wire::{
    Attribute, JobAttributes, StatJobsRequest, StatNodesRequest, SubmitRequest, Variable,
};
use capstan_proto::{Refusal, connect_unix};
use capstan_server::Server;
use capstan_server::settings::{Settings, SettingsFile, resolve};
use capstan_store::{MemoryDisk, MemoryStore};
use tempfile::TempDir;
use tonic::Status;
use tonic::transport::Channel;

/// How long a test waits for what must happen.
pub(crate) const DEADLINE: Duration = Duration::from_secs(20);

/// A running server on a store in memory.
pub(crate) struct Cluster {
    pub(crate) server: Server,
    pub(crate) client: Client,
    pub(crate) disk: MemoryDisk,
    pub(crate) folder: TempDir,
    extra: String,
}

/// A client on the server's Unix socket.
pub(crate) struct Client(pub(crate) SchedulerClient<Channel>);

impl Deref for Client {
    type Target = SchedulerClient<Channel>;

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

impl DerefMut for Client {
    fn deref_mut(&mut self) -> &mut Self::Target {
        &mut self.0
    }
}

/// The settings of a test: `extra` is TOML.
pub(crate) fn settings(folder: &TempDir, extra: &str) -> Settings {
    let (state, run) = (folder.path().join("state"), folder.path().join("run"));
    let text = format!(
        "server_name = 'hn1'\nstate_dir = '{}'\nrun_dir = '{}'\nagents_listen = '127.0.0.1:0'\n\
         root_may_submit = true\nheartbeat_secs = 60\n{extra}",
        state.display(),
        run.display()
    );
    let file: SettingsFile = toml::from_str(&text).unwrap();
    resolve(&file, "hn1").unwrap()
}

impl Cluster {
    pub(crate) async fn start(extra: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self::start_on(MemoryDisk::default(), folder, extra).await
    }

    async fn start_on(disk: MemoryDisk, folder: TempDir, extra: &str) -> Self {
        let (store, state) = MemoryStore::open(&disk);
        let settings = settings(&folder, extra);
        let server = Server::start(settings, Box::new(store), state)
            .await
            .unwrap();
        let client = Client::connect(&server.socket).await;
        Self {
            server,
            client,
            disk,
            folder,
            extra: extra.to_owned(),
        }
    }

    /// Stops the server and starts another on the same store.
    pub(crate) async fn restart(self) -> Self {
        let Self {
            server,
            client,
            disk,
            folder,
            extra,
        } = self;
        drop(client);
        server.stop().await.unwrap();
        Self::start_on(disk, folder, &extra).await
    }

    pub(crate) async fn submit(&mut self, attributes: &[(&str, &str)]) -> Result<String, Status> {
        self.client.submit(attributes).await
    }

    pub(crate) async fn value(&mut self, id: &str, name: &str) -> String {
        self.client.value(id, name).await
    }

    pub(crate) async fn wait_until(&mut self, id: &str, name: &str, wanted: &str) {
        self.client.wait_until(id, name, wanted).await;
    }

    pub(crate) async fn wait_until_starts(&mut self, id: &str, name: &str, wanted: &str) {
        self.client.wait_until_starts(id, name, wanted).await;
    }

    pub(crate) async fn wait_for_node(&mut self, node: &str, state: &str) {
        self.client.wait_for_node(node, state).await;
    }
}

impl Client {
    pub(crate) async fn connect(socket: &Path) -> Self {
        Self(SchedulerClient::new(connect_unix(socket).await.unwrap()))
    }

    /// Submits a job; `attributes` as `Name` or `Resource_List.name`.
    pub(crate) async fn submit(&mut self, attributes: &[(&str, &str)]) -> Result<String, Status> {
        let attributes = attributes.iter().map(|(name, value)| {
            let (name, resource) = name.split_once('.').unwrap_or((name, ""));
            Attribute {
                name: name.to_owned(),
                resource: resource.to_owned(),
                value: (*value).to_owned(),
            }
        });
        let variable = Variable {
            name: "PBS_O_WORKDIR".to_owned(),
            value: "/tmp".to_owned(),
        };
        let request = SubmitRequest {
            script: b"echo hello\n".to_vec(),
            attributes: attributes.collect(),
            variables: vec![variable],
            destination: String::new(),
        };
        Ok(self.0.submit(request).await?.into_inner().job_id)
    }

    /// All that `qstat -f` says of a job.
    pub(crate) async fn job(&mut self, id: &str) -> Result<JobAttributes, Status> {
        let request = StatJobsRequest {
            operand: id.to_owned(),
            detail: Detail::Full.into(),
            ..StatJobsRequest::default()
        };
        let mut stream = self.0.stat_jobs(request).await?.into_inner();
        let batch = stream.message().await?.expect("a known job has a batch");
        Ok(batch.jobs.into_iter().next().expect("a batch of one job"))
    }

    /// One attribute of a job; empty when it has none.
    pub(crate) async fn value(&mut self, id: &str, name: &str) -> String {
        let job = self.job(id).await.unwrap();
        let found = job
            .attributes
            .into_iter()
            .find(|attribute| attribute.name == name);
        found.map(|attribute| attribute.value).unwrap_or_default()
    }

    /// Polls until an attribute of a job is `wanted`; fails with the last value seen.
    pub(crate) async fn wait_until(&mut self, id: &str, name: &str, wanted: &str) {
        self.wait(id, name, wanted, |seen| seen == wanted).await;
    }

    /// Polls until an attribute of a job begins with `wanted`; fails with the last value seen.
    pub(crate) async fn wait_until_starts(&mut self, id: &str, name: &str, wanted: &str) {
        self.wait(id, name, wanted, |seen| seen.starts_with(wanted))
            .await;
    }

    async fn wait(&mut self, id: &str, name: &str, wanted: &str, is_it: impl Fn(&str) -> bool) {
        let give_up = tokio::time::Instant::now() + DEADLINE;
        loop {
            let seen = self.value(id, name).await;
            if is_it(&seen) {
                return;
            }
            assert!(
                tokio::time::Instant::now() < give_up,
                "{id}: {name} is {seen}, not {wanted}"
            );
            tokio::task::yield_now().await;
        }
    }

    /// Polls until a node is in `state`; fails with the last state seen.
    pub(crate) async fn wait_for_node(&mut self, node: &str, state: &str) {
        let give_up = tokio::time::Instant::now() + DEADLINE;
        loop {
            let request = StatNodesRequest {
                node: node.to_owned(),
            };
            let seen = match self.0.stat_nodes(request).await {
                Ok(reply) => reply.into_inner().nodes[0].state.clone(),
                Err(status) => status.message().to_owned(),
            };
            if seen == state {
                return;
            }
            assert!(
                tokio::time::Instant::now() < give_up,
                "{node} is {seen}, not {state}"
            );
            tokio::task::yield_now().await;
        }
    }
}

/// The number and the text of a refusal.
pub(crate) fn refusal(status: &Status) -> (u16, String) {
    let refusal = Refusal::from_status(status).unwrap_or_else(|| panic!("no refusal: {status}"));
    (refusal.error.number(), refusal.text())
}
