//! The daemons that carry connections, but not weights, from one director to another.

use std::net::IpAddr;

use neli::{genl::Nlattr, types::Buffer};

use super::{
    Attribute, DecodeError, EncodeError,
    attributes::{Parsed, attribute, exactly, nest, optional, parse, required, text, text_attribute},
    wire::{DaemonAttribute, TopAttribute},
};

type Attributes<'a> = Parsed<'a, DaemonAttribute>;

/// A synchronisation daemon of the kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Daemon {
    /// Whether it sends or receives.
    pub role: DaemonRole,
    /// The device that it uses.
    pub device: String,
    /// Daemons with the same number belong together; a backup with 0 listens to all.
    pub sync_id: u32,
    /// The longest message in bytes.
    pub longest_message: u16,
    /// The multicast group; `None` leaves it to the kernel: 224.0.0.81.
    pub group: Option<IpAddr>,
    /// The UDP port; 0 leaves it to the kernel: 8848.
    pub port: u16,
    /// The messages' time to live; 0 leaves it to the kernel: 1.
    pub ttl: u8,
}

/// What a daemon does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DaemonRole {
    /// It tells others of this director's connections.
    Master,
    /// It learns of another director's connections.
    Backup,
}

/// A daemon that is to be started.
pub fn pack_daemon(daemon: &Daemon) -> Result<Attribute, EncodeError> {
    let mut attributes = vec![
        state(daemon.role)?,
        text_attribute(DaemonAttribute::McastIfn, &daemon.device)?,
        attribute(DaemonAttribute::SyncId, &daemon.sync_id.to_ne_bytes())?,
        attribute(DaemonAttribute::SyncMaxlen, &daemon.longest_message.to_ne_bytes())?,
        // Unlike all other ports of this protocol, this one is in the machine's own byte order.
        attribute(DaemonAttribute::McastPort, &daemon.port.to_ne_bytes())?,
        attribute(DaemonAttribute::McastTtl, &[daemon.ttl])?,
    ];
    match daemon.group {
        Some(IpAddr::V4(group)) => attributes.push(attribute(DaemonAttribute::McastGroup, &group.octets())?),
        Some(IpAddr::V6(group)) => attributes.push(attribute(DaemonAttribute::McastGroup6, &group.octets())?),
        None => {}
    }
    nest(TopAttribute::Daemon, &attributes)
}

/// A daemon that is to be stopped.
pub fn pack_daemon_role(role: DaemonRole) -> Result<Attribute, EncodeError> {
    nest(TopAttribute::Daemon, &[state(role)?])
}

/// `IP_VS_STATE_MASTER` or `IP_VS_STATE_BACKUP`.
fn state(role: DaemonRole) -> Result<Nlattr<DaemonAttribute, Buffer>, EncodeError> {
    let state = match role {
        DaemonRole::Master => 1_u32,
        DaemonRole::Backup => 2,
    };
    attribute(DaemonAttribute::State, &state.to_ne_bytes())
}

/// Reads the payload of a daemon attribute.
pub fn unpack_daemon(bytes: &[u8]) -> Result<Daemon, DecodeError> {
    let attributes: Attributes<'_> = parse(bytes)?;
    let role = match u32::from_ne_bytes(exactly(&attributes, DaemonAttribute::State)?) {
        1 => DaemonRole::Master,
        2 => DaemonRole::Backup,
        value => return Err(DecodeError::Unknown { what: "daemon state", value }),
    };
    let short = |kind| optional(&attributes, kind).map(|bytes| bytes.map_or(0, u16::from_ne_bytes));
    let [ttl] = optional(&attributes, DaemonAttribute::McastTtl)?.unwrap_or([0]);
    Ok(Daemon {
        role,
        device: text(required(&attributes, DaemonAttribute::McastIfn)?, DaemonAttribute::McastIfn)?
            .to_owned(),
        sync_id: u32::from_ne_bytes(exactly(&attributes, DaemonAttribute::SyncId)?),
        longest_message: short(DaemonAttribute::SyncMaxlen)?,
        group: unpack_group(&attributes)?,
        port: short(DaemonAttribute::McastPort)?,
        ttl,
    })
}

fn unpack_group(attributes: &Attributes<'_>) -> Result<Option<IpAddr>, DecodeError> {
    let v4 = optional::<4, _>(attributes, DaemonAttribute::McastGroup)?.map(IpAddr::from);
    let v6 = optional::<16, _>(attributes, DaemonAttribute::McastGroup6)?.map(IpAddr::from);
    Ok(v4.or(v6))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn daemon() -> impl Strategy<Value = Daemon> {
        let role = prop_oneof![Just(DaemonRole::Master), Just(DaemonRole::Backup)];
        (role, "[a-z0-9]{1,15}", any::<u32>(), any::<u16>(), any::<Option<IpAddr>>(), any::<(u16, u8)>())
            .prop_map(|(role, device, sync_id, longest_message, group, (port, ttl))| Daemon {
                role,
                device,
                sync_id,
                longest_message,
                group,
                port,
                ttl,
            })
    }

    proptest! {
        #[test]
        fn packed_attributes_unpack_to_the_same_value(daemon in daemon()) {
            let packed = pack_daemon(&daemon).unwrap();
            prop_assert_eq!(unpack_daemon(packed.nla_payload().as_ref()).unwrap(), daemon);
        }

        #[test]
        fn any_bytes_give_a_daemon_or_an_error(bytes: Vec<u8>) {
            if let Ok(daemon) = unpack_daemon(&bytes) {
                prop_assert!(pack_daemon(&daemon).is_ok());
            }
        }
    }
}
