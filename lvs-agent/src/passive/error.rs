//! What can go wrong with the eBPF programs and maps.

use std::io;

use aya::{
    Ebpf, EbpfError,
    maps::MapError,
    programs::{ProgramError, SchedClassifier, tc},
};

/// What can go wrong between the object file and a device.
#[derive(Debug, thiserror::Error)]
pub enum PassiveError {
    /// The agent was built without the eBPF programs.
    #[error("this agent was built without its eBPF programs; build it with `cargo xtask build`")]
    NotBuilt,
    /// The kernel refused the programs or maps.
    #[error("the kernel refuses the eBPF programs: {}", chain(.0))]
    Refused(Box<EbpfError>),
    /// A program or map is missing in the object file.
    #[error("the eBPF object file has no {0}: it is of another version than the agent")]
    Missing(&'static str),
    /// A program could not be loaded.
    #[error("the kernel refuses the program {program}: {}", chain(.error))]
    Program {
        /// Which one.
        program: &'static str,
        /// What the kernel said.
        error: Box<ProgramError>,
    },
    /// A program could not be attached.
    #[error("can't watch device {device}: {}", chain(.error))]
    Attach {
        /// Where.
        device: String,
        /// What the kernel said.
        error: Box<ProgramError>,
    },
    /// The qdisc that carries the programs on older kernels could not be added.
    #[error("can't prepare the clsact qdisc of device {device}: {}", chain(.error))]
    Qdisc {
        /// Where.
        device: String,
        /// What the kernel said.
        error: Box<tc::TcError>,
    },
    /// A device can't be asked about.
    #[error("can't inspect device {device}: {error}")]
    Device {
        /// Which one.
        device: String,
        /// What the kernel said.
        error: io::Error,
    },
    /// A device whose frames the programs can't read.
    #[error("device {device} is not an Ethernet device (hardware type {kind}): its packets can't be watched")]
    NotEthernet {
        /// Which one.
        device: String,
        /// `ARPHRD_*` in `linux/if_arp.h`.
        kind: u16,
    },
    /// A packet could not be put into a device's ingress.
    #[error("the kernel takes no packet for the ingress of device {device}")]
    NotInjected {
        /// The device's index.
        device: u32,
    },
    /// A map can't be read, written or mapped.
    #[error("map {map}: {error}")]
    Map {
        /// Which one.
        map: &'static str,
        /// What the kernel said.
        error: Box<MapError>,
    },
    /// The number of CPUs or a mapping can't be had.
    #[error("{what}: {error}")]
    System {
        /// What was tried.
        what: &'static str,
        /// What the kernel said.
        error: io::Error,
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

/// One of the loaded programs, by name.
pub(super) fn program<'a>(
    ebpf: &'a mut Ebpf,
    name: &'static str,
) -> Result<&'a mut SchedClassifier, PassiveError> {
    ebpf.program_mut(name)
        .ok_or(PassiveError::Missing(name))?
        .try_into()
        .map_err(|error| PassiveError::Program { program: name, error: Box::new(error) })
}

/// Makes an error of a map operation that failed.
pub(super) fn map_error(map: &'static str) -> impl FnOnce(MapError) -> PassiveError {
    move |error| PassiveError::Map { map, error: Box::new(error) }
}
