//! Requests to the kernel that are written beforehand, so that a fault strikes within microseconds of its moment.

use std::{io::Read as _, time::Duration};

use anyhow::{Context as _, Result, bail};
use nix::net::if_::if_nametoindex;
use socket2::{Domain, Protocol, Socket, Type};

use crate::lab::{clock::Moment, namespace::Namespace};

/// How long the kernel may take for an answer, on a slow machine.
const PATIENCE: Duration = Duration::from_secs(20);

/// Constants of `linux/netlink.h`, `rtnetlink.h`, `if_link.h`, `nfnetlink.h` and `nf_tables.h`.
mod kernel {
    pub(super) const ROUTE: i32 = 0;
    pub(super) const NETFILTER: i32 = 12;
    pub(super) const REQUEST: u16 = 1;
    pub(super) const ACKNOWLEDGE: u16 = 4;
    pub(super) const ERROR: u16 = 2;
    pub(super) const NEW_LINK: u16 = 16;
    pub(super) const UP: u32 = 1;
    pub(super) const MASTER: u16 = 10;
    pub(super) const BATCH_BEGIN: u16 = 16;
    pub(super) const BATCH_END: u16 = 17;
    pub(super) const NF_TABLES: u16 = 10;
    pub(super) const NEW_TABLE: u16 = NF_TABLES << 8;
    pub(super) const INET: u8 = 1;
    pub(super) const TABLE_NAME: u16 = 1;
    pub(super) const TABLE_FLAGS: u16 = 2;
    pub(super) const IPV4_OR_6: u8 = 0;
}

/// A request that waits for its moment, on a socket in its namespace.
#[derive(Debug)]
pub struct ArmedRequest {
    what: String,
    socket: Socket,
    bytes: Vec<u8>,
}

impl ArmedRequest {
    /// Takes a device down.
    pub fn link_down(namespace: &Namespace, device: &str) -> Result<Self> {
        let bytes = namespace.run(|| Ok(message(kernel::NEW_LINK, true, &link(device, kernel::UP)?)))?;
        Self::new(namespace, kernel::ROUTE, format!("{device} down"), bytes)
    }

    /// Takes a device out of its bridge.
    pub fn leave_bridge(namespace: &Namespace, device: &str) -> Result<Self> {
        let mut payload = namespace.run(|| link(device, 0))?;
        payload.extend(attribute(kernel::MASTER, &0_u32.to_ne_bytes()));
        let bytes = message(kernel::NEW_LINK, true, &payload);
        Self::new(namespace, kernel::ROUTE, format!("{device} out of its bridge"), bytes)
    }

    /// Wakes a dormant table of nftables' family `inet`: its chains begin to work.
    pub fn wake_table(namespace: &Namespace, table: &str) -> Result<Self> {
        let head = |family: u8, resource: u16| {
            let [high, low] = resource.to_be_bytes();
            vec![family, 0, high, low]
        };
        let name: Vec<u8> = table.bytes().chain([0]).collect();
        let mut payload = head(kernel::INET, 0);
        payload.extend(attribute(kernel::TABLE_NAME, &name));
        payload.extend(attribute(kernel::TABLE_FLAGS, &0_u32.to_be_bytes()));
        let frame = head(kernel::IPV4_OR_6, kernel::NF_TABLES);
        let bytes = [
            message(kernel::BATCH_BEGIN, false, &frame),
            message(kernel::NEW_TABLE, true, &payload),
            message(kernel::BATCH_END, false, &frame),
        ];
        Self::new(namespace, kernel::NETFILTER, format!("table {table} awake"), bytes.concat())
    }

    fn new(namespace: &Namespace, protocol: i32, what: String, bytes: Vec<u8>) -> Result<Self> {
        let domain = Domain::from(nix::libc::AF_NETLINK);
        let open = || Ok(Socket::new(domain, Type::RAW, Some(Protocol::from(protocol)))?);
        let socket = namespace.run(open).context("cannot open a netlink socket")?;
        socket.set_read_timeout(Some(PATIENCE))?;
        Ok(Self { what, socket, bytes })
    }

    /// Sends it and waits for the kernel's answer. Gives the moment just before.
    pub fn fire(mut self) -> Result<Moment> {
        let at = Moment::now();
        self.socket.send(&self.bytes)?;
        self.answer().with_context(|| format!("the kernel refuses \"{}\"", self.what))?;
        Ok(at)
    }

    fn answer(&mut self) -> Result<()> {
        let mut answer = [0; 4096];
        let length = self.socket.read(&mut answer)?;
        // The header's length, kind, flags, sequence and port; then the number of the error, negative, or 0.
        let (Some(kind), Some(error)) = (answer[..length].get(4..6), answer[..length].get(16..20)) else {
            bail!("an answer of {length} bytes");
        };
        let number = |bytes: &[u8]| bytes.iter().rev().fold(0_u32, |sum, byte| sum << 8 | u32::from(*byte));
        match (number(kind), number(error).cast_signed()) {
            (kind, 0) if kind == u32::from(kernel::ERROR) => Ok(()),
            (kind, error) if kind == u32::from(kernel::ERROR) => {
                Err(std::io::Error::from_raw_os_error(-error).into())
            }
            (kind, _) => bail!("an answer of the kind {kind}"),
        }
    }
}

/// A netlink message. Little-endian machines only, like the project.
fn message(kind: u16, acknowledge: bool, payload: &[u8]) -> Vec<u8> {
    let flags = kernel::REQUEST | if acknowledge { kernel::ACKNOWLEDGE } else { 0 };
    let length = u32::try_from(16 + payload.len()).unwrap_or(u32::MAX);
    let mut bytes = Vec::with_capacity(16 + payload.len());
    bytes.extend(length.to_ne_bytes());
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(flags.to_ne_bytes());
    bytes.extend([0; 8]);
    bytes.extend(payload);
    bytes
}

/// An attribute, filled up to a multiple of four bytes.
fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let length = u16::try_from(4 + value.len()).unwrap_or(u16::MAX);
    let mut bytes = Vec::with_capacity(4 + value.len());
    bytes.extend(length.to_ne_bytes());
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(value);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

/// `struct ifinfomsg`: clears the flags in `change`.
fn link(device: &str, change: u32) -> Result<Vec<u8>> {
    let index = if_nametoindex(device).with_context(|| format!("no device {device}"))?;
    let mut bytes = vec![0; 4];
    bytes.extend(index.to_ne_bytes());
    bytes.extend(0_u32.to_ne_bytes());
    bytes.extend(change.to_ne_bytes());
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_tells_its_length_and_attributes_are_filled_up() {
        let bytes = message(kernel::NEW_LINK, true, &attribute(1, b"abc\0d"));
        assert_eq!(bytes[..8], [28, 0, 0, 0, 16, 0, 5, 0]);
        assert_eq!(bytes[16..], [9, 0, 1, 0, b'a', b'b', b'c', 0, b'd', 0, 0, 0]);
    }
}
