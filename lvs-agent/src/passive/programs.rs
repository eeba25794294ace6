//! The eBPF programs and their maps: loading, attaching, and which packets count for which server.

use std::{
    fs, io,
    os::fd::{AsFd as _, AsRawFd as _},
};

use aya::{
    Ebpf, EbpfLoader,
    maps::{HashMap, Map, MapData, MapError, RingBuf},
    programs::SchedClassifier,
    util::{KernelVersion, nr_cpus},
};
use bytemuck::Zeroable as _;
use lvs_common::{
    COARSE_CLOCK, EGRESS, EGRESS_CHANCE, EndpointKey4, EndpointKey6, INGRESS, INGRESS_CHANCE, MAX_SERVERS,
    PROBE_MARK, PROBE_MARK_NAME, ServerId, Shortcut, VIP_MARKS, VIP_MARKS_NAME, interest::INTERESTS, map,
};

use super::{
    attach::Attachments,
    counters::{SignalMaps, Signals},
    error::{PassiveError, map_error, program},
    interest::Interest,
    kept_syns::{KeptSynMaps, KeptSyns},
    mmap_array::MmapArray,
    open_handshakes::OpenHandshakes,
    shortcuts::Shortcuts,
    sizes::Sizes,
    wire_key::WireKey,
};
use crate::model::{AttachOrder, SecondChance};

/// The object file, put here by the build script; empty where the agent was built without it.
static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/lvs-ebpf.o"));

/// The same programs with second chance.
pub(super) static SECOND_CHANCE: &[u8] =
    aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/lvs-second-chance.o"));

/// The loaded programs and the maps that the agent writes. Dropping it detaches everything.
pub struct Programs {
    ebpf: Ebpf,
    endpoints4: HashMap<MapData, [u8; size_of::<EndpointKey4>()], u32>,
    endpoints6: HashMap<MapData, [u8; size_of::<EndpointKey6>()], u32>,
    interest: Interest,
    filter: MmapArray<u8>,
    shortcuts: Shortcuts,
    places: MmapArray<Shortcut>,
    attachments: Attachments,
    memory: Result<u64, PassiveError>,
    sizes: Sizes,
}

/// The firewall marks of the agent's own packets.
#[derive(Clone, Copy, Debug)]
pub struct OwnMarks {
    /// That of probes to servers.
    pub probes: u32,
    /// The first of those of probes to VIPs.
    pub vips: u32,
}

impl Default for OwnMarks {
    fn default() -> Self {
        Self { probes: PROBE_MARK, vips: VIP_MARKS }
    }
}

impl Programs {
    /// Loads the programs that this agent was built with; nothing is attached yet.
    ///
    /// `log_level` is what the programs may log through aya-log: 0 nothing, 2 warnings (`aya_log::Level`).
    /// `own` are the firewall marks of the agent's own packets.
    pub fn load(sizes: Sizes, own: OwnMarks, log_level: u8) -> Result<(Self, Signals), PassiveError> {
        let object = match sizes.second_chance {
            SecondChance::Off => OBJECT,
            SecondChance::On => SECOND_CHANCE,
        };
        if object.is_empty() {
            return Err(PassiveError::NotBuilt);
        }
        Self::load_marked(object, sizes, own, log_level)
    }

    /// As [`Programs::load`], from an object file's bytes and with the usual marks.
    pub fn load_object(object: &[u8], sizes: Sizes, log_level: u8) -> Result<(Self, Signals), PassiveError> {
        Self::load_marked(object, sizes, OwnMarks::default(), log_level)
    }

