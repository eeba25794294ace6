//! What leads a connection to a VIP to one server: the mark of its lane, a source address that the answers come back
//! to, and a source port that no other server's probes have.

use std::{
    io,
    net::{IpAddr, SocketAddr},
};

use socket2::{Domain, Protocol, Socket, Type};

use super::random;
use crate::model::VipLane;

/// How many source ports are tried: others of this director's may be bound there.
const TRIES: u16 = 16;

/// Sets the mark, the source address and the source port by which the server is reached and no other.
pub(super) fn prepare(socket: &Socket, lane: &VipLane, source: Option<IpAddr>) -> io::Result<()> {
    socket.set_mark(lane.mark).map_err(|error| named(&format!("mark {}", lane.mark), &error))?;
    let source = source.map_or_else(|| usual_source(lane), Ok)?;
    let ports = lane.ports.ports();
    let first = random::number();
    let count = u64::from(*ports.end() - *ports.start()) + 1;
    let mut refused = None;
    for step in 0..u64::from(TRIES) {
        let offset = u16::try_from((first % count + step) % count).unwrap_or_default();
        match socket.bind(&SocketAddr::new(source, ports.start() + offset).into()) {
            Ok(()) => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => refused = Some(error),
            Err(error) => return Err(named(&format!("source {source}"), &error)),
        }
    }
    Err(refused.unwrap_or_else(|| io::ErrorKind::AddrInUse.into()))
}

/// The address that the director talks to the server from. The VIP, which it would have by itself, is one of the
/// server's own: it would drop the SYN.
fn usual_source(lane: &VipLane) -> io::Result<IpAddr> {
    let kind = Type::DGRAM.cloexec();
    let socket = Socket::new(Domain::for_address(lane.server), kind, Some(Protocol::UDP))?;
    // Nothing is sent: the kernel only looks for the route.
    socket.connect(&lane.server.into())?;
    let own = socket.local_addr()?.as_socket().map(|address| address.ip());
    own.filter(|own| *own != lane.vip.ip()).ok_or_else(|| {
        let problem = "this director talks to the server from the VIP itself; name another of its addresses as `source`";
        io::Error::new(io::ErrorKind::AddrNotAvailable, problem)
    })
}

/// An error with the setting that it is about.
pub(super) fn named(setting: &str, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{setting}: {error}"))
}
