//! Loading the kernel side and attaching it to devices.

use std::{collections::BTreeMap, io};

use aya::{
    Ebpf, EbpfError, EbpfLoader,
    maps::{HashMap, Map, MapData, MapError, RingBuf},
    programs::{
        ProgramError, SchedClassifier, TcAttachType,
        tc::{self, SchedClassifierLinkId},
    },
    util::{KernelVersion, nr_cpus},
};
use lvs_common::{
    COARSE_CLOCK, EGRESS, EndpointKey4, EndpointKey6, Flow, INGRESS, MAX_SERVERS, ServerId,
    interest::INTERESTS, map,
};
use nix::errno::Errno;

use super::{Signals, WireKey, counted::SignalMaps, interest::Interest, mapped::MappedArray};

/// [`Flow::EACH`] as the maps' sizes are counted.
#[expect(clippy::cast_possible_truncation, reason = "64")]
const FLOWS_EACH: u32 = Flow::EACH as u32;

/// The object file, put here by the build script; empty where the agent was built without it.
static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/lvs-ebpf.o"));

/// What can go wrong between the object file and a device.
#[derive(Debug, thiserror::Error)]
pub enum PassiveError {
    /// The agent was built without the kernel side.
    #[error("this agent was built without its kernel side; build it with `cargo xtask build`")]
    NotBuilt,
    /// The kernel refused the programs or maps.
    #[error("the kernel refuses the eBPF programs: {}", chain(.0))]
    Refused(#[source] Box<EbpfError>),
    /// A program or map is missing in the object file.
    #[error("the kernel side has no {0}: agent and object file are of different versions")]
    Missing(&'static str),
    /// A program could not be loaded.
    #[error("the kernel refuses the program {program}: {}", chain(.source))]
    Program {
        /// Which one.
        program: &'static str,
        /// What the kernel said.
        #[source]
        source: Box<ProgramError>,
    },
    /// A program could not be attached.
    #[error("can't watch device {device}: {}", chain(.source))]
    Attach {
        /// Where.
        device: String,
        /// What the kernel said.
        #[source]
        source: Box<ProgramError>,
    },
    /// The qdisc that carries the programs on older kernels could not be added.
    #[error("can't prepare the clsact qdisc of device {device}: {}", chain(.source))]
    Qdisc {
        /// Where.
        device: String,
        /// What the kernel said.
        #[source]
        source: Box<tc::TcError>,
    },
    /// A map can't be read, written or mapped.
    #[error("map {map}: {source}")]
    Map {
        /// Which one.
        map: &'static str,
        /// What the kernel said.
        #[source]
        source: Box<MapError>,
    },
    /// The number of CPUs or a mapping can't be had.
    #[error("{what}: {source}")]
    System {
        /// What was tried.
        what: &'static str,
        /// What the kernel said.
        source: io::Error,
    },
}

/// An error with its causes in one line: aya's own messages often end before the kernel's reason.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let inner_text = inner.to_string();
        if !text.contains(&inner_text) {
            text = format!("{text}: {inner_text}");
        }
        cause = inner.source();
    }
    text
}

/// How large the maps are made.
#[derive(Clone, Copy, Debug)]
pub struct Sizes {
    /// Server ids, and entries in each of the maps that lead to one.
    pub servers: u32,
    /// Open handshakes that are remembered; the least recently used one gives way.
    pub handshakes: u32,
}

/// The loaded programs and the maps that the agent writes. Dropping it detaches everything.
pub struct KernelSide {
    ebpf: Ebpf,
    endpoints4: HashMap<MapData, [u8; size_of::<EndpointKey4>()], u32>,
    endpoints6: HashMap<MapData, [u8; size_of::<EndpointKey6>()], u32>,
    interest: Interest,
    filter: MappedArray<u8>,
    attached: BTreeMap<String, Vec<(&'static str, SchedClassifierLinkId)>>,
}

impl KernelSide {
    /// Loads the programs that this agent was built with; nothing is attached yet.
    ///
    /// `log_level` is what the programs may log through aya-log: 0 nothing, 2 warnings (`aya_log::Level`).
    pub fn load(sizes: Sizes, log_level: u8) -> Result<(Self, Signals), PassiveError> {
        if OBJECT.is_empty() {
            return Err(PassiveError::NotBuilt);
        }
        Self::load_object(OBJECT, sizes, log_level)
    }

