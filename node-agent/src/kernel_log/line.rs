//! One record of the kernel's log: what it is about, and whom it names. Pure. Who writes to the log from outside of the
//! kernel is known by the record's facility; names of processes in it are their owners' choice, and count for nothing.

/// Longest text that is kept, characters.
const TEXT_CHARS_MAX: usize = 400;
/// The least urgent level that is kept where nothing else tells that it matters: errors.
const ERROR: u32 = 3;

/// What a record is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A card (XID).
    Card,
    /// A process was killed for want of memory.
    Memory,
    /// The kernel itself: a bug, its allocator (SLUB), a processor that is stuck.
    Kernel,
    /// A file server that does not answer, or files that are no longer there.
    FileServer,
    /// A disk or its file system.
    Disk,
    /// Memory, processors, links.
    Hardware,
    /// A program that crashed.
    Program,
    /// An error of no known kind.
    Other,
}

impl Kind {
    /// As it is printed.
    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::Card => "card",
            Self::Memory => "memory",
            Self::Kernel => "kernel",
            Self::FileServer => "nfs",
            Self::Disk => "disk",
            Self::Hardware => "hardware",
            Self::Program => "program",
            Self::Other => "other",
        }
    }

    /// Whether it concerns everybody on the node when it names nobody.
    pub(crate) const fn is_of_all(self) -> bool {
        match self {
            Self::Kernel | Self::FileServer | Self::Disk | Self::Hardware | Self::Card => true,
            Self::Memory | Self::Program | Self::Other => false,
        }
    }
}

/// A record that matters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Line {
    pub(crate) kind: Kind,
    /// Microseconds of the kernel's clock.
    pub(crate) at_us: u64,
    pub(crate) text: String,
    /// The process that it names.
    pub(crate) pid: Option<u32>,
    /// The cgroup that it names.
    pub(crate) group: Option<String>,
    /// The card that it names, by its address.
    pub(crate) card: Option<String>,
    /// It only tells who was running when the record before it was made.
    pub(crate) is_detail: bool,
}

/// Reads `PRIORITY,NUMBER,MICROSECONDS,FLAGS;TEXT`, as `/dev/kmsg` gives it (`Documentation/ABI/testing/dev-kmsg` of the
/// kernel); `None` for what is not the kernel's own or not worth keeping.
pub(crate) fn read(record: &str) -> Option<Line> {
    let (head, text) = record.split_once(';')?;
    let mut head = head.split(',');
    let priority: u32 = head.next()?.parse().ok()?;
    let at_us = head.nth(1)?.parse().ok()?;
    // The facility is 0 for the kernel alone.
    if priority >= 8 {
        return None;
    }
    let text: String = text
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .take(TEXT_CHARS_MAX)
        .collect();
    let text = text.trim_end().to_owned();
    let is_detail = running(&text).is_some();
    let kind = match kind(&text) {
        Some(kind) => kind,
        None if is_detail => Kind::Kernel,
        None if priority <= ERROR => Kind::Other,
        None => return None,
    };
    Some(Line {
        kind,
        at_us,
        pid: pid(kind, &text),
        group: (kind == Kind::Memory)
            .then(|| after(&text, "task_memcg=").map(str::to_owned))
            .flatten(),
        card: card(&text).map(|(address, _)| address.to_owned()),
        is_detail,
        text,
    })
}

fn kind(text: &str) -> Option<Kind> {
    let begins = |words: &[&str]| words.iter().any(|word| text.starts_with(word));
    let has = |words: &[&str]| words.iter().any(|word| text.contains(word));
    if card(text).is_some() {
        return Some(Kind::Card);
    }
    if begins(&[
        "oom-kill:",
        "Out of memory:",
        "Memory cgroup out of memory:",
    ]) {
        return Some(Kind::Memory);
    }
    // Before the kernel's own: a process may be called by any of its words.
    if crashed(text).is_some() {
        return Some(Kind::Program);
    }
    let is_stuck = begins(&["INFO: task "]) && has(&[" blocked for more than "]);
    if let Some(rest) = behind_name(text).filter(|_| !is_stuck) {
        return rest.starts_with(OOM_KILLER).then_some(Kind::Memory);
    }
    if begins(&["nfs: ", "NFS: ", "NFS4: ", "nfs4_", "lockd: ", "RPC: "]) {
        return Some(Kind::FileServer);
    }
    if begins(&[
        "SLUB:",
        "BUG:",
        "BUG ",
        "kernel BUG at",
        "Oops",
        "general protection fault",
        "watchdog: BUG:",
        "rcu: INFO:",
        "INFO: rcu",
        "INFO: task ",
        "list_add corruption",
        "list_del corruption",
        "Kernel panic",
        "page allocation failure",
    ]) || has(&["page allocation failure:"])
    {
        return Some(Kind::Kernel);
    }
    if begins(&[
        "EXT4-fs error",
        "XFS (",
        "BTRFS error",
        "Buffer I/O error",
        "I/O error,",
    ]) || has(&[": I/O error, dev "])
    {
        return Some(Kind::Disk);
    }
    if begins(&[
        "mce:",
        "EDAC ",
        "[Hardware Error]",
        "{1}[Hardware Error]",
        "pcieport ",
    ]) || has(&["Machine check events logged"])
    {
        return Some(Kind::Hardware);
    }
    None
}

