//! Filters on the clsact qdisc of a device: whose come before the agent's own.

use std::time::Duration;

use neli::{
    consts::rtnl::{Rtm, Tca},
    rtnl::{Tcmsg, TcmsgBuilder},
};
use nix::errno::Errno;

use super::{
    attributes::text,
    error::NetworkError,
    netlink::{Netlink, unbuildable},
};
use crate::netlink::NetlinkError;

/// The hooks of a clsact qdisc, out of the machine and into it (`TC_H_CLSACT` with `TC_H_MIN_EGRESS` or
/// `TC_H_MIN_INGRESS`, `linux/pkt_sched.h`).
const HOOKS: [u32; 2] = [0xffff_fff3, 0xffff_fff2];

/// Reads filters.
pub struct Filters {
    netlink: Netlink,
}

impl Filters {
    /// Those of the calling thread's network namespace. The kernel has `timeout` for each answer.
    pub async fn connect(timeout: Duration) -> Result<Self, NetworkError> {
        let netlink = Netlink::connect(timeout).await;
        Ok(Self { netlink: netlink.map_err(NetworkError::netlink("connect to rtnetlink"))? })
    }

    /// The filters of a device with a priority before this one, by kind: those out of the machine, and those into it.
    /// A device that is gone, or has no such qdisc, has none.
    pub async fn before(&mut self, device: u32, priority: u16) -> Result<[Vec<String>; 2], NetworkError> {
        let [out, into] = HOOKS;
        Ok([self.on(device, out, priority).await?, self.on(device, into, priority).await?])
    }

    async fn on(&mut self, device: u32, hook: u32, priority: u16) -> Result<Vec<String>, NetworkError> {
        let question = || {
            TcmsgBuilder::default()
                .tcm_family(0)
                .tcm_ifindex(device.cast_signed())
                .tcm_handle(0)
                .tcm_parent(hook)
                .tcm_info(0)
                .build()
                .map_err(unbuildable)
        };
        let listed =
            self.netlink.dump(Rtm::Gettfilter.into(), question, |message| name(message, priority)).await;
        match listed {
            Ok(listed) => {
                let mut names: Vec<String> = listed.into_iter().flatten().collect();
                names.dedup();
                Ok(names)
            }
            Err(NetlinkError::Kernel(Errno::EINVAL | Errno::ENODEV | Errno::ENOENT)) => Ok(Vec::new()),
            Err(error) => Err(NetworkError::netlink("read the filters of a device")(error)),
        }
    }
}

/// A filter in words, if it comes before `priority`: kernels keep that in the upper half of `tcm_info`
/// (`net/sched/cls_api.c`, `tcf_fill_node`). A chain that has no filter is listed with handle 0.
fn name(message: &Tcmsg, priority: u16) -> Option<String> {
    let own = u16::try_from(message.tcm_info() >> 16).ok()?;
    if own == 0 || own >= priority || *message.tcm_handle() == 0 {
        return None;
    }
    let kind = text(message.rtattrs(), Tca::Kind)?;
    Some(format!("filter \"{kind}\" with priority {own}"))
}
