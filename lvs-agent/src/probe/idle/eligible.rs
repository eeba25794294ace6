//! To which servers an idle connection is kept. Pure.

use super::policy::Unasked;
use crate::{
    model::{CheckKind, IdleConnection, Role, Transport, Via, VirtualService},
    probe::target::ProbeTarget,
};

/// Ports whose protocols punish silent clients, or let only few of them in before a login. A check by `connect` or
/// `tcp` does not say what is spoken there.
const PUNISHING: &[u16] = &[
    21,    // FTP: a session and a log line for each
    22,    // SSH: `MaxStartups` drops clients while 10 have not logged in, and each one is logged
    23,    // Telnet: a login process for each
    25,    // SMTP: a client that says nothing looks like a spammer's
    53,    // DNS: `tcp-clients` (150) are all that there may be
    110,   // POP3: a login process for each, and failed logins are counted
    119,   // NNTP: as POP3
    143,   // IMAP: as POP3
    465,   // SMTP over TLS
    563,   // NNTP over TLS
    587,   // submission
    853,   // DNS over TLS
    873,   // rsync: `max connections`
    990,   // FTP over TLS
    993,   // IMAP over TLS
    995,   // POP3 over TLS
    1433,  // SQL Server: a login that times out is an error in its log
    1521,  // Oracle: `INBOUND_CONNECT_TIMEOUT`, each one in the alert log
    3306,  // MySQL: an aborted connect; after `max_connect_errors` (100) the host is blocked
    3389,  // RDP: a session for each
    4190,  // ManageSieve: as IMAP
    5060,  // SIP: a flow that says nothing is cut, and its address may be banned
    5061,  // SIP over TLS
    5432,  // PostgreSQL: a backend process for each, and one place fewer before the login
    6432,  // PostgreSQL behind PgBouncer
    33060, // MySQL's X protocol
];

/// The address to which an idle connection is kept for a server, and what to do if the server speaks unasked; `None`:
/// none is kept.
///
/// It goes where the check goes, from the same source: only what the check can confirm is worth a hint. Where that is
/// the VIP, it goes to the server: IPVS forgets a silent connection after a while.
#[must_use]
pub fn idle_target(service: &VirtualService, role: Role) -> Option<(ProbeTarget, Unasked)> {
    if !Transport::Tcp.comes_to(&service.key) {
        return None;
    }
    let server = service.server_of(role)?.address;
    let found = match service.idle_connection {
        IdleConnection::Off => None,
        IdleConnection::Auto => service.checks_of_role(role).find_map(|check| {
            let target = ProbeTarget::of_server(server, check);
            Some((target, lenience(&check.kind, target.address.port())?))
        }),
        IdleConnection::On => service.checks_of_role(role).next().map(|check| {
            let goes_there = check.kind.transport() == Some(Transport::Tcp);
            let own = ProbeTarget::by(server, check.via.directly());
            (if goes_there { ProbeTarget::of_server(server, check) } else { own }, Unasked::Discard)
        }),
    };
    let (ProbeTarget { address, via, .. }, unasked) =
        found.filter(|(target, _)| target.address.port() != 0)?;
    // Checks of the same server with other limits to their steps share a connection.
    let via = Via { connect_timeout: None, read_timeout: None, ..via };
    Some((ProbeTarget::by(address, via), unasked))
}