/// `NVRM: Xid (PCI:0000:3b:00): 31, pid=4711, …`: the address, and what is behind it.
fn card(text: &str) -> Option<(&str, &str)> {
    let (address, rest) = text.strip_prefix("NVRM: Xid (PCI:")?.split_once("): ")?;
    let is_address = address
        .bytes()
        .all(|b| b.is_ascii_hexdigit() || b":.".contains(&b));
    let number = rest.split(',').next()?.trim();
    (is_address && number.parse::<u64>().is_ok()).then_some((address, rest))
}

/// `NAME[4711]: segfault at …`, `traps: NAME[4711] trap …`: the process.
fn crashed(text: &str) -> Option<u32> {
    let (before, _) = text
        .split_once("]: segfault at ")
        .or_else(|| text.strip_prefix("traps: ")?.split_once("] "))?;
    before.rsplit_once('[')?.1.parse().ok()
}

/// `NAME invoked oom-killer: …`, `NAME[4711] bad frame in …`, `NAME (4711) used greatest stack depth: …`: what is behind the
/// name and the number of a process that some records begin with.
fn behind_name(text: &str) -> Option<&str> {
    /// Longest name of a process, bytes (`TASK_COMM_LEN` without its end).
    const NAME_MAX: usize = 15;
    // What is no printable ASCII reads `\xff`.
    let length = |rest: &str| if rest.starts_with("\\x") { 4 } else { 1 };
    let rests = std::iter::successors(Some(text), |rest| rest.get(length(rest)..));
    let mut rests = rests.take(NAME_MAX + 1);
    rests.find_map(|rest| {
        let number = |open: &str, close: char| {
            let (number, behind) = rest.strip_prefix(open)?.split_once(close)?;
            let is_number = !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit());
            is_number.then_some(behind)
        };
        let is_killer = rest.starts_with(OOM_KILLER);
        is_killer
            .then_some(rest)
            .or_else(|| number("[", ']'))
            .or_else(|| number(" (", ')'))
    })
}

/// Who asked for memory that was not there is named first.
const OOM_KILLER: &str = " invoked oom-killer: ";

/// `CPU: 3 UID: 0 PID: 4711 Comm: NAME …`: who ran while the kernel found something wrong.
fn running(text: &str) -> Option<u32> {
    let rest = text.strip_prefix("CPU: ")?;
    let (_, rest) = rest.split_once("PID: ")?;
    let (pid, rest) = rest.split_once(' ')?;
    rest.starts_with("Comm: ").then(|| pid.parse().ok())?
}

fn pid(kind: Kind, text: &str) -> Option<u32> {
    match kind {
        Kind::Card => after(card(text)?.1, "pid=")?.parse().ok(),
        Kind::Memory => {
            let killed = || {
                let (_, rest) = text.split_once("Killed process ")?;
                rest.split(' ').next()
            };
            let told = || text.rsplit_once(",pid=")?.1.split(',').next();
            let number = if text.starts_with("oom-kill:") {
                told()
            } else {
                killed()
            };
            number?.parse().ok()
        }
        Kind::Program => crashed(text),
        Kind::Kernel => running(text).or_else(|| {
            // `INFO: task NAME:4711 blocked for more than 120 seconds.`
            let (name, _) = text
                .strip_prefix("INFO: task ")?
                .split_once(" blocked for ")?;
            name.rsplit_once(':')?.1.parse().ok()
        }),
        Kind::FileServer | Kind::Disk | Kind::Hardware | Kind::Other => None,
    }
}

