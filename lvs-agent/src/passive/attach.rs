//! Attaching programs to devices and taking them off again.
//!
//! From Linux 6.6 on programs are attached by tcx links, before that to a clsact qdisc; the choice is by version, as
//! aya makes it.
//!
//! A tcx link goes with the process that holds it, so that a killed agent leaves nothing behind. Links are not pinned:
//! they would outlive it, but nobody would read what they count, it would cost time, and the next agent could not take
//! them over, because its maps have other sizes. A filter on a clsact qdisc does outlive its process. It is known by a
//! priority and a handle that nobody else uses, and is replaced in place: at any moment either the old program or the
//! new one sees a packet.
//!
//! Programs are put before those of others, which may end the chain with a verdict of their own, unless the operator
//! wants another order.

use std::{collections::BTreeMap, io, mem, os::fd::AsRawFd as _};

use aya::{
    Ebpf,
    programs::{
        LinkOrder, ProgramError, ProgramId, ProgramInfo, SchedClassifier, TcAttachType,
        tc::{self, NlOptions, SchedClassifierLink, SchedClassifierLinkId, TcAttachOptions, TcHandle},
    },
    util::KernelVersion,
};
use nix::{errno::Errno, libc};

use super::error::{PassiveError, program};
use crate::model::{AttachOrder, TcxOrder};

/// The hooks: out of the machine and into it.
const HOOKS: [TcAttachType; 2] = [TcAttachType::Egress, TcAttachType::Ingress];

/// The handle of the filters on a clsact qdisc, which with their priority says whose they are. The bytes spell `LVSp`.
const HANDLE: TcHandle = TcHandle::new(0x4c56, 0x5370);

