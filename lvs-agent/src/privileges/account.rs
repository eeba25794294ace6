//! Whom a program runs as, and the environment that goes with it.

use std::path::PathBuf;

use nix::{
    errno::Errno,
    unistd::{Gid, Group, Uid, User, getegid, geteuid, getgroups},
};
use rustix::thread::CapabilitySet;

/// The account for what needs none of its own (passwd(5)), where the configuration names nobody else.
const NOBODY: &str = "nobody";
/// Its ids where it isn't in the list of accounts (`overflowuid` in proc(5)).
const NOBODY_ID: u32 = 65534;
/// Where programs are looked for, as a login shell of root's has it.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Whom a program runs as. Its environment has `PATH`, `HOME`, `USER`, `LOGNAME` and `SHELL`, and nothing of the
/// agent's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RunAs {
    name: String,
    home: PathBuf,
    shell: PathBuf,
    /// User and group, where these aren't the agent's own. It has no other groups then.
    ids: Option<(u32, u32)>,
}

/// Why commands can't run as somebody.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum AccountError {
    /// There is no such account or group.
    #[error("there is no {what} \"{name}\"; make it, or name another")]
    Unknown { what: &'static str, name: String },
    /// The list of accounts can't be read.
    #[error("looking {name:?} up: {}", .errno.desc())]
    Lookup { name: String, errno: Errno },
    /// The agent can't give a file to this group.
    #[error(
        "the agent isn't in the group \"{name}\", so it can't let that group in; run it with the group (systemd: \
         `Group={name}`, or `SupplementaryGroups={name}`)"
    )]
    NotMember { name: String },
    /// The agent can't become another user.
    #[error(
        "the agent can't run commands as \"{name}\": that takes root with CAP_SETUID and CAP_SETGID; leave it out, and \
         they run as the agent's own user, without capabilities"
    )]
    NotAllowed { name: String },
}

/// What commands get less, or more, than was meant.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Shortfall {
    /// The agent isn't root.
    #[error("commands of checks run as \"{own}\" and not as root: the agent isn't root itself")]
    NotRoot { own: String },
    /// The agent is root, and can be nobody else.
    #[error(
        "commands of checks run as root: without CAP_SETUID and CAP_SETGID they can't run as \"nobody\"; grant these, or \
         run the agent as another user"
    )]
    OnlyRoot,
}

impl RunAs {
    /// Whom commands run as: `wanted`, a user (name or number) and perhaps a group; `nobody` where nobody is named and
    /// the agent is root. An agent that isn't root runs them as its own user.
    ///
    /// Looks accounts up, which may take as long as a name service takes.
    pub(crate) fn for_commands(
        wanted: Option<(&str, Option<&str>)>,
    ) -> Result<(Self, Option<Shortfall>), AccountError> {
        let (own_user, own_group) = (geteuid(), getegid());
        let own = || Self { ids: None, ..Self::of(own_user, own_group) };
        let Some((user, group)) = wanted else {
            return Ok(match (own_user.is_root(), super::can_change_user()) {
                (false, _) => (own(), None),
                (true, true) => (nobody(), None),
                (true, false) => (own(), Some(Shortfall::OnlyRoot)),
            });
        };
        let account = look_up("user", user, User::from_name, |id| User::from_uid(Uid::from_raw(id)))?;
        let group = group
            .map(|name| look_up("group", name, Group::from_name, |id| Group::from_gid(Gid::from_raw(id))))
            .transpose()?;
        let group = group.map_or(account.gid, |group| group.gid);
        if account.uid.is_root() && !own_user.is_root() {
            let own = own();
            let note = Shortfall::NotRoot { own: own.name.clone() };
            return Ok((own, Some(note)));
        }
        if (account.uid, group) == (own_user, own_group) {
            return Ok((own(), None));
        }
        if !super::can_change_user() {
            return Err(AccountError::NotAllowed { name: account.name });
        }
        Ok((Self { ids: Some((account.uid.as_raw(), group.as_raw())), ..Self::from(account) }, None))
    }

    /// User and group, where these aren't the agent's own.
    pub(crate) fn ids(&self) -> Option<(u32, u32)> {
        self.ids
    }

    /// Whether they are another user's.
    pub(crate) fn is_other_user(&self) -> bool {
        self.ids.is_some()
    }

    /// Whether a program has all of root's rights.
    pub(crate) fn is_root(&self) -> bool {
        self.ids.map_or_else(|| geteuid().is_root(), |(user, _)| user == 0)
    }

