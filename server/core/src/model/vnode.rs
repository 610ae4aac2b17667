//! `exec_vnode`: what a job got, chunk by chunk, as PBS Pro tells it.

use capstan_types::Chunk;

use super::{Job, JobSpec, NodeShare, Run};

impl Job {
    /// `(gpu01:ncpus=8:ngpus=4:mem=33554432kb)+(…)` of its attempt or its last one; `None` when it never had any. Each
    /// chunk is told where its node has room for it; slots that were asked for loosely are told node by node.
    #[must_use]
    pub fn exec_vnode(&self) -> Option<String> {
        let run = self.last_run()?;
        let told = chunks(&self.spec).and_then(|chunks| assign(&chunks, &run.shares));
        Some(told.unwrap_or_else(|| {
            let whole = run
                .shares
                .iter()
                .map(|share| vnode(share, Part::of_share(share)));
            whole.collect::<Vec<_>>().join("+")
        }))
    }

    fn last_run(&self) -> Option<&Run> {
        match &self.state {
            super::JobState::Ended(ended) => ended.run.as_ref(),
            super::JobState::Pending
            | super::JobState::Starting(_)
            | super::JobState::Running(_)
            | super::JobState::Exiting(..) => self.state.run(),
        }
    }
}

/// What a chunk has of a node.
#[derive(Clone, Copy)]
struct Part {
    slots: usize,
    cards: usize,
    memory_bytes: u64,
}

impl Part {
    fn of_share(share: &NodeShare) -> Self {
        Self {
            slots: share.slots.len(),
            cards: share.cards.len(),
            memory_bytes: share.memory_bytes,
        }
    }

    fn minus(self, other: Self) -> Option<Self> {
        Some(Self {
            slots: self.slots.checked_sub(other.slots)?,
            cards: self.cards.checked_sub(other.cards)?,
            memory_bytes: self.memory_bytes.checked_sub(other.memory_bytes)?,
        })
    }
}

/// Most chunks that are told one by one.
const CHUNKS_MAX: u32 = 10_000;

/// The chunks asked for with `select=`, one by one.
fn chunks(spec: &JobSpec) -> Option<Vec<&Chunk>> {
    spec.select.as_ref()?;
    let nodes = spec.nodes.as_ref()?;
    (nodes.node_count() <= CHUNKS_MAX).then(|| {
        let chunks = nodes.chunks.iter();
        chunks
            .flat_map(|chunk| std::iter::repeat_n(chunk, chunk.node_count() as usize))
            .collect()
    })
}

/// Gives each chunk its part of the first share that has it left; `None` when that does not come out even.
fn assign(chunks: &[&Chunk], shares: &[NodeShare]) -> Option<String> {
    let mut left: Vec<Part> = shares.iter().map(Part::of_share).collect();
    let mut told = Vec::with_capacity(chunks.len());
    for chunk in chunks {
        let wanted = Part {
            slots: chunk.ppn as usize,
            cards: chunk.gpus as usize,
            memory_bytes: chunk.memory_bytes,
        };
        let found = left.iter().position(|part| part.minus(wanted).is_some())?;
        left[found] = left[found].minus(wanted)?;
        told.push(vnode(&shares[found], wanted));
    }
    Some(told.join("+"))
}

fn vnode(share: &NodeShare, part: Part) -> String {
    let mut text = format!("({}:ncpus={}", share.node, part.slots);
    if part.cards > 0 {
        text.push_str(&format!(":ngpus={}", part.cards));
    }
    if part.memory_bytes > 0 {
        text.push_str(&format!(":mem={}kb", part.memory_bytes.div_ceil(1024)));
    }
    text.push(')');
    text
}
