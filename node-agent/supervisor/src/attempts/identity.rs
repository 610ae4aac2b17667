//! Who a user is on this host: uid, groups, home and shell, refused when this host and the server disagree.
//!
//! The name service may be a network away and blocks; callers ask off the event loop, answers are kept for a moment.

use std::collections::HashMap;
use std::ffi::CString;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use capstan_proto::wire::LaunchSpec;
use nix::unistd::{Gid, Group, User, getgrouplist};

use super::record::Identity;

/// How long an answer of the name service is good: a burst of one user's jobs asks once.
const KEPT: Duration = Duration::from_secs(10);
/// Most users remembered at once.
const USERS_MAX: usize = 256;

/// Why a user cannot run a job on this host. Shown to the user and the operator as the reason of the hold.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum IdentityProblem {
    /// No such user here.
    #[error("user {user} is not known on {node}; ask the operator to create the account there")]
    UnknownUser { user: String, node: String },
    /// The name means somebody else here.
    #[error(
        "user {user} has uid {here} on {node} but {wanted} on the server; the operator must make them agree"
    )]
    OtherUid {
        user: String,
        node: String,
        here: u32,
        wanted: u32,
    },
    /// No such group here.
    #[error("group {group} is not known on {node}")]
    UnknownGroup { group: String, node: String },
    /// The user is not in the group that was asked for.
    #[error("user {user} is not a member of group {group} on {node}")]
    NotMember {
        user: String,
        group: String,
        node: String,
    },
    /// The agent is not root.
    #[error(
        "the agent on {node} runs without root rights and can run jobs of uid {only} only, not of {user}"
    )]
    AgentNotRoot {
        user: String,
        node: String,
        only: u32,
    },
    /// The name service failed, or gave what no kernel takes.
    #[error("user {user} could not be looked up on {node}: {problem}")]
    Lookup {
        user: String,
        node: String,
        problem: String,
    },
}

/// Looks users up, and remembers them for a moment.
#[derive(Debug, Default)]
pub(super) struct Identities {
    known: Mutex<HashMap<(String, String), (Instant, Identity)>>,
}

impl Identities {
    /// The user of `spec` on this host. `only_uid` is the agent's own when it is not root. May block.
    ///
    /// # Errors
    /// When the user or group is unknown here or is not whom the server means.
    pub(super) fn resolve(
        &self,
        spec: &LaunchSpec,
        node: &str,
        only_uid: Option<u32>,
    ) -> Result<Identity, IdentityProblem> {
        let key = (spec.user.clone(), spec.group.clone());
        let kept = {
            let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
            let fresh = known.get(&key).filter(|(at, _)| at.elapsed() < KEPT);
            fresh.map(|(_, identity)| identity.clone())
        };
        let identity = match kept {
            Some(identity) => identity,
            None => {
                let identity = look_up(&spec.user, &spec.group, node)?;
                self.keep(key, identity.clone());
                identity
            }
        };
        let (user, node) = (spec.user.clone(), node.to_owned());
        if identity.uid != spec.uid {
            return Err(IdentityProblem::OtherUid {
                user,
                node,
                here: identity.uid,
                wanted: spec.uid,
            });
        }
        match only_uid {
            Some(only) if only != identity.uid => {
                Err(IdentityProblem::AgentNotRoot { user, node, only })
            }
            Some(_) | None => Ok(identity),
        }
    }

    fn keep(&self, key: (String, String), identity: Identity) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= USERS_MAX {
            known.retain(|_, (at, _)| at.elapsed() < KEPT);
        }
        if known.len() < USERS_MAX {
            known.insert(key, (Instant::now(), identity));
        }
    }
}

fn look_up(user: &str, group: &str, node: &str) -> Result<Identity, IdentityProblem> {
    let unknown = || IdentityProblem::UnknownUser {
        user: user.to_owned(),
        node: node.to_owned(),
    };
    let failed = |problem: String| IdentityProblem::Lookup {
        user: user.to_owned(),
        node: node.to_owned(),
        problem,
    };
    let found = User::from_name(user).map_err(|errno| failed(errno.desc().to_owned()))?;
    let found = found.ok_or_else(unknown)?;
    let name = CString::new(user).map_err(|_| unknown())?;
    let mut groups = getgrouplist(&name, found.gid).map_err(|e| failed(e.desc().to_owned()))?;
    let gid = match group {
        "" => found.gid,
        group => own_group(group, user, node, &groups)?,
    };
    if !groups.contains(&gid) {
        groups.push(gid);
    }
    let text = |path: std::path::PathBuf, what: &str| {
        let path = path.into_os_string().into_string();
        path.map_err(|_| failed(format!("the {what} is no text")))
    };
    Ok(Identity {
        user: user.to_owned(),
        uid: found.uid.as_raw(),
        gid: gid.as_raw(),
        groups: groups.into_iter().map(Gid::as_raw).collect(),
        home: text(found.dir, "home folder")?,
        shell: text(found.shell, "login shell")?,
    })
}

fn own_group(group: &str, user: &str, node: &str, groups: &[Gid]) -> Result<Gid, IdentityProblem> {
    let (group, node) = (group.to_owned(), node.to_owned());
    match Group::from_name(&group) {
        Ok(Some(found)) if groups.contains(&found.gid) => Ok(found.gid),
        Ok(Some(_)) => Err(IdentityProblem::NotMember {
            user: user.to_owned(),
            group,
            node,
        }),
        Ok(None) | Err(_) => Err(IdentityProblem::UnknownGroup { group, node }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(
        user: &str,
        uid: u32,
        group: &str,
        only: Option<u32>,
    ) -> Result<Identity, IdentityProblem> {
        let spec = LaunchSpec {
            user: user.into(),
            uid,
            group: group.into(),
            ..LaunchSpec::default()
        };
        Identities::default().resolve(&spec, "n1", only)
    }

    #[test]
    fn a_user_is_taken_only_when_host_and_server_agree() {
        let root = check("root", 0, "", None).unwrap();
        assert_eq!((root.uid, root.gid), (0, 0));
        assert!(root.groups.contains(&0));
        assert!(matches!(
            check("root", 7, "", None),
            Err(IdentityProblem::OtherUid { .. })
        ));
        assert!(matches!(
            check("no-such-user", 7, "", None),
            Err(IdentityProblem::UnknownUser { .. })
        ));
        assert!(matches!(
            check("root", 0, "no-such-group", None),
            Err(IdentityProblem::UnknownGroup { .. })
        ));
        assert!(matches!(
            check("root", 0, "", Some(1000)),
            Err(IdentityProblem::AgentNotRoot { .. })
        ));
        assert!(matches!(
            check("ro\0ot", 0, "", None),
            Err(IdentityProblem::Lookup { .. } | IdentityProblem::UnknownUser { .. })
        ));
    }
}
