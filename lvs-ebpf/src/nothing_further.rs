//! Where no service has a second chance, nothing is done with packets out of the director but to watch them.

use aya_ebpf::programs::TcContext;

use crate::{
    client::Client,
    egress::{AttributedPacket, Further},
    unattributed::Unattributed,
};

/// Nothing else is done.
pub(crate) enum Nothing {}

impl Further for Nothing {
    const IS_ANYTHING: bool = false;

    #[inline(always)]
    fn place(_: &Client) -> u32 {
        0
    }

    #[inline(always)]
    fn is_own(_: &AttributedPacket, _: u32) -> bool {
        false
    }

    #[inline(always)]
    fn sent(_: &TcContext, _: &AttributedPacket, _: bool, _: u32, _: u64) -> Result<(), Unattributed> {
        Ok(())
    }
}
