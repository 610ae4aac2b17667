//! Which jobs are containers, of which image, and where they must be. A queue's word counts before the server's.

use capstan_types::QueueName;

use super::{JobSpec, Settings};

/// The attribute of a job that makes it a container.
const IMAGE: &str = "image";

impl JobSpec {
    /// The image that the job itself names to run in (`-W image=`).
    #[must_use]
    pub fn own_image(&self) -> Option<&str> {
        let found = self.shown.iter().find(|(name, _)| **name == *IMAGE);
        found.map(|(_, image)| &**image)
    }
}

impl Settings {
    /// Whether jobs of `queue` must be containers (`containers = required`).
    #[must_use]
    pub fn requires_containers(&self, queue: &QueueName) -> bool {
        self.container_word(queue, "containers") == Some("required")
    }

    /// The image in which a job of `queue` runs: its own; where jobs must be containers also the default one.
    #[must_use]
    pub fn image_of<'a>(&'a self, queue: &QueueName, spec: &'a JobSpec) -> Option<&'a str> {
        let default = || self.container_word(queue, "default_image");
        let is_required = self.requires_containers(queue);
        spec.own_image()
            .or_else(|| default().filter(|_| is_required))
    }

    fn container_word(&self, queue: &QueueName, name: &str) -> Option<&str> {
        let of_queue = self.queues.get(queue)?.attributes.text(name);
        of_queue.or_else(|| self.attributes.text(name))
    }
}
