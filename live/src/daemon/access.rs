//! Who may do what: users of this machine, by the kernel's word (LIVE.md, Security).
//!
//! An administrator may do everything. Whoever is listed at an account acts for it: submits in its
//! name, and cancels, holds and reads what is its own; the core refuses everything else. The
//! members of a node's owner lend it and take it back. Who is listed nowhere sees nothing.

use super::door::Door;
use super::remote::Guests;
use crate::agent::user_name;
use axum::extract::connect_info::Connected;
use axum::serve::IncomingStream;
use gridsim::scenario::schema::Scenario;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// Who is at the other end of a connection.
#[derive(Clone, Debug)]
pub enum Peer {
    /// A user of this machine, by the kernel's word.
    Here(Option<u32>),
    /// Somebody on another machine: a token says who, and this that one was shown.
    Elsewhere(Arc<AtomicBool>),
}

impl Connected<IncomingStream<'_, Door>> for Peer {
    fn connect_info(stream: IncomingStream<'_, Door>) -> Self {
        Self::Here(stream.io().user())
    }
}

impl Connected<IncomingStream<'_, Guests>> for Peer {
    fn connect_info(stream: IncomingStream<'_, Guests>) -> Self {
        Self::Elsewhere(stream.io().known())
    }
}

/// Who asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Who {
    /// The user's name on this machine.
    pub user: String,
    /// Whether all is allowed.
    pub admin: bool,
    /// The accounts that the user acts for.
    pub accounts: Vec<String>,
}

impl Who {
    /// Chooses the user's first account where none is named; an administrator's is the cluster's
    /// first.
    ///
    /// # Errors
    /// When the user does not act for the one that is named.
    pub fn choose_account(&self, named: &mut String) -> Result<(), String> {
        if let (false, "", Some(own)) = (self.admin, named.as_str(), self.accounts.first()) {
            named.clone_from(own);
        }
        if named.is_empty() || self.acts_for(named) {
            return Ok(());
        }
        Err(format!("{} does not act for account {named}", self.user))
    }

    /// Returns whether the user acts for an account.
    #[must_use]
    pub fn acts_for(&self, account: &str) -> bool {
        self.admin || self.accounts.iter().any(|own| own == account)
    }
}

/// The lists of a configuration.
#[derive(Clone, Debug, Default)]
pub struct Access {
    admins: BTreeSet<String>,
    accounts: BTreeMap<String, Vec<String>>,
}

impl Access {
    /// Reads the lists.
    #[must_use]
    pub fn of(scenario: &Scenario) -> Self {
        let listed = scenario.accounts.iter();
        Self {
            admins: scenario.admins.iter().cloned().collect(),
            accounts: listed.map(|a| (a.name.clone(), a.users.clone())).collect(),
        }
    }

    /// Returns whether anybody but the daemon's own user may come in.
    #[must_use]
    pub fn is_shared(&self) -> bool {
        !self.admins.is_empty() || self.accounts.values().any(|users| !users.is_empty())
    }

    /// Returns who a user is; `None` for one who is listed nowhere. The daemon's own user and root,
    /// who could read its files anyway, are administrators.
    #[must_use]
    pub fn who(&self, uid: u32) -> Option<Who> {
        self.known(user_name(uid), Some(uid))
    }

    /// Returns who a user is by name; see [`Access::who`].
    #[must_use]
    pub fn named(&self, user: &str) -> Option<Who> {
        self.known(user.to_owned(), user.parse().ok())
    }

    fn known(&self, user: String, uid: Option<u32>) -> Option<Who> {
        let mine = |name: &String| *name == user || uid.is_some() && name.parse().ok() == uid;
        let own = [rustix::process::geteuid().as_raw(), 0].map(user_name);
        let admin = own.contains(&user) || self.admins.iter().any(mine);
        let of = |(account, users): (&String, &Vec<String>)| {
            users.iter().any(mine).then(|| account.clone())
        };
        let accounts: Vec<String> = self.accounts.iter().filter_map(of).collect();
        (admin || !accounts.is_empty()).then_some(Who { user, admin, accounts })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_act_for_the_accounts_that_list_them() {
        let users = |names: &[&str]| names.iter().map(ToString::to_string).collect();
        let accounts = BTreeMap::from([
            ("a".to_owned(), users(&["daemon", "4711"])),
            ("b".into(), users(&[])),
        ]);
        let access = Access { admins: BTreeSet::from(["bin".to_owned()]), accounts };
        let who = |uid| access.who(uid).map(|who| (who.admin, who.accounts));
        assert_eq!(who(0), Some((true, vec![])));
        assert_eq!(who(1), Some((false, vec!["a".to_owned()])));
        assert_eq!(who(2), Some((true, vec![])));
        assert_eq!(who(4711), Some((false, vec!["a".to_owned()])));
        assert_eq!(who(4712), None);
        assert_eq!(access.named("daemon").map(|who| who.accounts), Some(vec!["a".to_owned()]));
        assert_eq!(
            (access.named("root").map(|who| who.admin), access.named("x")),
            (Some(true), None)
        );
        assert!(access.is_shared() && !Access::default().is_shared());
        let member = access.who(1).unwrap();
        assert!(member.acts_for("a") && !member.acts_for("b"));
    }
}
