//! Whom the commands of checks run as.

use std::fmt;

/// An account of the director, by name or number, and perhaps a group. Shown as `USER` or `USER:GROUP`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScriptUser {
    /// The user.
    pub user: String,
    /// The group; `None`: the user's own.
    pub group: Option<String>,
}

impl ScriptUser {
    /// Root with root's group.
    #[must_use]
    pub fn root() -> Self {
        Self { user: "root".to_owned(), group: None }
    }

    /// The account that `text` names, unless it can be none: a name is neither empty nor has spaces or colons.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let is_name = |name: &str| {
            !name.is_empty()
                && !name.contains(|character: char| character == ':' || !character.is_ascii_graphic())
        };
        let (user, group) = match text.split_once(':') {
            Some((user, group)) => (user, Some(group)),
            None => (text, None),
        };
        (is_name(user) && group.is_none_or(is_name))
            .then(|| Self { user: user.to_owned(), group: group.map(str::to_owned) })
    }
}

impl fmt::Display for ScriptUser {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.user)?;
        self.group.as_ref().map_or(Ok(()), |group| write!(f, ":{group}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accounts_are_read_and_shown() {
        for text in ["nobody", "lvs-check:nogroup", "65534:65534"] {
            assert_eq!(ScriptUser::parse(text).map(|user| user.to_string()).as_deref(), Some(text));
        }
        for text in ["", ":", "a:", ":b", "a b", "a:b:c", "a\0", "a\n"] {
            assert_eq!(ScriptUser::parse(text), None, "{text:?}");
        }
    }
}
