//! The file itself. It lasts as long as the machine is up: after a boot, and in another network namespace, the table that it
//! speaks of isn't there any more.

use std::{
    fs::{self, DirBuilder, OpenOptions},
    io::{self, Read as _, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use super::{
    Orders, SavedState,
    entry::{HeldEntry, OrderEntry},
    scope::Scope,
};
use crate::ipvs::overrides::Overrides;

/// Of what this program writes. Another number says that the rest may be anything.
const VERSION: u32 = 1;
/// The largest file that is read: far more than 10,000 servers take.
const MAX_BYTES: u64 = 16 << 20;

/// Why what a file says is not made use of.
#[derive(Debug, thiserror::Error)]
pub(super) enum Ignored {
    #[error("it can't be read: {0}")]
    Io(#[from] io::Error),
    #[error("it is damaged: {0}")]
    Damaged(#[from] serde_json::Error),
    #[error("it is damaged: {0} is not an IPVS entry")]
    Entry(String),
    #[error("it is larger than any that this program writes")]
    TooLarge,
    #[error("it has version {0}, this program knows {VERSION}")]
    OtherVersion(u32),
    #[error("it is from before the machine was started")]
    OtherBoot,
    #[error("it is about another network namespace")]
    OtherNamespace,
}

/// The file's first line of defence: nothing else is looked at before these fit.
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
    overrides: Vec<HeldEntry>,
    #[serde(default)]
    orders: Vec<OrderEntry>,
}

/// Writes down what this agent leaves in `scope`; the old file stays until the new one is whole.
pub(super) fn write(path: &Path, scope: &Scope, overrides: &Overrides, orders: &Orders) -> io::Result<()> {
    if let Some(folder) = path.parent().filter(|folder| !folder.exists()) {
        DirBuilder::new().mode(0o700).create(folder)?;
    }
    let next = next_to(path);
    // Not synchronised to the disk: it is of no use after the machine has crashed.
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&next)?;
    file.write_all(&to_json(scope, overrides, orders)?)?;
    drop(file);
    fs::rename(&next, path)
}

/// Where a new file is written before it takes the old one's scope.
fn next_to(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".new");
    name.into()
}

fn to_json(scope: &Scope, overrides: &Overrides, orders: &Orders) -> serde_json::Result<Vec<u8>> {
    let overrides = overrides.iter().map(|(key, ours)| HeldEntry::new(key, ours)).collect();
    let orders = orders.iter().map(|(key, commands)| OrderEntry::new(key, *commands)).collect();
    serde_json::to_vec(&Content { version: VERSION, scope: scope.clone(), overrides, orders })
}

/// What the last agent has left in `scope`; nothing where there is no file.
pub(super) fn read(path: &Path, scope: &Scope) -> Result<SavedState, Ignored> {
    let mut bytes = Vec::new();
    match fs::File::open(path) {
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
        return Err(Ignored::OtherNamespace);
    }
    let content: Content = serde_json::from_slice(bytes)?;
    let admin_state: Result<Vec<_>, _> = content
        .overrides
        .iter()
        .map(|entry| entry.ours().ok_or_else(|| Ignored::Entry(entry.server.to_string())))
        .collect();
    let orders = content.orders.iter().map(OrderEntry::order).collect();
    Ok(SavedState { overrides: Overrides::new(admin_state?), orders })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        ipvs::{Destination, KernelWeight, overrides::Override},
        model::{AddressFamily, DestinationKey, ForwardingMethod, Protocol, ServiceKey, Tunnel, TunnelFlags},
        pool::{AdminCommands, Drain},
    };

    fn orders() -> Orders {
        let udp =
            ServiceKey::Address { protocol: Protocol::Udp, address: "[2001:db8::5]:53".parse().unwrap() };
        let of = |server: &str, drain, maintenance| {
            let key = DestinationKey { service: udp, server: server.parse().unwrap() };
            (key, AdminCommands { drain, maintenance })
        };
        Orders::from([
            of("10.0.0.1:53", Some(Drain::Quiesce), true),
            of("10.0.0.2:53", Some(Drain::Remove), false),
            of("[2001:db8::2]:53", None, true),
        ])
    }

    fn left() -> SavedState {
        SavedState { overrides: overrides(), orders: orders() }
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
    fn what_is_written_is_read_and_the_old_file_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("run/state.json");
        let scope = Scope::here().unwrap();
        assert_eq!(read(&path, &scope).unwrap(), SavedState::default());
        write(&path, &scope, &overrides(), &orders()).unwrap();
        assert_eq!(read(&path, &scope).unwrap(), left());
        write(&path, &scope, &Overrides::default(), &orders()).unwrap();
        assert_eq!(read(&path, &scope).unwrap(), SavedState { orders: orders(), ..SavedState::default() });
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
    }

    /// The names in the file are those of the first version, so that an agent of another version finds its weights.
    #[test]
    fn the_form_of_the_file_stays() {
        let here = Scope { boot: "b".to_owned(), network_namespace: "4:1".to_owned() };
        let text = String::from_utf8(to_json(&here, &overrides(), &orders()).unwrap()).unwrap();
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
    fn a_file_without_orders_is_read() {
        let here = Scope { boot: "b".to_owned(), network_namespace: "4:1".to_owned() };
        let text = String::from_utf8(to_json(&here, &overrides(), &Orders::new()).unwrap()).unwrap();
        let older = text.replace(",\"orders\":[]", "");
        assert_ne!(older, text);
        assert_eq!(
            from_json(older.as_bytes(), &here).unwrap(),
            SavedState { overrides: overrides(), ..SavedState::default() }
        );
    }

    #[test]
    fn what_does_not_fit_is_ignored_with_its_reason() {
        let here = Scope { boot: "b".to_owned(), network_namespace: "4:1".to_owned() };
        let text = String::from_utf8(to_json(&here, &overrides(), &orders()).unwrap()).unwrap();
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
