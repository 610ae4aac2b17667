//! From an agent's words on the wire to the core's, with bounds: an agent is trusted to run jobs, not to be sane.

use capstan_core::{
    AttemptReport, Card, CardTraits, Hello, Inventory, NumaNode, ReportedPhase, Usage,
};
use capstan_proto::{PROTOCOL, wire};
use capstan_types::{AgentId, AttemptId, CardId, NodeName, Timestamp, Version};

use super::cards::{card_uses, measured};
use super::images;
use crate::telemetry::NodeTelemetry;

/// Most cards of one node.
pub(super) const CARDS_MAX: usize = 256;
/// Most attempts that an agent may know.
const ATTEMPTS_MAX: usize = 100_000;
/// Most sessions of a host that are shown.
const SESSIONS_MAX: usize = 1024;
/// Longest name of a node or a card, bytes.
const NAME_BYTES_MAX: usize = 255;
/// Longest other text of an agent, bytes; of a longer one the beginning is kept.
const TEXT_BYTES_MAX: usize = 4096;

/// Why what an agent says is not heard.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Unheard {
    /// It speaks another protocol.
    #[error(
        "agent {agent} speaks protocol {theirs}, server {server} speaks {PROTOCOL}: install the same version"
    )]
    Protocol {
        /// What it speaks.
        theirs: u32,
        /// Its version.
        agent: String,
        /// Ours.
        server: &'static str,
    },
    /// A field is missing or over its bound.
    #[error("{field} is {problem}")]
    Field {
        /// The field.
        field: &'static str,
        /// What is wrong with it.
        problem: &'static str,
    },
}

pub(super) const fn field(field: &'static str, problem: &'static str) -> Unheard {
    Unheard::Field { field, problem }
}

/// Reads an agent's first words.
///
/// # Errors
/// Another protocol, no name, too much of anything.
pub(crate) fn hello(hello: wire::Hello) -> Result<Hello, Unheard> {
    let wire::Hello {
        protocol,
        node,
        agent_id,
        version,
        inventory,
        attempts,
        cards,
    } = hello;
    if protocol != PROTOCOL {
        return Err(Unheard::Protocol {
            theirs: protocol,
            agent: text(version).into(),
            server: env!("CARGO_PKG_VERSION"),
        });
    }
    if attempts.len() > ATTEMPTS_MAX {
        return Err(field("attempts", "too long"));
    }
    let attempts = attempts.into_iter().map(known_attempt);
    let (_, unclean) = card_uses(cards)?;
    Ok(Hello {
        node: NodeName::from(name("node", node)?),
        agent: AgentId::from(name("agent_id", agent_id)?),
        inventory: self::inventory(inventory.ok_or(field("inventory", "missing"))?)?,
        attempts: attempts.collect::<Result<_, _>>()?,
        unclean,
    })
}

/// Reads an inventory.
///
/// # Errors
/// Too many cards or cores, cards without a UUID.
pub(crate) fn inventory(inventory: wire::Inventory) -> Result<Inventory, Unheard> {
    let wire::Inventory {
        cores,
        memory_bytes,
        cards,
        gpu_problem,
        engine,
        engine_problem,
        uname,
        only_uid,
        simulated,
        numa_nodes,
        images,
        health_problem,
        image_aliases,
        private_images,
    } = inventory;
    if cards.len() > CARDS_MAX {
        return Err(field("cards", "too long"));
    }
    if numa_nodes.len() > NUMA_NODES_MAX {
        return Err(field("numa_nodes", "too long"));
    }
    if images.len() > Inventory::IMAGES_MAX {
        return Err(field("images", "too long"));
    }
    Ok(Inventory {
        cores: u16::try_from(cores).map_err(|_| field("cores", "over 65535"))?,
        memory_bytes,
        cards: cards.into_iter().map(card).collect::<Result<_, _>>()?,
        gpu_problem: text(gpu_problem),
        engine: text(engine),
        engine_problem: text(engine_problem),
        uname: text(uname),
        only_uid,
        simulated,
        numa_nodes: numa_nodes
            .into_iter()
            .map(numa_node)
            .collect::<Result<_, _>>()?,
        images: images.into_iter().map(text).collect(),
        health_problem: text(health_problem),
        aliases: images::offers(image_aliases)?.into_iter().collect(),
        private_images: images::private(private_images)?,
    })
}

/// Memory nodes of a host: more than any has.
const NUMA_NODES_MAX: usize = 1024;

fn numa_node(node: wire::NumaNode) -> Result<NumaNode, Unheard> {
    let wire::NumaNode { id, cores } = node;
    let number = |number: u32| u16::try_from(number).map_err(|_| field("numa_nodes", "over 65535"));
    if cores.len() > usize::from(u16::MAX) {
        return Err(field("cores of a memory node", "too long"));
    }
    Ok(NumaNode {
        id: number(id)?,
        cores: cores.into_iter().map(number).collect::<Result<_, _>>()?,
    })
}

