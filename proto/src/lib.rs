//! What Capstan's processes say to each other: the generated gRPC code, how a client reaches a Unix socket,
//! and how a refusal travels. Knows the words of `capstan-types`, decides nothing.

mod connect;
mod refusal;

pub use connect::{ConnectError, connect_unix};
pub use refusal::Refusal;

/// Version of the agents' protocol. An agent that says another number is refused with both numbers.
pub const PROTOCOL: u32 = 1;

/// The generated messages, clients and servers of `capstan.proto`.
#[allow(
    missing_docs,
    unreachable_pub,
    clippy::all,
    clippy::pedantic,
    clippy::allow_attributes_without_reason,
    elided_lifetimes_in_paths,
    reason = "generated code"
)]
pub mod wire {
    tonic::include_proto!("capstan.v1");
}
