//! `-L tasks=N[:lprocs=M][:memory=SIZE]…`: Torque's request by tasks. Decides only whether it is well formed, and says
//! what is not in Torque's words; what a right one gets is the server's to say.

use capstan_types::Pbse;

use crate::command::Failure;

use super::options::misuse;

/// Parameters that may stand in a request once, in the order in which Torque looks for them.
const ONCE: &[&str] = &[
    "lprocs", "memory", "swap", "disk", "place", "pack", "maxtpn", "gpus", "mics", "gres",
    "feature", "opsys",
];
/// Of each of these groups one at most.
const EXCLUSIVE: &[&[&str]] = &[
    &["usecores", "usethreads", "allowthreads", "usefastcores"],
    &GPU_MODES,
    &["numanode", "socket", "node", "usethreads", "usefastcores"],
];
const GPU_MODES: [&str; 7] = [
    "shared",
    "exclusive_thread",
    "prohibited",
    "exclusive_process",
    "exclusive",
    "default",
    "reseterr",
];

/// What Torque remembers of a request for later checks.
#[derive(Debug, Default)]
struct Tasks {
    /// `None` for `all`.
    lprocs: Option<u64>,
    is_all: bool,
    is_placed_by_node: bool,
    cores: u64,
    threads: u64,
    prefers_cgroup: bool,
}

/// Checks the argument of one `-L`; `is_first` says whether it is the first one.
///
/// # Errors
/// What Torque's qsub refuses, in its words.
pub(crate) fn check(text: &str, is_first: bool) -> Result<(), Failure> {
    let Some(request) = text.strip_prefix("tasks=") else {
        return Err(misuse(&format!("qsub: illegal -L value: '{text}'")));
    };
    let tasks = read(request)
        .map_err(|problem| misuse(&format!("qsub: malformed piece of -L value: '{problem}'")))?;
    if tasks.prefers_cgroup && !is_first {
        return Err(misuse(
            "qsub: cgroup_per_task (cpt) and cgroup_per_host (cph) may only be specified for the first req",
        ));
    }
    Ok(())
}

fn read(request: &str) -> Result<Tasks, String> {
    if request.contains('+') {
        return Err(
            "Multi-req syntax should use multiple -L parameters and not the '+' delimiter.".into(),
        );
    }
    for name in ONCE {
        if let Some(first) = parameter(request, name)
            && parameter(&first[name.len()..], name).is_some()
        {
            return Err(format!("The parameter {first} should not be duplicated."));
        }
    }
    for group in EXCLUSIVE {
        exclusive(request, group)?;
    }
    let digits = request.bytes().take_while(u8::is_ascii_digit).count();
    if request[..digits].bytes().all(|b| b == b'0') {
        return Err(format!("Bad tasks value: '{request}'"));
    }
    let rest = match request[digits..].strip_prefix(':') {
        Some(rest) => rest,
        None if digits == request.len() => "",
        None => return Err("Invalid task specification".to_owned()),
    };
    let mut tasks = Tasks::default();
    for part in rest.split(':').filter(|part| !part.is_empty()) {
        if !tasks.take(part) {
            let error = Pbse::BadParameter;
            let name = part.split('=').next().unwrap_or("");
            let (number, text) = (error.number(), error.text());
            return Err(format!(
                "value '{name}' returned the error ({number}): '{text}'"
            ));
        }
    }
    tasks.consistent()
}

impl Tasks {
    /// Takes one part in; false when it is wrong.
    fn take(&mut self, part: &str) -> bool {
        let Some((name, value)) = part.split_once('=') else {
            let word = part.to_ascii_lowercase();
            let is_cgroup =
                ["cpt", "cgroup_per_task", "cph", "cgroup_per_host"].contains(&word.as_str());
            self.prefers_cgroup |= is_cgroup;
            return is_cgroup
                || GPU_MODES.contains(&word.as_str())
                || EXCLUSIVE[0].contains(&part)
                || part == "pack";
        };
        match name {
            "lprocs" if value.starts_with('a') => {
                self.is_all = true;
                true
            }
            "lprocs" => {
                self.lprocs = positive(value);
                self.lprocs.is_some()
            }
            "gpus" | "mics" | "maxtpn" => positive(value).is_some(),
            "memory" | "swap" | "disk" => is_size(value),
            "gres" | "feature" | "opsys" | "reqattr" => true,
            "place" => self.place(value),
            _ => false,
        }
    }

    fn place(&mut self, value: &str) -> bool {
        let (kind, count) = match value.split_once('=') {
            Some((kind, count)) => (kind, positive(count)),
            None => (value, Some(1)),
        };
        let Some(count) = count else {
            return false;
        };
        match kind {
            "node" => self.is_placed_by_node = true,
            "core" => self.cores = count,
            "thread" => self.threads = count,
            "socket" | "numanode" => {}
            _ => return false,
        }
        true
    }

