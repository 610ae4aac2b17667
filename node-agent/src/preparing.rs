//! Orders of the server to get images for jobs that wait: each is worked on once, however often it is given, and its end
//! is told on the connection that stands then. After a broken connection the server orders anew what it has not heard of.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use capstan_proto::wire::{self, AgentMessage, agent_message};
use capstan_supervisor::attempts::Supervisor;
use tokio::sync::mpsc;
use tokio::task::AbortHandle;

use crate::engine::AskEngine;

/// Orders that are worked on at once.
const ORDERS_MAX: usize = 64;

type Key = (String, u32);

/// The orders that are worked on.
#[derive(Clone, Default)]
pub(crate) struct Preparer(Arc<Mutex<Orders>>);

#[derive(Default)]
struct Orders {
    under_way: BTreeMap<Key, AbortHandle>,
    out: Option<mpsc::Sender<AgentMessage>>,
}

impl Preparer {
    /// From now on the server hears of ends here.
    pub(crate) fn attach(&self, out: mpsc::Sender<AgentMessage>) {
        self.lock().out = Some(out);
    }

    /// Works on `order`, unless that is done already.
    pub(crate) fn begin<E: AskEngine>(
        &self,
        engine: &Arc<E>,
        supervisor: &Supervisor,
        order: wire::PrepareImage,
    ) {
        let key = (order.image.clone(), order.uid);
        let mut orders = self.lock();
        if orders.under_way.contains_key(&key) {
            return;
        }
        if orders.under_way.len() >= ORDERS_MAX {
            drop(orders);
            self.tell(report(key, "this node has enough images to get", false));
            return;
        }
        let (own, engine, supervisor) = (self.clone(), engine.clone(), supervisor.clone());
        let work = async move {
            let key = (order.image.clone(), order.uid);
            let said = match prepare(&*engine, supervisor, order).await {
                Ok(()) => report(key.clone(), "", false),
                Err((text, is_lasting)) => report(key.clone(), &text, is_lasting),
            };
            own.lock().under_way.remove(&key);
            own.tell(said);
        };
        // Ends with the agent; the next one is told to begin anew, and the engine keeps what it has of the image.
        let task = tokio::spawn(work);
        orders.under_way.insert(key, task.abort_handle());
    }

    /// Nobody wants it any more.
    pub(crate) fn drop_order(&self, order: wire::DropImage) {
        let wire::DropImage { image, uid } = order;
        if let Some(task) = self.lock().under_way.remove(&(image, uid)) {
            task.abort();
        }
    }

    fn tell(&self, said: wire::ImageReport) {
        let message = Some(agent_message::Message::ImageReport(said));
        if let Some(out) = &self.lock().out {
            // Not heard: the connection is gone, and the next one begins with the order again.
            drop(out.try_send(AgentMessage { message }));
        }
    }

    fn lock(&self) -> MutexGuard<'_, Orders> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn prepare<E: AskEngine>(
    engine: &E,
    supervisor: Supervisor,
    order: wire::PrepareImage,
) -> Result<(), (String, bool)> {
    let wire::PrepareImage {
        image,
        user,
        uid,
        group,
    } = order;
    // The name service may be a network away.
    let asking = move || supervisor.customer(&user, uid, &group);
    let customer = tokio::task::spawn_blocking(asking).await;
    let customer = customer
        .map_err(|_| ("the user could not be looked up".to_owned(), false))?
        .map_err(|problem| (problem, false))?;
    let prepared = engine.prepare_image(&image, &customer).await;
    prepared.map_err(|problem| (problem.text, problem.is_lasting))
}

fn report((image, uid): Key, problem: &str, is_lasting: bool) -> wire::ImageReport {
    wire::ImageReport {
        image,
        uid,
        problem: problem.to_owned(),
        is_lasting,
    }
}
