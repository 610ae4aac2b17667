//! What an XID, an error that NVIDIA's driver reports of a card, means for the card. Pure. The numbers and what they say
//! are from NVIDIA's "XID Errors" (<https://docs.nvidia.com/deploy/xid-errors/>); which of them take a card out of use is
//! decided here: those after which a card is to be reset, or cannot be trusted until somebody has looked.

/// What an XID means for the card.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum XidClass {
    /// A program's own mistake, or the driver clearing up after one: the card is well.
    Application,
    /// Worth knowing, not worth a card.
    Notice,
    /// The card or its link has failed.
    Failure,
}

/// Class and meaning of an XID.
#[must_use]
pub const fn classify(xid: u64) -> (XidClass, &'static str) {
    use XidClass::{Application, Failure, Notice};
    match xid {
        13 => (Application, "graphics engine exception"),
        31 => (Application, "memory page fault"),
        32 => (Application, "invalid or corrupted push buffer"),
        43 => (Application, "the program's channel was stopped"),
        45 => (Application, "preemptive cleanup after an earlier error"),
        68 => (Application, "video processor exception"),
        69 => (Application, "graphics engine class error"),
        109 => (Application, "context switch timeout"),
        46 => (Failure, "the card stopped processing"),
        48 => (Failure, "uncorrectable memory error (double bit)"),
        61 => (Failure, "internal microcontroller stopped"),
        62 => (Failure, "internal microcontroller halted"),
        63 => (
            Failure,
            "memory row remapped or page retired; the card needs a reset",
        ),
        64 => (Failure, "memory row could not be remapped or page retired"),
        74 => (Failure, "NVLink error"),
        79 => (Failure, "the card has fallen off the bus"),
        94 => (Failure, "contained memory error"),
        95 => (Failure, "uncontained memory error"),
        119 => (Failure, "timeout of the card's system processor"),
        120 => (Failure, "error of the card's system processor"),
        121 => (Failure, "link between processor and card failed"),
        136 => (Failure, "link training failed"),
        140 => (Failure, "unrecovered memory error"),
        143 => (Failure, "the card could not be initialised"),
        144..=150 => (Failure, "NVLink error"),
        154 => (Failure, "the driver asks for recovery of the card"),
        155 | 156 | 158 => (Failure, "link error"),
        92 => (Notice, "many corrected memory errors"),
        _ => (Notice, "see NVIDIA's list of XID errors"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mistakes_of_programs_never_cost_a_card_and_failures_do() {
        for xid in [13, 31, 32, 43, 45, 68, 69, 109] {
            assert_eq!(classify(xid).0, XidClass::Application, "{xid}");
        }
        for xid in [48, 63, 64, 74, 79, 94, 95, 119, 120, 140] {
            assert_eq!(classify(xid).0, XidClass::Failure, "{xid}");
        }
        for xid in [0, 1, 92, 999, u64::MAX] {
            assert_eq!(classify(xid).0, XidClass::Notice, "{xid}");
        }
    }
}
