//! This host's own addresses, and that they have changed.

use std::{collections::BTreeSet, net::IpAddr, time::Duration};

use neli::{
    consts::rtnl::{Ifa, IfaF, RtAddrFamily, RtScope, Rtm},
    rtnl::{Ifaddrmsg, IfaddrmsgBuilder},
};
use tokio::{sync::watch, time::sleep};
use tokio_util::sync::CancellationToken;

use super::{
    attributes::{address, find},
    change::NetworkChanges,
    error::NetworkError,
    netlink::{Netlink, unbuildable},
};
use crate::{netlink::NetlinkError, supervision::Restartable};

/// From a failure to the next try.
const PAUSE: Duration = Duration::from_secs(1);

/// The task that follows the addresses of the network namespace that it was made in.
pub(crate) struct OwnAddresses {
    timeout: Duration,
    /// `None`: they are not known yet.
    known: watch::Sender<Option<BTreeSet<IpAddr>>>,
}

impl OwnAddresses {
    /// Reads them once. The kernel has `timeout` for each answer.
    pub(crate) async fn read(timeout: Duration) -> Self {
        let first = read(timeout).await.inspect_err(|error| tracing::warn!(%error, "trying again")).ok();
        Self { timeout, known: watch::channel(first).0 }
    }

    /// The addresses from now on.
    pub(crate) fn known(&self) -> watch::Receiver<Option<BTreeSet<IpAddr>>> {
        self.known.subscribe()
    }

    /// Follows them until something fails.
    async fn follow(&self) -> Result<(), NetworkError> {
        // It listens first and reads second, so that nothing falls between the two.
        let changes = NetworkChanges::of_addresses()?;
        loop {
            let now = Some(read(self.timeout).await?);
            self.known.send_if_modified(|known| {
                let is_other = *known != now;
                *known = now;
                is_other
            });
            changes.next().await?;
        }
    }
}

impl Restartable for OwnAddresses {
    async fn run(&mut self, shutdown: &CancellationToken) {
        let following = async {
            loop {
                if let Err(error) = self.follow().await {
                    tracing::warn!(%error, "this host's addresses can't be followed; trying again");
                }
                sleep(PAUSE).await;
            }
        };
        shutdown.run_until_cancelled(following).await;
    }
}

/// The addresses that packets may be sent to: not those that another host has as well (RFC 4862).
async fn read(timeout: Duration) -> Result<BTreeSet<IpAddr>, NetworkError> {
    let failed = || NetworkError::netlink("read this host's addresses");
    let mut netlink = Netlink::connect(timeout).await.map_err(failed())?;
    let addresses = netlink.dump(Rtm::Getaddr.into(), question, own).await.map_err(failed())?;
    Ok(addresses.into_iter().flatten().collect())
}

fn question() -> Result<Ifaddrmsg, NetlinkError> {
    IfaddrmsgBuilder::default()
        .ifa_family(RtAddrFamily::Unspecified)
        .ifa_prefixlen(0)
        .ifa_scope(RtScope::Universe)
        .ifa_index(0)
        .build()
        .map_err(unbuildable)
}

/// `IFA_LOCAL` is the host's own where `IFA_ADDRESS` is the other end's (`linux/if_addr.h`); IPv6 has the latter only.
fn own(message: &Ifaddrmsg) -> Option<IpAddr> {
    let attributes = message.rtattrs();
    let bytes = find(attributes, Ifa::Local).or_else(|| find(attributes, Ifa::Address))?;
    address(bytes).filter(|_| !message.ifa_flags().contains(IfaF::DADFAILED))
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use neli::FromBytesWithInput;
    use proptest::prelude::*;

    use super::*;
    use crate::network::attributes::attribute;

    fn message(flags: IfaF, attributes: &[(Ifa, &[u8])]) -> Ifaddrmsg {
        IfaddrmsgBuilder::default()
            .ifa_family(RtAddrFamily::Inet)
            .ifa_prefixlen(32)
            .ifa_scope(RtScope::Universe)
            .ifa_index(1)
            .ifa_flags(flags)
            .rtattrs(attributes.iter().map(|(kind, bytes)| attribute(*kind, bytes).unwrap()).collect())
            .build()
            .unwrap()
    }

    #[test]
    fn the_hosts_own_end_counts_and_no_address_that_another_host_has() {
        let (own_end, other_end) = ((Ifa::Local, &[10, 0, 0, 1][..]), (Ifa::Address, &[10, 0, 0, 2][..]));
        let v6 = [0xfd; 16];
        let cases = [
            (message(IfaF::PERMANENT, &[other_end, own_end]), Some(IpAddr::from([10, 0, 0, 1]))),
            (message(IfaF::TENTATIVE, &[(Ifa::Address, &v6)]), Some(IpAddr::from(v6))),
            (message(IfaF::DADFAILED, &[(Ifa::Address, &v6)]), None),
            (message(IfaF::PERMANENT, &[]), None),
        ];
        for (message, expected) in cases {
            assert_eq!(own(&message), expected);
        }
    }

    #[tokio::test]
    async fn the_loopbacks_address_is_this_hosts_own() {
        let known = OwnAddresses::read(Duration::from_secs(5)).await.known();
        // Without a loopback that is up there is none.
        let is_read = known.borrow().as_ref().is_some_and(|own| own.iter().all(|one| !one.is_unspecified()));
        assert!(is_read);
    }

    proptest! {
        #[test]
        fn any_bytes_give_an_address_or_none(bytes: Vec<u8>) {
            if let Ok(message) = Ifaddrmsg::from_bytes_with_input(&mut Cursor::new(&bytes), bytes.len()) {
                own(&message);
            }
        }
    }
}