fn card(card: wire::Card) -> Result<Card, Unheard> {
    let wire::Card {
        uuid,
        index,
        model,
        memory_bytes,
        pci_address,
        driver,
        compute_major,
        compute_minor,
        cuda_version,
        numa_node,
        island,
    } = card;
    let part = |number: u32| u16::try_from(number).unwrap_or(0);
    Ok(Card {
        uuid: CardId::from(name("uuid of a card", uuid)?),
        index,
        model: text(model),
        memory_bytes,
        pci_address: text(pci_address),
        driver: text(driver),
        traits: CardTraits {
            compute: Version {
                major: part(compute_major),
                minor: part(compute_minor),
            },
            cuda: Version::of_cuda(cuda_version),
            numa_node: numa_node.and_then(|node| u16::try_from(node).ok()),
            island: part(island),
        },
    })
}

fn known_attempt(known: wire::KnownAttempt) -> Result<AttemptReport, Unheard> {
    use wire::known_attempt::Phase;
    let wire::KnownAttempt {
        attempt,
        job_id: _,
        phase,
    } = known;
    match phase.ok_or(field("phase of an attempt", "missing"))? {
        Phase::Starting(wire::Done {}) => Ok(AttemptReport {
            attempt: AttemptId(attempt),
            phase: ReportedPhase::Starting,
        }),
        Phase::Running(said) => Ok(started(wire::AttemptStarted { attempt, ..said })),
        Phase::Ended(said) => ended(wire::AttemptEnded { attempt, ..said }),
    }
}

/// Reads that an attempt has started.
pub(crate) fn started(said: wire::AttemptStarted) -> AttemptReport {
    let wire::AttemptStarted {
        attempt,
        session,
        at_ms,
    } = said;
    AttemptReport {
        attempt: AttemptId(attempt),
        phase: ReportedPhase::Running {
            at: Timestamp(at_ms),
            session,
        },
    }
}

/// Most images of one attempt that are kept.
const IMAGES_MAX: usize = 8;
/// How what is said of such files begins.
const NOT_COPIED: &str = "Unable to copy file ";
/// Of all of it this is kept, and the line behind.
const UNDELIVERED_BYTES_MAX: usize = 8 << 10;
/// Most sentences about one end that are written into the log.
const MESSAGES_MAX: usize = 16;

/// Reads how an attempt has ended.
///
/// # Errors
/// No outcome, too many cards.
pub(crate) fn ended(said: wire::AttemptEnded) -> Result<AttemptReport, Unheard> {
    use wire::attempt_ended::Outcome;
    let wire::AttemptEnded {
        attempt,
        at_ms,
        usage,
        outcome,
        unclean_cards,
        messages,
        cause,
        images,
    } = said;
    for message in messages.iter().take(MESSAGES_MAX) {
        tracing::warn!(
            attempt,
            message = &*text(message.clone()),
            "said at the end of an attempt"
        );
    }
    if unclean_cards.len() > CARDS_MAX {
        return Err(field("unclean_cards", "too long"));
    }
    let at = Timestamp(at_ms);
    let phase = match outcome.ok_or(field("outcome of an attempt", "missing"))? {
        Outcome::ExitStatus(exit_status) => ReportedPhase::Exited {
            at,
            exit_status,
            usage: usage.map(self::usage).unwrap_or_default(),
            unclean: card_ids(unclean_cards)?,
            cause: text(cause),
            images: images.into_iter().take(IMAGES_MAX).map(text).collect(),
            undelivered: undelivered(&messages),
        },
        Outcome::Unstartable(reason) => ReportedPhase::Unstartable {
            at,
            reason: text(reason),
        },
        Outcome::Lost(reason) => ReportedPhase::Lost {
            at,
            reason: text(reason),
        },
        Outcome::StageInFailed(reason) => ReportedPhase::StageInFailed {
            at,
            reason: text(reason),
        },
        Outcome::PrologueFailed(reason) => ReportedPhase::PrologueFailed {
            at,
            reason: text(reason),
        },
    };
    Ok(AttemptReport {
        attempt: AttemptId(attempt),
        phase,
    })
}

/// Of what was said at an end, that of files that could not be copied, for a letter: lines of plain text.
fn undelivered(messages: &[String]) -> Box<str> {
    let of_files = messages
        .iter()
        .filter(|message| message.starts_with(NOT_COPIED));
    let mut told = String::new();
    for line in of_files
        .take(MESSAGES_MAX)
        .flat_map(|message| message.lines())
    {
        if told.len() > UNDELIVERED_BYTES_MAX {
            break;
        }
        told.push_str(&text(line.to_owned()));
        told.push('\n');
    }
    told.into()
}

fn card_ids(uuids: Vec<String>) -> Result<Vec<CardId>, Unheard> {
    let ids = uuids
        .into_iter()
        .map(|uuid| name("uuid of a card", uuid).map(CardId::from));
    ids.collect()
}

