//! What goes wrong.

use crate::world::World;

/// One fault, drawn by chance.
pub(crate) fn strike(world: &mut World) {
    let at = world.rng.below(world.agents.len() as u64) as usize;
    let now = world.now;
    match world.rng.below(12) {
        // The connection breaks with whatever is under way. The server may notice late, or only by the next hello.
        0..4 => {
            world.agents[at].link = None;
            if world.rng.chance(50) {
                world.server_notices(at);
            }
        }
        // The agent's process is replaced at once: its attempts and its ledger stay.
        4 | 5 => {
            world.agents[at].link = None;
            world.agents[at].images.lose();
            world.agents[at].connect(now);
        }
        6 => world.agents[at].crash(now, false, &mut world.truth),
        7 => world.agents[at].crash(now, true, &mut world.truth),
        8 | 9 => world.restart_server(),
        10 => world.server.is_disk_full = true,
        // The clock is set: mostly on, now and then a little back.
        _ => match world.rng.below(4) {
            0 => world.now.0 -= world.rng.below(5_000),
            1 => world.now = world.now.plus_secs(world.rng.below(600)),
            _ => world.now = world.now.plus_secs(world.rng.below(60)),
        },
    }
}
