//! What an attempt has used is charged when it ends, to its owner's share. Who has used nothing for long is forgotten
//! when somebody new comes.

use std::sync::Arc;

use super::draft::Draft;
use crate::{Change, Job, PAYERS_MAX, Payer, Run, SharePolicy, Spending};

/// Charges what `run` of `job` held until now.
pub(super) fn charge(draft: &mut Draft, job: &Job, run: &Run) {
    let payer = Payer::of(job);
    let before = match draft.state.spending(&payer) {
        Some(before) => Spending::clone(before),
        None => {
            forget_some(draft);
            Spending::none(payer.clone())
        }
    };
    let after = before.charged(&draft.state, job, run, draft.now);
    draft.put_spending(Change::PutSpending(Arc::new(after)), payer);
}

/// Makes room for one more payer: those of whom nothing counts any more go, and if need be the one who has used least.
fn forget_some(draft: &mut Draft) {
    let policy = SharePolicy::of(draft.state.settings().map(AsRef::as_ref));
    let old = draft.state.spendings();
    let old = old.filter(|spending| spending.is_forgotten(&policy, draft.now));
    let mut old: Vec<Payer> = old.map(|spending| spending.payer.clone()).collect();
    if draft.state.spendings().len() - old.len() >= PAYERS_MAX {
        let least = draft.state.spendings().min_by_key(|spending| spending.used);
        old.extend(least.map(|least| least.payer.clone()));
    }
    for payer in old {
        draft.put_spending(Change::RemoveSpending(payer.clone()), payer);
    }
}
