//! Requests and answers over an rtnetlink socket.

use std::{fmt, time::Duration};

use neli::{
    FromBytesWithInput, Size, ToBytes,
    consts::{nl::NlmF, socket::NlFamily},
    err::{RouterError, SocketError},
    nl::{NlPayload, Nlmsghdr},
    router::asynchronous::NlRouter,
    utils::Groups,
};
use nix::errno::Errno;

use crate::netlink::NetlinkError;

/// How often an interrupted dump is started anew before it is given up.
const DUMP_ATTEMPTS: u32 = 5;

/// One rtnetlink socket with one request under way at a time.
///
/// After a timeout or a fault of the socket it is thrown away, and the next request opens a new one: a late answer
/// can't be taken for that of the next request, and a router that has stopped is replaced.
pub(super) struct Netlink {
    timeout: Duration,
    router: Option<NlRouter>,
}

impl Netlink {
    /// Opens a socket in the calling thread's network namespace. `timeout` is for each later request.
    pub(super) async fn connect(timeout: Duration) -> Result<Self, NetlinkError> {
        Ok(Self { timeout, router: Some(open().await?) })
    }

    /// Sends one message and returns what `read` makes of each answer. A dump is drained whole: the router stops for
    /// good once 1,024 answers wait unread.
    pub(super) async fn ask<P, R>(
        &mut self,
        kind: u16,
        flags: NlmF,
        question: P,
        read: impl FnMut(&P) -> R,
    ) -> Result<Vec<R>, NetlinkError>
    where
        P: Size + ToBytes + FromBytesWithInput<Input = usize> + fmt::Debug,
    {
        let exchange = exchange(&mut self.router, (kind, flags), question, read);
        let outcome = match tokio::time::timeout(self.timeout, exchange).await {
            Ok(outcome) => outcome,
            Err(_elapsed) => Err(NetlinkError::Timeout(self.timeout)),
        };
        if matches!(outcome, Err(NetlinkError::Timeout(_) | NetlinkError::Socket(_))) {
            self.router = None;
        }
        outcome
    }

    /// Dumps a list, from the beginning again where the kernel says that it changed meanwhile.
    pub(super) async fn dump<P, R>(
        &mut self,
        kind: u16,
        question: impl Fn() -> Result<P, NetlinkError>,
        mut read: impl FnMut(&P) -> R,
    ) -> Result<Vec<R>, NetlinkError>
    where
        P: Size + ToBytes + FromBytesWithInput<Input = usize> + fmt::Debug,
    {
        for _ in 0..DUMP_ATTEMPTS {
            match self.ask(kind, NlmF::DUMP, question()?, &mut read).await {
                Err(NetlinkError::Unsteady) => {}
                outcome => return outcome,
            }
        }
        Err(NetlinkError::Unsteady)
    }
}

async fn open() -> Result<NlRouter, NetlinkError> {
    // The second half is for multicast groups, of which there are none.
    let (router, _multicast) =
        NlRouter::connect(NlFamily::Route, None, Groups::empty()).await.map_err(router_error)?;
    Ok(router)
}

async fn exchange<P, R>(
    router: &mut Option<NlRouter>,
    (kind, flags): (u16, NlmF),
    question: P,
    mut read: impl FnMut(&P) -> R,
) -> Result<Vec<R>, NetlinkError>
where
    P: Size + ToBytes + FromBytesWithInput<Input = usize> + fmt::Debug,
{
    let router = match router {
        Some(router) => router,
        None => router.insert(open().await?),
    };
    let mut answers = router
        .send::<u16, P, u16, P>(kind, flags, NlPayload::Payload(question))
        .await
        .map_err(router_error)?;
    let mut collected = Vec::new();
    let mut steady = true;
    while let Some(answer) = answers.next::<u16, P>().await {
        let answer = answer.map_err(router_error)?;
        steady &= !answer.nl_flags().contains(NlmF::DUMP_INTR);
        check_end_of_dump(&answer)?;
        collected.extend(answer.get_payload().map(&mut read));
    }
    if steady { Ok(collected) } else { Err(NetlinkError::Unsteady) }
}

/// The last message of a dump carries an error number of its own, which neli passes on as an ordinary message.
fn check_end_of_dump<P>(answer: &Nlmsghdr<u16, P>) -> Result<(), NetlinkError> {
    match answer.nl_payload() {
        NlPayload::DumpExtAck(end) if *end.error() != 0 => Err(kernel_error(*end.error())),
        _ => Ok(()),
    }
}

/// `code` is negative, as it travels.
fn kernel_error(code: i32) -> NetlinkError {
    NetlinkError::Kernel(Errno::from_raw(code.saturating_neg()))
}

fn router_error<T: fmt::Debug, P: fmt::Debug>(error: RouterError<T, P>) -> NetlinkError {
    match error {
        RouterError::Nlmsgerr(refusal) => kernel_error(*refusal.error()),
        RouterError::Socket(SocketError::Io(error)) => NetlinkError::Socket(error.to_string()),
        other => NetlinkError::Socket(other.to_string()),
    }
}

/// A message that couldn't be put together: more attributes or bytes than netlink has room for.
pub(super) fn unbuildable(error: impl fmt::Display) -> NetlinkError {
    NetlinkError::Socket(format!("message can't be built: {error}"))
}
