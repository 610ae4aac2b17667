//! Acting as the user for a while, so that the kernel and not we decide what the user may open.

use nix::errno::Errno;
use nix::unistd::{Gid, Uid, geteuid, setegid, seteuid, setgroups};

use crate::attempts::record::Identity;

/// While this lives, files are opened with the user's rights. For single-threaded processes only.
pub(super) struct AsUser {
    was_root: bool,
}

impl AsUser {
    /// Takes on the user's rights; does nothing when we are not root and can be nobody else.
    pub(super) fn become_user(identity: &Identity) -> Result<Self, Errno> {
        if !geteuid().is_root() {
            return Ok(Self { was_root: false });
        }
        setgroups(&groups(identity))?;
        setegid(Gid::from_raw(identity.gid))?;
        seteuid(Uid::from_raw(identity.uid))?;
        Ok(Self { was_root: true })
    }
}

impl Drop for AsUser {
    fn drop(&mut self) {
        if !self.was_root {
            return;
        }
        let back = seteuid(Uid::from_raw(0))
            .and_then(|()| setegid(Gid::from_raw(0)))
            .and_then(|()| setgroups(&[]));
        back.expect("a process whose real user is root may always become root again");
    }
}

/// The user's groups as the kernel takes them.
pub(super) fn groups(identity: &Identity) -> Vec<Gid> {
    identity.groups.iter().copied().map(Gid::from_raw).collect()
}
