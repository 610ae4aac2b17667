//! An advance reservation: what of which nodes is set aside when, and for whom. Its times are explicit: a rule of
//! recurrence was expanded when it was made, so that no decision needs to know of calendars.

use capstan_types::{
    NodeName, QueueName, ReservationId, ReservationLetter, ResourceList, Span, Timestamp,
};
use serde::{Deserialize, Serialize};

/// Something of nodes that is set aside.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reservation {
    /// Its id.
    pub id: ReservationId,
    /// `-N`; may be empty.
    pub name: Box<str>,
    /// Who made it.
    pub owner: Box<str>,
    /// On which host.
    pub host: Box<str>,
    /// What for.
    pub kind: ReservationKind,
    /// Who else may use it, as `user@host` patterns.
    pub users: Vec<Box<str>>,
    /// Groups that may use it.
    pub groups: Vec<Box<str>>,
    /// What was asked for, as `Resource_List.*` shows it.
    pub asked: ResourceList,
    /// What is set aside, in the order of the request.
    pub shares: Vec<ReservedShare>,
    /// When, ascending and apart from each other; those that are over are taken out. Never empty.
    pub spans: Vec<Span>,
    /// How many are over.
    pub past: u32,
    /// The rule that the times were made of; empty for one time.
    pub rule: Box<str>,
    /// When it was made.
    pub created: Timestamp,
}

/// What a reservation is for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ReservationKind {
    /// For the jobs of its own queue.
    Jobs,
    /// For nobody: the nodes are worked on.
    Maintenance,
    /// For the jobs of these queues.
    Dedicated(Vec<QueueName>),
}

/// What is set aside of one node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReservedShare {
    /// The node.
    pub node: NodeName,
    /// All of it, whatever it has then; the numbers are those of now.
    pub is_whole: bool,
    /// Slots.
    pub slots: u32,
    /// Cards.
    pub cards: u32,
    /// Memory, bytes.
    pub memory_bytes: u64,
}

impl ReservationKind {
    /// The letter of its ids.
    #[must_use]
    pub const fn letter(&self, comes_again: bool) -> ReservationLetter {
        match (self, comes_again) {
            (Self::Jobs, false) => ReservationLetter::R,
            (Self::Jobs, true) => ReservationLetter::S,
            (Self::Maintenance, _) => ReservationLetter::M,
            (Self::Dedicated(_), _) => ReservationLetter::D,
        }
    }
}

impl Reservation {
    /// Most of all together.
    pub const COUNT_MAX: usize = 1000;
    /// Most of one user who is no operator.
    pub const OWN_MAX: usize = 10;

    /// The time that it is, when it is now.
    #[must_use]
    pub fn current(&self, now: Timestamp) -> Option<Span> {
        self.next(now).filter(|span| span.contains(now))
    }

    /// The time that is not over, or comes next.
    #[must_use]
    pub fn next(&self, now: Timestamp) -> Option<Span> {
        let over = self.spans.partition_point(|span| span.until <= now);
        self.spans.get(over).copied()
    }

    /// The times that meet `span`.
    pub fn meeting(&self, span: Span) -> impl Iterator<Item = Span> {
        let over = self.spans.partition_point(|own| own.until <= span.from);
        let rest = self.spans[over..].iter().copied();
        rest.take_while(move |own| own.from < span.until)
    }

    /// Whether it has a queue, whose jobs are its own.
    #[must_use]
    pub const fn has_queue(&self) -> bool {
        matches!(self.kind, ReservationKind::Jobs)
    }

    /// Whether it keeps a job of `queue` from its nodes.
    #[must_use]
    pub fn is_closed_to(&self, queue: &QueueName) -> bool {
        match &self.kind {
            ReservationKind::Jobs => *queue.as_str() != *self.id.to_string(),
            ReservationKind::Maintenance => true,
            ReservationKind::Dedicated(queues) => !queues.contains(queue),
        }
    }

    /// Its name with its id: "R12 course".
    #[must_use]
    pub fn label(&self) -> String {
        match &*self.name {
            "" => self.id.to_string(),
            name => format!("{} {name}", self.id),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn span(from: u64, until: u64) -> Span {
        Span {
            from: Timestamp(from),
            until: Timestamp(until),
        }
    }

    fn reservation(kind: ReservationKind) -> Reservation {
        Reservation {
            id: ReservationId {
                seq: 12,
                letter: kind.letter(true),
            },
            name: "course".into(),
            owner: "alice".into(),
            host: "hn1".into(),
            kind,
            users: Vec::new(),
            groups: Vec::new(),
            asked: ResourceList::default(),
            shares: Vec::new(),
            spans: vec![span(10, 20), span(30, 40), span(50, 60)],
            past: 0,
            rule: "".into(),
            created: Timestamp(0),
        }
    }

    #[test]
    fn the_time_that_is_or_comes_next_is_found() {
        let course = reservation(ReservationKind::Jobs);
        assert_eq!(course.current(Timestamp(9)), None);
        assert_eq!(course.current(Timestamp(10)), Some(span(10, 20)));
        assert_eq!(course.current(Timestamp(20)), None);
        assert_eq!(course.next(Timestamp(20)), Some(span(30, 40)));
        assert_eq!(course.next(Timestamp(60)), None);
        let met = |from, until| course.meeting(span(from, until)).count();
        assert_eq!(
            (met(0, 10), met(15, 31), met(20, 30), met(0, 99)),
            (0, 2, 0, 3)
        );
    }

    #[test]
    fn its_nodes_are_closed_to_all_but_those_for_whom_it_is() {
        let check = |kind: ReservationKind, own: &str, others: bool| {
            let made = reservation(kind);
            assert!(
                !made.is_closed_to(&own.into()) || own.is_empty(),
                "{}",
                made.id
            );
            assert_eq!(made.is_closed_to(&"batch".into()), others, "{}", made.id);
        };
        check(ReservationKind::Jobs, "S12", true);
        check(ReservationKind::Maintenance, "", true);
        check(
            ReservationKind::Dedicated(vec!["exam".into()]),
            "exam",
            true,
        );
        check(
            ReservationKind::Dedicated(vec!["batch".into()]),
            "batch",
            false,
        );
    }
}