/// The devices that programs are attached to.
#[derive(Debug)]
pub(super) struct Attachments {
    /// The programs by hook.
    programs: [&'static str; 2],
    /// Where the programs are put among others.
    pub(super) order: AttachOrder,
    devices: BTreeMap<String, Attachment>,
}

/// Both programs on one device.
#[derive(Debug)]
struct Attachment {
    /// A device that was made anew has another one under the old name.
    index: u32,
    links: Links,
}

/// The program and the link of each hook.
type Links = Vec<(&'static str, SchedClassifierLinkId)>;

impl Attachments {
    /// None yet, of these programs: out of the machine and into it.
    pub(super) fn of(programs: [&'static str; 2]) -> Self {
        Self { programs, order: AttachOrder::default(), devices: BTreeMap::new() }
    }

    /// The devices by name.
    pub(super) fn devices(&self) -> impl Iterator<Item = &str> {
        self.devices.keys().map(String::as_str)
    }

    /// Attaches both programs to a device, in place of those that a killed agent may have left there. If they are
    /// attached already, they still are afterwards: what was removed in the meantime is put back.
    pub(super) fn attach(&mut self, ebpf: &mut Ebpf, device: &str) -> Result<(), PassiveError> {
        let index = ethernet(device)?;
        let old = self.devices.remove(device);
        let is_same = old.as_ref().is_some_and(|old| old.index == index);
        if let Some(old) = old {
            if uses_tcx() && is_same {
                if let Some(links) = still_attached(ebpf, device, old.links)? {
                    self.devices.insert(device.to_owned(), Attachment { index, links });
                    return Ok(());
                }
            } else {
                release(ebpf, old.links, is_same)?;
            }
        }
        let mut links = Vec::new();
        for (name, direction) in self.programs.into_iter().zip(HOOKS) {
            match attach(program(ebpf, name)?, device, direction, &self.order) {
                Ok(link) => links.push((name, link)),
                Err(error) => {
                    detach(ebpf, device, links)?;
                    return Err(error);
                }
            }
        }
        self.devices.insert(device.to_owned(), Attachment { index, links });
        Ok(())
    }

    /// Detaches both programs from a device; fine if the device is gone.
    pub(super) fn detach(&mut self, ebpf: &mut Ebpf, device: &str) -> Result<(), PassiveError> {
        match self.devices.remove(device) {
            Some(attachment) => detach(ebpf, device, attachment.links),
            None => Ok(()),
        }
    }
}

/// Whether programs are attached by tcx links. `SchedClassifier::attach` has the same rule.
#[must_use]
pub fn uses_tcx() -> bool {
    KernelVersion::current().is_ok_and(|version| version >= KernelVersion::new(6, 6, 0))
}

fn attach(
    program: &mut SchedClassifier,
    device: &str,
    direction: TcAttachType,
    order: &AttachOrder,
) -> Result<SchedClassifierLinkId, PassiveError> {
    let failed = |error| PassiveError::Attach { device: device.to_owned(), error: Box::new(error) };
    if uses_tcx() {
        let place = TcAttachOptions::TcxOrder(place(&order.tcx, device, direction).map_err(failed)?);
        return program.attach_with_options(device, direction, place).map_err(failed);
    }
    prepare_clsact(device)?;
    let priority = order.clsact_priority.get();
    let options = NlOptions { priority, handle: HANDLE, classid: None };
    match program.attach_with_options(device, direction, TcAttachOptions::Netlink(options)) {
        Err(error) if errno(&error) == Some(Errno::EEXIST) => {
            let left = SchedClassifierLink::attached(device, direction, priority, HANDLE, None)
                .map_err(|error| PassiveError::Device { device: device.to_owned(), error })?;
            program.attach_to_link(left).map_err(failed)
        }
        other => other.map_err(failed),
    }
}

/// The place on a device's tcx hook.
#[expect(unsafe_code, reason = "the kernel's own number for a program")]
fn place(order: &TcxOrder, device: &str, direction: TcAttachType) -> Result<LinkOrder, ProgramError> {
    let named = |name: &str| -> Result<Option<ProgramId>, ProgramError> {
        let (_, present) = SchedClassifier::query_tcx(device, direction)?;
        let named = present.iter().find(|program| program.name_as_str() == Some(name));
        // SAFETY: the kernel has just given the id; of a program that is gone by now it refuses the order.
        Ok(named.map(|program| unsafe { ProgramId::new(program.id()) }))
    };
    Ok(match order {
        TcxOrder::First => LinkOrder::first(),
        TcxOrder::Last => LinkOrder::last(),
        TcxOrder::Before(name) => named(name)?.map_or(LinkOrder::first(), LinkOrder::before_program_id),
        TcxOrder::After(name) => named(name)?.map_or(LinkOrder::last(), LinkOrder::after_program_id),
    })
}

/// The names of the programs of others before those with these ids on a device's tcx hooks: of which direction, and
/// which. `None`: the kernel has no tcx, or doesn't tell; asking takes `CAP_SYS_ADMIN`.
#[must_use]
pub fn in_front_on_tcx(device: &str, ours: [u32; 2]) -> Option<[Vec<String>; 2]> {
    if !uses_tcx() {
        return None;
    }
    let in_front = |direction, own| {
        let (_, present) = SchedClassifier::query_tcx(device, direction).ok()?;
        let before = present.iter().take_while(|program| program.id() != own);
        let name =
            |program: &ProgramInfo| program.name_as_str().unwrap_or("a program without a name").to_owned();
        Some(before.map(name).collect())
    };
    let [out, into] = HOOKS;
    Some([in_front(out, ours[0])?, in_front(into, ours[1])?])
}

/// The tcx links of a device, if both are in place still; else none of them is left.
///
/// Updating a link with the program that it has changes nothing, and fails with `ENOLINK` where the link has no device
/// any more (`tcx_link_update` in `kernel/bpf/tcx.c`). Asking which programs a device has would take `CAP_SYS_ADMIN`.
fn still_attached(ebpf: &mut Ebpf, device: &str, links: Links) -> Result<Option<Links>, PassiveError> {
    let failed = |error| PassiveError::Attach { device: device.to_owned(), error: Box::new(error) };
    let mut left = Links::new();
    for (name, id) in links {
        let program = program(ebpf, name)?;
        let link = program.take_link(id).map_err(failed)?;
        match program.attach_to_link(link) {
            Ok(link) => left.push((name, link)),
            Err(error) if errno(&error) == Some(Errno::ENOLINK) => {}
            Err(error) => {
                detach(ebpf, device, left)?;
                return Err(failed(error));
            }
        }
    }
    if left.len() == HOOKS.len() {
        return Ok(Some(left));
    }
    detach(ebpf, device, left)?;
    Ok(None)
}

/// Releases links that are to be made anew. Filters of a device that is still there stay, to be replaced.
fn release(ebpf: &mut Ebpf, links: Links, keep_filters: bool) -> Result<(), PassiveError> {
    for (name, id) in links {
        let link = program(ebpf, name)?
            .take_link(id)
            .map_err(|error| PassiveError::Program { program: name, error: Box::new(error) })?;
        if keep_filters && !uses_tcx() {
            // It owns nothing but numbers, and dropping it would remove the filter.
            mem::forget(link);
        }
    }
    Ok(())
}

fn detach(ebpf: &mut Ebpf, device: &str, links: Links) -> Result<(), PassiveError> {
    for (name, link) in links {
        match program(ebpf, name)?.detach(link) {
            Ok(()) => {}
            // The device, its qdisc or the filter is gone.
            Err(error) if matches!(errno(&error), Some(Errno::ENODEV | Errno::EINVAL | Errno::ENOENT)) => {}
            Err(source) => {
                return Err(PassiveError::Attach { device: device.to_owned(), error: Box::new(source) });
            }
        }
    }
    Ok(())
}

/// Adds the qdisc that carries filters, if it isn't there. It stays at the end, because others may use it by then.
fn prepare_clsact(device: &str) -> Result<(), PassiveError> {
    match tc::qdisc_add_clsact(device) {
        Ok(()) | Err(tc::TcError::AlreadyAttached) => Ok(()),
        Err(tc::TcError::NetlinkError(error))
            if error.raw_os_error().map(Errno::from_raw) == Some(Errno::EEXIST) =>
        {
            Ok(())
        }
        Err(error) => Err(PassiveError::Qdisc { device: device.to_owned(), error: Box::new(error) }),
    }
}

/// The kernel's error number, in a netlink answer or of a system call.
fn errno(error: &ProgramError) -> Option<Errno> {
    let error = match error {
        ProgramError::NetlinkError(error) | ProgramError::TcError(tc::TcError::NetlinkError(error)) => {
            error.raw_os_error()
        }
        ProgramError::SyscallError(error) => error.io_error.raw_os_error(),
        _ => None,
    };
    error.map(Errno::from_raw)
}

/// The index of a device whose frames are Ethernet's: the programs read no others.
fn ethernet(device: &str) -> Result<u32, PassiveError> {
    let failed = |error| PassiveError::Device { device: device.to_owned(), error };
    let kind = hardware_type(device).map_err(failed)?;
    if kind != libc::ARPHRD_ETHER {
        return Err(PassiveError::NotEthernet { device: device.to_owned(), kind });
    }
    nix::net::if_::if_nametoindex(device).map_err(|errno| failed(errno.into()))
}

/// A device's `ARPHRD_*` (`linux/if_arp.h`).
#[expect(unsafe_code, reason = "an ioctl that no crate here has")]
fn hardware_type(device: &str) -> io::Result<u16> {
    // SAFETY: all of it are numbers and addresses, for which zero is a value.
    let mut request: libc::ifreq = unsafe { mem::zeroed() };
    if device.len() >= request.ifr_name.len() {
        return Err(io::Error::from(Errno::ENODEV));
    }
    for (to, from) in request.ifr_name.iter_mut().zip(device.bytes()) {
        *to = from.cast_signed();
    }
    // Any socket will do.
    let socket = socket2::Socket::new(socket2::Domain::UNIX, socket2::Type::DGRAM, None)?;
    // SAFETY: the request is an `ifreq` with a name that ends in zero, as `SIOCGIFHWADDR` wants it, and outlives the
    // call.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCGIFHWADDR, &raw mut request) };
    Errno::result(result)?;
    // SAFETY: `SIOCGIFHWADDR` fills in this member.
    Ok(unsafe { request.ifr_ifru.ifru_hwaddr.sa_family })
}
