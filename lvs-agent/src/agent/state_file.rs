//! Whom this agent holds out, written down for the next one.
//!
//! The file lasts as long as the machine is up: after a boot, and in another network namespace, the table that it speaks of
//! isn't there any more.

use std::{
    fs::{self, DirBuilder, OpenOptions},
    io::{self, Read as _, Write as _},
    net::SocketAddr,
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use super::adopt::{Held, Hold};
use crate::{
    ipvs::{Destination, KernelWeight},
    service::{AddressFamily, DestinationKey, ForwardingMethod, Protocol, ServiceKey, Tunnel, TunnelFlags},
};

/// Of what this program writes. Another number says that the rest may be anything.
const VERSION: u32 = 1;
/// The largest file that is read: far more than 10,000 servers take.
const MAX_BYTES: u64 = 16 << 20;

/// Which table it is that the file speaks of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Place {
    /// `/proc/sys/kernel/random/boot_id`.
    boot: String,
    /// Device and inode of the network namespace (namespaces(7)).
    network_namespace: String,
}

impl Place {
    /// This machine since it was started, and this network namespace.
    pub(super) fn here() -> io::Result<Self> {
        let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id")?.trim().to_owned();
        let namespace = fs::metadata("/proc/self/ns/net")?;
        Ok(Self { boot, network_namespace: format!("{}:{}", namespace.dev(), namespace.ino()) })
    }
}

/// Why what a file says is not made use of.
#[derive(Debug, thiserror::Error)]
pub(super) enum Ignored {
    #[error("it can't be read: {0}")]
    Io(#[from] io::Error),
    #[error("it is damaged: {0}")]
    Damaged(#[from] serde_json::Error),
    #[error("it is damaged: {0} is no IPVS entry")]
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
    place: Place,
}

#[derive(Serialize, Deserialize)]
struct Content {
    version: u32,
    place: Place,
    held: Vec<Entry>,
}

/// One destination that is held.
#[derive(Serialize, Deserialize)]
struct Entry {
    service: Service,
    server: SocketAddr,
    method: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    tunnel: Option<Wrapping>,
    /// Its own weight.
    weight: i32,
    #[serde(default)]
    upper_threshold: u32,
    #[serde(default)]
    lower_threshold: u32,
    /// How it may stand in the table, the likeliest first; null: not there.
    stands: Vec<Option<i32>>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Service {
    Tcp(SocketAddr),
    Udp(SocketAddr),
    Sctp(SocketAddr),
    MarkIpv4(u32),
    MarkIpv6(u32),
}

/// What packets are wrapped in, as the kernel's attributes have it.
#[derive(Clone, Copy, Serialize, Deserialize)]
struct Wrapping {
    kind: u8,
    port: u16,
    flags: u16,
}

/// Writes down whom this agent holds out in `place`; the old file stays until the new one is whole.
pub(super) fn write(path: &Path, place: &Place, held: &Held) -> io::Result<()> {
    if let Some(folder) = path.parent().filter(|folder| !folder.exists()) {
        DirBuilder::new().mode(0o700).create(folder)?;
    }
    let next = next_to(path);
    // Not synchronised to the disk: it is of no use after the machine has crashed.
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&next)?;
    file.write_all(&to_json(place, held)?)?;
    drop(file);
    fs::rename(&next, path)
}

/// Where a new file is written before it takes the old one's place.
fn next_to(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".new");
    name.into()
}

fn to_json(place: &Place, held: &Held) -> serde_json::Result<Vec<u8>> {
    let held = held.iter().map(|(key, hold)| Entry::new(key, hold)).collect();
    serde_json::to_vec(&Content { version: VERSION, place: place.clone(), held })
}

/// Whom the last agent held out in `place`; nobody where there is no file.
pub(super) fn read(path: &Path, place: &Place) -> Result<Held, Ignored> {
    let mut bytes = Vec::new();
    match fs::File::open(path) {
        Ok(file) => file.take(MAX_BYTES + 1).read_to_end(&mut bytes)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Held::default()),
        Err(error) => return Err(error.into()),
    };
    if bytes.len() as u64 > MAX_BYTES {
        return Err(Ignored::TooLarge);
    }
    from_json(&bytes, place)
}

fn from_json(bytes: &[u8], place: &Place) -> Result<Held, Ignored> {
    let head: Head = serde_json::from_slice(bytes)?;
    if head.version != VERSION {
        return Err(Ignored::OtherVersion(head.version));
    }
    if head.place.boot != place.boot {
        return Err(Ignored::OtherBoot);
    }
    if head.place != *place {
        return Err(Ignored::OtherNamespace);
    }
    let content: Content = serde_json::from_slice(bytes)?;
    let holds: Result<Vec<_>, _> = content
        .held
        .iter()
        .map(|entry| entry.hold().ok_or_else(|| Ignored::Entry(entry.server.to_string())))
        .collect();
    Ok(Held::new(holds?))
}

