//! Docker keeps the contract that the engine in memory keeps.

mod dockerd;

use capstan_runtime::DockerEngine;
use capstan_supervisor::containers::testing::{IMAGE, check_engine};
use capstan_types::AgentId;

#[tokio::test]
async fn docker_keeps_the_contract() {
    let Some(socket) = dockerd::socket() else {
        return;
    };
    dockerd::make_image(IMAGE);
    let agent = format!("contract-{}", std::process::id());
    check_engine(&DockerEngine::at(socket), &AgentId::from(agent.as_str())).await;
}