    /// The whole environment.
    pub(crate) fn environment(&self) -> [(&'static str, &std::ffi::OsStr); 5] {
        [
            ("PATH", PATH.as_ref()),
            ("HOME", self.home.as_os_str()),
            ("USER", self.name.as_ref()),
            ("LOGNAME", self.name.as_ref()),
            ("SHELL", self.shell.as_os_str()),
        ]
    }

    fn of(user: Uid, group: Gid) -> Self {
        let ids = Some((user.as_raw(), group.as_raw()));
        match User::from_uid(user) {
            Ok(Some(account)) => Self { ids, ..Self::from(account) },
            // A number alone is an account as well: that of many a container.
            _ => Self { name: user.to_string(), home: "/".into(), shell: "/bin/sh".into(), ids },
        }
    }
}

impl Default for RunAs {
    /// The agent's own user.
    fn default() -> Self {
        Self { ids: None, ..Self::of(geteuid(), getegid()) }
    }
}

impl From<User> for RunAs {
    fn from(account: User) -> Self {
        let User { name, uid, gid, dir, shell, .. } = account;
        Self { name, home: dir, shell, ids: Some((uid.as_raw(), gid.as_raw())) }
    }
}

/// The number of a group that the agent can give files to: one that it is in itself.
///
/// Looks it up, which may take as long as a name service takes.
pub(crate) fn own_group(name: &str) -> Result<u32, AccountError> {
    let group = look_up("group", name, Group::from_name, |id| Group::from_gid(Gid::from_raw(id)))?.gid;
    let is_member = getegid() == group || getgroups().is_ok_and(|groups| groups.contains(&group));
    if is_member || super::has(CapabilitySet::CHOWN) {
        Ok(group.as_raw())
    } else {
        Err(AccountError::NotMember { name: name.to_owned() })
    }
}

fn nobody() -> RunAs {
    match User::from_name(NOBODY) {
        Ok(Some(account)) => account.into(),
        _ => RunAs::of(Uid::from_raw(NOBODY_ID), Gid::from_raw(NOBODY_ID)),
    }
}

/// The account or group of that name, or else of that number.
fn look_up<T>(
    what: &'static str,
    name: &str,
    by_name: impl Fn(&str) -> nix::Result<Option<T>>,
    by_id: impl Fn(u32) -> nix::Result<Option<T>>,
) -> Result<T, AccountError> {
    let failed = |errno| AccountError::Lookup { name: name.to_owned(), errno };
    if let Some(found) = by_name(name).map_err(failed)? {
        return Ok(found);
    }
    let found = name.parse().ok().map_or(Ok(None), by_id).map_err(failed)?;
    found.ok_or_else(|| AccountError::Unknown { what, name: name.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_run_as_nobody_where_the_agent_is_root() {
        let (run_as, shortfall) = RunAs::for_commands(None).unwrap();
        if super::super::can_change_user() {
            assert_eq!(run_as, nobody());
            assert!(run_as.is_other_user() && !run_as.is_root());
            assert_eq!(shortfall, None);
        } else {
            assert_eq!(run_as, RunAs::default());
        }
    }

    #[test]
    fn operators_are_a_group_of_the_agents_own() {
        let own = Group::from_gid(getegid()).unwrap().unwrap();
        assert_eq!(own_group(&own.name), Ok(own.gid.as_raw()));
        assert_eq!(own_group(&own.gid.to_string()), Ok(own.gid.as_raw()));
        let unknown = AccountError::Unknown { what: "group", name: "nosuchgroup".to_owned() };
        assert_eq!(own_group("nosuchgroup"), Err(unknown));
        let in_no_other = std::thread::spawn(|| {
            super::super::keep(CapabilitySet::empty()).unwrap();
            own_group("daemon")
        });
        let is_member = getgroups().unwrap().iter().any(|group| group.as_raw() == 1);
        let expected = AccountError::NotMember { name: "daemon".to_owned() };
        assert_eq!(in_no_other.join().unwrap().err(), (!is_member).then_some(expected));
    }

    #[test]
    fn accounts_are_found_by_name_and_by_number() {
        let unknown =
            |what: &'static str, name: &str| Err(AccountError::Unknown { what, name: name.to_owned() });
        assert_eq!(RunAs::for_commands(Some(("nosuchuser", None))), unknown("user", "nosuchuser"));
        assert_eq!(RunAs::for_commands(Some(("root", Some("nosuchgroup")))), unknown("group", "nosuchgroup"));
        let by_name = RunAs::for_commands(Some(("root", None))).unwrap();
        assert_eq!(RunAs::for_commands(Some(("0", None))).unwrap(), by_name);
        assert_eq!(by_name.0, RunAs::default());
        let not_root = by_name.1.is_some();
        assert_eq!(not_root, !geteuid().is_root());
        if super::super::can_change_user() {
            let (daemon, _) = RunAs::for_commands(Some(("daemon", Some("nogroup")))).unwrap();
            let user = User::from_name("daemon").unwrap().unwrap();
            let group = Group::from_name("nogroup").unwrap().unwrap();
            assert_eq!(daemon.ids(), Some((user.uid.as_raw(), group.gid.as_raw())));
        }
    }
}
