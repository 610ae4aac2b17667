//! How many terminals a user may have at once.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Terminals of one user at once.
pub(super) const PER_USER_MAX: usize = 32;

/// Who has how many terminals.
#[derive(Clone, Debug, Default)]
pub(in crate::edge) struct Seats(Arc<Mutex<BTreeMap<u32, usize>>>);

/// The seat at one terminal; given back when it is dropped.
pub(super) struct Seat {
    seats: Seats,
    uid: u32,
}

impl Seats {
    fn counts(&self) -> MutexGuard<'_, BTreeMap<u32, usize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn admit(&self, uid: u32) -> Option<Seat> {
        let mut counts = self.counts();
        let own = counts.entry(uid).or_default();
        if *own >= PER_USER_MAX {
            return None;
        }
        *own += 1;
        let seats = self.clone();
        Some(Seat { seats, uid })
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut counts = self.seats.counts();
        let left = counts.get(&self.uid).map_or(0, |own| own.saturating_sub(1));
        match left {
            0 => counts.remove(&self.uid),
            left => counts.insert(self.uid, left),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_user_cannot_take_all_terminals() {
        let seats = Seats::default();
        let mut own: Vec<Seat> = (0..99).filter_map(|_| seats.admit(7)).collect();
        assert_eq!(own.len(), PER_USER_MAX);
        assert!(seats.admit(8).is_some());
        own.pop();
        assert!(seats.admit(7).is_some());
        drop(own);
        assert!(seats.counts().is_empty());
    }
}
