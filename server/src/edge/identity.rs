//! Who calls: the uid that the kernel says, and its names. Names may come from a directory on the network, so they are
//! looked up off the event loop and remembered for a short while.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use capstan_core::Caller;
use capstan_proto::Refusal;
use capstan_types::Pbse;
use nix::unistd::{Gid, Group, Uid, User};
use tonic::Status;
use tonic::transport::server::UdsConnectInfo;

/// How long a name is remembered.
const REMEMBERED_FOR: Duration = Duration::from_secs(30);
/// Most names that are remembered.
const REMEMBERED_MAX: usize = 4096;

/// A user of this host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Person {
    /// Login name.
    pub(crate) user: Box<str>,
    /// uid.
    pub(crate) uid: u32,
    /// Name of the login group.
    pub(crate) group: Box<str>,
    /// This host.
    pub(crate) host: Box<str>,
}

impl Person {
    /// As decisions know a caller.
    pub(crate) fn as_caller(&self) -> Caller {
        Caller {
            user: self.user.clone(),
            uid: self.uid,
            host: self.host.clone(),
        }
    }
}

/// What a group list may ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Membership {
    /// The user is in that group.
    Member,
    /// There is such a group, without the user.
    Stranger,
    /// No such group.
    NoGroup,
}

/// Names of uids.
#[derive(Debug)]
pub(crate) struct People {
    host: Box<str>,
    remembered: Mutex<BTreeMap<u32, (Arc<Person>, Instant)>>,
}

impl People {
    /// Nobody is known yet.
    pub(crate) fn on(host: &str) -> Self {
        Self {
            host: host.into(),
            remembered: Mutex::default(),
        }
    }

    /// Who makes this request, by the kernel's word.
    ///
    /// # Errors
    /// When the kernel did not say, or the uid has no name here.
    pub(crate) async fn caller<T>(
        &self,
        request: &tonic::Request<T>,
    ) -> Result<Arc<Person>, Status> {
        let connection = request.extensions().get::<UdsConnectInfo>();
        let peer = connection.and_then(|connection| connection.peer_cred);
        let peer = peer.ok_or_else(|| {
            Status::unauthenticated("the kernel does not say who is calling: use the Unix socket")
        })?;
        self.person(peer.uid()).await
    }

    async fn person(&self, uid: u32) -> Result<Arc<Person>, Status> {
        if let Some(known) = self.recall(uid) {
            return Ok(known);
        }
        let host = self.host.clone();
        let looked_up = tokio::task::spawn_blocking(move || look_up(uid, host));
        let found = looked_up
            .await
            .map_err(|error| Status::internal(error.to_string()))?;
        let person = found.map_err(|detail| {
            Refusal::new(Pbse::Baduser, detail).into_status(tonic::Code::Unauthenticated)
        })?;
        let person = Arc::new(person);
        self.remember(person.clone());
        Ok(person)
    }

    fn recall(&self, uid: u32) -> Option<Arc<Person>> {
        let remembered = self
            .remembered
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let (person, since) = remembered.get(&uid)?;
        (since.elapsed() < REMEMBERED_FOR).then(|| person.clone())
    }

    fn remember(&self, person: Arc<Person>) {
        let mut remembered = self
            .remembered
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if remembered.len() >= REMEMBERED_MAX {
            remembered.clear();
        }
        remembered.insert(person.uid, (person, Instant::now()));
    }
}

fn look_up(uid: u32, host: Box<str>) -> Result<Person, String> {
    let user = User::from_uid(Uid::from_raw(uid));
    let user = user.map_err(|error| format!("uid {uid} cannot be looked up: {error}"))?;
    let user = user.ok_or_else(|| format!("uid {uid} has no name on this host"))?;
    let group = Group::from_gid(user.gid).ok().flatten();
    let group = group.map_or_else(|| user.gid.to_string(), |group| group.name);
    Ok(Person {
        user: user.name.into(),
        uid,
        group: group.into(),
        host,
    })
}

/// The user of this name, as a caller on `host`. Blocks.
pub(crate) fn named(user: &str, host: &str) -> Option<Person> {
    let user = User::from_name(user).ok().flatten()?;
    look_up(user.uid.as_raw(), host.into()).ok()
}

/// Whether `user` is in `group`. Blocks.
pub(crate) fn membership(user: &str, group: &str) -> Membership {
    let Some(group) = Group::from_name(group).ok().flatten() else {
        return Membership::NoGroup;
    };
    let login = User::from_name(user).ok().flatten().map(|user| user.gid);
    let is_member = login == Some(group.gid) || is_listed(user, login, group.gid);
    match is_member {
        true => Membership::Member,
        false => Membership::Stranger,
    }
}

fn is_listed(user: &str, login: Option<Gid>, group: Gid) -> bool {
    let (Ok(name), Some(login)) = (std::ffi::CString::new(user), login) else {
        return false;
    };
    let groups = nix::unistd::getgrouplist(&name, login).unwrap_or_default();
    groups.contains(&group)
}
