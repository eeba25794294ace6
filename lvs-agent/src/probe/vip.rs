//! Probes to a VIP: when they can be made, and what their failure says.
//!
//! The mark of the lane has the kernel's table send the connection to that server alone. Without the private service it
//! would go to any server of the public one, so that a probe waits until the service is there.

use std::{collections::BTreeSet, io, sync::Arc};

use tokio::{
    sync::watch,
    time::{Instant, sleep_until},
};

use super::{
    FailureReason, LocalFault, Phase, ProbeTarget,
    connect::{self, Handshake},
    context::Deadline,
    outcome::{Answer, VipFailure},
};
use crate::model::{Via, VipLane};

/// The marks whose private services are in the kernel's table as they should be.
pub type ReadyMarks = Arc<BTreeSet<u32>>;

/// What is done where a lane can't be used.
const DOING: &str = "probe the VIP as clients reach it";

/// Waits until the lane's private service is in the kernel's table.
pub(super) async fn ready(
    lane: &VipLane,
    marks: Option<watch::Receiver<ReadyMarks>>,
    end: Instant,
) -> Result<(), FailureReason> {
    let is_ready = async {
        match marks {
            Some(mut marks) => marks.wait_for(|marks| marks.contains(&lane.mark)).await.is_ok(),
            None => false,
        }
    };
    if tokio::time::timeout_at(end, is_ready).await == Ok(true) {
        return Ok(());
    }
    let problem = format!("its private service, {}, is not in the kernel's table", lane.service());
    Err(LocalFault::new(DOING, &io::Error::other(problem)).into())
}

/// Asks the VIP by `work`. If that takes long, the server's own address is asked as well, so that a failure can say
/// where to look.
pub(super) async fn ask(
    target: &ProbeTarget,
    lane: &VipLane,
    deadline: Deadline<'_>,
    work: impl Future<Output = Result<Answer, FailureReason>>,
) -> Result<Answer, FailureReason> {
    let own = ProbeTarget { address: lane.server, via: own_way(&target.via), ..*target };
    let beside = async {
        sleep_until(deadline.half_of_connect()).await;
        match connect::open(own, Handshake::HalfOpen).await {
            // A RST, too, says that the host is there.
            Ok(_) | Err(FailureReason::Refused) => true,
            Err(_) => false,
        }
    };
    tokio::pin!(work, beside);
    let mut server_answers = None;
    loop {
        tokio::select! {
            biased;
            result = &mut work => {
                return result.map_err(|reason| explained(reason, lane, server_answers == Some(true)));
            }
            answers = &mut beside, if server_answers.is_none() => server_answers = Some(answers),
        }
    }
}

/// To the server itself: by its mark the probe is the agent's own, and by the routes.
fn own_way(via: &Via) -> Via {
    Via { source: None, device: None, mark: None, ..via.directly() }
}

/// The same reason with what it says about the VIP.
fn explained(reason: FailureReason, lane: &VipLane, server_answers: bool) -> FailureReason {
    let failure = match reason {
        FailureReason::TimedOut { phase: Phase::Connect } if server_answers => VipFailure::OnlyVipSilent,
        FailureReason::TimedOut { phase: Phase::Connect } => VipFailure::Silent,
        FailureReason::Refused => VipFailure::Refused,
        other => return other,
    };
    FailureReason::AtVip { vip: lane.vip, failure }
}
