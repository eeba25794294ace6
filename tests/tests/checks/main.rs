//! Each check against a real server of its protocol: Debian's packages, unpacked and mounted where their files belong,
//! in a mount namespace of their own. Needs root, and `$LVS_CHECK_SERVERS` (which `cargo xtask test --only checks`
//! sets).
#![cfg(test)]

mod certificates;
mod client;
mod database;
mod directory;
mod dns;
mod http;
#[cfg(feature = "measure")]
mod load;
mod mail;
mod news_and_files;
mod server;
mod telephony_and_access;
mod tls;

use std::net::SocketAddr;

use lvs_agent::{
    config,
    model::Check,
    probe::{FailureReason, Probe as _, ProbeTarget, Prober},
};

/// The check that a configuration says, such as `type = "http"`. By firewall mark it may come over TCP and UDP.
fn check(keys: &str) -> Check {
    let text = format!(
        "[[service]]\nmark = 1\n\
         check = {{ {keys}, interval = \"20s\", timeout = \"20s\" }}\n\
         [[service.server]]\naddress = \"127.0.0.1:80\"\nforward = \"masquerade\"\n"
    );
    let config = config::native::read(&text, "test.toml".as_ref());
    config.unwrap_or_else(|error| panic!("{error}")).services.remove(0).check
}

/// What comes of a check of `port` on this machine.
async fn ask(port: u16, keys: &str) -> Result<(), FailureReason> {
    let check = check(keys);
    let target = ProbeTarget::of_check(SocketAddr::from(([127, 0, 0, 1], port)), &check);
    let outcome = Prober::new().probe(target, &check.kind, check.timeout).await;
    outcome.map(drop).map_err(|failure| failure.reason)
}

/// The check must succeed.
async fn assert_passes(port: u16, keys: &str) {
    let result = ask(port, keys).await;
    assert_eq!(result, Ok(()), "{keys}");
}

/// The check must fail, and the reason must have these words.
async fn assert_fails(port: u16, keys: &str, words: &str) {
    let reason = ask(port, keys).await.expect_err(keys);
    assert!(reason.to_string().contains(words), "{keys}: {reason}");
}
