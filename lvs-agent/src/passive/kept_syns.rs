//! SYNs that may be sent again, and what may be held back: the maps of second chance.

use std::{io, mem::offset_of};

use aya::maps::MapData;
use lvs_common::{HoldBack, KeptSyn, ServerId};

use super::mmap_array::MmapArray;

/// The maps, until they are mapped into memory.
pub(super) struct KeptSynMaps {
    pub(super) syns: MapData,
    pub(super) retried: MapData,
    pub(super) chances: MapData,
    pub(super) hold_back: MapData,
}

/// The maps of second chance in this process's memory.
#[derive(Debug)]
pub struct KeptSyns {
    syns: MmapArray<KeptSyn>,
    retried: MmapArray<u64>,
    chances: MmapArray<u64>,
    /// The words of a [`HoldBack`].
    hold_back: MmapArray<u64>,
    servers: usize,
}

/// What is looked at of all kept SYNs, to find those that matter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeptBrief {
    /// The server that it went to.
    pub server: ServerId,
    /// When the client first sent it.
    pub since_ns: u64,
    /// When its RST was held back; 0: it wasn't.
    pub held_ns: u64,
    /// Whether the client has gone on, or given up.
    pub is_ended: bool,
    /// Whether the server has answered or refused.
    pub is_answered: bool,
}

impl KeptBrief {
    /// The flags of a SYN that the server has answered or the client has given up.
    const ANSWERED: u8 = KeptSyn::ANSWERED | KeptSyn::RESET;

    /// That of a SYN.
    #[must_use]
    pub fn of(kept: &KeptSyn) -> Self {
        Self {
            server: kept.server,
            since_ns: kept.since_ns,
            held_ns: kept.held_ns,
            is_ended: kept.ended_ns != 0,
            is_answered: kept.flags & Self::ANSWERED != 0,
        }
    }

    /// Whether nobody has said anything since the SYN.
    #[must_use]
    pub fn is_open(&self) -> bool {
        !self.is_ended && !self.is_answered
    }
}

impl KeptSyns {
    pub(super) fn new(maps: &KeptSynMaps, servers: usize) -> io::Result<Self> {
        Ok(Self {
            syns: MmapArray::new(maps.syns.fd(), KeptSyn::PLACES)?,
            retried: MmapArray::new(maps.retried.fd(), KeptSyn::PLACES)?,
            chances: MmapArray::new(maps.chances.fd(), servers)?,
            hold_back: MmapArray::new(maps.hold_back.fd(), size_of::<HoldBack>() / 8)?,
            servers,
        })
    }

    /// The SYN in a place, if there is one and it isn't just being written.
    #[must_use]
    pub fn get(&self, place: usize) -> Option<KeptSyn> {
        let kept = self.syns.get(place)?;
        // Read twice: what a program has begun to write in between has another time, or none.
        (kept.stored_ns != 0 && kept.stored_ns == self.stored_ns(place)?).then_some(kept)
    }

    /// The main things of all that were stored since `since_ns`, with their places. A quarter of each is read.
    pub fn briefs_since(&self, since_ns: u64) -> impl Iterator<Item = (usize, KeptBrief)> + '_ {
        (0..KeptSyn::PLACES).filter_map(move |place| {
            let stored_ns = self.stored_ns(place).filter(|ns| *ns > since_ns)?;
            let brief = self.brief(place)?;
            (self.stored_ns(place)? == stored_ns).then_some((place, brief))
        })
    }

    fn stored_ns(&self, place: usize) -> Option<u64> {
        self.syns.word(place, offset_of!(KeptSyn, stored_ns) / 8)
    }

    fn brief(&self, place: usize) -> Option<KeptBrief> {
        let word = |offset: usize| self.syns.word(place, offset / 8);
        let byte = |offset: usize| Some(word(offset)?.to_ne_bytes()[offset % 8]);
        let server = offset_of!(KeptSyn, server);
        let [a, b, c, d, ..] = word(server)?.to_ne_bytes();
        const { assert!(offset_of!(KeptSyn, server).is_multiple_of(8)) };
        Some(KeptBrief {
            server: ServerId(u32::from_ne_bytes([a, b, c, d])),
            since_ns: word(offset_of!(KeptSyn, since_ns))?,
            held_ns: word(offset_of!(KeptSyn, held_ns))?,
            is_ended: word(offset_of!(KeptSyn, ended_ns))? != 0,
            is_answered: byte(offset_of!(KeptSyn, flags))? & KeptBrief::ANSWERED != 0,
        })
    }

    /// Says to the programs that the SYN in a place is about to be sent again.
    pub fn announce(&mut self, place: usize, now_ns: u64) {
        self.retried.set(place, now_ns);
    }

    /// Whether the programs haven't seen yet what was announced.
    #[must_use]
    pub fn is_announced(&self, place: usize) -> bool {
        self.retried.get(place).is_some_and(|ns| ns != 0)
    }

    /// Sets what is done for a server, as [`lvs_common::chance`] has it.
    pub fn set_chance(&mut self, id: ServerId, chance: u64) {
        if let Ok(index) = usize::try_from(id.0) {
            self.chances.set(index, chance);
        }
    }

    /// How many ids of servers there is room for.
    #[must_use]
    pub fn servers(&self) -> usize {
        self.servers
    }

    /// Shows life, and allows so many RSTs to be held back until the next time. Returns how many were so far.
    pub fn show_life(&mut self, now_ns: u64, left: u64) -> u64 {
        self.hold_back.set(offset_of!(HoldBack, left) / 8, left);
        self.hold_back.set(offset_of!(HoldBack, alive_ns) / 8, now_ns);
        self.held()
    }

    /// How many RSTs were held back so far.
    #[must_use]
    pub fn held(&self) -> u64 {
        self.hold_back.get(offset_of!(HoldBack, held) / 8).unwrap_or_default()
    }
}