    fn load_marked(
        object: &[u8],
        sizes: Sizes,
        own: OwnMarks,
        log_level: u8,
    ) -> Result<(Self, Signals), PassiveError> {
        let cpus = nr_cpus()
            .map_err(|(_, error)| PassiveError::System { what: "number of possible CPUs", error })?;
        let cpus32 = u32::try_from(cpus).unwrap_or(u32::MAX);
        let mut ebpf = EbpfLoader::new()
            .override_global(MAX_SERVERS, &sizes.servers, true)
            .override_global(COARSE_CLOCK, &u8::from(has_coarse_clock()), true)
            .override_global(PROBE_MARK_NAME, &own.probes, true)
            .override_global(VIP_MARKS_NAME, &own.vips, true)
            .override_global(aya_log::LEVEL, &log_level, false)
            .map_max_entries(map::ENDPOINTS4, sizes.keys())
            .map_max_entries(map::ENDPOINTS6, sizes.keys())
            .map_max_entries(map::FLOWS, sizes.flows())
            .map_max_entries(map::DOUBTS, cpus32)
            .map_max_entries(map::EDGES, sizes.edge_bytes())
            .map_max_entries(map::STATES, sizes.servers)
            .map_max_entries(map::WAITING, sizes.servers)
            .map_max_entries(map::ANSWERED, sizes.servers)
            .map_max_entries(map::COUNTERS, sizes.counters(cpus32))
            .map_max_entries(map::HANDSHAKES, sizes.handshakes)
            .map_max_entries(map::CHANCES, sizes.servers)
            .load(object)
            .map_err(|error| PassiveError::Refused(Box::new(error)))?;
        // Before any map is taken out: they are all here still, and loading looks their file descriptors up.
        let memory = ebpf.maps().map(|(_, map)| locked_bytes(map)).sum();
        let names = names(sizes.second_chance);
        for name in names {
            program(&mut ebpf, name)?
                .load()
                .map_err(|error| PassiveError::Program { program: name, error: Box::new(error) })?;
        }
        let signals = signals(&mut ebpf, cpus, sizes.servers as usize)?;
        let endpoints4 = writable(&mut ebpf, map::ENDPOINTS4)?;
        let endpoints6 = writable(&mut ebpf, map::ENDPOINTS6)?;
        let filter = MmapArray::new(array(&mut ebpf, map::INTEREST)?.fd(), INTERESTS)
            .map_err(|error| PassiveError::System { what: "mapping the filter into memory", error })?;
        let places = MmapArray::new(array(&mut ebpf, map::SHORTCUTS)?.fd(), Shortcut::PLACES)
            .map_err(|error| PassiveError::System { what: "mapping the shortcuts into memory", error })?;
        let interest = Interest::default();
        let shortcuts = Shortcuts::default();
        let attachments = Attachments::of(names);
        let programs = Self {
            ebpf,
            endpoints4,
            endpoints6,
            interest,
            filter,
            shortcuts,
            places,
            attachments,
            memory,
            sizes,
        };
        Ok((programs, signals))
    }

    /// The stream of edges; `None` when it was taken before.
    pub fn take_edges(&mut self) -> Result<RingBuf<MapData>, PassiveError> {
        take(&mut self.ebpf, map::EDGES)?.try_into().map_err(map_error(map::EDGES))
    }

    /// The map of open handshakes, to be counted; once.
    pub fn take_handshakes(&mut self) -> Result<OpenHandshakes, PassiveError> {
        OpenHandshakes::new(take(&mut self.ebpf, map::HANDSHAKES)?, self.sizes.handshakes)
    }

    /// What second chance takes of the maps; once. `None`: the programs were loaded without.
    pub fn take_kept_syns(&mut self) -> Result<Option<KeptSyns>, PassiveError> {
        if self.sizes.second_chance == SecondChance::Off {
            return Ok(None);
        }
        let maps = KeptSynMaps {
            syns: array(&mut self.ebpf, map::KEPT_SYNS)?,
            retried: array(&mut self.ebpf, map::RETRIED)?,
            chances: array(&mut self.ebpf, map::CHANCES)?,
            hold_back: array(&mut self.ebpf, map::HOLD_BACK)?,
        };
        KeptSyns::new(&maps, self.sizes.servers as usize)
            .map(Some)
            .map_err(|error| PassiveError::System { what: "mapping the kept SYNs into memory", error })
    }

    /// How many keys there is room for in each of the maps that lead to a server.
    #[must_use]
    pub fn key_capacity(&self) -> u32 {
        self.sizes.keys()
    }

    /// One of the loaded programs, by name: for tests that run it on built packets.
    pub fn program(&mut self, name: &'static str) -> Result<&mut SchedClassifier, PassiveError> {
        program(&mut self.ebpf, name)
    }

    /// The loaded object, for aya-log.
    pub fn ebpf_mut(&mut self) -> &mut Ebpf {
        &mut self.ebpf
    }