fn usage(usage: wire::Usage) -> Usage {
    let wire::Usage {
        cput_secs,
        mem_kb,
        vmem_kb,
        walltime_secs,
        measures,
    } = usage;
    Usage {
        cput_secs,
        mem_kb,
        vmem_kb,
        walltime_secs,
        measured: measures.map(measured),
    }
}

/// What a heartbeat says that is worth an event, and what is not.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Heard {
    /// For those who look.
    pub(crate) telemetry: NodeTelemetry,
    /// Cards that may not be lent: somebody else computes there, or the agent says why.
    pub(crate) foreign: Vec<CardId>,
    /// Changed hardware.
    pub(crate) inventory: Option<Inventory>,
}

/// Reads a heartbeat that came at `at`.
///
/// # Errors
/// Too much of anything.
pub(crate) fn heartbeat(heartbeat: wire::Heartbeat, at: Timestamp) -> Result<Heard, Unheard> {
    let wire::Heartbeat {
        load_average,
        memory_available_bytes,
        cards,
        attempts,
        inventory,
        host,
        image_waits,
        image_offers,
        image_pulls,
        notes,
    } = heartbeat;
    if attempts.len() > ATTEMPTS_MAX || image_waits.len() > ATTEMPTS_MAX {
        return Err(field("attempts", "too long"));
    }
    let (cards, foreign) = card_uses(cards)?;
    let mut telemetry = NodeTelemetry {
        at,
        load_average,
        memory_available_bytes,
        host: host.map(host_status),
        cards,
        image_waits: images::waits(image_waits),
        image_offers: images::offers(image_offers)?,
        image_pulls: images::pulls(image_pulls),
        notes: notes.into_iter().take(NOTES_MAX).map(note).collect(),
        ..NodeTelemetry::default()
    };
    let used = attempts.into_iter().filter_map(|used| {
        let wire::AttemptUse { attempt, usage } = used;
        Some((AttemptId(attempt), self::usage(usage?)))
    });
    telemetry.attempts = used.collect();
    Ok(Heard {
        telemetry,
        foreign,
        inventory: inventory.map(self::inventory).transpose()?,
    })
}

/// Notes of a node that are shown.
const NOTES_MAX: usize = 8;

fn note(note: String) -> Box<str> {
    // A comma would begin another item of the line.
    text(note.replace(',', " "))
}

/// What `pbsnodes` shows of a host; texts on one line, lists bounded.
fn host_status(mut status: wire::HostStatus) -> wire::HostStatus {
    status.sessions.truncate(SESSIONS_MAX);
    let texts = [
        &mut status.mac_address,
        &mut status.system,
        &mut status.version,
    ];
    for shown in texts {
        // A comma would begin another item of the line.
        *shown = text(std::mem::take(shown)).replace(',', " ");
    }
    status
}

/// A name appears in ids, files and comma lists: a plain word.
pub(super) fn name(what: &'static str, name: String) -> Result<String, Unheard> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._:".contains(&byte);
    match name.len() {
        0 => Err(field(what, "missing")),
        1..=NAME_BYTES_MAX if name.bytes().all(is_plain) => Ok(name),
        1..=NAME_BYTES_MAX => Err(field(what, "not of letters, digits, '-', '.', '_' and ':'")),
        _ => Err(field(what, "too long")),
    }
}

/// One line, not too long.
pub(super) fn text(text: String) -> Box<str> {
    let kept = text
        .char_indices()
        .take_while(|(at, _)| *at < TEXT_BYTES_MAX);
    let kept = kept.map(|(_, c)| if c.is_control() { ' ' } else { c });
    kept.collect::<String>().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(protocol: u32, node: &str) -> wire::Hello {
        wire::Hello {
            protocol,
            node: node.to_owned(),
            agent_id: "a1".to_owned(),
            version: "9.9".to_owned(),
            inventory: Some(wire::Inventory::default()),
            attempts: Vec::new(),
            cards: Vec::new(),
        }
    }

    #[test]
    fn another_protocol_is_refused_with_both_numbers() {
        let error = hello(said(7, "node01")).unwrap_err().to_string();
        assert!(
            error.contains("speaks protocol 7") && error.contains("speaks 1"),
            "{error}"
        );
    }

    #[test]
    fn names_are_plain_words() {
        assert!(hello(said(PROTOCOL, "node01.example.org")).is_ok());
        for bad in ["", "a b", "a,b", "a/b", "a\nb", &"x".repeat(300)] {
            assert!(hello(said(PROTOCOL, bad)).is_err(), "{bad}");
        }
    }

    #[test]
    fn an_attempt_without_an_outcome_is_not_heard() {
        assert!(ended(wire::AttemptEnded::default()).is_err());
        let lost = wire::attempt_ended::Outcome::Lost("a\nb".to_owned());
        let said = wire::AttemptEnded {
            attempt: 3,
            outcome: Some(lost),
            ..wire::AttemptEnded::default()
        };
        let report = ended(said).unwrap();
        let phase = ReportedPhase::Lost {
            at: Timestamp(0),
            reason: "a b".into(),
        };
        assert_eq!((report.attempt, report.phase), (AttemptId(3), phase));
    }
}
