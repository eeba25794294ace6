//! The programs that are measured, and the servers that they know.

use std::{
    env, fs,
    net::SocketAddr,
    path::{Path, PathBuf},
};

use aya::{
    Ebpf,
    maps::HashMap,
    programs::{ProgramInfo, SchedClassifier, TestRun as _, TestRunOptions},
};
use lvs_agent::{
    model::SecondChance,
    passive::{self, KeptSyns, Signals, Sizes, WireKey},
};
use lvs_common::{
    EGRESS, EGRESS_CHANCE, EndpointKey4, EndpointKey6, EndpointKind, INGRESS, INGRESS_CHANCE, ServerId,
    chance, mapped,
};
use lvs_tests::packets::builder::{Frame, protocol};

pub(crate) const PARSE: &str = "reference_parse";
pub(crate) const COUNT: &str = "reference_count";
/// In how many pieces runs are made.
const PARTS: u32 = 20;
/// A director of this size; the ones that are measured are among them.
const SERVERS: u32 = 1000;

pub(crate) const MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];

pub(crate) fn socket(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

pub(crate) struct Programs {
    kernel: passive::Programs,
    /// The same with second chance for every server.
    second_chance: passive::Programs,
    reference: Ebpf,
    _maps: (Signals, Signals, KeptSyns),
}

/// How large a loaded program is.
pub(crate) struct ProgramSize {
    pub(crate) instructions: u32,
    pub(crate) machine_code: u32,
    pub(crate) verified: u32,
}

impl Programs {
    pub(crate) fn load() -> Self {
        let own = path("LVS_EBPF_OBJECT");
        let (kernel, signals) = kernel_side(&own, SecondChance::Off);
        let with_chance = own.with_file_name("lvs-second-chance");
        let (mut second_chance, further_signals) = kernel_side(&with_chance, SecondChance::On);
        let mut kept =
            second_chance.take_kept_syns().unwrap().expect("programs with second chance keep SYNs");
        for id in 0..SERVERS {
            kept.set_chance(ServerId(id), chance::HOLD);
        }
        let mut reference = Ebpf::load(&read(&path("LVS_REFERENCE_OBJECT"))).expect("references load");
        for name in [PARSE, COUNT] {
            classifier(&mut reference, name).load().expect("a reference loads");
        }
        let mut endpoints: HashMap<_, [u8; 16], u32> =
            reference.map_mut("REFERENCE_ENDPOINTS").unwrap().try_into().unwrap();
        for (id, key) in (0..).zip(keys()) {
            if let WireKey::V4(key) = key {
                endpoints.insert(bytemuck::cast::<_, [u8; 16]>(key), id, 0).unwrap();
            }
        }
        Self { kernel, second_chance, reference, _maps: (signals, further_signals, kept) }
    }

    fn program(&mut self, name: &'static str) -> &mut SchedClassifier {
        match name {
            PARSE | COUNT => classifier(&mut self.reference, name),
            EGRESS_CHANCE | INGRESS_CHANCE => self.second_chance.program(name).unwrap(),
            name => self.kernel.program(name).unwrap(),
        }
    }

    /// Runs a program so many times on one frame and returns ns a run, as the kernel has measured it: without the time
    /// in which another process had the CPU.
    pub(crate) fn run(&mut self, name: &'static str, frame: &Frame, times: u32) -> f64 {
        // The kernel tells whole ns; the mean of several is finer.
        let (parts, repeat) = if times > 1 { (PARTS, times / PARTS) } else { (1, 1) };
        let program = self.program(name);
        let sum: f64 = (0..parts)
            .map(|_| {
                let options = TestRunOptions { data_in: Some(&frame.bytes), repeat, ..TestRunOptions::new() };
                program.test_run(options).expect("BPF_PROG_TEST_RUN").duration.as_secs_f64() * 1e9
            })
            .sum();
        sum / f64::from(parts)
    }

    pub(crate) fn sizes(&mut self) -> Vec<(&'static str, ProgramSize)> {
        let info = |info: ProgramInfo| ProgramSize {
            instructions: info.size_translated().unwrap_or(0) / 8,
            machine_code: info.size_jitted(),
            verified: info.verified_instruction_count().unwrap_or(0),
        };
        [PARSE, COUNT, EGRESS, INGRESS, EGRESS_CHANCE, INGRESS_CHANCE]
            .into_iter()
            .map(|name| (name, info(self.program(name).info().unwrap())))
            .collect()
    }
}

fn path(variable: &str) -> PathBuf {
    env::var_os(variable).unwrap_or_else(|| panic!("{variable} names an object file")).into()
}

fn read(object: &Path) -> Vec<u8> {
    fs::read(object).expect("the object file can be read")
}

/// The programs, which know all servers.
fn kernel_side(object: &Path, second_chance: SecondChance) -> (passive::Programs, Signals) {
    let sizes = Sizes { servers: SERVERS, handshakes: 65_536, second_chance };
    let (mut programs, signals) =
        passive::Programs::load_object(&read(object), sizes, 0).expect("programs load");
    for (id, key) in (0..).zip(keys()) {
        programs.watch(&key, ServerId(id)).unwrap();
    }
    (programs, signals)
}

fn classifier<'a>(ebpf: &'a mut Ebpf, name: &str) -> &'a mut SchedClassifier {
    ebpf.program_mut(name).unwrap().try_into().unwrap()
}

/// As many servers as there are ids, those of the cases among them.
fn keys() -> impl Iterator<Item = WireKey> {
    let four = |kind, address: [u8; 4], port: u16, protocol, link| {
        let port = port.to_be_bytes();
        WireKey::V4(EndpointKey4 { address, port, protocol, kind: kind as u8, link })
    };
    let six = |kind, address: [u8; 16], link| {
        let (port, protocol) = (80_u16.to_be_bytes(), protocol::TCP);
        WireKey::V6(EndpointKey6 { address, port, protocol, kind: kind as u8, zero: [0; 4], link })
    };
    let server6 = [0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
    let mut link = [0; 8];
    link[..MAC.len()].copy_from_slice(&MAC);
    let special = [
        four(EndpointKind::Address, [10, 0, 0, 1], 80, protocol::TCP, [0; 8]),
        four(EndpointKind::Address, [10, 0, 0, 1], 53, protocol::UDP, [0; 8]),
        four(EndpointKind::Link, [192, 0, 2, 80], 80, protocol::TCP, link),
        four(EndpointKind::Tunnel, [192, 0, 2, 80], 80, protocol::TCP, [10, 0, 1, 1, 0, 0, 0, 0]),
        six(EndpointKind::Address, server6, [0; 16]),
        six(EndpointKind::Tunnel, mapped([192, 0, 2, 80]), mapped([10, 0, 1, 1])),
    ];
    let others = (0..).map(move |n: u16| {
        let [high, low] = n.to_be_bytes();
        four(EndpointKind::Address, [10, 1, high, low], 80, protocol::TCP, [0; 8])
    });
    special.into_iter().chain(others).take(SERVERS as usize)
}
