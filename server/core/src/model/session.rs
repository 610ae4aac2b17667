//! Sessions at a terminal: which jobs are such, and how long they live without it.

use capstan_types::QueueName;

use crate::{JobSpec, Settings};

/// How long a session goes on whose terminal was lost, seconds, where nobody says otherwise.
const KEEP_SECS: u32 = 1800;

/// How long a session lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionTimes {
    /// Without a terminal, seconds.
    pub keep_secs: u32,
    /// Without a key and without use of a card, seconds; 0 for ever.
    pub idle_secs: u32,
}

impl JobSpec {
    /// Whether the job is a session at a terminal (`qsub -I`).
    #[must_use]
    pub fn is_interactive(&self) -> bool {
        let mut shown = self.shown.iter();
        shown.any(|(name, value)| **name == *"interactive" && **value == *"True")
    }
}

impl Settings {
    /// How long sessions of `queue` live: as the queue says, else as the server does.
    #[must_use]
    pub fn session_times(&self, queue: &QueueName) -> SessionTimes {
        let of_queue = self.queues.get(queue).map(|queue| &queue.attributes);
        let secs = |name: &str| {
            let own = of_queue.and_then(|attributes| attributes.integer(name));
            let secs = own.or_else(|| self.attributes.integer(name))?;
            Some(u32::try_from(secs.max(0)).unwrap_or(u32::MAX))
        };
        SessionTimes {
            keep_secs: secs("interactive_keep").unwrap_or(KEEP_SECS),
            idle_secs: secs("interactive_idle").unwrap_or(0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Queue;
    use capstan_types::ServerName;

    #[test]
    fn a_queue_knows_better_than_the_server_how_long_its_sessions_live() {
        let mut settings = Settings::new(ServerName::from("hn1"));
        let batch = QueueName::from("batch");
        let check = |settings: &Settings, keep_secs, idle_secs| {
            let expected = SessionTimes {
                keep_secs,
                idle_secs,
            };
            assert_eq!(settings.session_times(&batch), expected);
        };
        check(&settings, 1800, 0);
        settings.set("interactive_keep", "60");
        settings.set("interactive_idle", "7200");
        check(&settings, 60, 7200);
        let mut queue = Queue::new(batch.clone());
        let set = queue.attributes.set("interactive_idle", "900");
        set.expect("a number of seconds");
        settings.queues.insert(batch.clone(), queue);
        check(&settings, 60, 900);
    }
}
