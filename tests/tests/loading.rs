//! Loading and attaching the kernel side: what its maps take, and what becomes of programs on devices that come and go.
//!
//! Needs root, and the object file that `LVS_EBPF_OBJECT` names; `cargo xtask test` sets both up. Where filters are
//! replaced (before Linux 6.6) is only tested on such a kernel.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test: the panic is the message")]

use std::{
    env, fs, mem,
    net::{Ipv4Addr, UdpSocket},
    process::Command,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use aya::{
    programs::{SchedClassifier, TcAttachType},
    util::{KernelVersion, nr_cpus},
};
use lvs_agent::{
    model::{AttachOrder, TcxOrder},
    network::Filters,
    passive::{PassiveError, Programs, Signals, Sizes, in_front_on_tcx},
};
use lvs_common::{EGRESS, INGRESS, UnattributedCounters};
use lvs_tests::lab::{namespace::Namespace, wait};

const DEVICE: &str = "v0";
/// Packets sent while filters are replaced: enough for any machine, and an end in any case.
const MOST: u64 = 5_000_000;

fn load(sizes: Sizes) -> (Programs, Signals) {
    let object = env::var_os("LVS_EBPF_OBJECT").expect("LVS_EBPF_OBJECT names the eBPF object file");
    let object = fs::read(object).expect("the object file can be read");
    Programs::load_object(&object, sizes, 0).expect("programs load; that needs root")
}

fn small() -> (Programs, Signals) {
    load(Sizes::for_endpoints(1))
}

fn run(command: &str) -> Result<String> {
    let mut words = command.split_whitespace();
    let program = words.next().context("an empty command")?;
    let output =
        Command::new(program).args(words).output().with_context(|| format!("{command}: cannot start"))?;
    if !output.status.success() {
        bail!("{command}: {}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn uses_tcx() -> bool {
    KernelVersion::current().unwrap() >= KernelVersion::new(6, 6, 0)
}

/// Two ends of a cable, one of them with an address and nothing that sends by itself.
fn make_device() -> Result<()> {
    run(&format!("ip link add {DEVICE} type veth peer name v1"))?;
    for device in [DEVICE, "v1"] {
        fs::write(format!("/proc/sys/net/ipv6/conf/{device}/disable_ipv6"), "1")?;
        run(&format!("ip link set {device} arp off up"))?;
    }
    run(&format!("ip address add 192.0.2.1/24 dev {DEVICE}"))?;
    Ok(())
}

/// Does `work` in a network namespace that has the device.
fn with_device(work: impl FnOnce() -> Result<()> + Send) {
    let namespace = Namespace::create("loading").unwrap();
    let done = namespace.run(|| {
        // Files about devices are those of the namespace in which /proc/sys is looked at.
        make_device()?;
        work()
    });
    done.unwrap();
}

/// How many programs of ours hang on the device, out and in.
fn hanging() -> Result<[usize; 2]> {
    let mut counts = [0; 2];
    for (count, (name, direction, word)) in counts
        .iter_mut()
        .zip([(EGRESS, TcAttachType::Egress, "egress"), (INGRESS, TcAttachType::Ingress, "ingress")])
    {
        *count = if uses_tcx() {
            let (_, programs) = SchedClassifier::query_tcx(DEVICE, direction)?;
            programs.iter().filter(|program| program.name_as_str() == Some(name)).count()
        } else {
            // The line also has the program's own name.
            let filters = run(&format!("tc filter show dev {DEVICE} {word}"))?;
            filters.lines().filter(|line| line.contains(" handle ") && line.contains(name)).count()
        };
    }
    Ok(counts)
}

/// Waits until none hangs. A tcx link lives as long as anybody has its descriptor, and so has a process that another
/// test of this program is about to start, until it executes its own program.
fn none_hangs(what: &str) -> Result<()> {
    wait::until_true(what, Duration::from_secs(10), || Ok(hanging()? == [0, 0]))
}

/// Sends packets to somebody who isn't there; nothing else leaves by the device.
fn send(packets: usize) -> Result<()> {
    let socket = UdpSocket::bind((Ipv4Addr::new(192, 0, 2, 1), 0))?;
    for _ in 0..packets {
        socket.send_to(b"?", (Ipv4Addr::new(192, 0, 2, 2), 9))?;
    }
    Ok(())
}

/// How many packets the programs have seen.
fn seen(signals: &Signals) -> u64 {
    let UnattributedCounters {
        other_protocol,
        no_server,
        unknown_tunnel,
        fragment,
        malformed,
        vlan,
        extensions,
        ..
    } = signals.unattributed();
    other_protocol + no_server + unknown_tunnel + fragment + malformed + vlan + extensions
}

#[test]
fn the_maps_take_what_was_computed_and_not_too_much() {
    let cpus = u32::try_from(nr_cpus().unwrap()).unwrap();
    for endpoints in [1, 1000, 10_000] {
        let sizes = Sizes::for_endpoints(endpoints);
        let taken = load(sizes).0.memory().unwrap();
        let computed = sizes.memory(cpus);
        println!("{endpoints} endpoints, {cpus} CPUs: {computed} bytes computed, {taken} taken");
        assert!(endpoints > 1000 || taken <= 64 << 20, "{taken} bytes");
        // Older kernels only guess themselves what a map takes.
        if KernelVersion::current().unwrap() >= KernelVersion::new(6, 4, 0) {
            // Constants and the kernel's own heads of maps.
            let allowed = 16 << 10;
            assert!(taken.abs_diff(computed) <= allowed, "{taken} taken, {computed} computed");
        }
    }
}

#[test]
fn attaching_twice_is_attaching_once_and_detaching_leaves_nothing() {
    with_device(|| {
        let (mut kernel, signals) = small();
        for _ in 0..3 {
            kernel.attach(DEVICE)?;
            ensure!(hanging()? == [1, 1], "{:?} hang", hanging()?);
        }
        let before = seen(&signals);
        send(10)?;
        ensure!(seen(&signals) - before == 10, "{} seen", seen(&signals) - before);
        kernel.detach(DEVICE)?;
        none_hangs("none to hang")?;
        kernel.detach(DEVICE)?;
        kernel.attach(DEVICE)?;
        ensure!(hanging()? == [1, 1]);
        drop(kernel);
        none_hangs("dropping it to detach it")?;
        Ok(())
    });
}

#[test]
fn a_device_that_was_made_anew_is_watched_again() {
    with_device(|| {
        let (mut kernel, signals) = small();
        kernel.attach(DEVICE)?;
        run(&format!("ip link del {DEVICE}"))?;
        ensure!(matches!(kernel.attach(DEVICE), Err(PassiveError::Device { .. })), "there is no such device");
        make_device()?;
        none_hangs("none to hang")?;
        kernel.attach(DEVICE)?;
        ensure!(hanging()? == [1, 1]);
        let before = seen(&signals);
        send(10)?;
        ensure!(seen(&signals) - before == 10);
        // And once more behind the agent's back, as another device under the same name.
        run(&format!("ip link del {DEVICE}"))?;
        make_device()?;
        kernel.attach(DEVICE)?;
        ensure!(hanging()? == [1, 1]);
        run(&format!("ip link del {DEVICE}"))?;
        kernel.detach(DEVICE)?;
        ensure!(kernel.devices().next().is_none());
        Ok(())
    });
}

#[test]
fn devices_without_ethernet_are_refused_by_name() {
    with_device(|| {
        let (mut kernel, _) = small();
        let Err(error) = kernel.attach("lo") else { bail!("attached to lo") };
        ensure!(error.to_string().contains("device lo is not an Ethernet device"), "{error}");
        ensure!(kernel.devices().next().is_none());
        Ok(())
    });
}

#[test]
fn filters_of_a_killed_agent_are_replaced_and_no_packet_is_missed_or_counted_twice() {
    if uses_tcx() {
        println!("nothing to replace: tcx links go with the agent that made them");
        return;
    }
    with_device(|| {
        let mut generations: Vec<_> = (0..6).map(|_| small()).collect();
        generations[0].0.attach(DEVICE)?;
        let before = seen(&generations[0].1);
        let over = AtomicBool::new(false);
        let sent = thread::scope(|scope| -> Result<u64> {
            // Threads begin in the namespace of those who start them.
            let sending = scope.spawn(|| -> Result<u64> {
                let mut sent = 0;
                while !over.load(Ordering::Relaxed) && sent < MOST {
                    send(10)?;
                    sent += 10;
                }
                Ok(sent)
            });
            let mut attach_all = || -> Result<()> {
                for (kernel, _) in &mut generations[1..] {
                    kernel.attach(DEVICE)?;
                    ensure!(hanging()? == [1, 1], "{:?} hang", hanging()?);
                }
                Ok(())
            };
            let attached = attach_all();
            over.store(true, Ordering::Relaxed);
            let sent = sending.join().map_err(|_| anyhow!("sending has panicked"))?;
            attached.and(sent)
        })?;
        let each: Vec<u64> = generations.iter().map(|(_, signals)| seen(signals)).collect();
        println!("{sent} sent, {each:?} seen");
        ensure!(each.iter().sum::<u64>() - before == sent, "{sent} sent, {each:?} seen, {before} before");
        ensure!(
            each.iter().filter(|seen| **seen > 0).count() > 2,
            "hardly anything was sent meanwhile: {each:?}"
        );
        // All but the last are as if killed: their filters are gone, and must not be taken off again.
        let last = generations.pop();
        for (kernel, _) in generations {
            mem::forget(kernel);
        }
        drop(last);
        none_hangs("none to hang")?;
        Ok(())
    });
}

#[test]
fn programs_of_others_are_neither_removed_nor_in_the_way() {
    if !uses_tcx() {
        println!("before tcx a second agent takes the first one's place");
        return;
    }
    with_device(|| {
        let (mut first, first_signals) = small();
        let (mut second, second_signals) = small();
        first.attach(DEVICE)?;
        second.attach(DEVICE)?;
        ensure!(hanging()? == [2, 2], "{:?} hang", hanging()?);
        let before = (seen(&first_signals), seen(&second_signals));
        send(10)?;
        ensure!((seen(&first_signals) - before.0, seen(&second_signals) - before.1) == (10, 10));
        second.detach(DEVICE)?;
        ensure!(hanging()? == [1, 1]);
        Ok(())
    });
}

#[test]
fn a_qdisc_that_was_taken_away_comes_back() {
    if uses_tcx() {
        println!("tcx has no qdisc");
        return;
    }
    with_device(|| {
        let (mut kernel, _) = small();
        kernel.attach(DEVICE)?;
        run(&format!("tc qdisc del dev {DEVICE} clsact"))?;
        kernel.attach(DEVICE)?;
        ensure!(hanging()? == [1, 1]);
        run(&format!("tc qdisc del dev {DEVICE} clsact"))?;
        kernel.detach(DEVICE)?;
        Ok(())
    });
}

/// Whose programs come before these on the device, out and in.
fn in_front(programs: &mut Programs) -> Result<[Vec<String>; 2]> {
    let ids = programs.ids().context("the programs have numbers")?;
    in_front_on_tcx(DEVICE, ids).context("who may load programs may also ask for them")
}

#[test]
fn programs_on_tcx_take_the_place_that_was_asked_for_and_those_before_them_are_named() {
    if !uses_tcx() {
        return;
    }
    with_device(|| {
        let attached = |tcx| -> Result<Programs> {
            let (mut programs, _) = small();
            programs.set_order(&AttachOrder { tcx, ..AttachOrder::default() });
            programs.attach(DEVICE)?;
            Ok(programs)
        };
        let others = |count: [usize; 2]| -> [Vec<String>; 2] {
            [vec![EGRESS.to_owned(); count[0]], vec![INGRESS.to_owned(); count[1]]]
        };
        let mut first = attached(TcxOrder::First)?;
        ensure!(in_front(&mut first)? == others([0, 0]));
        // Somebody else comes, and goes first as well.
        let other = attached(TcxOrder::First)?;
        ensure!(in_front(&mut first)? == others([1, 1]), "{:?}", in_front(&mut first)?);
        for (order, before) in [
            (TcxOrder::First, [0, 0]),
            (TcxOrder::Last, [2, 2]),
            // Of that name there are programs out alone.
            (TcxOrder::Before(EGRESS.to_owned()), [0, 0]),
            (TcxOrder::After(EGRESS.to_owned()), [1, 2]),
            (TcxOrder::After("nobody".to_owned()), [2, 2]),
        ] {
            let mut own = attached(order.clone())?;
            ensure!(in_front(&mut own)? == others(before), "{order:?}: {:?}", in_front(&mut own)?);
            drop(own);
            wait::until_true("the last to be gone", Duration::from_secs(10), || Ok(hanging()? == [2, 2]))?;
        }
        drop(other);
        wait::until_true("the other to be gone", Duration::from_secs(10), || {
            Ok(in_front(&mut first)? == others([0, 0]))
        })
    });
}

#[test]
fn a_filter_with_a_lower_priority_hides_packets_and_is_named() {
    if uses_tcx() {
        return;
    }
    with_device(|| {
        run(&format!("tc qdisc add dev {DEVICE} clsact"))?;
        run(&format!("tc filter add dev {DEVICE} egress protocol all prio 50 matchall action ok"))?;
        let index = nix::net::if_::if_nametoindex(DEVICE)?;
        let before = |priority: u16| -> Result<[Vec<String>; 2]> {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            Ok(runtime.block_on(async {
                Filters::connect(Duration::from_secs(10)).await?.before(index, priority).await
            })?)
        };
        for (priority, hidden, others) in
            [(40, false, vec![]), (60, true, vec!["filter \"matchall\" with priority 50".to_owned()])]
        {
            let (mut programs, signals) = small();
            let clsact_priority = priority.try_into()?;
            programs.set_order(&AttachOrder { clsact_priority, ..AttachOrder::default() });
            programs.attach(DEVICE)?;
            let begin = seen(&signals);
            send(10)?;
            let seen = seen(&signals) - begin;
            ensure!(seen == if hidden { 0 } else { 10 }, "{priority}: {seen} seen");
            ensure!(before(priority)? == [others, vec![]], "{priority}: {:?}", before(priority)?);
        }
        Ok(())
    });
}
