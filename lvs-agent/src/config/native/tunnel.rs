//! What a tunnel is made of.

use super::{section::Section, value};
use crate::{
    config::diagnostics::{FaultList, KeyFault},
    model::{Tunnel, TunnelFlags},
};

/// The kinds of tunnel, by their names.
#[derive(Clone, Copy)]
enum Kind {
    Ipip,
    Gre,
    Gue,
}

const KINDS: [(&str, Kind); 3] = [("ipip", Kind::Ipip), ("gre", Kind::Gre), ("gue", Kind::Gue)];

/// The table of a tunnel; `None` if it is wrong, which is noted.
pub(super) fn read(mut section: Section<'_>, faults: &mut FaultList) -> Option<Tunnel> {
    if !section.has("type") {
        section.missing("type", "type = \"ipip\", \"gre\" or \"gue\"", faults);
    }
    let kind = section.plain("type", faults, |value| value::word(value, &KINDS));
    let tunnel = match kind {
        None => {
            // What else is written may be right for the kind that was meant.
            section.plain("port", faults, value::port);
            checksum(&mut section, true, faults);
            None
        }
        Some(Kind::Ipip) => {
            refuse(&mut section, "port", "ipip", faults);
            refuse(&mut section, "checksum", "ipip", faults);
            Some(Tunnel::Ipip)
        }
        Some(Kind::Gre) => {
            refuse(&mut section, "port", "gre", faults);
            Some(Tunnel::Gre { flags: checksum(&mut section, false, faults) })
        }
        Some(Kind::Gue) => gue(&mut section, faults),
    };
    section.finish(faults);
    tunnel
}

fn gue(section: &mut Section<'_>, faults: &mut FaultList) -> Option<Tunnel> {
    if !section.has("port") {
        section.missing("port", "the server's UDP port for it, such as port = 6080", faults);
    }
    let port = section.plain("port", faults, value::port);
    let flags = checksum(section, true, faults);
    Some(Tunnel::Gue { port: port?, flags })
}

/// How the checksum is made; only GUE knows `"remote"`.
fn checksum(section: &mut Section<'_>, knows_remote: bool, faults: &mut FaultList) -> TunnelFlags {
    const KNOWN: [(&str, TunnelFlags); 3] = [
        ("none", TunnelFlags::NO_CHECKSUM),
        ("full", TunnelFlags::CHECKSUM),
        ("remote", TunnelFlags::REMOTE_CHECKSUM),
    ];
    let known = if knows_remote { &KNOWN[..] } else { &KNOWN[..2] };
    section.plain("checksum", faults, |value| value::word(value, known)).unwrap_or_default()
}

fn refuse(section: &mut Section<'_>, key: &'static str, kind: &'static str, faults: &mut FaultList) {
    if let Some(place) = section.drop_key(key) {
        faults.add(place, KeyFault::WrongTunnel { key, kind });
    }
}