    /// As [`KernelSide::load`], from an object file's bytes.
    pub fn load_object(object: &[u8], sizes: Sizes, log_level: u8) -> Result<(Self, Signals), PassiveError> {
        let cpus = nr_cpus()
            .map_err(|(_, source)| PassiveError::System { what: "number of possible CPUs", source })?;
        let entries = sizes.servers.saturating_mul(u32::try_from(cpus).unwrap_or(u32::MAX));
        let mut ebpf = EbpfLoader::new()
            .override_global(MAX_SERVERS, &sizes.servers, true)
            .override_global(COARSE_CLOCK, &u8::from(has_coarse_clock()), true)
            .override_global(aya_log::LEVEL, &log_level, false)
            .map_max_entries(map::ENDPOINTS4, sizes.servers)
            .map_max_entries(map::ENDPOINTS6, sizes.servers)
            .map_max_entries(map::FLOWS, sizes.servers.saturating_mul(FLOWS_EACH))
            .map_max_entries(map::DOUBTS, u32::try_from(cpus).unwrap_or(u32::MAX))
            .map_max_entries(map::STATES, sizes.servers)
            .map_max_entries(map::COUNTERS, entries)
            .map_max_entries(map::HANDSHAKES, sizes.handshakes)
            .load(object)
            .map_err(|error| PassiveError::Refused(Box::new(error)))?;
        // Before any map is taken out: loading looks their file descriptors up.
        for name in [EGRESS, INGRESS] {
            program(&mut ebpf, name)?
                .load()
                .map_err(|error| PassiveError::Program { program: name, source: Box::new(error) })?;
        }
        let signals = signals(&mut ebpf, cpus, sizes.servers as usize)?;
        let endpoints4 = writable(&mut ebpf, map::ENDPOINTS4)?;
        let endpoints6 = writable(&mut ebpf, map::ENDPOINTS6)?;
        let filter = MappedArray::new(array(&mut ebpf, map::INTEREST)?.fd(), INTERESTS)
            .map_err(|source| PassiveError::System { what: "mapping the filter into memory", source })?;
        let interest = Interest::default();
        let attached = BTreeMap::new();
        Ok((Self { ebpf, endpoints4, endpoints6, interest, filter, attached }, signals))
    }

    /// The stream of edges; `None` when it was taken before.
    pub fn take_edges(&mut self) -> Result<RingBuf<MapData>, PassiveError> {
        take(&mut self.ebpf, map::EDGES)?.try_into().map_err(at(map::EDGES))
    }

    /// One of the loaded programs, by name: for tests that run it on built packets.
    pub fn program(&mut self, name: &'static str) -> Result<&mut SchedClassifier, PassiveError> {
        program(&mut self.ebpf, name)
    }

    /// The loaded object, for aya-log.
    pub fn ebpf_mut(&mut self) -> &mut Ebpf {
        &mut self.ebpf
    }

    /// Lets packets with `key` count for `id`.
    pub fn watch(&mut self, key: &WireKey, id: ServerId) -> Result<(), PassiveError> {
        match key {
            WireKey::V4(key) => self
                .endpoints4
                .insert(bytemuck::cast::<_, [u8; 16]>(*key), id.0, 0)
                .map_err(at(map::ENDPOINTS4)),
            WireKey::V6(key) => self
                .endpoints6
                .insert(bytemuck::cast::<_, [u8; 40]>(*key), id.0, 0)
                .map_err(at(map::ENDPOINTS6)),
        }?;
        // After the key, so that whoever passes the filter finds it.
        if let Some((index, byte)) = self.interest.add(key) {
            self.filter.set(index, byte);
        }
        Ok(())
    }

    /// Lets packets with `key` count for nobody; fine if they already do.
    pub fn unwatch(&mut self, key: &WireKey) -> Result<(), PassiveError> {
        if let Some((index, byte)) = self.interest.remove(key) {
            self.filter.set(index, byte);
        }
        let (removed, name) = match key {
            WireKey::V4(key) => {
                (self.endpoints4.remove(&bytemuck::cast::<_, [u8; 16]>(*key)), map::ENDPOINTS4)
            }
            WireKey::V6(key) => {
                (self.endpoints6.remove(&bytemuck::cast::<_, [u8; 40]>(*key)), map::ENDPOINTS6)
            }
        };
        match removed {
            Err(MapError::KeyNotFound) => Ok(()),
            Err(MapError::SyscallError(error)) if error.io_error.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other.map_err(at(name)),
        }
    }

