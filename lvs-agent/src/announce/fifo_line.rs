//! Lines as keepalived writes them to `notify_fifo` and `lvs_notify_fifo` (keepalived.conf(5); `notify_fifo_vs` and
//! `notify_fifo_rs` in its `ipwrapper.c`). Pure.

use std::net::IpAddr;

use crate::{
    event::Event,
    health::Transition,
    model::{DestinationKey, ServiceKey},
    pool::PoolEvent,
};

/// The line about an event, if keepalived has one: that a virtual service has its quorum or has lost it, or that a real
/// server is up or down by its checks.
pub(super) fn of(event: &Event) -> Option<String> {
    match event {
        Event::Pool { key, change: PoolEvent::QuorumBack, .. } => Some(format!("VS {} UP\n", service(key))),
        Event::Pool { key, change: PoolEvent::QuorumLost, .. } => Some(format!("VS {} DOWN\n", service(key))),
        Event::Transition { subject, transition: Transition { from, to }, .. } => {
            let state = match (from.is_up(), to.is_up()) {
                (false, true) => "UP",
                // It was down before, or is not known to be so now.
                _ if from.is_down() || !to.is_down() => return None,
                _ => "DOWN",
            };
            let DestinationKey { service: key, server } = &subject.destination;
            let server = at(server.ip(), &protocol(key), server.port());
            Some(format!("RS {server} {} {state}\n", service(key)))
        }
        _ => None,
    }
}

fn service(key: &ServiceKey) -> String {
    match key {
        ServiceKey::Address { address, .. } => at(address.ip(), &protocol(key), address.port()),
        ServiceKey::Mark { mark, .. } => format!("FWM {mark}"),
    }
}

fn protocol(key: &ServiceKey) -> String {
    match key {
        ServiceKey::Address { protocol, .. } => protocol.to_string(),
        ServiceKey::Mark { .. } => "none".to_owned(),
    }
}

fn at(address: IpAddr, protocol: &str, port: u16) -> String {
    format!("[{address}]:{protocol}:{port}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        event::Subject,
        health::{Cause, State},
        model::{AddressFamily, Protocol},
        probe::{Failure, FailureReason},
    };

    #[test]
    fn lines_are_those_of_keepalived() {
        let web = ServiceKey::Address { protocol: Protocol::Tcp, address: "192.0.2.80:80".parse().unwrap() };
        let dns =
            ServiceKey::Address { protocol: Protocol::Udp, address: "[2001:db8::53]:53".parse().unwrap() };
        let mark = ServiceKey::Mark { mark: 7, family: AddressFamily::V4 };
        let pool = |key, change| of(&Event::Pool { service: "web".into(), key, change });
        assert_eq!(pool(web, PoolEvent::QuorumBack).as_deref(), Some("VS [192.0.2.80]:tcp:80 UP\n"));
        assert_eq!(pool(dns, PoolEvent::QuorumLost).as_deref(), Some("VS [2001:db8::53]:udp:53 DOWN\n"));
        assert_eq!(pool(mark, PoolEvent::QuorumBack).as_deref(), Some("VS FWM 7 UP\n"));
        assert_eq!(pool(web, PoolEvent::BackupsIn), None);
        let down = State::Down { cause: Cause::Fast, baseline: 0 };
        let server = |service, from, to| {
            let destination = DestinationKey { service, server: "10.0.0.1:8080".parse().unwrap() };
            let subject = Subject { service: "web".into(), destination };
            let outcome = Err(Failure { reason: FailureReason::Refused, after: std::time::Duration::ZERO });
            of(&Event::Transition { subject, transition: Transition { from, to }, outcome, relapses: 0 })
        };
        let line = |state: &str| Some(format!("RS [10.0.0.1]:tcp:8080 [192.0.2.80]:tcp:80 {state}\n"));
        let suspect = State::Suspect { baseline: 1, confirm: 0 };
        let unknown = State::Unknown { failures: 0 };
        assert_eq!(server(web, unknown, State::Up), line("UP"));
        assert_eq!(server(web, State::Up, suspect), None);
        assert_eq!(server(web, suspect, State::Up), None);
        assert_eq!(server(web, suspect, down), line("DOWN"));
        assert_eq!(server(web, unknown, down), line("DOWN"));
        assert_eq!(server(web, down, State::Down { cause: Cause::Baseline, baseline: 3 }), None);
        assert_eq!(server(web, down, State::Recovering { successes: 1 }), None);
        assert_eq!(server(web, State::Recovering { successes: 1 }, State::Up), line("UP"));
        let of_mark = server(mark, suspect, down);
        assert_eq!(of_mark.as_deref(), Some("RS [10.0.0.1]:none:8080 FWM 7 DOWN\n"));
    }
}
