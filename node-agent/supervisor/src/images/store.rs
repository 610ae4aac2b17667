//! The port to where images are kept, in the supervisor's words.

use std::future::Future;

use super::credentials::Credentials;
use super::problem::PullProblem;
use super::progress::Progress;
use crate::containers::EngineError;

/// An image that the engine holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StoredImage {
    /// `sha256:…`.
    pub id: String,
    /// `NAME:TAG`, any number of them.
    pub names: Vec<String>,
    /// With all its layers, those shared with others too.
    pub bytes: u64,
    /// A container is made of it, running or not.
    pub in_use: bool,
}

/// Where images are kept. Every call may be repeated.
pub trait ImageStore: Send + Sync + 'static {
    /// Gets the image from its registry, telling how far it is. May be dropped half-way; what was got of it is kept for
    /// the next time as far as the engine can.
    fn pull_image(
        &self,
        name: &str,
        credentials: Option<&Credentials>,
        told: &(dyn Fn(Progress) + Send + Sync),
    ) -> impl Future<Output = Result<(), PullProblem>> + Send;

    /// Every image.
    fn stored_images(&self) -> impl Future<Output = Result<Vec<StoredImage>, EngineError>> + Send;

    /// Takes a name away, and with its last name the image. Refused by the engine while a container is made of it.
    fn remove_image(&self, name: &str) -> impl Future<Output = Result<(), EngineError>> + Send;
}
