//! Addresses that the agent puts on devices, against the running kernel, in a network namespace of its own.
//!
//! Needs root and ip(8). The namespace has no name: it lives as long as the thread that made it.
#![expect(
    clippy::expect_used,
    clippy::unwrap_used,
    reason = "a test ends where something is not as it should be"
)]

use std::{net::IpAddr, process::Command, thread, time::Duration};

use lvs_agent::network::{Added, Addresses, NetworkError};
use nix::sched::{CloneFlags, unshare};

/// For each answer of the kernel. Far more than it needs.
const PATIENCE: Duration = Duration::from_secs(20);

/// Runs `test` on a thread in a new network namespace.
fn in_namespace<F: Future<Output = ()>>(test: impl FnOnce() -> F + Send + 'static) {
    let test = move || {
        unshare(CloneFlags::CLONE_NEWNET).expect("this test needs root: it makes a network namespace");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async { tokio::time::timeout(3 * PATIENCE, test()).await.expect("test hangs") });
    };
    if let Err(panic) = thread::spawn(test).join() {
        std::panic::resume_unwind(panic);
    }
}

/// Runs ip(8) in the calling thread's namespace.
fn ip(arguments: &str) {
    let output = Command::new("ip").args(arguments.split_whitespace()).output().expect("ip(8) is needed");
    assert!(output.status.success(), "ip {arguments}: {}", String::from_utf8_lossy(&output.stderr));
}

/// What the agent adds has its mark, also after it was renewed, and what others add has none.
#[test]
fn addresses_are_added_renewed_and_removed_and_known_by_their_mark() {
    in_namespace(|| async {
        let mut addresses = Addresses::connect(PATIENCE).await.unwrap();
        // Not every kernel has dummy devices.
        ip("link add lvs0 type veth peer name lvs1");
        let devices = addresses.devices().await.unwrap();
        let device = devices.into_iter().find(|one| one.name == "lvs0").unwrap();
        addresses.switch_on(device.index).await.unwrap();
        ip("addr add 192.0.2.1/32 dev lvs0");
        ip("addr add 192.0.2.2/24 dev lvs0");
        let vips: [IpAddr; 2] = ["192.0.2.80".parse().unwrap(), "2001:db8::80".parse().unwrap()];
        let lifetimes = [None, Some(Duration::from_mins(1))];
        for (vip, lifetime) in vips.into_iter().zip(lifetimes) {
            assert_eq!(addresses.add(device.index, vip, lifetime).await, Ok(Added::New));
            assert_eq!(addresses.add(device.index, vip, lifetime).await, Ok(Added::WasThere));
            addresses.renew(device.index, vip, lifetime).await.unwrap();
        }
        let mut found = addresses.list().await.unwrap();
        found.retain(|one| one.device == device.index);
        let own: Vec<_> = found.iter().map(|one| (one.address.to_string(), one.is_own)).collect();
        let expected = [("192.0.2.1", false), ("192.0.2.80", true), ("2001:db8::80", true)]
            .map(|(a, own)| (a.to_owned(), own));
        assert_eq!(own, expected);
        for vip in vips {
            addresses.remove(device.index, vip).await.unwrap();
            addresses.remove(device.index, vip).await.expect("it may be gone");
        }
        let left = addresses.list().await.unwrap();
        assert!(!left.iter().any(|one| one.is_own), "{left:?}");
        ip("link del lvs0");
        let gone = addresses.add(device.index, vips[0], None).await;
        assert_eq!(gone, Err(NetworkError::NoDeviceIndex(device.index)));
        addresses.remove(device.index, vips[0]).await.expect("its device is gone with it");
    });
}
