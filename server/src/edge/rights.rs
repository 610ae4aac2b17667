//! Who is a manager or an operator, by the settings of this moment.

use super::identity::Person;
use crate::snapshot::Snapshot;

pub(super) fn is_manager(snapshot: &Snapshot, person: &Person) -> bool {
    let settings = snapshot.settings();
    settings.is_manager(person.uid, &person.user, &person.host)
}

pub(super) fn is_operator(snapshot: &Snapshot, person: &Person) -> bool {
    let settings = snapshot.settings();
    settings.is_operator(person.uid, &person.user, &person.host)
}
