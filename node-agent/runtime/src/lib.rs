//! The container engine behind the supervisor's port: Docker, through bollard. Holds no policy; what a container may
//! be is decided before it gets here.

mod attach;
mod docker;
mod entering;
mod images;
mod limits;
mod said;
mod spec;

pub use docker::DockerEngine;
pub use limits::Limits;
