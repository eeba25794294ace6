//! The same failure through IPv6, tunnels of every kind, VLANs, bonds and bridges: the same times.

use std::time::Duration;

use anyhow::Result;
use lvs_tests::{
    lab::{
        faults::Fault,
        layout::{
            Encapsulation,
            Family::{V4, V6},
            Layout, Link, Method,
        },
    },
    testbed::Setup,
};

use crate::expect_failover::{Limits, expect_failovers};

/// A server loses its power, and another one's process is killed.
fn fails_in_time(layout: Layout) -> Result<()> {
    let mut setup = Setup::of(layout).rate(200.0).distance(Duration::from_millis(1));
    if layout.link == Link::StackedVlans {
        // On the device below, the inner tag is in the packets' bytes.
        setup.config = setup.config.devices(&["lan"]);
    }
    let killed = if layout.method.sees_answers() { Limits::ms(20, 40) } else { Limits::ms(100, 150) };
    expect_failovers(&setup, &[(Fault::LinkDown, Limits::ms(100, 250)), (Fault::ProcessKilled, killed)])
        .map(drop)
}

fn tunnel(encapsulation: Encapsulation) -> Layout {
    Layout::new(Method::Tunnel(encapsulation))
}

#[test]
#[ignore = "needs root, IPVS and the agent: cargo xtask test"]
fn a_masqueraded_server_fails_over_ipv6() -> Result<()> {
    fails_in_time(Layout::new(Method::Masquerade).families(V6, V6))
}

#[test]
#[ignore = "needs root, IPVS and the agent: cargo xtask test"]
fn a_directly_routed_server_fails_over_ipv6() -> Result<()> {
    fails_in_time(Layout::new(Method::DirectRoute).families(V6, V6))
}

#[test]
#[ignore = "needs root, IPVS and the agent: cargo xtask test"]
fn a_tunnelled_server_fails_whichever_family_is_in_which() -> Result<()> {
    for (inner, outer) in [(V6, V6), (V6, V4), (V4, V6)] {
        fails_in_time(tunnel(Encapsulation::Ipip).families(inner, outer))?;
    }
    Ok(())
}

#[test]
#[ignore = "needs root, IPVS and the agent: cargo xtask test"]
fn a_server_fails_behind_gre() -> Result<()> {
    fails_in_time(tunnel(Encapsulation::Gre))?;
    fails_in_time(tunnel(Encapsulation::Gre).families(V6, V4))
}

#[test]
#[ignore = "needs root, IPVS and the agent: cargo xtask test"]
fn a_server_fails_behind_gue() -> Result<()> {
    fails_in_time(tunnel(Encapsulation::Gue))?;
    fails_in_time(tunnel(Encapsulation::Gue).families(V6, V4))
}

#[test]
#[ignore = "needs root, IPVS and the agent: cargo xtask test"]
fn a_server_fails_behind_a_vlan() -> Result<()> {
    fails_in_time(Layout::new(Method::DirectRoute).link(Link::Vlan))
}

#[test]
#[ignore = "needs root, IPVS and the agent: cargo xtask test"]
fn a_server_fails_behind_a_tag_in_the_packet() -> Result<()> {
    fails_in_time(Layout::new(Method::Masquerade).link(Link::StackedVlans))
}

#[test]
#[ignore = "needs root, IPVS and the agent: cargo xtask test"]
fn a_server_fails_behind_a_bond() -> Result<()> {
    fails_in_time(Layout::new(Method::DirectRoute).link(Link::Bond))
}

#[test]
#[ignore = "needs root, IPVS and the agent: cargo xtask test"]
fn a_server_fails_behind_a_bridge() -> Result<()> {
    fails_in_time(Layout::new(Method::Masquerade).link(Link::Bridge))
}
