//! keepalived's configuration, where the agent is compared with it.

use std::net::SocketAddr;

use crate::lab::layout::{Layout, Method, PORT};

/// A service of keepalived's, with this check of each server.
pub(super) fn keepalived_config(
    layout: Layout,
    servers: &[SocketAddr],
    check: fn(&SocketAddr) -> String,
) -> String {
    let kind = match layout.method {
        Method::Masquerade => "NAT",
        Method::DirectRoute => "DR",
        Method::Tunnel(_) => "TUN",
    };
    let server = |server: &SocketAddr| {
        let (ip, check) = (server.ip(), check(server));
        format!("  real_server {ip} {PORT} {{\n    weight 1\n{check}  }}\n")
    };
    let vip = layout.service().ip();
    let servers = servers.iter().map(server).collect::<Vec<_>>().concat();
    format!(
        "virtual_server {vip} {PORT} {{\n  delay_loop 0.1\n  lb_algo rr\n  lb_kind {kind}\n  protocol TCP\n{servers}}}\n"
    )
}

/// The shortest times that keepalived takes.
pub(super) fn tcp_check(_: &SocketAddr) -> String {
    "    TCP_CHECK {\n      connect_timeout 0.1\n      retry 1\n      delay_before_retry 0.05\n      warmup 0\n    }\n"
        .to_owned()
}