/// What stands behind `name` up to the next comma.
fn after<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    text.split_once(name)?.1.split(',').next()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, kind: Kind, pid: Option<u32>) -> Line {
        let line = read(&format!("4,7,123456,-;{text}\n")).unwrap_or_else(|| panic!("{text}"));
        assert_eq!((line.kind, line.pid), (kind, pid), "{text}");
        assert_eq!(line.at_us, 123_456);
        line
    }

    #[test]
    fn complaints_are_known_by_their_words_and_name_a_process_card_or_group() {
        let line = check(
            "NVRM: Xid (PCI:0000:3b:00): 31, pid=4711, name=python, Ch 8",
            Kind::Card,
            Some(4711),
        );
        assert_eq!(line.card.as_deref(), Some("0000:3b:00"));
        check(
            "NVRM: Xid (PCI:0000:3b:00): 79, pid='<unknown>', GPU has fallen off the bus.",
            Kind::Card,
            None,
        );
        let line = check(
            "oom-kill:constraint=CONSTRAINT_MEMCG,nodemask=(null),cpuset=/,mems_allowed=0,oom_memcg=/capstan/ab/att-5,task_memcg=/capstan/ab/att-5/job,task=tail,pid=99,uid=1000",
            Kind::Memory,
            Some(99),
        );
        assert_eq!(line.group.as_deref(), Some("/capstan/ab/att-5/job"));
        check(
            "Memory cgroup out of memory: Killed process 99 (tail) total-vm:1kB",
            Kind::Memory,
            Some(99),
        );
        check(
            "SLUB: Unable to allocate memory on node -1",
            Kind::Kernel,
            None,
        );
        check(
            "BUG: unable to handle page fault for address: 00",
            Kind::Kernel,
            None,
        );
        check(
            "watchdog: BUG: soft lockup - CPU#3 stuck for 22s! [x:1]",
            Kind::Kernel,
            None,
        );
        let line = check(
            "CPU: 3 UID: 1000 PID: 4711 Comm: python Tainted: P",
            Kind::Kernel,
            Some(4711),
        );
        assert!(line.is_detail);
        check(
            "INFO: task a:b:17 blocked for more than 120 seconds.",
            Kind::Kernel,
            Some(17),
        );
        check(
            "nfs: server nas1 not responding, still trying",
            Kind::FileServer,
            None,
        );
        check(
            "EXT4-fs error (device sda1): ext4_find_entry",
            Kind::Disk,
            None,
        );
        check(
            "mce: [Hardware Error]: Machine check events logged",
            Kind::Hardware,
            None,
        );
        check(
            "python[4711]: segfault at 0 ip 00 sp 00 error 4",
            Kind::Program,
            Some(4711),
        );
    }

    #[test]
    fn what_a_program_calls_itself_makes_no_complaint_of_the_kernel() {
        check("BUG: x[66]: segfault at 0 ip 00", Kind::Program, Some(66));
        check(
            "NVRM: Xid (PCI:[66]: segfault at 0 ip 00",
            Kind::Program,
            Some(66),
        );
        check("[1]x[66]: segfault at 0 ip 00", Kind::Program, Some(66));
        for name in [
            "BUG: x",
            "SLUB:",
            "mce: x",
            "EDAC x",
            "nfs: server x",
            "Kernel panic",
            r"\xc3\xa9\xc3\xa9\xc3\xa9",
        ] {
            let text = format!("{name} invoked oom-killer: gfp_mask=0xcc0, order=0");
            check(&text, Kind::Memory, None);
            for rest in [
                "[66] bad frame in rt_sigreturn frame:00",
                " (66) used greatest stack depth",
            ] {
                assert_eq!(
                    read(&format!("4,7,1,-;{name}{rest}\n")),
                    None,
                    "{name}{rest}"
                );
            }
        }
    }

    #[test]
    fn records_of_others_and_of_no_weight_are_left_out() {
        assert_eq!(read("12,7,1,-;BUG: forged by a program\n"), None);
        assert_eq!(read("6,7,1,-;eth0: link up\n"), None);
        assert_eq!(read(" SUBSYSTEM=pci\n"), None);
        assert_eq!(read("x"), None);
        assert_eq!(
            read("3,7,1,-;something failed\n").unwrap().kind,
            Kind::Other
        );
        let long = format!("3,7,1,-;a\x1bb{}", "x".repeat(9000));
        let text = read(&long).unwrap().text;
        assert!(text.starts_with("a b") && text.len() == TEXT_CHARS_MAX);
    }
}