    /// Attaches both programs to a device, in place of those that a killed agent may have left there.
    pub fn attach(&mut self, device: &str) -> Result<(), PassiveError> {
        if self.attached.contains_key(device) {
            return Ok(());
        }
        if needs_clsact() {
            prepare_clsact(device)?;
        }
        let mut links = Vec::new();
        for (name, direction) in [(EGRESS, TcAttachType::Egress), (INGRESS, TcAttachType::Ingress)] {
            let link = program(&mut self.ebpf, name)?.attach(device, direction).map_err(|error| {
                PassiveError::Attach { device: device.to_owned(), source: Box::new(error) }
            })?;
            links.push((name, link));
        }
        self.attached.insert(device.to_owned(), links);
        Ok(())
    }

    /// The devices that are watched.
    pub fn devices(&self) -> impl Iterator<Item = &str> {
        self.attached.keys().map(String::as_str)
    }

    /// Detaches both programs from a device.
    pub fn detach(&mut self, device: &str) -> Result<(), PassiveError> {
        for (name, link) in self.attached.remove(device).unwrap_or_default() {
            program(&mut self.ebpf, name)?.detach(link).map_err(|error| PassiveError::Attach {
                device: device.to_owned(),
                source: Box::new(error),
            })?;
        }
        Ok(())
    }
}

/// Programs are attached through tcx links from Linux 6.6 on (aya's own rule), through a clsact qdisc before.
fn needs_clsact() -> bool {
    KernelVersion::current().is_ok_and(|version| version < KernelVersion::new(6, 6, 0))
}

/// `bpf_ktime_get_coarse_ns` came with Linux 5.11 (commit d05512618056).
fn has_coarse_clock() -> bool {
    KernelVersion::current().is_ok_and(|version| version >= KernelVersion::new(5, 11, 0))
}

/// A filter on a clsact qdisc outlives the process that made it: leftovers go by their program's name. The qdisc itself
/// stays at the end, because others may use it by then.
fn prepare_clsact(device: &str) -> Result<(), PassiveError> {
    let failed = |source| PassiveError::Qdisc { device: device.to_owned(), source: Box::new(source) };
    match tc::qdisc_add_clsact(device) {
        Ok(()) => return Ok(()),
        Err(error) if is_there(&error) => {}
        Err(error) => return Err(failed(error)),
    }
    for (name, direction) in [(EGRESS, TcAttachType::Egress), (INGRESS, TcAttachType::Ingress)] {
        match tc::qdisc_detach_program(device, direction, name) {
            Ok(()) => {}
            Err(tc::TcError::IoError(error)) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(failed(error)),
        }
    }
    Ok(())
}

/// Whether a qdisc could not be added because there is one: aya says so in two ways.
fn is_there(error: &tc::TcError) -> bool {
    match error {
        tc::TcError::AlreadyAttached => true,
        tc::TcError::NetlinkError(error) => error.raw_os_error().map(Errno::from_raw) == Some(Errno::EEXIST),
        _ => false,
    }
}

fn signals(ebpf: &mut Ebpf, cpus: usize, servers: usize) -> Result<Signals, PassiveError> {
    let maps = SignalMaps {
        counters: array(ebpf, map::COUNTERS)?,
        states: array(ebpf, map::STATES)?,
        flows: array(ebpf, map::FLOWS)?,
        doubts: array(ebpf, map::DOUBTS)?,
    };
    Signals::new(&maps, cpus, servers)
        .map_err(|source| PassiveError::System { what: "mapping the kernel's counters into memory", source })
}

fn array(ebpf: &mut Ebpf, name: &'static str) -> Result<MapData, PassiveError> {
    match take(ebpf, name)? {
        Map::Array(data) => Ok(data),
        _ => Err(PassiveError::Missing(name)),
    }
}

fn writable<K: aya::Pod>(
    ebpf: &mut Ebpf,
    name: &'static str,
) -> Result<HashMap<MapData, K, u32>, PassiveError> {
    take(ebpf, name)?.try_into().map_err(at(name))
}

fn take(ebpf: &mut Ebpf, name: &'static str) -> Result<Map, PassiveError> {
    ebpf.take_map(name).ok_or(PassiveError::Missing(name))
}

fn program<'a>(ebpf: &'a mut Ebpf, name: &'static str) -> Result<&'a mut SchedClassifier, PassiveError> {
    ebpf.program_mut(name)
        .ok_or(PassiveError::Missing(name))?
        .try_into()
        .map_err(|error| PassiveError::Program { program: name, source: Box::new(error) })
}

fn at(map: &'static str) -> impl FnOnce(MapError) -> PassiveError {
    move |source| PassiveError::Map { map, source: Box::new(source) }
}
