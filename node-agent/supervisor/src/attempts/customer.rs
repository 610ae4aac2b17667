//! Who a waiting job's owner is on this host, for what is done on their behalf before there is an attempt.

use capstan_proto::wire::LaunchSpec;

use super::Supervisor;
use crate::containers::Customer;

impl Supervisor {
    /// The user by name, uid as the server knows it, and group (empty for their login group). May block.
    ///
    /// # Errors
    /// In one sentence, when this host does not know them, or knows somebody else by that name.
    pub fn customer(&self, user: &str, uid: u32, group: &str) -> Result<Customer, String> {
        let spec = LaunchSpec {
            user: user.to_owned(),
            uid,
            group: group.to_owned(),
            ..LaunchSpec::default()
        };
        let entry = self
            .site
            .guest(spec)
            .map_err(|problem| problem.to_string())?;
        let identity = entry.identity.unwrap_or_default();
        Ok(Customer {
            uid: identity.uid,
            gid: identity.gid,
            groups: identity.groups,
            home: identity.home.into(),
        })
    }
}
