//! What the inventory says of the container engine.

use std::sync::Arc;
use std::time::Duration;

use capstan_proto::wire::{ImageOffer, ImagePull, ImageWait, OpenSession};
use capstan_supervisor::attempts::{OpenedSession, Supervisor};
use capstan_supervisor::containers::{ContainerEngine, Customer, Keeper, Unprepared};

use crate::inventory::Engine;

/// An engine that hangs must not keep the node from attaching.
const ANSWER_WAIT: Duration = Duration::from_secs(5);

/// Tells what the container engine is now.
pub(crate) trait AskEngine: Send + Sync + 'static {
    fn ask(&self) -> impl Future<Output = Engine> + Send;
    /// Attempts that wait for an image, and the short names of images.
    fn images(&self) -> (Vec<ImageWait>, Vec<ImageOffer>);
    /// Begins a session in a container of its attempt; gives the order back when it is not for one.
    fn enter(
        self: Arc<Self>,
        supervisor: &Supervisor,
        order: OpenSession,
    ) -> Result<OpenedSession, Box<OpenSession>>;
    /// Images that are on their way for jobs that wait.
    fn pulls(&self) -> Vec<ImagePull>;
    /// Sees to it that an image is here and open to the customer.
    fn prepare_image(
        &self,
        image: &str,
        customer: &Customer,
    ) -> impl Future<Output = Result<(), Unprepared>> + Send;
}

impl<E: ContainerEngine> AskEngine for Keeper<E> {
    fn images(&self) -> (Vec<ImageWait>, Vec<ImageOffer>) {
        let waits = self.image_waits().into_iter();
        let waits = waits.map(|(attempt, text)| ImageWait {
            attempt: attempt.0,
            text,
        });
        let offers = self.image_names().map(|(name, image)| ImageOffer {
            name: name.to_owned(),
            image: image.to_owned(),
        });
        (waits.collect(), offers.collect())
    }

    fn pulls(&self) -> Vec<ImagePull> {
        let pulls = self.image_pulls().into_iter();
        let pulls = pulls.map(|(image, uid, text)| ImagePull { image, uid, text });
        pulls.collect()
    }

    async fn prepare_image(&self, image: &str, customer: &Customer) -> Result<(), Unprepared> {
        Keeper::prepare_image(self, image, customer).await
    }

    fn enter(
        self: Arc<Self>,
        supervisor: &Supervisor,
        order: OpenSession,
    ) -> Result<OpenedSession, Box<OpenSession>> {
        Keeper::enter(self, supervisor, order)
    }

    async fn ask(&self) -> Engine {
        let problem = match tokio::time::timeout(ANSWER_WAIT, self.facts()).await {
            Ok(Ok(facts)) => {
                return Engine {
                    version: facts.version.clone(),
                    problem: String::new(),
                    images: facts.images.keys().cloned().collect(),
                    private_images: self.private_images(&facts),
                };
            }
            Ok(Err(error)) => crate::link::chain(&error),
            Err(_) => format!("the container engine does not answer within {ANSWER_WAIT:?}"),
        };
        Engine {
            version: String::new(),
            problem,
            images: Vec::new(),
            private_images: Vec::new(),
        }
    }
}
