//! The variables by which processes of a distributed program find each other, and their places among them: PyTorch's and
//! `torchrun`'s (<https://docs.pytorch.org/docs/stable/elastic/run.html>), NCCL's and Gloo's choice of an interface
//! (<https://docs.nvidia.com/deeplearning/nccl/user-guide/docs/env.html>), and Paddle's.

/// Those that follow from the attempt, the same for all of its processes on a node.
pub const MEETING_VARIABLES: [&str; 6] = [
    "MASTER_ADDR",
    "MASTER_PORT",
    "NCCL_SOCKET_IFNAME",
    "GLOO_SOCKET_IFNAME",
    "PADDLE_MASTER",
    "PADDLE_NNODES",
];

/// Those that tell a process its place.
pub const RANK_VARIABLES: [&str; 9] = [
    "RANK",
    "WORLD_SIZE",
    "LOCAL_RANK",
    "LOCAL_WORLD_SIZE",
    "PADDLE_TRAINER_ID",
    "PADDLE_TRAINERS_NUM",
    "PADDLE_RANK_IN_NODE",
    "PADDLE_CURRENT_ENDPOINT",
    "PADDLE_TRAINER_ENDPOINTS",
];

/// Whether a container gets this variable from who starts it, as any process would.
#[must_use]
pub fn is_gang_variable(name: &str) -> bool {
    MEETING_VARIABLES.contains(&name) || RANK_VARIABLES.contains(&name)
}
