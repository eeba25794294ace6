//! Sampled established flows: requests, responses, and data that had to be sent again.

use lvs_common::Flow;

use crate::{
    client::Client,
    maps::FLOWS,
    packet::Transport,
    signal::{self, Origin, Signal},
};

/// The place of one client's flow among the samples of its server, whoever holds it now.
pub(crate) struct Slot {
    flow: &'static mut Flow,
    tag: u64,
}

impl Slot {
    /// Where the client's flow is, if it is sampled.
    #[inline(always)]
    pub(crate) fn of(signal: &Signal, client: &Client) -> Option<Self> {
        let hash = client.hash();
        #[expect(clippy::cast_possible_truncation, reason = "the lowest bits choose the slot")]
        let slot = hash as u32 & (EACH - 1);
        let flow = FLOWS.get_ptr_mut(signal.id.0 * EACH + slot)?;
        // SAFETY: the array lives as long as the program. It is shared by all CPUs: its fields are plain numbers, and a
        // race spoils no more than one flow's sample.
        Some(Self { flow: unsafe { &mut *flow }, tag: hash / u64::from(EACH) + 1 })
    }

    /// Whether this very flow holds the slot.
    #[inline(always)]
    pub(crate) fn is_held(&self) -> bool {
        self.flow.tag == self.tag
    }

    /// Gives the slot to the flow, unless another one that is still active holds it.
    #[inline(always)]
    pub(crate) fn take(&mut self, client: &Client, segment: &Transport, now: u64) -> bool {
        if self.flow.tag != 0 && now.saturating_sub(self.flow.seen_ns) <= Flow::IDLE_NS {
            return false;
        }
        self.flow.seen_ns = now;
        self.flow.progress_ns = now;
        self.flow.request_ns = 0;
        self.flow.again_ns = 0;
        self.flow.reported_ns = 0;
        self.flow.acknowledged = segment.acknowledgement;
        self.flow.sent = segment.sequence;
        self.flow.again = 0;
        self.flow.network = client.network();
        self.flow.tag = self.tag;
        true
    }

    /// The flow is over.
    #[inline(always)]
    pub(crate) fn free(&mut self) {
        if self.is_held() {
            self.flow.tag = 0;
        }
    }

    /// The client will send no more. If it still waits for a response, that is waited for.
    #[inline(always)]
    pub(crate) fn finish(&mut self) {
        if self.flow.request_ns == 0 {
            self.free();
        }
    }

    /// Whether an ICMP message that quotes a segment of the client's with this sequence number is about this flow and
    /// what was sent on it of late (RFC 5927, section 4.1). Each of the client's packets is believed once.
    #[inline(always)]
    pub(crate) fn is_reported(&mut self, sequence: u32, now: u64) -> bool {
        let is_about = self.is_held()
            && self.flow.sent.wrapping_sub(sequence) <= QUOTED_WINDOW
            && self.flow.reported_ns < self.flow.seen_ns;
        if is_about {
            self.flow.reported_ns = now;
        }
        is_about
    }

    /// The client has sent a segment.
    #[inline(always)]
    pub(crate) fn sent(&mut self, signal: &mut Signal, segment: &Transport, now: u64) {
        self.flow.seen_ns = now;
        let progress = is_after(segment.acknowledgement, self.flow.acknowledged);
        if progress {
            self.flow.acknowledged = segment.acknowledgement;
            self.responded(signal, now);
        }
        if segment.payload == 0 {
            return;
        }
        let end = segment.sequence.wrapping_add(segment.payload);
        if is_after(end, self.flow.sent) {
            self.flow.sent = end;
            self.requested(signal, now);
        } else if !progress && !self.is_keep_alive(segment) {
            self.sent_again(signal, now);
        }
    }

    /// The client has taken data from the server.
    #[inline(always)]
    fn responded(&mut self, signal: &mut Signal, now: u64) {
        self.flow.progress_ns = now;
        if self.flow.again != 0 {
            self.flow.again = 0;
            self.flow.again_ns = 0;
        }
        if self.flow.request_ns != 0 {
            signal.counters.responses += 1;
            signal::record_latency(&mut signal.counters.response, self.flow.request_ns, now);
            self.flow.request_ns = 0;
            signal.application_answered(self.flow.network, now);
        }
        signal.application_alive(now);
    }

    /// The client has sent new data. While it waits already, that is more of the same request.
    #[inline(always)]
    fn requested(&mut self, signal: &mut Signal, now: u64) {
        if self.flow.request_ns == 0 {
            self.flow.request_ns = now;
            signal.counters.requests += 1;
            signal
                .wants_application(Origin { network: self.flow.network, connection: self.connection() }, now);
        }
    }

    /// The flow as one connection among others: bits of its hash that have not chosen the slot.
    #[inline(always)]
    #[expect(clippy::cast_possible_truncation, reason = "32 bits of it")]
    fn connection(&self) -> u32 {
        (self.tag >> 26) as u32
    }

    /// A keep-alive that sends the last byte again on an idle connection (RFC 9293, section 3.8.4).
    #[inline(always)]
    fn is_keep_alive(&self, segment: &Transport) -> bool {
        segment.payload == 1 && self.flow.request_ns == 0
    }

    #[inline(always)]
    fn sent_again(&mut self, signal: &mut Signal, now: u64) {
        signal.counters.sent_again += 1;
        let again = &mut signal.state.again;
        // A flow that was counted before the server last proved its life counts anew.
        let counted = self.flow.again != 0 && again.segments != 0 && self.flow.again_ns >= again.since_ns;
        if again.segments == 0 {
            again.since_ns = now;
        }
        again.last_ns = now;
        again.segments += 1;
        again.networks |= 1 << (self.flow.network & 63);
        if !counted {
            again.flows += 1;
        }
        self.flow.again += 1;
        self.flow.again_ns = now;
    }
}

/// How far behind the newest byte a quoted segment may begin: a request of usual size. Of longer ones the last segments
/// are believed.
const QUOTED_WINDOW: u32 = 1 << 16;

#[expect(clippy::cast_possible_truncation, reason = "64")]
const EACH: u32 = Flow::EACH as u32;

/// Whether a sequence number lies behind another, as far as numbers that wrap can tell.
#[inline(always)]
fn is_after(one: u32, other: u32) -> bool {
    one.wrapping_sub(other).cast_signed() > 0
}
