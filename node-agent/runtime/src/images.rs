//! Docker's images behind the supervisor's port.

use std::collections::BTreeSet;

use bollard::auth::DockerCredentials;
use bollard::query_parameters as query;
use capstan_supervisor::containers::EngineError;
use capstan_supervisor::images::{
    Credentials, ImageStore, Layers, Progress, PullProblem, StoredImage, problem_of,
};
use futures_util::StreamExt;

use crate::docker::DockerEngine;

/// As docker's API wants it; lives as long as the request.
fn header(credentials: &Credentials) -> DockerCredentials {
    let Credentials {
        account,
        password,
        token,
        registry,
    } = credentials;
    let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    DockerCredentials {
        username: some(account),
        password: some(password.reveal()),
        identitytoken: some(token.reveal()),
        serveraddress: some(registry),
        ..DockerCredentials::default()
    }
}

impl ImageStore for DockerEngine {
    async fn pull_image(
        &self,
        name: &str,
        credentials: Option<&Credentials>,
        told: &(dyn Fn(Progress) + Send + Sync),
    ) -> Result<(), PullProblem> {
        let who = credentials.map_or_else(String::new, |own| format!("account {}", own.account));
        let docker = self.docker().await.map_err(|_| PullProblem::EngineAway)?;
        let options = query::CreateImageOptionsBuilder::new()
            // With its tag: without one the engine would get all of them.
            .from_image(name)
            .build();
        let mut steps =
            std::pin::pin!(docker.create_image(Some(options), None, credentials.map(header)));
        let mut layers = Layers::default();
        while let Some(step) = steps.next().await {
            let step = step.map_err(|error| match self.said(error) {
                EngineError::Refused { said, .. } => problem_of(name, &who, &said),
                EngineError::Unreachable { .. }
                | EngineError::ImageMissing { .. }
                | EngineError::ProgramNotFound { .. }
                | EngineError::ProgramNotExecutable { .. }
                | EngineError::CardsUnavailable { .. }
                | EngineError::NoContainer { .. } => PullProblem::EngineAway,
            })?;
            if let Some(said) = step.error_detail.and_then(|detail| detail.message) {
                return Err(problem_of(name, &who, &said));
            }
            let (now, total) = step.progress_detail.map_or((0, 0), |detail| {
                let bytes = |count: Option<i64>| u64::try_from(count.unwrap_or(0)).unwrap_or(0);
                (bytes(detail.current), bytes(detail.total))
            });
            let (id, status) = (step.id.unwrap_or_default(), step.status.unwrap_or_default());
            if let Some(progress) = layers.hear(&id, &status, now, total) {
                told(progress);
            }
        }
        Ok(())
    }

    async fn stored_images(&self) -> Result<Vec<StoredImage>, EngineError> {
        let docker = self.docker().await?;
        let listed = docker.list_images(None::<query::ListImagesOptions>);
        let listed = self.limits.answer(listed).await;
        let listed = listed.map_err(|error| self.said(error))?;
        let options = query::ListContainersOptionsBuilder::new().all(true).build();
        let containers = self.limits.answer(docker.list_containers(Some(options)));
        let containers = containers.await.map_err(|error| self.said(error))?;
        let in_use: BTreeSet<String> = containers
            .into_iter()
            .filter_map(|container| container.image_id)
            .collect();
        let stored = listed.into_iter().map(|image| StoredImage {
            in_use: in_use.contains(&image.id),
            names: image
                .repo_tags
                .into_iter()
                .filter(|name| !name.contains("<none>"))
                .collect(),
            bytes: u64::try_from(image.size).unwrap_or(0),
            id: image.id,
        });
        Ok(stored.collect())
    }

    async fn remove_image(&self, name: &str) -> Result<(), EngineError> {
        let docker = self.docker().await?;
        let options = query::RemoveImageOptionsBuilder::new().force(false).build();
        let removed = docker.remove_image(name, Some(options), None);
        match self.limits.work(removed).await {
            Ok(_) => Ok(()),
            Err(error) if crate::said::status(&error) == Some(404) => Ok(()),
            Err(error) => Err(self.said(error)),
        }
    }
}
