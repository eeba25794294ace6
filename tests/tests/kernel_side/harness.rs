//! Freshly loaded programs, run on one frame after another.

use std::{array, env, fs, path::PathBuf};

use aya::{
    maps::{HashMap, MapData, RingBuf},
    programs::{TestRun as _, TestRunOptions},
};
use lvs_agent::{
    model::SecondChance,
    passive::{Programs, Signals, Sizes},
};
use lvs_common::{
    EGRESS, EGRESS_CHANCE, Edge, EdgeKind, Handshake, HandshakeKey, INGRESS, INGRESS_CHANCE, ServerAnswered,
    ServerCounters, ServerId, ServerState, ServerWaiting, UnattributedCounters, map,
};
use lvs_tests::packets::{attribution::Direction, builder::Frame};

use crate::fixture::{Fixture, SERVERS};

/// `TC_ACT_UNSPEC`: the verdict is left to others.
pub(crate) const PASS: u32 = u32::MAX;

type RawHandshakeKey = [u8; size_of::<HandshakeKey>()];
type RawHandshake = [u8; size_of::<Handshake>()];

/// Out of the director, without a mark.
pub(crate) const OUT: Direction = Direction::Out(0);

/// The programs, which know the servers of a fixture.
pub(crate) struct Harness {
    pub(crate) kernel: Programs,
    /// The programs' names, out of the director and into it.
    names: [&'static str; 2],
    pub(crate) signals: Signals,
    edges: RingBuf<MapData>,
    after: Vec<u8>,
    /// Those that were counted at the last [`Harness::clear`].
    unattributed: UnattributedCounters,
}

impl Harness {
    pub(crate) fn new() -> Self {
        Self::of(&Fixture::default())
    }

    pub(crate) fn of(fixture: &Fixture) -> Self {
        Self::with(fixture, SecondChance::Off)
    }

    pub(crate) fn with(fixture: &Fixture, second_chance: SecondChance) -> Self {
        let object = env::var_os("LVS_EBPF_OBJECT").expect("LVS_EBPF_OBJECT names the eBPF object file");
        let object = match second_chance {
            SecondChance::Off => PathBuf::from(object),
            // It lies beside the other one.
            SecondChance::On => PathBuf::from(object).with_file_name("lvs-second-chance"),
        };
        let object = fs::read(object).expect("the object file can be read");
        let sizes = Sizes { servers: SERVERS, handshakes: 1024, second_chance };
        let (mut kernel, signals) =
            Programs::load_object(&object, sizes, 0).expect("programs load; that needs root");
        for (key, id) in fixture.keys() {
            kernel.watch(&key, ServerId(id)).unwrap();
        }
        let edges = kernel.take_edges().unwrap();
        let names = match second_chance {
            SecondChance::Off => [EGRESS, INGRESS],
            SecondChance::On => [EGRESS_CHANCE, INGRESS_CHANCE],
        };
        Self {
            kernel,
            names,
            signals,
            edges,
            after: Vec::new(),
            unattributed: UnattributedCounters::default(),
        }
    }

    /// Runs one program on one frame. It must leave the verdict and every byte alone.
    pub(crate) fn run(&mut self, direction: Direction, frame: &Frame) {
        assert_eq!(self.verdict(direction, frame), PASS, "the programs only watch");
    }

    /// The same, of a program that may hold a packet back; what it says.
    pub(crate) fn verdict(&mut self, direction: Direction, frame: &Frame) -> u32 {
        let (program, mark) = match direction {
            Direction::Out(mark) => (self.names[0], mark),
            Direction::In => (self.names[1], 0),
        };
        let bytes = &frame.bytes;
        self.after.resize(bytes.len() + 64, 0);
        let context = skb_with_mark(mark);
        let options = TestRunOptions {
            data_in: Some(bytes),
            data_out: Some(&mut self.after),
            ctx_in: Some(&context),
            ..TestRunOptions::new()
        };
        let result = self.kernel.program(program).unwrap().test_run(options).expect("BPF_PROG_TEST_RUN");
        let length = usize::try_from(result.data_size_out).unwrap();
        assert_eq!(&self.after[..length], bytes, "the programs change nothing");
        result.return_value
    }

    /// Forgets everything but the servers: loading the programs anew takes far longer.
    pub(crate) fn clear(&mut self) {
        for id in 0..SERVERS {
            self.signals.reset(ServerId(id));
        }
        self.unattributed = self.signals.unattributed();
        self.edges();
        let map = self.kernel.ebpf_mut().map_mut(map::HANDSHAKES).expect("nobody has taken it");
        let mut handshakes = HashMap::<_, RawHandshakeKey, RawHandshake>::try_from(map).unwrap();
        let keys: Vec<_> = handshakes.keys().map(Result::unwrap).collect();
        for key in keys {
            handshakes.remove(&key).unwrap();
        }
    }

    /// Packets without a server since the last [`Harness::clear`].
    pub(crate) fn unattributed(&self) -> UnattributedCounters {
        let now: [u64; 16] = bytemuck::cast(self.signals.unattributed());
        let before: [u64; 16] = bytemuck::cast(self.unattributed);
        bytemuck::cast(array::from_fn::<_, 16, _>(|index| now[index] - before[index]))
    }

    pub(crate) fn state(&self, id: u32) -> ServerState {
        self.signals.state(ServerId(id))
    }

    pub(crate) fn waiting(&self, id: u32) -> ServerWaiting {
        self.signals.waiting(ServerId(id))
    }

    pub(crate) fn answered(&self, id: u32) -> ServerAnswered {
        self.signals.answered(ServerId(id))
    }

    pub(crate) fn counters(&self, id: u32) -> ServerCounters {
        self.signals.counters(ServerId(id))
    }

    /// The edges since the last call.
    pub(crate) fn edges(&mut self) -> Vec<(u32, EdgeKind)> {
        std::iter::from_fn(|| {
            let record = self.edges.next()?;
            let edge: Edge = bytemuck::pod_read_unaligned(&record);
            Some((edge.server.0, EdgeKind::from_number(edge.kind).expect("a known kind")))
        })
        .collect()
    }
}

/// A `__sk_buff` with only the mark set, its third field (`include/uapi/linux/bpf.h`).
fn skb_with_mark(mark: u32) -> [u8; 192] {
    let mut context = [0; 192];
    context[8..12].copy_from_slice(&mark.to_ne_bytes());
    context
}
