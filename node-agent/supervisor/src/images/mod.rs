//! Images on this node: which name is meant, who may get it from where, one pull for all who wait for it, what went wrong
//! in one sentence, and which images have to go when the disk is full. Knows the engine only as [`ImageStore`].

mod credentials;
mod eviction;
mod problem;
mod progress;
mod pulls;
mod settings;
mod stock;
mod store;

pub use credentials::{BadCredentials, Credentials, Keyring, Secret, registry_of};
pub use eviction::{Disk, Held, Watermarks, leaving};
pub use problem::{PullProblem, problem_of};
pub use progress::{Layers, Progress};
pub use pulls::{Asker, Pulls};
pub use settings::{BadImages, ImageSettings, ImagesFile};
pub use stock::Stock;
pub use store::{ImageStore, StoredImage};