    /// Attributes packets with `key` to `id`.
    pub fn watch(&mut self, key: &WireKey, id: ServerId) -> Result<(), PassiveError> {
        match key {
            WireKey::V4(key) => self
                .endpoints4
                .insert(bytemuck::cast::<_, [u8; 16]>(*key), id.0, 0)
                .map_err(map_error(map::ENDPOINTS4)),
            WireKey::V6(key) => self
                .endpoints6
                .insert(bytemuck::cast::<_, [u8; 40]>(*key), id.0, 0)
                .map_err(map_error(map::ENDPOINTS6)),
        }?;
        if let WireKey::V4(key) = key
            && let Some((place, words)) = self.shortcuts.add(key)
        {
            self.take_place(place, words, id);
        }
        // After the key, so that a packet that passes the filter finds it.
        if let Some((index, byte)) = self.interest.add(key) {
            self.filter.set(index, byte);
        }
        Ok(())
    }

    /// Attributes packets with `key` to no server; fine if they already are.
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
            other => other.map_err(map_error(name)),
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

    /// Where the programs are put among those of others, from the next attachment on.
    pub fn set_order(&mut self, order: &AttachOrder) {
        self.attachments.order = order.clone();
    }

    /// The kernel's numbers for the programs, out of the director and into it; `None` where it doesn't tell.
    pub fn ids(&mut self) -> Option<[u32; 2]> {
        let [mut out, mut into] = [0; 2];
        let [egress, ingress] = names(self.sizes.second_chance);
        for (name, id) in [(egress, &mut out), (ingress, &mut into)] {
            *id = program(&mut self.ebpf, name).ok()?.info().ok()?.id();
        }
        Some([out, into])
    }

    /// Attaches both programs to a device, in place of those that a killed agent may have left there. If they are
    /// attached already, they still are afterwards: what was removed in the meantime is put back.
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

    /// The memory of all maps of the programs in bytes, as the kernel counts it. An error where `/proc/self/fdinfo`
    /// can't be read: where `/proc` isn't mounted, or belongs to another user than the process has.
    pub fn memory(&self) -> Result<u64, &PassiveError> {
        self.memory.as_ref().copied()
    }
}

/// The programs that are attached, out of the director and into it.
fn names(second_chance: SecondChance) -> [&'static str; 2] {
    match second_chance {
        SecondChance::Off => [EGRESS, INGRESS],
        SecondChance::On => [EGRESS_CHANCE, INGRESS_CHANCE],
    }
}

/// The memory of a map in bytes: `memlock` in the information about its file descriptor (proc(5)). The descriptor is
/// the one at hand: asking for a map by its id would take `CAP_SYS_ADMIN`.
fn locked_bytes(map: &Map) -> Result<u64, PassiveError> {
    let what = "reading what the maps take";
    let invalid = || PassiveError::System { what, error: io::Error::from(io::ErrorKind::InvalidData) };
    let (Map::Array(data) | Map::HashMap(data) | Map::LruHashMap(data) | Map::RingBuf(data)) = map else {
        return Err(invalid());
    };
    let text = fs::read_to_string(format!("/proc/self/fdinfo/{}", data.fd().as_fd().as_raw_fd()))
        .map_err(|error| PassiveError::System { what, error })?;
    let value = text.lines().find_map(|line| line.strip_prefix("memlock:")?.trim().parse().ok());
    value.ok_or_else(invalid)
}

/// `bpf_ktime_get_coarse_ns` came with Linux 5.11 (commit d05512618056).
fn has_coarse_clock() -> bool {
    KernelVersion::current().is_ok_and(|version| version >= KernelVersion::new(5, 11, 0))
}

fn signals(ebpf: &mut Ebpf, cpus: usize, servers: usize) -> Result<Signals, PassiveError> {
    let maps = SignalMaps {
        counters: array(ebpf, map::COUNTERS)?,
        states: array(ebpf, map::STATES)?,
        waiting: array(ebpf, map::WAITING)?,
        answered: array(ebpf, map::ANSWERED)?,
        flows: array(ebpf, map::FLOWS)?,
        unattributed: array(ebpf, map::DOUBTS)?,
    };
    Signals::new(&maps, cpus, servers)
        .map_err(|error| PassiveError::System { what: "mapping the kernel's counters into memory", error })
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
    take(ebpf, name)?.try_into().map_err(map_error(name))
}

fn take(ebpf: &mut Ebpf, name: &'static str) -> Result<Map, PassiveError> {
    ebpf.take_map(name).ok_or(PassiveError::Missing(name))
}
