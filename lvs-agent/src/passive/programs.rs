//! Loading the kernel side and attaching it to devices.

use std::{
    collections::BTreeSet,
    fs, io,
    os::fd::{AsFd as _, AsRawFd as _},
};

use aya::{
    Ebpf, EbpfError, EbpfLoader,
    maps::{HashMap, Map, MapData, MapError, MapInfo, RingBuf},
    programs::{ProgramError, SchedClassifier, tc},
    util::{KernelVersion, nr_cpus},
};
use bytemuck::Zeroable as _;
use lvs_common::{
    COARSE_CLOCK, EGRESS, EndpointKey4, EndpointKey6, INGRESS, MAX_SERVERS, ServerId, Shortcut,
    interest::INTERESTS, map,
};

use super::{
    Signals, Sizes, WireKey, attach::Attachments, counted::SignalMaps, interest::Interest,
    mapped::MappedArray, shortcuts::Shortcuts,
};

/// The object file, put here by the build script; empty where the agent was built without it.
static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/lvs-ebpf.o"));

/// What can go wrong between the object file and a device.
#[derive(Debug, thiserror::Error)]
pub enum PassiveError {
    /// The agent was built without the kernel side.
    #[error("this agent was built without its eBPF programs; build it with `cargo xtask build`")]
    NotBuilt,
    /// The kernel refused the programs or maps.
    #[error("the kernel refuses the eBPF programs: {}", chain(.0))]
    Refused(#[source] Box<EbpfError>),
    /// A program or map is missing in the object file.
    #[error("the eBPF object file has no {0}: it is of another version than the agent")]
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
    /// A device can't be asked about.
    #[error("can't inspect device {device}: {source}")]
    Device {
        /// Which one.
        device: String,
        /// What the kernel said.
        source: io::Error,
    },
    /// A device whose frames the programs can't read.
    #[error("device {device} is not an Ethernet device (hardware type {kind}): its packets can't be watched")]
    NotEthernet {
        /// Which one.
        device: String,
        /// `ARPHRD_*` in `linux/if_arp.h`.
        kind: u16,
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

/// The loaded programs and the maps that the agent writes. Dropping it detaches everything.
pub struct KernelSide {
    ebpf: Ebpf,
    endpoints4: HashMap<MapData, [u8; size_of::<EndpointKey4>()], u32>,
    endpoints6: HashMap<MapData, [u8; size_of::<EndpointKey6>()], u32>,
    interest: Interest,
    filter: MappedArray<u8>,
    shortcuts: Shortcuts,
    places: MappedArray<Shortcut>,
    attachments: Attachments,
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
        let cpus32 = u32::try_from(cpus).unwrap_or(u32::MAX);
        let mut ebpf = EbpfLoader::new()
            .override_global(MAX_SERVERS, &sizes.servers, true)
            .override_global(COARSE_CLOCK, &u8::from(has_coarse_clock()), true)
            .override_global(aya_log::LEVEL, &log_level, false)
            .map_max_entries(map::ENDPOINTS4, sizes.keys())
            .map_max_entries(map::ENDPOINTS6, sizes.keys())
            .map_max_entries(map::FLOWS, sizes.flows())
            .map_max_entries(map::DOUBTS, cpus32)
            .map_max_entries(map::EDGES, sizes.edge_bytes())
            .map_max_entries(map::STATES, sizes.servers)
            .map_max_entries(map::COUNTERS, sizes.counters(cpus32))
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
        let places = MappedArray::new(array(&mut ebpf, map::SHORTCUTS)?.fd(), Shortcut::PLACES)
            .map_err(|source| PassiveError::System { what: "mapping the shortcuts into memory", source })?;
        let interest = Interest::default();
        let shortcuts = Shortcuts::default();
        let attachments = Attachments::default();
        let kernel = Self { ebpf, endpoints4, endpoints6, interest, filter, shortcuts, places, attachments };
        Ok((kernel, signals))
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
        if let WireKey::V4(key) = key
            && let Some((place, words)) = self.shortcuts.add(key)
        {
            self.take_place(place, words, id);
        }
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
        if let WireKey::V4(key) = key
            && let Some(place) = self.shortcuts.remove(key)
        {
            self.places.set(place, Shortcut::zeroed());
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

    /// Writes a shortcut, its first word last: until then no packet finds it. (A place that is free has zero there.)
    fn take_place(&mut self, place: usize, [first, second]: [u64; 2], server: ServerId) {
        let mut shortcut = self.places.get(place).unwrap_or_else(Shortcut::zeroed);
        shortcut.server = server;
        self.places.set(place, shortcut);
        shortcut.key[1] = second;
        self.places.set(place, shortcut);
        shortcut.key[0] = first;
        self.places.set(place, shortcut);
    }

    /// Attaches both programs to a device, in place of those that a killed agent may have left there. If they hang there
    /// already, they still do afterwards: whatever was taken away in the meantime is put back.
    pub fn attach(&mut self, device: &str) -> Result<(), PassiveError> {
        self.attachments.attach(&mut self.ebpf, device)
    }

    /// The devices that are watched.
    pub fn devices(&self) -> impl Iterator<Item = &str> {
        self.attachments.devices()
    }

    /// Detaches both programs from a device; fine if the device is gone.
    pub fn detach(&mut self, device: &str) -> Result<(), PassiveError> {
        self.attachments.detach(&mut self.ebpf, device)
    }

    /// What all maps of the programs take, in bytes, as the kernel counts it.
    pub fn memory(&mut self) -> Result<u64, PassiveError> {
        let mut maps = BTreeSet::new();
        for name in [EGRESS, INGRESS] {
            let failed = |error| PassiveError::Program { program: name, source: Box::new(error) };
            let info = program(&mut self.ebpf, name)?.info().map_err(failed)?;
            maps.extend(info.map_ids().map_err(failed)?.unwrap_or_default());
        }
        maps.into_iter().map(locked).sum()
    }
}

/// What a map takes, in bytes: `memlock` in the information about its file descriptor (proc(5)).
fn locked(map: u32) -> Result<u64, PassiveError> {
    let fd = MapInfo::from_id(map).and_then(|info| info.fd()).map_err(at("by id"))?;
    let what = "reading what a map takes";
    let text = fs::read_to_string(format!("/proc/self/fdinfo/{}", fd.as_fd().as_raw_fd()))
        .map_err(|source| PassiveError::System { what, source })?;
    let value = text.lines().find_map(|line| line.strip_prefix("memlock:")?.trim().parse().ok());
    value.ok_or_else(|| PassiveError::System { what, source: io::Error::from(io::ErrorKind::InvalidData) })
}

/// `bpf_ktime_get_coarse_ns` came with Linux 5.11 (commit d05512618056).
fn has_coarse_clock() -> bool {
    KernelVersion::current().is_ok_and(|version| version >= KernelVersion::new(5, 11, 0))
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

pub(super) fn program<'a>(
    ebpf: &'a mut Ebpf,
    name: &'static str,
) -> Result<&'a mut SchedClassifier, PassiveError> {
    ebpf.program_mut(name)
        .ok_or(PassiveError::Missing(name))?
        .try_into()
        .map_err(|error| PassiveError::Program { program: name, source: Box::new(error) })
}

fn at(map: &'static str) -> impl FnOnce(MapError) -> PassiveError {
    move |source| PassiveError::Map { map, source: Box::new(source) }
}
