//! An eBPF array in this process's memory, read and written without system calls.

use std::{io, marker::PhantomData, os::fd::AsFd, os::fd::AsRawFd as _};

use bytemuck::Pod;
use memmap2::{MmapOptions, MmapRaw};

/// A view of a BPF array whose map has `BPF_F_MMAPABLE`.
///
/// The kernel's programs go on writing while it is read: a value is a snapshot of words, each of them whole.
#[derive(Debug)]
pub(super) struct MmapArray<T> {
    memory: MmapRaw,
    len: usize,
    entry: PhantomData<T>,
}

impl<T: Pod> MmapArray<T> {
    /// Maps the array behind `map`, which must have at least `len` entries of `T`; or, if `T` is a byte, one entry of
    /// `len` bytes.
    pub(super) fn new(map: impl AsFd, len: usize) -> io::Result<Self> {
        let size = size_of::<T>();
        assert!(size == 1 || size.is_multiple_of(8), "entries of a BPF array start at multiples of 8 bytes");
        let memory = MmapOptions::new().len(len * size).map_raw(map.as_fd().as_raw_fd())?;
        Ok(Self { memory, len, entry: PhantomData })
    }

    /// Entry `index`, or `None` past the end.
    #[expect(unsafe_code, reason = "memory that the kernel writes at the same time")]
    pub(super) fn get(&self, index: usize) -> Option<T> {
        (index < self.len).then(|| {
            // SAFETY: the mapping lives as long as `self`, is page-aligned and holds `len` entries; `T` is plain data,
            // for which any bytes are a value. Volatile, because the kernel writes it at any time.
            unsafe { self.memory.as_ptr().cast::<T>().add(index).read_volatile() }
        })
    }

    /// Eight bytes of entry `index`, the `word`-th; `None` past the end of either.
    #[expect(unsafe_code, reason = "memory that the kernel writes at the same time")]
    pub(super) fn word(&self, index: usize, word: usize) -> Option<u64> {
        (index < self.len && word < size_of::<T>() / 8).then(|| {
            // SAFETY: as in `get`; an entry has so many words, and starts at a multiple of eight.
            unsafe { self.memory.as_ptr().cast::<T>().add(index).cast::<u64>().add(word).read_volatile() }
        })
    }

    /// Writes entry `index`; nothing happens past the end. A program that writes it at the same time may win.
    #[expect(unsafe_code, reason = "memory that the kernel reads at the same time")]
    pub(super) fn set(&mut self, index: usize, value: T) {
        if index < self.len {
            // SAFETY: as in `get`, and `&mut self` keeps this process's other threads away.
            unsafe { self.memory.as_mut_ptr().cast::<T>().add(index).write_volatile(value) }
        }
    }
}