impl Entry {
    fn new(key: &DestinationKey, hold: &Hold) -> Self {
        let Hold { original, now, before } = hold;
        let weight = |found: Option<KernelWeight>| found.map(|weight| weight.0);
        Self {
            service: key.service.into(),
            server: key.server,
            method: original.method.to_string(),
            tunnel: (original.method == ForwardingMethod::Tunnel).then(|| original.tunnel.into()),
            weight: original.weight.0,
            upper_threshold: original.upper_threshold,
            lower_threshold: original.lower_threshold,
            stands: std::iter::once(weight(*now)).chain(before.map(weight)).collect(),
        }
    }

    fn hold(&self) -> Option<(DestinationKey, Hold)> {
        const METHODS: [ForwardingMethod; 5] = [
            ForwardingMethod::Masquerade,
            ForwardingMethod::DirectRoute,
            ForwardingMethod::Tunnel,
            ForwardingMethod::Local,
            ForwardingMethod::Bypass,
        ];
        let method = METHODS.into_iter().find(|method| method.to_string() == self.method)?;
        let original = Destination {
            server: self.server,
            method,
            tunnel: self.tunnel.map_or_else(Tunnel::default, Tunnel::from),
            weight: KernelWeight(self.weight),
            upper_threshold: self.upper_threshold,
            lower_threshold: self.lower_threshold,
        };
        let mut stands = self.stands.iter().map(|weight| weight.map(KernelWeight));
        let (now, before) = (stands.next()?, stands.next());
        let key = DestinationKey { service: (&self.service).into(), server: self.server };
        Some((key, Hold { original, now, before }))
    }
}

impl From<ServiceKey> for Service {
    fn from(key: ServiceKey) -> Self {
        match key {
            ServiceKey::Address { protocol: Protocol::Tcp, address } => Self::Tcp(address),
            ServiceKey::Address { protocol: Protocol::Udp, address } => Self::Udp(address),
            ServiceKey::Address { protocol: Protocol::Sctp, address } => Self::Sctp(address),
            ServiceKey::Mark { mark, family: AddressFamily::V4 } => Self::MarkIpv4(mark),
            ServiceKey::Mark { mark, family: AddressFamily::V6 } => Self::MarkIpv6(mark),
        }
    }
}

impl From<&Service> for ServiceKey {
    fn from(service: &Service) -> Self {
        let of = |protocol, address: &SocketAddr| Self::Address { protocol, address: *address };
        match service {
            Service::Tcp(address) => of(Protocol::Tcp, address),
            Service::Udp(address) => of(Protocol::Udp, address),
            Service::Sctp(address) => of(Protocol::Sctp, address),
            Service::MarkIpv4(mark) => Self::Mark { mark: *mark, family: AddressFamily::V4 },
            Service::MarkIpv6(mark) => Self::Mark { mark: *mark, family: AddressFamily::V6 },
        }
    }
}

/// `IP_VS_CONN_F_TUNNEL_TYPE_*` of `linux/ip_vs.h`.
const IPIP: u8 = 0;
const GUE: u8 = 1;
const GRE: u8 = 2;

impl From<Tunnel> for Wrapping {
    fn from(tunnel: Tunnel) -> Self {
        match tunnel {
            Tunnel::Ipip => Self { kind: IPIP, port: 0, flags: 0 },
            Tunnel::Gue { port, flags } => Self { kind: GUE, port, flags: flags.0 },
            Tunnel::Gre { flags } => Self { kind: GRE, port: 0, flags: flags.0 },
            Tunnel::Other { kind, port, flags } => Self { kind, port, flags: flags.0 },
        }
    }
}

impl From<Wrapping> for Tunnel {
    fn from(Wrapping { kind, port, flags }: Wrapping) -> Self {
        let flags = TunnelFlags(flags);
        match kind {
            IPIP => Self::Ipip,
            GUE => Self::Gue { port, flags },
            GRE => Self::Gre { flags },
            kind => Self::Other { kind, port, flags },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held() -> Held {
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
        let of = |service, original: Destination, now: Option<i32>, before: Option<Option<i32>>| {
            let now = now.map(KernelWeight);
            let before = before.map(|before| before.map(KernelWeight));
            (DestinationKey { service, server: original.server }, Hold { original, now, before })
        };
        Held::new([
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
        let place = Place::here().unwrap();
        assert_eq!(read(&path, &place).unwrap(), Held::default());
        write(&path, &place, &held()).unwrap();
        assert_eq!(read(&path, &place).unwrap(), held());
        write(&path, &place, &Held::default()).unwrap();
        assert_eq!(read(&path, &place).unwrap(), Held::default());
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
    }

    #[test]
    fn what_does_not_fit_is_ignored_with_its_reason() {
        let here = Place { boot: "b".to_owned(), network_namespace: "4:1".to_owned() };
        let text = String::from_utf8(to_json(&here, &held()).unwrap()).unwrap();
        let cases = [
            (text.clone(), ""),
            (text.replace("\"version\":1", "\"version\":2"), "it has version 2, this program knows 1"),
            (text.replace("\"boot\":\"b\"", "\"boot\":\"c\""), "it is from before the machine was started"),
            (text.replace("4:1", "4:2"), "it is about another network namespace"),
            (text.replace("masquerade", "carrier-pigeon"), "it is damaged: 10.0.0.2:80 is no IPVS entry"),
            (
                text.replace("\"stands\":[null]", "\"stands\":[]"),
                "it is damaged: 10.0.0.2:80 is no IPVS entry",
            ),
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