/// Whether a protocol that is checked like this lets a client be silent.
fn lenience(kind: &CheckKind, port: u16) -> Option<Unasked> {
    match kind {
        // A server of HTTP waits for a request, and may close with status 408 where none comes (RFC 9110, 15.5.9).
        CheckKind::Http(_) => Some(Unasked::Discard),
        _ if PUNISHING.contains(&port) => None,
        // Who is expected to say something before it is asked greets, as mail servers do.
        CheckKind::Tcp(check) if check.send.is_empty() && check.expect.is_some() => None,
        CheckKind::Connect | CheckKind::Tcp(_) => Some(Unasked::GiveUp),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::native;

    /// What an idle connection to the first server goes to, for a service with these lines.
    fn target(lines: &str, server: &str) -> Option<(String, Unasked)> {
        let text = format!(
            "[[service]]\n{lines}\nforward = \"masquerade\"\n[[service.server]]\naddress = \"{server}\"\n"
        );
        let config =
            native::read(&text, "test.toml".as_ref()).unwrap_or_else(|error| panic!("{error}\n{text}"));
        let (ProbeTarget { address, via, .. }, unasked) = idle_target(&config.services[0], Role::Server(0))?;
        assert_eq!((via.connect_timeout, via.read_timeout), (None, None));
        Some((address.to_string(), unasked))
    }

    #[test]
    fn a_connection_is_kept_where_silence_is_welcome() {
        use Unasked::{Discard, GiveUp};
        let tcp = "address = \"192.0.2.1:80\"\n";
        let cases = [
            ("", "10.0.0.1:8080", Some(("10.0.0.1:8080", GiveUp))),
            ("check = { type = \"http\" }", "10.0.0.1", Some(("10.0.0.1:80", Discard))),
            ("check = { type = \"https\", port = 8443 }", "10.0.0.1", Some(("10.0.0.1:8443", Discard))),
            (
                "check = { type = \"tcp\", send = \"x\", expect = \"y\" }",
                "10.0.0.1",
                Some(("10.0.0.1:80", GiveUp)),
            ),
            ("check = { type = \"tcp\" }", "10.0.0.1:81", Some(("10.0.0.1:81", GiveUp))),
            ("check = { connect-timeout = \"100ms\" }", "10.0.0.1", Some(("10.0.0.1:80", GiveUp))),
            // A check that expects a greeting, those of protocols with logins, and ports where such are spoken.
            ("check = { type = \"tcp\", expect = \"220\" }", "10.0.0.1", None),
            ("check = { type = \"smtp\" }", "10.0.0.1", None),
            ("check = { type = \"mysql\", user = \"lvs\", password = \"x\" }", "10.0.0.1", None),
            ("check = { type = \"ldap\" }", "10.0.0.1", None),
            ("check = { type = \"ping\" }", "10.0.0.1", None),
            ("check = { type = \"on\" }", "10.0.0.1", None),
            ("", "10.0.0.1:22", None),
            ("", "10.0.0.1:3306", None),
            ("check = { port = 3306 }", "10.0.0.1", None),
            ("check = { type = \"http\" }", "10.0.0.1:25", Some(("10.0.0.1:25", Discard))),
            // The first one that suits.
            (
                "check = [{ type = \"ping\" }, { type = \"http\" }]",
                "10.0.0.1",
                Some(("10.0.0.1:80", Discard)),
            ),
            // What the operator says.
            ("idle-connection = \"off\"", "10.0.0.1", None),
            (
                "idle-connection = \"on\"\ncheck = { type = \"smtp\" }",
                "10.0.0.1:25",
                Some(("10.0.0.1:25", Discard)),
            ),
            (
                "idle-connection = \"on\"\ncheck = { type = \"ping\" }",
                "10.0.0.1:25",
                Some(("10.0.0.1:25", Discard)),
            ),
            (
                "idle-connection = \"on\"\ncheck = { port = 99 }",
                "10.0.0.1:25",
                Some(("10.0.0.1:99", Discard)),
            ),
        ];
        for (lines, server, expected) in cases {
            let expected = expected.map(|(address, unasked)| (address.to_owned(), unasked));
            assert_eq!(target(&format!("{tcp}{lines}"), server), expected, "{lines} {server}");
        }
    }

    #[test]
    fn only_tcp_has_connections() {
        let cases = [
            ("address = \"192.0.2.1:53\"\nprotocol = \"udp\"\ncheck = { type = \"http\", port = 80 }", None),
            ("address = \"192.0.2.1:53\"\nprotocol = \"sctp\"\nidle-connection = \"on\"", None),
            ("mark = 7\ncheck = { type = \"http\", port = 80 }", Some("10.0.0.1:80")),
            // There is no port to connect to.
            ("mark = 7\nidle-connection = \"on\"", None),
        ];
        for (lines, expected) in cases {
            let found = target(lines, "10.0.0.1").map(|(address, _)| address);
            assert_eq!(found.as_deref(), expected, "{lines}");
        }
    }
}
