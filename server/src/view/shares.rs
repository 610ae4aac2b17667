//! Who is owed how much, as `qfair` shows it: what the next plan will reckon with.

use capstan_core::{FairShare, Policy, SharePolicy, Standing};
use capstan_proto::wire;

use super::Scene;
use super::selection::Viewer;

/// Where everybody stands whom the viewer may see, or `user` alone.
pub(crate) fn shares(scene: Scene<'_>, viewer: Viewer<'_>, user: &str) -> wire::StatSharesReply {
    let settings = scene.snapshot.settings();
    let sees_all = viewer.sees_all || settings.query_other_jobs();
    let is_seen = |standing: &Standing| {
        (sees_all || *standing.user == *viewer.user) && (user.is_empty() || *standing.user == *user)
    };
    let shares = FairShare::of(&scene.snapshot.state, scene.now);
    let all: Vec<Standing> = shares.standings().collect();
    let groups = all.chunk_by(|one, other| one.group == other.group);
    let groups: Vec<&[Standing]> = groups.collect();
    let whole = Sums::of(
        groups
            .iter()
            .map(|users| (users[0].group_share, users[0].group_used)),
    );
    let rows = groups.into_iter().flat_map(|users| {
        let own = Sums::of(users.iter().map(|user| (user.user_share, user.user_used)));
        users
            .iter()
            .filter(|user| is_seen(user))
            .map(move |user| row(user, whole, own))
    });
    let rows = rows.collect();
    wire::StatSharesReply {
        server: settings.server.to_string(),
        half_life_secs: SharePolicy::of(Some(settings)).half_life_secs(),
        weight: Policy::of(settings).weights.fairshare,
        rows,
    }
}

/// What several have and have used together.
#[derive(Clone, Copy)]
struct Sums {
    share: u128,
    used: u128,
}

impl Sums {
    fn of(parts: impl Iterator<Item = (u64, u64)>) -> Self {
        let none = Self { share: 0, used: 0 };
        parts.fold(none, |sums, (share, used)| Self {
            share: sums.share + u128::from(share),
            used: sums.used + u128::from(used),
        })
    }

    fn parts(self, share: u64, used: u64) -> (f64, f64) {
        let part = |part: u64, whole: u128| match whole {
            0 => 0.0,
            whole => part as f64 / whole as f64,
        };
        (part(share, self.share), part(used, self.used))
    }
}

fn row(standing: &Standing, all: Sums, group_sums: Sums) -> wire::ShareRow {
    let Standing {
        group,
        user,
        is_waiting,
        group_share,
        group_used,
        group_ratio,
        user_share,
        user_used,
        user_ratio,
        factor,
    } = standing.clone();
    let (group_share_part, group_used_part) = all.parts(group_share, group_used);
    let (user_share_part, user_used_part) = group_sums.parts(user_share, user_used);
    wire::ShareRow {
        group: group.into(),
        user: user.into(),
        is_waiting,
        group_share,
        group_used,
        user_share,
        user_used,
        group_ratio,
        user_ratio,
        factor,
        group_share_part,
        group_used_part,
        user_share_part,
        user_used_part,
    }
}
