//! Who may use a control socket, for somebody who may not.

use std::{fs::Metadata, os::unix::fs::MetadataExt as _, path::Path};

use nix::unistd::{Gid, Group, Uid, User};

/// The rights of a group to a socket, and to pass a folder.
const GROUP_WRITES: u32 = 0o020;
const GROUP_PASSES: u32 = 0o010;

/// Who may use the socket at `path`, and what to do about it. Looks accounts up.
pub(super) fn who_may(path: &Path) -> String {
    // Whoever may not pass the folder can't see the socket: the folder's group is the same.
    let folder = || path.parent().and_then(|folder| folder.metadata().ok()).map(|data| (data, GROUP_PASSES));
    match path.metadata().ok().map(|data| (data, GROUP_WRITES)).or_else(folder) {
        Some((data, right)) => who(&data, right),
        None => "only root may; try it with sudo".to_owned(),
    }
}

fn who(data: &Metadata, right: u32) -> String {
    let user = User::from_uid(Uid::from_raw(data.uid())).ok().flatten();
    let user = user.map_or_else(|| data.uid().to_string(), |user| user.name);
    let owner = if data.uid() == 0 { "root".to_owned() } else { format!("root, {user}") };
    if data.mode() & right == 0 || data.gid() == 0 {
        return format!(
            "only {owner} may; try it with sudo, or name a group of operators with `operators` in `[agent]`"
        );
    }
    let group = Group::from_gid(Gid::from_raw(data.gid())).ok().flatten();
    let group = group.map_or_else(|| data.gid().to_string(), |group| group.name);
    format!(
        "only {owner} and members of the group {group} may; join it with `sudo usermod --append --groups {group} $USER` \
         and log in again, or try it with sudo"
    )
}

#[cfg(test)]
mod tests {
    use std::{
        fs::{self, Permissions},
        os::unix::fs::{PermissionsExt as _, chown},
    };

    use nix::unistd::geteuid;

    use super::*;

    #[test]
    fn the_group_to_join_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("control");
        fs::write(&path, "").unwrap();
        let with_mode = |mode: u32| {
            fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
            who_may(&path)
        };
        assert!(with_mode(0o600).contains("`operators` in `[agent]`"));
        if geteuid().is_root() {
            chown(&path, None, Some(1)).unwrap();
            let text = with_mode(0o660);
            assert!(text.contains("members of the group daemon may"), "{text}");
            assert!(text.contains("usermod --append --groups daemon"), "{text}");
            // Of a socket that can't be seen the folder tells.
            chown(folder.path(), None, Some(1)).unwrap();
            fs::set_permissions(folder.path(), Permissions::from_mode(0o750)).unwrap();
            assert!(who_may(&folder.path().join("hidden")).contains("group daemon"));
        }
    }
}
