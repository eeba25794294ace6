//! Traffic counters.

use super::{
    DecodeError,
    attributes::{optional, parse},
    wire::StatisticsAttribute,
};
use crate::ipvs::statistics::Statistics;

/// Reads the payload of a `STATS64` attribute; without one, nothing was counted.
pub(super) fn unpack(bytes: Option<&[u8]>) -> Result<Statistics, DecodeError> {
    let attributes = parse(bytes.unwrap_or_default())?;
    let number = |kind| optional(&attributes, kind).map(|bytes| bytes.map_or(0, u64::from_ne_bytes));
    Ok(Statistics {
        connections: number(StatisticsAttribute::Conns)?,
        packets_in: number(StatisticsAttribute::Inpkts)?,
        packets_out: number(StatisticsAttribute::Outpkts)?,
        bytes_in: number(StatisticsAttribute::Inbytes)?,
        bytes_out: number(StatisticsAttribute::Outbytes)?,
        connection_rate: number(StatisticsAttribute::Cps)?,
        packet_rate_in: number(StatisticsAttribute::Inpps)?,
        packet_rate_out: number(StatisticsAttribute::Outpps)?,
        byte_rate_in: number(StatisticsAttribute::Inbps)?,
        byte_rate_out: number(StatisticsAttribute::Outbps)?,
    })
}

/// What the kernel would send: it alone counts, so only tests need it.
#[cfg(test)]
pub(super) fn pack(statistics: &Statistics) -> Vec<u8> {
    let numbers = [
        (StatisticsAttribute::Conns, statistics.connections),
        (StatisticsAttribute::Inpkts, statistics.packets_in),
        (StatisticsAttribute::Outpkts, statistics.packets_out),
        (StatisticsAttribute::Inbytes, statistics.bytes_in),
        (StatisticsAttribute::Outbytes, statistics.bytes_out),
        (StatisticsAttribute::Cps, statistics.connection_rate),
        (StatisticsAttribute::Inpps, statistics.packet_rate_in),
        (StatisticsAttribute::Outpps, statistics.packet_rate_out),
        (StatisticsAttribute::Inbps, statistics.byte_rate_in),
        (StatisticsAttribute::Outbps, statistics.byte_rate_out),
    ];
    let mut outer = super::attributes::attribute(0_u16, &[]).unwrap();
    for (kind, number) in numbers {
        // The kernel puts a filler before each, so that the numbers lie on eight-byte borders.
        outer = outer.nest(&super::attributes::attribute(StatisticsAttribute::Pad, &[]).unwrap()).unwrap();
        let number = super::attributes::attribute(kind, &number.to_ne_bytes()).unwrap();
        outer = outer.nest(&number).unwrap();
    }
    outer.nla_payload().as_ref().to_vec()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::ipvs::arbitrary;

    proptest! {
        #[test]
        fn packed_attributes_unpack_to_the_same_value(statistics in arbitrary::statistics()) {
            prop_assert_eq!(unpack(Some(&pack(&statistics))).unwrap(), statistics);
        }
    }

    #[test]
    fn missing_counters_are_zero() {
        assert_eq!(unpack(None).unwrap(), Statistics::default());
    }
}