    fn consistent(self) -> Result<Self, String> {
        let lprocs = self.lprocs.unwrap_or(1);
        if self.is_all && !self.is_placed_by_node {
            return Err("-lprocs=all may only be used in conjunction with place=node".to_owned());
        }
        if !self.is_all && self.threads > 1 && lprocs > self.threads {
            return Err("place=thread=x must be >= lprocs".to_owned());
        }
        if !self.is_all && self.cores > 1 && lprocs > self.cores {
            return Err("place=core=x must be >= lprocs".to_owned());
        }
        Ok(self)
    }
}

/// From where `name` stands as a whole word between `:` and `=`; the rest of the text.
fn parameter<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let at = text.find(name)?;
    let is_start = at == 0 || text[..at].ends_with([':', '=']);
    let rest = &text[at + name.len()..];
    let is_end = rest.is_empty() || rest.starts_with([':', '=']);
    (is_start && is_end).then_some(&text[at..])
}

fn exclusive(request: &str, group: &[&str]) -> Result<(), String> {
    let mut first: Option<&str> = None;
    for name in group {
        let Some(found) = parameter(request, name) else {
            continue;
        };
        match first {
            // Torque lets the error counters be reset together with these modes.
            Some("exclusive_process" | "exclusive_thread") if *name == "reseterr" => {}
            Some(first) => {
                return Err(format!(
                    "The parameter {first} should not be specified with the parameter {name}."
                ));
            }
            None if parameter(&found[name.len()..], name).is_some() => {
                return Err(format!("The parameter {name} should not be duplicated."));
            }
            None => first = Some(name),
        }
    }
    Ok(())
}

/// A whole number of at least 1; what stands behind its digits is not looked at, unless it makes it a fraction.
fn positive(text: &str) -> Option<u64> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let number = text[..digits].parse().ok()?;
    (number >= 1 && !text.contains('.')).then_some(number)
}

/// A number of at least 1 with a unit or without.
fn is_size(text: &str) -> bool {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let unit = text[digits..].to_ascii_lowercase();
    let is_unit = [
        "", "b", "w", "k", "kb", "kw", "m", "mb", "mw", "g", "gb", "gw", "t", "tb", "tw",
    ]
    .contains(&unit.as_str());
    is_unit && positive(&text[..digits]).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn refused(text: &str) -> Option<String> {
        let failure = check(text, true).err()?;
        Some(failure.text.lines().next().unwrap_or("").to_owned())
    }

    #[test]
    fn requests_of_the_manual_are_right() {
        for right in [
            "tasks=1",
            "tasks=4:lprocs=2:memory=1gb",
            "tasks=1:lprocs=all:place=node",
            "tasks=5:lprocs=4:memory=12gb:place=socket=2:usecores:pack:gpus=2:mics=1:gres=matlab=1:feature=fast",
            "tasks=3:gpus=2:reseterr:exclusive_thread:opsys=cent6",
            "tasks=1:swap=2gb:disk=100mb:maxtpn=2:cpt",
            "tasks=1:lprocs=4:place=core=4",
        ] {
            assert_eq!(refused(right), None, "{right}");
        }
    }

    #[test]
    fn what_is_wrong_is_told_in_the_words_of_torque() {
        let malformed = |text: &str, problem: &str| {
            let expected = format!("[qsub: malformed piece of -L value: '{problem}']");
            assert_eq!(refused(text), Some(expected), "{text}");
        };
        assert_eq!(
            refused("nodes=1"),
            Some("[qsub: illegal -L value: 'nodes=1']".to_owned())
        );
        malformed("tasks=x:lprocs=1", "Bad tasks value: 'x:lprocs=1'");
        malformed("tasks=0", "Bad tasks value: '0'");
        malformed("tasks=1.0", "Invalid task specification");
        let wrong = "returned the error (15122): 'Parameter of function was invalid'";
        for (text, name) in [
            ("lproc=2", "lproc"),
            ("lprocs=-4", "lprocs"),
            ("memory=0", "memory"),
            ("memory=1zb", "memory"),
            ("place=sockets=2", "place"),
            ("frobnicate", "frobnicate"),
        ] {
            malformed(
                &format!("tasks=5:{text}"),
                &format!("value '{name}' {wrong}"),
            );
        }
        malformed(
            "tasks=4:lprocs=all",
            "-lprocs=all may only be used in conjunction with place=node",
        );
        malformed(
            "tasks=1:lprocs=4:place=thread=2",
            "place=thread=x must be >= lprocs",
        );
        malformed(
            "tasks=4:memory=1gb:memory=2gb",
            "The parameter memory=1gb:memory=2gb should not be duplicated.",
        );
        malformed(
            "tasks=1:usecores:usethreads",
            "The parameter usecores should not be specified with the parameter usethreads.",
        );
        malformed(
            "tasks=1:lprocs=4+2:lprocs=2",
            "Multi-req syntax should use multiple -L parameters and not the '+' delimiter.",
        );
        assert!(check("tasks=1:cph", false).is_err());
    }

    proptest! {
        #[test]
        fn any_text_is_judged(text in "(tasks=)?\\PC{0,30}", parts in "(:(lprocs|memory|place|gpus)=[0-9a-z=]{0,4}){0,4}") {
            let whole = format!("{text}{parts}");
            prop_assert!(matches!(check(&whole, true), Ok(()) | Err(_)));
        }
    }
}
