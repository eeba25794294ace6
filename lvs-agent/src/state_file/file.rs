//! Reads and writes the file. It is valid until the machine is rebooted, and only in its network namespace: elsewhere
//! the table is another one.

use std::{
    fs::{self, DirBuilder, OpenOptions},
    io::{self, Read as _, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

use nix::libc;
use serde::{Deserialize, Serialize};

use super::{
    SavedCommands, SavedRole, SavedState,
    entry::{CommandEntry, OverrideEntry, RoleName},
    scope::Scope,
};
use crate::{ipvs::overrides::Overrides, model::DirectorRole};

/// The version of the format. A file with another one isn't read further.
const VERSION: u32 = 1;
/// The largest file that is read: far more than 10,000 servers take.
const MAX_BYTES: u64 = 16 << 20;

/// Why a file is not used.
#[derive(Debug, thiserror::Error)]
pub(super) enum Ignored {
    #[error("it can't be read: {0}")]
    Io(io::Error),
    #[error("it is damaged: {0}")]
    Damaged(serde_json::Error),
    #[error("it is damaged: {0} is not an IPVS entry")]
    Entry(String),
    #[error("it is larger than any that this program writes")]
    TooLarge,
    #[error("it has version {0}, this program knows {VERSION}")]
    OtherVersion(u32),
    #[error("it is from before the machine was started")]
    OtherBoot,
    #[error("it is about another network namespace")]
    OtherNamespace(Scope),
}

impl From<io::Error> for Ignored {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl From<serde_json::Error> for Ignored {
    fn from(error: serde_json::Error) -> Self {
        Self::Damaged(error)
    }
}

/// The fields that are checked before all others are read.
#[derive(Deserialize)]
struct Head {
    version: u32,
    #[serde(rename = "place")]
    scope: Scope,
}

#[derive(Serialize, Deserialize)]
struct Content {
    version: u32,
    #[serde(rename = "place")]
    scope: Scope,
    #[serde(rename = "held")]
    overrides: Vec<OverrideEntry>,
    #[serde(default, rename = "orders")]
    commands: Vec<CommandEntry>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    role: Option<RoleName>,
}

/// Makes the folder of the file at `path` for this user alone, if only that is missing.
pub(super) fn make_folder(path: &Path) -> io::Result<()> {
    match path.parent().filter(|folder| !folder.as_os_str().is_empty() && !folder.exists()) {
        Some(folder) => DirBuilder::new().mode(0o700).create(folder),
        None => Ok(()),
    }
}

/// The mode of the file: where its folder is for a group and nobody else, as the usual one is for operators, that group
/// may read it.
fn mode_in(path: &Path) -> u32 {
    const FOR_A_GROUP: u32 = 0o050;
    let folder = path.parent().and_then(|folder| folder.metadata().ok());
    let is_for_group = folder.is_some_and(|folder| folder.permissions().mode() & 0o077 == FOR_A_GROUP);
    if is_for_group { 0o640 } else { 0o600 }
}

/// Saves the state for the next agent in `scope`; the old file stays until the new one is complete.
pub(super) fn write(
    path: &Path,
    scope: &Scope,
    overrides: &Overrides,
    commands: &SavedCommands,
    role: SavedRole,
) -> io::Result<()> {
    make_folder(path)?;
    let next = beside(path, ".new");
    let bytes = to_json(scope, overrides, commands, role)?;
    // Not synchronised to the disk: after a crash of the machine the file isn't valid.
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(mode_in(path)).custom_flags(libc::O_NOFOLLOW);
    let written = options.open(&next)?.write_all(&bytes);
    let replaced = written.and_then(|()| fs::rename(&next, path));
    if replaced.is_err() {
        // Half of it would only keep others from writing to a full disk.
        fs::remove_file(&next).ok();
    }
    replaced
}

/// The path with `suffix` at its end.
pub(super) fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// The state that the previous agent in `scope` has saved. What the file says of another network namespace is moved
/// aside, where an agent of that namespace finds it again.
pub(super) fn take_over(path: &Path, scope: &Scope) -> Result<SavedState, Ignored> {
    if let Err(Ignored::OtherNamespace(other)) = read(path, scope)
        && let Some(suffix) = other.suffix()
    {
        fs::rename(path, beside(path, &suffix))?;
    }
    if let Some(own) = scope.suffix().map(|suffix| beside(path, &suffix))
        && !path.exists()
        && own.exists()
    {
        fs::rename(own, path)?;
    }
    read(path, scope)
}

fn to_json(
    scope: &Scope,
    overrides: &Overrides,
    commands: &SavedCommands,
    role: SavedRole,
) -> serde_json::Result<Vec<u8>> {
    let overrides = overrides.iter().map(|(key, ours)| OverrideEntry::new(key, ours)).collect();
    let commands = commands.iter().map(|(key, commands)| CommandEntry::new(key, *commands)).collect();
    let role = role.0.map(RoleName::from);
    serde_json::to_vec(&Content { version: VERSION, scope: scope.clone(), overrides, commands, role })
}

/// The state that the previous agent has saved in `scope`; nothing if there is no file.
pub(super) fn read(path: &Path, scope: &Scope) -> Result<SavedState, Ignored> {
    let mut bytes = Vec::new();
    match OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path) {
        Ok(file) => file.take(MAX_BYTES + 1).read_to_end(&mut bytes)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(SavedState::default()),
        Err(error) => return Err(error.into()),
    };
    if bytes.len() as u64 > MAX_BYTES {
        return Err(Ignored::TooLarge);
    }
    from_json(&bytes, scope)
}

fn from_json(bytes: &[u8], scope: &Scope) -> Result<SavedState, Ignored> {
    let head: Head = serde_json::from_slice(bytes)?;
    if head.version != VERSION {
        return Err(Ignored::OtherVersion(head.version));
    }
    if head.scope.boot != scope.boot {
        return Err(Ignored::OtherBoot);
    }
    if head.scope != *scope {
        return Err(Ignored::OtherNamespace(head.scope));
    }
    let content: Content = serde_json::from_slice(bytes)?;
    let overrides: Result<Vec<_>, _> = content
        .overrides
        .iter()
        .map(|entry| entry.to_override().ok_or_else(|| Ignored::Entry(entry.server.to_string())))
        .collect();
    let commands = content.commands.iter().map(CommandEntry::to_commands).collect();
    let role = SavedRole(content.role.map(DirectorRole::from));
    Ok(SavedState { overrides: Overrides::new(overrides?), commands, role })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        ipvs::{Destination, KernelWeight, overrides::Override},
        model::{AddressFamily, DestinationKey, ForwardingMethod, Protocol, ServiceKey, Tunnel, TunnelFlags},
        pool::{AdminCommands, Drain},
    };

    fn commands() -> SavedCommands {
        let udp =
            ServiceKey::Address { protocol: Protocol::Udp, address: "[2001:db8::5]:53".parse().unwrap() };
        let of = |server: &str, drain, maintenance| {
            let key = DestinationKey { service: udp, server: server.parse().unwrap() };
            (key, AdminCommands { drain, maintenance })
        };
        SavedCommands::from([
            of("10.0.0.1:53", Some(Drain::Quiesce), true),
            of("10.0.0.2:53", Some(Drain::Remove), false),
            of("[2001:db8::2]:53", None, true),
        ])
    }

    fn state() -> SavedState {
        SavedState { overrides: overrides(), commands: commands(), role: SavedRole::default() }
    }

    fn overrides() -> Overrides {
        let tcp = ServiceKey::Address { protocol: Protocol::Tcp, address: "192.0.2.1:80".parse().unwrap() };
        let mark = ServiceKey::Mark { mark: 7, family: AddressFamily::V6 };
        let destination = |server: &str, method, tunnel| Destination {
            server: server.parse().unwrap(),
            method,
            tunnel,
            weight: KernelWeight(70_000),
            upper_threshold: 9,
            lower_threshold: 3,
        };
        let gue = Tunnel::Gue { port: 6080, flags: TunnelFlags::CHECKSUM };
        let of = |service, original: Destination, current: Option<i32>, previous: Option<Option<i32>>| {
            let current = current.map(KernelWeight);
            let previous = previous.map(|previous| previous.map(KernelWeight));
            (DestinationKey { service, server: original.server }, Override { original, current, previous })
        };
        Overrides::new([
            of(tcp, destination("10.0.0.1:80", ForwardingMethod::Tunnel, gue), Some(0), Some(Some(5))),
            of(tcp, destination("10.0.0.2:80", ForwardingMethod::Masquerade, Tunnel::Ipip), None, None),
            of(
                mark,
                destination("[2001:db8::1]:0", ForwardingMethod::Local, Tunnel::Ipip),
                Some(2),
                Some(None),
            ),
        ])
    }

    #[test]
    fn the_saved_state_is_read_back_and_replaces_the_old_file() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("run/state.json");
        let scope = Scope::here().unwrap();
        assert_eq!(read(&path, &scope).unwrap(), SavedState::default());
        write(&path, &scope, &overrides(), &commands(), SavedRole::default()).unwrap();
        assert_eq!(read(&path, &scope).unwrap(), state());
        let role = SavedRole(Some(DirectorRole::Standby));
        write(&path, &scope, &Overrides::default(), &commands(), role).unwrap();
        assert_eq!(
            read(&path, &scope).unwrap(),
            SavedState { commands: commands(), role, ..SavedState::default() }
        );
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
    }

    /// Two agents of two network namespaces, one after the other and in turns, with the same file.
    #[test]
    fn what_belongs_to_another_network_namespace_is_kept_for_it() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("state.json");
        let scope = |namespace: &str| Scope { boot: "b".to_owned(), network_namespace: namespace.to_owned() };
        let (blue, green) = (scope("4:1"), scope("4:2"));
        let own = |count| SavedState { commands: commands().into_iter().take(count).collect(), ..state() };
        for round in 0..3 {
            for (scope, count) in [(&blue, 1), (&green, 2)] {
                let expected = if round == 0 { SavedState::default() } else { own(count) };
                assert_eq!(take_over(&path, scope).unwrap(), expected, "{round} {scope:?}");
                write(&path, scope, &overrides(), &own(count).commands, SavedRole::default()).unwrap();
            }
        }
        // The file's own words make no path.
        let strange = Scope { boot: "b".to_owned(), network_namespace: "../../x:1".to_owned() };
        write(&path, &strange, &overrides(), &commands(), SavedRole::default()).unwrap();
        assert!(matches!(take_over(&path, &blue), Err(Ignored::OtherNamespace(_))));
        assert_eq!(fs::read_dir(&directory).unwrap().count(), 2);
    }

    /// The names in the file are those of the first version, so that an agent of another version finds its weights.
    #[test]
    fn the_form_of_the_file_stays() {
        let here = Scope { boot: "b".to_owned(), network_namespace: "4:1".to_owned() };
        let text =
            String::from_utf8(to_json(&here, &overrides(), &commands(), SavedRole::default()).unwrap())
                .unwrap();
        let expected = concat!(
            r#"{"version":1,"place":{"boot":"b","network_namespace":"4:1"},"held":[{"service":{"tcp":"192.0.2."#,
            r#"1:80"},"server":"10.0.0.1:80","method":"tunnel","tunnel":{"kind":1,"port":6080,"flags":1},"weig"#,
            r#"ht":70000,"upper_threshold":9,"lower_threshold":3,"stands":[0,5]},{"service":{"tcp":"192.0.2.1:"#,
            r#"80"},"server":"10.0.0.2:80","method":"masquerade","weight":70000,"upper_threshold":9,"lower_thr"#,
            r#"eshold":3,"stands":[null]},{"service":{"mark-ipv6":7},"server":"[2001:db8::1]:0","method":"loca"#,
            r#"l","weight":70000,"upper_threshold":9,"lower_threshold":3,"stands":[2,null]}],"orders":[{"servi"#,
            r#"ce":{"udp":"[2001:db8::5]:53"},"server":"10.0.0.1:53","drain":"quiesce","maintenance":true},{"s"#,
            r#"ervice":{"udp":"[2001:db8::5]:53"},"server":"10.0.0.2:53","drain":"remove"},{"service":{"udp":""#,
            r#"[2001:db8::5]:53"},"server":"[2001:db8::2]:53","maintenance":true}]}"#,
        );
        assert_eq!(text, expected);
    }

    #[test]
    fn a_file_without_commands_is_read() {
        let here = Scope { boot: "b".to_owned(), network_namespace: "4:1".to_owned() };
        let text = String::from_utf8(
            to_json(&here, &overrides(), &SavedCommands::new(), SavedRole::default()).unwrap(),
        )
        .unwrap();
        let older = text.replace(",\"orders\":[]", "");
        assert_ne!(older, text);
        assert_eq!(
            from_json(older.as_bytes(), &here).unwrap(),
            SavedState { overrides: overrides(), ..SavedState::default() }
        );
    }

    #[test]
    fn an_unusable_file_is_ignored_with_a_reason() {
        let here = Scope { boot: "b".to_owned(), network_namespace: "4:1".to_owned() };
        let text =
            String::from_utf8(to_json(&here, &overrides(), &commands(), SavedRole::default()).unwrap())
                .unwrap();
        let cases = [
            (text.clone(), ""),
            (text.replace("\"version\":1", "\"version\":2"), "it has version 2, this program knows 1"),
            (text.replace("\"boot\":\"b\"", "\"boot\":\"c\""), "it is from before the machine was started"),
            (text.replace("4:1", "4:2"), "it is about another network namespace"),
            (text.replace("masquerade", "carrier-pigeon"), "it is damaged: 10.0.0.2:80 is not an IPVS entry"),
            (
                text.replace("\"stands\":[null]", "\"stands\":[]"),
                "it is damaged: 10.0.0.2:80 is not an IPVS entry",
            ),
            (text.replace("\"remove\"", "\"away\""), "it is damaged: unknown variant `away`"),
            (text[..text.len() / 2].to_owned(), "it is damaged"),
            (String::new(), "it is damaged"),
            ("\0\0\0".to_owned(), "it is damaged"),
        ];
        for (text, expected) in cases {
            let reason =
                from_json(text.as_bytes(), &here).err().map_or(String::new(), |error| error.to_string());
            assert!(
                reason.starts_with(expected) && reason.is_empty() == expected.is_empty(),
                "{reason}: {text}"
            );
        }
    }
}
