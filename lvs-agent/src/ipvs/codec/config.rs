//! How long idle connections are remembered.

use std::time::Duration;

use super::{
    AttributeList, DecodeError, EncodeError,
    attributes::{Parsed, attribute, optional, parse},
    wire::TopAttribute,
};

/// The timeouts of connections, in whole seconds; `None` where the kernel is built without the protocol.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Timeouts {
    /// Of an established TCP connection.
    pub tcp: Option<Duration>,
    /// Of a TCP connection after a FIN.
    pub tcp_fin: Option<Duration>,
    /// Of UDP.
    pub udp: Option<Duration>,
}

/// New timeouts; `None` keeps one as it is, and so does 0. Parts of seconds are cut off.
pub fn pack_timeouts(timeouts: &Timeouts) -> Result<AttributeList, EncodeError> {
    let mut list = AttributeList::new();
    let each = [
        (TopAttribute::TimeoutTcp, timeouts.tcp),
        (TopAttribute::TimeoutTcpFin, timeouts.tcp_fin),
        (TopAttribute::TimeoutUdp, timeouts.udp),
    ];
    for (kind, timeout) in each {
        if let Some(timeout) = timeout {
            let seconds = u32::try_from(timeout.as_secs()).unwrap_or(u32::MAX);
            list.push(attribute(u16::from(kind), &seconds.to_ne_bytes())?);
        }
    }
    Ok(list)
}

/// Reads the attributes of an answer.
pub fn unpack_timeouts(bytes: &[u8]) -> Result<Timeouts, DecodeError> {
    let attributes: Parsed<'_, TopAttribute> = parse(bytes)?;
    let seconds = |kind| {
        let bytes = optional(&attributes, kind);
        bytes.map(|bytes| bytes.map(|bytes| Duration::from_secs(u32::from_ne_bytes(bytes).into())))
    };
    Ok(Timeouts {
        tcp: seconds(TopAttribute::TimeoutTcp)?,
        tcp_fin: seconds(TopAttribute::TimeoutTcpFin)?,
        udp: seconds(TopAttribute::TimeoutUdp)?,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{super::bytes, *};

    fn timeouts() -> impl Strategy<Value = Timeouts> {
        any::<[Option<u32>; 3]>().prop_map(|each| {
            let [tcp, tcp_fin, udp] =
                each.map(|each| each.map(|seconds| Duration::from_secs(seconds.into())));
            Timeouts { tcp, tcp_fin, udp }
        })
    }

    proptest! {
        #[test]
        fn packed_attributes_unpack_to_the_same_value(timeouts in timeouts()) {
            let packed = pack_timeouts(&timeouts).unwrap();
            prop_assert_eq!(unpack_timeouts(&bytes(&packed).unwrap()).unwrap(), timeouts);
        }

        #[test]
        fn any_bytes_give_timeouts_or_an_error(bytes: Vec<u8>) {
            if let Ok(timeouts) = unpack_timeouts(&bytes) {
                prop_assert!(pack_timeouts(&timeouts).is_ok());
            }
        }
    }
}
