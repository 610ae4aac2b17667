//! How many jobs have not ended: in all, by queue, by user, by group.

use capstan_types::QueueName;

use super::State;

impl State {
    /// How many jobs have not ended.
    #[must_use]
    pub fn live_count(&self) -> usize {
        self.jobs.len() - self.ended.len()
    }

    /// How many jobs in `queue` have not ended, all or those of one user. Members of arrays count one by one.
    #[must_use]
    pub fn live_in_queue(&self, queue: &QueueName, user: Option<&str>) -> u64 {
        self.live_in(queue, |of, _| user.is_none_or(|user| of == user))
    }

    /// How many jobs of `group` in `queue` have not ended.
    #[must_use]
    pub fn live_of_group_in(&self, queue: &QueueName, group: &str) -> u64 {
        self.live_in(queue, |_, of| of == group)
    }

    fn live_in(&self, queue: &QueueName, is_meant: impl Fn(&str, &str) -> bool) -> u64 {
        let first = (queue.clone(), Box::default(), Box::default());
        let of_queue = self.live.range(first..);
        let of_queue = of_queue.take_while(|((name, ..), _)| name == queue);
        let wanted = of_queue.filter(|((_, user, group), _)| is_meant(user, group));
        wanted.map(|(_, jobs)| jobs).sum()
    }

    /// How many jobs of `user` have not ended.
    #[must_use]
    pub fn live_of_user(&self, user: &str) -> u64 {
        let own = self.live.iter().filter(|((_, of, _), _)| **of == *user);
        own.map(|(_, jobs)| jobs).sum()
    }

    /// How many jobs of `group` have not ended.
    #[must_use]
    pub fn live_of_group(&self, group: &str) -> u64 {
        let own = self.live.iter().filter(|((.., of), _)| **of == *group);
        own.map(|(_, jobs)| jobs).sum()
    }

    /// How many jobs have not ended, members of arrays one by one.
    #[must_use]
    pub fn live_members(&self) -> u64 {
        self.live.values().sum()
    }
}
